"""Whom a client can ask: names, models and configured providers."""

from __future__ import annotations

from collections.abc import Mapping
import logging
import os
from typing import Any

from chatsdk import providers as table
from chatsdk.errors import ConfigurationError, MissingCredentialsError, unknown
from chatsdk.providers.base import Provider
from chatsdk.records import evolve, fields, fields_dict

log = logging.getLogger(__name__)


class Targets:
    """The providers of a client, by name.

    Attributes:
        default: Whom to ask if a call does not say, or None.
    """

    def __init__(
        self,
        target: Any,
        providers: tuple[Any, ...],
        fields: Mapping[str, Any],
        others: tuple[str, ...] = (),
        *,
        stand_in: str | None = None,
    ) -> None:
        """Set up a client's own target.

        Args:
            target: See `Client`.
            providers: Configured providers.
            fields: Fields of the target's provider.
            others: Names that a caller may have meant instead of a field that is unknown.
            stand_in: Taken for a key that is missing, where none is needed: in a replay.

        Raises:
            ConfigurationError: The target is unknown, a key is missing, an address is none.
            TypeError: A field is unknown or of the wrong type.
        """
        self._providers = _by_name(providers)
        self._others = others
        self._stand_in = stand_in
        self._gone: set[str] = set()  # names of services that were pointed out to be gone
        self.default = default_target(target)
        given = {name: value for name, value in fields.items() if value is not None}
        if given:
            self._configure(given)
        elif self.default is not None:
            self.chain(None)
        if isinstance(self.default, Provider):
            self._providers[self.default.name] = self.default  # also for "name:model"

    def chain(self, target: Any) -> list[tuple[Provider, str | None]]:
        """Return the providers of a target, each with the model that the target names."""
        target = self.default if target is None else target
        if target is None:
            raise ConfigurationError(
                "no target: give target='gigachat', say, or set CHATSDK_TARGET; there are: "
                + ", ".join(table.names())
            )
        if isinstance(target, (list, tuple)):
            if not target:
                raise ConfigurationError("no target: the list is empty; name at least one")
            return [self._one(item) for item in target]
        return [self._one(target)]

    def _one(self, target: Any) -> tuple[Provider, str | None]:
        if isinstance(target, Provider):
            return self._seen(target), None
        if not isinstance(target, str):
            raise TypeError(
                "a target is 'provider', 'provider:model' or a Provider,"
                f" not {type(target).__name__}"
            )
        name, _, model = target.partition(":")
        if name not in self._providers:
            self._providers[name] = self._made(table.get(name), {})
        return self._seen(self._providers[name]), model or None

    def _seen(self, provider: Provider) -> Provider:
        """Return the provider; one whose service is gone is pointed out, once."""
        if provider.alive or provider.name in self._gone:
            return provider
        self._gone.add(provider.name)
        if provider.base_url == fields_dict(type(provider))["base_url"].metadata["default"]:
            log.warning(
                "%s: %s; base_url= leads to a server of your own", provider.name, provider.state
            )
        return provider

    def _configure(self, given: Mapping[str, Any]) -> None:
        """Set up the provider of the default target with the fields that were given."""
        target = self.default
        if isinstance(target, (list, tuple)) and len(target) == 1:
            target = self.default = target[0]
        if target is None or isinstance(target, (list, tuple)):
            raise ConfigurationError(
                f"{', '.join(sorted(given))}: fields are for one target, and there is"
                f" {'none' if target is None else 'more than one'}; give providers=[...] instead"
            )
        if not isinstance(target, str):
            provider, _ = self._one(target)
            self._check_fields(type(provider), provider.name, given)
            self.default = evolve(provider, **given)
            return
        name = target.partition(":")[0]
        known = self._providers.get(name)
        kind = table.get(name) if known is None else type(known)
        self._check_fields(kind, name, given)
        made = self._made(kind, given) if known is None else evolve(known, **given)
        self._providers[name] = self._seen(made)

    def _made(self, kind: type[Provider], given: Mapping[str, Any]) -> Provider:
        try:
            return kind(**given)
        except MissingCredentialsError:
            if self._stand_in is None:
                raise
            return kind(**given, api_key=self._stand_in)

    def _check_fields(self, kind: type[Provider], name: str, given: Mapping[str, Any]) -> None:
        known = [attribute.alias or attribute.name for attribute in fields(kind)]
        for key in given:
            if key not in known:
                raise unknown(TypeError, f"field of {name}", key, [*known, *self._others])


def default_target(target: Any) -> Any:
    """Return the target, else that of the environment, else None."""
    return (os.environ.get("CHATSDK_TARGET") or None) if target is None else target


def provider_name(target: Any) -> str | None:
    """Return the name of the one provider of a target, None for a list or nothing."""
    if isinstance(target, Provider):
        return target.name
    return target.partition(":")[0] if isinstance(target, str) else None


def label(target: Any) -> Any:
    """Return what an answer calls its target: the caller's own word, or a provider's name."""
    if isinstance(target, Provider):
        return target.name
    return tuple(map(label, target)) if isinstance(target, (list, tuple)) else target


def _by_name(providers: tuple[Any, ...]) -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for provider in providers:
        if not isinstance(provider, Provider):
            raise TypeError(f"providers holds a {type(provider).__name__}, which is no Provider")
        if provider.name in found:
            raise ConfigurationError(
                f"providers holds two that are called {provider.name!r}; give one of them to"
                " another client"
            )
        found[provider.name] = provider
    return found
