"""One question, one client: for a script's one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatsdk import providers as table
from chatsdk.checks import PARAMETERS
from chatsdk.client import Client
from chatsdk.messages import Reply
from chatsdk.providers.base import Provider
from chatsdk.queries import BESIDE
from chatsdk.streams import Stream
from chatsdk.targets import default_target


def chat(messages: Any, *, target: Any = None, **params: Any) -> Reply:
    """Ask with a client of this one call: `Client.chat`, with the arguments of both."""
    made, asked = _divided(target, params)
    with Client(target, **made) as client:
        return client.chat(messages, **asked)


def stream(messages: Any, *, target: Any = None, **params: Any) -> Stream:
    """Ask with a client of this one call: `Client.stream`, with the arguments of both."""
    made, asked = _divided(target, params)
    return Client(target, **made).stream_once(messages, **asked)


def _divided(target: Any, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which arguments make the client, and which are asked of it."""
    asks = {*PARAMETERS, *BESIDE, "stream", "display"}
    chosen = default_target(target)
    for one in chosen if isinstance(chosen, (list, tuple)) else [chosen]:
        asks.update(_options(one, params.get("providers") or ()))
    made = {name: value for name, value in params.items() if name not in asks}
    return made, {name: value for name, value in params.items() if name in asks}


def _options(target: Any, providers: Any) -> Mapping[str, type]:
    """Return the parameters that only this target's provider knows."""
    if isinstance(target, Provider):
        return target.options
    if not isinstance(target, str):
        return {}
    name = target.partition(":")[0]
    for provider in providers:
        if isinstance(provider, Provider) and provider.name == name:
            return provider.options
    return table.get(name).options
