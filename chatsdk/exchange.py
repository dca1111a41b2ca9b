"""One call at work: its deadline, its cookies, its clean-up, and what one attempt is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
import json
import logging
import sys
import time
from typing import Any, TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import requests
from requests.cookies import extract_cookies_to_jar, get_cookie_header, RequestsCookieJar

from chatsdk.deadlines import Timeout, Watch
from chatsdk.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CancelledError,
    ChatError,
)
from chatsdk.failures import connection_error, refusal, request_id_in
from chatsdk.responses import Response
from chatsdk.sockets import Headers
from chatsdk.transport import Transport
from chatsdk.version import __version__
from chatsdk.wire import Grant, Limits, merged_headers, Request

if TYPE_CHECKING:
    from chatsdk.tokens import Token

log = logging.getLogger(__name__)

CLEAN_UP = 2.0  # s for all that is sent after a call
CLEAN_UP_DROPPED = 0.7  # s for the same when a loop was left: maybe by Ctrl-C, which is not told
CLEAN_UP_INTERRUPTED = 0.5  # s for the same when the program is about to end
KNOCK = 1.0  # s that a call waits at a host where too much fails, before it is not sent at all
TOKEN_TURN = 0.2  # s that a call waits for another one's token before it looks whether it goes on
ERROR_BODY = 2.0  # s for the body of an error
HEADERS = {
    "User-Agent": f"chatsdk/{__version__} python-requests/{requests.__version__}",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}


class Exchange:
    """One call: its watch, and for each attempt its cookies and its clean-up."""

    def __init__(
        self, transport: Transport, timeout: Timeout, limits: Limits, *, replace: bool = True
    ) -> None:
        """Begin a call.

        Args:
            transport: What it shares with others.
            timeout: How long it may wait.
            limits: How much it may read.
            replace: Whether a kept connection that turns out dead is replaced silently.
        """
        self.watch = Watch(timeout)
        self.provider: str | None = None
        self.tokens: list[str] = []  # those that were sent
        self.told: Callable[[Request], Mapping[str, str]] | None = None  # returns more headers
        self.status: int | None = None  # of the last answer
        self.headers: Mapping[str, str] = {}  # its headers
        self._transport = transport
        self._limits = limits
        self._replace = replace
        self._request: Request | None = None
        self._response: Response | None = None
        self._cookies: RequestsCookieJar | None = None
        self._at_the_end: list[Request] = []
        self._admitted = False  # whether this attempt is paid for, where it has a price
        self._cleaner: Exchange | None = None
        self._hurry = self._cleans_up = False

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
        if request.undo is None:
            return self._fetched(request)
        return self.watch.shelter(partial(self._created, request, request.undo))

    def finish(self) -> None:
        """Close the answer and send what is to be sent at the end, however the attempt ended."""
        response, self._response = self._response, None
        requests_left = self._at_the_end
        if self.watch.inherited:
            if response is not None:
                response.close()  # this process's end of it; the call goes on in the other
            return
        if response is not None:
            if not response.exhausted and self._request is not None:
                requests_left = [*self._request.left_early, *requests_left]
            response.close()
            self.watch.release()
        self._at_the_end = []
        self._admitted = False
        try:
            if requests_left:
                self._clean_up(requests_left)
        finally:
            self._cookies = None
            self._transport.ended(self)

    def cancel(self, *, hurry: bool = False) -> None:
        """End this call from another thread; in a hurry its clean-up is short as well."""
        if self._cleans_up:
            return  # `Transport.close` waits for it: only `abort` ends it
        self._hurry = self._hurry or hurry
        self.watch.cancel()
        cleaner = self._cleaner
        if hurry and cleaner is not None:
            cleaner.watch.hurry(CLEAN_UP_INTERRUPTED)

    def abort(self) -> None:
        """End this call and its clean-up from another thread."""
        self.watch.cancel()
        self.watch.hang_up()
        if self._cleaner is not None:
            self._cleaner.abort()

    @property
    def request(self) -> Request | None:
        """The last request, or None."""
        return self._request

    @property
    def request_id(self) -> str | None:
        """The service's own id of the last request, or None."""
        return request_id_in(self.headers)

    def spend(self, error: ChatError) -> bool:
        """Pay for one more attempt at the host of the last request; if that fails, note it."""
        host = urlsplit(self._request.url).netloc if self._request else ""
        self._admitted = self._transport.budget(host).spend(error)
        if not self._admitted:
            error.open_circuit(f"not tried again: the retry budget for {host} is used up")
        return self._admitted

    def earn(self) -> None:
        """Let a success at the host of the last request count."""
        if self._request is not None:
            self._transport.budget(urlsplit(self._request.url).netloc).earn()

    def failure(self, error: Exception) -> ChatError:
        """Return our error for one of the layers below."""
        request = self._request or Request(method="", url="")
        return connection_error(error, self.watch, request, self.provider)

    def _fetched(self, request: Request) -> bytes:
        try:
            return self.open(request).content_within(self._limits.frame_bytes)
        finally:
            response, self._response = self._response, None
            if response is not None:
                response.close()

    def _created(self, request: Request, undo: Callable[[bytes], Request]) -> bytes:
        body = self._fetched(request)
        self._at_the_end.append(undo(body))
        return body

    def _clean_up(self, requests_left: list[Request]) -> None:
        """Send the requests after a call, within a small budget; what fails is only logged."""
        interrupted = _program_ends()
        try:
            self._send_last(requests_left)
        except BaseException:
            if not interrupted:  # but now it is: once more, in a hurry
                self._send_last(requests_left)
            raise

    def _send_last(self, requests_left: list[Request]) -> None:
        budget = self._clean_up_budget()
        timeout = Timeout(connect=budget, first=budget, read=budget, total=budget)
        cleaner = Exchange(self._transport, timeout, self._limits)
        cleaner.provider, cleaner._cookies = self.provider, self._cookies
        cleaner._cleans_up = True
        self._cleaner = cleaner
        try:
            while requests_left:
                cleaner._try_twice(requests_left[0])
                del requests_left[0]
        finally:
            self._cleaner = None
            self._transport.ended(cleaner)

    def _clean_up_budget(self) -> float:
        if self._hurry or _program_ends():
            return CLEAN_UP_INTERRUPTED
        dropped = isinstance(sys.exc_info()[1], GeneratorExit) and not self.watch.cancelled
        return CLEAN_UP_DROPPED if dropped else CLEAN_UP

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
        from chatsdk.tokens import TokenError

        def renew() -> Token:
            asked_at = time.time()
            try:
                response = self._accepted(grant.ask(), None)
                try:
                    body = response.content_within(self._limits.frame_bytes)
                finally:
                    response.close()
            except (CancelledError, APITimeoutError) as error:
                if isinstance(error, CancelledError) or error.phase == "total":
                    raise _Left(error) from None  # this caller's own end, not the issuer's answer
                raise
            return grant.read(body, response.headers, asked_at)

        while True:
            left = self.watch.left()
            turn = TOKEN_TURN if left is None else min(left, TOKEN_TURN)
            try:
                return self._transport.tokens.fetch(grant.name, renew, timeout=turn)
            except _Left as ended:
                raise ended.error from ended.error.__cause__
            except TokenError as error:
                raise AuthenticationError(f"{self.provider}: {error}", status_code=401) from error
            except TimeoutError as error:
                if self.watch.cancelled:
                    raise CancelledError("the call was cancelled, waiting for a token") from error
                if left is not None and left <= turn:
                    raise APITimeoutError(
                        f"no token for {self.provider} in time (timeout: total)", phase="total"
                    ) from error

    def _accepted(self, request: Request, token: Token | None) -> Response:
        response = self._sent(request, token)
        if response.status_code in request.accepts:
            return response
        try:
            with self.watch.hurried(ERROR_BODY):
                body = response.beginning(self._limits.error_body_bytes)
            raise refusal(response, body, request, self.provider or "the service")
        finally:
            response.close()

    def _sent(self, request: Request, token: Token | None) -> Response:
        """Send a request; a kept connection that turns out dead is replaced by a new one, once."""
        if not self._admitted:
            self._admit(urlsplit(request.url).netloc)
        self.watch.fresh = False
        try:
            return self._attempt(request, token)
        except APIConnectionError as error:
            if isinstance(error, APITimeoutError) or not self._died_unanswered():
                raise
        self.watch.fresh = True
        return self._attempt(request, token)

    def _admit(self, host: str) -> None:
        """Pay for this attempt if so much fails at the host that each one has its price."""
        budget = self._transport.budget(host)
        if not (self._cleans_up or budget.admit()):
            left = self.watch.left()
            self.watch.sleep(KNOCK if left is None else min(left, KNOCK))
            if not budget.admit():
                error = APIConnectionError(f"{self.provider} was not asked")
                error.open_circuit(f"too much fails at {host}: only one call a second is sent")
                raise error
        self._admitted = True

    def _died_unanswered(self) -> bool:
        watch = self.watch
        return self._replace and watch.reused and watch.phase == "first" and not watch.answered

    def _attempt(self, request: Request, token: Token | None) -> Response:
        watch = self.watch
        self._request = request
        self.status, self.headers = None, {}
        added = {} if self.told is None else self.told(request)
        began = watch.clock()
        watch.begin("connect")
        try:
            prepared = self._prepared(request, token, added)
            if watch.cancelled:
                raise ConnectionAbortedError("cancelled")
            watch.remaining()
            response = self._transport.send(prepared, request, watch)
        except Exception as error:
            failure = self.failure(error)
            self._log(request, type(failure).__name__, began)
            if failure is error:
                raise
            raise failure from error
        self.status, self.headers = response.status_code, response.headers
        response.attend(watch, self._limits, self.failure)
        if response.status_code < 200:
            watch.hang_up()  # the real answer follows, and would be taken for the next one
        if watch.cut:
            response.close()
            raise APIConnectionError(
                f"{self.provider} ended the connection within the head of its answer",
                retryable=True,
            )
        watch.begin("read")
        if "Set-Cookie" in response.headers:
            self._cookies = RequestsCookieJar() if self._cookies is None else self._cookies
            keep_cookies: Any = extract_cookies_to_jar  # untyped in requests
            keep_cookies(self._cookies, prepared, response.raw)
        self._log(request, str(response.status_code), began)
        return response

    def _prepared(
        self, request: Request, token: Token | None, added: Mapping[str, str]
    ) -> requests.PreparedRequest:
        # As `requests.Request` does it, without a search for what is not there: 100 us less.
        prepared: Any = requests.PreparedRequest()  # partly untyped in requests
        prepared.method, prepared.url, prepared.headers = request.method, _quoted(request.url), {}
        known, framing = {}, {}
        if token is not None:
            known["Authorization"] = f"Bearer {token.value}"
            self.tokens.append(token.value)
        if request.cookies or self._cookies:
            known.update(self._cookie_header(request, prepared))
        if request.json is not None:
            # Not requests' own json=, which escapes: services ask for UTF-8 as it is.
            prepared.body = _encode(request.json).encode()
            framing["Content-Type"] = "application/json"
        elif request.form is not None:
            prepared.body = urlencode(request.form)
            framing["Content-Type"] = "application/x-www-form-urlencoded"
        if request.method != "GET":
            framing["Content-Length"] = str(len(prepared.body or ""))
        headers = merged_headers(HEADERS, known, added, request.headers, framing)
        _check_sendable(headers)
        prepared.headers = Headers(headers)
        return prepared  # type: ignore[no-any-return]

    def _cookie_header(
        self, request: Request, prepared: requests.PreparedRequest
    ) -> dict[str, str]:
        """Return the header for the cookies that belong to an address; it may be none."""
        jar: Any = RequestsCookieJar()  # untyped in requests, as what follows
        jar.update(self._cookies or {})
        jar.update(request.cookies)
        cookie: Any = get_cookie_header
        header = cookie(jar, prepared)
        return {"Cookie": header} if header else {}

    def _log(self, request: Request, outcome: str, began: float) -> None:
        if log.isEnabledFor(logging.DEBUG):
            parts = urlsplit(request.url)
            seconds = self.watch.clock() - began
            log.debug(
                "%s %s %s: %s, %.3f s", request.method, parts.netloc, parts.path, outcome, seconds
            )


def _program_ends() -> bool:
    """Return whether this is on the way out of the program: then nobody wants to wait."""
    error = sys.exc_info()[1]
    while error is not None:  # the end of a generator stands before what brought it about
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return True
        error = error.__context__
    return sys.is_finalizing()


def _check_sendable(headers: Mapping[str, str]) -> None:
    """Refuse what a provider of somebody's own may have put in; a caller's headers are checked."""
    try:
        text = "".join([*headers, *headers.values()])
        text.encode("latin-1")
    except (TypeError, UnicodeEncodeError) as error:
        raise requests.exceptions.InvalidHeader("a header is no str in Latin-1") from error
    if "\n" in text or "\r" in text:
        raise requests.exceptions.InvalidHeader("a header has a line break")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@lru_cache(maxsize=256)
def _quoted(url: str) -> str:
    """Return an address as it is sent: its host in IDNA, and what has to be quoted, quoted."""
    prepared: Any = requests.PreparedRequest()
    prepared.prepare_url(url, None)
    return str(prepared.url)


class _Left(BaseException):
    """The renewing call ended for reasons of its own; another one may renew."""

    def __init__(self, error: ChatError) -> None:
        super().__init__()
        self.error = error
