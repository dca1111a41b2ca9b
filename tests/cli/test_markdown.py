"""Answers as Markdown: block by block, and nothing of them left out."""

from __future__ import annotations

import io
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
import pytest
from rich.console import Console

from chatsdk.cli import markdown
from chatsdk.cli.markdown import page, rendered, show_whole, whole_blocks
from chatsdk.cli.output import visible


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def size(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")


def text_of(source):
    """Return what a reader sees of Markdown, without colours."""
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(rendered(source))
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("one", ""),
        ("one\n\n", ""),  # the next line may still belong to it
        ("one\n\ntwo", "one\n\n"),
        ("# one\ntwo", "# one\n"),
        ("one\ntwo", ""),
        ("```\na\n\nb", ""),
        ("```\na\n\nb\n```\nc", "```\na\n\nb\n```\n"),
        ("1. a\n\n2. b\n\n   c", ""),
        ("a\u2028b\x0bc\x85d\n\ne", "a\u2028b\x0bc\x85d\n\n"),  # none of these ends a line
        ("a\n\n[b]: http://c", "a\n\n"),
    ],
)
def test_a_block_is_whole_when_the_next_one_begins(text, whole):
    assert text[:whole_blocks(text)] == whole


def test_every_piece_is_printed_once_and_in_order():
    printed = []

    def note(text):
        printed.append(text)
        return rendered(text)

    source = "# Head\n\nwords *and* words\n\n- a\n- b\n\n```py\n\nx = 1\n\n```\n\nend \x1b[31m"
    with mock.patch.multiple(markdown, rendered=note, PARSE=0, SHARE=0):
        with page(Terminal(), plain=False) as shown:
            for letter in source:
                shown.add(letter)

    assert "".join(printed) == visible(source)
    assert len(printed) == 5


@given(st.text(alphabet="ab \n`-#>|*[]()1.", max_size=60), st.integers(1, 20))
def test_however_it_is_cut_nothing_is_lost_or_printed_twice(source, size):
    printed = []

    quick = {"PARSE": 0, "SHARE": 0, "console": mock.MagicMock(), "rendered": printed.append}
    with mock.patch.multiple(markdown, **quick), mock.patch("rich.live.Live"):
        with page(Terminal(), plain=False) as shown:
            for at in range(0, len(source), size):
                shown.add(source[at:at + size])

    assert "".join(printed).strip() == source.strip()


@pytest.mark.parametrize(
    "text",
    [
        "<b>tags</b> & &amp; entities",
        "<div>\nblocks\n</div>",
        "[words][1] and\n\n[1]: http://example.org",
        "a picture ![of it](http://example.org/a.png)",
        "lines\nthat end",
    ],
)
def test_what_rich_would_leave_out_is_shown(text):
    shown = text_of(text).replace(" (http", "(http").split()

    for word in text.replace("[of it](", "of it(").split():
        assert word in shown


def test_a_link_shows_where_it_leads():
    assert "http://evil.example" in text_of("[http://good.example](http://evil.example)")
    out = Terminal()
    show_whole(out, "[good](http://evil.example)", plain=False)
    assert "\x1b]8;" not in out.getvalue()


def test_a_growing_block_never_takes_more_than_the_screen():
    growing = markdown._Growing()
    growing.text = "word " * 10_000 + "last"
    screen = Console(file=io.StringIO(), width=40, height=10, color_system=None)

    lines = list(growing.__rich_console__(screen, screen.options))

    assert len(lines) == 8
    assert lines[-1].plain.endswith("last")


def test_an_answer_that_breaks_off_is_shown_up_to_there():
    out = Terminal()

    with pytest.raises(KeyboardInterrupt):
        with page(out, plain=False) as shown:
            shown.add("half of *the* answer")
            raise KeyboardInterrupt

    assert "\x1b[3mthe\x1b[0m answer" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")  # nothing of the live picture is left


def test_in_a_pipe_a_page_is_the_text_and_a_line_feed():
    out = io.StringIO()

    with page(out, plain=False) as shown:
        shown.add("# one\x1b")
        shown.add("\n")

    assert out.getvalue() == "# one\x1b\n\n"
