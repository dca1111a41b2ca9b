"""What a notebook shows while an answer comes, in IPython's shell without a browser."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
import pytest
from traitlets.config import Config

from chatsdk import CancelledError, Client, providers, StreamInterruptedError
import chatsdk.notebook
from chatsdk.notebook import Output
from chatsdk.simulator import Simulator

SMALL = '<small style="opacity: 0.6">'
HTML, MARKDOWN, PLAIN = "text/html", "text/markdown", "text/plain"


class Publisher(DisplayPublisher):
    """Notes what a notebook would be told to show."""

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.outputs = {}  # by display_id: all that an output has shown
        self.seen = threading.Condition()

    def publish(self, data, metadata=None, *, transient=None, update=False, **rest):
        with self.seen:
            id = (transient or {}).get("display_id", len(self.outputs))
            assert update is (id in self.outputs)
            self.outputs.setdefault(id, []).append(data)
            self.seen.notify_all()

    def wait_for(self, text):
        """Wait until a text is shown."""
        with self.seen:
            assert self.seen.wait_for(lambda: text in str(self.outputs), 30)


@pytest.fixture
def shell():
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell.instance(config=config, display_pub_class=Publisher)
    yield made
    made.reset()
    InteractiveShell.clear_instance()


@pytest.fixture
def serve(shell):
    """Serve replies to a `client` that cells find under this name."""
    with contextlib.ExitStack() as opened:

        def start(reply=None):
            simulator = opened.enter_context(Simulator(reply=reply))
            services = [
                providers.get(name)(**{"api_key": "any", **simulator.fields(name)})
                for name in ("gigachat", "h2o", "flowgpt")
            ]
            client = Client("gigachat", providers=services, proxy="", max_retries=0)
            shell.user_ns["client"] = opened.enter_context(client)
            return simulator

        yield start


def run(shell, code):
    """Run a cell; return all that each of its outputs has shown, and its error."""
    shell.display_pub.outputs = {}
    done = shell.run_cell(code, store_history=True)
    assert done.error_before_exec is None
    return list(shell.display_pub.outputs.values()), done.error_in_exec


def paused(shell, act):
    """Return a reply in two pieces; the second comes after an act, when the first is shown."""

    def reply(messages):
        yield "**One** <b>"
        shell.display_pub.wait_for("**One** &lt;b&gt;")
        act()
        yield " two"

    return reply


def stop_button():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(0.2)  # it comes before the next piece, and would come after it as well


# Streams


def test_a_stream_is_one_output_that_grows_and_ends_as_markdown(shell, serve):
    serve(paused(shell, lambda: None))

    outputs, error = run(shell, "client.stream('Hello', display=True)")

    assert error is None
    [pictures] = outputs
    assert pictures[0][PLAIN] == ""
    assert any("**One** &lt;b&gt;</pre>" in picture.get(HTML, "") for picture in pictures)
    assert pictures[-1][PLAIN] == "**One** <b> two"
    assert pictures[-1][MARKDOWN].startswith(f"**One** &#60;b> two\n\n{SMALL}GigaChat")
    assert shell.user_ns["_"].reply.finish_reason == "stop"


def test_the_stop_button_keeps_what_had_come(shell, serve, capsys):
    serve(paused(shell, stop_button))

    outputs, error = run(shell, "client.stream('Hello', display=True)")

    assert isinstance(error, KeyboardInterrupt)
    assert capsys.readouterr().out.count("\n") == 1
    [pictures] = outputs
    assert pictures[-1][MARKDOWN].startswith("**One** &#60;b>")
    assert ">incomplete&#58; stopped · " in pictures[-1][MARKDOWN]
    kept = shell.user_ns["_"]
    assert kept is shell.user_ns["_1"] is shell.user_ns["Out"][1]
    assert kept.reply.text.startswith("**One** <b>")
    assert kept.reply.finish_reason is None
    assert list(kept) == []


class Forgetful:
    """A kernel's display hook that keeps no values."""

    def __init__(self, hook):
        self._hook = hook

    def __getattr__(self, name):
        if name == "update_user_ns":
            raise AttributeError(name)
        return getattr(self._hook, name)


def test_a_kernel_that_keeps_no_history_has_the_text_in_one_name(shell, serve, monkeypatch):
    serve("One two three four").play("cut")
    monkeypatch.setattr(shell, "displayhook", Forgetful(shell.displayhook))

    _, error = run(shell, "stream = client.stream('Hello', display=True)")

    assert isinstance(error, StreamInterruptedError)
    assert shell.user_ns["_"].text == "One two "


def test_a_stream_that_has_a_name_keeps_what_had_come_under_it(shell, serve):
    serve(paused(shell, stop_button))
    run(shell, "stream = client.stream('Hello')")

    outputs, error = run(shell, "stream.display()")

    assert isinstance(error, KeyboardInterrupt)
    assert ">incomplete&#58; stopped · " in outputs[0][-1][MARKDOWN]
    assert shell.user_ns["stream"].reply.text.startswith("**One** <b>")


def test_the_stop_button_ends_a_loop_as_well(shell, serve):
    simulator = serve(paused(shell, stop_button))

    _, error = run(shell, "for _n in range(3): client.stream('Hello', display=True)")

    assert isinstance(error, KeyboardInterrupt)
    assert sum("chat" in request.path for request in simulator.requests) == 1


def test_a_stream_that_breaks_off_says_so_and_keeps_what_had_come(shell, serve):
    simulator = serve("One two three four")
    simulator.play("cut")

    outputs, error = run(shell, "client.stream('Hello', display=True)")

    assert isinstance(error, StreamInterruptedError)
    assert outputs[0][-1][PLAIN] == error.partial.text == "One two "
    assert ">incomplete&#58; StreamInterruptedError · " in outputs[0][-1][MARKDOWN]
    assert shell.user_ns["_"].text == "One two "


def test_a_later_cell_shows_the_reply_again(shell, serve):
    serve("One two")
    run(shell, "stream = client.stream('Hello', display=True)")

    [[again]], _ = run(shell, "stream")

    assert again[PLAIN] == "One two"
    assert again[MARKDOWN].startswith(f"One two\n\n{SMALL}GigaChat")


def test_a_later_cell_says_again_that_it_was_stopped(shell, serve):
    serve(paused(shell, stop_button))
    run(shell, "stream = client.stream('Hello', display=True)")

    [[again]], _ = run(shell, "_")

    assert ">incomplete&#58; stopped · " in again[MARKDOWN]


def test_to_look_at_a_stream_does_not_read_it(shell, serve):
    serve("One two")

    [[seen]], _ = run(shell, "stream = client.stream('Hello')\nnext(stream)\nstream")

    assert seen[PLAIN] == "One "
    assert "so far" in seen[MARKDOWN]
    assert list(shell.user_ns["stream"]) == ["two"]


def test_a_conversation_shows_its_answers_and_then_itself(shell, serve):
    serve("One")

    [pictures, [transcript]], error = run(
        shell, "talk = client.conversation()\ntalk.stream('Hello', display=True)\ndisplay(talk)"
    )

    assert error is None
    assert pictures[-1][PLAIN] == "One"
    assert transcript[MARKDOWN] == "**user**\n\n> Hello\n\n**assistant**\n\n> One"


def test_a_client_for_one_call_shows_its_answer(shell, serve):
    simulator = serve("One")
    shell.user_ns["fields"] = simulator.fields("h2o")

    outputs, error = run(
        shell,
        "import chatsdk\n"
        "chatsdk.stream('Hello', target='h2o', proxy='', display=True, **fields)",
    )

    assert error is None
    assert outputs[0][-1][PLAIN] == "One"


class Clock:
    """Time that stands still until it is set."""

    now = 100.0

    def __call__(self):
        return self.now


def test_an_output_is_drawn_at_most_twenty_times_a_second(shell):
    clock = Clock()
    output = Output(clock)
    assert output.pause() == 0

    output.show({PLAIN: "a"})
    assert output.pause() == pytest.approx(0.05)
    clock.now += 0.06
    assert output.pause() == 0


def test_a_long_text_is_drawn_less_often(shell):
    output = Output(Clock())

    output.show({PLAIN: "a" * 2_000_000})

    assert output.pause() == pytest.approx(2)


def test_what_has_not_changed_is_not_drawn_again(shell):
    output = Output()

    for text in ("a", "a", "b"):
        output.show({PLAIN: text})

    [pictures] = shell.display_pub.outputs.values()
    assert pictures == [{PLAIN: "a"}, {PLAIN: "b"}]


# Many answers


def test_answers_beside_each_other_are_filled_in_as_they_come(shell, serve):
    turns = iter(["first", "second"])

    def reply(messages):
        turn = next(turns)
        if turn == "second":
            yield "begun"
            shell.display_pub.wait_for("first\\nGigaChat")  # the first is over, with its facts
            shell.display_pub.wait_for("begun\\n...")
        yield turn

    serve(reply)

    [pictures], error = run(shell, "client.fan_out('Hello', ['gigachat', 'gigachat:GigaChat-2'])")

    assert error is None
    assert len(pictures) >= 2
    last = pictures[-1]
    assert last[PLAIN].count("first") == last[PLAIN].count("begunsecond") == 1
    assert last[HTML].count("</td>") == 4 and last[HTML].count("</th>") == 2
    assert set(shell.user_ns["_"].replies) == {"gigachat", "gigachat:GigaChat-2"}


def test_an_answer_that_failed_has_its_error_in_the_table(shell, serve):
    serve("One two three four").play("cut", service="h2o")

    [pictures], _ = run(shell, "client.fan_out('Hello', ['gigachat', 'h2o'])")

    assert "One two \nStreamInterruptedError: " in pictures[-1][PLAIN]
    assert "One two three four\nGigaChat" in pictures[-1][PLAIN]


def test_the_stop_button_ends_the_others_and_keeps_what_had_come(shell, serve):
    serve(paused(shell, stop_button)).play("empty", service="h2o")

    [pictures], error = run(shell, "client.fan_out('Hello', ['gigachat', 'h2o'])")

    assert isinstance(error, KeyboardInterrupt)
    assert "**One** <b>" in pictures[-1][PLAIN]
    assert "CancelledError: " in pictures[-1][PLAIN]
    stopped = shell.user_ns["_"].errors["gigachat"]
    assert isinstance(stopped, CancelledError)
    assert stopped.partial.text.startswith("**One** <b>")


def test_inside_a_loop_the_table_has_the_answers_so_far(shell, serve):
    waiting = threading.Event()
    turns = iter(["first", "second"])

    def reply(messages):
        turn = next(turns)
        if turn == "second":
            assert waiting.wait(30)
        yield turn

    serve(reply)
    shell.user_ns["waiting"] = waiting

    outputs, error = run(
        shell,
        "fan = client.fan_out('Hello', ['gigachat', 'gigachat:GigaChat-2'])\n"
        "for answer in fan:\n"
        "    display(fan)\n"
        "    waiting.set()\n",
    )

    assert error is None
    assert ["second" in pictures[-1][PLAIN] for pictures in outputs] == [False, True]
    assert [len(pictures) for pictures in outputs] == [1, 1]


# Without a notebook


def test_in_a_terminal_the_text_is_written_as_it_comes(shell, serve, monkeypatch, capsys):
    monkeypatch.setattr(shell.display_formatter, "active_types", ["text/plain"])
    serve("One \x1b[2Jtwo")

    outputs, error = run(shell, "stream = client.stream('Hello', display=True)")

    assert (outputs, error) == ([], None)
    assert capsys.readouterr().out == "One \x1b[2Jtwo\n"


def test_a_screen_shows_control_characters_and_does_not_obey_them(serve, monkeypatch, capsys):
    serve("One \x1b[2Jtwo")
    monkeypatch.setattr(chatsdk.notebook, "running_shell", lambda: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    InteractiveShell.instance().user_ns["client"].stream("Hello", display=True)

    assert capsys.readouterr().out == "One \u241b[2Jtwo\n"


def test_a_script_writes_the_text_and_loads_no_ipython():
    script = (
        "import sys\n"
        "from chatsdk import Client\n"
        "from chatsdk.simulator import Simulator\n"
        "with Simulator(reply='One two') as simulator:\n"
        "    fields = simulator.fields('h2o')\n"
        "    with Client('h2o', proxy='', **fields) as client:\n"
        "        stream = client.stream('Hello', display=True)\n"
        "assert stream.reply.text == 'One two'\n"
        "assert 'IPython' not in sys.modules\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("One two\n", "")
