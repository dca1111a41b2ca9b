"""The simulated OpenAI: keys, checks, and the bytes of both chat protocols."""

from __future__ import annotations

import base64
import json
import re
import struct

import pytest
import requests

from chatsdk.simulator import Simulator

HI = [{"role": "user", "content": "Hi"}]
KEY = {"Authorization": "Bearer sk-simulated-key"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
OTHER = {"type": "function", "function": {"name": "traffic", "parameters": CITY}}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator(reply=["Раз", ", два"]) as simulator:
        yield simulator


def call(sim, http, path, body=None, service="openai", headers=KEY):
    url = sim.fields(service)["base_url"] + path
    if body is None:
        return http.get(url, headers=headers)
    return http.post(url, headers=headers, json=body)


def chat(sim, http, messages=HI, **rest):
    return call(sim, http, "/chat/completions",
                {"model": "gpt-5-mini", "messages": messages, **rest})


def respond(sim, http, input="Hi", **rest):
    return call(sim, http, "/responses", {"model": "gpt-5-mini", "input": input, **rest},
                "openai-responses")


def stable(body):
    """Return a body with what changes from answer to answer made equal."""
    body = re.sub(rb'"(id|item_id)":"([a-z]+[_-])[\w-]+"', rb'"\1":"\2X"', body)
    return re.sub(rb'"(created|created_at|completed_at)":\d{10}', rb'"\1":1', body)


ABOUT = b'"id":"chatcmpl-X","object":"chat.completion.chunk","created":1,"model":"gpt-5-mini",' \
    b'"service_tier":"default","system_fingerprint":"fp_4f3c2a1b0e",'
DETAILS = b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},' \
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,' \
    b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}'


def test_a_stream_has_role_text_finish_usage_and_mark(sim, http):
    answer = chat(sim, http, stream=True, stream_options={"include_usage": True,
                                                          "include_obfuscation": False})

    def choice(delta, reason=b"null"):
        return b'data: {%b"choices":[{"index":0,"delta":{%b},"logprobs":null,' \
            b'"finish_reason":%b}],"usage":null}\n\n' % (ABOUT, delta, reason)

    assert stable(answer.content) == b"".join([
        choice(b'"role":"assistant","content":"","refusal":null'),
        choice('"content":"Раз"'.encode()), choice('"content":", два"'.encode()),
        choice(b"", b'"stop"'),
        b'data: {%b"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2,'
        b'"total_tokens":6,%b}}\n\n' % (ABOUT, DETAILS), b"data: [DONE]\n\n"])
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


def test_without_being_asked_a_stream_has_no_usage_but_padding(sim, http):
    body = chat(sim, http, stream=True).content

    assert b'"usage"' not in body
    assert b'"finish_reason":null}],"obfuscation":"kP0zQ9mXc7LbT"}' in body


def test_a_document_has_the_whole_message(sim, http):
    answer = chat(sim, http)

    assert stable(answer.content) == (
        b'{%b"choices":[{"index":0,"message":{"role":"assistant","content":"%b","refusal":null,'
        b'"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":4,'
        b'"completion_tokens":2,"total_tokens":6,%b}}') % (
            ABOUT.replace(b".chunk", b""), "Раз, два".encode(), DETAILS)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-ratelimit-remaining-requests"] == "9999"


def deltas(answer):
    """Return the deltas of a stream, without its last three events."""
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event)["choices"][0]["delta"] for event in events[:-2]]


def test_calls_come_in_pieces_under_their_numbers(http):
    with Simulator(scenario={"openai": "parallel-calls"}) as sim:
        found = deltas(chat(sim, http, stream=True, tools=[TOOL, OTHER]))
    calls = [delta["tool_calls"][0] for delta in found[1:]]
    spelled = ["".join(call["function"]["arguments"] for call in calls if call["index"] == n)
               for n in (0, 1)]

    assert found[0] == {"role": "assistant", "content": None}
    assert [call["function"].get("name") for call in calls if "id" in call] == \
        ["weather", "traffic"]
    assert spelled == ['{"city":"Hi"}'] * 2
    assert len(calls) > 4


def test_a_call_may_come_whole_and_without_its_number(http):
    with Simulator(scenario={"openai": "whole-calls"}) as sim:
        delta, = deltas(chat(sim, http, stream=True, tools=[TOOL]))

    assert set(delta["tool_calls"][0]) == {"id", "type", "function"}
    assert delta["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Hi"}'}


@pytest.mark.parametrize("choice, reason", [
    ("none", "stop"), ("auto", "tool_calls"), ("required", "tool_calls"),
    ({"type": "function", "function": {"name": "traffic"}}, "tool_calls")])
def test_tool_choice_says_whether_and_what_is_called(http, choice, reason):
    with Simulator() as sim:
        found = chat(sim, http, tools=[TOOL, OTHER], tool_choice=choice).json()["choices"][0]

    assert found["finish_reason"] == reason
    if reason == "tool_calls":
        name = found["message"]["tool_calls"][0]["function"]["name"]
        assert name == ("traffic" if isinstance(choice, dict) else "weather")


def test_without_parallel_calls_there_is_one(http):
    with Simulator(scenario={"openai": "parallel-calls"}) as sim:
        answer = chat(sim, http, tools=[TOOL, OTHER], parallel_tool_calls=False).json()

    assert len(answer["choices"][0]["message"]["tool_calls"]) == 1


NESTED = {"type": "object", "$defs": {"Node": {
    "type": "object", "properties": {"name": {"type": "string"}, "next": {
        "anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}, "required": ["name", "next"],
    "additionalProperties": False}}, "properties": {
        "size": {"type": "integer", "minimum": 7}, "kind": {"const": "k"},
        "unit": {"enum": ["m", "s"]}, "nodes": {"type": "array", "items": {
            "$ref": "#/$defs/Node"}}}, "required": ["size", "kind", "unit", "nodes"],
    "additionalProperties": False}


def test_a_schema_is_answered_by_an_instance_of_it(http):
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "strict": True,
                                                     "schema": NESTED}}
    with Simulator() as sim:
        text = chat(sim, http, response_format=wanted).json()["choices"][0]["message"]["content"]
        said = respond(sim, http, text={"format": {"type": "json_schema", "name": "n",
                                                   "schema": NESTED}}).json()
    found = json.loads(text)

    assert (found["size"], found["kind"], found["unit"]) == (7, "k", "m")
    assert set(found["nodes"][0]) == {"name", "next"} and found["nodes"][0]["name"] == "Hi"
    assert said["output"][0]["content"][0]["text"] == text


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(http):
    with Simulator(reply="one two three") as sim:
        plain = chat(sim, http, model="gpt-4.1", stop="two").json()["choices"][0]
        first = chat(sim, http, model="gpt-4.1", stop=["one"]).json()["choices"][0]

    assert (plain["message"]["content"], plain["finish_reason"]) == ("one ", "stop")
    assert (first["message"]["content"], first["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize("name, model", [("max_completion_tokens", "gpt-5-mini"),
                                         ("max_tokens", "gpt-4.1")])
def test_a_limit_ends_an_answer_by_length(http, name, model):
    with Simulator(reply="one two three") as sim:
        choice = chat(sim, http, model=model, **{name: 2}).json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two ", "length")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario, expected", [
    ("reasoning", b'"reasoning_content":"Let me '), ("think-tags", b"nk>"),
    ("refusal", b'"refusal":"I\'m '), ("content-filter", b'"finish_reason":"content_filter"')])
def test_special_answers_can_be_had(sim, http, scenario, expected, stream):
    sim.play(scenario, service="openai")

    assert expected in chat(sim, http, stream=stream).content


def test_thoughts_are_counted(sim, http):
    sim.play("reasoning", service="openai")
    usage = chat(sim, http).json()["usage"]

    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4
    assert usage["completion_tokens"] == 6


def test_a_stream_may_lack_its_mark_or_its_finish(sim, http):
    sim.play("no-done", service="openai")
    unmarked = chat(sim, http, stream=True).content
    sim.play("no-finish", service="openai")
    unfinished = chat(sim, http, stream=True).content

    assert b"[DONE]" not in unmarked and b'"stop"' in unmarked
    assert b"[DONE]" in unfinished and b'"stop"' not in unfinished


def refused(answer):
    error = answer.json()["error"]
    assert answer.headers["x-request-id"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["code"], error["message"]


@pytest.mark.parametrize("service, path", [("openai", "/chat/completions"), ("openai", "/models"),
                                           ("openai", "/embeddings"),
                                           ("openai-responses", "/responses"),
                                           ("openai-responses", "/responses/input_tokens")])
@pytest.mark.parametrize("header", ["", "Bearer ", "Basic x"])
def test_without_a_key_everything_is_401(sim, http, service, path, header):
    body = None if path == "/models" else {"model": "gpt-5-mini"}
    answer = call(sim, http, path, body, service, {"Authorization": header} if header else {})

    assert refused(answer)[0] == 401
    assert "You didn't provide an API key" in refused(answer)[3]


def test_a_refused_key_is_quoted_in_part(sim, http):
    sim.play("unauthorized", service="openai")
    status, _, code, message = refused(chat(sim, http))

    assert (status, code) == (401, "invalid_api_key")
    assert "sk-********-key" in message and "simulated" not in message


IMAGE = {"type": "image_url", "image_url": {"url": PNG}}


@pytest.mark.parametrize("change, param, code, message", [
    ({"model": None}, None, None, "you must provide a model parameter"),
    ({"model": 3}, "model", "invalid_type", "expected a string, but got an integer"),
    ({"messages": None}, "messages", "missing_required_parameter", "Missing required parameter"),
    ({"messages": []}, "messages", "empty_array", "empty array"),
    ({"messages": "Hi"}, "messages", "invalid_type", "expected an array of objects"),
    ({"messages": ["Hi"]}, "messages[0]", "invalid_type", "expected an object"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "role"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value",
     "'tool', and 'developer'"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type",
     "got null"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]},
     "messages[0].content[0].type", "invalid_value", "Invalid value: 'video'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
        "url": "cat.png"}}]}]}, "messages[0].content[0].image_url.url", "invalid_value", "URL"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
        "url": "data:image/png;base64,!"}}]}]}, "messages[0].content[0].image_url.url",
     "invalid_base64", "base64"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {
        "format": "ogg", "data": ""}}]}]}, "messages[0].content[0].input_audio.format",
     "invalid_value", "'wav', and 'mp3'"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
     "messages[0].content[0].file.file_id", "missing_required_parameter", "file_id"),
    ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": "y"}]},
     "messages[1].role", None, "must be a response to a preceeding message"),
    ({"messages": [*HI, CALL]}, "messages[1].role", None, "did not have response messages: call_1"),
    ({"messages": [*HI, CALL, *HI]}, "messages[2].role", None, "call_1"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value", "<= 2, but got 3"),
    ({"temperature": -1}, "temperature", "decimal_below_min_value", ">= 0, but got -1"),
    ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string"),
    ({"temperature": True}, "temperature", "invalid_type", "a boolean"),
    ({"temperature": 0.5}, "temperature", "unsupported_value", "does not support 0.5"),
    ({"max_tokens": 9}, "max_tokens", "unsupported_parameter", "'max_completion_tokens' instead"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value", ">= 1"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens", "invalid_type", "an integer"),
    ({"max_tokens": 9, "max_completion_tokens": 9}, "max_tokens", "invalid_parameter_combination",
     "at the same time"),
    ({"stop": "x"}, "stop", "unsupported_parameter", "not supported with this model"),
    ({"model": "gpt-4.1", "stop": list("abcde")}, "stop", "array_above_max_length", "length 4"),
    ({"model": "gpt-4.1", "stop": 1}, "stop", "invalid_type", "a string or an array"),
    ({"model": "gpt-4.1", "reasoning_effort": "low"}, None, None, "reasoning_effort"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value", "'huge'"),
    ({"verbosity": "loud"}, "verbosity", "invalid_value", "'loud'"),
    ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean"),
    ({"stream_options": {}}, "stream_options", None, "only allowed when 'stream' is enabled"),
    ({"top_k": 1}, None, None, "Unrecognized request argument supplied: top_k"),
    ({"tools": []}, "tools", "empty_array", "empty array"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", ""),
    ({"tools": [{"type": "magic"}]}, "tools[0].type", "invalid_value", "'magic'"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name",
     "invalid_value", "does not match pattern"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
     "tools[0].function.parameters", "invalid_function_parameters", "got 'type: \"array\"'"),
    ({"tool_choice": "auto"}, "tool_choice", None, "only allowed when 'tools'"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", None, "only allowed when 'tools'"),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice", "invalid_value", "'maybe'"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
     "tool_choice", None, "'x' not found"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", "'xml'"),
    ({"response_format": {"type": "json_object"}}, "messages", None, "the word 'json'"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema",
     "missing_required_parameter", ""),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": CITY}}},
     "response_format.json_schema.name", "missing_required_parameter", ""),
    ({"response_format": {"type": "json_schema", "json_schema": {
        "name": "n", "strict": True, "schema": {"type": "object", "properties": {}}}}},
     "response_format", None, "'additionalProperties' is required to be supplied and to be false"),
    ({"response_format": {"type": "json_schema", "json_schema": {
        "name": "n", "strict": True, "schema": {**CITY, "required": []}}}},
     "response_format", None, "Missing 'city'"),
])
def test_bad_chats_are_400_in_the_services_words(sim, http, change, param, code, message):
    status, *found, said = refused(chat(sim, http, **change))

    assert (status, *found) == (400, param, code)
    assert message in said


def test_an_unknown_model_is_404(sim, http):
    assert refused(chat(sim, http, model="nobody")) == (
        404, None, "model_not_found",
        "The model `nobody` does not exist or you do not have access to it.")
    assert refused(respond(sim, http, model="nobody"))[0] == 404
    assert chat(sim, http, model="gpt-5-mini-2025-08-07").status_code == 200


def test_an_unknown_path_is_404(sim, http):
    assert refused(call(sim, http, "/images", {}))[0] == 404
    assert refused(call(sim, http, "/models/nobody"))[2] == "model_not_found"


def test_a_body_that_is_no_json_is_400(sim, http):
    for service, path in (("openai", "/chat/completions"), ("openai-responses", "/responses")):
        answer = http.post(sim.fields(service)["base_url"] + path, data=b"{", headers=KEY)

        assert refused(answer)[0] == 400
        assert "could not parse the JSON body" in refused(answer)[3]


def embed(sim, http, **rest):
    return call(sim, http, "/embeddings", {"model": "text-embedding-3-small", "input": "Hi",
                                           "dimensions": 4, **rest})


def test_embeddings_come_as_numbers_or_packed(sim, http):
    plain = embed(sim, http, input=["red sea", "blue sky", "red sea"]).json()
    packed = embed(sim, http, input="red sea", encoding_format="base64").json()
    first, second, third = (each["embedding"] for each in plain["data"])

    assert [each["index"] for each in plain["data"]] == [0, 1, 2]
    assert first == third != second and len(first) == 4
    assert sum(value * value for value in first) == pytest.approx(1)
    assert struct.unpack("<4f", base64.b64decode(packed["data"][0]["embedding"])) == tuple(first)
    assert plain["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert len(embed(sim, http, dimensions=None).json()["data"][0]["embedding"]) == 1536


@pytest.mark.parametrize("change, message", [
    ({"input": None}, "Missing required parameter: 'input'"), ({"input": ""}, "'$.input' is inv"),
    ({"input": []}, "'$.input' is invalid"), ({"input": ["a", ""]}, "'$.input' is invalid"),
    ({"input": ["a"] * 2049}, "maximum length 2048, but got an array with length 2049"),
    ({"dimensions": 0}, ">= 1"), ({"dimensions": 9999}, "<= 1536"),
    ({"model": "text-embedding-ada-002"}, "does not support specifying dimensions"),
    ({"encoding_format": "hex"}, "'float', and 'base64'"), ({"task": "x"}, "supplied: task"),
    ({"model": "gpt-5-mini"}, "does not exist")])
def test_bad_embeddings_are_refused(sim, http, change, message):
    status, *_, said = refused(embed(sim, http, **change))

    assert status in (400, 404)
    assert message in said


def test_lists_of_numbers_are_embedded_too(sim, http):
    assert len(embed(sim, http, input=[1, 2]).json()["data"]) == 1
    assert len(embed(sim, http, input=[[1, 2], [3]]).json()["data"]) == 2


def events(answer):
    """Return the events of a response's stream; each name is its type."""
    found = []
    for event in answer.text.split("\n\n"):
        if event:
            name, data = event.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


def test_a_response_is_told_in_numbered_events(sim, http):
    answer = respond(sim, http, stream=True)
    found = events(answer)

    assert [event["type"].removeprefix("response.") for event in found] == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "output_text.delta", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done", "completed"]
    assert [event["sequence_number"] for event in found] == list(range(10))
    assert [event["delta"] for event in found if "delta" in event] == ["Раз", ", два"]
    assert stable(answer.content.split(b"\n\n")[5]) == (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        b'"sequence_number":5,"item_id":"msg_X","output_index":0,"content_index":0,'
        b'"delta":", %b","logprobs":[],"obfuscation":"0zQ9mXc7LbT"}' % "два".encode())
    assert found[-1]["response"]["output"] == [found[-2]["item"]]


def test_a_whole_response_is_the_last_one_of_its_stream(sim, http):
    whole = respond(sim, http)
    last = events(respond(sim, http, stream=True))[-1]["response"]

    assert json.loads(stable(whole.content)) == json.loads(stable(json.dumps(
        last, separators=(",", ":")).encode()))
    assert whole.json()["usage"]["output_tokens"] == 2
    assert whole.json()["output"][0]["content"] == [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": "Раз, два"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario, status, expected", [
    ("length", "incomplete", b'"incomplete_details":{"reason":"max_output_tokens"}'),
    ("content-filter", "incomplete", b'"incomplete_details":{"reason":"content_filter"}'),
    ("failed", "failed", b'"error":{"code":"server_error"'),
    ("refusal", "completed", b'{"type":"refusal","refusal":"I\'m sorry'),
    ("reasoning", "completed", b'"summary":[{"type":"summary_text","text":"Let me think')])
def test_special_responses_can_be_had(sim, http, scenario, status, expected, stream):
    sim.play(scenario, service="openai-responses")
    answer = respond(sim, http, stream=stream)

    assert expected in answer.content
    assert f'"status":"{status}"' in answer.text
    if stream:
        assert events(answer)[-1]["type"] == f"response.{status}"


def test_calls_are_items_with_arguments_in_pieces(http):
    tool = {"type": "function", "name": "weather", "parameters": CITY}
    with Simulator() as sim:
        found = events(respond(sim, http, tools=[tool], stream=True))
    item = found[-2]["item"]
    pieces = [e["delta"] for e in found if e["type"].endswith("arguments.delta")]

    assert (item["type"], item["name"], item["arguments"]) == (
        "function_call", "weather", '{"city":"Hi"}')
    assert "".join(pieces) == item["arguments"] and len(pieces) > 1


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
ITEM = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize("change, param, code, message", [
    ({"input": None}, "input", "missing_required_parameter", "'input'"),
    ({"input": 3}, "input", "invalid_type", "an array of objects or a string"),
    ({"input": [3]}, "input[0]", "invalid_type", "expected an object"),
    ({"input": [{"type": "magic"}]}, "input[0]", "invalid_value", "'magic'"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter", "content"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value", "'tool'"),
    ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
     "input[0].content[0]", "invalid_value", "'input_text', 'input_image', and 'input_file'"),
    ({"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
     "input[0].content[0]", "invalid_value", "'output_text', and 'refusal'"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
     "input[0].content[0].image_url", "invalid_value", "URL"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x"}]}]},
     "input[0].content[0].file_id", "missing_required_parameter", "file_id"),
    ({"input": [OUTPUT]}, "input", None, "No tool call found"),
    ({"input": [ITEM]}, "input", None, "No tool output found for function call c"),
    ({"input": [{**THOUGHT, "encrypted_content": "gAAAAx"}]}, None, "invalid_encrypted_content",
     "could not be verified"),
    ({"messages": HI}, "messages", "unknown_parameter", "Unknown parameter: 'messages'."),
    ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value", ">= 16"),
    ({"temperature": 1}, "temperature", "unsupported_parameter", "not supported"),
    ({"include": ["all"]}, "include[0]", "invalid_value", "reasoning.encrypted_content"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value", "'huge'"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value", "'long'"),
    ({"model": "gpt-4.1", "reasoning": {"effort": "low"}}, "reasoning.effort",
     "unsupported_parameter", "not supported"),
    ({"model": "gpt-4.1", "include": ["reasoning.encrypted_content"]}, "include", None,
     "Encrypted content is not supported with this model."),
    ({"tools": [TOOL]}, "tools[0].name", "missing_required_parameter", "name"),
    ({"text": {"format": {"type": "json_schema", "schema": CITY}}}, "text.format.name",
     "missing_required_parameter", "name"),
    ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "invalid_value", "'yaml'"),
    ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value", "'loud'"),
    ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found",
     "not found"),
    ({"truncation": "some"}, "truncation", "invalid_value", "'auto', and 'disabled'")])
def test_bad_responses_are_400_in_the_services_words(sim, http, change, param, code, message):
    status, *found, said = refused(respond(sim, http, **change))

    assert (status, *found) == (400, param, code)
    assert message in said


def test_tokens_are_counted(sim, http):
    answer = call(sim, http, "/responses/input_tokens",
                  {"model": "gpt-5-mini", "input": "one two"}, "openai-responses")

    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 5}


@pytest.mark.parametrize("scenario, status, code", [
    ("quota", 429, "insufficient_quota"), ("context", 400, "context_length_exceeded")])
def test_quota_and_context_have_codes(sim, http, scenario, status, code):
    sim.scenario = {"openai": scenario, "openai-responses": scenario}

    for ask in (chat, respond):
        assert refused(ask(sim, http))[::2][:2] == (status, code)


# The services that speak nearly so


@pytest.mark.parametrize("service, path, headers, change, status, words", [
    ("groq", "/chat/completions", {}, {}, 401, "You didn't provide an API key"),
    ("azure-openai", "/openai/v1/chat/completions", KEY, {}, 401, "invalid key"),
    ("azure-openai", "/openai/v1/chat/completions", {"api-key": "any"}, {}, 200, "chatcmpl-"),
    ("vllm", "/chat/completions", {}, {}, 200, "chatcmpl-"),
    ("mistral", "/chat/completions", KEY, {"seed": 7}, 400, "not permitted: seed"),
    ("mistral", "/chat/completions", KEY, {"random_seed": 7}, 200, "chatcmpl-"),
    ("perplexity", "/chat/completions", KEY, {"tools": [TOOL]}, 400, "not permitted: tools"),
    ("openrouter", "/chat/completions", KEY, {"reasoning_effort": "low"}, 400, "reasoning_effort"),
    ("deepseek", "/chat/completions", KEY, {"response_format": {"type": "json_schema"}}, 400,
     "response_format type is unavailable"),
    ("xai", "/chat/completions", KEY, {"model": None}, 400, "Missing required parameter: 'model'"),
    ("xai", "/chat/completions", KEY, {"messages": ["Hi"]}, 400, "expected an object"),
    ("xai", "/nothing", KEY, {}, 404, "Invalid URL"),
    ("huggingface", "/../hf-inference/models/m/pipeline/feature-extraction", KEY, {}, 422, ""),
])
def test_each_minds_what_the_real_one_minds(sim, http, service, path, headers, change, status,
                                            words):
    body = {"model": "any-model", "messages": HI, **change}
    answer = call(sim, http, path, body, service, headers)

    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize("service, shape", [
    ("openrouter", {"error": {"message": "Bad Gateway", "code": 502}}),
    ("mistral", {"object": "error", "message": "Bad Gateway", "type": "error", "code": "502"}),
    ("groq", {"error": {"message": "Bad Gateway", "type": "server_error", "param": None,
                        "code": None}})])
def test_errors_have_the_services_own_shapes(sim, http, service, shape):
    sim.play("status-502", service=service)

    assert call(sim, http, "/chat/completions", {"model": "m", "messages": HI}, service).json() \
        == shape


def test_an_error_in_openrouters_stream_stands_beside_a_choice(sim, http):
    sim.play("error-after-text", service="openrouter")
    body = {"model": "m", "messages": HI, "stream": True}

    last = call(sim, http, "/chat/completions", body, "openrouter").text.split("\n\n")[-2]

    found = json.loads(last.removeprefix("data: "))
    assert (found["error"]["code"], found["choices"][0]["finish_reason"]) == (502, "error")


def test_deepseek_wants_the_thoughts_that_led_to_a_call(http):
    with Simulator(scenario="reasoning") as sim:
        ask = {"model": "m", "messages": HI, "tools": [TOOL]}
        said = call(sim, http, "/chat/completions", ask, "deepseek").json()["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "rain"}
        whole = call(sim, http, "/chat/completions",
                     {**ask, "messages": [*HI, said, result]}, "deepseek")
        del said["reasoning_content"]
        without = call(sim, http, "/chat/completions",
                       {**ask, "messages": [*HI, said, result]}, "deepseek")

    assert (whole.status_code, without.status_code) == (200, 400)
    assert "Missing `reasoning_content`" in without.text
