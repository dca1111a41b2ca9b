"""A notebook in a real JupyterLab, seen and used through a real browser."""

from __future__ import annotations

from contextlib import suppress
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import threading
import time

from chromium import chromium, needs_chromium
import nbformat
import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from chatsdk.simulator import Simulator

pytestmark = needs_chromium

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # s
RESTORED = """\
const done = arguments[arguments.length - 1];
if (window.jupyterapp) window.jupyterapp.restored.then(() => done(true)); else done(false);
"""
FIRST = """\
from chatsdk import Client, providers
services = [providers.get(name)(**fields) for name, fields in {services!r}.items()]
client = Client("gigachat", providers=services, proxy="", max_retries=0)
"""
RUN = ", ".join(f".jp-OutputArea-output {tag}" for tag in ("script", "img", "svg"))
EVIL = """\
**bold** <script>window.evil = 1</script> <img src=x onerror="window.evil = 2">
[a](javascript:window.evil=3) $\\href{javascript:window.evil=4}{m}$ ![p](http://127.0.0.1:9/x.png)
`<img src=x onerror="window.evil = 5">`

```html
<svg onload="window.evil = 6"></svg>
```
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab and its directory."""
    home = tmp_path_factory.mktemp("lab")
    config = home / "config" / "labconfig"
    config.mkdir(parents=True)
    # A question about news would lie over the page.
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "page_config.json").write_text(json.dumps(news))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment = {
        **kept,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONPATH": str(ROOT),
    }
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": 0,
        "ServerApp.root_dir": home,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "secret",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
    try:
        yield address_of(server, home), home
    finally:
        server.terminate()
        server.wait(PATIENCE)


def address_of(server, home):
    written = home / "runtime" / f"jpserver-{server.pid}.json"
    answered = until(lambda: written.exists() or server.poll() is not None)
    assert answered and server.poll() is None, (home / "log").read_text()
    return until(lambda: json.loads(written.read_text() or "null"))["url"]


def until(look, patience=PATIENCE):
    """Return what a look at the page gives, as soon as it gives anything."""
    end = time.monotonic() + patience
    while True:
        with suppress(LookupError, ValueError, WebDriverException):  # it is drawn
            seen = look()
            if seen:
                return seen
        if time.monotonic() > end:
            raise LookupError("there was nothing to see")
        time.sleep(0.05)


@pytest.fixture
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile"), "--window-size=1200,1600") as driver:
        yield driver


class Script:
    """What the simulator says: each question's pieces; None is a wait until `go` is set."""

    def __init__(self):
        self.pieces = {}
        self.go = threading.Event()

    def __call__(self, messages):
        for piece in self.pieces.get(messages[-1]["content"], ["Hi"]):
            if piece is None:
                assert self.go.wait(PATIENCE)
            else:
                yield piece


class Turns:
    """Pieces by turn instead of by question."""

    def __init__(self, *turns):
        self._turns = iter(turns)

    def get(self, question, default):
        return next(self._turns)


@pytest.fixture
def script():
    made = Script()
    yield made
    made.go.set()


@pytest.fixture
def notebook(lab, browser, script, request):
    """Open a notebook whose cells are given; it has a `client` that asks the simulator."""
    with Simulator(reply=script) as simulator:
        names = ("gigachat", "h2o", "flowgpt")
        services = {name: {"api_key": "any", **simulator.fields(name)} for name in names}

        def open_one(*cells):
            page = Page(browser, *lab, re.sub(r"\W", "_", request.node.name))
            page.open([FIRST.format(services=services), *cells])
            try:
                page.run(0, 20.0)
            except LookupError:  # a page that came up deaf is loaded anew, as people do
                page.open([FIRST.format(services=services), *cells])
                page.run(0)
            page.wait_for_end(0)
            return page

        yield open_one
        script.go.set()


class Page:
    """A notebook on the screen."""

    def __init__(self, driver, url, home, name):
        self.driver = driver
        self._address = f"{url}doc/tree/{name}.ipynb?token=secret"
        self._file = home / f"{name}.ipynb"

    def open(self, cells):
        """Show the notebook, and wait for its kernel."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        book = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})
        nbformat.write(book, self._file)
        self.driver.get(self._address)
        until(lambda: self.driver.execute_async_script(RESTORED))
        until(lambda: self.find('.jp-Notebook-ExecutionIndicator[data-status="idle"]'))

    def find(self, selector, within=None):
        return (within or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def cell(self, number):
        return self.find(".jp-Notebook .jp-CodeCell")[number]

    def run(self, number, patience=PATIENCE):
        """Run a cell as people do; keys that come while the page is drawn are lost, so look."""

        def press():
            for button in self.find(".jp-Dialog .jp-mod-accept"):  # a question over the page
                button.click()
            self.find(".jp-InputPrompt", self.cell(number))[0].click()
            keys = ActionChains(self.driver)  # the button may have gone into the bar's menu
            keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
            return until(lambda: self.prompt(number) != "[ ]:", 3.0)

        until(press, patience)

    def prompt(self, number):
        return self.find(".jp-InputPrompt", self.cell(number))[0].text

    def runs(self, number):
        return self.prompt(number) == "[*]:"

    def wait_for_end(self, number):
        until(lambda: re.fullmatch(r"\[\d+\]:", self.prompt(number)))

    def press_stop(self):
        self.find('[data-command="notebook:interrupt-kernel"]')[0].click()

    def outputs(self, number):
        return self.find(".jp-OutputArea-output", self.cell(number))

    def text(self, number):
        """Return what the outputs of a cell say, as one reads it."""
        return "\n".join(output.text for output in self.outputs(number))

    def wait_for(self, number, text):
        until(lambda: text in self.text(number))


def test_a_cell_streams_and_ends_as_markdown(notebook, script):
    script.pieces["Hello"] = ["One **two**", None, " three"]
    page = notebook("client.stream('Hello', display=True)")

    page.run(1)

    page.wait_for(1, "One **two**")
    assert page.runs(1) and "three" not in page.text(1)
    script.go.set()
    page.wait_for_end(1)
    page.wait_for(1, "One two three")
    assert len(page.outputs(1)) == 1
    assert [bold.text for bold in page.find("strong", page.cell(1))] == ["two"]
    assert "GigaChat:2.0.28.2 · " in page.text(1) and " tokens" in page.text(1)


def test_the_stop_button_ends_the_stream_and_keeps_the_text(notebook, script):
    script.pieces["Hello"] = ["One **two**", None, " three"]
    page = notebook("client.stream('Hello', display=True)", "print(_.text)\n_")
    page.run(1)
    page.wait_for(1, "One **two**")

    page.press_stop()

    page.wait_for_end(1)
    page.wait_for(1, "KeyboardInterrupt: stopped; what had come is in _")
    assert page.text(1).startswith("One two\nincomplete: stopped · GigaChat")
    page.run(2)
    page.wait_for_end(2)
    page.wait_for(2, "incomplete: stopped")
    assert page.text(2).startswith("One **two**\nOne two\n")


def test_the_stop_button_ends_a_fan_out_and_keeps_the_answers(notebook, script):
    script.pieces = Turns(["One"], ["Two"], ["Three", None])
    page = notebook(
        "client.fan_out('Hello', ['gigachat', 'h2o', 'flowgpt'])", "sorted(_.replies)"
    )

    page.run(1)

    until(lambda: "Three" in page.text(1) and len(re.findall(r"\d s\b", page.text(1))) == 2)
    assert page.runs(1)
    assert len(page.find("th", page.cell(1))) == len(page.find("tr", page.cell(1))) == 3
    page.press_stop()
    page.wait_for_end(1)
    page.wait_for(1, "CancelledError")
    assert all(word in page.text(1) for word in ("One", "Two", "Three"))
    page.run(2)
    page.wait_for_end(2)
    page.wait_for(2, "[")
    assert page.text(2).count("'") == 4


def test_nothing_of_a_model_is_run(notebook, script):
    script.pieces["Hello"] = [EVIL, None, "The end."]
    page = notebook(
        "client.stream('Hello', display=True)",
        "client.chat('Hello')",
        "client.fan_out('Hello', ['gigachat', 'h2o'])",
        "talk = client.conversation(system='<script>window.evil = 7</script>')\n"
        "talk.chat('Hello')\n"
        "talk",
    )
    page.run(1)
    page.wait_for(1, "window.evil = 6")
    found = [page.find(RUN, page.cell(1))]
    script.go.set()
    for number in (1, 2, 3, 4):
        if number > 1:
            page.run(number)
        page.wait_for_end(number)
        page.wait_for(number, "The end.")
        assert '<script>window.evil = 1</script> <img src=x onerror="window.evil = 2">' in (
            page.text(number)
        )
        found.append(page.find(RUN, page.cell(number)))
        for link in page.find(".jp-OutputArea-output a", page.cell(number)):
            assert link.get_attribute("href") == "http://127.0.0.1:9/x.png"

    assert found == [[]] * 5
    assert page.driver.execute_script("return window.evil") is None


def test_a_map_shows_a_bar(notebook):
    page = notebook("answers = list(client.map(['Hello'] * 30, progress=True))")

    page.run(1)

    page.wait_for_end(1)
    page.wait_for(1, "30/30")
    assert len(page.find(".jupyter-widgets .progress-bar", page.cell(1))) == 1
    assert "errors=0" in page.text(1)


def test_a_cell_with_the_magic_is_a_question(notebook, script):
    script.pieces["Hello"] = ["I am **listening**."]
    page = notebook("%load_ext chatsdk", "%%chat gigachat --client client\nHello", "%%chat ")
    for number in (1, 2):
        page.run(number)
        page.wait_for_end(number)

    page.wait_for(2, "I am listening.")
    editor = page.find(".cm-content", page.cell(3))[0]
    ActionChains(page.driver).click(editor).send_keys(Keys.END, "giga").perform()
    until(lambda: editor.text == "%%chat giga")
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    until(lambda: [item.text for item in page.find(".jp-Completer-match")] == ["gigachat"])
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    until(lambda: editor.text == "%%chat gigachat")
