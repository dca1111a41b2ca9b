"""Google's Gemini API: parts of content, server-sent events without a mark of the end.

Source: https://ai.google.dev/api/generate-content, its pages on function calling, thinking, thought
signatures, structured output and embeddings, and the types of the official SDK (google-genai 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import re
import secrets
from typing import Any

from .brain import arguments
from .gemini_checks import (
    called,
    check,
    check_embedding,
    METHODS,
    MODELS,
    named,
    plain,
    Problem,
    sign,
    spoken,
)
from .scripts import words
from .service import Chat, Document, Messages, phrase, Recorded, Refused, Service
from .vectors import vector
from .voice import compact, THOUGHTS, Voice, Whole

_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
             404: "NOT_FOUND", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
             500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
_SAYS = {
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
         "cookie or other valid authentication credential.",
    429: "You exceeded your current quota, please check your plan and billing details.",
    500: "An internal error has occurred. Please retry or report in "
         "https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
}
_NO_KEY = "Method doesn't allow unregistered callers (callers without established identity). " \
          "Please use API Key or other form of API consumer identity to call this API."
_STOPS = {"stop": "STOP", "length": "MAX_TOKENS", "stop_sequence": "STOP",
          "content_filter": "SAFETY"}
_RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
_MINUTE, _DAY = ({
    "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": f"GenerateRequests{span}PerProjectPerModel-FreeTier", "quotaValue": "20"}]}
    for span in ("PerMinute", "PerDay"))
_JSON = "application/json; charset=UTF-8"
_MEDIA = 258  # tokens of an image
_PAGE = 50

Part = dict[str, Any]


class _Plan:
    """What an answer is made of besides its text.

    Args:
        model: Its name.
        prompt: Tokens of the prompt.
        cached: Those of them that come from a cache.
        thinks: Whether thoughts are told.
        calls: Parts of all functions that may be called, the chosen one first.
    """

    def __init__(self, model: str, prompt: int, cached: int, thinks: bool,
                 calls: list[Part]) -> None:
        self.about = {"modelVersion": model, "responseId": secrets.token_urlsafe(16)}
        self.signs = named(model).levels
        self.prompt, self.cached, self.thinks, self.calls = prompt, cached, thinks, calls

    def thoughts(self, scenario: str) -> list[Part]:
        """Return the parts that come before text and calls."""
        told = self.thinks or scenario == "reasoning"
        return [{"text": piece, "thought": True} for piece in THOUGHTS] if told else []

    def made(self, scenario: str) -> list[Part]:
        """Return the calls that are made; only the first is signed."""
        calls = self.calls if scenario == "parallel-calls" else self.calls[:1]
        if not self.signs:
            return calls
        first, *rest = calls
        return [{**first, "thoughtSignature": sign(called(first["functionCall"]))}, *rest]

    def last(self, text: str) -> Part:
        """Return the last part with text; models that think sign it."""
        return {"text": text, **({"thoughtSignature": sign("")} if self.signs else {})}

    def response(self, parts: list[Part], counts: Mapping[str, int], **rest: object) -> Part:
        """Return a whole response or a step of one."""
        content = {"parts": parts, "role": "model"}
        return {"candidates": [{"content": content, **rest, "index": 0}],
                "usageMetadata": self.usage(**counts), **self.about}

    def usage(self, spoken: int = 0, thoughts: int = 0) -> dict[str, Any]:
        """Return the counts so far; a word is taken for a token, and 0 is left out."""
        counts = {"promptTokenCount": self.prompt, "candidatesTokenCount": spoken,
                  "totalTokenCount": self.prompt + spoken + thoughts,
                  "cachedContentTokenCount": self.cached, "thoughtsTokenCount": thoughts}
        details = [{"modality": "TEXT", "tokenCount": self.prompt}]
        return {**{name: value for name, value in counts.items() if value},
                "promptTokensDetails": details}

    def blocked(self) -> Part:
        """Return the response to a prompt that is refused."""
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
                "usageMetadata": self.usage(), **self.about}


def _counts(spoken: int, thoughts: list[Part], calls: list[Part]) -> dict[str, int]:
    args = sum(len(words(compact(call["functionCall"]).decode())) for call in calls)
    return {"spoken": spoken + args, "thoughts": len(thoughts)}


def _finish(reason: str, voice: Voice) -> dict[str, object]:
    if voice.scenario == "no-finish":
        return {}
    return {"finishReason": _STOPS[reason]}


class _Chunks(Voice):
    """The steps of a stream; the last tells why it ended, and nothing comes after it."""

    heartbeat = b": keep-alive\r\n\r\n"
    noise = (
        b"event: message\r\n",
        b"id: 1\r\nretry: 1000\r\n",
        b'data: {"usageMetadata":{"promptTokenCount":1,"totalTokenCount":1}}\r\n\r\n',
        b'data: {"candidates":[{"content":{"role":"model"},"index":0}]}\r\n\r\n',
        b'data: {"candidates":[{"content":{"parts":[{"ofTomorrow":{"text":"no"}}],'
        b'"role":"model"},"index":0}]}\r\n\r\n',
    )
    malformed = b'data: {"candidates":[{"content":\r\n\r\n'
    error = b'data: {"error":{"code":503,"message":"The model is overloaded. Please try again ' \
            b'later.","status":"UNAVAILABLE"}}\r\n\r\n'

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan
        self.thoughts: list[Part] | None = None
        self.spoken = 0  # pieces of text, counted as they come

    def frame(self, piece: str) -> bytes:
        """Return the step with a piece of text; thoughts come before the first."""
        if self.scenario == "blocked":
            return b""
        self.spoken += bool(piece)
        return self.begin() + self.step([{"text": piece}])

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the steps with the calls and with why the answer ended."""
        if self.scenario == "blocked":
            return [_data(self.plan.blocked())]
        frames = [self.begin()]
        calls = self.plan.made(self.scenario) if self.tool else []
        if calls:
            frames.append(self.step(calls, calls))
        if self.scenario == "last-text" and not last and not calls:
            last = " The end."
        if last:
            self.said.append(last)
            self.spoken += 1
        frames.append(self.step([self.plan.last(last)], calls, **_finish(reason, self)))
        return [frame for frame in frames if frame]

    def begin(self) -> bytes:
        """Return the thoughts, the first time."""
        if self.thoughts is not None:
            return b""
        self.thoughts = self.plan.thoughts(self.scenario)
        return b"".join(self.step([thought]) for thought in self.thoughts)

    def step(self, parts: list[Part], calls: list[Part] | None = None, **rest: object) -> bytes:
        """Return the event with a few parts."""
        counts = _counts(self.spoken, self.thoughts or [], calls or [])
        return _data(self.plan.response(parts, counts, **rest))


def _data(value: object) -> bytes:
    return b"data: %b\r\n\r\n" % compact(value)


class _Document(Whole):
    """The answer without streaming, or as the list of JSON that a stream without SSE is."""

    def __init__(self, plan: _Plan, *, listed: bool = False) -> None:
        super().__init__()
        self.plan, self.listed = plan, listed
        self.error = _pretty(json.loads(_Chunks.error[len(b"data: "):]))

    def document(self, reason: str) -> bytes:
        """Return the response with all of its parts."""
        response = self.plan.blocked() if self.scenario == "blocked" else self.response(reason)
        return _pretty([response] if self.listed else response)

    def response(self, reason: str) -> Part:
        """Return the response with all of its parts."""
        thoughts = self.plan.thoughts(self.scenario)
        calls = self.plan.made(self.scenario) if self.tool else []
        text = "".join(self.said)
        whole = [{"text": "".join(THOUGHTS), "thought": True}] if thoughts else []
        parts = [*whole, *calls] if calls else [*whole, self.plan.last(text)]
        counts = _counts(sum(1 for piece in self.said if piece), thoughts, calls)
        return self.plan.response(parts, counts, **_finish(reason, self))


def _pretty(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


class Gemini(Service):
    """Generation, counting, embeddings and the list of models, below ``/v1beta/models``."""

    name = "gemini"
    stages = ("count", "embeddings", "models")
    special = frozenset({"no-finish", "last-text", "content-filter", "blocked",
                         "reasoning", "function-call", "parallel-calls", "quota", "context"})

    def stage(self, request: Recorded) -> str:
        """Tell the methods of a model and the lists apart, by method and path."""
        if request.method == "POST":
            return METHODS.get(_method(request)[1], "")
        models = request.method == "GET" and re.fullmatch("/v1(beta)?/models(/[^/:]+)?",
                                                          request.path)
        return "models" if models else ""

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return ``{"error": {"code", "message", "status"}}``."""
        return _failure(status, message, [_MINUTE, _RETRY] if status == 429 else [])

    def refusal(self, kind: str, status: int, request: Recorded) -> Document:
        """Return the error answer for a quota of the day or for a prompt that is too long."""
        if kind == "context":
            return _failure(status, "The input token count (1048593) exceeds the maximum number of "
                                    "tokens allowed (1048576).")
        return _failure(status, "", [_DAY, {**_RETRY, "retryDelay": "40s"}])

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Count tokens, embed texts or tell of models."""
        if not stage:
            raise Refused(self.error(404, request, "Requested entity was not found."))
        self._admit(request)
        try:
            return self._embedded(request) if stage == "embeddings" else \
                self._counted(request) if stage == "count" else self._models(request)
        except Problem as problem:
            raise Refused(self.error(problem.status, request, str(problem))) from None

    def chat(self, request: Recorded) -> Chat:
        """Check key, model and body, in this order."""
        self._admit(request)
        model, method = _method(request)
        try:
            body = check(request.json, model, method)
        except Problem as problem:
            raise Refused(self.error(problem.status, request, str(problem))) from None
        config = body.get("generationConfig", {})
        messages = spoken(body)
        calls, forced = _offered(body, messages, ids=bool(named(model).levels))
        told = bool((config.get("thinkingConfig") or {}).get("includeThoughts"))
        prompt = _tokens(body, messages)
        cached = prompt // 2 if body.get("cachedContent") else 0
        plan = _Plan(model, prompt, cached, told, calls)
        stream = method == "streamGenerateContent"
        events = stream and request.query.get("alt") == "sse"
        voice = _Chunks(plan) if events else _Document(plan, listed=stream)
        return Chat(voice, messages, "text/event-stream" if events else _JSON,
                    (("Server", "scaffolding on HTTPServer2"),),
                    limit=config.get("maxOutputTokens"),
                    stops=tuple(config.get("stopSequences") or ()), keeps_stop=False,
                    tool=_first(calls), forced=forced, schema=_schema(config))

    def _admit(self, request: Recorded) -> None:
        key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        if not key.strip():
            raise Refused(self.error(403, request, _NO_KEY))

    def _counted(self, request: Recorded) -> Document:
        model, _ = _method(request)
        body = request.members
        inner = body.get("generateContentRequest", body)
        checked = check(inner, model, "countTokens")
        count = _tokens(checked, spoken(checked))
        details = [{"modality": "TEXT", "tokenCount": count}]
        return _told({"totalTokens": count, "promptTokensDetails": details}, "totalTokens")

    def _embedded(self, request: Recorded) -> Document:
        model, method = _method(request)
        texts = check_embedding(request.json, model, method)
        vectors = [{"values": vector(text, size)} for text, size in texts]
        usage = {"promptTokenCount": sum(len(words(text)) for text, _ in texts)}
        if method == "embedContent":
            return _told({"embedding": vectors[0], "usageMetadata": usage}, "embedding")
        return _told({"embeddings": vectors, "usageMetadata": usage}, "embeddings")

    def _models(self, request: Recorded) -> Document:
        wanted = request.path.partition("/models")[2].strip("/")
        if wanted:
            return _told(named(wanted).entry(), "name")
        entries = [model.entry() for model in MODELS]
        size, token = request.query.get("pageSize", str(_PAGE)), request.query.get("pageToken", "")
        if not size.isdigit() or not (token.isdigit() or not token):
            raise Problem("Invalid value at 'page_size' or 'page_token'")
        start = int(token or 0)
        end = start + min(int(size) or _PAGE, 1000)
        more = {"nextPageToken": str(end)} if end < len(entries) else {}
        return _told({"models": entries[start:end], **more}, "models")


def _failure(status: int, message: str = "", details: list[Part] | None = None) -> Document:
    usual = "INTERNAL" if status >= 500 else "FAILED_PRECONDITION"
    error = {"code": status, "message": message or _SAYS.get(status) or phrase(status),
             "status": _STATUSES.get(status, usual)}
    return Document(status, _pretty({"error": {**error, **({"details": details} if details
                                                           else {})}}), _JSON)


def _told(value: object, main: str) -> Document:
    return Document(200, _pretty(value), _JSON, value=main)


def _method(request: Recorded) -> tuple[str, str]:
    """Return model and method of a path such as ``/v1beta/models/m:countTokens``."""
    match = re.fullmatch("/v1(?:beta)?/models/([^/:]+):([a-zA-Z]+)", request.path)
    return (match[1], match[2]) if match else ("", "")


def _tokens(body: Mapping[str, Any], messages: Messages) -> int:
    """Return how many tokens a prompt has: words, tools and media."""
    said = sum(len(words(message["content"])) for message in messages)
    tools = len(words(json.dumps(body["tools"]))) if body.get("tools") else 0
    media = sum(_MEDIA for content in body["contents"] for part in content["parts"]
                if "inlineData" in part or "fileData" in part)
    return said + tools + media


def _offered(body: Mapping[str, Any], messages: Messages, *,
             ids: bool) -> tuple[list[Part], bool]:
    """Return the calls that the brain could make, and whether the client insists on one.

    The brain calls once: when the last turn has results, it speaks again.
    """
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    mode, allowed = config.get("mode", "AUTO"), config.get("allowedFunctionNames")
    functions = [function for tool in body.get("tools") or ()
                 for function in tool.get("functionDeclarations") or ()
                 if not allowed or function["name"] in allowed]
    if mode == "NONE" or (mode != "ANY" and messages[-1]["role"] == "tool"):
        return [], False
    calls = []
    for function in functions:
        schema = function.get("parametersJsonSchema") or plain(function.get("parameters") or {})
        id = {"id": f"call_{secrets.token_hex(4)}"} if ids else {}
        calls.append({"functionCall": {"name": function["name"],
                                       "args": arguments(schema, messages), **id}})
    return calls, mode == "ANY" and bool(calls)


def _first(calls: list[Part]) -> tuple[str, dict[str, Any]] | None:
    return (calls[0]["functionCall"]["name"], calls[0]["functionCall"]["args"]) if calls else None


def _schema(config: Mapping[str, Any]) -> object:
    """Return the JSON Schema that the answer has to fit, None if there is none."""
    if "responseJsonSchema" in config:
        return config["responseJsonSchema"]
    if "responseSchema" in config:
        return plain(config["responseSchema"])
    return {"type": "object"} if config.get("responseMimeType") == "application/json" else None
