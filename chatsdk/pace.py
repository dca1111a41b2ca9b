"""How fast many calls may go: a rate of their own, and the pauses that a service asks for."""

from __future__ import annotations

from collections.abc import Callable
import math
import threading
import time
from typing import Any

from chatsdk.errors import ChatError, RateLimitError
from chatsdk.messages import Reply
from chatsdk.records import field, frozen
from chatsdk.retry import RetryPolicy

MINUTE = 60.0  # s


def _check_rate(instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0 and finite, not {value!r}")


@frozen(kw_only=True)
class Rate:
    """The most that is asked of a target in a minute; None: no bound.

    Attributes:
        requests_per_minute: Calls, evenly spaced.
        tokens_per_minute: Tokens of the language model as the service counts them.  They are known
            when an answer is here, so the first few calls may run ahead; the pause after them
            makes up for it.
    """

    requests_per_minute: float | None = field(default=None, validator=_check_rate)
    tokens_per_minute: float | None = field(default=None, validator=_check_rate)


class Pace:
    """When the next call may begin; shared by all threads that ask one target."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now, with nothing spent."""
        requests, self._tokens = rate.requests_per_minute, rate.tokens_per_minute
        self._interval = MINUTE / requests if requests else 0.0
        self._clock = clock
        self._slot = self._paid = self._open = clock()  # each: not before
        self._mean = 0.0  # tokens of a call so far
        self._ended = False
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def take(self) -> float:
        """Take leave to begin a call: 0, or the seconds after which to ask again."""
        with self._changed:
            now = self._clock()
            due = max(self._slot, self._paid, self._open)
            if due > now:
                return due - now
            # A thread that was late by less than an interval does not lower the rate.
            self._slot = max(self._slot, now - self._interval) + self._interval
            self._charge(self._mean)
            return 0.0

    def wait(self) -> bool:
        """Wait for leave to begin a call; return False if there is none any more."""
        with self._turn:  # one after the other, so that each end of a wait wakes only one
            while True:
                seconds = self.take()
                with self._changed:
                    if self._ended or not seconds:
                        return not self._ended
                    self._changed.wait(seconds)

    def spent(self, outcome: Reply | Exception) -> None:
        """Count what a call has really cost instead of what was thought."""
        reply = outcome if isinstance(outcome, Reply) else getattr(outcome, "partial", None)
        usage = None if reply is None else reply.usage
        tokens = 0 if usage is None else usage.total_tokens or 0
        with self._changed:
            self._charge(tokens - self._mean)
            self._mean += (tokens - self._mean) / 8

    def _charge(self, tokens: float) -> None:
        if self._tokens:
            # A pause gives no more than a second's tokens as credit.
            self._paid = max(self._paid, self._clock() - 1.0) + tokens * MINUTE / self._tokens

    def pause(self, seconds: float) -> None:
        """Let no call begin for so long."""
        with self._changed:
            self._open = max(self._open, self._clock() + seconds)
            self._changed.notify_all()

    def end(self) -> None:
        """Send everyone away who waits."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@frozen
class PacedPolicy(RetryPolicy):
    """A retry policy that lets all calls pause when one of them is told to wait."""

    pace: Pace = field(kw_only=True, repr=False)

    def retryable(self, error: BaseException) -> bool:
        """Return whether the call that failed so may be sent again."""
        if isinstance(error, ChatError):
            pause_for(self.pace, error, self.maximum_retry_after)
        return super().retryable(error)


def pause_for(pace: Pace, error: BaseException, longest: float) -> None:
    """Obey a service that says 429 and when to come back."""
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        pace.pause(min(error.retry_after, longest))
