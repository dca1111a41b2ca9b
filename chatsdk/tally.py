"""What the calls of a client have used, by target."""

from __future__ import annotations

from operator import attrgetter
import threading

from chatsdk.messages import Usage
from chatsdk.records import fields

_counts = attrgetter(*[attribute.name for attribute in fields(Usage)])


class Tally:
    """Sums of tokens by target; safe between threads, and starts anew in a pickle."""

    def __init__(self) -> None:
        self._sums: dict[str, Usage] = {}
        self._lock = threading.Lock()

    def add(self, target: str, usage: Usage) -> None:
        """Add what a call used."""
        with self._lock:
            before = self._sums.get(target)
            self._sums[target] = usage if before is None else summed(before, usage)

    def sums(self) -> dict[str, Usage]:
        """Return the sums so far."""
        with self._lock:
            return dict(self._sums)


def summed(one: Usage, other: Usage) -> Usage:
    """Return the sum of two; what neither of them tells is None."""
    pairs = zip(_counts(one), _counts(other))
    return Usage(*[b if a is None else a if b is None else a + b for a, b in pairs])
