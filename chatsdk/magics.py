"""The magic ``%%chat`` of a notebook: a cell is a question, and the notebook a conversation.

It is there after ``%load_ext chatsdk``, and is loaded by nothing else.
"""

from __future__ import annotations

import argparse
from importlib import import_module
import shlex
from typing import Any, NoReturn

from chatsdk import providers
from chatsdk.client import Client
from chatsdk.conversation import Conversation
from chatsdk.errors import ConfigurationError

NAME = "chatsdk"  # of the matcher, so that it is not there twice after %reload_ext


def load(shell: Any) -> None:
    """Give IPython's shell ``%%chat`` and ``%chat``, and the completion of what follows them."""
    completer = import_module("IPython.core.completer")
    magic = ChatMagic(shell)
    shell.register_magic_function(magic.run, magic_kind="line_cell", magic_name="chat")

    def match(context: Any) -> dict[str, Any]:
        found = magic.complete(context.text_until_cursor)
        if found is None:
            return {"completions": []}
        word, names = found
        completions = [completer.SimpleCompletion(name, type="chat") for name in names]
        return {"completions": completions, "matched_fragment": word, "suppress": True}

    known = shell.Completer.custom_matchers
    known[:] = [it for it in known if getattr(it, "matcher_identifier", None) != NAME]
    known.append(completer.context_matcher(identifier=NAME)(match))


class ChatMagic:
    """The conversations of a notebook: one with each target of each client."""

    def __init__(self, shell: Any) -> None:
        """Begin with none."""
        self._shell = shell
        self._client: Client | None = None
        self._target: str | None = None
        self._talks: dict[tuple[Client, str | None], Conversation] = {}
        self._parser = _Parser(prog="%%chat", add_help=False)
        add = self._parser.add_argument
        add("target", nargs="?", metavar="TARGET")
        add("--system", metavar="TEXT")
        add("--new", action="store_true")
        add("--client", metavar="NAME")

    def run(self, line: str, cell: str | None = None) -> Any:
        """Ask what the cell says; the conversation with a target goes on from cell to cell.

        %%chat [TARGET] [--system TEXT] [--new] [--client NAME]

        TARGET         provider or provider:model; none: the last one, or $CHATSDK_TARGET
        --system TEXT  begin anew, with a system message
        --new          begin anew
        --client NAME  ask with the Client that a variable holds, from now on

        The line magic %chat, with the same words behind it, asks nothing and returns the
        conversation.
        """
        try:
            chosen = self._parser.parse_args(shlex.split(line))
        except ValueError as error:
            self._parser.error(str(error))
        if cell is not None and not cell.strip():
            self._parser.error("there is no question below it")
        client = self._chosen_client(chosen.client)
        target = chosen.target or self._target
        talk = self._talks.get((client, target))
        if talk is None or chosen.new or chosen.system is not None:
            talk = client.conversation(target=target, system=chosen.system)
        stream = None if cell is None else talk.stream(cell.strip("\n"))
        # Only what could be asked is kept: a slip of the pen changes nothing.
        self._client, self._target = client, target
        self._talks[client, target] = talk
        return talk if stream is None else stream.display()

    def _chosen_client(self, name: str | None) -> Client:
        if name is None:
            self._client = self._client or Client()
            return self._client
        found = self._shell.user_ns.get(name)
        if not isinstance(found, Client):
            self._parser.error(f"{name} is no Client")
        return found

    def complete(self, line: str) -> tuple[str, list[str]] | None:
        """Return the word before the cursor, and what can be there; None for another magic."""
        magic, *words = line.split(" ")
        if magic not in ("%chat", "%%chat") or not words:
            return None
        word = words.pop()
        known = self._known(words[-1] if words else "", word)
        return word, [name for name in known if name.startswith(word)]

    def _known(self, before: str, word: str) -> list[str]:
        if before == "--client":
            return [name for name, it in self._shell.user_ns.items() if isinstance(it, Client)]
        if before == "--system":
            return []
        if word.startswith("-"):
            return ["--client", "--new", "--system"]
        service, colon, _ = word.partition(":")
        if not colon:
            return providers.names()
        try:
            kind = providers.get(service)
        except ConfigurationError:
            return []
        return [f"{service}:{model}" for model in (*kind.models, *kind.aliases)]


class _Parser(argparse.ArgumentParser):
    """Tells a mistake as IPython does, in one line, instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise import_module("IPython.core.error").UsageError(f"{self.format_usage()}{message}")
