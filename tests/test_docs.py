"""The README and the pages: what they show runs, and what they tell is so.

Run as a program it writes the command's help pages anew: ``python tests/test_docs.py``.
"""

import builtins
import configparser
import contextlib
import doctest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import textwrap
import threading
from unittest import mock

import click
import pytest

import chatsdk
from chatsdk import Client, ProviderError, providers
from chatsdk.cli import main
from chatsdk.cli.program import chatsdk as chatsdk_command
from chatsdk.simulator import Simulator

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HELP = DOCS / "reference" / "help"
PARROT = DOCS / "examples" / "chatsdk-parrot"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in DOCS.rglob("*.rst")}
README = (ROOT / "README.rst").read_text("utf-8")


def blocks(text, directive):
    """Return the contents of a directive, each without its indentation."""
    pattern = rf"^\.\. {directive}\n((?:[ \t]+\S.*\n|\n)*)"
    return [textwrap.dedent(found) for found in re.findall(pattern, text, re.MULTILINE)]


# The examples


@pytest.mark.parametrize("page", sorted(page for page, text in PAGES.items() if ">>>" in text))
def test_the_examples_of_the_page_run(page):
    text = PAGES[page]
    space = {}
    output = io.StringIO()
    examples = doctest.DocTestParser().get_doctest(text, space, page, page, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)

    with contextlib.ExitStack() as cleaned:
        for code in blocks(text, "testcleanup::"):
            cleaned.callback(exec, code, examples.globs)
        for code in blocks(text, "testsetup::"):
            exec(code, examples.globs)
        result = runner.run(examples, out=output.write, clear_globs=False)
    vars(builtins).pop("_", None)  # the last value shown; IPython would leave its own `_` alone

    assert result.attempted > 0
    assert result.failed == 0, output.getvalue()


def test_the_code_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "any")
    with Simulator(reply="It scatters more.") as simulator:
        fields = simulator.fields("gigachat")
        monkeypatch.setenv("GIGACHAT_BASE_URL", fields["base_url"])
        monkeypatch.setenv("GIGACHAT_AUTH_URL", fields["auth_url"])
        space = {}
        for code in blocks(README, "code-block:: python"):
            exec(code, space)
        space["client"].close()

    assert capsys.readouterr().out == "It scatters more.\nIt scatters more."


def test_the_readme_names_each_service_and_says_which_are_gone():
    rows = {tuple(re.split(r" {2,}", line)) for line in README.splitlines()}

    for name in providers.TABLE:
        kind = providers.get(name)
        assert f"``{name}``" in README
        assert kind.alive or (kind.title, f"``{name}``", kind.state) in rows


def test_the_readme_fits_on_one_screen():
    assert len(README.splitlines()) <= 60


# The reference


def test_each_public_name_stands_in_the_reference():
    reference = "".join(text for page, text in PAGES.items() if page.startswith("reference/"))
    errors = set(chatsdk._HOMES["chatsdk.errors"])  # automodule shows them all

    for name in set(chatsdk.__all__) - {"__version__"} - errors:
        assert re.search(rf":: chatsdk\.{name}$", reference, re.MULTILINE), name


def help_of(*command):
    """Return a help page as the command prints it, 80 columns wide and without colours."""
    printed = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}):
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    return printed.getvalue()


def helps(command=chatsdk_command, *path):
    """Return the name of each help page and its text, those of commands of commands as well."""
    pages = {"-".join(["chatsdk", *path]): help_of(*path)}
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            pages |= helps(command.get_command(None, name), *path, name)
    return pages


def test_the_help_pages_are_those_of_the_command():
    kept = {path.stem: path.read_text("utf-8") for path in HELP.glob("*.txt")}

    assert {name: words(text) for name, text in kept.items()} == {
        name: words(text) for name, text in helps().items()
    }, "python tests/test_docs.py writes them anew"


def words(text):
    """Return a help page's words: versions of click differ in columns."""
    return text.split()


def test_each_help_page_is_shown():
    shown = re.findall(r"^\.\. help::(.*)$", PAGES["reference/commandline.rst"], re.MULTILINE)

    assert {"-".join(["chatsdk", *name.split()]) for name in shown} == set(helps())


# The provider of docs/howto/provider.rst


@pytest.fixture
def parrot(monkeypatch, tmp_path):
    """The address of a parrot; its package is installed."""
    config = configparser.ConfigParser()
    config.read(PARROT / "setup.cfg")
    points = config["options.entry_points"]["chatsdk.providers"].strip()
    installed = tmp_path / "chatsdk_parrot-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: chatsdk-parrot\n")
    (installed / "entry_points.txt").write_text(f"[chatsdk.providers]\n{points}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(PARROT)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Parrot) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()
    sys.modules.pop("chatsdk_parrot", None)


class _Parrot(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = asked["text"].split()[: asked.get("words")]
        lines = [{"word": f"{word} "} for word in words] + [{"over": "stop"}]
        if asked["bird"] == "dodo":
            lines = [{"failed": "there are none left"}]
        self.send_response(200)
        self.end_headers()
        for line in lines:
            self.wfile.write(json.dumps(line).encode() + b"\n")

    def log_message(self, *arguments):
        pass


def test_the_example_provider_is_found_by_its_name_and_answers(parrot):
    with Client("parrot:cockatoo", api_key="k", base_url=parrot) as client:
        reply = client.chat("one two three", max_tokens=2)

        assert (reply.text, reply.finish_reason) == ("one two ", "stop")
        assert reply.model == "cockatoo"
        with pytest.raises(ProviderError, match="none left"):
            client.chat("Hello", model="dodo")


def test_the_tests_of_the_example_provider_pass():
    paths = os.pathsep.join([str(ROOT), str(PARROT)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_parrot.py"],
        cwd=PARROT,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr


if __name__ == "__main__":
    HELP.mkdir(exist_ok=True)
    for name, text in helps().items():
        (HELP / f"{name}.txt").write_text(text, "utf-8")
