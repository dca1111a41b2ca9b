"""The way to a server, step by step: name, connection, proxy, certificates."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
import http.client
import re
import socket
import ssl
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen
from requests.utils import get_environ_proxies, select_proxy

from chatsdk.cli.certificates import advice, Certificate, chain_of, complaint
from chatsdk.errors import quoted
from chatsdk.sockets import tls_context
from chatsdk.wire import Request

SOON = 14  # days before its end at which a certificate is worth a word


@frozen
class Finding:
    """What one step showed.

    Attributes:
        step: Which: key, dns, proxy, tcp, tls, call, ...
        where: The host or name that it is about.
        ok: Whether it went well; None: it was not tried, or is worth a word.
        said: What was seen.
        advice: What to do.
    """

    step: str
    where: str
    ok: bool | None
    said: str
    advice: str = ""


class Probe:
    """The way to the host of a request, tried as a client would go it.

    Args:
        request: What would be sent; it is not.
        timeout: Seconds for each wait.
    """

    def __init__(self, request: Request, timeout: float) -> None:
        parts = urlsplit(request.url)
        self._request = request
        self._timeout = timeout
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._proxy = select_proxy(request.url, get_environ_proxies(request.url)) or None

    def findings(self) -> Iterator[Finding]:
        """Yield what each step shows, until one fails."""
        if self._proxy is None:
            yield from self._reach(self._host, self._port)
        else:
            yield from self._through(self._proxy)

    def _reach(self, host: str, port: int) -> Iterator[Finding]:
        """Yield what looking a host up and connecting to it show, then what TLS shows."""
        found = self._look_up(host, port)
        yield found
        if found.ok is False:
            return
        sock, finding = self._connect(host, port)
        yield finding
        if sock is None:
            return
        sock.close()
        if self._proxy is None and self._secure:
            yield self._greet(lambda: socket.create_connection((host, port), self._timeout))

    def _look_up(self, host: str, port: int) -> Finding:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return Finding(
                "dns", host, False, f"no address: {getattr(error, 'strerror', None) or error}",
                "Is the name right, and is this machine online? Where only a proxy knows names,"
                " set HTTPS_PROXY.",
            )
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        return Finding("dns", host, True, ", ".join(addresses))

    def _connect(self, host: str, port: int) -> tuple[socket.socket | None, Finding]:
        where, began = f"{host}:{port}", time.monotonic()
        try:
            sock = socket.create_connection((host, port), self._timeout)
        except TimeoutError:
            return None, Finding(
                "tcp", where, False, f"no answer within {self._timeout:g} s",
                "A firewall may swallow the packets; does another network, or a proxy, help?",
            )
        except OSError as error:
            return None, Finding(
                "tcp", where, False, f"no connection: {error.strerror or error}",
                "Nothing listens there, or something is in the way: is the server running, and"
                " are host and port right?",
            )
        return sock, Finding("tcp", where, True, f"{(time.monotonic() - began) * 1000:.0f} ms")

    def _through(self, proxy: str) -> Iterator[Finding]:
        """Yield what the way through a proxy shows."""
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        where = f"{parts.scheme}://{host}:{port}"
        yield Finding("proxy", where, None, f"of the environment, for {self._host}")
        steps = list(self._reach(host, port))
        yield from steps
        if steps[-1].ok is False or not self._secure:
            return
        if parts.scheme != "http":
            yield Finding("proxy", where, None, "what is behind it is tried by the call")
            return

        def tunnel() -> socket.socket:
            made = http.client.HTTPConnection(host, port, timeout=self._timeout)
            made.set_tunnel(self._host, self._port, _credentials(parts))
            try:
                made.connect()
            except BaseException:
                made.close()
                raise
            sock: socket.socket = made.sock
            return sock

        try:
            tunnel().close()
        except (OSError, http.client.HTTPException) as error:
            said = quoted(error)
            yield Finding("proxy", where, False, f"no tunnel to {self._host}:{self._port}: {said}",
                          _proxy_advice(said))
            return
        yield Finding("proxy", where, True, f"a tunnel to {self._host}:{self._port}")
        yield self._greet(tunnel)

    def _greet(self, connect: Callable[[], socket.socket]) -> Finding:
        """Return what TLS shows."""
        where = f"{self._host}:{self._port}"
        try:
            context = tls_context(self._request.verify, self._request.trust)
            with connect() as raw, context.wrap_socket(raw, server_hostname=self._host) as sock:
                return self._trusted(where, sock, chain_of(sock))
        except ssl.SSLCertVerificationError as error:
            said = complaint(self._shown(connect), error, self._host)
            return Finding("tls", where, False, said, advice(error.verify_code))
        except (ssl.SSLError, TimeoutError) as error:
            said = getattr(error, "reason", None) or f"no answer within {self._timeout:g} s"
            return Finding(
                "tls", where, False, f"no handshake: {said}",
                "Does this port speak TLS at all? If it does not, the address begins with http:",
            )
        except OSError as error:
            return Finding(
                "tls", where, False, f"the connection broke: {error}",
                "Something on the way may cut connections to this host: a firewall or a filter.",
            )

    def _trusted(self, where: str, sock: ssl.SSLSocket, chain: list[Certificate]) -> Finding:
        said = f"{sock.version()}"
        if not chain:
            return Finding("tls", where, True, said)
        first = min(chain, key=lambda one: one.ends)
        said += f", {chain[0].subject}, valid until {first.ends:%Y-%m-%d}"
        if (first.ends - datetime.now(timezone.utc)).days < SOON:
            return Finding("tls", where, None, said, "The service must renew its certificate soon.")
        return Finding("tls", where, True, said)

    def _shown(self, connect: Callable[[], socket.socket]) -> list[Certificate]:
        """Return the certificates of a server that is not trusted; nothing is said to it."""
        context = tls_context(False, None)
        try:
            with connect() as raw, context.wrap_socket(raw, server_hostname=self._host) as sock:
                return chain_of(sock)
        except OSError:  # it spoke a moment ago; what OpenSSL said of it has to do
            return []


def _credentials(parts: Any) -> dict[str, str]:
    """Return the header that a proxy wants, if its URL has credentials."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _proxy_advice(said: str) -> str:
    status = re.search(r"\b(\d{3})\b", said)
    if status and status[1] == "407":
        return "The proxy wants to know who you are: HTTPS_PROXY=http://user:password@host:port"
    if status:
        return "The proxy does not let this host through; ask who runs it, or name it in NO_PROXY."
    return "Is that a proxy? Clear HTTPS_PROXY, or name the host in NO_PROXY."
