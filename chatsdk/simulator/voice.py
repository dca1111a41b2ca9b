"""How a service speaks: text put into its own frames."""

from __future__ import annotations

import json
from typing import Any

#: What is thought before it speaks, under the scenario "reasoning".
THOUGHTS = ("Let me ", "think: ", "a greeting ", "wants an answer.")


class Voice:
    """One answer being put into a service's frames; made anew for each chat.

    Attributes:
        whole: Nothing is sent before the end: the answer is one document.
        lines: Frames are made of lines, so that line ends may vary. Not so for raw text.
        heartbeat: What the service may send in silence; empty if nothing is possible.
        noise: Frames that carry no text and that a client has to pass over.
        malformed: A frame that can't be read.
        error: A frame that reports a failure; empty if the service can only hang up.
        tool: Name and arguments of a function to call instead of speaking.
        stop: The stop sequence that ends the answer, if one does.
        scenario: Name of the scenario, for the few that change the frames themselves.
    """

    whole = False
    lines = True
    heartbeat = b"\n"
    noise: tuple[bytes, ...] = (b"\n",)
    malformed = b'{"broken\n'
    error = b""
    tool: tuple[str, dict[str, Any]] | None = None
    stop = ""
    scenario = "normal"

    def __init__(self) -> None:
        self.said: list[str] = []

    def text(self, piece: str) -> bytes:
        """Return the frame with a piece of text and remember the piece."""
        self.said.append(piece)
        return self.frame(piece)

    def frame(self, piece: str) -> bytes:
        """Return the frame with a piece of text."""
        raise NotImplementedError

    def failed(self) -> bytes:
        """Return the frame that reports a failure now."""
        return self.error

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the frames that end an answer.

        Args:
            reason: ``"stop"``, ``"length"`` or ``"stop_sequence"``.
            last: Text not yet said; it may share a frame with the end mark.
        """
        return [self.text(last)] if last else []


class Whole(Voice):
    """An answer in one piece: nothing comes before its end."""

    whole = True
    lines = False
    heartbeat = b" "  # a blank before a JSON document means nothing
    noise = (b" ",)
    malformed = b'{"broken'

    def __init__(self, body: bytes = b"") -> None:
        super().__init__()
        self.body = body

    def frame(self, piece: str) -> bytes:
        """Return nothing: the text waits for the end."""
        return b""

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the document as the only frame."""
        self.said.append(last)
        return [self.document(reason)]

    def document(self, reason: str) -> bytes:
        """Return the whole body."""
        return self.body


def compact(value: object) -> bytes:
    """Return JSON without blanks, in unescaped UTF-8, as the services write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
