"""What is asked of one provider, made of what a caller gave and checked for it."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from typing import Any

from chatsdk.checks import check_text, option, PARAMETERS
from chatsdk.errors import ChatError, unknown, UnsupportedError
from chatsdk.listeners import NAMES
from chatsdk.messages import Message, Query
from chatsdk.providers.base import Provider
from chatsdk.settings import headers_from

log = logging.getLogger(__name__)

ANYWHERE = ("model", "extra_body")  # parameters that each provider honours in its own way
BESIDE = ("system", "timeout", "extra_headers", *NAMES)  # those that the client sees to


def query_for(
    provider: Provider,
    model: str | None,
    messages: tuple[Message, ...],
    params: Mapping[str, Any],
    *,
    stream: bool = True,
    drop_unsupported: bool = False,
) -> Query:
    """Return what is asked of a provider.

    Args:
        provider: The provider.
        model: The language model that the target names, or None.
        messages: The messages.
        params: The caller's parameters; None is "not given".
        stream: Whether the answer should come in pieces.
        drop_unsupported: Leave out what the provider cannot honour.

    Raises:
        TypeError: A parameter is unknown, or of the wrong type.
        ValueError: A value is out of range.
        UnsupportedError: The provider cannot honour a parameter or a message.
    """
    fields: dict[str, Any] = {"model": model}
    options: dict[str, Any] = {}
    for name, value in params.items():
        if name not in PARAMETERS and name not in BESIDE and name not in provider.options:
            known = [*PARAMETERS, *BESIDE, *provider.options]
            raise unknown(TypeError, "parameter", name, known)
        if value is None or name in BESIDE:
            continue
        if name in provider.options:
            options[name] = option(name, value, provider.options[name])
            continue
        checked = PARAMETERS[name](value)
        if name in ANYWHERE or name in provider.parameters:
            fields[name] = checked
        elif checked != ():
            _unsupported(provider, name, drop_unsupported)
    query = Query(
        messages=_with_system(messages, params.get("system")),
        stream=stream,
        extra_headers=headers_from(params.get("extra_headers"), "extra_headers"),
        options=options,
        **fields,
    )
    asked = provider.model_of(query)
    try:
        provider.check(query)
    except ChatError as error:
        error.provider, error.target = provider.name, f"{provider.name}:{asked}"
        raise
    if provider.models and asked not in provider.models:
        log.info("%s: model %r is not among those known here", provider.name, asked)
    return query


def _unsupported(provider: Provider, name: str, drop: bool) -> None:
    if not drop:
        honoured = ", ".join(sorted(provider.parameters)) or "none"
        raise UnsupportedError(
            f"{provider.name} cannot honour {name}; it honours: {honoured}"
            " (drop_unsupported=True leaves out what cannot be)",
            provider=provider.name,
        )
    log.warning("%s cannot honour %s: left out", provider.name, name)


def _with_system(messages: tuple[Message, ...], system: Any) -> tuple[Message, ...]:
    if system is None:
        return messages
    if not isinstance(system, str):
        raise TypeError(f"system must be a str, not {type(system).__name__}")
    check_text(system, "system")
    return (Message("system", system), *messages)
