"""Parts of messages and answers that are no text: media, and calls of functions."""

from __future__ import annotations

import json
from typing import Any

from chatsdk.records import field, frozen


@frozen
class ToolCall:
    """A call of a function that the model asks for.

    Attributes:
        id: The service's id of the call, or None where the protocol has none.
        name: The function's name.
        arguments: Its arguments, or None if ``raw`` is no JSON object.
        raw: The arguments as the text that came.
    """

    id: str | None
    name: str
    arguments: dict[str, Any] | None
    raw: str


def tool_call(id: str | None, name: str, raw: str) -> ToolCall:
    """Return the call with its arguments read, or None for them if they are no JSON object."""
    try:
        arguments = json.loads(raw)
    except (ValueError, RecursionError):
        arguments = None
    return ToolCall(id, name, arguments if isinstance(arguments, dict) else None, raw)


@frozen
class ToolCallPart:
    """A piece of a tool call: pieces with the same ``index`` belong together.

    Attributes:
        index: The call's place in the answer, from 0.
        id: Its id, in the piece that tells it.
        name: Its function, in the piece that tells it.
        arguments: A piece of the arguments' JSON text.
    """

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@frozen
class Media:
    """An image, a sound or a document in a message; `chatsdk.image` and its siblings make it.

    Attributes:
        kind: ``"image"``, ``"audio"`` or ``"document"``.
        mime: What it is: ``"image/png"``; None if only the service will find out, at its ``url``.
        data: Its bytes, or None if it has a ``url``.
        url: Where the service can fetch it, or None.
        name: The file's name, or None.
    """

    kind: str
    mime: str | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None
    name: str | None = None
