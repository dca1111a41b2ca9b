"""TGI: one prompt, made by the server's template or here; frames with tokens, the last whole."""

from __future__ import annotations

import json
import re

import pytest
import responses

from chatsdk import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ChatError,
    ConfigurationError,
    ContextLengthError,
    Delta,
    image,
    Message,
    Model,
    NotFoundError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    Timeout,
    UnprocessableEntityError,
    UnsupportedError,
    Usage,
    user,
)
from chatsdk.providers.tgi import Tgi
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
    single_bytes,
    SYSTEM_TWICE,
    text_of,
    whole_frames,
    with_crlf,
    zipped,
)

BASE = "http://127.0.0.1:8080"
URL = f"{BASE}/generate_stream"
TEMPLATE_URL = f"{BASE}/chat_tokenize"
STREAM = recorded("tgi_stream.sse")
STOP = recorded("tgi_stream_stop.sse")
ANSWER = recorded("tgi_answer.json")
FAILED = recorded("tgi_error_after_text.sse")
INFO = recorded("tgi_info.json")
TEMPLATED = recorded("tgi_chat_tokenize.json")
TOKENS = recorded("tgi_tokenize.json")
TEXT = "Hello, мир 🙂"
EVENTS = {"content_type": "text/event-stream"}
AS_JSON = {"content_type": "application/json"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer requests for the prompt, and questions with a stream."""
    server.post(TEMPLATE_URL, body=TEMPLATED, **AS_JSON)
    server.post(URL, body=STREAM, **EVENTS)
    return server


def prepared(messages="Hi", provider=None, templated=TEMPLATED, **details):
    """Return the request for the prompt, if there is one, and that for an answer."""
    fetch = Fetches(templated)
    request = (provider or Tgi()).prepare(query(messages, **details), fetch)
    return (*fetch.requests, request)


def payload(messages="Hi", template="plain", **details):
    """Return the JSON body of the question."""
    return prepared(messages, Tgi(template=template), **details)[-1].json


def parameters(**details):
    return payload(**details)["parameters"]


# What is asked


def test_the_requests_are_byte_for_byte_those_of_the_protocol(service):
    with client("tgi", api_key="k1").stream(
        "Привет 🙂", system="Be kind.", temperature=0.5, max_tokens=5, extra_headers={"X-A": "b"}
    ) as stream:
        assert "".join(stream) == TEXT
    asked, generated = service.calls

    assert [(c.request.method, c.request.url) for c in service.calls] == [
        ("POST", TEMPLATE_URL), ("POST", URL)]
    assert body_sent(asked).decode() == (
        '{"model":"tgi","messages":[{"role":"system","content":"Be kind."},'
        '{"role":"user","content":"Привет 🙂"}]}'
    )
    assert body_sent(generated).decode() == (
        '{"inputs":"<|user|>Hi","parameters":{"temperature":0.5,"max_new_tokens":5,'
        '"details":true,"return_full_text":false}}'
    )
    for call, accept in zip(service.calls, ("application/json", "text/event-stream"), strict=True):
        sent = headers_sent(call, without=("User-Agent", "Content-Length"))
        assert sent == {
            "Accept": accept, "Accept-Encoding": "gzip, deflate", "Authorization": "Bearer k1",
            "Connection": "keep-alive", "Content-Type": "application/json", "X-A": "b",
        }


def test_without_streaming_another_path_is_asked(server):
    server.post(f"{BASE}/generate", body=ANSWER, **AS_JSON)

    reply = client("tgi", template="plain").chat("Hi", stream=False)

    assert (reply.text, reply.finish_reason) == ("Hello, мир", "length")
    assert reply.usage == Usage(completion_tokens=2)


@pytest.mark.parametrize("begin", [
    "", "<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>",
])
def test_the_mark_of_the_begin_is_left_to_the_server(begin):
    templated = json.dumps({"templated_text": f"{begin}[INST] Hi", "tokenize_response": []})

    assert prepared(templated=templated.encode())[-1].json["inputs"] == "[INST] Hi"


@pytest.mark.parametrize("messages, prompt", [
    ("Hi", "Hi"),
    (HISTORY, "User: Hi\nAssistant: Hello!\nUser: More\nAssistant:"),
    (SYSTEM_TWICE, "System: Be brief.\nUser: Hi\nSystem: Be kind.\nUser: More\nAssistant:"),
    ([user("See ", PNG)], f"See ![]({PICTURE})"),
    ([user("See ", "https://x.example/cat.png")], "See ![](https://x.example/cat.png)"),
])
def test_plain_messages_are_lines(messages, prompt):
    requests = prepared(messages, Tgi(template="plain"))

    assert [request.json["inputs"] for request in requests] == [prompt]


def test_a_function_may_write_the_prompt():
    def instruct(messages):
        return "".join(f"[{m.role}] {m.text}\n" for m in messages)

    assert payload(HISTORY, template=instruct)["inputs"] == (
        "[user] Hi\n[assistant] Hello!\n[user] More\n")


@pytest.mark.parametrize("prompt, kind", [(None, TypeError), (b"x", TypeError), ("", ValueError)])
def test_a_function_that_writes_no_prompt_is_told(server, prompt, kind):
    with pytest.raises(kind, match="tgi needs a prompt|template must return a str"):
        client("tgi", template=lambda messages: prompt).chat("Hi")

    assert len(server.calls) == 0


def test_images_go_to_the_template_as_parts():
    asked = prepared([user("See", image(PNG))])[0]

    assert asked.json["messages"] == [{"role": "user", "content": [
        {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PICTURE}}]}]


@pytest.mark.parametrize("template", ["chatml", "", None, 7])
def test_a_template_that_does_not_exist_is_refused(template):
    with pytest.raises(ConfigurationError, match="'server', 'plain' or a function"):
        Tgi(template=template)


EXAMPLES = {
    "temperature": (0.9, {"temperature": 0.9}),
    "top_p": (0.5, {"top_p": 0.5}),
    "max_tokens": (5, {"max_new_tokens": 5}),
    "stop": (("a", "b"), {"stop": ["a", "b"]}),
    "seed": (7, {"seed": 7}),
    "response_format": (SCHEMA, {"grammar": {"type": "json", "value": SCHEMA}}),
    "top_k": (40, {"top_k": 40}),
    "typical_p": (0.9, {"typical_p": 0.9}),
    "repetition_penalty": (1.5, {"repetition_penalty": 1.5}),
    "frequency_penalty": (0.5, {"frequency_penalty": 0.5}),
    "truncate": (100, {"truncate": 100}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(Tgi.parameters) == set(EXAMPLES)
    assert set(Tgi.options) < set(Tgi.parameters)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_that_is_listed_reaches_the_model(service, name):
    value, changed = EXAMPLES[name]

    client("tgi").chat("Hi", **{name: value})

    assert json.loads(body_sent(service.calls[1]))["parameters"] == {**parameters(), **changed}


@pytest.mark.parametrize("details, changed", [
    ({"temperature": 0}, {"do_sample": False}), ({"temperature": 0.0}, {"do_sample": False}),
    ({"top_p": 1}, {}), ({"seed": 0}, {"seed": 0}), ({"stop": ()}, {}),
    ({"response_format": response_format({"type": "text"})}, {}),
    ({"model": "tgi"}, {}), ({"model": "my/adapter"}, {"adapter_id": "my/adapter"}),
])
def test_values_are_put_in_the_servers_words(details, changed):
    assert parameters(**details) == {"details": True, "return_full_text": False, **changed}


@pytest.mark.parametrize("messages, params, kind, words", [
    ("Hi", {"top_p": 0}, ValueError, "top_p for tgi"),
    ("Hi", {"seed": -1}, ValueError, "seed for tgi"),
    ("", {}, ValueError, "a prompt that is not empty"),
    ("Hi", {"response_format": {"type": "json_object"}}, UnsupportedError, "with properties"),
    ("Hi", {"response_format": {"type": "array"}}, UnsupportedError, "with properties"),
    ("Hi", {"tools": [len]}, TypeError, "."),
    ("Hi", {"reasoning_effort": "low"}, UnsupportedError, "honour reasoning_effort"),
    ("Hi", {"top_k": 1.5}, TypeError, "top_k"),
    ("Hi", {"num_ctx": 5}, TypeError, "unknown parameter 'num_ctx'"),
    ([Message("tool", "x", name="f")], {}, UnsupportedError, "knows no tools"),
    ([user("?", b"%PDF-1")], {}, UnsupportedError, "takes no document"),
])
def test_what_has_no_form_is_refused_before_anything_is_sent(
    service, messages, params, kind, words
):
    with pytest.raises(kind, match=words):
        client("tgi").chat(messages, **params)

    assert len(service.calls) == 0


def test_extra_members_are_merged_into_the_question_level_by_level():
    body = payload(temperature=1, extra_body={"parameters": {"temperature": 2, "watermark": True}})

    assert body["parameters"] == {**parameters(), "temperature": 2, "watermark": True}


def test_a_token_of_the_hub_is_for_the_hub_alone(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert all("Authorization" not in request.headers for request in prepared())


def test_the_environment_names_the_server(monkeypatch):
    monkeypatch.setenv("TGI_BASE_URL", "http://gpu.example:3000/")

    assert [request.url for request in prepared(provider=Tgi())] == [
        "http://gpu.example:3000/chat_tokenize", "http://gpu.example:3000/generate_stream"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        Tgi(api_key=key)

    assert "q9" not in str(caught.value)


# Before the answer


@pytest.mark.parametrize("status, kind", [(404, NotFoundError), (422, UnprocessableEntityError)])
def test_a_server_without_a_template_is_told_with_the_way_out(server, status, kind):
    server.post(TEMPLATE_URL, status=status)

    with pytest.raises(kind, match="template='plain'"):
        client("tgi").chat("Hi")

    assert len(server.calls) == 1


@pytest.mark.parametrize("templated", [
    b"[]", b"{}", b'{"templated_text":7}', b'{"templated_text":""}', b"x", b"",
])
def test_an_answer_without_a_prompt_is_an_error_of_the_protocol(templated):
    with pytest.raises(ProtocolError):
        prepared(templated=templated)


# What is read


def token(text="x", special=False, **members):
    """Return a frame with a token, as the server writes it."""
    return {
        "index": 1,
        "token": {"id": 7, "text": text, "logprob": -0.5, "special": special},
        "generated_text": None,
        "details": None,
        **members,
    }


def details(reason, tokens=3, **more):
    return {"finish_reason": reason, "generated_tokens": tokens, "seed": None, **more}


def frames(*events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


@pytest.mark.parametrize("event, delta", [
    (token("x"), Delta("x")),
    (token(""), None),
    (token("<s>", special=True), None),
    (token("</s>", True, generated_text="Hi"), Delta(final=True)),
    ({"generated_text": "Hi"}, Delta(final=True)),
    (token("</s>", True, generated_text="Hi", details=details("eos_token", input_length=12)),
     Delta(finish_reason="stop", usage=Usage(12, 3, 15), final=True)),
    (token("!", generated_text="Hi!", details=details("length", input_length=12)),
     Delta("!", "length", Usage(12, 3, 15), final=True)),
    (token("!", generated_text="Hi!", details=details("stop_sequence")),
     Delta("!", "stop", Usage(completion_tokens=3), final=True)),
    (token("!", generated_text="Hi!", details=details("odd", None, input_length=True)),
     Delta("!", "odd", final=True)),
])
def test_an_event_is_one_step_or_none(event, delta):
    found = Tgi().decode(event)

    if delta is None:
        assert found is None
    else:
        assert found == Delta(delta.text, delta.finish_reason, delta.usage, final=delta.final,
                              raw=event)


@pytest.mark.parametrize("kind, words, error, retryable", [
    ("validation", "Input validation error: `top_p` must be > 0.0", ProviderError, False),
    ("overloaded", "Model is overloaded", ProviderError, True),
    ("generation", "Request failed during generation: CUDA", ProviderError, False),
    ("validation", "Input validation error: `inputs` must have less than 3072 tokens. Given: 9000",
     ContextLengthError, False),
    ("validation", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.",
     ContextLengthError, False),
    (None, None, ProviderError, False),
])
def test_an_error_event_is_an_error_of_the_service(kind, words, error, retryable):
    with pytest.raises(error, match=re.escape(f"inside its answer: {words}")) as caught:
        Tgi().decode({"error": words, "error_type": kind})

    assert type(caught.value) is error
    assert caught.value.retryable is retryable


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(Tgi(), [
        token("x"),
        token("x", True, generated_text="x", details=details("length", input_length=1)),
        {"error": "x", "error_type": "validation"},
    ])


def test_the_recorded_answers_are_read():
    steps = read(Tgi(), STREAM)

    assert text_of(steps) == TEXT
    assert (steps[-1].finish_reason, steps[-1].usage) == ("stop", Usage(12, 4, 16))
    assert text_of(read(Tgi(), STOP)) == "One\n\nUserful\n\nUser:"


def test_the_whole_text_is_the_answer_if_no_token_had_any():
    body = frames(token("<s>", True), token("", generated_text="Hi!"))

    assert [delta.text for delta in read(Tgi(), body)] == ["Hi!"]


@pytest.mark.parametrize("body", [STREAM, STOP], ids=["stream", "stop"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read(Tgi(), body)

    for chunks in cut_everywhere(body):
        assert read(Tgi(), *chunks) == whole
    assert read(Tgi(), *single_bytes(body)) == whole


VARIANTS = {
    "crlf": with_crlf(STREAM), "bom": BOM + STREAM, "no blank": STREAM.replace(b"data: ", b"data:"),
    "comments": b": ping\n\n" + STREAM, "no last end": STREAM.rstrip(b"\n"),
    "events": STREAM.replace(b"data: ", b"event: message\ndata: "),
}


@pytest.mark.parametrize("body", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_the_stream_give_the_same_steps(body):
    assert read(Tgi(), body) == read(Tgi(), STREAM)


@pytest.mark.parametrize("body", [STREAM, STOP, with_crlf(STREAM)], ids=["lf", "stop", "crlf"])
def test_a_body_that_ends_before_its_last_frame_is_interrupted_with_its_text(body):
    def spoken(event):
        return "" if event["token"]["special"] else event["token"]["text"]

    check_every_end(Tgi(), body, complete_from=len(body.rstrip(b"\r\n")),
                    whole_at=whole_frames(body, spoken))


def test_a_document_that_is_cut_is_interrupted():
    check_every_end(Tgi(), ANSWER, complete_from=len(ANSWER), whole_at=[],
                    Content_Type="application/json")


def test_an_error_after_text_keeps_the_text(server):
    server.post(TEMPLATE_URL, body=TEMPLATED, **AS_JSON)
    server.post(URL, body=FAILED, **EVENTS)

    with pytest.raises(ProviderError, match="CUDA out of memory") as caught:
        client("tgi").chat("Hi")

    assert caught.value.partial.text == "Hello"


def test_what_comes_after_the_last_frame_spoils_nothing():
    for more in (b"x", b'data: {"error":"late"}\n\n', STREAM):
        steps, error = outcome(Tgi(), STREAM + more)
        assert error is None
        assert text_of(steps).startswith(TEXT)


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"}, **EVENTS)

    assert client("tgi", template="plain").chat("Hi").text == TEXT


@pytest.mark.parametrize("body", [b"", b"\n\n", b"[]", b"<html>", b"null", b"data: 7\n\n", b"\xff"])
def test_a_body_without_any_frame_of_its_own_is_an_error(body):
    assert isinstance(outcome(Tgi(), body)[1], (ProtocolError, StreamInterruptedError))


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(Tgi(), STREAM)


# Stop texts


def stopped(stops, *pieces, reason="stop_sequence", ended=True):
    """Return the texts of an answer's steps, and its error or None."""
    told = [token(piece) for piece in pieces[:-1]]
    whole = "".join(pieces)
    told.append(token(pieces[-1], generated_text=whole, details=details(reason)) if ended
                else token(pieces[-1]))
    steps, error = [], None
    try:
        for delta in Tgi().deltas(query(stop=stops), Answer(frames(*told))):
            steps.append(delta.text)
    except Exception as caught:
        error = caught
    return [text for text in steps if text], error


@pytest.mark.parametrize("stops, pieces, texts", [
    (("\nUser:",), ("One", "\n\nUser", "ful\n", "\nUser", ":"), ["One", "\n", "\nUserful", "\n"]),
    (("three",), ("one ", "two ", "three"), ["one ", "two "]),
    ((".",), ("A.b", "c."), ["A.b", "c"]),
    (("END", "D"), ("x", "END"), ["x"]),
    (("ab", "abc"), ("xab", "c"), ["x"]),
    (("x",), ("x",), []),
    (("none",), ("whole ", "text"), ["whole ", "text"]),
    (("\U0001f642",), ("Hi \U0001f642",), ["Hi "]),
])
def test_the_text_that_ended_an_answer_is_cut_off(stops, pieces, texts):
    assert stopped(stops, *pieces) == (texts, None)


@pytest.mark.parametrize("reason", ["eos_token", "length"])
def test_an_answer_that_ended_otherwise_keeps_its_text(reason):
    assert stopped(("end",), "the ", "end", reason=reason) == (["the ", "end"], None)


def test_what_was_held_back_is_not_lost_when_the_answer_breaks():
    texts, error = stopped(("\nUser:",), "Hi", "\nUse", ended=False)

    assert texts == ["Hi", "\nUse"]
    assert isinstance(error, StreamInterruptedError)


def test_text_that_can_be_no_stop_text_does_not_wait():
    body = Answer(frames(token("one ")), frames(token("two")))
    steps = Tgi().deltas(query(stop=("three",)), body)

    assert next(steps).text == "one "


def test_stop_texts_are_cut_off_over_a_real_connection():
    with Simulator(reply="One two.\n\nUser: more") as sim:
        with client("tgi", **sim.fields("tgi")) as asking:
            streamed = asking.chat("Hi", stop=["\n\nUser:"])
            whole = asking.chat("Hi", stop=["\n\nUser:"], stream=False)

    assert streamed.text == whole.text == "One two."
    assert streamed.finish_reason == whole.finish_reason == "stop"


# The model, and tokens


def test_the_model_is_the_one_that_is_served(server):
    server.get(f"{BASE}/info", body=INFO, **AS_JSON)

    assert client("tgi").models() == [
        Model("HuggingFaceTB/SmolLM2-1.7B-Instruct", "tgi", raw=json.loads(INFO))]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"model_id":7}', b'{"model_id":""}', b"x"])
def test_a_server_that_names_no_model_is_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        Tgi().list_models(Fetches(body))


@pytest.mark.parametrize("template, path, body, tokens", [
    ("server", "/chat_tokenize", TEMPLATED, 3), ("plain", "/tokenize", TOKENS, 2),
    (lambda messages: "Hi", "/tokenize", TOKENS, 2),
])
def test_tokens_are_counted_by_the_server(server, template, path, body, tokens):
    server.post(BASE + path, body=body, **AS_JSON)

    assert client("tgi", template=template).count_tokens("Hi") == tokens
    assert len(server.calls) == 1


@pytest.mark.parametrize("template, body", [
    ("plain", b"{}"), ("plain", b"7"), ("server", b'{"templated_text":"x"}'),
    ("server", b'{"templated_text":"x","tokenize_response":7}'),
])
def test_tokens_that_are_no_list_are_an_error_of_the_protocol(template, body):
    with pytest.raises(ProtocolError):
        Tgi(template=template).count_tokens(query(), Fetches(body))


def test_it_makes_no_vectors(server):
    with pytest.raises(UnsupportedError, match="makes no embeddings"):
        client("tgi").embed("Hi")


# What it refuses


@pytest.mark.parametrize("status, body, kind, words", [
    (401, b"", AuthenticationError, "api_key="),
    (404, b"", NotFoundError, "a text-generation-inference server?"),
    (422, b'{"error":"Input validation error: `inputs` must have less than 3072 tokens. Given: 1",'
     b'"error_type":"validation"}', ContextLengthError, "3072 tokens"),
    (422, b'{"error":"Input validation error: `top_p` must be","error_type":"validation"}',
     UnprocessableEntityError, "`top_p`"),
    (429, b'{"error":"Model is overloaded","error_type":"overloaded"}', RateLimitError,
     "overloaded"),
    (500, b'{"error":"Incomplete generation","error_type":"incomplete_generation"}', ServerError,
     "Incomplete generation"),
])
def test_a_refusal_says_what_to_do(server, status, body, kind, words):
    server.post(f"{BASE}/generate", status=status, body=body, **AS_JSON)

    with pytest.raises(kind, match=re.escape(words)) as caught:
        client("tgi", template="plain").chat("Hi", stream=False)

    assert type(caught.value) is kind


def test_a_server_that_is_not_there_is_told_with_what_to_look_at():
    with pytest.raises(APIConnectionError, match="is the server running there"):
        client("tgi", base_url="http://127.0.0.1:9").chat("Hi")


# Over real connections


def test_a_whole_conversation():
    requests = check_conversation("tgi")

    assert [(r.method, r.path) for r in requests] == [
        ("POST", "/chat_tokenize"), ("POST", "/generate_stream")] * 2


def test_a_whole_conversation_in_plain_lines():
    requests = check_conversation("tgi", template="plain")

    assert [(r.method, r.path) for r in requests] == [("POST", "/generate_stream")] * 2
    assert requests[1].json["inputs"].endswith("\nUser: What is my name?\nAssistant:")


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("tgi", scenario)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "tidy-cut", "cut-frames", "reset", "cut-first", "empty",
])
def test_a_cut_is_an_interruption(scenario):
    assert isinstance(broken("tgi", scenario), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
    ("status-404", NotFoundError), ("template-500", ServerError),
    ("template-malformed", ProtocolError), ("template-missing", ProtocolError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("tgi", scenario)) is kind


def test_a_prompt_that_is_too_long_is_told_inside_the_answer():
    with Simulator() as sim, client("tgi", **sim.fields("tgi")) as asking:
        with pytest.raises(ContextLengthError, match="Given: "):
            asking.chat("word " * 5000)


def test_an_answer_is_extracted_by_a_schema():
    with Simulator() as sim, client("tgi", **sim.fields("tgi")) as asking:
        reply = asking.chat("Paris", response_format=SCHEMA)

    assert reply.parse() == {"city": "Paris"}


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_in_tags_are_told_apart(stream):
    with Simulator(reply="Hello <b>", scenario={"tgi": "think-tags"}) as sim:
        with client("tgi", **sim.fields("tgi")) as asking:
            reply = asking.chat("Hi", stream=stream)

    assert (reply.text, reply.reasoning) == (
        "Hello <b>", "Let me think: a greeting wants an answer.")


@pytest.mark.parametrize("text", ["<th", "<think>I was", " <", "<thin king>", "<"])
def test_what_looked_like_a_tag_is_not_lost_when_the_answer_breaks(text):
    steps, error = outcome(Tgi(), frames(token(text)))

    assert isinstance(error, StreamInterruptedError)
    assert text_of(steps) + "".join(step.reasoning for step in steps) == \
        text.removeprefix("<think>")


BESIDE = {"models": lambda c: c.models(), "template": lambda c: c.count_tokens("a")}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("scenario, error", [
    ("500", ServerError), ("cut-head", APIConnectionError), ("cut", APIConnectionError),
    ("empty", ChatError), ("malformed", ProtocolError), ("stall", APITimeoutError),
])
def test_what_is_asked_beside_the_chat_fails_by_its_kind(kind, scenario, error):
    with Simulator(scenario={"tgi": f"{kind}-{scenario}"}) as sim:
        timeout = Timeout(read=0.1)
        with client("tgi", **sim.fields("tgi"), timeout=timeout) as asking:
            with pytest.raises(error):
                BESIDE[kind](asking)
