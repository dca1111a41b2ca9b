"""What Anthropic's Messages API accepts, and what it says to the rest.

Sources as in `chatsdk.simulator.anthropic`; messages are the service's own where they are public.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
import hashlib
import re
from typing import Any, NoReturn

from .service import Messages

VERSIONS = ("2023-06-01", "2026-10-21")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_SAMPLING = ("temperature", "top_p", "top_k")  # removed in the version of 2026-10-21
_KNOWN = frozenset((
    "model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream", "tools",
    "tool_choice", "thinking", "output_config", "service_tier", "container", "cache_control",
    "context_management", "diagnostics", "inference_geo", "mcp_servers", "speed", *_SAMPLING))
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_NAME = re.compile("[a-zA-Z0-9_-]{1,128}")
_ID = re.compile("[a-zA-Z0-9_-]+")
_THOUGHTS = ("thinking", "redacted_thinking")


@dataclass(frozen=True)
class _Model:
    """A language model.

    Attributes:
        id: Its name.
        title: Its name for people.
        longest: The most tokens of an answer.
        window: The most tokens of a prompt.
        adaptive: It decides itself how much to think, if asked to.
        manual: It takes a budget for its thoughts; these also take a temperature and a prefill.
        efforts: Levels of effort that it knows.
        aliases: Other names.
    """

    id: str
    title: str
    longest: int
    window: int
    adaptive: bool
    manual: bool
    efforts: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    def entry(self) -> dict[str, Any]:
        """Return what the list of models says of it."""
        def told(value: bool) -> dict[str, bool]:
            return {"supported": value}
        kinds = {"adaptive": told(self.adaptive), "between_tools": told(False),
                 "disabled": told(True), "enabled": told(self.manual)}
        effort = {"supported": bool(self.efforts),
                  **{level: told(level in self.efforts) for level in _EFFORTS}}
        return {"type": "model", "id": self.id, "display_name": self.title,
                "created_at": "2025-10-01T00:00:00Z", "lifecycle": "active",
                "max_input_tokens": self.window, "max_tokens": self.longest,
                "capabilities": {
                    **{name: told(True) for name in ("batch", "citations", "image_input",
                                                     "pdf_input", "structured_outputs")},
                    **{name: told(False) for name in ("code_execution", "context_management")},
                    "effort": effort, "thinking": {"supported": True, "types": kinds},
                    "server_tools": {"supported": False, "code_execution": told(False),
                                     "web_search": told(False)}}}


MODELS = (
    _Model("claude-opus-5-5", "Claude Opus 5.5", 128_000, 1_000_000, True, False, _EFFORTS),
    _Model("claude-sonnet-5-5", "Claude Sonnet 5.5", 128_000, 1_000_000, True, False, _EFFORTS),
    _Model("claude-haiku-5-5", "Claude Haiku 5.5", 64_000, 200_000, True, False, _EFFORTS),
    _Model("claude-opus-4-6", "Claude Opus 4.6", 128_000, 1_000_000, True, True,
           ("low", "medium", "high", "max")),
    _Model("claude-sonnet-4-6", "Claude Sonnet 4.6", 64_000, 1_000_000, True, True,
           ("low", "medium", "high", "max")),
    _Model("claude-opus-4-5", "Claude Opus 4.5", 64_000, 200_000, False, True,
           ("low", "medium", "high"), ("claude-opus-4-5-20251101",)),
    _Model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", 64_000, 200_000, False, True, (),
           ("claude-haiku-4-5",)),
    _Model("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", 64_000, 200_000, False, True, (),
           ("claude-sonnet-4-5",)),
)


def named(name: object) -> _Model | None:
    """Return the model of a name or an alias."""
    return next((model for model in MODELS if name == model.id or name in model.aliases), None)


def sign(thinking: str) -> str:
    """Return the signature of a block of thinking."""
    digest = hashlib.blake2b(thinking.encode(), key=b"simulated").digest()
    return base64.b64encode(b"\x12" + digest).decode()


class Problem(Exception):
    """A request is refused with these words."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def check(body: object, version: str, thought: Collection[str], *, counting: bool) -> _Model:
    """Check the body of a request.

    Args:
        body: As decoded.
        version: The API's version that the client speaks.
        thought: Ids of the calls that came with thoughts.
        counting: Tokens are to be counted only.

    Raises:
        Problem: Says what the service does not accept.
    """
    if not isinstance(body, dict):
        raise Problem("The request body is not valid JSON: expected an object")
    for name in ("model", "messages", *(() if counting else ("max_tokens",))):
        if name not in body:
            raise Problem(f"{name}: Field required")
    removed = _SAMPLING if version != VERSIONS[0] else ()
    for name in body:
        if name not in _KNOWN or name in removed:
            raise Problem(f"{name}: Extra inputs are not permitted")
    if not isinstance(body["model"], str):
        raise Problem("model: Input should be a valid string")
    model = named(body["model"])
    if model is None:
        raise Problem(f"model: {body['model']}", 404)
    _check_values(body)
    _check_tools(body)
    _check_thinking(body, model, counting=counting)
    _check_format(body, model)
    _check_messages(body, model, thought)
    if not counting and body["max_tokens"] > model.longest:
        raise Problem(f"max_tokens: {body['max_tokens']} > {model.longest}, which is the maximum "
                      f"allowed number of output tokens for {body['model']}")
    return model


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


_VALUES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("max_tokens", _count, "Input should be a valid integer"),
    ("max_tokens", lambda v: bool(v >= 1), "Input should be greater than or equal to 1"),
    ("temperature", _number, "Input should be a valid number"),
    ("temperature", lambda v: bool(0 <= v <= 1), "range: 0..1"),
    ("top_p", _number, "Input should be a valid number"),
    ("top_p", lambda v: bool(0 <= v <= 1), "range: 0..1"),
    ("top_k", _count, "Input should be a valid integer"),
    ("stream", lambda v: isinstance(v, bool), "Input should be a valid boolean"),
    ("stop_sequences", _texts, "Input should be a valid list of strings"),
    ("stop_sequences", lambda v: all(text.strip() for text in v),
     "each stop sequence must contain non-whitespace"),
    ("system", lambda v: isinstance(v, str) or bool(_all_texts(v)),
     "Input should be a valid string or a list of text blocks"),
    ("metadata", lambda v: isinstance(v, dict), "Input should be a valid dictionary"),
)


def _check_values(body: Mapping[str, Any]) -> None:
    for name, allowed, message in _VALUES:
        if body.get(name) is not None and not allowed(body[name]):
            raise Problem(f"{name}: {message}")
    if body.get("max_tokens", 1) is None:
        raise Problem("max_tokens: Input should be a valid integer")


def _all_texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(block, dict) and block.get("type") == "text"
        and isinstance(block.get("text"), str) for block in value)


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise Problem("tools: Input should be a valid list")
    for index, tool in enumerate(tools):
        at = f"tools.{index}.custom"
        if not isinstance(tool, dict):
            raise Problem(f"{at}: Input should be a valid dictionary")
        if tool.get("type", "custom") not in (None, "custom"):
            continue  # a tool of the service's own
        if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
            raise Problem(f"{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        schema = tool.get("input_schema")
        if not isinstance(schema, dict):
            raise Problem(f"{at}.input_schema: Field required")
        if schema.get("type") != "object":
            raise Problem(f"{at}.input_schema.type: Input should be 'object'")
    names = [tool.get("name") for tool in tools]
    if len(set(names)) < len(names):
        raise Problem("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    kinds = ("auto", "any", "tool", "none")
    if not isinstance(choice, dict) or choice.get("type") not in kinds:
        raise Problem(f"tool_choice: Input tag found using 'type' does not match any of the "
                      f"expected tags: {', '.join(map(repr, kinds))}")
    if not tools and choice["type"] != "none":
        raise Problem("tool_choice may only be specified while providing tools.")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise Problem(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_thinking(body: Mapping[str, Any], model: _Model, *, counting: bool) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        thinking = {"type": "disabled"}
    if not isinstance(thinking, dict) or thinking.get("type") not in (
            "enabled", "disabled", "adaptive", "between_tools"):
        raise Problem("thinking: Input tag found using 'type' does not match any of the expected "
                      "tags: 'adaptive', 'between_tools', 'disabled', 'enabled'")
    kind = thinking["type"]
    if kind == "enabled" and not model.manual:
        raise Problem('"thinking.type.enabled" is not supported for this model. Use '
                      '"thinking.type.adaptive" and "output_config.effort" to control thinking '
                      "behavior.")
    if kind == "between_tools" or (kind == "adaptive" and not model.adaptive):
        raise Problem(f"{kind} thinking is not supported on this model")
    if kind == "enabled":
        budget: Any = thinking.get("budget_tokens")
        if not _count(budget):
            raise Problem("thinking.enabled.budget_tokens: Field required")
        if budget < 1024:
            raise Problem("thinking.enabled.budget_tokens: Input should be greater than or equal "
                          "to 1024")
        if not counting and budget >= body["max_tokens"]:
            raise Problem("`max_tokens` must be greater than `thinking.budget_tokens`.")
    elif "budget_tokens" in thinking:
        raise Problem(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if thinking.get("display") not in (None, "summarized", "omitted"):
        raise Problem(f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'")
    _check_sampling(body, model, thinks=kind in ("enabled", "adaptive"))


def _check_sampling(body: Mapping[str, Any], model: _Model, *, thinks: bool) -> None:
    temperature = body.get("temperature")
    if thinks and temperature not in (None, 1):
        raise Problem("`temperature` may only be set to 1 when thinking is enabled.")
    if not model.manual and (temperature not in (None, 1) or body.get("top_k") is not None):
        raise Problem("`temperature` and `top_k` are not supported for this model.")
    if temperature is not None and body.get("top_p") is not None:
        raise Problem("`temperature` and `top_p` cannot both be specified for this model. Please "
                      "use only one.")
    if thinks and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise Problem("Thinking may not be enabled when tool_choice forces tool use.")


def _check_format(body: Mapping[str, Any], model: _Model) -> None:
    config = body.get("output_config")
    if config is None:
        return
    if not isinstance(config, dict) or not config.keys() <= {"effort", "format"}:
        raise Problem("output_config: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is not None and not model.efforts:
        raise Problem("This model does not support the effort parameter.")
    if effort is not None and effort not in model.efforts:
        raise Problem("output_config.effort: Input should be "
                      + ", ".join(map(repr, model.efforts)))
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise Problem("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(form.get("schema"), dict):
        raise Problem("output_config.format.schema: Field required")
    if not form.keys() <= {"type", "schema"}:
        raise Problem("output_config.format: Extra inputs are not permitted")
    _check_schema(form["schema"])


def _check_schema(schema: object) -> None:
    if isinstance(schema, list):
        for item in schema:
            _check_schema(item)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Problem("output_config.format.schema: For 'object' type, 'additionalProperties' must "
                      "be explicitly set to false")
    for name, inner in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(inner, dict):
            for value in inner.values():
                _check_schema(value)
        elif name not in ("enum", "const", "default", "examples"):
            _check_schema(inner)


# Messages

def _check_messages(body: Mapping[str, Any], model: _Model, thought: Collection[str]) -> None:
    messages = body["messages"]
    if not isinstance(messages, list):
        raise Problem("messages: Input should be a valid list")
    if not messages:
        raise Problem("messages: at least one message is required")
    for index, message in enumerate(messages):
        _check_message(f"messages.{index}", message, model, first=index == 0,
                       last=index == len(messages) - 1)
    turns = _turns(messages)
    if turns[0][0] != "user":
        raise Problem('messages: first message must use the "user" role')
    if turns[-1][0] == "assistant":
        if not model.manual:
            raise Problem("This model does not support assistant message prefill. The conversation "
                          "must end with a user message.")
        if str(turns[-1][1][-1].get("text", "")).rstrip() != turns[-1][1][-1].get("text", ""):
            raise Problem("messages: final assistant content cannot end with trailing whitespace")
    _check_calls(turns)
    kind = (body.get("thinking") or {}).get("type")
    if kind in ("enabled", "adaptive"):
        _check_thoughts(turns, thought, demanded=kind == "enabled")


def _turns(messages: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the turns: messages of one role in a row are one, system messages none."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if role == "system":
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, list(blocks)))
    return turns


def _check_message(at: str, message: object, model: _Model, *, first: bool, last: bool) -> None:
    if not isinstance(message, dict):
        raise Problem(f"{at}: Input should be a valid dictionary")
    for name in ("role", "content"):
        if name not in message:
            raise Problem(f"{at}.{name}: Field required")
    if extra := message.keys() - {"role", "content"}:
        raise Problem(f"{at}.{min(extra)}: Extra inputs are not permitted")
    role, content = message["role"], message["content"]
    if role == "system" and (model.manual or first):
        raise Problem('messages: Unexpected role "system". The Messages API accepts a top-level '
                      '`system` parameter, not "system" as an input message role.')
    if role not in ("user", "assistant", "system"):
        raise Problem(f"{at}.role: Input should be 'user', 'assistant' or 'system'")
    if not isinstance(content, (str, list)):
        raise Problem(f"{at}.content: Input should be a valid string or a list of blocks")
    if not content and not (role == "assistant" and last):
        raise Problem(f"{at}: all messages must have non-empty content except for the optional "
                      "final assistant message")
    if isinstance(content, list):
        for index, block in enumerate(content):
            _check_block(f"{at}.content.{index}", block, role)


def _check_block(at: str, block: object, role: str) -> None:
    if not isinstance(block, dict):
        raise Problem(f"{at}: Input should be a valid dictionary")
    kind = block.get("type")
    checks = _BLOCKS.get(str(kind))
    if checks is None:
        raise Problem(f"{at}: Input tag '{kind}' found using 'type' does not match any of the "
                      f"expected tags: {', '.join(map(repr, _BLOCKS))}")
    roles, checked = checks
    if role not in roles:
        raise Problem(f"{at}: `{kind}` blocks can only be in `{roles[0]}` messages")
    checked(at, block)


def _wrong(at: str, what: str, should: str) -> NoReturn:
    raise Problem(f"{at}.{what}: Input should be {should}")


def _check_text(at: str, block: Mapping[str, Any]) -> None:
    if not isinstance(block.get("text"), str):
        _wrong(at, "text.text", "a valid string")
    if not block["text"]:
        raise Problem("messages: text content blocks must be non-empty")


def _check_source(kinds: Mapping[str, tuple[str, ...]]) -> Callable[[str, Mapping[str, Any]], None]:
    def checked(at: str, block: Mapping[str, Any]) -> None:
        at, source = f"{at}.{block['type']}.source", block.get("source")
        if not isinstance(source, dict) or source.get("type") not in kinds:
            _wrong(at, "type", " or ".join(map(repr, kinds)))
        if source["type"] in ("url", "file"):
            name = "url" if source["type"] == "url" else "file_id"
            if not isinstance(source.get(name), str):
                _wrong(at, name, "a valid string")
            return
        if source.get("media_type") not in kinds[source["type"]]:
            _wrong(f"{at}.{source['type']}", "media_type",
                   " or ".join(map(repr, kinds[source["type"]])))
        try:
            if source["type"] == "base64":
                base64.b64decode(source.get("data"), validate=True)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise Problem(f"{at}.base64.data: Input should be valid base64") from None
    return checked


def _check_use(at: str, block: Mapping[str, Any]) -> None:
    at = f"{at}.tool_use"
    if not isinstance(block.get("id"), str) or not _ID.fullmatch(block["id"]):
        raise Problem(f"{at}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(block.get("name"), str) or not _NAME.fullmatch(block["name"]):
        raise Problem(f"{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block.get("input"), dict):
        _wrong(at, "input", "a valid dictionary")


def _check_result(at: str, block: Mapping[str, Any]) -> None:
    content = block.get("content")
    if not isinstance(block.get("tool_use_id"), str):
        raise Problem(f"{at}.tool_result.tool_use_id: Field required")
    if isinstance(content, list):
        for index, inner in enumerate(content):
            _check_block(f"{at}.tool_result.content.{index}", inner, "user")
    elif content is not None and not isinstance(content, str):
        _wrong(at, "tool_result.content", "a valid string or a list of blocks")


def _check_thought(at: str, block: Mapping[str, Any]) -> None:
    if block["type"] == "redacted_thinking":
        if block.get("data") != sign("redacted"):
            raise Problem(f"{at}: Invalid `data` in `redacted_thinking` block")
        return
    thinking = block.get("thinking")
    if not isinstance(thinking, str) or block.get("signature") != sign(thinking):
        raise Problem(f"{at}: Invalid `signature` in `thinking` block")


_DOCUMENTS = {"base64": ("application/pdf",), "text": ("text/plain",), "url": (), "file": ()}
_BLOCKS: Mapping[str, tuple[tuple[str, ...], Callable[[str, Mapping[str, Any]], None]]] = {
    "text": (("user", "assistant", "system"), _check_text),
    "image": (("user",), _check_source({"base64": _IMAGES, "url": (), "file": ()})),
    "document": (("user",), _check_source(_DOCUMENTS)),
    "tool_use": (("assistant",), _check_use),
    "tool_result": (("user",), _check_result),
    "thinking": (("assistant",), _check_thought),
    "redacted_thinking": (("assistant",), _check_thought),
}


def _check_calls(turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """Check that each call has its result at the head of the next turn, and no other has one."""
    asked: list[str] = []
    for index, (_, blocks) in enumerate(turns):
        head = []
        for block in blocks:
            if block["type"] != "tool_result":
                break
            head.append(block["tool_use_id"])
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if missing := [id for id in asked if id not in head]:
            raise Problem(f"messages.{index - 1}: `tool_use` ids were found without `tool_result` "
                          f"blocks immediately after: {', '.join(missing)}. Each `tool_use` block "
                          "must have a corresponding `tool_result` block in the next message.")
        if unknown := [id for id in results if id not in asked]:
            raise Problem(f"messages.{index}.content.0: unexpected `tool_use_id` found in "
                          f"`tool_result` blocks: {unknown[0]}. Each `tool_result` block must have "
                          "a corresponding `tool_use` block in the previous message.")
        if len(set(results)) < len(results):
            raise Problem(f"messages.{index}: each tool_use must have a single result.")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked):
            raise Problem(f"messages.{index}: `tool_use` ids must be unique")
    if asked:
        raise Problem(f"messages.{len(turns) - 1}: `tool_use` ids were found without `tool_result` "
                      f"blocks immediately after: {', '.join(asked)}. Each `tool_use` block must "
                      "have a corresponding `tool_result` block in the next message.")


def _check_thoughts(turns: list[tuple[str, list[dict[str, Any]]]], thought: Collection[str], *,
                    demanded: bool) -> None:
    """Check that thoughts come back with the calls whose results are told last."""
    index = len(turns) - 2
    if index < 0 or not any(block["type"] == "tool_result" for block in turns[-1][1]):
        return
    blocks = turns[index][1]
    first = blocks[0]["type"]
    ours = any(block["type"] == "tool_use" and block["id"] in thought for block in blocks)
    if first not in _THOUGHTS and (demanded or ours):
        raise Problem(f"messages.{index}.content.0.type: Expected `thinking` or "
                      f"`redacted_thinking`, but found `{first}`. When `thinking` is enabled, a "
                      "final `assistant` message must start with a thinking block (preceding the "
                      "lastmost set of `tool_use` and `tool_result` blocks).")


def spoken(body: Mapping[str, Any]) -> Messages:
    """Return what was said, as texts; results of tools are messages of role ``tool``."""
    said: Messages = []
    names: dict[str, str] = {}
    if body.get("system"):
        said.append({"role": "system", "content": _text(body["system"])})
    for message in body["messages"]:
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            if block["type"] == "tool_result":
                said.append({"role": "tool", "name": names.get(block["tool_use_id"], ""),
                             "content": _text(block.get("content") or "")})
        text = _text(content)
        if text or not isinstance(content, list) or not any(
                block["type"] == "tool_result" for block in content):
            said.append({"role": message["role"], "content": text})
    return said


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")
