"""Runs: tools are called until the model has an answer."""

from __future__ import annotations

import pickle
import threading

from fakes import Call
import pytest

from chatsdk import (
    Client,
    Message,
    ProviderError,
    Run,
    tool,
    ToolCall,
    ToolResult,
    TurnsExceededError,
    UnsupportedError,
    Usage,
)
from chatsdk.messages import Delta
from chatsdk.parts import ToolCallPart
from chatsdk.runs import RunStream
from chatsdk.simulator import Simulator
from chatsdk.streams import Stream


def calls(*named):
    """Return the one step of a turn that calls functions: ``(name, arguments)`` each."""
    parts = (
        ToolCallPart(n, f"id-{n}", name, arguments) for n, (name, arguments) in enumerate(named)
    )
    return Delta("", "tool_calls", Usage(10, 1, 11), tool_calls=tuple(parts), final=True)


def says(text):
    return Delta(text, "stop", Usage(20, 2, 22, 5), final=True)


class Model:
    """A model that plays its turns, and keeps what it was asked."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.asked = []

    def __call__(self, messages, **params):
        self.asked.append((list(messages), params))
        turn = self.turns.pop(0)

        def steps():
            yield None
            for step in turn if isinstance(turn, tuple) else (turn,):
                if isinstance(step, Exception):
                    raise step
                yield step

        return Stream(Call(), steps())


def run(model, tools, *, max_turns=8, parallel=False, **params):
    return RunStream(
        model, "Hi", tools, max_turns=max_turns, parallel=parallel, params=params
    )


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def fail(reason: str) -> str:
    raise LookupError(reason)


def test_tools_are_called_until_the_model_has_an_answer():
    model = Model(calls(("add", '{"a": 2}')), calls(("add", '{"a": 3, "b": 4}')), says("10"))

    done = run(model, [add]).read()

    assert str(done) == done.text == done.reply.text == "10"
    assert [(result.call.name, result.text, result.error) for result in done.results] == [
        ("add", "3", None),
        ("add", "7", None),
    ]
    assert done.messages == (
        Message("user", "Hi"),
        done.replies[0].message,
        Message("tool", "3", name="add", tool_call_id="id-0"),
        done.replies[1].message,
        Message("tool", "7", name="add", tool_call_id="id-0"),
        Message("assistant", "10"),
    )
    assert done.usage == Usage(40, 4, 44, 5)
    assert [asked[0] for asked in model.asked] == [
        list(done.messages[:1]), list(done.messages[:3]), list(done.messages[:5]),
    ]


def test_a_run_without_calls_is_one_turn():
    done = run(Model(says("Hello")), [add]).read()

    assert (done.text, len(done.messages), done.results) == ("Hello", 2, ())


@pytest.mark.parametrize(
    "name, arguments, text",
    [
        ("fail", '{"reason": "no such town"}', "Error: LookupError: no such town"),
        ("add", '{"a": "x"}', "Error: ValueError: a must be of type integer, not string"),
        ("add", '{"b": 1}', "Error: ValueError: a is missing"),
        ("add", '{"a": 1, "c": 1}', "Error: ValueError: c is unknown; known: a, b"),
        ("add", "[1]", "Error: ValueError: the arguments are no JSON object"),
        ("ad", "{}", "Error: ValueError: unknown tool 'ad'; there are: add, fail; did you"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_told_to_the_model(name, arguments, text):
    model = Model(calls((name, arguments)), says("Sorry"))

    done = run(model, [add, fail]).read()

    assert done.results[0].text.startswith(text)
    assert isinstance(done.results[0].error, (LookupError, ValueError))
    assert model.asked[1][0][-1] == done.results[0].message
    assert done.text == "Sorry"


def test_the_calls_of_one_answer_run_at_once_if_that_is_wanted_and_keep_their_order():
    meeting = threading.Barrier(2, timeout=10)

    @tool
    def meet(name: str) -> str:
        meeting.wait()
        return name

    model = Model(calls(("meet", '{"name": "a"}'), ("meet", '{"name": "b"}')), says("met"))

    done = run(model, [meet], parallel=True).read()

    assert [result.text for result in done.results] == ["a", "b"]


def test_they_run_one_after_the_other_else():
    seen = []

    def note(name: str) -> str:
        seen.append((name, threading.get_ident()))
        return name

    model = Model(calls(("note", '{"name": "a"}'), ("note", '{"name": "b"}')), says("x"))

    run(model, [note]).read()

    assert seen == [("a", threading.get_ident()), ("b", threading.get_ident())]


def test_the_last_turn_calls_nothing_and_says_so():
    called = []

    def again(n: int) -> int:
        called.append(n)
        return n

    turns = [calls(("again", '{"n": %d}' % n)) for n in range(5)]

    with pytest.raises(TurnsExceededError, match="after 3 turns") as caught:
        run(Model(*turns), [again], max_turns=3).read()

    assert called == [0, 1]
    assert len(caught.value.run.replies) == 3
    assert caught.value.run.usage == Usage(30, 3, 33)
    assert pickle.loads(pickle.dumps(caught.value)).run == caught.value.run


def test_a_turn_that_fails_loses_nothing_of_those_before():
    broken = (Delta("half"), ProviderError("overloaded"))

    with pytest.raises(ProviderError) as caught:
        run(Model(calls(("add", '{"a": 1}')), broken), [add]).read()

    assert caught.value.partial.text == "half"
    assert [result.text for result in caught.value.run.results] == ["2"]


def test_a_forced_choice_holds_for_the_first_turn_only():
    model = Model(calls(("add", '{"a": 1}')), says("2"))

    run(model, [add], tool_choice="required", temperature=0.5).read()

    assert [params.get("tool_choice") for _, params in model.asked] == ["required", None]
    assert [params["temperature"] for _, params in model.asked] == [0.5, 0.5]


def test_a_live_run_gives_text_and_steps_as_they_come():
    turns = calls(("add", '{"a": 1}')), (Delta("It is "), says("2"))

    assert list(run(Model(*turns), [add]).open()) == ["It is ", "2"]

    steps = list(run(Model(*turns), [add]).open().steps())
    result = steps[1]
    assert result == ToolResult(ToolCall("id-0", "add", {"a": 1}, '{"a": 1}'), "2")
    assert [step.text for step in steps[2:]] == ["It is ", "2"]


def test_a_run_that_is_closed_ends_and_keeps_what_it_has():
    model = Model(calls(("add", '{"a": 1}')), (Delta("It is "), says("2")))

    with run(model, [add]).open() as live:
        assert next(live) == "It is "
    assert list(live) == []
    assert [result.text for result in live.run.results] == ["2"]


@pytest.mark.parametrize(
    "tools, kind, says",
    [
        ([], ValueError, "empty"),
        (add, TypeError, "a list of functions"),
        ([{"type": "function", "function": {"name": "a"}}], TypeError, r"tools\[0\] must be a fun"),
        ([add, add], ValueError, "two that are called 'add'"),
        ([lambda x: x], TypeError, "no type hint"),
    ],
)
def test_tools_that_cannot_be_called_are_refused_before_anything_is_asked(tools, kind, says):
    model = Model()

    with pytest.raises(kind, match=says):
        run(model, tools)

    assert model.asked == []


@pytest.mark.parametrize("turns", [0, -1, True, 1.5, "3"])
def test_turns_are_a_number_of_one_or_more(turns):
    with pytest.raises(ValueError, match="max_turns"):
        run(Model(), [add], max_turns=turns)


def test_ctrl_c_in_a_tool_ends_the_run():
    def stop() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Model(calls(("stop", "{}"))), [stop]).read()


def test_a_client_runs_tools_at_a_service():
    @tool
    def weather(city: str) -> dict:
        """Tell the weather."""
        return {"city": city, "degrees": 7}

    with Simulator() as simulator:
        with Client("gigachat", api_key="any", **simulator.fields("gigachat")) as client:
            done = client.run("Weather in Kazan?", tools=[weather])
            live = "".join(client.run_stream("Weather in Kazan?", [weather]))

            assert client.usage["gigachat:GigaChat"].total_tokens == 2 * done.usage.total_tokens

        sent = simulator.requests[-1].json["messages"]

    assert isinstance(done, Run)
    assert done.text == live == 'The function weather returned {"city": "Kazan", "degrees": 7}.'
    assert [message["role"] for message in sent] == ["user", "assistant", "function"]


def test_a_service_without_tools_refuses_a_run():
    with Simulator() as simulator:
        with Client("aura", **simulator.fields("aura")) as client:
            with pytest.raises(UnsupportedError, match="tools"):
                client.run("Hi", [add])

        assert simulator.requests == []
