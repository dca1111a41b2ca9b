"""The official gigachat package as a client of the simulator."""

from __future__ import annotations

import gigachat
from gigachat import exceptions
import pytest

from chatsdk.simulator import Simulator

NOW = {"name": "now", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sdk(sim):
    fields = sim.fields("gigachat")
    with gigachat.GigaChat(credentials="a2V5", scope="GIGACHAT_API_PERS", model="GigaChat-2",
                           **fields) as client:
        yield client


def ask(sdk, text="Привет", **rest):
    return sdk.chat({"messages": [{"role": "user", "content": text}], **rest})


def test_a_token_is_fetched_once_and_an_answer_is_a_completion(sim, sdk):
    first, second = ask(sdk), ask(sdk)

    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert sim.tokens_issued == 1


def test_a_stream_says_the_same(sdk):
    steps = list(sdk.stream("Привет"))

    text = "".join(step.choices[0].delta.content or "" for step in steps)
    assert text == ask(sdk).choices[0].message.content
    assert steps[-1].choices[0].finish_reason == "stop"


def test_a_function_is_called_and_its_result_understood(sdk):
    question = {"role": "user", "content": "In Rome"}
    message = ask(sdk, "In Rome", functions=[NOW]).choices[0].message
    turn = {"role": "assistant", "content": "", "function_call": {
        "name": "now", "arguments": message.function_call.arguments}}
    result = {"role": "function", "name": "now", "content": '{"time": 5}'}

    told = sdk.chat({"messages": [question, turn, result], "functions": [NOW]})

    assert message.function_call.arguments == {"zone": "Rome"}
    assert told.choices[0].message.content == 'The function now returned {"time": 5}.'


def test_models_are_listed(sdk):
    listed = sdk.get_models().data

    assert {model.owned_by for model in listed} == {"salutedevices"}
    assert sdk.get_model("GigaChat-2").id_ == "GigaChat-2"


def test_texts_become_vectors_and_their_tokens_are_counted(sdk):
    embedded = sdk.embeddings(["one", "two three"])
    counted = sdk.tokens_count(["one", "два три"], model="GigaChat-2")

    assert [entry.index for entry in embedded.data] == [0, 1]
    assert {len(entry.embedding) for entry in embedded.data} == {1024}
    assert [entry.usage.prompt_tokens for entry in embedded.data] == [3, 4]
    assert [(count.tokens, count.characters) for count in counted] == [(1, 3), (2, 7)]


def test_a_dropped_token_is_renewed(sim, sdk):
    ask(sdk)
    sim.expire_tokens()

    assert ask(sdk).choices[0].message.content
    assert sim.tokens_issued == 2


@pytest.mark.parametrize("status, kind", [
    (400, exceptions.BadRequestError), (403, exceptions.ForbiddenError),
    (404, exceptions.NotFoundError), (429, exceptions.RateLimitError),
    (500, exceptions.ServerError)])
def test_each_error_is_its_class(sim, sdk, status, kind):
    sim.play(f"status-{status}", times=9)

    with pytest.raises(kind):
        ask(sdk)
