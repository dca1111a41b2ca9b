"""What is measured, and what the table shows of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONTENDERS = {  # the name in the table, and how people call it
    "chatsdk": "chatsdk",
    "fast": "chatsdk[fast]",
    "raw": "raw socket",
    "requests": "plain requests",
    "gigachat": "gigachat SDK",
    "openai": "openai SDK",
    "litellm": "litellm",
}
EVERYBODY = tuple(CONTENDERS)
OURS = ("chatsdk", "fast")
FLOOR = (*OURS, "raw", "requests")
SDKS = (*FLOOR, "gigachat", "openai")
GROWING = (*FLOOR, "openai")
LINEAR = tuple(name for name in SDKS if name != "requests")  # which would take most of a minute
SHARED = (*OURS, "requests", "gigachat", "openai")  # those with a client that threads share

WIDTHS = (1, 8, 32, 128)
DELAY = 200  # ms that a target of fan_out takes
LENGTHS = (1_000, 10_000, 100_000)
SLOW = {100_000: ("openai",)}
MIB = 2**20


@dataclass(frozen=True)
class Measure:
    """What contenders do in turns.

    Attributes:
        work: A function of `work`, or "import" or "fresh", which are processes of their own.
        who: The contenders.
        plan: What the server is to answer,.
        args: Arguments of the work.
        quick: Those arguments, and the ``plan``, that a quick run changes.
        scheme: How the server is reached.
        rounds: How often.
        quick_rounds: How often in a quick run, at most.
        once: Who does it in one round only, since it takes so long.
        sizes: Other arguments and plans by contender, for those who take long.
    """

    work: str
    who: tuple[str, ...]
    plan: str = "json"
    args: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    scheme: str = "http"
    rounds: int = 5
    quick_rounds: int = 5
    once: tuple[str, ...] = ()
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)


def _stream(count: int, who: tuple[str, ...], close: str = "", **more: Any) -> Measure:
    return Measure("chunks", who, f"stream-{count}{close}", {"count": count}, **more)


FEWER = {"litellm": {"plan": "stream-2000", "count": 2_000}}
MEASURES = {
    "chunks": _stream(20_000, EVERYBODY, sizes=FEWER),
    "chunks-close": _stream(20_000, SDKS, "-close"),
    "chunks-varied": Measure("chunks", FLOOR, "varied-20000", {"count": 20_000}),
    **{
        f"chunks-{count}": _stream(count, GROWING, quick_rounds=3, once=SLOW.get(count, ()))
        for count in LENGTHS
    },
    "line-1": Measure("line", SDKS, f"line-{MIB}", {"size": MIB}),
    "line-8": Measure("line", LINEAR, f"line-{8 * MIB}", {"size": 8 * MIB}),
    "call": Measure("calls", EVERYBODY, args={"question": "short"}),
    "call-long": Measure("calls", EVERYBODY, args={"question": "long"}),
    "first": Measure("first", EVERYBODY, "first-20", {"times": 20}, {"times": 10}),
    "import": Measure("import", ("chatsdk", "requests", "gigachat", "openai", "litellm")),
    "fresh": Measure("fresh", EVERYBODY, "stream-20"),
    "arrival": Measure("arrivals", EVERYBODY, "paced-200-5", quick={"plan": "paced-60-5"}),
    "arrival-close": Measure(
        "arrivals", EVERYBODY, "paced-200-5-close", quick={"plan": "paced-60-5-close"}
    ),
    "tls": Measure("calls", (*OURS, "requests"), "json-close", {"question": "short"}, {}, "https"),
    "kept": Measure(  # the same in each round
        "kept", (*OURS, "requests", "openai"), "stream-20000", {"count": 20_000}, rounds=1
    ),
    "together": Measure(
        "together",
        (*OURS, "requests", "openai"),
        "paced-100-50",
        {"threads": 128, "count": 100, "ideal": 5.0},
        {"plan": "paced-30-50", "count": 30, "ideal": 1.5},
        quick_rounds=3,
    ),
    **{
        f"threads-{width}": Measure(
            "crowd",
            SHARED,
            args={"threads": width, "count": max(8, 640 // width)},
            quick={"count": max(2, 160 // width)},
            rounds=7,
        )
        for width in WIDTHS
    },
    "build": Measure("build", SHARED),
    **{
        f"fan-out-{width}": Measure(
            "fan_out", ("chatsdk",), f"first-{DELAY}", {"width": width, "ideal": DELAY / 1000}
        )
        for width in WIDTHS
    },
    "map": Measure(
        "many",
        (*OURS, "requests"),
        "stream-1",
        {"count": 4_000, "workers": 8},  # 20,000 in the five rounds
        {"count": 300},
    ),
    "map-posts": Measure(
        "many",
        ("requests",),
        "stream-1",
        {"count": 4_000, "workers": 8, "kept": False},
        {"count": 300},
    ),
    "map-journal": Measure(
        "many",
        OURS,
        "stream-1",
        {"count": 4_000, "workers": 8, "journal": True},
        {"count": 300},
    ),
}


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        title: What it is about.
        measure: Which measure.
        value: Which of its numbers.
        unit: "us", "ms", "MB" or "x" (a ratio or a number as it is).
        limits: At most so much: "R", "O" and "raw" are ratios to plain requests, the openai SDK
            and the raw socket, "own" is the ratio to another measure of the same contender,
            "is" the number itself in its unit.
        fast: The same for ``chatsdk[fast]``.
        own: The other measure for "own".
        base: The measure of the others in a ratio, if it is not the same.
        how: How rounds become one number: "median", "most" or "sum".
    """

    title: str
    measure: str
    value: str = "cpu"
    unit: str = "us"
    limits: dict[str, float] = field(default_factory=dict)
    fast: dict[str, float] = field(default_factory=dict)
    own: str = ""
    base: str = ""
    how: str = "median"


LINES = [
    Line("CPU of a chunk", "chunks", limits={"R": 0.9, "O": 0.06}, fast={"R": 0.6}),
    Line("the same, close-delimited body", "chunks-close", limits={"R": 0.55}),
    Line("frames that all differ", "chunks-varied", limits={"R": 0.9}),
    Line("CPU of a chunk, of 10,000", "chunks-10000"),
    Line("of 100,000", "chunks-100000", limits={"own": 1.1}, own="chunks-10000"),
    Line("one line of 1 MiB, CPU", "line-1", unit="ms"),
    Line(
        "one line of 8 MiB", "line-8", unit="ms", limits={"own": 16.0, "raw": 2.0}, own="line-1"
    ),
    Line("CPU of a warm call", "call", limits={"R": 0.7, "O": 0.33}),
    Line("with 41 messages of 1 kB", "call-long", limits={"R": 0.8, "O": 0.07}),
    Line("first text after the server's delay", "first", "wall", limits={"R": 0.7, "O": 0.3}),
    Line("import alone, CPU", "import", unit="ms", limits={"R": 0.55}),
    Line(
        "fresh process: import, client, stream of 20",
        "fresh",
        unit="ms",
        limits={"R": 1.25, "O": 0.25},
    ),
    Line("arrival to yield, p50", "arrival", "wall", limits={"R": 1.1}),
    Line(
        "the same, close-delimited body",
        "arrival-close",
        "wall",
        limits={"own": 1.3, "R": 0.05},
        own="arrival",
    ),
    Line("a call over one more TLS connection", "tls", unit="ms", limits={"R": 0.15}),
    Line("memory of 20,000 chunks nobody keeps", "kept", "bytes", "MB", {"is": 1.0}),
    Line("128 paced streams over threads, wall", "together", "wall", "x", {"is": 1.08}),
    Line("CPU of them all", "together", "cpu", "ms", {"R": 1.1}),
    Line("memory of each", "together", "bytes", "MB", {"is": 0.1}, how="most"),
    Line("32 threads, CPU of a short call", "threads-32", limits={"R": 0.75}),
    Line("calls that failed", "threads-32", "failed", "x", {"is": 0}, how="sum"),
    Line("building a client", "build", limits={"R": 20, "O": 0.02}),
    *[
        Line(f"fan_out to {width}, of the ideal", f"fan-out-{width}", "wall", "x")
        for width in WIDTHS
    ],
    Line("map, CPU of a short prompt", "map", limits={"R": 1.0}),
    Line("with a journal", "map-journal", limits={"R": 1.3}, base="map"),
    Line("without a session", "map-posts"),
    Line("time of a prompt", "map", "wall"),
    Line("growth of memory over a round", "map", "bytes", "MB"),
]
