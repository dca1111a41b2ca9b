"""Memory stays within a small multiple of the limits, whatever a server sends.

Each case runs in a child process, which tells the highest memory that it ever had.  ``ru_maxrss``
will not do on Linux: what a process was before ``exec``, a copy of the test runner, counts as well.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

from hostile import (
    begin,
    bomb,
    DIALECTS,
    does,
    end,
    fin,
    first,
    FIRST,
    for_ever,
    FRAMED,
    FULL,
    mark,
    raw,
    rest,
    serving,
)
import pytest

import chatsdk

MIB = 2**20
FRAME, REPLY = 16 * MIB, 64 * MIB  # the limits, as they are by default
DELTAS = 1_000_000
PYTHONPATH = os.pathsep.join(
    str(path) for path in (Path(__file__).parent, Path(chatsdk.__file__).parents[1])
)

CHILD = """
import json, resource, sys, time
from hostile import *

def peak():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

url, name = sys.argv[1:]
client = client_of(url, name, timeout={"first": 60, "read": 60, "total": 100}, max_retries=0)
client.chat(PROMPT)
before, began, pieces, error = peak(), time.monotonic(), 0, None
stream = None
try:
    stream = client.stream(PROMPT)
    for piece in stream:
        pieces += 1
except Exception as caught:
    error = caught
partial = stream.text if stream is not None else ""
told = {
    "grown": peak() - before,
    "seconds": time.monotonic() - began,
    "error": error and type(error).__name__,
    "pieces": pieces,
    "length": len(partial),
    "begins": partial[:20],
    "body": len(getattr(error, "body", "")),
}
print(json.dumps(told))
client.close()
"""


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.forget()
    yield running
    assert running.deserted()


def measured(server, name, answer):
    """Return what a child tells of a question that is answered so, after one that is not."""
    asked = []

    def second(peer):
        asked.append(peer)
        (proper if len(asked) == 1 else answer)(peer)

    proper = does(begin(), first, rest, mark, end)
    server.answers["chat"] = second
    done = subprocess.run(
        [sys.executable, "-c", CHILD, server.url, name],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        timeout=120,
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def ends(name, size):
    """Return the answer with one line that has no end, of some bytes after a first text."""

    def answer(peer):
        begin(framing="close")(peer)
        first(peer)
        peer.send(DIALECTS[name].frame("").partition(b'""')[0] + b'"')
        for _ in range(size // MIB):
            peer.send(b"x" * MIB)
        peer.fin()

    return answer


@pytest.mark.parametrize("name", FRAMED)
def test_a_line_of_64_mib_costs_a_small_multiple_of_a_frame(server, name):
    told = measured(server, name, ends(name, 64 * MIB))

    assert (told["error"], told["begins"]) == ("ProtocolError", FIRST)
    assert told["grown"] < 3 * FRAME


def test_an_endless_text_costs_a_small_multiple_of_a_reply(server):
    answer = does(begin(framing="close"), for_ever(raw(b"x" * MIB)))

    told = measured(server, "aura", answer)

    assert told["error"] == "ProtocolError"
    assert 0.9 * REPLY < told["length"] <= REPLY
    assert told["grown"] < 4 * REPLY


@pytest.fixture(scope="module")
def quarter_gib():
    return {wbits: bomb(256 * MIB, wbits) for wbits in (31, 15)}


@pytest.mark.parametrize(
    "name, wbits, encoding",
    [*((name, 31, "gzip") for name in DIALECTS), ("h2o", 15, "deflate"), ("aura", 15, "deflate")],
)
def test_a_bomb_costs_a_small_multiple_of_the_limits(server, quarter_gib, name, wbits, encoding):
    answer = does(begin(framing="close", encoding=encoding), raw(quarter_gib[wbits]), fin)

    told = measured(server, name, answer)

    assert told["error"] == "ProtocolError"
    assert told["grown"] < 4 * (FRAME if name in FRAMED else REPLY)


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_the_endless_body_of_an_error_costs_nothing(server, quarter_gib, encoding):
    if encoding is None:
        answer = does(begin(status=400), for_ever(raw(b"10000\r\n" + b"x" * 2**16 + b"\r\n")))
    else:
        answer = does(
            begin(status=400, framing="close", encoding="gzip"), raw(quarter_gib[31]), fin
        )

    told = measured(server, "aura", answer)

    assert (told["error"], told["body"]) == ("BadRequestError", 2**16)
    assert told["grown"] < 8 * MIB


def test_a_flood_of_heartbeats_costs_nothing(server):
    flood = raw(b": ping\n\n" * (MIB // 8))
    answer = does(begin(framing="close"), first, *[flood] * 8, rest, mark, fin)

    told = measured(server, "gigachat", answer)

    assert (told["error"], told["begins"]) == (None, FULL)
    assert told["grown"] < 8 * MIB


def test_a_million_deltas_cost_their_text(server):
    frames = DIALECTS["flowgpt"].frame("x").rstrip() + b"\n"

    def answer(peer):
        peer.begin(framing="close")
        for _ in range(DELTAS // 10_000):
            peer.send(frames * 10_000)
        peer.fin()

    told = measured(server, "flowgpt", answer)

    assert (told["error"], told["pieces"], told["length"]) == (None, DELTAS, DELTAS)
    assert told["grown"] < 16 * MIB
