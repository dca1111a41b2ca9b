"""What is said: messages, the question, the steps of an answer and the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
from typing import Any, TYPE_CHECKING

from chatsdk.errors import ExtractionError
from chatsdk.records import field, fields, frozen

if TYPE_CHECKING:
    from chatsdk.parts import Media, ToolCall, ToolCallPart
    from chatsdk.ratelimits import RateLimits


@frozen
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``.
        content: The text; or a tuple of texts and `Media` in their order.
        name: For role ``"tool"``: the function whose result this is.
        tool_call_id: For role ``"tool"``: the call whose result this is, where calls have ids.
        tool_calls: For role ``"assistant"``: the calls that the model asked for.
        state: What the service wants back untouched, as it came in `Reply.message`.
    """

    role: str
    content: str | tuple[str | Media, ...] = ""
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    state: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The text of all parts, without media."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def media(self) -> tuple[Media, ...]:
        """The parts that are no text."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if not isinstance(part, str))


@frozen
class Usage:
    """Tokens of the language model; None is what the service does not tell.

    Attributes:
        prompt_tokens: Tokens of the question, cached ones included.
        completion_tokens: Tokens of the answer.
        total_tokens: Both.
        cached_tokens: The part of the question that was served from a cache.
        reasoning_tokens: The part of the answer that was reasoning.
        cost: What the service itself says that it charges, in US dollars.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None


@frozen(weakref_slot=False)  # else no other class could have the same slots
class Delta:
    """One step of a stream; an attribute that this step does not tell is empty or None.

    Attributes:
        text: The next piece of the answer.
        finish_reason: Why the answer ended.
        usage: Tokens so far, or of the whole.
        reasoning: The next piece of the model's reasoning.
        tool_calls: Pieces of tool calls.
        final: True if this step is the protocol's mark that the answer is whole.
        model: The model that answers, in the service's words.
        id: The service's id of the answer.
        state: What the service wants back with the next question.
        raw: The decoded frame.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    final: bool = False
    model: str | None = None
    id: str | None = None
    state: Mapping[str, Any] | None = None
    raw: Any = field(default=None, repr=False)


class _Step:
    """A `Delta` that is a text, while it is made; making one gives the finished Delta.

    A frozen class of attrs sets its attributes one by one through `object`: 0.85 us for a Delta,
    and one is made for every chunk.  Made open and then closed it takes 0.25 us.
    """

    __slots__ = tuple(attribute.name for attribute in fields(Delta))

    def __init__(
        self,
        text: str,
        model: str | None = None,
        raw: Any = None,
        usage: Usage | None = None,
        id: str | None = None,
    ) -> None:
        self.text = text
        self.finish_reason = None
        self.usage = usage
        self.reasoning = ""
        self.tool_calls = ()
        self.final = False
        self.model = model
        self.id = id
        self.state = None
        self.raw = raw
        self.__class__ = Delta  # type: ignore[assignment]  # of the same slots


step: Callable[..., Delta] = _Step  # type: ignore[assignment]  # the quick way to make a Delta


@frozen
class Reply:
    """The answer to one question; a stream that broke has a partial one.

    Attributes:
        text: The text; ``str(reply)`` is the same.
        model: The model that answered, in the service's words where it tells.
        provider: The service's name.
        finish_reason: ``"stop"``, ``"length"``, ``"tool_calls"``, ``"content_filter"``, a word of
            the service that no table knows, or None while incomplete and where none is told.
        usage: Tokens, or None.
        tool_calls: Functions that the model asks for.
        reasoning: The model's reasoning as text, or "".
        id: The service's id of the answer, or None.
        elapsed: Seconds from the call to the end, or so far.
        first_text_after: Seconds from the call to the first text, or None.
        raw: The decoded last body or frame, for what has no field.
        state: What the service wants back with the next question; `message` carries it.
        limits: What the answer's headers say of the account's limits, or None.
        response_format: The type or schema that was asked for, or None; `parse` goes by it.
    """

    text: str = ""
    model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    id: str | None = None
    elapsed: float = 0.0
    first_text_after: float | None = None
    raw: Any = field(default=None, repr=False)
    state: Mapping[str, Any] | None = field(default=None, repr=False)
    limits: RateLimits | None = field(default=None, repr=False)
    response_format: Any = field(default=None, repr=False)

    @property
    def message(self) -> Message:
        """The reply as a message, to append to the history."""
        return Message("assistant", self.text, tool_calls=self.tool_calls, state=self.state)

    @property
    def cost(self) -> float | None:
        """What the answer costs in US dollars, or None where that is unknown.

        What the service itself says comes first; else it is the price list of
        ``chatsdk[cost]``.

        Raises:
            ConfigurationError: That extra is not installed, and the service says nothing.
        """
        from chatsdk.costs import cost_of

        return cost_of(self.provider, self.model, self.usage)

    def parse(self, kind: Any = None) -> Any:
        """Return the text, which is JSON, as an object.

        Args:
            kind: A type with a JSON schema, see `chatsdk.tool`; None: the ``response_format`` of
                the call, and plain JSON values if that was no type.

        Raises:
            ExtractionError: The text is no JSON, or not of that type; the message says where.
        """
        from chatsdk.schemas import build

        wanted = self.response_format if kind is None else kind
        try:
            value = json.loads(self.text)
            return value if wanted is None or isinstance(wanted, Mapping) else build(wanted, value)
        except (ValueError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise ExtractionError(
                f"the answer is not what was asked for: {reason}",
                provider=self.provider, partial=self, attempts=[self], errors=[reason],
            ) from error

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        from chatsdk.views import reply_markdown

        return reply_markdown(self)


@frozen(kw_only=True)
class Query:
    """What is asked, in nobody's dialect; None is "the service's default".

    Attributes:
        messages: At least one.
        model: The language model.
        stream: Whether the answer should come in pieces.
        temperature: Randomness, 0 or more.
        max_tokens: The most tokens of the answer.
        top_p: Nucleus sampling, 0 to 1.
        stop: Texts that end the answer.
        seed: For repeatable sampling.
        tools: Functions in OpenAI's shape.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or a function in OpenAI's shape.
        response_format: The shape that the answer must have, a dict in OpenAI's form.
        reasoning_effort: ``"low"``, ``"medium"``, ``"high"`` or the service's own word.
        extra_body: Merged into the request's body last.
        extra_headers: Added to the request's headers last.
        options: Further parameters that only this provider knows.
    """

    messages: tuple[Message, ...] = field(repr=False)
    model: str | None = None
    stream: bool = True
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    tool_choice: Any = None
    response_format: Any = None
    reasoning_effort: str | None = None
    extra_body: Mapping[str, Any] = field(factory=dict, repr=False)
    extra_headers: Mapping[str, str] = field(factory=dict, repr=False)
    options: Mapping[str, Any] = field(factory=dict)
