"""H2o: settings, a conversation of its own, a stream, and the conversation deleted."""

from __future__ import annotations

import gc
import json
import logging
import re
import uuid

import pytest
import responses

from chatsdk import (
    ChatError,
    ConfigurationError,
    Delta,
    NotFoundError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    UnsupportedError,
    Usage,
)
from chatsdk.providers.h2o import H2o
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

BASE = "https://gpt-gm.h2o.ai"
FALCON_40B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
FALCON_7B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-7b-v3"
LLAMA_13B = "h2oai/h2ogpt-gm-oasst1-en-2048-open-llama-13b"
CONVERSATION = f"{BASE}/conversation/64a1f3c2b5d6e7f809a1b2c3"
SETTINGS = recorded("h2o_settings.json")
OPENED = recorded("h2o_conversation.json")
STREAM = recorded("h2o_stream.sse")
LENGTH = recorded("h2o_stream_length.sse")
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
FORM = (
    "ethicsModalAccepted=true&shareConversationsWithModelAuthors={share}&ethicsModalAcceptedAt="
    "&activeModel=h2oai%2Fh2ogpt-gm-oasst1-en-2048-falcon-40b-v1&searchEnabled=true"
)
GENERATE = (
    '{"inputs":"Привет 🙂","parameters":{"temperature":0.4,"truncate":2048,"max_new_tokens":1024,'
    '"do_sample":true,"repetition_penalty":1.2,"return_full_text":false,"details":true},'
    '"stream":true,"options":{"id":"00000000-0000-4000-8000-000000000001",'
    '"response_id":"00000000-0000-4000-8000-000000000002","is_retry":false,"use_cache":false,'
    '"web_search_id":""}}'
)
STEPS = ["POST /settings", "POST /conversation", "POST /conversation/<id>"]
STOP = "POST /conversation/<id>/stop-generating"
DELETE = "DELETE /conversation/<id>"


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer all requests but the question."""
    server.post(f"{BASE}/settings", body=SETTINGS, headers={"Set-Cookie": "hf-chat=s1; Path=/"})
    server.post(f"{BASE}/conversation", body=OPENED, content_type="application/json")
    server.post(f"{CONVERSATION}/stop-generating")
    server.delete(CONVERSATION)
    return server


@pytest.fixture
def fixed(monkeypatch):
    ids = iter(range(1, 100))
    monkeypatch.setattr(
        uuid, "uuid4", lambda: uuid.UUID(f"00000000-0000-4000-8000-{next(ids):012x}")
    )


def answering(service, body=STREAM, **details):
    """Let the service answer with a stream."""
    service.post(CONVERSATION, body=body, content_type="text/event-stream", **details)
    return service


def prepared(messages="Hi", provider=None, opened=OPENED, **details):
    """Return the requests before the question, and the question."""
    fetch = Fetches(SETTINGS, opened)
    request = (provider or H2o()).prepare(query(messages, **details), fetch)
    return (*fetch.requests, request)


def payload(messages="Hi", **details):
    """Return the JSON body of the question."""
    return prepared(messages, **details)[2].json


def parameters(**details):
    """Return what of it goes to the model."""
    return payload(**details)["parameters"]


def seen(service):
    """Return which requests came, in order."""
    return [
        f"{call.request.method} {call.request.path_url}".replace("64a1f3c2b5d6e7f809a1b2c3", "<id>")
        for call in service.calls
    ]


# What is asked


def test_the_requests_are_byte_for_byte_those_of_the_protocol(service, fixed):
    answering(service)

    client("h2o").chat("Привет 🙂")

    settings, create, generate, delete = service.calls
    common = {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Referer": "https://gpt-gm.h2o.ai/",
    }
    as_json = {**common, "Content-Type": "application/json", "Cookie": "hf-chat=s1"}
    assert body_sent(settings).decode() == FORM.format(share="")
    assert headers_sent(settings) == {
        **common,
        "Content-Length": "161",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert body_sent(create).decode() == f'{{"model":"{FALCON_40B}"}}'
    assert headers_sent(create) == {**as_json, "Content-Length": str(len(body_sent(create)))}
    assert body_sent(generate).decode() == GENERATE
    assert headers_sent(generate) == {**as_json, "Content-Length": str(len(GENERATE.encode()))}
    assert body_sent(delete) == b""
    sent = headers_sent(delete, without=("User-Agent", "Content-Length"))
    assert sent == {**common, "Cookie": "hf-chat=s1"}
    assert seen(service) == [*STEPS, DELETE]


def test_sharing_with_the_models_authors_is_a_choice(service):
    answering(service)

    client("h2o", share_conversations=True).chat("Hi")

    sent = body_sent(service.calls[0])
    assert sent.decode() == FORM.format(share="true")
    assert len(sent) == 165


def test_the_choice_to_share_is_a_bool():
    with pytest.raises(TypeError, match="share_conversations"):
        H2o(share_conversations="false")


@pytest.mark.parametrize("answer", [
    {"status": 200, "body": SETTINGS},
    {"status": 303, "headers": {"Location": f"{BASE}/"}},
    {"status": 302, "headers": {"Location": "/elsewhere"}},
])
def test_settings_are_accepted_by_200_or_any_redirect_that_is_not_followed(server, answer):
    server.post(f"{BASE}/settings", **answer)
    server.post(f"{BASE}/conversation", body=OPENED)
    server.delete(CONVERSATION)
    answering(server)

    reply = client("h2o").chat("Hi")

    assert reply.text == "Hello!"
    assert seen(server) == [*STEPS, DELETE]


def test_each_request_has_fresh_ids_of_the_right_form():
    options = [payload()["options"] for _ in range(20)]

    ids = [option[name] for option in options for name in ("id", "response_id")]
    assert all(re.fullmatch(UUID, id) for id in ids)
    assert len(set(ids)) == 40


@pytest.mark.parametrize("messages, text", [
    ("Hi", "Hi"),
    (HISTORY, "User: Hi\nAssistant: Hello!\nUser: More\nAssistant:"),
    (SYSTEM_TWICE, "System: Be brief.\nUser: Hi\nSystem: Be kind.\nUser: More\nAssistant:"),
    ([{"role": "assistant", "content": "Only"}], "Only"),
])
def test_messages_are_flattened_into_the_inputs(messages, text):
    assert payload(messages)["inputs"] == text


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_blank_question_is_refused_before_anything_is_sent(service, text):
    with pytest.raises(ValueError, match="blank"):
        client("h2o").chat(text)

    assert len(service.calls) == 0


@pytest.mark.parametrize("asked, sent", [
    (None, FALCON_40B),
    ("falcon-40b", FALCON_40B),
    ("falcon-7b", FALCON_7B),
    ("llama-13b", LLAMA_13B),
    (FALCON_7B, FALCON_7B),
    ("self/hosted", "self/hosted"),
])
def test_the_model_is_resolved_and_named_twice(asked, sent):
    settings, create, _ = prepared(model=asked)

    assert settings.form["activeModel"] == sent
    assert create.json == {"model": sent}


def test_a_target_can_name_the_model(service):
    answering(service)

    client("h2o:falcon-7b").chat("Hi")

    assert json.loads(body_sent(service.calls[1])) == {"model": FALCON_7B}


def test_a_path_before_the_routes_is_kept():
    requests = prepared(provider=H2o(base_url="http://localhost:5173/chat/"))

    assert [request.url for request in requests] == [
        "http://localhost:5173/chat/settings",
        "http://localhost:5173/chat/conversation",
        "http://localhost:5173/chat/conversation/64a1f3c2b5d6e7f809a1b2c3",
    ]
    assert {request.headers["Referer"] for request in requests} == {"http://localhost:5173/chat/"}
    assert [request.url for request in (*requests[2].left_early, requests[1].undo(OPENED))] == [
        "http://localhost:5173/chat/conversation/64a1f3c2b5d6e7f809a1b2c3/stop-generating",
        "http://localhost:5173/chat/conversation/64a1f3c2b5d6e7f809a1b2c3",
    ]


EXAMPLES = {
    "temperature": (0.9, {"temperature": 0.9}),
    "max_tokens": (5, {"max_new_tokens": 5}),
    "top_p": (0.5, {"top_p": 0.5}),
    "stop": (("a", "b"), {"stop": ["a", "b"]}),
    "seed": (7, {"seed": 7}),
    "truncate": (100, {"truncate": 100}),
    "repetition_penalty": (1.5, {"repetition_penalty": 1.5}),
    "top_k": (40, {"top_k": 40}),
    "typical_p": (0.9, {"typical_p": 0.9}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(H2o.parameters) == set(EXAMPLES)
    assert set(H2o.options) < set(H2o.parameters)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_that_is_listed_reaches_the_model(service, name):
    answering(service)
    value, changed = EXAMPLES[name]

    client("h2o").chat("Hi", **{name: value})

    assert json.loads(body_sent(service.calls[2]))["parameters"] == {**parameters(), **changed}


@pytest.mark.parametrize("details, changed, without", [
    ({"temperature": 0}, {"do_sample": False}, "temperature"),
    ({"temperature": 0.0}, {"do_sample": False}, "temperature"),
    ({"top_p": 1}, {}, ""),
    ({"top_p": 1.0}, {}, ""),
    ({"seed": 0}, {"seed": 0}, ""),
    ({"stop": ()}, {}, ""),
])
def test_values_that_the_model_server_refuses_are_put_in_its_words(details, changed, without):
    expected = {**parameters(), **changed}
    expected.pop(without, None)

    assert parameters(**details) == expected


@pytest.mark.parametrize("name, value", [("top_p", 0), ("seed", -1)])
def test_values_without_any_form_are_refused_before_anything_is_sent(service, name, value):
    with pytest.raises(ValueError, match=name):
        client("h2o").chat("Hi", **{name: value})

    assert len(service.calls) == 0


@pytest.mark.parametrize("name, value", [
    ("truncate", 1.5), ("truncate", "x"), ("top_k", True), ("typical_p", "0.5"),
    ("repetition_penalty", [1]),
])
def test_an_option_of_the_wrong_type_is_refused_before_anything_is_sent(service, name, value):
    with pytest.raises(TypeError, match=name):
        client("h2o").chat("Hi", **{name: value})

    assert len(service.calls) == 0


@pytest.mark.parametrize("name, value", [
    ("tools", [{"type": "function", "function": {"name": "f"}}]), ("tool_choice", "auto"),
    ("response_format", {"type": "json_object"}), ("reasoning_effort", "low"),
])
def test_other_parameters_are_refused_with_those_that_are_honoured(service, name, value):
    with pytest.raises(UnsupportedError) as caught:
        client("h2o").chat("Hi", **{name: value})

    assert f"honour {name}" in str(caught.value)
    assert all(honoured in str(caught.value) for honoured in H2o.parameters)
    assert len(service.calls) == 0


def test_a_parameter_of_another_service_is_unknown(service):
    with pytest.raises(TypeError, match="profanity_check"):
        client("h2o").chat("Hi", profanity_check=True)


def test_other_parameters_can_be_left_out_with_a_warning(service, fixed, caplog):
    answering(service)

    with caplog.at_level(logging.WARNING, "chatsdk"):
        client("h2o", drop_unsupported=True).chat("Привет 🙂", reasoning_effort="low")

    assert body_sent(service.calls[2]).decode() == GENERATE
    assert "h2o cannot honour reasoning_effort: left out" in caplog.text


def test_extra_members_are_merged_last_and_level_by_level(service):
    answering(service)

    client("h2o").chat("Hi", extra_body={"parameters": {"watermark": True}, "further": 1})

    body = json.loads(body_sent(service.calls[2]))
    assert body["parameters"] == {**parameters(), "watermark": True}
    assert body["further"] == 1
    assert json.loads(body_sent(service.calls[1])) == {"model": FALCON_40B}


def test_headers_and_a_key_for_a_proxy_go_with_every_request(service):
    answering(service)
    asking = client("h2o", api_key="k1", headers={"X-A": "1"}, cookies={"own": "abc"})

    asking.chat("Hi", extra_headers={"X-B": "2"})

    assert len(service.calls) == 4
    for call in service.calls:
        headers = call.request.headers
        assert (headers["X-A"], headers["X-B"]) == ("1", "2")
        assert headers["Authorization"] == "Bearer k1"
        assert "own=abc" in headers["Cookie"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client("h2o", api_key=key)

    assert not key or key not in str(caught.value)


def test_each_chat_has_a_cookie_of_its_own(service):
    answering(service)
    asking = client("h2o")

    asking.chat("Hi")
    asking.chat("Hi")

    first_again = service.calls[4].request
    assert first_again.path_url == "/settings"
    assert "Cookie" not in first_again.headers


def test_the_models_are_those_known():
    assert [model.id for model in client("h2o").models()] == [FALCON_40B, FALCON_7B, LLAMA_13B]


def test_nothing_is_trusted_beside_the_common_roots():
    settings, create, generate = prepared()

    everything = [settings, create, generate, *generate.left_early, create.undo(OPENED)]
    assert {request.trust for request in everything} == {None}


# A conversation is opened


@pytest.mark.parametrize("answer", [
    b"", b"<html>", b"null", b"[]", b"{}", b'{"conversationId":null}', b'{"conversationId":""}',
    b'{"conversationId":7}', b'{"conversationId":["a"]}', b'{"conversationId":"../settings"}',
    b'{"conversationId":"a/b"}', b'{"conversationId":"a?b"}', b'{"conversationId":"a b"}',
    b'{"conversationId":"a\\r\\nb"}', b'{"conversationId":"a\\n"}', b'{"conversationId":".."}',
    '{"conversationId":"ключ"}'.encode(), b'{"conversationId":"' + b"a" * 1000 + b'"}',
    b'{"conversationId":"64a1',
])
def test_an_answer_without_a_fit_id_ends_the_call(answer):
    with pytest.raises(ProtocolError):
        prepared(opened=answer)


def test_without_a_conversation_there_is_nothing_to_delete(server):
    server.post(f"{BASE}/settings", body=SETTINGS)
    server.post(f"{BASE}/conversation", status=500, json={"message": "Internal Error"})

    with pytest.raises(ServerError, match="Internal Error"):
        client("h2o").chat("Hi")

    assert seen(server) == STEPS[:2]


def test_settings_that_are_refused_end_the_call(server):
    server.post(f"{BASE}/settings", status=500, json={
        "type": "error", "error": {"message": "Internal Error"}})

    with pytest.raises(ServerError, match="Internal Error"):
        client("h2o").chat("Hi")

    assert seen(server) == STEPS[:1]


# Clean-up


def test_a_refused_question_leaves_no_conversation(service):
    service.post(CONVERSATION, status=429, json={"message": "You are sending too many messages."})

    with pytest.raises(RateLimitError, match="too many messages"):
        client("h2o").chat("Hi")

    assert seen(service) == [*STEPS, DELETE]


def test_an_error_in_the_stream_leaves_no_conversation(service):
    answering(service, recorded("h2o_error_after_text.sse"))

    with pytest.raises(ProviderError, match="CUDA out of memory") as caught:
        client("h2o").chat("Hi")

    assert caught.value.partial.text == "Hello"
    assert seen(service)[:3] == STEPS
    assert seen(service)[-1] == DELETE


def test_a_stream_that_is_left_early_is_stopped_and_deleted_with_the_same_cookie(service):
    answering(service)

    with client("h2o").stream("Hi") as stream:
        first = next(stream)

    assert first == "Hello"
    assert seen(service) == [*STEPS, STOP, DELETE]
    assert {call.request.headers["Cookie"] for call in service.calls[1:]} == {"hf-chat=s1"}


def test_a_failing_clean_up_changes_no_result_and_is_logged(server, caplog):
    server.post(f"{BASE}/settings", body=SETTINGS)
    server.post(f"{BASE}/conversation", body=OPENED)
    server.delete(CONVERSATION, status=404, json={"message": "Conversation not found"})
    answering(server)

    with caplog.at_level(logging.WARNING, "chatsdk"):
        reply = client("h2o").chat("Hi")

    assert reply.text == "Hello!"
    assert "clean-up at h2o failed: DELETE" in caplog.text


def test_a_failing_clean_up_does_not_hide_the_first_error(server):
    server.post(f"{BASE}/settings", body=SETTINGS)
    server.post(f"{BASE}/conversation", body=OPENED)
    server.post(CONVERSATION, status=404, json={"message": "Conversation not found"})
    server.delete(CONVERSATION, status=500)

    with pytest.raises(NotFoundError, match="Conversation not found"):
        client("h2o").chat("Hi")


def test_a_retry_opens_a_conversation_of_its_own(service):
    overloaded = b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n'
    service.post(CONVERSATION, body=overloaded, content_type="text/event-stream")
    answering(service)

    reply = client("h2o", max_retries=RetryPolicy(1, initial=0)).chat("Hi")

    assert reply.text == "Hello!"
    again = [STOP] if STOP in seen(service) else []
    assert seen(service) == [*STEPS, *again, DELETE, *STEPS, DELETE]


# What is read


def token(text="x", special=False, **members):
    """Return a frame with a token, as the model server writes it."""
    return {
        "token": {"id": 7, "text": text, "logprob": -0.5, "special": special},
        "generated_text": None,
        "details": None,
        **members,
    }


def details(reason, tokens=3):
    return {"finish_reason": reason, "generated_tokens": tokens, "seed": None}


@pytest.mark.parametrize("event, delta", [
    (token("x"), Delta("x")),
    (token(" x"), Delta(" x")),
    (token(""), None),
    (token("<s>", special=True), None),
    (token("x", special=None), Delta("x")),
    ({"token": {"text": "x"}}, Delta("x")),
    ({"token": {"text": "x", "further": 1}, "further": 2}, Delta("x")),
    (token("</s>", special=True, generated_text="Hi"), Delta(final=True)),
    (token("</s>", special=True, generated_text=""), Delta(final=True)),
    (token("!", generated_text="Hi!"), Delta("!", final=True)),
    ({"generated_text": "Hi"}, Delta(final=True)),
    (token("</s>", True, generated_text="Hi", details=details("eos_token")),
     Delta(final=True, finish_reason="stop", usage=Usage(completion_tokens=3))),
    (token("!", generated_text="Hi!", details=details("stop_sequence")),
     Delta("!", final=True, finish_reason="stop", usage=Usage(completion_tokens=3))),
    (token("!", generated_text="Hi!", details=details("length", 1024)),
     Delta("!", final=True, finish_reason="length", usage=Usage(completion_tokens=1024))),
    (token("!", generated_text="Hi!", details=details("new_reason", None)),
     Delta("!", final=True, finish_reason="new_reason")),
    (token("!", generated_text="Hi!", details={}), Delta("!", final=True)),
    (token("!", generated_text="Hi!", details={"finish_reason": None, "generated_tokens": True}),
     Delta("!", final=True)),
])
def test_an_event_is_one_step_or_none(event, delta):
    found = H2o().decode(event)

    if delta is None:
        assert found is None
    else:
        assert found.raw is event
        assert found == Delta(
            delta.text, delta.finish_reason, delta.usage, final=delta.final, raw=event
        )


@pytest.mark.parametrize("kind, words, retryable", [
    ("validation", "Input validation error: `top_p` must be > 0.0 and < 1.0", False),
    ("overloaded", "Model is overloaded", True),
    ("generation", "Request failed during generation: CUDA", False),
    ("incomplete_generation", "Incomplete generation", False),
    (None, "of no kind", False),
])
def test_an_error_event_is_an_error_of_the_service(kind, words, retryable):
    with pytest.raises(ProviderError, match=re.escape(words)) as caught:
        H2o().decode({"error": words, "error_type": kind})

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("event", [
    {}, {"details": None}, {"token": None}, {"token": "x"}, {"token": ["x"]}, {"token": {}},
    {"token": {"text": None}}, {"token": {"text": 7}}, {"token": {"text": ["x"]}},
    token("x", generated_text=7), token("x", generated_text=["x"]),
    token("x", generated_text="x", details="length"), token("x", generated_text="x", details=[1]),
    token("x", generated_text="x", details={"finish_reason": 7}), None, 7, "x", [],
])
def test_an_event_of_another_form_is_an_error_of_the_protocol(event):
    with pytest.raises(ProtocolError):
        H2o().decode(event)


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(H2o(), [
        token("x"),
        token("x", True, generated_text="x", details=details("length")),
        {"error": "x", "error_type": "validation"},
    ])


def test_the_recorded_answers_are_read():
    assert text_of(read(H2o(), STREAM)) == "Hello!"
    assert text_of(read(H2o(), LENGTH)) == " Привет"
    assert read(H2o(), LENGTH)[-1].finish_reason == "length"


def test_the_whole_text_is_the_answer_if_no_token_had_any():
    frames = [token("<s>", special=True), token("", generated_text="Hi!")]
    body = b"".join(b"data:" + json.dumps(frame).encode() + b"\n\n" for frame in frames)

    steps = read(H2o(), body)

    assert [delta.text for delta in steps] == ["Hi!"]
    assert steps[0].final


def test_the_whole_text_is_not_reconciled_with_tokens():
    frames = [token(" Hi"), token("</s>", special=True, generated_text="Hi, there")]
    body = b"".join(b"data:" + json.dumps(frame).encode() + b"\n\n" for frame in frames)

    assert text_of(read(H2o(), body)) == " Hi"


def test_an_empty_answer_is_an_answer():
    assert text_of(read(H2o(), b'data:{"generated_text":""}\n\n')) == ""


@pytest.mark.parametrize("body", [STREAM, LENGTH], ids=["stream", "length"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read(H2o(), body)

    for chunks in cut_everywhere(body):
        assert read(H2o(), *chunks) == whole


VARIANTS = {
    "crlf": with_crlf(STREAM),
    "cr": STREAM.replace(b"\n", b"\r"),
    "bom": BOM + STREAM,
    "no end": STREAM.rstrip(b"\n"),
    "one end": STREAM[:-1],
    "blank first": b"\n\n" + STREAM,
    "with a blank": STREAM.replace(b"data:", b"data: "),
    "comments": b":\n\n: ping\n\n" + STREAM.replace(b"\n\n", b"\n\n: ping\n\n"),
    "other fields": STREAM.replace(b"data:", b"event: message\nid: 7\nretry: 1\nfurther: x\ndata:"),
    "empty data": b"data:\n\ndata: \n\n" + STREAM,
    "no blank lines": STREAM.replace(b"\n\n", b"\n"),
    "more after the end": STREAM + b":\n\n",
}


@pytest.mark.parametrize("body", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_the_stream_give_the_same_steps(body):
    whole = read(H2o(), STREAM)

    assert read(H2o(), body) == whole
    assert read(H2o(), *single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read(H2o(), *chunks) == whole


def test_an_event_over_many_lines_is_read():
    lines = json.dumps(token("Привет", generated_text="Привет"), indent=1).splitlines()
    body = b"".join(b"data: " + line.encode() + b"\n" for line in lines) + b"\n"

    for chunks in cut_everywhere(body):
        assert text_of(read(H2o(), *chunks)) == "Привет"


def said(frame):
    return "" if frame["token"]["special"] else frame["token"]["text"]


@pytest.mark.parametrize("body", [STREAM, LENGTH, with_crlf(STREAM)], ids=["lf", "length", "crlf"])
def test_a_body_that_ends_before_its_last_frame_is_interrupted_with_its_text(body):
    check_every_end(
        H2o(), body, complete_from=body.rindex(b"}") + 1, whole_at=whole_frames(body, said)
    )


@pytest.mark.parametrize("end", range(0, len(STREAM) - 3, 40))
def test_an_interrupted_answer_carries_its_text(service, end):
    answering(service, STREAM[:end])

    with pytest.raises(StreamInterruptedError) as caught:
        client("h2o").chat("Hi")

    steps, _ = outcome(H2o(), STREAM[:end])
    assert caught.value.partial.text == text_of(steps)
    assert caught.value.provider == "h2o"
    assert seen(service)[-1] == DELETE


@pytest.mark.parametrize("frame", [
    b'data:{"token":\n\n', b"data:{}\n\n", b"data:null\n\n", b"data:x\n\n", b"data:[]\n\n",
    b"data:\xff\n\n", b"data: [DONE]\n\n",
])
def test_a_malformed_frame_is_an_error_with_the_text_before_it(frame):
    first, _, rest = STREAM.partition(b"\n\n")

    steps, error = outcome(H2o(), first + b"\n\n" + frame + rest)

    assert text_of(steps) == "Hello"
    assert isinstance(error, ProtocolError)
    assert isinstance(outcome(H2o(), frame + STREAM)[1], ProtocolError)


@pytest.mark.parametrize("body", [
    b"<!DOCTYPE html>\n<html></html>\n", b'{"message":"Internal Error"}', b'{\n "message": 1\n}\n',
    recorded("cloudflare.html"), b"Internal Error",
])
def test_a_body_without_any_event_is_an_error_of_the_protocol(body):
    with pytest.raises(ProtocolError):
        read(H2o(), body)


def test_an_empty_stream_is_interrupted():
    for body in (b"", b"\n\n", b":\n\n", b"data:\n\n"):
        with pytest.raises(StreamInterruptedError):
            read(H2o(), body)


def test_an_error_as_the_first_event_is_an_error_of_the_service(service):
    answering(service, recorded("h2o_error_first.sse"))

    with pytest.raises(ProviderError, match="`temperature` must be strictly positive") as caught:
        client("h2o").chat("Hi")

    assert not caught.value.partial or caught.value.partial.text == ""
    assert seen(service)[-1] == DELETE


def test_what_comes_after_the_last_frame_spoils_nothing():
    for rest in (b"data:{]\n\n", recorded("h2o_error_first.sse"), b'data:{"tok'):
        steps, error = outcome(H2o(), STREAM + rest)

        assert error is None
        assert text_of(steps) == "Hello!"


def test_a_compressed_answer_is_the_same(service):
    answering(service, zipped(STREAM), headers={"Content-Encoding": "gzip"})

    assert client("h2o").chat("Hi").text == "Hello!"


def test_the_reply_tells_what_the_service_tells(service):
    answering(service, LENGTH)

    reply = client("h2o:falcon-7b").chat("Hi")

    assert (reply.text, reply.provider, reply.model) == (" Привет", "h2o", FALCON_7B)
    assert (reply.finish_reason, reply.usage) == ("length", Usage(completion_tokens=3))
    assert reply.raw["details"]["seed"] == 17


def test_separators_of_unicode_inside_a_frame_are_text():
    frame = {"token": {"text": "a\u2028b\u2029c\x85d"}, "generated_text": "x"}
    body = b"data:" + json.dumps(frame, ensure_ascii=False).encode() + b"\n\n"

    assert text_of(read(H2o(), *single_bytes(body))) == "a\u2028b\u2029c\x85d"


def test_a_surrogate_pair_split_over_two_tokens_is_put_together(service):
    frames = [token("\ud83d"), token("\ude42", generated_text="🙂")]
    body = b"".join(b"data:" + json.dumps(frame).encode() + b"\n\n" for frame in frames)
    answering(service, body)

    assert client("h2o").chat("Hi").text == "🙂"


def test_every_error_of_reading_is_one_of_ours(service):
    answering(service, b"data:" + b"[" * 5000 + b"\n\n")

    with pytest.raises(ChatError):
        client("h2o").chat("Hi")


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(H2o(), STREAM)


# Over a real connection


@pytest.fixture
def sim():
    with Simulator(reply=["Привет", ", ", "мир", "!"] * 50, chunk_delay=0.005) as simulator:
        yield simulator


def asked(sim):
    """Return what the simulator was asked, in order, once it has answered it all."""
    assert sim.wait_idle()
    return [re.sub("[0-9a-f]{24}", "<id>", f"{r.method} {r.path}") for r in sim.requests]


def cookies(sim):
    """Return the cookies that came, by conversation."""
    found = {}
    for request in sim.requests:
        id = re.search("[0-9a-f]{24}", request.path)
        if id:
            found.setdefault(id[0], set()).add(request.headers["cookie"])
    return found


def test_a_whole_conversation():
    requests = check_conversation("h2o")

    steps = [re.sub("[0-9a-f]{24}", "<id>", f"{r.method} {r.path}") for r in requests]
    sessions = [{r.headers.get("cookie") for r in requests[start:start + 3]} for start in (1, 5)]
    assert steps == [*STEPS, DELETE] * 2
    assert [len(session) for session in sessions] == [1, 1]
    assert sessions[0] != sessions[1]
    assert "cookie" not in requests[0].headers and "cookie" not in requests[4].headers


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("h2o", scenario)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "tidy-cut", "cut-frames", "reset", "cut-first", "empty",
])
def test_a_cut_is_an_interruption(scenario):
    assert isinstance(broken("h2o", scenario), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
    ("status-404", NotFoundError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("h2o", scenario)) is kind


@pytest.mark.parametrize("scenario", ["error-after-text", "malformed-middle", "cut", "status-500"])
def test_a_conversation_is_deleted_after_every_failure(scenario):
    with Simulator(reply=REPLY, scenario={"h2o": scenario}) as sim:
        with client("h2o", **sim.fields("h2o")) as asking, pytest.raises(ChatError):
            asking.chat("Hi")

        steps = asked(sim)
        assert steps[:3] == STEPS
        assert steps[3:] in ([DELETE], [STOP, DELETE])
        assert sim.conversations == []


def test_a_conversation_is_deleted_after_a_break(sim):
    with client("h2o", **sim.fields("h2o")) as asking:
        with asking.stream("Hi") as stream:
            for _ in stream:
                break

        assert asked(sim) == [*STEPS, STOP, DELETE]
        assert sim.conversations == []
        assert len(sim.stopped_generations) == 1


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt])
def test_a_conversation_is_deleted_after_an_exception_in_the_loop(sim, kind):
    with client("h2o", **sim.fields("h2o")) as asking:
        with pytest.raises(kind), asking.stream("Hi") as stream:
            for _ in stream:
                raise kind

        assert asked(sim) == [*STEPS, STOP, DELETE]
        assert sim.conversations == []


def test_a_conversation_is_deleted_after_an_exception_in_a_bare_loop(sim):
    with client("h2o", **sim.fields("h2o")) as asking:
        with pytest.raises(KeyError):
            for _ in asking.stream("Hi"):
                raise KeyError

        gc.collect()
        assert asked(sim) == [*STEPS, STOP, DELETE]
        assert sim.conversations == []


def test_a_conversation_is_deleted_when_nobody_holds_the_stream(sim):
    with client("h2o", **sim.fields("h2o")) as asking:
        stream = asking.stream("Hi")
        next(stream)

        del stream
        gc.collect()

        assert asked(sim) == [*STEPS, STOP, DELETE]
        assert sim.conversations == []


def test_a_conversation_is_deleted_when_the_client_is_closed(sim):
    asking = client("h2o", **sim.fields("h2o"))
    stream = asking.stream("Hi")
    next(stream)

    asking.close()

    assert asked(sim) == [*STEPS, STOP, DELETE]
    assert sim.conversations == []


def test_two_chats_at_the_same_time_share_no_cookie(sim):
    with client("h2o", **sim.fields("h2o")) as asking:
        with asking.stream("Hi") as one, asking.stream("Hi") as other:
            texts = [next(one), next(other)]

        assert texts == ["Привет", "Привет"]
        assert asked(sim).count(DELETE) == 2
    assert len(cookies(sim)) == 2
    one, other = cookies(sim).values()
    assert len(one) == len(other) == 1
    assert one != other


def test_a_failing_delete_changes_no_result():
    with Simulator(reply=REPLY, scenario={"h2o": "delete-500"}) as sim:
        with client("h2o", **sim.fields("h2o")) as asking:
            assert asking.chat("Hi").text == REPLY

        assert asked(sim)[:4] == [*STEPS, DELETE]
