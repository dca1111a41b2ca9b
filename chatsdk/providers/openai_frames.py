"""What frames of OpenAI's Chat Completions say, in the words of all who speak it."""

from __future__ import annotations

from collections.abc import Mapping
import json
import reprlib
from typing import Any, Protocol

from chatsdk.errors import ProviderError, quoted, StreamInterruptedError
from chatsdk.messages import Delta, Usage
from chatsdk.parts import ToolCallPart
from chatsdk.providers.base import count, member
from chatsdk.providers.thoughts import Kept, ThinkTags
from chatsdk.records import evolve
from chatsdk.wire import malformed

FINISH = {
    "function_call": "tool_calls",
    "model_length": "length",
    "max_tokens": "length",
    "eos": "stop",
    "end_turn": "stop",
}
FAILED = {  # finish reasons that report a failure, and whether the same may go well again
    "error": False,
    "insufficient_system_resource": True,
}
TRANSIENT = (408, 429, 500, 502, 503, 504, 529)
PASSING = ("server_error", "overloaded", "rate_limit", "timeout", "unavailable", "api_error")


class Habits(Protocol):
    """What reading needs to know of a service."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """What it wants back with the next question."""

    @property
    def think_tags(self) -> bool:
        """Whether its models write reasoning between tags."""


class Reading:
    """One answer being read: what a single event does not tell.

    Attributes:
        plain: Whether a step of mere text needs no look: no tag can begin any more.
    """

    def __init__(self, habits: Habits) -> None:
        self.plain = not habits.think_tags
        self._name = habits.name
        self._tags = ThinkTags() if habits.think_tags else None
        self._kept = Kept(habits.keeps) if habits.keeps else None
        self._finished = self._refused = False
        self._marked = False
        self._slots: dict[int, int] = {}  # the service's index of a call -> ours
        self._ids: list[str | None] = []
        self._blank: set[int] = set()  # calls without a word of arguments so far

    def is_whole(self) -> bool:
        """Return whether the mark was there, at the end of the body.

        Raises:
            StreamInterruptedError: There was no finish reason either.
        """
        if not (self._finished or self._marked):
            raise StreamInterruptedError(
                f"the answer of {self._name} ended without a finish reason", retryable=True
            )
        return self._marked

    def keep(self, reasoning: str, state: Mapping[str, Any] | None) -> None:
        """Remember what the service wants back."""
        if self._kept is not None:
            self._kept.add(reasoning, state)

    def step(self, delta: Delta) -> Delta:
        """Return a step as it should be."""
        changes: dict[str, Any] = {}
        if self._tags is not None and delta.text:
            reasoning, text = self._tags.feed(delta.text)
            changes.update(text=text, reasoning=delta.reasoning + reasoning)
            self.plain = self._tags.through
        if delta.state is not None:
            self._refused = self._refused or "refused" in delta.state
            changes["state"] = None
        self.keep(changes.get("reasoning", delta.reasoning), delta.state)
        if delta.tool_calls:
            changes["tool_calls"] = tuple(map(self._placed, delta.tool_calls))
        if delta.finish_reason:
            self._finished = True
            if self._refused:
                changes["finish_reason"] = "content_filter"
        if delta.final:
            self._marked = True
        if delta.finish_reason or delta.final:
            self._end(delta, changes)
        return evolve(delta, **changes) if changes else delta

    def _end(self, delta: Delta, changes: dict[str, Any]) -> None:
        """Add what is left to the step that ends the answer."""
        if self._tags is not None:
            reasoning, text = self._tags.rest()
            changes["text"] = changes.get("text", delta.text) + text
            changes["reasoning"] = changes.get("reasoning", delta.reasoning) + reasoning
        if self._blank and delta.finish_reason in ("tool_calls", "stop"):
            # No arguments, which some spell as nothing at all.
            empty = tuple(ToolCallPart(slot, arguments="{}") for slot in sorted(self._blank))
            changes["tool_calls"] = changes.get("tool_calls", delta.tool_calls) + empty
            self._blank.clear()
        state = self._kept.state() if self._kept is not None else None
        if state:
            changes["state"] = state

    def rest(self) -> Delta | None:
        """Return what was held back when the answer broke, or None."""
        reasoning, text = self._tags.rest() if self._tags is not None else ("", "")
        return Delta(text, reasoning=reasoning) if reasoning or text else None

    def _placed(self, part: ToolCallPart) -> ToolCallPart:
        """Return a piece of a call at its place; not every server numbers its calls well."""
        slot = self._slots.get(part.index)
        if slot is None and part.index < 0 and not (part.id or part.name):
            slot = len(self._ids) - 1  # goes on with the last one
        other = slot is not None and slot >= 0 and part.id and part.id != self._ids[slot]
        named_again = part.index < 0 and part.name and not part.id
        if slot is None or slot < 0 or (other and self._ids[slot]) or named_again:
            slot = len(self._ids)
            self._ids.append(part.id)
            self._blank.add(slot)
        self._slots[part.index] = slot
        self._ids[slot] = part.id or self._ids[slot]
        if part.arguments.strip():
            self._blank.discard(slot)
        return evolve(part, index=slot)


def usage_in(told: Any) -> Usage | None:
    """Return the tokens that a service tells; reasoning counts as a part of the answer.

    Sources: DeepSeek has ``prompt_cache_hit_tokens``, OpenRouter ``cost``, Perplexity an object
    of costs; xAI leaves reasoning out of ``completion_tokens``, which its total shows.
    """
    if not isinstance(told, dict):
        return None
    prompt, said = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    cached = count(prompt, "cached_tokens") if isinstance(prompt, dict) else None
    reasoning = count(said, "reasoning_tokens") if isinstance(said, dict) else None
    sent, made = count(told, "prompt_tokens"), count(told, "completion_tokens")
    total = count(told, "total_tokens")
    if reasoning and made is not None and (sent or 0) + made + reasoning == total:
        made += reasoning
    cost = told.get("cost")
    cost = cost.get("total_cost") if isinstance(cost, dict) else cost
    found = Usage(
        sent,
        made,
        total,
        count(told, "prompt_cache_hit_tokens") if cached is None else cached,
        reasoning,
        float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None,
    )
    return None if found == _NO_USAGE else found


_NO_USAGE = Usage()


def groq_usage(event: Mapping[str, Any]) -> Usage | None:
    """Return what Groq tells beside; it may report a failure there, too."""
    beside = event.get("x_groq")
    if not isinstance(beside, dict):
        return None
    if beside.get("error"):
        raise ProviderError(f"groq failed inside its answer: {quoted(beside['error'])}")
    return usage_in(beside.get("usage"))


def reasoning_in(said: Mapping[str, Any]) -> str:
    """Return the reasoning under either of its names; some servers fill in both with the same."""
    told = said.get("reasoning_content") or said.get("reasoning")
    return told if isinstance(told, str) else ""


def parts_in(content: Any) -> tuple[str, str]:
    """Return the text and the reasoning of a content, which is in parts from Mistral's models."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise malformed("the content is neither a text nor a list", reprlib.repr(content))
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            raise malformed("a part of the content is no JSON object", reprlib.repr(part))
        if part.get("type") == "thinking":
            thoughts += parts_in(part.get("thinking") or "")
        else:
            texts.append(member(part, "text", str) or "")
    return "".join(texts), "".join(thoughts)


def calls_in(said: Mapping[str, Any]) -> tuple[ToolCallPart, ...]:
    """Return the pieces of calls; -1 stands for an index that is not told."""
    parts = []
    for call in member(said, "tool_calls", list) or ():
        if not isinstance(call, dict):
            raise malformed("a tool call is no JSON object", reprlib.repr(call))
        index = count(call, "index")
        place = -1 if index is None or index < 0 else index
        function = member(call, "function", dict) or {}
        parts.append(_call(place, member(call, "id", str), function))
    old = member(said, "function_call", dict)
    return (*parts, _call(0, None, old)) if old else tuple(parts)


def _call(place: int, id: str | None, function: Mapping[str, Any]) -> ToolCallPart:
    arguments = function.get("arguments")
    if arguments is None:
        arguments = ""
    elif not isinstance(arguments, str):  # an object, as some servers have it
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCallPart(place, id or None, member(function, "name", str) or None, arguments)
