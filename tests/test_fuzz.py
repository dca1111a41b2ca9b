"""Any bytes in: deltas or an error of ours out, the same however they are cut."""

from __future__ import annotations

import gzip
import json
import os
import zlib

from fakes import Call
from hypothesis import assume, given, settings
from hypothesis import strategies as st
import pytest
from servers import body

from chatsdk.errors import ChatError
from chatsdk.messages import Delta, Message, Query
from chatsdk.providers import get
from chatsdk.providers.aichatonline import AiChatOnline
from chatsdk.providers.anthropic import Anthropic
from chatsdk.providers.aura import Aura
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gemini import Gemini
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.h2o import H2o
from chatsdk.providers.ollama import Ollama
from chatsdk.providers.openai import OpenAI
from chatsdk.providers.openai_responses import OpenAIResponses
from chatsdk.providers.tgi import Tgi
from chatsdk.streams import Stream
from chatsdk.wire import inflate, Limits, Lines, ndjson, parse, sse, text, whole

QUICK = settings(
    max_examples=150, deadline=None, database=None, derandomize=bool(os.environ.get("CI"))
)
LIMITS = Limits(frame_bytes=2000, reply_bytes=5000)
GZIP = b"\x1f\x8b"  # what begins so is refused, not read as text
QUERY = Query(messages=(Message("user", "Hi"),))
PROVIDERS = [
    GigaChat(access_token="a"), H2o(), FlowGpt(), AiChatOnline(), Aura(), Ollama(), Tgi(),
    OpenAI(api_key="a"), OpenAIResponses(api_key="a"), get("openrouter")(api_key="a"),
    get("litellm-proxy")(),
    Anthropic(api_key="a"), Gemini(api_key="a"),
]

# Documents with the words of all protocols, in places where they belong and where they do not.
words = st.sampled_from([
    "choices", "delta", "message", "content", "finish_reason", "function_call", "name", "arguments",
    "functions_state_id", "usage", "prompt_tokens", "status", "error", "token", "text", "special",
    "generated_text", "details", "generated_tokens", "event", "data", "code", "msg", "role",
    "reasoning_content", "stop", "function_in_progress", "error_type", "index", "model",
    "thinking", "tool_calls", "function", "done", "done_reason", "prompt_eval_count",
    "input_length", "id", "refusal", "reasoning", "reasoning_details", "x_groq", "type", "thinking",
    "response", "output", "item", "output_index", "status", "response.completed", "response.failed",
    "response.output_text.delta", "response.output_item.added", "function_call_output",
    "text_delta", "message_stop", "message_delta", "content_block_start",
    "content_block_delta", "content_block_stop", "content_block", "tool_use", "input_json_delta",
    "partial_json", "signature", "thinking_delta", "citation", "input", "candidates", "parts",
    "finishReason", "functionCall", "args", "thought", "thoughtSignature", "usageMetadata",
    "promptTokenCount", "promptFeedback", "blockReason", "modelVersion", "responseId",
])
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), words, st.text(max_size=5),
    st.sampled_from(["\ud83d", "\ude42", "й", "\u2028", "[DONE]", 10**30, -1, 200, 429, 500]),
)
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)
    ),
    max_leaves=12,
)
choices = st.fixed_dictionaries({
    "choices": st.lists(
        st.fixed_dictionaries(
            {"delta": st.dictionaries(words, documents, max_size=3)},
            optional={"finish_reason": leaves, "message": documents},
        ),
        max_size=2,
    )
})
tokens = st.fixed_dictionaries(
    {"token": st.fixed_dictionaries({"text": leaves, "special": leaves})},
    optional={"generated_text": leaves, "details": documents},
)
events = st.fixed_dictionaries({"event": st.sampled_from(["text", "error", "x"]), "data": leaves})
members = st.dictionaries(words, documents, max_size=3)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from([
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop", "message", "error", "ping",
    ])},
    optional={
        "index": leaves, "usage": st.one_of(members, leaves), "error": documents,
        "message": st.one_of(members, leaves),
        "content": documents,
        "content_block": st.builds(lambda kind, rest: {**rest, "type": kind}, st.sampled_from(
            ["text", "thinking", "tool_use", "server_tool_use", "redacted_thinking"]), members),
        "delta": st.builds(lambda kind, rest: {**rest, "type": kind}, st.sampled_from(
            ["text_delta", "thinking_delta", "input_json_delta", "signature_delta",
             "citations_delta"]), members),
    },
)
candidates = st.fixed_dictionaries(
    {"candidates": st.lists(st.fixed_dictionaries(
        {"content": st.fixed_dictionaries({"parts": st.lists(members, max_size=3)})},
        optional={"finishReason": leaves},
    ), max_size=2)},
    optional={"usageMetadata": members, "modelVersion": leaves, "promptFeedback": members},
)
frames = st.one_of(documents, choices, tokens, events, blocks, candidates).map(
    lambda value: json.dumps(value, ensure_ascii=True).encode()
)
ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b""])
lines = st.builds(
    lambda start, data, end: start + data + end,
    st.sampled_from([b"data: ", b"data:", b"", b": ", b"event: ", b"\xef\xbb\xbf", b"id"]),
    st.one_of(frames, st.binary(max_size=12), st.sampled_from([b"[DONE]", b"<html>", b"{", b"}]"])),
    ends,
)
bodies = st.one_of(st.binary(max_size=60), st.lists(lines, max_size=6).map(b"".join))
kinds = st.sampled_from(["text/event-stream", "application/json", None])
cuts = st.lists(st.integers(0, 400), max_size=6)


def pieces(data, places):
    """Return bytes cut at some places."""
    marks = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in zip(marks, marks[1:])]


def outcome(found):
    """Return what comes of an iterator, and the error of ours that ends it, if one does."""
    results = []
    try:
        for result in found:
            results.append(repr(result))  # NaN equals nothing, itself included
    except ChatError as error:
        str(error).encode()
        results.append(type(error))
    return results


@pytest.mark.parametrize("framing", [sse, ndjson, whole])
@given(data=bodies, places=cuts)
@QUICK
def test_frames_do_not_depend_on_cuts(framing, data, places):
    def frames_of(chunks):
        return outcome(framing(body(*chunks, limits=LIMITS), parse))

    assert frames_of(pieces(data, places)) == frames_of([data])
    assert frames_of([data[n:n + 1] for n in range(len(data))]) == frames_of([data])


@given(data=bodies, places=cuts)
@QUICK
def test_text_does_not_depend_on_cuts(data, places):
    assume(not data.startswith(GZIP))
    assert "".join(text(body(*pieces(data, places)))) == "".join(text(body(data)))
    assert "".join(text(body(data))) == data.decode("utf-8-sig", "replace")


@given(data=bodies, places=cuts, delimiter=st.sampled_from([None, b"\n", b"x"]))
@QUICK
def test_lines_do_not_depend_on_cuts(data, places, delimiter):
    def cut(chunks):
        splitter = Lines(delimiter)
        found = [line for chunk in chunks for line in splitter.feed(chunk)]
        return found + splitter.end()

    assert cut(pieces(data, places)) == cut([data])


@given(data=bodies, places=cuts, packer=st.sampled_from([gzip.compress, zlib.compress]))
@QUICK
def test_packed_bytes_do_not_depend_on_cuts(data, places, packer):
    name = "gzip" if packer is gzip.compress else "deflate"
    chunks = [chunk for chunk in pieces(packer(data), places) if chunk]

    assert b"".join(inflate(chunks, name)) == data


@given(data=st.binary(max_size=60), name=st.sampled_from(["gzip", "deflate", None, "br"]))
@QUICK
def test_any_bytes_can_be_unpacked_or_are_an_error_of_ours(data, name):
    def unpack():
        yield from inflate([data] if data else [], name)

    outcome(unpack())


@given(data=st.one_of(frames, st.binary(max_size=60)))
@QUICK
def test_any_bytes_are_a_document_or_an_error_of_ours(data):
    outcome(parse(frame) for frame in [data])


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
@given(data=bodies, places=cuts, kind=kinds)
@QUICK
def test_any_bytes_are_deltas_or_an_error_of_ours(provider, data, places, kind):
    headers = {"Content_Type": kind} if kind else {}

    assume(not data.startswith(GZIP))

    def deltas(chunks):
        found = []
        try:
            for delta in provider.deltas(QUERY, body(*chunks, limits=LIMITS, **headers)):
                assert type(delta) is Delta and type(delta.text) is str
                found.append(delta)
        except ChatError as error:
            return found, type(error)
        return found, None

    found, error = deltas(pieces(data, places))
    uncut, uncut_error = deltas([data])
    assert error == uncut_error
    assert "".join(delta.text for delta in found) == "".join(delta.text for delta in uncut)

    stream = Stream(Call(), (delta for delta in [None, *found])).open()
    handed = "".join(stream)
    assert handed == stream.text == stream.reply.text
    handed.encode()
    repr(stream.reply)
