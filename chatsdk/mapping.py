"""Many questions to one target: inputs are read lazily, asked in threads or by an executor."""

from __future__ import annotations

from collections import deque, OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from importlib import import_module
import json
import logging
from operator import length_hint
import pickle
from queue import Empty, SimpleQueue
import threading
from typing import Any, Protocol, Union
import uuid

import attrs

from chatsdk.advice import explain
from chatsdk.checks import PARAMETERS
from chatsdk.crew import bare, Crew
from chatsdk.errors import CancelledError, ConfigurationError, JournalError, WorkerLostError
from chatsdk.fanout import check_workers
from chatsdk.inputs import check_inputs, Item, item_from, Outcome
from chatsdk.journal import Ledger
from chatsdk.listeners import NAMES
from chatsdk.messages import Message, Reply
from chatsdk.pace import Pace, PacedPolicy, pause_for, Rate
from chatsdk.records import frozen
from chatsdk.results import Answer
from chatsdk.retry import RetryPolicy
from chatsdk.streams import Stream

log = logging.getLogger(__name__)

WITHOUT_EFFECT = {"timeout", *NAMES}  # parameters that make the same question no other one
POLL = 0.1  # s between two looks at what another process is doing

News = SimpleQueue[Union[tuple[Item, Outcome], None]]  # None: it was closed


class Engine(Protocol):
    """What asks."""

    broken: Exception | None  # why it takes no more, or None

    def submit(self, item: Item) -> None:
        """Ask it, now or soon; the outcome is news."""

    def push(self) -> float | None:
        """Go on with what waits; return in how many seconds to call again, None if nothing does."""

    def end(self, *, hurry: bool = False) -> None:
        """Begin nothing more and end what runs."""


class Keeper(Protocol):
    """What keeps answers between runs."""

    def enter(self) -> None:
        """Begin a run."""

    def begin(self, items: list[Item]) -> None:
        """Fill in what is known, and claim the rest for this program or leave it to another."""

    def record(self, items: list[Item]) -> None:
        """Make outcomes durable."""

    def leave(self) -> None:
        """End the run and give back what was claimed."""


class Threads:
    """Asks in threads of this process."""

    broken: Exception | None

    def __init__(
        self,
        start: Callable[[tuple[Message, ...]], Stream],
        news: News,
        workers: int,
        pace: Pace,
    ) -> None:
        """Hire the threads.

        Args:
            start: Gives the stream for a question, not opened yet.
            news: Where outcomes go.
            workers: How many threads.
            pace: When a call may begin.
        """
        self.broken = None
        self._start = start
        self._news = news
        self._pace = pace
        self._crew = Crew(workers, at_end=pace.end)

    def submit(self, item: Item) -> None:
        """Put it in line."""
        self._crew.submit(self._ask, item)

    def push(self) -> None:
        """Leave it to the threads."""

    def end(self, *, hurry: bool = False) -> None:
        """End the threads and what they read."""
        self._crew.end(hurry=hurry)

    def _ask(self, item: Item) -> None:
        outcome: Outcome
        try:
            if not self._pace.wait():
                return
            stream = self._start(item.messages)
            with self._crew.busy(stream):
                outcome = stream.read()
        except BaseException as error:
            outcome = bare(error)
        self._pace.spent(outcome)
        self._news.put((item, outcome))


class Elsewhere:
    """Asks through somebody's executor, whose workers may be other processes and machines."""

    def __init__(
        self,
        executor: Executor,
        asker: Asker,
        news: News,
        workers: int,
        pace: Pace,
        longest: float,
    ) -> None:
        """Take an executor, which stays the caller's.

        Args:
            executor: Runs the calls.
            asker: What each call is: it pickles as small as it can.
            news: Where outcomes go.
            workers: How many calls it is given at once.
            pace: When a call may begin.
            longest: Seconds, the longest pause that a service may ask for.
        """
        self.broken: Exception | None = None
        self._workers = workers
        self._executor = executor
        self._asker = asker
        self._news = news
        self._pace = pace
        self._longest = longest
        self._line: deque[Item] = deque()
        self._running: set[Future[Outcome]] = set()

    def submit(self, item: Item) -> None:
        """Put it in line."""
        self._line.append(item)

    def push(self) -> float | None:
        """Hand out what may begin."""
        while self._line and len(self._running) < self._workers:
            seconds = self._pace.take()
            if seconds:
                return seconds
            self._hand_out(self._line.popleft())
        return None

    def _hand_out(self, item: Item) -> None:
        try:
            # The index keeps engines that remember results by arguments from mixing two up.
            future = self._executor.submit(self._asker, item.messages, item.index)
        except Exception as error:
            self.broken = self.broken or _lost(error)
            self._news.put((item, _lost(error)))
            return
        self._running.add(future)
        future.add_done_callback(partial(self._came, item))

    def end(self, *, hurry: bool = False) -> None:
        """Cancel what has not begun; what runs elsewhere runs on, and nobody waits for it."""
        self._line.clear()
        for future in list(self._running):
            future.cancel()

    def _came(self, item: Item, done: Future[Outcome]) -> None:
        self._running.discard(done)
        try:
            outcome = done.result()
        except BaseException as error:
            outcome = _lost(error)
        if isinstance(outcome, Exception):
            pause_for(self._pace, outcome, self._longest)
        self._pace.spent(outcome)
        self._news.put((item, outcome))


def _lost(error: BaseException) -> Exception:
    lost = WorkerLostError(
        f"the executor gave no answer ({type(error).__name__}: {error})", retryable=True
    )
    lost.__cause__ = bare(error)
    explain(lost)
    return lost


class Asker:
    """A call as the workers of an executor make it; an error comes home as a value.

    In each process that works for an executor there is one client for all calls of a map, so that
    they share its connections and tokens: what travels is how to make it.
    """

    def __init__(
        self, key: str, made: Callable[[], Any], target: Any, params: Mapping[str, Any]
    ) -> None:
        """Take a name for the map, and what gives its client; see `asker_for`."""
        self._key = key
        self._made = made
        self._target = target
        self._params = params

    def __call__(self, messages: tuple[Message, ...], index: int) -> Outcome:
        """Ask."""
        try:
            client = _client_of(self._key, self._made)
            reply: Reply = client.chat(messages, target=self._target, **self._params)
            return reply
        except Exception as error:
            return bare(error)


def asker_for(client: Any, target: Any, params: Mapping[str, Any]) -> Asker:
    """Return the calls of a map, fit to be sent to other processes.

    Raises:
        ConfigurationError: A part of it cannot be pickled; the message names it.
    """
    rebuild, (options,) = client.__reduce__()
    for name, value in {**options, **params, "target": target}.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ConfigurationError(
                f"{name} cannot be sent to the executor's workers: it does not pickle ({error})"
            ) from error
    return Asker(uuid.uuid4().hex, partial(rebuild, options), target, dict(params))


_clients: OrderedDict[str, Any] = OrderedDict()  # of this process, by map
_making = threading.Lock()
KEPT = 8  # clients, those of the latest maps


def _client_of(key: str, made: Callable[[], Any]) -> Any:
    with _making:
        if key not in _clients:
            _clients[key] = made()
            while len(_clients) > KEPT:
                _clients.popitem(last=False)
        _clients.move_to_end(key)
        return _clients[key]


class Bar(Protocol):
    """What shows how far a map is."""

    def add(self, answer: Answer) -> None:
        """Count an answer."""

    def close(self) -> None:
        """Leave the last state on the screen."""


class TqdmBar:
    """A bar of tqdm: done, rate, time left, tokens and errors."""

    def __init__(self, tqdm: Any, total: int | None) -> None:
        """Show it; ``total`` is the number of inputs, or None where nobody knows."""
        self._bar = tqdm(total=total, unit=" answers")
        self._tokens = self._errors = 0

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        usage = answer.reply.usage if answer.reply else None
        self._tokens += (usage.total_tokens or 0) if usage else 0
        self._errors += answer.error is not None
        self._bar.set_postfix(tokens=self._tokens, errors=self._errors, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._bar.close()


def load_tqdm() -> Any:
    """Return the kind of bar that suits the screen or the notebook.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module("tqdm.auto").tqdm
    except ImportError as error:
        raise ConfigurationError(
            "progress=True needs tqdm: pip install 'chatsdk[progress]'"
        ) from error


@frozen
class Asking:
    """Whom a map asks, and how.

    Attributes:
        client: The client, to be sent to other processes.
        target: The target as the caller gave it.
        params: The parameters of each call.
        label: The target in answers.
        start: Gives a stream that was not opened yet, for messages, target and parameters.
        policy: What is tried again.
    """

    client: Any
    target: Any
    params: Mapping[str, Any]
    label: Any
    start: Callable[..., Stream]
    policy: RetryPolicy


def prepared(
    inputs: Any,
    asking: Asking,
    *,
    max_workers: int,
    ordered: bool,
    journal: Any,
    retry_errors: bool,
    progress: bool,
    executor: Executor | None,
    rate: Rate | None,
) -> Map:
    """Return a run, with all checked that can be known before anything is sent."""
    check_inputs(inputs)
    workers = check_workers(max_workers)
    if not isinstance(rate, (Rate, type(None))):
        raise TypeError(f"rate must be a Rate, not {type(rate).__name__}")
    bar = partial(TqdmBar, load_tqdm(), length_hint(inputs) or None) if progress else None
    keeper = None
    if journal is not None:
        keeper = Ledger(journal, asking.label, identity(asking), retry_errors)
    news: News = SimpleQueue()
    return Map(
        inputs,
        asking.label,
        _engine(asking, executor, news, workers, Pace(rate or Rate())),
        news,
        ahead=2 * workers,  # what waits in line keeps a thread from idling between two
        ordered=ordered,
        keeper=keeper,
        bar=bar,
    )


def _engine(
    asking: Asking, executor: Executor | None, news: News, workers: int, pace: Pace
) -> Engine:
    policy = asking.policy
    if executor is not None:
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor must be an Executor, not {type(executor).__name__}")
        asker = asker_for(asking.client, asking.target, asking.params)
        return Elsewhere(executor, asker, news, workers, pace, policy.maximum_retry_after)
    fields = {part.name: getattr(policy, part.name) for part in attrs.fields(RetryPolicy)}
    paced = PacedPolicy(**fields, pace=pace)
    start = partial(asking.start, target=asking.target, policy=paced, **asking.params)
    return Threads(start, news, workers, pace)


def identity(asking: Asking) -> str:
    """Return target and parameters as a text: what makes the same question another one."""
    params = {name: value for name, value in asking.params.items() if name not in WITHOUT_EFFECT}
    for name in ("tools", "response_format"):  # functions and types count as what a model sees
        if params.get(name) is not None:
            params[name] = PARAMETERS[name](params[name])
    return json.dumps([asking.label, params], sort_keys=True, default=repr)


class Map:
    """One run: what is under way, in order, and what has come of it."""

    def __init__(
        self,
        inputs: Iterable[Any],
        label: Any,
        engine: Engine,
        news: News,
        *,
        ahead: int,
        ordered: bool,
        keeper: Keeper | None = None,
        bar: Callable[[], Bar] | None = None,
    ) -> None:
        """Prepare; nothing is read or asked before `answers` is iterated.

        Args:
            inputs: The questions.
            label: The target, for the answers.
            engine: What asks.
            news: Where it tells outcomes.
            ahead: How many inputs are read before their turn, at most.
            ordered: Yield answers in the order of the inputs, not as they come.
            keeper: What keeps them, or None.
            bar: Makes what shows them, or None.
        """
        self._inputs = enumerate(inputs)
        self._label = label
        self._engine = engine
        self._news = news
        self._ahead = ahead
        self._ordered = ordered
        self._keeper = keeper
        self._make_bar = bar
        self._bar: Bar | None = None
        self._window: dict[int, Item] = {}  # read and not yielded, in order
        self._others: list[Item] = []  # those of them that somebody else asks
        self._over = False
        self._closed = False
        self._failure: Exception | None = None

    def answers(self) -> Generator[Answer, None, None]:
        """Yield the answers."""
        try:
            if self._keeper is not None:
                self._keeper.enter()
            self._bar = self._make_bar() if self._make_bar else None
            while True:
                seconds = self._read_ahead()
                due = self._due()
                for item in due:
                    yield self._answer(item)
                if not self._window and self._over:
                    break
                if not due:
                    self._wait(seconds)
            if self._failure is not None:
                raise self._failure
        except (KeyboardInterrupt, SystemExit):
            self._engine.end(hurry=True)
            raise
        finally:
            self._leave()

    def close(self) -> None:
        """End it from another thread: its reader gets a `CancelledError`."""
        self._closed = True
        self._engine.end()
        self._news.put(None)

    def _read_ahead(self) -> float | None:
        """Read inputs as long as there is room, and have them asked.

        Returns:
            In how many seconds there is more to do, or None.
        """
        fresh: list[Item] = []
        while not self._over and len(self._window) < self._ahead:
            try:
                index, given = next(self._inputs)
            except StopIteration:
                self._over = True
            except Exception as error:  # what was asked already is still worth having
                self._over, self._failure = True, error
            else:
                self._window[index] = item = item_from(index, given)
                fresh.append(item)
        self._begin([item for item in fresh if item.outcome is None])
        seconds = self._engine.push()
        if self._engine.broken is not None and not self._over:
            self._over, self._failure = True, self._engine.broken
        return seconds

    def _begin(self, items: list[Item]) -> None:
        """Have inputs asked, but for those whose answer is known or on its way elsewhere."""
        if self._keeper is not None and items:
            self._keeper.begin(items)
        for item in items:
            if item.outcome is None and item.ours:
                self._engine.submit(item)
            elif item.outcome is None:
                self._others.append(item)

    def _due(self) -> list[Item]:
        """Take out what can be yielded now."""
        due: list[Item] = []
        for item in self._window.values():
            if item.outcome is not None:
                due.append(item)
            elif self._ordered:
                break
        for item in due:
            del self._window[item.index]
        return due

    def _answer(self, item: Item) -> Answer:
        answer = _answer_of(item, self._label)
        if self._bar is not None:
            self._bar.add(answer)
        return answer

    def _wait(self, seconds: float | None) -> None:
        """Wait for something to yield; look after what others do meanwhile."""
        if self._others:
            seconds = POLL if seconds is None else min(seconds, POLL)
        self._take_in(seconds)
        if self._others:
            others, self._others = self._others, []
            self._begin(others)

    def _take_in(self, seconds: float | None) -> None:
        """Wait for news, at most so long, and make all there is durable."""
        came: list[Item] = []
        with suppress(Empty):
            came.append(self._next(timeout=seconds))
            while True:
                came.append(self._next(block=False))
        self._record(came)

    def _next(self, **how: Any) -> Item:
        news = self._news.get(**how)
        if news is None or self._closed:
            raise CancelledError("the map was closed by another thread")
        item, outcome = news
        item.outcome = outcome
        return item

    def _record(self, came: list[Item]) -> None:
        if self._keeper is None or not came:
            return
        try:
            self._keeper.record(came)
        except JournalError as error:
            error.unrecorded = tuple(_answer_of(item, self._label) for item in came)
            raise

    def _leave(self) -> None:
        """End what runs; what came and was not looked at yet is still recorded."""
        self._engine.end()
        if self._bar is not None:
            self._bar.close()
        if self._keeper is not None:
            self._keep_rest(self._keeper)

    def _keep_rest(self, keeper: Keeper) -> None:
        came: list[Item] = []
        with suppress(Empty, CancelledError):
            while True:
                came.append(self._next(block=False))
        try:
            self._record(came)
        except JournalError as error:
            log.warning("%d answers could not be recorded: %s", len(came), error)
        finally:
            keeper.leave()


def _answer_of(item: Item, label: Any) -> Answer:
    if isinstance(item.outcome, Exception):
        return Answer(label, item.index, item.given, error=item.outcome)
    return Answer(label, item.index, item.given, item.outcome)
