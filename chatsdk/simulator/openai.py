"""OpenAI's Chat Completions, models and embeddings: what most other services speak as well.

Source: the official SDK's types (openai-python 3.54), the pages of the API's reference at
https://platform.openai.com/docs/api-reference, and the messages that the service was seen to send.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
import json
import re
import secrets
import struct
import time
from typing import Any, ClassVar, TypeVar

from .openai_checks import (
    Call,
    CHATS,
    check_base64,
    check_image,
    check_name,
    check_schema,
    check_values,
    EFFORTS,
    EMBEDDERS,
    known_model,
    missing,
    offered,
    parsed,
    Problem,
    Ranges,
    reasons,
    unlisted,
    unsupported,
    untyped,
)
from .scripts import words
from .service import Chat, Document, Messages, Pairs, phrase, Recorded, Refused, Service
from .vectors import vector
from .voice import compact, THOUGHTS, Voice, Whole

Made = TypeVar("Made")

_FINGERPRINT = "fp_4f3c2a1b0e"
_REFUSAL = "I'm sorry, I can't assist with that request."
_BROKEN = "The server had an error while processing your request. Sorry about that!"
_REASONS = {"stop_sequence": "stop"}
_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_PAD = "aV3kP0zQ9mXc7LbT"  # obfuscation: makes the size of a chunk tell less
_MOST_STOPS = 4
_MOST_INPUTS = 2048
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


class Chunks(Voice):
    """Chunks as the service sends them: the role first, null for what is not there."""

    heartbeat = b": keep-alive\n\n"
    noise: tuple[bytes, ...] = (
        b"event: message\n",
        b"id: 1\nretry: 1000\n",
        b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
        b'[{"prompt_index":0,"content_filter_results":{}}]}\n\n',
    )
    malformed = b'data: {"id":"chatcmpl-0","choices":[{"delta":{"content":\n\n'

    def __init__(self, body: Mapping[str, Any], calls: list[Call], prompt: int) -> None:
        super().__init__()
        options = body.get("stream_options") or {}
        self.counts = bool(options.get("include_usage"))
        self.padded = options.get("include_obfuscation", True)
        self.calls, self.prompt = calls, prompt
        self.thoughts = 0
        self.begun = False
        model = body["model"]
        self.about: dict[str, object] = {
            "id": f"chatcmpl-{secrets.token_urlsafe(21)}", "object": "chat.completion.chunk",
            "created": int(time.time()), "model": model, "service_tier": "default",
            "system_fingerprint": _FINGERPRINT}
        self.error = b"data: %b\n\n" % compact(wrong(_BROKEN, "server_error"))

    def frame(self, piece: str) -> bytes:
        """Return a chunk with a delta, and before the first one the role."""
        return self.opening() + self.chunk({"content": piece})

    def opening(self) -> bytes:
        """Return the chunks that come before the text, once."""
        if self.begun:
            return b""
        self.begun = True
        first = b"" if self.tool else self.chunk({"role": "assistant", "content": "",
                                                  "refusal": None})
        if self.scenario != "reasoning":
            return first
        self.thoughts = len(THOUGHTS)
        return first + b"".join(self.chunk(self.thought(each)) for each in self.reasoning())

    def reasoning(self) -> tuple[str, ...]:
        """Return what is thought, in pieces."""
        return THOUGHTS

    def thought(self, piece: str) -> dict[str, Any]:
        """Return reasoning as members of a delta, or of a whole message."""
        return {"reasoning_content": piece}

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the chunks of refusal or calls, the finish reason, the usage, and the mark."""
        frames = [self.opening()]
        reason = _REASONS.get(reason, reason)
        if self.scenario == "refusal":
            frames += [self.chunk({"refusal": piece}) for piece in words(_REFUSAL)]
        if self.tool:
            frames += self.called()
            reason = "tool_calls"
        if last:
            frames.append(self.text(last))
        closing: dict[str, object] = {}
        if self.scenario == "last-text" and not self.tool:
            closing = {"content": " The end."}
            self.said.append(" The end.")
        frames += self.closing(closing, reason)
        if self.scenario != "no-done":
            frames.append(b"data: [DONE]\n\n")
        return [frame for frame in frames if frame]

    def closing(self, delta: dict[str, object], reason: str) -> list[bytes]:
        """Return the chunks with the finish reason and with the usage."""
        finish = [] if self.scenario == "no-finish" else [self.chunk(delta, reason)]
        return [*finish, *([self.event([], usage=self.usage())] if self.counts else [])]

    def called(self) -> list[bytes]:
        """Return the chunks of the calls: name and id first, then the arguments in pieces."""
        if self.scenario == "whole-calls":
            return [self.chunk({"role": "assistant", "content": None,
                                "tool_calls": self.made()})]
        frames = [self.chunk({"role": "assistant", "content": None})]
        for index, call in enumerate(self.made()):
            function = call["function"]
            start = {"index": index, **call, "function": {**function, "arguments": ""}}
            frames.append(self.chunk({"tool_calls": [start]}))
            for piece in re.findall("(?s).{1,6}", function["arguments"]):
                part = {"index": index, "function": {"arguments": piece}}
                frames.append(self.chunk({"tool_calls": [part]}))
        return frames

    def made(self) -> list[dict[str, Any]]:
        """Return the calls of this answer: one, or all that can be in parallel."""
        calls = self.calls if self.scenario == "parallel-calls" else self.calls[:1]
        return [{"id": f"call_{secrets.token_urlsafe(18)}", "type": "function",
                 "function": {"name": name, "arguments": compact(values).decode()}}
                for name, values in calls]

    def chunk(self, delta: dict[str, Any], reason: str | None = None, **rest: object) -> bytes:
        """Return an event with one choice."""
        size = len(str(delta.get("content", "")))
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self.event([choice], pad=_PAD[size % len(_PAD):], **rest)

    def event(self, choices: list[dict[str, Any]], pad: str = "", **rest: object) -> bytes:
        """Return an event."""
        extra: dict[str, object] = {"usage": None, **rest} if self.counts else rest
        if self.padded and pad:
            extra["obfuscation"] = pad
        return b"data: %b\n\n" % compact({**self.about, "choices": choices, **extra})

    def usage(self) -> dict[str, object]:
        """Return the counts; a word is taken for a token."""
        pieces = [piece for piece in self.said if piece]
        spoken = len(pieces) or len(self.calls if self.tool else ())
        completion = spoken + self.thoughts
        return {"prompt_tokens": self.prompt, "completion_tokens": completion,
                "total_tokens": self.prompt + completion,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": self.thoughts, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}


class Completion(Whole):
    """The answer without streaming."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self.chunks = chunks
        self.error = compact(wrong(_BROKEN, "server_error"))

    def document(self, reason: str) -> bytes:
        """Return the document with the whole message."""
        chunks = self.chunks
        chunks.said, chunks.tool, chunks.scenario = self.said, self.tool, self.scenario
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.said),
                                   "refusal": None, "annotations": []}
        if self.scenario == "reasoning":
            chunks.thoughts = len(THOUGHTS)
            thought = chunks.thought("".join(chunks.reasoning()))
            content = thought.pop("content", "")
            if isinstance(content, list):
                message["content"] = [*content, {"type": "text", "text": message["content"]}]
            else:
                message["content"] = content + message["content"]
            message.update(thought)
        if self.scenario == "refusal":
            message.update(content=None, refusal=_REFUSAL)
        if self.tool:
            message.update(content=None, tool_calls=chunks.made())
            reason = "tool_calls"
        choice = {"index": 0, "message": message, "logprobs": None,
                  "finish_reason": _REASONS.get(reason, reason)}
        if self.scenario == "no-finish":
            del choice["finish_reason"]
        return compact({**chunks.about, "object": "chat.completion", "choices": [choice],
                        "usage": chunks.usage()})


class OpenAI(Service):
    """Chats, models and embeddings below ``/v1``, behind a key."""

    name = "openai"
    listed: ClassVar[tuple[str, ...]] = (*CHATS, *EMBEDDERS)
    stages: ClassVar[tuple[str, ...]] = ("models", "embeddings")
    special = frozenset({"no-finish", "last-text", "function-call", "parallel-calls",
                         "whole-calls", "reasoning", "think-tags", "no-done", "refusal",
                         "content-filter", "quota", "context"})
    paths: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("POST", "/v1/chat/completions", "chat"), ("GET", "/v1/models(/.+)?", "models"),
        ("POST", "/v1/embeddings", "embeddings"))

    def fields(self, root: str) -> dict[str, Any]:
        """Return the URL of the API."""
        return {"base_url": f"{root}/v1"}

    def stage(self, request: Recorded) -> str:
        """Tell requests apart by method and path."""
        return next((stage for method, path, stage in self.paths
                     if request.method == method and re.fullmatch(path, request.path)), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return ``{"error": {"message", "type", "param", "code"}}``."""
        if status == 401 and not message:
            shown = _masked(key_of(request))
            message = f"Incorrect API key provided: {shown}. You can find your API key at " \
                      "https://platform.openai.com/account/api-keys."
        usual = "server_error" if status >= 500 else "invalid_request_error"
        kind, code = _TYPES.get(status, (usual, None))
        default = {429: _SLOW, 500: _BROKEN}.get(status, phrase(status))
        return Document.of(wrong(message or default, kind, code=code), status,
                           headers=headers(status))

    def refusal(self, kind: str, status: int, request: Recorded) -> Document:
        """Return the error of a used-up quota or of a prompt that is too long."""
        refused = {"quota": wrong(_QUOTA, "insufficient_quota", code="insufficient_quota"),
                   "context": wrong(_LONG, "invalid_request_error", "messages",
                                    "context_length_exceeded")}
        return Document.of(refused[kind], status, headers=headers(status))

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Tell of models, or embed texts."""
        self.authorize(request)
        if stage == "models":
            return self._models(request)
        if stage == "embeddings":
            return self.checked(request, self.embedded)
        text = f"Invalid URL ({request.method} {request.path})"
        raise Refused(Document.of(wrong(text, "invalid_request_error"), 404,
                                  headers=headers(404)))

    def authorize(self, request: Recorded) -> None:
        """Check that there is a key.

        Raises:
            Refused: There is none.
        """
        if not key_of(request):
            raise Refused(self.error(401, request, _NO_KEY))

    def checked(self, request: Recorded, answer: Callable[[dict[str, Any]], Made]) -> Made:
        """Return what `answer` makes of the members of a body.

        Raises:
            Refused: It has a problem with them.
        """
        try:
            return answer(parsed(request.body))
        except Problem as problem:
            body = wrong(problem.message, "invalid_request_error", problem.param, problem.code)
            raise Refused(Document.of(body, problem.status,
                                      headers=headers(problem.status))) from None

    def chat(self, request: Recorded) -> Chat:
        """Check key, model, messages and values, in this order."""
        self.authorize(request)
        return self.checked(request, self.made)

    def made(self, body: dict[str, Any]) -> Chat:
        """Return the chat that a body asks for.

        Raises:
            Problem: The service does not accept it.
        """
        model = known_model(body, CHATS)
        _check(body, model)
        return completion(body, Chunks)

    def embedded(self, body: dict[str, Any]) -> Document:
        """Return vectors.

        Raises:
            Problem: The service does not accept what is asked.
        """
        return embeddings(body, known_model(body, EMBEDDERS))

    def _models(self, request: Recorded) -> Document:
        listed = [{"id": name, "object": "model", "created": 1753315200, "owned_by": self.name}
                  for name in self.listed]
        wanted = request.path.rpartition("/models")[2].strip("/")
        if not wanted:
            return Document.of({"object": "list", "data": listed}, headers=headers(200),
                               value="data")
        for model in listed:
            if model["id"] == wanted:
                return Document.of(model, headers=headers(200), value="id")
        text = f"The model '{wanted}' does not exist"
        raise Refused(Document.of(wrong(text, "invalid_request_error", "model", "model_not_found"),
                                  404, headers=headers(404)))


def completion(body: dict[str, Any], kind: type[Chunks]) -> Chat:
    """Return the chat of a body that was checked, told in chunks of a kind."""
    messages = spoken(body["messages"])
    functions = {tool["function"]["name"]: tool["function"].get("parameters")
                 for tool in body.get("tools") or ()}
    choice = body.get("tool_choice", "auto")
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    calls, forced = offered(functions, choice, named, messages)
    if not body.get("parallel_tool_calls", True):
        calls = calls[:1]
    chunks = kind(body, calls, prompt_tokens(messages))
    stream = bool(body.get("stream"))
    stops = body.get("stop") or ()
    wanted = body.get("response_format", {})
    schema = wanted.get("json_schema", {}).get("schema", {})
    return Chat(chunks if stream else Completion(chunks), messages,
                "text/event-stream; charset=utf-8" if stream else "application/json",
                headers(200), limit=body.get("max_completion_tokens", body.get("max_tokens")),
                stops=(stops,) if isinstance(stops, str) else tuple(stops), keeps_stop=False,
                tool=calls[0] if calls else None, forced=forced,
                schema=schema if wanted.get("type", "text") != "text" else None)


def prompt_tokens(messages: Messages) -> int:
    """Return a count of the prompt's tokens: words, and three for each message."""
    return sum(len(words(message["content"])) + 3 for message in messages)


def _check(body: dict[str, Any], model: str) -> None:
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


def spoken(messages: list[dict[str, Any]]) -> Messages:
    """Return what the messages say, in plain roles; an image is ``[image]``, and so on."""
    names = {call["id"]: call["function"].get("name", "") for message in messages
             for call in message.get("tool_calls") or ()}
    told: Messages = []
    for message in messages:
        content = message.get("content") or message.get("refusal") or ""
        if isinstance(content, list):
            content = " ".join(part.get("text") or f"[{part['type'].split('_')[0]}]"
                               for part in content)
        role = {"developer": "system"}.get(message["role"], message["role"])
        name = {"name": names.get(message["tool_call_id"], "")} if role == "tool" else {}
        told.append({"role": role, "content": content, **name})
    return told


def embeddings(body: dict[str, Any], model: str) -> Document:
    """Return vectors of texts.

    Raises:
        Problem: Something in the body is wrong.
    """
    most = EMBEDDERS.get(model, 1536)
    if unknown := next((name for name in body if name not in _EMBEDDING), ""):
        raise Problem(f"Unrecognized request argument supplied: {unknown}")
    check_values(body, {"dimensions": (1, most)}, {"user": str})
    if "dimensions" in body and model == "text-embedding-ada-002":
        raise Problem("This model does not support specifying dimensions.")
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise unlisted("encoding_format", form, ("float", "base64"))
    texts = _inputs(body)
    size = body.get("dimensions", most)
    data = [{"object": "embedding", "index": index, "embedding": _written(vector(text, size), form)}
            for index, text in enumerate(texts)]
    count = sum(len(words(text)) for text in texts)
    return Document.of({"object": "list", "data": data, "model": model,
                        "usage": {"prompt_tokens": count, "total_tokens": count}},
                       headers=headers(200), value="data")


_EMBEDDING = ("model", "input", "dimensions", "encoding_format", "user")


def _inputs(body: Mapping[str, Any]) -> list[str]:
    """Return the texts to embed; lists of token numbers count as texts of numbers."""
    found = body.get("input")
    if found is None:
        raise missing("input")
    if isinstance(found, list) and found and all(isinstance(each, int) for each in found):
        found = [found]
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(
            isinstance(text, (str, list)) and text for text in texts):
        raise Problem("'$.input' is invalid. Please check the API reference: "
                      "https://platform.openai.com/docs/api-reference.")
    if len(texts) > _MOST_INPUTS:
        raise Problem(f"Invalid 'input': array too long. Expected an array with maximum length "
                      f"{_MOST_INPUTS}, but got an array with length {len(texts)} instead.",
                      "input", "array_above_max_length")
    return [text if isinstance(text, str) else " ".join(map(str, text)) for text in texts]


def _written(numbers: list[float], form: str) -> object:
    """Return a vector as the client wants it; both forms say the same 32-bit numbers."""
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    if form == "float":
        return struct.unpack(f"<{len(numbers)}f", packed)
    return base64.b64encode(packed).decode()


def wrong(message: str, kind: str, param: str | None = None,
          code: str | None = None) -> dict[str, object]:
    """Return an error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_TYPES: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("request_forbidden", "unsupported_country_region_territory"),
    429: ("requests", "rate_limit_exceeded")}
_SLOW = "Rate limit reached for requests. Please try again in 20s."
_NO_KEY = "You didn't provide an API key. You need to provide your API key in an Authorization " \
    "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_LONG = "This model's maximum context length is 128000 tokens. However, your messages resulted " \
    "in 130001 tokens. Please reduce the length of the messages."


def key_of(request: Recorded) -> str:
    """Return the key that a request carries, "" if it has none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _masked(key: str) -> str:
    """Return a key as the service quotes it: its first and last letters."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 8 else "*" * len(key)


def headers(status: int) -> Pairs:
    """Return the fields of every answer: an id, and what is left of the limits."""
    common: Pairs = (("openai-organization", "simulated"), ("openai-processing-ms", "7"),
                     ("openai-version", "2020-10-01"),
                     ("x-request-id", f"req_{secrets.token_hex(16)}"))
    if status != 200:
        return common
    limits = (("limit-requests", "10000"), ("limit-tokens", "2000000"),
              ("remaining-requests", "9999"), ("remaining-tokens", "1999990"),
              ("reset-requests", "6ms"), ("reset-tokens", "0s"))
    return (*common, *((f"x-ratelimit-{name}", value) for name, value in limits))
