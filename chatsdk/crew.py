"""Threads that read streams, and how to end them all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
import contextvars
import os
import threading
import time
from typing import Any, Protocol
import weakref

from chatsdk.deadlines import SHELTER
from chatsdk.errors import ChatError

HURRY = SHELTER + 0.4  # s for all clean-up of calls that the end of the program cuts off


class Cancellable(Protocol):
    """A call that another thread can end."""

    def cancel(self, *, hurry: bool = False) -> None:
        """End it; its reader cleans up, for a short time if that must hurry."""

    def abort(self) -> None:
        """End its clean-up as well."""


class Crew:
    """Some threads, and the calls that they are busy with.

    The interpreter waits for the threads of an executor before it ends, so a call that stalls would
    hold it up for as long as its timeout; here their sockets are shut first.

    Attributes:
        ended: Whether nothing is begun any more.
    """

    def __init__(self, workers: int, at_end: Callable[[], None] | None = None) -> None:
        """Hire threads.

        Args:
            workers: How many at the most.
            at_end: Wakes those of them that wait for something else than a call.
        """
        self.ended = False
        self._at_end = at_end
        self._owner = threading.current_thread()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="chatsdk")
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._busy: set[Cancellable] = set()
        self._hurry = False
        _crews.add(self)

    def submit(self, job: Callable[..., Any], *args: Any) -> None:
        """Let a thread do a job, with the context variables of this one; none once it ended."""
        with self._changed:
            if not self.ended:
                self._pool.submit(contextvars.copy_context().run, job, *args)

    @contextmanager
    def busy(self, call: Cancellable) -> Iterator[None]:
        """Mark a call as running while a thread of the crew is inside."""
        with self._changed:
            self._busy.add(call)
            if self.ended:
                call.cancel(hurry=self._hurry)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(call)
                self._changed.notify_all()

    def end(self, *, hurry: bool = False) -> None:
        """Begin nothing more and end what runs, without waiting for it."""
        if self._pid != os.getpid():
            return  # after a fork the threads, and the connections, are the parent's
        with self._changed:
            self.ended = True
            self._hurry = self._hurry or hurry
            running = list(self._busy)
        for call in running:
            call.cancel(hurry=hurry)
        if self._at_end is not None:
            self._at_end()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def abort(self, deadline: float) -> None:
        """Wait until a time for what runs, and end the clean-up of the rest as well."""
        if self._pid != os.getpid():
            return
        with self._changed:
            left = deadline - time.monotonic()
            self._changed.wait_for(lambda: not self._busy, timeout=max(0.0, left))
            running = list(self._busy)
        for call in running:
            call.abort()

    def outlives_main(self) -> bool:
        """Return whether it works for a thread that the interpreter waits for."""
        owner = self._owner
        return owner.is_alive() and not owner.daemon and owner is not threading.main_thread()


def bare(error: BaseException) -> Exception:
    """Return an error, without its tracebacks, as one that is kept and not raised.

    Their frames would keep every object of the call alive for as long as the answer is kept.
    """
    below: BaseException | None = error
    while below is not None and below.__traceback__ is not None:
        below.__traceback__ = None
        below = below.__cause__ or below.__context__
    if isinstance(error, Exception):
        return error
    kept = ChatError(f"the call was ended by {type(error).__name__}")
    kept.__cause__ = error
    return kept


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _end_all() -> None:
    crews = [crew for crew in _crews if not crew.outlives_main()]
    for crew in crews:
        crew.end(hurry=True)
    deadline = time.monotonic() + HURRY
    for crew in crews:
        crew.abort(deadline)


# `atexit` comes too late: the interpreter has joined the threads of executors by then.  This is
# how `concurrent.futures` itself has them joined; what is registered last is called first.
with suppress(AttributeError, RuntimeError):
    threading._register_atexit(_end_all)  # type: ignore[attr-defined]
