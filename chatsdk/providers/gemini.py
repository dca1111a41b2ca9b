"""Google's Gemini API: generateContent and its stream, embeddings, counts and models.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/embeddings and the
pages on function calling, thinking, thought signatures and structured output, and the types of the
official SDK (google-genai 3.4), read in November 2026.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
import json
import os
import re
from typing import Any, ClassVar
from urllib.parse import quote

from attr.validators import optional

from chatsdk.errors import MissingCredentialsError, ProviderError, quoted, UnsupportedError
from chatsdk.messages import Delta, Message, Query, step, Usage
from chatsdk.parts import Media, ToolCall, ToolCallPart
from chatsdk.providers.base import (
    count,
    Fetch,
    given,
    member,
    merged,
    Provider,
    system_text,
    vector_in,
    vectors_in_order,
)
from chatsdk.records import evolve, field, frozen
from chatsdk.results import EmbeddingQuery, Embeddings, Model
from chatsdk.settings import check_secret, setting, url
from chatsdk.wire import malformed, parse, Request, sse, whole

KEYS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # in this order, as the official SDK has it
FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}
NO_REASON = "FINISH_REASON_UNSPECIFIED"
TRANSIENT = (429, 500, 502, 503, 504)
#: Tokens of thought for Gemini 2.5, as Google's own form of OpenAI's API has them.
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}
MOST_STOPS = 5
UNSIGNED = "skip_thought_signature_validator"  # Google's word for calls that are not its own
ADVICE = {
    401: "is the key in api_key= or GOOGLE_API_KEY current?",
    403: "may the key in api_key= or GOOGLE_API_KEY use this API and model?",
    404: "client.models() lists the models",
    429: "see https://ai.google.dev/gemini-api/docs/rate-limits",
}
PAGE = 1000  # models in one answer, the most that the service gives
_AUDIO = ("wav", "mp3", "mpeg", "aiff", "aac", "ogg", "flac", "mp4", "x-wav", "webm")


def _key() -> str | None:
    """Return the key of the environment."""
    return next((os.environ[name] for name in KEYS if os.environ.get(name)), None)


@frozen(kw_only=True)
class Gemini(Provider):
    """A chat with a Gemini model.

    Attributes:
        api_key: The key of Google AI Studio, sent as ``x-goog-api-key`` and never in the URL.
    """

    name: ClassVar[str] = "gemini"
    title: ClassVar[str] = "Gemini"
    page: ClassVar[str] = "https://ai.google.dev/api"
    tools: ClassVar[bool] = True
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/gif"),
        "audio": tuple(f"audio/{kind}" for kind in _AUDIO),
        "document": ("application/pdf", "text/plain", "text/html", "text/csv", "text/markdown"),
    }
    media_urls: ClassVar[tuple[str, ...]] = ("image", "audio", "document")
    embeds: ClassVar[int] = 100
    embedding_model: ClassVar[str] = "gemini-embedding-001"
    dimensions: ClassVar[bool] = True
    models: ClassVar[tuple[str, ...]] = (
        "gemini-4-argon",
        "gemini-3.8-flash",
        "gemini-3.6-flash",
        "gemini-3.5-flash",
        "gemini-3.5-flash-lite",
        "gemini-3.1-pro-preview",
        "gemini-3.1-flash-lite",
        "gemini-3-flash-preview",
        "gemini-2.5-pro",
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature, 0 to 2",
        "top_p": "topP",
        "top_k": "topK",
        "max_tokens": "maxOutputTokens",
        "stop": "stopSequences, at most 5",
        "seed": "seed",
        "tools": "functionDeclarations",
        "tool_choice": "functionCallingConfig",
        "response_format": "responseJsonSchema",
        "reasoning_effort": "thinkingConfig: a level, or a budget for Gemini 2.5",
    }
    options: ClassVar[Mapping[str, type]] = {"top_k": int}

    base_url: str = url("GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com")
    model: str = setting("GEMINI_MODEL", "gemini-3.8-flash")
    api_key: str | None = field(
        factory=_key,
        repr=False,
        validator=optional(check_secret),
        metadata={"variable": KEYS[0], "default": None},
    )

    def __attrs_post_init__(self) -> None:
        own = {"x-goog-api-key", "authorization"} & {name.lower() for name in self.headers}
        if self.api_key is None and not own:
            raise MissingCredentialsError(
                "gemini needs a key: give api_key=... or set GOOGLE_API_KEY or GEMINI_API_KEY",
                provider=self.name,
            )

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        method = "streamGenerateContent?alt=sse" if query.stream else "generateContent"
        body = merged(self.payload(query), query.extra_body)
        accept = "text/event-stream" if query.stream else "application/json"
        model = _path(self.model_of(query))
        return self._request("POST", f"{model}:{method}", query, json=body, accept=accept)

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: turns in parts, the system's text apart, settings in one object."""
        system = system_text(query.messages)
        dummies = _generation(self.model_of(query)) >= 3
        return {
            "contents": _contents(query.messages, dummies=dummies),
            **given(systemInstruction={"parts": [{"text": system}]} if system else None),
            **self._settings(query),
        }

    def _settings(self, query: Query) -> dict[str, Any]:
        """Return the body without what is said."""
        if len(query.stop) > MOST_STOPS:
            raise UnsupportedError(f"gemini takes at most {MOST_STOPS} texts to stop at")
        if not all(query.stop):
            raise UnsupportedError("gemini stops at no empty text; see stop")
        if query.temperature is not None and query.temperature > 2:
            raise UnsupportedError("temperature for gemini is 0 to 2")
        config = given(
            temperature=query.temperature,
            topP=query.top_p,
            topK=query.options.get("top_k"),
            maxOutputTokens=query.max_tokens,
            stopSequences=list(query.stop) or None,
            seed=query.seed,
            thinkingConfig=_thinking(query.reasoning_effort, self.model_of(query)),
            **_format(query.response_format),
        )
        functions = [_function(tool["function"]) for tool in query.tools]
        return given(
            generationConfig=config or None,
            tools=[{"functionDeclarations": functions}] if functions else None,
            toolConfig=_tool_choice(query.tool_choice),
        )

    def check(self, query: Query) -> None:
        """Refuse what has no form here, before anything is sent."""
        super().check(query)
        self._settings(query)
        special = tuple(m for m in query.messages if m.role == "tool" or m.tool_calls)
        _contents(special, dummies=False)  # texts alone have no flaw to find but these:
        if all(message.role == "system" for message in query.messages):
            raise UnsupportedError("gemini needs a message besides the system's")
        for number, message in enumerate(query.messages):
            if message.role == "user" and not message.content:
                raise UnsupportedError(f"gemini takes no empty message; see messages[{number}]")
            if message.role == "system" and message.media:
                raise UnsupportedError(f"gemini's system has text alone; see messages[{number}]")

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return how many tokens a question has, tools and the system's text included."""
        model = _path(self.model_of(query))
        asked = {"model": model, **merged(self.payload(query), query.extra_body)}
        event = self._told(fetch, f"{model}:countTokens", query, {"generateContentRequest": asked})
        told = count(event, "totalTokens")
        if told is None:
            raise malformed("the count of tokens has no totalTokens", str(event))
        return told

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors; ``extra_body`` goes into each text's request."""
        model = _path(query.model)
        requests = [
            merged(
                {
                    "model": model,
                    "content": {"parts": [{"text": text}]},
                    **given(outputDimensionality=query.dimensions),
                },
                query.extra_body,
            )
            for text in query.texts
        ]
        event = self._told(fetch, f"{model}:batchEmbedContents", query, {"requests": requests})
        entries = member(event, "embeddings", list) or []
        vectors = {
            index: vector_in(entry.get("values") if isinstance(entry, dict) else None, self.name)
            for index, entry in enumerate(entries)
        }
        usage = member(event, "usageMetadata", dict)
        return Embeddings(
            vectors_in_order(vectors, len(query.texts), self.name),
            query.model,
            _usage(usage) if usage else None,
        )

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return all models, page by page; what each is good for is in its ``raw``."""
        models: dict[str, Model] = {}
        token = ""
        while True:
            path = f"models?pageSize={PAGE}" + (f"&pageToken={quote(token)}" if token else "")
            event = parse(fetch(self._request("GET", path, repeatable=True)))
            entries = member(event, "models", list) if isinstance(event, dict) else None
            if entries is None:
                raise malformed("the list of models is none", str(event))
            before = len(models)
            models |= {model.id: model for model in map(_model, entries)}
            token = member(event, "nextPageToken", str) or ""
            if not token or len(models) == before:
                return list(models.values())

    def _told(
        self, fetch: Fetch, path: str, query: Query | EmbeddingQuery, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the service says to a request that may be sent twice."""
        event = parse(fetch(self._request("POST", path, query, json=body, repeatable=True)))
        if not isinstance(event, dict):
            raise malformed("an answer is no JSON object", str(event))
        return event

    def _request(
        self,
        method: str,
        path: str,
        query: Query | EmbeddingQuery | None = None,
        *,
        accept: str = "application/json",
        **details: Any,
    ) -> Request:
        credential = {} if self.api_key is None else {"x-goog-api-key": self.api_key}
        protocol = {"Accept": accept, **credential}
        versioned = re.search(r"/v1(beta|alpha)?$", self.base_url) is not None
        root = self.base_url if versioned else f"{self.base_url}/v1beta"
        return Request(
            method=method,
            url=f"{root}/{path}",
            headers=self.request_headers(protocol, query.extra_headers if query else {}),
            cookies=self.cookies,
            advice=ADVICE,
            **details,
        )

    # What is read

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say: events, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return (whole if kind == "application/json" else sse)(body, self.parse)

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event of a stream or in a whole answer."""
        text = _text_alone(event)
        if text:
            model, id = event["modelVersion"], event["responseId"]
            told = _usage(event["usageMetadata"])
            return step(text, model, event, told, id)
        if not isinstance(event, dict):
            raise malformed("an event is no JSON object", str(event))
        if "error" in event:
            raise _failure(event["error"])
        counts = member(event, "usageMetadata", dict)
        usage = _usage(counts) if counts else None
        model, id = member(event, "modelVersion", str), member(event, "responseId", str)
        candidates = member(event, "candidates", list)
        if not candidates:
            return _without_candidate(event, usage, model, id)
        candidate = candidates[0]
        if not isinstance(candidate, dict):
            raise malformed("a candidate is no JSON object", str(candidate))
        text, thought, calls = _said(candidate)
        reason = member(candidate, "finishReason", str)
        finish = None if reason in (None, "", NO_REASON) else FINISH.get(str(reason), reason)
        if finish == "stop" and calls:
            finish = "tool_calls"
        return Delta(
            text, finish, usage, thought, calls, finish is not None, model, id, None, event
        )

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer until its end; one without any text is held until then."""
        turn = _Turn()
        for delta in super().deltas(query, body):
            if delta.text and turn.begun and _text_alone(delta.raw):
                turn.length += len(delta.text)
                yield delta
            elif told := turn.add(delta):
                yield told


# What is asked


def _path(model: str) -> str:
    """Return a model as it stands in a path."""
    named = model if "/" in model else f"models/{model}"
    return quote(named, safe="/-._~")


def _generation(model: str) -> float:
    """Return the generation of a model; one whose name tells none is of the newest."""
    found = re.search(r"gemini-(\d+(?:\.\d+)?)", model)
    return float(found[1]) if found else 9.0


def _thinking(effort: str | None, model: str) -> dict[str, Any] | None:
    if effort is None:
        return None
    if _generation(model) >= 3:
        if effort == "none":
            raise UnsupportedError(f"{model} always thinks; reasoning_effort='low' is its least")
        return {"thinkingLevel": effort, "includeThoughts": True}
    if effort not in BUDGETS:
        raise UnsupportedError(f"reasoning_effort for {model} is one of: {', '.join(BUDGETS)}")
    told = {"includeThoughts": True} if BUDGETS[effort] else {}
    return {"thinkingBudget": BUDGETS[effort], **told}


def _format(wanted: Any) -> dict[str, Any]:
    if wanted is None or wanted["type"] == "text":
        return {}
    mime = {"responseMimeType": "application/json"}
    if wanted["type"] == "json_object":
        return mime
    return {**mime, "responseJsonSchema": wanted["json_schema"]["schema"]}


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters")
    takes = isinstance(schema, Mapping) and schema.get("properties")
    told = given(
        description=function.get("description"), parametersJsonSchema=schema if takes else None
    )
    return {"name": function["name"], **told}


def _tool_choice(wanted: Any) -> dict[str, Any] | None:
    if wanted is None:
        return None
    config: dict[str, Any] | None = None
    if isinstance(wanted, str) and wanted in MODES:
        config = {"mode": MODES[wanted]}
    elif isinstance(wanted, Mapping):
        function = wanted.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        named = {"mode": "ANY", "allowedFunctionNames": [name]} if name else None
        config = dict(wanted) if "mode" in wanted else named
    if config is None:
        raise UnsupportedError(
            "tool_choice for gemini is 'auto', 'none', 'required' or one function"
        )
    return {"functionCallingConfig": config}


def _contents(messages: tuple[Message, ...], *, dummies: bool) -> list[dict[str, Any]]:
    """Return what was said as turns of one role each; results of one turn stand together.

    Args:
        messages: All of them.
        dummies: Calls that were not signed get Google's word for that: else they are refused.
    """
    contents: list[dict[str, Any]] = []
    open: list[ToolCall] = []  # calls without a result yet
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        if message.role == "tool":
            parts = [_result(message, open)]
        elif message.role == "assistant":
            open = list(message.tool_calls)
            parts = _answered(message, dummies=dummies)
        else:
            content = message.content
            said = (content,) if isinstance(content, str) else content
            parts = [_part(part) for part in said if part]
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _answered(message: Message, *, dummies: bool) -> list[dict[str, Any]]:
    """Return the parts of an answer: as they came, unless its text or calls were changed."""
    kept = (message.state or {}).get("gemini")
    if not isinstance(kept, (list, tuple)) or not all(isinstance(p, Mapping) for p in kept):
        kept = ()
    if restored := _restored(kept, message.text, message.tool_calls):
        return restored
    content = (message.content,) if isinstance(message.content, str) else message.content
    parts = [_part(part) for part in content if part]
    calls = [next((dict(part) for part in kept if _is(part, call)), None) or _call(call)
             for call in message.tool_calls]
    if calls and dummies:
        calls[0].setdefault("thoughtSignature", UNSIGNED)
    return [*parts, *calls]


def _restored(
    kept: Sequence[Mapping[str, Any]], text: str, calls: tuple[ToolCall, ...]
) -> list[dict[str, Any]]:
    """Return the parts of an answer in their order; [] if its text or calls were changed."""
    parts: list[dict[str, Any]] = []
    rest, at = list(calls), 0
    for part in kept:
        part = dict(part)
        length = part.pop("length", None)
        if type(length) is int:
            part = {"text": text[at:at + length], **part}
            at += length
        elif "functionCall" in part and not (rest and _is(part, rest.pop(0))):
            return []
        parts.append(part)
    return parts if at == len(text) and not rest else []


def _is(part: Mapping[str, Any], call: ToolCall) -> bool:
    """Return whether a part that was kept is a call."""
    kept = part.get("functionCall")
    if not isinstance(kept, Mapping):
        return False
    told = (kept.get("id"), kept.get("name"), kept.get("args") or {})
    return told == (call.id, call.name, call.arguments)


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if arguments is None:
        arguments = {"INVALID_JSON": call.raw} if call.raw.strip() else {}
    return {"functionCall": {**given(id=call.id), "name": call.name, "args": arguments}}


def _result(message: Message, open: list[ToolCall]) -> dict[str, Any]:
    """Return a result, with the name of its function: if need be, that of its call."""
    same = [call for call in open if call.id == message.tool_call_id] or open
    name = message.name or (same[0].name if same else None)
    if not name:
        raise UnsupportedError("gemini needs the function's name in a message of role 'tool'")
    response = {**given(id=message.tool_call_id), "name": name, "response": _object(message.text)}
    if message.media:  # which Gemini 3 takes inside a result
        response["parts"] = [_part(media) for media in message.media]
    return {"functionResponse": response}


def _object(text: str) -> dict[str, Any]:
    """Return a result as the object that it has to be."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"result": value}


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if part.url is not None:
        return {"fileData": {**given(mimeType=part.mime), "fileUri": part.url}}
    data = base64.b64encode(part.data or b"").decode()
    return {"inlineData": {"mimeType": part.mime, "data": data}}


def _model(entry: Any) -> Model:
    name = member(entry, "name", str) if isinstance(entry, dict) else None
    if not name:
        raise malformed("a model in the list has no name", str(entry))
    return Model(name.removeprefix("models/"), Gemini.name, None, entry)


# What is read


def _text_alone(event: Any) -> str | None:
    """Return the text of an event that tells nothing else but what every event does.

    Most events of an answer are like that, and reading them with care takes three times as long.
    None means that it takes that care.
    """
    try:
        (candidate,) = event["candidates"]
        (part,) = candidate["content"]["parts"]
        text = part["text"]
        texts = type(text) is type(event["modelVersion"]) is type(event["responseId"]) is str
        alone = len(part) == 1 and len(event) == 4 and "finishReason" not in candidate
        told = type(event["usageMetadata"]) is dict
    except (TypeError, LookupError, ValueError):
        return None
    return text if texts and alone and told else None


def _parts(candidate: Mapping[str, Any]) -> list[Any]:
    content = member(candidate, "content", dict)
    return (member(content, "parts", list) or []) if content else []


def _said(candidate: Mapping[str, Any]) -> tuple[str, str, tuple[ToolCallPart, ...]]:
    """Return the text of a candidate, its thoughts and its calls."""
    text = thought = ""
    calls: list[ToolCallPart] = []
    for part in _parts(candidate):
        if not isinstance(part, dict):
            raise malformed("a part is no JSON object", str(part))
        said = member(part, "text", str)
        if said is not None:
            if part.get("thought") is True:
                thought += said
            else:
                text += said
        call = member(part, "functionCall", dict)
        if call is not None:
            args = json.dumps(member(call, "args", dict) or {}, ensure_ascii=False)
            id, name = member(call, "id", str), member(call, "name", str)
            calls.append(ToolCallPart(len(calls), id, name, args))
        member(part, "thoughtSignature", str)
    return text, thought, tuple(calls)


def _without_candidate(
    event: dict[str, Any], usage: Usage | None, model: str | None, id: str | None
) -> Delta | None:
    """Return the step in an event without candidates: a prompt that is blocked, or counts."""
    feedback = member(event, "promptFeedback", dict) or {}
    blocked = member(feedback, "blockReason", str)
    if not blocked and usage is None and model is None and "candidates" not in event:
        raise malformed("an event has neither candidates nor an error", str(event))
    finish = "content_filter" if blocked else None
    return Delta("", finish, usage, final=bool(blocked), model=model, id=id, raw=event)


def _usage(told: Mapping[str, Any]) -> Usage:
    """Return the counts; thoughts are a part of the answer, results of tools of the prompt."""
    prompt, spoken = count(told, "promptTokenCount"), count(told, "candidatesTokenCount")
    thoughts, tools = count(told, "thoughtsTokenCount"), count(told, "toolUsePromptTokenCount")
    if prompt is not None and tools is not None:
        prompt += tools
    if thoughts is not None:
        spoken = (spoken or 0) + thoughts
    total, cached = count(told, "totalTokenCount"), count(told, "cachedContentTokenCount")
    return Usage(prompt, spoken, total, cached, thoughts)


def _failure(error: Any) -> Exception:
    """Return the error for one that the service reports inside a 200."""
    if not isinstance(error, dict):
        return malformed("an error is no JSON object", str(error))
    status, text = error.get("status"), error.get("message") or "no reason given"
    return ProviderError(
        f"gemini failed inside its answer: {quoted(text)} ({quoted(status or 'no status')})",
        retryable=error.get("code") in TRANSIENT,
    )


class _Turn:
    """What the events of one answer say only together: numbers of calls, and signed parts."""

    def __init__(self) -> None:
        self.begun = False  # some of the answer was told
        self.length = 0  # characters of unsigned text since the last part that was kept
        self._ended = False
        self._calls = 0
        self._parts: list[dict[str, Any]] = []  # as they go back; of texts the lengths
        self._needed = False  # whether they have to go back: they are signed, or no text

    def add(self, delta: Delta) -> Delta | None:
        """Return a step with what earlier ones add to it, or None while there is nothing in it."""
        for candidate in (delta.raw.get("candidates") or ())[:1]:
            for part in _parts(candidate):
                self._keep(part)
        if delta.tool_calls:
            calls = [
                evolve(part, index=self._calls + part.index) for part in delta.tool_calls
            ]
            self._calls += len(calls)
            delta = evolve(delta, tool_calls=tuple(calls))
        elif self._calls and delta.finish_reason == "stop":
            delta = evolve(delta, finish_reason="tool_calls")
        self._ended = self._ended or delta.final
        if self._ended and self._needed:
            self._close_text()
            delta = evolve(delta, state={"gemini": [dict(part) for part in self._parts]})
        if delta.text or delta.reasoning or delta.tool_calls or delta.final:
            self.begun = True
        return delta if self.begun else None

    def _keep(self, part: Mapping[str, Any]) -> None:
        """Keep a part; a thought that is not signed need not go back."""
        text = part.get("text")
        thought = part.get("thought") is True
        if thought and "thoughtSignature" not in part:
            return
        if len(part) == 1 and text is not None:
            self.length += len(text)
            return
        self._close_text()
        if text is None or thought:
            self._parts.append(dict(part))
            self._needed = self._needed or part.keys() != {"functionCall"}
            return
        rest = {name: value for name, value in part.items() if name != "text"}
        self._parts.append({"length": len(text), **rest})
        self._needed = True

    def _close_text(self) -> None:
        if self.length:
            self._parts.append({"length": self.length})
            self.length = 0
