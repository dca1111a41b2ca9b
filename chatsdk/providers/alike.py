"""Frames of one answer that are alike but for a text: read without parsing all of each."""

from __future__ import annotations

from collections.abc import Callable
import json
from typing import Any

from chatsdk.errors import ChatError
from chatsdk.messages import Delta, step
from chatsdk.wire import parse

FIRST = 2  # frames before which nothing is looked for: the first text must not wait
TRIES = 8  # how many frames after them are looked at for what is the same in the next ones
PROBE = "probe"


class Alike:
    """Parses the events of one answer in OpenAI's form: 1 us less for a chunk.

    Most of them are, byte by byte, what the one before was, but for the text.  What stands before
    and after it is parsed and decoded once; a text between the two that has no quotes, escapes or
    control characters makes the same step with another text.  Any other frame is parsed as it is.

    Args:
        decode: Returns the step in an event.
    """

    def __init__(self, decode: Callable[[Any], Delta | None]) -> None:
        self._decode = decode
        self._before = self._after = b"\0"  # which no frame has
        self._begin, self._end = 1, -1
        self._delta = Delta()
        self._left = FIRST + TRIES

    def __call__(self, frame: bytes) -> Any:
        """Return the `Delta` in a frame that is alike, or the document in any other."""
        if frame.startswith(self._before) and frame.endswith(self._after):
            try:
                text = frame[self._begin:self._end].decode()
            except UnicodeDecodeError:
                return parse(frame)
            if text and text.isprintable() and '"' not in text and "\\" not in text:
                known = self._delta
                return step(text, known.model, _with_text(known.raw, text), None, known.id)
            return parse(frame)
        event = parse(frame)
        if self._left:
            self._left -= 1
            if self._left < TRIES:
                self._learn(frame, event)
        return event

    def _learn(self, frame: bytes, event: Any) -> None:
        """Remember what stands around the text, if a probe in its place shows that it is that."""
        try:
            (choice,) = event["choices"]
            quoted = json.dumps(choice["delta"]["content"], ensure_ascii=False).encode()
            at = frame.find(quoted)
            before, after = frame[:at] + b'"', b'"' + frame[at + len(quoted):]
            probed = parse(before + PROBE.encode() + after)
            delta = self._decode(probed)
        except (ChatError, TypeError, LookupError, ValueError):
            return
        beside = {**event, **choice, "choices": None, "delta": None}
        if not {dict, list}.isdisjoint(map(type, beside.values())):
            return  # these would be shared by the steps' raw frames
        if delta is None or probed != _with_text(event, PROBE):
            return
        if delta == step(PROBE, delta.model, probed, None, delta.id):
            self._before, self._after, self._delta = before, after, delta
            self._begin, self._end = len(before), -len(after)


def _with_text(event: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a copy of an event with another text, in which nothing else is nested."""
    (choice,), made = event["choices"], event.copy()
    changed = choice.copy()
    changed["delta"] = {"content": text}
    made["choices"] = [changed]
    return made
