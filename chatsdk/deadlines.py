"""How long a call may wait, and the watch that holds it to that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import math
import os
from queue import Empty, SimpleQueue
import socket
import threading
import time
from typing import Any, TYPE_CHECKING, TypeVar

from chatsdk.errors import ConfigurationError
from chatsdk.records import evolve, field, frozen

if TYPE_CHECKING:
    from concurrent.futures import Future

SHELTER = 0.3  # s that a call which is ended waits for an answer that its clean-up needs
STEP = 0.05  # s of one wait for another thread
LONGEST = 1e9  # s; what is beyond, no clock of a system can hold

Result = TypeVar("Result")


def _seconds(instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"timeout: {attribute.name} must be a number of seconds or None,"
            f" not {type(value).__name__}"
        )
    if not 0 < value <= LONGEST:
        raise ConfigurationError(
            f"timeout: {attribute.name} must be above 0 and at most {LONGEST:g} s, or None"
        )


@frozen(kw_only=True)
class Timeout:
    """The longest waits of a call, in seconds; None switches one off.

    Attributes:
        connect: For each address of a host, TLS included.
        first: From the request until the head of the answer is here.
        read: The longest silence between data; heartbeats are no data.
        total: Everything: retries, sleeps, token calls and slow drips included.
    """

    connect: float | None = field(default=10.0, validator=_seconds)
    first: float | None = field(default=60.0, validator=_seconds)
    read: float | None = field(default=60.0, validator=_seconds)
    total: float | None = field(default=600.0, validator=_seconds)

    def changed(self, value: Any) -> Timeout:
        """Return what a caller means: a Timeout, or a number for ``first`` and ``read``."""
        if value is None:
            return self
        if isinstance(value, Timeout):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"timeout must be a number or a Timeout, not {type(value).__name__}")
        return evolve(self, first=value, read=value)


class Watch:
    """Bounds every wait of one call, and can end them all from another thread.

    Attributes:
        phase: What is waited for: ``"connect"``, ``"first"`` or ``"read"``.
        cancelled: Whether the call was ended from outside.
        silent: Seconds of the reading phase without data so far; time that the caller takes
            between two reads does not count.
        reused: Whether the request went out on a connection that had served another one.
        fresh: Whether the next request must go out on a new connection.
        answered: Whether a byte of the answer's head has come.
        cut: Whether the connection ended within the head.
        sheltered: Whether the answer that is waited for now is needed for the clean-up.
        in_charge: Whether it has had a socket; a phase is known only then.
    """

    def __init__(self, timeout: Timeout, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout = timeout
        self.clock = clock
        self.started = clock()
        self.deadline = math.inf if timeout.total is None else self.started + timeout.total
        self.phase = "connect"
        self.cancelled = False
        self.silent = 0.0
        self.sheltered = False
        self.reused = self.fresh = self.answered = self.cut = self.in_charge = False
        self._pid = os.getpid()
        self._limit: float | None = timeout.connect
        self._since = self.started
        self._sleeper: threading.Event | None = None  # made where somebody sleeps: 2 us less
        self._lock = threading.RLock()  # a finalizer may close a stream inside of it
        self._sock: Any = None

    @property
    def inherited(self) -> bool:
        """Whether this is a fork's copy: the call, its socket and its locks are the parent's."""
        return self._pid != os.getpid()

    def begin(self, phase: str) -> None:
        """Enter a phase: its wait begins now."""
        self.phase = phase
        self._limit = getattr(self.timeout, phase)
        self._since = self.clock()
        self.silent = 0.0
        if phase != "read":
            self.answered = self.cut = False

    def resume(self) -> float:
        """Go on waiting for data after the caller had the word; return the time."""
        now = self.clock()
        self._since = now - self.silent
        return now

    def hurry(self, seconds: float) -> None:
        """Let everything end within some seconds from now, if it would not anyway."""
        self.deadline = min(self.deadline, self.clock() + seconds)

    @contextmanager
    def hurried(self, seconds: float) -> Iterator[None]:
        """Let what is done inside end within some seconds; the call itself may go on."""
        deadline = self.deadline
        self.hurry(seconds)
        try:
            yield
        finally:
            self.deadline = deadline

    def remaining(self) -> float | None:
        """Return the seconds that the next wait may take, None for no bound.

        Raises:
            TimeoutError: There are none left.
        """
        end = self.deadline
        if self._limit is not None:
            end = min(end, self._since + self._limit)
        if end == math.inf:
            return None
        left = end - self.clock()
        if left <= 0:
            raise TimeoutError(f"timed out ({self.expired()})")
        return left

    def left(self) -> float | None:
        """Return the seconds until the end of the whole call, None for no bound, not below 0."""
        if self.deadline == math.inf:
            return None
        return max(0.0, self.deadline - self.clock())

    def expired(self) -> str:
        """Return the name of the wait that is over."""
        return "total" if self.clock() >= self.deadline else self.phase

    def attach(self, sock: Any) -> None:
        """Take charge of a socket: its waits are bounded by this watch from now on."""
        sock = getattr(sock, "socket", sock)  # TLS within TLS wraps the socket itself
        with self._lock:
            if self.cancelled:
                raise ConnectionAbortedError("the call was cancelled")
            sock.watch = self
            self._sock = sock
            self.in_charge = True

    def release(self) -> None:
        """Let the socket go: it may serve another call from now on."""
        with self._lock:
            self._sock = None

    def cancel(self) -> None:
        """End every wait of this call, now and later, from any thread."""
        if self.inherited:
            return
        self.cancelled = True
        with self._lock:
            if self._sleeper is not None:
                self._sleeper.set()
        if not self.sheltered:
            self.hang_up()
            return
        last = threading.Timer(SHELTER, self.hang_up)
        last.daemon = True
        last.start()

    def shelter(self, job: Callable[[], Result]) -> Result:
        """Do what the clean-up needs to know of: whatever ends the call waits for it a moment."""
        self.sheltered = True
        try:
            return self._aside(job).result()
        finally:
            self.sheltered = False

    def _aside(self, job: Callable[[], Result]) -> Future[Result]:
        """Do a job in a thread of its own: Ctrl-C would end it halfway in this one."""
        import contextvars  # here and below: 1 ms, for the few calls that need it

        came: SimpleQueue[Future[Result]] = SimpleQueue()
        work = contextvars.copy_context().run
        thread = threading.Thread(target=work, args=(_settle, came, job), daemon=True)
        try:
            try:
                thread.start()
            except RuntimeError:  # there is none to be had, as on the way out of the program
                _settle(came, job)
            return _first(came)
        except BaseException:
            try:
                self.cancel()
                with suppress(Empty):
                    _first(came, SHELTER)
            finally:
                self.hang_up()
            raise

    def hang_up(self) -> None:
        """Shut the socket that this watch is in charge of: it will serve nobody any more."""
        with self._lock:
            sock = self._sock
            if sock is not None and sock.watch is self:
                # One that was closed or never connected has nobody waiting on it.  The TLS socket's
                # own method would pull the rug from under its reader.
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the call is cancelled."""
        with self._lock:
            self._sleeper = self._sleeper or threading.Event()
            if self.cancelled:
                return
        self._sleeper.wait(seconds)


def _settle(came: SimpleQueue[Future[Result]], job: Callable[[], Result]) -> None:
    from concurrent.futures import Future

    done: Future[Result] = Future()
    try:
        done.set_result(job())
    except BaseException as error:
        done.set_exception(error)
    came.put(done)
    del done  # it holds the error, whose traceback holds this frame


def _first(came: SimpleQueue[Result], seconds: float = math.inf) -> Result:
    """Wait for what comes, in steps: a signal right before a step is noticed after it.

    A queue in C, since Ctrl-C inside of what Python's own waits are made of leaves locks behind.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Empty):
            return came.get(timeout=STEP)
    raise Empty
