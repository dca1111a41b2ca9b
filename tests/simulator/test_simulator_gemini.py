"""The simulated Gemini: its parts, its checks, its errors."""

from __future__ import annotations

import json
import math
import re

import pytest
import requests

from chatsdk.simulator import Simulator
from chatsdk.simulator.gemini_checks import called, sign

NEW, OLD, VECTORS = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-embedding-001"
HI = [{"role": "user", "parts": [{"text": "Hi"}]}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "parametersJsonSchema": CITY}
CLOCK = {"name": "clock"}
BOTH = [{"functionDeclarations": [WEATHER, CLOCK]}]
CALL = {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
RESULT = {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}}
PNG = {"mimeType": "image/png", "data": "iVBORw0KGgo="}


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


def post(sim, http, path, body, key="any"):
    return http.post(f"{sim.fields('gemini')['base_url']}/v1beta/models/{path}", json=body,
                     headers={"x-goog-api-key": key} if key else {})


def ask(sim, http, contents=HI, model=NEW, stream=False, **rest):
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return post(sim, http, f"{model}:{method}", {"contents": contents, **rest})


def steps(answer):
    """Return the steps of a stream."""
    *frames, rest = answer.content.split(b"\r\n\r\n")
    assert rest == b""
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames]


def parts(answer):
    """Return all parts of an answer, streamed or not."""
    streamed = answer.headers["Content-Type"] == "text/event-stream"
    return [part for step in (steps(answer) if streamed else [answer.json()])
            for part in step["candidates"][0]["content"]["parts"]]


def refusal(answer):
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["status"], error["message"]


def test_a_stream_is_as_documented(http):
    with Simulator(reply=["Раз", ", два"]) as sim:
        answer = ask(sim, http, model=OLD, stream=True)
    id = re.search(rb'"responseId":"([\w-]+)"', answer.content)[1]
    about = b'"modelVersion":"gemini-2.5-flash","responseId":"%b"}\r\n\r\n' % id
    details = b'"promptTokensDetails":[{"modality":"TEXT","tokenCount":1}]}'

    assert answer.content == b"".join([
        'data: {"candidates":[{"content":{"parts":[{"text":"Раз"}],"role":"model"},"index":0}],'
        .encode(), b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,'
        b'"totalTokenCount":2,' + details + b"," + about,
        'data: {"candidates":[{"content":{"parts":[{"text":", два"}],"role":"model"},"index":0}],'
        .encode(), b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,'
        b'"totalTokenCount":3,' + details + b"," + about,
        b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},'
        b'"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,'
        b'"candidatesTokenCount":2,"totalTokenCount":3,' + details + b"," + about])
    assert answer.headers["Content-Type"] == "text/event-stream"


def test_a_document_is_one_response(http):
    with Simulator(reply="One two.") as sim:
        answer = ask(sim, http, model=OLD)

    assert answer.json() == {
        "candidates": [{"content": {"parts": [{"text": "One two."}], "role": "model"},
                        "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3,
                          "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]},
        "modelVersion": OLD, "responseId": answer.json()["responseId"]}
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"


def test_a_stream_without_events_is_a_list(http):
    with Simulator(reply="One two.") as sim:
        answer = post(sim, http, f"{OLD}:streamGenerateContent", {"contents": HI})

    assert [step["candidates"][0]["finishReason"] for step in answer.json()] == ["STOP"]


@pytest.mark.parametrize("status, name", [
    (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"),
    (404, "NOT_FOUND"), (409, "ABORTED"), (422, "FAILED_PRECONDITION"),
    (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (501, "UNIMPLEMENTED"), (502, "INTERNAL"),
    (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")])
def test_each_status_has_its_name(sim, http, status, name):
    sim.play(f"status-{status}")

    assert refusal(ask(sim, http))[:2] == (status, name)


def test_a_refusal_for_too_many_requests_tells_when_to_come_back(sim, http):
    sim.play("status-429")
    soon = ask(sim, http).json()["error"]["details"]
    sim.play("quota")
    spent = ask(sim, http).json()["error"]["details"]

    for details, span in ((soon, "PerMinute"), (spent, "PerDay")):
        assert [detail["@type"].split(".")[-1] for detail in details] == ["QuotaFailure",
                                                                          "RetryInfo"]
        assert span in details[0]["violations"][0]["quotaId"]


def test_a_key_is_wanted_in_the_header_or_the_query(sim, http):
    path = f"{NEW}:generateContent"

    assert refusal(post(sim, http, path, {"contents": HI}, key=None))[:2] == \
        (403, "PERMISSION_DENIED")
    assert post(sim, http, f"{path}?key=any", {"contents": HI}, key=None).status_code == 200


@pytest.mark.parametrize("path, body", [
    ("nobody:generateContent", {"contents": HI}),
    (f"{VECTORS}:generateContent", {"contents": HI}), ("nobody:countTokens", {"contents": HI}),
    (f"{NEW}:embedContent", {"content": HI[0]}), (f"{NEW}:doSomething", {})])
def test_models_and_methods_that_do_not_exist_are_not_found(sim, http, path, body):
    assert refusal(post(sim, http, path, body))[:2] == (404, "NOT_FOUND")


def config(**members):
    return {"generationConfig": members}


@pytest.mark.parametrize("body, message", [
    ({"contents": []}, "contents is not specified"),
    ({"contents": "Hi"}, "contents is not specified"),
    ({"content": HI, "contents": HI}, 'Unknown name "content"'),
    ({"contents": HI, "messages": []}, 'Invalid JSON payload received. Unknown name "messages"'),
    ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "use a valid role: user, mo"),
    ({"contents": [{"role": "user"}]}, "contents[0].parts: contents.parts must not be empty"),
    ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0].data: required oneof field 'data'"),
    ({"contents": [{"parts": [{"text": "x", "inlineData": PNG}]}]}, "required oneof field 'data'"),
    ({"contents": [{"parts": [{"text": 5}]}]}, "Invalid value at 'contents[0].parts[0].text'"),
    ({"contents": [{"parts": [{"inlineData": {**PNG, "data": "?"}}]}]}, "Invalid value at 'conte"),
    ({"contents": [{"parts": [{"inlineData": {**PNG, "data": 5}}]}]}, "Invalid value at 'contents"),
    ({"contents": [{"parts": [{"inlineData": {"data": "aaaa"}}]}]}, "Invalid value at 'contents[0"),
    ({"contents": [{"parts": [{"sound": "x"}]}]}, 'Unknown name "sound" at'),
    ({"contents": HI, **config(maxTokens=5)}, 'Unknown name "maxTokens" at \'generation_config\''),
    ({"contents": HI, **config(maxOutputTokens=0)}, "maxOutputTokens: must be positive"),
    ({"contents": HI, **config(temperature=2.1)}, "temperature: must be in the range [0.0, 2.0]"),
    ({"contents": HI, **config(topP=1.1)}, "topP: must be in the range"),
    ({"contents": HI, **config(seed="x")}, "seed: must be an integer"),
    ({"contents": HI, **config(stopSequences=["x"] * 6)}, "stopSequences: must be at most 5"),
    ({"contents": HI, **config(candidateCount=2)}, "only one candidate"),
    ({"contents": HI, **config(responseMimeType="text/html")}, "allowed mimetypes are"),
    ({"contents": HI, **config(responseSchema=CITY)}, "mime type 'application/json'"),
    ({"contents": HI, **config(responseSchema=CITY, responseJsonSchema=CITY)}, "Only one of respo"),
    ({"contents": HI, **config(thinkingConfig={"effort": 1})}, 'Unknown name "effort"'),
    ({"contents": HI, **config(thinkingConfig={"thinkingLevel": "low", "thinkingBudget": 1})},
     "only one of thinking budget and thinking level"),
    ({"contents": HI, **config(thinkingConfig={"thinkingLevel": "minimal"})},
     "Thinking level MINIMAL is not supported for this model."),
    ({"contents": HI, **config(thinkingConfig={"thinkingBudget": 40000})}, "budget 40000 is inval"),
    ({"contents": HI, "tools": WEATHER}, "Invalid value at 'tools'"),
    ({"contents": HI, "tools": [{"functionDeclarations": [{"name": "1"}]}]}, "Invalid function na"),
    ({"contents": HI, "tools": [{"functionDeclarations": [{**CLOCK, "strict": True}]}]},
     'Unknown name "strict"'),
    ({"contents": HI, "tools": [{"functionDeclarations": [{**WEATHER, "parameters": CITY}]}]},
     "only one of parameters and parameters_json_schema"),
    ({"contents": HI, "tools": BOTH * 2}, "Duplicate function declaration found"),
    ({"contents": HI, "toolConfig": {"functionCallingConfig": {"mode": "REQUIRED"}}},
     "function_calling_config.mode"),
    ({"contents": HI, "tools": BOTH, "toolConfig": {"functionCallingConfig": {
        "mode": "AUTO", "allowedFunctionNames": ["clock"]}}}, "only when function calling mode is"),
    ({"contents": HI, "tools": BOTH, "toolConfig": {"functionCallingConfig": {
        "mode": "ANY", "allowedFunctionNames": ["x"]}}}, "unknown function: x"),
    ({"contents": [{"role": "model", "parts": [CALL]}]}, "function call turn comes immediately"),
    ({"contents": [*HI, {"role": "model", "parts": [CALL]}]}, "number of function response parts"),
    ({"contents": [*HI, {"role": "model", "parts": [CALL]}, *HI]}, "number of function response"),
    ({"contents": [*HI, {"parts": [RESULT]}]}, "number of function response parts is equal"),
    ({"contents": [*HI, {"role": "model", "parts": [CALL]}, {"parts": [RESULT, RESULT]}]},
     "number of function response parts is equal"),
    ({"contents": [*HI, {"role": "model", "parts": [CALL]}, {"parts": [
        {"functionResponse": {**RESULT["functionResponse"], "name": "clock"}}]}]},
     "comes immediately after a function call turn"),
    ({"contents": [*HI, {"role": "model", "parts": [CALL]}, {"parts": [
        {"functionResponse": {"name": "weather", "response": "sunny"}}]}]}, "Invalid value at"),
])
def test_what_is_wrong_is_refused_in_the_services_words(sim, http, body, message):
    status, name, said = refusal(post(sim, http, f"{NEW}:generateContent", body))

    assert (status, name) == (400, "INVALID_ARGUMENT")
    assert message in said


def test_a_level_of_thought_is_for_newer_models(sim, http):
    answer = ask(sim, http, model=OLD, **config(thinkingConfig={"thinkingLevel": "low"}))

    assert refusal(answer)[2] == "Thinking level is not supported for this model."


def test_a_body_is_an_object(sim, http):
    answer = post(sim, http, f"{NEW}:generateContent", [])

    assert "Expected an object" in refusal(answer)[2]


def test_one_turn_and_one_part_need_no_list(sim, http):
    assert ask(sim, http, {"parts": {"text": "Hi"}}).status_code == 200


def test_names_may_be_in_snake_case(sim, http):
    answer = ask(sim, http, system_instruction={"parts": [{"text": "Be kind."}]},
                 generation_config={"max_output_tokens": 1},
                 tool_config={"function_calling_config": {"mode": "NONE"}})

    assert answer.json()["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize("part", [
    {"inlineData": PNG}, {"inline_data": {"mime_type": "audio/wav", "data": "_-8="}},
    {"fileData": {"mimeType": "application/pdf", "fileUri": "https://host/a.pdf"}}])
def test_media_are_taken(sim, http, part):
    answer = ask(sim, http, [{"role": "user", "parts": [{"text": "See"}, part]}])

    assert answer.json()["usageMetadata"]["promptTokenCount"] == 1 + 258


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_are_parts_of_their_own_if_wanted(sim, http, stream):
    wanted = config(thinkingConfig={"includeThoughts": True})

    thoughts = ask(sim, http, stream=stream, **wanted)
    none = ask(sim, http, stream=stream)

    assert "".join(p["text"] for p in parts(thoughts) if p.get("thought")) == \
        "Let me think: a greeting wants an answer."
    assert "".join(p["text"] for p in parts(thoughts) if not p.get("thought")) == \
        "".join(p["text"] for p in parts(none))
    usage = (steps(thoughts)[-1] if stream else thoughts.json())["usageMetadata"]
    assert usage["thoughtsTokenCount"] == 4
    assert usage["totalTokenCount"] == 4 + usage["promptTokenCount"] + usage["candidatesTokenCount"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_function_is_called_whole_and_signed(sim, http, stream):
    question = [{"role": "user", "parts": [{"text": "In Rome"}]}]

    call, *rest = parts(ask(sim, http, question, tools=BOTH, stream=stream))
    older, *_ = parts(ask(sim, http, question, OLD, tools=BOTH, stream=stream))

    assert call["functionCall"].pop("id").startswith("call_")
    assert call == {**CALL, "thoughtSignature": sign(called(CALL["functionCall"]))}
    assert older == CALL
    assert all("functionCall" not in part for part in rest)


@pytest.mark.parametrize("stream", [True, False])
def test_of_several_calls_the_first_is_signed(sim, http, stream):
    sim.play("parallel-calls")

    calls = [part for part in parts(ask(sim, http, tools=BOTH, stream=stream))
             if "functionCall" in part]

    assert [call["functionCall"]["name"] for call in calls] == ["weather", "clock"]
    assert ["thoughtSignature" in call for call in calls] == [True, False]


@pytest.mark.parametrize("choice, names", [
    ({"mode": "NONE"}, []), ({"mode": "ANY"}, ["weather", "clock"]),
    ({"mode": "ANY", "allowedFunctionNames": ["clock"]}, ["clock"])])
def test_the_choice_of_a_function_is_obeyed(sim, http, choice, names):
    sim.play("parallel-calls")

    answer = ask(sim, http, tools=BOTH, toolConfig={"functionCallingConfig": choice})

    assert [part["functionCall"]["name"] for part in parts(answer)
            if "functionCall" in part] == names


def turn(sim, http, change=lambda part: part, model=NEW):
    """Return the answer to a function's result, after a turn with a call."""
    question = [{"role": "user", "parts": [{"text": "Where?"}]}]
    call, *_ = parts(ask(sim, http, question, model, tools=BOTH))
    result = {"functionResponse": {"name": "weather", "response": {"result": "sunny"},
                                   **{k: v for k, v in call["functionCall"].items() if k == "id"}}}
    return ask(sim, http, [*question, {"role": "model", "parts": [change(call)]},
                           {"role": "user", "parts": [result]}], model, tools=BOTH)


def test_signatures_have_to_come_back_on_the_same_call(sim, http):
    kept = turn(sim, http)
    urls = turn(sim, http, lambda part: {**part, "thoughtSignature": part["thoughtSignature"]
                                         .replace("+", "-").replace("/", "_")})
    dropped = turn(sim, http, lambda part: {"functionCall": part["functionCall"]})
    changed = turn(sim, http, lambda part: {**part, "functionCall": {
        **part["functionCall"], "args": {"city": "Oslo"}}})
    any = turn(sim, http, lambda part: {**part, "thoughtSignature":
                                        "skip_thought_signature_validator"})
    older = turn(sim, http, lambda part: {"functionCall": part["functionCall"]}, OLD)

    for answer in (kept, urls, any, older):
        assert parts(answer)[0]["text"] == "The function weather returned sunny."
    assert "is missing a thought_signature" in refusal(dropped)[2]
    assert "`default_api:weather` , position 1" in refusal(dropped)[2]
    assert refusal(changed) == (400, "INVALID_ARGUMENT", "Corrupted thought signature.")


def test_signatures_of_earlier_turns_may_be_missing_but_not_wrong(sim, http):
    done = [*HI, {"role": "model", "parts": [CALL]}, {"role": "user", "parts": [RESULT]},
            {"role": "model", "parts": [{"text": "Sunny."}]}, *HI]
    wrong = [*HI, {"role": "model", "parts": [{"text": "x", "thoughtSignature": "AAAA"}]}, *HI]

    assert ask(sim, http, done).status_code == 200
    assert refusal(ask(sim, http, wrong))[2] == "Corrupted thought signature."


@pytest.mark.parametrize("members, value", [
    ({"responseJsonSchema": CITY}, {"city": "Rome"}),
    ({"responseSchema": {"type": "OBJECT", "properties": {"city": {
        "type": "STRING", "enum": ["Oslo", "Rome"]}}}}, {"city": "Oslo"}), ({}, {}),
    ({"responseSchema": {"anyOf": [{"type": "INTEGER", "nullable": True}]}}, 1)])
def test_a_schema_is_followed(sim, http, members, value):
    answer = ask(sim, http, [{"parts": [{"text": "In Rome"}]}],
                 **config(responseMimeType="application/json", **members))

    assert json.loads(parts(answer)[0]["text"]) == value


def test_a_stop_sequence_is_not_told(http):
    with Simulator(reply="One two three four") as sim:
        answer = ask(sim, http, **config(stopSequences=["two three"])).json()

    assert answer["candidates"][0]["content"]["parts"][0]["text"] == "One "
    assert answer["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_may_be_blocked(sim, http, stream):
    sim.play("blocked")

    answer = ask(sim, http, stream=stream)

    found, = steps(answer) if stream else [answer.json()]
    assert found["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in found


def test_a_document_may_lack_its_reason(sim, http):
    sim.play("no-finish")

    assert "finishReason" not in ask(sim, http).json()["candidates"][0]


def test_a_stream_without_a_reason_is_not_complete(sim, http):
    sim.play("no-finish")

    assert b"finishReason" not in ask(sim, http, stream=True).content


def test_the_filter_may_end_the_answer(http):
    with Simulator(reply=["a", "b"], scenario="content-filter") as sim:
        answer = ask(sim, http).json()["candidates"][0]

    assert (answer["content"]["parts"][0]["text"], answer["finishReason"]) == ("a", "SAFETY")


def test_the_last_step_may_have_text(sim, http):
    sim.play("last-text")

    assert steps(ask(sim, http, stream=True))[-1]["candidates"][0]["content"]["parts"][0][
        "text"] == " The end."


def test_tokens_are_counted_as_they_are_billed(sim, http):
    body = {"contents": HI, "systemInstruction": {"parts": [{"text": "Be brief."}]}, "tools": BOTH}
    wrapped = {"generateContentRequest": {"model": f"models/{NEW}", **body}}

    counted = post(sim, http, f"{NEW}:countTokens", wrapped).json()["totalTokens"]
    used = post(sim, http, f"{NEW}:generateContent", body).json()["usageMetadata"]

    assert counted == used["promptTokenCount"] > 3
    assert post(sim, http, f"{NEW}:countTokens", {"contents": HI}).json()["totalTokens"] == 1


def request(text, **rest):
    return {"model": f"models/{VECTORS}", "content": {"parts": [{"text": text}]}, **rest}


def test_embeddings_have_the_size_and_the_order_of_the_question(sim, http):
    batch = [request(text, outputDimensionality=8) for text in ("a", "b b", "a")]

    answer = post(sim, http, f"{VECTORS}:batchEmbedContents", {"requests": batch}).json()
    one = post(sim, http, f"{VECTORS}:embedContent", request("a", outputDimensionality=8)).json()
    usual = post(sim, http, f"{VECTORS}:embedContent", request("a")).json()

    first, second, third = (entry["values"] for entry in answer["embeddings"])
    assert first == third == one["embedding"]["values"] != second
    assert len(first) == 8 and len(usual["embedding"]["values"]) == 3072
    assert math.isclose(math.hypot(*first), 1, abs_tol=1e-6)
    assert answer["usageMetadata"] == {"promptTokenCount": 4}


@pytest.mark.parametrize("body, message", [
    ({}, "requests is not specified"), ({"texts": []}, 'Unknown name "texts"'),
    ({"requests": [request("a")] * 101}, "at most 100 requests"),
    ({"requests": [{**request("a"), "model": "models/other"}]}, "has to be that of the path"),
    ({"requests": [request("")]}, "empty content"),
    ({"requests": [request("a", outputDimensionality=0)]}, "between 1 and 3072"),
    ({"requests": [{"model": f"models/{VECTORS}"}]}, "Invalid value at 'content'"),
])
def test_embeddings_are_checked(sim, http, body, message):
    assert message in refusal(post(sim, http, f"{VECTORS}:batchEmbedContents", body))[2]


def test_models_come_in_pages(sim, http):
    url = f"{sim.fields('gemini')['base_url']}/v1beta/models"
    key = {"x-goog-api-key": "any"}

    first = http.get(url, params={"pageSize": 4}, headers=key).json()
    rest = http.get(url, params={"pageToken": first["nextPageToken"]}, headers=key).json()
    one = http.get(f"{url}/{NEW}", headers=key).json()

    assert len(first["models"]) == 4 and "nextPageToken" not in rest
    assert one["name"] == f"models/{NEW}" and one in first["models"] + rest["models"]
    assert http.get(f"{url}?pageToken=x", headers=key).status_code == 400
    assert http.get(f"{url}/nobody", headers=key).status_code == 404
    assert http.get(url).status_code == 403


def test_a_callable_gets_what_was_said_as_texts(http):
    heard = []
    with Simulator(reply=lambda messages: heard.append(messages) or "ok") as sim:
        ask(sim, http, [{"role": "user", "parts": [{"text": "a"}, {"inlineData": PNG}]},
                        {"role": "model", "parts": [{"text": "hm", "thought": True}, CALL]},
                        {"role": "user", "parts": [{"functionResponse": {
                            "name": "weather", "response": {"a": 1, "b": [2]}}}]}], OLD,
            systemInstruction={"parts": [{"text": "s"}]})

    assert heard == [[{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                      {"role": "assistant", "content": ""},
                      {"role": "tool", "name": "weather", "content": '{"a":1,"b":[2]}'}]]


def test_a_failure_inside_an_answer_is_an_error_of_the_same_shape(sim, http):
    sim.play("error-first", times=2)

    for stream in (True, False):
        answer = ask(sim, http, stream=stream)
        found, = steps(answer) if stream else [answer.json()]
        assert found["error"]["status"] == "UNAVAILABLE"
