"""What is sent and received: requests, grants, and the framings of an answer; pure, no sockets."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import chain
import json
import math
from typing import Any, Protocol, TYPE_CHECKING
import zlib

from attr.validators import gt

from chatsdk.errors import EXCERPT, ProtocolError, StreamInterruptedError
from chatsdk.records import field, frozen

if TYPE_CHECKING:
    from chatsdk.tokens import Token

DEPTH = 200  # levels of JSON; deeper parses on some versions of Python and breaks repr on all
LONGEST_LINE = 8 * 2**10  # bytes of a line of the chunked framing
LIMIT = "if that is right, raise Limits(frame_bytes=...)"  # advice for what is too long
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"  # how it begins


@frozen(kw_only=True)
class Limits:
    """The most that is read of one answer, in bytes after decompression.

    Attributes:
        frame_bytes: One line, one frame, or one whole document.
        reply_bytes: One answer.
        error_body_bytes: The body of an error; what is beyond is cut off, not refused.
    """

    frame_bytes: int = field(default=16 * 2**20, validator=gt(0))
    reply_bytes: int = field(default=64 * 2**20, validator=gt(0))
    error_body_bytes: int = field(default=64 * 2**10, validator=gt(0))


@frozen(kw_only=True)
class Grant:
    """How a token that expires is got.

    Attributes:
        name: The key in the token store: a digest that holds no credential.
        ask: Gives the request for a new token.
        read: Makes the token of the answer's body, its headers and the Unix time in s when it
            was asked for.
    """

    name: str
    ask: Callable[[], Request] = field(repr=False)
    read: Callable[[bytes, Mapping[str, str], float], Token] = field(repr=False)


@frozen(kw_only=True)
class Request:
    """One HTTP request, before it is signed with a token.

    Attributes:
        method: In capitals.
        url: The whole address.
        headers: Further headers.
        cookies: Cookies to send with it.
        json: Sent as JSON in UTF-8, not escaped; None: no body of this kind.
        form: Sent as a form; None: no body of this kind.
        grant: Traded for a token, which is sent as a bearer.
        accepts: Statuses that are a success.
        repeatable: Whether sending it twice does no harm.
        varies: What is new each time, so that a recording does not compare it: members of the JSON
            body (``"options.id"`` lies in another one) and fields of the query.
        confidential: Whether its answer is a credential, which no recording may hold.
        undo: Makes, of the body of the answer, the request that undoes this one when the call
            ends, however it ends; a call that is cancelled or interrupted meanwhile still waits a
            moment for the answer.
        trust: A PEM text of roots to trust beside the common ones.
        verify: The provider's own CA file; a choice of the client comes first.
        advice: What to try, by status, or by the phase of a timeout; ends the error's message.
            ``"connect"`` is also for a connection that cannot be made.
        left_early: Sent when the answer to this one is left before its end.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    cookies: Mapping[str, str] = field(factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    grant: Grant | None = None
    accepts: Container[int] = (200, 201)
    repeatable: bool = False
    varies: tuple[str, ...] = ()
    confidential: bool = False
    undo: Callable[[bytes], Request] | None = field(default=None, repr=False)
    trust: str | None = field(default=None, repr=False)
    verify: str | None = None
    advice: Mapping[Any, str] = field(factory=dict)
    left_early: tuple[Request, ...] = ()


class Body(Protocol):
    """The body of an answer, as the framings read it."""

    limits: Limits

    def iter_content(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive, cut anywhere."""

    def iter_lines(self, *, delimiter: bytes | None = None) -> Iterator[bytes]:
        """Yield lines without their ends; a last one that has none is a `Tail`."""


def merged_headers(*layers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of all layers; a later one wins, without regard to case."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            found[name.lower()] = (name, value)
    return dict(found.values())


Parse = Callable[[bytes], Any]


class Tail(bytes):
    """A line that the end of the body ended, and maybe cut."""


# From HTTP's own chunks to bytes, and from bytes to lines


class Chunks:
    """Takes the framing of ``Transfer-Encoding: chunked`` off bytes that are cut anywhere.

    All chunks that came together leave together (0.3 us each; one by one, http.client needs 4).

    Attributes:
        last: Whether the last chunk is through, and only trailers may come.
        ended: Whether all is through.
        fault: What is wrong with the framing after the bytes that were returned, or None.
    """

    def __init__(self) -> None:
        self.last = self.ended = False
        self.fault: str | None = None
        self._left = 0  # bytes of a chunk that are still to come, the CR LF after it included
        self._held = b""  # the beginning of a line of the framing

    def feed(self, data: bytes) -> bytes:
        """Return what the data holds, also of a chunk that is not yet whole."""
        data = self._held + data
        at = self._left
        pieces = [data[: max(at - 2, 0)]]
        while (end := data.find(b"\n", at)) >= 0:
            line, at = data[at:end], end + 1
            if self.last:  # a trailer, or the blank line after all
                self.ended = line in (b"\r", b"")
                if self.ended:
                    break
                continue
            size = _chunk_size(line)
            if size > 0:
                end = at + size
                pieces.append(data[at:end])
                at = end + 2
            elif size == 0:
                self.last = True
            else:
                self.fault = "a chunk size is no number, or negative"
                break
        self._left = max(at - len(data), 0)
        self._held = data[at:]
        if len(self._held) > LONGEST_LINE and not self.ended:
            self.fault = self.fault or "a line of the framing is too long"
        return b"".join(pieces)


@lru_cache(maxsize=256)  # chunks of a stream come in few sizes: 0.2 us less for each
def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1


class Lines:
    """Cuts bytes into lines at LF, CR or CR LF, or at a one-byte delimiter; linear in its input.

    A byte order mark at the very start is dropped.
    """

    def __init__(self, delimiter: bytes | None = None, longest: int = 2**63) -> None:
        self._delimiter = delimiter
        self._longest = longest
        self._held: list[bytes] = []  # the beginning of a line, in pieces
        self._size = 0  # bytes held
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that the chunk completes."""
        if not chunk:
            return []
        if self._after_cr:
            self._after_cr = False
            if chunk[:1] == b"\n":  # the second half of a CR LF that was cut
                chunk = chunk[1:]
        if not chunk:
            return []
        if self._delimiter is None:
            lines = chunk.splitlines()
            rest = lines.pop() if chunk[-1] not in b"\r\n" else b""
            self._after_cr = chunk[-1] == 13
        else:
            lines = chunk.split(self._delimiter)
            rest = lines.pop()
        if lines and self._held:
            self._held.append(lines[0])
            lines[0] = b"".join(self._held)
            self._held, self._size = [], 0
        if rest:
            self._held.append(rest)
            self._size += len(rest)
        if self._at_start and lines:
            self._at_start = False
            lines[0] = lines[0].removeprefix(BOM)
        if self._size > self._longest or (lines and max(map(len, lines)) > self._longest):
            raise ProtocolError(f"a line is longer than {self._longest} bytes", advice=LIMIT)
        return lines

    def end(self) -> list[bytes]:
        """Return the last line if it has no end."""
        lines: list[bytes] = [Tail(b"".join(self._held))] if self._held else []
        if self._at_start and lines:
            lines[0] = Tail(lines[0].removeprefix(BOM))
        return lines

    @property
    def unfinished(self) -> bytes:
        """The beginning of the line that is not yet complete; at least 64 bytes if it has them."""
        return b"".join(self._held[:64])


# From lines to frames, and from frames to what they say


def parse(frame: bytes) -> Any:
    """Return the JSON document in a frame.

    Raises:
        ProtocolError: The frame is not one whole JSON document in UTF-8, or nests too deeply.
    """
    try:
        # Each level takes two brackets, so that most frames are too short to nest too deeply.
        if len(frame) > 2 * DEPTH and frame.count(b"[") + frame.count(b"{") > DEPTH:
            _check_depth(frame)
        try:
            return _quick(frame)
        except _refusals:
            return _careful(frame)
    except (ValueError, RecursionError) as error:
        reason = "no UTF-8" if isinstance(error, UnicodeDecodeError) else "no JSON document"
        raise malformed(f"a frame is {reason}", frame) from error


# NaN and the infinities, which no JSON has and some servers send, become None.
# The scanner on a text without blanks around it: 0.8 us less for a chunk than `json.loads`.
_scan: Any = json.JSONDecoder(  # type: ignore[attr-defined]  # what `raw_decode` calls
    parse_constant=lambda name: None
).scan_once


def _careful(frame: bytes) -> Any:
    text = frame.decode().strip(" \t\n\r")
    try:
        document, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("it begins no document") from None
    if end < len(text):
        raise ValueError("something follows the document")
    return document


def _fast() -> tuple[Parse, tuple[type[Exception], ...]]:
    """Return the quickest decoder there is, and the errors by which it leaves a frame to json.

    msgspec takes less than json does, and all of it in the same way.
    """
    try:
        import msgspec
    except ImportError:
        return _careful, ()
    return msgspec.json.Decoder().decode, (msgspec.DecodeError, ValueError, RecursionError)


_quick, _refusals = _fast()  # with chatsdk[fast] 0.4 us for a chunk, else 1.3


def malformed(what: str, received: bytes | str) -> ProtocolError:
    """Return the error for bytes that are not as they should be, with their beginning."""
    if not isinstance(received, str):
        received = received[: 4 * EXCERPT].decode(errors="replace")
    return ProtocolError(what, excerpt=received[:EXCERPT])


def _bare(json: bytes) -> bytes:
    """Return JSON without its strings, in linear time whatever the bytes are."""
    return b"".join(json.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


def _balance(piece: bytes) -> int:
    """Return how many brackets a piece of JSON opens and does not close."""
    bare = _bare(piece)
    opened = bare.count(b"{") + bare.count(b"[")
    return opened - bare.count(b"}") - bare.count(b"]")


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _check_depth(frame: bytes) -> None:
    depth = 0
    for bracket in _bare(frame).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} levels")


_FIELDS = (b"data", b"event", b"id", b"retry")


def sse(body: Body, parse: Parse, end: bytes | None = None) -> Iterator[Any]:
    """Yield the parsed data of each server-sent event.

    Args:
        body: The answer.
        parse: Makes a document of an event's data.
        end: Data that is no document but a mark, yielded as it is: ``b"[DONE]"``.

    An event is complete at its blank line, or as soon as its data is one whole document: a server
    that flushes the data line before the blank line delays no text.  Data lines that are no whole
    document are joined by LF.  Comments, other fields and empty data are passed over.

    Raises:
        ProtocolError: An event's data does not parse, or the body is something else than events.
        StreamInterruptedError: The body ended in the middle of an event.
    """
    held: list[bytes] = []  # data lines that are no whole document yet
    size = 0  # bytes of them, line feeds included
    open_brackets: float = 0
    any_event = False
    stranger: bytes | None = None
    for line in body.iter_lines():
        if not line:
            if held:
                yield parse(b"\n".join(held))
                held = []
            continue
        if line[:6] == b"data: ":
            data = line[6:]
        elif line[:5] == b"data:" or line == b"data":
            data = line[5:]
        else:
            name = line.partition(b":")[0]
            if name and stranger is None and not _is_field(line, name):
                stranger = line
            continue
        if not held and not data:
            continue
        any_event = True
        if held:
            held.append(data)
            size += 1 + len(data)
            if size > body.limits.frame_bytes:
                most = body.limits.frame_bytes
                raise ProtocolError(f"an event is longer than {most} bytes", advice=LIMIT)
            open_brackets += _balance(data)
            if open_brackets:
                continue
            data = b"\n".join(held)
        try:
            event = parse(data)
        except ProtocolError:
            if data.strip() == end:
                held = []
                yield end
                continue
            # Closed and yet no document: further lines will not make it one.
            open_brackets = math.inf if held else max(_balance(data), 0) or math.inf
            if not held:
                held, size = [data], len(data)
        else:
            held = []
            yield event
    if held:
        raise StreamInterruptedError("the answer ended in the middle of an event", retryable=True)
    if stranger is not None and not any_event:
        raise malformed("the answer is no stream of events", stranger)


def _is_field(line: bytes, name: bytes) -> bool:
    cut = isinstance(line, Tail) and any(known.startswith(line) for known in _FIELDS)
    return cut or name in _FIELDS


def ndjson(body: Body, parse: Parse) -> Iterator[Any]:
    """Yield the parsed document of each line; blank lines are passed over.

    Raises:
        ProtocolError: A line does not parse.
        StreamInterruptedError: The body ended in the middle of a line.
    """
    for line in body.iter_lines(delimiter=b"\n"):
        frame = line.strip(b" \t\r")
        if not frame:
            continue
        try:
            event = parse(frame)
        except ProtocolError as error:
            if isinstance(line, Tail) and _may_begin_a_frame(frame):
                raise StreamInterruptedError(
                    "the answer ended in the middle of a line", retryable=True
                ) from error
            raise
        yield event


def _may_begin_a_frame(tail: bytes) -> bool:
    """Return whether a line may be cut: it begins like JSON, or like an event stream's data."""
    return tail[:1] in b"{[" or b"data:".startswith(tail[:5])


def text(body: Body, parse: Parse | None = None) -> Iterator[str]:
    """Yield text in UTF-8 as it arrives; a character cut in two waits for its rest.

    Invalid bytes become U+FFFD, also at the end.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    for chunk in body.iter_content():
        piece = decode(chunk)
        if piece:
            yield piece
    rest = decode(b"", True)
    if rest:
        yield rest


def whole(body: Body, parse: Parse) -> Iterator[Any]:
    """Yield the one document that the body is.

    Raises:
        ProtocolError: The body is not one document.
        StreamInterruptedError: The body is empty or ended in the middle of the document.
    """
    chunks: list[bytes] = []
    size = 0
    for chunk in body.iter_content():
        chunks.append(chunk)
        size += len(chunk)
        if size > body.limits.frame_bytes:
            most = body.limits.frame_bytes
            raise ProtocolError(f"the answer is longer than {most} bytes", advice=LIMIT)
    frame = b"".join(chunks).removeprefix(BOM).strip()
    if not frame:
        raise StreamInterruptedError("the answer is empty", retryable=True)
    try:
        document = parse(frame)
    except ProtocolError as error:
        if frame[:1] in b"{[" and _balance(frame) > 0:
            raise StreamInterruptedError(
                "the answer ended in the middle of its document", retryable=True
            ) from error
        raise
    yield document


# Dates


def unix_time(date: str | None) -> float | None:
    """Return an HTTP date as Unix time in s, or None if it is none."""
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


# Content encodings

STEP = 64 * 2**10  # bytes that are unpacked at a time, so that a bomb is met in small pieces


def inflate(chunks: Iterable[bytes], encoding: str | None) -> Iterator[bytes]:
    """Yield the chunks without their content encoding, each as soon as it can be read.

    Args:
        chunks: The body as it was sent.
        encoding: The header ``Content-Encoding``, or None.

    Raises:
        ProtocolError: The encoding is unknown, or the bytes are not in it.
        StreamInterruptedError: A compressed body ended before its own end mark.
    """
    name = (encoding or "identity").strip().lower()
    if name in ("gzip", "x-gzip"):
        return _unpacked(chunks, lambda first: zlib.decompressobj(31))
    if name == "deflate":
        return _unpacked(chunks, _deflate)
    if name in ("identity", ""):
        return _labelled(iter(chunks))
    raise ProtocolError(
        f"the answer has an unknown content encoding, {name[:EXCERPT]!r}", retryable=True
    )


def _labelled(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks; refuse a body that is gzip and does not say so."""
    first = b""
    for chunk in chunks:
        first += chunk
        if first not in (b"", GZIP[:1]):
            break
    if first.startswith(GZIP):
        raise ProtocolError("the answer is compressed and does not say so", retryable=True)
    return chain((first,) if first else (), chunks)


def _deflate(first: bytes) -> Any:
    """Return the decoder for "deflate": zlib by the standard, bare by some servers."""
    with_header = first[0] & 0x0F == 8 and first[0] >> 4 <= 7
    return zlib.decompressobj(15 if with_header else -15)


def _unpacked(chunks: Iterable[bytes], start: Callable[[bytes], Any]) -> Iterator[bytes]:
    decoder = None
    held = b""  # a first byte of what may be another gzip member
    for chunk in chunks:
        chunk = held + chunk
        held = b""
        more = bool(chunk)
        while more:
            if decoder is None:
                decoder = start(chunk)
            elif decoder.eof:
                if chunk == b"\x1f":
                    held = chunk
                    break
                if chunk[:2] != GZIP:  # padding, which nobody needs
                    break
                decoder = start(chunk)
            before = decoder.copy()
            try:
                data = decoder.decompress(chunk, STEP)
            except zlib.error as error:
                yield from _until_damage(before, chunk)
                raise ProtocolError(
                    "the answer is not in the compression it names", retryable=True
                ) from error
            if data:
                yield data
            chunk = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            more = bool(chunk) or len(data) == STEP
    if decoder is not None and not decoder.eof:
        raise StreamInterruptedError(
            "the compressed answer ended before its end mark", retryable=True
        )


def _until_damage(decoder: Any, chunk: bytes) -> Iterator[bytes]:
    """Yield what stands before the damage, which a whole chunk at once would take with it."""
    for n in range(len(chunk)):
        try:
            data = decoder.decompress(chunk[n:][:1])
        except zlib.error:
            return
        if data:
            yield data
