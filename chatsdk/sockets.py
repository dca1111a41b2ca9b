"""Connections that keep to a watch: the pooled adapter under all calls of a client.

A timeout of requests bounds each single wait of a socket, so that a server which drips bytes is
never too late.  Here each wait asks the call's own `Watch` how long it may take.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
import http.client
import os
import socket
import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from chatsdk import outbound
from chatsdk.deadlines import Timeout, Watch
from chatsdk.errors import ConfigurationError
from chatsdk.wire import Chunks

LONGEST_READ = 64 * 2**10  # bytes
POOL = 256  # idle connections kept for a host; more threads than that open more and close them
_local = threading.local()


class watched:
    """Lets the requests that this thread sends inside keep to a watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        _local.watch = self._watch

    def __exit__(self, *details: object) -> None:
        _local.watch = None


def _current() -> Watch | None:
    return getattr(_local, "watch", None)


class _Watched:
    """A socket whose waits are bounded by the watch that is in charge of it."""

    watch: Watch | None = None

    def recv_into(self, *args: Any, **options: Any) -> int:
        watch = self.watch
        if watch is None:
            return super().recv_into(*args, **options)  # type: ignore[misc,no-any-return]
        self.settimeout(watch.remaining())  # type: ignore[attr-defined]
        received: int = super().recv_into(*args, **options)  # type: ignore[misc]
        if watch.phase == "first":
            if received:
                watch.answered = True
            else:
                watch.cut = watch.answered
        return received

    def sendall(self, *args: Any, **options: Any) -> None:
        if self.watch is not None:
            self.settimeout(self.watch.remaining())  # type: ignore[attr-defined]
        super().sendall(*args, **options)  # type: ignore[misc]


class _Socket(_Watched, socket.socket):
    pass


class _TLSSocket(_Watched, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        watch = _current()
        if watch is not None:
            watch.attach(self)
            self.settimeout(watch.remaining())
        super().do_handshake(block)

    def __del__(self) -> None:
        # The ssl module makes one and loses it open when the peer is gone before the handshake.
        self.close()

    def send(self, *args: Any, **options: Any) -> int:
        if self.watch is not None:  # a large body leaves in many pieces, each of them a wait
            self.settimeout(self.watch.remaining())
        return super().send(*args, **options)


class _Answer(http.client.HTTPResponse):
    """An answer that takes the chunked framing off all that has arrived at once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chunks = Chunks()

    def begin(self: Any) -> None:
        """Read the head, as RFC 9112 says; with http.client's own parser it takes 16 us more."""
        if self.headers is not None:
            return
        status = 100
        while status == 100:
            version, status, reason = self._read_status()
            self.pairs = _received_headers(self.fp)
        self.code = self.status = status
        self.reason = reason.strip()
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 11 if version[5:] not in ("1.0", "0.9") else 10
        self.headers = self.msg = http.client.HTTPMessage()
        for name, value in self.pairs:
            self.msg.set_raw(name, value)
        known = {name.lower(): value for name, value in reversed(self.pairs)}
        self.chunked = known.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = self.length = None
        self.will_close = self._check_close()
        length = known.get("content-length", "")
        if status in (204, 304) or status < 200 or self._method == "HEAD":
            self.length = 0
        elif length.isdecimal() and len(length) < 20 and not self.chunked:
            self.length = int(length)
        elif not self.chunked:
            self.will_close = True

    def read1(self: Any, n: int = LONGEST_READ) -> bytes:
        """Return what has arrived of the body, at least a byte of it; b"" at its end."""
        if self.fp is None:
            return b""
        if self.chunked:
            return self._unchunked(n)  # type: ignore[no-any-return]
        left = self.length
        data: bytes = self.fp.read1(n if left is None else min(n, left))
        if left is not None:
            if left and not data:
                raise http.client.IncompleteRead(b"", left)
            self.length = left - len(data)
        if not data or self.length == 0:
            self._close_conn()
        return data

    def _unchunked(self: Any, n: int) -> bytes:
        chunks = self._chunks
        data = b""
        while not data and not chunks.ended:
            if chunks.fault is not None:
                raise http.client.HTTPException(chunks.fault)
            received = self.fp.read1(n)
            if not received:
                if not chunks.last:
                    raise http.client.IncompleteRead(b"")
                break  # some servers end without the blank line after the last chunk
            data = chunks.feed(received)
        if not data or chunks.ended:
            self._close_conn()
        return data


class _Body(HTTPResponse):
    """An answer whose body is read without urllib3's own care for it: 8 us less for each read."""

    def read1(self: Any, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Return what has arrived, as it was sent; b"" at the end."""
        data: bytes = self._original_response.read1(amt)
        if not data:
            self.release_conn()
        return data


LONGEST_HEADER = 64 * 2**10  # bytes of one line of a head
MOST_HEADERS = 100


def _received_headers(file: Any) -> list[tuple[str, str]]:
    """Return the headers at the beginning of a file, up to the blank line after them."""
    headers: list[tuple[str, str]] = []
    for _ in range(MOST_HEADERS + 1):
        line = file.readline(LONGEST_HEADER + 1)
        if len(line) > LONGEST_HEADER:
            raise http.client.LineTooLong("header line")
        if line in (b"\r\n", b"\n", b""):
            return headers
        text = line.decode("latin-1")
        if text[0] in " \t":
            continue  # the second line of a header, which nobody should send any more
        name, colon, value = text.partition(":")
        if colon:
            headers.append((name, value.strip()))
    raise http.client.HTTPException(f"the head has more than {MOST_HEADERS} headers")


class Headers(CaseInsensitiveDict[str]):
    """The headers of a request; urllib3, which sends a copy, gets a plain dict: 10 us less."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(headers)
        self._plain = headers

    def copy(self) -> Any:
        """Return them as they are sent."""
        return self._plain.copy()


class _Connecting:
    """What both kinds of connections do beside urllib3's own."""

    response_class: Any = _Answer
    used = False  # whether it has carried a request
    _asked = "GET"  # the method of the last request

    def _new_conn(self: Any) -> socket.socket:
        watch = _current() or Watch(Timeout())
        self.used = watch.reused = False
        try:
            return _connect(self._dns_host, self.port, self.socket_options, watch)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        watch = _current()
        if watch is not None:
            watch.begin("first")

    def request(
        self: Any, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> None:
        """Send a request: its head and its body leave as one.

        urllib3 and http.client write it piece by piece and look for flaws in each: 50 us more.
        """
        watch = _current()
        if watch is not None:
            watch.reused = self.used
            if self.sock is not None:
                watch.attach(self.sock)
                watch.begin("first")
        lines = [f"{method} {url} HTTP/1.1"]
        if "host" not in map(str.lower, headers):
            lines.append(f"Host: {self._authority(url)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("latin-1")
        if not len(lines) == head.count(b"\n") + 1 == head.count(b"\r") + 1:
            raise ValueError("a line of the request's head has a line break")
        content = body.encode() if isinstance(body, str) else body or b""
        self._asked = method
        self.send(b"%b\r\n\r\n%b" % (head, content))
        self.used = True

    def _authority(self: Any, url: str) -> str:
        """Return what the request's ``Host`` is."""
        if not url.startswith("/"):  # the whole address, for a proxy
            return urlsplit(url).netloc
        host, port = self.host, self.port
        if self._tunnel_host:
            host, port = self._tunnel_host, self._tunnel_port
        host = f"[{host}]" if ":" in host else host
        return host if port == self.default_port else f"{host}:{port}"

    def getresponse(self: Any) -> Any:
        """Wait for the head of the answer; urllib3 would look for flaws in it for 15 us."""
        answer: Any = _Answer(self.sock, method=self._asked)
        try:
            answer.begin()
            if answer.will_close:
                self.close()
            return _Body(
                body=answer,
                headers=HTTPHeaderDict(answer.pairs),
                status=answer.status,
                version=answer.version,
                reason=answer.reason,
                preload_content=False,
                decode_content=False,
                original_response=answer,
            )
        except BaseException:
            answer.close()
            raise


def _connect(host: str, port: int, options: Any, watch: Watch) -> socket.socket:
    """Return a socket to the first address of a host that answers; each has its own wait."""
    last: OSError = OSError("the host has no address")
    name = host.strip("[]")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        name, port, allowed_gai_family(), socket.SOCK_STREAM
    ):
        sock = _Socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            watch.begin("connect")
            watch.attach(sock)
            sock.settimeout(watch.remaining())
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            last = error
            if watch.cancelled or watch.expired() == "total":
                break
        except BaseException:
            sock.close()
            raise
    raise last


class _HTTPConnection(_Connecting, HTTPConnection):
    pass


class _HTTPSConnection(_Connecting, HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        if self.ssl_context is not None and self.ssl_context.verify_mode == ssl.CERT_NONE:
            self.is_verified = True  # said once by us; urllib3 would warn at every connection


class _Keeping:
    """What all pools of connections do beside urllib3's own."""

    def _get_conn(self, timeout: Any = None) -> Any:
        """Return a kept connection; one that must not be used again is closed, and so opened anew.

        Here and not later: urllib3 now sees that it needs its tunnel through a proxy.
        """
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        watch = _current()
        if watch is not None and watch.fresh and connection.used:
            connection.close()
        return connection


class _HTTPPool(_Keeping, HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(_Keeping, HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


@cache
def _socks_pools() -> dict[str, Any]:
    """Return the pools of connections through a SOCKS proxy; PySocks is there when this runs."""
    from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

    def new_conn(self: Any) -> socket.socket:
        watch = _current() or Watch(Timeout())
        self.used = watch.reused = False
        watch.begin("connect")
        self.timeout = watch.remaining()
        # PySocks makes a socket of its own, which no watch bounds: ours takes over its number.
        sock = _Socket(fileno=SOCKSConnection._new_conn(self).detach())
        watch.attach(sock)
        return sock

    class Connection(_Connecting, SOCKSConnection):
        _new_conn = new_conn

    class SecureConnection(_Connecting, SOCKSHTTPSConnection):
        _new_conn = new_conn

    class Pool(_Keeping, HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(_Keeping, HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


class Adapter(HTTPAdapter):
    """requests' adapter over watched connections, with one TLS context for all of them.

    What requests calls ``verify`` is here the `ssl.SSLContext` to use, or None for plain HTTP:
    requests itself reads the roots anew for every connection.

    Args:
        response: The subclass of `requests.Response` that answers are given as.
    """

    def __init__(self, response: type[requests.Response]) -> None:
        self._response = response
        super().__init__(pool_connections=64, pool_maxsize=POOL, pool_block=False)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of direct connections."""
        self._found: dict[Any, Any] = {}  # pools by what is asked for
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the pools of connections through a proxy."""
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        if proxy.lower().startswith("https:"):
            options["proxy_ssl_context"] = tls_context(None, None)
        manager = super().proxy_manager_for(proxy, **options)
        is_socks = proxy.lower().startswith("socks")
        manager.pool_classes_by_scheme = _socks_pools() if is_socks else _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Return what tells one pool from another: the host and the TLS context."""
        parts = urlsplit(str(request.url))
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return host, {"ssl_context": verify}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool for a request; one found before is not searched for: 10 us less."""
        parts = urlsplit(str(request.url))
        if outbound.guard is not None:
            for url in filter(None, (request.url, select_proxy(str(request.url), proxies))):
                with suppress(ValueError):  # no URL, as is told below
                    outbound.guard(urlsplit(str(url)).hostname or "")
        key = (parts.scheme, parts.netloc, verify, *(proxies or {}).items())
        pool = self._found.get(key)
        if pool is None or pool.pool is None:  # urllib3 closes a pool when there are too many
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._found[key] = pool
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> Any:
        """Return what the request line has: the path, or for some proxies the whole address."""
        # Without proxies requests' own method searches for one: 8 us.
        return super().request_url(request, proxies) if proxies else request.path_url

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the connection as it is: its TLS context says it all."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return the answer as our kind of response."""
        # Not by requests' own method, which looks for cookies twice: 30 us less for a call.
        response: Any = self._response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.reason = resp.reason
        response.url = req.url
        response.request = req
        response.connection = self
        return response  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close every idle connection now; urllib3 alone waits until nobody knows its pool."""
        managers = [self.poolmanager, *self.proxy_manager.values()]
        for manager in managers:
            for key in manager.pools.keys():
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        self._found.clear()
        super().close()


def tls_context(verify: bool | str | None, trust: str | None) -> ssl.SSLContext:
    """Return a TLS context.

    Args:
        verify: A CA file or folder to trust and nothing else; False: trust anyone; else the common
            roots: those of ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, else certifi's.
        trust: PEM text of roots to trust beside the common ones.

    Raises:
        ConfigurationError: A file is missing or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TLSSocket
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    roots = verify if isinstance(verify, str) else _common_roots()
    try:
        if os.path.isdir(roots):
            context.load_verify_locations(capath=roots)
        else:
            context.load_verify_locations(cafile=roots)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"no certificates can be read from {roots!r}: {error}; verify= takes a PEM file"
        ) from error
    if trust and not isinstance(verify, str):
        context.load_verify_locations(cadata=trust)
    return context


def _common_roots() -> str:
    chosen = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return chosen or DEFAULT_CA_BUNDLE_PATH
