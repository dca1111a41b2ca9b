"""The chat model of LangChain: asked by LangChain itself."""

from __future__ import annotations

import asyncio
import base64
from importlib import import_module
import json
import pickle
import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError
import pytest

from chatsdk import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Reply,
    StreamInterruptedError,
    ToolCall,
)
from chatsdk.compat.langchain import ChatSDK, message_of
from chatsdk.compat.openai import MADE
from chatsdk.simulator import Simulator

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
MP3 = base64.b64encode(b"ID3" + bytes(8)).decode()
PDF = base64.b64encode(b"%PDF-1.4").decode()


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city}: 7 degrees"


class Place(BaseModel):
    """A place on a map."""

    city: str
    days: int


@pytest.fixture
def sim():
    with Simulator(reply="Fine, thank you.") as simulator:
        yield simulator


def of(sim, service, **fields):
    client = Client(service, api_key="sk-any", **sim.fields(service))
    return ChatSDK(client=client, **fields)


@pytest.fixture
def model(sim):
    made = of(sim, "openai")
    yield made
    made.client.close()


def sent(sim, place=-1):
    return json.loads(sim.requests[place].body)


# Answers


def test_an_answer_is_a_message_with_tokens_and_a_reason(model):
    message = model.invoke("Hello")

    assert message.content == "Fine, thank you."
    usage = message.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 2
    assert usage["input_token_details"] == {"cache_read": 0}
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["provider"] == "openai"
    assert message.response_metadata["model_name"]


def test_a_stream_comes_in_pieces_that_add_up_to_the_answer(model):
    chunks = list(model.stream("Hello"))

    whole = sum(chunks[1:], chunks[0])
    assert len([chunk for chunk in chunks if chunk.content]) > 1
    assert whole.content == "Fine, thank you."
    assert whole.usage_metadata["total_tokens"] > 2
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.chunk_position == "last"


def test_many_questions_are_asked_at_once(sim, model):
    messages = model.batch(["one", "two", "three"])

    assert [message.content for message in messages] == ["Fine, thank you."] * 3
    assert sorted(sent(sim, n)["messages"][0]["content"] for n in range(3)) == [
        "one", "three", "two",
    ]


def test_it_can_be_awaited(model):
    async def ask():
        said = await model.ainvoke("one")
        pieces = [chunk.content async for chunk in model.astream("two")]
        return said.content, "".join(pieces)

    assert asyncio.run(ask()) == ("Fine, thank you.", "Fine, thank you.")


def test_it_is_a_link_of_a_chain(sim):
    prompt = ChatPromptTemplate([("system", "Be brief"), ("human", "{question}")])
    model = of(sim, "gigachat", temperature=0.5, params={"top_p": 0.9})

    text = (prompt | model | StrOutputParser()).invoke({"question": "Why?"})
    model.client.close()

    body = sent(sim)
    assert text == "Fine, thank you."
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_a_call_may_say_otherwise_than_the_model(sim, model):
    bound = model.bind(stop=["\n"], max_tokens=5)

    bound.invoke("Hi", model="gpt-4.1-mini", temperature=1.5)

    body = sent(sim)
    assert (body["model"], body["temperature"]) == ("gpt-4.1-mini", 1.5)
    assert (body["stop"], body["max_completion_tokens"]) == (["\n"], 5)


def test_reasoning_is_a_block_of_its_own():
    with Simulator(scenario="reasoning") as sim:
        model = of(sim, "deepseek")
        whole = model.invoke("Hi")
        chunks = list(model.stream("Hi"))
        model.client.close()

    added = sum(chunks[1:], chunks[0])
    assert whole.content_blocks[0]["type"] == "reasoning"
    thoughts = whole.additional_kwargs["reasoning_content"]
    assert added.additional_kwargs["reasoning_content"] == thoughts != ""


# Tools


@pytest.mark.parametrize("service", ["openai", "gigachat", "gemini", "anthropic", "ollama"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_told(service, streamed):
    with Simulator() as sim:
        model = of(sim, service)
        bound = model.bind_tools([weather])
        question = HumanMessage("What is the weather in Rome?")
        if streamed:
            chunks = list(bound.stream([question]))
            said = sum(chunks[1:], chunks[0])
        else:
            said = bound.invoke([question])
        results = [weather.invoke(call) for call in said.tool_calls]
        last = bound.invoke([question, said, *results])
        model.client.close()
        bodies = [request.body or b"" for request in sim.requests]

    (call,) = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Rome"})
    assert isinstance(results[0], ToolMessage) and call["id"]
    assert "7 degrees" in last.content
    assert not any(MADE.encode() in body for body in bodies)


@pytest.mark.parametrize(
    "choice, asked",
    [
        ("any", "required"), (True, "required"), ("auto", "auto"), (None, None),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_a_choice_of_tools_is_told_in_the_words_of_the_service(choice, asked):
    with Simulator() as sim:
        model = of(sim, "openai")
        model.bind_tools([weather], tool_choice=choice).invoke("Rome?")
        model.client.close()

        assert sent(sim).get("tool_choice") == asked


def test_calls_whose_arguments_are_no_json_are_told_apart():
    calls = (ToolCall("c1", "weather", None, "{city"), ToolCall(None, "now", {}, "{}"))

    message = message_of(Reply(tool_calls=calls, finish_reason="tool_calls"))

    assert [call["name"] for call in message.tool_calls] == ["now"]
    (bad,) = message.invalid_tool_calls
    assert (bad["id"], bad["args"]) == ("c1", "{city")
    assert "no JSON object" in bad["error"]


def test_an_answer_can_be_held_to_a_type():
    with Simulator() as sim:
        model = of(sim, "openai")
        place = model.with_structured_output(Place).invoke("Where?")
        model.client.close()

    assert isinstance(place, Place)


# Messages


def test_parts_of_several_forms_are_understood(sim, model):
    url = f"data:image/png;base64,{PNG}"
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "audio", "base64": MP3, "mime_type": "audio/mpeg"},
        {"type": "file", "base64": PDF, "mime_type": "application/pdf", "filename": "a.pdf"},
    ]

    model.invoke([SystemMessage("Be brief"), HumanMessage(parts)])

    system, user = sent(sim)["messages"]
    assert system["content"] == "Be brief"
    assert [part["type"] for part in user["content"]] == [
        "text", *["image_url"] * 3, "input_audio", "file",
    ]
    assert user["content"][1] == user["content"][2]
    assert user["content"][3]["image_url"]["url"] == "https://example.org/a.png"


def test_a_part_without_a_meaning_is_refused_before_anything_is_sent(sim, model):
    with pytest.raises((TypeError, ValueError), match=r"messages\[0\].*content\[0\]"):
        model.invoke([HumanMessage([{"type": "smell", "smell": "roses"}])])

    assert sim.requests == []


def test_thoughts_of_another_model_are_left_out_of_the_history(sim, model):
    said = AIMessage([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}])

    model.invoke([HumanMessage("Hi"), said, HumanMessage("And?")])

    assert "Hm" not in json.dumps(sent(sim))


@pytest.mark.parametrize("streamed", [False, True])
def test_what_the_service_wants_back_goes_back(streamed):
    with Simulator(scenario="reasoning") as sim:
        model = of(sim, "anthropic")
        if streamed:
            chunks = list(model.stream("Hi"))
            said = sum(chunks[1:], chunks[0])
        else:
            said = model.invoke("Hi")
        model.invoke([HumanMessage("Hi"), said, HumanMessage("And?")])
        model.client.close()

        assert sent(sim)["messages"][1]["content"][0]["type"] == "thinking"


# Errors


def test_errors_are_ours_and_hold_no_key(sim, model):
    sim.play("unauthorized")
    with pytest.raises(AuthenticationError) as caught:
        model.invoke("Hi")

    assert "sk-any" not in str(caught.value)


def test_text_that_came_before_a_break_was_handed_out(sim, model):
    sim.play("cut")
    texts = []

    with pytest.raises(StreamInterruptedError) as caught:
        for chunk in model.stream("Hi"):
            texts.append(chunk.content)

    assert "".join(texts) == caught.value.partial.text != ""


# The model itself


def test_it_makes_its_own_client_of_a_target_a_key_and_an_address(sim):
    model = ChatSDK(target="openai:gpt-4.1-mini", api_key="sk-mine", **sim.fields("openai"))

    assert model.invoke("Hi").content == "Fine, thank you."
    model.client.close()
    assert sim.requests[-1].headers["Authorization"] == "Bearer sk-mine"
    assert sent(sim)["model"] == "gpt-4.1-mini"
    assert "sk-mine" not in repr(model) and "sk-mine" not in str(model.model_dump())


def test_it_pickles(sim, model):
    copy = pickle.loads(pickle.dumps(model.bind_tools([weather])))
    other = pickle.loads(pickle.dumps(model))

    assert other.invoke("Hi").content == "Fine, thank you."
    assert copy.kwargs["tools"][0]["function"]["name"] == "weather"
    other.client.close()


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"targt": "openai"}, ValidationError, "targt"),
        ({"client": "ours"}, ValueError, "client must be a chatsdk.Client, not str"),
        ({"client": Client("ollama"), "api_key": "a"}, ValueError, "to the client, or leave out"),
        ({"target": "nobody"}, ConfigurationError, "unknown provider 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        ChatSDK(**given)


def test_tracing_is_told_the_service_and_the_model():
    traced = ChatSDK(target="ollama:llama3.2", model="qwen3", temperature=0.5)._get_ls_params()

    assert (traced["ls_provider"], traced["ls_model_name"]) == ("ollama", "qwen3")
    assert traced["ls_temperature"] == 0.5


def test_models_that_answer_differently_are_told_apart_by_the_cache(sim):
    one, two = of(sim, "openai"), of(sim, "openai", model="gpt-4.1-mini")

    assert one._get_llm_string() != two._get_llm_string()


def test_without_langchain_the_error_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "chatsdk.compat.langchain")
    monkeypatch.setitem(sys.modules, "langchain_core.language_models", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'chatsdk\[langchain\]'"):
        import_module("chatsdk.compat.langchain")
