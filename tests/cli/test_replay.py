"""``chatsdk replay``: recordings that a client made of the simulator are played."""

from __future__ import annotations

import json
import time

import pytest
from terminals import ESCAPES, Person

from chatsdk import Cassette, ChatError, Client
from chatsdk.cli import main
from chatsdk.cli.replay import asked
from chatsdk.providers import get
from chatsdk.simulator import SERVICES, Simulator


@pytest.fixture
def record(tmp_path):
    """Ask a service and record it; return the file."""
    path = tmp_path / "cassette.jsonl"

    def record(name="gigachat", *questions, **options):
        with Simulator(**{"chunk_delay": 0, "reply": "some *words* of it", **options}) as simulator:
            provider = get(name)(**{"api_key": "s3cret", **simulator.fields(name)})
            with Client(provider, record=path, proxy="", max_retries=0) as client:
                for question in questions or ["Why?"]:
                    try:
                        client.chat(question)
                    except ChatError:
                        pass  # it is in the recording
        return str(path)

    return record


@pytest.mark.parametrize("name", SERVICES)
def test_the_text_of_every_service_is_played(record, name, capsys):
    assert main(["replay", record(name, "Why so?"), "--speed", "inf"]) == 0

    out, err = capsys.readouterr()
    assert "some *words* of it\n" in out and err == ""
    assert out.count("some") == 1


def test_questions_and_answers_come_in_order_and_other_calls_as_one_line(record, capsys):
    assert main(["replay", record("gigachat", "One?", "Two?"), "--speed", "inf"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "POST /gigachat/api/v2/oauth  200, " in lines[0]
    assert lines[2:4] == ["> One?", "some *words* of it"]
    assert lines[5:7] == ["> Two?", "some *words* of it"]
    assert "s3cret" not in "".join(lines)


def test_as_json_each_exchange_is_a_line(record, capsys):
    assert main(["replay", record(), "--json"]) == 0

    token, answer = map(json.loads, capsys.readouterr().out.splitlines())
    assert (token["text"], token["status"]) == (None, 200)
    assert (answer["question"], answer["text"], answer["error"]) == (
        "Why?", "some *words* of it", None,
    )


def test_an_answer_that_broke_off_is_played_up_to_there(record, capsys):
    path = record(scenario="cut")

    assert main(["replay", path, "--speed", "inf"]) == 0
    out, err = capsys.readouterr()
    assert "some *words*" in out and "of it" not in out
    assert "StreamInterruptedError" in err
    assert main(["replay", path, "--json"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["text"].startswith("some") and "StreamInterruptedError" in line["error"]


def test_a_call_that_got_no_answer_is_told_as_what_it_was(record, capsys):
    path = record(scenario="cut-head")

    assert main(["replay", path]) == 0
    out, err = capsys.readouterr()
    assert "  no answer, " in out.splitlines()[-1]
    assert err.startswith("chatsdk: connection: ")
    assert main(["replay", path, "--json"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["status"], line["text"]) == (None, None)
    assert line["error"].startswith("connection: ")


def test_it_comes_at_the_speed_of_the_recording(record, capsys):
    path = record(chunk_delay=0.2)
    recorded = Cassette(path).exchanges[-1].elapsed

    def seconds(speed):
        began = time.monotonic()
        assert main(["replay", path, "--speed", speed]) == 0
        return time.monotonic() - began

    assert recorded >= 0.6  # there are three pauses between four words
    real = seconds("1")
    assert real >= recorded
    assert seconds("inf") < real - 0.3


def test_on_a_terminal_it_is_markdown(record):
    person = Person("replay", record())

    assert person.leaves() == 0
    assert "\x1b[3mwords\x1b[0m" in person.screen
    assert "> Why?" in ESCAPES.sub("", person.screen)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no cassette"),
        ("no cassette\n", "line 1"),
        ('{"cassette": 1}\n{"x"\n', "line 2"),
    ],
)
def test_a_file_that_is_no_recording_is_a_mistake(tmp_path, capsys, content, words):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_text(content)

    assert main(["replay", str(path)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("speed", ["0", "-1", "nan"])
def test_a_speed_that_is_none_is_a_mistake(record, capsys, speed):
    assert main(["replay", record(), "--speed", speed]) == 2
    assert "speed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "question"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "b"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "a"),
        ({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}, "a"),
        ({"input": "a"}, "a"),
        ({"inputs": "a", "parameters": {}}, "a"),
        ({"model": "x"}, ""),
        (None, ""),
    ],
)
def test_the_question_is_found_in_bodies_of_all_kinds(body, question):
    assert asked(body) == question
