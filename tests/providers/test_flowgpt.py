"""FlowGPT: one signed request, JSON lines back."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import time

import pytest
import responses

from chatsdk import (
    AuthenticationError,
    ConfigurationError,
    Delta,
    ProtocolError,
    ProviderError,
    RateLimitError,
    RedirectError,
    RetryPolicy,
    StreamInterruptedError,
    UnsupportedError,
)
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.simulator import Simulator

from .helpers import (
    BAD_KEYS,
    body_sent,
    BOM,
    broken,
    check_conversation,
    check_damage,
    check_every_end,
    check_framing,
    check_wrong_types,
    client,
    cut_everywhere,
    Fetches,
    FRAMINGS,
    headers_sent,
    HISTORY,
    outcome,
    query,
    read,
    recorded,
    REPLY,
    single_bytes,
    SYSTEM_TWICE,
    text_of,
    whole_frames,
    with_crlf,
    zipped,
)

URL = "https://prod-backend-k8s.flowgpt.com/v3/chat-anonymous"
STREAM = recorded("flowgpt_stream.ndjson")
PLAIN = (
    '{"model":"gpt-3.5-turbo","nsfw":false,"question":"Привет 🙂",'
    '"history":[{"role":"assistant","content":"Hello, how can I help you today?"}],'
    '"system":"You are helpful assistant. Follow the user\'s instructions carefully.",'
    '"temperature":0.7,"promptId":"model-gpt-3.5-turbo","documentIds":[],'
    '"chatFileDocumentIds":[],"generateImage":false,"generateAudio":false}'
)
WITH_HISTORY = (
    '{"model":"gpt-3.5-turbo","nsfw":false,"question":"More",'
    '"history":[{"role":"assistant","content":"Hello, how can I help you today?"},'
    '{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello!"}],'
    '"system":"Be brief.","temperature":0.7,"promptId":"model-gpt-3.5-turbo",'
    '"documentIds":[],"chatFileDocumentIds":[],"generateImage":false,"generateAudio":false}'
)


@pytest.fixture
def server():
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def fixed(monkeypatch):
    """Fix time, nonce and device id to those of the protocol's test vector."""
    monkeypatch.setattr(time, "time", lambda: 1713312000.9)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0123456789abcdef" * (size // 8))
    monkeypatch.setattr(secrets, "choice", lambda letters: letters[0])


def payload(messages="Hi", **details):
    """Return the JSON body of the one request, and check that no other was made."""
    fetch = Fetches()
    request = FlowGpt().prepare(query(messages, **details), fetch)
    assert fetch.requests == []
    return request.json


# What is asked


def test_the_request_is_byte_for_byte_that_of_the_protocol(server, fixed):
    server.post(URL, body=STREAM)

    client("flowgpt").chat("Привет 🙂")

    call, = server.calls
    assert body_sent(call).decode() == PLAIN
    assert headers_sent(call) == {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": "Bearer null",
        "Connection": "keep-alive",
        "Content-Length": str(len(PLAIN.encode())),
        "Content-Type": "application/json",
        "Origin": "https://flowgpt.com",
        "Referer": "https://flowgpt.com/",
        "x-flow-device-id": "f-aaaaaaaaaaaaaaaaaaa",
        "x-nonce": "0123456789abcdef0123456789abcdef",
        "x-timestamp": "1713312000",
        "x-signature": "943d1fcfd42792338a6002a1b64f9771",
    }


def test_a_conversation_becomes_history_and_question(server):
    server.post(URL, body=STREAM)

    client("flowgpt").chat(HISTORY, system="Be brief.")

    assert body_sent(server.calls[0]).decode() == WITH_HISTORY


def test_system_messages_are_joined_by_one_line_feed_wherever_they_stand():
    body = payload(SYSTEM_TWICE)

    assert body["system"] == "Be brief.\nBe kind."
    assert body["question"] == "More"
    assert body["history"][1:] == [{"role": "user", "content": "Hi"}]


def test_a_system_message_at_the_end_is_not_the_question():
    body = payload([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}])

    assert body["question"] == "Hi"
    assert body["system"] == "Be brief."


def test_an_empty_system_message_gives_the_canned_one():
    body = payload([{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}])

    assert body["system"] == (
        "You are helpful assistant. Follow the user's instructions carefully."
    )


def test_messages_without_a_question_are_refused_before_anything_is_sent(server):
    with pytest.raises(ValueError, match="question"):
        client("flowgpt").chat({"role": "system", "content": "Be brief."})

    assert len(server.calls) == 0


def test_each_request_has_its_own_well_formed_nonce_device_and_signature():
    requests = [FlowGpt().prepare(query(), Fetches()) for _ in range(20)]

    for request in requests:
        headers = request.headers
        signed = f"{headers['x-timestamp']}-{headers['x-nonce']}-{headers['Authorization']}"
        assert headers["x-signature"] == hashlib.md5(signed.encode()).hexdigest()
        assert re.fullmatch("f-[a-z0-9]{19}", headers["x-flow-device-id"])
        assert re.fullmatch("[0-9a-f]{32}", headers["x-nonce"])
        assert abs(int(headers["x-timestamp"]) - time.time()) < 60
    assert len({request.headers["x-nonce"] for request in requests}) == 20
    assert len({request.headers["x-flow-device-id"] for request in requests}) == 20


def test_a_retry_is_signed_anew(server):
    server.post(URL, status=503)
    server.post(URL, body=STREAM)

    reply = client("flowgpt", max_retries=RetryPolicy(1, initial=0)).chat("Hi")

    nonces = {call.request.headers["x-nonce"] for call in server.calls}
    assert reply.text == "Según"
    assert len(nonces) == 2


def test_a_key_is_sent_and_signed():
    headers = FlowGpt(api_key="secret").prepare(query(), Fetches()).headers

    signed = f"{headers['x-timestamp']}-{headers['x-nonce']}-Bearer secret"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["x-signature"] == hashlib.md5(signed.encode()).hexdigest()


@pytest.mark.parametrize("where", ["headers", "extra_headers"])
def test_the_signature_is_of_the_authorization_that_is_sent(where):
    own = {"authorization": "Bearer mine"}
    provider = FlowGpt(headers=own) if where == "headers" else FlowGpt()
    details = {"extra_headers": own} if where == "extra_headers" else {}

    sent = provider.prepare(query(**details), Fetches()).headers

    headers = {name.lower(): value for name, value in sent.items()}
    signed = f"{headers['x-timestamp']}-{headers['x-nonce']}-Bearer mine"
    assert headers["authorization"] == "Bearer mine"
    assert headers["x-signature"] == hashlib.md5(signed.encode()).hexdigest()


@pytest.mark.parametrize("asked, sent", [
    (None, "gpt-3.5-turbo"),
    ("gemini", "google-gemini"),
    ("gemini-pro", "google-gemini"),
    ("google-gemini", "google-gemini"),
    ("claude-v2", "claude-v2"),
    ("not-listed", "not-listed"),
])
def test_the_model_is_resolved_and_stands_in_the_prompt_id(asked, sent):
    body = payload(model=asked)

    assert body["model"] == sent
    assert body["promptId"] == f"model-{sent}"


def test_a_target_can_name_the_model(server):
    server.post(URL, body=STREAM)

    client("flowgpt:gemini").chat("Hi")

    assert json.loads(body_sent(server.calls[0]))["model"] == "google-gemini"


@pytest.mark.parametrize("value", [0, 0.0, 0.3, 1, 2])
def test_the_temperature_is_sent_as_given(value):
    assert payload(temperature=value)["temperature"] == value


def test_every_parameter_that_is_listed_changes_the_request():
    examples = {"temperature": 0.1}

    assert set(FlowGpt.parameters) == set(examples)
    for name, value in examples.items():
        assert payload(**{name: value}) != payload()


@pytest.mark.parametrize("name, value", [
    ("max_tokens", 5), ("top_p", 0.5), ("stop", ["x"]), ("seed", 1), ("tools", [
        {"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "auto"), ("response_format", {"type": "json_object"}),
    ("reasoning_effort", "low"),
])
def test_other_parameters_are_refused_with_those_that_are_honoured(server, name, value):
    with pytest.raises(UnsupportedError, match=f"honour {name}; it honours: temperature"):
        client("flowgpt").chat("Hi", **{name: value})

    assert len(server.calls) == 0


def test_other_parameters_can_be_left_out_with_a_warning(server, fixed, caplog):
    server.post(URL, body=STREAM)

    with caplog.at_level(logging.WARNING, "chatsdk"):
        client("flowgpt", drop_unsupported=True).chat("Привет 🙂", max_tokens=5)

    assert body_sent(server.calls[0]).decode() == PLAIN
    assert "flowgpt cannot honour max_tokens: left out" in caplog.text


def test_tools_in_the_history_are_refused(server):
    with pytest.raises(UnsupportedError, match="tool"):
        client("flowgpt").chat([{"role": "tool", "name": "f", "content": "{}"}])

    assert len(server.calls) == 0


def test_extra_members_are_merged_last(server):
    server.post(URL, body=STREAM)

    client("flowgpt").chat("Hi", extra_body={"nsfw": True, "further": {"x": [1]}})

    body = json.loads(body_sent(server.calls[0]))
    assert body["nsfw"] is True
    assert body["further"] == {"x": [1]}
    assert body["question"] == "Hi"


def test_headers_of_the_provider_and_of_the_call_come_over_those_of_the_protocol(server):
    server.post(URL, body=STREAM)
    asking = client("flowgpt", headers={"referer": "https://a.example/", "X-A": "1", "X-B": "1"})

    asking.chat("Hi", extra_headers={"x-b": "2"})

    headers = server.calls[0].request.headers
    assert (headers["Referer"], headers["X-A"], headers["X-B"]) == ("https://a.example/", "1", "2")
    assert headers["Origin"] == "https://flowgpt.com"


def test_cookies_are_sent(server):
    server.post(URL, body=STREAM)

    client("flowgpt", cookies={"cf_clearance": "abc"}).chat("Hi")

    assert server.calls[0].request.headers["Cookie"] == "cf_clearance=abc"


def test_another_base_url_moves_origin_and_referer_with_it():
    request = FlowGpt(base_url="http://localhost:8080/flow/").prepare(query(), Fetches())

    assert request.url == "http://localhost:8080/flow/v3/chat-anonymous"
    assert request.headers["Origin"] == "http://localhost:8080"
    assert request.headers["Referer"] == "http://localhost:8080/"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client("flowgpt", api_key=key)

    assert not key or key not in str(caught.value)


def test_the_models_are_those_known():
    found = client("flowgpt").models()

    assert [model.id for model in found] == [
        "gpt-3.5-turbo", "gpt-3.5-long", "gpt-4-turbo", "google-gemini", "claude-instant",
        "claude-v1", "claude-v2", "llama2-13b", "mythalion-13b", "pygmalion-13b",
        "chronos-hermes-13b", "Mixtral-8x7B", "Dolphin-2.6-8x7B",
    ]
    assert {model.provider for model in found} == {"flowgpt"}


def test_nothing_is_trusted_beside_the_common_roots():
    assert FlowGpt().prepare(query(), Fetches()).trust is None


# What is read


@pytest.mark.parametrize("event, delta", [
    ({"event": "text", "data": "Seg"}, Delta("Seg", raw={"event": "text", "data": "Seg"})),
    ({"event": "text", "data": " "}, Delta(" ", raw={"event": "text", "data": " "})),
    ({"event": "text", "data": "%20+"}, Delta("%20+", raw={"event": "text", "data": "%20+"})),
    ({"event": "text", "data": ""}, None),
    ({"event": "text", "data": None}, None),
    ({"event": "metadata", "data": {}}, None),
    ({"event": "metadata", "data": "no text"}, None),
    ({"event": "metadata", "message": "no failure"}, None),
    ({"data": "no event"}, None),
    ({}, None),
])
def test_an_event_is_one_step_or_none(event, delta):
    assert FlowGpt().decode(event) == delta


@pytest.mark.parametrize("event", [
    {"event": "text"},
    {"event": "text", "data": 7},
    {"event": "text", "data": True},
    {"event": "text", "data": ["x"]},
    {"event": "text", "data": {"x": 1}},
])
def test_a_text_event_without_text_is_an_error_of_the_protocol(event):
    with pytest.raises(ProtocolError, match="text"):
        FlowGpt().decode(event)


@pytest.mark.parametrize("event, words", [
    ({"event": "error", "data": "too long"}, "too long"),
    ({"event": "error", "data": None}, "no reason"),
    ({"event": "error"}, "no reason"),
    ({"statusCode": 429, "message": "slow down"}, "slow down"),
    ({"statusCode": 500}, "no reason"),
    ({"message": "Unauthorized"}, "Unauthorized"),
    ({"error": "out of order"}, "out of order"),
    ({"error": {"message": "out of order"}}, "out of order"),
])
def test_a_line_that_reports_a_failure_is_an_error_of_the_service(event, words):
    with pytest.raises(ProviderError, match=words):
        FlowGpt().decode(event)


@pytest.mark.parametrize("status, retryable", [(429, True), (503, True), (401, False)])
def test_a_failure_may_be_retried_by_its_status(status, retryable):
    with pytest.raises(ProviderError) as caught:
        FlowGpt().decode({"statusCode": status, "message": "no"})

    assert caught.value.retryable is retryable


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(FlowGpt(), [
        {"event": "text", "data": "x"},
        {"event": "error", "data": "x"},
        {"statusCode": 429, "message": "x", "error": "x"},
    ])


def test_the_recorded_answer_is_read():
    assert [delta.text for delta in read(FlowGpt(), STREAM)] == ["Seg", "ún"]


def test_steps_do_not_depend_on_where_the_body_is_cut():
    whole = read(FlowGpt(), STREAM)

    for chunks in cut_everywhere(STREAM):
        assert read(FlowGpt(), *chunks) == whole


@pytest.mark.parametrize("body", [
    with_crlf(STREAM),
    BOM + STREAM,
    STREAM.rstrip(b"\n"),
    b"\n \n\t\r\n" + STREAM,
    STREAM.replace(b'{"event"', b'data: {"event"'),
    STREAM.replace(b'{"event"', b'data:{"event"'),
    STREAM.replace(b"\n\n", b"\n"),
    STREAM + b'{"event":"metadata","data":{}}\n',
], ids=["crlf", "bom", "no end", "blank", "sse", "sse without blank", "dense", "unknown event"])
def test_variants_of_the_lines_give_the_same_steps(body):
    whole = read(FlowGpt(), STREAM)

    assert read(FlowGpt(), body) == whole
    assert read(FlowGpt(), *single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read(FlowGpt(), *chunks) == whole


def test_a_body_that_ends_anywhere_gives_all_whole_lines_and_an_error_within_one():
    whole_at = whole_frames(STREAM, lambda frame: frame["data"])

    taken_for_whole = check_every_end(FlowGpt(), STREAM, complete_from=None, whole_at=whole_at)

    first, second = STREAM.index(b"}") + 1, STREAM.rindex(b"}") + 1
    length = len(STREAM)
    assert taken_for_whole == [first, first + 1, first + 2, *range(second, length + 1)]


def test_a_body_without_text_is_refused():
    for body in (b"", b"\n", b'{"event":"metadata","data":{}}\n', b'{"event":"text","data":""}\n'):
        with pytest.raises(ProtocolError, match="empty"):
            read(FlowGpt(), body)


@pytest.mark.parametrize("line", [b"<html>", b"null", b'"x"', b"7", b"[]", b"{]", b"\xff\xfe"])
def test_a_line_that_is_no_object_is_an_error_with_the_text_before_it(line):
    steps, error = outcome(FlowGpt(), STREAM + line + b"\n")

    assert text_of(steps) == "Según"
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError):
        read(FlowGpt(), line + b"\n" + STREAM)


def test_an_error_after_text_carries_the_text(server):
    server.post(URL, body=STREAM + b'{"event":"error","data":"out of order"}\n')

    with pytest.raises(ProviderError, match="out of order") as caught:
        client("flowgpt").chat("Hi")

    assert caught.value.partial.text == "Según"
    assert caught.value.provider == "flowgpt"


def test_a_cut_line_carries_the_text_before_it(server):
    server.post(URL, body=STREAM[:-8])

    with pytest.raises(StreamInterruptedError) as caught:
        client("flowgpt").chat("Hi")

    assert caught.value.partial.text == "Seg"


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"})

    assert client("flowgpt").chat("Hi").text == "Según"


def test_the_reply_tells_what_the_service_tells_and_no_more(server):
    server.post(URL, body=STREAM)

    reply = client("flowgpt:gemini").chat("Hi")

    assert (reply.text, reply.provider, reply.model) == ("Según", "flowgpt", "google-gemini")
    assert (reply.finish_reason, reply.usage, reply.id) == (None, None, None)
    assert reply.raw == {"event": "text", "data": "ún"}


def test_a_rate_limit_is_told(server):
    server.post(URL, status=429, json={"statusCode": 429, "message": "Too Many Requests!"})

    with pytest.raises(RateLimitError, match="Too Many Requests!"):
        client("flowgpt").chat("Hi")


def test_a_browser_check_is_called_so(server):
    server.post(URL, status=403, body=recorded("cloudflare.html"), content_type="text/html")

    with pytest.raises(Exception, match="browser check of Cloudflare") as caught:
        client("flowgpt").chat("Hi")

    assert caught.value.status_code == 403


def test_the_real_service_is_said_to_be_gone(caplog):
    with caplog.at_level(logging.WARNING, "chatsdk"):
        client("flowgpt")
        client("flowgpt", base_url="http://localhost:1")

    assert caplog.text.count("closed to clients without an account") == 1


def test_a_redirect_is_not_followed(server):
    server.post(URL, status=307, headers={"Location": "https://elsewhere.example/x?y=1"})

    with pytest.raises(RedirectError, match="elsewhere.example/x") as caught:
        client("flowgpt").chat("Hi")

    assert caught.value.location == "https://elsewhere.example/x?y=1"
    assert len(server.calls) == 1


@pytest.mark.parametrize("line", [b"<html></html>", b"Internal Error", b"null", b'"x"', b"7"])
def test_a_last_line_that_no_object_begins_with_is_malformed_and_not_cut(line):
    for body in (line, STREAM + line):
        assert type(outcome(FlowGpt(), body)[1]) is ProtocolError


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(FlowGpt(), STREAM)


# Over a real connection


def test_a_whole_conversation():
    requests = check_conversation("flowgpt")

    assert [(r.method, r.path) for r in requests] == [("POST", "/v3/chat-anonymous")] * 2
    assert len({r.headers["x-nonce"] for r in requests}) == 2
    assert requests[1].members["system"] == "Be kind."
    assert [m["role"] for m in requests[1].members["history"]] == ["assistant", "user", "assistant"]
    assert not any("cookie" in r.headers for r in requests)


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("flowgpt", scenario)


def test_a_tidy_early_end_cannot_be_told_from_a_whole_answer():
    with Simulator(reply=REPLY, scenario={"flowgpt": "tidy-cut"}) as sim:
        with client("flowgpt", **sim.fields("flowgpt")) as asking:
            reply = asking.chat("Hi")

    assert REPLY.startswith(reply.text)
    assert "Привет" in reply.text and reply.text != REPLY


@pytest.mark.parametrize("scenario", ["cut", "cut-clean", "cut-frames", "reset", "cut-first"])
def test_a_cut_that_shows_is_an_interruption(scenario):
    assert isinstance(broken("flowgpt", scenario), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("empty", ProtocolError), ("no-text", ProtocolError), ("error-first", ProviderError),
    ("error-after-text", ProviderError), ("malformed-first", ProtocolError),
    ("malformed-middle", ProtocolError), ("unauthorized", AuthenticationError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("flowgpt", scenario)) is kind
