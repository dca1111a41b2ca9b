"""When to try again, and how long to wait before."""

from __future__ import annotations

from collections.abc import Callable
import logging
import math
import random
from typing import Any

from attrs import field, frozen
from attrs.validators import ge, instance_of
import tenacity

from chatsdk.errors import APITimeoutError, ChatError

log = logging.getLogger(__name__)


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

    def attempts(
        self,
        sleep: Callable[[float], Any],
        left: Callable[[], float | None],
        may_retry: Callable[[], bool],
    ) -> tenacity.Retrying:
        """Return the attempts of one call, to iterate.

        Args:
            sleep: How to wait, in s, where the policy does not say.
            left: Gives the seconds until the call must be over, or None.
            may_retry: Whether nothing was handed out yet that would come twice.
        """

        def wanted(error: BaseException) -> bool:
            return may_retry() and self.retryable(error)

        def stop(state: tenacity.RetryCallState) -> bool:
            if state.attempt_number > self.max_retries:
                return True
            seconds = left()
            return seconds is not None and state.upcoming_sleep >= seconds

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(wanted),
            stop=stop,
            wait=self._wait,
            sleep=self.sleep or sleep,
            before_sleep=_report,
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


def _report(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "attempt %d failed (%s); the next one in %.2f s",
        state.attempt_number,
        type(error).__name__,
        state.upcoming_sleep,
    )
