"""The simulated Ollama: its checks, and the bytes of its answers."""

from __future__ import annotations

import base64
import json
import math
import operator
import re

import pytest
import requests

from chatsdk.simulator import Simulator

HI = [{"role": "user", "content": "Hi"}]
NOW = re.compile(rb'"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"')
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator(reply=["Раз", ", два"]) as simulator:
        yield simulator


def send(sim, http, path, body):
    return http.post(sim.fields("ollama")["base_url"] + path, json=body)


def chat(sim, http, messages=HI, **rest):
    return send(sim, http, "/api/chat", {"model": "llama3.2", "messages": messages, **rest})


def lines(answer):
    return [json.loads(line) for line in answer.content.splitlines()]


def test_a_chat_streams_lines_unless_told_otherwise(sim, http):
    answer = chat(sim, http)
    first, second, last = NOW.sub(b"NOW", answer.content).splitlines(keepends=True)

    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert first.decode() == ('{"model":"llama3.2",NOW,"message":{"role":"assistant",'
                              '"content":"Раз"},"done":false}\n')
    assert second.decode() == ('{"model":"llama3.2",NOW,"message":{"role":"assistant",'
                               '"content":", два"},"done":false}\n')
    assert re.fullmatch(
        rb'{"model":"llama3.2",NOW,"message":{"role":"assistant","content":""},"done":true,'
        rb'"done_reason":"stop","total_duration":\d+,"load_duration":\d+,"prompt_eval_count":4,'
        rb'"prompt_eval_duration":\d+,"eval_count":3,"eval_duration":\d+}\n', last)


def test_without_streaming_the_answer_is_one_document(sim, http):
    answer = chat(sim, http, stream=False)
    body = answer.json()

    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert list(body) == ["model", "created_at", "message", "done", "done_reason",
                          "total_duration", "load_duration", "prompt_eval_count",
                          "prompt_eval_duration", "eval_count", "eval_duration"]
    assert body["message"] == {"role": "assistant", "content": "Раз, два"}
    assert (body["done"], body["done_reason"], body["eval_count"]) == (True, "stop", 3)
    assert body["total_duration"] >= body["load_duration"] + body["eval_duration"]


def test_some_characters_are_escaped_as_go_does(http):
    with Simulator(reply=["<b>&"]) as sim:
        answer = chat(sim, http)

    assert b'"content":"\\u003cb\\u003e\\u0026"' in answer.content
    assert lines(answer)[0]["message"]["content"] == "<b>&"


def test_thoughts_come_before_the_text_and_can_be_switched_off(sim, http):
    told = lines(chat(sim, http, model="qwen3:8b"))
    quiet = lines(chat(sim, http, model="qwen3:8b", think=False))
    whole = chat(sim, http, model="gpt-oss:20b", think="high", stream=False).json()
    thought = [line["message"].get("thinking", "") for line in told]

    assert "".join(thought) == whole["message"]["thinking"] != ""
    assert [bool(part) for part in thought] == [True] * (len(told) - 3) + [False] * 3
    assert not any("thinking" in line["message"] for line in quiet)


def test_a_call_comes_whole_with_an_object_of_arguments(http):
    asked = [{"role": "user", "content": "The weather in Moscow?"}]
    with Simulator() as sim:
        call, last = lines(chat(sim, http, asked, tools=[WEATHER, CLOCK]))
        whole = chat(sim, http, asked, tools=[WEATHER], stream=False).json()["message"]
        result = [*asked, call["message"],
                  {"role": "tool", "tool_name": "weather", "content": "clear"}]
        after = chat(sim, http, result, tools=[WEATHER], stream=False).json()

    made = call["message"]["tool_calls"][0]
    assert made["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Moscow"}}
    assert re.fullmatch("call_[a-z0-9]{8}", made["id"])
    assert call["message"]["content"] == "" and not call["done"]
    assert last["done_reason"] == "stop"
    assert whole["tool_calls"][0]["function"] == made["function"]
    assert after["message"]["content"] == "The function weather returned clear."


def test_all_functions_can_be_called_at_once(sim, http):
    sim.play("parallel-calls", service="ollama")
    calls = lines(chat(sim, http, tools=[WEATHER, CLOCK]))[0]["message"]["tool_calls"]

    assert [(call["function"]["index"], call["function"]["name"]) for call in calls] == [
        (0, "weather"), (1, "clock")]


@pytest.mark.parametrize("wish, fits", [
    ("json", lambda value: isinstance(value, dict)),
    ({"type": "object", "properties": {"city": {"type": "string"}}},
     lambda value: value == {"city": "Paris"})])
def test_an_answer_keeps_to_its_format(http, wish, fits):
    with Simulator() as sim:
        body = chat(sim, http, [{"role": "user", "content": "Paris"}], format=wish,
                    stream=False).json()

    assert fits(json.loads(body["message"]["content"]))


def test_options_limit_an_answer_and_the_stop_text_is_no_part_of_it(http):
    with Simulator(reply="one two three. four") as sim:
        limited = chat(sim, http, options={"num_predict": 2}, stream=False).json()
        free = chat(sim, http, options={"num_predict": -1}, stream=False).json()
        stopped = chat(sim, http, options={"stop": ["three"]}, stream=False).json()
        silent = chat(sim, http, options={"stop": ["one"]}, stream=False).json()

    assert (limited["message"]["content"], limited["done_reason"]) == ("one two ", "length")
    assert (free["message"]["content"], free["done_reason"]) == ("one two three. four", "stop")
    assert (stopped["message"]["content"], stopped["done_reason"]) == ("one two ", "stop")
    assert (silent["message"]["content"], silent["done_reason"]) == ("", "stop")


@pytest.mark.parametrize("keep, reason", [(None, "load"), ("5m", "load"), (0, "unload")])
def test_without_messages_the_model_is_loaded_or_unloaded(sim, http, keep, reason):
    answer = chat(sim, http, [], keep_alive=keep)

    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert (answer.json()["done"], answer.json()["done_reason"]) == (True, reason)


PNG = base64.b64encode(b"\x89PNG").decode()


@pytest.mark.parametrize("change, status, message", [
    ({"model": "nobody"}, 404, "model 'nobody' not found"),
    ({"model": ""}, 400, "model is required"),
    ({"model": None}, 400, "model is required"),
    ({"messages": "Hi"}, 400, "json: cannot unmarshal string into Go struct field "
     "ChatRequest.messages of type []api.Message"),
    ({"messages": [7]}, 400, "json: cannot unmarshal number into Go struct field "
     "ChatRequest.messages of type api.Message"),
    ({"messages": [{"role": "user", "content": ["Hi"]}]}, 400, "json: cannot unmarshal array into "
     "Go struct field ChatRequest.messages.content of type string"),
    ({"messages": [{"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": "{}"}}]}]}, 400,
     "json: cannot unmarshal string into Go struct field "
     "ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments"),
    ({"messages": [{"role": "user", "content": "?", "images": ["no base64"]}]}, 400,
     "illegal base64 data at input byte 0"),
    ({"messages": [{"role": "user", "content": "?", "images": [PNG]}]}, 500,
     "this model is missing data required for image input"),
    ({"tools": [{"name": "f"}]}, 400, "json: cannot unmarshal object into Go struct field "
     "ChatRequest.tools of type api.Tool"),
    ({"model": "gemma3:4b", "tools": [CLOCK]}, 400,
     "registry.ollama.ai/library/gemma3:4b does not support tools"),
    ({"think": True}, 400, '"llama3.2" does not support thinking'),
    ({"think": "deeply"}, 400, 'invalid think value: "deeply" (must be "high", "medium", "low", '
     '"max", true, or false)'),
    ({"model": "nomic-embed-text"}, 400, '"nomic-embed-text" does not support chat'),
    ({"keep_alive": "soon"}, 400, 'time: invalid duration "soon"'),
    ({"options": []}, 200, ""),
    ({"options": 7}, 400, "json: cannot unmarshal number into Go struct field "
     "ChatRequest.options of type map[string]interface {}"),
    ({"options": {"temperature": "hot"}}, 500, 'option "temperature" must be of type float32'),
    ({"options": {"num_ctx": True}}, 500, 'option "num_ctx" must be of type integer'),
    ({"options": {"stop": "."}}, 500, 'option "stop" must be of type array'),
    ({"options": {"use_mmap": 1}}, 500, 'option "use_mmap" must be of type boolean'),
    ({"options": {"seed": 7, "unheard_of": [], "top_p": None}}, 200, ""),
    ({"format": 7}, 500, 'invalid format: "7"; expected "json" or a valid JSON Schema object'),
    ({"format": ""}, 200, ""),
    ({"model": "gemma3:4b", "messages": [{"role": "user", "content": "?", "images": [PNG]}]}, 200,
     ""),
    ({"model": "LLAMA3.2:latest", "keep_alive": "1h30m", "think": False}, 200, ""),
])
def test_each_fault_has_its_status_and_words(sim, http, change, status, message):
    answer = chat(sim, http, **change)

    assert answer.status_code == status
    if message:
        assert answer.json() == {"error": message}
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("body, message", [
    (b"", "missing request body"), (b"[]", "invalid character in request body"),
    (b"{", "invalid character in request body")])
def test_a_body_that_is_no_object_is_400(sim, http, body, message):
    answer = http.post(sim.fields("ollama")["base_url"] + "/api/chat", data=body)

    assert (answer.status_code, answer.json()) == (400, {"error": message})


def test_texts_are_embedded_in_their_order(sim, http):
    answer = send(sim, http, "/api/embed", {
        "model": "nomic-embed-text", "input": ["the sea is near", "a tax form", "near the sea"]})
    sea, tax, shore = answer.json()["embeddings"]
    alone = send(sim, http, "/api/embed", {"model": "nomic-embed-text", "input": "a tax form"})

    assert list(answer.json()) == ["model", "embeddings", "total_duration", "load_duration",
                                   "prompt_eval_count"]
    assert {len(sea), len(tax)} == {64}
    assert math.isclose(sum(value * value for value in sea), 1, rel_tol=1e-6)
    assert alone.json()["embeddings"] == [tax]
    assert sum(map(operator.mul, sea, shore)) > sum(map(operator.mul, sea, tax))


@pytest.mark.parametrize("body, status, expected", [
    ({"model": "nomic-embed-text", "input": []}, 200, {"embeddings": []}),
    ({"model": "nomic-embed-text", "input": ""}, 200, {"embeddings": []}),
    ({"model": "nomic-embed-text", "input": [7]}, 400, {"error": "invalid input type"}),
    ({"model": "nomic-embed-text", "input": 7}, 400, {"error": "invalid input type"}),
    ({"model": "nobody", "input": "x"}, 404,
     {"error": 'model "nobody" not found, try pulling it first'}),
    ({"model": "nomic-embed-text", "input": "x " * 3000, "truncate": False}, 400,
     {"error": "the input length exceeds the context length"}),
    ({"model": "nomic-embed-text", "input": "x " * 3000}, 200, {"prompt_eval_count": 2048})])
def test_embeddings_have_their_limits(sim, http, body, status, expected):
    answer = send(sim, http, "/api/embed", body)

    assert answer.status_code == status
    assert expected.items() <= answer.json().items()


def test_an_embedding_can_be_made_shorter(sim, http):
    answer = send(sim, http, "/api/embed", {"model": "nomic-embed-text", "input": "x",
                                            "dimensions": 8})

    assert len(answer.json()["embeddings"][0]) == 8


def test_models_are_listed_and_shown(sim, http):
    base = sim.fields("ollama")["base_url"]
    listed = http.get(base + "/api/tags").json()["models"]
    shown = send(sim, http, "/api/show", {"model": "qwen3:8b"}).json()
    old = send(sim, http, "/api/show", {"name": "qwen3:8b"}).json()
    missing = send(sim, http, "/api/show", {"model": "nobody"})

    assert [model["model"] for model in listed][:2] == ["llama3.2:latest", "qwen3:8b"]
    assert all(len(model["digest"]) == 64 for model in listed)
    assert listed[1]["details"] == shown["details"]
    assert shown == old
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert (missing.status_code, missing.json()) == (404, {"error": "model 'nobody' not found"})


def test_the_server_tells_its_version_and_that_it_runs(sim, http):
    base = sim.fields("ollama")["base_url"]

    assert re.fullmatch(r"\d+\.\d+\.\d+", http.get(base + "/api/version").json()["version"])
    assert http.get(base + "/").text == "Ollama is running"
    assert http.head(base + "/").status_code == 200
    assert http.get(base + "/api/chat").text == "405 method not allowed"
    assert http.get(base + "/api/nothing").text == "404 page not found"


@pytest.mark.parametrize("name, status, message", [
    ("unauthorized", 401, "unauthorized"), ("status-404", 404, "model 'llama3.2' not found"),
    ("status-503", 503, "server busy, please try again.  maximum pending requests exceeded"),
    ("retry-after", 429, "too many requests"),
    ("context", 400, "the input length exceeds the context length"),
    ("quota", 429, "you have reached your weekly usage limit, upgrade for higher limits: "
     "https://ollama.com/upgrade")])
def test_refusals_have_the_servers_words(sim, http, name, status, message):
    sim.play(name, service="ollama")
    answer = chat(sim, http)

    assert (answer.status_code, answer.json()) == (status, {"error": message})


def test_an_error_can_be_a_line_of_a_stream(sim, http):
    sim.play("error-after-text", service="ollama")
    *before, last = lines(chat(sim, http))

    assert [line["message"]["content"] for line in before] == ["Раз"]
    assert last == {"error": "an error was encountered while running the model: unexpected EOF"}
