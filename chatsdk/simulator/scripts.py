"""How an answer goes onto the wire: each script turns what is to be said into steps.

A step is bytes (one chunk, flushed at once), a float (a pause in seconds) or an `Act`. Scripts
know no service: they speak through its `Voice`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
import re
from typing import Union

from .voice import THOUGHTS, Voice

LONG = 2 ** 20
MANY = 100_000
SEPARATORS = ("One\u2028two\u2029three ", "four\u0085five ", "six\x0bseven \U0001f600.")
_BATCH = 100
_BEAT = 0.05


class Act(Enum):
    """A step that is neither bytes nor a pause of given length."""

    BREATH = "wait for the simulator's chunk_delay"
    HOLD = "say nothing more and keep the connection open"
    CUT = "close the connection without ending the body"
    RESET = "close the connection with a reset"


@dataclass
class Speech:
    """What is to be said: pieces, and how it ends.

    `last` is text for the frame with the end mark, used when the end is no natural one; `stop` is
    the stop sequence that came up.
    """

    pieces: Iterator[str]
    reason: str = "stop"
    last: str = ""
    stop: str = ""


Step = Union[bytes, float, Act]
Steps = Iterator[Step]
Script = Callable[[Voice, Speech], Steps]


def words(text: str) -> list[str]:
    """Return the pieces of a text: words with the blanks after them."""
    return re.findall(r"\S+\s*|\s+", text)


def halves(speech: Speech) -> tuple[list[str], list[str]]:
    """Return the first and the second half of the pieces; a lone piece is cut in two."""
    pieces = [piece for piece in (*speech.pieces, speech.last) if piece]
    if len(pieces) == 1 and len(pieces[0]) > 1:
        middle = len(pieces[0]) // 2
        pieces = [pieces[0][:middle], pieces[0][middle:]]
    middle = (len(pieces) + 1) // 2
    return pieces[:middle], pieces[middle:]


def told(voice: Voice, pieces: Iterable[str]) -> Steps:
    """Yield the frames of pieces, with a breath after each."""
    for piece in pieces:
        yield voice.text(piece)
        yield Act.BREATH


def normal(voice: Voice, speech: Speech) -> Steps:
    """Yield all text in order and the right end."""
    yield from told(voice, speech.pieces)
    yield from voice.end(speech.reason, speech.last)


def _frames(voice: Voice, speech: Speech) -> list[bytes]:
    return [step for step in normal(voice, speech) if isinstance(step, bytes) and step]


def _crlf(voice: Voice, data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n") if voice.lines else data


def one_byte(voice: Voice, speech: Speech) -> Steps:
    """Send each byte in a chunk of its own."""
    for frame in _frames(voice, speech):
        yield from (frame[i:i + 1] for i in range(len(frame)))


def dripping(pause: float) -> Script:
    """Return the script that sends a byte and waits `pause` seconds, over and over."""
    def drip(voice: Voice, speech: Speech) -> Steps:
        for byte in one_byte(voice, speech):
            yield byte
            yield pause
    return drip


def merging(pause: float) -> Script:
    """Return the script of two chunks with many frames each and `pause` seconds between."""
    def merge(voice: Voice, speech: Speech) -> Steps:
        first, second = halves(speech)
        yield b"".join(voice.text(piece) for piece in first)
        yield pause
        yield b"".join(_frames(voice, Speech(iter(second), speech.reason)))
    return merge


def split(voice: Voice, speech: Speech) -> Steps:
    """Cut inside UTF-8 sequences, between CR and LF, and inside JSON escapes."""
    data = _crlf(voice, b"".join(_frames(voice, speech)))
    start = 0
    for match in re.finditer(rb"[\xc0-\xff]|\r(?=\n)|\\", data):
        yield data[start:match.end()]
        start = match.end()
    yield data[start:]


def crlf(voice: Voice, speech: Speech) -> Steps:
    """End lines with CR LF."""
    for step in normal(voice, speech):
        yield _crlf(voice, step) if isinstance(step, bytes) else step


def _strewn(voice: Voice, speech: Speech, *extra: bytes) -> Steps:
    for step in normal(voice, speech):
        if isinstance(step, bytes) and step:
            yield from extra
        yield step


def blank_lines(voice: Voice, speech: Speech) -> Steps:
    """Send blank lines before each frame."""
    return _strewn(voice, speech, *((b"\n", b"\r\n") if voice.lines else ()))


def heartbeats(voice: Voice, speech: Speech) -> Steps:
    """Send a comment or keep-alive before each frame."""
    return _strewn(voice, speech, voice.heartbeat)


def unknown(voice: Voice, speech: Speech) -> Steps:
    """Send frames without text before each frame."""
    return _strewn(voice, speech, *voice.noise)


def noisy(voice: Voice, speech: Speech) -> Steps:
    """Send all of these, and end lines with CR LF."""
    extra = (voice.heartbeat, *voice.noise, *((b"\n", b"\n") if voice.lines else ()))
    for step in _strewn(voice, speech, *extra):
        yield _crlf(voice, step) if isinstance(step, bytes) else step


def bom(voice: Voice, speech: Speech) -> Steps:
    """Begin with a byte order mark."""
    yield b"\xef\xbb\xbf"
    yield from normal(voice, speech)


def separators(voice: Voice, speech: Speech) -> Steps:
    """Send what some splitters take for line ends."""
    return normal(voice, Speech(iter(SEPARATORS)))


def no_last_newline(voice: Voice, speech: Speech) -> Steps:
    """Leave the last line without its end."""
    frames = _frames(voice, speech)
    yield from frames[:-1]
    yield from (frame.rstrip(b"\r\n") if voice.lines else frame for frame in frames[-1:])


def long_line(voice: Voice, speech: Speech) -> Steps:
    """Send one piece of 1 MiB."""
    return normal(voice, Speech(iter(["y" * LONG])))


def many_frames(voice: Voice, speech: Speech) -> Steps:
    """Send a hundred frames in a chunk: a chunk for each would measure the kernel."""
    frames = (voice.text("x") for _ in range(MANY))
    while batch := b"".join(islice(frames, _BATCH)):
        yield batch
    yield from voice.end("stop")


def think_tags(voice: Voice, speech: Speech) -> Steps:
    """Send thoughts between tags in the text, the tags cut in the middle."""
    tagged = ("<th", "ink>", *THOUGHTS, "</thi", "nk>\n\n")
    return normal(voice, Speech(chain(tagged, speech.pieces), speech.reason, speech.last))


def empty(voice: Voice, speech: Speech) -> Steps:
    """Send no body."""
    yield b""


def no_text(voice: Voice, speech: Speech) -> Steps:
    """Send the end alone."""
    yield from voice.end("stop")


def length(voice: Voice, speech: Speech) -> Steps:
    """Send half of the text, ended by the limit of tokens."""
    first, _ = halves(speech)
    return normal(voice, Speech(iter(first[:-1]), "length", "".join(first[-1:])))


def content_filter(voice: Voice, speech: Speech) -> Steps:
    """Send half of the text, ended by the filter."""
    first, _ = halves(speech)
    return normal(voice, Speech(iter(first), "content_filter"))


def _failed(voice: Voice) -> Steps:
    yield voice.failed() or Act.CUT


def error_first(voice: Voice, speech: Speech) -> Steps:
    """Fail at once."""
    return _failed(voice)


def error_after_text(voice: Voice, speech: Speech) -> Steps:
    """Fail after half of the text."""
    yield from told(voice, halves(speech)[0])
    yield from _failed(voice)


def malformed_first(voice: Voice, speech: Speech) -> Steps:
    """Send what cannot be read, then the answer."""
    yield voice.malformed
    yield from normal(voice, speech)


def malformed_middle(voice: Voice, speech: Speech) -> Steps:
    """Send what cannot be read after half of the text."""
    first, second = halves(speech)
    yield from told(voice, first)
    yield voice.malformed
    yield from normal(voice, Speech(iter(second), speech.reason))


def cut_clean(voice: Voice, speech: Speech) -> Steps:
    """Stop inside a frame after half of the text."""
    first, second = halves(speech)
    yield from told(voice, first)
    for frame in _frames(voice, Speech(iter(second), speech.reason))[:1]:
        yield frame[:len(frame) // 2]


def tidy_cut(voice: Voice, speech: Speech) -> Steps:
    """Stop after whole frames with half of the text."""
    yield from told(voice, halves(speech)[0])


def then(script: Script, act: Act) -> Script:
    """Return a script with one more act at the end."""
    def longer(voice: Voice, speech: Speech) -> Steps:
        yield from script(voice, speech)
        yield act
    return longer


def heartbeat(voice: Voice, speech: Speech) -> Steps:
    """Send keep-alives for ever, silence if there are none."""
    while voice.heartbeat:
        yield voice.heartbeat
        yield _BEAT
    yield Act.HOLD


def heartbeat_after_text(voice: Voice, speech: Speech) -> Steps:
    """Send half of the text, then keep-alives for ever."""
    yield from tidy_cut(voice, speech)
    yield from heartbeat(voice, speech)
