"""What is typed: texts of one line or several, from a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
from typing import Any, TextIO

from chatsdk.cli.session import HELP

QUOTES = '"""'
PROMPT = "> "
MORE = ". "


def is_open(text: str) -> bool:
    """Return whether a text goes on: it ends in a backslash, or has three quotes unanswered."""
    return text.endswith("\\") or text.count(QUOTES) % 2 == 1


def joined(text: str) -> str:
    """Return what was meant by lines that went on: without the marks of that."""
    text = text.replace("\\\n", "\n")
    if text.lstrip().startswith(QUOTES) and text.rstrip().endswith(QUOTES):
        text = text.strip().removeprefix(QUOTES).removesuffix(QUOTES)
    return text


def from_pipe(source: TextIO) -> Iterator[str]:
    """Yield what the lines of a pipe say."""
    lines: list[str] = []
    for line in source:
        lines.append(line.rstrip("\r\n"))
        if not is_open("\n".join(lines)):
            yield joined("\n".join(lines))
            lines.clear()
    if lines:
        yield joined("\n".join(lines))


def history_path() -> Path:
    """Return where questions are remembered: a file in the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "chatsdk" / "history"


def from_terminal(history: Path | None) -> Callable[[], str]:
    """Return what waits for the next text typed at a terminal.

    Args:
        history: Where texts are remembered, readable by their owner alone; None: nowhere.

    Returns:
        A function; it raises EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    session: PromptSession[str] = PromptSession(
        history=InMemoryHistory() if history is None else FileHistory(_private(history)),
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=MORE,
        completer=WordCompleter([line.split()[0] for line in HELP], sentence=True),
        complete_while_typing=False,
        enable_open_in_editor=True,
    )
    return lambda: joined(session.prompt(PROMPT))


def _private(path: Path) -> str:
    """Return the path of a file that its owner alone can read, made if it is not there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    return str(path)


def _keys() -> Any:
    """Return keys: Enter sends what is complete, Alt-Enter begins a new line."""
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)  # and not searching the history, say

    @keys.add("enter", filter=typing)
    def _(event: Any) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    def _(event: Any) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys
