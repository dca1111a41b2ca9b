"""Frames that are alike are read as any other: only sooner."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from chatsdk.errors import ChatError, ProtocolError
from chatsdk.messages import Delta
from chatsdk.providers import alike
from chatsdk.providers.alike import Alike, FIRST, TRIES
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.openai import OpenAI
from chatsdk.wire import parse

GIGACHAT = GigaChat(access_token="a")
OPENAI = OpenAI(base_url="http://localhost")
ENVELOPE = {"id": "chatcmpl-1", "created": 1700000000, "model": "GigaChat"}


def frame(text, **beside):
    event = {"choices": [{"delta": {"content": text}, "index": 0}], **ENVELOPE, **beside}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.fixture
def parsed(monkeypatch):
    """The frames that were parsed as a whole."""
    found = []
    monkeypatch.setattr(alike, "parse", lambda frame: found.append(frame) or parse(frame))
    return found


def reader_of_steps(decode=GIGACHAT.decode):
    """Return what reads a frame: a ready step is compared with the one that is decoded."""
    alike = Alike(decode)

    def read(data):
        event = alike(data)
        if type(event) is Delta:
            assert event == decode(parse(data))
            return event.raw
        return event

    return read


def outcome(reader, data):
    try:
        return reader(data)
    except ChatError as error:
        return str(error)


TEXTS = ["Hi", " word", "", "один", "𝒳", 'a "quote"', "back\\slash", "two\nlines", "\t", "\x7f",
         "\u2028", "\u00a0", "\u00ad", "GigaChat", "probe", "content", "1700000000", "0", "}", "{"]


def test_texts_of_all_kinds_are_read_as_json_reads_them():
    reader = reader_of_steps()
    for text in [*TEXTS, *reversed(TEXTS)]:
        assert outcome(reader, frame(text)) == parse(frame(text))


def test_only_the_first_of_frames_that_are_alike_is_parsed(parsed):
    reader = reader_of_steps()
    for number in range(100):
        assert reader(frame(f"word {number}"))["choices"][0]["delta"]["content"] == f"word {number}"

    assert len(parsed) == FIRST + 2  # the next one twice, with another text the second time


def test_what_is_handed_out_is_nobody_elses():
    reader = reader_of_steps()
    *_, first, second, third = [reader(frame(text)) for text in "abcdefgh"]

    third["choices"][0]["delta"]["content"] = third["choices"][0]["index"] = "changed"
    second["model"] = first["model"] = "changed"
    first["choices"].clear()

    assert reader(frame("a")) == parse(frame("a"))
    assert second["choices"] == parse(frame("g"))["choices"]


@pytest.mark.parametrize("beside", [
    {"usage": {"total_tokens": 1}},
    {"list": []},
    {"choices": [{"delta": {"content": "a", "role": "assistant"}, "index": 0}]},
    {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": []}}]},
    {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "a"}}]},
    {"choices": [{"delta": {"content": None}}]},
    {"choices": [{"delta": {}}]},
    {"choices": []},
    {"choices": None},
])
def test_frames_with_more_to_them_are_parsed_each(parsed, beside):
    data = frame("a", **beside)
    reader = reader_of_steps()

    for _ in range(FIRST + 2):
        assert reader(data) == parse(data)
    assert parsed.count(data) == FIRST + 2


@pytest.mark.parametrize("data", [
    # The text that is found first is not the one of the answer.
    b'{"model":"a","choices":[{"delta":{"content":"a"}}]}',
    b'{"choices":[{"delta":{"content":"b"}}],"choices":[{"delta":{"content":"b"}}]}',
    b'{"choices":[{"delta":{"content":"b","content":"b"}}]}',
    b'{"x\\"content":"a","choices":[{"delta":{"content":"\\u0061"}}]}',
    b'{"choices":[{"delta":{"\\u0063ontent":"a"}}]}',
    b' {"choices" : [ {"delta" :\n{"content" : "a"} } ] }\t',
    b'{"choices":[{"delta":{"content":"\xff"}}]}',
    b"[1]", b"5", b'"a"', b"null", b"[DONE]", b"{", b"", b"\xff",
])
def test_odd_frames_are_read_as_json_reads_them(data):
    reader = reader_of_steps()
    for number in range(FIRST + TRIES + 2):
        for one in (data, data.replace(b'"a"', b'"c%d"' % number), frame("b"), frame(" c")):
            assert outcome(reader, one) == outcome(parse, one)


def test_bytes_that_are_no_utf_8_are_refused_in_a_known_frame_too():
    reader = reader_of_steps()
    for _ in range(FIRST + 1):
        reader(frame("a"))
    broken = frame("a").replace(b'"a"', b'"\xff"')

    with pytest.raises(ProtocolError, match="no UTF-8"):
        reader(broken)
    with pytest.raises(ProtocolError, match="no JSON document"):
        reader(frame("a").replace(b'"a"', b'"a\n"'))


def test_frames_that_keep_changing_are_not_looked_at_for_ever(parsed):
    reader = reader_of_steps()
    for number in range(100):
        reader(frame("a", obfuscation=str(number)))

    assert len(parsed) == 100 + TRIES


@pytest.mark.parametrize("beside", [{"error": None}, {"error": "no"}, {"x_groq": None}, {"id": 5}])
def test_what_a_service_looks_at_in_each_event_is_looked_at(beside):
    reader = Alike(OPENAI.decode)
    for text in "abcde":
        data = frame(text, **beside)
        found, wanted = [
            outcome(lambda data: OPENAI.decode(read(data)), data) for read in (reader, parse)
        ]
        assert found == wanted


def test_the_id_of_an_answer_is_in_its_steps():
    reader = Alike(OPENAI.decode)
    steps = [OPENAI.decode(reader(frame(text))) for text in "abcde"]

    assert [(step.text, step.id, step.model) for step in steps] == [
        (text, "chatcmpl-1", "GigaChat") for text in "abcde"
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize("decode", [GIGACHAT.decode, OPENAI.decode])
@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from([None, "n"]), st.booleans()), max_size=12))
def test_any_row_of_frames_is_read_as_json_reads_it(decode, row):
    reader = reader_of_steps(decode)
    for text, model, note, ascii in row:
        event = json.loads(frame(text, **({} if note is None else {note: model})))
        data = json.dumps(event, ensure_ascii=ascii).encode()
        assert reader(data) == parse(data)
