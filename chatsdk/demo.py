"""The demonstration: one conversation with five services at once, all on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import io
import json
import shutil
import textwrap
import threading
import time
from typing import TextIO

from attrs import asdict, field

from chatsdk import providers
from chatsdk.cli.output import table
from chatsdk.client import Client
from chatsdk.errors import ChatError
from chatsdk.records import define
from chatsdk.simulator import Simulator

SERVICES = ("aichatonline", "aura", "flowgpt", "gigachat", "h2o")
TURNS = ("Hello! My name is Ada, and I wonder why the sky is blue.", "What is my name?")
CHUNK_DELAY = 0.03  # s between two pieces, so that one sees them come
REDRAW = 0.05  # s between two pictures of the screen at least
SHOWN = 3  # lines of each service on the screen; the rest has scrolled out of its block


@define
class Talk:
    """What one service said so far, and what it took."""

    name: str
    lines: list[str] = field(factory=list)
    pieces: int = 0
    first: float | None = None
    elapsed: float = 0.0
    finish: str = "-"
    error: str = ""


def demo(out: TextIO, *, as_json: bool = False) -> int:
    """Hold the conversations, show them and a table; return 1 if one failed, else 0.

    Args:
        out: Where they are shown: as they grow on a terminal, else each when it has ended.
        as_json: Print what the table says as JSON instead, times in s.
    """
    talks = [Talk(name) for name in SERVICES]
    with Simulator(chunk_delay=CHUNK_DELAY) as simulator:
        services = [
            providers.get(talk.name)(**{"api_key": "demo", **simulator.fields(talk.name)})
            for talk in talks
        ]
        screen = _screen(out, talks, as_json)
        with Client(providers=services, proxy="") as client:
            with ThreadPoolExecutor(len(talks)) as pool:
                for _ in pool.map(lambda talk: _talk(client, talk, screen), talks):
                    pass
        sent = [request.service for request in simulator.requests]
    if as_json:
        rows = [{**asdict(talk), "requests": sent.count(talk.name)} for talk in talks]
        print(json.dumps(rows, ensure_ascii=False, indent=2), file=out)
    else:
        print(_summary(talks, sent), file=out)
    return 1 if any(talk.error for talk in talks) else 0


def _screen(out: TextIO, talks: Sequence[Talk], as_json: bool) -> _Screen | _Blocks:
    if as_json:
        return _Blocks(io.StringIO())
    return _Screen(out, talks) if out.isatty() else _Blocks(out)


def _talk(client: Client, talk: Talk, screen: _Screen | _Blocks) -> None:
    """Hold the conversation with one service."""
    began = time.monotonic()
    conversation = client.conversation(target=talk.name)
    try:
        for question in TURNS:
            talk.lines += [f"> {question}", ""]
            stream = conversation.stream(question)
            for text in stream:
                talk.pieces += 1
                talk.lines[-1] += text
                screen.changed()
            talk.first = talk.first or stream.reply.first_text_after
            talk.finish = stream.reply.finish_reason or "not told"
    except ChatError as error:
        talk.error = f"{type(error).__name__}: {error}"
        talk.lines.append(talk.error)
    talk.elapsed = time.monotonic() - began
    screen.ended(talk)


def _summary(talks: Sequence[Talk], sent: Sequence[str]) -> str:
    heads = ("service", "requests", "pieces", "first text, ms", "in all, ms", "finish")
    rows = [
        (
            talk.name,
            str(sent.count(talk.name)),
            str(talk.pieces),
            "-" if talk.first is None else f"{talk.first * 1000:.0f}",
            f"{talk.elapsed * 1000:.0f}",
            "failed" if talk.error else talk.finish,
        )
        for talk in talks
    ]
    return table(rows, heads)


class _Blocks:
    """Shows each conversation in one block when it has ended: for a file or a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def changed(self) -> None:
        """Wait for the end."""

    def ended(self, talk: Talk) -> None:
        """Show a conversation."""
        with self._lock:
            print(f"[{talk.name}]", *talk.lines, "", sep="\n", file=self._out, flush=True)


class _Screen:
    """Shows all conversations as they grow: for a terminal."""

    def __init__(self, out: TextIO, talks: Sequence[Talk]) -> None:
        self._out = out
        self._talks = talks
        self._lock = threading.Lock()
        self._drawn = 0  # lines of the last picture
        self._next = 0.0

    def changed(self) -> None:
        """Draw a new picture, unless the last one is fresh."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._draw()
                self._next = time.monotonic() + REDRAW

    def ended(self, talk: Talk) -> None:
        """Draw a new picture in any case."""
        with self._lock:
            self._draw()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        picture: list[str] = []
        for talk in self._talks:
            wrapped: list[str] = []
            for line in talk.lines:
                wrapped += textwrap.wrap(line, width - 3) or [""]
            shown = wrapped[-SHOWN:]
            picture += [f"[{talk.name}]", *(f"  {line}" for line in shown)]
            picture += [""] * (SHOWN - len(shown))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(f"{up}\x1b[J" + "\n".join(picture) + "\n")
        self._out.flush()
        self._drawn = len(picture)
