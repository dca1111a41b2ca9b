"""The command ``chatsdk map``: each question of a file, each answer a line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, ExitStack
import csv
import errno
import json
import os
import stat
import sys
from typing import Any, IO

import attrs
from attrs import frozen
import click

from chatsdk.cli.command import argument, command, usage
from chatsdk.cli.options import client_for, given, parameters, TARGET
from chatsdk.cli.output import complain, visible
from chatsdk.journal import json_line
from chatsdk.pace import Rate
from chatsdk.results import Answer

NOTES = {
    "Input": (
        "JSON lines: a text in quotes, a list of messages, or an object with prompt, input or"
        " messages and maybe a key (or id). CSV, if --column is given or IN ends in .csv. A line"
        " that is none becomes an answer with an error, and the rest goes on."
    ),
    "Output": (
        "One object a line: index, target, key, input, then text, model, finish_reason, usage and"
        " tool_calls, or error and partial. Only whole lines are written, also when the program is"
        " killed or the disk is full."
    ),
}
EXAMPLES = (
    "chatsdk map questions.jsonl -o answers.jsonl --target gigachat",
    "chatsdk map night.jsonl -o out.jsonl --target h2o --journal night.db",
    "chatsdk map table.csv --column question --key number --target gigachat",
    "jq -c .title news.json | chatsdk map - --target gigachat | jq -r .text",
)


@frozen
class Task:
    """What the options of ``chatsdk map`` say."""

    inputs: str
    output: str
    target: str | None
    workers: int
    journal: str | None
    retry_errors: bool
    unordered: bool
    column: str | None
    key: str | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    progress: bool
    how: dict[str, Any]

    @property
    def is_csv(self) -> bool:
        """Whether the questions are a table."""
        return self.column is not None or self.inputs.endswith(".csv")


@command("map", short_help="Ask each question of a file.", notes=NOTES, examples=EXAMPLES)
@argument("inputs", metavar="IN", about="A file of JSON lines or CSV; - reads from a pipe.")
@click.option("-o", "--output", default="-", metavar="OUT", help="A file; - is standard output.")
@click.option("--target", type=TARGET, metavar="TARGET", help="Whom to ask, else $CHATSDK_TARGET.")
@click.option("--workers", type=int, default=8, metavar="N", help="Calls at once, else 8.")
@click.option("--journal", metavar="FILE", help="Keep answers there; ask for none again.")
@click.option("--retry-errors", is_flag=True, help="But for those that failed in an earlier run.")
@click.option("--unordered", is_flag=True, help="Write answers as they come.")
@click.option("--column", metavar="NAME", help="IN is CSV: where its questions are.")
@click.option("--key", metavar="NAME", help="IN is CSV: where its keys are.")
@click.option("--requests-per-minute", type=float, metavar="N", help="At most.")
@click.option("--tokens-per-minute", type=float, metavar="N", help="At most.")
@click.option("--progress", is_flag=True, help="Show a bar; needs chatsdk[progress].")
@parameters
@click.option("--json", is_flag=True, expose_value=False, help="Nothing changes: it is JSON.")
def map_command(
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    timeout: float | None,
    base_url: str | None,
    **options: Any,
) -> int:
    """Ask each question of a file, and write each answer as a line of JSON."""
    how = {"system": system, "temperature": temperature, "max_tokens": max_tokens,
           "timeout": timeout, "base_url": base_url}
    task = Task(**options, how=how)
    broken: dict[int, str] = {}
    failed = 0
    with ExitStack() as opened:
        with usage():
            answers = _answers(task, opened, broken)
            sink = opened.enter_context(_sink(task))
        for answer in answers:
            answer = _explained(answer, broken)
            failed += not answer.ok
            sink.write(json_line(answer))
    if failed:
        complain(f"{failed} failed")
    return 1 if failed else 0


def _answers(
    task: Task, opened: ExitStack, broken: dict[int, str]
) -> Iterator[Answer]:
    """Return the answers, none of them asked for yet; what is opened for them is in the stack."""
    rate = Rate(
        requests_per_minute=task.requests_per_minute,
        tokens_per_minute=task.tokens_per_minute,
    )
    client = opened.enter_context(client_for([task.target], task.how))
    source = opened.enter_context(_source(task))
    answers = client.map(
        _rows(source, task) if task.is_csv else _lines(source, broken),
        max_workers=task.workers,
        ordered=not task.unordered,
        journal=task.journal,
        retry_errors=task.retry_errors,
        progress=task.progress,
        rate=rate,
        **given(task.how),
    )
    return opened.enter_context(closing(answers))


def _explained(answer: Answer, broken: dict[int, str]) -> Answer:
    """Return the answer to a line that could not be read with the reason as its error."""
    reason = broken.pop(answer.index, None)
    return answer if reason is None else attrs.evolve(answer, error=ValueError(reason))


def _source(task: Task) -> IO[Any]:
    ours = task.inputs != "-"
    place = task.inputs if ours else sys.stdin.fileno()
    if task.is_csv:
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


def _rows(source: Iterable[str], task: Task) -> Iterator[Any]:
    """Return the questions in a column of CSV, each with its key if that has a column."""
    column, key = task.column, task.key
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


def _sink(task: Task) -> _Sink:
    if task.output == "-":
        return _Sink(sys.stdout.fileno(), ours=False)
    if task.inputs != "-" and os.path.exists(task.output):
        if os.path.samefile(task.inputs, task.output):
            raise ValueError("OUT would overwrite IN; name another file")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return _Sink(os.open(task.output, flags, 0o666), ours=True)
