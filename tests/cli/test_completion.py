"""Completion in the shells themselves, at a real pseudo-terminal, and the scripts they read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from many import PATIENCE, ROOT
import pexpect
import pytest

from chatsdk.cli import main
from chatsdk.cli.completion import SHELLS

START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
SETUP = {
    "bash": 'eval "$(chatsdk completion bash)"',
    "zsh": 'autoload -U compinit; compinit -u -D; eval "$(chatsdk completion zsh)"',
    "fish": "chatsdk completion fish | source",
}
# Completes as chatsdk does; called otherwise it writes down its words.
PROGRAM = """#!/bin/sh
if [ -n "$_CHATSDK_COMPLETE" ] || [ "$1" = completion ]; then
    exec {python} -m chatsdk "$@"
fi
printf '%s\\n' "$@" > words
echo writ''ten
"""

there = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here"))
    for name in SHELLS
]


@pytest.fixture
def completed(tmp_path):
    """Type a line and Tab in a shell; return the words that become of it."""
    program = tmp_path / "bin" / "chatsdk"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    started = []

    def complete(name, line):
        child = pexpect.spawn(
            shutil.which(name),
            START[name],
            cwd=tmp_path,
            encoding="utf-8",
            env={
                **os.environ,
                "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm",
            },
            timeout=PATIENCE,
        )
        started.append(child)
        child.sendline(f"{SETUP[name]}; echo rea''dy")
        child.expect_exact("ready")
        child.send(f"{line}\t")
        child.sendline("end")
        child.expect_exact("written")
        return (tmp_path / "words").read_text().split("\n")[:-1]

    yield complete
    for child in started:
        child.close(force=True)


@pytest.mark.parametrize("name", there)
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("chatsdk doct", ["doctor", "end"]),
        ("chatsdk keys del", ["keys", "delete", "end"]),
        ("chatsdk ask gigac", ["ask", "gigachat", "end"]),
        ("chatsdk doctor gigachat:GigaChat-3", ["doctor", "gigachat:GigaChat-3-Ultra", "end"]),
        ("chatsdk simulate --scenario error-f", ["simulate", "--scenario", "error-first", "end"]),
        ("chatsdk ask --max-t", ["ask", "--max-tokens", "end"]),
    ],
)
def test_tab_completes(completed, name, typed, words):
    assert completed(name, typed) == words


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_names_the_program_and_its_variable(name, capsys):
    assert main(["completion", name]) == 0

    out = capsys.readouterr().out
    assert "_CHATSDK_COMPLETE" in out and f"{name}_complete" in out


ASKED = {
    "bash": ({"COMP_WORDS": "chatsdk\nask\ngigachat\n:\nGigaChat-2-M", "COMP_CWORD": "4"},
             "plain,GigaChat-2-Max\n"),
    "zsh": ({"COMP_WORDS": "chatsdk ask gigachat:GigaChat-2-M", "COMP_CWORD": "2"},
            "plain\ngigachat:GigaChat-2-Max\n_\n"),
    "fish": ({"COMP_WORDS": "chatsdk ask gigachat:GigaChat-2-M",
              "COMP_CWORD": "gigachat:GigaChat-2-M"}, "plain,gigachat:GigaChat-2-Max\n"),
}


def test_bash_is_answered_where_a_word_has_not_begun(monkeypatch, capsys):
    monkeypatch.setenv("_CHATSDK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "chatsdk\nkeys\n")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert main([]) == 0

    assert capsys.readouterr().out.split() == ["plain,delete", "plain,list", "plain,set"]


@pytest.mark.parametrize("name", SHELLS)
def test_each_shell_is_answered_in_its_own_form(name):
    question, reply = ASKED[name]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "chatsdk"],
        cwd=ROOT,
        env={**os.environ, **question, "_CHATSDK_COMPLETE": f"{name}_complete"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, reply, "")
