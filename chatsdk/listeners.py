"""Who is told of a call: hooks of the process, of a client, and of the call itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from chatsdk.hooks import Hooks

NAMES = ("on_request", "on_retry", "on_reply", "on_error")

# Those for all clients of this process, by the name of who put them there.  It is replaced as a
# whole, so that a call reads it without a lock.
everywhere: Mapping[str, Hooks] = {}


def attach(name: str, hooks: Hooks | None) -> None:
    """Let all clients of this process tell these hooks from their next call on; None: no more."""
    global everywhere
    others = {known: value for known, value in everywhere.items() if known != name}
    everywhere = others if hooks is None else {**others, name: hooks}


def listeners(
    attached: Mapping[str, Hooks], own: Hooks | None, params: Mapping[str, Any]
) -> tuple[Hooks, ...]:
    """Return who is told of a call: the process's hooks, the client's, and the call's own.

    Raises:
        TypeError: A hook among the call's parameters is not callable.
    """
    found: list[Hooks] = []
    if everywhere or attached:
        found.extend({**everywhere, **attached}.values())
    if own is not None:
        found.append(own)
    if not params.keys().isdisjoint(NAMES):
        from chatsdk.hooks import Hooks

        found.append(Hooks(**{name: params[name] for name in NAMES if name in params}))
    return tuple(found)
