"""What Chat Completions accepts of a request.

Source: the official SDK's parameter types, and the messages that the service was seen to send.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import re
from typing import Any

from .openai_checks import (
    check_base64,
    check_image,
    check_name,
    check_schema,
    check_values,
    EFFORTS,
    missing,
    Problem,
    Ranges,
    reasons,
    unlisted,
    unsupported,
    untyped,
)

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_MOST_STOPS = 4
_RANGES: Ranges = {
    "temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0), "max_tokens": (1, None), "max_completion_tokens": (1, None),
    "n": (1, 1), "seed": (-2 ** 63, None), "top_logprobs": (0, 20)}
_KINDS: Mapping[str, type] = {
    "stream": bool, "stream_options": dict, "tools": list, "parallel_tool_calls": bool,
    "response_format": dict, "store": bool, "metadata": dict, "user": str, "logprobs": bool,
    "logit_bias": dict, "safety_identifier": str, "prompt_cache_key": str}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "reasoning_effort": EFFORTS, "verbosity": ("low", "medium", "high"),
    "service_tier": ("auto", "default", "flex", "scale", "priority", "fast"),
    "prompt_cache_retention": ("in_memory", "24h")}
_OTHERS = ("model", "messages", "stop", "tool_choice", "modalities", "audio", "prediction",
           "moderation", "prompt_cache_options", "web_search_options", "functions",
           "function_call")
_KNOWN = {*_RANGES, *_KINDS, *_WORDS, *_OTHERS}
_FORMATS = ("text", "json_object", "json_schema")


def check(body: dict[str, Any], model: str) -> None:
    """Check a request for an answer of a model.

    Raises:
        Problem: The first that is wrong.
    """
    if unknown := next((name for name in body if name not in _KNOWN), ""):
        raise Problem(f"Unrecognized request argument supplied: {unknown}")
    if "messages" not in body:
        raise missing("messages")
    check_messages(body["messages"])
    check_values(body, _RANGES, _KINDS)
    for name, allowed in _WORDS.items():
        if name in body and body[name] not in allowed:
            raise unlisted(name, body[name], allowed)
    if "stream_options" in body and not body.get("stream"):
        raise Problem("The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                      "stream_options")
    if "max_tokens" in body and "max_completion_tokens" in body:
        raise Problem("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not "
                      "supported.", "max_tokens", "invalid_parameter_combination")
    _check_stops(body.get("stop", []))
    _check_tools(body)
    _check_format(body)
    if reasons(model):
        _check_reasoner(body)
    elif "reasoning_effort" in body:
        raise Problem("Unrecognized request argument supplied: reasoning_effort")


def _check_reasoner(body: Mapping[str, Any]) -> None:
    if "max_tokens" in body:
        raise unsupported("max_tokens", "max_completion_tokens")
    for name in ("temperature", "top_p"):
        if body.get(name, 1) != 1:
            raise Problem(f"Unsupported value: '{name}' does not support {body[name]} with this "
                          "model. Only the default (1) value is supported.", name,
                          "unsupported_value")
    for name in ("stop", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs"):
        if name in body:
            raise unsupported(name)


def _check_stops(stops: object) -> None:
    if not isinstance(stops, (str, list)):
        raise untyped("stop", "one of a string or an array of strings", stops)
    if isinstance(stops, list) and len(stops) > _MOST_STOPS:
        raise Problem(f"Invalid 'stop': array too long. Expected an array with maximum length "
                      f"{_MOST_STOPS}, but got an array with length {len(stops)} instead.", "stop",
                      "array_above_max_length")


def check_messages(messages: object) -> None:
    """Check roles, parts, calls and results of the messages.

    Raises:
        Problem: The first that is wrong.
    """
    if not isinstance(messages, list):
        raise untyped("messages", "an array of objects", messages)
    if not messages:
        raise Problem("Invalid 'messages': empty array. Expected an array with minimum length 1, "
                      "but got an empty array instead.", "messages", "empty_array")
    waiting: list[str] = []
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict):
            raise untyped(param, "an object", message)
        if message.get("role") not in _ROLES:
            raise (unlisted(f"{param}.role", message["role"], _ROLES) if "role" in message
                   else missing(f"{param}.role"))
        waiting = _check_turn(message, param, waiting)
        _check_content(message, f"{param}.content")
    if waiting:
        raise _unanswered(waiting, f"messages[{len(messages) - 1}]")


def _check_turn(message: Mapping[str, Any], param: str, waiting: list[str]) -> list[str]:
    """Return the ids of calls that still have to be answered after a message."""
    if message["role"] == "tool":
        if message.get("tool_call_id") not in waiting:
            raise Problem("Invalid parameter: messages with role 'tool' must be a response to a "
                          "preceeding message with 'tool_calls'.", f"{param}.role")
        return [call for call in waiting if call != message["tool_call_id"]]
    if waiting:
        raise _unanswered(waiting, param)
    calls = message.get("tool_calls") or []
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or "id" not in call:
            raise missing(f"{param}.tool_calls[{index}].id")
        if not isinstance(function.get("arguments"), str):
            raise untyped(f"{param}.tool_calls[{index}].function.arguments", "a string",
                          function.get("arguments"))
    return [call["id"] for call in calls]


def _unanswered(waiting: list[str], param: str) -> Problem:
    return Problem("An assistant message with 'tool_calls' must be followed by tool messages "
                   "responding to each 'tool_call_id'. The following tool_call_ids did not have "
                   f"response messages: {', '.join(waiting)}", f"{param}.role")


def _check_content(message: Mapping[str, Any], param: str) -> None:
    content = message.get("content")
    if content is None and (message.get("tool_calls") or message.get("refusal")):
        return
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise untyped(param, "one of a string or array of objects", content)
    for index, part in enumerate(content):
        here = f"{param}[{index}]"
        if not isinstance(part, dict):
            raise untyped(here, "an object", part)
        check = _PARTS.get(str(part.get("type")))
        if check is None:
            raise unlisted(f"{here}.type", part.get("type"), tuple(_PARTS))
        if part["type"] not in part:
            raise missing(f"{here}.{part['type']}")
        check(f"{here}.{part['type']}", part[part["type"]])


def _text_part(param: str, value: object) -> None:
    if not isinstance(value, str):
        raise untyped(param, "a string", value)


def _image_part(param: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise untyped(param, "an object", value)
    check_image(f"{param}.url", value.get("url"))


def _audio_part(param: str, value: Any) -> None:
    if value.get("format") not in ("wav", "mp3"):
        raise unlisted(f"{param}.format", value.get("format"), ("wav", "mp3"))
    check_base64(f"{param}.data", value.get("data"))


def _file_part(param: str, value: Any) -> None:
    if "file_id" in value:
        return
    found = re.match("data:application/pdf;base64,(.+)", value.get("file_data") or "", re.S)
    if not found or "filename" not in value:
        raise Problem(f"Missing required parameter: '{param}.file_id'.", f"{param}.file_id",
                      "missing_required_parameter")
    check_base64(f"{param}.file_data", found[1])


_PARTS: Mapping[Any, Any] = {"text": _text_part, "image_url": _image_part,
                             "input_audio": _audio_part, "file": _file_part,
                             "refusal": _text_part}


def _check_tools(body: Mapping[str, Any]) -> None:
    if "tools" in body and not body["tools"]:
        raise Problem("Invalid 'tools': empty array. Expected an array with minimum length 1, but "
                      "got an empty array instead.", "tools", "empty_array")
    names = []
    for index, tool in enumerate(body.get("tools") or ()):
        param = f"tools[{index}]"
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise unlisted(f"{param}.type", (tool or {}).get("type"), ("function", "custom"))
        function = tool.get("function")
        if not isinstance(function, dict):
            raise missing(f"{param}.function")
        check_name(f"{param}.function.name", function.get("name"))
        names.append(function["name"])
        if "parameters" in function:
            check_schema("function", function["name"], function["parameters"],
                         strict=bool(function.get("strict")), param=f"{param}.function.parameters")
    choice = body.get("tool_choice")
    if choice is None:
        if "parallel_tool_calls" in body and not names:
            raise Problem("'parallel_tool_calls' is only allowed when 'tools' are specified.",
                          "parallel_tool_calls")
        return
    if not names:
        raise Problem("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if wanted not in names:
            raise Problem(f"Tool choice '{wanted}' not found in 'tools' parameter.", "tool_choice")
    elif choice not in ("none", "auto", "required"):
        raise unlisted("tool_choice", choice, ("none", "auto", "required"))


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = body.get("response_format")
    if wanted is None:
        return
    if wanted.get("type") not in _FORMATS:
        raise unlisted("response_format.type", wanted.get("type"), _FORMATS)
    if wanted["type"] == "json_object":
        if "json" not in json.dumps(body["messages"]).lower():
            raise Problem("'messages' must contain the word 'json' in some form, to use "
                          "'response_format' of type 'json_object'.", "messages")
    if wanted["type"] == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict):
            raise missing("response_format.json_schema")
        check_name("response_format.json_schema.name", described.get("name"))
        check_schema("response_format", described["name"], described.get("schema"),
                     strict=bool(described.get("strict")), param="response_format")
