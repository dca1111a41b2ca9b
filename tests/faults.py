"""What can go wrong, and what must come of it: the table behind test_faults.

Each row: what the server does to the question's request; the error that the caller gets (OK: the
whole answer); whether the question was sent again; the text that is on the error's ``partial``.
Where services differ, a cell is a dict by their names.  Retries are those of the table in
RELIABILITY.md, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import json
from typing import Any

from hostile import (
    Answer,
    beat,
    begin,
    body,
    bomb,
    chat,
    COOKIE,
    DIALECTS,
    document,
    does,
    dripping,
    end,
    every_piece,
    fin,
    first,
    FIRST,
    for_ever,
    forged,
    FRAMED,
    FULL,
    KEY,
    mark,
    MARKED,
    packed,
    raw,
    reset,
    rest,
    stall,
    status,
    texts,
)

from chatsdk import errors as e

# Cells

OK = None  # no error: the whole answer
NO = 1  # the question is sent once
NEVER = 1  # once, because text has been handed out
YES = 3  # again, as often as the policy says: two retries
RENEWED = {"gigachat": 2}  # once more with a new token, where there are tokens
NOTHING = ""
SOME = "some"  # a part of the answer that is not fixed, and not nothing

ALL = tuple(DIALECTS)
FEW = ("gigachat", "aura")  # for rows that take time and are about HTTP alone
MULTI = ("gigachat", "h2o")  # those with most steps before the question


def ends(marked: Any, unmarked: Any) -> dict[str, Any]:
    """Return the cell for services that differ in whether an answer's end is marked."""
    return {name: marked if dialect.marked else unmarked for name, dialect in DIALECTS.items()}


def raw_text(text: Any, framed: Any) -> dict[str, Any]:
    """Return the cell for services that differ in whether text is all there is."""
    return {name: framed if name in FRAMED else text for name in DIALECTS}


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    name: str
    answer: Answer
    error: Any
    asked: Any = NO
    text: Any = NOTHING
    only: tuple[str, ...] = ALL
    timeout: dict[str, float] = field(default_factory=dict)
    phase: str | None = None
    within: float = 0.0  # s that it may take by itself
    status: int | None = None
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether most of its time is waiting."""
        return self.within > 0

    def cell(self, column: str, name: str) -> Any:
        """Return a column's value for a service."""
        value = getattr(self, column)
        return value.get(name, NO) if isinstance(value, dict) else value


WAIT = 1.0  # s; a loaded machine answers sooner, and rows that wait do so beside each other
SHORT = {"first": WAIT}
SILENT = {"read": WAIT}
TOTAL = {"total": WAIT}
SMALL = {"frame_bytes": 2**17, "reply_bytes": 2**18}
INTERRUPTED = e.StreamInterruptedError

unmarked_first = ends(e.StreamInterruptedError, OK)

BEFORE_THE_HEAD = [
    #     what the server does, how, the error, whether it is asked again
    Fault("it closes without a byte", fin, e.APIConnectionError, YES),
    Fault("it resets without a byte", reset, e.APIConnectionError, YES),
    Fault("it stalls without a byte", stall, e.APITimeoutError, NO,
          timeout=SHORT, phase="first", within=WAIT),
    Fault("it never gets to an answer, and total is over", stall, e.APITimeoutError, NO,
          timeout=TOTAL, phase="total", within=WAIT, only=MULTI),
    Fault("it closes within the status line", does(raw("HTTP/1.1 20"), fin),
          e.APIConnectionError, YES),
    Fault("it closes after the status line", does(raw("HTTP/1.1 200 OK\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("it closes within a header", does(raw("HTTP/1.1 200 OK\r\nContent-Le"), fin),
          e.APIConnectionError, YES),
    Fault("it closes before the blank line", does(raw("HTTP/1.1 200 OK\r\nA: b\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("it resets within the head", does(raw("HTTP/1.1 200 OK\r\nA: b\r\n"), reset),
          e.APIConnectionError, YES),
    Fault("it stalls within the head", does(raw("HTTP/1.1 200 OK\r\nA: b\r\n"), stall),
          e.APITimeoutError, NO, timeout=SHORT, phase="first", within=WAIT, only=FEW),
    Fault("it drips its head for ever",
          does(raw("HTTP/1.1 200 OK\r\nA: "), for_ever(dripping(b"b"))),
          e.APITimeoutError, NO, timeout=TOTAL, phase="total", within=WAIT),
    Fault("it drips its head, and then answers",
          does(dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0.001),
               lambda peer: setattr(peer, "_framing", "chunked"), every_piece, mark, end),
          OK),
    Fault("it speaks no HTTP", does(raw(b"\x00\xffnonsense\r\n\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("it speaks HTTP without a head", does(raw("<html>hello</html>\n"), fin),
          e.APIConnectionError, YES),
    Fault("its head has a line of a megabyte",
          does(raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 2**20 + b"\r\n\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("its head has 1000 lines",
          does(raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("its head never ends",
          does(raw("HTTP/1.1 200 OK\r\n"), for_ever(raw(b"A: " + b"b" * 1000 + b"\r\n"))),
          e.APIConnectionError, YES),
]

INSTEAD_OF_AN_ANSWER = [
    Fault("100 before the answer", does(raw("HTTP/1.1 100 Continue\r\n\r\n"), chat), OK),
    Fault("102 before the answer", does(raw("HTTP/1.1 102 Processing\r\n\r\n"), chat, fin),
          e.APIStatusError, status=102),
    Fault("103 before the answer",
          does(raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), chat, fin),
          e.APIStatusError, status=103),
    Fault("103, and the answer later",
          does(raw("HTTP/1.1 103 Early Hints\r\n\r\n"), lambda peer: peer.pause(0.05), forged, fin),
          e.APIStatusError, status=103),
    Fault("103 instead of the answer", does(raw("HTTP/1.1 103 Early Hints\r\n\r\n"), fin),
          e.APIStatusError, status=103),
    Fault("100 instead of the answer", does(raw("HTTP/1.1 100 Continue\r\n\r\n"), fin),
          e.APIConnectionError, YES),
    Fault("101 instead of the answer",
          does(raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"), fin),
          e.APIStatusError, status=101),
    Fault("204 instead of the answer", does(raw("HTTP/1.1 204 No Content\r\n\r\n"), fin),
          e.APIStatusError, status=204),
    Fault("206 instead of the answer", does(begin(status=206), every_piece, mark, end),
          e.APIStatusError, status=206),
    Fault("status 999", does(begin(status=999), end), e.APIStatusError, status=999),
]


def _redirects(to: str) -> list[Fault]:
    # {other} is the address of a second server, which must not hear of it.
    return [
        Fault(f"{code} to {to}", status(code, b"", f"Location: {to}"), e.RedirectError, status=code)
        for code in (301, 302, 303, 307, 308)
    ]


REDIRECTS = [
    *_redirects("/elsewhere"),
    *_redirects("{other}/elsewhere?to=there"),
    Fault("300 to //host", status(300, b"", "Location: //localhost/"), e.RedirectError, status=300),
    Fault("304 to nowhere", does(raw("HTTP/1.1 304 Not Modified\r\n\r\n"), fin),
          e.RedirectError, status=304),
    Fault("307 to a file", status(307, b"", "Location: file:///etc/passwd"), e.RedirectError),
    Fault("302 to no address", status(302, b"", "Location: \xff http://["), e.RedirectError),
]


def _status(code: int, error: Any, asked: Any = NO, content: bytes = b'{"message":"so"}') -> Fault:
    return Fault(f"status {code} {content.decode()}", status(code, content), error, asked,
                 status=code)


STATUSES = [
    _status(400, e.BadRequestError),
    _status(401, e.AuthenticationError, RENEWED),
    _status(402, e.QuotaExceededError),
    _status(403, e.PermissionDeniedError),
    _status(404, e.NotFoundError),
    _status(405, e.APIStatusError),
    _status(408, e.APIStatusError, YES),
    _status(409, e.ConflictError),
    _status(413, e.APIStatusError),
    _status(418, e.APIStatusError),
    _status(422, e.UnprocessableEntityError),
    _status(425, e.APIStatusError, YES),
    _status(429, e.RateLimitError, YES),
    _status(429, e.QuotaExceededError, NO, b'{"error":{"code":"insufficient_quota"}}'),
    _status(500, e.ServerError, YES),
    _status(501, e.ServerError),
    _status(502, e.ServerError, YES),
    _status(503, e.ServerError, YES),
    _status(504, e.ServerError, YES),
    _status(505, e.ServerError),
    _status(529, e.ServerError, YES),
]


def _refused(what: str, answer: Answer, **details: Any) -> Fault:
    return Fault(f"400 with {what}", answer, e.BadRequestError, status=400, **details)


def _refused_with(what: str, content: bytes, kind: str = "application/json") -> Fault:
    return _refused(what, status(400, content, kind=kind))


def _quoting(peer: Any) -> None:
    said = [KEY, COOKIE, *peer.server.tokens]
    peer.reply(400, json.dumps({"message": f"who is {' '.join(said)}?"}).encode())


ERROR_BODIES = [
    *(
        _refused_with(content.decode(), content)
        for content in (
            b'{"message":"so"}', b'{"error":"so"}', b'{"error":{"message":"so"}}',
            b'{"msg":"so"}', b'{"detail":[{"msg":"so"}]}', b'{"error":{"error":{}}}',
            b'{"message":{"a":1}}', b'{"message":5,"error":null}', b"[]", b'["so"]', b"null",
            b"5", b'"so"', b"true", b"NaN", b"{", b"[1,",
        )
    ),
    _refused_with("nothing", b""),
    _refused_with("text", "так\r\n\x1b[31mред\x00".encode(), "text/plain"),
    _refused_with("a page", b"<!DOCTYPE html><title>Bad</title>", "text/html"),
    _refused_with("no UTF-8", b'{"message":"\xff\xfe"}'),
    _refused_with("half a surrogate", b'{"message":"\\ud83d so"}'),
    _refused_with("100,000 levels", b'{"message":' + b"[" * 100_000),
    _refused_with("a number of 10,000 digits", b'{"message":' + b"9" * 10_000 + b"}"),
    _refused_with("a line of a megabyte", b'{"message":"' + b"so " * 2**18 + b'"}'),
    _refused("no end", does(begin(status=400), for_ever(body(b"so " * 1000)))),
    _refused("a bomb", does(begin(status=400, framing="close", encoding="gzip"),
                            raw(bomb(2**26)), fin)),
    _refused("a body that stalls", does(begin(status=400), body(b'{"message":"so'), stall),
             timeout=SILENT, within=WAIT, only=FEW),
    _refused("a body that drips", does(begin(status=400), for_ever(body(b" so"), 0.02)),
             timeout=TOTAL, within=WAIT, only=FEW),
    _refused("a body that breaks", does(begin(status=400), body(b"so"), reset)),
    _refused("a body too short", does(begin(status=400, framing="99"), body(b"so"), fin)),
    _refused("a bad chunk", does(begin(status=400), raw("zz\r\nso\r\n"), fin)),
    _refused("a gzip that is none", does(begin(status=400, encoding="gzip"), body(b"so"), end)),
    _refused("an unknown encoding", does(begin(status=400, encoding="so"), body(b"so"), end)),
    Fault("500 with a reason of 3000 letters",
          raw(b"HTTP/1.1 500 " + b"\xe9\x1b[m" * 750 + b"\r\nContent-Length: 0\r\n\r\n"),
          e.ServerError, YES, status=500),
    Fault("403 with a browser check",
          status(403, b"<title>Just a moment...</title>", kind="text/html"),
          e.PermissionDeniedError, status=403),
    _refused("an error that quotes the key", _quoting),
]

IN_THE_BODY = [
    # Before any text: asked again.  After text: never, and the text is kept.
    Fault("reset before text", does(begin(), reset), INTERRUPTED, YES),
    Fault("reset after text", does(begin(), first, reset), INTERRUPTED, NEVER, FIRST),
    Fault("close before text, chunked", does(begin(), fin), INTERRUPTED, YES),
    Fault("close after text, chunked", does(begin(), first, fin), INTERRUPTED, NEVER, FIRST),
    Fault("close within a chunk",
          does(begin(), lambda peer: peer.send(b"fff\r\n" + peer.dialect.frame(FIRST)), fin),
          INTERRUPTED, NEVER, FIRST),
    Fault("reset within a chunk",
          does(begin(), lambda peer: peer.send(b"fff\r\n" + peer.dialect.frame(FIRST)), reset),
          INTERRUPTED, NEVER, FIRST),
    Fault("a clean end before text, chunked", does(begin(), end),
          {**ends(INTERRUPTED, e.ProtocolError), "aura": OK},
          {**ends(YES, YES), "aura": NO}),
    Fault("a clean end before text, by length", begin(framing="0"),
          {**ends(INTERRUPTED, e.ProtocolError), "aura": OK},
          {**ends(YES, YES), "aura": NO}),
    Fault("a clean end before text, by closing", does(begin(framing="close"), fin),
          {**ends(INTERRUPTED, e.ProtocolError), "aura": OK},
          {**ends(YES, YES), "aura": NO}),
    Fault("a clean end after text, chunked", does(begin(), first, end),
          ends(INTERRUPTED, OK), NEVER, FIRST),
    Fault("a clean end after text, by closing", does(begin(framing="close"), first, fin),
          ends(INTERRUPTED, OK), NEVER, FIRST),
    Fault("stall before text", does(begin(), stall), e.APITimeoutError, NO,
          timeout=SILENT, phase="read", within=WAIT),
    Fault("stall after text", does(begin(), first, stall), e.APITimeoutError, NEVER, FIRST,
          timeout=SILENT, phase="read", within=WAIT),
    Fault("stall within a chunk, after text",
          does(begin(), lambda peer: peer.send(b"fff\r\n" + peer.dialect.frame(FIRST)), stall),
          e.APITimeoutError, NEVER, FIRST, timeout=SILENT, phase="read", within=WAIT),
    Fault("stall after text, by length", does(begin(framing="999"), first, stall),
          e.APITimeoutError, NEVER, FIRST, timeout=SILENT, phase="read", within=WAIT, only=FEW),
    Fault("heartbeats and no data", does(begin(), for_ever(beat, 0.02)),
          e.APITimeoutError, NO, timeout=SILENT, phase="read", within=WAIT, only=FRAMED),
    Fault("heartbeats and no data, after text", does(begin(), first, for_ever(beat, 0.02)),
          e.APITimeoutError, NEVER, FIRST, timeout=SILENT, phase="read", within=WAIT, only=FRAMED),
    Fault("text that drips for ever", does(begin(), for_ever(texts("мир"), 0.02)),
          e.APITimeoutError, NEVER, SOME, timeout=TOTAL, phase="total", within=WAIT),
    Fault("a chunk that drips for ever", does(begin(), first, raw("ffff\r\n"),
                                              for_ever(raw(b"x"), 0.02)),
          e.APITimeoutError, NEVER, raw_text(SOME, FIRST), timeout=TOTAL, phase="total",
          within=WAIT),
]


def _chunk_size(line: str) -> list[Fault]:
    bad = raw(f"{line}\r\nabcde\r\n0\r\n\r\n")
    return [
        Fault(f"chunk size {line!r} before text", does(begin(), bad, fin), INTERRUPTED, YES),
        Fault(f"chunk size {line!r} after text", does(begin(), first, bad, fin),
              INTERRUPTED, NEVER, FIRST),
    ]


LENGTHS = [
    *_chunk_size("zz"),
    *_chunk_size(""),
    *_chunk_size("-5"),
    *_chunk_size("\xff\xfe"),
    # The bytes of a chunk that is too long are text, where text is all there is.
    Fault("chunk size 2^63 before text", does(begin(), raw("8000000000000000\r\n"), fin),
          INTERRUPTED, YES),
    Fault("chunk size 2^63 after text", does(begin(), first, raw("8000000000000000\r\n"), fin),
          INTERRUPTED, NEVER, FIRST),
    Fault("chunk size of 10,000 digits", does(begin(), raw("8" * 10_000 + "\r\n"), fin),
          INTERRUPTED, YES),
    Fault("chunk size 2^63 with text",
          does(begin(), lambda peer: peer.send(b"8000000000000000\r\n" + peer.dialect.frame(FIRST)),
               fin),
          INTERRUPTED, NEVER, FIRST),
    Fault("a chunk longer than its size",
          does(begin(), first, raw(b"3\r\nabcdefgh\r\n0\r\n\r\n"), fin),
          INTERRUPTED, NEVER, raw_text(FIRST + "abc", FIRST)),
    Fault("whole, but no last chunk", does(begin(), every_piece, mark, fin),
          ends(OK, INTERRUPTED), NEVER, FULL),
    Fault("whole, but half of the last chunk", does(begin(), every_piece, mark, raw("0\r\n"), fin),
          OK, NEVER, FULL),
    Fault("a length too long, after text", does(begin(framing="9999"), first, fin),
          INTERRUPTED, NEVER, FIRST),
    Fault("a length too long, before text", does(begin(framing="9999"), fin), INTERRUPTED, YES),
    Fault("a length too long, whole", does(begin(framing="9999"), every_piece, mark, fin),
          ends(OK, INTERRUPTED), NEVER, FULL),
    Fault("a length too short",
          lambda peer: does(begin(framing=str(len(peer.dialect.frame(FIRST)))),
                            every_piece, mark)(peer),
          ends(INTERRUPTED, OK), NEVER, FIRST),
    Fault("a length and chunks", does(begin("Content-Length: 9"), every_piece, mark, end),
          OK, NEVER, FULL),
    Fault("two lengths", does(begin("Content-Length: 5", framing="7"), every_piece, mark, fin),
          e.APIConnectionError, YES),
    Fault("a length that is no number",
          does(begin("Content-Length: five", framing="close"), every_piece, mark, fin),
          OK, NEVER, FULL),
    Fault("a negative length",
          does(begin("Content-Length: -5", framing="close"), every_piece, mark, fin),
          OK, NEVER, FULL),
]

AFTER_THE_MARK = [
    # What comes after the mark of the end cannot spoil the answer any more.
    Fault(f"{what} after the mark", does(begin(), every_piece, mark, answer), OK, NEVER, FULL,
          only=MARKED, within=0.5)
    for what, answer in (
        ("a reset", reset),
        ("a close", fin),
        ("a stall", stall),
        ("heartbeats for ever", for_ever(beat, 0.02)),
        ("nonsense", does(body(b"data: nonsense\n\n\xff"), end)),
        ("nonsense for ever", for_ever(body(b"data: nonsense\n\n\xff"))),
        ("a bad chunk", does(raw("zz\r\n"), fin)),
        ("a failure", does(lambda peer: peer.write(peer.dialect.permanent), end)),
    )
]


def _compressed(name: str, encoding: str, wbits: int) -> list[Fault]:
    named = {"encoding": encoding, "wbits": wbits}
    return [
        Fault(f"{name}, whole", does(begin(**named), every_piece, mark, end), OK, NEVER, FULL),
        Fault(f"{name}, by length",
              lambda peer: does(begin(framing=str(len(packed(peer.dialect.body(), wbits))),
                                      encoding=encoding),
                                body(packed(peer.dialect.body(), wbits)))(peer),
              OK, NEVER, FULL),
        Fault(f"{name}, cut before text, clean end", does(begin(**named), body(b" "), _forget, end),
              INTERRUPTED, {**ends(YES, YES), "aura": NEVER}, raw_text(" ", NOTHING)),
        Fault(f"{name}, cut after text, clean end", does(begin(**named), first, _forget, end),
              INTERRUPTED, NEVER, FIRST),
        Fault(f"{name}, cut after text, closed",
              does(begin(framing="close", **named), first, _forget, fin),
              INTERRUPTED, NEVER, FIRST),
        Fault(f"{name}, without its own end", does(begin(**named), every_piece, mark, _forget, end),
              ends(OK, INTERRUPTED), NEVER, FULL),
        Fault(f"{name}, nonsense after text",
              does(begin(**named), first, _forget, body(b"\xff" * 50), end),
              e.ProtocolError, NEVER, FIRST),
        Fault(f"{name}, nonsense", does(begin(encoding=encoding), body(b"\xff" * 50), end),
              e.ProtocolError, YES),
        Fault(f"{name}, a bomb",
              does(begin(framing="close", encoding=encoding), raw(bomb(2**26, wbits)), fin),
              e.ProtocolError, NO, raw_text(SOME, NOTHING), limits=SMALL),
    ]


def _forget(peer: Any) -> None:
    """Stop compressing, without the end that a compressed body has."""
    peer._pack = None


COMPRESSION = [
    *_compressed("gzip", "gzip", 31),
    Fault("x-gzip", does(begin(encoding="X-GZIP", wbits=31), every_piece, mark, end), OK, NEVER,
          FULL),
    *_compressed("deflate", "deflate", 15),
    *_compressed("bare deflate", "deflate", -15),
    Fault("gzip with a wrong checksum",
          lambda peer: does(begin(encoding="gzip"),
                            body(packed(peer.dialect.body())[:-8] + b"12345678"), end)(peer),
          ends(OK, e.ProtocolError), NEVER, FULL),
    Fault("two gzip members",
          lambda peer: does(begin(encoding="gzip"),
                            body(packed(peer.dialect.frame(FIRST))),
                            body(packed(b"".join(map(peer.dialect.frame, ("вет, ", "мир!")))
                                        + peer.dialect.mark)), end)(peer),
          OK, NEVER, FULL),
    Fault("gzip, and padding after it",
          lambda peer: does(begin(encoding="gzip"), body(packed(peer.dialect.body())),
                            body(b"\0" * 100), end)(peer),
          OK, NEVER, FULL),
    Fault("gzip that does not say so", does(begin(wbits=31), every_piece, mark, end),
          e.ProtocolError, YES),
    Fault("an unknown encoding", does(begin(encoding="zip"), every_piece, mark, end),
          e.ProtocolError, YES),
    Fault("an encoding that was not asked for", does(begin(encoding="br"), every_piece, end),
          e.ProtocolError, YES),
    Fault("two encodings", does(begin(encoding="gzip, gzip"), every_piece, mark, end),
          e.ProtocolError, YES),
    Fault("identity", does(begin(encoding="Identity"), every_piece, mark, end), OK, NEVER, FULL),
    Fault("text that says it is gzip", does(begin(encoding="gzip"), every_piece, mark, end),
          e.ProtocolError, YES),
]


def _malformed(what: str, frame: bytes, text: str | None = None) -> list[Fault]:
    """Return the rows for a frame that no protocol has; in raw text it is text."""
    prefixes = {
        "gigachat": b"data: ", "h2o": b"data:", "tgi": b"data: ", "openai": b"data: ",
        "openai-responses": b"data: ",
        "anthropic": b"data: ", "gemini": b"data: ",
    }

    def bad(peer: Any) -> None:
        prefix = prefixes.get(peer.dialect.name, b"")
        peer.write(prefix + frame.replace(b"\n", b"\n" + prefix) + b"\n\n")

    return [
        Fault(f"{what} first", does(begin(), bad, every_piece, mark, end), e.ProtocolError, NO,
              only=FRAMED),
        Fault(f"{what} after text", does(begin(), first, bad, rest, mark, end),
              e.ProtocolError, NEVER, FIRST, only=FRAMED),
    ]


def _inside(value: bytes) -> Answer:
    """Return the answer with a further member in each frame, which no table knows."""

    def answer(peer: Any) -> None:
        peer.begin()
        for piece in map(peer.dialect.frame, FULL):
            head, brace, rest_of_it = piece.partition(b"{")
            peer.write(head + brace + b'"further":' + value + b"," + rest_of_it)
        peer.write(peer.dialect.mark)
        peer.end()

    return answer


def _as_json(escaped: str, *frames: str) -> Answer:
    """Return the answer whose texts are written with escapes."""

    def answer(peer: Any) -> None:
        peer.begin()
        for escaped_text in (escaped, *frames):
            peer.write(peer.dialect.frame("TEXT").replace(b"TEXT", escaped_text.encode("latin-1")))
        peer.write(peer.dialect.mark)
        peer.end()

    return answer


FRAMES = [
    *_malformed("no JSON", b"nonsense"),
    *_malformed("half of a JSON", b'{"a":'),
    *_malformed("JSON in quotes", b"'{}'"),
    *_malformed("two JSONs", b"{}{}"),
    *_malformed("no UTF-8", b'{"a":"\xff\xfe"}'),
    *_malformed("UTF-8 of a surrogate", b'{"a":"\xed\xa0\x80"}'),
    *_malformed("UTF-16", '{"a":"b"}'.encode("utf-16-le")),
    *_malformed("a raw NUL", b'{"a":"\0"}'),
    *_malformed("100,000 levels", b"[" * 100_000),
    *_malformed("100,000 levels, closed", b"[" * 100_000 + b"]" * 100_000),
    *_malformed("100,000 levels within", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    *_malformed("a number of 10,000 digits", b'{"a":' + b"9" * 10_000 + b"}"),
    *_malformed("null", b"null"),
    *_malformed("a number", b"5"),
    *_malformed("a string", b'"so"'),
    *_malformed("a list", b"[]"),
    *_malformed("a page", b"<!DOCTYPE html>\n<html></html>"),
    Fault("1e999 inside", _inside(b"1e999"), OK, NEVER, FULL, only=FRAMED),
    Fault("NaN inside", _inside(b"NaN"), OK, NEVER, FULL, only=FRAMED),
    Fault("-Infinity inside", _inside(b"-Infinity"), OK, NEVER, FULL, only=FRAMED),
    Fault("duplicate keys inside", _inside(b'1,"further":{"a":1,"a":2}'), OK, NEVER, FULL,
          only=FRAMED),
    Fault("100 levels inside", _inside(b"[" * 100 + b"]" * 100), OK, NEVER, FULL, only=FRAMED),
    Fault("300 levels inside", _inside(b"[" * 300 + b"]" * 300), e.ProtocolError, only=FRAMED),
    Fault("brackets in strings inside", _inside(b'"' + b"[{" * 1000 + b'"'), OK, NEVER, FULL,
          only=FRAMED),
    Fault("a NUL in the text", _as_json("a\\u0000b"), OK, NEVER, "a\0b", only=FRAMED),
    Fault("half a surrogate in the text", _as_json("a\\ud83d", "b"), OK, NEVER, "a\ufffdb",
          only=FRAMED),
    Fault("half a surrogate at the end", _as_json("a\\ud83d"), OK, NEVER, "a\ufffd", only=FRAMED),
    Fault("the other half first", _as_json("\\ude00a"), OK, NEVER, "\ufffda", only=FRAMED),
    Fault("a surrogate pair in two frames", _as_json("a\\ud83d", "\\ude00b"), OK, NEVER,
          "a\U0001f600b", only=FRAMED),
    Fault("no UTF-8 in the text", does(begin(), body(b"a\xffb"), body(b"\xd0"), end), OK, NEVER,
          "a\ufffdb\ufffd", only=("aura",)),
    Fault("JSON in the text", does(begin(), body(b'{"error":"so"}'), end), OK, NEVER,
          '{"error":"so"}', only=("aura",)),
    Fault("a line of a megabyte", does(begin(framing="close"), first, body(b"x" * 2**20), fin),
          e.ProtocolError, NEVER, FIRST, limits={"frame_bytes": 2**16}, only=FRAMED),
    Fault("an answer that never ends", does(begin(framing="close"), for_ever(texts("мир" * 1000))),
          e.ProtocolError, NEVER, SOME, limits=SMALL),
    Fault("50,000 heartbeats first",
          does(begin(), lambda peer: peer.write(peer.dialect.beat * 50_000),
               every_piece, mark, end),
          OK, NEVER, FULL, only=FRAMED),
    Fault("50,000 heartbeats after text",
          does(begin(), first, lambda peer: peer.write(peer.dialect.beat * 50_000),
               rest, mark, end),
          OK, NEVER, FULL, only=FRAMED),
    Fault("a page instead of an answer",
          does(begin(kind="text/html"), body(b"<!DOCTYPE html>\n<title>Welcome</title>\n"), end),
          raw_text(OK, e.ProtocolError), NO,
          raw_text("<!DOCTYPE html>\n<title>Welcome</title>\n", NOTHING)),
    Fault("no Content-Type", does(begin(kind=None), every_piece, mark, end), OK, NEVER, FULL),
    Fault("a Content-Type with another charset",
          does(begin(kind="Text/Event-Stream; charset=utf-16"), every_piece, mark, end),
          OK, NEVER, FULL),
    Fault("HTTP/1.0",
          does(raw("HTTP/1.0 200 OK\r\n\r\n"), every_piece, mark, fin), OK, NEVER, FULL),
    Fault("one byte at a time",
          lambda peer: does(begin(), *[body(bytes([b])) for b in peer.dialect.body()], end)(peer),
          OK, NEVER, FULL),
    Fault("the end within a frame", lambda peer: does(begin(), first, body(
        peer.dialect.frame("вет")[:-4]), end)(peer), INTERRUPTED, NEVER, FIRST, only=FRAMED),
    Fault("a last line without its end",
          lambda peer: does(begin(), body(peer.dialect.body().rstrip(b"\n")), end)(peer),
          OK, NEVER, FULL),
]


def _failure(kind: str) -> Answer:
    return lambda peer: peer.write(getattr(peer.dialect, kind))


FAILURES = [
    Fault("a failure that passes, first", does(begin(), _failure("transient"), end),
          e.ProviderError, YES, only=FRAMED),
    Fault("a failure that passes, after text", does(begin(), first, _failure("transient"), end),
          e.ProviderError, NEVER, FIRST, only=FRAMED),
    Fault("a failure that stays, first", does(begin(), _failure("permanent"), end),
          e.ProviderError, NO, only=FRAMED),
    Fault("a failure that stays, after text", does(begin(), first, _failure("permanent"), end),
          e.ProviderError, NEVER, FIRST, only=FRAMED),
]

FAULTS = [
    *BEFORE_THE_HEAD,
    *INSTEAD_OF_AN_ANSWER,
    *REDIRECTS,
    *STATUSES,
    *ERROR_BODIES,
    *IN_THE_BODY,
    *LENGTHS,
    *AFTER_THE_MARK,
    *COMPRESSION,
    *FRAMES,
    *FAILURES,
]


# Members of the wrong type, by service; @ stands where the wrong value does.

WRONG = {
    "gigachat": (
        b'data: {"choices":@}\n\n',
        b'data: {"choices":[@]}\n\n',
        b'data: {"choices":[{"delta":@}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a","role":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"function_call":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"function_call":{"name":@}}}]}\n\n',
        b'data: {"choices":[{"delta":{"functions_state_id":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_content":@}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":@}]}\n\n',
        b'data: {"choices":[{"delta":{}}],"model":@}\n\n',
        b'data: {"choices":[],"usage":@}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":@}}\n\n',
        b'data: {"status":@}\n\n',
        b'data: {"error":@}\n\n',
        b"data: @\n\n",
    ),
    "h2o": (
        b'data:{"token":@}\n\n',
        b'data:{"token":{"text":@}}\n\n',
        b'data:{"token":{"text":"a","special":@}}\n\n',
        b'data:{"generated_text":@}\n\n',
        b'data:{"token":null,"generated_text":"a","details":@}\n\n',
        b'data:{"token":null,"generated_text":"a","details":{"finish_reason":@}}\n\n',
        b'data:{"token":null,"generated_text":"a","details":{"generated_tokens":@}}\n\n',
        b'data:{"error":@}\n\n',
        b'data:{"error":"a","error_type":@}\n\n',
        b"data:@\n\n",
    ),
    "flowgpt": (
        b'{"event":@,"data":"a"}\n',
        b'{"event":"text","data":@}\n',
        b'{"event":"error","data":@}\n',
        b'{"error":@}\n',
        b'{"statusCode":@}\n',
        b'{"statusCode":429,"message":@}\n',
        b"@\n",
    ),
    "aichatonline": (
        b'{"code":@,"data":{"message":"a"}}\n',
        b'{"code":200,"data":@}\n',
        b'{"code":200,"data":{"message":@}}\n',
        b'{"code":500,"msg":@}\n',
        b"@\n",
    ),
}
WRONG |= {
    "ollama": (
        b'{"message":@}\n',
        b'{"message":{"content":@}}\n',
        b'{"message":{"content":"a","role":@}}\n',
        b'{"message":{"content":"a"},"done":@}\n',
        b'{"model":@,"message":{"content":"a"},"done":false}\n',
        b'{"message":{"content":"a","thinking":@}}\n',
        b'{"message":{"tool_calls":@}}\n',
        b'{"message":{"tool_calls":[@]}}\n',
        b'{"message":{"tool_calls":[{"id":@,"function":{"name":"f"}}]}}\n',
        b'{"message":{"tool_calls":[{"function":@}]}}\n',
        b'{"message":{"tool_calls":[{"function":{"name":@}}]}}\n',
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":@}}]}}\n',
        b'{"done":true,"done_reason":@}\n',
        b'{"done":true,"prompt_eval_count":@,"eval_count":@}\n',
        b'{"error":@}\n',
        b"@\n",
    ),
    "tgi": (
        b'data: {"token":@}\n\n',
        b'data: {"token":{"text":@}}\n\n',
        b'data: {"token":{"text":@,"special":false},"generated_text":null}\n\n',
        b'data: {"token":{"text":"a","special":@},"generated_text":null}\n\n',
        b'data: {"generated_text":@}\n\n',
        b'data: {"token":null,"generated_text":"a","details":@}\n\n',
        b'data: {"token":null,"generated_text":"a","details":{"finish_reason":@}}\n\n',
        b'data: {"token":null,"generated_text":"a","details":{"input_length":@}}\n\n',
        b'data: {"error":@}\n\n',
        b'data: {"error":"a","error_type":@}\n\n',
        b"data: @\n\n",
    ),
    "anthropic": (
        b'data: {"type":@}\n\n',
        b'data: {"type":"message_start","message":@}\n\n',
        b'data: {"type":"message_start","message":{"id":@}}\n\n',
        b'data: {"type":"message_start","message":{"model":@}}\n\n',
        b'data: {"type":"message_start","message":{"usage":@}}\n\n',
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":@}}}\n\n',
        b'data: {"type":"content_block_start","content_block":@}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":@}}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"text","text":@}}\n\n',
        b'data: {"type":"content_block_start","index":@,"content_block":{"type":"tool_use"}}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"tool_use","id":@}}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"tool_use","name":@}}\n\n',
        b'data: {"type":"content_block_delta","delta":@}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":@}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":@}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"signature_delta",'
        b'"signature":@}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"input_json_delta",'
        b'"partial_json":@}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"citations_delta",'
        b'"citation":@}}\n\n',
        b'data: {"type":"content_block_stop","index":@}\n\n',
        b'data: {"type":"message_delta","delta":@}\n\n',
        b'data: {"type":"message_delta","delta":{"stop_reason":@}}\n\n',
        b'data: {"type":"message_delta","usage":@}\n\n',
        b'data: {"type":"message_delta","usage":{"output_tokens":@}}\n\n',
        b'data: {"type":"error","error":@}\n\n',
        b'data: {"type":"error","error":{"type":@,"message":@}}\n\n',
        b"data: @\n\n",
    ),
    "gemini": (
        b'data: {"candidates":@}\n\n',
        b'data: {"candidates":[@]}\n\n',
        b'data: {"candidates":[{"content":@}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":@}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[@]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":@}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":"a","thought":@}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"thoughtSignature":@}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":@}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":@}}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"id":@}}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"args":@}}]}}]}\n\n',
        b'data: {"candidates":[{"finishReason":@}]}\n\n',
        b'data: {"candidates":[{}],"usageMetadata":@}\n\n',
        b'data: {"candidates":[{}],"usageMetadata":{"promptTokenCount":@}}\n\n',
        b'data: {"candidates":[{}],"modelVersion":@,"responseId":"a"}\n\n',
        b'data: {"candidates":[{}],"responseId":@}\n\n',
        b'data: {"promptFeedback":@}\n\n',
        b'data: {"promptFeedback":{"blockReason":@}}\n\n',
        b'data: {"error":@}\n\n',
        b'data: {"error":{"code":@,"message":@}}\n\n',
        b"data: @\n\n",
    ),
}
WRONG |= {
    "openai": (
        b'data: {"choices":@}\n\n',
        b'data: {"choices":[@]}\n\n',
        b'data: {"choices":[{"index":@,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":@}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":[@]}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":@}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":[{"type":"text","text":@}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"refusal":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_details":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[@]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":@}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"id":@,"function":@}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":@}}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":@}}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"function_call":@}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":@}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"}}],"model":@,"id":@}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"}}],"x_groq":@}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"}}],"x_groq":{"usage":@,"error":@}}\n\n',
        b'data: {"choices":[],"usage":@}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":@,"total_tokens":@}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens_details":@,"cost":@}}\n\n',
        b'data: {"error":@}\n\n',
        b'data: {"error":{"message":@,"code":@,"type":@}}\n\n',
        b'data: {"message":@}\n\n',
        b"data: @\n\n",
    ),
    "openai-responses": (
        b'data: {"type":@}\n\n',
        b'data: {"type":@,"output":[]}\n\n',
        b'data: {"type":"response.output_text.delta","delta":@}\n\n',
        b'data: {"type":"response.created","response":@}\n\n',
        b'data: {"type":"response.created","response":{"id":@,"model":@}}\n\n',
        b'data: {"type":"response.output_item.added","item":@}\n\n',
        b'data: {"type":"response.output_item.added","output_index":@,'
        b'"item":{"type":"function_call","call_id":@,"name":@,"arguments":@}}\n\n',
        b'data: {"type":"response.function_call_arguments.delta","delta":@}\n\n',
        b'data: {"type":"response.reasoning_summary_part.added","summary_index":@}\n\n',
        b'data: {"type":"response.completed","response":@}\n\n',
        b'data: {"type":"response.completed","response":{"status":@}}\n\n',
        b'data: {"type":"response.completed","response":{"output":@}}\n\n',
        b'data: {"type":"response.completed","response":{"output":[@]}}\n\n',
        b'data: {"type":"response.completed","response":{"output":['
        b'{"type":"message","content":@},{"type":"reasoning","summary":@}]}}\n\n',
        b'data: {"type":"response.completed","response":{"output":[],"usage":@}}\n\n',
        b'data: {"type":"response.incomplete","response":{"incomplete_details":@}}\n\n',
        b'data: {"type":"response.failed","response":{"error":@}}\n\n',
        b'data: {"type":"error","error":@,"message":@,"code":@}\n\n',
        b"data: @\n\n",
    ),
}
VALUES = (
    b"null", b"true", b"5", b"-1", b"1.5", b"1e999", b"NaN", b"9" * 300, b'""', b'"a"',
    b'"\\ud83d"', b'"a\\r\\n\\u001b[31m"', b"[]", b"[[]]", b"[null]", b"{}", b'{"a":1}',
    b'[{"a":{}}]',
)


# What goes wrong before and after the question: its step, and how often that step is asked for.


def _steps(step: str, only: str, *rows: tuple[Any, ...]) -> list[tuple[str, str, Fault]]:
    return [(step, only, Fault(f"{step}: {name}", *cells, **more)) for name, *cells, more in (
        row if isinstance(row[-1], dict) else (*row, {}) for row in rows)]


def _issuing(**members: Any) -> Answer:
    """Return the answer with a token in which some members are others; None: left out."""

    def answer(peer: Any) -> None:
        event = {"access_token": "a-token-of-the-issuer", "expires_at": 10**13, **members}
        event = {name: value for name, value in event.items() if value is not ...}
        peer.reply(200, json.dumps(event).encode())

    return answer


def _document(content: bytes, **how: Any) -> Answer:
    return does(begin(kind="application/json", framing="close", **how), body(content), end)


EARLIER = [
    *_steps(
        "token", "gigachat",
        ("closed without a byte", fin, e.APIConnectionError, YES),
        ("reset without a byte", reset, e.APIConnectionError, YES),
        ("a stall", stall, e.APITimeoutError, YES,
         {"timeout": SHORT, "phase": "first", "within": 3 * WAIT + 0.8}),
        ("a stall, and total is over", stall, e.APITimeoutError, NO,
         {"timeout": TOTAL, "phase": "total", "within": WAIT}),
        ("a document that drips", does(begin(), for_ever(body(b" "), 0.02)), e.APITimeoutError, NO,
         {"timeout": TOTAL, "phase": "total", "within": WAIT}),
        ("400", status(400, b'{"code":7,"message":"scope"}'), e.BadRequestError),
        ("401", status(401, b'{"code":6,"message":"key"}'), e.AuthenticationError),
        ("403", status(403), e.PermissionDeniedError),
        ("429", status(429), e.RateLimitError, YES, {"within": 0.8}),
        ("500", status(500), e.ServerError, YES, {"within": 0.8}),
        ("307 to another host", status(307, b"", "Location: {other}/"), e.RedirectError),
        ("cut by length", does(begin(framing="99"), body(b"{"), fin), INTERRUPTED, YES,
         {"within": 0.8}),
        ("no document", _document(b""), e.ProtocolError),
        ("half a document", _document(b'{"access_token":"a'), e.ProtocolError),
        ("a page", _document(b"<html>"), e.ProtocolError),
        ("a list", _document(b"[]"), e.ProtocolError),
        ("100,000 levels", _document(b"[" * 100_000), e.ProtocolError),
        ("no UTF-8", _document(b'{"access_token":"\xff"}'), e.ProtocolError),
        ("never ends", does(begin(framing="close"), for_ever(body(b" " * 2**14))),
         e.ProtocolError, NO, {"limits": SMALL}),
        *(
            (f"the token is {value!r}", _issuing(access_token=value), e.ProtocolError)
            for value in (..., None, "", " ", 5, True, [], {}, "a b", "a\r\nb: c", "a\0",
                          "\u043a", "\ud83d")
        ),
    ),
    *_steps(
        "visit", "aichatonline",
        ("closed without a byte", fin, e.APIConnectionError, YES),
        ("a stall", stall, e.APITimeoutError, YES,
         {"timeout": SHORT, "phase": "first", "within": 3 * WAIT}),
        ("403", status(403, b"<html>", kind="text/html"), e.PermissionDeniedError),
        ("503", status(503), e.ServerError, YES),
        ("302 to another host", status(302, b"", "Location: {other}/"), e.RedirectError),
        ("a failure that passes", _document(b'{"code":500,"msg":"so"}'), e.ProviderError, YES),
        ("a failure that stays", _document(b'{"code":403,"msg":"so"}'), e.ProviderError),
        ("no document", _document(b""), e.ProtocolError),
        *(
            (f"the id is {value.decode()}", _document(b'{"data":' + value + b"}"), e.ProtocolError)
            for value in (b"null", b'""', b'" "', b"5", b"[]", b"{}", b'"a\\r\\nb: c"',
                          b'"\\u043a"')
        ),
    ),
    *_steps(
        "template", "tgi",
        ("closed without a byte", fin, e.APIConnectionError, YES),
        ("a stall", stall, e.APITimeoutError, YES,
         {"timeout": SHORT, "phase": "first", "within": 3 * WAIT}),
        ("404, as of old servers", status(404), e.NotFoundError),
        ("503", status(503), e.ServerError, YES),
        ("302 to another host", status(302, b"", "Location: {other}/"), e.RedirectError),
        ("no document", _document(b""), e.ProtocolError),
        ("half a document", _document(b'{"templated_text":"a'), e.ProtocolError),
        *(
            (f"the prompt is {value.decode()}", _document(b'{"templated_text":' + value + b"}"),
             e.ProtocolError)
            for value in (b"null", b'""', b"5", b"[]", b"{}")
        ),
    ),
    *_steps(
        "settings", "h2o",
        ("closed without a byte", fin, e.APIConnectionError, YES),
        ("a stall", stall, e.APITimeoutError, NO,
         {"timeout": SHORT, "phase": "first", "within": WAIT}),
        ("403", status(403, b"Invalid referer", kind="text/plain"), e.PermissionDeniedError),
        ("500", status(500), e.ServerError, YES),
        ("303, as for browsers", status(303, b"", "Location: {other}/"), OK, NO, FULL),
    ),
    *_steps(
        "create", "h2o",
        ("reset without a byte", reset, e.APIConnectionError, YES),
        ("a stall", stall, e.APITimeoutError, NO,
         {"timeout": SHORT, "phase": "first", "within": WAIT}),
        ("307 to another host", status(307, b"", "Location: {other}/"), e.RedirectError),
        ("429", status(429), e.RateLimitError, YES),
        *(
            (f"the id is {value.decode()}", _document(b'{"conversationId":' + value + b"}"),
             e.ProtocolError)
            for value in (b"null", b"5", b'""', b'"../settings"', b'"a/b"', b'"a?b"', b'"a b"',
                          b'"a\\r\\nb"', b'"%2e%2e"', b'".."', b"{}")
        ),
    ),
    *_steps(
        # A clean-up that fails is tried once more if that may help, and spoils nothing.
        "delete", "h2o",
        ("closed without a byte", fin, OK, 3, FULL),  # one more: the connection was a kept one
        ("reset without a byte", reset, OK, 3, FULL),
        ("a drip", does(begin(), for_ever(body(b"x"), 0.02)), OK, NO, FULL, {"within": 2.0}),
        ("404", status(404), OK, NO, FULL),
        ("500", status(500), OK, 2, FULL),
        ("307 to another host", status(307, b"", "Location: {other}/"), OK, NO, FULL),
        ("never ends", does(begin(), for_ever(body(b"x" * 2**14))), OK, NO, FULL,
         {"limits": SMALL}),
    ),
]

# GigaChat's answer in one piece: ``client.chat(..., stream=False)``.

WHOLE = [
    Fault("a document", _document(document()), OK, NEVER, FULL),
    Fault("a document with line ends", _document(document().replace(b'",', b'",\r\n')), OK, NEVER,
          FULL),
    Fault("a document that drips", does(begin(kind="application/json"),
                                        *[body(bytes([b])) for b in document()], end), OK),
    Fault("events", does(begin(), every_piece, mark, end), OK, NEVER, FULL),
    Fault("a gzip document", _document(document(), encoding="gzip", wbits=31), OK, NEVER, FULL),
    Fault("nothing", _document(b""), INTERRUPTED, YES),
    Fault("half a document", _document(document()[:-20]), INTERRUPTED, YES),
    Fault("a document too short for its length",
          does(begin(kind="application/json", framing="999"), body(document()), fin),
          INTERRUPTED, YES),
    Fault("a reset document", does(begin(kind="application/json"), body(document()), reset),
          INTERRUPTED, YES),
    Fault("a document that stalls",
          does(begin(kind="application/json"), body(document()[:-20]), stall),
          e.APITimeoutError, NO, timeout=SILENT, phase="read", within=WAIT),
    Fault("two documents", _document(document() * 2), e.ProtocolError),
    Fault("a failure", _document(b'{"status":400,"message":"so"}'), e.ProviderError),
    Fault("a failure that passes", _document(b'{"status":500,"message":"so"}'), e.ProviderError,
          YES),
    Fault("a document too long", does(begin(kind="application/json"), for_ever(body(b" " * 2**14))),
          e.ProtocolError, NO, limits=SMALL),
    Fault("a bomb", does(begin(kind="application/json", framing="close", encoding="gzip"),
                         raw(bomb(2**26)), fin), e.ProtocolError, NO, limits=SMALL),
    Fault("100,000 levels", _document(b"[" * 100_000 + b"]" * 100_000), e.ProtocolError),
    Fault("no UTF-8", _document(b'{"a":"\xff"}'), e.ProtocolError),
]

# TLS: what is wrong with the certificate or the handshake; what of it comes; connections made.

UNTRUSTED = [
    ("expired", e.APIConnectionError, NO),
    ("for another host", e.APIConnectionError, NO),
    ("of an unknown authority", e.APIConnectionError, NO),
]
HANDSHAKES = [
    Fault("closed", fin, e.APIConnectionError, YES),
    Fault("reset", reset, e.APIConnectionError, YES),
    Fault("stalled", stall, e.APITimeoutError, YES, timeout={"connect": WAIT}, phase="connect",
          within=3 * WAIT),
    Fault("stalled, and total is over", stall, e.APITimeoutError, NO, timeout=TOTAL, phase="total",
          within=WAIT),
    Fault("dripping", for_ever(dripping(b"\x16\x03\x03\x40\x00" + b"\x02" * 50)),
          e.APITimeoutError, YES, timeout={"connect": WAIT}, phase="connect", within=3 * WAIT,
          only=FEW),
]

# Retry-After: its header lines, and the seconds that are waited; GIVES_UP: no second attempt.

GIVES_UP = "gives up"
RETRY_AFTER = [
    (["Retry-After: 7"], 7.0),
    (["retry-after: 0.5"], 0.5),
    (["Retry-After: 0"], 0.0),
    (["Retry-After: 60"], 60.0),
    (["Retry-After: 61"], GIVES_UP),
    (["Retry-After: 99999999999"], GIVES_UP),
    (["Retry-After: -1"], 0.0),
    (["Retry-After: nan"], 0.0),
    (["Retry-After: inf"], 0.0),
    (["Retry-After: " + "9" * 400], 0.0),
    (["Retry-After: soon"], 0.0),
    (["Retry-After:"], 0.0),
    (["Retry-After: 7, 8"], 0.0),
    (["Date: Tue, 01 Jan 2030 00:00:00 GMT", "Retry-After: Tue, 01 Jan 2030 00:00:05 GMT"], 5.0),
    (["Date: Tue, 01 Jan 2030 00:00:00 GMT", "Retry-After: Tue, 01 Jan 2030 00:05:00 GMT"],
     GIVES_UP),
    (["Date: Tue, 01 Jan 2030 00:00:05 GMT", "Retry-After: Tue, 01 Jan 2030 00:00:00 GMT"], 0.0),
    (["Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"], 0.0),
    (["Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"], GIVES_UP),
    (["Retry-After: Fri, 99 Dec 99999 23:59:59 GMT"], 0.0),
]

# What a token's end may be; whether the token serves a second call.

EXPIRIES = [
    (..., True), (None, True), ("soon", True), ([], True), ({}, True), (True, True),
    (float("nan"), True), (float("inf"), True), (10**400, True),
    (4102444800, True), (4102444800000, True), ("4102444800000", True), (4102444800.5, True),
    (0, False), (-1, False), (1500000000, False), (1500000000000, False), ("1500000000", False),
]
