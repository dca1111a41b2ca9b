"""Tools: functions that a model may call, and what they look like to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import inspect
import json
import re
import typing
from typing import Any, overload

import attrs
from attrs import field

from chatsdk.records import frozen
from chatsdk.schemas import build, first_paragraph, schema_of


@frozen
class Tool:
    """A function that a model may call; `chatsdk.tool` makes it, and it can be called as before.

    Attributes:
        function: The function.
        name: What the model calls it.
        description: What the model is told of it.
        parameters: The JSON schema of its arguments.
    """

    function: Callable[..., Any] = field(repr=False)  # its address would differ from run to run
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's shape."""
        said = {"description": self.description} if self.description else {}
        function = {"name": self.name, **said, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    def run(self, arguments: Mapping[str, Any]) -> str:
        """Call the function with what a model gave, and return its result as text.

        Raises:
            ValueError: The arguments do not fit; the message says which.
            Exception: Whatever the function raises.
        """
        hints = _hints(self.function)
        names = [parameter.name for parameter in _parameters(self.function, self.name)]
        strange = [name for name in arguments if name not in names]
        if strange:
            raise ValueError(f"{', '.join(strange)} is unknown; known: {', '.join(names)}")
        required = self.parameters.get("required", ())
        missing = [name for name in required if name not in arguments]
        if missing:
            raise ValueError(f"{', '.join(missing)} is missing")
        built = {name: build(hints[name], value, name) for name, value in arguments.items()}
        return as_text(self.function(**built))


@overload
def tool(function: Callable[..., Any]) -> Tool: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Any:
    """Make a tool of a function with type hints and a docstring; a decorator, bare or called.

    Args:
        function: The function.  Its parameters may be str, int, float, bool, list, tuple, dict,
            Literal, Optional, Union, Annotated, Enum, dataclasses, attrs classes, TypedDict and
            pydantic models; one with a default is not required.
        name: What the model calls it; None: the function's name.
        description: What the model is told; None: the docstring's first paragraph.  Lines of a
            section ``Args:`` describe the parameters.

    Raises:
        TypeError: A parameter has no type hint, or one that has no JSON schema.
    """
    if function is None:
        return lambda function: tool_of(function, name=name, description=description)
    return tool_of(function)


def tool_of(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> Tool:
    """Return a function as a tool; a `Tool` as it is."""
    if isinstance(function, Tool):
        return function
    name = str(name or getattr(function, "__name__", type(function).__name__))
    doc = inspect.getdoc(function) or ""
    explained = _explained(doc)
    hints = _hints(function)
    properties: dict[str, Any] = {}
    required = []
    for parameter in _parameters(function, name):
        where = f"parameter {parameter.name!r} of {name}"
        if parameter.name not in hints:
            raise TypeError(f"{where} has no type hint; give it one")
        properties[parameter.name] = schema_of(hints[parameter.name], where)
        if parameter.name in explained:
            properties[parameter.name].setdefault("description", explained[parameter.name])
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    said = first_paragraph(doc) if description is None else description
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(function, name, said, parameters)


def tool_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function in OpenAI's shape, from its type hints and its docstring."""
    return tool_of(function).schema


def as_text(result: Any) -> str:
    """Return what a function gave as text for the model: a str as it is, else JSON."""
    if isinstance(result, str):
        return result
    return json.dumps(result, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return attrs.asdict(value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    called = function if hasattr(function, "__annotations__") else type(function).__call__
    return typing.get_type_hints(called, include_extras=True)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        where = f"parameter {parameter.name!r} of {name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} takes any number of arguments, which no schema can say")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where} takes no name, and a model gives arguments by name")
    return parameters


_SECTION = re.compile(r"^(?:Args|Arguments|Parameters):\s*\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\s+)(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def _explained(doc: str) -> dict[str, str]:
    """Return what a docstring in Google's style says of each parameter."""
    section = _SECTION.search(doc)
    found: dict[str, str] = {}
    name, indent = "", 0
    for line in section[1].splitlines() if section else ():
        match = _ARGUMENT.match(line)
        if match and (not name or len(match[1]) <= indent):
            name, indent = match[2], len(match[1])
            found[name] = match[3].strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
