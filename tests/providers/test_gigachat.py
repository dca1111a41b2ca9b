"""GigaChat: a token first, then a chat in server-sent events or one document."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import ssl
import time
import uuid

import pytest
import responses

from chatsdk import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ChatError,
    Client,
    ConfigurationError,
    Delta,
    Embeddings,
    MemoryTokenStore,
    Message,
    MissingCredentialsError,
    Model,
    NotFoundError,
    ProtocolError,
    ProviderError,
    ServerError,
    StreamInterruptedError,
    Timeout,
    ToolCall,
    ToolCallPart,
    UnsupportedError,
    Usage,
)
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gigachat import DONE, GigaChat, russian_root
from chatsdk.results import EmbeddingQuery
from chatsdk.schemas import response_format
from chatsdk.simulator import Simulator

from .helpers import (
    Answer,
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

AUTH_URL = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
BASE = "https://gigachat.devices.sberbank.ru/api/v1"
URL = f"{BASE}/chat/completions"
KEY = "bXktaWQ6bXktc2VjcmV0"
STREAM = recorded("gigachat_stream.sse")
OLD_STREAM = recorded("gigachat_stream_2023.sse")
FUNCTION_STREAM = recorded("gigachat_stream_function.sse")
ANSWER = recorded("gigachat_answer.json")
PRETTY = recorded("gigachat_answer_pretty.json")
VECTORS = recorded("gigachat_embeddings.json")
COUNTS = recorded("gigachat_tokens.json")
TEXT = "$1\\, 2\\, 3$  \n\n**Подробный разбор:**\n- Начинаем счёт с единицы."
STATE = "77d3fb14-457a-46ba-937e-8d856156d003"
FINGERPRINT = (
    "D2:6D:2D:02:31:B7:C3:9F:92:CC:73:85:12:BA:54:10:"
    "35:19:E4:40:5D:68:B5:BD:70:3E:97:88:CA:8E:CF:31"
)
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
EVENTS = {"content_type": "text/event-stream"}
AS_JSON = {"content_type": "application/json; charset=utf-8"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Погода",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


def token_answer(value="tok-1", life=1800.0):
    """Return the body of a token answer."""
    return json.dumps({"access_token": value, "expires_at": int((time.time() + life) * 1000)})


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer token requests, and questions with a stream."""
    server.post(AUTH_URL, body=token_answer(), content_type="application/json")
    server.post(URL, body=STREAM, **EVENTS)
    return server


def gigachat(**options):
    return client("gigachat", **{"api_key": KEY, **options})


def provider(**fields):
    return GigaChat(**{"api_key": KEY, **fields})


def prepared(messages="Hi", fields=None, **details):
    """Return the request for an answer, and check that no other was made before it."""
    fetch = Fetches()
    request = provider(**fields or {}).prepare(query(messages, **details), fetch)
    assert fetch.requests == []
    return request


def payload(messages="Hi", **details):
    return prepared(messages, **details).json


def messages(given):
    return payload(given)["messages"]


# The token


def test_the_token_request_is_byte_for_byte_that_of_the_protocol(service):
    gigachat().chat("Hi")

    call = service.calls[0]
    headers = headers_sent(call)
    assert (call.request.method, call.request.url) == ("POST", AUTH_URL)
    assert body_sent(call) == b"scope=GIGACHAT_API_PERS"
    assert re.fullmatch(UUID, headers.pop("RqUID"))
    assert headers == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": f"Basic {KEY}",
        "Connection": "keep-alive",
        "Content-Length": "23",
        "Content-Type": "application/x-www-form-urlencoded",
    }


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
@pytest.mark.parametrize("scope", ["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"])
def test_scheme_and_scope_are_the_users_to_change(service, scheme, scope):
    gigachat(auth_scheme=scheme, scope=scope).chat("Hi")

    call = service.calls[0]
    assert call.request.headers["Authorization"] == f"{scheme} {KEY}"
    assert body_sent(call).decode() == f"scope={scope}"


def test_any_other_scheme_is_refused():
    with pytest.raises(ValueError, match="auth_scheme"):
        GigaChat(api_key=KEY, auth_scheme="Digest")


def test_a_token_serves_many_chats(service):
    asking = gigachat()

    for _ in range(3):
        asking.chat("Hi")

    urls = [call.request.url for call in service.calls]
    assert urls == [AUTH_URL, URL, URL, URL]
    assert {call.request.headers["Authorization"] for call in list(service.calls)[1:]} == {
        "Bearer tok-1"
    }


def test_each_token_request_has_a_fresh_id():
    ask = GigaChat(api_key=KEY).prepare(query(), Fetches()).grant.ask

    ids = {ask().headers["RqUID"] for _ in range(20)}

    assert len(ids) == 20
    assert all(str(uuid.UUID(id)) == id for id in ids)


def test_no_credential_is_part_of_the_name_under_which_a_token_is_kept():
    name = prepared().grant.name

    assert KEY not in name
    assert re.fullmatch("[0-9a-f]{64}", name)


@pytest.mark.parametrize("fields", [
    {"api_key": "b3RoZXI6a2V5"},
    {"scope": "GIGACHAT_API_CORP"},
    {"auth_url": "https://localhost:1/oauth"},
])
def test_tokens_of_different_keys_scopes_and_issuers_never_mix(fields):
    assert prepared(fields=fields).grant.name != prepared().grant.name


def test_the_base_url_and_the_model_do_not_ask_for_another_token():
    fields = {"base_url": "https://localhost:1", "model": "GigaChat-2"}

    assert prepared(fields=fields).grant.name == prepared().grant.name


def token_of(body, margin=60.0, headers=None, asked_at=None):
    """Return the token that is read of an answer."""
    grant = prepared(fields={"margin": margin}).grant
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return grant.read(body, headers or {}, time.time() if asked_at is None else asked_at)


@pytest.mark.parametrize("names", [("access_token", "expires_at"), ("tok", "exp")])
@pytest.mark.parametrize("unit", [1, 1000])
def test_an_expiry_is_read_in_s_and_in_ms_and_under_both_names(names, unit):
    value, expiry = names
    ends = int(time.time()) + 1800

    token = token_of({value: "abc", expiry: ends * unit})

    assert token.value == "abc"
    assert token.expires_at == pytest.approx(ends, abs=2)
    assert "abc" not in repr(token)


def test_the_clock_of_the_issuer_mends_ours():
    ours = time.time()
    theirs = 1_700_000_000
    headers = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}

    token = token_of({"access_token": "abc", "expires_at": (theirs + 1800) * 1000},
                     headers=headers, asked_at=ours)

    assert token.expires_at == pytest.approx(ours + 1800, abs=2)


@pytest.mark.parametrize("expiry", [None, "soon", True, [], {}, "NaN"])
def test_an_expiry_that_is_none_is_no_error(expiry):
    assert token_of({"access_token": "abc", "expires_at": expiry}).value == "abc"


def test_the_other_form_counts_where_a_member_is_null():
    ends = int(time.time()) + 1800

    token = token_of({"access_token": None, "expires_at": None, "tok": "abc", "exp": ends})

    assert (token.value, token.expires_at) == ("abc", pytest.approx(ends, abs=2))


@pytest.mark.parametrize("body", [
    b"", b"<html>", b"null", b"[]", b"7", b'"abc"', b"{}", b'{"access_token":null}',
    b'{"access_token":""}', b'{"access_token":7}', b'{"access_token":["abc"]}',
    b'{"access_token":"q9 z8"}', b'{"access_token":"q9z8\\r\\nX-A: b"}',
    b'{"access_token":"q9\\u0000z8"}', '{"access_token":"q9z8ключ"}'.encode(),
    b'{"access_token":"q9z8', b'{"access_token":"q9z8","expires_at":}',
    b'{"access_token":"q9\xffz8"}',
])
def test_an_answer_without_a_token_is_an_error_of_the_protocol_that_shows_none(body):
    with pytest.raises(ProtocolError) as caught:
        token_of(body)

    told = f"{caught.value} {caught.value!r} {caught.value.excerpt}"
    assert not re.search("q9.?.?z8", told)


@pytest.mark.parametrize("status, code, message", [
    (400, 1, "scope data format invalid"),
    (400, 4, "Can't decode 'Authorization' header"),
    (400, 5, "scope is empty"),
    (400, 7, "scope from db not fully includes consumed scope"),
])
def test_a_refused_token_request_is_told_in_its_words_and_not_repeated(
    server, status, code, message
):
    server.post(AUTH_URL, status=status, json={"code": code, "message": message})

    with pytest.raises(BadRequestError, match=re.escape(message)):
        gigachat(max_retries=2).chat("Hi")

    assert len(server.calls) == 1


def test_an_unknown_key_is_told_with_where_it_is_set_and_not_repeated(server):
    server.post(AUTH_URL, status=401, body=recorded("gigachat_token_refused.json"))

    with pytest.raises(AuthenticationError, match="GIGACHAT_CREDENTIALS") as caught:
        gigachat(max_retries=2).chat("Hi")

    assert "credentials doesn't match db data" in str(caught.value)
    assert caught.value.status_code == 401
    assert KEY not in str(caught.value)
    assert len(server.calls) == 1


def test_a_refused_token_is_renewed_once_and_the_question_repeated(server):
    server.post(AUTH_URL, body=token_answer("tok-1"))
    server.post(AUTH_URL, body=token_answer("tok-2"))
    server.post(URL, status=401, json={"status": 401, "message": "Unauthorized"})
    server.post(URL, body=STREAM, **EVENTS)

    reply = gigachat().chat("Hi")

    sent = [call.request.headers["Authorization"] for call in server.calls]
    assert reply.text == TEXT
    assert sent == [f"Basic {KEY}", "Bearer tok-1", f"Basic {KEY}", "Bearer tok-2"]


def test_a_second_refusal_is_final(server):
    server.post(AUTH_URL, body=token_answer("tok-1"))
    server.post(AUTH_URL, body=token_answer("tok-2"))
    server.post(URL, status=401, json={"status": 401, "message": "Unauthorized"})

    with pytest.raises(AuthenticationError):
        gigachat(max_retries=2).chat("Hi")

    assert len(server.calls) == 4


def test_a_token_of_the_users_own_is_used_as_it_is(server):
    server.post(URL, body=STREAM, **EVENTS)

    client("gigachat", access_token="mine").chat("Hi")

    call, = server.calls
    assert call.request.headers["Authorization"] == "Bearer mine"


def test_a_token_of_the_users_own_that_is_refused_is_an_error_at_once(server):
    server.post(URL, status=401, json={"status": 401, "message": "Unauthorized"})

    with pytest.raises(AuthenticationError, match="Unauthorized"):
        client("gigachat", access_token="mine").chat("Hi")

    assert len(server.calls) == 1


# Settings


def test_a_missing_key_is_told_with_the_argument_and_the_variable():
    with pytest.raises(MissingCredentialsError) as caught:
        Client("gigachat")

    assert "api_key=" in str(caught.value)
    assert "GIGACHAT_CREDENTIALS" in str(caught.value)
    assert caught.value.provider == "gigachat"


def test_the_environment_gives_what_the_services_own_tools_read(monkeypatch):
    variables = {
        "GIGACHAT_CREDENTIALS": ("api_key", "a2V5"),
        "GIGACHAT_SCOPE": ("scope", "GIGACHAT_API_B2B"),
        "GIGACHAT_ACCESS_TOKEN": ("access_token", "mine"),
        "GIGACHAT_BASE_URL": ("base_url", "https://localhost:1/api"),
        "GIGACHAT_AUTH_URL": ("auth_url", "https://localhost:2/oauth"),
        "GIGACHAT_MODEL": ("model", "GigaChat-2-Max"),
        "GIGACHAT_CA_BUNDLE_FILE": ("ca_bundle_file", "/ca.pem"),
    }
    for name, (_, value) in variables.items():
        monkeypatch.setenv(name, value)

    found = GigaChat()

    for field, value in variables.values():
        assert getattr(found, field) == value


def test_an_argument_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "ZW52")
    monkeypatch.setenv("GIGACHAT_SCOPE", "GIGACHAT_API_B2B")

    found = GigaChat(api_key=KEY, scope="GIGACHAT_API_CORP")

    assert (found.api_key, found.scope) == (KEY, "GIGACHAT_API_CORP")


@pytest.mark.parametrize("field", ["api_key", "access_token"])
@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(field, key):
    with pytest.raises(ConfigurationError, match=field) as caught:
        client("gigachat", **{field: key})

    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("key", [k for k in BAD_KEYS if k and "\0" not in k])
def test_such_a_key_is_refused_in_the_environment_too(monkeypatch, key):
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", key)

    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client("gigachat")

    assert key not in str(caught.value)


def test_no_repr_holds_a_credential():
    fields = {"api_key": KEY, "access_token": "mine", "headers": {"X-A": "secret"}}
    found = GigaChat(**fields)

    shown = repr(found) + repr(found.prepare(query(), Fetches())) + repr(prepared())

    assert not any(word in shown for word in (KEY, "mine", "secret"))


@pytest.mark.parametrize("field", ["base_url", "auth_url"])
@pytest.mark.parametrize("address", [
    "", "localhost", "ftp://localhost", "https://", "https:///path", "https://me:word@localhost",
    "https://localhost?x=1", "https://localhost#x", "https://local host", "https://localhost\n",
    "https://localhost:99999", "https://localhost:0", "https://[::1",
])
def test_an_address_that_is_none_is_refused(field, address):
    with pytest.raises(ConfigurationError, match=field) as caught:
        client("gigachat", api_key=KEY, **{field: address})

    assert "word" not in str(caught.value)


def test_both_addresses_can_be_changed(server):
    server.post("http://localhost:8080/oauth", body=token_answer())
    server.post("http://localhost:8080/api/v1/chat/completions", body=STREAM, **EVENTS)

    reply = gigachat(
        base_url="http://localhost:8080/api/v1/", auth_url="http://localhost:8080/oauth"
    ).chat("Hi")

    assert reply.text == TEXT


# What is trusted


def test_the_root_is_the_right_one():
    der = ssl.PEM_cert_to_DER_cert(russian_root())

    digest = hashlib.sha256(der).hexdigest().upper()
    assert ":".join(digest[n:n + 2] for n in range(0, 64, 2)) == FINGERPRINT


def test_the_root_can_be_loaded_as_a_certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    context.load_verify_locations(cadata=russian_root())

    root, = context.get_ca_certs()
    assert dict(pair for part in root["subject"] for pair in part)["commonName"] == (
        "Russian Trusted Root CA"
    )
    assert root["notAfter"] == "Feb 27 21:04:15 2032 GMT"


@pytest.mark.parametrize("address, trusted", [
    ("https://gigachat.devices.sberbank.ru/api/v1", True),
    ("https://GIGACHAT.DEVICES.SBERBANK.RU/api/v1", True),
    ("https://gigachat-preview.devices.sberbank.ru:8443", True),
    ("https://gigachat.devices.sberbank.ru.example.org/api/v1", False),
    ("https://notsberbank.ru", False),
    ("https://example.org/gigachat.devices.sberbank.ru", False),
    ("https://localhost/.sberbank.ru", False),
    ("https://api.giga.chat/v1", False),
    ("https://127.0.0.1", False),
])
def test_the_root_is_trusted_for_the_banks_hosts_only(address, trusted):
    expected = russian_root() if trusted else None

    assert prepared(fields={"base_url": address}).trust == expected
    assert prepared(fields={"auth_url": address}).grant.ask().trust == expected


def test_each_address_is_judged_alone():
    request = prepared(fields={"base_url": "https://localhost"})

    assert request.trust is None
    assert request.grant.ask().trust == russian_root()


def test_the_list_of_models_is_got_under_the_same_trust():
    fetch = Fetches(recorded("gigachat_models.json"))

    provider().list_models(fetch)

    assert fetch.requests[0].trust == russian_root()
    assert fetch.requests[0].verify is None


def test_no_other_service_trusts_the_root_even_on_the_banks_hosts():
    request = FlowGpt(base_url="https://flow.sberbank.ru").prepare(query(), Fetches())

    assert request.trust is None


def test_a_ca_file_of_the_users_own_is_for_both_hosts(monkeypatch):
    monkeypatch.setenv("GIGACHAT_CA_BUNDLE_FILE", "/ca.pem")

    request = prepared()

    assert request.verify == "/ca.pem"
    assert request.grant.ask().verify == "/ca.pem"


def test_a_ca_file_that_cannot_be_read_is_an_error_of_the_configuration(tmp_path):
    with pytest.raises(ConfigurationError):
        gigachat(ca_bundle_file=str(tmp_path / "none.pem"), timeout=1).chat("Hi")


# What is asked

PLAIN = (
    '{"model":"GigaChat","messages":[{"role":"user","content":"Привет 🙂"}],"stream":true}'
)


def test_the_request_is_byte_for_byte_that_of_the_protocol(service):
    gigachat().chat("Привет 🙂")

    call = service.calls[1]
    assert (call.request.method, call.request.url) == ("POST", URL)
    assert body_sent(call).decode() == PLAIN
    assert headers_sent(call) == {
        "Accept": "text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": "Bearer tok-1",
        "Connection": "keep-alive",
        "Content-Length": str(len(PLAIN.encode())),
        "Content-Type": "application/json",
    }


def test_an_answer_in_one_piece_is_asked_for_so(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=ANSWER, **AS_JSON)

    reply = gigachat().chat("Привет 🙂", stream=False)

    call = server.calls[1]
    assert reply.text == "Hello."
    assert body_sent(call).decode() == PLAIN.replace("true", "false")
    assert call.request.headers["Accept"] == "application/json"


def test_a_conversation_is_byte_for_byte_that_of_the_protocol(service):
    gigachat().chat(HISTORY, system="Be brief.", temperature=0.5, max_tokens=7)

    assert body_sent(service.calls[1]).decode() == (
        '{"model":"GigaChat","messages":[{"role":"system","content":"Be brief."},'
        '{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello!"},'
        '{"role":"user","content":"More"}],"stream":true,"temperature":0.5,"max_tokens":7}'
    )


def test_system_messages_become_one_and_the_first():
    assert messages(SYSTEM_TWICE) == [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "More"},
    ]


@pytest.mark.parametrize("asked, sent", [
    (None, "GigaChat"),
    ("gigachat", "GigaChat"),
    ("GigaChat:latest", "GigaChat:latest"),
    ("GigaChat-2-Max", "GigaChat-2-Max"),
    ("not-listed", "not-listed"),
])
def test_the_model_is_sent_as_named_but_for_its_alias(asked, sent):
    assert payload(model=asked)["model"] == sent


@pytest.mark.parametrize("target, sent", [
    ("gigachat", "GigaChat"),
    ("gigachat:GigaChat-Pro", "GigaChat-Pro"),
    ("gigachat:GigaChat:latest", "GigaChat:latest"),
])
def test_a_target_can_name_the_model_after_the_first_colon(service, target, sent):
    client(target, api_key=KEY).chat("Hi")

    assert json.loads(body_sent(service.calls[1]))["model"] == sent


EXAMPLES = {
    "temperature": (0.5, {"temperature": 0.5}, {}),
    "top_p": (0.5, {"top_p": 0.5}, {}),
    "max_tokens": (5, {"max_tokens": 5}, {}),
    "tools": ([WEATHER], {"functions": [WEATHER["function"]]}, {}),
    "tool_choice": ("auto", {"function_call": "auto"}, {}),
    "response_format": (
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        {"response_format": {"type": "json_schema", "schema": {"type": "object"}, "strict": True}},
        {},
    ),
    "reasoning_effort": ("high", {"reasoning_effort": "high"}, {}),
    "repetition_penalty": (1.5, {"repetition_penalty": 1.5}, {}),
    "update_interval": (0, {"update_interval": 0}, {}),
    "profanity_check": (False, {"profanity_check": False}, {}),
    "request_id": ("r1", {}, {"X-Request-ID": "r1"}),
    "session_id": ("s1", {}, {"X-Session-ID": "s1"}),
    "client_id": ("c1", {}, {"X-Client-ID": "c1"}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(GigaChat.parameters) == set(EXAMPLES)
    assert set(GigaChat.options) < set(GigaChat.parameters)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_that_is_listed_changes_the_request(service, name):
    value, members, headers = EXAMPLES[name]

    gigachat().chat("Привет 🙂", **{name: value})

    call = service.calls[1]
    assert json.loads(body_sent(call)) == {**json.loads(PLAIN), **members}
    plain = prepared().headers
    own = {key: call.request.headers[key] for key in headers}
    assert own == headers and not set(plain) & set(headers)


@pytest.mark.parametrize("given, sent", [(0, 0.001), (0.0005, 0.001), (0.001, 0.001), (2, 2)])
def test_a_temperature_that_is_refused_as_too_low_becomes_the_least(given, sent):
    assert payload(temperature=given)["temperature"] == sent


@pytest.mark.parametrize("name, value", [("stop", ["x"]), ("seed", 7)])
def test_other_parameters_are_refused_with_those_that_are_honoured(service, name, value):
    with pytest.raises(UnsupportedError) as caught:
        gigachat().chat("Hi", **{name: value})

    assert f"honour {name}" in str(caught.value)
    assert all(honoured in str(caught.value) for honoured in GigaChat.parameters)
    assert len(service.calls) == 0


def test_other_parameters_can_be_left_out_with_a_warning(service, caplog):
    with caplog.at_level(logging.WARNING, "chatsdk"):
        gigachat(drop_unsupported=True).chat("Привет 🙂", seed=7, stop="x")

    assert body_sent(service.calls[1]).decode() == PLAIN
    assert "gigachat cannot honour seed: left out" in caplog.text
    assert "gigachat cannot honour stop: left out" in caplog.text


@pytest.mark.parametrize("name, value", [
    ("repetition_penalty", "1"), ("update_interval", True), ("profanity_check", 1),
    ("session_id", 7),
])
def test_an_option_of_the_wrong_type_is_refused_before_anything_is_sent(service, name, value):
    with pytest.raises(TypeError, match=name):
        gigachat().chat("Hi", **{name: value})

    assert len(service.calls) == 0


@pytest.mark.parametrize("value", ["a\r\nX-A: b", "a\0", "ключ", " a"])
def test_an_option_that_no_header_can_hold_is_refused_before_anything_is_sent(service, value):
    with pytest.raises(ValueError, match="session_id"):
        gigachat().chat("Hi", session_id=value)

    assert len(service.calls) == 0


def test_extra_members_are_merged_last_and_level_by_level(service):
    format = {"type": "json_schema", "schema": {"type": "object"}}

    gigachat().chat(
        "Hi",
        response_format=format,
        temperature=0.5,
        extra_body={"response_format": {"strict": False}, "temperature": 1, "flags": ["x"]},
    )

    body = json.loads(body_sent(service.calls[1]))
    assert body["response_format"] == {**format, "strict": False}
    assert (body["temperature"], body["flags"]) == (1, ["x"])


def test_headers_of_the_provider_and_of_the_call_come_over_those_of_the_protocol(service):
    asking = gigachat(headers={"X-A": "1", "X-B": "1", "x-session-id": "own"})

    asking.chat("Hi", session_id="s1", extra_headers={"x-b": "2", "cache-control": "no-store"})

    headers = service.calls[1].request.headers
    assert (headers["X-A"], headers["X-B"]) == ("1", "2")
    assert (headers["X-Session-ID"], headers["Cache-Control"]) == ("own", "no-store")
    assert headers["Authorization"] == "Bearer tok-1"


# Functions


def test_functions_are_sent_in_the_services_own_shape():
    function = {**WEATHER["function"], "strict": True, "few_shot_examples": [{"request": "?"}],
                "return_parameters": {"type": "object"}}

    body = payload(tools=(WEATHER, {"type": "function", "function": function}))

    assert body["functions"] == [
        WEATHER["function"],
        {name: value for name, value in function.items() if name != "strict"},
    ]
    assert "tools" not in body


@pytest.mark.parametrize("choice, sent", [
    ("auto", "auto"),
    ("none", "none"),
    ({"type": "function", "function": {"name": "weather"}}, {"name": "weather"}),
])
def test_the_choice_of_a_function_is_sent_in_the_services_own_shape(choice, sent):
    assert payload(tools=(WEATHER,), tool_choice=choice)["function_call"] == sent


@pytest.mark.parametrize("choice", ["required", "any", 7, [], {"name": "weather"}, {"function": 7}])
def test_a_choice_without_a_form_is_refused_before_anything_is_sent(service, choice):
    with pytest.raises(UnsupportedError, match="tool_choice"):
        gigachat().chat("Hi", tools=[WEATHER], tool_choice=choice)

    assert len(service.calls) == 0


@pytest.mark.parametrize("wanted, strict", [
    ({"type": "json_schema", "schema": {"x": 1}, "strict": False}, False),
    ({"type": "json_schema", "schema": {"x": 1}}, True),
    ({"type": "json_schema", "json_schema": {"schema": {"x": 1}, "strict": False}}, False),
])
def test_the_form_of_the_answer_is_sent_in_the_services_own_shape(wanted, strict):
    found = payload(response_format=response_format(wanted))["response_format"]

    assert found == {"type": "json_schema", "schema": {"x": 1}, "strict": strict}


@pytest.mark.parametrize("wanted", [{"type": "json_object"}, {"type": "text"}])
def test_plain_json_has_no_form_and_is_refused_before_anything_is_sent(service, wanted):
    with pytest.raises(UnsupportedError, match="response_format"):
        gigachat().chat("Hi", response_format=wanted)

    assert len(service.calls) == 0


CALL = ToolCall(None, "weather", {"place": "Москва"}, '{"place": "Москва"}')


def test_a_call_and_its_result_go_back_as_the_service_wants_them():
    asked = Message("assistant", "", tool_calls=(CALL,), state={"functions_state_id": STATE})
    result = Message("tool", '{"degrees": 7}', name="weather")

    assert messages(["Погода?", asked, result]) == [
        {"role": "user", "content": "Погода?"},
        {
            "role": "assistant",
            "content": "",
            "function_call": {"name": "weather", "arguments": {"place": "Москва"}},
            "functions_state_id": STATE,
        },
        {"role": "function", "name": "weather", "content": '{"degrees": 7}'},
    ]


def test_a_call_in_openais_shape_is_one_too():
    asked = {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1]}'}}]}

    sent, = messages(asked)

    assert sent == {
        "role": "assistant", "content": "", "function_call": {"name": "f", "arguments": {"x": [1]}},
    }


@pytest.mark.parametrize("result, sent", [
    ('{"degrees": 7}', '{"degrees": 7}'),
    ("тепло", '{"result": "тепло"}'),
    ("7", '{"result": "7"}'),
    ("[1]", '{"result": "[1]"}'),
    ("", '{"result": ""}'),
])
def test_a_result_is_always_the_text_of_an_object(result, sent):
    message, = messages({"role": "tool", "name": "weather", "content": result})

    assert message["content"] == sent


@pytest.mark.parametrize("message, words", [
    ({"role": "tool", "content": "{}"}, "name"),
    (Message("assistant", tool_calls=(CALL, CALL)), "one function call"),
])
def test_what_has_no_form_in_a_message_is_refused_before_anything_is_sent(service, message, words):
    with pytest.raises(UnsupportedError, match=words):
        gigachat().chat([message])

    assert len(service.calls) == 0


def test_a_reply_with_a_call_can_be_sent_back_as_it_came(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=FUNCTION_STREAM, **EVENTS)
    asking = gigachat()

    reply = asking.chat("Погода?", tools=[WEATHER])
    asking.chat(["Погода?", reply.message, {"role": "tool", "name": "weather", "content": "{}"}])

    sent = json.loads(body_sent(server.calls[2]))["messages"][1]
    assert reply.tool_calls[0].arguments == {"place": "Москва", "days": 2}
    assert (reply.finish_reason, reply.text) == ("tool_calls", "")
    assert sent == {
        "role": "assistant",
        "content": "",
        "function_call": {"name": "weather", "arguments": {"place": "Москва", "days": 2}},
        "functions_state_id": STATE,
    }


# Models


def test_the_models_are_those_that_the_service_lists(server):
    server.post(AUTH_URL, body=token_answer())
    server.get(f"{BASE}/models", body=recorded("gigachat_models.json"), **AS_JSON)

    found = gigachat(headers={"X-A": "1"}).models()

    entries = json.loads(recorded("gigachat_models.json"))["data"]
    headers = server.calls[1].request.headers
    assert found == [
        Model(entry["id"], "gigachat", "salutedevices", entry) for entry in entries
    ]
    assert (headers["Authorization"], headers["X-A"]) == ("Bearer tok-1", "1")
    assert server.calls[1].request.body is None


@pytest.mark.parametrize("answer", [
    b"", b"<html>", b"null", b"[]", b"{}", b'{"data":null}', b'{"data":{}}', b'{"data":["x"]}',
    b'{"data":[{"id":7}]}', b'{"data":[{"id":"x","owned_by":7}]}',
])
def test_an_answer_that_is_no_list_of_models_is_refused(answer):
    with pytest.raises(ProtocolError):
        provider().list_models(Fetches(answer))


# What is read


def event(delta, finish=..., **members):
    """Return a frame of a stream."""
    choice = {"delta": delta, "index": 0}
    if finish is not ...:
        choice["finish_reason"] = finish
    return {"choices": [choice], "model": "GigaChat:2", **members}


USAGE = {
    "prompt_tokens": 17, "completion_tokens": 3, "total_tokens": 20, "precached_prompt_tokens": 2,
}


@pytest.mark.parametrize("frame, delta", [
    (event({"content": "x", "role": "assistant"}), Delta("x")),
    (event({"content": "x"}, None), Delta("x")),
    (event({"content": "x", "further": 1}, further=2), Delta("x")),
    (event({"content": "x"}, "stop"), Delta("x", "stop", final=True)),
    (event({"content": ""}, "stop"), Delta("", "stop", final=True)),
    (event({}, "stop"), Delta("", "stop", final=True)),
    (event({"content": ""}, "length"), Delta("", "length", final=True)),
    (event({"content": ""}, "function_call"), Delta("", "tool_calls", final=True)),
    (event({"content": "No."}, "blacklist"), Delta("No.", "content_filter", final=True)),
    (event({"content": ""}, "new_word"), Delta("", "new_word", final=True)),
    (event({"content": ""}, "stop", usage=USAGE),
     Delta("", "stop", Usage(17, 3, 20, 2), final=True)),
    (event({"content": "x"}, usage={"prompt_tokens": 7, "system_tokens": 1}),
     Delta("x", None, Usage(7))),
    (event({"content": ""}), None),
    (event({"content": None}), None),
    (event({"role": "assistant"}), None),
    (event({}), None),
    (event(None), None),
    ({"choices": [{"index": 0}]}, None),
    (event({"content": "12", "role": "function_in_progress", "name": "text2image"}), None),
    (event({"content": "", "reasoning_content": "hm"}), Delta(reasoning="hm")),
    (event({"content": "", "functions_state_id": STATE}),
     Delta(state={"functions_state_id": STATE})),
    (event({"function_call": {"name": "f", "arguments": {"x": "я"}}}),
     Delta(tool_calls=(ToolCallPart(0, None, "f", '{"x": "я"}'),))),
    (event({"function_call": {"name": "f", "arguments": '{"x": 1}'}}),
     Delta(tool_calls=(ToolCallPart(0, None, "f", '{"x": 1}'),))),
    (event({"function_call": {"name": "f"}}),
     Delta(tool_calls=(ToolCallPart(0, None, "f", "{}"),))),
])
def test_an_event_is_one_step_or_none(frame, delta):
    found = provider().decode(frame)

    if delta is None:
        assert found is None
    else:
        assert found == Delta(
            delta.text, delta.finish_reason, delta.usage, delta.reasoning, delta.tool_calls,
            final=delta.final, model="GigaChat:2", state=delta.state, raw=frame,
        )


def test_an_event_without_choices_tells_usage_or_nothing():
    only_usage = {"choices": [], "usage": USAGE}

    assert provider().decode(only_usage) == Delta(usage=Usage(17, 3, 20, 2), raw=only_usage)
    assert provider().decode({"choices": []}) is None


def test_a_message_is_read_like_a_delta():
    document = json.loads(ANSWER)

    assert provider().decode(document) == Delta(
        "Hello.", "stop", Usage(17, 3, 20, 2), final=True, model="GigaChat:2.0.28.2", raw=document
    )


def test_the_end_mark_is_the_end():
    found = provider()

    assert found.decode(DONE) == Delta(final=True)


@pytest.mark.parametrize("frame, words, retryable", [
    ({"status": 500, "message": "Internal Server Error"}, "Internal Server Error", True),
    ({"status": 429, "message": "Too many requests"}, "Too many requests", True),
    ({"status": 422, "message": "Invalid params"}, "Invalid params", False),
    ({"error": 500}, "500", True),
    ({"error": "broken"}, "broken", False),
    ({"error": {"message": "broken"}}, "broken", False),
    ({"message": "broken"}, "broken", False),
    ({"choices": None, "message": "broken"}, "broken", False),
    (event({"content": ""}, "error"), "invalid arguments", False),
])
def test_an_event_that_reports_a_failure_is_an_error_of_the_service(frame, words, retryable):
    with pytest.raises(ProviderError, match=words) as caught:
        provider().decode(frame)

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("frame", [
    {}, {"object": "chat.completion"}, {"choices": None}, {"choices": "x"}, {"choices": {}},
    {"choices": [None]}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]},
    {"choices": [{"delta": ["x"]}]}, {"choices": [{"message": 7}]}, event({"content": 7}),
    event({"content": ["x"]}), event({"content": {"text": "x"}}), event({"content": True}),
    event({"reasoning_content": 7}), event({"content": "x"}, 7), event({"content": "x"}, ["stop"]),
    event({"function_call": "f"}), event({"function_call": {"name": 7}}),
    event({"functions_state_id": 7}), event({"content": "x"}, model=7), None, 7, "x", [],
])
def test_an_event_of_another_form_is_an_error_of_the_protocol(frame):
    with pytest.raises(ProtocolError):
        provider().decode(frame)


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(provider(), [
        event({"content": "x", "role": "assistant"}, None, created=7),
        event({"content": "", "reasoning_content": "x", "functions_state_id": "x",
               "function_call": {"name": "f", "arguments": {"x": 1}}}, "stop", usage=USAGE),
        json.loads(ANSWER),
        {"status": 500, "message": "x", "error": "x"},
    ])


def events_of(*frames):
    """Return the body of a stream with these frames and the end mark."""
    texts = [json.dumps(frame, ensure_ascii=False) for frame in frames]
    return "".join(f"data: {text}\n\n" for text in [*texts, "[DONE]"]).encode()


def read_events(*chunks):
    return read(provider(), *chunks, Content_Type="text/event-stream")


def read_document(*chunks):
    return read(provider(), *chunks, Content_Type="application/json; charset=utf-8")


def test_the_recorded_answers_are_read():
    assert text_of(read_events(STREAM)) == TEXT
    assert text_of(read_events(OLD_STREAM)) == "Да, конечно."
    assert read_events(FUNCTION_STREAM)[0].tool_calls[0].name == "weather"
    assert text_of(read_document(ANSWER)) == "Hello."
    assert text_of(read_document(PRETTY)) == "Hello."


@pytest.mark.parametrize("body", [STREAM, OLD_STREAM, FUNCTION_STREAM], ids=[
    "stream", "2023", "function"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read_events(body)

    for chunks in cut_everywhere(body):
        assert read_events(*chunks) == whole


VARIANTS = {
    "crlf": with_crlf(STREAM),
    "cr": STREAM.replace(b"\n", b"\r"),
    "bom": BOM + STREAM,
    "no end": STREAM.rstrip(b"\n"),
    "one end": STREAM[:-1],
    "blank first": b"\n\n" + STREAM,
    "without a blank": STREAM.replace(b"data: ", b"data:"),
    "comments": b": ping\n\n" + STREAM.replace(b"\n\n", b"\n\n: ping\n\n"),
    "named events": STREAM.replace(b"data:", b"event: x\nid: 7\nretry: 1\nfurther\ndata:"),
    "empty data": b"data:\n\ndata: \n\n" + STREAM,
    "no blank lines": STREAM.replace(b"\n\n", b"\n"),
    "more after the end": STREAM + b": bye\n\n",
}


@pytest.mark.parametrize("body", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_the_stream_give_the_same_steps(body):
    whole = read_events(STREAM)

    assert read_events(body) == whole
    assert read_events(*single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read_events(*chunks) == whole


def test_an_event_over_many_lines_is_read():
    lines = json.dumps(event({"content": "Привет"}, "stop"), indent=1).splitlines()
    body = b"".join(b"data: " + line.encode() + b"\n" for line in lines) + b"\ndata: [DONE]\n\n"

    for chunks in cut_everywhere(body):
        assert text_of(read_events(*chunks)) == "Привет"


def test_text_is_handed_out_before_the_blank_line_after_it():
    line, rest = STREAM.split(b"\n", 1)
    arrived = []

    def chunks():
        yield line + b"\n"
        arrived.append("rest")
        yield rest

    body = Answer(Content_Type="text/event-stream")
    body.chunks = chunks()
    steps = provider().deltas(query(), body)

    assert next(steps).text.startswith("$1")
    assert arrived == []
    assert text_of(steps) in TEXT


def said(frame):
    return frame["choices"][0]["delta"]["content"]


@pytest.mark.parametrize("body", [
    STREAM, with_crlf(STREAM), OLD_STREAM, FUNCTION_STREAM, STREAM.replace(b"data: ", b"data:"),
], ids=["lf", "crlf", "2023", "function", "without a blank"])
def test_a_body_is_whole_from_its_finish_reason_on_and_interrupted_before(body):
    check_every_end(
        provider(),
        body,
        complete_from=body.rindex(b"}") + 1,
        whole_at=whole_frames(body, said),
        Content_Type="text/event-stream",
    )


@pytest.mark.parametrize("body", [ANSWER, PRETTY.rstrip(), recorded("gigachat_answer_function.json")
                                  ], ids=["compact", "pretty", "function"])
def test_a_document_is_whole_at_its_end_and_interrupted_before(body):
    for end in range(len(body)):
        steps, error = outcome(provider(), body[:end], Content_Type="application/json")

        assert steps == []
        assert isinstance(error, StreamInterruptedError), end
    for chunks in cut_everywhere(body):
        assert read_document(*chunks) == read_document(body)


@pytest.mark.parametrize("document", [ANSWER, PRETTY, with_crlf(PRETTY), BOM + ANSWER,
                                      b" \n" + ANSWER + b"\n\n"], ids=[
    "compact", "pretty", "crlf", "bom", "blanks"])
@pytest.mark.parametrize("kind", [
    "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_document_is_read_whatever_was_asked_for(server, document, kind, stream):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=document, content_type=kind)

    reply = gigachat().chat("Hi", stream=stream)

    assert (reply.text, reply.finish_reason) == ("Hello.", "stop")
    assert reply.usage == Usage(17, 3, 20, 2)


@pytest.mark.parametrize("kind", [
    "text/event-stream", "TEXT/Event-Stream; charset=utf-8", "text/event-stream;charset=latin-1",
])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_is_read_whatever_was_asked_for(server, kind, stream):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=STREAM, content_type=kind)

    reply = gigachat().chat("Hi", stream=stream)

    assert (reply.text, reply.finish_reason) == (TEXT, "stop")


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream"])
def test_an_answer_of_another_type_is_an_error_of_the_protocol(server, kind):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=STREAM, content_type=kind)

    with pytest.raises(ProtocolError, match=re.escape(kind)):
        gigachat().chat("Hi")


@pytest.mark.parametrize("document, error", [
    (b'{"status":500,"message":"Internal Server Error"}', ProviderError),
    (b'{"error":"broken"}', ProviderError),
    (b"{}", ProtocolError), (b"[]", ProtocolError), (b"null", ProtocolError),
    (b"x", ProtocolError), (b'{"choices":[]} {}', ProtocolError), (b'"\xff"', ProtocolError),
    (b"", StreamInterruptedError), (b" \r\n", StreamInterruptedError),
])
def test_a_document_that_is_no_answer_is_refused(document, error):
    with pytest.raises(error):
        read_document(document)


def test_only_the_end_mark_is_an_empty_answer():
    for body in (b"data: [DONE]\n\n", b"data:[DONE]", b"\n: x\ndata: [DONE]\r\n"):
        steps, error = outcome(provider(), body, Content_Type="text/event-stream")

        assert error is None
        assert text_of(steps) == ""


def test_the_end_mark_without_a_finish_reason_completes_the_answer():
    steps = read_events(events_of(event({"content": "x"})))

    assert text_of(steps) == "x"
    assert {step.finish_reason for step in steps} == {None}


def test_a_null_finish_reason_does_not_end_the_answer():
    frames = [event({"content": "a"}, None), event({"content": "b"}, None), event({}, "stop")]

    assert text_of(read_events(events_of(*frames))) == "ab"


def test_neither_a_finish_reason_nor_an_end_mark_is_an_interruption():
    for body in (b"", b"\n", b": ping\n\n", b"data:\n\n", STREAM.split(b"\n\n")[0] + b"\n\n"):
        steps, error = outcome(provider(), body, Content_Type="text/event-stream")

        assert isinstance(error, StreamInterruptedError)


def test_what_comes_after_the_finish_reason_spoils_nothing():
    body = STREAM.replace(b"data: [DONE]\n\n", b"")

    for rest in (b"data: {]\n\n", b'data: {"status":500,"message":"x"}\n\n', b"data: {", b"<html>"):
        steps, error = outcome(provider(), body + rest, Content_Type="text/event-stream")

        assert error is None
        assert text_of(steps) == TEXT


@pytest.mark.parametrize("frame, error", [
    (b'data: {"choices":[{"delta":{"content":\n\n', ProtocolError),
    (b"data: {}\n\n", ProtocolError),
    (b"data: null\n\n", ProtocolError),
    (b"data: x\n\n", ProtocolError),
    (b"data: \xff\n\n", ProtocolError),
    (b'data: {"status":500,"message":"Internal Server Error"}\n\n', ProviderError),
    (b'data: {"error":500}\n\n', ProviderError),
])
def test_a_bad_frame_is_an_error_that_carries_the_text_before_it(server, frame, error):
    first, _, rest = STREAM.partition(b"\n\n")
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=first + b"\n\n" + frame + rest, **EVENTS)

    with pytest.raises(error) as caught:
        gigachat().chat("Hi")

    assert type(caught.value) is error
    assert caught.value.partial.text == "$1\\, 2\\, 3$  \n\n**Подробный разбор:"
    assert caught.value.provider == "gigachat"
    assert len(getattr(caught.value, "excerpt", "")) <= 200


@pytest.mark.parametrize("body", [b"<!DOCTYPE html>\n<html></html>\n", b'{\n "x": 1\n}\n', b"Bad"])
def test_a_body_without_any_event_is_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        read_events(body)


@pytest.mark.parametrize("end", range(0, len(STREAM) - 120, 60))
def test_an_interrupted_answer_carries_its_text(server, end):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=STREAM[:end], **EVENTS)

    with pytest.raises(StreamInterruptedError) as caught:
        gigachat().chat("Hi")

    steps, _ = outcome(provider(), STREAM[:end], Content_Type="text/event-stream")
    partial = caught.value.partial
    assert ("" if partial is None else partial.text) == text_of(steps)


def test_a_call_with_invalid_arguments_is_an_error_that_carries_the_text(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=events_of(event({"content": "a"}), event({"content": "b"}, "error")),
                **EVENTS)

    with pytest.raises(ProviderError, match="invalid arguments") as caught:
        gigachat().chat("Hi")

    assert caught.value.partial.text == "ab"


@pytest.mark.parametrize("reason, finish", [
    ("stop", "stop"), ("length", "length"), ("function_call", "tool_calls"),
    ("blacklist", "content_filter"), ("new_word", "new_word"),
])
def test_every_finish_reason_reaches_the_reply(server, reason, finish):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=events_of(event({"content": "x"}), event({}, reason)), **EVENTS)

    assert gigachat().chat("Hi").finish_reason == finish


def test_a_compressed_answer_is_the_same(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"}, **EVENTS)

    assert gigachat().chat("Hi").text == TEXT


@pytest.mark.parametrize("header", ["X-Request-Id", "x-request-id", "X-REQUEST-ID"])
def test_the_reply_tells_what_the_service_tells(server, header):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=STREAM, headers={header: "r1"}, **EVENTS)

    reply = gigachat().chat("Hi")

    assert (reply.text, reply.provider, reply.model) == (TEXT, "gigachat", "GigaChat:2.0.28.2")
    assert (reply.finish_reason, reply.id) == ("stop", "r1")
    assert reply.usage == Usage(17, 42, 59, 2)
    assert reply.raw["usage"]["precached_prompt_tokens"] == 2


def test_reasoning_is_no_text(server):
    server.post(AUTH_URL, body=token_answer())
    frames = [event({"content": "", "reasoning_content": "hm"}), event({"content": "x"}, "stop")]
    server.post(URL, body=events_of(*frames), **EVENTS)

    reply = gigachat().chat("Hi", reasoning_effort="low")

    assert (reply.text, reply.reasoning) == ("x", "hm")


def test_a_function_call_in_a_document_is_read(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, body=recorded("gigachat_answer_function.json"), **AS_JSON)

    reply = gigachat().chat("Погода?", tools=[WEATHER], stream=False)

    call, = reply.tool_calls
    assert (call.id, call.name, call.arguments) == (None, "weather", {"place": "Москва"})
    assert reply.message.state == {"functions_state_id": STATE}
    assert reply.finish_reason == "tool_calls"


def test_an_unknown_model_is_told_in_the_services_words(server):
    server.post(AUTH_URL, body=token_answer())
    server.post(URL, status=404, body=recorded("gigachat_error_404.json"),
                headers={"x-request-id": "r1"}, **AS_JSON)

    with pytest.raises(NotFoundError, match="No such model") as caught:
        gigachat().chat("Hi", model="none")

    assert caught.value.request_id == "r1"
    assert "client.models()" in str(caught.value)
    assert caught.value.body == '{"status":404,"message":"No such model"}\n'


def test_tokens_are_kept_in_the_store_that_was_given(service):
    store = MemoryTokenStore()

    gigachat(token_store=store).chat("Hi")

    assert store.get(prepared().grant.name).value == "tok-1"


def test_usage_that_comes_after_the_finish_reason_counts(server):
    server.post(AUTH_URL, body=token_answer())
    frames = [event({"content": "x"}), event({}, "stop"), {"choices": [], "usage": USAGE}]
    server.post(URL, body=events_of(*frames), **EVENTS)

    reply = gigachat().chat("Hi")

    assert (reply.finish_reason, reply.usage) == ("stop", Usage(17, 3, 20, 2))


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(provider(), FUNCTION_STREAM, Content_Type="text/event-stream")
    check_damage(provider(), ANSWER, Content_Type="application/json")


# Over a real connection


def test_a_whole_conversation():
    requests = check_conversation("gigachat", api_key=KEY)

    roles = [message["role"] for message in requests[2].members["messages"]]
    chat = ("POST", "/api/v1/chat/completions")
    assert [(r.method, r.path) for r in requests] == [("POST", "/api/v2/oauth"), chat, chat]
    assert len({r.headers["Authorization"] for r in requests[1:]}) == 1
    assert roles == ["system", "user", "assistant", "user"]
    assert not any("cookie" in r.headers for r in requests)


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("gigachat", scenario, api_key=KEY)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "tidy-cut", "cut-frames", "reset", "cut-first", "empty",
])
def test_a_cut_is_an_interruption(scenario):
    assert isinstance(broken("gigachat", scenario, api_key=KEY), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
    ("unauthorized", AuthenticationError), ("status-404", NotFoundError),
    ("token-blank", ProtocolError), ("token-null", ProtocolError),
    ("token-missing", ProtocolError), ("token-malformed", ProtocolError),
    ("token-unauthorized", AuthenticationError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("gigachat", scenario, api_key=KEY)) is kind


def test_a_conversation_in_one_piece_is_the_same():
    with Simulator() as sim, gigachat(**sim.fields("gigachat")) as asking:
        talk = asking.conversation()
        talk.chat("Hello, my name is Ann.", stream=False)
        reply = talk.chat("What is my name?", stream=False)

    assert reply.text == "Your name is Ann. You told me so."
    assert reply.finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


@pytest.mark.parametrize("end", ["expire_tokens", "revoke_tokens"])
def test_a_token_that_has_ended_in_between_is_renewed_once(end):
    with Simulator(reply=REPLY) as sim, gigachat(**sim.fields("gigachat")) as asking:
        asking.chat("Hi")
        getattr(sim, end)()
        reply = asking.chat("Hi")

        assert reply.text == REPLY
        assert sim.tokens_issued == 2


def test_the_models_of_the_account_are_asked_for():
    with Simulator() as sim, gigachat(**sim.fields("gigachat")) as asking:
        found = asking.models()

    assert {"GigaChat", "Embeddings"} <= {model.id for model in found}
    assert {model.owner for model in found} == {"salutedevices"}


@pytest.fixture
def secure(authority, tmp_path):
    """Start a simulator behind a certificate that no common root vouches for."""
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(str(key))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(chain), append=True)
    with Simulator(reply=REPLY, tls=(chain, key)) as simulator:
        yield {**simulator.fields("gigachat"), "verify": None}


def test_a_ca_file_in_the_environment_is_trusted_for_both_requests(secure, ca_file, monkeypatch):
    monkeypatch.setenv("GIGACHAT_CA_BUNDLE_FILE", ca_file)

    with gigachat(**secure) as asking:
        assert asking.chat("Hi").text == REPLY


def test_without_it_the_certificate_is_not_trusted(secure):
    with gigachat(**secure) as asking, pytest.raises(APIConnectionError, match="not trusted"):
        asking.chat("Hi")


def test_a_ca_file_of_the_client_comes_before_that_of_the_provider(secure, ca_file, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text(russian_root())

    with gigachat(**{**secure, "verify": str(other)}, ca_bundle_file=ca_file) as asking:
        with pytest.raises(APIConnectionError, match="not trusted"):
            asking.chat("Hi")
    with gigachat(**{**secure, "verify": ca_file}, ca_bundle_file=str(other)) as asking:
        assert asking.chat("Hi").text == REPLY


# Vectors, and tokens that are counted


def asked_for_vectors(*texts, **details):
    return EmbeddingQuery(texts=texts, model="Embeddings", **details)


def test_texts_become_vectors_in_their_order():
    fetch = Fetches(VECTORS)

    found = GigaChat(api_key=KEY).embed(
        asked_for_vectors("a", "b", extra_body={"x": 1}, extra_headers={"X-A": "b"}), fetch)
    request = fetch.requests[0]

    assert found == Embeddings([[0.25, -0.5, 1e-05], [1, 0, 0.125]], "Embeddings",
                               Usage(prompt_tokens=14, total_tokens=14))
    assert (request.method, request.url, request.repeatable) == ("POST", f"{BASE}/embeddings", True)
    assert request.json == {"model": "Embeddings", "input": ["a", "b"], "x": 1}
    assert (request.headers["X-A"], request.grant is not None) == ("b", True)


def test_vectors_are_put_in_order_by_their_index():
    event = json.loads(VECTORS)
    event["data"].reverse()

    found = GigaChat(api_key=KEY).embed(
        asked_for_vectors("a", "b"), Fetches(json.dumps(event).encode()))

    assert found.vectors == [[0.25, -0.5, 1e-05], [1, 0, 0.125]]


@pytest.mark.parametrize("change", [
    {"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens": "6"}}, {"usage": 7},
])
def test_tokens_that_one_entry_does_not_tell_are_not_told(change):
    event = json.loads(VECTORS)
    event["data"][0] |= change

    found = GigaChat(api_key=KEY).embed(
        asked_for_vectors("a", "b"), Fetches(json.dumps(event).encode()))

    assert found.usage is None


@pytest.mark.parametrize("body", [
    b"[]", b"{}", b'{"data":7}', b'{"data":[7,8]}', b'{"data":[{"index":0,"embedding":[1]}]}',
    b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}',
    b'{"data":[{"index":1,"embedding":[1]},{"index":2,"embedding":[1]}]}',
    b'{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":["1"]}]}',
    b'{"data":[{"index":0,"embedding":[1]},{"index":1}]}', b"x",
])
def test_vectors_of_another_form_are_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        GigaChat(api_key=KEY).embed(asked_for_vectors("a", "b"), Fetches(body))


def test_vectors_have_one_length(service):
    with pytest.raises(UnsupportedError, match="dimensions"):
        gigachat().embed("a", dimensions=8)

    assert len(service.calls) == 0


def test_the_tokens_of_all_texts_are_summed():
    fetch = Fetches(COUNTS)
    history = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]

    found = GigaChat(api_key=KEY).count_tokens(query(history), fetch)
    request = fetch.requests[0]

    assert found == 11
    assert (request.url, request.repeatable) == (f"{BASE}/tokens/count", True)
    assert request.json == {"model": "GigaChat", "input": ["Be kind.", "Hi"]}


@pytest.mark.parametrize("body", [
    b"{}", b"[]", b"[7,8]", b'[{"tokens":4}]', b'[{"tokens":4},{"tokens":"4"}]', b"x",
    b'[{"tokens":4},{"tokens":4},{"tokens":4}]',
])
def test_counts_of_another_form_are_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        GigaChat(api_key=KEY).count_tokens(query(HISTORY[:2]), Fetches(body))


def test_nothing_is_asked_for_messages_without_text():
    assert GigaChat(api_key=KEY).count_tokens(query([Message("assistant")]), Fetches()) == 0


def test_vectors_and_counts_renew_a_refused_token():
    texts = [f"text {n}" for n in range(GigaChat.embeds + 1)]
    with Simulator() as sim, gigachat(**sim.fields("gigachat")) as asking:
        asking.count_tokens("one two three")
        sim.revoke_tokens()
        found = asking.embed(texts)
        counted = asking.count_tokens([{"role": "user", "content": "one two three"}])

    assert len(found.vectors) == len(texts)
    assert {len(vector) for vector in found.vectors} == {1024}
    assert found.usage.prompt_tokens == 4 * len(texts)
    assert counted == 3
    assert sim.tokens_issued == 2


BESIDE = {"embeddings": lambda c: c.embed("a"), "count": lambda c: c.count_tokens("a")}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("scenario, error", [
    ("500", ServerError), ("cut-head", APIConnectionError), ("cut", APIConnectionError),
    ("empty", ChatError), ("malformed", ProtocolError), ("stall", APITimeoutError),
])
def test_what_is_asked_beside_the_chat_fails_by_its_kind(kind, scenario, error):
    with Simulator(scenario={"gigachat": f"{kind}-{scenario}"}) as sim:
        timeout = Timeout(read=0.1)
        with gigachat(**sim.fields("gigachat"), timeout=timeout) as asking:
            with pytest.raises(error):
                BESIDE[kind](asking)
