"""One call: its targets in order, their attempts, and what of them is handed out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
import logging
from typing import TypeVar

from attrs import frozen

from chatsdk.errors import CancelledError, ChatError, ProtocolError
from chatsdk.exchange import Exchange
from chatsdk.messages import Delta, Query, RateLimits, Usage
from chatsdk.providers.base import Fetch, Provider
from chatsdk.retry import RetryPolicy
from chatsdk.tally import Tally

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SECRET = 4  # characters; what is shorter is no credential, and may be a part of any word


@frozen
class Route:
    """Whom to ask, and what."""

    provider: Provider
    query: Query


class Call:
    """A question on its way to the first of its routes that answers.

    Attributes:
        provider: The name of the service that is asked now.
        model: The language model that is asked for.
    """

    def __init__(
        self, exchange: Exchange, policy: RetryPolicy, routes: list[Route], tally: Tally
    ) -> None:
        self.provider: str | None = None
        self.model: str | None = None
        self._exchange = exchange
        self._policy = policy
        self._routes = routes
        self._tally = tally
        self._handed = False
        self._answering: Provider | None = None  # who accepted the question, with these headers
        self._headers: Mapping[str, str] = {}

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
            self.provider = self._exchange.provider = route.provider.name
            self.model = route.provider.model_of(route.query)
            try:
                yield from self._attempts(route)
                return
            except ChatError as error:
                self._hide_secrets(error, route.provider)
                final = self._handed or route is self._routes[-1]
                if final or isinstance(error, CancelledError):
                    raise
                log.warning("%s failed (%s); trying the next", self.provider, type(error).__name__)

    def _attempts(self, route: Route) -> Generator[Delta | None, None, None]:
        for attempt in self._policy.attempts(self):
            with attempt:
                try:
                    yield from self._attempt(route)
                    self._exchange.earn()
                finally:
                    self._exchange.finish()
                return

    def _attempt(self, route: Route) -> Generator[Delta | None, None, None]:
        try:
            request = route.provider.prepare(route.query, self._exchange.fetch)
            body = self._exchange.open(request)
            self._answering, self._headers = route.provider, body.headers
            yield None
            deltas = iter(route.provider.deltas(route.query, body))
            for delta in deltas:
                self._handed = True
                yield delta
                yield from deltas
        except (ChatError, GeneratorExit):
            raise
        except Exception as error:
            raise ProtocolError(
                f"the exchange with {route.provider.name} went against its own description"
                f" ({type(error).__name__})"
            ) from error

    def _hide_secrets(self, error: ChatError, provider: Provider) -> None:
        """Blot out credentials that the server quoted, as some do in their errors."""
        text = str(error)
        for secret in (*provider.secrets(), *self._exchange.tokens):
            if len(secret) >= SECRET:
                text = text.replace(secret, "***")
        error.args = (text,)

    def result(self, ask: Callable[[Fetch], Result]) -> Result:
        """Return what the first route's service says to something else than a question.

        Args:
            ask: Is handed what sends a request, and gives the result.
        """
        provider, self.model = self._routes[0].provider, self._routes[0].query.model
        self.provider = self._exchange.provider = provider.name
        try:
            for attempt in self._policy.attempts(self):
                with attempt:
                    try:
                        return ask(self._exchange.fetch)
                    finally:
                        self._exchange.finish()
        except ChatError as error:
            error.provider = error.provider or provider.name
            self._hide_secrets(error, provider)
            raise
        raise AssertionError("there is at least one attempt")
