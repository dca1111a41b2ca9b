"""The simulated Anthropic: its events, its checks, its errors."""

from __future__ import annotations

import json
import re

import pytest
import requests

from chatsdk.simulator import Simulator
from chatsdk.simulator.anthropic_checks import sign

OPUS, OLD = "claude-opus-5-5", "claude-haiku-4-5"
HI = [{"role": "user", "content": "Hi"}]
HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "input_schema": CITY}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}
THOUGHT = "Let me think: a greeting wants an answer."


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


def post(sim, http, body, path="/v1/messages", headers=HEADERS):
    return http.post(sim.fields("anthropic")["base_url"] + path, json=body, headers=headers)


def ask(sim, http, messages=HI, **rest):
    body = {"model": OPUS, "max_tokens": 4096, "messages": messages, **rest}
    return post(sim, http, {name: value for name, value in body.items() if value is not None})


def events(answer):
    """Return the events of a stream; each is named as its data says."""
    found = []
    for block in answer.content.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def blocks(answer):
    """Return the blocks of a stream as a client puts them together."""
    built = []
    for event in events(answer):
        if event["type"] == "content_block_start":
            assert event["index"] == len(built)
            built.append({**event["content_block"], "json": ""})
        if event["type"] == "content_block_delta":
            delta, block = event["delta"], built[event["index"]]
            for part, into in (("text", "text"), ("thinking", "thinking"),
                               ("signature", "signature"), ("partial_json", "json")):
                block[into] = block.get(into, "") + delta.get(part, "") if part in delta \
                    else block.get(into, "")
    for block in built:
        told = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(told)
    return [{name: value for name, value in block.items() if value != ""} for block in built]


def test_a_stream_is_as_documented(http):
    with Simulator(reply=["Раз", ", два"]) as sim:
        answer = ask(sim, http, stream=True)
    id = re.search(rb"msg_01[0-9a-f]{22}", answer.content)[0]

    assert answer.content == b"".join([
        b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-opus-5-5",'
        b'"id":"' + id + b'","type":"message","role":"assistant","content":[],"stop_reason":null,'
        b'"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":4,'
        b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}\n\n',
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n',
        b'event: ping\ndata: {"type": "ping"}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"Раз"}}\n\n'.encode(),
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":", два"}}\n\n'.encode(),
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
        b'"stop_sequence":null,"stop_details":null},"usage":{"input_tokens":4,'
        b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":2,'
        b'"output_tokens_details":{"thinking_tokens":0}}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'])
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_a_document_is_one_message(http):
    with Simulator(reply="One two.") as sim:
        answer = ask(sim, http)

    assert answer.json() == {
        "model": OPUS, "id": answer.json()["id"], "type": "message", "role": "assistant",
        "content": [{"type": "text", "text": "One two."}], "stop_reason": "end_turn",
        "stop_sequence": None, "stop_details": None,
        "usage": {"input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                  "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 0}}}
    assert answer.headers["Content-Type"] == "application/json"


def test_every_answer_tells_its_id_and_the_limits(sim, http):
    for answer in (ask(sim, http), ask(sim, http, model="nobody")):
        assert re.fullmatch("req_011C[0-9a-f]{20}", answer.headers["request-id"])
        for what in ("requests", "tokens", "input-tokens", "output-tokens"):
            limit, left, reset = (answer.headers[f"anthropic-ratelimit-{what}-{key}"]
                                  for key in ("limit", "remaining", "reset"))
            assert int(left) == int(limit) - 1
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reset)


def test_the_error_has_the_answers_request_id(sim, http):
    answer = ask(sim, http, model="nobody")

    assert answer.status_code == 404
    assert answer.json() == {
        "type": "error", "error": {"type": "not_found_error", "message": "model: nobody"},
        "request_id": answer.headers["request-id"]}


@pytest.mark.parametrize("status, kind", [
    (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"),
    (403, "permission_error"), (404, "not_found_error"), (413, "request_too_large"),
    (422, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"),
    (503, "api_error"), (504, "timeout_error"), (529, "overloaded_error")])
def test_each_status_has_its_type(sim, http, status, kind):
    sim.play(f"status-{status}")

    answer = ask(sim, http)

    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert answer.json()["error"]["message"]


def test_a_spent_budget_has_a_code_of_its_own(sim, http):
    sim.play("quota")

    answer = ask(sim, http)

    assert answer.status_code == 429
    assert answer.json()["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}


@pytest.mark.parametrize("headers, status, message", [
    ({"anthropic-version": "2023-06-01"}, 401, "x-api-key header is required"),
    ({**HEADERS, "x-api-key": ""}, 401, "x-api-key header is required"),
    ({"Authorization": "Basic any", "anthropic-version": "2023-06-01"}, 401,
     "x-api-key header is required"),
    ({"x-api-key": "any"}, 400, "anthropic-version: header is required"),
    ({"x-api-key": "any", "anthropic-version": "2022"}, 400,
     'anthropic-version: "2022" is not a valid version')])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"])
def test_key_and_version_are_wanted_everywhere(sim, http, path, headers, status, message):
    url = sim.fields("anthropic")["base_url"] + path

    answer = http.get(url, headers=headers) if path == "/v1/models" else \
        post(sim, http, {}, path, headers)

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, message)


def test_the_key_may_come_as_a_bearer(sim, http):
    headers = {"Authorization": "Bearer any", "anthropic-version": "2026-10-21"}

    assert post(sim, http, {"model": OPUS, "max_tokens": 9, "messages": HI},
                headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_the_newer_version_has_no_sampling(sim, http, name):
    body = {"model": OLD, "max_tokens": 9, "messages": HI, name: 1}
    newer = {**HEADERS, "anthropic-version": "2026-10-21"}

    assert post(sim, http, body).status_code == 200
    assert post(sim, http, body, headers=newer).json()["error"]["message"] == \
        f"{name}: Extra inputs are not permitted"


def tool(**changes):
    return {"tools": [{**WEATHER, **changes}]}


@pytest.mark.parametrize("changes, message", [
    ({"messages": None}, "messages: Field required"),
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"model": None}, "model: Field required"),
    ({"model": 5}, "model: Input should be a valid string"),
    ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs are not permitted"),
    ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
    ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    ({"tools": "x"}, "tools: Input should be a valid list"),
    ({"tools": ["x"]}, "tools.0.custom: Input should be a valid dictionary"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {}, "name": "x"}}},
     "output_config.format: Extra inputs"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"anyOf": [CITY]}}}},
     "'additionalProperties' must be explicitly set"),
    ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000, which is the maximum allowed number "
                              "of output tokens for claude-opus-5-5"),
    ({"model": OLD, "temperature": 1.1}, "temperature: range: 0..1"),
    ({"model": OLD, "temperature": "1"}, "temperature: Input should be a valid number"),
    ({"model": OLD, "temperature": 1, "top_p": 1}, "`temperature` and `top_p` cannot both"),
    ({"temperature": 0.5}, "not supported for this model"),
    ({"model": OLD, "top_k": 1.5}, "top_k: Input should be a valid integer"),
    ({"stop_sequences": ["\n"]}, "each stop sequence must contain non-whitespace"),
    ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
    ({"system": [{"type": "image"}]}, "system: Input should be"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": "Hi"}, "messages: Input should be a valid list"),
    ({"messages": ["Hi"]}, "messages.0: Input should be a valid dictionary"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{**HI[0], "name": "x"}]}, "messages.0.name: Extra inputs"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be"),
    ({"messages": [{"role": "system", "content": "x"}, *HI]}, 'Unexpected role "system"'),
    ({"messages": [{"role": "assistant", "content": "x"}, *HI]},
     'first message must use the "user" role'),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages must have non-emp"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: Input should be"),
    ({"messages": [*HI, {"role": "assistant", "content": "x"}]}, "does not support assistant mess"),
    ({"model": OLD, "messages": [*HI, {"role": "assistant", "content": "x "}]},
     "cannot end with trailing whitespace"),
    ({"tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
    (tool(name="a b"), "tools.0.custom.name: String should match pattern"),
    (tool(input_schema={"type": "string"}), "tools.0.custom.input_schema.type: Input should be"),
    ({"tools": [WEATHER, WEATHER]}, "Tool names must be unique"),
    ({"tool_choice": {"type": "auto"}}, "only be specified while providing tools"),
    ({"tools": [WEATHER], "tool_choice": {"type": "required"}}, "tool_choice: Input tag"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found"),
    ({"thinking": {"type": "on"}}, "thinking: Input tag"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, '"thinking.type.enabled" is not'),
    ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "Extra inputs are not permitted"),
    ({"thinking": {"type": "adaptive", "display": "all"}}, "thinking.adaptive.display"),
    ({"model": OLD, "thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
    ({"model": OLD, "thinking": {"type": "enabled"}}, "budget_tokens: Field required"),
    ({"model": OLD, "thinking": {"type": "enabled", "budget_tokens": 1023}}, "equal to 1024"),
    ({"model": OLD, "thinking": {"type": "enabled", "budget_tokens": 4096}}, "must be greater tha"),
    ({"model": OLD, "thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0.5},
     "`temperature` may only be set to 1"),
    ({"thinking": ADAPTIVE, "tools": [WEATHER], "tool_choice": {"type": "any"}},
     "Thinking may not be enabled when tool_choice forces tool use."),
    ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be"),
    ({"model": OLD, "output_config": {"effort": "low"}}, "does not support the effort parameter"),
    ({"output_config": {"schema": {}}}, "output_config: Extra inputs"),
    ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "format.schema: Field required"),
    ({"output_config": {"format": {"type": "json_schema", "schema": CITY}}},
     "'additionalProperties' must be explicitly set to false"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {
        "type": "array", "items": CITY}}}}, "'additionalProperties' must be explicitly set"),
])
def test_what_is_wrong_is_refused_in_the_services_words(sim, http, changes, message):
    answer = ask(sim, http, **changes)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert message in answer.json()["error"]["message"]


def test_a_body_is_an_object_with_a_limit(sim, http):
    for body, message in (([], "expected an object"),
                          ({"model": OPUS, "messages": HI, "max_tokens": None}, "valid integer")):
        answer = post(sim, http, body)
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_a_body_has_at_most_32_mb(sim, http):
    answer = ask(sim, http, [{"role": "user", "content": "x" * 2 ** 25}])

    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


def test_tools_of_the_services_own_are_taken(sim, http):
    search = {"type": "web_search_20250305", "name": "web_search"}
    schema = {"enum": [{"type": "object"}], "properties": {}}
    config = {"format": {"type": "json_schema", "schema": schema}}

    assert ask(sim, http, tools=[search], output_config=config).json()["stop_reason"] == "end_turn"


PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


@pytest.mark.parametrize("role, block, message", [
    ("user", "x", "content.0: Input should be a valid dictionary"),
    ("user", {"type": "sound"}, "Input tag 'sound' found"),
    ("user", {"type": "text", "text": ""}, "text content blocks must be non-empty"),
    ("user", {"type": "text"}, "content.0.text.text: Input should be a valid string"),
    ("user", {"type": "image"}, "content.0.image.source.type: Input should be 'base64'"),
    ("user", {"type": "image", "source": {**PNG, "media_type": "image/tiff"}},
     "source.base64.media_type: Input should be 'image/jpeg'"),
    ("user", {"type": "image", "source": {**PNG, "data": "?"}}, "should be valid base64"),
    ("user", {"type": "image", "source": {**PNG, "data": None}}, "should be valid base64"),
    ("user", {"type": "image", "source": {"type": "url"}}, "source.url: Input should be"),
    ("user", {"type": "document", "source": PNG}, "media_type: Input should be 'application/pdf'"),
    ("assistant", {"type": "image", "source": PNG}, "can only be in `user` messages"),
    ("user", {"type": "tool_use", "id": "a", "name": "b", "input": {}}, "in `assistant` messages"),
    ("assistant", {"type": "tool_use", "id": "a b", "name": "b", "input": {}}, "tool_use.id: Str"),
    ("assistant", {"type": "tool_use", "id": "a", "name": "", "input": {}}, "tool_use.name: Stri"),
    ("assistant", {"type": "tool_use", "id": "a", "name": "b", "input": "{}"}, "tool_use.input: "),
    ("user", {"type": "tool_result"}, "tool_result.tool_use_id: Field required"),
    ("user", {"type": "tool_result", "tool_use_id": "a", "content": 5}, "tool_result.content: In"),
    ("user", {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "x"}]},
     "tool_result.content.0: Input tag 'x'"),
    ("assistant", {"type": "thinking", "thinking": "a", "signature": sign("b")},
     "Invalid `signature` in `thinking` block"),
    ("assistant", {"type": "redacted_thinking", "data": "x"}, "Invalid `data`"),
])
def test_blocks_are_checked(sim, http, role, block, message):
    answer = ask(sim, http, [*HI, {"role": role, "content": [block]}])

    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("block", [
    {"type": "image", "source": PNG}, {"type": "image", "source": {"type": "url", "url": "http"}},
    {"type": "document", "source": {**PNG, "media_type": "application/pdf"}, "title": "T"},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])
def test_media_are_taken(sim, http, block):
    answer = ask(sim, http, [{"role": "user", "content": [{"type": "text", "text": "See"}, block]}])

    assert answer.status_code == 200
    assert answer.json()["usage"]["input_tokens"] > (5 if block["type"] == "text" else 100) - 5


CALL = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "sunny"}


@pytest.mark.parametrize("blocks, message", [
    (["text"], "`tool_use` ids were found without `tool_result` blocks immediately after: a."),
    (["text", RESULT], "`tool_use` ids were found without"),
    ([{**RESULT, "tool_use_id": "b"}], "`tool_use` ids were found without"),
    ([RESULT, {**RESULT, "tool_use_id": "b"}], "unexpected `tool_use_id` found in"),
    ([RESULT, RESULT], "each tool_use must have a single result"),
    ([RESULT, "calls"], "`tool_use` ids must be unique"),
    ([], "`tool_use` ids were found without")])
def test_each_call_has_one_result_at_the_head_of_the_next_turn(sim, http, blocks, message):
    content = [{"type": "text", "text": b} if b == "text" else b for b in blocks if b != "calls"]
    after = [{"role": "user", "content": content}] if content else []
    calls = [CALL, CALL] if "calls" in blocks else [CALL]

    answer = ask(sim, http, [*HI, {"role": "assistant", "content": calls}, *after], model=OLD)

    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_results_may_come_in_messages_of_their_own(sim, http):
    calls = [CALL, {**CALL, "id": "b"}]
    results = [{"role": "user", "content": [{**RESULT, "tool_use_id": id}]} for id in "ab"]

    answer = ask(sim, http, [*HI, {"role": "assistant", "content": calls}, *results])

    assert answer.json()["content"][0]["text"] == "The function weather returned sunny."


def test_a_tool_is_called_in_pieces_of_json(sim, http):
    answer = ask(sim, http, [{"role": "user", "content": "In Saint-Petersburg"}], stream=True,
                 tools=[WEATHER, CLOCK])

    call, = blocks(answer)
    pieces = [e["delta"]["partial_json"] for e in events(answer)
              if e["type"] == "content_block_delta"]
    assert call == {"type": "tool_use", "id": call["id"], "name": "weather",
                    "input": {"city": "Saint-Petersburg"}}
    assert re.fullmatch("toolu_01[0-9a-f]{22}", call["id"])
    assert pieces[0] == "" and len(pieces) > 3
    assert events(answer)[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [True, False])
def test_tools_are_called_side_by_side(sim, http, stream):
    sim.play("parallel-calls")

    answer = ask(sim, http, stream=stream, tools=[WEATHER, CLOCK])

    calls = blocks(answer) if stream else answer.json()["content"]
    assert [call["name"] for call in calls] == ["weather", "clock"]
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize("choice, names", [
    ({"type": "auto", "disable_parallel_tool_use": True}, ["weather"]),
    ({"type": "tool", "name": "clock"}, ["clock", "weather"]),
    ({"type": "any"}, ["weather", "clock"]),
    ({"type": "none"}, [])])
def test_the_choice_of_a_tool_is_obeyed(sim, http, choice, names):
    sim.play("parallel-calls")

    content = ask(sim, http, tools=[WEATHER, CLOCK], tool_choice=choice).json()["content"]

    assert [block["name"] for block in content if block["type"] == "tool_use"] == names


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_come_first_and_signed(sim, http, stream):
    answer = ask(sim, http, stream=stream, thinking=ADAPTIVE)

    thought, text = blocks(answer) if stream else answer.json()["content"]
    assert thought == {"type": "thinking", "thinking": THOUGHT, "signature": sign(THOUGHT)}
    assert text["type"] == "text"
    usage = events(answer)[-2]["usage"] if stream else answer.json()["usage"]
    assert usage["output_tokens_details"]["thinking_tokens"] == 4


def test_newer_models_leave_their_thoughts_out_unless_asked(sim, http):
    answer = ask(sim, http, stream=True, thinking={"type": "adaptive"})

    assert blocks(answer)[0] == {"type": "thinking", "signature": sign("")}


def test_thoughts_may_be_opaque(sim, http):
    sim.play("redacted", times=2)

    streamed = blocks(ask(sim, http, stream=True))
    whole = ask(sim, http).json()["content"]

    assert streamed[0] == whole[0] == {"type": "redacted_thinking", "data": sign("redacted")}


def turn(sim, http, model, thinking, change=lambda content: content):
    """Return the answer to a tool's result, after a turn with thoughts and a call."""
    question = {"role": "user", "content": "Where?"}
    rest = {"model": model, "thinking": thinking, "tools": [WEATHER]}
    content = ask(sim, http, [question], **rest).json()["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "sunny"}
    return ask(sim, http, [question, {"role": "assistant", "content": change(content)},
                           {"role": "user", "content": [result]}], **rest)


@pytest.mark.parametrize("model, thinking", [
    (OPUS, ADAPTIVE), (OPUS, {"type": "adaptive"}),
    (OLD, {"type": "enabled", "budget_tokens": 1024})])
def test_thoughts_have_to_come_back_unchanged_with_the_results(sim, http, model, thinking):
    kept = turn(sim, http, model, thinking)
    dropped = turn(sim, http, model, thinking, lambda content: content[1:])
    changed = turn(sim, http, model, thinking,
                   lambda content: [{**content[0], "thinking": "Other."}, content[1]])

    assert kept.json()["content"][-1]["text"] == "The function weather returned sunny."
    assert "Expected `thinking` or `redacted_thinking`, but found `tool_use`" \
        in dropped.json()["error"]["message"]
    assert "Invalid `signature`" in changed.json()["error"]["message"]


def test_a_schema_is_followed(sim, http):
    schema = {**CITY, "additionalProperties": False}
    config = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}

    text = ask(sim, http, [{"role": "user", "content": "In Rome"}],
               output_config=config).json()["content"][0]["text"]

    assert json.loads(text) == {"city": "Rome"}


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_sequence_is_named_and_not_told(http, stream):
    with Simulator(reply="One two three four") as sim:
        answer = ask(sim, http, stream=stream, stop_sequences=["zero", "two three"])

    found = answer.json() if not stream else {
        "content": blocks(answer), **events(answer)[-2]["delta"]}
    assert found["content"][0]["text"] == "One "
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", "two three")


def test_the_limit_of_tokens_ends_the_answer(http):
    with Simulator(reply="One two three") as sim:
        answer = ask(sim, http, max_tokens=2).json()

    assert (answer["content"][0]["text"], answer["stop_reason"]) == ("One two ", "max_tokens")


@pytest.mark.parametrize("name, last", [
    ("no-done", "message_delta"), ("no-finish", "message_stop"), ("normal", "message_stop")])
def test_the_end_may_lack_its_mark_or_its_reason(sim, http, name, last):
    sim.play(name)

    types = [event["type"] for event in events(ask(sim, http, stream=True))]

    assert types[-1] == last
    assert ("message_delta" in types) == (name != "no-finish")


def test_a_document_may_lack_its_reason(sim, http):
    sim.play("no-finish")

    assert "stop_reason" not in ask(sim, http).json()


def test_a_classifier_may_end_the_answer(http):
    with Simulator(reply=["a", "b"], scenario="content-filter") as sim:
        answer = ask(sim, http).json()

    assert answer["content"][0]["text"] == "a"
    assert (answer["stop_reason"], answer["stop_details"]["type"]) == ("refusal", "refusal")


@pytest.mark.parametrize("stream", [True, False])
def test_the_model_may_refuse(sim, http, stream):
    sim.play("refusal")

    answer = ask(sim, http, stream=stream)

    found = {"content": blocks(answer), **events(answer)[-2]["delta"]} if stream else answer.json()
    assert (found["content"], found["stop_reason"]) == ([], "refusal")


def test_the_cache_is_written_once_and_then_read(sim, http):
    marked = [{"type": "text", "text": "one two three", "cache_control": {"type": "ephemeral"}}]

    first, second = (ask(sim, http, system=marked).json()["usage"] for _ in range(2))

    written, read = "cache_creation_input_tokens", "cache_read_input_tokens"
    assert (first["input_tokens"], first[written], first[read]) == (1, 9, 0)
    assert (second["input_tokens"], second[written], second[read]) == (1, 0, 9)


def test_a_prompt_longer_than_the_window_is_refused(sim, http):
    long = [{"role": "user", "content": "x " * 200_001}]

    answer = ask(sim, http, long, model=OLD)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == \
        "prompt is too long: 200004 tokens > 200000 maximum"


def test_tokens_are_counted_as_they_are_billed(sim, http):
    body = {"model": OPUS, "messages": HI, "system": "Be brief.", "tools": [WEATHER]}

    counted = post(sim, http, body, "/v1/messages/count_tokens").json()
    used = ask(sim, http, system="Be brief.", tools=[WEATHER]).json()["usage"]

    assert counted == {"input_tokens": used["input_tokens"]}


def test_models_come_in_pages(sim, http):
    url = sim.fields("anthropic")["base_url"] + "/v1/models"

    first = http.get(url, params={"limit": 3}, headers=HEADERS).json()
    second = http.get(url, params={"limit": 9, "after_id": first["last_id"]},
                      headers=HEADERS).json()
    back = http.get(url, params={"limit": 2, "before_id": second["first_id"]},
                    headers=HEADERS).json()
    one = http.get(f"{url}/{OLD}", headers=HEADERS).json()

    ids = [[model["id"] for model in page["data"]] for page in (first, second, back)]
    assert (first["has_more"], second["has_more"], back["has_more"]) == (True, False, True)
    assert len(ids[0]) == 3 and ids[2] == ids[0][1:] and not set(ids[0]) & set(ids[1])
    assert one["id"] == "claude-haiku-4-5-20251001"
    assert one["capabilities"]["thinking"]["types"]["enabled"] == {"supported": True}


@pytest.mark.parametrize("path, status", [
    ("/v1/models/nobody", 404), ("/v1/models?limit=0", 400), ("/v1/models?after_id=x", 400),
    ("/v1/complete", 404)])
def test_what_does_not_exist_is_not_found(sim, http, path, status):
    answer = http.get(sim.fields("anthropic")["base_url"] + path, headers=HEADERS)

    assert answer.status_code == status
    assert answer.json()["type"] == "error"


def test_a_callable_gets_what_was_said_as_texts(http):
    heard = []
    with Simulator(reply=lambda messages: heard.append(messages) or "ok") as sim:
        ask(sim, http, [{"role": "user", "content": [{"type": "text", "text": "a"},
                                                     {"type": "image", "source": PNG}]},
                        {"role": "assistant", "content": [CALL]},
                        {"role": "user", "content": [{**RESULT, "content": [
                            {"type": "text", "text": "sunny"}]}, {"type": "text", "text": "b"}]}],
            system="s")

    assert heard == [[{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                      {"role": "assistant", "content": ""},
                      {"role": "tool", "name": "weather", "content": "sunny"},
                      {"role": "user", "content": "b"}]]


def test_messages_of_the_system_may_come_later_with_newer_models(sim, http):
    later = [*HI, {"role": "assistant", "content": "Hello"}, {"role": "system", "content": "Rude"},
             *HI]

    assert ask(sim, http, later).status_code == 200
    assert ask(sim, http, later, model=OLD).status_code == 400


def test_a_failure_inside_a_document_is_an_error_of_the_same_shape(sim, http):
    sim.play("error-first")

    assert ask(sim, http).json()["error"] == {"details": None, "type": "overloaded_error",
                                              "message": "Overloaded"}
