"""Settings: a field's value is the argument, else the environment's, else the default."""

from __future__ import annotations

from collections.abc import Mapping
import os
import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from attr.validators import optional

from chatsdk.errors import ConfigurationError
from chatsdk.records import field

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def setting(variable: str | None, default: Any = None, **options: Any) -> Any:
    """Return an attrs field: argument, then ``variable`` of the environment, then ``default``.

    The environment is read when the object is made; an empty variable counts as unset.
    """

    def read() -> Any:
        return (os.environ.get(variable) if variable else None) or default

    metadata = {"variable": variable, "default": default}
    return field(factory=read, metadata=metadata, **options)


def secret(variable: str | None) -> Any:
    """Return a field for a credential: never shown, and fit to stand in a header."""
    return setting(variable, repr=False, validator=optional(check_secret))


def url(variable: str | None, default: str | None, **options: Any) -> Any:
    """Return a field for a base URL: http(s), a host, no credentials; a last ``/`` is dropped."""
    return setting(variable, default, converter=_without_slash, validator=check_url, **options)


def _without_slash(value: Any) -> Any:
    return value.rstrip("/") if isinstance(value, str) else value


def check_secret(instance: Any, attribute: Any, value: Any) -> None:
    """Refuse what cannot be sent as a header's value, naming the place and not the value."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{attribute.name} must be a str, not {type(value).__name__}")
    if not value:
        raise ConfigurationError(f"{attribute.name} is empty; leave it out, or give a key")
    for position, character in enumerate(value):
        if character.isspace() or not character.isprintable() or ord(character) > 0xFF:
            raise ConfigurationError(
                f"{attribute.name} has a character at position {position} (of {len(value)}) that no"
                " key has: a blank, a control character or one beyond Latin-1"
            )


def check_url(instance: Any, attribute: Any, value: Any) -> None:
    """Refuse a base URL without scheme or host, with credentials, or of another scheme."""
    name = attribute.name
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a str, not {type(value).__name__}")
    if any(character.isspace() or not character.isprintable() for character in value):
        raise ConfigurationError(f"{name} has a blank or a control character; a URL has none")
    if "@" in value:
        raise ConfigurationError(
            f"{name} holds an @, as before credentials; give those as api_key= or headers="
        )
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(f"{name} is no URL; it must look like https://host/path") from None
    if parts.scheme not in ("http", "https") or host[:1] in ("", ".", "*") or port == 0:
        raise ConfigurationError(
            f"{name} must look like https://host/path, with http or https; it is {value!r}"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must end before its query (?) or fragment (#)")


def check_headers(instance: Any, attribute: Any, value: Any) -> None:
    """Refuse headers that cannot be sent, naming the header and not its value."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a dict of str, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{attribute.name} must be a dict of str; see {name!r}")
        if not re.fullmatch(_HEADER_NAME, name):
            raise ConfigurationError(f"{attribute.name}: {name!r} is no header name")
        if text[:1].isspace() or any(c in "\r\n\0" or ord(c) > 0xFF for c in text):
            raise ConfigurationError(
                f"{attribute.name}: the value of {name!r} begins with a blank, or has a line break,"
                " NUL or a character beyond Latin-1"
            )


def headers_from(headers: Any, name: str) -> Mapping[str, str]:
    """Return headers that a caller gave, checked; None is none.

    Args:
        headers: A dict of str, or None.
        name: What the caller calls it.
    """
    if headers is None:
        return {}
    check_headers(None, SimpleNamespace(name=name), headers)
    return dict(headers)
