"""Options that several commands have, and the client that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import click
from click.shell_completion import CompletionItem

from chatsdk import providers
from chatsdk.cli.keychain import stored
from chatsdk.client import Client
from chatsdk.errors import ConfigurationError
from chatsdk.targets import default_target


class Word(click.ParamType):  # type: ignore[type-arg]  # older versions of click take none
    """A word that the shell completes.

    Args:
        name: What it is.
        known: Gives words and what they mean, for the beginning of one.
    """

    def __init__(self, name: str, known: Callable[[str], Iterable[tuple[str, str]]]) -> None:
        self.name = name
        self._known = known

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin so."""
        return [CompletionItem(word, help=about or None)
                for word, about in self._known(incomplete) if word.startswith(incomplete)]


def _services(begun: str) -> Iterator[tuple[str, str]]:
    for name in providers.names():
        yield name, providers.get(name).title


def _targets(begun: str) -> Iterable[tuple[str, str]]:
    """Return the services, or the models of the one that is named."""
    name, colon, _ = begun.partition(":")
    if not colon:
        return _services(begun)
    models = providers.get(name).models if name in providers.names() else ()
    return [(f"{name}:{model}", "") for model in models]


SERVICE = Word("provider", _services)
TARGET = Word("target", _targets)
_CONNECTION = (
    click.option("--timeout", type=float, metavar="S", help="Seconds of silence, at most."),
    click.option("--base-url", metavar="URL", help="Where the one target is, if not at home."),
)
_PARAMETERS = (
    click.option("--system", metavar="TEXT", help="A system message."),
    click.option("--temperature", type=float, metavar="X", help="From 0, the most sober, up."),
    click.option("--max-tokens", type=int, metavar="N", help="The longest answer, in tokens."),
)
NAMES = ("system", "temperature", "max_tokens")


def connection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a service is reached."""
    return _added(_CONNECTION, function)


def parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to ask, and those of `connection`."""
    return _added((*_PARAMETERS, *_CONNECTION), function)


def _added(
    options: Sequence[Callable[[Any], Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    return reduce(lambda made, option: option(made), reversed(options), function)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `parameters` that were given, for a call."""
    return {name: options[name] for name in NAMES if options.get(name) is not None}


def named(target: str | None) -> str:
    """Return the target that was named, else that of the environment.

    Raises:
        ConfigurationError: There is neither.
    """
    found: str | None = default_target(target)
    if found is None:
        raise ConfigurationError(
            f"no TARGET, and CHATSDK_TARGET is not set; there are: {', '.join(providers.names())}"
        )
    return found


def client_for(targets: Sequence[str | None], options: Mapping[str, Any]) -> Client:
    """Return a client for these targets with what `parameters` say of it.

    A key that stands in no variable of the environment is looked up in the system keyring.
    """
    own = targets[0] if len(targets) == 1 else None
    return Client(
        own,
        providers=stored(targets, options.get("base_url")),
        base_url=options.get("base_url"),
        timeout=options.get("timeout"),
    )
