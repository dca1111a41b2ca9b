"""Anthropic: the Messages API of the Claude models, also spoken by other servers.

Sources: https://platform.claude.com/docs/en/api/messages and its pages on streaming, errors,
versions, rate limits, thinking, effort, structured outputs and tools, and the types of the official
SDK (anthropic 2.12), read in November 2026.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
import json
import re
from typing import Any, ClassVar
from urllib.parse import quote

from attr.validators import ge, instance_of, matches_re

from chatsdk.errors import MissingCredentialsError, ProviderError, quoted, UnsupportedError
from chatsdk.messages import Delta, Message, Query, step, Usage
from chatsdk.parts import Media, ToolCall, ToolCallPart
from chatsdk.providers.base import (
    count,
    Fetch,
    given,
    limits_in,
    member,
    merged,
    Provider,
    system_text,
)
from chatsdk.ratelimits import RateLimits
from chatsdk.records import evolve, field, frozen
from chatsdk.results import Model
from chatsdk.settings import secret, setting, url
from chatsdk.wire import malformed, parse, Request, sse, whole

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
TRANSIENT = ("overloaded_error", "api_error", "rate_limit_error", "timeout_error")
BUDGETS = {  # tokens of thought, for models that do not decide it themselves; at least 1024
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
LEAST_BUDGET = 1024
SAMPLING = ("temperature", "top_p", "top_k")  # which the API's versions from 2026-10-21 on refuse
NO_SAMPLING = "2026-10-21"
ADVICE = {
    401: "is the key in api_key= or ANTHROPIC_API_KEY current?",
    402: "the account's credit is used up; see its billing page",
    404: "client.models() lists the models of this account",
    413: "a request holds at most 32 MB",
    529: "the service is overloaded; try again later",
}
PAGE = 1000  # models in one answer, the most that the service allows
COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
#: Keywords of JSON Schema that the service refuses; they are told in the description instead.
UNHELD = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)


@frozen(kw_only=True)
class Anthropic(Provider):
    """A chat with a Claude model.

    Attributes:
        api_key: The key, sent as ``x-api-key``.
        auth_token: A token instead of the key, sent as a bearer; a gateway's, for example.
        max_tokens: The most tokens of an answer, thoughts included, where a call names none: the
            service has no default of its own.
        version: The version of the API.  Those from 2026-10-21 on refuse ``temperature``,
            ``top_p`` and ``top_k``.
    """

    name: ClassVar[str] = "anthropic"
    title: ClassVar[str] = "Anthropic"
    page: ClassVar[str] = "https://platform.claude.com/docs/en/api/messages"
    tools: ClassVar[bool] = True
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": ("image/jpeg", "image/png", "image/gif", "image/webp"),
        "document": ("application/pdf", "text/plain"),
    }
    media_urls: ClassVar[tuple[str, ...]] = ("image", "document")
    models: ClassVar[tuple[str, ...]] = (
        "claude-opus-5-5",
        "claude-sonnet-5-5",
        "claude-haiku-5-5",
        "claude-fable-5-2",
        "claude-mythos-5-2",
        "claude-opus-5",
        "claude-sonnet-5",
        "claude-opus-4-8",
        "claude-opus-4-7",
        "claude-opus-4-6",
        "claude-sonnet-4-6",
        "claude-opus-4-5",
        "claude-sonnet-4-5",
        "claude-haiku-4-5",
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature, 0 to 1",
        "top_p": "top_p",
        "top_k": "top_k",
        "max_tokens": "max_tokens",
        "stop": "stop_sequences",
        "tools": "tools",
        "tool_choice": "tool_choice",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "response_format": "output_config.format, a JSON schema",
        "reasoning_effort": "thinking and output_config.effort; older models get a budget",
        "service_tier": "service_tier",
    }
    options: ClassVar[Mapping[str, type]] = {
        "top_k": int,
        "parallel_tool_calls": bool,
        "service_tier": str,
    }

    base_url: str = url("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
    model: str = setting("ANTHROPIC_MODEL", "claude-sonnet-5-5")
    api_key: str | None = secret("ANTHROPIC_API_KEY")
    auth_token: str | None = secret("ANTHROPIC_AUTH_TOKEN")
    max_tokens: int = field(default=16_384, validator=ge(1))
    version: str = field(
        default="2023-06-01", validator=[instance_of(str), matches_re(r"\d{4}-\d\d-\d\d")]
    )

    def __attrs_post_init__(self) -> None:
        own = {"x-api-key", "authorization"} & {name.lower() for name in self.headers}
        if self.api_key is None and self.auth_token is None and not own:
            raise MissingCredentialsError(
                "anthropic needs a key: give api_key=... or set ANTHROPIC_API_KEY"
                " (auth_token= or ANTHROPIC_AUTH_TOKEN for a bearer token)",
                provider=self.name,
            )

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        accept = "text/event-stream" if query.stream else "application/json"
        body = merged(self.payload(query), query.extra_body)
        return self._request("POST", "/messages", query, json=body, accept=accept)

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: the system's text apart, turns in blocks, ``max_tokens`` always."""
        return {
            **self._settings(query),
            "messages": _turns(query.messages),
            "stream": query.stream,
            **given(system=system_text(query.messages) or None),
        }

    def _settings(self, query: Query) -> dict[str, Any]:
        """Return the body without what is said."""
        model = self.model_of(query)
        thinking = self._thinking(query, model)
        form = _format(query.response_format)
        effort = query.reasoning_effort if thinking.get("type") == "adaptive" else None
        config = given(effort="low" if effort == "minimal" else effort, format=form)
        self._check_sampling(query)
        return {
            "model": model,
            "max_tokens": self._max_tokens(query, thinking),
            **given(
                temperature=query.temperature,
                top_p=query.top_p,
                top_k=query.options.get("top_k"),
                stop_sequences=list(query.stop) or None,
                tools=[_tool(tool["function"]) for tool in query.tools] or None,
                tool_choice=_tool_choice(query),
                thinking=thinking or None,
                output_config=config or None,
                service_tier=query.options.get("service_tier"),
            ),
        }

    def _max_tokens(self, query: Query, thinking: Mapping[str, Any]) -> int:
        """Return the limit of the call, or the usual one beside the budget for thoughts."""
        if query.max_tokens is not None:
            return query.max_tokens
        return self.max_tokens + int(thinking.get("budget_tokens", 0))

    def _thinking(self, query: Query, model: str) -> dict[str, Any]:
        """Return how much is to be thought; {} leaves it to the service."""
        effort = query.reasoning_effort
        if effort is None:
            return {}
        if effort == "none":
            return {"type": "disabled"}
        if not _takes_budget(model):
            return {"type": "adaptive", "display": "summarized"}
        if effort not in BUDGETS:
            known = ", ".join(["none", *BUDGETS])
            raise UnsupportedError(f"reasoning_effort for {model} is one of: {known}")
        budget = BUDGETS[effort]
        if query.max_tokens is not None:  # thoughts are a part of it
            budget = min(budget, query.max_tokens - 1)
        if budget < LEAST_BUDGET:
            raise UnsupportedError(
                f"{model} thinks with {LEAST_BUDGET} tokens or more; max_tokens must be above that"
            )
        return {"type": "enabled", "budget_tokens": budget}

    def _check_sampling(self, query: Query) -> None:
        if query.temperature is not None and query.temperature > 1:
            raise UnsupportedError("temperature for anthropic is 0 to 1")
        if self.version < NO_SAMPLING:
            return
        asked = {"temperature": query.temperature, "top_p": query.top_p, **query.options}
        for name in SAMPLING:
            if asked.get(name) is not None:
                raise UnsupportedError(
                    f"version {self.version} of anthropic's API has no {name};"
                    " Anthropic(version='2023-06-01') has, for older models"
                )

    def check(self, query: Query) -> None:
        """Refuse what has no form here, before anything is sent."""
        super().check(query)
        self._settings(query)
        if not all(map(str.strip, query.stop)):
            raise UnsupportedError("anthropic stops at no blanks alone; see stop")
        special = tuple(m for m in query.messages if m.role == "tool" or m.tool_calls)
        _turns(special)  # texts alone have no flaw to find but these:
        if all(message.role == "system" for message in query.messages):
            raise UnsupportedError("anthropic needs a message besides the system's")
        for number, message in enumerate(query.messages):
            if message.role == "user" and not message.content:
                raise UnsupportedError(f"anthropic takes no empty message; see messages[{number}]")
            if message.role in ("system", "assistant") and message.media:
                raise UnsupportedError(
                    "anthropic takes images and documents from the user and from tools only; see"
                    f" messages[{number}]"
                )

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return how many tokens a question has; nothing is billed for that."""
        payload = self.payload(query)
        body = {name: payload[name] for name in COUNTED if name in payload}
        request = self._request(
            "POST", "/messages/count_tokens", query, json=merged(body, query.extra_body),
            repeatable=True,
        )
        event = parse(fetch(request))
        told = count(event, "input_tokens") if isinstance(event, dict) else None
        if told is None:
            raise malformed("the count of tokens has no input_tokens", str(event))
        return told

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models of this account, page by page."""
        models: dict[str, Model] = {}
        after = ""
        while True:
            path = f"/models?limit={PAGE}" + (f"&after_id={quote(after)}" if after else "")
            event = parse(fetch(self._request("GET", path, repeatable=True)))
            entries = member(event, "data", list) if isinstance(event, dict) else None
            if entries is None:
                raise malformed("the list of models is none", str(event))
            before = len(models)
            models |= {model.id: model for model in map(_model, entries)}
            after = str(event.get("last_id") or "")
            if event.get("has_more") is not True or not after or len(models) == before:
                return list(models.values())

    def _request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        accept: str = "application/json",
        **details: Any,
    ) -> Request:
        credential = {}
        if self.api_key is not None:
            credential["x-api-key"] = self.api_key
        elif self.auth_token is not None:
            credential["Authorization"] = f"Bearer {self.auth_token}"
        protocol = {"Accept": accept, "anthropic-version": self.version, **credential}
        root = self.base_url if self.base_url.endswith("/v1") else f"{self.base_url}/v1"
        return Request(
            method=method,
            url=root + path,
            headers=self.request_headers(protocol, query.extra_headers if query else {}),
            cookies=self.cookies,
            advice=ADVICE,
            **details,
        )

    # What is read

    def limits(self, headers: Mapping[str, str]) -> RateLimits | None:
        """Return what an answer's headers say of the account's limits, or None."""
        return limits_in(headers, "anthropic-ratelimit-{kind}-{what}")

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say: events, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return (whole if kind == "application/json" else sse)(body, self.parse)

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event of a stream or in a whole answer."""
        if not isinstance(event, dict):
            raise malformed("an event is no JSON object", str(event))
        kind = member(event, "type", str)
        if kind == "content_block_delta":
            delta = member(event, "delta", dict) or {}
            if delta.get("type") == "text_delta":
                # By place, which takes half the time; most events are of this kind.
                text = member(delta, "text", str) or ""
                return step(text, raw=event)
            return _piece(event, delta)
        read = _EVENTS.get(kind or "")
        if read is not None:
            return read(event)
        if kind is None or "error" in event:
            raise _failure(event)
        return None  # a ping, or an event of a later day

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer until its end.

        What comes before the first text is told with it, so that an answer that breaks before it
        can be asked for again.
        """
        turn = _Turn()
        for delta in super().deltas(query, body):
            if delta.text and turn.begun:
                turn.length += len(delta.text)
                yield delta
            elif told := turn.add(delta):
                yield told


# What is asked


def _takes_budget(model: str) -> bool:
    """Return whether a model is told how much to think in tokens: those before Claude 4.6."""
    newer = re.search(r"(?:opus|sonnet|haiku)-(\d+)(?:-(\d{1,2}))?(?!\d)", model)
    older = re.search(r"claude-(\d)(?:-(\d))?-(?:opus|sonnet|haiku)", model)
    found = older or newer
    return found is not None and (int(found[1]), int(found[2] or 0)) < (4, 6)


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    told = given(description=function.get("description"), strict=function.get("strict"))
    return {"name": function["name"], "input_schema": schema, **told}


def _tool_choice(query: Query) -> dict[str, Any] | None:
    wanted, parallel = query.tool_choice, query.options.get("parallel_tool_calls")
    kinds = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    choice: dict[str, Any] | None = None
    if isinstance(wanted, str) and wanted in kinds:
        choice = {"type": kinds[wanted]}
    elif isinstance(wanted, Mapping):
        function = wanted.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        own = wanted.get("type") in ("auto", "any", "tool", "none")
        choice = dict(wanted) if own else {"type": "tool", "name": name} if name else None
    if wanted is not None and choice is None:
        raise UnsupportedError(
            "tool_choice for anthropic is 'auto', 'none', 'required' or one function"
        )
    if parallel is not None and query.tools:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = not parallel
    return choice


def _format(wanted: Any) -> dict[str, Any] | None:
    """Return the form of an answer: a JSON schema, without its name."""
    if wanted is None or wanted["type"] == "text":
        return None
    if wanted["type"] != "json_schema":
        raise UnsupportedError("response_format for anthropic is a JSON schema, not plain JSON")
    return {"type": "json_schema", "schema": _held(wanted["json_schema"]["schema"])}


def _held(schema: Any) -> Any:
    """Return a schema as the service takes it: closed objects, and no bounds."""
    if isinstance(schema, list):
        return [_held(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {name: value for name, value in schema.items() if name not in UNHELD}
    unheld = ", ".join(f"{name}: {schema[name]}" for name in UNHELD if name in schema)
    if result.get("minItems", 0) not in (0, 1):  # the only two that it takes
        unheld = f"{unheld}, minItems: {result['minItems']}".removeprefix(", ")
        result["minItems"] = 1
    if unheld:
        result["description"] = f"{result.get('description', '')}\n\n{{{unheld}}}".strip()
    for name in ("items", "anyOf", "oneOf", "allOf"):
        if name in result:
            result[name] = _held(result[name])
    for name in ("properties", "$defs", "definitions"):
        if isinstance(result.get(name), Mapping):
            result[name] = {key: _held(value) for key, value in result[name].items()}
    kind = result.get("type")
    if kind == "object" or (isinstance(kind, (list, tuple)) and "object" in kind):
        if not isinstance(result.get("properties"), Mapping):
            raise UnsupportedError(
                "response_format for anthropic lists the members of each object; a dict with any"
                " keys has no form there"
            )
        result["additionalProperties"] = False
    return result


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return what was said as turns of one role each; results follow their calls in one turn."""
    turns: list[dict[str, Any]] = []
    calls = _Calls()
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, calls)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        if len(turn["content"]) == 1 and turn["content"][0]["type"] == "text":
            turn["content"] = turn["content"][0]["text"]
    return turns


class _Calls:
    """The ids under which results refer to calls; other services give none, or of other form."""

    def __init__(self) -> None:
        self.made = 0
        self.open: list[tuple[str, str]] = []  # id and name, of calls without a result yet

    def named(self, call: ToolCall) -> str:
        """Return the id of a call."""
        self.made += 1
        id = re.sub(r"[^a-zA-Z0-9_-]", "_", call.id) if call.id else f"call_{self.made}"
        self.open.append((id, call.name))
        return id

    def answered(self, message: Message) -> str:
        """Return the id of the call that a result is for."""
        wanted = message.tool_call_id
        if wanted:
            id = re.sub(r"[^a-zA-Z0-9_-]", "_", wanted)
        else:
            same = [id for id, name in self.open if not message.name or name == message.name]
            if not same:
                raise UnsupportedError(
                    "anthropic needs the call's id in a message of role 'tool': tool_call_id"
                )
            id = same[0]
        self.open = [(other, name) for other, name in self.open if other != id]
        return id


def _blocks(message: Message, calls: _Calls) -> list[dict[str, Any]]:
    if message.role == "tool":
        id = calls.answered(message)
        content = [_part(part) for part in message.content if part] if message.media \
            else message.text
        return [{"type": "tool_result", "tool_use_id": id, "content": content}]
    if message.role != "assistant":
        parts = (message.content,) if isinstance(message.content, str) else message.content
        return [_part(part) for part in parts if part]
    uses = [_use(calls.named(call), call) for call in message.tool_calls]
    text = [_part(message.text)] if message.text else []
    kept = (message.state or {}).get("anthropic")
    if not isinstance(kept, (list, tuple)) or not all(isinstance(b, Mapping) for b in kept):
        return [*text, *uses]
    return _restored(kept, message.text, uses) or [
        *(dict(block) for block in kept if block.get("type") not in ("text", "tool_use")),
        *text,
        *uses,
    ]


def _restored(
    kept: Sequence[Mapping[str, Any]], text: str, uses: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the blocks of an answer in their order; [] if its text or calls were changed."""
    blocks: list[dict[str, Any]] = []
    rest, at = list(uses), 0
    for block in kept:
        if block.get("type") == "text" and type(block.get("length")) is int:
            said = text[at:at + block["length"]]
            at += block["length"]
            quoting = given(citations=block.get("citations"))
            blocks += [{"type": "text", "text": said, **quoting}] if said else []
        elif block.get("type") == "tool_use":
            if not rest:
                return []
            blocks.append(rest.pop(0))
        else:
            blocks.append(dict(block))
    return blocks if at == len(text) and not rest else []


def _use(id: str, call: ToolCall) -> dict[str, Any]:
    """Return a call of the history; arguments that are no object are told as they came."""
    arguments = call.arguments
    if arguments is None:
        arguments = {"INVALID_JSON": call.raw} if call.raw.strip() else {}
    return {"type": "tool_use", "id": id, "name": call.name, "input": arguments}


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    source: dict[str, Any]
    if part.url is not None:
        source = {"type": "url", "url": part.url}
    elif part.mime == "text/plain":
        text = (part.data or b"").decode(errors="replace")
        source = {"type": "text", "media_type": part.mime, "data": text}
    else:
        data = base64.b64encode(part.data or b"").decode()
        source = {"type": "base64", "media_type": part.mime, "data": data}
    title = {"title": part.name} if part.kind == "document" and part.name else {}
    return {"type": part.kind, "source": source, **title}


def _model(entry: Any) -> Model:
    id = member(entry, "id", str) if isinstance(entry, dict) else None
    if not id:
        raise malformed("a model in the list has no id", str(entry))
    return Model(id, Anthropic.name, None, entry)


# What is read


def _piece(event: dict[str, Any], delta: Mapping[str, Any]) -> Delta | None:
    """Return the step in a piece of a block that is no text."""
    kind = delta.get("type")
    if kind == "thinking_delta":
        return Delta(reasoning=member(delta, "thinking", str) or "", raw=event)
    if kind == "input_json_delta":
        part = ToolCallPart(_index(event), arguments=member(delta, "partial_json", str) or "")
        return Delta(tool_calls=(part,), raw=event)
    if kind == "signature_delta":
        member(delta, "signature", str)
        return Delta(raw=event)
    if kind == "citations_delta":
        member(delta, "citation", dict)
        return Delta(raw=event)
    return None


def _index(event: Mapping[str, Any]) -> int:
    return member(event, "index", int) or 0


def _started(event: dict[str, Any]) -> Delta:
    message = member(event, "message", dict) or {}
    usage = member(message, "usage", dict)
    return Delta(
        model=member(message, "model", str),
        id=member(message, "id", str),
        usage=_usage(usage) if usage else None,
        raw=event,
    )


def _opened(event: dict[str, Any]) -> Delta:
    block = member(event, "content_block", dict) or {}
    member(block, "citations", list)
    calls = (_call(_index(event), block, ""),) if block.get("type") == "tool_use" else ()
    return Delta(_text(block), reasoning=_thought(block), tool_calls=calls, raw=event)


def _told_why(event: dict[str, Any]) -> Delta:
    delta = member(event, "delta", dict) or {}
    usage = member(event, "usage", dict)
    return Delta(
        finish_reason=_finish(delta), usage=_usage(usage) if usage else None, raw=event
    )


def _message(event: dict[str, Any]) -> Delta:
    """Return the one step of an answer that was not streamed."""
    blocks = member(event, "content", list) or []
    for block in blocks:
        if not isinstance(block, dict):
            raise malformed("a block of the answer is no JSON object", str(block))
    usage = member(event, "usage", dict)
    calls = [
        _call(index, block, json.dumps(member(block, "input", dict) or {}, ensure_ascii=False))
        for index, block in enumerate(b for b in blocks if b.get("type") == "tool_use")
    ]
    return Delta(
        "".join(map(_text, blocks)),
        finish_reason=_finish(event),
        usage=_usage(usage) if usage else None,
        reasoning="".join(map(_thought, blocks)),
        tool_calls=tuple(calls),
        final=True,
        model=member(event, "model", str),
        id=member(event, "id", str),
        state=_state([_shortened(block) for block in blocks]),
        raw=event,
    )


_EVENTS = {
    "message_start": _started,
    "content_block_start": _opened,
    "content_block_stop": lambda event: Delta(raw=event),
    "message_delta": _told_why,
    "message_stop": lambda event: Delta(final=True, raw=event),
    "message": _message,
}


def _text(block: Mapping[str, Any]) -> str:
    return (member(block, "text", str) or "") if block.get("type") == "text" else ""


def _thought(block: Mapping[str, Any]) -> str:
    return (member(block, "thinking", str) or "") if block.get("type") == "thinking" else ""


def _call(index: int, block: Mapping[str, Any], arguments: str) -> ToolCallPart:
    return ToolCallPart(index, member(block, "id", str), member(block, "name", str), arguments)


def _finish(event: Mapping[str, Any]) -> str | None:
    reason = member(event, "stop_reason", str) or None
    return FINISH.get(reason, reason) if reason else None


def _usage(told: Mapping[str, Any]) -> Usage:
    """Return the counts; the service's own prompt is without what a cache has to do with."""
    fresh, written, read = (
        count(told, name)
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    prompt = None if fresh is None else fresh + (written or 0) + (read or 0)
    completion = count(told, "output_tokens")
    details = told.get("output_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=None if prompt is None or completion is None else prompt + completion,
        cached_tokens=read,
        reasoning_tokens=count(details, "thinking_tokens") if isinstance(details, dict) else None,
    )


def _failure(event: Mapping[str, Any]) -> Exception:
    """Return the error for an event that reports one, or that is none of this protocol."""
    error = event.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return malformed("an event has neither a type nor an error", str(event))
    kind, text = error.get("type"), error.get("message") or "no reason given"
    return ProviderError(
        f"anthropic failed inside its answer: {quoted(text)} ({quoted(kind or 'no type')})",
        retryable=kind in TRANSIENT,
    )


def _shortened(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block as it is kept: text and calls are in the message already."""
    if block.get("type") == "text":
        quoting = given(citations=block.get("citations") or None)
        return {"type": "text", "length": len(_text(block)), **quoting}
    return {"type": "tool_use"} if block.get("type") == "tool_use" else dict(block)


def _state(blocks: list[dict[str, Any]]) -> Mapping[str, Any] | None:
    """Return what has to go back with the next question: all blocks, if not all are known."""
    known = all(block.get("type") in ("text", "tool_use") for block in blocks)
    return None if known else {"anthropic": blocks}


class _Turn:
    """What the events of one answer say only together.

    Attributes:
        begun: Whether some of the answer was told.
        length: Characters of the text block that is open.
    """

    def __init__(self) -> None:
        self.begun = False
        self.length = 0
        self._calls = 0
        self._held = Delta()
        self._counts: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._open: dict[str, Any] = {}
        self._json: list[str] = []

    def add(self, delta: Delta) -> Delta | None:
        """Return a step with what earlier ones add to it, or None while there is nothing in it."""
        event = delta.raw
        kind = event["type"]
        if kind == "content_block_start":
            self._start(event.get("content_block") or {})
            delta = self._numbered(delta)
        elif kind == "content_block_delta":
            delta = self._grow(delta, event.get("delta") or {})
        elif kind == "content_block_stop":
            delta = self._stop(delta)
        elif kind == "message_stop":
            delta = evolve(delta, state=_state(self._blocks), raw=None)
        self.length += len(delta.text)
        return self._passed(self._counted(delta))

    def _start(self, block: Mapping[str, Any]) -> None:
        self._open, self._json, self.length = dict(block), [], 0
        self._calls += block.get("type") == "tool_use"

    def _numbered(self, delta: Delta) -> Delta:
        """Return a step whose call has its place among the calls, not among all blocks."""
        if not delta.tool_calls:
            return delta
        (part,) = delta.tool_calls
        return evolve(delta, tool_calls=(evolve(part, index=self._calls - 1),))

    def _grow(self, delta: Delta, piece: Mapping[str, Any]) -> Delta:
        block, kind = self._open, piece.get("type")
        if kind == "thinking_delta":
            block["thinking"] = str(block.get("thinking") or "") + delta.reasoning
        elif kind == "input_json_delta":
            self._json.append(delta.tool_calls[0].arguments)
            own = block.get("type") != "tool_use"  # of the service's own tools
            return evolve(delta, tool_calls=()) if own else self._numbered(delta)
        elif kind == "signature_delta":
            signature = member(piece, "signature", str) or ""
            block["signature"] = str(block.get("signature") or "") + signature
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), piece.get("citation")]
        return delta

    def _stop(self, delta: Delta) -> Delta:
        """Close a block; one whose arguments came at its start tells them now."""
        block, told = self._open, "".join(self._json)
        self._open = {}
        if block.get("type") == "text":
            self._blocks.append({**_shortened(block), "length": self.length})
        elif block.get("type") == "tool_use":
            self._blocks.append({"type": "tool_use"})
            if not told:
                told = json.dumps(member(block, "input", dict) or {}, ensure_ascii=False)
                part = ToolCallPart(self._calls - 1, arguments=told)
                delta = evolve(delta, tool_calls=(part,))
        elif block:
            self._blocks.append({**block, "input": parse(told.encode())} if told else block)
        return delta

    def _counted(self, delta: Delta) -> Delta:
        """Return a step whose usage has all counts that were told so far."""
        if delta.usage is None:
            return delta
        event = delta.raw
        self._counts |= (event["message"] if event["type"] == "message_start" else event)["usage"]
        return evolve(delta, usage=_usage(self._counts))

    def _passed(self, delta: Delta) -> Delta | None:
        told = bool(delta.text or delta.reasoning or delta.tool_calls or delta.final)
        if not self.begun:
            held = self._held
            delta = evolve(
                delta,
                finish_reason=delta.finish_reason or held.finish_reason,
                usage=delta.usage or held.usage,
                model=delta.model or held.model,
                id=delta.id or held.id,
                raw=delta.raw or held.raw,
            )
            if not told:
                self._held = delta
                return None
            self.begun = True
            return delta
        return delta if told or delta.finish_reason or delta.usage else None
