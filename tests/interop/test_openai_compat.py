"""The official openai package's types, as judges of what our client in its shape answers."""

from __future__ import annotations

import inspect

import openai
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
import pytest

from chatsdk.compat.openai import OpenAI
from chatsdk.simulator import Simulator

HI = [{"role": "user", "content": "The weather in Moscow?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": CITY}}
         for name in ("weather", "traffic")]
OURS = {"reasoning_content", "state"}


@pytest.fixture(params=["openai", "gigachat", "anthropic", "gemini", "ollama"])
def client(request):
    with Simulator() as sim:
        with OpenAI(request.param, api_key="any", **sim.fields(request.param)) as made:
            made.sim = sim
            yield made


def strictly(kind, shape):
    """Parse what an answer tells of itself as the official type, with nothing left over."""
    parsed = kind.model_validate(shape.model_dump(), strict=True)
    assert kind.model_validate_json(shape.model_dump_json()) == parsed
    assert not extras(parsed) - OURS
    return parsed


def extras(value):
    """Return the names of what the official types do not know, at any depth."""
    if isinstance(value, list):
        return set().union(*map(extras, value))
    if not hasattr(value, "model_extra"):
        return set()
    return {*(value.model_extra or {})}.union(*(extras(item) for _, item in value if item))


def test_an_answer_is_a_completion(client):
    answer = client.chat.completions.create(messages=HI)

    parsed = strictly(ChatCompletion, answer)
    assert parsed.choices[0].message.content == answer.choices[0].message.content != ""
    assert parsed.usage.prompt_tokens == answer.usage.prompt_tokens > 0


@pytest.mark.parametrize("scenario", ["function-call", "parallel-calls"])
def test_calls_are_calls_in_an_answer_and_in_a_stream(client, scenario):
    client.sim.scenario = {"openai": scenario, "anthropic": scenario}
    create = client.chat.completions.create
    answer = create(messages=HI, tools=TOOLS)
    chunks = list(create(messages=HI, tools=TOOLS, stream=True))

    calls = strictly(ChatCompletion, answer).choices[0].message.tool_calls
    parsed = [strictly(ChatCompletionChunk, chunk) for chunk in chunks]
    pieces = [piece for chunk in parsed for piece in chunk.choices[0].delta.tool_calls or ()]
    for index, call in enumerate(calls):
        mine = [piece for piece in pieces if piece.index == index]
        assert mine[0].function.name == call.function.name
        assert "".join(piece.function.arguments for piece in mine) == call.function.arguments
    assert parsed[-1].choices[0].finish_reason == "tool_calls"


def test_a_stream_is_made_of_chunks(client):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(messages=HI, stream=True, stream_options=options))

    parsed = [strictly(ChatCompletionChunk, chunk) for chunk in chunks]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parsed[:-1])
    assert parsed[-2].choices[0].finish_reason == "stop"
    assert parsed[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("service", ["h2o", "aura", "tgi", "groq", "openai-responses"])
def test_an_answer_of_a_service_that_tells_less_is_a_completion_as_well(service):
    with Simulator() as sim, OpenAI(service, api_key="any", **sim.fields(service)) as client:
        answer = client.chat.completions.create(messages=HI)

    assert strictly(ChatCompletion, answer).choices[0].finish_reason == "stop"


def test_a_message_that_the_official_package_parsed_can_be_sent_back(client):
    answer = client.chat.completions.create(messages=HI)
    said = ChatCompletion.model_validate(answer.model_dump()).choices[0].message

    again = client.chat.completions.create(
        messages=[*HI, said, {"role": "user", "content": "And then?"}],
        temperature=openai.NOT_GIVEN,
        tools=openai.omit,
    )

    assert strictly(ChatCompletion, again).choices[0].message.content


def test_vectors_and_models_are_those_of_the_official_package():
    with Simulator() as sim, OpenAI(api_key="any", **sim.fields("openai")) as client:
        made = client.embeddings.create(input=["a", "b"])
        models = client.models.list()

    assert len(strictly(CreateEmbeddingResponse, made).data[1].embedding) > 2
    assert [strictly(Model, model).id for model in models][0] == models.data[0].id


def test_what_can_be_given_is_a_part_of_what_the_official_package_takes():
    official = inspect.signature(openai.resources.chat.Completions.create).parameters
    ours = inspect.signature(type(OpenAI("ollama").chat.completions).create).parameters

    assert {*ours} - {"params"} <= {*official}


def test_each_error_has_the_name_of_an_official_one():
    from chatsdk.compat import openai as compat

    names = [name for name in vars(compat) if name.endswith("Error")]
    assert len(names) > 10
    assert all(issubclass(getattr(openai, name), openai.OpenAIError) for name in names)
