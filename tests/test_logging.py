"""Logging: quiet unless it is asked for, one line a record, never twice."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
import subprocess
import sys

import pytest
from servers import answer, gigachat, said

import chatsdk
from chatsdk import Client
from chatsdk.logs import Console, LEVELS, switch_on

ROOT = Path(chatsdk.__file__).parent.parent
BUSY = answer("", "503 Service Unavailable", Retry_After="0")

CALL = """
import sys
from chatsdk import Client
from chatsdk.providers.gigachat import GigaChat
client = Client(GigaChat(access_token="top-secret", base_url=sys.argv[1]), proxy="")
client.chat("the prompt?")
"""


def run(program, *arguments, **environment):
    """Run a program in a fresh interpreter; return its standard error, line by line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def ours():
    """The library's logger as it is without the variable, and again at the end."""
    logger = logging.getLogger("chatsdk")
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_nothing_is_printed_by_default_not_even_warnings(serve):
    assert run(CALL, serve(BUSY, said("Hi")).url) == []


@pytest.mark.parametrize(
    "level, names", [("debug", {"DEBUG", "WARNING", "INFO"}), ("info", {"WARNING", "INFO"}),
                     ("WARNING", {"WARNING"}), ("error", set())],
)
def test_a_variable_switches_logging_on_from_a_level(serve, level, names):
    lines = run(CALL, serve(BUSY, said("Hi")).url, CHATSDK_LOG=level)

    assert {line.split()[2] for line in lines} == names


def test_a_line_says_when_how_grave_who_and_what(serve):
    server = serve(BUSY, said("the reply"))

    lines = run(CALL, server.url, CHATSDK_LOG="debug")

    assert any(
        " DEBUG chatsdk.exchange [MainThread] POST 127.0.0.1:" in line
        and "/chat/completions: 503, " in line
        for line in lines
    )
    assert any(
        " WARNING chatsdk.calls [MainThread] gigachat:GigaChat: attempt 1 failed (ServerError);"
        in line
        for line in lines
    )
    whole = "\n".join(lines)
    assert not any(word in whole for word in ("top-secret", "the prompt", "the reply"))


def test_an_unknown_level_is_said_and_shows_warnings(serve):
    lines = run(CALL, serve(BUSY, said("Hi")).url, CHATSDK_LOG="loud")

    assert lines[0].endswith(
        "CHATSDK_LOG must be one of debug, info, warning, error; warnings are shown"
    )
    assert [line.split()[2] for line in lines] == ["WARNING", "WARNING"]


def test_an_empty_variable_counts_as_unset(serve):
    assert run(CALL, serve(BUSY, said("Hi")).url, CHATSDK_LOG="") == []


CONFIGURED = "import logging\nlogging.basicConfig(level=logging.{})\n" + CALL


@pytest.mark.parametrize("order", ["before", "after"])
def test_what_the_program_shows_itself_is_not_shown_twice(serve, order):
    program = CONFIGURED.format("WARNING") if order == "before" else (
        CALL.replace("client.chat", "import logging\nlogging.basicConfig()\nclient.chat")
    )

    lines = run(program, serve(BUSY, said("Hi")).url, CHATSDK_LOG="debug")

    assert len([line for line in lines if "attempt 1 failed" in line]) == 1
    assert len([line for line in lines if ": 503, " in line]) == 1


def test_nothing_else_is_configured():
    program = (
        "import logging, chatsdk\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
        "assert logging.getLogger('chatsdk').propagate\n"
        "assert logging.getLogger('urllib3').level == logging.NOTSET\n"
    )

    assert run(program, CHATSDK_LOG="debug") == []


def test_importing_again_adds_no_second_handler():
    program = (
        "import importlib, logging, chatsdk, chatsdk.logs\n"
        "importlib.reload(chatsdk.logs)\n"
        "importlib.reload(chatsdk)\n"
        "logging.getLogger('chatsdk').warning('only once')\n"
    )

    assert len(run(program, CHATSDK_LOG="warning")) == 1


def test_the_module_is_loaded_only_if_it_is_asked_for():
    program = "import sys, chatsdk\nassert 'chatsdk.logs' not in sys.modules"

    assert run(program) == []


def test_a_record_of_several_lines_is_one_line(ours, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    switch_on("warning")

    ours.warning("one\nline\r\nand no more")

    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("one\\nline\\r\\nand no more\n")


def test_switching_twice_changes_the_level_and_adds_nothing(ours):
    switch_on("debug")
    switch_on("warning")

    assert len([handler for handler in ours.handlers if isinstance(handler, Console)]) == 1
    assert ours.level == LEVELS["warning"]


def test_lines_go_to_what_is_standard_error_then(ours, monkeypatch):
    switch_on("warning")
    first, second = io.StringIO(), io.StringIO()

    for stream in (first, second):
        monkeypatch.setattr(sys, "stderr", stream)
        ours.warning("here")

    assert first.getvalue().count("here") == second.getvalue().count("here") == 1


def test_a_program_without_standard_error_runs_on(ours, monkeypatch):
    switch_on("warning")
    monkeypatch.setattr(sys, "stderr", None)

    ours.warning("nobody sees it")


def test_a_file_of_the_program_does_not_silence_the_console(ours, monkeypatch, tmp_path):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    switch_on("warning")
    own = logging.FileHandler(tmp_path / "log")
    ours.addHandler(own)
    try:
        ours.warning("in both")
    finally:
        own.close()

    assert "in both" in stream.getvalue()
    assert "in both" in (tmp_path / "log").read_text()


def test_a_client_in_this_process_logs_to_the_console_too(serve, ours, capsys):
    switch_on("debug")

    with Client(gigachat(serve(said("Hi"))), proxy="") as client:
        client.chat("Hi")

    assert "/chat/completions: 200, " in capsys.readouterr().err
