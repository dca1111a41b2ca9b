"""The body of an answer: bytes and lines that are handed out when they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import logging
from typing import Any

import requests

from chatsdk.deadlines import Watch
from chatsdk.errors import CancelledError, ChatError, ProtocolError
from chatsdk.wire import inflate, Limits, Lines

log = logging.getLogger(__name__)

READ = 64 * 2**10  # bytes of one read at the most
DRAIN = 0.5  # s for what comes after the end mark


class Response(requests.Response):
    """An answer whose bytes are handed out when they arrive.

    requests' own ``iter_lines()`` waits for 512 bytes, takes quadratic time for long lines, and
    gives an extra empty line when CR LF is cut in two; ``iter_content(None)`` waits for the end of
    a body that is not chunked.  ``raw.read1`` does none of that, and is the one reader that hands
    out the bytes of a chunk that never gets whole.
    """

    limits: Limits
    watch: Watch
    fail: Callable[[Exception], Exception]
    exhausted = False

    def __init__(self) -> None:
        # Not requests' own, which makes headers and a jar of cookies for nobody: 6 us less.
        self._content: Any = False
        self._content_consumed = False
        self.history = []

    def attend(
        self, watch: Watch, limits: Limits, fail: Callable[[Exception], Exception]
    ) -> Response:
        """Keep to a watch and limits from now on; ``fail`` makes our error of any other."""
        self.watch, self.limits, self.fail = watch, limits, fail
        return self

    def iter_content(
        self, chunk_size: int | None = READ, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Yield bytes (or text in UTF-8) as they arrive, without their content encoding."""
        for chunk in self._chunks(chunk_size or READ):
            if not chunk.isspace():
                self.watch.silent = 0.0
            yield chunk.decode(errors="replace") if decode_unicode else chunk

    def iter_lines(
        self,
        chunk_size: int | None = READ,
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Yield lines as they arrive: cut at LF, CR or CR LF, or at a one-byte delimiter."""
        splitter = Lines(delimiter, self.limits.frame_bytes)
        for chunk in self._chunks(chunk_size or READ):
            lines = splitter.feed(chunk)
            if any(map(_is_data, lines)) or _is_data(splitter.unfinished):
                self.watch.silent = 0.0
            yield from _decoded(lines) if decode_unicode else lines
        yield from _decoded(splitter.end()) if decode_unicode else splitter.end()

    def hurry(self) -> None:
        """Let the rest of the body come soon or not at all."""
        self.watch.hurry(DRAIN)

    def content_within(self, most: int) -> bytes:
        """Return the whole body.

        Raises:
            ProtocolError: It is longer than ``most`` bytes.
        """
        chunks: list[bytes] = []
        size = 0
        for chunk in self.iter_content():
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise _too_long(most, "frame_bytes")
        return b"".join(chunks)

    def beginning(self, most: int) -> bytes:
        """Return at most the first ``most`` bytes of the body; what cannot be read is left out."""
        found = b""
        try:
            for chunk in self.iter_content():
                found += chunk
                if len(found) >= most:
                    break
        except ChatError as error:
            log.debug("the body of an error could not be read: %s", type(error).__name__)
        return found[:most]

    def _chunks(self, size: int) -> Iterator[bytes]:
        """Return the body in pieces as they arrive, without their content encoding."""
        encoding = self.headers.get("Content-Encoding")
        chunks = inflate(self._received(size), encoding)
        return chunks if encoding is None else self._bounded(chunks)

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        total, most = 0, self.limits.reply_bytes
        for chunk in chunks:
            total += len(chunk)
            if total > most:
                raise _too_long(most, "reply_bytes")
            yield chunk

    def _received(self, size: int) -> Iterator[bytes]:
        read, watch, most = self.raw.read1, self.watch, self.limits.reply_bytes
        total = 0
        while True:
            began = watch.resume()
            try:
                chunk = read(size, decode_content=False)
            except Exception as error:  # also bare ones: OverflowError for a chunk size of 2**63
                failure = self.fail(error)
                if failure is error:
                    raise
                raise failure from error
            if watch.cancelled and not watch.sheltered:
                raise CancelledError("the stream was closed by another thread")
            if not chunk:
                watch.release()
                self.exhausted = True
                return
            watch.silent += watch.clock() - began
            total += len(chunk)
            if total > most:
                raise _too_long(most, "reply_bytes")
            yield chunk


def _too_long(most: int, limit: str) -> ProtocolError:
    return ProtocolError(
        f"the answer is longer than {most} bytes",
        advice=f"if that is right, raise Limits({limit}=...)",
    )


#: The lines of the event with which Anthropic fills silence.
PING = {b"event: ping", b'data: {"type": "ping"}', b'data: {"type":"ping"}'}
_LONGEST_PING = max(map(len, PING)) + 1  # with a CR


def _is_data(line: bytes) -> bool:
    if line[:1] in b": \t\r":  # a comment or blank
        return False
    if len(line) > _LONGEST_PING:
        return True
    return not any(ping.startswith(line.rstrip(b"\r")) for ping in PING)  # it may be cut


def _decoded(lines: list[bytes]) -> list[str]:
    return [line.decode(errors="replace") for line in lines]
