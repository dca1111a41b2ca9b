"""One call: its targets in order, their attempts, and what of them is handed out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from itertools import count
import logging
import time
from typing import Any, NamedTuple, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from chatsdk.errors import CancelledError, ChatError, ProtocolError
from chatsdk.exchange import Exchange
from chatsdk.messages import Delta, Query, Reply, Usage
from chatsdk.providers.base import Fetch, Provider
from chatsdk.records import evolve
from chatsdk.retry import RetryPolicy
from chatsdk.tally import Tally
from chatsdk.wire import Request

if TYPE_CHECKING:
    from chatsdk.hooks import Hooks, Notice
    from chatsdk.ratelimits import RateLimits

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_numbers = count(1)

SECRET = 4  # characters; what is shorter is no credential, and may be a part of any word


class Route(NamedTuple):
    """Whom to ask, and what."""

    provider: Provider
    query: Query


def _misdescribed(name: str, error: Exception) -> ProtocolError:
    return ProtocolError(
        f"the exchange with {name} went against its own description ({type(error).__name__})",
        advice="that is a fault of its provider class: report it with the traceback",
    )


class Call:
    """A question on its way to the first of its routes that answers.

    Attributes:
        provider: The name of the service that is asked now.
        model: The language model that is asked for.
    """

    def __init__(
        self,
        exchange: Exchange,
        policy: RetryPolicy,
        routes: list[Route],
        tally: Tally,
        *,
        hooks: tuple[Hooks, ...] = (),
        operation: str = "chat",
    ) -> None:
        """Prepare a call.

        Args:
            exchange: Sends its requests.
            policy: What is tried again.
            routes: Whom to ask, in this order.
            tally: Sums up the tokens.
            hooks: Who is told what happens.
            operation: What it is for, in a word, for those who are told.
        """
        self.provider: str | None = None
        self.model: str | None = None
        self._exchange = exchange
        self._policy = policy
        self._routes = routes
        self._route = routes[0]
        self._tally = tally
        self._attempt_number = 0
        self._waited = 0.0  # s between the attempts
        self._before: list[str] = []  # how the routes before this one ended
        self._handed = False
        self._answering: Provider | None = None  # who accepted the question, with these headers
        self._headers: Mapping[str, str] = {}
        self._hooks = hooks
        self._operation = operation
        if hooks:
            self._number = next(_numbers)
            self._began = time.time()
            self._sent = self._first = 0.0  # when the last request left, and its answer began
            exchange.told = self._requested

    def cancel(self, *, hurry: bool = False) -> None:
        """End it, from any thread; in a hurry if the program is about to end."""
        self._exchange.cancel(hurry=hurry)

    def abort(self) -> None:
        """End it and its clean-up, from any thread."""
        self._exchange.abort()

    def count(self, usage: Usage) -> None:
        """Note the tokens of the answer."""
        self._tally.add(f"{self.provider}:{self.model}", usage)

    def limits(self) -> RateLimits | None:
        """Return what the answer's headers say of the account's limits."""
        return self._answering.limits(self._headers) if self._answering else None

    def untouched(self) -> bool:
        """Return whether nothing of an answer was handed out yet."""
        return not self._handed

    def left(self) -> float | None:
        """Return the seconds until the call must be over, or None."""
        return self._exchange.watch.left()

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the call is cancelled."""
        self._exchange.watch.sleep(seconds)

    def spend(self, error: ChatError) -> bool:
        """Pay for one more attempt from the budget of the host."""
        return self._exchange.spend(error)

    def steps(self) -> Generator[Delta | None, None, None]:
        """Yield the steps of the answer; None each time that a service accepts the question.

        A route that fails before anything of its answer was handed out gives way to the next.
        """
        for route in self._routes:
            self._take(route)
            try:
                yield from self._attempts(route)
                return
            except ChatError as error:
                self._complete(error)
                final = self._handed or route is self._routes[-1]
                if final or isinstance(error, CancelledError):
                    raise
                log.warning("%s failed (%s); trying the next", self.provider, type(error).__name__)
                self._before.append(f"{self._target}: {type(error).__name__}")
                self._tell("on_retry", error=error, wait=0.0)

    def _take(self, route: Route) -> None:
        self._route = route
        self._attempt_number, self._waited = 0, 0.0
        self.provider = self._exchange.provider = route.provider.name
        self.model = route.provider.model_of(route.query)

    def _attempts(self, route: Route) -> Generator[Delta | None, None, None]:
        for attempt in self._policy.attempts(self):
            self._attempt_number += 1
            try:
                body = self._accepted(route)
                yield None
                deltas = iter(route.provider.deltas(route.query, body))
                for delta in deltas:
                    self._handed = True
                    if self._hooks:
                        self._first = self._seconds()
                    yield delta
                    yield from deltas
                self._exchange.earn()
                return
            except ChatError:
                with attempt:
                    raise
            except Exception as error:
                with attempt:
                    raise _misdescribed(route.provider.name, error) from error
            finally:
                self._exchange.finish()

    def _accepted(self, route: Route) -> Any:
        """Ask the service and return the answer, its body unread."""
        request = route.provider.prepare(route.query, self._exchange.fetch)
        body = self._exchange.open(request)
        self._answering, self._headers = route.provider, body.headers
        return body

    def _complete(self, error: ChatError) -> None:
        """Add to an error what is known of the call, and the next step."""
        asked = error.retry_after
        if asked is not None and asked > self._policy.maximum_retry_after and error.retryable:
            most = f"RetryPolicy.maximum_retry_after ({self._policy.maximum_retry_after:g} s)"
            error.advice = f"ask again in {asked:g} s, which is longer than {most}"
        from chatsdk.advice import explain  # late, as all that a call without fault does without

        explain(
            error,
            target=self._target,
            attempts=self._attempt_number,
            elapsed=self._seconds(),
            waited=self._waited,
            request_id=self._exchange.request_id,
            notes=self._notes(error),
        )
        self._hide_secrets(error, self._route.provider)

    def _notes(self, error: ChatError) -> list[str]:
        """Return why it was not tried again where one may wonder, and who was asked before."""
        policy, notes = self._policy, []
        if error.retryable and self._handed and policy.max_retries:
            notes.append("not tried again since text was handed out")
        elif RetryPolicy.retryable(policy, error) and error.circuit == "closed":
            if self._attempt_number <= policy.max_retries:
                notes.append("not tried again since Timeout.total would be over")
        if self._before:
            notes.append(f"before it {', '.join(self._before)}")
        return notes

    def _hide_secrets(self, error: ChatError, provider: Provider) -> None:
        """Blot out credentials that the server quoted, as some do in their errors."""
        secrets = [*provider.secrets(), *self._exchange.tokens]
        hidden = sorted((one for one in secrets if len(one) >= SECRET), key=len, reverse=True)
        for name, text in (("args", str(error)), ("reason", error.reason or "")):
            for secret in hidden:
                text = text.replace(secret, "***")
            setattr(error, name, (text,) if name == "args" else text)

    def result(self, ask: Callable[[Fetch], Result]) -> Result:
        """Return what the first route's service says to something else than a question.

        Args:
            ask: Is handed what sends a request, and gives the result.
        """
        route = self._routes[0]
        self._take(route)
        self.model = route.query.model
        try:
            found = self._tried(ask)
        except BaseException as error:
            if isinstance(error, ChatError):
                error.provider = error.provider or self.provider
                self._complete(error)
            self.ended(None, error)
            raise
        self.ended(None, None, found)
        return found

    def _tried(self, ask: Callable[[Fetch], Result]) -> Result:
        for attempt in self._policy.attempts(self):
            self._attempt_number += 1
            try:
                return ask(self._exchange.fetch)
            except Exception:
                with attempt:
                    raise
            finally:
                self._exchange.finish()
        raise AssertionError("there is at least one attempt")

    # What is told

    @property
    def heard(self) -> bool:
        """Whether anybody wants to know how it ends."""
        return bool(self._hooks) or log.isEnabledFor(logging.INFO)

    def retrying(self, error: BaseException | None, seconds: float) -> None:
        """Tell that there will be one more attempt, after a wait."""
        self._waited += seconds
        log.warning(
            "%s: attempt %d failed (%s); the next one in %.2f s",
            self._target,
            self._attempt_number,
            type(error).__name__,
            seconds,
        )
        self._tell("on_retry", error=error, wait=seconds)

    def ended(
        self, reply: Reply | None, error: BaseException | None, result: Any = None
    ) -> None:
        """Tell how it has ended: with a reply, whole or left early, with a result or an error."""
        if self._exchange.watch.inherited:
            return  # a fork's copy: the call is the parent's, which tells it
        outcome = "answered" if error is None else type(error).__name__
        seconds, attempt = self._seconds(), self._attempt_number
        log.info("%s: %s after %.3f s, attempt %d", self._target, outcome, seconds, attempt)
        name = "on_reply" if error is None else "on_error"
        self._exchange.told = None  # no circle of references is left
        usage = getattr(result if reply is None else reply, "usage", None)
        self._tell(name, reply=reply, result=result, usage=usage, error=error)

    @property
    def _target(self) -> str:
        return f"{self.provider}:{self.model}" if self.model else str(self.provider)

    def _seconds(self) -> float:
        watch = self._exchange.watch
        return watch.clock() - watch.started

    def _requested(self, request: Request) -> Mapping[str, str]:
        """Tell that a request is about to leave; return the headers that hooks want to add."""
        self._sent, self._first = self._seconds(), 0.0
        headers: dict[str, str] = {}
        self._tell("on_request", headers=headers)
        if headers:
            from chatsdk.hooks import sendable

            return dict(sendable(headers, request.headers))
        return headers

    def _tell(self, name: str, **facts: Any) -> None:
        if not self._hooks:
            return
        notice = self._notice(**facts)
        for hooks in self._hooks:
            hooks.tell(name, notice)

    def _notice(self, **facts: Any) -> Notice:
        from chatsdk.hooks import Notice

        exchange, route = self._exchange, self._route
        request = exchange.request
        parts = None if request is None else urlsplit(request.url)
        return Notice(
            call=self._number,
            operation=self._operation,
            provider=route.provider.name,
            model=self.model,
            base_url=route.provider.base_url,
            began=self._began,
            seconds=self._seconds(),
            attempt=self._attempt_number,
            method=None if request is None else request.method,
            host=None if parts is None else parts.netloc.rpartition("@")[2],
            path=None if parts is None else parts.path,
            status=exchange.status,
            request_id=exchange.request_id,
            first_chunk_after=self._first - self._sent if self._first else None,
            query=evolve(route.query, extra_headers={}, extra_body={}),
            **facts,
        )
