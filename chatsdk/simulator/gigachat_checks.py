"""What GigaChat accepts in a chat request, and which function it would call."""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Any

from .brain import arguments
from .service import said

_ROLES = ("system", "user", "assistant", "function")


def problem(body: Mapping[str, Any]) -> str:
    """Return what is wrong with a request, in the service's words; empty if nothing is."""
    if not isinstance(body.get("model"), str):
        return "model is required"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages must not be empty"
    for index, message in enumerate(messages):
        if wrong := _wrong(message, first=index == 0):
            return wrong
    functions = body.get("functions") or []
    if not isinstance(functions, list) or not all(
            isinstance(f, dict) and isinstance(f.get("name"), str) for f in functions):
        return "functions must have names"
    wanted = body.get("response_format")
    if wanted is not None and not (
            isinstance(wanted, dict) and wanted.get("type") == "json_schema"
            and isinstance(wanted.get("schema"), dict)):
        return "response_format must be of type json_schema and have a schema"
    for name, allowed, bounds in _RANGES:
        value = body.get(name)
        if value is not None and (isinstance(value, (bool, str, list, dict)) or not allowed(value)):
            return f"{name} must be in range {bounds}"
    return ""


_RANGES = (
    ("temperature", lambda value: value > 0, "(0, +inf)"),
    ("top_p", lambda value: 0 <= value <= 1, "[0, 1]"),
    ("max_tokens", lambda value: isinstance(value, int) and value > 0, "(0, +inf)"),
    ("repetition_penalty", lambda value: value > 0, "(0, +inf)"),
)


def _wrong(message: object, *, first: bool) -> str:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return f"role must be one of {', '.join(_ROLES)}"
    role, content = message["role"], message.get("content")
    if role == "system" and not first:
        return "system message must be the first message"
    if not isinstance(content, str) and not (content is None and "function_call" in message):
        return "content must be a string"
    if role == "function" and not _is_object(content):
        return "content of a function message must be a JSON object"
    return ""


def _is_object(text: object) -> bool:
    try:
        return isinstance(json.loads(str(text)), dict)
    except ValueError:
        return False


def offered(body: Mapping[str, Any]) -> tuple[tuple[str, dict[str, Any]] | None, bool]:
    """Return the call that the brain would make, and whether the client insists on it.

    The brain calls once: when the last message is a function's result, it speaks again.
    """
    functions: dict[str, dict[str, Any]] = {f["name"]: f for f in body.get("functions") or ()}
    mode = body.get("function_call", "auto")
    forced = isinstance(mode, dict)
    name = mode.get("name") if isinstance(mode, dict) else next(iter(functions), None)
    if mode == "none" or name is None or name not in functions:
        return None, False
    if not forced and body["messages"][-1]["role"] == "function":
        return None, False
    values = arguments(functions[name].get("parameters"), said(body["messages"]))
    return (name, values), forced
