"""The command ``chatsdk replay``: shows a recording as it was when it was made."""

from __future__ import annotations

from collections.abc import Generator
import math
from pathlib import Path
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import click

from chatsdk import providers
from chatsdk.cassettes import Cassette, RecordedExchange
from chatsdk.cli.ask import as_plain
from chatsdk.cli.command import argument, as_json, command, usage
from chatsdk.cli.markdown import page
from chatsdk.cli.output import complain, console, dump, is_screen, tell, visible
from chatsdk.errors import ChatError
from chatsdk.messages import Delta, Query, Usage
from chatsdk.ratelimits import RateLimits
from chatsdk.streams import Stream

AT_ONCE = math.inf  # the speed
# Where the services' bodies have what was asked last, from the outside in.
QUESTIONS = (
    "messages", "contents", "input", "inputs", "prompt", "question", "message", "content", "parts",
    "text",
)


@command(
    "replay",
    short_help="Play a recording of Client(record=...).",
    examples=(
        "chatsdk replay cassette.jsonl",
        "chatsdk replay cassette.jsonl --speed inf --json | jq -r .text",
    ),
)
@argument("cassette", metavar="FILE", type=click.Path(path_type=Path),
          about="A file that Client(record=FILE) wrote.")
@click.option("--speed", type=float, default=1.0, metavar="X",
              help="2 is twice as fast as it was, inf at once; else 1.")
@as_plain
@as_json
def replay(cassette: Path, speed: float, plain: bool, as_json: bool) -> int:
    """Play a recording: each question, and its answer at the speed at which it came.

    Nothing is sent and no key is needed. Calls that are no question (for a token, say) are told in
    one line. With --json each exchange is a line, and all come at once.
    """
    with usage():
        recording = Cassette(cassette, speed=speed)
        exchanges = recording.exchanges
    for exchange in exchanges:
        if as_json:
            dump(_told(exchange), line=True)
        else:
            _show(exchange, recording.speed, plain or not is_screen(sys.stdout))
    return 0


def asked(body: Any) -> str:
    """Return what was asked last in the body of a request, as far as it can be told."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return asked(body[-1]) if body else ""
    if isinstance(body, dict):
        return next((asked(body[name]) for name in QUESTIONS if name in body), "")
    return ""


class _Recorded:
    """The call behind a stream that is played: there is nothing to end or to count."""

    model: str | None = None

    def __init__(self, provider: str) -> None:
        self.provider: str | None = provider

    def count(self, usage: Usage) -> None:
        """Do nothing."""

    def limits(self) -> RateLimits | None:
        """Return None: they are long over."""
        return None

    def cancel(self, *, hurry: bool = False) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


def played(exchange: RecordedExchange, speed: float) -> Stream:
    """Return the answer of an exchange as a stream.

    Raises:
        ChatError: While iterating: it is no answer, or it broke off.
    """
    kind = providers.get(str(exchange.provider))
    parts = urlsplit(exchange.url)
    provider = kind(  # type: ignore[call-arg]  # it has defaults
        api_key="none", base_url=f"{parts.scheme}://{parts.netloc}"
    )

    def steps() -> Generator[Delta | None, None, None]:
        time.sleep((exchange.head or 0.0) / speed)
        yield None
        yield from provider.deltas(Query(messages=()), exchange.response(speed=speed))

    return Stream(_Recorded(kind.name), steps()).open()


def is_answer(exchange: RecordedExchange) -> bool:
    """Return whether an exchange has text of a language model."""
    if exchange.token or exchange.status != 200 or exchange.provider not in providers.names():
        return False
    try:
        return next(played(exchange, AT_ONCE), None) is not None
    except ChatError:
        return False


def _head(exchange: RecordedExchange) -> str:
    path = urlsplit(exchange.url).path
    status = "no answer" if exchange.status is None else exchange.status
    return (
        f"{exchange.at}  {exchange.provider}  {exchange.method} {path}"
        f"  {status}, {exchange.elapsed:.2f} s"
    )


def _show(exchange: RecordedExchange, speed: float, plain: bool) -> None:
    """Show an exchange to people."""
    _note(_head(exchange), plain, "dim")
    if is_answer(exchange):
        question = asked(exchange.body)
        if question:
            _note(f"> {question}", plain, "bold")
        try:
            with page(sys.stdout, plain) as shown:
                for text in played(exchange, speed):
                    shown.add(text)
        except ChatError as error:
            complain(f"{type(error).__name__}: {error}")
    elif exchange.fault is not None:
        complain(_fault(exchange))


def _fault(exchange: RecordedExchange) -> str:
    fault = exchange.fault
    return "" if fault is None else f"{fault.kind}: {fault.text or fault.phase}"


def _note(text: str, plain: bool, style: str) -> None:
    if plain:
        tell(text)
    else:
        console(sys.stdout).print(visible(text), style=style)


def _told(exchange: RecordedExchange) -> dict[str, Any]:
    """Return an exchange as JSON has it."""
    text: str | None = None
    error = None if exchange.fault is None else _fault(exchange)
    if is_answer(exchange):
        stream = played(exchange, AT_ONCE)
        try:
            text = "".join(stream)
        except ChatError as problem:
            text, error = stream.text, f"{type(problem).__name__}: {problem}"
    return {
        "at": exchange.at,
        "provider": exchange.provider,
        "method": exchange.method,
        "url": exchange.url,
        "status": exchange.status,
        "elapsed": exchange.elapsed,
        "question": asked(exchange.body) or None,
        "text": text,
        "error": error,
    }
