"""The command ``chatsdk chat``: a conversation at the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys
from typing import Any

import click

from chatsdk.cli.ask import as_plain
from chatsdk.cli.command import argument, as_json, command, usage
from chatsdk.cli.keyboard import from_pipe, from_terminal, history_path
from chatsdk.cli.markdown import page
from chatsdk.cli.options import client_for, given, named, parameters, TARGET
from chatsdk.cli.output import complain, console, is_screen, tell, visible
from chatsdk.cli.session import HELP, Screen, Session
from chatsdk.journal import json_line
from chatsdk.results import Answer
from chatsdk.streams import Stream

EARLY = {
    "length": "the answer ended at the limit of tokens (--max-tokens)",
    "content_filter": "the answer ended at the service's filter",
}
KEYS = {
    "Enter": "send",
    "Alt-Enter": "begin a new line",
    "Up, Down": "bring back what was typed before",
    "Tab": "complete a command",
    "Ctrl-C": "stop the answer; at the prompt: clear the line",
    "Ctrl-D": "leave",
}


class People(Screen):
    """Shows a session to people."""

    def __init__(self, plain: bool) -> None:
        """Begin."""
        self._plain = plain or not is_screen(sys.stdout)

    def show(self, stream: Stream) -> None:
        """Show an answer as it comes."""
        with page(sys.stdout, self._plain) as shown:
            for delta in stream.deltas():
                if delta.reasoning:
                    shown.think(delta.reasoning)
                if delta.text:
                    shown.add(delta.text)

    def ended(self, answer: Answer) -> None:
        """Tell of a failure, or of an answer that is not all that was to be said."""
        if answer.error is not None:
            complain(f"{answer.target}: {type(answer.error).__name__}: {answer.error}")
        elif answer.reply is not None and answer.reply.finish_reason in EARLY:
            self.tell(EARLY[answer.reply.finish_reason])

    def tell(self, text: str) -> None:
        """Tell something that no model said."""
        if self._plain:
            tell(text, stream=sys.stderr)
        else:
            console(sys.stdout).print(visible(text), style="dim")


class Programs(Screen):
    """Shows a session to programs: an answer a line, as JSON."""

    def show(self, stream: Stream) -> None:
        """Read an answer."""
        for _ in stream:
            pass

    def ended(self, answer: Answer) -> None:
        """Print an answer."""
        tell(json_line(answer))

    def tell(self, text: str) -> None:
        """Tell something that no model said."""
        complain(text)


@command(
    "chat",
    short_help="Talk to a service at the keyboard.",
    notes={
        "Keys": KEYS,
        "Commands": HELP,
        "In a pipe": (
            "Each line is a question, and the answers are plain text; with --json each is a line,"
            " as `chatsdk map` writes it."
        ),
    },
    examples=(
        "chatsdk chat gigachat",
        "chatsdk chat h2o --system 'Answer in one sentence.'",
        "printf 'My name is Ada.\\nWho am I?\\n' | chatsdk chat gigachat",
    ),
    ends={1: "in a pipe: a question was not answered"},
)
@argument("target", required=False, metavar="TARGET", type=TARGET,
          about="Provider or provider:model; else $CHATSDK_TARGET.")
@parameters
@click.option("--history", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where questions are remembered, else in ~/.local/state/chatsdk/history.")
@click.option("--no-history", is_flag=True, help="Remember them nowhere.")
@as_plain
@as_json
def chat(
    target: str | None,
    history: Path | None,
    no_history: bool,
    plain: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Talk to a service: it remembers what was said, and answers as it thinks."""
    how = given(options)
    screen = Programs() if as_json else People(plain)
    with usage():
        target = named(target)
        client = client_for([target], options)
        session = Session(client, screen, target=target, how=how)
    with client:
        if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
            with usage():
                read = from_terminal(None if no_history else history or history_path())
            screen.tell(f"talking to {session.target}; /help lists commands, Ctrl-D leaves")
            _talk(session, read, screen)
            return 0
        for said in from_pipe(sys.stdin):
            if not session.obey(said):
                break
    return 1 if session.failed else 0


def _talk(session: Session, read: Callable[[], str], screen: Screen) -> None:
    """Obey what is typed until its end; Ctrl-C ends an answer and not the conversation."""
    going = True
    while going:
        try:
            said = read()
        except KeyboardInterrupt:  # what was typed is gone, and that is all
            continue
        except EOFError:
            return
        try:
            going = session.obey(said)
        except KeyboardInterrupt:
            screen.tell("stopped; /retry asks again")
