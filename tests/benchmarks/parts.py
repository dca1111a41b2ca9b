"""What the parts of a call cost one by one, in us of CPU: ``python parts.py URL`` prints JSON.

Needs requests, tenacity, attrs, msgspec and orjson, and the server of these benchmarks.
"""

from __future__ import annotations

import gc
import json
from statistics import median
import sys
from time import process_time
from timeit import Timer

import attrs
import msgspec
import orjson
import requests
from requests.adapters import HTTPAdapter
import server
import tenacity
import urllib3

ROUNDS = 5
SHORTEST = 0.05  # s
COUNT = 20_000
FRAME = server.event({"content": " word001"})[6:-2]
SCAN = json.JSONDecoder().raw_decode
QUESTION = {"model": "GigaChat", "messages": [{"role": "user", "content": "Hi"}]}
WORDS = {"text": " word001", "model": "GigaChat"}


@attrs.define
class Open:
    text: str = ""
    model: str | None = None
    final: bool = False


@attrs.frozen
class Frozen:
    text: str = ""
    model: str | None = None
    final: bool = False


@attrs.frozen
class Checked:
    text: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    model: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(str))
    )
    final: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))


class Said(msgspec.Struct):
    content: str = ""


class Choice(msgspec.Struct):
    delta: Said
    finish_reason: str | None = None


class Event(msgspec.Struct):
    choices: list[Choice]


TYPED = msgspec.json.Decoder(Event).decode
RETRYING = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)


def made_and_used():
    tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)(int)


def senders(url):
    """Return ways to send one short question and read the answer to its end."""
    address = f"{url}/json/chat/completions"
    session, closed = requests.Session(), requests.Session()
    closed.trust_env = False
    adapter, pool = HTTPAdapter(), urllib3.PoolManager()
    template = requests.Request("POST", address, json=QUESTION).prepare()
    body, kind = json.dumps(QUESTION).encode(), {"Content-Type": "application/json"}
    return {
        "Session.post": lambda: session.post(address, json=QUESTION).content,
        "with trust_env=False": lambda: closed.post(address, json=QUESTION).content,
        "prepared before, sent by the adapter": lambda: adapter.send(template).content,
        "bare urllib3": lambda: pool.request("POST", address, body=body, headers=kind).data,
    }


def readers(url):
    """Return ways to read the lines of a stream, which they do not look into."""
    session = requests.Session()

    def opened(close=""):
        address = f"{url}/stream-{COUNT}{close}/chat/completions"
        return session.post(address, json=QUESTION, stream=True)

    def split(chunks):
        rest = b""
        for chunk in chunks:
            *_, rest = (rest + chunk).split(b"\n")

    def read1(response):
        split(iter(lambda: response.raw.read1(65536), b""))

    return {
        "iter_lines()": lambda: list(opened().iter_lines()),
        "raw.stream(None)": lambda: split(opened().raw.stream(None)),
        "raw.read1(65536)": lambda: read1(opened()),
        "raw.read1(65536), close-delimited": lambda: read1(opened("-close")),
    }


def tables(url):
    """Return what to measure: by title, and what one act is divided by."""
    return {
        "one frame to Python": (
            1,
            {
                "json.loads(bytes)": lambda: json.loads(FRAME),
                "raw_decode of a str": lambda: SCAN(FRAME.decode()),
                "orjson.loads": lambda: orjson.loads(FRAME),
                "msgspec, untyped": lambda: msgspec.json.decode(FRAME),
                "msgspec, typed": lambda: TYPED(FRAME),
            },
        ),
        "one object for a chunk": (
            1,
            {
                "attrs, open, slots": lambda: Open(**WORDS),
                "attrs, frozen": lambda: Frozen(**WORDS),
                "attrs, frozen, with validators": lambda: Checked(**WORDS),
            },
        ),
        "retries around a call that succeeds": (
            1,
            {
                "one Retrying for all": lambda: RETRYING(int),
                "a Retrying for each": made_and_used,
            },
        ),
        "one warm call": (1, senders(url)),
        f"reading a chunk, of {COUNT:,}": (COUNT, readers(url)),
    }


def cost(act):
    """Return the CPU of one act, in us."""
    # timeit would measure without the garbage collector.
    timer, count = Timer(act, gc.enable, process_time), 1
    while (cpu := timer.timeit(count)) < SHORTEST:
        count *= 2
    return cpu / count * 1e6


def main():
    found = {}
    for title, (divisor, acts) in tables(sys.argv[1]).items():
        rounds = [{name: cost(act) / divisor for name, act in acts.items()} for _ in range(ROUNDS)]
        found[title] = {name: median(one[name] for one in rounds) for name in acts}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
