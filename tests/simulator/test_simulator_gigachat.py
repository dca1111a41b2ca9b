"""The simulated GigaChat: tokens, checks, and the bytes of its answers."""

from __future__ import annotations

import base64
import json
import re
import uuid

import pytest
import requests

from chatsdk import Client
from chatsdk.simulator import Simulator

SCOPE = {"scope": "GIGACHAT_API_PERS"}
HI = [{"role": "user", "content": "Hi"}]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator(reply=["Раз", ", два"]) as simulator:
        yield simulator


def ask_token(sim, http, key="any", scope="GIGACHAT_API_PERS", **headers):
    headers = {"Authorization": f"Basic {key}", "RqUID": str(uuid.uuid4()), **headers}
    return http.post(sim.fields("gigachat")["auth_url"], data={"scope": scope},
                     headers={name: value for name, value in headers.items() if value})


def call(sim, http, path, body=None, token=None, **headers):
    """Send a request of the API with a fresh token, or with the given one."""
    token = token or ask_token(sim, http).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", **headers}
    url = sim.fields("gigachat")["base_url"] + path
    if body is None:
        return http.get(url, headers=headers)
    return http.post(url, headers=headers, json=body)


def chat(sim, http, messages=HI, **rest):
    body = {"model": "GigaChat", "messages": messages, "stream": True}
    headers = rest.pop("headers", {})
    token = rest.pop("token", None)
    return call(sim, http, "/chat/completions", {**body, **rest}, token, **headers)


def test_a_token_has_the_real_ones_shape_and_size(sim, http):
    answer = ask_token(sim, http)
    token = answer.json()["access_token"]

    assert answer.status_code == 200
    assert list(answer.json()) == ["access_token", "expires_at"]
    assert len(answer.content) == 1279 and len(token) == 1233 and token.count(".") == 4
    assert base64.urlsafe_b64decode(token.split(".")[0] + "==") == \
        b'{"enc":"A256CBC-HS512","alg":"RSA-OAEP-256"}'
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == \
        "no-cache, no-store, max-age=0, must-revalidate"
    assert sim.tokens_issued == 1


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "bearer"])
def test_both_schemes_get_a_token(sim, http, scheme):
    assert ask_token(sim, http, Authorization=f"{scheme} any").status_code == 200


@pytest.mark.parametrize("headers, scope, status, code, message", [
    ({"RqUID": ""}, "GIGACHAT_API_PERS", 400, 2, "RqUID is missing or no uuid"),
    ({"RqUID": "1"}, "GIGACHAT_API_PERS", 400, 2, "RqUID is missing or no uuid"),
    ({"Authorization": ""}, "GIGACHAT_API_PERS", 400, 4, "Can't decode 'Authorization' header"),
    ({"Authorization": "Basic id:secret"}, "GIGACHAT_API_PERS", 400, 4,
     "Can't decode 'Authorization' header"),
    ({"Authorization": "Digest x"}, "GIGACHAT_API_PERS", 400, 4,
     "Can't decode 'Authorization' header"),
    ({}, "", 400, 5, "scope is empty"),
    ({"Content-Type": "text/plain"}, "GIGACHAT_API_PERS", 400, 5, "scope is empty"),
    ({}, "GIGACHAT_API", 400, 1, "scope data format invalid"),
    ({"Authorization": "Basic other"}, "GIGACHAT_API_PERS", 401, 6,
     "credentials doesn't match db data"),
    ({}, "GIGACHAT_API_CORP", 400, 7, "scope from db not fully includes consumed scope"),
])
def test_each_refusal_of_a_token_has_its_code(http, headers, scope, status, code, message):
    with Simulator(keys={"key": ("GIGACHAT_API_PERS",)}) as sim:
        answer = ask_token(sim, http, "key", scope, **headers)

        assert answer.status_code == status
        assert answer.content == json.dumps({"code": code, "message": message},
                                            separators=(",", ":")).encode()
        assert ask_token(sim, http, "key").status_code == 200
        assert sim.tokens_issued == 1


def test_a_stream_is_as_recorded(sim, http):
    answer = chat(sim, http)
    created = re.search(rb'"created":(\d{10})', answer.content)[1]
    about = b'"created":%b,"model":"GigaChat:2.0.28.2","object":"chat.completion"' % created

    assert answer.content == b"".join([
        b'data: {"choices":[{"delta":{"content":"\xd0\xa0\xd0\xb0\xd0\xb7","role":"assistant"},'
        b'"index":0}],' + about + b"}\n\n",
        'data: {"choices":[{"delta":{"content":", два"},"index":0}],'.encode() + about + b"}\n\n",
        b'data: {"choices":[{"delta":{"content":""},"index":0,"finish_reason":"stop"}],' + about,
        b',"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
        b'"precached_prompt_tokens":2}}\n\n',
        b"data: [DONE]\n\n"])
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_a_document_is_as_recorded(sim, http):
    answer = chat(sim, http, stream=False)
    created = re.search(rb'"created":(\d{10})', answer.content)[1]

    assert answer.content == (
        b'{"choices":[{"message":{"content":"\xd0\xa0\xd0\xb0\xd0\xb7, '
        b'\xd0\xb4\xd0\xb2\xd0\xb0","role":"assistant"},"index":0,"finish_reason":"stop"}],'
        b'"created":%b,"model":"GigaChat:2.0.28.2","object":"chat.completion",'
        b'"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
        b'"precached_prompt_tokens":2}}') % created
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize("path, body", [
    ("/chat/completions", {"model": "GigaChat", "messages": HI}),
    ("/chat/completions", {"model": "nobody", "messages": HI}), ("/models", None)])
def test_every_api_answer_has_both_ids_and_gives_the_clients_back(sim, http, path, body):
    plain = call(sim, http, path, body)
    named = call(sim, http, path, body, **{"X-Session-ID": "s", "X-Request-ID": "r"})

    assert UUID.fullmatch(plain.headers["X-Request-Id"])
    assert UUID.fullmatch(plain.headers["X-Session-Id"])
    assert (named.headers["X-Request-Id"], named.headers["X-Session-Id"]) == ("r", "s")


def test_a_session_keeps_the_prompt_in_the_cache(sim, http):
    headers = {"X-Session-ID": "mine"}
    first = chat(sim, http, stream=False, headers=headers).json()["usage"]
    second = chat(sim, http, HI * 5, stream=False, headers=headers).json()["usage"]

    assert second["precached_prompt_tokens"] == first["prompt_tokens"]


def test_a_function_is_called_once_with_arguments_as_an_object(http):
    functions = [{"name": "weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["celsius"]}}}}]
    messages = [{"role": "user", "content": "The weather in Moscow?"}]
    with Simulator() as sim:
        message = chat(sim, http, messages, stream=False,
                       functions=functions).json()["choices"][0]
        result = {"role": "function", "name": "weather", "content": '{"sky":"clear"}'}
        after = chat(sim, http, [*messages, message["message"], result], stream=False,
                     functions=functions).json()["choices"][0]

    assert message["finish_reason"] == "function_call"
    assert message["message"]["function_call"] == {
        "name": "weather", "arguments": {"city": "Moscow", "days": 1, "unit": "celsius"}}
    assert UUID.fullmatch(message["message"]["functions_state_id"])
    assert after["finish_reason"] == "stop"
    assert after["message"]["content"] == 'The function weather returned {"sky":"clear"}.'


@pytest.mark.parametrize("mode, reason", [("none", "stop"), ("auto", "function_call"),
                                          ({"name": "b"}, "function_call")])
def test_function_call_says_whether_one_is_called(http, mode, reason):
    with Simulator() as sim:
        choice = chat(sim, http, stream=False, functions=[{"name": "a"}, {"name": "b"}],
                      function_call=mode).json()["choices"][0]

    assert choice["finish_reason"] == reason
    assert reason == "stop" or choice["message"]["function_call"]["name"] == \
        ("b" if isinstance(mode, dict) else "a")


def test_max_tokens_ends_an_answer_by_length(http):
    with Simulator(reply="one two three") as sim:
        answer = chat(sim, http, stream=False, max_tokens=2).json()
        whole = chat(sim, http, stream=False, max_tokens=3).json()

    assert answer["choices"][0] == {"message": {"content": "one two ", "role": "assistant"},
                                    "index": 0, "finish_reason": "length"}
    assert answer["usage"]["completion_tokens"] == 2
    assert whole["choices"][0]["finish_reason"] == "stop"


def refused(answer):
    assert answer.content.endswith(b"}\n")
    return answer.status_code, answer.json()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic x"])
def test_without_a_good_token_the_api_says_401(sim, http, header):
    for path in ("/models", "/models/GigaChat"):
        url = sim.fields("gigachat")["base_url"] + path
        answer = http.get(url, headers={"Authorization": header} if header else {})

        assert refused(answer) == (401, {"status": 401, "message": "Unauthorized"})


@pytest.mark.parametrize("end, message", [
    ("revoke_tokens", "Unauthorized"), ("expire_tokens", "Token has expired")])
def test_tokens_can_be_ended_at_will(sim, http, end, message):
    token = ask_token(sim, http).json()["access_token"]
    before = chat(sim, http, token=token)
    getattr(sim, end)()
    after = chat(sim, http, token=token)

    assert before.status_code == 200
    assert refused(after) == (401, {"status": 401, "message": message})
    assert chat(sim, http).status_code == 200


def test_a_token_lives_as_long_as_it_says(http):
    with Simulator(token_life=-1.0) as sim:
        assert refused(chat(sim, http)) == (
            401, {"status": 401, "message": "Token has expired"})


@pytest.mark.parametrize("change, message", [
    ({"messages": HI + [{"role": "system", "content": "x"}]},
     "system message must be the first message"),
    ({"messages": [{"role": "system", "content": "x"}] * 2 + HI},
     "system message must be the first message"),
    ({"messages": []}, "messages must not be empty"),
    ({"messages": [{"role": "robot", "content": "x"}]},
     "role must be one of system, user, assistant, function"),
    ({"messages": [{"role": "user", "content": None}]}, "content must be a string"),
    ({"messages": HI + [{"role": "function", "name": "f", "content": "sunny"}]},
     "content of a function message must be a JSON object"),
    ({"repetition_penalty": 0}, "repetition_penalty must be in range (0, +inf)"),
    ({"temperature": 0}, "temperature must be in range (0, +inf)"),
    ({"temperature": "hot"}, "temperature must be in range (0, +inf)"),
    ({"top_p": 1.1}, "top_p must be in range [0, 1]"),
    ({"max_tokens": 0}, "max_tokens must be in range (0, +inf)"),
    ({"max_tokens": 1.5}, "max_tokens must be in range (0, +inf)"),
    ({"functions": [{}]}, "functions must have names"),
    ({"model": None}, "model is required"),
    ({"response_format": {"type": "json_object"}},
     "response_format must be of type json_schema and have a schema"),
])
def test_bad_values_are_422(sim, http, change, message):
    assert refused(chat(sim, http, **change)) == (
        422, {"status": 422, "message": f"Invalid params: {message}"})


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_fits_the_schema_that_is_asked_for(stream):
    schema = {"type": "object", "properties": {"place": {"type": "string"}}}
    form = {"type": "json_schema", "schema": schema, "strict": True}

    with Simulator() as sim:
        with Client("gigachat", api_key="any", **sim.fields("gigachat")) as client:
            reply = client.chat("Weather in Kazan?", response_format=form, stream=stream)

    assert json.loads(reply.text) == {"place": "Kazan"}


def test_an_unknown_model_is_404(sim, http):
    answer = chat(sim, http, model="nobody")

    assert answer.content == b'{"status":404,"message":"No such model"}\n'
    assert (answer.status_code, answer.headers["Content-Length"]) == (404, "41")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def test_a_body_that_is_no_json_is_400(sim, http):
    token = ask_token(sim, http).json()["access_token"]
    answer = http.post(sim.fields("gigachat")["base_url"] + "/chat/completions", data=b"{",
                       headers={"Authorization": f"Bearer {token}"})

    assert refused(answer) == (400, {"status": 400, "message": "Bad Request"})


def test_models_are_listed_with_their_types(sim, http):
    listing = call(sim, http, "/models").json()
    one = call(sim, http, "/models/GigaChat-2-Max").json()

    assert listing["object"] == "list"
    assert {m["type"] for m in listing["data"]} == {"chat", "embedder", "filter", "aicheck"}
    assert one == {"id": "GigaChat-2-Max", "object": "model", "owned_by": "salutedevices",
                   "type": "chat"}
    assert one in listing["data"]
    assert refused(call(sim, http, "/models/nobody"))[1]["message"] == "No such model"


def test_an_unknown_path_is_404(sim, http):
    assert refused(call(sim, http, "/balance"))[0] == 404


@pytest.mark.parametrize("name, status, body", [
    ("one-byte", 200, b'"content":"\xd0\xa0\xd0\xb0\xd0\xb7, '), ("gzip", 200, b'"choices"'),
    ("heartbeat-after-text", 200, b"   "), ("comments", 200, b' {"choices"'),
    ("error-first", 200, b'{"status":500,"message":"Internal Server Error"}\n'),
    ("malformed-first", 200, b'{"broken{"choices"'), ("empty", 200, b""),
    ("length", 200, b'"finish_reason":"length"'), ("no-text", 200, b'"content":""'),
    ("status-500", 500, b'"message":"Internal Server Error"}\n')])
def test_scenarios_apply_to_documents_too(sim, http, name, status, body):
    token = ask_token(sim, http).json()["access_token"]
    sim.play(name, service="gigachat")
    with http.post(sim.fields("gigachat")["base_url"] + "/chat/completions", stream=True,
                   json={"model": "GigaChat", "messages": HI},
                   headers={"Authorization": f"Bearer {token}"}) as answer:
        found = b""
        for chunk in answer.iter_content(1):
            found += chunk
            if body and body in found:
                break

    assert answer.status_code == status
    assert body in found


def test_a_document_may_lack_its_finish_reason_or_be_cut(sim, http):
    sim.play("no-finish", service="gigachat")
    assert "finish_reason" not in chat(sim, http, stream=False).json()["choices"][0]
    sim.play("cut", service="gigachat")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        chat(sim, http, stream=False)
