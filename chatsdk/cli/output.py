"""How things are shown: for people on a terminal, as plain text in a pipe, as JSON on demand.

What a model says is data: on a terminal its control characters are shown, not obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
import sys
from typing import Any, TextIO

from chatsdk.controls import visible as visible

STYLES = {"alive": "green", "missing": "yellow"}  # of cells in tables on a terminal


def is_screen(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def console(stream: TextIO) -> Any:
    """Return a `rich.console.Console` that takes all text as it is, without markup."""
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False)


def tell(text: str, *, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print text; what a terminal would obey is neutralised there."""
    out = sys.stdout if stream is None else stream
    print(visible(text) if out.isatty() else text, end=end, file=out, flush=True)


def complain(text: str) -> None:
    """Print a line on standard error."""
    tell(f"chatsdk: {text}", stream=sys.stderr)


def dump(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON, indented or as one line."""
    layout: Any = {"separators": (",", ":")} if line else {"indent": 2}
    tell(json.dumps(value, ensure_ascii=False, default=str, **layout))


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """Return rows of text in columns under their heads."""
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in lines
    )


def show_table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> None:
    """Print rows in columns under their heads; on a terminal long cells are wrapped."""
    if not is_screen(sys.stdout):
        tell(table(rows, heads))
        return
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        shown.add_column(head, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(visible(cell), STYLES.get(cell, "")) for cell in row))
    console(sys.stdout).print(shown)
