"""A client in OpenAI's shape: what code written for the official one asks and reads."""

from __future__ import annotations

import base64
import json
import pickle
import struct

import pytest

from chatsdk import Client, StreamInterruptedError, UnsupportedError
from chatsdk.compat import openai
from chatsdk.simulator import Simulator

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
HI = [{"role": "user", "content": "Hello"}]
ROME = [{"role": "user", "content": "What is the weather in Rome?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


class NotGiven:
    """What the official package has for arguments that were left out."""


@pytest.fixture
def sim():
    with Simulator(reply="Fine, thank you.") as simulator:
        yield simulator


@pytest.fixture
def client(sim):
    with openai.OpenAI(api_key="sk-any", **sim.fields("openai")) as made:
        yield made


def of(sim, service):
    """Return a client of another service."""
    return openai.OpenAI(service, api_key="any", **sim.fields(service))


def sent(sim):
    """Return the body of the last question."""
    return json.loads(sim.requests[-1].body)


# Answers


def test_an_answer_has_the_attributes_of_the_official_one(client):
    answer = client.chat.completions.create(model="gpt-5-mini", messages=HI)

    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "Fine, thank you."
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 2
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert answer.id.startswith("chatcmpl-") and answer.model.startswith("gpt-5-mini")


def test_an_answer_can_be_told_as_plain_values_and_as_json(client):
    answer = client.chat.completions.create(messages=HI)

    dumped = answer.model_dump()
    assert dumped["choices"][0]["message"] == {
        "content": "Fine, thank you.", "refusal": None, "role": "assistant", "tool_calls": None,
    }
    assert json.loads(answer.model_dump_json()) == dumped
    assert answer.to_dict()["choices"][0]["message"] == {
        "content": "Fine, thank you.", "role": "assistant",
    }
    assert json.loads(answer.to_json()) == answer.to_dict()
    assert dumped["service_tier"] is None and "service_tier" not in answer.to_dict()


def test_any_service_answers_in_the_same_shape(sim):
    with of(sim, "gigachat") as client:
        answer = client.chat.completions.create(messages=HI, max_tokens=5)

    assert answer.choices[0].message.content == "Fine, thank you."
    assert answer.model.startswith("GigaChat")
    assert sent(sim)["max_tokens"] == 5


def test_a_service_that_tells_no_reason_and_no_tokens_has_stopped(sim):
    with of(sim, "h2o") as client:
        answer = client.chat.completions.create(messages=HI)
        last = list(client.chat.completions.create(messages=HI, stream=True))[-1]

    assert answer.choices[0].finish_reason == last.choices[0].finish_reason == "stop"
    assert answer.usage is None


# Streams


def test_a_stream_has_the_role_first_and_the_reason_last(client):
    chunks = list(client.chat.completions.create(model="gpt-5-mini", messages=HI, stream=True))

    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {(chunk.id, chunk.created) for chunk in chunks} == {(chunks[0].id, chunks[0].created)}
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", None]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Fine, thank you."
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_tokens_in_the_last_chunk_if_asked(client):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(
        messages=HI, stream=True, stream_options=options
    ))

    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 2


def test_text_that_came_before_a_break_was_handed_out_and_is_in_the_error(sim, client):
    sim.play("cut")
    texts = []

    with pytest.raises(StreamInterruptedError) as caught:
        for chunk in client.chat.completions.create(messages=HI, stream=True):
            texts.append(chunk.choices[0].delta.content)

    assert "".join(texts) == caught.value.partial.text != ""


def test_a_stream_that_was_left_early_claims_no_end(client):
    with client.chat.completions.create(messages=HI, stream=True) as stream:
        first = next(stream)

    assert first.choices[0].delta.content
    assert list(stream) == []


def test_reasoning_comes_in_a_field_of_its_own(sim):
    sim.scenario = "reasoning"
    with of(sim, "deepseek") as client:
        answer = client.chat.completions.create(messages=HI)
        chunks = list(client.chat.completions.create(messages=HI, stream=True))

    thoughts = [chunk.choices[0].delta.reasoning_content or "" for chunk in chunks]
    assert answer.choices[0].message.reasoning_content == "".join(thoughts) != ""
    assert answer.model_dump()["choices"][0]["message"]["reasoning_content"] == "".join(thoughts)


# Tools


@pytest.mark.parametrize("service", ["openai", "gigachat", "gemini", "anthropic", "ollama"])
@pytest.mark.parametrize("kept", ["object", "dict"])
def test_a_tool_is_called_and_its_result_told(service, kept):
    with Simulator() as sim, of(sim, service) as client:
        answer = client.chat.completions.create(messages=ROME, tools=TOOLS)
        said = answer.choices[0].message
        call = said.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}
        history = [*ROME, said if kept == "object" else said.model_dump(), result]
        last = client.chat.completions.create(messages=history, tools=TOOLS)

    assert answer.choices[0].finish_reason == "tool_calls"
    assert said.content is None
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    assert "weather" in last.choices[0].message.content


@pytest.mark.parametrize("service", ["openai", "gigachat"])
def test_a_streamed_call_comes_in_pieces_that_add_up(service):
    with Simulator(scenario="function-call") as sim, of(sim, service) as client:
        chunks = list(client.chat.completions.create(messages=ROME, tools=TOOLS, stream=True))

    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert [piece.index for piece in pieces] == [0] * len(pieces)
    assert pieces[0].id and pieces[0].function.name == "weather" and pieces[0].type == "function"
    assert [piece.id for piece in pieces[1:]] == [None] * (len(pieces) - 1)
    assert json.loads("".join(piece.function.arguments for piece in pieces))["city"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_an_id_that_was_made_here_is_not_sent_to_the_service():
    with Simulator() as sim, of(sim, "gigachat") as client:
        said = client.chat.completions.create(messages=ROME, tools=TOOLS).choices[0].message
        result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "7 degrees"}
        client.chat.completions.create(messages=[*ROME, said, result], tools=TOOLS)
        body = sim.requests[-1].body

    assert said.tool_calls[0].id.startswith(openai.MADE)
    assert openai.MADE.encode() not in body
    assert json.loads(body)["messages"][-1]["name"] == "weather"


# What is asked


def test_the_older_and_the_newer_name_of_the_limit_are_one(sim, client):
    create = client.chat.completions.create

    create(messages=HI, max_tokens=7)
    create(messages=HI, max_completion_tokens=8)

    asked = [json.loads(request.body)["max_completion_tokens"] for request in sim.requests]
    assert asked == [7, 8]
    with pytest.raises(TypeError, match="give one of them"):
        create(messages=HI, max_tokens=7, max_completion_tokens=7)


def test_what_the_official_package_has_for_not_given_is_not_sent(sim, client):
    client.chat.completions.create(
        messages=HI, temperature=NotGiven(), max_tokens=NotGiven(), stop=None, n=NotGiven()
    )

    assert {"temperature", "max_completion_tokens", "stop", "n"}.isdisjoint(sent(sim))


def test_parts_and_roles_of_openai_are_understood(sim, client):
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    pdf = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4").decode()
    wav = base64.b64encode(b"RIFF\x08\x00\x00\x00WAVE").decode()
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "file", "file": {"file_data": pdf, "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}},
    ]

    client.chat.completions.create(
        messages=[{"role": "developer", "content": "Be brief"}, {"role": "user", "content": parts}]
    )

    system, user = sent(sim)["messages"]
    assert system == {"role": "system", "content": "Be brief"}
    assert user["content"] == parts


def test_a_sound_without_a_format_is_refused(sim, client):
    part = {"type": "input_audio", "input_audio": {"data": "UklGRg=="}}

    with pytest.raises(TypeError, match="format must be a word such as 'wav', not None"):
        client.chat.completions.create(messages=[{"role": "user", "content": [part]}])

    assert sim.requests == []


def test_a_file_in_a_message_is_never_a_path(tmp_path, sim, client):
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    part = {"type": "file", "file": {"file_data": str(path)}}

    with pytest.raises(TypeError, match=r"messages\[0\]: content\[0\]: a file has its bytes"):
        client.chat.completions.create(messages=[{"role": "user", "content": [part]}])

    assert sim.requests == []


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"temprature": 1}, TypeError, "unknown parameter 'temprature'.*'temperature'"),
        ({"presence_penalty": 1}, TypeError, "unknown parameter 'presence_penalty'"),
        ({"n": 2}, UnsupportedError, "n must be 1"),
        ({"stream_options": {"include_usage": True}}, ValueError, "for stream=True only"),
        ({"stream": True, "stream_options": {"usage": True}}, TypeError, "unknown key 'usage'"),
        ({"stream": True, "stream_options": 1}, TypeError, "must be a dict, not int"),
        ({"messages": [{"role": "user", "content": "", "x": 1}]}, TypeError, "unknown key 'x'"),
        ({"messages": 7}, TypeError, "messages must be"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(sim, client, given, error, words):
    with pytest.raises(error, match=words):
        client.chat.completions.create(**{"messages": HI, **given})

    assert sim.requests == []


def test_errors_have_the_names_of_the_official_package(sim, client):
    sim.play("unauthorized")
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(messages=HI)

    assert isinstance(caught.value, (openai.APIStatusError, openai.OpenAIError))
    assert caught.value.status_code == 401
    assert "sk-any" not in str(caught.value)


# The client


def test_a_client_of_ours_can_be_given(sim):
    with Client("openai", api_key="any", **sim.fields("openai")) as ours:
        made = openai.OpenAI(client=ours)

        assert made.chat.completions.create(messages=HI).choices[0].message.content
        with pytest.raises(TypeError, match="api_key, target: give these to the client"):
            openai.OpenAI("gigachat", client=ours, api_key="b")
    with pytest.raises(TypeError, match="must be a chatsdk.Client, not str"):
        openai.OpenAI(client="ours")


def test_the_target_may_come_from_the_environment(sim, monkeypatch):
    monkeypatch.setenv("CHATSDK_TARGET", "ollama")

    with openai.OpenAI(**sim.fields("ollama")) as client:
        assert client.chat.completions.create(messages=HI).choices[0].message.content
    assert sim.requests[-1].path.endswith("/api/chat")


def test_a_copy_has_other_options_and_the_same_connections(sim, client):
    copy = client.with_options(default_headers={"X-Team": "blue"})

    copy.chat.completions.create(messages=HI)

    assert sim.requests[-1].headers["X-Team"] == "blue"
    assert "sk-any" not in repr(copy)


def test_it_pickles(sim, client):
    copy = pickle.loads(pickle.dumps(client))

    with copy:
        assert copy.chat.completions.create(messages=HI).choices[0].message.content
    assert copy.client is copy.chat.completions._client


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="orgnization"):
        openai.OpenAI(api_key="any", orgnization="a")


# Vectors and models


def test_vectors_come_in_the_order_of_the_texts_as_numbers_or_packed(client):
    made = client.embeddings.create(input=["a", "b"], model="text-embedding-3-small")
    packed = client.embeddings.create(input="b", encoding_format="base64")

    assert [entry.index for entry in made.data] == [0, 1]
    assert made.object == "list" and made.usage.prompt_tokens > 0
    raw = base64.b64decode(packed.data[0].embedding)
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(made.data[1].embedding)
    assert json.loads(made.model_dump_json())["data"][0]["object"] == "embedding"
    with pytest.raises(ValueError, match="encoding_format must be 'float' or 'base64'"):
        client.embeddings.create(input="a", encoding_format="int8")
    with pytest.raises(TypeError, match="unexpected keyword argument 'dimension'"):
        client.embeddings.create(input="a", dimension=3)


def test_models_are_listed(client):
    models = client.models.list()

    assert "gpt-5-mini" in [model.id for model in models]
    assert models.data[0].object == "model" and isinstance(models.data[0].created, int)
    assert models.model_dump()["data"][0]["owned_by"]
