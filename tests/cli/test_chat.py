"""``chatsdk chat`` at a real pseudo-terminal, and in a pipe."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import threading

from many import ends
import pytest
from servers import chunk, frame, head
from terminals import Person

from chatsdk.cli import main
from chatsdk.simulator import Simulator


@pytest.fixture
def simulator():
    with Simulator(chunk_delay=0, reply=lambda messages: sim.line(messages[-1]["content"])) as sim:
        sim.line = "<{}>".format
        yield sim


@pytest.fixture
def environment(simulator, tmp_path):
    fields = simulator.fields("gigachat")
    return {
        "GIGACHAT_CREDENTIALS": "any",
        "GIGACHAT_BASE_URL": fields["base_url"],
        "GIGACHAT_AUTH_URL": fields["auth_url"],
        "NO_PROXY": "*",
        "XDG_STATE_HOME": str(tmp_path),
    }


@pytest.fixture
def person(environment):
    """A person in front of ``chatsdk chat gigachat``, or with other arguments."""
    started = []

    def start(*arguments, **more):
        started.append(Person("chat", *arguments, **{**environment, **more}))
        started[-1].ready()
        return started[-1]

    yield start
    for one in started:
        one.gone()


def asked(simulator):
    """Return the messages of each question."""
    return [one.json["messages"] for one in simulator.requests if one.path.endswith("completions")]


def contents(messages):
    return [message["content"] for message in messages]


def test_answers_are_shown_and_the_conversation_is_remembered(simulator, person):
    ada = person("gigachat", "--system", "be kind")

    assert "<one>" in ada.says("one")
    assert "<two>" in ada.says("two")
    ada.presses_ctrl_d()

    assert ada.leaves() == 0
    assert contents(asked(simulator)[1]) == ["be kind", "one", "<one>", "two"]


def test_the_answer_is_shown_as_it_comes(simulator, person):
    simulator.line = lambda asked: ["first piece, ", "second piece"]
    simulator.play("stall")
    ada = person("gigachat")

    ada.types("talk")

    ada.sees("first")  # the rest of the answer never comes
    ada.presses_ctrl_c()
    ada.ready()


def test_ctrl_c_stops_the_answer_and_not_the_program(simulator, person):
    ada = person("gigachat")
    ada.says("one")
    simulator.line = lambda asked: "half of it, and the rest"
    simulator.play("stall")

    ada.types("two")
    ada.sees("half")
    ada.presses_ctrl_c()
    shown = ada.ready()

    assert "stopped" in shown and "Traceback" not in ada.screen
    assert ada.alive
    simulator.line = lambda asked: "fine"
    assert "fine" in ada.says("three")
    assert contents(asked(simulator)[2]) == ["one", "<one>", "three"]
    ada.types("/quit")
    assert ada.leaves() == 0


def test_ctrl_c_cleans_up_what_the_service_keeps(simulator, person):
    simulator.line = lambda asked: "half of it, and the rest"
    simulator.play("stall", service="h2o")
    ada = person("h2o", "--base-url", simulator.fields("h2o")["base_url"])

    ada.types("talk")
    ada.sees("half")
    ada.presses_ctrl_c()
    ada.ready()

    assert simulator.wait_idle() and simulator.conversations == []
    assert "half of it" in ada.says("/retry")


def test_ctrl_c_at_the_prompt_clears_what_was_typed(simulator, person):
    ada = person("gigachat")

    ada.types("never mind", end="")
    ada.sees("mind")
    ada.presses_ctrl_c()
    ada.ready()
    ada.says("this")

    assert contents(asked(simulator)[0]) == ["this"]


@pytest.mark.parametrize(
    "typed",
    [
        "one\\\rtwo",  # a backslash before Enter
        "one\x1b\rtwo",  # Alt-Enter
        '"""one\rtwo"""',
        "\x1b[200~one\rtwo\x1b[201~",  # pasted
    ],
)
def test_a_question_can_have_several_lines(simulator, person, typed):
    ada = person("gigachat")

    shown = ada.says(typed)

    assert re.search(r"<one *\r\ntwo>", shown)

    assert contents(asked(simulator)[0]) == ["one\ntwo"]


def test_retry_asks_again_in_place_of_the_answer(simulator, person):
    ada = person("gigachat")
    ada.says("one")
    simulator.line = lambda asked: "another answer"

    assert "another answer" in ada.says("/retry")
    simulator.line = lambda asked: "end"
    ada.says("two")

    first, again, next_one = map(contents, asked(simulator))
    assert first == again == ["one"]
    assert next_one == ["one", "another answer", "two"]


def test_a_retry_that_fails_leaves_the_old_answer(simulator, person):
    ada = person("gigachat")
    ada.says("one")
    simulator.play("status-400")

    assert "BadRequestError" in ada.says("/retry")
    ada.says("two")

    assert contents(asked(simulator)[2]) == ["one", "<one>", "two"]


def test_what_failed_is_told_and_can_be_asked_again(simulator, person):
    ada = person("gigachat")
    simulator.play("cut-clean")

    assert "StreamInterruptedError" in ada.says("one")
    assert "<one>" in ada.says("/retry")

    assert contents(asked(simulator)[1]) == ["one"]


def test_reasoning_is_shown_until_the_answer_begins(person, serve):
    seen = threading.Event()

    def think(peer):
        peer.send(head(), chunk(frame("", reasoning_content="pondering \x1b]0;it\x07")))
        peer.wait(seen)
        peer.send(ends("the answer"))

    server = serve(think)
    ada = person("gigachat", GIGACHAT_ACCESS_TOKEN="t", GIGACHAT_BASE_URL=server.url)

    ada.types("think")
    ada.sees("\x1b[2;3mpondering \u241b]0;it\u2407\x1b[0m")  # dim and italic
    seen.set()

    shown = ada.ready()
    assert "pondering" not in shown[shown.index("the answer"):]


def test_an_answer_that_ended_early_is_told_as_such(simulator, person):
    ada = person("gigachat")
    simulator.play("length")

    assert "the limit of tokens" in ada.says("one two three four")


def test_the_model_and_the_system_message_can_be_changed(simulator, person):
    ada = person("gigachat")
    ada.says("one")

    assert "talking to gigachat:GigaChat-2" in ada.says("/model GigaChat-2")
    ada.says("/system be brief")
    ada.says("two")
    assert "be brief" in ada.says("/system")
    ada.says("/system -")
    ada.says("three")

    models = [one.json["model"] for one in simulator.requests if one.path.endswith("completions")]
    assert models == ["GigaChat", "GigaChat-2", "GigaChat-2"]
    assert contents(asked(simulator)[1]) == ["be brief", "one", "<one>", "two"]
    assert contents(asked(simulator)[2]) == ["one", "<one>", "two", "<two>", "three"]


def test_another_service_can_take_over(simulator, person):
    ada = person("gigachat")
    ada.says("one")

    shown = ada.says("/model nobody:x")
    assert "talking to gigachat:nobody:x" in shown  # no service of that name: a model of this one
    assert "GIGACHAT" not in ada.says("/model flowgpt")

    assert "talking to flowgpt" in ada.says("/model flowgpt")


def test_a_conversation_is_saved_and_no_other_file_overwritten(simulator, person, tmp_path):
    taken = tmp_path / "taken.md"
    taken.write_text("mine")
    ada = person("gigachat", "--system", "be kind")
    ada.says("one")

    assert "exists already" in ada.says(f"/save {taken}")
    ada.says(f"/save {tmp_path}/talk.json")
    ada.says("two")
    assert "saved" in ada.says(f"/save {tmp_path}/talk.json")
    ada.says(f"/save {tmp_path}/talk.md")
    assert "not saved" in ada.says(f"/save {tmp_path}/missing/talk.md")

    assert taken.read_text() == "mine"
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [one["content"] for one in saved] == ["be kind", "one", "<one>", "two", "<two>"]
    assert (tmp_path / "talk.md").read_text().startswith("## system\n\nbe kind\n\n## user\n\none\n")


def test_help_lists_the_commands_and_a_wrong_one_is_told(person):
    ada = person("gigachat")

    shown = ada.says("/help")
    assert all(name in shown for name in ("/model", "/system", "/save", "/retry", "/quit"))
    assert "no command /hlep" in ada.says("/hlep")


def test_what_was_typed_is_remembered_for_its_owner_alone(person, tmp_path):
    ada = person("gigachat")
    ada.says("remember me")
    ada.types("/quit")
    assert ada.leaves() == 0
    history = tmp_path / "chatsdk" / "history"
    assert "remember me" in history.read_text()
    assert stat.S_IMODE(os.stat(history).st_mode) == 0o600

    again = person("gigachat")
    again.types("\x1b[A\x1b[A", end="")  # before it comes /quit
    again.sees("remember me")


def test_without_history_nothing_is_written(person, tmp_path):
    ada = person("gigachat", "--no-history")
    ada.says("forget me")
    ada.types("/quit")

    assert ada.leaves() == 0
    assert list(tmp_path.iterdir()) == []


def test_control_characters_of_an_answer_are_shown_and_not_obeyed(simulator, person):
    simulator.line = lambda asked: "\x1b]0;title\x07 \x9b31m \u202eturned"
    ada = person("gigachat")

    shown = ada.says("hi")

    assert "\u241b]0;title\u2407 \ufffd31m \ufffdturned" in shown
    assert not set(ada.screen) & set("\x07\x9b\u202e") and "\x1b]" not in ada.screen


# In a pipe


@pytest.fixture
def pipe(monkeypatch, environment, capsys):
    """Run ``chatsdk chat`` with lines from a pipe; return status, output and complaints."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(lines, *arguments):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        status = main(["chat", *arguments])
        return status, *capsys.readouterr()

    return run


def test_commands_work_in_a_pipe_and_what_they_tell_is_no_output(simulator, pipe, tmp_path):
    lines = ["/retry", "one", "/system be kind", "/system", "/clear", "two", "/save", "/model",
             "/model openai", f"/save {tmp_path}/x.json", "/etc/hosts?", "/quit"]

    status, out, err = pipe("\n".join(lines), "gigachat")

    assert (status, out) == (0, "<one>\n<two>\n</etc/hosts?>\n")
    assert err.splitlines() == [
        "nothing was asked yet", "system message set", "be kind", "forgotten",
        "/save FILE says where to", "gigachat; `chatsdk models` lists what there is",
        "openai needs a key: give api_key=... or set OPENAI_API_KEY",
        f"saved in {tmp_path}/x.json",
    ]
    assert contents(asked(simulator)[1]) == ["be kind", "two"]


def test_a_quote_that_is_not_closed_ends_with_the_pipe(simulator, pipe):
    assert pipe('"""one\ntwo', "gigachat")[:2] == (0, '<"""one\ntwo>\n')


def test_as_json_what_is_told_goes_to_standard_error(pipe):
    status, out, err = pipe("/help\nhi\n", "gigachat", "--json")

    assert (status, len(out.splitlines())) == (0, 1)
    assert "/retry" in err


def test_in_a_pipe_each_line_is_a_question_and_answers_are_all_that_is_printed(simulator, pipe):
    assert pipe('one\n\n"""two\nlines"""\n/quit\nthree\n', "gigachat") == (
        0, "<one>\n<two\nlines>\n", "",
    )

    assert contents(asked(simulator)[1]) == ["one", "<one>", "two\nlines"]


def test_as_json_each_answer_is_a_line(simulator, pipe):
    simulator.play("normal", times=1)
    simulator.play("status-400")

    status, out, err = pipe("one\ntwo", "gigachat", "--json")

    good, bad = map(json.loads, out.splitlines())
    assert status == 1 and err == ""
    assert (good["input"], good["text"], good["finish_reason"]) == ("one", "<one>", "stop")
    assert (bad["index"], bad["error"]["type"]) == (1, "BadRequestError")


def test_the_target_can_come_from_the_environment(pipe, monkeypatch):
    monkeypatch.setenv("CHATSDK_TARGET", "gigachat")

    assert pipe("hi\n")[1] == "<hi>\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no TARGET"),
        (["gigachatt"], "did you mean 'gigachat'"),
        (["gigachat", "--base-url", "nowhere"], "must look like"),
        (["gigachat", "--timeout", "-1"], "above 0"),
    ],
)
def test_a_mistake_is_status_2(simulator, pipe, arguments, words):
    status, out, err = pipe("hi\n", *arguments)

    assert (status, out) == (2, "")
    assert words in err
    assert simulator.requests == []


def test_a_wrong_value_is_told_with_the_question(pipe):
    status, out, err = pipe("hi\n", "gigachat", "--temperature", "-1")

    assert (status, out) == (1, "")
    assert "temperature" in err
