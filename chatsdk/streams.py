"""A stream: passes the steps of an answer on, sums them up, and closes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
import threading
import time
from typing import Any, Protocol, TYPE_CHECKING

from chatsdk.errors import CancelledError, ChatError
from chatsdk.messages import Delta, Reply, Usage
from chatsdk.records import evolve

if TYPE_CHECKING:
    from chatsdk.parts import ToolCall, ToolCallPart
    from chatsdk.ratelimits import RateLimits


class Call(Protocol):
    """The call that a stream reads: who answers, and how to end it from another thread."""

    provider: str | None
    model: str | None

    def cancel(self, *, hurry: bool = False) -> None:
        """End it."""

    def abort(self) -> None:
        """End its clean-up as well."""

    def count(self, usage: Usage) -> None:
        """Note the tokens of the answer."""

    def limits(self) -> RateLimits | None:
        """Return what the answer's headers say of the account's limits."""


class Stream:
    """The answer to one question as it arrives: an iterator of str for one consumer.

    Use it in a ``for`` loop, or ``with`` it where the loop may be left early.  It closes its
    connection at its end, on an error, on `close`, and when nobody holds it any more.

    Raises:
        StreamInterruptedError: While iterating: the body ended before the answer did.
        APITimeoutError: No data for `Timeout.read` s, or `Timeout.total` s are over.
        CancelledError: Another thread closed the stream.
        ChatError: Any other failure; its ``partial`` has the text so far.
    """

    _told: Callable[[Reply, BaseException | None], None] | None = None

    def __init__(
        self,
        call: Call,
        steps: Generator[Delta | None, None, None],
        *,
        clock: Callable[[], float] = time.monotonic,
        whole: Callable[[Reply], None] | None = None,
        closed: Callable[[], None] | None = None,
        told: Callable[[Reply, BaseException | None], None] | None = None,
        response_format: Any = None,
    ) -> None:
        """Make a stream of steps.

        Args:
            call: The call behind them.
            steps: The steps; None where an answer was accepted and none of it has come.
            clock: Gives monotonic time in s.
            whole: Is handed the reply once it is complete.
            closed: Is called when the stream has ended, however it did.
            told: Is called once, with the reply so far and the error, when it has ended after
                it was opened; without an error also if it was left early.
            response_format: What the answer was asked to be.
        """
        self._call = call
        self._steps = steps
        self._clock = clock
        self._whole = whole
        self._closed = closed
        self._listener = told
        self._response_format = response_format
        self._began = clock()
        self._ended: float | None = None
        self._first: float | None = None
        self._closer: int | None = None  # the thread that closed it before its end
        # Bytes: a StringIO keeps each piece that was written, 54 bytes for a word.
        self._text = bytearray()
        self._reasoning = bytearray()
        self._text_mender = _Mender()
        self._reasoning_mender = _Mender()
        self._calls: dict[int, _CallSum] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._model: str | None = None
        self._id: str | None = None
        self._state: dict[str, Any] = {}
        self._raw: Any = None

    def open(self) -> Stream:
        """Send the question and wait until it is accepted; return the stream itself."""
        self._told = self._listener
        try:
            next(self._steps)
        except BaseException as error:
            if isinstance(error, ChatError):
                error.provider = error.provider or self._call.provider
            self._end()
            self._tell(error)
            raise
        return self

    def read(self) -> Reply:
        """Send the question and return the whole answer."""
        self.open()
        try:
            while True:
                self._step()
        except StopIteration:
            return self.reply
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            text = self._step().text
            if text:
                return text

    def deltas(self) -> Iterator[Delta]:
        """Yield steps instead of text: reasoning, pieces of tool calls and usage as well."""
        return iter(self._step, None)

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text.decode()

    @property
    def closed(self) -> bool:
        """Whether it was closed before its end."""
        return self._closer is not None

    @property
    def reply(self) -> Reply:
        """The reply so far."""
        now = self._clock() if self._ended is None else self._ended
        return Reply(
            text=self.text,
            model=self._model or self._call.model,
            provider=self._call.provider,
            finish_reason=self._finish,
            usage=self._usage,
            tool_calls=tuple(self._calls[index].whole() for index in sorted(self._calls)),
            reasoning=self._reasoning.decode(),
            id=self._id,
            elapsed=now - self._began,
            first_text_after=None if self._first is None else self._first - self._began,
            raw=self._raw,
            state=self._state or None,
            limits=self._call.limits(),
            response_format=self._response_format,
        )

    def display(self) -> Stream:
        """Read to the end and show the text meanwhile; return the stream, for its `reply`.

        In a notebook it is one output that is changed at most 20 times a second, and Markdown at
        the end; elsewhere the text is written to the standard output as it comes.  After the stop
        button, or an error, what has come stays visible, marked, and the stream is in ``_``.
        """
        from chatsdk.notebook import display_stream

        display_stream(self)
        return self

    def _ipython_display_(self) -> None:
        from chatsdk.notebook import display_again

        display_again(self)

    def close(self) -> None:
        """Close the connection; from any thread, also while another one reads."""
        if self._closer is None:
            self.cancel()
        self._finish_steps()

    def cancel(self, *, hurry: bool = False) -> None:
        """End the call at once and leave its clean-up to the thread that reads.

        Args:
            hurry: Whether the program is about to end, so that the clean-up must be short.
        """
        if self._ended is None:
            self._closer = self._closer or threading.get_ident()
            self._call.cancel(hurry=hurry)

    def abort(self) -> None:
        """End the call and what it still sends as clean-up, now, from any thread."""
        self.cancel(hurry=True)
        self._call.abort()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _step(self) -> Delta:
        """Return the next step, whatever happens on the way."""
        if self._closer is not None:
            self._refuse()
        try:
            delta = next(self._steps)
            while delta is None:
                delta = next(self._steps)
        except StopIteration:
            return self._last()
        except ChatError as error:
            raise self._failed(error) from error.__cause__
        except BaseException as error:
            error.partial = self.reply  # type: ignore[attr-defined]  # Ctrl-C loses no text either
            self._end()
            self._tell(error)
            raise
        delta = self._add(delta)
        if self._closer is not None:
            self._refuse()
        return delta

    def _last(self) -> Delta:
        """End the stream; a half of a surrogate pair that is left is the last text."""
        if self._closer is not None and self._ended is None:
            self._refuse()
        if self._text_mender.half or self._reasoning_mender.half:
            text, reasoning = self._text_mender.rest(), self._reasoning_mender.rest()
            return self._add(Delta(text, reasoning=reasoning))
        if self._ended is None:
            self._end()
            if self._whole is not None:
                self._whole(self.reply)
            self._tell(None)
        raise StopIteration

    def _refuse(self) -> None:
        """Tell a reader that the stream was closed before its end."""
        if self._closer == threading.get_ident():
            self._finish_steps()
            raise StopIteration
        from chatsdk.advice import explain

        error = CancelledError("the stream was closed by another thread")
        explain(error, target=f"{self._call.provider}:{self._call.model}")
        raise self._failed(error)

    def _failed(self, error: ChatError) -> ChatError:
        self._text += self._text_mender.rest().encode()
        self._reasoning += self._reasoning_mender.rest().encode()
        self._end()
        error.partial = self.reply
        error.provider = error.provider or self._call.provider
        self._tell(error)
        return error

    def _finish_steps(self) -> None:
        try:
            self._steps.close()
        except ValueError:
            return  # another thread is reading: it sees that the stream is closed, and ends it
        self._end()
        self._tell(None)

    def _end(self) -> None:
        if self._ended is None:
            self._ended = self._clock()
            with suppress(ValueError):  # the thread that closes it is at it already
                self._steps.close()
            if self._usage is not None:
                self._call.count(self._usage)
            if self._closed is not None:
                self._closed()

    def _tell(self, error: BaseException | None) -> None:
        tell, self._told = self._told, None
        if tell is not None:
            tell(self.reply, error)

    def __del__(self) -> None:
        if self._told is not None:  # left early, and not closed: that is its end
            self._finish_steps()

    def _add(self, delta: Delta) -> Delta:
        """Add a step to the sum, and return it with its text put in order."""
        text, reasoning = delta.text, delta.reasoning
        if text:
            if not text.isascii() or self._text_mender.half:
                text = self._text_mender.mended(text)
            self._text += text.encode()
            if text and self._first is None:
                self._first = self._clock()
        if reasoning:
            if not reasoning.isascii() or self._reasoning_mender.half:
                reasoning = self._reasoning_mender.mended(reasoning)
            self._reasoning += reasoning.encode()
        if text is not delta.text or reasoning is not delta.reasoning:
            delta = evolve(delta, text=text, reasoning=reasoning)
        for part in delta.tool_calls:
            self._calls.setdefault(part.index, _CallSum()).add(part)
        if delta.raw is not None:
            self._raw = delta.raw
        if delta.model:
            self._model = delta.model
        if delta.usage:
            self._usage = delta.usage
        if delta.finish_reason:
            self._finish = delta.finish_reason
        if delta.id:
            self._id = delta.id
        if delta.state:
            self._state.update(delta.state)
        return delta


class _Mender:
    """Puts surrogate pairs together, also those that JSON escapes spread over two texts.

    A half that is left alone becomes U+FFFD; one at the end of a text waits for the next.
    """

    half = ""

    def mended(self, text: str) -> str:
        """Return the text in order; it is the same where it is all ASCII and no half waits."""
        text, self.half = self.half + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            self.half, text = text[-1], text[:-1]
        return _printable(text)

    def rest(self) -> str:
        """Return what is left at the end."""
        rest = "\ufffd" if self.half else ""
        self.half = ""
        return rest


def _printable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _CallSum:
    """A tool call that comes in pieces."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._raw: list[str] = []

    def add(self, part: ToolCallPart) -> None:
        self._id = part.id or self._id
        self._name = part.name or self._name
        self._raw.append(part.arguments)

    def whole(self) -> ToolCall:
        from chatsdk.parts import tool_call

        return tool_call(self._id, self._name, _printable("".join(self._raw)))
