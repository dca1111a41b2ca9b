"""Frames that are alike are read as any other: only sooner."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from chatsdk.errors import ProtocolError
from chatsdk.providers import alike
from chatsdk.providers.alike import Alike, TRIES
from chatsdk.wire import parse

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


def outcome(reader, data):
    try:
        return reader(data)
    except ProtocolError as error:
        return str(error)


TEXTS = ["Hi", " word", "", "один", "𝒳", 'a "quote"', "back\\slash", "two\nlines", "\t", "\x7f",
         "\u2028", "\u00a0", "\u00ad", "GigaChat", "probe", "content", "1700000000", "0", "}", "{"]


def test_texts_of_all_kinds_are_read_as_json_reads_them():
    reader = Alike()
    for text in [*TEXTS, *reversed(TEXTS)]:
        assert outcome(reader, frame(text)) == parse(frame(text))


def test_only_the_first_of_frames_that_are_alike_is_parsed(parsed):
    reader = Alike()
    for number in range(100):
        assert reader(frame(f"word {number}"))["choices"][0]["delta"]["content"] == f"word {number}"

    assert len(parsed) == 2  # the first one, and once more with another text


def test_what_is_handed_out_is_nobody_elses():
    reader = Alike()
    first, second, third = [reader(frame(text)) for text in "abc"]

    third["choices"][0]["delta"]["content"] = third["choices"][0]["index"] = "changed"
    second["model"] = first["model"] = "changed"
    first["choices"].clear()

    assert reader(frame("d")) == parse(frame("d"))
    assert second["choices"] == parse(frame("b"))["choices"]


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
    reader = Alike()

    for _ in range(3):
        assert reader(data) == parse(data)
    assert parsed.count(data) == 3


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
    reader = Alike()
    for number in range(TRIES + 2):
        for one in (data, data.replace(b'"a"', b'"c%d"' % number), frame("b"), frame(" c")):
            assert outcome(reader, one) == outcome(parse, one)


def test_bytes_that_are_no_utf_8_are_refused_in_a_known_frame_too():
    reader = Alike()
    reader(frame("a"))
    broken = frame("a").replace(b'"a"', b'"\xff"')

    with pytest.raises(ProtocolError, match="no UTF-8"):
        reader(broken)
    with pytest.raises(ProtocolError, match="no JSON document"):
        reader(frame("a").replace(b'"a"', b'"a\n"'))


def test_frames_that_keep_changing_are_not_looked_at_for_ever(parsed):
    reader = Alike()
    for number in range(100):
        reader(frame("a", obfuscation=str(number)))

    assert len(parsed) == 100 + TRIES


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from([None, "n"]), st.booleans()), max_size=12))
def test_any_row_of_frames_is_read_as_json_reads_it(row):
    reader = Alike()
    for text, model, note, ascii in row:
        event = json.loads(frame(text, **({} if note is None else {note: model})))
        data = json.dumps(event, ensure_ascii=ascii).encode()
        assert reader(data) == parse(data)
