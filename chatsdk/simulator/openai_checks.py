"""What OpenAI's API accepts: the checks that both of its chat protocols share.

Source: the official SDK's parameter types, and the messages that the service was seen to send.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import json
import re
from typing import Any

from .brain import arguments
from .service import Messages

#: Models that chat, of those the official SDK names; all but the `gpt-4` ones reason.
CHATS = ("gpt-6.2-sol", "gpt-6-luna", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.5", "gpt-5.4",
         "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.2", "gpt-5.1", "gpt-5", "gpt-5-mini", "gpt-5-nano",
         "gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "o4-mini", "o3",
         "o3-mini", "o1")
#: Models that embed, with the lengths of their vectors.
EMBEDDERS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072,
             "text-embedding-ada-002": 1536}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NAME = r"^[a-zA-Z0-9_-]+$"
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"), (str, "a string"), (int, "an integer"), (float, "a decimal"),
    (list, "an array"), (dict, "an object"), (type(None), "null"))


@dataclass(frozen=True)
class Problem(Exception):
    """Why a request is refused, in the service's words.

    Attributes:
        message: One sentence.
        param: The parameter at fault, None if there is none.
        code: The service's code, None if it gives none.
        status: The HTTP status.
    """

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400


def missing(param: str) -> Problem:
    """Return the problem of a parameter that has to be there."""
    return Problem(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def untyped(param: str, expected: str, value: object) -> Problem:
    """Return the problem of a value of another type."""
    found = next((name for kind, name in _KINDS if isinstance(value, kind)), "something else")
    return Problem(f"Invalid type for '{param}': expected {expected}, but got {found} instead.",
                   param, "invalid_type")


def unlisted(param: str, value: object, values: Sequence[str]) -> Problem:
    """Return the problem of a value that is none of those there are."""
    quoted = [f"'{known}'" for known in values]
    listed = f"{', '.join(quoted[:-1])}, and {quoted[-1]}" if len(quoted) > 1 else quoted[0]
    return Problem(f"Invalid value: '{value}'. Supported values are: {listed}.", param,
                   "invalid_value")


def unsupported(param: str, instead: str = "") -> Problem:
    """Return the problem of a parameter that this model does not take."""
    hint = f" Use '{instead}' instead." if instead else ""
    return Problem(f"Unsupported parameter: '{param}' is not supported with this model.{hint}",
                   param, "unsupported_parameter")


def reasons(model: str) -> bool:
    """Tell whether a model thinks before it speaks, and minds some parameters therefore."""
    return not model.startswith("gpt-4") and "-chat" not in model


def parsed(content: bytes) -> dict[str, Any]:
    """Return the members of a body.

    Raises:
        Problem: It is no JSON object.
    """
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Problem("We could not parse the JSON body of your request. The OpenAI API expects a "
                      "JSON payload, but what was sent was not valid JSON.")
    return {name: value for name, value in found.items() if value is not None}


def known_model(body: Mapping[str, Any], models: Iterable[str]) -> str:
    """Return the model of a request; a date at the end of its name means the same model.

    Raises:
        Problem: There is none, or no such model.
    """
    model = body.get("model")
    if not model:
        raise Problem("you must provide a model parameter")
    if not isinstance(model, str):
        raise untyped("model", "a string", model)
    if re.sub(r"-\d{4}-\d\d-\d\d$", "", model) not in models:
        raise Problem(f"The model `{model}` does not exist or you do not have access to it.", None,
                      "model_not_found", 404)
    return model


#: Name to lowest and highest number; integers where both are.
Ranges = Mapping[str, "tuple[float | None, float | None]"]


def check_values(body: Mapping[str, Any], ranges: Ranges, kinds: Mapping[str, type]) -> None:
    """Check numbers against their ranges and other values against their types.

    Raises:
        Problem: The first that is wrong.
    """
    for name, (low, high) in ranges.items():
        if name in body:
            _check_number(name, body[name], low, high)
    for name, kind in kinds.items():
        if name in body and not isinstance(body[name], kind):
            raise untyped(name, dict(_KINDS)[kind], body[name])


def _check_number(name: str, value: object, low: float | None, high: float | None) -> None:
    whole = isinstance(low, int) and not isinstance(high, float)
    word, article = ("integer", "an") if whole else ("decimal", "a")
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise untyped(name, f"{article} {word}", value)
    number: Any = value
    for bound, side, sign, wrong in ((low, "below minimum", ">=", low is not None and number < low),
                                     (high, "above maximum", "<=",
                                      high is not None and number > high)):
        if wrong:
            code = f"{word}_{side.split()[0]}_{side.split()[1][:3]}_value"
            raise Problem(f"Invalid '{name}': {word} {side} value. Expected a value {sign} "
                          f"{bound:g}, but got {value} instead.", name, code)


def check_name(param: str, name: object) -> None:
    """Check the name of a function or a schema.

    Raises:
        Problem: It is missing or has letters that names can't have.
    """
    if name is None:
        raise missing(param)
    if not isinstance(name, str):
        raise untyped(param, "a string", name)
    if not re.match(_NAME, name) or len(name) > 64:
        raise Problem(f"Invalid '{param}': string does not match pattern. Expected a string that "
                      f"matches the pattern '{_NAME}'.", param, "invalid_value")


def check_schema(kind: str, name: str, schema: object, *, strict: bool, param: str) -> None:
    """Check a JSON Schema: an object at its root, and what strict ones must say.

    Raises:
        Problem: The service would not take it.
    """
    start = f"Invalid schema for {kind} '{name}': "
    if not isinstance(schema, dict) or schema.get("type") != "object":
        found = schema.get("type") if isinstance(schema, dict) else None
        raise Problem(f"{start}schema must be a JSON Schema of 'type: \"object\"', got "
                      f"'type: \"{found}\"'.", param, "invalid_function_parameters"
                      if kind == "function" else None)
    if strict:
        _check_strict(start, schema, (), param)


def _check_strict(start: str, schema: object, context: tuple[str, ...], param: str) -> None:
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            _check_strict(start, inner, (*context, str(index)), param)
    if not isinstance(schema, dict):
        return
    if isinstance(properties := schema.get("properties"), dict) or schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise Problem(f"{start}In context={context}, 'additionalProperties' is required to be "
                          "supplied and to be false.", param)
        lacking = [name for name in properties or () if name not in schema.get("required", ())]
        if lacking:
            raise Problem(f"{start}In context={context}, 'required' is required to be supplied and "
                          "to be an array including every key in properties. Missing "
                          f"'{lacking[0]}'.", param)
    for word in ("properties", "$defs"):
        inner = schema.get(word)
        for name, each in (inner.items() if isinstance(inner, dict) else ()):
            _check_strict(start, each, (*context, word, name), param)
    for word in ("items", "anyOf"):
        _check_strict(start, schema.get(word), (*context, word), param)


def check_image(param: str, url: object) -> None:
    """Check an image's address: on the web, or in base64.

    Raises:
        Problem: It is neither.
    """
    if not isinstance(url, str):
        raise untyped(param, "a string", url)
    found = re.match(r"data:image/(png|jpeg|jpg|gif|webp);base64,(.+)", url, re.S)
    if not found and not re.match("https?://", url):
        raise Problem(f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid "
                      "format.", param, "invalid_value")
    if found:
        check_base64(param, found[2])


def check_base64(param: str, data: object) -> None:
    """Check bytes written in base64.

    Raises:
        Problem: They are not.
    """
    try:
        base64.b64decode(data if isinstance(data, str) else "!", validate=True)
    except binascii.Error:
        raise Problem(f"Invalid '{param}'. Expected a base64-encoded value, but got a value that "
                      "is not.", param, "invalid_base64") from None


Call = tuple[str, "dict[str, Any]"]


def offered(functions: Mapping[str, Any], choice: object, named: object,
            messages: Messages) -> tuple[list[Call], bool]:
    """Return the calls that the brain would make, and whether the client insists on one.

    It calls once: when the last message is a function's result, it speaks again.

    Args:
        functions: Name to JSON Schema of the parameters.
        choice: ``"none"``, ``"auto"``, ``"required"``, or anything else.
        named: The one function that may be called, None for any.
        messages: What was said.
    """
    forced = choice == "required" or named is not None
    answered = bool(messages) and messages[-1]["role"] == "tool"
    if choice == "none" or (answered and not forced):
        return [], False
    names = [name for name in functions if named in (None, name)]
    return [(name, arguments(functions[name], messages)) for name in names], forced
