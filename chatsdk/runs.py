"""A run: the model asks for tools, they are called, and it goes on until it has an answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
import logging
from typing import Any, Protocol, Union

from chatsdk.advice import explain
from chatsdk.checks import messages_from
from chatsdk.errors import ChatError, TurnsExceededError, unknown
from chatsdk.messages import Delta, Message, Reply, Usage
from chatsdk.parts import ToolCall
from chatsdk.records import field, frozen
from chatsdk.streams import Stream
from chatsdk.tally import summed
from chatsdk.tools import Tool, tool_of

log = logging.getLogger(__name__)


class Asks(Protocol):
    """How a run asks the model."""

    def __call__(self, messages: list[Message], **params: Any) -> Stream:
        """Return the stream of an answer, checked and not yet sent."""


@frozen
class ToolResult:
    """What became of a tool call.

    Attributes:
        call: What the model asked for.
        text: What it is told: the function's result, or what went wrong.
        error: What the function raised, or what was wrong with the call; None if it went well.
    """

    call: ToolCall
    text: str
    error: Exception | None = None

    @property
    def message(self) -> Message:
        """The result as a message of role ``"tool"``."""
        return Message("tool", self.text, name=self.call.name, tool_call_id=self.call.id)


@frozen
class Run:
    """A run, or as much of it as there is.

    Attributes:
        messages: All of them: those given, the model's, and the results of its tools.
        replies: What the model said, turn by turn.
        results: What became of its tool calls, in order.
        usage: Tokens of all turns together, or None.
    """

    messages: tuple[Message, ...] = field(repr=False)
    replies: tuple[Reply, ...] = field(default=(), repr=False)
    results: tuple[ToolResult, ...] = ()
    usage: Usage | None = None

    @property
    def reply(self) -> Reply:
        """The last reply; an empty one before the first."""
        return self.replies[-1] if self.replies else Reply()

    @property
    def text(self) -> str:
        """The text of the last reply; ``str(run)`` is the same."""
        return self.reply.text

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        from chatsdk.views import conversation_markdown

        return conversation_markdown(self.messages)


Step = Union[Delta, ToolResult]


class RunStream:
    """A run as it happens: an iterator of str for one consumer, like `Stream`.

    Raises:
        TurnsExceededError: While iterating: the last turn that was allowed asked for tools.
        ChatError: A turn failed; its ``run`` is the run so far, its ``partial`` that turn.
    """

    def __init__(
        self, ask: Asks, messages: Any, tools: Any, *, max_turns: int, parallel: bool, params: Any
    ) -> None:
        """Check what was given; nothing is sent yet.

        Args:
            ask: Asks the model.
            messages: The question, as for `Client.chat`.
            tools: Functions that the model may call.
            max_turns: The most answers of the model.
            parallel: Whether the calls of one answer run in threads, all at once.
            params: Further parameters of `Client.chat`.
        """
        if type(max_turns) is not int or max_turns < 1:
            raise ValueError("max_turns must be an int of 1 or more")
        self._ask = ask
        self._tools = _by_name(tools)
        self._messages = list(messages_from(messages))
        self._max_turns = max_turns
        self._parallel = parallel
        self._params = dict(params)
        self._replies: list[Reply] = []
        self._results: list[ToolResult] = []
        self._usage: Usage | None = None
        self._stream = self._next_stream()
        self._steps = self._turns()

    def open(self) -> RunStream:
        """Send the question and wait until it is accepted; return the run itself."""
        self._stream.open()
        return self

    def read(self) -> Run:
        """Send the question, go through all turns, and return the whole run."""
        with self.open():
            for _ in self.steps():
                pass
        return self.run

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for step in self._steps:
            if isinstance(step, Delta) and step.text:
                return step.text
        raise StopIteration

    def steps(self) -> Iterator[Step]:
        """Yield steps instead of text: each `Delta`, and each `ToolResult` as it is there."""
        return self._steps

    @property
    def run(self) -> Run:
        """The run so far; a turn that is under way is not part of it yet."""
        replies, results = tuple(self._replies), tuple(self._results)
        return Run(tuple(self._messages), replies, results, self._usage)

    def close(self) -> None:
        """End the run; from any thread.  A function that is being called is not ended."""
        self._stream.close()

    def __enter__(self) -> RunStream:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _turns(self) -> Generator[Step, None, None]:
        try:
            for turn in range(1, self._max_turns + 1):
                yield from self._stream.deltas()
                calls = self._learn(self._stream.reply)
                if not calls:
                    return
                if turn < self._max_turns:
                    yield from self._call(calls)
                    self._params.pop("tool_choice", None)  # "required" would go on for ever
                    self._stream = self._next_stream()
                    self._stream.open()
            failed = TurnsExceededError(
                f"the model still asks for tools after {self._max_turns} turns",
                provider=self._replies[-1].provider, partial=self._replies[-1],
            )
            explain(failed)
            raise failed
        except ChatError as error:
            error.run = self.run
            raise

    def _next_stream(self) -> Stream:
        tools = [tool.schema for tool in self._tools.values()]
        return self._ask(self._messages, tools=tools, **self._params)

    def _learn(self, reply: Reply) -> tuple[ToolCall, ...]:
        self._replies.append(reply)
        self._messages.append(reply.message)
        if reply.usage is not None:
            self._usage = summed(self._usage, reply.usage) if self._usage else reply.usage
        return reply.tool_calls

    def _call(self, calls: tuple[ToolCall, ...]) -> Iterator[ToolResult]:
        """Yield the results in the order of the calls, each as soon as it is there."""
        for result in self._in_threads(calls) if self._parallel else map(self._called, calls):
            self._results.append(result)
            self._messages.append(result.message)
            yield result

    def _in_threads(self, calls: tuple[ToolCall, ...]) -> Iterator[ToolResult]:
        pool = ThreadPoolExecutor(len(calls), thread_name_prefix="chatsdk-tool")
        try:
            for future in [pool.submit(copy_context().run, self._called, call) for call in calls]:
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _called(self, call: ToolCall) -> ToolResult:
        try:
            if call.name not in self._tools:
                raise unknown(ValueError, "tool", call.name, list(self._tools))
            if call.arguments is None:
                raise ValueError("the arguments are no JSON object")
            return ToolResult(call, self._tools[call.name].run(call.arguments))
        except Exception as error:  # whatever it is, the model is told and may do better
            log.warning("tool %s failed: %s", call.name, type(error).__name__)
            return ToolResult(call, f"Error: {type(error).__name__}: {error}", error)


def _by_name(tools: Any) -> dict[str, Tool]:
    if not isinstance(tools, (list, tuple)):
        raise TypeError(f"tools must be a list of functions, not {type(tools).__name__}")
    if not tools:
        raise ValueError("tools is empty; without any, use chat")
    found: dict[str, Tool] = {}
    for n, item in enumerate(tools):
        if not callable(item):
            raise TypeError(
                f"tools[{n}] must be a function, which can be called, not {type(item).__name__}"
            )
        tool = tool_of(item)
        if tool.name in found:
            raise ValueError(f"tools holds two that are called {tool.name!r}")
        found[tool.name] = tool
    return found
