"""Logging for those who want to see it without a line of code: ``CHATSDK_LOG=debug``."""

from __future__ import annotations

import logging
import sys
from typing import Any

NAME = "CHATSDK_LOG"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMAT = "%(asctime)s %(levelname)s %(name)s [%(threadName)s] %(message)s"

log = logging.getLogger(__name__)


class Console(logging.StreamHandler):  # type: ignore[type-arg]  # no [] before Python 3.11
    """Writes one line a record to what is standard error then.

    It keeps still where a handler of the program's own writes the same record to the console.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_name(NAME)
        self.setFormatter(logging.Formatter(FORMAT))

    @property
    def stream(self) -> Any:
        """Standard error as it is now: notebooks and tests put another one in its place."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass  # what `logging.StreamHandler` would keep

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")

    def filter(self, record: logging.LogRecord) -> Any:
        """Leave out what the console shows already."""
        return super().filter(record) and not any(
            record.levelno >= other.level and _on_console(other) for other in _others(self)
        )


def _others(mine: logging.Handler) -> list[logging.Handler]:
    ours, root = logging.getLogger("chatsdk"), logging.getLogger()
    return [
        *(handler for handler in ours.handlers if handler is not mine),
        *(root.handlers if ours.propagate else []),
    ]


def _on_console(handler: logging.Handler) -> bool:
    streams = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    stream = getattr(handler, "stream", None)
    return stream is not None and any(stream is known for known in streams)


def switch_on(wanted: str) -> None:
    """Show what the library logs, from a level on, on standard error; a second time changes it.

    Args:
        wanted: A name of `LEVELS`, in any case; for another word it is "warning", and that is said.
    """
    level = LEVELS.get(wanted.strip().lower())
    ours = logging.getLogger("chatsdk")
    ours.setLevel(logging.WARNING if level is None else level)
    if not any(handler.get_name() == NAME for handler in ours.handlers):
        ours.addHandler(Console())
    if level is None:
        log.warning("CHATSDK_LOG must be one of %s; warnings are shown", ", ".join(LEVELS))
