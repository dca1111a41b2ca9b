"""OpenAI's Chat Completions: what is sent, what is read, and how an answer ends."""

from __future__ import annotations

import base64
import json
import logging
import struct

import pytest
import responses

from chatsdk import (
    AuthenticationError,
    Client,
    ConfigurationError,
    ContextLengthError,
    Delta,
    document,
    image,
    Media,
    Message,
    MissingCredentialsError,
    ProtocolError,
    ProviderError,
    QuotaExceededError,
    StreamInterruptedError,
    ToolCall,
    UnsupportedError,
    Usage,
    user,
)
from chatsdk.providers.openai import DONE, ENDED, MARK, OpenAI
from chatsdk.results import EmbeddingQuery
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
)

BASE = "https://api.openai.com/v1"
URL = f"{BASE}/chat/completions"
KEY = "sk-proj-q9z8"
STREAM = recorded("openai_stream.sse")
TOOLS = recorded("openai_stream_tools.sse")
ANSWER = recorded("openai_answer.json")
TEXT = 'Привет, "мир"! 🙂\n1 \\ 2'
EVENTS = {"content_type": "text/event-stream; charset=utf-8"}
AS_JSON = {"content_type": "application/json"}
SSE = {"Content_Type": "text/event-stream"}
USAGE = Usage(14, 87, 101, 4, 64)
PNG = b"\x89PNG\r\n\x1a\n0"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
CALLS = (
    ToolCall("call_1", "weather", {"city": "Paris"}, '{"city": "Paris"}'),
    ToolCall("call_2", "time", {}, "{}"),
)


def openai(**options):
    return OpenAI(**{"api_key": KEY, **options})


def payload(asked, **options):
    """Return the body of a question as it is sent."""
    provider = openai(**options)
    return json.loads(json.dumps(provider.prepare(asked, Fetches()).json))


def said(event):
    """Return the text in a frame."""
    choices = event["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


# What is sent


def test_the_bytes_of_a_question(server):
    server.post(URL, body=STREAM, **EVENTS)

    with client("openai", api_key=KEY) as asking:
        asking.chat("Привет")

    assert body_sent(server.calls[0]) == (
        '{"model":"gpt-5-mini","messages":[{"role":"user","content":"Привет"}],"stream":true,'
        '"stream_options":{"include_usage":true}}'
    ).encode()
    assert headers_sent(server.calls[0], without=("User-Agent", "Content-Length")) == {
        "Accept": "text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": f"Bearer {KEY}",
        "Connection": "keep-alive",
        "Content-Type": "application/json",
    }


def test_the_bytes_of_a_question_with_everything(server):
    server.post(URL, body=ANSWER, **AS_JSON)

    with client("openai:o3", api_key=KEY) as asking:
        asking.chat(
            "Hi", stream=False, system="Be kind.", temperature=0.5, max_tokens=9, top_p=0.9,
            stop=["a", "b"], seed=7, tools=[WEATHER], tool_choice="required",
            response_format={"type": "json_object"}, reasoning_effort="low", verbosity="high",
            parallel_tool_calls=False, user="u", service_tier="flex", store=True,
            safety_identifier="s", prompt_cache_key="k", extra_body={"logit_bias": {"1": 2}},
            extra_headers={"X-A": "1", "accept": "text/plain"},
        )

    assert body_sent(server.calls[0]) == (
        b'{"model":"o3","messages":[{"role":"system","content":"Be kind."},{"role":"user",'
        b'"content":"Hi"}],"stream":false,"temperature":0.5,"top_p":0.9,"stop":["a","b"],'
        b'"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object",'
        b'"properties":{}}}}],"tool_choice":"required","response_format":{"type":"json_object"},'
        b'"max_completion_tokens":9,"seed":7,"reasoning_effort":"low","verbosity":"high",'
        b'"parallel_tool_calls":false,"user":"u","service_tier":"flex","store":true,'
        b'"safety_identifier":"s","prompt_cache_key":"k","logit_bias":{"1":2}}'
    )
    sent = headers_sent(server.calls[0])
    assert (sent["X-A"], sent["accept"]) == ("1", "text/plain")
    assert "Accept" not in sent


def test_history_and_system_messages_keep_their_places():
    assert payload(query(HISTORY))["messages"] == HISTORY
    assert payload(query(SYSTEM_TWICE))["messages"] == SYSTEM_TWICE


def test_calls_and_results_are_in_the_services_shape():
    messages = [
        "Weather?",
        Message("assistant", "", tool_calls=CALLS),
        Message("tool", "rain", name="weather", tool_call_id="call_1"),
        Message("tool", "noon", tool_call_id="call_2"),
    ]

    assert payload(query(messages))["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
    ]


def test_calls_of_a_service_without_ids_get_some():
    calls = (ToolCall(None, "weather", {}, ""), ToolCall(None, "time", {}, "{}"))
    messages = [
        "Weather?",
        Message("assistant", "Look:", tool_calls=calls),
        Message("tool", "noon", name="time"),
        Message("tool", "rain"),
    ]

    _, made, *results = payload(query(messages))["messages"]

    assert made["content"] == "Look:"
    assert [call["id"] for call in made["tool_calls"]] == ["call_0_weather", "call_1_time"]
    assert made["tool_calls"][0]["function"]["arguments"] == "{}"
    assert [result["tool_call_id"] for result in results] == ["call_1_time", "call_0_weather"]


def test_a_result_without_a_call_is_refused_before_anything_is_sent():
    with pytest.raises(UnsupportedError, match="no tool_call_id"):
        openai().check(query(["Hi", Message("tool", "rain")]))
    openai().check(query(["Hi", Message("tool", "rain", tool_call_id="x")]))


def test_images_sounds_and_documents_are_parts():
    asked = query([Message("user", (
        "See:",
        Media("image", "image/png", PNG),
        Media("image", None, url="https://example.org/cat"),
        Media("audio", "audio/mpeg", b"ID3"),
        Media("audio", "audio/wav", b"RIFF"),
        Media("document", "application/pdf", b"%PDF-", name="a.pdf"),
        Media("document", "application/pdf", b"%PDF-"),
    ))])
    openai().check(asked)

    assert payload(asked)["messages"][0]["content"] == [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgow"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat"}},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf",
                                  "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"filename": "document.pdf",
                                  "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]


@pytest.mark.parametrize("message, reason", [
    (user("x", image(b"BM1234")), "takes no image/bmp"),
    (user("x", document("https://example.org/a.pdf")), "fetches no document from a URL"),
    (Message("assistant", ("x", Media("image", "image/png", PNG))), "messages of the user only"),
    (Message("system", ("x", Media("image", "image/png", PNG))), "messages of the user only"),
])
def test_what_a_message_cannot_hold_is_refused(message, reason):
    with pytest.raises(UnsupportedError, match=reason):
        openai().check(query([message]))


@pytest.mark.parametrize("choice", ["any", {}, {"name": "weather"}, {"function": {}}, 7])
def test_a_tool_choice_that_is_none_is_refused(choice):
    with pytest.raises(UnsupportedError, match="tool_choice for openai"):
        openai().check(query(tools=(WEATHER,), tool_choice=choice))


def test_a_named_function_is_a_tool_choice():
    choice = {"type": "function", "function": {"name": "weather"}}
    asked = query(tools=(WEATHER,), tool_choice=choice)
    openai().check(asked)

    assert payload(asked)["tool_choice"] == choice


def test_a_schema_is_sent_as_it_is():
    wanted = response_format({"type": "object", "properties": {"a": {"type": "integer"}}})

    assert payload(query(response_format=wanted))["response_format"] == {
        "type": "json_schema", "json_schema": {
            "name": "answer", "strict": False,
            "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}}


# Keys and addresses


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        openai(api_key=key)

    assert "api_key" in str(caught.value) and "q9" not in str(caught.value)


def test_without_a_key_there_is_an_error_that_says_where_to_put_it():
    with pytest.raises(MissingCredentialsError, match="api_key=.*OPENAI_API_KEY") as caught:
        Client("openai")

    assert caught.value.provider == "openai"


def test_the_environment_gives_key_address_and_model(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example/v1/")
    monkeypatch.setenv("OPENAI_MODEL", "gpt-4.1")

    request = OpenAI().prepare(query(), Fetches())

    assert request.url == "https://proxy.example/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "gpt-4.1"


@pytest.mark.parametrize("address", [
    "http://localhost:8000/v1", "http://127.0.0.1:8000/v1", "http://[::1]:8000/v1",
    "http://vllm:8000/v1", "http://10.1.2.3/v1", "http://192.168.0.7:1234/v1",
    "http://mac.local:1234/v1", "http://host.docker.internal:8080/v1",
])
def test_a_local_server_needs_no_key(address):
    request = OpenAI(base_url=address).prepare(query(), Fetches())

    assert "Authorization" not in request.headers
    assert request.url == f"{address}/chat/completions"


@pytest.mark.parametrize("address", ["https://api.example.com/v1", "http://8.8.8.8/v1"])
def test_a_server_elsewhere_needs_one(address):
    with pytest.raises(MissingCredentialsError):
        OpenAI(base_url=address)


def test_an_authorization_of_the_users_own_is_enough():
    provider = OpenAI(headers={"authorization": "Bearer own"})

    assert provider.prepare(query(), Fetches()).headers["authorization"] == "Bearer own"


def test_a_given_key_goes_to_a_local_server_too():
    provider = openai(base_url="http://localhost:8000/v1")

    assert provider.prepare(query(), Fetches()).headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("target", ["openai:my-model", "openai:org/my:model"])
def test_a_server_of_the_same_protocol_is_one_line(target):
    with Simulator(reply="Hi") as sim, Client(target, **sim.fields("openai")) as asking:
        with pytest.raises(AuthenticationError):
            asking.chat("Hi")  # this one wants a key, and the line gave none

        assert sim.requests[-1].json["model"] == target.partition(":")[2]


def test_the_key_stands_in_no_repr_and_no_error(server):
    server.post(URL, status=401, json={"error": {"message": f"Incorrect API key: {KEY}"}})

    with client("openai", api_key=KEY) as asking, pytest.raises(AuthenticationError) as caught:
        asking.chat("Hi")

    assert KEY not in str(caught.value) + repr(asking) + repr(openai())
    assert "is the key in api_key= or OPENAI_API_KEY right?" in str(caught.value)


# What is read


def test_a_recorded_stream_is_read():
    deltas = read(openai(), STREAM, **SSE)

    assert text_of(deltas) == TEXT
    assert [delta.text for delta in deltas if delta.text] == \
        ["Привет", ', "мир"', "! 🙂\n", "1 \\ 2"]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert [delta.usage for delta in deltas if delta.usage] == [USAGE]
    assert {delta.model for delta in deltas[:-2]} == {"gpt-5-mini-2025-08-07"}
    assert deltas[0].id == "chatcmpl-CkJ4cV0aXo2mN8yT1bQ7sHdLw3Pe"
    assert [delta.final for delta in deltas].count(True) == 1


def test_a_recorded_answer_is_read():
    first, mark = read(openai(), ANSWER, Content_Type="application/json")

    assert (first.text, first.finish_reason, first.usage) == (TEXT, "stop", USAGE)
    assert mark is MARK


def test_recorded_calls_are_put_together(server):
    server.post(URL, body=TOOLS, **EVENTS)

    with client("openai", api_key=KEY) as asking:
        reply = asking.chat("Weather and time?", tools=[WEATHER])

    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls == (
        ToolCall("call_9sPqL2vX7mNcB4tRzK1wYh3D", "weather", {"city": "Москва"},
                 '{"city": "Москва"}'),
        ToolCall("call_T5jGd8KfUa0oVeWx6yZqMb2C", "time", {"zone": "Europe/Moscow"},
                 '{"zone": "Europe/Moscow"}'),
    )
    assert reply.message.tool_calls == reply.tool_calls


@pytest.mark.parametrize("body", [STREAM, TOOLS], ids=["text", "tools"])
def test_where_a_stream_is_cut_does_not_matter(body):
    whole = read(openai(), body, **SSE)

    for chunks in cut_everywhere(body):
        assert read(openai(), *chunks, **SSE) == whole
    assert read(openai(), *single_bytes(with_crlf(body)), **SSE) == whole


def test_where_a_document_is_cut_does_not_matter():
    whole = read(openai(), ANSWER, Content_Type="application/json")

    for chunks in cut_everywhere(ANSWER):
        assert read(openai(), *chunks, Content_Type="application/json") == whole


def test_a_stream_that_ends_anywhere_is_whole_only_after_its_finish_reason():
    finish = STREAM.index(b'"finish_reason":"stop"')
    frame_end = STREAM.index(b"\n\n", finish)
    last = STREAM.index(b"data: ", frame_end)

    taken = check_every_end(openai(), STREAM, complete_from=None,
                            whole_at=whole_frames(STREAM, said), **SSE)

    assert taken[0] == frame_end
    usage_end = STREAM.index(b"\n\n", last)
    mark = STREAM.index(b"data: [DONE]")
    between_frames = [
        *range(frame_end, last + len("data: ") + 1),
        *range(usage_end, mark + len("data: ") + 1),
        *range(mark + len("data: [DONE]"), len(STREAM) + 1),
    ]
    assert taken == between_frames


def test_a_document_that_ends_anywhere_is_whole_only_at_its_end():
    whole = len(ANSWER.rstrip())

    for end in range(len(ANSWER) + 1):
        steps, error = outcome(openai(), ANSWER[:end], Content_Type="application/json")
        assert (error is None) == (end >= whole), end
        assert isinstance(error, (StreamInterruptedError, ProtocolError, type(None)))
        assert bool(steps) == (end >= whole)


@pytest.mark.parametrize("tail", [b"", b"data: [DONE]\n\n"])
def test_without_a_finish_reason_only_the_mark_makes_an_answer_whole(tail):
    body = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n' + tail

    steps, error = outcome(openai(), body, **SSE)

    assert text_of(steps) == "Hi"
    assert (error is None) == bool(tail)
    if error:
        assert isinstance(error, StreamInterruptedError) and error.retryable


def test_a_broken_connection_after_the_finish_reason_is_an_interruption():
    class Breaking(Answer):
        def iter_content(self):
            yield from super().iter_content()
            raise StreamInterruptedError("broken", retryable=True)

        def iter_lines(self, *, delimiter=None):
            yield from super().iter_lines(delimiter=delimiter)
            raise StreamInterruptedError("broken", retryable=True)

    finished = STREAM[:STREAM.index(b"\n\n", STREAM.index(b'"stop"')) + 2]

    with pytest.raises(StreamInterruptedError, match="broken"):
        list(openai().deltas(query(), Breaking(finished, **SSE)))
    assert list(openai().deltas(query(), Breaking(STREAM, **SSE)))[-1].final


def test_what_comes_after_the_mark_cannot_spoil_the_answer():
    answer = Answer(STREAM + b'data: {"error":{"message":"late"}}\n\n', **SSE)

    assert text_of(openai().deltas(query(), answer)) == TEXT
    assert answer.hurried >= 1


def chunk(delta=None, finish=None, **rest):
    """Return an event with one choice."""
    return {"id": "c", "model": "m", "choices": [
        {"index": 0, "delta": delta or {}, "finish_reason": finish}], **rest}


def lines(*events, mark=True):
    """Return events as the bytes of a stream."""
    body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    return body + (b"data: [DONE]\n\n" if mark else b"")


def test_a_chunk_of_text_is_a_step_of_text():
    event = chunk({"content": "Hi"})

    assert openai().decode(event) == Delta("Hi", model="m", id="c", raw=event)


@pytest.mark.parametrize("event", [
    chunk({"role": "assistant", "content": ""}), chunk({"content": None}), {"choices": []},
    {"choices": [], "prompt_filter_results": []}, chunk({"refusal": None}),
    {"choices": [{"index": 1, "delta": {"content": "of another answer"}}]},
    {"choices": [], "usage": None}, {"choices": [], "usage": {}},
])
def test_an_event_without_news_is_no_step(event):
    assert openai().decode(event) is None


@pytest.mark.parametrize("word, finish", [
    ("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"),
    ("content_filter", "content_filter"), ("function_call", "tool_calls"),
    ("model_length", "length"), ("eos", "stop"), ("brand-new", "brand-new"),
])
def test_finish_reasons_have_common_words(word, finish):
    assert openai().decode(chunk(finish=word)).finish_reason == finish


@pytest.mark.parametrize("told, usage", [
    ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, Usage(1, 2, 3)),
    ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 8}, Usage(9, cached_tokens=8)),
    ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9)),
    ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0},
      "prompt_cache_hit_tokens": 8}, Usage(9, cached_tokens=0)),
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
      "completion_tokens_details": {"reasoning_tokens": 20}}, Usage(10, 25, 35, None, 20)),
    ({"prompt_tokens": 10, "completion_tokens": 25, "total_tokens": 35,
      "completion_tokens_details": {"reasoning_tokens": 20}}, Usage(10, 25, 35, None, 20)),
    ({"prompt_tokens": 1, "cost": 0.5}, Usage(1, cost=0.5)),
    ({"prompt_tokens": 1, "cost": {"total_cost": 0.25}}, Usage(1, cost=0.25)),
    ({"prompt_tokens": True, "completion_tokens": "2", "total_tokens": 3}, Usage(total_tokens=3)),
])
def test_usage_is_told_in_many_ways(told, usage):
    assert openai().decode({"choices": [], "usage": told}).usage == usage
    assert openai().decode(chunk({"content": "x"}, usage=told)).usage == usage


@pytest.mark.parametrize("delta, reasoning", [
    ({"reasoning_content": "Hm"}, "Hm"), ({"reasoning": "Hm"}, "Hm"),
    ({"reasoning_content": "Hm", "reasoning": "Hm"}, "Hm"), ({"reasoning": None}, ""),
    ({"reasoning": {"other": 1}}, ""),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}, "Hm"),
    ({"content": [{"type": "thinking", "thinking": "Hm"}]}, "Hm"),
])
def test_reasoning_has_many_names(delta, reasoning):
    found = openai().decode(chunk(delta))

    assert (found.reasoning if found else "") == reasoning


def test_content_in_parts_is_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "reference"}]

    assert openai().decode(chunk({"content": parts})).text == "ab"


def test_a_refusal_is_text_and_a_filtered_finish():
    body = lines(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk(finish="stop"))
    document = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": {
        "role": "assistant", "content": None, "refusal": "I cannot."}}]}).encode()

    for deltas in (read(openai(), body, **SSE),
                   read(openai(), document, Content_Type="application/json")):
        assert text_of(deltas) == "I cannot."
        assert [d.finish_reason for d in deltas if d.finish_reason] == ["content_filter"]
        assert {delta.state for delta in deltas} == {None}


def call(index=None, id=None, name=None, arguments=None):
    """Return a piece of a call, without what is None."""
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not None}
    piece = {"index": index, "id": id, "function": function}
    return {key: value for key, value in piece.items() if value is not None}


@pytest.mark.parametrize("pieces, calls", [
    ([call(0, "a", "f", ""), call(0, arguments='{"x"'), call(0, arguments=":1}")],
     [("a", "f", '{"x":1}')]),
    ([call(None, "a", "f", "{}"), call(None, "b", "g", "{}")],
     [("a", "f", "{}"), ("b", "g", "{}")]),
    ([call(None, None, "f", "{}"), call(None, None, "g", "{}")],
     [(None, "f", "{}"), (None, "g", "{}")]),
    ([call(None, "a", "f", ""), call(None, arguments='{"x"'), call(None, arguments=":1}")],
     [("a", "f", '{"x":1}')]),
    ([call(None, "a", "f", '{"x"'), call(None, "a", None, ":1}")], [("a", "f", '{"x":1}')]),
    ([call(0, "a", "f", "{}"), call(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
    ([call(1, "a", "f", "{}"), call(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
    ([call(0, "a", "f", {"x": 1})], [("a", "f", '{"x": 1}')]),
    ([call(0, "", "f", "{}"), call(0, "a")], [("a", "f", "{}")]),
    ([call(0, "a", "f", ""), call(1, "b", "g")], [("a", "f", "{}"), ("b", "g", "{}")]),
    ([call(0, "a", "f", "{"), call(1, "b", "g", "{"), call(0, arguments="}"),
      call(1, arguments="}")], [("a", "f", "{}"), ("b", "g", "{}")]),
])
@pytest.mark.parametrize("together", [False, True])
def test_calls_are_told_apart_however_they_are_numbered(server, pieces, calls, together):
    groups = [pieces] if together else [[piece] for piece in pieces]
    server.post(URL, body=lines(*(chunk({"tool_calls": group}) for group in groups),
                                chunk(finish="tool_calls")), **EVENTS)

    with client("openai", api_key=KEY) as asking:
        reply = asking.chat("Hi", tools=[WEATHER])

    assert [(made.id, made.name, made.raw) for made in reply.tool_calls] == calls


@pytest.mark.parametrize("reason", [None, "length"])
def test_a_call_that_broke_off_has_no_arguments_made_up(reason):
    begun = chunk({"tool_calls": [call(0, "a", "f", "")]})

    steps, error = outcome(openai(), lines(begun, chunk(finish=reason), mark=False), **SSE)

    assert isinstance(error, StreamInterruptedError) == (reason is None)
    assert [part.arguments for step in steps for part in step.tool_calls] == [""]


def test_the_old_function_call_is_a_call(server):
    server.post(URL, body=lines(
        chunk({"function_call": {"name": "f", "arguments": '{"x"'}}),
        chunk({"function_call": {"arguments": ":1}"}}), chunk(finish="function_call")), **EVENTS)

    with client("openai", api_key=KEY) as asking:
        reply = asking.chat("Hi")

    assert reply.tool_calls == (ToolCall(None, "f", {"x": 1}, '{"x":1}'),)
    assert reply.finish_reason == "tool_calls"


# Failures


@pytest.mark.parametrize("event, words, again", [
    ({"error": {"message": "Overloaded", "type": "server_error", "code": None}},
     "Overloaded (server_error)", True),
    ({"error": {"message": "Stop", "type": "invalid_request_error", "code": "bad"}},
     "Stop (bad)", False),
    ({"error": {"message": "Gone", "type": "insufficient_quota", "code": "insufficient_quota"}},
     "Gone (insufficient_quota)", False),
    ({"error": {"message": "Gateway", "code": 502}}, "Gateway (502)", True),
    ({"error": {"message": "No credits", "code": 402}}, "No credits (402)", False),
    ({"error": "plain words"}, "plain words", False),
    ({"error": {"code": 500}}, "{'code': 500} (500)", True),
    ({"message": "Oh", "code": 503, "object": "error"}, "Oh (503)", True),
    ({"detail": "Not Found"}, "Not Found", False),
    (chunk({"content": ""}, "error", error={"code": 502, "message": "Provider"}),
     "Provider (502)", True),
    (chunk({}, x_groq={"id": "x", "error": "over capacity"}), "over capacity", False),
])
def test_a_failure_inside_the_answer_is_the_services_words(event, words, again):
    steps, error = outcome(openai(), lines(chunk({"content": "Hi"}), event), **SSE)

    assert text_of(steps) == "Hi"
    assert isinstance(error, ProviderError)
    assert words in str(error) and error.retryable == again


@pytest.mark.parametrize("reason, again", [
    ("error", False), ("insufficient_system_resource", True)])
def test_a_finish_reason_that_is_a_failure_keeps_the_text(reason, again):
    steps, error = outcome(openai(), lines(chunk({"content": "Hi"}, reason)), **SSE)

    assert text_of(steps) == "Hi"
    assert isinstance(error, ProviderError) and error.retryable == again


@pytest.mark.parametrize("event", [{}, {"object": "chat.completion.chunk"}, {"id": "x"}])
def test_an_event_that_says_nothing_known_is_a_fault_of_the_protocol(event):
    with pytest.raises(ProtocolError, match="neither choices nor an error"):
        openai().decode(event)


def test_wrong_types_are_faults_of_the_protocol():
    events = [json.loads(line[6:]) for line in (STREAM + TOOLS).splitlines()
              if line.startswith(b"data: {")]
    document = json.loads(ANSWER)

    check_wrong_types(openai(), [events[0], events[1], events[-4], events[-1], document])


def test_a_wrong_byte_anywhere_is_read_or_refused():
    check_damage(openai(), STREAM[-700:], **SSE)


def test_a_page_instead_of_an_answer_is_a_fault_of_the_protocol():
    steps, error = outcome(openai(), b"<html><body>Login</body></html>", Content_Type="text/html")

    assert steps == [] and isinstance(error, ProtocolError)


@pytest.mark.parametrize("scenario, kind", [
    ("quota", QuotaExceededError), ("context", ContextLengthError)])
def test_quota_and_context_have_classes_of_their_own(scenario, kind):
    with Simulator(scenario={"openai": scenario}) as sim:
        with client("openai", api_key=KEY, **sim.fields("openai")) as asking:
            with pytest.raises(kind):
                asking.chat("Hi")

        assert len(sim.requests) == 1


# Models and embeddings


def test_models_are_listed():
    listed = {"object": "list", "data": [
        {"id": "gpt-5", "object": "model", "created": 1, "owned_by": "system"}]}
    fetch = Fetches(json.dumps(listed).encode())

    model, = openai().list_models(fetch)

    assert (model.id, model.provider, model.owner) == ("gpt-5", "openai", "system")
    assert (fetch.requests[0].method, fetch.requests[0].url) == ("GET", f"{BASE}/models")
    assert fetch.requests[0].repeatable


def test_a_bare_list_of_models_is_read_too():
    assert [model.id for model in openai().list_models(Fetches(b'[{"id":"a"},{"id":"b"}]'))] == \
        ["a", "b"]


@pytest.mark.parametrize("body", [b"{}", b'{"data":7}', b'{"data":[{}]}', b'[7]', b'{"data":[7]}'])
def test_a_list_of_models_that_is_none_is_refused(body):
    with pytest.raises(ProtocolError):
        openai().list_models(Fetches(body))


def packed(*numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def embeddings(*vectors, **rest):
    data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
    return json.dumps({"data": data, "model": "m", **rest}).encode()


def test_texts_are_embedded():
    fetch = Fetches(embeddings(packed(0.5, -1.0), [1, 0.25], usage={
        "prompt_tokens": 3, "total_tokens": 3}))

    made = openai().embed(EmbeddingQuery(texts=("a", "b"), model="big", dimensions=2), fetch)

    assert made.vectors == [[0.5, -1.0], [1, 0.25]]
    assert (made.model, made.usage) == ("m", Usage(3, None, 3))
    assert fetch.requests[0].url == f"{BASE}/embeddings"
    assert fetch.requests[0].json == {
        "model": "big", "input": ["a", "b"], "encoding_format": "base64",
        "dimensions": 2}


def test_vectors_come_in_the_order_of_the_texts():
    body = json.dumps({"data": [{"index": 1, "embedding": [2.0]},
                                {"index": 0, "embedding": [1.0]}]}).encode()
    unnumbered = json.dumps({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}).encode()

    for answer in (body, unnumbered):
        made = openai().embed(EmbeddingQuery(texts=("a", "b"), model="own"), Fetches(answer))
        assert (made.vectors, made.model) == ([[1.0], [2.0]], "own")


@pytest.mark.parametrize("body", [
    b"{}", b"[]", b'{"data":{}}', b'{"data":[7]}', embeddings([1.0]), embeddings("???", [1.0]),
    embeddings("", [1.0]), embeddings(["x"], [1.0]), embeddings([], [1.0]),
    embeddings([True], [1.0]), embeddings("AAA=", [1.0]), embeddings([1.0], [1.0], [1.0]),
    b'{"data":[{"index":0,"embedding":[1.0]},{"index":0,"embedding":[1.0]}]}',
])
def test_vectors_that_are_none_are_refused(body):
    with pytest.raises(ProtocolError):
        openai().embed(EmbeddingQuery(texts=("a", "b"), model="m"), Fetches(body))


def test_embeddings_over_a_real_connection():
    with Simulator() as sim, Client("openai", api_key=KEY, **sim.fields("openai")) as asking:
        first, other, again = asking.embed(["red sea", "blue", "red sea"]).vectors

        assert first == again != other and len(first) == 1536
        assert asking.usage["openai:text-embedding-3-small"].prompt_tokens == 5


# Over real connections


def test_a_conversation_is_held():
    requests = check_conversation("openai", api_key=KEY)

    assert [m["role"] for m in requests[-1].json["messages"]] == \
        ["system", "user", "assistant", "user"]


@pytest.mark.parametrize("scenario", [*FRAMINGS, "no-done"])
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("openai", scenario, api_key=KEY)


@pytest.mark.parametrize("scenario, kind", [
    ("cut", StreamInterruptedError), ("cut-clean", StreamInterruptedError),
    ("cut-frames", StreamInterruptedError), ("tidy-cut", StreamInterruptedError),
    ("reset", StreamInterruptedError), ("empty", StreamInterruptedError),
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-middle", ProtocolError),
])
def test_a_broken_answer_is_an_error_with_the_text_so_far(scenario, kind):
    assert isinstance(broken("openai", scenario, api_key=KEY, max_retries=0), kind)


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


@pytest.mark.parametrize("scenario", ["function-call", "parallel-calls", "whole-calls"])
def test_tools_are_run_and_their_results_told(scenario):
    with Simulator(scenario={"openai": scenario}) as sim:
        with client("openai", api_key=KEY, **sim.fields("openai")) as asking:
            run = asking.run("The weather in Paris", tools=[weather])

    assert run.reply.text == "The function weather returned rain in Paris."


def test_an_answer_in_one_piece_is_the_same():
    with Simulator(reply=REPLY, scenario={"openai": "reasoning"}) as sim:
        with client("openai", api_key=KEY, **sim.fields("openai")) as asking:
            pieces, whole = asking.chat("Hi"), asking.chat("Hi", stream=False)

    assert (pieces.text, pieces.reasoning, pieces.usage, pieces.finish_reason) == \
        (whole.text, whole.reasoning, whole.usage, whole.finish_reason)
    assert pieces.reasoning == "Let me think: a greeting wants an answer."
    assert pieces.usage.reasoning_tokens == 4
    assert pieces.limits.requests.remaining == 9999


def test_no_message_and_no_key_is_logged(caplog):
    with caplog.at_level(logging.DEBUG), Simulator() as sim:
        with client("openai", api_key=KEY, **sim.fields("openai")) as asking:
            asking.chat("Hi, secret words")

    assert "chat/completions" in caplog.text
    assert KEY not in caplog.text and "secret words" not in caplog.text


def test_marks_are_what_decode_gives():
    assert openai().decode(DONE) is MARK and MARK.final and ENDED.final
    assert read(openai(), lines(chunk({"content": "x"}, "stop"), mark=False), **SSE)[-1].final
