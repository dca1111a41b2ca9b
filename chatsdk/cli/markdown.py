"""An answer as it grows: Markdown on a terminal, the very text in a pipe."""

from __future__ import annotations

from contextlib import AbstractContextManager
import time
from typing import Any, Protocol, TextIO

from chatsdk.cli.output import console, is_screen, tell, visible

PARSE = 0.1  # s between two looks for blocks that are complete, at least
SHARE = 9  # times what a look took is the pause after it: one at a megabyte takes a second
THOUGHTS = 240  # characters of reasoning that are shown at a time
PICTURES = 12  # a second at most


class Page(Protocol):
    """What shows the pieces of an answer."""

    def add(self, text: str) -> None:
        """Show the next piece."""

    def think(self, text: str) -> None:
        """Show a piece of the reasoning that comes before the answer, where it can vanish again."""


def page(out: TextIO, plain: bool) -> AbstractContextManager[Page]:
    """Return what shows an answer on a stream, from its first piece to the end of the block."""
    return _Plain(out) if plain or not is_screen(out) else _Markdown(out)


def show_whole(out: TextIO, text: str, plain: bool) -> None:
    """Show an answer that is complete."""
    if plain or not is_screen(out):
        tell(text, stream=out)
    else:
        console(out).print(rendered(visible(text)))


class _Plain:
    """Shows the text as it comes, and a line feed at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def add(self, text: str) -> None:
        tell(text, stream=self._out, end="")

    def think(self, text: str) -> None:
        """Do nothing: what is printed stays."""

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *details: object) -> None:
        tell("", stream=self._out)


class _Markdown:
    """Shows blocks that are complete as Markdown, and the growing one below as plain text.

    Only what is still growing is drawn again, so that a long answer scrolls by as any other text.
    """

    def __init__(self, out: TextIO) -> None:
        from rich.live import Live

        self._console = console(out)
        self._growing = _Growing()
        self._due = 0.0
        self._live = Live(
            self._growing,
            console=self._console,
            refresh_per_second=PICTURES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def add(self, text: str) -> None:
        self._growing.thoughts = ""
        self._growing.text += visible(text)
        began = time.monotonic()
        if "\n" in self._growing.text and began >= self._due:
            self._print(whole_blocks(self._growing.text))
            ended = time.monotonic()
            self._due = ended + max(PARSE, SHARE * (ended - began))

    def think(self, text: str) -> None:
        self._growing.thoughts = (self._growing.thoughts + visible(text))[-THOUGHTS:]

    def __enter__(self) -> _Markdown:
        self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        try:
            self._print(len(self._growing.text))
        finally:
            self._live.stop()

    def _print(self, end: int) -> None:
        """Print the text up to a place for good."""
        done, self._growing.text = self._growing.text[:end], self._growing.text[end:]
        if done.strip():
            self._console.print(rendered(done))
            if self._growing.text:
                self._console.print()


class _Growing:
    """The block that is not complete: as many of its last lines as the screen has room for.

    Until it begins, the end of what the model thinks stands in its place.
    """

    text = ""
    thoughts = ""

    def __rich_console__(self, screen: Any, options: Any) -> Any:
        from rich.text import Text

        if not self.text:
            yield Text(self.thoughts.strip(), "dim italic")
            return
        rows, columns = max(1, screen.height - 2), options.max_width
        end = self.text.rstrip("\n")[-rows * columns:]
        yield from Text(end).wrap(screen, columns, tab_size=4)[-rows:]


def whole_blocks(text: str) -> int:
    """Return where the last block of a text begins: what stands before it is complete."""
    lines = [token.map[0] for token in _parser().parse(text) if token.level == 0 and token.map]
    if len(set(lines)) < 2:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[:max(lines)])


def rendered(text: str) -> Any:
    """Return a text as Markdown for a console, nothing of it left out.

    HTML, definitions of links and pictures are shown as they were written, and so is the address
    of a link: rich would leave them out, or hide where a link leads.  Lines end where they ended.
    """
    from rich.markdown import Markdown

    made = Markdown(text, hyperlinks=False, code_theme="ansi_dark")
    made.parsed = _parser().parse(text)
    for token in made.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return made


def _parser() -> Any:
    from markdown_it import MarkdownIt

    rules = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    return rules.disable(["reference", "image", "entity"])
