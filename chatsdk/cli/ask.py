"""The command ``chatsdk ask``: one question to one or several targets."""

from __future__ import annotations

import sys
from typing import Any

import click

from chatsdk.cli.command import argument, as_json, command, usage
from chatsdk.cli.markdown import page
from chatsdk.cli.options import client_for, given, parameters, TARGET
from chatsdk.cli.output import complain, is_screen, tell
from chatsdk.cli.screen import blocks, live
from chatsdk.client import Client
from chatsdk.journal import json_line
from chatsdk.results import Answer

as_plain = click.option(
    "--plain", is_flag=True, help="Text as it comes, also on a terminal: no Markdown, no colours."
)


@command(
    "ask",
    short_help="Ask one or several targets a question.",
    examples=(
        'chatsdk ask gigachat "Why is the sky blue?"',
        'chatsdk ask gigachat:GigaChat-2 h2o "Who are you?"',
        "git diff | chatsdk ask gigachat - --system 'Review this.' > review.md",
        'chatsdk ask gigachat "Say hi" --json | jq -r .text',
    ),
)
@argument("targets", nargs=-1, required=True, metavar="TARGET", type=TARGET,
          about="Provider or provider:model; several are asked at once.")
@argument("prompt", metavar="PROMPT", about="The question; - reads it from a pipe.")
@parameters
@as_plain
@as_json
def ask(
    targets: tuple[str, ...], prompt: str, plain: bool, as_json: bool, **options: Any
) -> int:
    """Ask one or several targets a question and show the answers as they come.

    One target: its text is all that is printed. Several: their answers grow side by side on a
    terminal, and are blocks under their labels in a pipe. With --json each answer is one line, as
    `chatsdk map` writes it, in the order of arrival.
    """
    question = sys.stdin.read() if prompt == "-" else prompt
    with usage():
        if options["base_url"] is not None and len(targets) > 1:
            raise ValueError("--base-url is for one target, and there are more; name one")
        client = client_for(targets, options)
    with client:
        if as_json:
            failed = _lines(client, question, targets, given(options))
        else:
            failed = _shown(client, question, targets, given(options), plain)
    for answer in failed:
        complain(f"{answer.target}: {type(answer.error).__name__}: {answer.error}")
    return 1 if failed else 0


def _lines(client: Client, question: str, targets: tuple[str, ...], how: Any) -> list[Answer]:
    """Print each answer as a line of JSON as soon as it is complete; return the failures."""
    with usage():
        answers = client.fan_out(question, targets, **how)
    failed = []
    with answers:
        for answer in answers:
            tell(json_line(answer))
            if not answer.ok:
                failed.append(answer)
    return failed


def _shown(
    client: Client, question: str, targets: tuple[str, ...], how: Any, plain: bool
) -> list[Answer]:
    """Show the answers as they come; return the failures."""
    with usage():
        pairs = client.stream_all(question, targets, **how)
    with pairs:
        if len(targets) > 1:
            if is_screen(sys.stdout):
                return live(sys.stdout, targets, pairs, plain)
            return blocks(sys.stdout, targets, pairs)
        failed = []
        with page(sys.stdout, plain) as shown:
            for _, text in pairs:
                if isinstance(text, Answer):
                    failed.append(text)
                else:
                    shown.add(text)
        return failed
