"""Several answers at once: side by side on a terminal as they grow, blocks in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import io
import shutil
import textwrap
import time
from typing import Any, TextIO

from chatsdk.cli.markdown import show_whole
from chatsdk.cli.output import console, tell, visible
from chatsdk.results import Answer

COLUMN = 32  # characters of the narrowest column on a screen
GAP = " | "
REDRAW = 0.05  # s between two pictures of the screen at least

Pairs = Iterable[tuple[Any, "str | Answer"]]


def blocks(out: TextIO, targets: Sequence[str], pairs: Pairs) -> list[Answer]:
    """Show each answer in one block under its label when all are in; return the failures."""
    texts, failed = _gathered(targets, pairs, lambda texts: None)
    _write(out, texts, plain=True)
    return failed


def live(out: TextIO, targets: Sequence[str], pairs: Pairs, plain: bool) -> list[Answer]:
    """Show the answers side by side as they grow, then each as a whole; return the failures."""
    drawn = 0
    due = 0.0

    def draw(texts: Mapping[str, str]) -> None:
        nonlocal drawn, due
        if time.monotonic() < due:
            return
        due = time.monotonic() + REDRAW
        size = shutil.get_terminal_size()
        lines = picture(texts, size.columns - 1, size.lines - 1)
        out.write(_up(drawn) + "\n".join(lines) + "\n")
        out.flush()
        drawn = len(lines)

    texts, failed = _gathered(targets, pairs, draw)
    out.write(_up(drawn))
    _write(out, texts, plain)
    return failed


def _write(out: TextIO, texts: Mapping[str, str], plain: bool) -> None:
    for target, text in texts.items():
        if plain:
            tell(f"[{target}]", stream=out)
        else:
            console(out).print(f"[{visible(target)}]", style="bold")
        show_whole(out, text.strip("\n"), plain)
        tell("", stream=out)


def _up(lines: int) -> str:
    """Return what takes a terminal to the beginning of so many lines and clears them."""
    return f"\x1b[{lines}A\x1b[J" if lines else ""


def _gathered(
    targets: Sequence[str], pairs: Pairs, changed: Callable[[Mapping[str, str]], None]
) -> tuple[dict[str, str], list[Answer]]:
    parts: dict[str, io.StringIO] = {target: io.StringIO() for target in targets}
    failed: list[Answer] = []
    for target, text in pairs:
        if isinstance(text, Answer):
            failed.append(text)
            continue
        parts[target].write(text)
        changed(_Texts(parts))
    return {target: part.getvalue() for target, part in parts.items()}, failed


class _Texts(Mapping[str, str]):
    """The texts so far; each is put together only when it is looked at."""

    def __init__(self, parts: Mapping[str, io.StringIO]) -> None:
        self._parts = parts

    def __getitem__(self, target: str) -> str:
        return self._parts[target].getvalue()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def picture(texts: Mapping[str, str], width: int, height: int) -> list[str]:
    """Return the ends of texts in columns under their labels, as many beside each other as fit."""
    abreast = max(1, min(len(texts), (width + len(GAP)) // (COLUMN + len(GAP))))
    items = list(texts.items())
    bands = [items[n:n + abreast] for n in range(0, len(items), abreast)]
    rows = max(1, height // len(bands) - 1)
    column = (width - len(GAP) * (abreast - 1)) // abreast
    lines: list[str] = []
    for band in bands:
        cells = [_cell(label, text, column, rows) for label, text in band]
        lines += [GAP.join(parts).rstrip() for parts in zip(*cells)]
    return lines[:height]


def _cell(label: str, text: str, width: int, rows: int) -> list[str]:
    """Return a label and the last rows of a text, each as wide as the column."""
    wrapped: list[str] = []
    for line in visible(text)[-rows * width * 2:].expandtabs(4).split("\n"):
        wrapped += textwrap.wrap(line, width, drop_whitespace=False) or [""]
    shown = [f"[{visible(label)}]", *wrapped[-rows:], *[""] * rows]
    return [line[:width].ljust(width) for line in shown[:rows + 1]]
