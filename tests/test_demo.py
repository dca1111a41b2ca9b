"""The demonstration, as a file and as a terminal show it."""

import io
import re

from chatsdk import demo
from chatsdk.simulator import Simulator


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(text):
    """Return the table at the end: a list of cells for each service."""
    lines = text.rstrip().splitlines()
    return [re.split(r"\s{2,}", line) for line in lines[-len(demo.SERVICES):]]


def test_all_services_hold_the_conversation_in_labelled_blocks():
    out = io.StringIO()

    assert demo.demo(out) == 0

    text = out.getvalue()
    for name in demo.SERVICES:
        assert text.count(f"[{name}]") == 1
    assert text.count("Your name is Ada") == len(demo.SERVICES)
    assert [row[0] for row in rows(text)] == sorted(demo.SERVICES)
    asked = {row[0]: int(row[1]) for row in rows(text)}
    assert asked == {
        "aichatonline": 4, "aura": 2, "flowgpt": 2, "gigachat": 3, "h2o": 8,
    }
    assert all(int(row[2]) > 2 and int(row[3]) <= int(row[4]) for row in rows(text))
    assert {row[0]: row[5] for row in rows(text)}["gigachat"] == "stop"


def test_a_terminal_sees_text_as_it_arrives():
    out = Terminal()

    assert demo.demo(out) == 0

    pictures = out.getvalue().split("\x1b[J")
    assert len(pictures) > 5
    assert "Your name" in pictures[-1]
    assert len(rows(pictures[-1])) == len(demo.SERVICES)


def test_a_conversation_that_fails_is_told_and_is_status_1(monkeypatch):
    class Failing(Simulator):
        def __init__(self, **options):
            super().__init__(scenario={"aura": "status-400"}, **options)

    monkeypatch.setattr(demo, "Simulator", Failing)
    out = io.StringIO()

    assert demo.demo(out) == 1

    assert "BadRequestError" in out.getvalue()
    assert {row[0]: row[-1] for row in rows(out.getvalue())}["aura"] == "failed"
