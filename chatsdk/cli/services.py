"""The commands that tell of services: ``providers`` and ``models``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from chatsdk import providers
from chatsdk.cli.command import argument, as_json, command, usage
from chatsdk.cli.keychain import key_of, variables
from chatsdk.cli.options import client_for, connection, named, TARGET
from chatsdk.cli.output import dump, show_table
from chatsdk.providers.base import Provider

NO_ABILITY = {"alive", "dimensions", "end_mark", "may_be_empty"}  # facts that nobody chooses by


def abilities(kind: type[Provider]) -> Iterator[str]:
    """Yield what a service can do, in words: the facts of its class that are true."""
    for name, note in Provider.__annotations__.items():
        if "ClassVar[bool]" in note and name not in NO_ABILITY and getattr(kind, name):
            yield name.replace("_", " ")
    yield from kind.media
    if kind.embeds:
        yield "embeddings"


@command("providers", short_help="List the services, their state and what they can do.")
@as_json
def providers_command(as_json: bool) -> int:
    """List the services: the state of the real one, whether a key was found, what it can do.

    A key is found in the environment or in the system keyring; neither shows it.
    """
    listed = [_told(providers.get(name)) for name in providers.names()]
    if as_json:
        dump(listed)
        return 0
    show_table(
        [(one["name"], one["state"], one["key"], ", ".join(one["can"])) for one in listed],
        ("provider", "the real service", "key", "can do"),
    )
    return 0


def _told(kind: type[Provider]) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": kind.title,
        "state": "alive" if kind.alive else kind.state,
        "alive": kind.alive,
        "key": key_of(kind),
        "variables": variables(kind),
        "can": list(abilities(kind)),
        "parameters": dict(kind.parameters),
        "models": kind.models,
        "page": kind.page,
    }


@command(
    "models",
    short_help="List the models of a service.",
    examples=("chatsdk models gigachat", "chatsdk models gigachat --json | jq -r '.[].id'"),
)
@argument("target", required=False, metavar="TARGET", type=TARGET,
          about="Provider; else that of $CHATSDK_TARGET.")
@connection
@as_json
def models(target: str | None, as_json: bool, **options: Any) -> int:
    """List the models of a service: those it lists itself, or else those known here."""
    with usage():
        client = client_for([named(target)], options)
    with client:
        found = client.models()
    if as_json:
        dump([attrs.asdict(model) for model in found])
    else:
        show_table([(model.id, model.owner or "") for model in found], ("model", "owner"))
    return 0
