"""Aura: openchat-ui, which answers with bare text."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
import responses

from chatsdk import (
    ConfigurationError,
    Delta,
    Model,
    ProtocolError,
    ServerError,
    StreamInterruptedError,
    UnsupportedError,
)
from chatsdk.providers.aura import Aura
from chatsdk.simulator import Simulator

from .helpers import (
    BAD_KEYS,
    body_sent,
    BOM,
    broken,
    check_conversation,
    check_framing,
    client,
    cut_everywhere,
    Fetches,
    FRAMINGS,
    headers_sent,
    HISTORY,
    query,
    read,
    recorded,
    REPLY,
    single_bytes,
    SYSTEM_TWICE,
    text_of,
    zipped,
)

URL = "https://openchat.team/api/chat"
MODELS_URL = "https://openchat.team/api/models"
STREAM = recorded("aura_stream.txt")
UTF8 = recorded("aura_stream_utf8.txt")
MODEL = (
    '"model":{"id":"openchat_3.6","name":"OpenChat 3.6 (latest)","maxLength":24576,'
    '"tokenLimit":8192}'
)
PLAIN = (
    f'{{{MODEL},"messages":[{{"role":"user","content":"Привет 🙂"}}],"key":"","prompt":"",'
    '"temperature":0.5}'
)
WITH_HISTORY = (
    f'{{{MODEL},"messages":[{{"role":"user","content":"Hi"}},'
    '{"role":"assistant","content":"Hello!"},{"role":"user","content":"More"}],"key":"",'
    '"prompt":"Be brief.","temperature":0.5}'
)


@pytest.fixture
def server():
    with responses.RequestsMock() as mock:
        yield mock


def payload(messages="Hi", provider=None, **details):
    """Return the JSON body of the one request, and check that no other was made."""
    fetch = Fetches()
    request = (provider or Aura()).prepare(query(messages, **details), fetch)
    assert fetch.requests == []
    return request.json


# What is asked


def test_the_request_is_byte_for_byte_that_of_the_protocol(server):
    server.post(URL, body=STREAM)

    client("aura").chat("Привет 🙂")

    call, = server.calls
    assert body_sent(call).decode() == PLAIN
    assert headers_sent(call) == {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Content-Length": str(len(PLAIN.encode())),
        "Content-Type": "application/json",
        "Origin": "https://openchat.team",
        "Referer": "https://openchat.team/",
    }


def test_a_conversation_is_sent_as_messages_and_prompt(server):
    server.post(URL, body=STREAM)

    client("aura").chat(HISTORY, system="Be brief.")

    assert body_sent(server.calls[0]).decode() == WITH_HISTORY


def test_system_messages_are_joined_by_one_line_feed_into_the_prompt():
    body = payload(SYSTEM_TWICE)

    assert body["prompt"] == "Be brief.\nBe kind."
    assert body["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "More"},
    ]


def test_a_prompt_of_one_blank_is_sent_as_it_is():
    body = payload([{"role": "system", "content": " "}, {"role": "user", "content": "Hi"}])

    assert body["prompt"] == " "


@pytest.mark.parametrize("model, name", [
    ("openchat_3.6", "OpenChat 3.6 (latest)"),
    ("openchat_v3.2_mistral", "OpenChat 3.5 (latest)"),
    ("openchat_v3.2", "openchat_v3.2"),
])
def test_the_model_is_an_object_whose_window_never_changes(model, name):
    sent = payload(model=model)["model"]

    assert sent == {"id": model, "name": name, "maxLength": 24576, "tokenLimit": 8192}


def test_a_target_can_name_the_model(server):
    server.post(URL, body=STREAM)

    reply = client("aura:openchat_v3.2_mistral").chat("Hi")

    assert json.loads(body_sent(server.calls[0]))["model"]["id"] == "openchat_v3.2_mistral"
    assert reply.model == "openchat_v3.2_mistral"


@pytest.mark.parametrize("value", [0, 0.3, 1, 2])
def test_the_temperature_is_sent_as_given(value):
    assert payload(temperature=value)["temperature"] == value


def test_every_parameter_that_is_listed_changes_the_request():
    examples = {"temperature": 0.1}

    assert set(Aura.parameters) == set(examples)
    for name, value in examples.items():
        assert payload(**{name: value}) != payload()


@pytest.mark.parametrize("name, value", [
    ("max_tokens", 5), ("top_p", 0.5), ("stop", ["x"]), ("seed", 1),
    ("tools", [{"type": "function", "function": {"name": "f"}}]), ("tool_choice", "auto"),
    ("response_format", {"type": "json_object"}), ("reasoning_effort", "low"),
])
def test_other_parameters_are_refused_with_those_that_are_honoured(server, name, value):
    with pytest.raises(UnsupportedError, match=f"honour {name}; it honours: temperature"):
        client("aura").chat("Hi", **{name: value})

    assert len(server.calls) == 0


def test_a_limit_of_the_answer_never_becomes_the_size_of_the_window(server, caplog):
    server.post(URL, body=STREAM)

    with caplog.at_level(logging.WARNING, "chatsdk"):
        client("aura", drop_unsupported=True).chat("Привет 🙂", max_tokens=100)

    assert body_sent(server.calls[0]).decode() == PLAIN
    assert "aura cannot honour max_tokens: left out" in caplog.text


def test_a_key_for_the_servers_backend_is_sent_in_the_body_only(server):
    server.post(URL, body=STREAM)

    client("aura", api_key="sk-1").chat("Hi")

    call, = server.calls
    assert json.loads(body_sent(call))["key"] == "sk-1"
    assert "sk-1" not in str(call.request.headers)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_key_can_be_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client("aura", api_key=key)

    assert not key or key not in str(caught.value)


def test_extra_members_are_merged_last_and_level_by_level(server):
    server.post(URL, body=STREAM)

    client("aura").chat("Hi", extra_body={"model": {"tokenLimit": 4096}, "temperature": None})

    body = json.loads(body_sent(server.calls[0]))
    assert body["model"]["tokenLimit"] == 4096
    assert body["model"]["id"] == "openchat_3.6"
    assert body["temperature"] is None


def test_headers_and_cookies_of_a_browser_session_are_sent(server):
    server.post(URL, body=STREAM)
    asking = client("aura", headers={"User-Agent": "Mine/1"}, cookies={"cf_clearance": "abc"})

    asking.chat("Hi", extra_headers={"referer": "https://a.example/"})

    headers = server.calls[0].request.headers
    assert headers["User-Agent"] == "Mine/1"
    assert headers["Cookie"] == "cf_clearance=abc"
    assert headers["Referer"] == "https://a.example/"


def test_another_base_url_moves_origin_and_referer_with_it():
    request = Aura(base_url="http://localhost:3000/ui/").prepare(query(), Fetches())

    assert request.url == "http://localhost:3000/ui/api/chat"
    assert request.headers["Origin"] == "http://localhost:3000"
    assert request.headers["Referer"] == "http://localhost:3000/ui/"


def test_nothing_is_trusted_beside_the_common_roots():
    assert Aura().prepare(query(), Fetches()).trust is None


# A browser's session


class Browser:
    """What a Selenium WebDriver has that is needed."""

    def __init__(self, url="about:blank"):
        self.current_url = url
        self.visited = []

    def get(self, url):
        self.visited.append(url)
        self.current_url = url + "/"

    def get_cookies(self):
        return [{"name": "cf_clearance", "value": "abc", "domain": "openchat.team"}]

    def execute_script(self, script):
        assert script == "return navigator.userAgent"
        return "Browser/1"


def test_a_browser_gives_its_cookies_and_its_user_agent(server):
    server.post(URL, body=STREAM)
    browser = Browser()

    client("aura", browser=browser).chat("Hi")

    headers = server.calls[0].request.headers
    assert browser.visited == ["https://openchat.team"]
    assert headers["Cookie"] == "cf_clearance=abc"
    assert headers["User-Agent"] == "Browser/1"


def test_a_browser_that_is_on_the_site_is_not_sent_there_again():
    browser = Browser("https://openchat.team/en")

    provider = Aura(browser=browser)

    assert browser.visited == []
    assert provider.cookies == {"cf_clearance": "abc"}


def test_a_browser_is_not_kept():
    provider = Aura(browser=Browser())

    assert pickle.loads(pickle.dumps(provider)) == provider
    assert provider.browser is None


def test_what_is_no_browser_is_refused():
    with pytest.raises(ConfigurationError, match="Selenium"):
        Aura(browser=object())


# Models


def test_the_models_are_those_that_the_server_lists(server):
    server.post(MODELS_URL, body=recorded("aura_models.json"), content_type="text/plain")

    found = client("aura", api_key="sk-1").models()

    entries = json.loads(recorded("aura_models.json"))
    assert found == [
        Model("openchat_3.6", "aura", raw=entries[0]),
        Model("openchat_v3.2_mistral", "aura", raw=entries[1]),
    ]
    assert body_sent(server.calls[0]) == b'{"key":"sk-1"}'


def test_an_empty_list_of_models_is_one():
    assert Aura().list_models(Fetches(b"[]")) == []


@pytest.mark.parametrize("answer", [
    b"", b"Error", b"null", b"{}", b'{"data":[]}', b'["x"]', b'[{"id":7}]', b"[null]",
])
def test_an_answer_that_is_no_list_of_models_is_refused(answer):
    with pytest.raises(ProtocolError):
        Aura().list_models(Fetches(answer))


# What is read


@pytest.mark.parametrize("piece", ["x", " ", "\n", '{"error": 1}', "data: [DONE]", "\ufffd", "🙂"])
def test_whatever_it_looks_like_it_is_text(piece):
    assert Aura().decode(piece) == Delta(piece)
    assert text_of(read(Aura(), piece.encode())) == piece


def test_each_chunk_is_handed_out_at_once():
    chunks = [b"Hello! ", b"How", b" ", b"are you?"]

    assert [delta.text for delta in read(Aura(), *chunks)] == ["Hello! ", "How", " ", "are you?"]


@pytest.mark.parametrize("body", [STREAM, UTF8, b"\r\n\r\n a \r", "\u2028\x85\x0b".encode()])
def test_the_text_does_not_depend_on_where_the_body_is_cut(body):
    for chunks in cut_everywhere(body):
        assert text_of(read(Aura(), *chunks)) == body.decode()
    assert text_of(read(Aura(), *single_bytes(body))) == body.decode()


def test_a_body_that_ends_anywhere_gives_its_text_and_a_mark_for_half_a_character():
    for end in range(len(UTF8) + 1):
        text = text_of(read(Aura(), UTF8[:end]))

        assert text == UTF8[:end].decode(errors="replace")
        assert text.rstrip("\ufffd") == UTF8[:end].decode(errors="ignore")


@pytest.mark.parametrize("body, text", [
    (b"a\xffb", "a\ufffdb"),
    (b"a\xd0", "a\ufffd"),
    (b"\xd0a", "\ufffda"),
    (b"\xf0\x9f\x99", "\ufffd"),
    (BOM + b"a", "a"),
    (b"a" + BOM, "a\ufeff"),
    (b"", ""),
])
def test_invalid_bytes_are_replaced_and_a_byte_order_mark_at_the_start_is_dropped(body, text):
    assert text_of(read(Aura(), body)) == text
    assert text_of(read(Aura(), *single_bytes(body))) == text


def test_an_empty_answer_is_an_answer(server):
    server.post(URL, body=b"")

    reply = client("aura").chat("Hi")

    assert reply.text == ""


@pytest.mark.parametrize("content_type", [
    None, "text/plain;charset=ISO-8859-1", "text/event-stream", "application/json",
])
def test_no_header_decides_how_the_text_is_decoded(server, content_type):
    server.post(URL, body=UTF8, content_type=content_type)

    assert client("aura").chat("Hi").text == UTF8.decode()


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(UTF8), headers={"Content-Encoding": "gzip"})

    assert client("aura").chat("Hi").text == UTF8.decode()


def test_the_reply_tells_what_the_service_tells_and_no_more(server):
    server.post(URL, body=STREAM)

    reply = client("aura").chat("Hi")

    assert (reply.text, reply.provider) == ("Hello! How can I help you today?", "aura")
    assert (reply.model, reply.finish_reason, reply.usage) == ("openchat_3.6", None, None)


def test_the_one_error_of_the_server_is_told_with_what_to_try(server):
    server.post(URL, status=500, body="Error", content_type="text/plain;charset=UTF-8")

    with pytest.raises(ServerError, match="openchat_v3.2_mistral") as caught:
        client("aura").chat("Hi")

    assert (caught.value.status_code, caught.value.body) == (500, "Error")
    assert caught.value.partial is None or caught.value.partial.text == ""


# Over a real connection


def test_a_whole_conversation():
    requests = check_conversation("aura")

    roles = [message["role"] for message in requests[1].members["messages"]]
    assert [(r.method, r.path) for r in requests] == [("POST", "/api/chat")] * 2
    assert roles == ["user", "assistant", "user"]
    assert requests[1].members["prompt"] == "Be kind."
    assert not any("cookie" in r.headers for r in requests)


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("aura", scenario)


def test_a_tidy_early_end_cannot_be_told_from_a_whole_answer():
    with Simulator(reply=REPLY, scenario={"aura": "tidy-cut"}) as sim:
        with client("aura", **sim.fields("aura")) as asking:
            reply = asking.chat("Hi")

    assert REPLY.startswith(reply.text)
    assert "Привет" in reply.text and reply.text != REPLY


@pytest.mark.parametrize("scenario", ["cut", "cut-frames", "reset", "cut-first"])
def test_a_cut_that_shows_is_an_interruption(scenario):
    assert isinstance(broken("aura", scenario), StreamInterruptedError)


def test_the_models_of_a_server_are_asked_of_it():
    with Simulator() as sim, client("aura", **sim.fields("aura")) as asking:
        found = asking.models()

    assert [model.id for model in found] == list(Aura.models)
