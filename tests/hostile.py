"""A server that breaks HTTP, and the protocols on top of it, on purpose.

An answer is a function of a `Peer`, the server's end of one connection; `does` makes one of steps::

    server.answers["chat"] = does(begin(), first, reset)    # text, and then a RST

What a protocol asks before and after its question (a token, an id, a conversation) is answered
properly unless ``answers`` says otherwise for that step: "token", "visit", "settings", "create",
"stop", "delete", "models", "template".  The server counts on its side what the client must not
leave behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, ExitStack, suppress
from dataclasses import dataclass, field
import json
import re
import socket
import ssl
import struct
import threading
import time
from typing import Any
import zlib

from chatsdk import Client, Limits, MemoryTokenStore, RetryPolicy, Timeout

PIECES = ("При", "вет, ", "мир!")  # the answer; not ASCII, so that a cut can split a character
FIRST = PIECES[0]
FULL = "".join(PIECES)

KEY = "a2V5LW9mLXRoZS10ZXN0OnNlY3JldA=="  # base64, as GigaChat wants it
COOKIE = "cookie-of-the-test"
PROMPT = "question-of-the-test"
TOKEN = "token-of-the-test-"  # the beginning of every token that is issued


# The dialects


@dataclass(frozen=True)
class Dialect:
    """How a service writes its answers."""

    name: str
    kind: str | None  # Content-Type
    marked: bool  # whether the end of an answer has a mark
    frame: Callable[[str], bytes]
    mark: bytes
    beat: bytes  # what may come in silence and is no data
    transient: bytes  # a frame that reports a failure that passes
    permanent: bytes

    def body(self, *pieces: str) -> bytes:
        """Return a whole answer."""
        return b"".join(map(self.frame, pieces or PIECES)) + self.mark


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _gigachat(text: str, **more: Any) -> bytes:
    choice = {"delta": {"content": text}, "index": 0, **more}
    event = {"choices": [choice], "created": 1, "model": "GigaChat:2", "object": "chat.completion"}
    return b"data: " + _json(event) + b"\n\n"


def _h2o(text: str, whole: str | None = None, details: Any = None) -> bytes:
    token = {"id": 1, "text": text, "logprob": -0.5, "special": whole is not None}
    return b"data:" + _json({"token": token, "generated_text": whole, "details": details}) + b"\n\n"


def _ollama(text: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    event = {"model": "llama3.2", "created_at": "now", "message": message, "done": False}
    return _json({**event, **more}) + b"\n"


def _tgi(text: str, whole: str | None = None, details: Any = None) -> bytes:
    token = {"id": 1, "text": text, "logprob": -0.5, "special": whole is not None}
    event = {"index": 1, "token": token, "generated_text": whole, "details": details}
    return b"data: " + _json(event) + b"\n\n"


def _openai(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    event = {"id": "c", "model": "gpt-5-mini", "choices": [choice], "usage": None}
    return b"data: " + _json(event) + b"\n\n"


def _responses(kind: str, **members: Any) -> bytes:
    event = {"type": kind, "sequence_number": 1, **members}
    return b"event: " + kind.encode() + b"\ndata: " + _json(event) + b"\n\n"


def _anthropic(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _json({"type": kind, **members}) + b"\n\n"


def _gemini(text: str, **more: Any) -> bytes:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, **more, "index": 0}
    event = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1},
             "modelVersion": "gemini", "responseId": "id"}
    return b"data: " + _json(event) + b"\n\n"


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="gigachat",
            kind="text/event-stream",
            marked=True,
            frame=_gigachat,
            mark=_gigachat("", finish_reason="stop") + b"data: [DONE]\n\n",
            beat=b": ping\n\n",
            transient=b'data: {"status":500,"message":"Internal Server Error"}\n\n',
            permanent=b'data: {"status":400,"message":"Bad request"}\n\n',
        ),
        Dialect(
            name="h2o",
            kind="text/event-stream",
            marked=True,
            frame=_h2o,
            mark=_h2o("<|endoftext|>", FULL, {"finish_reason": "eos_token"}),
            beat=b":\n\n",
            transient=b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n',
            permanent=b'data:{"error":"Input validation error","error_type":"validation"}\n\n',
        ),
        Dialect(
            name="flowgpt",
            kind="application/json",
            marked=False,
            frame=lambda text: _json({"event": "text", "data": text}) + b"\n\n",
            mark=b"",
            beat=b"\n",
            transient=b'{"statusCode":503,"message":"Busy"}\n',
            permanent=b'{"event":"error","data":"Refused"}\n',
        ),
        Dialect(
            name="aichatonline",
            kind=None,
            marked=False,
            frame=lambda text: _json({"code": 200, "data": {"message": text}}) + b"\n",
            mark=b"",
            beat=b"\r\n",
            transient=b'{"code":429,"msg":"Too many","data":null}\n',
            permanent=b'{"code":401,"msg":"Unauthorized","data":null}\n',
        ),
        Dialect(
            name="aura",
            kind=None,
            marked=False,
            frame=str.encode,
            mark=b"",
            beat=b"",
            transient=b"",
            permanent=b"",
        ),
        Dialect(
            name="ollama",
            kind="application/x-ndjson",
            marked=True,
            frame=_ollama,
            mark=_ollama("", done=True, done_reason="stop"),
            beat=b"\n",
            transient=b'{"error":"server busy, please try again."}\n',
            permanent=b'{"error":"unexpected EOF"}\n',
        ),
        Dialect(
            name="tgi",
            kind="text/event-stream",
            marked=True,
            frame=_tgi,
            mark=_tgi("<|im_end|>", FULL, {"finish_reason": "eos_token"}),
            beat=b":\n\n",
            transient=b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n',
            permanent=b'data: {"error":"CUDA","error_type":"generation"}\n\n',
        ),
        Dialect(
            name="openai",
            kind="text/event-stream",
            marked=True,
            frame=_openai,
            # No finish reason before it: with one, a proper end of the body would do as well.
            mark=b"data: [DONE]\n\n",
            beat=b": keep-alive\n\n",
            transient=b'data: {"error":{"message":"Busy","type":"server_error"}}\n\n',
            permanent=b'data: {"error":{"message":"Refused","code":400}}\n\n',
        ),
        Dialect(
            name="openai-responses",
            kind="text/event-stream",
            marked=True,
            frame=lambda text: _responses("response.output_text.delta", delta=text),
            # Without the event's name, which says nothing new: a mark is one line here.
            mark=b'data: {"type":"response.completed","response":'
                 b'{"status":"completed","output":[]}}\n\n',
            beat=b": keep-alive\n\n",
            transient=_responses("error", code="server_error", message="Busy"),
            permanent=_responses("response.failed", response={"status": "failed", "error": {
                "code": "invalid_prompt", "message": "Refused"}}),
        ),
        Dialect(
            name="anthropic",
            kind="text/event-stream; charset=utf-8",
            marked=True,
            frame=lambda text: _anthropic(
                "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
            ),
            mark=_anthropic("message_stop"),
            beat=b'event: ping\ndata: {"type": "ping"}\n\n',
            transient=_anthropic("error", error={"type": "overloaded_error", "message": "Busy"}),
            permanent=_anthropic("error", error={"type": "invalid_request_error"}),
        ),
        Dialect(
            name="gemini",
            kind="text/event-stream",
            marked=True,
            frame=_gemini,
            mark=_gemini("", finishReason="STOP"),
            beat=b": beat\n\n",
            transient=b'data: {"error":{"code":503,"message":"Busy","status":"UNAVAILABLE"}}\n\n',
            permanent=b'data: {"error":{"code":400,"message":"Bad"}}\n\n',
        ),
    )
}
MARKED = tuple(name for name, dialect in DIALECTS.items() if dialect.marked)
FRAMED = tuple(name for name in DIALECTS if name != "aura")


def document(text: str = FULL) -> bytes:
    """Return GigaChat's answer in one piece."""
    message = {"content": text, "role": "assistant"}
    choice = {"message": message, "index": 0, "finish_reason": "stop"}
    return _json({"choices": [choice], "model": "GigaChat:2", "object": "chat.completion"})


ROUTES = (
    ("token", "gigachat", "POST", r"/api/v2/oauth"),
    ("models", "gigachat", "GET", r"/api/v1/models"),
    ("chat", "gigachat", "POST", r"/api/v1/chat/completions"),
    ("settings", "h2o", "POST", r"/settings"),
    ("create", "h2o", "POST", r"/conversation"),
    ("chat", "h2o", "POST", r"/conversation/[0-9a-f]{24}"),
    ("stop", "h2o", "POST", r"/conversation/[0-9a-f]{24}/stop-generating"),
    ("delete", "h2o", "DELETE", r"/conversation/[0-9a-f]{24}"),
    ("chat", "flowgpt", "POST", r"/v3/chat-anonymous"),
    ("visit", "aichatonline", "GET", r"/api/v1/user/getUniqueId\?canvas=.+"),
    ("chat", "aichatonline", "POST", r"/aichatonline/api/chat/gpt"),
    ("models", "aura", "POST", r"/api/models"),
    ("chat", "aura", "POST", r"/api/chat"),
    ("models", "ollama", "GET", r"/ollama/api/tags"),
    ("chat", "ollama", "POST", r"/ollama/api/chat"),
    ("models", "tgi", "GET", r"/tgi/info"),
    ("template", "tgi", "POST", r"/tgi/chat_tokenize"),
    ("chat", "tgi", "POST", r"/tgi/generate_stream"),
    ("models", "openai", "GET", r"/openai/v1/models"),
    ("chat", "openai", "POST", r"/openai/v1/chat/completions"),
    ("models", "openai-responses", "GET", r"/openai-responses/v1/models"),
    ("chat", "openai-responses", "POST", r"/openai-responses/v1/responses"),
    ("models", "anthropic", "GET", r"/anthropic/v1/models\?limit=1000"),
    ("chat", "anthropic", "POST", r"/anthropic/v1/messages"),
    ("models", "gemini", "GET", r"/gemini/v1beta/models\?pageSize=1000"),
    ("chat", "gemini", "POST", r"/gemini/v1beta/models/[\w.-]+:streamGenerateContent\?alt=sse"),
)


def fields(name: str, url: str) -> dict[str, Any]:
    """Return the fields of a provider that lead it to a server."""
    given: dict[str, Any] = {"api_key": KEY, "base_url": url, "cookies": {"session": COOKIE}}
    if name in ("anthropic", "gemini", "ollama", "tgi"):
        given.update(base_url=f"{url}/{name}")
    if name in ("openai", "openai-responses"):
        given.update(base_url=f"{url}/{name}/v1")
    if name == "gigachat":
        given.update(base_url=f"{url}/api/v1", auth_url=f"{url}/api/v2/oauth")
    return given


PATIENCE = 15.0  # s for what a test expects to come much sooner
PATIENT = {"connect": 20, "first": 20, "read": 20, "total": 40}  # s, where no wait is tested


def client_of(url: str, name: str, **options: Any) -> Client:
    """Return a client that asks a server, and only it; ``timeout`` and ``limits`` are dicts."""
    timeout = Timeout(**{**PATIENT, **options.pop("timeout", {})})
    limits = Limits(**options.pop("limits", {}))
    common = {
        "max_retries": RetryPolicy(max_retries=2, initial=0),
        "token_store": MemoryTokenStore(),
        "proxy": "",
    }
    settings = {**common, **fields(name, url), **options}
    return Client(name, timeout=timeout, limits=limits, **settings)


# The server


class Gone(Exception):
    """The other side has left, or the server stops."""


@dataclass
class Asked:
    """One request as it was received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    step: str = "unknown"
    dialect: Dialect = DIALECTS["aura"]

    @property
    def conversation(self) -> str:
        """The id in the path."""
        return self.path.split("/")[2]


Answer = Callable[["Peer"], None]


@dataclass(eq=False)
class Peer:
    """The server's end of one connection."""

    sock: socket.socket
    server: Hostile
    asked: Asked = field(init=False)
    busy: bool = False
    over: bool = False  # this side has ended the connection
    served: int = 0  # requests answered on it so far
    left: bool = False
    _buffer: bytes = b""
    _framing: str = "close"
    _pack: Any = None

    # What answers are made of

    @property
    def dialect(self) -> Dialect:
        """How to talk to whom asked."""
        return self.asked.dialect

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def head(self, status: int, *headers: str, reason: str | None = None) -> None:
        """Send a head."""
        lines = [f"HTTP/1.1 {status} {'Reason' if reason is None else reason}", *headers, "", ""]
        self._framing = "close"
        head = "\r\n".join(lines).replace("{other}", self.server.other)
        self.send(head.encode("latin-1"))

    def begin(
        self,
        *headers: str,
        status: int = 200,
        framing: str = "chunked",
        encoding: str | None = None,
        wbits: int | None = None,
        kind: str | None = "",
    ) -> None:
        """Send the head of an answer.

        Args:
            headers: Further lines.
            status: The status.
            framing: "chunked", "close", or a Content-Length.
            encoding: The content encoding that is named.
            wbits: How the body is compressed indeed: 31 gzip, 15 zlib, -15 bare deflate.
            kind: The content type; None: none; "": the service's own.
        """
        lines = list(headers)
        kind = self.dialect.kind if kind == "" else kind
        if kind:
            lines.append(f"Content-Type: {kind}")
        if encoding:
            lines.append(f"Content-Encoding: {encoding}")
        if framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif framing != "close":
            lines.append(f"Content-Length: {framing}")
        self.head(status, *lines)
        self._framing = framing
        self._pack = None if wbits is None else zlib.compressobj(wbits=wbits)

    def write(self, data: bytes) -> None:
        """Send a piece of the body in the answer's own framing."""
        if self._pack is not None and data:
            data = self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH)
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._framing == "chunked" and data:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self.send(data)

    def end(self) -> None:
        """End the body as its framing wants it."""
        if self._pack is not None:
            self._write(self._pack.flush())
            self._pack = None
        if self._framing == "chunked":
            self.send(b"0\r\n\r\n")
        elif self._framing == "close":
            self.fin()

    def reply(
        self, status: int, body: bytes, *headers: str, kind: str = "application/json"
    ) -> None:
        """Send a whole answer; the connection stays open if the server keeps it."""
        lines = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
        if not self.server.keeps and self.asked.step != "chat":
            self.head(status, *lines, "Connection: close")
            self.send(body)
            self.fin()
        else:
            self.head(status, *lines)
            self.send(body)

    def fin(self) -> None:
        """End this direction."""
        self.over = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.over = self.left = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def stall(self) -> None:
        """Do nothing until the other side leaves; who has not after `PATIENCE` is thrown out."""
        if self.left:
            raise Gone
        self.sock.settimeout(PATIENCE)
        try:
            while True:
                self._receive()
        except TimeoutError:
            self.reset()

    def pause(self, seconds: float) -> None:
        """Do nothing for a while."""
        self.sock.settimeout(seconds)
        with suppress(TimeoutError):
            self._receive()
        self.sock.settimeout(None)

    def drip(self, data: bytes, every: float = 0.02) -> None:
        """Send bytes one by one."""
        for value in data:
            self.send(bytes([value]))
            self.pause(every)

    # The life of a connection

    def live(self) -> None:
        """Answer what is asked until one side has enough."""
        with suppress(Gone):
            self.server.greeting(self)
            while not self.over:
                self.asked = self._asked()
                with self.server.working(self):
                    self.server.answer(self)
                self.served += 1
        with suppress(Gone):
            while not self.left:
                self._receive()

    def shut(self) -> None:
        """End every wait of this connection, from another thread."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            self.left = True
            raise Gone from error
        if not data:
            self.left = True
            raise Gone
        self._buffer += data
        self.server.received += data

    def _asked(self) -> Asked:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        asked = Asked(method, path, headers, body)
        for step, name, verb, pattern in ROUTES:
            if method == verb and re.fullmatch(pattern, path):
                asked.step, asked.dialect = step, DIALECTS[name]
        return asked


class Hostile:
    """A loopback server whose answers are up to a test.

    Attributes:
        url: Where it is.
        other: The address of a second server, which a head may name as ``{other}``.
        answers: What is answered, by step; a step that is missing is answered properly.
        keeps: Whether the answers before the question leave their connections open.
        greeting: What is done to a connection before its first request is read.
        requests: What was asked, in order.
        received: All bytes that came.
        accepted: Connections that were accepted.
        tokens: Those issued, in order.
        refused: Those that are not accepted any more.
        conversations: Those that were created and not deleted.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.other = ""
        self._context = context
        self._changed = threading.Condition()
        self._peers: set[Peer] = set()
        self._threads: set[threading.Thread] = set()
        self._stopped = False
        self.forget()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def forget(self) -> None:
        """Forget all that was, and answer properly."""
        self.answers: dict[str, Answer] = {}
        self.greeting: Answer = self.shake_hands
        self.keeps = False
        self.requests: list[Asked] = []
        self.received = bytearray()
        self.accepted = 0
        self.tokens: list[str] = []
        self.refused: set[str] = set()
        self.conversations: set[str] = set()

    # What it counts

    def count(self, step: str) -> int:
        """Return how many requests of a step came."""
        return sum(asked.step == step for asked in self.requests)

    @property
    def steps(self) -> list[str]:
        """The steps that were asked for, in order."""
        return [asked.step for asked in self.requests]

    @property
    def open(self) -> int:
        """Connections that the client has not closed."""
        return len(self._peers)

    @property
    def busy(self) -> int:
        """Connections whose answer is not over."""
        return sum(peer.busy for peer in self._peers)

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Wait until something is true of this server."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                if time.monotonic() > deadline:
                    return False
                self._changed.wait(0.02)  # not every change is told
        return True

    def settled(self, seconds: float = 5.0) -> bool:
        """Return whether no connection is busy, after a moment."""
        return self.until(lambda: not self.busy, seconds)

    def deserted(self, seconds: float = 5.0) -> bool:
        """Return whether no connection is open, after a moment."""
        return self.until(lambda: not self.open, seconds)

    def secrets(self) -> list[str]:
        """Return what of the test's secrets has reached this server."""
        came = bytes(self.received)
        return [secret for secret in (KEY, COOKIE, PROMPT, TOKEN) if secret.encode() in came]

    # What it does

    def shake_hands(self, peer: Peer) -> None:
        """Begin TLS, if that is what this server speaks."""
        if self._context is not None:
            try:
                peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
            except OSError as error:
                peer.left = True
                raise Gone from error

    def answer(self, peer: Peer) -> None:
        """Answer a request as the test wants it, or properly."""
        step = peer.asked.step
        self.answers.get(step, PROPER[step])(peer)

    @contextmanager
    def working(self, peer: Peer) -> Iterator[None]:
        """Keep count of a request while it is answered."""
        with self._changed:
            self.requests.append(peer.asked)
            peer.busy = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                peer.busy = False
                self._changed.notify_all()

    def stop(self) -> None:
        """Close everything, and wait for it."""
        self._stopped = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join(5)
        self._listener.close()
        for peer in list(self._peers):
            peer.shut()
        for thread in list(self._threads):
            thread.join(5)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopped:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, self)
            thread = threading.Thread(target=self._live, args=(peer,), daemon=True)
            with self._changed:
                self.accepted += 1
                self._peers.add(peer)
                self._threads.add(thread)
                self._changed.notify_all()
            thread.start()

    def _live(self, peer: Peer) -> None:
        try:
            peer.live()
        finally:
            peer.sock.close()
            with self._changed:
                self._peers.discard(peer)
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()


@contextmanager
def unreachable() -> Iterator[str]:
    """Give the address of a server that never gets round to accept a connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # more than wait in its queue: the next one waits for ever
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """Give a server for a while."""
    server = Hostile(context)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def alone(context: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """Give a server that the client has left at the end."""
    with serving(context) as server:
        yield server
        assert server.deserted()


# Proper answers


def chat(peer: Peer) -> None:
    """Answer a question as its service does."""
    server, asked = peer.server, peer.asked
    if peer.dialect.name == "gigachat":
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in server.tokens or token in server.refused:
            return peer.reply(401, b'{"status":401,"message":"Unauthorized"}')
        if not json.loads(asked.body)["stream"]:
            return peer.reply(200, document())
    if peer.dialect.name == "h2o" and asked.conversation not in server.conversations:
        return peer.reply(404, b'{"message":"Conversation not found"}')
    peer.begin()
    for piece in PIECES:
        peer.write(peer.dialect.frame(piece))
    peer.write(peer.dialect.mark)
    peer.end()


def issue(server: Hostile) -> str:
    """Return a new token."""
    with server._changed:
        server.tokens.append(f"{TOKEN}{len(server.tokens)}")
        server._changed.notify_all()
        return server.tokens[-1]


def _token(peer: Peer) -> None:
    expiry = int(time.time() * 1000) + 1800_000
    peer.reply(200, _json({"access_token": issue(peer.server), "expires_at": expiry}))


def _create(peer: Peer) -> None:
    server = peer.server
    with server._changed:
        name = f"{server.count('create'):024x}"
        server.conversations.add(name)
    peer.reply(200, _json({"conversationId": name}))


def _delete(peer: Peer) -> None:
    server = peer.server
    known = peer.asked.conversation in server.conversations
    with server._changed:
        server.conversations.discard(peer.asked.conversation)
        server._changed.notify_all()
    peer.reply(200 if known else 404, b"")


PROPER: dict[str, Answer] = {
    "chat": chat,
    "token": _token,
    "models": lambda peer: peer.reply(200, b'{"object":"list","data":[]}'),
    "settings": lambda peer: peer.reply(200, b'{"type":"redirect","status":303,"location":"/"}'),
    "create": _create,
    "stop": lambda peer: peer.reply(200, b""),
    "delete": _delete,
    "visit": lambda peer: peer.reply(200, b'{"code":200,"data":"6dbd3acc4ffdf261b24b0541d1602c"}'),
    "template": lambda peer: peer.reply(200, b'{"templated_text":"Hi","tokenize_response":[]}'),
    "unknown": lambda peer: peer.reply(404, b'{"message":"Not found"}'),
}


# Steps of which answers are made


def does(*steps: Answer) -> Answer:
    """Return the answer that does one thing after the other."""

    def answer(peer: Peer) -> None:
        for step in steps:
            step(peer)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Return what answers each request in another way; the last way stays."""
    left = list(answers)

    def answer(peer: Peer) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(peer)

    return answer


def begin(*headers: str, **how: Any) -> Answer:
    """Send the head of an answer."""
    return lambda peer: peer.begin(*headers, **how)


def raw(data: bytes | str) -> Answer:
    """Send bytes as they are."""
    sent = data.encode("latin-1") if isinstance(data, str) else data
    return lambda peer: peer.send(sent)


def body(data: bytes) -> Answer:
    """Send a piece of the body."""
    return lambda peer: peer.write(data)


def texts(*pieces: str) -> Answer:
    """Send pieces of text, each in a frame and a write of its own."""

    def answer(peer: Peer) -> None:
        for piece in pieces:
            peer.write(peer.dialect.frame(piece))

    return answer


def status(
    code: int, content: bytes = b"", *headers: str, kind: str = "application/json"
) -> Answer:
    """Send a whole answer."""
    return lambda peer: peer.reply(code, content, *headers, kind=kind)


def dripping(data: bytes, every: float = 0.02) -> Answer:
    """Send bytes one by one."""
    return lambda peer: peer.drip(data, every)


def for_ever(step: Answer, every: float = 0.0) -> Answer:
    """Do something again and again until the other side leaves, or `PATIENCE` is over."""

    def answer(peer: Peer) -> None:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            step(peer)
            if every:
                peer.pause(every)
        peer.reset()

    return answer


def forged(peer: Peer) -> None:
    """Send an answer that nobody asked for."""
    content = peer.dialect.body("forged")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
    peer.send(head.encode() + content)


first = texts(FIRST)
rest = texts(*PIECES[1:])
every_piece = texts(*PIECES)


def mark(peer: Peer) -> None:
    """Send the mark of the end, where there is one."""
    if peer.dialect.mark:
        peer.write(peer.dialect.mark)


def beat(peer: Peer) -> None:
    """Send a heartbeat."""
    peer.write(peer.dialect.beat)


def end(peer: Peer) -> None:
    """End the body as its framing wants it."""
    peer.end()


def fin(peer: Peer) -> None:
    """Close the connection."""
    peer.fin()


def reset(peer: Peer) -> None:
    """Break the connection."""
    peer.reset()


def stall(peer: Peer) -> None:
    """Do nothing until the other side leaves."""
    peer.stall()


def packed(data: bytes, wbits: int = 31) -> bytes:
    """Return data compressed: gzip with 31, zlib with 15, bare deflate with -15."""
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


def bomb(size: int, wbits: int = 31) -> bytes:
    """Return a megabyte's worth of trouble in a few kilobytes."""
    packer = zlib.compressobj(1, wbits=wbits)
    step = b" " * 2**20 if size > 2**20 else b" " * size
    pieces = [packer.compress(step) for _ in range(max(1, size // 2**20))]
    return b"".join(pieces) + packer.flush()
