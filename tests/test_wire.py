"""Framings: whatever the bytes are cut into, the same frames, each of them at once."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import zlib

import pytest
from servers import body

from chatsdk import wire
from chatsdk.errors import ChatError, ProtocolError, StreamInterruptedError
from chatsdk.wire import BOM, DEPTH, inflate, Limits, Lines, ndjson, parse, sse, Tail, text, whole


def cut(data):
    """Return every way to cut bytes in two, and the one into single bytes."""
    halves = [[data[:place], data[place:]] for place in range(len(data) + 1)]
    return [*halves, [data[place:place + 1] for place in range(len(data))]]


def outcome(framing, chunks, **options):
    """Return what a framing yields, with the class of the error that ended it."""
    found = []
    try:
        for frame in framing(body(*chunks, **options), parse):
            found.append(frame)
    except ChatError as error:
        found.append(type(error))
    return found


def lines(*chunks, **options):
    splitter = Lines(**options)
    found = [line for piece in chunks for line in splitter.feed(piece)]
    return found + splitter.end()


def calls_of(work):
    """Return how many function calls, those of C included, a piece of work takes."""
    count = 0

    def tally(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


# Lines

LINES = "один\r\n\n две \rthree\u2028\u0085\x0b\x0c\x1c.\n\r\nlast".encode()
TEXTS = ("один", "", " две ", "three\u2028\u0085\x0b\x0c\x1c.", "", "last")
CUT = [line.encode() for line in TEXTS]


@pytest.mark.parametrize("chunks", cut(LINES))
def test_lines_do_not_depend_on_where_the_bytes_are_cut(chunks):
    assert lines(*chunks) == CUT


@pytest.mark.parametrize("places", list(itertools.combinations(range(12), 3)))
def test_lines_do_not_depend_on_cuts_in_the_middle_of_line_ends(places):
    data = b"a\r\n\r\nb\r\r\n\nc"
    first, second, third = places
    chunks = [data[:first], data[first:second], data[second:third], data[third:]]

    assert lines(*chunks) == [b"a", b"", b"b", b"", b"", b"c"]


def test_an_empty_chunk_between_cr_and_lf_makes_no_extra_line():
    assert lines(b"a\r", b"", b"\nb\n") == [b"a", b"b"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_line_end_ends_a_line_and_none_is_added(end):
    assert lines(b"a" + end + end + b"b" + end) == [b"a", b"", b"b"]


def test_a_line_is_given_as_soon_as_its_cr_is_here():
    assert Lines().feed(b"data: 1\r") == [b"data: 1"]


def test_only_the_last_line_that_has_no_end_is_a_tail():
    *first, last = lines(b"a\nb\nc")

    assert [type(line) for line in first] == [bytes, bytes]
    assert type(last) is Tail and last == b"c"


def test_no_bytes_are_no_lines():
    assert lines() == lines(b"") == []


@pytest.mark.parametrize("chunks", cut(BOM + b"a\n" + BOM + b"b"))
def test_one_byte_order_mark_at_the_very_start_is_dropped(chunks):
    assert lines(*chunks) == [b"a", BOM + b"b"]


@pytest.mark.parametrize("chunks", cut(BOM + b"a"))
def test_a_byte_order_mark_before_a_line_without_end_is_dropped(chunks):
    assert lines(*chunks) == [b"a"]


def test_a_delimiter_cuts_at_itself_only():
    assert lines(b"a\r\nb\rc\n\nd", delimiter=b"\n") == [b"a\r", b"b\rc", b"", b"d"]


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(pieces):
    def chunks(size):
        line = b"x" * size
        return [line[n::pieces] for n in range(pieces)]

    assert lines(*chunks(10), b"\n", longest=10) == [b"x" * 10]
    assert lines(*chunks(10), longest=10) == [b"x" * 10]
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        lines(*chunks(11), b"\n", longest=10)
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        lines(*chunks(11), longest=10)


def test_the_beginning_of_an_unfinished_line_can_be_seen():
    splitter = Lines()

    splitter.feed(b"a\n: hea")
    splitter.feed(b"rtbeat")

    assert splitter.unfinished == b": heartbeat"
    assert splitter.feed(b"\n") == [b": heartbeat"]
    assert splitter.unfinished == b""


def test_long_lines_in_small_pieces_take_time_that_grows_with_their_length_only():
    def work(pieces):
        return calls_of(lambda: lines(*[b"x"] * pieces, b"\n"))

    assert work(4000) < 2.1 * work(2000)


# parse


def test_parse_returns_any_document():
    for value in ({"a": [1, 2.5, None, True, "й"]}, [], "x", 3, None):
        assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("frame", [b"", b"{", b"nope", b"{}{}", b'{"a":1,}', b"[1 2]", b"\x00"])
def test_what_is_no_document_is_a_protocol_error_with_its_beginning(frame):
    with pytest.raises(ProtocolError, match="no JSON document") as caught:
        parse(frame)

    assert caught.value.excerpt == frame.decode()
    assert isinstance(caught.value.__cause__, ValueError)


def test_bytes_that_are_no_utf_8_are_a_protocol_error():
    with pytest.raises(ProtocolError, match="no UTF-8") as caught:
        parse(b'{"a": "\xff\xfe"}')

    assert caught.value.excerpt == '{"a": "\ufffd\ufffd"}'


def test_an_excerpt_has_at_most_200_characters():
    with pytest.raises(ProtocolError) as caught:
        parse("й".encode() * 5000)

    assert caught.value.excerpt == "й" * 200


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_documents_nest_as_deep_as_allowed_and_no_deeper(brackets):
    def nested(depth):
        if brackets == "[]":
            return b"[" * depth + b"]" * depth
        return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)

    assert parse(nested(DEPTH))
    with pytest.raises(ProtocolError):
        parse(nested(DEPTH + 1))
    with pytest.raises(ProtocolError):
        parse(nested(100_000))


def test_brackets_inside_strings_and_side_by_side_are_no_depth():
    value = [{"a": '"[{' * 300 + "\\"}] * 300

    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_become_none(word):
    assert parse(f'{{"a": {word}}}'.encode()) == {"a": None}


def test_an_integer_too_long_for_python_is_a_protocol_error():
    assert parse(b"1" * 4000) == int("1" * 4000)
    with pytest.raises(ProtocolError):
        parse(b"1" * 5000)


def test_of_duplicate_members_the_last_wins():
    assert parse(b'{"a": 1, "a": 2}') == {"a": 2}


# Server-sent events

EVENTS = (
    '\ufeff: comment\r\n'
    'data: {"a": "один\u2028\u0085"}\r\n\r\n'
    'event: message\nid: 7\nretry: 10\nfoo: bar\nfoo\ndata:{"b":2}\n\n'
    ':\n\n\n'
    'data: {"c":\ndata:   [3,\ndata: "]{\\"\\\\"]}\n\n'
    'data:\n\ndata\n\ndata: \n\n'
    'data: 4\r\rdata: "last"'
).encode()
SAID = [{"a": "один\u2028\u0085"}, {"b": 2}, {"c": [3, ']{"\\']}, 4, "last"]


@pytest.mark.parametrize("chunks", cut(EVENTS))
def test_events_do_not_depend_on_where_the_body_is_cut(chunks):
    assert outcome(sse, chunks) == SAID


def test_an_event_is_given_before_its_blank_line():
    received = body()
    feed = []
    received.raw.read1 = lambda size, decode_content: feed.pop(0)
    events = sse(received, parse)

    feed.append(b'data: {"a": 1}\n')
    assert next(events) == {"a": 1}
    feed.append(b'\ndata: {"a": 2}\r')
    assert next(events) == {"a": 2}
    assert not feed


def test_data_of_several_lines_is_given_when_its_last_bracket_is_here():
    received = body()
    feed = [b'data: {"a":\n', b"data: [1,\n", b"data: 2]}\n"]
    received.raw.read1 = lambda size, decode_content: feed.pop(0)

    assert next(sse(received, parse)) == {"a": [1, 2]}
    assert not feed


def test_an_empty_data_line_inside_an_event_belongs_to_it():
    assert outcome(sse, [b'data: {"a":\ndata\ndata:\ndata: 1}\n\n']) == [{"a": 1}]


def test_two_documents_in_one_event_are_two_events():
    assert outcome(sse, [b"data: {}\ndata: []\n\n"]) == [{}, []]


BAD = b"data: {nope}\n\n"
GOOD = b'data: {"a": 1}\n\n'


@pytest.mark.parametrize(
    "data, found",
    [
        (BAD + GOOD, [ProtocolError]),
        (GOOD + BAD + GOOD, [{"a": 1}, ProtocolError]),
        (GOOD + BAD, [{"a": 1}, ProtocolError]),
        (b"data: [\ndata: nope]\ndata: []\n\n" + GOOD, [ProtocolError]),
        (b"data:  \ndata: 1\n\n" + GOOD, [1, {"a": 1}]),
        (GOOD + b"data: \xff\n\n", [{"a": 1}, ProtocolError]),
        (GOOD + b"data: 1\xff2\ndata: 3\n\n", [{"a": 1}, ProtocolError]),
        (GOOD + b'data: {"a"\n', [{"a": 1}, StreamInterruptedError]),
        (GOOD + b'data: {"a', [{"a": 1}, StreamInterruptedError]),
        (GOOD + b"da", [{"a": 1}]),
        (b"da", []),
        (b"", []),
        (b": only a comment\n\n", []),
        (b"id: 1\nretry: 5\n\n", []),
        (b"data:\n\n", []),
        (b"<html>\n<p>hello</p>", [ProtocolError]),
        (b'{"error": "no events here"}', [ProtocolError]),
        (b"database: 1\n\n", [ProtocolError]),
    ],
)
def test_events_that_are_none_end_in_the_right_error(data, found):
    for chunks in cut(data):
        assert outcome(sse, chunks) == found


def test_what_is_no_stream_of_events_is_shown():
    with pytest.raises(ProtocolError, match="no stream of events") as caught:
        list(sse(body(b"<html>\nmore"), parse))

    assert caught.value.excerpt == "<html>"


def test_an_interrupted_event_may_be_asked_for_again():
    with pytest.raises(StreamInterruptedError) as caught:
        list(sse(body(b'data: {"a":\n'), parse))

    assert caught.value.retryable


@pytest.mark.parametrize("count", [3, 7, 100])
def test_an_event_in_many_lines_may_be_as_long_as_the_limit_and_no_longer(count):
    data = [b"[", *[b" " * 10] * count, b"]"]
    event = b"".join(b"data: %s\n" % line for line in data) + b"\n"
    size = len(b"\n".join(data))

    assert outcome(sse, [event], limits=Limits(frame_bytes=size)) == [[]]
    with pytest.raises(ProtocolError, match=f"longer than {size - 1} bytes"):
        list(sse(body(event, limits=Limits(frame_bytes=size - 1)), parse))


def test_a_flood_of_empty_data_lines_is_bounded_too():
    with pytest.raises(ProtocolError, match="longer than 100 bytes"):
        list(sse(body(b"data: {\n" + b"data:\n" * 200, limits=Limits(frame_bytes=100)), parse))


@pytest.mark.parametrize("first", [b"{", b"nope", b"}", b'"'])
def test_an_event_in_many_lines_takes_time_that_grows_with_their_number_only(first):
    def work(count):
        data = b"data: " + first + b"\n" + b"data: []\n" * count

        def read():
            with pytest.raises(StreamInterruptedError):
                list(sse(body(data), len_counting))

        parsed.clear()
        calls = calls_of(read)
        return calls, sum(parsed)

    parsed = []

    def len_counting(frame):
        parsed.append(len(frame))
        return parse(frame)

    calls, bytes_parsed = work(1000)
    twice, bytes_parsed_twice = work(2000)
    assert twice < 2.1 * calls
    assert bytes_parsed_twice <= 2.1 * max(bytes_parsed, 20)


def test_a_line_longer_than_the_limit_is_refused_before_it_ends():
    pieces = itertools.repeat(b"x" * 50)

    with pytest.raises(ProtocolError, match="longer than 100 bytes"):
        list(sse(body_of(pieces, Limits(frame_bytes=100)), parse))


def body_of(pieces, limits):
    """Return a body of endlessly many pieces."""
    received = body(limits=limits)
    received.raw.read1 = lambda size, decode_content: next(pieces)
    return received


@pytest.mark.parametrize("framing", [sse, ndjson, whole, text])
def test_an_answer_longer_than_the_limit_is_refused_before_it_ends(framing):
    limits = Limits(frame_bytes=10**6, reply_bytes=1000)
    pieces = itertools.repeat(b": x\n" if framing is sse else b"  \n")

    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        list(framing(body_of(pieces, limits), parse))


def test_an_answer_may_be_as_long_as_the_limit():
    limits = Limits(reply_bytes=1000)

    assert "".join(text(body(b"x" * 1000, limits=limits))) == "x" * 1000
    with pytest.raises(ProtocolError):
        list(text(body(b"x" * 1000, b"x", limits=limits)))


@pytest.mark.parametrize("name", ["frame_bytes", "reply_bytes", "error_body_bytes"])
def test_limits_are_above_nothing(name):
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


# JSON lines

NDJSON = '\ufeff{"a": "один\u2028"}\r\n\n \t\r\n[1, 2]\n"\\u0085"\n  {"b": 2}  '.encode()
DOCUMENTS = [{"a": "один\u2028"}, [1, 2], "\u0085", {"b": 2}]


@pytest.mark.parametrize("chunks", cut(NDJSON))
def test_json_lines_do_not_depend_on_where_the_body_is_cut(chunks):
    assert outcome(ndjson, chunks) == DOCUMENTS


@pytest.mark.parametrize(
    "data, found",
    [
        (b"nope\n1\n", [ProtocolError]),
        (b"1\nnope\n2\n", [1, ProtocolError]),
        (b"1\nnope\n", [1, ProtocolError]),
        (b'1\n{"a', [1, StreamInterruptedError]),
        (b'1\n"\xff"\n', [1, ProtocolError]),
        (b"1\r2\n", [ProtocolError]),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_json_lines_that_are_none_end_in_the_right_error(data, found):
    for chunks in cut(data):
        assert outcome(ndjson, chunks) == found


def test_a_json_line_is_given_when_its_end_is_here():
    received = body()
    feed = [b'{"a"', b": 1}\n"]
    received.raw.read1 = lambda size, decode_content: feed.pop(0)

    assert next(ndjson(received, parse)) == {"a": 1}
    assert not feed


# Raw text

TEXT = "Привет, 🙂 мир\r\n\u2028{}"


@pytest.mark.parametrize("chunks", cut(TEXT.encode()))
def test_text_does_not_depend_on_where_the_body_is_cut(chunks):
    assert "".join(text(body(*chunks))) == TEXT


def test_each_piece_of_text_has_what_is_whole_of_its_chunk():
    pieces = list(text(body(b"ab", "й".encode()[:1], "й".encode()[1:] + b"c", b"\xf0\x9f")))

    assert pieces == ["ab", "йc", "\ufffd"]


@pytest.mark.parametrize("chunks", cut(b"a\xffb\xc3(\xe2\x82"))
def test_bytes_that_are_no_text_become_a_replacement_character(chunks):
    assert "".join(text(body(*chunks))) == "a\ufffdb\ufffd(\ufffd"


@pytest.mark.parametrize("chunks", cut(BOM + "й".encode() + BOM))
def test_one_byte_order_mark_before_a_text_is_dropped(chunks):
    assert "".join(text(body(*chunks))) == "й\ufeff"


# One document


@pytest.mark.parametrize("chunks", cut(BOM + '\r\n {"a": ["один"]}\n'.encode()))
def test_a_document_does_not_depend_on_where_the_body_is_cut(chunks):
    assert outcome(whole, chunks) == [{"a": ["один"]}]


@pytest.mark.parametrize("data", [b"", b" \n", BOM, b"{", b'{"a": "}', b'[1, {"b": 2}'])
def test_a_document_that_is_not_all_there_was_interrupted(data):
    for chunks in cut(data):
        assert outcome(whole, chunks) == [StreamInterruptedError]


@pytest.mark.parametrize("data", [b"<html>", b"{}{}", b'{"a": nope}', b"\xff", b"[1]]"])
def test_a_document_that_is_none_is_a_protocol_error(data):
    for chunks in cut(data):
        assert outcome(whole, chunks) == [ProtocolError]


def test_a_document_may_be_as_long_as_a_frame_and_no_longer():
    limits = Limits(frame_bytes=10)

    assert outcome(whole, [b'"12345678"'], limits=limits) == ["12345678"]
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        list(whole(body(b'"1234', b'56789"', limits=limits), parse))


# Content encodings

PLAIN = EVENTS * 3


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN[:99]) + gzip.compress(b"") + gzip.compress(PLAIN[99:]),
    " GZip ": gzip.compress(PLAIN) + b"\0" * 8,
    "deflate": zlib.compress(PLAIN),
    "Deflate": bare(PLAIN),
    "identity": PLAIN,
    "": PLAIN,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_each_encoding_is_undone_wherever_the_bytes_are_cut(encoding):
    for chunks in cut(PACKED[encoding]):
        assert b"".join(inflate([piece for piece in chunks if piece], encoding)) == PLAIN


def test_a_body_without_encoding_is_handed_on_as_it_is():
    assert list(inflate([b"a", b"\x1f", b"b"], None)) == [b"a", b"\x1f", b"b"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate"])
def test_a_packed_body_that_ends_early_was_interrupted(encoding):
    packed = PACKED[encoding]
    for end in range(1, len(packed)):
        pieces = []
        with pytest.raises(StreamInterruptedError):
            for piece in inflate([packed[:end]], encoding):
                pieces.append(piece)
        assert PLAIN.startswith(b"".join(pieces))


def test_a_second_member_that_ends_early_was_interrupted():
    with pytest.raises(StreamInterruptedError):
        list(inflate([gzip.compress(b"a") + gzip.compress(b"b")[:-1]], "gzip"))


def test_each_chunk_is_unpacked_when_it_is_here():
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH)
    pieces = inflate(itertools.chain([first], itertools.repeat(None)), "gzip")

    assert next(pieces) == b"one"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bytes_that_are_not_packed_as_they_say_are_a_protocol_error(encoding):
    with pytest.raises(ProtocolError, match="not in the compression it names") as caught:
        list(inflate([b"data: 1\n\n"], encoding))

    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, zlib.error)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_stands_before_the_damage_is_not_lost(encoding):
    packed = PACKED[encoding]
    damaged = packed[:-1] + bytes([packed[-1] ^ 1])  # in its check sum

    for chunks in cut(damaged):
        pieces = []
        with pytest.raises(ProtocolError):
            for piece in inflate([chunk for chunk in chunks if chunk], encoding):
                pieces.append(piece)
        assert b"".join(pieces) == PLAIN


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 1000])
def test_an_unknown_encoding_is_a_protocol_error_that_names_it(encoding):
    with pytest.raises(ProtocolError, match="unknown content encoding") as caught:
        list(inflate([b"x"], encoding))

    assert encoding[:200] in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("chunks", cut(gzip.compress(b"x")))
def test_a_packed_body_that_does_not_say_so_is_a_protocol_error(chunks):
    handed = []

    with pytest.raises(ProtocolError, match="compressed and does not say so"):
        for piece in inflate(chunks, None):
            handed.append(piece)

    assert handed == []


@pytest.mark.parametrize("content", [b"", b"\x1f", b"\x1fx", b"x\x1f\x8b"])
def test_a_body_that_only_begins_like_a_packed_one_is_read(content):
    for chunks in ([content], [content[:1], b"", content[1:]]):
        assert b"".join(inflate(chunks, None)) == content


def test_nothing_at_all_is_an_empty_packed_body():
    assert list(inflate([], "gzip")) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_unpacked_in_small_pieces_until_the_limit(encoding):
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    unpacked = []

    with pytest.raises(ProtocolError, match="longer than 1000000 bytes"):
        limits = Limits(reply_bytes=10**6)
        for piece in body(bomb, limits=limits, Content_Encoding=encoding).iter_content():
            unpacked.append(len(piece))

    assert sum(unpacked) <= 10**6
    assert max(unpacked) <= 64 * 2**10


# chatsdk[fast]


@pytest.mark.parametrize(
    "frame",
    [
        b"123456789012345678901234567890",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1" * 5000,
        b"1" * 400 + b".5",
        b"-0",
        b"-0.0",
        b"1e400",
        b"0.1e-400",
        b"9007199254740993.0",
        b"NaN",
        b"[NaN, -Infinity]",
        b"01",
        b"1.",
        b'"\\ud800"',
        b'{"\\ud800": 1}',
        b'"\\ud83d\\ude00"',
        b'"a\x01"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'{"a": 1, "a": 2}',
        b"{}x",
        b" {}\r\n",
        BOM + b"{}",
        b"\x0b{}",
        b"",
        b"[" * 250 + b"]" * 250,
    ],
)
def test_the_fast_decoder_reads_what_the_careful_one_reads(frame, monkeypatch):
    pytest.importorskip("msgspec")
    fast = read(frame)
    monkeypatch.setattr(wire, "_quick", wire._careful)

    assert fast == read(frame)


def read(frame):
    try:
        return repr(parse(frame))
    except ProtocolError as error:
        return str(error)
