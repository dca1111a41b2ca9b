"""The scenarios by name: what a server may do with an answer.

`SCENARIOS` and `FAMILIES` are the table, name to one-line description. A family's name has a
part to fill in: ``status-503-html``, ``retry-after-2.5``, ``slow-head-5``, ``delete-500``.
Scenarios apply to chat requests only, unless the name begins with another kind of request
(``token-500``, ``id-stall``); any scenario can be aimed so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
import difflib
from functools import partial
import re

from . import scripts
from .scripts import Act, Script, Step


@dataclass(frozen=True)
class Scenario:
    """One way to answer a request.

    Attributes:
        name: As in the table.
        about: One line on what the client sees.
        script: Puts the answer on the wire, once its head is sent.
        before: Steps before the head is sent.
        framing: How the body's end is marked: ``"chunked"``, ``"length"`` or ``"close"``.
        gzip: Compress the body, flushed at each frame, if the client accepts that.
        status: Answer with this status instead; 0 for the service's own answer.
        body: What goes with `status`: ``"native"`` (the service's own error), ``"json"``,
            ``"text"``, ``"html"``, ``"empty"``, ``"cloudflare"`` or ``"upstream"``.
        retry_after: Value of the header, ``"date"`` for a date two seconds ahead, or ``""``.
        value: What becomes of a document's main member: ``""`` (kept), ``"blank"``, ``"null"``
            or ``"missing"``.
        hang_up: Close the connection after the answer, unannounced.
        special: Only services that name it can play it.
        stage: The kind of request that it applies to.
    """

    name: str
    about: str
    script: Script = scripts.normal
    before: tuple[Step, ...] = ()
    framing: str = "chunked"
    gzip: bool = False
    status: int = 0
    body: str = "native"
    retry_after: str = ""
    value: str = ""
    hang_up: bool = False
    special: bool = False
    stage: str = "chat"

    @property
    def base(self) -> str:
        """The name without the kind of request in front."""
        return self.name.removeprefix(f"{self.stage}-")


_special = partial(Scenario, special=True)
_TABLE = (
    Scenario("normal", "all text in order, then the right end"),
    # the same answer, cut and framed otherwise
    Scenario("one-byte", "one byte in a chunk", scripts.one_byte),
    Scenario("merged", "half of the frames in one chunk, half a second of silence, the rest",
             scripts.merging(0.5)),
    Scenario("split", "chunks end inside UTF-8 sequences, CR LF and JSON escapes", scripts.split),
    Scenario("crlf", "lines end with CR LF", scripts.crlf),
    Scenario("blank-lines", "blank lines before each frame", scripts.blank_lines),
    Scenario("comments", "a comment or keep-alive before each frame", scripts.heartbeats),
    Scenario("unknown", "fields, events and frames without text before each frame",
             scripts.unknown),
    Scenario("noisy", "crlf, blank-lines, comments and unknown together", scripts.noisy),
    Scenario("bom", "a byte order mark first", scripts.bom),
    Scenario("separators", "text with U+2028, U+2029, U+0085 and U+000B inside frames",
             scripts.separators),
    Scenario("no-last-newline", "the last line has no line end", scripts.no_last_newline),
    Scenario("long-line", "one frame with a text of 1 MiB", scripts.long_line),
    Scenario("many-frames", "100,000 frames of one letter", scripts.many_frames),
    Scenario("gzip", "compressed, flushed at each frame, if the client accepts it", gzip=True),
    Scenario("content-length", "the body comes with Content-Length", framing="length"),
    Scenario("close-delimited", "the body ends where the connection ends", framing="close"),
    Scenario("hang-up", "the idle connection is closed after the answer, unannounced",
             hang_up=True),
    # less than an answer
    Scenario("empty", "status 200 and an empty body", scripts.empty),
    Scenario("no-text", "the right end without any text before it", scripts.no_text),
    Scenario("length", "half of the text, ended by the limit of tokens", scripts.length),
    Scenario("tidy-cut", "half of the text in whole frames, then the body ends normally",
             scripts.tidy_cut),
    Scenario("cut-clean", "half of the text and half a frame, then the body ends normally",
             scripts.cut_clean),
    Scenario("cut", "half of the text and half a frame, then the connection closes",
             scripts.then(scripts.cut_clean, Act.CUT)),
    Scenario("cut-frames", "half of the text in whole frames, then the connection closes",
             scripts.then(scripts.tidy_cut, Act.CUT)),
    Scenario("cut-first", "a head, then the connection closes",
             scripts.then(scripts.empty, Act.CUT)),
    Scenario("cut-head", "the connection closes without an answer", before=(Act.CUT,)),
    Scenario("reset", "half of the text and half a frame, then a reset",
             scripts.then(scripts.cut_clean, Act.RESET)),
    # failures inside the answer
    Scenario("error-first", "an error frame and nothing else; a service without such frames "
             "hangs up", scripts.error_first),
    Scenario("error-after-text", "half of the text, then an error frame", scripts.error_after_text),
    Scenario("malformed-first", "a frame that can't be read, then the answer",
             scripts.malformed_first),
    Scenario("malformed-middle", "half of the text, a frame that can't be read, the rest",
             scripts.malformed_middle),
    # silence
    Scenario("slow-head", "one second of silence, then the answer", before=(1.0,)),
    Scenario("drip", "one byte in 0.05 s", scripts.dripping(0.05)),
    Scenario("heartbeat", "keep-alives for ever", scripts.heartbeat),
    Scenario("heartbeat-after-text", "half of the text, then keep-alives for ever",
             scripts.heartbeat_after_text),
    Scenario("stall-head", "silence for ever", before=(Act.HOLD,)),
    Scenario("stall-first", "a head, then silence for ever",
             scripts.then(scripts.empty, Act.HOLD)),
    Scenario("stall", "half of the text, then silence for ever",
             scripts.then(scripts.tidy_cut, Act.HOLD)),
    Scenario("stall-end", "the whole answer, but its body never ends",
             scripts.then(scripts.normal, Act.HOLD)),
    # refusals
    Scenario("unauthorized", "401 in the service's own shape", status=401),
    Scenario("retry-after", "429 with Retry-After: 1", status=429, retry_after="1"),
    Scenario("cloudflare", "403 with Cloudflare's challenge page", status=403, body="cloudflare"),
    Scenario("cloudflare-503", "503 with Cloudflare's challenge page", status=503,
             body="cloudflare"),
    # of one service or a few
    _special("no-finish", "the end mark without a finish reason before it"),
    _special("null-finish", "finish_reason null in every frame before the last"),
    _special("last-text", "the frame with the finish reason has text"),
    _special("function-call", "a function is called, if the request offers one"),
    _special("parallel-calls", "every function that the request offers is called at once"),
    _special("reasoning", "thoughts come before the text"),
    _special("think-tags", "thoughts stand between <think> and </think> in the text",
             scripts.think_tags),
    _special("no-done", "a finish reason, but no end mark after it"),
    _special("whole-calls", "function-call with each call whole in one frame, without an index"),
    _special("refusal", "the model refuses: a refusal instead of text", scripts.no_text),
    _special("content-filter", "half of the text, then the filter ends it",
             scripts.content_filter),
    _special("failed", "the end is a report that the answer failed"),
    _special("redacted", "the thoughts are an opaque block without text"),
    _special("blocked", "the prompt is refused inside a 200, without any answer"),
    _special("quota", "429: the account's quota is used up", status=429, body="quota"),
    _special("context", "400: the prompt is longer than the model's window", status=400,
             body="context"),
    _special("upstream-error", "500 with the model server's message as the reason phrase",
             status=500, body="upstream"),
    _special("seconds", "the token's end in seconds, not milliseconds", stage="token"),
    _special("tok", "the token as {\"tok\", \"exp\"}", stage="token"),
    Scenario("blank", "the main member (token, id) is an empty text", value="blank", stage="other"),
    Scenario("null", "the main member is null", value="null", stage="other"),
    Scenario("missing", "the main member is missing", value="missing", stage="other"),
    Scenario("malformed", "the document is not JSON", scripts.malformed_first, stage="other"),
)
_NAMED = {scenario.name: scenario for scenario in _TABLE}

_SECONDS = r"(\d+(?:\.\d+)?)"
_MAKERS: tuple[tuple[str, str, str, Callable[..., Scenario]], ...] = (
    ("status-CODE", "an error in the service's own shape before the stream", r"status-([2-5]\d\d)",
     lambda name, code: Scenario(name, "", status=int(code))),
    ("status-CODE-json|text|html|empty", "a status with a gateway's body",
     r"status-([2-5]\d\d)-(json|text|html|empty)",
     lambda name, code, body: Scenario(name, "", status=int(code), body=body)),
    ("retry-after-SECONDS|date", "429 with that Retry-After; the date is two seconds ahead",
     rf"retry-after-({_SECONDS}|date)",
     lambda name, wait, _: Scenario(name, "", status=429, retry_after=wait)),
    ("slow-head-SECONDS", "that much silence, then the answer", rf"slow-head-{_SECONDS}",
     lambda name, seconds: Scenario(name, "", before=(float(seconds),))),
    ("drip-SECONDS", "one byte, that much silence, the next", rf"drip-{_SECONDS}",
     lambda name, seconds: Scenario(name, "", scripts.dripping(float(seconds)))),
    ("merged-SECONDS", "two chunks with many frames each, that much silence between",
     rf"merged-{_SECONDS}",
     lambda name, seconds: Scenario(name, "", scripts.merging(float(seconds)))),
)

_PREFIXES = {"other": "KIND"}
SCENARIOS: Mapping[str, str] = {s.name: s.about for s in _TABLE if s.stage == "chat"}
FAMILIES: Mapping[str, str] = {
    **{form: about for form, about, _, _ in _MAKERS},
    **{f"{_PREFIXES.get(s.stage, s.stage)}-{s.name}": s.about for s in _TABLE
       if s.stage != "chat"},
    "KIND-CODE": "the same as KIND-status-CODE, also with -json, -text, -html, -empty",
    "KIND-SCENARIO": "any scenario for a request of another kind, of those in KINDS",
}


def _general(name: str) -> Scenario | None:
    if name in _NAMED:
        return _NAMED[name]
    for _, about, pattern, make in _MAKERS:
        if match := re.fullmatch(pattern, name):
            return replace(make(name, *match.groups()), about=about)
    return None


def scenario(name: str, stages: Iterable[str] = ()) -> Scenario:
    """Return the scenario of a name.

    Args:
        name: As in `SCENARIOS` or `FAMILIES`.
        stages: The kinds of requests besides chats that there are.

    Raises:
        ValueError: There is none; the message lists those that exist.
    """
    if (found := _general(name)) and found.stage == "chat":
        return found
    stage, _, rest = name.partition("-")
    if stage in stages:
        found = _general(rest) or _general(f"status-{rest}")
        if found and found.stage in ("chat", "other", stage):
            return replace(found, name=name, stage=stage)
    raise ValueError(unknown("scenario", name, (*SCENARIOS, *FAMILIES)))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message about a name that does not exist: the nearest, and all there are."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {name!r}{hint} There are: {', '.join(names)}"
