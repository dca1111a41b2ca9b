"""One connection: requests read, answers written step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import dataclass
from email.utils import formatdate
import errno
from http.server import BaseHTTPRequestHandler
import logging
import os
import selectors
import socket
import socketserver
import ssl
import struct
import threading
import time
import zlib

from .responses import Response
from .scripts import Act
from .service import Headers, Pairs, phrase

log = logging.getLogger(__name__)

_LOOK = 0.05         # seconds between looks at whether the client is still there
_MOST_BODY = 64 * 2 ** 20
_NO_BODY = (204, 304)


class Gone(Exception):
    """The client left, or the simulator stops: nothing more can be sent."""


class Broken(Exception):
    """The scenario breaks the connection off."""


@dataclass(frozen=True)
class Received:
    """One request as it was read: the target is a path with a query, or a whole URL."""

    method: str
    target: str
    headers: Headers
    body: bytes


class Desk:
    """What all connections share: who answers, whether to stop, and some counts.

    Attributes:
        answer: Makes the response to a request.
        chunk_delay: Length of a breath, in seconds.
        stopping: Set when every wait has to end.
        changed: Guards the counts; notified when `busy` falls.
        busy: Requests that are being answered now.
        abandoned: Chats whose client left before the end.
    """

    def __init__(self, answer: Callable[[Received], Response], chunk_delay: float) -> None:
        self.answer = answer
        self.chunk_delay = chunk_delay
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        self.busy = 0
        self.abandoned = 0

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request as being answered."""
        with self.changed:
            self.busy += 1
        try:
            yield
        finally:
            with self.changed:
                self.busy -= 1
                self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    """Reads requests from one connection and sends what the simulator answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connection: socket.socket

    def __init__(self, sock: socket.socket, address: object, server: socketserver.BaseServer,
                 desk: Desk) -> None:
        self.desk = desk
        super().__init__(sock, address, server)

    def log_message(self, format: str, *args: object) -> None:
        """Log quietly: a user's test output is not ours."""
        log.debug(format, *args)

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            self.send_error(400, "Bad body")
            self.close_connection = True
            return
        headers = Headers(tuple((name, value) for name, value in self.headers.items()))
        with self.desk.answering():
            response = self.desk.answer(Received(self.command, self.path, headers, body))
            self._perform(response)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = _answer

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunked_body()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return None
        return self._exactly(int(length))

    def _chunked_body(self) -> bytes | None:
        parts: list[bytes] = []
        while True:
            try:
                size = int(self.rfile.readline(1024).split(b";")[0], 16)
            except ValueError:
                return None
            if not 0 <= size <= _MOST_BODY - sum(map(len, parts)):
                return None
            if size == 0:
                break
            parts.append(self._exactly(size))
            self.rfile.readline(3)
        while self.rfile.readline(65537) not in (b"\r\n", b"\n", b""):
            continue  # trailers mean nothing here
        return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise Gone
        return data

    def _perform(self, response: Response) -> None:
        finished = True
        try:
            for step in response.before:
                self._take(step)
            self._send(response)
        except Broken:
            finished = False
            self.close_connection = True
        except (Gone, OSError):
            self.close_connection = True
            with self.desk.changed:
                self.desk.abandoned += response.chat and not self.desk.stopping.is_set()
        except Exception:
            log.exception("the answer failed")  # a reply of the user's that raises: hang up
            finished = False
            self.close_connection = True
        finally:
            response.done(finished)

    def _send(self, response: Response) -> None:
        framing = response.framing
        if framing == "chunked" and self.request_version != "HTTP/1.1":
            framing = "close"
        zipping = response.gzip and "gzip" in self.headers.get("Accept-Encoding", "").lower()
        head = response.headers
        if zipping:
            head += (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        steps = response.steps
        if framing == "length":
            whole = list(steps)
            size = sum(len(step) for step in whole if isinstance(step, bytes))
            steps = iter(whole)
            if response.status not in _NO_BODY:
                head += (("Content-Length", str(size)),)
            zipping = False
        self._head(response, head, framing)
        if self.command == "HEAD" or response.status in _NO_BODY:
            return
        wrap = _chunk if framing == "chunked" else bytes
        squeeze = zlib.compressobj(wbits=31) if zipping else None
        for step in steps:
            if response.stopped():
                raise Broken
            if not isinstance(step, bytes):
                self._take(step)
            elif step:
                if squeeze:
                    step = squeeze.compress(step) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                self.connection.sendall(wrap(step))
        if squeeze:
            self.connection.sendall(wrap(squeeze.flush()))
        if framing == "chunked":
            self.connection.sendall(b"0\r\n\r\n")
        if framing == "close" or response.hang_up:
            self.close_connection = True
            self._say_goodbye()

    def _head(self, response: Response, headers: Pairs, framing: str) -> None:
        lines = [f"HTTP/1.1 {response.status} {response.reason or phrase(response.status)}"]
        names = {name.lower() for name, _ in headers}
        if "date" not in names:
            headers = (("Date", formatdate(usegmt=True)), *headers)
        if framing == "chunked" and response.status not in _NO_BODY:
            headers += (("Transfer-Encoding", "chunked"),)
        if framing == "close":
            headers += (("Connection", "close"),)
        lines += [f"{name}: {value}" for name, value in headers]
        self.connection.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1", "replace"))

    def _take(self, step: object) -> None:
        """Carry out a step that sends nothing."""
        if step is Act.BREATH:
            self._wait(self.desk.chunk_delay)
        elif step is Act.HOLD:
            self._wait(float("inf"))
        elif step is Act.RESET:
            pattern = "hh" if os.name == "nt" else "ii"
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack(pattern, 1, 0))
            raise Broken
        elif step is Act.CUT:
            raise Broken
        elif isinstance(step, float):
            self._wait(step)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.desk.stopping.wait(min(left, _LOOK)) or _hung_up(self.connection):
                raise Gone

    def _say_goodbye(self) -> None:
        """Tell a TLS client that the body's end is the real one, without waiting for it."""
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.setblocking(False)
            try:
                self.connection.unwrap()
            except (OSError, ValueError) as error:
                log.debug("closing: %s", error)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _hung_up(sock: socket.socket) -> bool:
    """Tell whether the other side has closed a connection on which it has nothing to say."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        if not selector.select(0):
            return False
    if isinstance(sock, ssl.SSLSocket):  # cannot be peeked into; a closing message, most likely
        return True
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EINTR)
