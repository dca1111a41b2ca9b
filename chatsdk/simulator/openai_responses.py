"""OpenAI's Responses: named events with numbers, items instead of messages.

Source: the official SDK's types (openai-python 3.54), the pages of the API's reference at
https://platform.openai.com/docs/api-reference, and the messages that the service was seen to send.
"""

from __future__ import annotations

from collections.abc import Mapping
import re
import secrets
import threading
import time
from typing import Any, ClassVar

from .openai import headers, OpenAI, prompt_tokens, wrong
from .openai_checks import (
    Call,
    CHATS,
    check_base64,
    check_image,
    check_name,
    check_schema,
    check_values,
    EFFORTS,
    known_model,
    missing,
    offered,
    Problem,
    Ranges,
    reasons,
    unlisted,
    unsupported,
    untyped,
)
from .scripts import words
from .service import Chat, Document, Messages, Recorded
from .voice import compact, THOUGHTS, Voice, Whole

_BROKEN = "An error occurred while processing your request."
_REFUSAL = "I'm sorry, I can't assist with that request."
_PAD = "aV3kP0zQ9mXc7LbT"
_LIMITS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_RANGES: Ranges = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "max_output_tokens": (16, None),
                   "max_tool_calls": (1, None), "top_logprobs": (0, 20)}
_KINDS: Mapping[str, type] = {
    "stream": bool, "stream_options": dict, "instructions": str, "tools": list, "store": bool,
    "parallel_tool_calls": bool, "reasoning": dict, "text": dict, "include": list,
    "metadata": dict, "previous_response_id": str, "user": str, "safety_identifier": str,
    "prompt_cache_key": str, "background": bool}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "truncation": ("auto", "disabled"),
    "service_tier": ("auto", "default", "flex", "scale", "priority", "fast"),
    "prompt_cache_retention": ("in_memory", "24h")}
_OTHERS = ("model", "input", "tool_choice", "conversation", "prompt", "moderation",
           "context_management", "prompt_cache_options", "access_programs", "background_options")
_KNOWN = (*_RANGES, *_KINDS, *_WORDS, *_OTHERS)
_INCLUDED = ("file_search_call.results", "web_search_call.results",
             "web_search_call.action.sources", "message.input_image.image_url",
             "computer_call_output.output.image_url", "code_interpreter_call.outputs",
             "reasoning.encrypted_content", "message.output_text.logprobs")
_ROLES = ("system", "assistant", "user", "developer")


class _Events(Voice):
    """The events of one response, each with its number."""

    heartbeat = b": keep-alive\n\n"
    noise: tuple[bytes, ...] = (
        b"id: 1\nretry: 1000\n",
        b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n',
        b'event: response.queued\ndata: {"type":"response.queued","sequence_number":0,'
        b'"response":{}}\n\n')
    malformed = b'event: response.output_text.delta\ndata: {"type":"response.output_text\n\n'

    def __init__(self, body: Mapping[str, Any], calls: list[Call], prompt: int,
                 remember: Memory) -> None:
        super().__init__()
        self.body, self.calls, self.prompt, self.remember = body, calls, prompt, remember
        self.number = -1
        self.items: list[dict[str, Any]] = []
        self.message: dict[str, Any] | None = None
        self.reasoned: dict[str, Any] | None = None
        self.id = f"resp_{secrets.token_hex(24)}"
        self.created = int(time.time())
        self.padded = (body.get("stream_options") or {}).get("include_obfuscation", True)

    def event(self, kind: str, /, **members: object) -> bytes:
        """Return an event."""
        self.number += 1
        data = {"type": kind, "sequence_number": self.number, **members}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), compact(data))

    def response(self, status: str, **changes: object) -> dict[str, Any]:
        """Return the response as it is now."""
        body = self.body
        done = status != "in_progress"
        return {
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "background": False, "completed_at": int(time.time()) if done else None,
            "error": None, "incomplete_details": None, "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"), "max_tool_calls": None,
            "model": body["model"], "output": list(self.items),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": body.get("previous_response_id"),
            "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
            "service_tier": "default", "store": body.get("store", True),
            "temperature": body.get("temperature", 1.0),
            "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
            "tool_choice": body.get("tool_choice", "auto"), "tools": body.get("tools", []),
            "top_logprobs": 0, "top_p": body.get("top_p", 1.0),
            "truncation": body.get("truncation", "disabled"), "user": body.get("user"),
            "usage": self.usage() if done else None, "metadata": body.get("metadata", {}),
            **changes}

    def usage(self) -> dict[str, object]:
        """Return the counts; a word is taken for a token."""
        thoughts = len(THOUGHTS) if self.reasoned else 0
        pieces = [piece for piece in self.said if piece]
        spoken = len(pieces) or len(self.calls if self.tool else ())
        return {"input_tokens": self.prompt,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": spoken + thoughts,
                "output_tokens_details": {"reasoning_tokens": thoughts},
                "total_tokens": self.prompt + spoken + thoughts}

    def frame(self, piece: str) -> bytes:
        """Return a delta, and before the first one all that comes before it."""
        return self.opening() + self.heard() + self.delta("output_text", piece)

    def delta(self, kind: str, piece: str) -> bytes:
        """Return the event of a piece of text or of refusal."""
        rest: dict[str, object] = {"logprobs": []} if kind == "output_text" else {}
        padding = self.padding(piece)
        return self.event(f"response.{kind}.delta", **self.place(), delta=piece, **rest, **padding)

    def padding(self, piece: str) -> dict[str, str]:
        """Return what makes the size of a piece tell less."""
        return {"obfuscation": _PAD[len(piece) % len(_PAD):]} if self.padded else {}

    def place(self) -> dict[str, object]:
        """Return where the text stands: in which part of which item."""
        message = self.message or {}
        return {"item_id": message.get("id"), "output_index": len(self.items), "content_index": 0}

    def opening(self) -> bytes:
        """Return the events before the first item, once, and the thoughts if there are any."""
        if self.number >= 0:
            return b""
        frames = [self.event("response.created", response=self.response("in_progress")),
                  self.event("response.in_progress", response=self.response("in_progress"))]
        return b"".join((*frames, *(self.thought() if self.scenario == "reasoning" else ())))

    def thought(self) -> list[bytes]:
        """Return the events of a reasoning item with a summary."""
        item = self.reason()
        place = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
        empty, part = ({"type": "summary_text", "text": text} for text in ("", "".join(THOUGHTS)))

        def made(kind: str, **rest: object) -> bytes:
            return self.event(f"response.reasoning_summary_{kind}", **place, **rest)

        frames = [
            self.event("response.output_item.added", output_index=0, item={**item, "summary": []}),
            made("part.added", part=empty),
            *(made("text.delta", delta=each) for each in THOUGHTS),
            made("text.done", text=part["text"]),
            made("part.done", part=part),
            self.event("response.output_item.done", output_index=0, item=item)]
        self.items.append(item)
        return frames

    def reason(self) -> dict[str, Any]:
        """Return a reasoning item; what is in it secretly is remembered."""
        summary = [{"type": "summary_text", "text": "".join(THOUGHTS)}]
        name = f"rs_{secrets.token_hex(24)}"
        item: dict[str, Any] = {"id": name, "type": "reasoning", "summary": summary}
        if "reasoning.encrypted_content" in self.body.get("include", ()):
            item["encrypted_content"] = self.remember.seal(name)
        self.reasoned = item
        return item

    def heard(self, kind: str = "output_text") -> bytes:
        """Return the events that begin a message, once."""
        if self.message is not None:
            return b""
        self.message = {"id": f"msg_{secrets.token_hex(24)}", "type": "message",
                        "status": "in_progress", "role": "assistant", "content": []}
        return self.event("response.output_item.added", output_index=len(self.items),
                          item=self.message) + \
            self.event("response.content_part.added", **self.place(), part=_part(kind, ""))

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the events that end the items and the response."""
        frames = [self.opening()]
        if self.scenario == "failed":
            return [*frames, self.fail()]
        if last:
            frames.append(self.text(last))
        if self.scenario == "refusal":
            frames += [self.heard("refusal"), *(self.delta("refusal", each)
                                                for each in words(_REFUSAL))]
        if self.tool:
            for name, values in self.made():
                frames += self.called(name, values)
        else:
            frames += self.finished(reason)
        frames.append(self.closing(reason))
        return [frame for frame in frames if frame]

    def finished(self, reason: str) -> list[bytes]:
        """Return the events that end the message."""
        kind = "refusal" if self.scenario == "refusal" else "output_text"
        text = _REFUSAL if kind == "refusal" else "".join(self.said)
        frames = [self.heard(kind)]
        place, part = self.place(), _part(kind, text)
        member = {"refusal": text} if kind == "refusal" else {"text": text, "logprobs": []}
        status = "incomplete" if reason in _LIMITS else "completed"
        item = {**(self.message or {}), "status": status, "content": [part]}
        frames += [self.event(f"response.{kind}.done", **place, **member),
                   self.event("response.content_part.done", **place, part=part),
                   self.event("response.output_item.done", output_index=len(self.items), item=item)]
        self.items.append(item)
        return frames

    def called(self, name: str, values: dict[str, Any]) -> list[bytes]:
        """Return the events of a function call."""
        index, item = len(self.items), self.call(name, values)
        place = {"item_id": item["id"], "output_index": index}
        start = {**item, "status": "in_progress", "arguments": ""}
        pieces = re.findall("(?s).{1,6}", item["arguments"])
        self.items.append(item)
        kind = "response.function_call_arguments"
        return [self.event("response.output_item.added", output_index=index, item=start),
                *(self.event(f"{kind}.delta", **place, delta=piece, **self.padding(piece))
                  for piece in pieces),
                self.event(f"{kind}.done", **place, arguments=item["arguments"]),
                self.event("response.output_item.done", output_index=index, item=item)]

    def call(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the item of a call; if it was thought about, it needs that thought ever after."""
        item = {"id": f"fc_{secrets.token_hex(24)}", "type": "function_call",
                "status": "completed", "arguments": compact(values).decode(),
                "call_id": f"call_{secrets.token_urlsafe(18)}", "name": name}
        if self.reasoned:
            self.remember.bind(item["id"], self.reasoned["id"])
        return item

    def made(self) -> list[Call]:
        """Return the calls of this answer: one, or all that can be in parallel."""
        return self.calls if self.scenario == "parallel-calls" else self.calls[:1]

    def closing(self, reason: str) -> bytes:
        """Return the last event."""
        response = self.closed(reason)
        return self.event(f"response.{response['status']}", response=response)

    def closed(self, reason: str) -> dict[str, Any]:
        """Return the response as it is at its end."""
        if reason in _LIMITS:
            return self.response("incomplete", incomplete_details={"reason": _LIMITS[reason]})
        return self.response("completed")

    def fail(self) -> bytes:
        """Return the event of a response that failed."""
        error = {"code": "server_error", "message": _BROKEN}
        return self.event("response.failed", response=self.response("failed", error=error,
                                                                    usage=None))

    def failed(self) -> bytes:
        """Return the event of an error outside the response."""
        return self.event("error", code="server_error", message=_BROKEN, param=None)


class _Response(Whole):
    """The answer without streaming: the events' last response."""

    def __init__(self, events: _Events) -> None:
        super().__init__()
        self.events = events
        self.error = compact(wrong(_BROKEN, "server_error"))

    def document(self, reason: str) -> bytes:
        """Return the whole response."""
        events = self.events
        events.said, events.tool, events.scenario = self.said, self.tool, self.scenario
        if self.scenario == "failed":
            error = {"code": "server_error", "message": _BROKEN}
            return compact(events.response("failed", error=error, usage=None))
        for _ in events.end(reason):
            continue  # the events are not told, only what they leave behind
        return compact(events.closed(reason))


def _part(kind: str, text: str) -> dict[str, object]:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


class Memory:
    """What the service knows of earlier responses; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sealed: dict[str, str] = {}
        self._needs: dict[str, str] = {}
        self._stored: dict[str, Messages] = {}

    def seal(self, item: str) -> str:
        """Return secret content for a reasoning item."""
        content = f"gAAAAA{secrets.token_urlsafe(96)}"
        with self._lock:
            self._sealed[item] = content
        return content

    def bind(self, call: str, thought: str) -> None:
        """Remember that a call was thought about."""
        with self._lock:
            self._needs[call] = thought

    def check(self, items: list[dict[str, Any]]) -> None:
        """Check that thoughts come back untouched, and with the calls that they led to.

        Raises:
            Problem: One was changed or left out.
        """
        present = {item.get("id") for item in items}
        with self._lock:
            for index, item in enumerate(items):
                secret = item.get("encrypted_content")
                if secret is not None and self._sealed.get(item.get("id", "")) != secret:
                    raise Problem(f"The encrypted content {secret[:8]}... could not be verified. "
                                  "Reason: Encrypted content could not be decrypted or parsed.",
                                  None, "invalid_encrypted_content")
                needed = self._needs.get(item.get("id", ""))
                if needed and needed not in present:
                    raise Problem(f"Item '{item['id']}' of type 'function_call' was provided "
                                  f"without its required 'reasoning' item: '{needed}'.", "input")

    def store(self, response: str, messages: Messages) -> None:
        """Keep the messages of a response for those that follow it."""
        with self._lock:
            self._stored[response] = messages

    def recall(self, response: str) -> Messages:
        """Return the messages of a response.

        Raises:
            Problem: It is not stored.
        """
        with self._lock:
            if response in self._stored:
                return self._stored[response]
        raise Problem(f"Previous response with id '{response}' not found.", "previous_response_id",
                      "previous_response_not_found")


class OpenAIResponses(OpenAI):
    """Responses and the counting of their tokens, with models and embeddings as elsewhere."""

    name = "openai-responses"
    stages = ("models", "embeddings", "count")
    special = frozenset({"function-call", "parallel-calls", "reasoning", "refusal",
                         "content-filter", "failed", "quota", "context"})
    paths: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("POST", "/v1/responses", "chat"), ("POST", "/v1/responses/input_tokens", "count"),
        *OpenAI.paths[1:])

    def __init__(self, *, secure: bool = False) -> None:
        super().__init__(secure=secure)
        self._memory = Memory()

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Count tokens, and what is done elsewhere too."""
        if stage != "count":
            return super().other(request, stage, scenario)
        self.authorize(request)
        return self.checked(request, self._count)

    def chat(self, request: Recorded) -> Chat:
        """Check key, model, input and values, in this order."""
        self.authorize(request)
        return self.checked(request, self._respond)

    def _respond(self, body: dict[str, Any]) -> Chat:
        model = known_model(body, CHATS)
        _check(body, model)
        messages = self._told(body)
        calls, forced = _offered(body, messages)
        events = _Events(body, calls, prompt_tokens(messages), self._memory)
        stream = bool(body.get("stream"))
        wanted = body.get("text", {}).get("format", {})

        def done(finished: bool) -> None:
            if finished and body.get("store", True):
                said = {"role": "assistant", "content": "".join(events.said)}
                self._memory.store(events.id, [*messages, said])

        return Chat(events if stream else _Response(events), messages,
                    "text/event-stream; charset=utf-8" if stream else "application/json",
                    headers(200), limit=body.get("max_output_tokens"),
                    tool=calls[0] if calls else None, forced=forced, done=done,
                    schema=wanted.get("schema", {}) if wanted.get("type", "text") != "text"
                    else None)

    def _told(self, body: Mapping[str, Any]) -> Messages:
        """Return what was said before and what is said now."""
        before: Messages = []
        if previous := body.get("previous_response_id"):
            before = self._memory.recall(previous)
        found = body.get("input", "")
        if isinstance(found, list):
            self._memory.check(found)
        if instructions := body.get("instructions"):
            before = [{"role": "system", "content": instructions}, *before]
        return [*before, *_spoken(found)]

    def _count(self, body: dict[str, Any]) -> Document:
        _check(body, known_model(body, CHATS))
        count = prompt_tokens(self._told(body))
        return Document.of({"object": "response.input_tokens", "input_tokens": count},
                           headers=headers(200), value="input_tokens")


def _offered(body: Mapping[str, Any], messages: Messages) -> tuple[list[Call], bool]:
    functions = {tool["name"]: tool.get("parameters") for tool in body.get("tools", ())}
    choice = body.get("tool_choice", "auto")
    named = choice.get("name") if isinstance(choice, dict) else None
    calls, forced = offered(functions, choice, named, messages)
    return calls if body.get("parallel_tool_calls", True) else calls[:1], forced


def _check(body: Mapping[str, Any], model: str) -> None:
    if unknown := next((name for name in body if name not in _KNOWN), ""):
        raise Problem(f"Unknown parameter: '{unknown}'.", unknown, "unknown_parameter")
    check_values(body, _RANGES, _KINDS)
    for name, allowed in _WORDS.items():
        if name in body and body[name] not in allowed:
            raise unlisted(name, body[name], allowed)
    for index, name in enumerate(body.get("include", ())):
        if name not in _INCLUDED:
            raise unlisted(f"include[{index}]", name, _INCLUDED)
    if "input" not in body and "previous_response_id" not in body:
        raise missing("input")
    _check_input(body.get("input", ""))
    _check_tools(body.get("tools", ()))
    _check_text(body.get("text", {}))
    _check_reasoning(body, model)


def _check_reasoning(body: Mapping[str, Any], model: str) -> None:
    reasoning = body.get("reasoning", {})
    if not reasons(model):
        if reasoning.get("effort") or reasoning.get("summary"):
            raise unsupported("reasoning.effort" if reasoning.get("effort")
                              else "reasoning.summary")
        if "reasoning.encrypted_content" in body.get("include", ()):
            raise Problem("Encrypted content is not supported with this model.", "include")
        return
    if (effort := reasoning.get("effort")) not in (None, *EFFORTS):
        raise unlisted("reasoning.effort", effort, EFFORTS)
    if (summary := reasoning.get("summary")) not in (None, "auto", "concise", "detailed"):
        raise unlisted("reasoning.summary", summary, ("auto", "concise", "detailed"))
    for name in ("temperature", "top_p"):
        if name in body:
            raise unsupported(name)


def _check_input(found: object) -> None:
    if isinstance(found, str):
        return
    if not isinstance(found, list):
        raise untyped("input", "one of an array of objects or a string", found)
    calls: list[str] = []
    for index, item in enumerate(found):
        param = f"input[{index}]"
        if not isinstance(item, dict):
            raise untyped(param, "an object", item)
        kind = str(item.get("type", "message"))
        if kind not in _ITEMS:
            raise unlisted(param, kind, tuple(_ITEMS))
        for member in _ITEMS[kind]:
            if member not in item:
                raise missing(f"{param}.{member}")
        if kind == "message":
            _check_message(item, param)
        if kind == "function_call":
            calls.append(item["call_id"])
        if kind == "function_call_output" and item["call_id"] not in calls:
            raise Problem("No tool call found for function call output with call_id "
                          f"{item['call_id']}.", "input")
    answered = [item.get("call_id") for item in found
                if item.get("type") == "function_call_output"]
    if lost := next((call for call in calls if call not in answered), ""):
        raise Problem(f"No tool output found for function call {lost}.", "input")


_ITEMS: dict[str, tuple[str, ...]] = {
    "message": ("role", "content"), "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"), "reasoning": ("id", "summary"),
    "item_reference": ("id",)}


def _check_message(item: Mapping[str, Any], param: str) -> None:
    if item["role"] not in _ROLES:
        raise unlisted(f"{param}.role", item["role"], _ROLES)
    content = item["content"]
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise untyped(f"{param}.content", "one of an array of objects or a string", content)
    kinds = ("output_text", "refusal") if item["role"] == "assistant" else \
        ("input_text", "input_image", "input_file")
    for index, part in enumerate(content):
        here = f"{param}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in kinds:
            raise unlisted(here, kind, kinds)
        if kind == "input_image" and "file_id" not in part:
            check_image(f"{here}.image_url", part.get("image_url"))
        elif kind == "input_file":
            _check_file(part, here)
        elif kind != "input_image" and not isinstance(text := _words(part), str):
            raise untyped(f"{here}.text", "a string", text)


def _words(part: Mapping[str, Any]) -> object:
    return part.get("refusal" if part["type"] == "refusal" else "text")


def _check_file(part: Mapping[str, Any], param: str) -> None:
    if "file_id" in part or "file_url" in part:
        return
    found = re.match(r"data:[\w/.+-]+;base64,(.+)", part.get("file_data") or "", re.S)
    if not found or "filename" not in part:
        raise missing(f"{param}.file_id")
    check_base64(f"{param}.file_data", found[1])


def _check_tools(tools: object) -> None:
    for index, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        param = f"tools[{index}]"
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise unlisted(f"{param}.type", tool.get("type") if isinstance(tool, dict) else tool,
                           ("function", "custom", "web_search", "file_search"))
        check_name(f"{param}.name", tool.get("name"))
        if tool.get("parameters") is not None:
            check_schema("function", tool["name"], tool["parameters"],
                         strict=bool(tool.get("strict")), param=f"{param}.parameters")


def _check_text(text: Mapping[str, Any]) -> None:
    if (verbosity := text.get("verbosity", "low")) not in ("low", "medium", "high"):
        raise unlisted("text.verbosity", verbosity, ("low", "medium", "high"))
    wanted = text.get("format", {"type": "text"})
    kinds = ("text", "json_object", "json_schema")
    if wanted.get("type") not in kinds:
        raise unlisted("text.format.type", wanted.get("type"), kinds)
    if wanted["type"] == "json_schema":
        check_name("text.format.name", wanted.get("name"))
        check_schema("response_format", wanted["name"], wanted.get("schema"),
                     strict=bool(wanted.get("strict")), param="text.format.schema")


def _spoken(found: Any) -> Messages:
    """Return what the items say, in plain roles; an image is ``[image]``, and so on."""
    if isinstance(found, str):
        return [{"role": "user", "content": found}]
    names = {item["call_id"]: item["name"] for item in found
             if item.get("type") == "function_call"}
    told: Messages = []
    for item in found:
        kind = item.get("type", "message")
        if kind == "message":
            role = {"developer": "system"}.get(item["role"], item["role"])
            told.append({"role": role, "content": _text(item["content"])})
        elif kind == "function_call_output":
            told.append({"role": "tool", "name": names.get(item["call_id"], ""),
                         "content": _text(item["output"])})
    return told


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(_words(part) or f"[{part['type'].split('_')[-1]}]") for part in content)
