"""The command ``chatsdk completion``: what a shell needs to complete commands and targets."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    add_completion_class,
    BashComplete,
    CompletionItem,
    get_completion_class,
    split_arg_string,
)

from chatsdk.cli.command import argument, command
from chatsdk.cli.output import tell

COMPLETE = "_CHATSDK_COMPLETE"  # the variable through which a shell asks for completions
SHELLS = ("bash", "zsh", "fish")


class Bash(BashComplete):
    """Completion for bash, which takes ``provider:model`` for three words."""

    _said = ""  # of the word at the cursor what stands before bash's own last word

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one at it."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        place = int(os.environ["COMP_CWORD"])
        glued: list[str] = []
        for word in words[1:place + 1]:
            if glued and (word == ":" or glued[-1].endswith(":")):
                glued[-1] += word
            else:
                glued.append(word)
        if place >= len(words):
            glued.append("")
        self._said = glued[-1].rpartition(":")[0]
        return glued[:-1], glued[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return a completion as the shell's function reads it."""
        value = item.value.removeprefix(f"{self._said}:") if self._said else item.value
        return f"{item.type},{value}"


add_completion_class(Bash)


@command(
    "completion",
    short_help="Print what lets a shell complete commands and targets.",
    examples=(
        "eval \"$(chatsdk completion bash)\"    # in ~/.bashrc",
        "eval \"$(chatsdk completion zsh)\"     # in ~/.zshrc, after compinit",
        "chatsdk completion fish > ~/.config/fish/completions/chatsdk.fish",
    ),
)
@argument("shell", type=click.Choice(SHELLS), about="For which shell.")
def completion(shell: str) -> int:
    """Print what lets a shell complete commands, options, targets and scenarios with Tab."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has all of SHELLS
    program = click.get_current_context().find_root().command
    tell(kind(program, {}, "chatsdk", COMPLETE).source())
    return 0
