"""Anthropic: blocks of content in named events, or in one document."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
import responses

from chatsdk import (
    AuthenticationError,
    BadRequestError,
    ChatError,
    ConfigurationError,
    ContextLengthError,
    Delta,
    image,
    Message,
    MissingCredentialsError,
    ProtocolError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    ToolCall,
    ToolCallPart,
    UnsupportedError,
    Usage,
)
from chatsdk.media import media_from
from chatsdk.parts import Media
from chatsdk.providers.anthropic import Anthropic, BUDGETS, UNHELD
from chatsdk.ratelimits import Limit, RateLimits
from chatsdk.schemas import response_format
from chatsdk.simulator import Simulator

from .helpers import (
    Answer,
    BAD_KEYS,
    body_sent,
    broken,
    check_conversation,
    check_damage,
    check_every_end,
    check_framing,
    check_types,
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
    variants,
    whole_frames,
    with_crlf,
    zipped,
)

URL = "https://api.anthropic.com/v1/messages"
KEY = "sk-ant-api03-qwe"
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-4-5"
STREAM = recorded("anthropic_stream.sse")
TOOLS = recorded("anthropic_stream_tools.sse")
SEARCH = recorded("anthropic_stream_search.sse")
FAILED = recorded("anthropic_stream_error.sse")
ANSWER = recorded("anthropic_answer.json")
TEXT = 'Привет, "мир"! 🙂\nEnd.'
SIGNATURE = "EqoBCkgIARABGAIiQL+/w=="
EVENTS = {"content_type": "text/event-stream; charset=utf-8"}
AS_JSON = {"content_type": "application/json"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Погода",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
CALL = ToolCall("toolu_01A", "weather", {"place": "Рим"}, '{"place":"Рим"}')
RESULT = Message("tool", "sunny", name="weather", tool_call_id="toolu_01A")


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer questions with a stream."""
    server.post(URL, body=STREAM, **EVENTS)
    return server


def anthropic(**options):
    return client("anthropic", **{"api_key": KEY, **options})


def provider(**fields):
    return Anthropic(**{"api_key": KEY, **fields})


def payload(messages="Hi", fields=None, **details):
    """Return the body of a question, and check that nothing was asked before it."""
    fetch = Fetches()
    asked = query(messages, **details)
    provider(**fields or {}).check(asked)
    request = provider(**fields or {}).prepare(asked, fetch)
    assert fetch.requests == []
    return request.json


def reply(server, body, messages="Hi", **options):
    server.post(URL, body=body, **(AS_JSON if body[:1] == b"{" else EVENTS))
    return anthropic(**options).chat(messages)


# The key


def test_a_missing_key_is_told_with_the_arguments_and_the_variables():
    with pytest.raises(MissingCredentialsError) as caught:
        Anthropic()

    for name in ("api_key=", "ANTHROPIC_API_KEY", "auth_token=", "ANTHROPIC_AUTH_TOKEN"):
        assert name in str(caught.value)


def test_the_environment_gives_what_the_services_own_tools_read(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-env")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://proxy.example/claude/")
    monkeypatch.setenv("ANTHROPIC_MODEL", "claude-of-env")

    request = Anthropic().prepare(query(), Fetches())

    assert request.url == "https://proxy.example/claude/v1/messages"
    assert request.headers["x-api-key"] == "key-of-env"
    assert request.json["model"] == "claude-of-env"
    assert "Authorization" not in request.headers


def test_a_token_is_sent_as_a_bearer(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-env")

    headers = Anthropic().prepare(query(), Fetches()).headers

    assert headers["Authorization"] == "Bearer token-of-env"
    assert "x-api-key" not in headers


@pytest.mark.parametrize("name", ["X-Api-Key", "Authorization"])
def test_a_header_with_a_key_is_a_key_too(name):
    headers = Anthropic(headers={name: "mine"}).prepare(query(), Fetches()).headers

    assert headers[name] == "mine"
    assert {"x-api-key", "authorization"} & {other.lower() for other in headers} == {name.lower()}


@pytest.mark.parametrize("version", ["", "latest", "2023-06-01\n", 5])
def test_a_version_is_a_date(version):
    with pytest.raises((TypeError, ValueError), match="version"):
        provider(version=version)


@pytest.mark.parametrize("field", ["api_key", "auth_token"])
@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(field, key):
    with pytest.raises(ConfigurationError) as caught:
        Anthropic(**{field: key})

    assert field in str(caught.value)
    assert "q9" not in str(caught.value)


def test_no_repr_holds_a_credential():
    shown = repr(Anthropic(api_key="secret-1", auth_token="secret-2", headers={"a": "secret-3"}))

    assert "secret" not in shown
    assert provider(auth_token="secret-2").secrets() == [KEY, "secret-2"]


def test_a_base_url_may_hold_the_version_already():
    request = provider(base_url="http://localhost:4000/v1").prepare(query(), Fetches())

    assert request.url == "http://localhost:4000/v1/messages"


# What is asked


def test_the_request_is_byte_for_byte_that_of_the_protocol(service):
    anthropic().chat("Привет")

    call, = service.calls
    assert call.request.url == URL
    assert headers_sent(call) == {
        "Accept": "text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Content-Length": str(len(body_sent(call))),
        "Content-Type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": KEY,
    }
    assert body_sent(call) == (
        '{"model":"claude-sonnet-5-5","max_tokens":16384,"messages":[{"role":"user","content":'
        '"Привет"}],"stream":true}'.encode()
    )


def test_a_conversation_is_byte_for_byte_that_of_the_protocol(service):
    anthropic(model=HAIKU).chat(
        SYSTEM_TWICE, system="First.", temperature=0.5, top_p=0.9, top_k=7, max_tokens=50,
        stop=["A", "B"], service_tier="standard_only",
    )

    assert body_sent(service.calls[0]) == (
        b'{"model":"claude-haiku-4-5","max_tokens":50,"temperature":0.5,"top_p":0.9,"top_k":7,'
        b'"stop_sequences":["A","B"],"service_tier":"standard_only","messages":[{"role":"user",'
        b'"content":[{"type":"text","text":"Hi"},{"type":"text","text":"More"}]}],"stream":true,'
        b'"system":"First.\\nBe brief.\\nBe kind."}'
    )


def test_an_answer_in_one_piece_is_asked_for_so():
    request = provider().prepare(query(stream=False), Fetches())

    assert request.json["stream"] is False
    assert request.headers["Accept"] == "application/json"


def test_turns_alternate():
    assert payload(HISTORY)["messages"] == HISTORY
    assert payload(["a", "b", Message("assistant", "c"), Message("assistant", "d"), "e"])[
        "messages"
    ] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}],
        },
        {"role": "user", "content": "e"},
    ]


def test_an_empty_answer_in_the_history_is_left_out():
    assert payload(["a", Message("assistant", ""), "b"])["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


@pytest.mark.parametrize("messages, words", [
    ([Message("system", "Be kind.")], "needs a message besides the system's"),
    (["Hi", ""], r"takes no empty message; see messages\[1\]"),
    ([Message("tool", "x", name="f")], "tool_call_id"),
    (["Hi", Message("assistant", ("x", image(b"\x89PNG\r\n\x1a\n")))], r"see messages\[1\]"),
    ([Message("system", ("x", image(b"\x89PNG\r\n\x1a\n"))), "Hi"], "from the user and from"),
])
def test_what_has_no_form_in_a_message_is_refused_before_anything_is_sent(service, messages, words):
    with pytest.raises(UnsupportedError, match=words):
        anthropic().chat(messages)

    assert len(service.calls) == 0


SAID = {  # for each parameter: what a caller gives, and what is sent for it
    "temperature": (0.5, {"temperature": 0.5}),
    "top_p": (0.5, {"top_p": 0.5}),
    "top_k": (5, {"top_k": 5}),
    "max_tokens": (5, {"max_tokens": 5}),
    "stop": ("x", {"stop_sequences": ["x"]}),
    "tools": ([WEATHER], {"tools": [{
        "name": "weather",
        "description": "Погода",
        "input_schema": WEATHER["function"]["parameters"],
    }]}),
    "tool_choice": ("required", {"tool_choice": {"type": "any"}}),
    "parallel_tool_calls": (False, {}),
    "response_format": (
        {"type": "object", "properties": {}},
        {"output_config": {"format": {"type": "json_schema", "schema": {
            "type": "object", "properties": {}, "additionalProperties": False,
        }}}},
    ),
    "reasoning_effort": ("high", {
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
    }),
    "service_tier": ("auto", {"service_tier": "auto"}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(SAID) == set(Anthropic.parameters)


@pytest.mark.parametrize("name", SAID)
def test_every_parameter_that_is_listed_changes_the_request(service, name):
    given, sent = SAID[name]

    anthropic().chat("Hi")
    anthropic().chat("Hi", **{name: given})

    bare, said = (json.loads(body_sent(call)) for call in service.calls)
    assert said == {**bare, **sent}


@pytest.mark.parametrize("name", ["seed"])
def test_other_parameters_are_refused(service, name):
    with pytest.raises(UnsupportedError, match=f"cannot honour {name}"):
        anthropic().chat("Hi", **{name: 5})

    assert len(service.calls) == 0


def test_a_temperature_above_one_is_refused_before_anything_is_sent(service):
    with pytest.raises(UnsupportedError, match="0 to 1"):
        anthropic().chat("Hi", temperature=1.1)

    assert len(service.calls) == 0


@pytest.mark.parametrize("stop", ["", "\n", ["x", " "]])
def test_a_stop_of_blanks_is_refused_before_anything_is_sent(service, stop):
    with pytest.raises(UnsupportedError, match="blanks alone"):
        anthropic().chat("Hi", stop=stop)

    assert len(service.calls) == 0


@pytest.mark.parametrize("name, value", [("temperature", 0.5), ("top_p", 0.5), ("top_k", 5)])
def test_newer_versions_of_the_api_have_no_sampling(service, name, value):
    with pytest.raises(UnsupportedError, match=f"has no {name}"):
        anthropic(version="2026-10-21").chat("Hi", **{name: value})
    anthropic(version="2026-10-21").chat("Hi")

    call, = service.calls
    assert call.request.headers["anthropic-version"] == "2026-10-21"


@pytest.mark.parametrize("model", [
    "claude-haiku-4-5", "claude-opus-4-5-20251101", "claude-sonnet-4-20250514", "claude-opus-4-1",
    "claude-opus-4-0", "claude-3-7-sonnet-latest", "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
])
def test_older_models_get_a_budget_for_their_thoughts(model):
    asked = payload(model=model, reasoning_effort="low")

    assert asked["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert asked["max_tokens"] == 2048 + 16384
    assert "output_config" not in asked


@pytest.mark.parametrize("model", [
    "claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-10", "claude-haiku-5-5",
    "claude-sonnet-5", "claude-fable-5-2", "my-claude", "claude-sonnet-5-20270101",
])
@pytest.mark.parametrize("effort, sent", [("low", "low"), ("minimal", "low"), ("xhigh", "xhigh")])
def test_newer_models_decide_themselves_how_much_they_think(model, effort, sent):
    asked = payload(model=model, reasoning_effort=effort)

    assert asked["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert asked["output_config"] == {"effort": sent}
    assert asked["max_tokens"] == 16384


@pytest.mark.parametrize("model", [OPUS, HAIKU])
def test_thinking_can_be_switched_off(model):
    asked = payload(model=model, reasoning_effort="none")

    assert asked["thinking"] == {"type": "disabled"}
    assert "output_config" not in asked


def test_a_budget_stays_below_the_limit_of_the_answer():
    asked = payload(model=HAIKU, reasoning_effort="max", max_tokens=2000)

    assert (asked["thinking"]["budget_tokens"], asked["max_tokens"]) == (1999, 2000)


@pytest.mark.parametrize("details, words", [
    ({"max_tokens": 1024}, "max_tokens must be above that"),
    ({"reasoning_effort": "x"}, "none, min"),
])
def test_a_budget_that_cannot_be_is_refused_before_anything_is_sent(service, details, words):
    with pytest.raises(UnsupportedError, match=words):
        anthropic(model=HAIKU).chat("Hi", **{"reasoning_effort": "low", **details})

    assert len(service.calls) == 0


def test_no_budget_is_below_what_the_service_allows():
    assert min(BUDGETS.values()) >= 1024


@pytest.mark.parametrize("choice, sent", [
    ("auto", {"type": "auto"}),
    ("none", {"type": "none"}),
    ("required", {"type": "any"}),
    ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ({"type": "any", "disable_parallel_tool_use": True},
     {"type": "any", "disable_parallel_tool_use": True}),
])
def test_the_choice_of_a_tool_is_sent_in_the_services_own_shape(choice, sent):
    assert payload(tools=(WEATHER,), tool_choice=choice)["tool_choice"] == sent


@pytest.mark.parametrize("choice, parallel, sent", [
    (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ("required", True, {"type": "any", "disable_parallel_tool_use": False}),
    ("none", False, {"type": "none"}),
])
def test_calls_side_by_side_can_be_switched_off(choice, parallel, sent):
    asked = payload(
        tools=(WEATHER,), tool_choice=choice, options={"parallel_tool_calls": parallel}
    )

    assert asked["tool_choice"] == sent


@pytest.mark.parametrize("choice", ["weather", {"name": "weather"}, 5, {"type": "function"}])
def test_a_choice_without_a_form_is_refused_before_anything_is_sent(service, choice):
    with pytest.raises(UnsupportedError, match="tool_choice"):
        anthropic().chat("Hi", tools=[WEATHER], tool_choice=choice)

    assert len(service.calls) == 0


def test_a_tool_without_parameters_takes_an_empty_object():
    bare = {"type": "function", "function": {"name": "now", "strict": True}}

    assert payload(tools=(bare,))["tools"] == [
        {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]


def test_a_schema_is_sent_as_the_service_takes_it():
    wanted = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How many"},
            "s": {"type": "string", "pattern": "a+"},
            "l": {"type": "array", "minItems": 3, "maxItems": 5, "items": {"$ref": "#/$defs/P"}},
            "u": {"anyOf": [{"type": "null"}, {"type": ["object", "null"], "properties": {}}]},
            "minimum": {"type": "string", "enum": ["minimum"]},
        },
        "$defs": {"P": {"type": "object", "properties": {}}},
    }

    asked = payload(response_format=response_format(wanted))

    assert asked["output_config"]["format"] == {"type": "json_schema", "schema": {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "How many\n\n{minimum: 1, maximum: 5}"},
            "s": {"type": "string", "description": "{pattern: a+}"},
            "l": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/P"},
                  "description": "{maxItems: 5, minItems: 3}"},
            "u": {"anyOf": [
                {"type": "null"},
                {"type": ["object", "null"], "properties": {}, "additionalProperties": False},
            ]},
            "minimum": {"type": "string", "enum": ["minimum"]},
        },
        "$defs": {"P": {"type": "object", "properties": {}, "additionalProperties": False}},
        "additionalProperties": False,
    }}
    assert wanted["properties"]["n"]["minimum"] == 1
    assert "enum" not in UNHELD


def test_effort_and_form_stand_side_by_side():
    wanted = response_format({"type": "object", "properties": {}})

    config = payload(response_format=wanted, reasoning_effort="max")["output_config"]

    assert list(config) == ["effort", "format"]


@pytest.mark.parametrize("wanted, words", [
    ({"type": "json_object"}, "a JSON schema, not plain JSON"),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, "lists the members of each"),
])
def test_a_form_that_the_service_does_not_have_is_refused(service, wanted, words):
    with pytest.raises(UnsupportedError, match=words):
        anthropic().chat("Hi", response_format=wanted)

    assert len(service.calls) == 0


def test_plain_text_is_no_form():
    assert "output_config" not in payload(response_format={"type": "text"})


def test_calls_and_their_results_go_back_as_the_service_wants_them():
    second = ToolCall("toolu_01B", "now", {}, "")
    history = [
        "Hi",
        Message("assistant", "Let me see.", tool_calls=(CALL, second)),
        RESULT,
        Message("tool", "", name="now", tool_call_id="toolu_01B"),
        "And?",
    ]

    assert payload(history)["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {"place": "Рим"}},
            {"type": "tool_use", "id": "toolu_01B", "name": "now", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "sunny"},
            {"type": "tool_result", "tool_use_id": "toolu_01B", "content": ""},
            {"type": "text", "text": "And?"},
        ]},
    ]


def test_calls_of_other_services_get_ids_that_fit():
    calls = (
        ToolCall(None, "weather", None, "{nonsense"), ToolCall(None, "now", None, " "),
        ToolCall("call:1/2", "now", {}, "{}"),
    )
    results = [
        Message("tool", "5", name="now"), Message("tool", "sunny", name="weather"),
        Message("tool", "6", tool_call_id="call:1/2"),
    ]

    _, asked, told = payload(["Hi", Message("assistant", tool_calls=calls), *results])["messages"]

    assert [(block["id"], block["input"]) for block in asked["content"]] == [
        ("call_1", {"INVALID_JSON": "{nonsense"}), ("call_2", {}), ("call_1_2", {}),
    ]
    assert [(block["tool_use_id"], block["content"]) for block in told["content"]] == [
        ("call_2", "5"), ("call_1", "sunny"), ("call_1_2", "6"),
    ]


PNG = b"\x89PNG\r\n\x1a\n"


def test_media_are_sent_in_their_places():
    pdf = Media("document", "application/pdf", b"%PDF-", name="a.pdf")
    note = Media("document", "text/plain", "Да".encode())
    far = media_from("https://host.example/cat.jpg")
    content = ("See", image(PNG), "", pdf, note, far)

    assert payload([Message("user", content)])["messages"][0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                     "data": base64.b64encode(PNG).decode()}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                        "data": "JVBERi0="}, "title": "a.pdf"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain",
                                        "data": "Да"}},
        {"type": "image", "source": {"type": "url", "url": "https://host.example/cat.jpg"}},
    ]


def test_a_result_may_be_an_image():
    result = Message("tool", ("See", image(PNG)), tool_call_id="toolu_01A")

    told = payload(["Hi", Message("assistant", tool_calls=(CALL,)), result])["messages"][-1]

    assert [block["type"] for block in told["content"][0]["content"]] == ["text", "image"]


def test_sounds_are_refused_before_anything_is_sent(service):
    sound = Media("audio", "audio/wav", b"RIFF")

    with pytest.raises(UnsupportedError, match="takes no audio"):
        anthropic().chat([Message("user", ("Hear", sound))])

    assert len(service.calls) == 0


def test_extra_members_and_headers_come_last(service):
    asking = anthropic(headers={"anthropic-beta": "a", "X-API-Key": "other"})

    asking.chat("Hi", reasoning_effort="low", extra_headers={"anthropic-beta": "b"},
                extra_body={"thinking": {"display": "omitted"}, "metadata": {"user_id": "u"}})

    call, = service.calls
    body = json.loads(body_sent(call))
    assert body["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert body["metadata"] == {"user_id": "u"}
    assert call.request.headers["anthropic-beta"] == "b"
    assert call.request.headers["X-API-Key"] == "other"


# Counts and models


def test_tokens_are_counted_by_the_service(server):
    server.post(f"{URL}/count_tokens", json={"input_tokens": 14})

    found = anthropic().count_tokens("Hi", system="Be kind.", tools=[WEATHER], max_tokens=5)

    assert found == 14
    assert set(json.loads(body_sent(server.calls[0]))) == {"model", "messages", "system", "tools"}


@pytest.mark.parametrize("answer", [
    b"[]", b"{}", b'{"input_tokens":"5"}', b'{"input_tokens":true}',
])
def test_a_count_that_is_none_is_an_error_of_the_protocol(server, answer):
    server.post(f"{URL}/count_tokens", body=answer)

    with pytest.raises(ProtocolError):
        anthropic().count_tokens("Hi")


def test_models_are_listed_page_by_page():
    last = json.dumps({"data": [{"id": "claude-x"}], "has_more": False, "last_id": "claude-x"})
    fetch = Fetches(recorded("anthropic_models.json"), last.encode())

    models = provider().list_models(fetch)

    assert [model.id for model in models] == [OPUS, "claude-haiku-4-5-20251001", "claude-x"]
    assert models[0].provider == "anthropic"
    assert models[0].raw["display_name"] == "Claude Opus 5.5"
    assert [request.url for request in fetch.requests] == [
        "https://api.anthropic.com/v1/models?limit=1000",
        "https://api.anthropic.com/v1/models?limit=1000&after_id=claude-haiku-4-5-20251001",
    ]
    assert fetch.requests[0].headers["anthropic-version"] == "2023-06-01"


def test_a_list_of_models_that_never_ends_does():
    page = recorded("anthropic_models.json")
    fetch = Fetches(page, page, page)

    assert len(provider().list_models(fetch)) == 2
    assert len(fetch.requests) == 2


@pytest.mark.parametrize("answer", [
    b"[]", b"{}", b'{"data":{}}', b'{"data":[5]}', b'{"data":[{}]}',
])
def test_an_answer_that_is_no_list_of_models_is_refused(answer):
    with pytest.raises(ProtocolError):
        provider().list_models(Fetches(answer))


# What is read: events


@pytest.mark.parametrize("event, delta", [
    ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
     Delta("a")),
    ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "b"}},
     Delta(reasoning="b")),
    ({"type": "content_block_delta", "index": 3, "delta": {
        "type": "input_json_delta", "partial_json": "{"}},
     Delta(tool_calls=(ToolCallPart(3, None, None, "{"),))),
    ({"type": "content_block_start", "index": 2, "content_block": {
        "type": "tool_use", "id": "i", "name": "n", "input": {}}},
     Delta(tool_calls=(ToolCallPart(2, "i", "n", ""),))),
    ({"type": "message_start", "message": {"id": "i", "model": "m", "usage": {
        "input_tokens": 2, "output_tokens": 1}}},
     Delta(id="i", model="m", usage=Usage(2, 1, 3))),
    ({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {
        "output_tokens": 5}}, Delta(finish_reason="length", usage=Usage(None, 5))),
    ({"type": "message_stop"}, Delta(final=True)),
])
def test_an_event_is_one_step(event, delta):
    found = provider().decode(event)

    assert found.raw is event
    assert (found.text, found.reasoning, found.tool_calls, found.finish_reason, found.usage,
            found.final, found.id, found.model) == (
        delta.text, delta.reasoning, delta.tool_calls, delta.finish_reason, delta.usage,
        delta.final, delta.id, delta.model)


@pytest.mark.parametrize("event", [
    {"type": "ping"}, {"type": "event_of_tomorrow", "text": "x"},
    {"type": "content_block_delta", "delta": {"type": "delta_of_tomorrow", "text": "x"}},
])
def test_other_events_are_passed_over(event):
    assert provider().decode(event) is None


@pytest.mark.parametrize("error, words, retryable", [
    ({"type": "overloaded_error", "message": "Overloaded"}, "Overloaded .overloaded_error", True),
    ({"type": "api_error", "message": "Internal"}, "Internal", True),
    ({"type": "rate_limit_error", "message": "Slow"}, "Slow", True),
    ({"type": "timeout_error"}, "no reason given", True),
    ({"type": "invalid_request_error", "message": "No"}, "No", False),
    ({}, "no reason given .no type", False),
    ("It broke", "It broke", False),
])
@pytest.mark.parametrize("kind", [{"type": "error"}, {}])
def test_an_event_that_reports_a_failure_is_an_error_of_the_service(kind, error, words, retryable):
    with pytest.raises(ProviderError, match=words) as caught:
        provider().decode({**kind, "error": error})

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("event", [
    {}, {"type": None}, {"type": 5}, {"error": None}, {"error": 5}, [], None,
])
def test_an_event_of_another_form_is_an_error_of_the_protocol(event):
    with pytest.raises(ProtocolError):
        provider().decode(event)


def frames(body):
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(provider(), [*frames(STREAM), *frames(TOOLS), json.loads(ANSWER)])


@pytest.mark.parametrize("body", [TOOLS, SEARCH, FAILED], ids=["tools", "search", "error"])
def test_wrong_types_in_a_stream_are_read_or_refused_but_never_a_bare_error(body):
    events = frames(body)
    for place, event in enumerate(events):
        for _, _, changed in variants(event):
            said = [*events[:place], changed, *events[place + 1:]]
            stream = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in said)
            steps, _ = outcome(provider(), stream)  # raises what is none of ours
            for delta in steps:
                check_types(delta)


# What is read: answers


def test_a_stream_is_read(server):
    found = reply(server, STREAM)

    assert found.text == TEXT
    assert (found.id, found.model) == ("msg_01Stream", "claude-sonnet-4-5-20250929")
    assert (found.finish_reason, found.reasoning, found.state) == ("stop", "", None)
    assert found.usage == Usage(47, 15, 62, 30, None)
    assert found.raw["type"] == "message_delta"


def test_thoughts_and_calls_are_read(server):
    found = reply(server, TOOLS)

    assert found.text == "I will look."
    assert found.reasoning == "Two cities, two calls."
    assert found.finish_reason == "tool_calls"
    assert found.tool_calls == (
        ToolCall("toolu_01A", "weather", {"place": "Париж"}, '{"place": "Париж"}'),
        ToolCall("toolu_01B", "now", {}, "{}"),
    )
    assert found.usage == Usage(400, 89, 489, 0, 40)


def test_calls_are_numbered_among_themselves():
    streamed = [part for delta in read(provider(), TOOLS) for part in delta.tool_calls]
    (whole,) = read(provider(), ANSWER, **AS_JSON)

    assert [part.index for part in streamed] == [0, 0, 0, 0, 1, 1, 1]
    assert [part.index for part in whole.tool_calls] == [0]


def test_a_document_is_read(server):
    found = reply(server, ANSWER)

    assert (found.text, found.reasoning, found.id) == ("Привет, мир!", "Short.", "msg_01Answer")
    assert found.finish_reason == "tool_calls"
    call = ToolCall("toolu_01C", "weather", {"place": "Рим"}, '{"place": "Рим"}')
    assert found.tool_calls == (call,)
    assert found.usage == Usage(47, 22, 69, 30)
    assert found.raw == json.loads(ANSWER)


@pytest.mark.parametrize("body", [TOOLS, ANSWER], ids=["stream", "document"])
def test_thoughts_go_back_untouched_and_in_their_places(server, body):
    found = reply(server, body)

    sent = payload(["Hi", found.message])["messages"][1]["content"]

    whole = json.loads(ANSWER)["content"] if body is ANSWER else [
        {"type": "thinking", "thinking": "Two cities, two calls.", "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3p"},
        {"type": "text", "text": "I will look."},
        {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {"place": "Париж"}},
        {"type": "tool_use", "id": "toolu_01B", "name": "now", "input": {}},
    ]
    assert sent == whole
    assert json.loads(json.dumps(found.state)) == found.state


def test_blocks_of_the_services_own_tools_go_back_too(server):
    found = reply(server, SEARCH)

    sent = payload(["Hi", found.message])["messages"][1]["content"]

    assert (found.text, found.tool_calls, found.finish_reason) == ("X is x.", (), "pause_turn")
    assert [block["type"] for block in sent] == [
        "server_tool_use", "web_search_tool_result", "text",
    ]
    assert sent[0]["input"] == {"query": "x"}
    assert sent[2]["citations"][0]["encrypted_index"] == "Eo8B"
    assert sent[2]["text"] == "X is x."


@pytest.mark.parametrize("change", [
    {"content": "Other."}, {"tool_calls": (CALL,)}, {"tool_calls": ()}, {"content": ""},
])
def test_a_message_that_was_changed_keeps_its_thoughts_first(server, change):
    found = reply(server, TOOLS).message
    fields = {"content": found.content, "tool_calls": found.tool_calls, "state": found.state}

    sent = payload(["Hi", Message("assistant", **{**fields, **change})])["messages"][1]["content"]

    kinds = [block["type"] for block in sent]
    assert kinds[:2] == ["thinking", "redacted_thinking"]
    assert sent[0]["signature"] == SIGNATURE
    assert kinds.count("tool_use") == len(change.get("tool_calls", (1, 2)))
    text = "".join(block["text"] for block in sent if block["type"] == "text")
    assert text == change.get("content", "I will look.")


@pytest.mark.parametrize("state", [
    {}, {"gemini": []}, {"anthropic": None}, {"anthropic": 5}, {"anthropic": ["x"]},
    {"anthropic": {"a": 1}}, {"anthropic": [{"type": "text", "length": "x"}]},
])
def test_a_state_that_is_not_ours_changes_nothing(state):
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    asked = payload(["Hi", Message("assistant", "Yes.", state=state), "So?"])["messages"]

    assert asked[0] == said[0]
    assert [block["text"] for block in asked[1]["content"] if "text" in block] == ["Yes."] \
        if isinstance(asked[1]["content"], list) else asked[1] == said[1]


@pytest.mark.parametrize("reason, finish", [
    ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"), ("tool_use", "tool_calls"),
    ("refusal", "content_filter"), ("pause_turn", "pause_turn"), ("of_tomorrow", "of_tomorrow"),
])
def test_every_finish_reason_reaches_the_reply(server, reason, finish):
    found = reply(server, STREAM.replace(b'"end_turn"', b'"%b"' % reason.encode()))

    assert found.finish_reason == finish


@pytest.mark.parametrize("counts, usage", [
    ({}, None),
    ({"output_tokens": 5}, Usage(None, 5)),
    ({"input_tokens": 3, "output_tokens": 5}, Usage(3, 5, 8)),
    ({"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}, Usage(7, 5, 12, 4)),
    ({"input_tokens": 3, "cache_creation_input_tokens": 4, "output_tokens": 5}, Usage(7, 5, 12)),
    ({"input_tokens": None, "output_tokens": "5", "output_tokens_details": []}, Usage()),
])
def test_the_prompt_has_what_the_cache_wrote_and_read(counts, usage):
    event = {"type": "message", "content": [], "usage": counts}

    assert provider().decode(event).usage == usage


def test_a_tool_whose_arguments_come_at_once_is_read(server):
    body = TOOLS.replace(b'"name":"now","input":{}', b'"name":"now","input":{"zone":"x"}')

    assert reply(server, body).tool_calls[1].arguments == {"zone": "x"}


@pytest.mark.parametrize("body", [STREAM, TOOLS, SEARCH], ids=["text", "tools", "search"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read(provider(), body)

    assert read(provider(), *single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read(provider(), *chunks) == whole


@pytest.mark.parametrize("body", [
    with_crlf(STREAM), STREAM.replace(b"event: ", b"event:").replace(b"data: ", b"data:"),
    b"".join(line + b"\n\n" for line in STREAM.splitlines() if line.startswith(b"data")),
    b"\xef\xbb\xbf" + STREAM, STREAM.rstrip(b"\n"), STREAM.replace(b"\n\n", b"\n\n: beat\n\n"),
    STREAM + b"event: of_tomorrow\ndata: nonsense\n\n",
])
def test_variants_of_the_stream_give_the_same_steps(body):
    assert read(provider(), body) == read(provider(), STREAM)


STOP = b'event: message_stop\ndata: {"type":"message_stop"}'


@pytest.mark.parametrize("body", [STREAM, TOOLS, SEARCH], ids=["text", "tools", "search"])
def test_a_body_is_whole_from_its_last_event_on_and_interrupted_before(body):
    check_every_end(
        provider(), body, complete_from=body.index(STOP) + len(STOP),
        whole_at=whole_frames(body, lambda event: event.get("delta", {}).get("text", "")),
    )


def test_a_document_is_whole_at_its_end_and_interrupted_before():
    check_every_end(provider(), ANSWER, complete_from=len(ANSWER), whole_at=[(0, "")], **AS_JSON)


def test_the_reason_alone_does_not_end_an_answer(server):
    with pytest.raises(StreamInterruptedError) as caught:
        reply(server, STREAM[:STREAM.index(b"event: message_stop")])

    assert caught.value.partial.text == TEXT
    assert caught.value.partial.finish_reason == "stop"


def test_what_comes_before_the_first_text_is_told_with_it():
    first = read(provider(), STREAM)[0]

    assert (first.text, first.id, first.model) == ("Привет", "msg_01Stream",
                                                   "claude-sonnet-4-5-20250929")
    assert first.usage.prompt_tokens == 47


def test_an_answer_that_breaks_before_its_first_text_is_asked_for_again(server):
    head = STREAM[:STREAM.index(b"event: content_block_delta")]
    server.post(URL, body=head + FAILED[FAILED.index(b"event: error"):], **EVENTS)
    server.post(URL, body=STREAM, **EVENTS)

    found = anthropic(max_retries=1).chat("Hi")

    assert found.text == TEXT
    assert len(server.calls) == 2


def test_a_failure_after_the_first_text_is_final_and_carries_it(server):
    server.post(URL, body=FAILED, **EVENTS)

    with pytest.raises(ProviderError, match="Overloaded") as caught:
        anthropic(max_retries=1).chat("Hi")

    assert caught.value.partial.text == "Hel"
    assert caught.value.partial.usage.prompt_tokens == 47
    assert len(server.calls) == 1


@pytest.mark.parametrize("frame", [
    b"data: {\n\n", b"data: [1]\n\n", b'data: {"type":5}\n\n', b"data: \xff\n\n",
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":5}}\n\n',
    b'data: {"type":"content_block_delta","delta":5}\n\n',
])
def test_a_bad_frame_is_an_error_that_carries_the_text_before_it(server, frame):
    place = STREAM.index(b"event: content_block_stop")

    with pytest.raises(ProtocolError) as caught:
        reply(server, STREAM[:place] + frame + STREAM[place:])

    assert caught.value.partial.text == TEXT


@pytest.mark.parametrize("body", [b"", b"\n\n", b": beat\n\n", b'data: {"type":"ping"}\n\n'])
def test_a_body_without_any_text_is_an_interruption(body):
    with pytest.raises(StreamInterruptedError):
        read(provider(), body)


def test_a_page_is_an_error_of_the_protocol(server):
    server.post(URL, body=b"<html>Hello</html>", content_type="text/html")

    with pytest.raises(ProtocolError):
        anthropic().chat("Hi")


@pytest.mark.parametrize("body", [b"[]", b"5", b"{}", b'{"type":"message","content":5}',
                                  b'{"type":"message","content":[5]}', b"nonsense"])
def test_a_document_that_is_no_answer_is_refused(server, body):
    server.post(URL, body=body, **AS_JSON)

    with pytest.raises(ProtocolError):
        anthropic().chat("Hi")


def test_a_document_with_an_error_is_an_error_of_the_service(server):
    server.post(URL, body=recorded("anthropic_error_400.json"), **AS_JSON)

    with pytest.raises(ProviderError, match="max_tokens: 200000 > 64000"):
        anthropic().chat("Hi")


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"}, **EVENTS)

    assert anthropic().chat("Hi").text == TEXT


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(provider(), STREAM)
    check_damage(provider(), ANSWER, **AS_JSON)


def test_the_rest_of_a_whole_answer_is_read_in_a_hurry():
    answer = Answer(STREAM)

    list(provider().deltas(query(), answer))

    assert answer.hurried == 1


def test_the_limits_of_the_account_are_told(server):
    told = {f"anthropic-ratelimit-{kind}-{what}": value for kind in ("requests", "tokens")
            for what, value in (("limit", "50"), ("remaining", "49"),
                                ("reset", "2026-11-21T10:00:00Z"))}
    server.post(URL, body=STREAM, headers=told, **EVENTS)

    one = Limit(50, 49, "2026-11-21T10:00:00Z")
    assert anthropic().chat("Hi").limits == RateLimits(one, one)


# Refusals


@pytest.mark.parametrize("status, kind, error", [
    (400, "invalid_request_error", BadRequestError), (401, "authentication_error",
                                                      AuthenticationError),
    (402, "billing_error", QuotaExceededError), (429, "rate_limit_error", RateLimitError),
    (500, "api_error", ServerError), (529, "overloaded_error", ServerError),
])
def test_a_refusal_is_told_in_the_services_words(server, status, kind, error):
    body = {"type": "error", "error": {"type": kind, "message": "Because."}}
    server.post(URL, json=body, status=status, headers={"request-id": "req_011C"})

    with pytest.raises(error, match="anthropic answered .*Because.") as caught:
        anthropic().chat("Hi")

    assert type(caught.value) is error
    assert caught.value.request_id == "req_011C"
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status, message, error", [
    (400, "Your credit balance is too low to access the Anthropic API.", QuotaExceededError),
    (429, "You have reached your specified API usage limits.", QuotaExceededError),
    (400, "prompt is too long: 200005 tokens > 200000 maximum", ContextLengthError),
    (400, "input length and `max_tokens` exceed context limit: 5 + 6 > 10", ContextLengthError),
])
def test_what_waiting_does_not_mend_has_its_own_class(server, status, message, error):
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    server.post(URL, json=body, status=status)

    with pytest.raises(error) as caught:
        anthropic(max_retries=2).chat("Hi")

    assert caught.value.retryable is False
    assert len(server.calls) == 1


def test_a_key_that_the_service_quotes_is_blotted_out(server):
    server.post(URL, json={"error": {"message": f"bad key {KEY}"}}, status=401)

    with pytest.raises(AuthenticationError) as caught:
        anthropic().chat("Hi")

    assert KEY not in str(caught.value)
    assert "ANTHROPIC_API_KEY" in str(caught.value)


# Over real connections


def test_a_whole_conversation():
    requests = check_conversation("anthropic", api_key=KEY)

    assert {request.path for request in requests} == {"/v1/messages"}


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("anthropic", scenario, api_key=KEY)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "cut-frames", "tidy-cut", "cut-first", "empty", "reset",
])
def test_a_cut_is_an_interruption(scenario):
    error = broken("anthropic", scenario, api_key=KEY)

    assert isinstance(error, StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert isinstance(broken("anthropic", scenario, api_key=KEY), kind)


def test_an_end_without_its_mark_is_an_interruption_with_all_of_the_text():
    with Simulator(reply=REPLY, scenario="no-done") as sim, anthropic(
        **sim.fields("anthropic")
    ) as asking, pytest.raises(StreamInterruptedError) as caught:
        asking.chat("Hi")

    assert caught.value.partial.text == REPLY


@pytest.mark.parametrize("model, effort", [(OPUS, "low"), (HAIKU, "low"), (OPUS, None)])
@pytest.mark.parametrize("scenario", ["normal", "parallel-calls", "redacted"])
def test_a_run_with_tools_returns_thoughts_as_they_came(scenario, model, effort):
    def weather(place: str) -> str:
        """Tell the weather."""
        return f"sunny in {place}"

    def now() -> int:
        """Tell the time."""
        return 5

    with Simulator() as sim, anthropic(model=model, **sim.fields("anthropic")) as asking:
        sim.play(scenario)
        run = asking.run("In Rome", tools=[weather, now], reasoning_effort=effort)

    names = ["weather", "now"] if scenario == "parallel-calls" else ["weather"]
    assert [result.call.name for result in run.results] == names
    assert run.text == f"The function {names[-1]} returned {'5' if names[1:] else 'sunny in Rome'}."
    assert run.usage.total_tokens


@dataclasses.dataclass
class Counted:
    """How often each word comes up."""

    words: dict[str, int]


def test_an_object_without_a_form_there_is_asked_for_in_words():
    with Simulator(reply='{"words": {"a": 2}}') as sim, anthropic(
        **sim.fields("anthropic")
    ) as asking:
        found = asking.extract("a b a", Counted)

    (asked,) = sim.requests
    assert found == Counted({"a": 2})
    assert "output_config" not in asked.json
    assert "JSON schema" in asked.json["system"]


def test_everything_else_is_asked_of_the_same_service():
    with Simulator() as sim, anthropic(**sim.fields("anthropic")) as asking:
        sim.play("content-filter")
        assert asking.chat("Hi").finish_reason == "content_filter"
        assert asking.count_tokens("One two") == 5
        assert OPUS in [model.id for model in asking.models()]
        limited = asking.chat("Count to 9", max_tokens=2)
        assert (limited.text, limited.finish_reason) == ("1, 2, ", "length")
        stopped = asking.chat("Count to 9", stop="4")
        assert (stopped.text, stopped.finish_reason) == ("1, 2, 3, ", "stop")
        whole = asking.chat("Hi", stream=False, reasoning_effort="low")
        assert whole.text == asking.chat("Hi").text
        assert whole.reasoning and whole.state
        sim.play("refusal")
        refused = asking.chat("Hi")
        assert (refused.text, refused.finish_reason) == ("", "content_filter")
        for name, kind in (("quota", QuotaExceededError), ("context", ContextLengthError)):
            sim.play(name)
            with pytest.raises(kind):
                asking.chat("Hi")
        with pytest.raises(ChatError):
            asking.embed("x")
