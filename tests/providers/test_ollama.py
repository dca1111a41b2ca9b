"""Ollama: an address in many forms, options of their own, a JSON object a line."""

from __future__ import annotations

import json
import re

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
    ContextLengthError,
    Delta,
    Embeddings,
    image,
    Media,
    Message,
    Model,
    NotFoundError,
    ProtocolError,
    ProviderError,
    QuotaExceededError,
    ServerError,
    StreamInterruptedError,
    Timeout,
    ToolCall,
    ToolCallPart,
    UnsupportedError,
    Usage,
    user,
)
from chatsdk.providers.ollama import Ollama
from chatsdk.results import EmbeddingQuery
from chatsdk.schemas import response_format
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

BASE = "http://127.0.0.1:11434"
URL = f"{BASE}/api/chat"
STREAM = recorded("ollama_stream.ndjson")
LENGTH = recorded("ollama_stream_length.ndjson")
TOOLS = recorded("ollama_stream_tools.ndjson")
ANSWER = recorded("ollama_answer.json")
FAILED = recorded("ollama_error_after_text.ndjson")
TAGS = recorded("ollama_tags.json")
VECTORS = recorded("ollama_embed.json")
TEXT = 'Привет, <мир> & 🙂\u0085"!"\n'
LINES = {"content_type": "application/x-ndjson"}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer questions with a stream."""
    server.post(URL, body=STREAM, **LINES)
    return server


def prepared(messages="Hi", provider=None, **details):
    """Return the one request for an answer."""
    fetch = Fetches()
    request = (provider or Ollama()).prepare(query(messages, **details), fetch)
    assert fetch.requests == []
    return request


def payload(messages="Hi", **details):
    """Return its JSON body."""
    return prepared(messages, **details).json


def said(messages):
    """Return the messages as they are sent."""
    return payload(messages)["messages"]


# Where it lives


@pytest.mark.parametrize("given, url", [
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":56789", "http://127.0.0.1:56789"),
    ("1.2.3.4:56789", "http://1.2.3.4:56789"),
    ("http://1.2.3.4", "http://1.2.3.4"),
    ("https://1.2.3.4", "https://1.2.3.4"),
    ("https://1.2.3.4:56789", "https://1.2.3.4:56789"),
    ("http://1.2.3.4:80", "http://1.2.3.4"),
    ("example.com", "http://example.com:11434"),
    ("example.com:56789/", "http://example.com:56789"),
    ("example.com/path", "http://example.com:11434/path"),
    ("https://example.com:56789/path/", "https://example.com:56789/path"),
    ("[0001:002:003:0004::1]", "http://[0001:002:003:0004::1]:11434"),
    ("[::1]:56789/path", "http://[::1]:56789/path"),
    ("::1", "http://[::1]:11434"),
    ("https://[::1]", "https://[::1]"),
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:8080", "http://127.0.0.1:8080"),
    ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ("[::]:11434", "http://[::1]:11434"),
    ("ollama.com", "https://ollama.com"),
    (" localhost ", "http://localhost:11434"),
    ("", "http://127.0.0.1:11434"),
])
def test_an_address_has_the_forms_that_ollamas_own_tools_take(given, url, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", given)

    assert Ollama().base_url == url
    if given:
        assert Ollama(base_url=given).base_url == url


@pytest.mark.parametrize("wrong", [
    "ftp://x", "http://", "x:port", "x:99999", "http://u:secret@x", "u:secret@x", "x?y=1", "x y",
    "http://x#y", "*:1", 7, b"x", ":0",
])
def test_what_is_no_address_is_refused_without_being_asked(wrong):
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        Ollama(base_url=wrong)

    assert "secret" not in str(caught.value)


def test_without_settings_it_is_on_this_machine():
    assert Ollama() == Ollama(base_url=BASE, model="llama3.2", api_key=None)


def test_the_environment_names_the_model_and_the_key(monkeypatch):
    monkeypatch.setenv("OLLAMA_MODEL", "qwen3:8b")
    monkeypatch.setenv("OLLAMA_API_KEY", "k1")

    assert prepared().json["model"] == "qwen3:8b"
    assert prepared().headers["Authorization"] == "Bearer k1"
    assert "k1" not in repr(Ollama())


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        Ollama(api_key=key)

    assert "q9" not in str(caught.value)


def test_a_target_is_split_at_the_first_colon_only(service):
    client("ollama:qwen3:8b").chat("Hi")

    assert json.loads(body_sent(service.calls[0]))["model"] == "qwen3:8b"


# What is asked


def test_a_request_is_byte_for_byte_that_of_the_protocol(service):
    with client("ollama", api_key="k1").stream(
        "Привет 🙂", system="Be kind.", temperature=0, max_tokens=5, seed=7
    ) as stream:
        assert "".join(stream) == TEXT
    call = service.calls[0]

    assert (call.request.method, call.request.url) == ("POST", URL)
    assert body_sent(call).decode() == (
        '{"model":"llama3.2","messages":[{"role":"system","content":"Be kind."},'
        '{"role":"user","content":"Привет 🙂"}],"stream":true,'
        '"options":{"temperature":0,"num_predict":5,"seed":7}}'
    )
    assert headers_sent(call, without=("User-Agent", "Content-Length")) == {
        "Accept": "application/x-ndjson, application/json", "Accept-Encoding": "gzip, deflate",
        "Authorization": "Bearer k1", "Connection": "keep-alive",
        "Content-Type": "application/json",
    }


def test_without_streaming_it_says_so(server):
    server.post(URL, body=ANSWER, content_type="application/json; charset=utf-8")

    reply = client("ollama").chat("Hi", stream=False)

    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Привет!", "A greeting.", "stop")
    assert json.loads(body_sent(server.calls[0])) == {
        "model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


def test_system_messages_stay_where_they_are():
    assert said(SYSTEM_TWICE) == SYSTEM_TWICE


EXAMPLES = {
    "temperature": (0.9, {"options": {"temperature": 0.9}}),
    "top_p": (0.5, {"options": {"top_p": 0.5}}),
    "max_tokens": (5, {"options": {"num_predict": 5}}),
    "stop": (("a", "b"), {"options": {"stop": ["a", "b"]}}),
    "seed": (7, {"options": {"seed": 7}}),
    "tools": ([WEATHER], {"tools": [WEATHER]}),
    "tool_choice": ("auto", {}),
    "response_format": (SCHEMA, {"format": SCHEMA}),
    "reasoning_effort": ("high", {"think": "high"}),
    "num_ctx": (8192, {"options": {"num_ctx": 8192}}),
    "top_k": (40, {"options": {"top_k": 40}}),
    "min_p": (0.1, {"options": {"min_p": 0.1}}),
    "repeat_penalty": (1.5, {"options": {"repeat_penalty": 1.5}}),
    "keep_alive": ("5m", {"keep_alive": "5m"}),
    "options": ({"mirostat": 2, "stop": ["x"]}, {"options": {"mirostat": 2, "stop": ["x"]}}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(Ollama.parameters) == set(EXAMPLES)
    assert set(Ollama.options) < set(Ollama.parameters)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_that_is_listed_reaches_the_model(service, name):
    value, changed = EXAMPLES[name]

    client("ollama").chat("Hi", **{name: value})

    assert json.loads(body_sent(service.calls[0])) == {**payload(), **changed}


@pytest.mark.parametrize("effort, think", [
    ("none", False), ("false", False), ("true", True), ("minimal", "low"), ("low", "low"),
    ("medium", "medium"), ("high", "high"), ("max", "max"),
])
def test_effort_is_how_it_thinks(effort, think):
    sent = payload(reasoning_effort=effort)["think"]

    assert (type(sent), sent) == (type(think), think)


@pytest.mark.parametrize("wanted, sent", [
    (SCHEMA, SCHEMA), ({"type": "json_object"}, "json"), ({"type": "text"}, None),
])
def test_a_format_is_a_schema_or_plain_json(wanted, sent):
    assert payload(response_format=response_format(wanted)).get("format") == sent


@pytest.mark.parametrize("given, sent", [("5m", "5m"), ("0", 0), ("-1", -1), ("1h30m", "1h30m")])
def test_a_span_without_a_unit_is_a_number_of_seconds(given, sent):
    assert payload(options={"keep_alive": given})["keep_alive"] == sent


def test_no_tools_are_sent_if_none_may_be_called():
    assert "tools" not in payload(tools=(WEATHER,), tool_choice="none")


def test_extra_members_are_merged_last_and_level_by_level():
    body = payload(temperature=1, extra_body={"options": {"temperature": 2, "numa": True}, "x": 1})

    assert body["options"] == {"temperature": 2, "numa": True}
    assert body["x"] == 1


def test_an_image_goes_beside_the_text():
    assert said([user("What ", PNG, image(b"\xff\xd8\xff", mime="image/jpeg"))]) == [
        {"role": "user", "content": "What ", "images": ["iVBORw0KGgoAAAAAAAAAAA==", "/9j/"]}]


CALL = ToolCall("call_1", "weather", {"city": "Москва"}, '{"city":"Москва"}')


def test_calls_and_their_results_go_back_by_id_and_name():
    history = [
        Message("user", "?"),
        Message("assistant", tool_calls=(CALL, ToolCall(None, "clock", None, "no JSON")),
                state={"thinking": "Let me see."}),
        Message("tool", "clear", tool_call_id="call_1"),
        Message("tool", "noon", name="clock"),
    ]

    assert said(history)[1:] == [
        {"role": "assistant", "content": "", "thinking": "Let me see.", "tool_calls": [
            {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Москва"}}},
            {"function": {"name": "clock", "arguments": {}}}]},
        {"role": "tool", "content": "clear", "tool_name": "weather", "tool_call_id": "call_1"},
        {"role": "tool", "content": "noon", "tool_name": "clock"},
    ]


@pytest.mark.parametrize("messages, params, kind, words", [
    ("Hi", {"tool_choice": "required"}, UnsupportedError, "tool_choice for ollama"),
    ("Hi", {"tool_choice": WEATHER}, UnsupportedError, "tool_choice for ollama"),
    ("Hi", {"reasoning_effort": "deep"}, UnsupportedError, "none, minimal, low"),
    ("Hi", {"options": {"x": {1, 2}}}, TypeError, "options has no JSON form"),
    ("Hi", {"options": {"x": float("nan")}}, ValueError, "options has no JSON form"),
    ("Hi", {"options": "x"}, TypeError, "options must be a dict"),
    ("Hi", {"num_ctx": 1.5}, TypeError, "num_ctx"),
    ("Hi", {"num_ctx": True}, TypeError, "num_ctx"),
    ("Hi", {"keep_alive": 5}, TypeError, "keep_alive"),
    ("Hi", {"truncate": 5}, TypeError, "unknown parameter 'truncate'"),
    ([Message("tool", "x")], {}, UnsupportedError, "the function's name"),
    ([Message("tool", "x", tool_call_id="other")], {}, UnsupportedError, "the function's name"),
    ([Message("user", ("?", Media("image", "image/gif", b"GIF8")))], {}, UnsupportedError,
     "takes no image/gif"),
    ([Message("user", ("?", Media("image", None, url="http://x/cat")))], {}, UnsupportedError,
     "from a URL"),
    ([Message("user", ("?", Media("audio", "audio/wav", b"RIFF")))], {}, UnsupportedError,
     "takes no audio"),
])
def test_what_has_no_form_is_refused_before_anything_is_sent(
    service, messages, params, kind, words
):
    with pytest.raises(kind, match=words):
        client("ollama").chat(messages, **params)

    assert len(service.calls) == 0


# What is read


def line(text="", **message):
    """Return what a line says, as the server writes it."""
    return {"model": "m", "created_at": "now",
            "message": {"role": "assistant", "content": text, **message}, "done": False}


def last(reason="stop", **members):
    """Return what the last line says."""
    return {**line(), "done": True, "done_reason": reason, **members}


@pytest.mark.parametrize("event, delta", [
    (line("x"), Delta("x", model="m")),
    (line(" \n"), Delta(" \n", model="m")),
    (line(""), None),
    (line("", thinking="hm"), Delta(reasoning="hm", model="m")),
    (line("x", thinking="hm"), Delta("x", reasoning="hm", model="m")),
    (line("", thinking=None), None),
    (line("", tool_calls=[]), None),
    (line("", tool_calls=None), None),
    ({"message": {"content": "x"}, "further": 1}, Delta("x")),
    ({"status": "loading model"}, None),
    ({}, None),
    ({"error": None, "message": {"content": "x"}}, Delta("x")),
    ({"done": "true"}, None),
    ({"done": True}, Delta(final=True)),
    (last(), Delta(finish_reason="stop", final=True, model="m")),
    (last("length"), Delta(finish_reason="length", final=True, model="m")),
    (last("load"), Delta(finish_reason="load", final=True, model="m")),
    (last(None), Delta(final=True, model="m")),
    (last(""), Delta(final=True, model="m")),
    (last(prompt_eval_count=26, eval_count=6),
     Delta(finish_reason="stop", usage=Usage(26, 6, 32), final=True, model="m")),
    (last(eval_count=6), Delta(finish_reason="stop", usage=Usage(None, 6), final=True, model="m")),
    (last(prompt_eval_count="x", eval_count=True),
     Delta(finish_reason="stop", final=True, model="m")),
    (line(tool_calls=[{"function": {"name": "f", "arguments": {"a": [1]}}}]),
     Delta(tool_calls=(ToolCallPart(0, None, "f", '{"a": [1]}'),), model="m")),
    (line(tool_calls=[{"id": "i", "function": {"index": 5, "name": "f", "arguments": '{"a":1}'}},
                      {"id": "", "function": {"name": "g", "arguments": None}}]),
     Delta(tool_calls=(ToolCallPart(0, "i", "f", '{"a":1}'), ToolCallPart(1, None, "g", "{}")),
           model="m")),
    ({**last(), "message": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}},
     Delta(finish_reason="tool_calls", tool_calls=(ToolCallPart(0, None, "f", "{}"),), final=True,
           model="m")),
])
def test_a_line_is_one_step_or_none(event, delta):
    found = Ollama().decode(event)

    if delta is None:
        assert found is None
    else:
        assert found == Delta(
            delta.text, delta.finish_reason, delta.usage, delta.reasoning, delta.tool_calls,
            delta.final, delta.model, raw=event,
        )


@pytest.mark.parametrize("words, retryable", [
    ("an error was encountered while running the model: unexpected EOF", False),
    ("server busy, please try again.  maximum pending requests exceeded", True),
    (["odd"], False),
])
def test_an_error_line_is_an_error_of_the_service(words, retryable):
    with pytest.raises(ProviderError, match="ollama failed inside its answer") as caught:
        Ollama().decode({"error": words})

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("event", [
    {"message": "x"}, {"message": []}, line(7), line(["x"]), line("x", thinking=7),
    line("", tool_calls={}), line("", tool_calls=["x"]), line("", tool_calls=[{}]),
    line("", tool_calls=[{"function": {}}]), line("", tool_calls=[{"function": {"name": ""}}]),
    line("", tool_calls=[{"function": {"name": 7}}]), last(7), {**line(), "model": 7},
    line("", tool_calls=[{"id": 7, "function": {"name": "f"}}]),
])
def test_a_line_of_another_form_is_an_error_of_the_protocol(event):
    with pytest.raises(ProtocolError):
        Ollama().decode(event)


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(Ollama(), [
        line("x", thinking="y"), last(prompt_eval_count=1, eval_count=2),
        line("", tool_calls=[{"id": "i", "function": {"index": 0, "name": "f", "arguments": {}}}]),
        {"error": "x"},
    ])


def test_the_recorded_answers_are_read():
    steps = read(Ollama(), STREAM)
    short = read(Ollama(), LENGTH)

    assert text_of(steps) == TEXT
    assert (steps[-1].finish_reason, steps[-1].usage) == ("stop", Usage(26, 6, 32))
    assert text_of(short) == "One two"
    assert (short[-1].finish_reason, short[-1].usage) == ("length", Usage(None, 6))
    assert {step.model for step in steps} == {"llama3.2"}


def test_calls_are_counted_through_and_thoughts_are_kept_for_the_next_turn(server):
    server.post(URL, body=TOOLS, **LINES)

    reply = client("ollama").chat("?", tools=[WEATHER])

    assert reply.finish_reason == "tool_calls"
    assert reply.reasoning == "The user asks for the weather."
    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [
        ("call_q1w2e3r4", "weather", {"city": "Москва", "days": 2}), (None, "clock", {})]
    assert reply.message.state == {"thinking": reply.reasoning}


def test_thoughts_without_a_call_do_not_go_back(server):
    server.post(URL, body=ANSWER, content_type="application/json")

    reply = client("ollama").chat("Hi")

    assert reply.reasoning == "A greeting."
    assert reply.message.state is None


def test_a_limit_that_ends_an_answer_after_a_call_is_told():
    call = line(tool_calls=[{"function": {"name": "f"}}])
    body = b"".join(json.dumps(event).encode() + b"\n" for event in (call, last("length")))

    assert read(Ollama(), body)[-1].finish_reason == "length"


@pytest.mark.parametrize("body", [STREAM, TOOLS, ANSWER], ids=["stream", "tools", "answer"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read(Ollama(), body)

    for chunks in cut_everywhere(body):
        assert read(Ollama(), *chunks) == whole
    assert read(Ollama(), *single_bytes(body)) == whole


VARIANTS = {
    "crlf": with_crlf(STREAM), "bom": BOM + STREAM, "blank lines": STREAM.replace(b"\n", b"\n\n\n"),
    "no last end": STREAM.rstrip(b"\n"), "blanks": STREAM.replace(b"\n", b" \t\n "),
}


@pytest.mark.parametrize("body", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_the_stream_give_the_same_steps(body):
    assert read(Ollama(), body) == read(Ollama(), STREAM)


@pytest.mark.parametrize("body", [STREAM, LENGTH, with_crlf(STREAM)], ids=["lf", "length", "crlf"])
def test_a_body_that_ends_before_its_last_line_is_interrupted_with_its_text(body):
    frames = whole_frames(body, lambda event: event["message"]["content"])

    check_every_end(Ollama(), body, complete_from=len(body.rstrip(b"\r\n")), whole_at=frames)


def test_a_document_that_is_cut_is_interrupted():
    check_every_end(Ollama(), ANSWER, complete_from=len(ANSWER), whole_at=[])


def test_an_error_after_text_keeps_the_text(server):
    server.post(URL, body=FAILED, **LINES)

    with pytest.raises(ProviderError, match="unexpected EOF") as caught:
        client("ollama").chat("Hi")

    assert caught.value.partial.text == "Hello"


def test_what_comes_after_the_last_line_spoils_nothing():
    for more in (b"x", b'{"error":"late"}\n', STREAM):
        steps, error = outcome(Ollama(), STREAM + more)
        assert error is None
        assert text_of(steps).startswith(TEXT)


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"}, **LINES)

    assert client("ollama").chat("Hi").text == TEXT


@pytest.mark.parametrize("body", [b"", b"\n\n", b"[]", b"<html>", b"null\n", b"7", b"\xff"])
def test_a_body_without_any_line_of_its_own_is_an_error(body):
    assert isinstance(outcome(Ollama(), body)[1], (ProtocolError, StreamInterruptedError))


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(Ollama(), STREAM)
    check_damage(Ollama(), TOOLS)


def test_the_reply_tells_what_the_service_tells(service):
    reply = client("ollama").chat("Hi")

    assert (reply.provider, reply.model, reply.id) == ("ollama", "llama3.2", None)
    assert reply.raw["eval_duration"] == 4535599000
    assert reply.usage == Usage(26, 6, 32)


# Models and vectors


def test_the_models_are_those_that_were_pulled(server):
    server.get(f"{BASE}/api/tags", body=TAGS, content_type="application/json")

    found = client("ollama", api_key="k").models()

    assert found == [Model("llama3.2:latest", "ollama", raw=json.loads(TAGS)["models"][0]),
                     Model("qwen3:8b", "ollama", raw=json.loads(TAGS)["models"][1])]
    assert server.calls[0].request.headers["Authorization"] == "Bearer k"


@pytest.mark.parametrize("body", [
    b"[]", b"{}", b'{"models":{}}', b'{"models":[7]}', b'{"models":[{}]}',
    b'{"models":[{"model":7}]}', b"x",
])
def test_a_list_of_models_of_another_form_is_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        Ollama().list_models(Fetches(body))


def test_texts_become_vectors_in_their_order():
    fetch = Fetches(VECTORS)
    asked = EmbeddingQuery(
        texts=("a", "b"), model="nomic-embed-text", dimensions=3, extra_body={"truncate": False},
        extra_headers={"X-A": "b"},
    )

    found = Ollama().embed(asked, fetch)
    request = fetch.requests[0]

    assert found == Embeddings([[0.01, -0.02, 1e-05], [0.5, 0, -1]], "nomic-embed-text",
                               Usage(prompt_tokens=8, total_tokens=8))
    assert (request.method, request.url, request.repeatable) == ("POST", f"{BASE}/api/embed", True)
    assert request.json == {"model": "nomic-embed-text", "input": ["a", "b"], "dimensions": 3,
                            "truncate": False}
    assert request.headers["X-A"] == "b"


@pytest.mark.parametrize("body", [
    b"[]", b"{}", b'{"embeddings":[[1]]}', b'{"embeddings":[[1],[2],[3]]}',
    b'{"embeddings":[[1],"x"]}', b'{"embeddings":[[1],[]]}', b'{"embeddings":[[1],[null]]}',
    b'{"embeddings":[[1],["2"]]}', b'{"embeddings":[[1],[true]]}', b'{"embeddings":7}', b"x",
])
def test_vectors_of_another_form_are_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        Ollama().embed(EmbeddingQuery(texts=("a", "b"), model="m"), Fetches(body))


def test_many_texts_are_asked_for_in_several_requests_and_kept_in_order():
    texts = [f"text {n}" for n in range(Ollama.embeds + 3)]
    with Simulator() as sim, client("ollama:nomic-embed-text", **sim.fields("ollama")) as asking:
        found = asking.embed(texts)
        alone = asking.embed(texts[-1])

    assert [len(r.json["input"]) for r in sim.requests] == [Ollama.embeds, 3, 1]
    assert len(found.vectors) == len(texts)
    assert found.vectors[-1] == alone.vectors[0]
    assert found.usage.prompt_tokens == 4 * len(texts)


def test_it_counts_no_tokens(service):
    with pytest.raises(UnsupportedError, match="counts no tokens"):
        client("ollama").count_tokens("Hi")


# What it refuses


@pytest.mark.parametrize("status, body, kind, words", [
    (404, {"error": "model 'm' not found"}, NotFoundError,
     "`ollama pull llama3.2` gets it"),
    (400, {"error": '"m" does not support thinking'}, BadRequestError, "support thinking"),
    (400, {"error": "the input length exceeds the context length"}, ContextLengthError, "length"),
    (401, {"error": "unauthorized"}, AuthenticationError, "OLLAMA_API_KEY"),
    (429, {"error": "you have reached your weekly usage limit"}, QuotaExceededError, "weekly"),
    (500, {"error": "model requires more system memory (9 GiB) than is available"}, ServerError,
     "more system memory"),
    (503, {"error": "server busy, please try again."}, ServerError, "OLLAMA_MAX_QUEUE"),
])
def test_a_refusal_says_what_to_do(server, status, body, kind, words):
    server.post(URL, status=status, json=body)

    with pytest.raises(kind, match=re.escape(words)) as caught:
        client("ollama").chat("Hi")

    assert type(caught.value) is kind


def test_a_server_that_is_not_there_is_told_with_what_to_look_at():
    with pytest.raises(APIConnectionError, match="is Ollama running there"):
        client("ollama", base_url="127.0.0.1:9").chat("Hi")


def test_a_model_that_takes_its_time_to_load_is_told_with_what_to_set():
    with Simulator(scenario={"ollama": "stall-head"}) as sim:
        with client("ollama", **sim.fields("ollama"), timeout=Timeout(first=0.1)) as asking:
            with pytest.raises(APITimeoutError, match=r"timeout=Timeout\(first=600\)") as caught:
                asking.chat("Hi")

    assert caught.value.phase == "first"


def test_other_timeouts_say_nothing_of_loading():
    with Simulator(scenario={"ollama": "stall"}) as sim:
        with client("ollama", **sim.fields("ollama"), timeout=Timeout(read=0.1)) as asking:
            with pytest.raises(APITimeoutError) as caught:
                asking.chat("Hi")

    assert "load" not in str(caught.value)


# Over real connections


def test_a_whole_conversation():
    requests = check_conversation("ollama")

    assert [(r.method, r.path) for r in requests] == [("POST", "/api/chat")] * 2
    assert [m["role"] for m in requests[1].json["messages"]] == [
        "system", "user", "assistant", "user"]


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("ollama", scenario)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "tidy-cut", "cut-frames", "reset", "cut-first", "empty",
])
def test_a_cut_is_an_interruption(scenario):
    assert isinstance(broken("ollama", scenario), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
    ("status-404", NotFoundError), ("quota", QuotaExceededError), ("context", ContextLengthError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("ollama", scenario)) is kind


@pytest.mark.parametrize("stream", [True, False])
def test_functions_are_called_and_the_model_hears_of_it(stream):
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"clear in {city}"

    def clock() -> str:
        """Tell the time."""
        return "noon"

    with Simulator() as sim, client("ollama:qwen3:8b", **sim.fields("ollama")) as asking:
        sim.play("parallel-calls", service="ollama")
        run = asking.run("The weather in Moscow?", tools=[weather, clock], stream=stream)
        first, second = sim.requests

    assert run.text == "The function clock returned noon."
    assert [tool["function"]["name"] for tool in first.json["tools"]] == ["weather", "clock"]
    made = second.json["messages"][1]
    assert made["thinking"] == "Let me think: a greeting wants an answer."
    assert [call["function"]["name"] for call in made["tool_calls"]] == ["weather", "clock"]
    assert [(m["tool_name"], m["content"]) for m in second.json["messages"][2:]] == [
        ("weather", "clear in Moscow"), ("clock", "noon")]
    assert {m["tool_call_id"] for m in second.json["messages"][2:]} == {
        call["id"] for call in made["tool_calls"]}


def test_an_answer_is_extracted_by_a_schema():
    with Simulator() as sim, client("ollama", **sim.fields("ollama")) as asking:
        reply = asking.chat("Paris", response_format=SCHEMA)

    assert reply.parse() == {"city": "Paris"}


def test_a_client_finds_the_server_by_the_environment(monkeypatch):
    with Simulator(reply=REPLY) as sim:
        monkeypatch.setenv("OLLAMA_HOST", sim.fields("ollama")["base_url"])
        with Client("ollama") as asking:
            assert asking.chat("Hi").text == REPLY


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_in_tags_are_told_apart(stream):
    with Simulator(reply="Hello <b>", scenario={"ollama": "think-tags"}) as sim:
        with client("ollama", **sim.fields("ollama")) as asking:
            reply = asking.chat("Hi", stream=stream)

    assert (reply.text, reply.reasoning) == (
        "Hello <b>", "Let me think: a greeting wants an answer.")


@pytest.mark.parametrize("text", ["<th", "<think>I was", " <", "<thin king>", "<"])
def test_what_looked_like_a_tag_is_not_lost_when_the_answer_breaks(text):
    steps, error = outcome(Ollama(), json.dumps(line(text)).encode() + b"\n")

    assert isinstance(error, StreamInterruptedError)
    assert text_of(steps) + "".join(step.reasoning for step in steps) == \
        text.removeprefix("<think>")


BESIDE = {"models": lambda c: c.models(), "embeddings": lambda c: c.embed("a")}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("scenario, error", [
    ("500", ServerError), ("cut-head", APIConnectionError), ("cut", APIConnectionError),
    ("empty", ChatError), ("malformed", ProtocolError), ("stall", APITimeoutError),
])
def test_what_is_asked_beside_the_chat_fails_by_its_kind(kind, scenario, error):
    with Simulator(scenario={"ollama": f"{kind}-{scenario}"}) as sim:
        timeout = Timeout(read=0.1)
        with client("ollama", **sim.fields("ollama"), timeout=timeout) as asking:
            with pytest.raises(error):
                BESIDE[kind](asking)
