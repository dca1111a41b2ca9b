"""What callers may give: messages and parameters, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import json
from typing import Any, TYPE_CHECKING

from chatsdk.errors import unknown
from chatsdk.messages import Message
from chatsdk.records import fields

if TYPE_CHECKING:
    from chatsdk.parts import Media, ToolCall

MOST = 2**63 - 1  # of any number: what is beyond, no service can mean
ROLES = ("system", "user", "assistant", "tool")


def messages_from(messages: Any) -> tuple[Message, ...]:
    """Return what a caller gave as messages: a str, a Message, a dict, or an iterable of those.

    Raises:
        TypeError: An item is none of these; the message says which.
        ValueError: The list is empty, a role is unknown, or a text is no Unicode text.
    """
    if isinstance(messages, (str, Message, Mapping)):
        return (_message(messages, "messages"),)
    if isinstance(messages, (bytes, bytearray)) or not isinstance(messages, Iterable):
        raise TypeError(
            "messages must be a str, a Message, a dict with role and content, or an iterable of"
            f" those, not {type(messages).__name__}"
        )
    found = tuple(
        [_usual(item) or _message(item, f"messages[{n}]") for n, item in enumerate(messages)]
    )
    if not found:
        raise ValueError("messages is empty; there is nothing to ask")
    return found


_KEYS = [attribute.name for attribute in fields(Message)]


def _usual(item: Any) -> Message | None:
    """Return a dict with a role and a text as a message, as most are: 2 us less for each."""
    if type(item) is dict and len(item) == 2:
        role, content = item.get("role"), item.get("content")
        if role in ROLES and type(content) is str and content.isascii():
            return Message(role, content)
    return None


def _message(given: Any, where: str) -> Message:
    item = given
    if isinstance(item, str):
        item = Message("user", item)
    elif type(item) is dict or isinstance(item, Mapping):
        item = _from_mapping(item, where)
    if not isinstance(item, Message):
        raise TypeError(
            f"{where} must be a str, a Message or a dict with role and content,"
            f" not {type(item).__name__}"
        )
    if item.role not in ROLES:
        raise ValueError(f"{where}: " + str(unknown(ValueError, "role", item.role, list(ROLES))))
    if isinstance(item.content, str):
        _check_member(item.content, where, "content")
    else:
        item = _with_parts(item, where)
    if item.name:
        _check_member(item.name, where, "name")
    if item.tool_call_id:
        _check_member(item.tool_call_id, where, "tool_call_id")
    return item


def _check_member(text: Any, where: str, name: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{where}: {name} must be a str, not {type(text).__name__}")
    if not text.isascii():  # known without a look at the text
        check_text(text, f"{where}: {name}")


def _with_parts(item: Message, where: str) -> Message:
    """Return a message whose parts are checked; one of texts alone is one text."""
    if not isinstance(item.content, (list, tuple)):
        kind = type(item.content).__name__
        raise TypeError(f"{where}: content must be a str, not {kind}; or a list of str and Media")
    parts = tuple(_part(part, f"{where}: content[{n}]") for n, part in enumerate(item.content))
    if not parts:
        raise ValueError(f"{where}: content is empty")
    texts = [part for part in parts if isinstance(part, str)]
    content: Any = "".join(texts) if len(texts) == len(parts) else parts
    return Message(
        item.role, content, item.name, item.tool_call_id, item.tool_calls, item.state
    )


def _part(given: Any, where: str) -> str | Media:
    from chatsdk.parts import Media

    part = _part_from_mapping(given, where) if isinstance(given, Mapping) else given
    if isinstance(part, Media):
        return part
    if not isinstance(part, str):
        raise TypeError(f"{where} must be a str or a Media, not {type(part).__name__}")
    check_text(part, where)
    return part


def _part_from_mapping(part: Mapping[str, Any], where: str) -> Any:
    """Return a part in OpenAI's shape as ours: text, or an image at a URL."""
    if part.get("type") == "text":
        return part.get("text")
    image = part.get("image_url") if part.get("type") == "image_url" else None
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str) or not url.lower().startswith(("http:", "https:", "data:")):
        raise TypeError(
            f"{where}: a part is a str, a Media, or a text or an image_url in OpenAI's shape"
        )
    from chatsdk.media import media_from

    return media_from(url)


def _from_mapping(item: Mapping[str, Any], where: str) -> Message:
    for key in item:
        if key not in _KEYS:
            raise TypeError(f"{where}: " + str(unknown(TypeError, "key", key, _KEYS)))
    if "role" not in item:
        raise TypeError(f"{where} has no role; a message is a dict with role and content")
    if "content" not in item and not item.get("tool_calls"):
        raise TypeError(f"{where} has no content; a message is a dict with role and content")
    calls = item.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise TypeError(f"{where}: tool_calls must be a list, not {type(calls).__name__}")
    calls = tuple([_tool_call(call, where) for call in calls])
    content = item.get("content")
    if content is None and calls:
        content = ""
    rest: Any = (content, item.get("name"), item.get("tool_call_id"), calls, item.get("state"))
    return Message(item["role"], *rest)


def _tool_call(call: Any, where: str) -> ToolCall:
    """Return a call of the history: a ToolCall, or a dict in OpenAI's shape."""
    from chatsdk.parts import tool_call, ToolCall

    if isinstance(call, ToolCall):
        return call
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TypeError(f"{where}: a tool call is a ToolCall or a dict in OpenAI's shape")
    arguments = function.get("arguments") or "{}"
    if not isinstance(arguments, str):
        raise TypeError(f"{where}: arguments must be JSON text, not {type(arguments).__name__}")
    return tool_call(call.get("id"), function["name"], arguments)


def check_text(text: str, where: str) -> None:
    """Refuse a text that has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has a lone surrogate at position {error.start}") from None


# What a caller may say in keywords, beside the messages.  None is never checked: not given.


def _number(name: str, value: Any, least: float, most: float, kind: type = float) -> Any:
    wanted = "an int" if kind is int else "a number"
    allowed = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")
    if not least <= value <= most:  # which no NaN is
        bounds = f"{least:g} to {most:g}" if most < MOST else f"{least:g} or more"
        raise ValueError(f"{name} must be {bounds}, not {value!r}")
    return value


def _temperature(value: Any) -> Any:
    return _number("temperature", value, 0, MOST)


def _max_tokens(value: Any) -> Any:
    return _number("max_tokens", value, 1, MOST, int)


def _top_p(value: Any) -> Any:
    return _number("top_p", value, 0, 1)


def _seed(value: Any) -> Any:
    return _number("seed", value, -(2**63), 2**64 - 1, int)


def _stop(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise TypeError("stop must be a str or a list of str")
    for text in texts:
        check_text(text, "stop")
    return tuple(texts)


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"tools must be a list, not {type(value).__name__}")
    return tuple(_tool(item, f"tools[{n}]") for n, item in enumerate(value))


def _tool(item: Any, where: str) -> Mapping[str, Any]:
    if callable(item):
        from chatsdk.tools import tool_schema

        return tool_schema(item)
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TypeError(f"{where} must be a function or a dict in OpenAI's shape: type, function")
    _json(where, item)
    return item  # type: ignore[no-any-return]  # a Mapping, as was just seen


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    check_text(value, name)
    return value


def _model(value: Any) -> str:
    if not _text("model", value).strip():
        raise ValueError("model is empty; leave it out for the usual one")
    return str(value)


def _reasoning_effort(value: Any) -> str:
    return _text("reasoning_effort", value)


def _json(name: str, value: Any) -> Any:
    """Refuse what has no JSON form before anything is sent."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except TypeError as error:
        raise TypeError(f"{name} has no JSON form: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} has no JSON form: {type(error).__name__}") from None
    return value


def _extra_body(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"extra_body must be a dict, not {type(value).__name__}")
    return _json("extra_body", dict(value))


def _tool_choice(value: Any) -> Any:
    return _json("tool_choice", value)


def _response_format(value: Any) -> Any:
    from chatsdk.schemas import response_format

    return _json("response_format", response_format(value))


PARAMETERS: dict[str, Callable[[Any], Any]] = {
    "model": _model,
    "temperature": _temperature,
    "max_tokens": _max_tokens,
    "top_p": _top_p,
    "stop": _stop,
    "seed": _seed,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "reasoning_effort": _reasoning_effort,
    "extra_body": _extra_body,
}


def option(name: str, value: Any, kind: type) -> Any:
    """Return the value of a parameter that only one provider knows, if it is of its kind."""
    if kind in (int, float):
        return _number(name, value, 0, MOST, kind)
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    if isinstance(value, str):
        if not (value.isprintable() and value.isascii()) or value != value.strip():
            raise ValueError(f"{name} must be printable ASCII without blanks around: a header")
    return value
