"""The command ``chatsdk``; it needs ``chatsdk[cli]``, and says so where that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
import sys

NEEDED = ("click", "prompt_toolkit", "rich")
USAGE = 2  # exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words of the command line; None: those of this process.

    Returns:
        The exit status: 0, 1 something failed, 2 the command line makes no sense or the extra is
        missing, 130 interrupted.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"chatsdk: the command line needs {' and '.join(missing)}:"
            " pip install 'chatsdk[cli]'",
            file=sys.stderr,
        )
        return USAGE
    from chatsdk.cli.program import run

    return run(arguments)
