"""The program as a whole: without its extra, its help, its mistakes, pipes and terminals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import click
from many import PATIENCE, ROOT
import pytest
from servers import document, said
from terminals import ESCAPES, Person
from test_import import loaded

from chatsdk.cli import main
from chatsdk.cli.program import chatsdk
from chatsdk.providers import names
from chatsdk.simulator import FAMILIES, SCENARIOS, SERVICES


@pytest.fixture
def at(monkeypatch, serve):
    """Start a server that GigaChat's variables lead to."""

    def start(*answers):
        server = serve(*answers)
        monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "t")
        monkeypatch.setenv("GIGACHAT_BASE_URL", server.url)
        monkeypatch.setenv("NO_PROXY", "*")
        return server

    return start


def commands(group=chatsdk, *path):
    """Yield each command with the words that lead to it."""
    for name in group.list_commands(None):
        found = group.get_command(None, name)
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, *path, name)


# The extra


@pytest.mark.parametrize("missing", ["click", "rich", "prompt_toolkit"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, missing):
    program = (
        "import sys, importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "from chatsdk.cli import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"chatsdk: the command line needs {missing}: pip install 'chatsdk[cli]'\n"
    )


def test_a_command_loads_what_it_needs_and_no_more():
    found = loaded("from chatsdk.cli import main; main(['keys', 'list'])")

    assert "click" in found
    assert not found & {"rich", "prompt_toolkit", "IPython", "tqdm", "chatsdk.simulator"}


# The help


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_each_help_says_what_the_words_options_and_statuses_mean(path, capsys):
    assert main([*path, "--help"]) == 0

    page = capsys.readouterr().out
    assert page.startswith(f"Usage: chatsdk {' '.join(path)} ")
    assert "\nExit status:\n  0    " in page
    found = dict(commands())[path]
    for param in found.params:
        text = param.about if isinstance(param, click.Argument) else param.help
        assert text and text[-1] in ".)" or text.endswith("history."), param.name
        assert text.split()[0] in page
    assert all(line == line.rstrip() and len(line) <= 80 for line in page.splitlines())


@pytest.mark.parametrize("path", [path for path, found in commands()
                                  if not isinstance(found, click.Group)], ids=" ".join)
def test_every_command_but_completion_knows_json(path):
    options = [name for param in dict(commands())[path].params for name in param.opts]

    assert ("--json" in options) == (path != ("completion",))


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"chatsdk \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "No such command 'nothing'."),
        (["ask", "--colour"], "--colour"),
        (["ask"], "Missing argument 'TARGET...'"),
        (["models", "a", "b"], "unexpected extra argument"),
        (["simulate", "--port", "x"], "'x' is not a valid integer"),
        (["simulate", "--scenario", "x"], "unknown scenario 'x'"),
        (["completion", "cmd"], "'cmd' is not one of"),
        ([], "Usage: chatsdk"),
    ],
)
def test_a_mistake_on_the_command_line_is_status_2(capsys, arguments, words):
    assert main(arguments) == 2

    out, err = capsys.readouterr()
    assert words in err
    assert out == ""


def test_a_missing_key_is_told_with_both_places_for_it(capsys):
    assert main(["ask", "gigachat", "Hi"]) == 2

    err = capsys.readouterr().err
    assert "GIGACHAT_CREDENTIALS" in err and "chatsdk keys set gigachat" in err


# JSON


def test_ask_as_json_is_a_line_for_each_answer_as_it_completes(at, capsys):
    def answers(peer):
        bad = peer.request.json["model"] == "b"
        return document({"message": "no"}, "403 Forbidden") if bad else said("fine", " day")

    at(answers)
    assert main(["ask", "gigachat:a", "gigachat:b", "Hi", "--json", "--timeout", "9"]) == 1

    out, err = capsys.readouterr()
    lines = {line["target"]: line for line in map(json.loads, out.splitlines())}
    assert lines["gigachat:a"]["text"] == "fine day"
    assert lines["gigachat:b"]["error"]["type"] == "PermissionDeniedError"
    assert err.startswith("chatsdk: gigachat:b: PermissionDeniedError: ")


def test_a_failure_as_json_is_an_object_on_standard_output(at, capsys):
    at(document({"message": "no"}, "401 Unauthorized"))

    assert main(["models", "gigachat", "--json"]) == 1

    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == "AuthenticationError"
    assert "Unauthorized" in err or "refused" in err


def test_a_mistake_as_json_is_an_object_as_well(capsys):
    assert main(["ask", "gigachat", "Hi", "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["type"] == "MissingCredentialsError"


def test_the_services_as_json(capsys):
    assert main(["providers", "--json"]) == 0

    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert sorted(told) == names()
    assert told["gigachat"]["alive"] and not told["aura"]["alive"]
    assert {"streaming", "tools"} <= set(told["gigachat"]["can"])
    assert "tools" not in told["h2o"]["can"]
    assert told["gigachat"]["variables"][0] == "GIGACHAT_CREDENTIALS"


def test_the_scenarios_as_json(capsys):
    assert main(["scenarios", "--json"]) == 0

    told = {one["name"]: one["about"] for one in json.loads(capsys.readouterr().out)}
    assert told == {**SCENARIOS, **FAMILIES}


def test_the_demonstration_as_json(capsys):
    assert main(["demo", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert all(one["pieces"] > 2 and 0 < one["first"] < one["elapsed"] for one in told)
    assert {one["name"]: one["requests"] for one in told}["h2o"] == 8


def test_models_as_a_table_and_as_json(at, capsys):
    at(document({"data": [{"id": "GigaChat-9", "owned_by": "sber"}]}))

    assert main(["models", "gigachat"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["GigaChat-9", "sber"]
    assert main(["models", "gigachat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "GigaChat-9"


def test_the_simulator_serves_until_ctrl_c():
    person = Person("simulate", "--json", "--reply", "from afar")
    person.sees("}}\r\n")
    told = json.loads(person.screen)

    assert main(["ask", "aura", "Hi", "--base-url", told["fields"]["aura"]["base_url"]]) == 0
    person.presses_ctrl_c()

    assert person.leaves() == 130
    assert "Traceback" not in person.screen


def test_the_simulator_says_how_a_client_reaches_it():
    person = Person("simulate", "--scenario", "drip")
    person.sees("serving at http://127.0.0.1:")
    for name in SERVICES:
        person.sees(f"Client({name!r}, base_url='http://127.0.0.1:")
    person.presses_ctrl_c()

    assert person.leaves() == 130


# Terminals and pipes


MARKDOWN = "# Head\n\nsome **bold** words\n\n```python\nx = 1\n```\n"


def test_in_a_pipe_text_is_as_it_came(at, capsys):
    at(said(MARKDOWN, "\x1b[31m"))

    assert main(["ask", "gigachat", "Hi"]) == 0

    assert capsys.readouterr().out == f"{MARKDOWN}\x1b[31m\n"


def test_on_a_terminal_markdown_is_shown_in_colours(at):
    at(said(MARKDOWN))
    person = Person("ask", "gigachat", "Hi")

    assert person.leaves() == 0
    assert "\x1b[1mbold\x1b[0m" in person.screen
    assert "\x1b[94m1\x1b[0m" in person.screen  # the number in the code
    last = ESCAPES.sub("", person.screen.rpartition("Head")[2])
    assert "some bold words" in last and "```" not in last.rpartition("x = 1")[2]


def test_no_color_leaves_no_colour(at):
    at(said(MARKDOWN))
    person = Person("ask", "gigachat", "Hi", NO_COLOR="1")

    assert person.leaves() == 0
    styles = set(re.findall(r"\x1b\[([0-9;]*)m", person.screen))
    assert "\x1b[1mbold\x1b[0m" in person.screen
    assert not [style for style in styles if re.search(r"(^|;)(3|4|9|10)\d(;|$)", style)]


def test_a_plain_or_dumb_terminal_gets_the_text_as_it_is(at):
    at(said(MARKDOWN))

    for person in (
        Person("ask", "gigachat", "Hi", "--plain"), Person("ask", "gigachat", "Hi", TERM="dumb")
    ):
        assert person.leaves() == 0
        assert person.screen == MARKDOWN.replace("\n", "\r\n") + "\r\n"


def test_tables_are_wrapped_on_a_terminal_and_not_in_a_pipe(capsys):
    person = Person("providers", columns=60)
    assert person.leaves() == 0
    assert all(len(line) <= 60 for line in ESCAPES.sub("", person.screen).splitlines())
    assert "\x1b[1m" in person.screen and re.search(r"\x1b\[32malive *\x1b\[0m", person.screen)

    assert main(["providers"]) == 0
    assert "gone since autumn 2023; the software can be hosted" in capsys.readouterr().out


def test_a_reader_that_leaves_early_ends_it_quietly(at):
    program = [sys.executable, "-W", "error", "-m", "chatsdk", "scenarios"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        program, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (1, b"")


def test_text_that_the_output_cannot_hold_is_replaced_and_not_lost(at, monkeypatch):
    at(said("na\u00efve"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "chatsdk", "ask", "gigachat", "Hi"],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True,
        timeout=PATIENCE, check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"na?ve\n", b"")
