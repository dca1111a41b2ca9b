"""Reasoning on its way: tags told apart from the text, and what a service wants back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatsdk.errors import ChatError
from chatsdk.messages import Delta
from chatsdk.records import evolve

_TAGS = {f"<{word}>": f"</{word}>" for word in ("think", "thinking", "thought")}
_GROWING = ("text", "summary", "data", "signature")  # members of reasoning_details in pieces


class ThinkTags:
    """Tells reasoning in tags from the text after it, wherever the pieces are cut.

    Only what an answer begins with is taken for reasoning: an answer may well speak of the tags.

    Attributes:
        through: Whether the text has begun, and the pieces need no look any more.
    """

    def __init__(self) -> None:
        self.through = False
        self._held = ""  # what may yet become a tag, or is blank before the text
        self._close = ""  # the tag that ends the reasoning, while there is some
        self._thought = False

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text that a piece completes."""
        reasoning = ""
        self._held += piece
        while self._held and not self.through:
            if not self._close and not self._opened():
                break
            if self._close:
                found, ended = self._until_close()
                reasoning += found
                if not ended:
                    break
        if not self.through:
            return reasoning, ""
        text, self._held = self._held, ""
        return reasoning, text

    def rest(self) -> tuple[str, str]:
        """Return what is left at the end, as reasoning or as text."""
        rest, self._held = self._held, ""
        return (rest, "") if self._close else ("", "" if self._thought and rest.isspace() else rest)

    def _opened(self) -> bool:
        """Look for an opening tag; return False while it takes more to know."""
        begins = self._held.lstrip()
        for tag, close in _TAGS.items():
            if begins.startswith(tag):
                self._held, self._close = begins[len(tag):], close
                return True
        if any(tag.startswith(begins) for tag in _TAGS):
            return False
        if self._thought:
            self._held = begins  # blank lines after the reasoning are no text
        self.through = True
        return True

    def _until_close(self) -> tuple[str, bool]:
        found, close, after = self._held.partition(self._close)
        if close:
            self._held, self._close, self._thought = after, "", True
            return found, True
        for size in range(min(len(self._close) - 1, len(self._held)), 0, -1):
            if self._held.endswith(self._close[:size]):
                self._held = found[-size:]
                return found[:-size], False
        self._held = ""
        return found, False


def told_apart(deltas: Iterator[Delta]) -> Iterator[Delta]:
    """Yield steps whose text holds no reasoning in tags; what was held back is never lost."""
    tags = ThinkTags()
    try:
        for delta in deltas:
            if tags.through or not (delta.text or delta.final):
                yield delta
                continue
            reasoning, text = tags.feed(delta.text)
            if delta.final:
                more, rest = tags.rest()
                reasoning, text = reasoning + more, text + rest
            delta = evolve(delta, text=text, reasoning=delta.reasoning + reasoning)
            if text or delta.reasoning or delta.tool_calls or delta.final:
                yield delta
    except ChatError:
        reasoning, text = tags.rest()
        if reasoning or text:
            yield Delta(text, reasoning=reasoning)
        raise


class Kept:
    """What a service wants back with the next question, summed up from pieces.

    Args:
        names: Members of a message: ``"reasoning_content"``, ``"reasoning_details"``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._texts: list[str] = []
        self._details: list[dict[str, Any]] = []

    def add(self, reasoning: str, state: Mapping[str, Any] | None) -> None:
        """Add a piece of reasoning, and of its details."""
        if reasoning:
            self._texts.append(reasoning)
        for detail in (state or {}).get("reasoning_details") or ():
            self._add(detail)

    def state(self) -> dict[str, Any]:
        """Return the sum, empty if there is none."""
        found = {"reasoning_content": "".join(self._texts), "reasoning_details": self._details}
        return {name: found[name] for name in self._names if found.get(name)}

    def _add(self, detail: Any) -> None:
        """Join a piece to the one before it, if both are of the same place and type."""
        last = self._details[-1] if self._details else {}
        if not isinstance(detail, dict):
            return
        if not last or any(detail.get(name) != last.get(name) for name in ("index", "type")):
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            old = last.get(name)
            if name in _GROWING and isinstance(value, str) and isinstance(old, str):
                last[name] = old + value
            elif value is not None:
                last[name] = value
