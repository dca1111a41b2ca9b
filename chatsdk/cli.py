"""The command ``chatsdk``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
import sys
import threading

import attrs

from chatsdk import providers
from chatsdk.batch import add_commands
from chatsdk.demo import demo, table
from chatsdk.errors import ChatError
from chatsdk.simulator import SCENARIOS, Simulator
from chatsdk.version import __version__

INTERRUPTED = 130  # what shells report of a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 something failed, 2 usage, 130 interrupted."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ChatError, ValueError, OSError) as error:
        print(f"chatsdk: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatsdk", description="requests, for chat")
    parser.add_argument("--version", action="version", version=f"chatsdk {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add_commands(commands)

    command = commands.add_parser(
        "demo", help="hold one conversation with five services at once, on this machine"
    )
    command.set_defaults(run=lambda chosen: demo(sys.stdout))

    command = commands.add_parser(
        "simulate", help="serve the protocols of all services on this machine until Ctrl-C"
    )
    command.add_argument("--port", type=int, default=0, help="0: any free port")
    command.add_argument(
        "--scenario",
        default="normal",
        metavar="NAME",
        help="how to answer; a wrong name lists those there are",
    )
    command.add_argument("--reply", help="answer with this text instead of a conversation")
    command.add_argument(
        "--chunk-delay", type=float, default=0.02, metavar="S", help="seconds between two pieces"
    )
    command.set_defaults(run=_simulate)

    command = commands.add_parser(
        "scenarios", help="list the scenarios that the simulator can play"
    )
    command.set_defaults(run=_scenarios)

    command = commands.add_parser(
        "providers", help="list the services, their real state and what they can do"
    )
    command.set_defaults(run=_providers)
    return parser


def _simulate(chosen: argparse.Namespace) -> int:
    with Simulator(
        port=chosen.port,
        scenario=chosen.scenario,
        reply=chosen.reply,
        chunk_delay=chosen.chunk_delay,
    ) as simulator:
        print(f"serving at {simulator.url}; Ctrl-C ends it", flush=True)
        for name in sorted(providers.TABLE):
            fields = ", ".join(f"{key}={value!r}" for key, value in simulator.fields(name).items())
            print(f"  Client({name!r}, {fields})", flush=True)
        threading.Event().wait()
    return 0


def _scenarios(chosen: argparse.Namespace) -> int:
    print(table([(name, text) for name, text in SCENARIOS.items()], ("scenario", "what it does")))
    return 0


def _providers(chosen: argparse.Namespace) -> int:
    rows = []
    for name in providers.names():
        kind = providers.get(name)
        fields = attrs.fields_dict(kind)
        variable = fields["api_key"].metadata.get("variable")
        key = "none needed" if not variable else "found" if os.environ.get(variable) else "missing"
        abilities = [
            word
            for word, able in (
                ("streaming", kind.streaming),
                ("system messages", kind.system_messages),
                ("history", kind.history),
                ("tools", kind.tools),
            )
            if able
        ]
        rows.append((name, "alive" if kind.alive else kind.state, key, ", ".join(abilities)))
    print(table(rows, ("provider", "the real service", "key", "can do")))
    return 0
