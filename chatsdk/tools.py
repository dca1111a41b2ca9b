"""Tools: what a function looks like to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
import inspect
import types
import typing
from typing import Any

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def tool_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function in OpenAI's shape, from its type hints and its docstring.

    Parameters may be str, int, float, bool, list, dict, Literal, Optional, Union and Enum; one
    with a default is not required.

    Raises:
        TypeError: A parameter has no type hint, or one that has no JSON schema.
    """
    name = getattr(function, "__name__", type(function).__name__)
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name!r} of {name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} takes any number of arguments, which no schema can say")
        if parameter.name not in hints:
            raise TypeError(f"{where} has no type hint")
        properties[parameter.name] = _schema(hints[parameter.name], where)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    description = (inspect.getdoc(function) or "").partition("\n\n")[0]
    parameters = {"type": "object", "properties": properties, "required": required}
    said = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **said, "parameters": parameters}}


def _schema(hint: Any, where: str) -> dict[str, Any]:
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    if hint is Any:
        return {}
    if hint is type(None):
        return {"type": "null"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(argument, where) for argument in arguments]}
    if origin is list:
        return {"type": "array", **({"items": _schema(arguments[0], where)} if arguments else {})}
    if origin in (dict, Mapping):
        values = {"additionalProperties": _schema(arguments[1], where)} if arguments else {}
        return {"type": "object", **values}
    raise TypeError(f"{where}: {hint!r} has no JSON schema")
