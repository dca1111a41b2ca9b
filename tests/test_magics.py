"""The magic ``%%chat``, in IPython's shell without a browser."""

from __future__ import annotations

from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
import pytest
from traitlets.config import Config

from chatsdk import Client, ConfigurationError, Conversation
from chatsdk.simulator import Simulator


@pytest.fixture
def shell():
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell.instance(config=config)
    made.run_line_magic("load_ext", "chatsdk")
    yield made
    made.reset()
    InteractiveShell.clear_instance()


@pytest.fixture
def simulator():
    with Simulator() as started:
        yield started


@pytest.fixture
def client(shell, simulator):
    with Client("gigachat", api_key="any", proxy="", **simulator.fields("gigachat")) as made:
        shell.user_ns["client"] = made
        yield made


def ask(shell, line, question):
    """Run a cell with the magic; return its value, or raise its error."""
    with capture_output():
        done = shell.run_cell(f"%%chat {line}\n{question}", store_history=True)
    done.raise_error()
    return done.result


def completions(shell, text):
    """Return the lines that the completion of a line offers."""
    with provisionalcompleter():
        found = shell.Completer.completions(text, len(text))
        return [text[:it.start] + it.text for it in found]


def test_a_cell_is_a_question_and_its_value_the_answer(shell, client):
    stream = ask(shell, "gigachat --client client", "Hello")

    assert stream.reply.text == "Hello! How can I help you today?"
    assert shell.user_ns["_"] is stream


def test_the_conversation_goes_on_from_cell_to_cell(shell, client):
    ask(shell, "gigachat --client client", "My name is Ada.")

    assert "Ada" in ask(shell, "", "What is my name?").text
    assert len(shell.run_line_magic("chat", "").messages) == 4


def test_a_system_message_begins_anew(shell, client):
    ask(shell, "gigachat --client client", "My name is Ada.")
    ask(shell, "--system 'Be brief.'", "What is my name?")

    said = shell.run_line_magic("chat", "").messages
    assert [message.role for message in said] == ["system", "user", "assistant"]
    assert said[0].content == "Be brief."


def test_new_begins_anew(shell, client):
    ask(shell, "--client client", "My name is Ada.")

    assert "Ada" not in ask(shell, "--new", "What is my name?").text


def test_each_target_has_its_own_conversation(shell, client):
    ask(shell, "gigachat --client client", "My name is Ada.")

    assert "Ada" not in ask(shell, "gigachat:GigaChat-2-Max", "What is my name?").text
    assert "Ada" in ask(shell, "gigachat", "What is my name?").text


def test_without_a_client_the_environment_says_whom_to_ask(shell, simulator, monkeypatch):
    monkeypatch.setenv("CHATSDK_TARGET", "gigachat")
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "any")
    monkeypatch.setenv("GIGACHAT_BASE_URL", simulator.fields("gigachat")["base_url"])
    monkeypatch.setenv("GIGACHAT_AUTH_URL", simulator.fields("gigachat")["auth_url"])

    stream = ask(shell, "", "Hello")

    assert stream.reply.provider == "gigachat"
    assert simulator.requests
    shell.run_line_magic("chat", "")._ask.__self__.close()


def test_the_line_magic_returns_the_conversation(shell, client):
    talk = shell.run_line_magic("chat", "gigachat --client client --system 'Be brief.'")

    assert isinstance(talk, Conversation)
    ask(shell, "", "Hello")
    assert len(talk.messages) == 3


@pytest.mark.parametrize(
    "line, question, message",
    [
        ("gigachat h2o", "Hello", "unrecognized arguments: h2o"),
        ("--nothing", "Hello", "unrecognized arguments: --nothing"),
        ("--client nobody", "Hello", "nobody is no Client"),
        ("--system 'Be", "Hello", "No closing quotation"),
        ("gigachat", "  \n", "no question"),
    ],
)
def test_a_mistake_is_told_in_ipythons_way_and_nothing_is_sent(
    shell, client, simulator, line, question, message
):
    with pytest.raises(UsageError, match=message):
        ask(shell, line, question)

    assert simulator.requests == []


def test_a_slip_of_the_pen_does_not_end_the_conversation(shell, client):
    ask(shell, "gigachat --client client", "My name is Ada.")
    with pytest.raises(ConfigurationError, match="gigachad"):
        ask(shell, "gigachad", "What is my name?")

    assert "Ada" in ask(shell, "", "What is my name?").text


def test_targets_are_completed(shell):
    assert completions(shell, "%%chat giga") == ["%%chat gigachat"]
    assert {"%chat aura", "%chat h2o"} <= {*completions(shell, "%chat ")}


def test_models_are_completed(shell):
    line = "%%chat gigachat:GigaChat-2-M"

    assert completions(shell, line) == [f"{line}ax"]
    assert completions(shell, "%%chat nobody:zzz") == []


def test_options_and_clients_are_completed(shell, client):
    assert completions(shell, "%%chat gigachat --s") == ["%%chat gigachat --system"]
    assert completions(shell, "%%chat --client cl") == ["%%chat --client client"]
    assert completions(shell, "%%chat --system gig") == []


def test_an_extension_that_is_loaded_again_completes_once(shell):
    shell.run_line_magic("reload_ext", "chatsdk")

    assert completions(shell, "%%chat giga") == ["%%chat gigachat"]


def test_other_lines_are_completed_as_before(shell):
    shell.user_ns["gigantic"] = 1

    assert completions(shell, "gigan") == ["gigantic"]
    assert "%%chatter giga" not in completions(shell, "%%chatter giga")
