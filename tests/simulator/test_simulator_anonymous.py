"""The simulated FlowGPT, AiChatOnline and Aura: their gates and the bytes of their answers."""

from __future__ import annotations

import hashlib
import json
import time
import uuid

import pytest
import requests

from chatsdk.simulator import Simulator

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator(reply=["Seg", "ún\n"]) as simulator:
        yield simulator


@pytest.fixture
def heard():
    return []


@pytest.fixture
def listener(heard):
    def reply(messages):
        heard.append(messages)
        return "ok"

    with Simulator(reply=reply) as simulator:
        yield simulator


def flowgpt(sim, http, body=None, at=0, signed_with="Bearer null", **headers):
    """Send a signed request; `at` seconds from now."""
    nonce = headers.get("x-nonce", uuid.uuid4().hex)
    stamp = headers.get("x-timestamp", str(int(time.time()) + at))
    text = f"{stamp}-{nonce}-{signed_with}".encode()
    fields = {"x-flow-device-id": "f-abcdefghij123456789", "x-nonce": nonce,
              "x-timestamp": stamp, "Authorization": "Bearer null",
              "x-signature": hashlib.md5(text).hexdigest(), **headers}
    question = {"model": "gpt-3.5-turbo", "question": "Hi", "history": [], "system": ""}
    return http.post(sim.fields("flowgpt")["base_url"] + "/v3/chat-anonymous",
                     json={**question, **(body or {})},
                     headers={name: value for name, value in fields.items() if value})


def test_flowgpt_sends_events_with_blank_lines_between(sim, http):
    assert flowgpt(sim, http).content == \
        '{"event":"text","data":"Seg"}\n\n{"event":"text","data":"ún\\n"}\n\n'.encode()


@pytest.mark.parametrize("wrong", [
    {"x-signature": "0" * 32}, {"x-signature": ""}, {"signed_with": "Bearer x"},
    {"x-nonce": "0" * 31}, {"x-nonce": "A" * 32}, {"x-nonce": ""}, {"at": -302}, {"at": 302},
    {"x-timestamp": "now"}, {"x-timestamp": ""}, {"x-flow-device-id": "f-short"},
    {"x-flow-device-id": ""}, {"Authorization": "Bearer other"}])
def test_flowgpt_refuses_what_is_not_signed_rightly(sim, http, wrong):
    answer = flowgpt(sim, http, **wrong)

    assert answer.status_code == 401
    assert answer.content == b'{"statusCode":401,"message":"Unauthorized"}'


@pytest.mark.parametrize("at", [-290, 290])
def test_flowgpt_takes_time_stamps_within_five_minutes(sim, http, at):
    assert flowgpt(sim, http, at=at).status_code == 200


def test_flowgpt_takes_a_nonce_once(sim, http):
    nonce = uuid.uuid4().hex

    assert [flowgpt(sim, http, **{"x-nonce": nonce}).status_code for _ in range(2)] == [200, 401]


@pytest.mark.parametrize("body", [{"model": "gpt-5"}, {"question": None}, {"history": "x"}])
def test_flowgpt_refuses_a_bad_body(sim, http, body):
    answer = flowgpt(sim, http, body)

    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)


def test_flowgpt_tells_the_reply_what_was_really_said(listener, http, heard):
    greeting = {"role": "assistant", "content": "Hello, how can I help you today?"}
    default = "You are helpful assistant. Follow the user's instructions carefully."
    flowgpt(listener, http, {"history": [greeting], "system": default})
    flowgpt(listener, http, {"history": [greeting, *HI], "system": "Be brief.",
                             "question": "More"})

    assert heard == [HI, [{"role": "system", "content": "Be brief."}, *HI,
                          {"role": "user", "content": "More"}]]


def test_flowgpt_has_one_path(sim, http):
    answer = http.post(sim.fields("flowgpt")["base_url"] + "/v2/chat-anonymous", json={})

    assert (answer.status_code, answer.json()) == (
        404, {"statusCode": 404, "message": "Not Found"})


def ask_id(sim, http, canvas="-abcdefghij"):
    return http.get(sim.fields("aichatonline")["base_url"] + "/api/v1/user/getUniqueId",
                    params={"canvas": canvas} if canvas is not None else {})


def aichatonline(sim, http, visitor=None, **change):
    visitor = ask_id(sim, http).json()["data"] if visitor is None else visitor
    body = {"conversationId": "abcdefghij", "prompt": "Hi", **change}
    return http.post(sim.fields("aichatonline")["base_url"] + "/aichatonline/api/chat/gpt",
                     json={key: value for key, value in body.items() if value is not None},
                     headers={"UniqueId": visitor} if visitor else {})


def test_aichatonline_gives_ids(sim, http):
    first, second = (ask_id(sim, http) for _ in range(2))

    assert first.content == \
        b'{"code":200,"msg":"success","data":"%b"}' % first.json()["data"].encode()
    assert len(first.json()["data"]) == 32
    assert first.json()["data"] != second.json()["data"]


@pytest.mark.parametrize("canvas", [None, ""])
def test_aichatonline_wants_a_canvas(sim, http, canvas):
    answer = ask_id(sim, http, canvas)

    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_aichatonline_sends_a_line_for_each_piece(sim, http):
    assert aichatonline(sim, http).content == \
        '{"code":200,"data":{"message":"Seg"}}\n{"code":200,"data":{"message":"ún\\n"}}\n'.encode()


@pytest.mark.parametrize("visitor", ["", "0" * 32])
def test_aichatonline_knows_only_the_ids_that_it_gave(sim, http, visitor):
    answer = aichatonline(sim, http, visitor)

    assert answer.status_code == 401
    assert answer.content == b'{"code":401,"msg":"Unauthorized","data":null}'


@pytest.mark.parametrize("change", [{"prompt": None}, {"prompt": ""}, {"prompt": 7},
                                    {"conversationId": None}, {"conversationId": "a b"}])
def test_aichatonline_wants_a_prompt_and_a_conversation(sim, http, change):
    assert aichatonline(sim, http, **change).status_code == 422


@pytest.mark.parametrize("prompt, messages", [
    ("Hi", HI), ("Hi\nUser: x", [{"role": "user", "content": "Hi\nUser: x"}]),
    ("System: Be brief.\nUser: Hi\nAssistant:",
     [{"role": "system", "content": "Be brief."}, *HI]),
    ("User: Hi\nAssistant: Hello!\nand\n\nmore\nUser: So: what\nAssistant:",
     [*HI, {"role": "assistant", "content": "Hello!\nand\n\nmore"},
      {"role": "user", "content": "So: what"}])])
def test_a_flattened_text_is_read_back_into_turns(listener, http, heard, prompt, messages):
    aichatonline(listener, http, prompt=prompt)

    assert heard == [messages]


def aura(sim, http, data=None, path="/api/chat", **change):
    body = {"model": {"id": "openchat_3.6", "name": "OpenChat 3.6 (latest)", "maxLength": 24576,
                      "tokenLimit": 8192},
            "messages": HI, "key": "", "prompt": "", "temperature": 0.5, **change}
    return http.post(sim.fields("aura")["base_url"] + path,
                     data=json.dumps(body) if data is None else data, allow_redirects=False)


def test_aura_sends_bare_text_without_a_type(sim, http):
    answer = aura(sim, http)

    assert answer.content == "Según\n".encode()
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("change", [
    {"model": None}, {"model": "openchat_3.6"}, {"model": {"id": "openchat_v3.2"}},
    {"messages": None}, {"messages": "Hi"}, {"messages": [{"role": "user", "content": None}]},
    {"key": "ключ"}, {"temperature": "hot"}, {"data": b"{"}, {"data": b""}])
def test_aura_says_error_to_anything_wrong(sim, http, change):
    answer = aura(sim, http, **change)

    assert (answer.status_code, answer.content, answer.reason) == (
        500, b"Error", "Internal Server Error")
    assert answer.headers["Content-Type"] == "text/plain;charset=UTF-8"


def test_aura_says_error_to_get_as_well(sim, http):
    answer = http.get(sim.fields("aura")["base_url"] + "/api/chat")

    assert (answer.status_code, answer.content) == (500, b"Error")


@pytest.mark.parametrize("model", ["openchat_3.6", "openchat_v3.2_mistral"])
@pytest.mark.parametrize("change", [{}, {"messages": []}, {"temperature": None},
                                    {"key": "sk-x"}])
def test_aura_takes_what_openchat_ui_takes(sim, http, model, change):
    assert aura(sim, http, **{"model": {"id": model}, **change}).status_code == 200


@pytest.mark.parametrize("limit, kept", [
    (8192, ["a b c", "d e", "f"]), (768 + 3, ["d e", "f"]), (768 + 1, ["f"]), (100, []),
    (None, ["a b c", "d e", "f"])])
def test_aura_drops_the_oldest_messages_that_do_not_fit(listener, http, heard, limit, kept):
    messages = [{"role": "user", "content": text} for text in ("a b c", "d e", "f")]
    answer = aura(listener, http, messages=messages,
                  model={"id": "openchat_3.6", "tokenLimit": limit})

    assert answer.status_code == 200
    assert [m["content"] for m in heard[0]] == kept


def test_aura_answers_at_most_a_thousand_tokens(http):
    with Simulator(reply="word " * 1001) as sim:
        assert aura(sim, http).text.count("word") == 1000


@pytest.mark.parametrize("prompt, roles", [("Be brief.", ["system", "user"]), ("", ["user"]),
                                           (" ", ["user"])])
def test_aura_tells_the_reply_the_system_prompt(listener, http, heard, prompt, roles):
    aura(listener, http, prompt=prompt)

    assert [m["role"] for m in heard[0]] == roles


def test_aura_lists_its_models_as_plain_text(sim, http):
    answer = aura(sim, http, b'{"key":""}', "/api/models")

    assert answer.content == (b'[{"id":"openchat_3.6","name":"OpenChat 3.6 (latest)"},'
                              b'{"id":"openchat_v3.2_mistral","name":"OpenChat 3.5 (latest)"}]')
    assert answer.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert aura(sim, http, b"?", "/api/models").content == b"Error"


def test_aura_redirects_away_from_a_trailing_slash(sim, http):
    answer = aura(sim, http, path="/api/chat/")

    assert (answer.status_code, answer.headers["Location"]) == (308, "/aura/api/chat")


def test_aura_shows_a_page_for_other_paths(sim, http):
    answer = http.get(sim.fields("aura")["base_url"] + "/nothing")

    assert (answer.status_code, answer.headers["Content-Type"]) == (
        404, "text/html; charset=utf-8")
