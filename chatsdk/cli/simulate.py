"""The commands that run on this machine alone: ``demo``, ``simulate`` and ``scenarios``."""

from __future__ import annotations

import sys
import threading
from typing import Any

import click

from chatsdk.cli.command import as_json, command, usage
from chatsdk.cli.options import Word
from chatsdk.cli.output import dump, show_table, tell
from chatsdk.demo import demo
from chatsdk.simulator import FAMILIES, SCENARIOS, SERVICES, Simulator


@command("demo", short_help="Hold a conversation with all services, on this machine.")
@as_json
def demo_command(as_json: bool) -> int:
    """Hold one conversation with every service at once, all on this machine.

    The services are played by the simulator, on a loopback port; no key is needed and nothing is
    sent elsewhere. A table at the end says what each took.
    """
    return demo(sys.stdout, as_json=as_json)


SCENARIO = Word("scenario", lambda begun: SCENARIOS.items())


@command(
    "simulate",
    short_help="Serve the protocols of all services on this machine.",
    examples=(
        "chatsdk simulate --port 8000",
        "chatsdk simulate --scenario cut --reply 'Half of this arrives.'",
    ),
    ends={130: "ended by Ctrl-C, as it should be"},
)
@click.option("--port", type=int, default=0, metavar="N", help="0, the default: any free port.")
@click.option("--scenario", type=SCENARIO, default="normal", metavar="NAME",
              help="How to answer; `chatsdk scenarios` lists them.")
@click.option("--reply", metavar="TEXT", help="Answer with this text, not with small talk.")
@click.option("--chunk-delay", type=float, default=0.02, metavar="S",
              help="Seconds between two pieces, else 0.02.")
@as_json
def simulate(
    port: int, scenario: str, reply: str | None, chunk_delay: float, as_json: bool
) -> int:
    """Serve the protocols of all services on this machine until Ctrl-C.

    It prints where it listens, and what leads a client there; with --json as one line.
    """
    with usage():
        simulator = Simulator(port=port, scenario=scenario, reply=reply, chunk_delay=chunk_delay)
        simulator.start()
    with simulator:
        _announce(simulator, as_json)
        threading.Event().wait()
    return 0


def _announce(simulator: Simulator, as_json: bool) -> None:
    fields = {name: simulator.fields(name) for name in SERVICES}
    if as_json:
        dump({"url": simulator.url, "fields": fields}, line=True)
        return
    tell(f"serving at {simulator.url}; Ctrl-C ends it")
    for name, values in fields.items():
        listed = ", ".join(f"{key}={value!r}" for key, value in values.items())
        tell(f"  Client({name!r}, {listed})")


@command("scenarios", short_help="List what the simulator can do with an answer.")
@as_json
def scenarios(as_json: bool) -> int:
    """List the scenarios that the simulator can play.

    Names in capitals have a part to fill in: status-CODE is played as status-503, say.
    """
    listed: dict[str, Any] = {**SCENARIOS, **FAMILIES}
    if as_json:
        dump([{"name": name, "about": about} for name, about in listed.items()])
    else:
        show_table(list(listed.items()), ("scenario", "what it does"))
    return 0
