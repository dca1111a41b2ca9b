"""Anthropic's Messages API: named events, blocks of content, errors with a type.

Source: https://platform.claude.com/docs/en/api/messages, its pages on streaming, thinking, tools,
structured outputs, rate limits and versions, and the types of the official SDK (anthropic 2.12).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
import json
import re
import secrets
import threading
from typing import Any
import uuid

from .anthropic_checks import check, MODELS, named, Problem, sign, spoken, VERSIONS
from .brain import arguments
from .scripts import words
from .service import Chat, Document, Messages, Pairs, phrase, Recorded, Refused, Service
from .voice import compact, THOUGHTS, Voice, Whole

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
          403: "permission_error", 404: "not_found_error", 409: "conflict_error",
          413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
          529: "overloaded_error"}
_SAYS = {401: "invalid x-api-key", 529: "Overloaded",
         402: "Your credit balance is too low to access the Anthropic API.",
         429: "This request would exceed your organization's rate limit of 50 requests per minute."}
_SPENT = "You have reached your specified API usage limits. You will regain access on " \
         "2026-12-01 at 00:00 UTC."
_STOPS = {"stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence"}
_LIMITS = (("requests", 4000), ("tokens", 480_000), ("input-tokens", 400_000),
           ("output-tokens", 80_000))
_REDACTED = {"type": "redacted_thinking", "data": sign("redacted")}
_MEDIA = 100  # tokens of an image or a document
_PAGE = 20
_LARGEST = 32 * 2 ** 20

Block = dict[str, Any]


@dataclass(frozen=True)
class _Counts:
    """Tokens of a prompt: those not cached, those now cached, those read from the cache."""

    plain: int
    created: int = 0
    read: int = 0

    def members(self, output: int, thinking: int | None = None) -> dict[str, Any]:
        details = {} if thinking is None else {
            "output_tokens_details": {"thinking_tokens": thinking}}
        return {"input_tokens": self.plain, "cache_creation_input_tokens": self.created,
                "cache_read_input_tokens": self.read, "output_tokens": output, **details}


@dataclass
class _Plan:
    """What an answer is made of besides its text.

    `display` is how thoughts are shown: ``"summarized"``, ``"omitted"`` or ``""`` for none at
    all. `calls` are the blocks of all tools that may be called, the chosen one first.
    """

    model: str
    counts: _Counts
    display: str
    calls: list[Block]
    parallel: bool

    def thoughts(self, scenario: str) -> list[Block]:
        """Return the blocks that come before text and calls."""
        if scenario == "redacted":
            return [_REDACTED]
        if not self.display and scenario != "reasoning":
            return []
        text = "" if self.display == "omitted" else "".join(THOUGHTS)
        return [{"type": "thinking", "thinking": text, "signature": sign(text)}]

    def made(self, scenario: str) -> list[Block]:
        """Return the calls that are made."""
        return self.calls if scenario == "parallel-calls" and self.parallel else self.calls[:1]

    def message(self, content: list[Block], **rest: object) -> dict[str, object]:
        """Return a message as documents have it and streams begin with it."""
        return {"model": self.model, "id": f"msg_01{secrets.token_hex(11)}", "type": "message",
                "role": "assistant", "content": content, "stop_reason": None,
                "stop_sequence": None, "stop_details": None, **rest}

    def usage(self, said: list[str], thoughts: list[Block], calls: list[Block]) -> dict[str, Any]:
        """Return the counts at the end; a word is taken for a token."""
        thinking = len(THOUGHTS) if thoughts else 0
        spoken = sum(1 for piece in said if piece)
        output = thinking + spoken + sum(len(words(compact(c["input"]).decode())) for c in calls)
        return self.counts.members(output or 1, thinking)


def _ended(reason: str, voice: Voice) -> dict[str, object]:
    """Return why an answer ended."""
    if reason == "content_filter" or voice.scenario == "refusal":
        details = {"type": "refusal", "category": None, "explanation": None}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    told = "tool_use" if voice.tool else _STOPS[reason]
    return {"stop_reason": told, "stop_sequence": voice.stop or None, "stop_details": None}


class _Events(Voice):
    """The events of a stream; each block is opened, told in pieces and closed."""

    heartbeat = b'event: ping\ndata: {"type": "ping"}\n\n'
    noise = (
        b": keep-alive\n",
        b"id: 1\nretry: 1000\n",
        b'event: of_tomorrow\ndata: {"type":"of_tomorrow","text":"no"}\n\n',
    )
    malformed = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{\n\n'
    error = b'event: error\ndata: {"type":"error","error":{"details":null,"type":' \
            b'"overloaded_error","message":"Overloaded"},"request_id":"req_011CSim"}\n\n'

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan
        self.index = -1
        self.open = False
        self.thoughts: list[Block] | None = None

    def text(self, piece: str) -> bytes:
        """Return the event with a piece of text; nothing if the model refuses."""
        return b"" if self.scenario == "refusal" else super().text(piece)

    def frame(self, piece: str) -> bytes:
        """Return the event with a piece of text, and those that have to come before it."""
        before = self.begin()
        if not self.open:
            before += self.start({"type": "text", "text": ""})
            self.open = True
        return before + self.delta({"type": "text_delta", "text": piece})

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the events of calls, why the answer ended, and the mark of the end."""
        frames = [self.text(last)] if last else []
        frames.append(self.begin() + (self.stop_block() if self.open else b""))
        calls = self.plan.made(self.scenario) if self.tool else []
        frames += [self.call(block) for block in calls]
        if self.scenario != "no-finish":
            usage = self.plan.usage(self.said, self.thoughts or [], calls)
            frames.append(_event("message_delta", delta=_ended(reason, self), usage=usage))
        if self.scenario != "no-done":
            frames.append(_event("message_stop"))
        return [frame for frame in frames if frame]

    def begin(self) -> bytes:
        """Return the start of the message and its thoughts, the first time."""
        if self.thoughts is not None:
            return b""
        self.thoughts = self.plan.thoughts(self.scenario)
        start = self.plan.message([], usage=self.plan.counts.members(1))
        return _event("message_start", message=start) + b"".join(map(self.thought, self.thoughts))

    def thought(self, block: Block) -> bytes:
        """Return the events of a block of thinking."""
        if block["type"] == "redacted_thinking":
            return self.start(block) + self.stop_block()
        pieces = THOUGHTS if block["thinking"] else ()
        told = [self.delta({"type": "thinking_delta", "thinking": piece}) for piece in pieces]
        seal = self.delta({"type": "signature_delta", "signature": block["signature"]})
        start = self.start({"type": "thinking", "thinking": "", "signature": ""})
        return start + b"".join(told) + seal + self.stop_block()

    def call(self, block: Block) -> bytes:
        """Return the events of a call: its arguments come as pieces of JSON text."""
        pieces = ["", *re.findall(r"(?s).{1,8}", json.dumps(block["input"], ensure_ascii=False))]
        told = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return self.start({**block, "input": {}}) + b"".join(map(self.delta, told)) \
            + self.stop_block()

    def start(self, block: Block) -> bytes:
        """Return the event that opens a block; a ping follows the first."""
        self.index += 1
        ping = b"" if self.index else self.heartbeat
        return _event("content_block_start", index=self.index, content_block=block) + ping

    def delta(self, delta: Block) -> bytes:
        """Return the event with a piece of the open block."""
        return _event("content_block_delta", index=self.index, delta=delta)

    def stop_block(self) -> bytes:
        """Return the event that closes a block."""
        return _event("content_block_stop", index=self.index)


def _event(type: str, **members: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type.encode(), compact({"type": type, **members}))


class _Document(Whole):
    """The answer without streaming."""

    error = _Events.error.split(b"data: ")[1].rstrip()

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan

    def document(self, reason: str) -> bytes:
        """Return the message with all of its blocks."""
        text = "" if self.scenario == "refusal" else "".join(self.said)
        thoughts = self.plan.thoughts(self.scenario)
        calls = self.plan.made(self.scenario) if self.tool else []
        content = [*thoughts, *([{"type": "text", "text": text}] if text else ()), *calls]
        usage = self.plan.usage(self.said, thoughts, calls)
        message = self.plan.message(content, **_ended(reason, self), usage=usage)
        if self.scenario == "no-finish":
            del message["stop_reason"]
        return compact(message)


class Anthropic(Service):
    """Messages, the counting of their tokens, and the list of models."""

    name = "anthropic"
    stages = ("count", "models")
    special = frozenset({"no-finish", "no-done", "content-filter", "refusal", "reasoning",
                         "redacted", "function-call", "parallel-calls", "quota", "context"})

    def __init__(self, *, secure: bool = False) -> None:
        super().__init__(secure=secure)
        self._lock = threading.Lock()
        self._cached: set[bytes] = set()
        self._thought: set[str] = set()  # ids of calls that came with thoughts

    def stage(self, request: Recorded) -> str:
        """Tell messages, counts and models apart, by method and path."""
        known = {("POST", "/v1/messages"): "chat", ("POST", "/v1/messages/count_tokens"): "count"}
        models = request.method == "GET" and re.fullmatch("/v1/models(/[^/]+)?", request.path)
        return known.get((request.method, request.path), "models" if models else "")

    def error(self, status: int, request: Recorded, message: str = "",
              code: str = "") -> Document:
        """Return ``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
        kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error: Block = {"type": kind, "message": message or _SAYS.get(status) or phrase(status)}
        if code:
            error["details"] = {"error_code": code}
        headers = _about()
        body = {"type": "error", "error": error, "request_id": dict(headers)["request-id"]}
        return Document.of(body, status, headers=headers)

    def refusal(self, kind: str, status: int, request: Recorded) -> Document:
        """Return the error answer for a spend limit or for a prompt that is too long."""
        if kind == "context":
            return self.error(status, request, "prompt is too long: 1000017 tokens > 1000000 "
                                               "maximum")
        return self.error(status, request, _SPENT, "enforced_spend_limit_reached")

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Count tokens or tell of models."""
        if not stage:
            raise Refused(self.error(404, request, "Not found"))
        self._admit(request)
        if stage == "models":
            return self._models(request)
        body = self._checked(request, counting=True)
        return Document.of({"input_tokens": _tokens(body, spoken(body))}, headers=_about(),
                           value="input_tokens")

    def chat(self, request: Recorded) -> Chat:
        """Check key, version and body, in this order."""
        self._admit(request)
        body = self._checked(request)
        messages = spoken(body)
        calls, forced = _offered(body, messages)
        plan = _Plan(body["model"], self._counted(body, messages), _display(body), calls,
                     not body.get("tool_choice", {}).get("disable_parallel_tool_use"))
        if plan.display:
            with self._lock:
                self._thought.update(call["id"] for call in calls)
        stream = bool(body.get("stream"))
        voice = _Events(plan) if stream else _Document(plan)
        form = (body.get("output_config") or {}).get("format")
        return Chat(voice, messages,
                    "text/event-stream; charset=utf-8" if stream else "application/json",
                    _about(), limit=body["max_tokens"],
                    stops=tuple(body.get("stop_sequences") or ()), keeps_stop=False,
                    tool=(calls[0]["name"], calls[0]["input"]) if calls else None, forced=forced,
                    schema=form and form["schema"])

    def _admit(self, request: Recorded) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        if not (request.headers.get("x-api-key", "").strip() or bearer):
            raise Refused(self.error(401, request, "x-api-key header is required"))
        version = request.headers.get("anthropic-version")
        if version is None:
            raise Refused(self.error(400, request, "anthropic-version: header is required"))
        if version not in VERSIONS:
            raise Refused(self.error(
                400, request, f'anthropic-version: "{version}" is not a valid version'))

    def _checked(self, request: Recorded, *, counting: bool = False) -> dict[str, Any]:
        if len(request.body) > _LARGEST:
            raise Refused(self.error(413, request, "Request exceeds the maximum size"))
        with self._lock:
            thought = frozenset(self._thought)
        try:
            model = check(request.json, request.headers["anthropic-version"], thought,
                          counting=counting)
        except Problem as problem:
            raise Refused(self.error(problem.status, request, str(problem))) from None
        body = request.members
        count = _tokens(body, spoken(body))
        if not counting and count > model.window:
            raise Refused(self.error(400, request, f"prompt is too long: {count} tokens > "
                                                   f"{model.window} maximum"))
        return body

    def _counted(self, body: dict[str, Any], messages: Messages) -> _Counts:
        """Return the tokens of a prompt; all but its last message can be in the cache."""
        count = _tokens(body, messages)
        if b'"cache_control"' not in compact(body):
            return _Counts(count)
        last = len(words(messages[-1]["content"]))
        prefix = compact([body["model"], body.get("system"), body.get("tools"),
                          body["messages"][:-1]])
        with self._lock:
            known = prefix in self._cached
            self._cached.add(prefix)
        return _Counts(last, 0, count - last) if known else _Counts(last, count - last)

    def _models(self, request: Recorded) -> Document:
        wanted = request.path.removeprefix("/v1/models").strip("/")
        if wanted:
            model = named(wanted)
            if model is None:
                raise Refused(self.error(404, request, f"model: {wanted}"))
            return Document.of(model.entry(), headers=_about(), value="id")
        try:
            page = _page([model.entry() for model in MODELS], request.query)
        except ValueError as error:
            raise Refused(self.error(400, request, str(error))) from None
        return Document.of(page, headers=_about(), value="data")


def _page(entries: list[Block], query: Any) -> dict[str, Any]:
    """Return a page of models: `limit` of them `after_id` or `before_id`."""
    limit = query.get("limit", str(_PAGE))
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise ValueError("limit: Input should be between 1 and 1000")
    ids = [entry["id"] for entry in entries]
    after, before = query.get("after_id"), query.get("before_id")
    for cursor in (after, before):
        if cursor is not None and cursor not in ids:
            raise ValueError(f"Invalid cursor: {cursor}")
    if before is not None:
        rest = entries[:ids.index(before)]
        page = rest[-int(limit):]
    else:
        rest = entries[ids.index(after) + 1:] if after is not None else entries
        page = rest[:int(limit)]
    return {"data": page, "has_more": len(page) < len(rest),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None}


def _tokens(body: dict[str, Any], messages: Messages) -> int:
    """Return how many tokens a prompt has: words, three a message, and what tools and media are."""
    said = sum(len(words(message["content"])) + 3 for message in messages)
    tools = len(words(json.dumps(body["tools"]))) if body.get("tools") else 0
    blocks = [block for message in body["messages"] if isinstance(message["content"], list)
              for block in message["content"]]
    media = sum(_MEDIA for block in blocks if block["type"] in ("image", "document"))
    return said + tools + media


def _display(body: dict[str, Any]) -> str:
    """Return how thoughts are shown, "" if there are none."""
    thinking = body.get("thinking") or {}
    if thinking.get("type") not in ("enabled", "adaptive"):
        return ""
    model = named(body["model"])
    usual = "omitted" if model and not model.manual else "summarized"
    return str(thinking.get("display") or usual)


def _offered(body: dict[str, Any], messages: Messages) -> tuple[list[Block], bool]:
    """Return the calls that the brain could make, and whether the client insists on one.

    The brain calls once: when the last turn has results, it speaks again.
    """
    choice = body.get("tool_choice") or {"type": "auto"}
    forced = choice["type"] in ("any", "tool")
    tools = [tool for tool in body.get("tools") or () if "input_schema" in tool]
    if choice["type"] == "none" or (not forced and messages[-1]["role"] == "tool"):
        return [], False
    if choice["type"] == "tool":
        tools.sort(key=lambda tool: bool(tool["name"] != choice["name"]))
    calls = [{"type": "tool_use", "id": f"toolu_01{secrets.token_hex(11)}", "name": tool["name"],
              "input": arguments(tool["input_schema"], messages)} for tool in tools]
    return calls, forced and bool(calls)


def _about() -> Pairs:
    """Return the headers of every answer: its id, and what is left of the limits."""
    reset = (datetime.now(timezone.utc) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    limits = [(f"anthropic-ratelimit-{what}-{key}", value) for what, most in _LIMITS
              for key, value in (("limit", str(most)), ("remaining", str(most - 1)),
                                 ("reset", reset))]
    return (("request-id", f"req_011C{secrets.token_hex(10)}"),
            ("anthropic-organization-id", str(uuid.UUID(int=5))), *limits)
