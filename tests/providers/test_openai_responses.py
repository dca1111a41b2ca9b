"""OpenAI's Responses: items, events, and reasoning that goes back as it came."""

from __future__ import annotations

import json

from attrs import evolve
import pytest
import responses

from chatsdk import (
    BadRequestError,
    Delta,
    Media,
    Message,
    MissingCredentialsError,
    ProtocolError,
    ProviderError,
    StreamInterruptedError,
    ToolCall,
    ToolCallPart,
    UnsupportedError,
    Usage,
)
from chatsdk.providers.openai_responses import OpenAIResponses
from chatsdk.schemas import response_format
from chatsdk.simulator import Simulator

from .helpers import (
    body_sent,
    broken,
    check_conversation,
    check_damage,
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
    with_crlf,
)

URL = "https://api.openai.com/v1/responses"
KEY = "sk-proj-q9z8"
STREAM = recorded("openai_responses_stream.sse")
TOOLS = recorded("openai_responses_stream_tools.sse")
ANSWER = recorded("openai_responses_answer.json")
TEXT = 'Привет, "мир"! 🙂'
REASONING = "**Greeting**\n\nBe brief."
USAGE = Usage(14, 87, 101, 4, 64)
EVENTS = {"content_type": "text/event-stream; charset=utf-8"}
AS_JSON = {"content_type": "application/json"}
SSE = {"Content_Type": "text/event-stream"}
JSON = {"Content_Type": "application/json"}
PNG = b"\x89PNG\r\n\x1a\n0"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
ITEMS = json.loads(ANSWER)["output"]


def provider(**options):
    return OpenAIResponses(**{"api_key": KEY, **options})


def payload(asked):
    """Return the body of a question as it is sent."""
    return json.loads(json.dumps(provider().prepare(asked, Fetches()).json))


@pytest.fixture
def server():
    with responses.RequestsMock() as mock:
        yield mock


# What is sent


def test_the_bytes_of_a_question(server):
    server.post(URL, body=STREAM, **EVENTS)

    with client("openai-responses", api_key=KEY) as asking:
        asking.chat("Привет", system="Be kind.")

    assert body_sent(server.calls[0]) == (
        '{"model":"gpt-5-mini","input":[{"role":"user","content":"Привет"}],"stream":true,'
        '"store":false,"instructions":"Be kind.","include":["reasoning.encrypted_content"]}'
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

    with client("openai-responses:o3", api_key=KEY) as asking:
        asking.chat(
            "Hi", stream=False, temperature=0.5, max_tokens=16, top_p=0.9, tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
            response_format={"type": "object", "title": "T"}, reasoning_effort="low",
            reasoning_summary="auto", verbosity="high", parallel_tool_calls=False, user="u",
            store=True, previous_response_id="resp_1", truncation="auto", service_tier="flex",
            safety_identifier="s", prompt_cache_key="k", extra_body={"metadata": {"a": "b"}},
        )

    assert body_sent(server.calls[0]) == (
        b'{"model":"o3","input":[{"role":"user","content":"Hi"}],"stream":false,"store":true,'
        b'"max_output_tokens":16,"temperature":0.5,"top_p":0.9,"tools":[{"type":"function",'
        b'"name":"weather","parameters":{"type":"object","properties":{}},"strict":false}],'
        b'"tool_choice":{"type":"function","name":"weather"},"reasoning":{"effort":"low",'
        b'"summary":"auto"},"text":{"format":{"type":"json_schema","name":"T","schema":'
        b'{"type":"object","title":"T"},"strict":false},"verbosity":"high"},'
        b'"parallel_tool_calls":false,"user":"u","previous_response_id":"resp_1",'
        b'"truncation":"auto","service_tier":"flex","safety_identifier":"s",'
        b'"prompt_cache_key":"k","metadata":{"a":"b"}}'
    )


@pytest.mark.parametrize("model, sealed", [
    ("gpt-5-mini", True), ("gpt-6.2-sol", True), ("o3", True), ("codex-mini", True),
    ("gpt-4.1", False), ("gpt-4o", False), ("gpt-5-chat-latest", False), ("my-model", False),
])
def test_sealed_reasoning_is_asked_for_where_there_is_some_and_nothing_is_stored(model, sealed):
    assert ("include" in payload(query(model=model))) == sealed
    assert "include" not in payload(query(model=model, options={"store": True}))
    assert payload(query(model=model))["store"] is False


def test_system_messages_at_the_start_are_the_instructions():
    two = payload(query([Message("system", "A"), Message("system", "B"), "Hi"]))

    assert (two["instructions"], two["input"]) == ("A\nB", [{"role": "user", "content": "Hi"}])
    assert payload(query(HISTORY))["input"] == HISTORY
    assert payload(query(SYSTEM_TWICE))["input"] == SYSTEM_TWICE[1:]


def test_calls_and_results_are_items():
    calls = (ToolCall("call_1", "weather", {}, ""), ToolCall(None, "time", {}, '{"z":1}'))
    messages = [
        "Weather?",
        Message("assistant", "Look:", tool_calls=calls),
        Message("tool", "rain", tool_call_id="call_1"),
        Message("tool", "noon"),
    ]

    assert payload(query(messages))["input"][1:] == [
        {"role": "assistant", "content": "Look:"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_1_time", "name": "time",
         "arguments": '{"z":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"type": "function_call_output", "call_id": "call_1_time", "output": "noon"},
    ]
    with pytest.raises(UnsupportedError, match="no tool_call_id"):
        provider().check(query(["Hi", Message("tool", "rain")]))


def test_images_and_documents_are_parts():
    asked = query([Message("user", (
        "See:",
        Media("image", "image/png", PNG),
        Media("image", None, url="https://example.org/cat"),
        Media("document", "application/pdf", b"%PDF-", name="a.pdf"),
        Media("document", "application/pdf", url="https://example.org/a.pdf"),
    ))])
    provider().check(asked)

    assert payload(asked)["input"][0]["content"] == [
        {"type": "input_text", "text": "See:"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgow"},
        {"type": "input_image", "image_url": "https://example.org/cat"},
        {"type": "input_file", "filename": "a.pdf",
         "file_data": "data:application/pdf;base64,JVBERi0="},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
    ]
    with pytest.raises(UnsupportedError, match="takes no audio"):
        provider().check(query([Message("user", ("x", Media("audio", "audio/wav", b"R")))]))


@pytest.mark.parametrize("name", ["stop", "seed"])
def test_what_the_protocol_lacks_is_refused(name):
    with client("openai-responses", api_key=KEY) as asking, \
            pytest.raises(UnsupportedError, match=f"cannot honour {name}"):
        asking.chat("Hi", **{name: "x" if name == "stop" else 7})


def test_plain_json_is_a_format():
    wanted = response_format({"type": "json_object"})

    assert payload(query(response_format=wanted))["text"] == {"format": {"type": "json_object"}}


def test_it_needs_the_same_key():
    with pytest.raises(MissingCredentialsError, match="openai-responses needs.*OPENAI_API_KEY"):
        OpenAIResponses()


# What is read


def test_a_recorded_stream_is_read():
    deltas = read(provider(), STREAM, **SSE)
    last = deltas[-1]

    assert [delta.text for delta in deltas if delta.text] == ["Привет", ', "мир"', "! 🙂"]
    assert "".join(delta.reasoning for delta in deltas) == REASONING
    assert deltas[0].id == last.id == json.loads(ANSWER)["id"]
    assert (last.finish_reason, last.usage, last.final) == ("stop", USAGE, True)
    assert last.state == {"output": ITEMS}


def test_a_recorded_answer_is_read():
    delta, = read(provider(), ANSWER, **JSON)

    assert (delta.text, delta.reasoning, delta.finish_reason) == (TEXT, REASONING, "stop")
    assert (delta.usage, delta.final, delta.state) == (USAGE, True, {"output": ITEMS})


def test_recorded_calls_are_put_together(server):
    server.post(URL, body=TOOLS, **EVENTS)

    with client("openai-responses", api_key=KEY) as asking:
        reply = asking.chat("Weather?", tools=[WEATHER])

    assert reply.tool_calls == (
        ToolCall("call_Lk2jH8gF4dS6aP0o", "weather", {"city": "Москва"}, '{"city":"Москва"}'),)
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("body", [STREAM, TOOLS], ids=["text", "tools"])
def test_where_a_stream_is_cut_does_not_matter(body):
    whole = read(provider(), body, **SSE)
    places = range(0, len(body), 7)

    for n, chunks in enumerate(cut_everywhere(body)):
        if n in places:
            assert read(provider(), *chunks, **SSE) == whole
    assert read(provider(), *single_bytes(with_crlf(body)), **SSE) == whole


def test_a_stream_that_ends_anywhere_is_whole_only_with_its_last_event():
    complete = len(STREAM.rstrip(b"\n"))

    for end in range(len(STREAM) + 1):
        steps, error = outcome(provider(), STREAM[:end], **SSE)
        assert (error is None) == (end >= complete), end
        assert TEXT.startswith(text_of(steps))
        if error is not None:
            assert isinstance(error, (StreamInterruptedError, ProtocolError)), end


def test_a_document_that_ends_anywhere_is_whole_only_at_its_end():
    for end in range(len(ANSWER)):
        steps, error = outcome(provider(), ANSWER[:end], **JSON)
        assert steps == [] and isinstance(error, (StreamInterruptedError, ProtocolError)), end


def event(kind, **members):
    return {"type": kind, "sequence_number": 1, **members}


def lines(*events):
    return b"".join(b"event: %b\ndata: %b\n\n" % (
        each.get("type", "x").encode(), json.dumps(each).encode()) for each in events)


def ended(status="completed", output=(), **members):
    return event(f"response.{status}", response={
        "id": "resp_1", "model": "m", "status": status, "output": list(output), **members})


@pytest.mark.parametrize("found", [
    event("response.in_progress", response={}), event("response.queued"), event("keepalive"),
    event("response.output_text.done", text="x"), event("response.brand.new", delta="x"),
    event("response.output_item.added", item={"type": "message"}),
    event("response.reasoning_summary_part.added", summary_index=0),
])
def test_other_events_are_passed_over(found):
    assert provider().decode(found) is None


def test_events_are_steps():
    decode = provider().decode
    text = event("response.output_text.delta", delta="Hi")
    begun = event("response.output_item.added", output_index=2, item={
        "type": "function_call", "call_id": "c", "name": "f", "arguments": ""})
    piece = event("response.function_call_arguments.delta", output_index=2, delta="{}")
    thought = event("response.reasoning_text.delta", delta="Hm")
    refused = event("response.refusal.delta", delta="No")

    assert decode(text) == Delta("Hi", raw=text)
    assert decode(begun).tool_calls == (ToolCallPart(2, "c", "f", ""),)
    assert decode(piece).tool_calls == (ToolCallPart(2, arguments="{}"),)
    assert decode(thought).reasoning == "Hm"
    assert decode(refused).text == "No"


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize("end, finish", [
    (ended(), "stop"), (ended(output=[REFUSAL]), "content_filter"),
    (ended(output=[MESSAGE, CALL]), "tool_calls"),
    (ended("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
    (ended("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
    (ended("incomplete", incomplete_details=None), "length"),
    (ended("incomplete", incomplete_details={"reason": "steered"}), "steered"),
])
def test_the_end_tells_why(end, finish):
    assert read(provider(), lines(end), **SSE)[-1].finish_reason == finish


def test_what_only_the_end_tells_comes_with_the_end():
    last = read(provider(), lines(ended(output=[MESSAGE, CALL])), **SSE)[-1]

    assert (last.text, last.tool_calls) == ("Hi", (ToolCallPart(1, "c", "f", "{}"),))


def test_what_was_told_comes_once():
    said = event("response.output_text.delta", delta="Hi")
    called = event("response.output_item.added", output_index=1, item=CALL)

    deltas = read(provider(), lines(said, called, ended(output=[MESSAGE, CALL])), **SSE)

    assert text_of(deltas) == "Hi"
    assert [part for delta in deltas for part in delta.tool_calls] == [
        ToolCallPart(1, "c", "f", "{}")]


@pytest.mark.parametrize("failure, words, again", [
    (event("error", code="server_error", message="Oh", param=None), "Oh (server_error)", True),
    (event("error", error={"type": "invalid", "code": "bad", "message": "Ah"}), "Ah (bad)", False),
    (ended("failed", error={"code": "rate_limit_exceeded", "message": "Slow"}),
     "Slow (rate_limit_exceeded)", True),
    (ended("failed", error=None), "the response was failed", False),
    ({"error": {"message": "Proxy", "code": 502}}, "Proxy (502)", True),
    (event("response.completed", response={"status": "cancelled"}), "was cancelled", False),
])
def test_a_failure_is_the_services_words_and_keeps_the_text(failure, words, again):
    said = event("response.output_text.delta", delta="Hi")

    steps, error = outcome(provider(), lines(said, failure), **SSE)

    assert text_of(steps) == "Hi"
    assert isinstance(error, ProviderError)
    assert words in str(error) and error.retryable == again


@pytest.mark.parametrize("status, kind", [
    ("failed", ProviderError), ("queued", ProtocolError), ("in_progress", ProtocolError)])
def test_a_document_that_is_no_answer_is_an_error(status, kind):
    body = json.dumps({"status": status, "output": []}).encode()

    steps, error = outcome(provider(), body, **JSON)

    assert steps == [] and isinstance(error, kind)


def test_wrong_types_are_faults_of_the_protocol():
    events = [json.loads(line[6:]) for line in (STREAM + TOOLS).splitlines()
              if line.startswith(b"data: {")]
    chosen = {found["type"]: found for found in events}

    check_wrong_types(provider(), [*chosen.values(), json.loads(ANSWER)])


def test_a_wrong_byte_anywhere_is_read_or_refused():
    check_damage(provider(), STREAM[-300:], **SSE)


# Reasoning goes back


def reply_to(body, **header):
    """Return the message that an answer leaves in the history."""
    deltas = read(provider(), body, **header)
    state = [delta.state for delta in deltas if delta.state]
    return Message("assistant", text_of(deltas), state=state[-1] if state else None)


def test_the_items_of_an_answer_go_back_untouched():
    message = reply_to(STREAM, **SSE)

    sent = payload(query(["Hi", message, "More"]))["input"]

    assert sent == [{"role": "user", "content": "Hi"}, *ITEMS, {"role": "user", "content": "More"}]


def test_a_message_that_was_changed_is_sent_as_it_is_now():
    changed = evolve(reply_to(STREAM, **SSE), content="Something else")

    sent = payload(query(["Hi", changed, "More"]))["input"]

    assert sent[1] == {"role": "assistant", "content": "Something else"}


@pytest.mark.parametrize("thought, store, kept", [
    ({"encrypted_content": "gA"}, False, True), ({}, False, False), ({}, True, True),
    (None, False, False),
])
def test_reasoning_that_was_neither_sealed_nor_stored_is_left_out(thought, store, kept):
    items = [] if thought is None else [{"type": "reasoning", "id": "rs", "summary": [], **thought}]

    last = read(provider(), lines(ended(output=[*items, MESSAGE], store=store)), **SSE)[-1]

    assert (last.state is not None) == kept


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


@pytest.mark.parametrize("stream", [True, False])
def test_the_service_takes_back_what_it_gave(stream):
    with Simulator(scenario={"openai-responses": "reasoning"}) as sim:
        with client("openai-responses", api_key=KEY, **sim.fields("openai-responses")) as asking:
            first = asking.chat("Weather in Paris", tools=[weather], stream=stream)
            result = Message("tool", "rain", tool_call_id=first.tool_calls[0].id)
            history = ["Weather in Paris", first.message, result]
            second = asking.chat(history, tools=[weather])
            broken_off = evolve(first.message, state={"output": first.state["output"][1:]})
            with pytest.raises(BadRequestError, match="without its required 'reasoning' item"):
                asking.chat([history[0], broken_off, result], tools=[weather])

    assert second.text == "The function weather returned rain."
    assert first.reasoning == second.reasoning == "Let me think: a greeting wants an answer."


# Tokens, models


def test_tokens_are_counted():
    fetch = Fetches(b'{"object":"response.input_tokens","input_tokens":12}')

    asked = query(["Hi"], tools=(WEATHER,), max_tokens=50, options={"user": "u"})

    assert provider().count_tokens(asked, fetch) == 12
    assert fetch.requests[0].url == "https://api.openai.com/v1/responses/input_tokens"
    assert set(fetch.requests[0].json) == {"input", "model", "tools"}


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"input_tokens":"12"}', b'{"input_tokens":true}'])
def test_a_count_that_is_none_is_refused(body):
    with pytest.raises(ProtocolError, match="no count of tokens"):
        provider().count_tokens(query(), Fetches(body))


def test_tokens_are_counted_over_a_real_connection():
    with Simulator() as sim:
        with client("openai-responses", api_key=KEY, **sim.fields("openai-responses")) as asking:
            assert asking.count_tokens("one two three") == 6
            assert {model.provider for model in asking.models()} == {"openai-responses"}


# Over real connections


def test_a_conversation_is_held():
    requests = check_conversation("openai-responses", api_key=KEY)

    assert [item["role"] for item in requests[-1].json["input"]] == ["user", "assistant", "user"]
    assert requests[-1].json["instructions"] == "Be kind."


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("openai-responses", scenario, api_key=KEY)


@pytest.mark.parametrize("scenario, kind", [
    ("cut", StreamInterruptedError), ("cut-clean", StreamInterruptedError),
    ("cut-frames", StreamInterruptedError), ("tidy-cut", StreamInterruptedError),
    ("reset", StreamInterruptedError), ("empty", StreamInterruptedError),
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-middle", ProtocolError),
])
def test_a_broken_answer_is_an_error_with_the_text_so_far(scenario, kind):
    assert isinstance(broken("openai-responses", scenario, api_key=KEY, max_retries=0), kind)


@pytest.mark.parametrize("stream", [True, False])
def test_a_response_that_fails_at_its_end_is_an_error(stream):
    with Simulator(reply=REPLY, scenario={"openai-responses": "failed"}) as sim:
        with client("openai-responses", api_key=KEY, **sim.fields("openai-responses")) as asking:
            with pytest.raises(ProviderError) as caught:
                asking.chat("Hi", stream=stream)

    assert caught.value.partial.text == (REPLY if stream else "")


@pytest.mark.parametrize("scenario", ["function-call", "parallel-calls"])
def test_tools_are_run_and_their_results_told(scenario):
    with Simulator(scenario={"openai-responses": scenario}) as sim:
        with client("openai-responses", api_key=KEY, **sim.fields("openai-responses")) as asking:
            run = asking.run("The weather in Paris", tools=[weather])

    assert run.reply.text == "The function weather returned rain in Paris."
