"""Real sockets with scripted answers, and bodies that never saw one."""

from __future__ import annotations

from contextlib import suppress
import json
import socket
import ssl
import struct
import threading

from attrs import field, frozen
from requests.structures import CaseInsensitiveDict

from chatsdk.deadlines import Timeout, Watch
from chatsdk.providers.gigachat import GigaChat
from chatsdk.transport import Response
from chatsdk.wire import Limits

PATIENCE = 20  # s after which a server gives up waiting for a test


@frozen
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: CaseInsensitiveDict
    body: bytes
    connection: int  # which connection it came on, from 1

    @property
    def json(self):
        return json.loads(self.body)


@frozen
class Peer:
    """The other side of a connection, for answers that are functions."""

    sock: socket.socket
    request: Received
    stopped: threading.Event = field(repr=False)

    def send(self, *pieces):
        for piece in pieces:
            self.sock.sendall(piece)

    def wait(self, event):
        """Wait for something that the test does."""
        for _ in range(PATIENCE * 20):
            if event.wait(0.05) or self.stopped.is_set():
                return
        raise AssertionError("the test never came to it")

    def gone(self):
        """Wait until the client has closed the connection."""
        self.sock.settimeout(PATIENCE)
        with suppress(ConnectionError):
            while self.sock.recv(65536):
                pass

    def reset(self):
        """End the connection with a reset, not tidily."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.hang_up()

    def hang_up(self):
        """End the connection."""
        self.sock.close()


class Server:
    """Answers one request after the other as scripted; the last answer is given again and again.

    An answer is the bytes to send, or a function that is given the `Peer` and returns the bytes
    or sends them itself.  The connection is kept unless the bytes say ``Connection: close`` or the
    function has closed it.

    Attributes:
        requests: What was received, in order.
        connections: How many connections were accepted.
        answers: The script; it may be changed while the server runs.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        self._failures = []
        self._next = 0
        self._tls = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.configure_cert(self._tls)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._socks = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def open(self):
        """How many connections are open."""
        with self._lock:
            return len(self._socks)

    def stop(self):
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(PATIENCE)
        with self._lock:
            for sock in self._socks:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._failures

    def settled(self, count=0):
        """Wait until that many connections are left open; return whether they are."""
        for _ in range(PATIENCE * 100):
            if self.open == count:
                return True
            self._stopped.wait(0.01)
        return False

    def _accept(self):
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._socks.add(sock)
                number = self.connections
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock, number):
        held = sock
        try:
            if self._tls is not None:
                held = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._socks.discard(sock)
                    self._socks.add(held)
            reader = _Reader(held)
            while self._answer(held, reader, number):
                pass
        except (OSError, ValueError):
            pass  # the client left, or the test closed the connection
        except BaseException as error:
            self._failures.append(error)
        finally:
            with self._lock:
                self._socks.discard(sock)
                self._socks.discard(held)
            held.close()
            sock.close()

    def _answer(self, sock, reader, number):
        request = _read(reader, number)
        if request is None:
            return False
        with self._lock:
            self.requests.append(request)
            answer = self.answers[min(self._next, len(self.answers) - 1)]
            self._next += 1
        if callable(answer):
            answer = answer(Peer(sock, request, self._stopped)) or b""
        sock.sendall(answer)
        lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        return b"connection: close" not in lines


class _Reader:
    """Reads from a socket without keeping it open, as a file of it would."""

    def __init__(self, sock):
        self._sock = sock
        self._held = b""

    def readline(self):
        while b"\n" not in self._held and self._more():
            pass
        line, end, self._held = self._held.partition(b"\n")
        return line + end

    def read(self, size):
        while len(self._held) < size and self._more():
            pass
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _more(self):
        received = self._sock.recv(65536)
        self._held += received
        return bool(received)


def _read(reader, number):
    line = reader.readline().decode("latin-1").split()
    if not line:
        return None
    headers = CaseInsensitiveDict()
    for raw in iter(reader.readline, b"\r\n"):
        if not raw:
            return None
        name, _, value = raw.decode("latin-1").partition(":")
        assert name not in headers, f"{name} came twice"
        headers[name] = value.strip()
    body = reader.read(int(headers.get("Content-Length", 0)))
    return Received(line[0], line[1], headers, body, number)


# Answers


def answer(body=b"", status="200 OK", length=True, **headers):
    """Return an answer; without a length it ends with the connection."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}" if length else "Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def document(value, status="200 OK", **headers):
    """Return an answer with a JSON document."""
    body = json.dumps(value, ensure_ascii=False)
    return answer(body, status, **{"Content-Type": "application/json", **headers})


def head(*, kind="text/event-stream", **headers):
    """Return the head of a chunked answer."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{more}\r\n"
    ).encode("latin-1")


def chunk(data):
    """Return one chunk; an empty one ends the body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def frame(text="", finish=None, **choice):
    """Return an event of GigaChat."""
    delta = {"content": text, **choice}
    event = {"choices": [{"delta": delta, "index": 0, "finish_reason": finish}], "model": "m"}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def said(*texts, **headers):
    """Return a whole answer of GigaChat that says the texts."""
    body = b"".join(map(frame, texts)) + frame("", "stop") + DONE
    return answer(body, **{"Content-Type": "text/event-stream", **headers})


def gigachat(server, **fields):
    """Return GigaChat as a server plays it: one request for an answer."""
    url = server if isinstance(server, str) else server.url
    return GigaChat(**{"access_token": "a-token", "base_url": url, **fields})


# Bodies without a socket


class Raw:
    """What urllib3 gives: bytes in the pieces in which they arrive."""

    def __init__(self, chunks):
        self._chunks = iter([chunk for chunk in chunks if chunk])

    def read1(self, size, decode_content=None):
        found = next(self._chunks, b"")
        if isinstance(found, BaseException):
            raise found
        return found


def body(*chunks, limits=None, **headers):
    """Return the body of an answer that arrives in these chunks."""
    response = Response()
    response.status_code = 200
    response.raw = Raw(chunks)
    response.attend(Watch(Timeout()), limits or Limits(), lambda error: error)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response.headers = CaseInsensitiveDict(named)
    return response
