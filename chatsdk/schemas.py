"""Types as JSON schemas, and JSON as values of those types.

Known are str, int, float, bool, None, list, tuple, dict, Literal, Union, Optional, Annotated, Enum,
dataclasses, attrs classes, TypedDict, and pydantic models where pydantic is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from enum import Enum
import inspect
import types
import typing
from typing import Any

import attrs

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_MARKS = ("Required", "NotRequired", "ReadOnly")  # what a TypedDict says round a hint


@attrs.frozen
class _Member:
    """A member of a class that stands for an object."""

    name: str
    hint: Any
    required: bool


# From a type to its schema


def schema_of(hint: Any, where: str = "the type") -> dict[str, Any]:
    """Return the JSON schema of a type.

    Raises:
        TypeError: It has none; ``where`` and the member are named.
    """
    definitions: dict[str, Any] = {}
    schema = _schema(hint, where, [], definitions)
    return {**schema, "$defs": definitions} if definitions else schema


def _schema(hint: Any, where: str, above: list[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a schema; ``above`` are the classes it stands in, which it may refer to."""

    def inner(hint: Any) -> dict[str, Any]:
        return _schema(hint, where, above, definitions)

    hint, description = _plain(hint)
    if description:
        return {**inner(hint), "description": description}
    if hint is Any:
        return {}
    if isinstance(hint, type) and hint in SCALARS:
        return {"type": SCALARS[hint]}
    if hint is None:
        return {"type": "null"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if _is_pydantic(hint):
        return dict(hint.model_json_schema())
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [inner(argument) for argument in arguments]}
    if origin in (list, Sequence) or origin is tuple and arguments[1:] in ((), (...,)):
        return {"type": "array", **({"items": inner(arguments[0])} if arguments else {})}
    if origin in (dict, Mapping):
        values = {"additionalProperties": inner(arguments[1])} if arguments else {}
        return {"type": "object", **values}
    members = _members(hint)
    if members is None:
        raise TypeError(f"{where}: {hint!r} has no JSON schema; a dataclass has one")
    if hint in above:
        definitions.setdefault(hint.__name__, {})  # filled in where the class began
        return {"$ref": f"#/$defs/{hint.__name__}"}
    above.append(hint)
    schema = _object(hint, where, members, above, definitions)
    above.pop()
    if hint.__name__ in definitions:
        definitions[hint.__name__] = schema
    return schema


def _object(
    kind: Any, where: str, members: list[_Member], above: list[Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    properties = {
        member.name: _schema(member.hint, f"{where}.{member.name}", above, definitions)
        for member in members
    }
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [member.name for member in members if member.required],
        "additionalProperties": False,
    }
    summary = "" if _is_dataclass_doc(kind) else first_paragraph(kind.__doc__)
    return {"description": summary, **schema} if summary else schema


def _plain(hint: Any) -> tuple[Any, str]:
    """Return a hint without what stands round it, and the text of an `Annotated` one."""
    description = ""
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            texts = [extra for extra in hint.__metadata__ if isinstance(extra, str)]
            description, hint = description or " ".join(texts), hint.__origin__
        elif getattr(origin, "_name", None) in _MARKS:
            hint = typing.get_args(hint)[0]
        else:
            return hint, description


def _members(kind: Any) -> list[_Member] | None:
    """Return the members of a class that stands for an object, or None if it is none."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        fields = [
            (item.name, item.name, _no_default(item))
            for item in dataclasses.fields(kind)
            if item.init
        ]
    elif attrs.has(kind):
        fields = [
            (item.name, item.alias or item.name, item.default is attrs.NOTHING)
            for item in attrs.fields(kind)
            if item.init
        ]
    elif hasattr(kind, "__required_keys__"):
        required = kind.__required_keys__
        fields = [(name, name, name in required) for name in typing.get_type_hints(kind)]
    else:
        return None
    hints = typing.get_type_hints(kind, include_extras=True)
    return [_Member(alias, hints[name], required) for name, alias, required in fields]


def _no_default(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _is_dataclass_doc(kind: Any) -> bool:
    """Return whether a class has no docstring but the one that dataclasses or typing made."""
    own = kind.__dict__.get("__doc__")
    return not own or own.startswith(f"{kind.__name__}(") or own.startswith("dict() ->")


def _is_pydantic(kind: Any) -> bool:
    return hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


def first_paragraph(text: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


# The shape that an answer must have


def response_format(wanted: Any) -> dict[str, Any]:
    """Return what a caller wants as an answer's shape, in OpenAI's form.

    Args:
        wanted: A type with a schema; a JSON schema; or a dict with ``type`` ``"text"``,
            ``"json_object"`` or ``"json_schema"``.

    Raises:
        TypeError: It is none of these.
    """
    if not isinstance(wanted, Mapping):
        own = schema_of(wanted, "response_format")
        name = getattr(wanted, "__name__", "answer")
        return _json_schema(name, closed(own), is_closable(own))
    kind = wanted.get("type")
    if kind in ("text", "json_object"):
        return dict(wanted)
    if kind != "json_schema":
        return _json_schema(str(wanted.get("title", "answer")), wanted, False)
    inner = wanted.get("json_schema", wanted)
    schema: Any = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping):
        raise TypeError("response_format of type 'json_schema' must hold a schema, a dict")
    return _json_schema(str(inner.get("name", "answer")), schema, bool(inner.get("strict", True)))


def _json_schema(name: str, schema: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    name = "".join(mark if mark.isalnum() and mark.isascii() else "_" for mark in name)[:64]
    inner = {"name": name or "answer", "schema": dict(schema), "strict": strict}
    return {"type": "json_schema", "json_schema": inner}


def is_closable(schema: Any) -> bool:
    """Return whether each object in a schema lists its members, as strict services demand."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object" and not isinstance(schema.get("properties"), Mapping):
            return False
        return bool(schema) and all(map(is_closable, _below(schema)))
    return True


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in which each member of each object is required, and no other allowed."""
    if not is_closable(schema):
        return dict(schema)
    return _closed(schema)  # type: ignore[no-any-return]  # a dict gives a dict


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = dict(schema)
    for name in ("items", "anyOf", "additionalProperties"):
        if name in result:
            result[name] = _closed(result[name])
    for name in ("properties", "$defs"):
        if name in result:
            result[name] = {key: _closed(value) for key, value in result[name].items()}
    if result.get("type") == "object":
        result["required"] = list(result["properties"])
        result["additionalProperties"] = False
    result.pop("default", None)  # which strict services refuse
    return result


def _below(schema: Mapping[str, Any]) -> list[Any]:
    """Return the schemas that stand directly in a schema."""
    found = [schema[name] for name in ("items",) if name in schema]
    found.extend(schema.get("anyOf", ()))
    for name in ("properties", "$defs"):
        found.extend(schema.get(name, {}).values())
    return found


# From JSON to a value


def build(hint: Any, value: Any, where: str = "it") -> Any:
    """Return a JSON value as a value of a type.

    Raises:
        ValueError: It is none of that type; the message names the place and what was expected.
    """
    hint, _ = _plain(hint)
    if hint is Any:
        return value
    if _is_pydantic(hint):
        return hint.model_validate(value)  # its ValidationError is a ValueError
    if isinstance(hint, type) and hint in SCALARS or hint is None:
        return _scalar(type(None) if hint is None else hint, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice([(member.value, member) for member in hint], value, where)
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is typing.Literal:
        return _choice([(item, item) for item in arguments], value, where)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(arguments, value, where)
    if origin in (list, tuple, Sequence):
        _expect(value, list, "a list", where)
        item = arguments[0] if arguments else Any
        built = [build(item, element, f"{where}[{n}]") for n, element in enumerate(value)]
        return tuple(built) if origin is tuple else built
    if origin in (dict, Mapping):
        _expect(value, dict, "an object", where)
        item = arguments[1] if arguments else Any
        return {key: build(item, element, f"{where}.{key}") for key, element in value.items()}
    return _built_object(hint, value, where)


def _built_object(kind: Any, value: Any, where: str) -> Any:
    members = _members(kind)
    if members is None:
        raise TypeError(f"{where}: {kind!r} has no JSON schema; a dataclass has one")
    _expect(value, dict, "an object", where)
    known = {member.name: member for member in members}
    missing = [member.name for member in members if member.required and member.name not in value]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")
    strange = [name for name in value if name not in known]
    if strange:
        raise ValueError(f"{where}: {', '.join(strange)} is unknown; known: {', '.join(known)}")
    return kind(
        **{name: build(known[name].hint, item, f"{where}.{name}") for name, item in value.items()}
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)  # JSON does not tell 3 from 3.0
    if type(value) is not kind:
        raise ValueError(f"{where} must be of type {SCALARS[kind]}, not {_called(value)}")
    return value


def _choice(choices: list[tuple[Any, Any]], value: Any, where: str) -> Any:
    for known, member in choices:
        if type(known) is type(value) and known == value:
            return member
    allowed = ", ".join(repr(known) for known, _ in choices)
    raise ValueError(f"{where} must be one of {allowed}, not {value!r}")


def _first_that_fits(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    problems = []
    for hint in hints:
        try:
            return build(hint, value, where)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; or ".join(problems))


def _expect(value: Any, kind: type, called: str, where: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{where} must be {called}, not {_called(value)}")


def _called(value: Any) -> str:
    return SCALARS.get(type(value)) or ("an object" if isinstance(value, dict) else "a list")
