"""What Ollama accepts in a request, in the order and the words of its server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
import json
import re
from typing import Any

from .ollama_models import find, Pulled
from .service import Document, Recorded, Refused
from .voice import compact

JSON = "application/json; charset=utf-8"
UNKNOWN = "model '{}' not found"
NOT_PULLED = 'model "{}" not found, try pulling it first'
_LEVELS = ("low", "medium", "high", "max")
_DURATION = re.compile(r"[+-]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+|0")
_LISTS = {"messages": "[]api.Message", "tools": "api.Tools"}
_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array",
          dict: "object"}
#: Options with the types that are taken and the words another is refused with.
_OPTIONS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("num_predict", "num_ctx", "num_keep", "seed", "top_k", "repeat_last_n",
                     "num_batch", "num_gpu", "main_gpu", "num_thread"),
                    ((int, float), "of type integer")),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty",
                     "presence_penalty", "frequency_penalty"), ((int, float), "of type float32")),
    "stop": (list, "of type array"), "use_mmap": (bool, "of type boolean")}


def written(value: object) -> bytes:
    """Return compact JSON as Go writes it: some characters of texts are escaped."""
    data = compact(value)
    for char in b"<>&":
        data = data.replace(bytes([char]), b"\\u00%02x" % char)
    return data


def no(status: int, message: str) -> Refused:
    """Return a refusal to raise."""
    return Refused(Document(status, written({"error": message}), JSON))


def members(request: Recorded) -> dict[str, Any]:
    """Return the body, a JSON object."""
    if not request.body.strip():
        raise no(400, "missing request body")
    if not isinstance(request.json, dict):
        raise no(400, "invalid character in request body")
    return request.members


def entries(body: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list of the body, empty if there is none."""
    found = body.get(name)
    if found is not None and not isinstance(found, list):
        raise no(400, _unread(name, _LISTS[name], found))
    return found or []


def model(name: object, missing: str = UNKNOWN) -> Pulled:
    """Return the model of a name that was pulled."""
    if not name or not isinstance(name, str):
        raise no(400, "model is required")
    found = find(name)
    if found is None:
        raise no(404, missing.format(name))
    return found


def texts(value: object) -> list[str]:
    """Return what is to be embedded."""
    found = [value] if isinstance(value, str) and value else value or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise no(400, "invalid input type")
    return found


def message(value: object) -> None:
    """Check the types in a message."""
    if not isinstance(value, dict):
        raise no(400, _unread("messages", "api.Message", value))
    for name in ("role", "content", "thinking", "tool_name"):
        if not isinstance(value.get(name) or "", str):
            raise no(400, _unread(f"messages.{name}", "string", value[name]))
    for image in value.get("images") or ():
        try:
            base64.b64decode(str(image), validate=True)
        except binascii.Error:
            raise no(400, "illegal base64 data at input byte 0") from None
    for call in value.get("tool_calls") or ():
        given = (call.get("function") or {}).get("arguments", {})
        if not isinstance(given, dict):
            raise no(400, _unread("messages.tool_calls.function.arguments",
                                  "api.ToolCallFunctionArguments", given))


def keep_alive(value: object) -> None:
    """Check how long a model is to stay loaded: seconds, or a text such as ``5m``."""
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        raise no(400, f'time: invalid duration "{value}"')


def functions(tools: list[Any]) -> list[dict[str, Any]]:
    """Return the functions that are offered."""
    for tool in tools:
        inner = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise no(400, _unread("tools", "api.Tool", tool))
    return [tool["function"] for tool in tools]


def thinks(body: Mapping[str, Any], pulled: Pulled) -> bool:
    """Return whether the model thinks before it speaks: if it can, unless told not to."""
    wish = body.get("think")
    if isinstance(wish, str) and wish not in _LEVELS:
        raise no(400, f'invalid think value: "{wish}" (must be "high", "medium", "low", "max", '
                      "true, or false)")
    if wish and "thinking" not in pulled.capabilities:
        raise no(400, f'"{body["model"]}" does not support thinking')
    return "thinking" in pulled.capabilities and wish is not False


def abilities(body: Mapping[str, Any], pulled: Pulled) -> None:
    """Check that the model can do what is asked."""
    if "completion" not in pulled.capabilities:
        raise no(400, f'"{body["model"]}" does not support chat')
    if body.get("tools") and "tools" not in pulled.capabilities:
        raise no(400, f"{pulled.full} does not support tools")
    if "vision" not in pulled.capabilities and any(m.get("images") for m in body["messages"]):
        raise no(500, "this model is missing data required for image input")


def options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without nulls; unknown ones are passed over."""
    given = body.get("options") or {}
    if not isinstance(given, dict):
        raise no(400, _unread("options", "map[string]interface {}", given))
    for name, value in given.items():
        kinds, wanted = _OPTIONS.get(name, (object, ""))
        misfit = isinstance(value, bool) and kinds not in (bool, object)
        if value is not None and (misfit or not isinstance(value, kinds)):
            raise no(500, f'option "{name}" must be {wanted}')
    return {name: value for name, value in given.items() if value is not None}


def schema(wish: object) -> object:
    """Return the JSON Schema of the answer, None for free text."""
    if not wish:
        return None
    if wish == "json":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if not isinstance(wish, dict):
        raise no(500, f'invalid format: {json.dumps(json.dumps(wish))}; expected "json" or a '
                      "valid JSON Schema object")
    return wish


def _unread(name: str, kind: str, value: object) -> str:
    found = _KINDS.get(type(value), "null")
    return f"json: cannot unmarshal {found} into Go struct field ChatRequest.{name} of type {kind}"
