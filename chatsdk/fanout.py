"""One question to many targets: calls get their threads here.

It is handed functions that prepare calls, and knows no client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
import math
from queue import Empty, SimpleQueue
import threading
import time
from typing import Any

from chatsdk.advice import explain
from chatsdk.crew import bare, Crew
from chatsdk.errors import AllFailedError, APITimeoutError, CancelledError, ChatError
from chatsdk.messages import Reply
from chatsdk.results import Answer
from chatsdk.streams import Stream

AHEAD = 64  # pieces of text that `stream_all` holds at most before it makes its readers wait

Starts = Mapping[Any, Callable[[], Stream]]  # by target: gives a stream that was not opened yet


def check_workers(max_workers: Any) -> int:
    """Return a number of threads.

    Raises:
        TypeError: It is no int.
        ValueError: It is below 1.
    """
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        raise TypeError(f"max_workers must be an int, not {type(max_workers).__name__}")
    if max_workers < 1:
        raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
    return max_workers


def check_seconds(name: str, value: Any, *, least: float = 0.0) -> float:
    """Return a number of seconds, finite and not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be {least:g} or more and finite, not {value!r}")
    return float(value)


class FanOut:
    """The answers of several targets to one question, in the order in which they complete.

    Iterate it for an `Answer` from each target, or ask it for `replies` and `errors`.  Leaving the
    loop early, `close` and leaving its ``with`` block end every call that still runs; its answer is
    a `CancelledError` then, with the text so far.
    """

    def __init__(
        self,
        asked: Any,
        starts: Starts,
        *,
        max_workers: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Begin to ask.

        Args:
            asked: The question, for `Answer.input`.
            starts: The calls by target.
            max_workers: How many run at once; None: all.
            timeout: Seconds for all of it; what is not in by then is an `APITimeoutError`.
        """
        workers = len(starts) if max_workers is None else check_workers(max_workers)
        if timeout is not None:
            timeout = check_seconds("timeout", timeout)
        self._iterated = False
        self._work = _Gathering(asked, starts, min(workers, len(starts)))
        self._work.begin(timeout)

    def __iter__(self) -> Iterator[Answer]:
        self._iterated = True
        try:
            yield from self._work.arriving()
        finally:
            self.close()

    @property
    def replies(self) -> dict[Any, Reply]:
        """The good replies by target; inside a loop over this those so far, else all."""
        return {answer.target: answer.reply for answer in self._known() if answer.reply}

    @property
    def errors(self) -> dict[Any, Exception]:
        """The errors by target; inside a loop over this those so far, else all."""
        return {answer.target: answer.error for answer in self._known() if answer.error}

    def close(self) -> None:
        """End what still runs, from any thread, without waiting for its clean-up."""
        self._work.end()

    def __enter__(self) -> FanOut:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._work.end(hurry=_program_ends(kind))

    def __del__(self) -> None:
        work = getattr(self, "_work", None)  # missing where an argument was refused
        if work is not None:
            work.end()

    def _ipython_display_(self) -> None:
        from chatsdk.notebook import display_answers

        display_answers(self, self._work, wait=not self._iterated)

    def _known(self) -> list[Answer]:
        """Return the answers in the order of the targets."""
        if not self._iterated:
            for _ in self._work.arriving():
                pass
        return sorted(self._work.answers, key=lambda answer: answer.index)


class _Gathering:
    """The work behind a `FanOut`; its threads hold on to this, not to what the caller holds."""

    def __init__(self, asked: Any, starts: Starts, workers: int) -> None:
        self.answers: list[Answer] = []
        self._asked = asked
        self._starts = list(starts.items())
        self._streams: dict[int, Stream] = {}
        self._missing = set(range(len(self._starts)))
        self._arrived = threading.Condition()
        self._timer: threading.Timer | None = None
        self._crew = Crew(workers)

    def begin(self, timeout: float | None) -> None:
        """Ask all, and bound that in time."""
        if timeout is not None:
            self._timer = threading.Timer(timeout, self._expire, (timeout,))
            self._timer.daemon = True
            self._timer.start()
        for index in range(len(self._starts)):
            self._crew.submit(self._ask, index)

    def arriving(self) -> Iterator[Answer]:
        """Yield the answers as they come, those that are here already first."""
        try:
            for n in range(len(self._starts)):
                with self._arrived:
                    while len(self.answers) <= n:
                        self._arrived.wait()
                yield self.answers[n]
        except (KeyboardInterrupt, SystemExit):
            self.end(hurry=True)
            raise

    def wait(self, seconds: float) -> bool:
        """Wait for all answers, at most so long; return whether they are in."""
        with self._arrived:
            return self._arrived.wait_for(lambda: not self._missing, seconds)

    def so_far(self) -> list[tuple[Any, Reply | None, Exception | None, bool]]:
        """Return target, reply so far, error and whether it is over, as the targets were named."""
        with self._arrived:
            known = {answer.index: answer for answer in self.answers}
        shown: list[tuple[Any, Reply | None, Exception | None, bool]] = []
        for index, (label, _) in enumerate(self._starts):
            answer = known.get(index, Answer(label, index, None))
            begun = getattr(answer.error, "partial", None) or _begun(self._streams.get(index))
            shown.append((label, answer.reply or begun, answer.error, index in known))
        return shown

    def end(self, *, hurry: bool = False) -> None:
        """End what runs; what is not in becomes an error."""
        self._crew.end(hurry=hurry)
        self._settle(lambda label: CancelledError(f"{label} was not waited for"))

    def _expire(self, timeout: float) -> None:
        late = f"was not in within {timeout:g} s (timeout: total)"
        advice = "raise timeout= of fan_out, or leave the slow ones out"
        self._settle(
            lambda label: APITimeoutError(f"{label} {late}", phase="total", advice=advice)
        )
        self._crew.end()  # not before: a call that is cancelled puts in an error of its own

    def _ask(self, index: int) -> None:
        label, start = self._starts[index]
        try:
            stream = self._streams[index] = start()
            with self._crew.busy(stream):
                reply = stream.read()
        except BaseException as error:
            self._put(Answer(label, index, self._asked, error=bare(error)))
        else:
            self._put(Answer(label, index, self._asked, reply))

    def _put(self, answer: Answer) -> None:
        """Take an answer, unless another one for its target came first."""
        with self._arrived:
            if answer.index not in self._missing:
                return
            self._missing.discard(answer.index)
            self._streams.pop(answer.index, None)
            self.answers.append(answer)
            if not self._missing:
                self._finish()
            self._arrived.notify_all()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._crew.end()  # its threads are idle: they end

    def _settle(self, failure: Callable[[Any], ChatError]) -> None:
        """Give an error to each target that is missing, with what came from it so far."""
        with self._arrived:
            for index in sorted(self._missing):
                label, _ = self._starts[index]
                error = failure(label)
                explain(error)
                error.target = label if isinstance(label, str) else None
                error.partial = _begun(self._streams.get(index))
                error.provider = None if error.partial is None else error.partial.provider
                self._put(Answer(label, index, self._asked, error=error))


def _begun(stream: Stream | None) -> Reply | None:
    """Return the reply so far if anything of it has come."""
    reply = None if stream is None else stream.reply
    return reply if reply is not None and (reply.text or reply.reasoning) else None


def _program_ends(kind: type[BaseException] | None) -> bool:
    return kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))


class Arrivals:
    """The texts of several targets in order of arrival: an iterator of ``(target, text)``.

    After the texts comes ``(target, Answer)`` for each target that failed.  It is for one consumer;
    a slow one slows the services down.  It ends all calls on `close`, on leaving its ``with``
    block, and when nobody holds it any more.
    """

    def __init__(self, asked: Any, starts: Starts) -> None:
        """Begin to ask; ``starts`` has the calls by target."""
        self._closer: int | None = None
        self._channel = _Channel(len(starts))
        self._crew = Crew(len(starts), at_end=self._channel.close)
        for index, (label, start) in enumerate(starts.items()):
            failed = partial(Answer, label, index, asked)
            self._crew.submit(_forward, self._crew, self._channel, label, start, failed)

    def __iter__(self) -> Arrivals:
        return self

    def __next__(self) -> tuple[Any, str | Answer]:
        try:
            pair = self._channel.get()
        except (KeyboardInterrupt, SystemExit):
            self._end(hurry=True)
            raise
        if pair is not None:
            return pair
        if self._closer not in (None, threading.get_ident()):
            raise CancelledError("the streams were closed by another thread")
        self._end()
        raise StopIteration

    def close(self) -> None:
        """End all calls, from any thread, without waiting for their clean-up."""
        self._closer = self._closer or threading.get_ident()
        self._end()

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._closer = self._closer or threading.get_ident()
        self._end(hurry=_program_ends(kind))

    def __del__(self) -> None:
        if hasattr(self, "_crew"):
            self._end()

    def _end(self, *, hurry: bool = False) -> None:
        self._crew.end(hurry=hurry)


def _forward(
    crew: Crew,
    channel: _Channel,
    label: Any,
    start: Callable[[], Stream],
    failed: Callable[..., Answer],
) -> None:
    """Read a stream into a channel; a failure is told when all texts are through."""
    failure: Answer | None = None
    try:
        stream = start()
        with crew.busy(stream), stream.open():
            for text in stream:
                channel.put((label, text))
    except BaseException as error:
        failure = failed(error=bare(error))
    channel.ended(failure)


class _Channel:
    """A bounded queue from many threads to one, which closing wakes on both sides."""

    def __init__(self, writers: int) -> None:
        self._writers = writers
        self._pairs: deque[tuple[Any, str | Answer]] = deque()
        self._failed: list[Answer] = []
        self._changed = threading.Condition()
        self._closed = False

    def put(self, pair: tuple[Any, str]) -> None:
        """Wait for room and put a pair in; one that nobody will read is dropped."""
        with self._changed:
            while len(self._pairs) >= AHEAD and not self._closed:
                self._changed.wait()
            if not self._closed:
                self._pairs.append(pair)
                self._changed.notify_all()

    def ended(self, failed: Answer | None) -> None:
        """Note that a writer has ended; after the last one the failures come."""
        with self._changed:
            self._writers -= 1
            if failed is not None:
                self._failed.append(failed)
            if not self._writers:
                self._failed.sort(key=lambda answer: answer.index)
                self._pairs.extend((answer.target, answer) for answer in self._failed)
            self._changed.notify_all()

    def get(self) -> tuple[Any, str | Answer] | None:
        """Wait for a pair and take it out; None is the end."""
        with self._changed:
            while not self._pairs and self._writers and not self._closed:
                self._changed.wait()
            if self._closed or not self._pairs:
                return None
            self._changed.notify_all()
            return self._pairs.popleft()

    def close(self) -> None:
        """Wake everyone who waits; what is inside is dropped."""
        with self._changed:
            self._closed = True
            self._pairs.clear()
            self._changed.notify_all()


def race(starts: Starts, hedge_after: float) -> Reply:
    """Return the first good reply of several targets.

    Args:
        starts: The calls by target, in the order in which they start.
        hedge_after: Seconds without any text after which the next one starts as well; 0: all at
            once.  It starts as soon as all before it have failed.

    Raises:
        AllFailedError: There is none.
    """
    heat = _Race(starts, check_seconds("hedge_after", hedge_after))
    try:
        return heat.run()
    except BaseException as error:
        heat.crew.end(hurry=_program_ends(type(error)))
        raise
    finally:
        heat.crew.end()


class _Race:
    """The state of one race: who runs, who has shown text, who has failed."""

    def __init__(self, starts: Starts, hedge_after: float) -> None:
        self.crew = Crew(len(starts))
        self._waiting = deque(starts.items())
        self._hedge_after = hedge_after
        self._next = 0.0  # when the next one starts if nothing is shown
        self._news: SimpleQueue[tuple[Any, str, Any]] = SimpleQueue()
        self._running: dict[Any, Stream] = {}
        self._shown: set[Any] = set()
        self._errors: dict[Any, Exception] = {}

    def run(self) -> Reply:
        """Start them one after the other and return the first reply."""
        while self._waiting or self._running:
            self._start_due()
            try:
                label, what, value = self._news.get(timeout=self._patience())
            except Empty:
                continue
            if what == "reply":
                reply: Reply = value
                return reply
            if what == "text":
                self._shown.add(label)
            elif what == "whole":
                self._leave_only(label)
            else:
                self._fail(label, value)
        raise self._all_failed()

    def _start_due(self) -> None:
        """Start who is due: the next one if nobody is about to answer."""
        while self._waiting and self._is_due():
            label, start = self._waiting.popleft()
            stream = self._running[label] = start()
            self._next = time.monotonic() + self._hedge_after
            self.crew.submit(self._compete, label, stream)

    def _is_due(self) -> bool:
        return not self._running or (not self._shown and time.monotonic() >= self._next)

    def _patience(self) -> float | None:
        if not self._waiting or self._shown:
            return None
        return max(0.0, self._next - time.monotonic())

    def _fail(self, label: Any, error: Exception) -> None:
        self._errors[label] = error
        self._shown.discard(label)
        del self._running[label]

    def _leave_only(self, winner: Any) -> None:
        """End the others now: the winner's own clean-up may take its time."""
        self._waiting.clear()
        for label, stream in self._running.items():
            if label != winner:
                stream.cancel()

    def _compete(self, label: Any, stream: Stream) -> None:
        """Read a stream and tell what comes of it."""
        tell = self._news.put
        try:
            with self.crew.busy(stream), stream.open():
                shown = False
                for delta in stream.deltas():
                    if delta.text and not shown:
                        shown = True
                        tell((label, "text", None))
                    if delta.final and delta.finish_reason != "error":
                        tell((label, "whole", None))
            tell((label, "reply", stream.reply))
        except BaseException as error:
            tell((label, "error", bare(error)))

    def _all_failed(self) -> AllFailedError:
        reasons = "; ".join(
            f"{label}: {type(error).__name__}: {getattr(error, 'reason', None) or error}"
            for label, error in self._errors.items()
        )
        failed = AllFailedError(f"no target gave a reply: {reasons}", errors=self._errors)
        explain(failed)
        return failed
