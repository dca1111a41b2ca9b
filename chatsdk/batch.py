"""The commands ``chatsdk ask`` and ``chatsdk map``: many answers on a screen, in a pipe, in a file.

What a model says is data: on a terminal its control characters are shown, not obeyed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, ExitStack
import csv
import errno
import io
import json
import os
import shutil
import stat
import sys
import textwrap
import time
from typing import Any, IO, TextIO

import attrs

from chatsdk.client import Client
from chatsdk.errors import ChatError
from chatsdk.journal import json_line
from chatsdk.messages import Answer
from chatsdk.pace import Rate

USAGE = 2  # exit status
COLUMN = 32  # characters of the narrowest column on a screen
GAP = " | "
REDRAW = 0.05  # s between two pictures of the screen at least

# What moves a cursor, changes colours or turns text round is replaced by a picture of itself.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
_PICTURES |= dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def visible(text: str) -> str:
    """Return a text that a terminal shows and does not obey."""
    return text.translate(_PICTURES)


def add_commands(commands: Any) -> None:
    """Add both to the command line's parser."""
    command = commands.add_parser(
        "ask", help="ask one or several targets a question and show the answers as they come"
    )
    command.add_argument("targets", nargs="+", metavar="TARGET", help="provider or provider:model")
    command.add_argument("prompt", metavar="PROMPT", help="the question; - reads it from a pipe")
    _add_parameters(command)
    command.set_defaults(run=_ask)

    command = commands.add_parser(
        "map", help="ask each question of a file, and write each answer as a line of JSON"
    )
    command.add_argument("inputs", metavar="IN", help="JSON lines or CSV; - reads from a pipe")
    command.add_argument("-o", "--output", default="-", metavar="OUT", help="-: to a pipe")
    command.add_argument("--target", help="provider or provider:model; else $CHATSDK_TARGET")
    command.add_argument("--workers", type=int, default=8, metavar="N", help="calls at once")
    command.add_argument("--journal", metavar="FILE", help="keep answers; ask for none again")
    command.add_argument("--retry-errors", action="store_true", help="but for those that failed")
    command.add_argument("--unordered", action="store_true", help="write answers as they come")
    command.add_argument("--column", help="IN is CSV: where its questions are")
    command.add_argument("--key", metavar="COLUMN", help="IN is CSV: where its keys are")
    command.add_argument("--requests-per-minute", type=float, metavar="N")
    command.add_argument("--tokens-per-minute", type=float, metavar="N")
    command.add_argument("--progress", action="store_true", help="show a bar")
    _add_parameters(command)
    command.set_defaults(run=_map)


def _add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument("--system", help="a system message")
    command.add_argument("--temperature", type=float, metavar="X")
    command.add_argument("--max-tokens", type=int, metavar="N")
    command.add_argument("--timeout", type=float, metavar="S", help="seconds of silence, at most")
    command.add_argument("--base-url", metavar="URL", help="of the one target, if not its own")


def _parameters(chosen: argparse.Namespace) -> dict[str, Any]:
    names = ("system", "temperature", "max_tokens", "timeout")
    given = {name: getattr(chosen, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def _usage() -> Iterator[None]:
    """End the program with status 2 if what is done inside shows a mistake of the caller's."""
    try:
        yield
    except (ChatError, TypeError, ValueError, OSError) as error:
        print(f"chatsdk: {error}", file=sys.stderr)
        raise SystemExit(USAGE) from None


# ask


def _ask(chosen: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if chosen.prompt == "-" else chosen.prompt
    with _usage():
        if chosen.base_url is not None and len(chosen.targets) > 1:
            raise ValueError("--base-url is for one target, and there are more")
        client = Client(chosen.targets[0] if chosen.base_url else None, base_url=chosen.base_url)
        pairs = client.stream_all(prompt, chosen.targets, **_parameters(chosen))
    with client, pairs:
        show = _screen(sys.stdout, chosen.targets)
        failed = show(pairs)
    for answer in failed:
        _complain(answer)
    return 1 if failed else 0


def _complain(answer: Answer) -> None:
    words = f"chatsdk: {answer.target}: {type(answer.error).__name__}: {answer.error}"
    print(visible(words) if sys.stderr.isatty() else words, file=sys.stderr)


Pairs = Iterable["tuple[Any, str | Answer]"]
Show = Callable[[Pairs], "list[Answer]"]


def _screen(out: TextIO, targets: Sequence[str]) -> Show:
    """Return what shows texts that arrive, and returns the failures."""
    if len(targets) == 1:
        return lambda pairs: _stream(out, pairs)
    return lambda pairs: (_live if out.isatty() else _blocks)(out, targets, pairs)


def _stream(out: TextIO, pairs: Pairs) -> list[Answer]:
    failed: list[Answer] = []
    show = visible if out.isatty() else str
    for _, text in pairs:
        if isinstance(text, Answer):
            failed.append(text)
        else:
            print(show(text), end="", file=out, flush=True)
    print(file=out, flush=True)
    return failed


def _blocks(out: TextIO, targets: Sequence[str], pairs: Pairs) -> list[Answer]:
    """Show each answer in one block under its label: for a file or a pipe."""
    texts, failed = _gathered(targets, pairs, lambda texts: None)
    _write_blocks(out, texts, str)
    return failed


def _live(out: TextIO, targets: Sequence[str], pairs: Pairs) -> list[Answer]:
    """Show the answers side by side as they grow, then each as a whole: for a terminal."""
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
    _write_blocks(out, texts, visible)
    return failed


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


def _write_blocks(out: TextIO, texts: Mapping[str, str], show: Callable[[str], str]) -> None:
    for target, text in texts.items():
        print(f"[{show(target)}]", show(text).strip("\n"), "", sep="\n", file=out, flush=True)


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


# map


def _map(chosen: argparse.Namespace) -> int:
    broken: dict[int, str] = {}
    failed = 0
    with ExitStack() as opened:
        with _usage():
            answers = _answers(chosen, opened, broken)
            sink = opened.enter_context(_sink(chosen))
        for answer in answers:
            answer = _explained(answer, broken)
            failed += not answer.ok
            sink.write(json_line(answer))
    if failed:
        print(f"chatsdk: {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def _answers(
    chosen: argparse.Namespace, opened: ExitStack, broken: dict[int, str]
) -> Iterator[Answer]:
    """Return the answers, none of them asked for yet; what is opened for them is in the stack."""
    rate = Rate(
        requests_per_minute=chosen.requests_per_minute,
        tokens_per_minute=chosen.tokens_per_minute,
    )
    client = opened.enter_context(Client(chosen.target, base_url=chosen.base_url))
    source = opened.enter_context(_source(chosen))
    answers = client.map(
        _rows(source, chosen) if _is_csv(chosen) else _lines(source, broken),
        max_workers=chosen.workers,
        ordered=not chosen.unordered,
        journal=chosen.journal,
        retry_errors=chosen.retry_errors,
        progress=chosen.progress,
        rate=rate,
        **_parameters(chosen),
    )
    return opened.enter_context(closing(answers))


def _explained(answer: Answer, broken: dict[int, str]) -> Answer:
    """Return the answer to a line that could not be read with the reason as its error."""
    reason = broken.pop(answer.index, None)
    return answer if reason is None else attrs.evolve(answer, error=ValueError(reason))


def _is_csv(chosen: argparse.Namespace) -> bool:
    return chosen.column is not None or chosen.inputs.endswith(".csv")


def _source(chosen: argparse.Namespace) -> IO[Any]:
    ours = chosen.inputs != "-"
    place = chosen.inputs if ours else sys.stdin.fileno()
    if _is_csv(chosen):
        return open(place, encoding="utf-8-sig", newline="", closefd=ours)
    return open(place, "rb", closefd=ours)


def _lines(source: Iterable[bytes], broken: dict[int, str]) -> Iterator[Any]:
    """Yield the question of each line; one that says none is noted, and None stands for it."""
    index = 0
    for number, line in enumerate(source, 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        try:
            yield _question(json.loads(line))
        except (ValueError, RecursionError) as error:
            broken[index] = f"line {number}: {error}"
            yield None
        index += 1


def _question(line: Any) -> Any:
    """Return the question that a line of JSON means, with its key if it has one."""
    if not isinstance(line, dict) or "role" in line:
        return line
    for name in ("messages", "prompt", "input"):
        if name in line:
            break
    else:
        raise ValueError("a question is a text, messages, or an object with messages or prompt")
    key = line.get("key", line.get("id"))
    return line[name] if key is None else (key, line[name])


def _rows(source: Iterable[str], chosen: argparse.Namespace) -> Iterator[Any]:
    """Return the questions in a column of CSV, each with its key if that has a column."""
    column, key = chosen.column, chosen.key
    reader = csv.DictReader(source)
    known = reader.fieldnames or []
    if column is None:
        raise ValueError("IN is CSV: --column says where its questions are")
    for name in (column, key):
        if name is not None and name not in known:
            raise ValueError(f"there is no column {name!r}; there are: {', '.join(known)}")
    return (row[column] if key is None else (row[key], row[column]) for row in reader)


class _Sink:
    """A file of whole lines: each is one write at the end of the file, or is taken back."""

    def __init__(self, number: int, *, ours: bool) -> None:
        self._number = number
        self._ours = ours
        self._regular = stat.S_ISREG(os.fstat(number).st_mode)
        self._show = visible if os.isatty(number) else str

    def write(self, line: str) -> None:
        """Write a line."""
        data = self._show(line).encode() + b"\n"
        written = os.write(self._number, data)
        while written < len(data):
            if self._regular:  # the disk is full, and half a line is none
                size = os.fstat(self._number).st_size
                os.ftruncate(self._number, size - written)
                raise OSError(errno.ENOSPC, "no room for another answer")
            written += os.write(self._number, data[written:])

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *details: object) -> None:
        if self._ours:
            os.close(self._number)


def _sink(chosen: argparse.Namespace) -> _Sink:
    if chosen.output == "-":
        return _Sink(sys.stdout.fileno(), ours=False)
    if chosen.inputs != "-" and os.path.exists(chosen.output):
        if os.path.samefile(chosen.inputs, chosen.output):
            raise ValueError("OUT would overwrite IN")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return _Sink(os.open(chosen.output, flags, 0o666), ours=True)
