"""Sends requests and gives back bodies: the pool, one call's exchange, one attempt."""

from __future__ import annotations

from collections.abc import Iterator
import json
import logging
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.cookies import extract_cookies_to_jar, RequestsCookieJar
from requests.utils import get_environ_proxies

from chatsdk.deadlines import Timeout, Watch
from chatsdk.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CancelledError,
    ChatError,
    ConfigurationError,
    ProtocolError,
)
from chatsdk.failures import connection_error, refusal
from chatsdk.sockets import Adapter, tls_context, watched
from chatsdk.tokens import Token, TokenError, TokenStore
from chatsdk.version import __version__
from chatsdk.wire import Grant, inflate, Limits, Lines, Request

log = logging.getLogger(__name__)

READ = 64 * 2**10  # bytes of one read at the most
CLEAN_UP = 2.0  # s for all that is sent after a call
CLEAN_UP_INTERRUPTED = 0.5  # s for the same when the program is about to end
DRAIN = 0.5  # s for what comes after the end mark
ERROR_BODY = 2.0  # s for the body of an error
HEADERS = {
    "User-Agent": f"chatsdk/{__version__} python-requests/{requests.__version__}",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}
PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


class Response(requests.Response):
    """An answer whose bytes are handed out when they arrive.

    requests' own ``iter_lines()`` waits for 512 bytes, takes quadratic time for long lines, and
    gives an extra empty line when CR LF is cut in two; ``iter_content(None)`` waits for the end of
    a body that is not chunked.  ``raw.read1`` does none of that, and is the one reader that hands
    out the bytes of a chunk that never gets whole.
    """

    limits = Limits()
    exchange: Exchange | None = None
    exhausted = False

    def iter_content(
        self, chunk_size: int | None = READ, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Yield bytes (or text in UTF-8) as they arrive, without their content encoding."""
        for chunk in self._chunks(chunk_size or READ):
            if self.exchange is not None and not chunk.isspace():
                self.exchange.watch.silent = 0.0
            yield chunk.decode(errors="replace") if decode_unicode else chunk

    def iter_lines(
        self,
        chunk_size: int | None = READ,
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Yield lines as they arrive: cut at LF, CR or CR LF, or at a one-byte delimiter."""
        splitter = Lines(delimiter, self.limits.frame_bytes)
        watch = self.exchange.watch if self.exchange is not None else None
        for chunk in self._chunks(chunk_size or READ):
            lines = splitter.feed(chunk)
            if watch is not None and splitter.unfinished[:1] not in b": \t\r":
                watch.silent = 0.0
            for line in lines:
                if watch is not None and line[:1] not in b": \t\r":  # else a comment or blank
                    watch.silent = 0.0
                yield line.decode(errors="replace") if decode_unicode else line
        for line in splitter.end():
            yield line.decode(errors="replace") if decode_unicode else line

    def hurry(self) -> None:
        """Let the rest of the body come soon or not at all."""
        if self.exchange is not None:
            self.exchange.watch.hurry(DRAIN)

    def _chunks(self, size: int) -> Iterator[bytes]:
        total = 0
        for chunk in inflate(self._received(size), self.headers.get("Content-Encoding")):
            total += len(chunk)
            if total > self.limits.reply_bytes:
                raise ProtocolError(f"the answer is longer than {self.limits.reply_bytes} bytes")
            yield chunk
        self.exhausted = True

    def _received(self, size: int) -> Iterator[bytes]:
        read = self.raw.read1
        exchange = self.exchange
        if exchange is None:  # not sent by us: nothing to watch
            yield from iter(lambda: read(size, decode_content=False), b"")
            return
        watch = exchange.watch
        while True:
            began = watch.resume()
            try:
                chunk = read(size, decode_content=False)
            except Exception as error:  # also bare ones: OverflowError for a chunk size of 2**63
                raise exchange.failure(error) from error
            if watch.cancelled:
                raise CancelledError("the stream was closed by another thread")
            if not chunk:
                watch.release()
                return
            watch.silent += watch.clock() - began
            yield chunk


class Transport:
    """What the calls of a client share: connections, TLS contexts, proxies, tokens.

    Args:
        proxy: A proxy's URL; None: the environment's proxies; "": none at all.
        verify: True or None: the provider's own choice; False: no check; a CA file.
        token_store: Where tokens are kept.

    Raises:
        ConfigurationError: The proxy is none, or the CA file cannot be read.
    """

    def __init__(
        self, *, proxy: str | None, verify: bool | str | None, token_store: TokenStore
    ) -> None:
        self.tokens = token_store
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
        self._running: set[Exchange] = set()
        self._idle = threading.Condition()

    def exchange(self, timeout: Timeout, limits: Limits, *, replace: bool = True) -> Exchange:
        """Return the exchange for one call.

        Args:
            timeout: How long it may wait.
            limits: How much it may read.
            replace: Whether a kept connection that turns out dead is replaced silently.
        """
        if self._pid != os.getpid():  # a fork: the sockets and locks are the parent's
            self._begin()
        return Exchange(self, Watch(timeout), limits, replace)

    def send(
        self, prepared: requests.PreparedRequest, request: Request, watch: Watch
    ) -> requests.Response:
        """Send a request and wait for the head of its answer."""
        url = str(prepared.url)
        context = self._context(request) if url.startswith("https:") else None
        timeout: Any = (watch.timeout.connect, watch.timeout.first)
        with watched(watch):
            return self._adapter.send(
                prepared,
                stream=True,
                timeout=timeout,
                verify=context,  # type: ignore[arg-type]  # see Adapter
                proxies=self._proxies_for(url),
            )

    def _context(self, request: Request) -> Any:
        verify = request.verify if self._verify is None else self._verify
        key = (verify, request.trust)
        if key not in self._contexts:
            self._contexts[key] = tls_context(verify, request.trust)
        return self._contexts[key]

    def _proxies_for(self, url: str) -> dict[str, str]:
        if self._proxy is not None:
            return {"http": self._proxy, "https": self._proxy} if self._proxy else {}
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        if key not in self._proxies:
            self._proxies[key] = get_environ_proxies(url, no_proxy=None)
        return self._proxies[key]

    def began(self, exchange: Exchange) -> None:
        """Keep count of the exchanges that have something to close."""
        self._running.add(exchange)

    def ended(self, exchange: Exchange) -> None:
        """Keep count of the exchanges that have something to close."""
        self._running.discard(exchange)
        if not self._running:
            with self._idle:
                self._idle.notify_all()

    def close(self) -> None:
        """End what runs, wait a little for its clean-up, and close every connection."""
        if self._pid != os.getpid():
            self._begin()
            return
        for exchange in list(self._running):
            exchange.cancel()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout=CLEAN_UP + 0.5)
        for exchange in list(self._running):
            exchange.abort()
        self._adapter.close()


class Exchange:
    """One call: its watch, and for each attempt its cookies and its clean-up."""

    def __init__(
        self, transport: Transport, watch: Watch, limits: Limits, replace: bool
    ) -> None:
        self.watch = watch
        self.provider: str | None = None
        self.requests = 0  # sent in this call
        self._transport = transport
        self._limits = limits
        self._replace = replace
        self._request: Request | None = None
        self._response: Response | None = None
        self._cookies = RequestsCookieJar()
        self._at_the_end: list[Request] = []
        self._cleaner: Exchange | None = None

    def open(self, request: Request) -> Response:
        """Send a request and wait until it is accepted.

        Args:
            request: What to send; a grant in it is traded for a token first.

        Returns:
            The answer, its body unread.  `finish` closes it.

        Raises:
            AuthenticationError: The key, or a fresh token, was refused (401).
            APIStatusError: Any other status that is no success.
            APIConnectionError: Nothing came back, or not in time.
        """
        self._transport.began(self)
        self._at_the_end.extend(request.at_the_end)
        if request.grant is None:
            self._response = self._accepted(request, None)
            return self._response
        token = self._token(request.grant)
        try:
            self._response = self._accepted(request, token)
        except AuthenticationError:
            log.info("%s refused a token; asking for a new one", self.provider)
            self._transport.tokens.discard(request.grant.name, token)
            self._response = self._accepted(request, self._token(request.grant))
        return self._response

    def fetch(self, request: Request) -> bytes:
        """Send a request of this call and return the whole body of its answer."""
        response = self.open(request)
        try:
            return b"".join(_bounded(response.iter_content(), self._limits.frame_bytes))
        finally:
            response.close()
            self._response = None

    def finish(self) -> None:
        """Close the answer and send what is to be sent at the end, however the attempt ended."""
        response, self._response = self._response, None
        requests_left = self._at_the_end
        if response is not None:
            if not response.exhausted and self._request is not None:
                requests_left = [*self._request.left_early, *requests_left]
            response.close()
            self.watch.release()
        self._at_the_end = []
        try:
            if requests_left:
                self._clean_up(requests_left)
        finally:
            self._cookies = RequestsCookieJar()
            self._transport.ended(self)

    def cancel(self) -> None:
        """End this call from another thread."""
        self.watch.cancel()

    def abort(self) -> None:
        """End this call and its clean-up from another thread."""
        self.watch.cancel()
        if self._cleaner is not None:
            self._cleaner.cancel()

    def failure(self, error: Exception) -> ChatError:
        """Return our error for one of the layers below."""
        request = self._request or Request(method="", url="")
        return connection_error(error, self.watch, request, self.provider)

    def _clean_up(self, requests_left: list[Request]) -> None:
        """Send the requests after a call, within a small budget; what fails is only logged."""
        interrupted = isinstance(sys.exc_info()[1], (KeyboardInterrupt, SystemExit))
        budget = CLEAN_UP_INTERRUPTED if interrupted else CLEAN_UP
        timeout = Timeout(connect=budget, first=budget, read=budget, total=budget)
        cleaner = Exchange(self._transport, Watch(timeout), self._limits, replace=True)
        cleaner.provider, cleaner._cookies = self.provider, self._cookies
        self._cleaner = cleaner
        try:
            for request in requests_left:
                cleaner._try_twice(request)
        finally:
            self._cleaner = None
            self._transport.ended(cleaner)

    def _try_twice(self, request: Request) -> None:
        for last in (False, True):
            try:
                self.fetch(request)
                return
            except ChatError as error:
                if last or not error.retryable:
                    log.warning(
                        "clean-up at %s failed: %s %s (%s)",
                        self.provider,
                        request.method,
                        urlsplit(request.url).path,
                        type(error).__name__,
                    )
                    return

    def _token(self, grant: Grant) -> Token:
        """Return the token for a grant; of all threads that need one, only one asks."""

        def renew() -> Token:
            asked_at = time.time()
            try:
                response = self._accepted(grant.ask(), None)
                try:
                    body = b"".join(_bounded(response.iter_content(), self._limits.frame_bytes))
                finally:
                    response.close()
            except (CancelledError, APITimeoutError) as error:
                if isinstance(error, CancelledError) or error.phase == "total":
                    raise _Left(error) from None  # this caller's own end, not the issuer's answer
                raise
            return grant.read(body, response.headers, asked_at)

        try:
            return self._transport.tokens.fetch(grant.name, renew, timeout=self.watch.left())
        except _Left as left:
            raise left.error from left.error.__cause__
        except TimeoutError as error:
            raise APITimeoutError(
                f"no token for {self.provider} in time (timeout: total)", phase="total"
            ) from error
        except TokenError as error:
            raise AuthenticationError(f"{self.provider}: {error}", status_code=401) from error

    def _accepted(self, request: Request, token: Token | None) -> Response:
        response = self._sent(request, token)
        if response.status_code in request.accepts:
            return response
        try:
            with self.watch.hurried(ERROR_BODY):
                body = _beginning(response, self._limits.error_body_bytes)
            raise refusal(response, body, request, self.provider or "the service")
        finally:
            response.close()

    def _sent(self, request: Request, token: Token | None) -> Response:
        """Send a request; a kept connection that turns out dead is replaced by a new one, once."""
        self.watch.fresh = False
        try:
            return self._attempt(request, token)
        except APIConnectionError as error:
            if isinstance(error, APITimeoutError) or not self._died_unanswered():
                raise
        self.watch.fresh = True
        return self._attempt(request, token)

    def _died_unanswered(self) -> bool:
        watch = self.watch
        return self._replace and watch.reused and watch.phase == "first" and not watch.answered

    def _attempt(self, request: Request, token: Token | None) -> Response:
        watch = self.watch
        self._request = request
        prepared = self._prepared(request, token)
        began = watch.clock()
        watch.begin("connect")
        self.requests += 1
        try:
            if watch.cancelled:
                raise ConnectionAbortedError("cancelled")
            watch.remaining()
            response = self._transport.send(prepared, request, watch)
        except Exception as error:
            failure = self.failure(error)
            self._log(request, type(failure).__name__, began)
            raise failure from error
        assert isinstance(response, Response)
        response.exchange = self
        response.limits = self._limits
        if watch.cut:
            response.close()
            raise APIConnectionError(
                f"{self.provider} ended the connection within the head of its answer",
                retryable=True,
            )
        watch.begin("read")
        keep_cookies: Any = extract_cookies_to_jar  # untyped in requests
        keep_cookies(self._cookies, prepared, response.raw)
        self._log(request, str(response.status_code), began)
        return response

    def _prepared(self, request: Request, token: Token | None) -> requests.PreparedRequest:
        headers = {**HEADERS, **request.headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.value}"
        body: Any = request.form
        if request.json is not None:
            # Not requests' own json=, which escapes: services ask for UTF-8 as it is.
            text = json.dumps(request.json, ensure_ascii=False, separators=(",", ":"))
            body = text.encode()
            headers["Content-Type"] = "application/json"
        cookies: Any = self._cookies
        if request.cookies:
            cookies = self._cookies.copy()
            cookies.update(request.cookies)
        return requests.Request(
            request.method, request.url, headers=headers, data=body, cookies=cookies
        ).prepare()

    def _log(self, request: Request, outcome: str, began: float) -> None:
        if log.isEnabledFor(logging.DEBUG):
            parts = urlsplit(request.url)
            seconds = self.watch.clock() - began
            log.debug(
                "%s %s %s: %s, %.3f s", request.method, parts.netloc, parts.path, outcome, seconds
            )


class _Left(BaseException):
    """The renewing call ended for reasons of its own; another one may renew."""

    def __init__(self, error: ChatError) -> None:
        super().__init__()
        self.error = error


def _bounded(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ProtocolError(f"the answer is longer than {most} bytes")
        yield chunk


def _beginning(response: Response, most: int) -> bytes:
    """Return the beginning of an error's body; what cannot be read is left out."""
    found = b""
    try:
        for chunk in response.iter_content():
            found += chunk
            if len(found) >= most:
                break
    except ChatError as error:
        log.debug("the body of an error could not be read: %s", type(error).__name__)
    return found[:most]


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
