"""The program: its commands by name, and what becomes of their errors."""

from __future__ import annotations

from collections.abc import Sequence
import io
import os
import sys
from typing import Any, TextIO

import click
from click.shell_completion import shell_complete

from chatsdk.cli.command import Group
from chatsdk.cli.completion import COMPLETE
from chatsdk.cli.output import complain, dump
from chatsdk.errors import ChatError
from chatsdk.version import __version__

INTERRUPTED = 130  # what shells report of a program that Ctrl-C ended
COMMANDS = {
    "chat": "chatsdk.cli.chat:chat",
    "ask": "chatsdk.cli.ask:ask",
    "map": "chatsdk.cli.map:map_command",
    "doctor": "chatsdk.cli.doctor:doctor",
    "providers": "chatsdk.cli.services:providers_command",
    "models": "chatsdk.cli.services:models",
    "keys": "chatsdk.cli.keys:keys",
    "demo": "chatsdk.cli.simulate:demo_command",
    "simulate": "chatsdk.cli.simulate:simulate",
    "scenarios": "chatsdk.cli.simulate:scenarios",
    "replay": "chatsdk.cli.replay:replay",
    "completion": "chatsdk.cli.completion:completion",
}


NOTES = {
    "Environment": (
        "CHATSDK_TARGET is whom to ask where no TARGET is given. A key is read from the variable"
        " that `chatsdk keys list` names, else from the system keyring. NO_COLOR switches colours"
        " off."
    ),
}
EXAMPLES = (
    "chatsdk demo",
    "chatsdk chat gigachat",
    'chatsdk ask gigachat h2o "Why is the sky blue?"',
    "chatsdk doctor gigachat",
)


@click.group(
    cls=Group,
    homes=COMMANDS,
    notes=NOTES,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def chatsdk() -> None:
    """requests, for chat: talk to any chat service from a terminal.

    A TARGET is a provider ("gigachat") or a provider and one of its models
    ("gigachat:GigaChat-2-Pro"); `chatsdk providers` lists them.

    Output is made for people on a terminal, is plain text in a pipe, and JSON with --json.
    """


def run(arguments: Sequence[str] | None) -> int:
    """Run the program and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no letter of an answer is worth the rest of it
    words = sys.argv[1:] if arguments is None else list(arguments)
    shell = os.environ.get(COMPLETE)
    if shell:
        return shell_complete(chatsdk, {}, "chatsdk", COMPLETE, shell)
    meta: dict[str, Any] = {}
    try:
        with chatsdk.make_context("chatsdk", words) as context:
            meta = context.meta
            return int(chatsdk.invoke(context) or 0)
    except click.exceptions.Exit as ended:
        return int(ended.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.ClickException as error:
        _refuse(error)
        _tell_program(meta, error.__cause__ or error, error.format_message())
        return error.exit_code
    except BrokenPipeError:
        _forget(sys.stdout)
        return 1
    except (ChatError, ValueError, OSError) as error:
        complain(str(error))
        _tell_program(meta, error, str(error))
        return 1


def _tell_program(meta: dict[str, Any], error: BaseException, message: str) -> None:
    """Print an error as JSON, if that was asked for."""
    if meta.get("chatsdk.json"):
        dump({"error": {"type": type(error).__name__, "message": message}})


def _refuse(error: click.ClickException) -> None:
    """Tell of a mistake on the command line, with the way to its help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
    complain(error.format_message())
    if context is not None:
        click.echo(f"Try '{context.command_path} --help'.", err=True)


def _forget(stream: TextIO) -> None:
    """Lead a stream that nobody reads any more nowhere, or Python complains at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
