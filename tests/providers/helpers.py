"""What the tests of the services share: recorded answers, and bodies cut anywhere."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import pytest
from requests.structures import CaseInsensitiveDict

from chatsdk import ChatError, Client, MemoryTokenStore, ProtocolError, ProviderError
from chatsdk.checks import messages_from
from chatsdk.messages import Delta, Query
from chatsdk.simulator import Simulator
from chatsdk.wire import Limits, Lines

BODIES = Path(__file__).parent.parent / "bodies"
BOM = b"\xef\xbb\xbf"
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "More"},
]
SYSTEM_TWICE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "More"},
]
REPLY = "Привет, мир! 🙂 Это \"ответ\" из нескольких слов.\nИ второй строки: \\u0041."
FRAMINGS = [
    "normal", "one-byte", "split", "crlf", "blank-lines", "comments", "unknown", "noisy", "bom",
    "no-last-newline", "gzip", "content-length", "close-delimited", "hang-up",
]
WRONG = [None, True, 7, 1.5, "x", "", [], ["x"], [None], [[]], {}, {"x": 1}]
BAD_KEYS = [
    "q9\rz8", "q9\nz8", "q9z8\n", "q9\0z8", "q9 z8", " q9z8", "q9\tz8", "ключ", "q9\u2028z8",
    "q9\x7fz8", "",
]


def recorded(name):
    """Return the bytes of an answer in tests/bodies."""
    return (BODIES / name).read_bytes()


def query(messages="Hi", **details):
    """Return what is asked, in nobody's dialect."""
    return Query(messages=messages_from(messages), **details)


def client(target, **options):
    """Return a client that tries once and shares no token with other tests."""
    options = {"max_retries": 0, "token_store": MemoryTokenStore(), **options}
    return Client(target, **options)


class Answer:
    """The body of an answer, in the chunks that a test wants, as the framings read it."""

    limits = Limits()

    def __init__(self, *chunks, **headers):
        self.chunks = chunks
        self.headers = CaseInsensitiveDict(
            {name.replace("_", "-"): value for name, value in headers.items()}
        )
        self.hurried = 0

    def iter_content(self):
        yield from self.chunks

    def iter_lines(self, *, delimiter=None):
        lines = Lines(delimiter, self.limits.frame_bytes)
        for chunk in self.chunks:
            yield from lines.feed(chunk)
        yield from lines.end()

    def hurry(self):
        self.hurried += 1


class Fetches:
    """A ``fetch`` that keeps the requests and gives prepared answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        return self.answers.pop(0)


def read(provider, *chunks, **headers):
    """Return all steps of an answer; raises what reading it raises."""
    return list(provider.deltas(query(), Answer(*chunks, **headers)))


def outcome(provider, *chunks, **headers):
    """Return the steps of an answer up to its end or its error, and that error or None."""
    steps = []
    try:
        for delta in provider.deltas(query(), Answer(*chunks, **headers)):
            steps.append(delta)
    except ChatError as error:
        return steps, error
    return steps, None


def text_of(deltas):
    """Return the text of some steps."""
    return "".join(delta.text for delta in deltas)


def single_bytes(body):
    """Return a body as chunks of one byte."""
    return [body[n:n + 1] for n in range(len(body))]


def cut_everywhere(body):
    """Yield a body as two chunks, once for each place where it can be cut."""
    for cut in range(len(body) + 1):
        yield body[:cut], body[cut:]


def with_crlf(body):
    """Return a body with CR LF for each line feed."""
    return body.replace(b"\n", b"\r\n")


def zipped(body):
    """Return a body in the content encoding gzip."""
    return gzip.compress(body, mtime=0)


def check_every_end(provider, body, *, complete_from, whole_at, **headers):
    """Check what a reader makes of a body that ends at each of its bytes.

    ``complete_from`` is the length from which the answer is whole, or None where the protocol has
    no end mark; ``whole_at`` has the text so far at each length where a frame is whole.  Returns
    the lengths at which the answer was taken for whole.
    """
    full = text_of(read(provider, body, **headers))
    taken_for_whole = []
    for end in range(len(body) + 1):
        steps, error = outcome(provider, body[:end], **headers)
        text = text_of(steps)
        least = max((text for at, text in whole_at if at <= end), key=len, default="")
        assert full.startswith(text), end
        assert text.startswith(least), end
        if error is None:
            taken_for_whole.append(end)
        else:
            assert type(error).__name__ in ("StreamInterruptedError", "ProtocolError"), end
    if complete_from is not None:
        assert taken_for_whole == list(range(complete_from, len(body) + 1))
    return taken_for_whole


def whole_frames(body, said):
    """Return, for each line with a frame, the length up to its end and the text until then.

    ``said`` gives the text in a frame's JSON document.
    """
    ends, at, text = [], 0, ""
    for line in body.splitlines(keepends=True):
        at += len(line)
        frame = line.removeprefix(b"data:").strip()
        if frame.startswith(b"{"):
            text += said(json.loads(frame))
            ends.append((at, text))
    return ends


def variants(event):
    """Yield copies of an event with one member, at any depth, missing or of a wrong type."""
    for path in paths_of(event):
        for wrong in [*WRONG, ...]:
            changed = copy.deepcopy(event)
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            if wrong is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = wrong
            yield path, wrong, changed


def paths_of(event, path=()):
    """Yield the way to each member of an event, those of its members included."""
    members = event.items() if isinstance(event, dict) else enumerate(event)
    for key, value in members:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from paths_of(value, (*path, key))


def check_wrong_types(provider, events):
    """Check that events with wrong members are read, or refused by one of our errors."""
    for event in events:
        for path, wrong, changed in variants(event):
            try:
                delta = provider.decode(changed)
            except (ProtocolError, ProviderError):
                continue
            assert delta is None or isinstance(delta, Delta), (path, wrong)
            if delta is not None:
                check_types(delta)
    for event in (None, True, 7, 1.5, "x", [], [{}]):
        with pytest.raises(ProtocolError):
            provider.decode(event)


def check_types(delta):
    """Check that each attribute of a step is of the type that it promises."""
    assert isinstance(delta.text, str)
    assert isinstance(delta.reasoning, str)
    assert isinstance(delta.final, bool)
    for name in ("finish_reason", "model", "id"):
        assert isinstance(getattr(delta, name), (str, type(None)))
    for part in delta.tool_calls:
        assert isinstance(part.arguments, str)
        assert isinstance(part.name, (str, type(None)))


def headers_sent(call, without=("User-Agent",)):
    """Return the headers of a request that was sent, but for those named."""
    headers = dict(call.request.headers)
    assert headers["User-Agent"].startswith("chatsdk/")
    return {name: value for name, value in headers.items() if name not in without}


def body_sent(call):
    """Return the bytes of a request's body."""
    body = call.request.body
    return body.encode() if isinstance(body, str) else body or b""


# Over real connections


def check_conversation(name, **fields):
    """Hold a conversation with a simulated service; return what it was asked."""
    with Simulator(chunk_delay=0.01) as sim, client(
        name, **fields, **sim.fields(name)
    ) as asking:
        talk = asking.conversation(system="Be kind.")
        first = talk.chat("Hello, my name is Ann.")
        with talk.stream("What is my name?") as stream:
            pieces = list(stream)
        roles = [message.role for message in talk.messages]
        assert "Ann" in first.text
        assert "".join(pieces) == stream.reply.text == "Your name is Ann. You told me so."
        assert len(pieces) > 1
        assert (first.provider, stream.reply.provider) == (name, name)
        assert roles == ["system", "user", "assistant", "user", "assistant"]
        assert sim.wait_idle()
        assert sim.conversations == []
        return sim.requests


def check_framing(name, scenario, **fields):
    """Check that an answer is the same however it is framed and cut."""
    # Without retries a kept connection that turns out dead is not replaced either.
    retries = 1 if scenario == "hang-up" else 0
    with Simulator(reply=REPLY, scenario={name: scenario}) as sim:
        with client(name, max_retries=retries, **fields, **sim.fields(name)) as asking:
            assert asking.chat("Hi").text == REPLY
            with asking.stream("Hi") as stream:
                assert "".join(stream) == REPLY


def broken(name, scenario, **fields):
    """Return the error for an answer that is cut off on its way."""
    with Simulator(reply=REPLY, scenario={name: scenario}) as sim:
        with client(name, **fields, **sim.fields(name)) as asking:
            with pytest.raises(ChatError) as caught:
                asking.chat("Hi")
    partial = caught.value.partial
    text = "" if partial is None else partial.text
    assert REPLY.startswith(text.rstrip("\ufffd"))
    assert len(text) < len(REPLY)
    if scenario in ("cut", "cut-clean", "cut-frames", "tidy-cut", "error-after-text"):
        assert text.startswith("Привет, мир! 🙂 Это")
    return caught.value


def check_damage(provider, body, **headers):
    """Check that a body with a wrong byte is read, or refused by one of our errors."""
    for at in range(len(body)):
        for wrong in (b"", b'"', b"}", b"{", b"\n", b"\xff", b"0", b"\\"):
            damaged = body[:at] + wrong + body[at + 1:]
            for delta in outcome(provider, damaged, **headers)[0]:
                check_types(delta)
