"""Live display: one output of a notebook's cell that changes while an answer comes.

IPython is looked for where it is running already, and never loaded: without it, and in a terminal,
a text is written to the standard output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from importlib import import_module
import sys
import threading
import time
from typing import Any, Protocol
import uuid
from weakref import WeakKeyDictionary

from chatsdk.controls import visible
from chatsdk.views import columns_html, facts, reply_markdown, Shown, text_html

REDRAW = 0.05  # s between two pictures at least
SPEED = 1_000_000  # characters a second at most: a long text is drawn less often

Bundle = Mapping[str, str]  # what an output shows, by MIME type


class Flow(Protocol):
    """What is shown of a `chatsdk.Stream`."""

    @property
    def reply(self) -> Shown:
        """The reply so far."""

    def deltas(self) -> Iterator[Any]:
        """Read on."""

    def close(self) -> None:
        """End it."""


class Work(Protocol):
    """What is shown of a `chatsdk.FanOut`."""

    def wait(self, seconds: float) -> bool:
        """Wait for all answers, at most so long; return whether they are in."""

    def so_far(self) -> Sequence[tuple[Any, Shown | None, Exception | None, bool]]:
        """Return target, reply so far, error, and whether it is over."""

    def end(self) -> None:
        """End what runs."""


def running_shell() -> Any:
    """Return IPython's shell if it shows more than plain text, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    formatter = getattr(shell, "display_formatter", None)
    return shell if formatter and "text/html" in formatter.active_types else None


class Output:
    """An output of the cell that runs; what it shows can be changed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Make one; it is there from its first picture on."""
        self._display = import_module("IPython.display").display
        self._id = f"chatsdk-{uuid.uuid4().hex}"
        self._clock = clock
        self._due = 0.0
        self._shown: Bundle | None = None

    def show(self, bundle: Bundle) -> None:
        """Show this instead."""
        if bundle == self._shown:
            return
        self._display(bundle, raw=True, display_id=self._id, update=self._shown is not None)
        self._shown = bundle
        size = max(map(len, bundle.values()))
        self._due = self._clock() + max(REDRAW, size / SPEED)

    def pause(self) -> float:
        """Return in how many seconds the next picture is due."""
        return max(0.0, self._due - self._clock())


class Painter:
    """Draws what changes in a thread of its own: no text waits for the next one to be seen."""

    def __init__(self, output: Output, picture: Callable[[], Bundle]) -> None:
        """Show the first picture."""
        self._output = output
        self._picture = picture
        self._changed = threading.Event()
        self._over = threading.Event()
        # In a notebook the context says which cell an output belongs to.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._paint,), name="chatsdk-display", daemon=True
        )
        output.show(picture())

    def touch(self) -> None:
        """Say that there is something new."""
        self._changed.set()

    def _paint(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._over.wait(self._output.pause()):
                return
            self._output.show(self._picture())

    def __enter__(self) -> Painter:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._changed.set()
        self._thread.join()


# The streams that were displayed: in which cell, and what there is to say about their end.
_displayed: WeakKeyDictionary[Flow, tuple[int, str]] = WeakKeyDictionary()


def display_stream(stream: Flow) -> None:
    """Read a stream to its end, and show it meanwhile.

    In a notebook it is one output, at the end as Markdown.  If it breaks off, by the stop button
    as well, what has come stays there, marked, and the stream becomes ``_``.
    """
    shell = running_shell()
    if shell is None:
        _write(stream)
        return
    output = Output()
    try:
        with Painter(output, lambda: _growing(stream.reply)) as painter:
            for _ in stream.deltas():
                painter.touch()
    except BaseException as error:
        stream.close()
        note = _reason(error)
        _displayed[stream] = (shell.execution_count, note)
        output.show(_finished(stream.reply, note))
        _keep(shell, stream, error)
        raise
    _displayed[stream] = (shell.execution_count, "")
    output.show(_finished(stream.reply))


def display_again(stream: Flow) -> None:
    """Show a stream that is a cell's value, unless that cell has displayed it already."""
    shell = running_shell()
    cell, note = _displayed.get(stream, (None, ""))
    if shell is None or cell == shell.execution_count:
        return
    reply = stream.reply
    if cell is None and reply.finish_reason is None:
        note = "so far; to read on, iterate it or call display()"
    Output().show(_finished(reply, note))


def display_answers(owner: Any, work: Work, *, wait: bool) -> None:
    """Show answers beside each other while they come.

    Args:
        owner: What becomes ``_`` if the stop button ends it.
        work: What is shown.
        wait: Whether to wait for those that are not in.
    """
    shell = running_shell()
    output = Output()
    try:
        while wait and not work.wait(REDRAW):
            output.show(_table(work))
    except BaseException as error:
        work.end()
        output.show(_table(work))
        if shell is not None:
            _keep(shell, owner, error)
        raise
    output.show(_table(work))


def _write(stream: Flow) -> None:
    """Write a stream to the standard output as it comes."""
    show = visible if sys.stdout.isatty() else str
    print(show(stream.reply.text), end="", flush=True)
    try:
        for delta in stream.deltas():
            print(show(delta.text), end="", flush=True)
    finally:
        stream.close()
        print(flush=True)


def _growing(reply: Shown) -> Bundle:
    note = facts(reply) if reply.text else "..."
    return {"text/plain": reply.text, "text/html": text_html(reply.text, note)}


def _finished(reply: Shown, note: str = "") -> Bundle:
    return {"text/plain": reply.text, "text/markdown": reply_markdown(reply, note)}


def _table(work: Work) -> Bundle:
    columns = [
        (str(target), reply.text if reply else "", _state(reply, error, over))
        for target, reply, error, over in work.so_far()
    ]
    plain = "\n\n".join("\n".join(parts) for parts in columns)
    return {"text/plain": plain, "text/html": columns_html(columns)}


def _state(reply: Shown | None, error: Exception | None, over: bool) -> str:
    if error is not None:
        return f"{type(error).__name__}: {error}"
    return facts(reply) if over and reply is not None else "..."


def _reason(error: BaseException) -> str:
    stopped = isinstance(error, KeyboardInterrupt)
    return f"incomplete: {'stopped' if stopped else type(error).__name__}"


def _keep(shell: Any, value: Any, error: BaseException) -> None:
    """Make a value the cell's, though the cell ends with an error."""
    update = getattr(shell.displayhook, "update_user_ns", None)  # not every kernel has that
    if update is None:
        shell.user_ns["_"] = value
    else:
        update(value)
    if isinstance(error, KeyboardInterrupt):
        words = "KeyboardInterrupt: stopped; what had come is in _"
        error._render_traceback_ = lambda: [words]  # type: ignore[attr-defined]
