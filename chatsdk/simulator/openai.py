"""OpenAI's Chat Completions, models and embeddings: what most other services speak as well.

Source: the official SDK's types (openai-python 3.54), the pages of the API's reference at
https://platform.openai.com/docs/api-reference, and the messages that the service was seen to send.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
import re
import secrets
import struct
import time
from typing import Any, ClassVar, TypeVar

from .openai_chat_checks import check
from .openai_checks import (
    Call,
    CHATS,
    check_values,
    EMBEDDERS,
    known_model,
    missing,
    offered,
    parsed,
    Problem,
    unlisted,
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
_PAD = "aV3kP0zQ9mXc7LbT"  # obfuscation: makes the size of a chunk tell less
_MOST_INPUTS = 2048


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
        check(body, model)
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
