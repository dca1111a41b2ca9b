"""When to try again, and how long to wait before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
import math
import random
import threading
import time
from types import TracebackType
from typing import Any, Protocol, TYPE_CHECKING

from attr.validators import ge, instance_of

from chatsdk.errors import APITimeoutError, ChatError
from chatsdk.records import field, frozen

if TYPE_CHECKING:
    import tenacity


class Retried(Protocol):
    """What the policy needs to know of a call."""

    def untouched(self) -> bool:
        """Return whether nothing was handed out yet that would come twice."""

    def left(self) -> float | None:
        """Return the seconds until the call must be over, or None."""

    def sleep(self, seconds: float) -> None:
        """Wait, where the policy itself does not say how."""

    def spend(self, error: ChatError) -> bool:
        """Pay for one more attempt after an error; return whether that was possible."""

    def retrying(self, error: BaseException | None, seconds: float) -> None:
        """Take note that there will be one more attempt, after a wait."""


class Budget:
    """What all calls of a client may spend on retries at one host: a token bucket.

    The numbers are botocore's: 500 units, 5 for a retry, 10 for one after a timeout, 1 back for a
    call that succeeds.  Beside that 5 units come back each second, the price of one attempt.

    When it is empty the circuit is open until a call succeeds: new calls have to pay as well, so
    that a dead host gets one attempt a second however many threads knock.

    Attributes:
        open: Whether the circuit is.
    """

    UNITS = 500.0
    RETRY = 5.0
    RETRY_AFTER_TIMEOUT = 10.0
    PER_SECOND = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a full bucket."""
        self._clock = clock
        self.open = False
        self._lock = threading.Lock()
        self._units = self.UNITS
        self._at = clock()

    def spend(self, error: ChatError) -> bool:
        """Take what a retry after this error costs; return whether there was enough."""
        cost = self.RETRY_AFTER_TIMEOUT if isinstance(error, APITimeoutError) else self.RETRY
        paid = self._pay(cost)
        self.open = self.open or not paid
        return paid

    def admit(self) -> bool:
        """Return whether a new call may be sent, for which it pays while the circuit is open."""
        return not self.open or self._pay(self.RETRY)

    def _pay(self, cost: float) -> bool:
        with self._lock:
            now = self._clock()
            self._units = min(self.UNITS, self._units + (now - self._at) * self.PER_SECOND)
            self._at = now
            if self._units < cost:
                return False
            self._units -= cost
            return True

    def earn(self) -> None:
        """Give back a little after a success, and close the circuit."""
        self.open = False
        if self._units < self.UNITS:
            with self._lock:
                self._units = min(self.UNITS, self._units + 1)


class _First(AbstractContextManager[None]):
    """The first attempt of a call: keeps the error with which it failed."""

    error: BaseException | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.error = error
        return True


def _check_count(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be 0 or more, not {value}")


@frozen
class RetryPolicy:
    """What is tried again, as values.

    The wait before retry n (from 0) is random between 0 and ``initial * 2**n`` s, at most
    ``maximum``, and never less than the server asked for with ``Retry-After``.

    Attributes:
        max_retries: How often at most, after the first attempt.
        initial: Seconds, the bound of the first wait.
        maximum: Seconds, the bound of any wait that the server did not ask for.
        maximum_retry_after: Seconds; a server that asks for more makes the call fail now.
        retry_timeouts: Send a question again whose answer timed out; it may be billed twice.
        sleep: Waits for some seconds; None: a wait that closing the stream ends.
        random: Gives a number from 0 up to 1.
    """

    max_retries: int = field(default=2, validator=_check_count)
    initial: float = field(default=0.5, validator=ge(0))
    maximum: float = field(default=8.0, validator=ge(0))
    maximum_retry_after: float = field(default=60.0, validator=ge(0))
    retry_timeouts: bool = field(default=False, validator=instance_of(bool))
    sleep: Callable[[float], Any] | None = field(default=None, kw_only=True, repr=False)
    random: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def attempts(self, call: Retried) -> Iterator[AbstractContextManager[None]]:
        """Yield the attempts of a call; who made one that failed raises the error ``with`` it.

        They are tenacity's from the first failure on that may pass: a call that succeeds neither
        loads it nor pays for it, which is 5 ms once and 12 us each time.
        """
        first = _First()
        yield first
        error, first.error = first.error, None
        if error is None:
            return
        try:
            if not self._wanted(call, error):
                raise error
            attempts = iter(self._retrying(call))
            with next(attempts):
                raise error
        finally:
            del error  # its traceback holds this frame: no cycle
        yield from attempts

    def _wanted(self, call: Retried, error: BaseException) -> bool:
        return call.untouched() and self.retryable(error)

    def _retrying(self, call: Retried) -> tenacity.Retrying:
        """Return the policy in tenacity's words."""
        import tenacity

        def stop(state: tenacity.RetryCallState) -> bool:
            if state.attempt_number > self.max_retries:
                return True
            left = call.left()
            if left is not None and state.upcoming_sleep >= left:
                return True
            error = state.outcome.exception() if state.outcome else None
            return isinstance(error, ChatError) and not call.spend(error)

        def report(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            call.retrying(error, state.upcoming_sleep)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(partial(self._wanted, call)),
            stop=stop,
            wait=self._wait,
            sleep=self.sleep or call.sleep,
            before_sleep=report,
            reraise=True,
        )

    def retryable(self, error: BaseException) -> bool:
        """Return whether the call that failed so may be sent again."""
        if not isinstance(error, ChatError):
            return False
        if error.retry_after is not None and error.retry_after > self.maximum_retry_after:
            return False
        if isinstance(error, APITimeoutError) and error.phase in ("first", "read"):
            return error.retryable or self.retry_timeouts
        return error.retryable

    def _wait(self, state: tenacity.RetryCallState) -> float:
        bound = min(self.maximum, self.initial * math.ldexp(1.0, min(state.attempt_number - 1, 60)))
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        return max(bound * self.random(), asked)
