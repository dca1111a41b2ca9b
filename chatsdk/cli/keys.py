"""The commands ``chatsdk keys``: credentials in the system keyring, never shown."""

from __future__ import annotations

from getpass import getpass, GetPassWarning
import sys
import warnings

import attrs
import click

from chatsdk import providers
from chatsdk.cli import keychain
from chatsdk.cli.command import argument, as_json, Group, usage
from chatsdk.cli.options import SERVICE
from chatsdk.cli.output import dump, show_table, tell
from chatsdk.errors import ConfigurationError
from chatsdk.providers.base import Provider
from chatsdk.settings import check_secret


@click.group(
    "keys",
    cls=Group,
    short_help="Keep keys in the system keyring.",
    notes={
        "Where keys are found": (
            "These commands read a key from the environment first, and from the keyring where that"
            " has none. A Client in a program of yours never looks into the keyring."
        )
    },
    examples=("chatsdk keys set gigachat", "chatsdk keys list", "chatsdk keys delete gigachat"),
)
def keys() -> None:
    """Keep keys in the system keyring: never shown, never in a file of ours.

    It needs pip install 'chatsdk[keyring]', and a keyring: that of macOS, Windows, or a desktop
    with the Secret Service.
    """


def _kind(name: str) -> type[Provider]:
    kind = providers.get(name)
    if keychain.entry(kind) is None:
        raise ConfigurationError(f"{name} needs no key")
    return kind


NAME = argument("name", metavar="NAME", type=SERVICE, about="A provider; `chatsdk providers` "
                "lists them.")


@keys.command(
    "set",
    short_help="Keep a key.",
    examples=("chatsdk keys set gigachat", "pass show gigachat | chatsdk keys set gigachat"),
)
@NAME
@as_json
def set_key(name: str, as_json: bool) -> int:
    """Keep the key of a provider; an older one is replaced.

    It is asked for and not shown; in a pipe it is the first line. It is no argument, since those
    stand in the shell's history and in the list of processes.
    """
    with usage():
        kind = _kind(name)
        key = _asked(kind).strip()
        check_secret(None, attrs.fields_dict(kind)["api_key"], key)
    keychain.save(kind, key)
    variable = keychain.in_environment(kind)
    if as_json:
        dump({"name": name, "kept": True, "hidden_by": variable})
        return 0
    tell(f"the key of {name} is in the keyring, as {keychain.entry(kind)}")
    if variable is not None:
        tell(f"{variable} is set too, and comes before it")
    return 0


def _asked(kind: type[Provider]) -> str:
    """Return a key that is typed without being shown, or comes from a pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)
        try:
            return getpass(f"Key of {kind.title} (it is not shown): ")
        except GetPassWarning:
            raise ConfigurationError(
                "this terminal would show the key; give it through a pipe"
            ) from None


@keys.command("delete", short_help="Forget a key.")
@NAME
@as_json
def delete(name: str, as_json: bool) -> int:
    """Take the key of a provider out of the keyring."""
    with usage():
        kind = _kind(name)
    keychain.delete(kind)
    if as_json:
        dump({"name": name, "kept": False})
    else:
        tell(f"the key of {name} is gone from the keyring")
    return 0


@keys.command("list", short_help="Say where keys are found.")
@as_json
def list_keys(as_json: bool) -> int:
    """Say for each provider that needs a key where it is found; no key is shown."""
    rows = []
    for name in providers.names():
        kind = providers.get(name)
        if keychain.variables(kind):
            rows.append((name, " or ".join(keychain.variables(kind)), keychain.key_of(kind)))
    if as_json:
        dump([{"name": name, "variable": variable, "found": found}
              for name, variable, found in rows])
    else:
        show_table(rows, ("provider", "variable", "found in"))
    return 0
