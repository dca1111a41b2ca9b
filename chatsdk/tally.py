"""What the calls of a client have used, by target."""

from __future__ import annotations

import threading
from typing import Any

import attrs

from chatsdk.messages import Usage

_COUNTED = [attribute.name for attribute in attrs.fields(Usage)]


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

    def both(name: str) -> Any:
        told = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        return sum(told) if told else None

    return Usage(**{name: both(name) for name in _COUNTED})
