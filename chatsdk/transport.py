"""What the calls of a client share: connections, TLS contexts, proxies, tokens, the tally."""

from __future__ import annotations

from functools import lru_cache
import logging
import os
import threading
from typing import Any, Protocol, TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies
import urllib3

from chatsdk.deadlines import Watch
from chatsdk.errors import ConfigurationError
from chatsdk.responses import Response
from chatsdk.retry import Budget
from chatsdk.sockets import Adapter, tls_context, watched
from chatsdk.tally import Tally
from chatsdk.wire import Request

if TYPE_CHECKING:
    from chatsdk.tokens import TokenStore

log = logging.getLogger(__name__)

LAST_WAIT = 2.5  # s that `Transport.close` leaves to the clean-up of running calls
PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


class Ends(Protocol):
    """A call that can be ended from another thread."""

    def cancel(self) -> None:
        """End it; it may still clean up."""

    def abort(self) -> None:
        """End its clean-up as well."""


class Transport:
    """What the calls of a client share: connections, TLS contexts, proxies, tokens.

    Args:
        proxy: A proxy's URL; None: the environment's proxies; "": none at all.
        verify: True or None: the provider's own choice; False: no check; a CA file.
        token_store: Where tokens are kept; None: in memory, in one store for the process.

    Raises:
        ConfigurationError: The proxy is none, or the CA file cannot be read.
    """

    def __init__(
        self, *, proxy: str | None, verify: bool | str | None, token_store: TokenStore | None
    ) -> None:
        self._tokens = token_store
        self.tally = Tally()
        self._proxy = _checked_proxy(proxy)
        self._verify = _checked_verify(verify)
        if isinstance(self._verify, str):
            tls_context(self._verify, None)
        if verify is False:
            log.warning("certificates are not verified: verify=False")
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._adapter = Adapter(Response)
        self._contexts: dict[Any, Any] = {}
        self._proxies: dict[tuple[str, str], dict[str, str]] = {}
        self._budgets: dict[str, Budget] = {}
        self._running: set[Ends] = set()
        self._idle = threading.Condition()
        self._awaited = False  # whether anybody waits, or has waited, for the last call to end

    def send(
        self, prepared: requests.PreparedRequest, request: Request, watch: Watch
    ) -> Response:
        """Send a request and wait for the head of its answer."""
        url = str(prepared.url)
        context = self._context(request) if url.startswith("https:") else None
        timeout: Any = _waits(watch.timeout.connect, watch.timeout.first)
        with watched(watch):
            response = self._adapter.send(
                prepared,
                stream=True,
                timeout=timeout,
                verify=context,  # type: ignore[arg-type]  # see Adapter
                proxies=self._proxies_for(url),
            )
        assert isinstance(response, Response)  # the adapter makes no other
        return response

    @property
    def tokens(self) -> TokenStore:
        """Where tokens are kept."""
        if self._tokens is None:
            from chatsdk.tokens import process_store  # most services take a key as it is

            self._tokens = process_store
        return self._tokens

    def _context(self, request: Request) -> Any:
        verify = request.verify if self._verify is None else self._verify
        key = (verify, request.trust)
        found = self._contexts.get(key)
        return found or self._contexts.setdefault(key, tls_context(verify, request.trust))

    def _proxies_for(self, url: str) -> dict[str, str]:
        if self._proxy is not None:
            return {"http": self._proxy, "https": self._proxy} if self._proxy else {}
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        if key not in self._proxies:
            self._proxies[key] = get_environ_proxies(url, no_proxy=None)
        return self._proxies[key]

    def budget(self, host: str) -> Budget:
        """Return what may be spent on retries at a host."""
        return self._budgets.get(host) or self._budgets.setdefault(host, Budget())

    def began(self, call: Ends) -> None:
        """Keep count of the calls that have something to close."""
        if self._pid != os.getpid():  # a fork: the sockets and locks are the parent's
            self._begin()
        self._running.add(call)

    def ended(self, call: Ends) -> None:
        """Keep count of the calls that have something to close."""
        self._running.discard(call)
        if self._awaited and not self._running:
            with self._idle:
                self._idle.notify_all()

    def close(self) -> None:
        """End what runs, wait a little for its clean-up, and close every connection."""
        if self._pid != os.getpid():
            self._begin()
            return
        self._awaited = True
        for call in list(self._running):
            call.cancel()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout=LAST_WAIT)
        for call in list(self._running):
            call.abort()
        self._adapter.close()


@lru_cache(maxsize=64)
def _waits(connect: float | None, first: float | None) -> urllib3.Timeout:
    """Return the bounds of what keeps to no watch: waits inside of TLS within TLS."""
    return urllib3.Timeout(connect=connect, read=first)


def _checked_proxy(proxy: str | None) -> str | None:
    if not proxy:
        return proxy
    if not isinstance(proxy, str):
        raise TypeError(f"proxy must be a URL, not {type(proxy).__name__}")
    try:
        parts = urlsplit(proxy)
        known = parts.scheme in PROXIES and bool(parts.hostname)
        parts.port
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(
            f"proxy must look like http://host:port; known schemes: {', '.join(PROXIES)}"
        )
    return proxy


def _checked_verify(verify: Any) -> bool | str | None:
    if verify is None or verify is True:
        return None
    if verify is False:
        return False
    if isinstance(verify, (str, os.PathLike)):
        return os.fspath(verify)
    raise TypeError(f"verify must be True, False or a CA file, not {type(verify).__name__}")
