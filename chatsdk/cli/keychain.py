"""Keys in the system keyring: looked up where the environment has none, never in a file of ours.

Only the command line looks there; a `Client` in a program reads arguments and the environment.
"""

from __future__ import annotations

from collections.abc import Iterable
import os
from typing import Any

import attrs

from chatsdk import providers
from chatsdk.errors import ConfigurationError, MissingCredentialsError
from chatsdk.providers.base import Provider
from chatsdk.targets import default_target, provider_name

SERVICE = "chatsdk"  # under which the keyring keeps them, with a variable's name as the user
PLAIN = "PlaintextKeyring"  # of keyrings.alt: a readable file


def variables(kind: type[Provider]) -> tuple[str, ...]:
    """Return the variables of the environment that may hold a credential of a service."""
    found: list[str] = []
    for item in attrs.fields(kind):
        named = item.metadata.get("variable")
        if not item.repr and named:
            found += [named] if isinstance(named, str) else named
    return tuple(found)


def in_environment(kind: type[Provider]) -> str | None:
    """Return the variable that holds a service's key, or None."""
    return next((name for name in variables(kind) if os.environ.get(name)), None)


def key_of(kind: type[Provider]) -> str:
    """Return where a service's key is: a variable, "keyring", "missing", or "none needed"."""
    if not variables(kind):
        return "none needed"
    variable = in_environment(kind)
    if variable is not None:
        return variable
    if load(kind) is not None:
        return "keyring"
    return "missing" if _needs_key(kind) else "optional"


def _needs_key(kind: type[Provider]) -> bool:
    try:
        kind()  # type: ignore[call-arg]  # it has defaults
    except MissingCredentialsError:
        return True
    except ConfigurationError:  # it wants more, and no key
        return False
    return False


def stored(targets: Iterable[str | None], base_url: str | None = None) -> list[Provider]:
    """Return the providers of these targets whose key is in the keyring alone.

    Args:
        targets: Whom a client will ask.
        base_url: Where they are; None: where they say.
    """
    fields = {} if base_url is None else {"base_url": base_url}
    found: dict[str, Provider] = {}
    for target in targets:
        name = provider_name(default_target(target))
        if name is None or name in found or name not in providers.names():
            continue
        kind = providers.get(name)
        key = None if in_environment(kind) else load(kind)
        if key is not None:
            found[name] = kind(api_key=key, **fields)  # type: ignore[arg-type]
    return list(found.values())


def entry(kind: type[Provider]) -> str | None:
    """Return the name of a service's key in the keyring: that of its variable, or None.

    Services that read the same variable share the key.
    """
    named = attrs.fields_dict(kind)["api_key"].metadata.get("variable")
    return named if named is None or isinstance(named, str) else str(named[0])


def load(kind: type[Provider]) -> str | None:
    """Return the key of a service, or None: no key, no keyring, or no ``chatsdk[keyring]``."""
    name = entry(kind)
    if name is None:
        return None
    try:
        import keyring
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(SERVICE, name)
    except keyring.errors.KeyringError:
        return None
    return found


def save(kind: type[Provider], key: str) -> None:
    """Keep the key of a service.

    Raises:
        ConfigurationError: There is no keyring, it is locked, or it would be a readable file.
    """
    _call(_backend().set_password, str(entry(kind)), key)


def delete(kind: type[Provider]) -> None:
    """Forget the key of a service.

    Raises:
        ConfigurationError: There is none, or no keyring.
    """
    backend, name = _backend(), str(entry(kind))
    if _call(backend.get_password, name) is None:
        raise ConfigurationError(f"the keyring has no key for {kind.name}")
    _call(backend.delete_password, name)


def _backend() -> Any:
    try:
        import keyring
    except ImportError:
        raise ConfigurationError(
            "the system keyring needs pip install 'chatsdk[keyring]'"
        ) from None
    backend = keyring.get_keyring()
    first = next(iter(getattr(backend, "backends", ())), backend)  # of a chain the first is used
    if type(first).__name__ == PLAIN:
        raise ConfigurationError(
            "this keyring is a file that anyone can read, and no key goes there;"
            " uninstall keyrings.alt or choose another backend (python -m keyring --list-backends)"
        )
    return backend


def _call(do: Any, name: str, *more: str) -> Any:
    from keyring.errors import KeyringError, NoKeyringError

    try:
        return do(SERVICE, name, *more)
    except NoKeyringError:
        raise ConfigurationError(
            "this system has no keyring (python -m keyring diagnose shows why);"
            " set the key in the environment instead"
        ) from None
    except KeyringError as error:
        raise ConfigurationError(f"the keyring refused: {type(error).__name__}: {error}") from error
