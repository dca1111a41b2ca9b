"""The inputs of a map: what a caller may give, and how each fares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

from chatsdk.checks import messages_from
from chatsdk.messages import Message, Reply
from chatsdk.records import define

Outcome = Union[Reply, Exception]


@define(eq=False)
class Item:
    """One input on its way.

    Attributes:
        index: Its place among all.
        given: What the caller gave.
        key: The caller's own name for it, or None.
        messages: The question.
        outcome: What became of it, or None as long as that is open.
        id: Its name in the journal.
        ours: Whether it is this one's to ask; else the same question is under way already.
    """

    index: int
    given: Any
    key: str | int | None = None
    messages: tuple[Message, ...] = ()
    outcome: Outcome | None = None
    id: bytes = b""
    ours: bool = True


def item_from(index: int, given: Any) -> Item:
    """Return an input: a str, messages, or ``(key, messages)``; a wrong one is failed already."""
    key, messages = None, given
    if isinstance(given, tuple) and len(given) == 2 and _is_key(given[0]):
        key, messages = given
    try:
        return Item(index, given, key, messages_from(messages))
    except (TypeError, ValueError) as error:
        outcome = type(error)(f"inputs[{index}]: {error}")
        return Item(index, given, key, outcome=outcome)


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def check_inputs(inputs: Any) -> None:
    """Refuse inputs that are one question, or none.

    Raises:
        TypeError: Says what they are.
    """
    if isinstance(inputs, (str, bytes, Mapping, Message)) or not isinstance(inputs, Iterable):
        raise TypeError(
            "inputs must be an iterable of questions (str, messages or (key, messages)),"
            f" not {type(inputs).__name__}"
        )
