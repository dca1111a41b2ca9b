"""OpenAI's Chat Completions, which most other services and servers speak as well.

Sources: the pages at https://platform.openai.com/docs/api-reference/chat, the types of the
official SDK (openai-python), and for what others do otherwise the pages named in presets.py.
"""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
import ipaddress
from itertools import chain
import reprlib
import sys
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

from chatsdk.errors import (
    ChatError,
    ConfigurationError,
    MissingCredentialsError,
    ProtocolError,
    ProviderError,
    quoted,
    UnsupportedError,
)
from chatsdk.messages import Delta, Message, Query
from chatsdk.parts import Media
from chatsdk.providers.alike import Alike
from chatsdk.providers.base import (
    count,
    Fetch,
    given,
    member,
    merged,
    models_in,
    Provider,
    text_step,
    vector_in,
    vectors_in_order,
)
from chatsdk.providers.openai_frames import (
    calls_in,
    FAILED,
    FINISH,
    groq_usage,
    parts_in,
    PASSING,
    Reading,
    reasoning_in,
    TRANSIENT,
    usage_in,
)
from chatsdk.records import evolve, frozen
from chatsdk.results import EmbeddingQuery, Embeddings, Model
from chatsdk.settings import secret, setting, url
from chatsdk.wire import malformed, parse, Request, sse, whole

DONE = b"[DONE]"
END = object()  # what the proper end of a body says
MARK = Delta(final=True)
ENDED = Delta(final=True)  # the same without a mark: good only after a finish reason
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")
AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3"}
COMMON: Mapping[str, str] = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "response_format": "response_format",
    "reasoning_effort": "reasoning_effort",
}


@frozen(kw_only=True)
class OpenAI(Provider):
    """A chat with OpenAI, or with any server of the same protocol at a ``base_url``.

    Attributes:
        api_key: The key; a server on this machine or in this network needs none.
        key: The environment's variable for it; None: the service asks for none.
        key_header: The header that carries it, as a bearer if that is ``Authorization``.
        limit: What the protocol calls ``max_tokens``.
        seed: What it calls ``seed``.
        effort: What it calls ``reasoning_effort``; ``"reasoning"`` is an object with ``effort``.
        counts: Whether usage has to be asked for in a stream.
        keeps: Members of a message that the service wants back: ``"reasoning_content"`` after
            calls of tools, ``"reasoning_details"`` always.
        think_tags: Whether models write their reasoning between tags at the start of the text.
        schemas: Whether ``response_format`` may be a JSON schema.
        models_path: Where the models are listed, from the base URL on; "": nowhere.
        packs: Whether vectors are asked for in base64: a quarter of the bytes.
    """

    name: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI"
    page: ClassVar[str] = "https://platform.openai.com/docs/api-reference/chat"
    tools: ClassVar[bool] = True
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": IMAGES,
        "audio": tuple(AUDIO),
        "document": ("application/pdf",),
    }
    media_urls: ClassVar[tuple[str, ...]] = ("image",)
    embeds: ClassVar[int] = 2048
    embedding_model: ClassVar[str] = "text-embedding-3-small"
    dimensions: ClassVar[bool] = True
    models: ClassVar[tuple[str, ...]] = (
        "gpt-6.2-sol",
        "gpt-6-luna",
        "gpt-5.6-sol",
        "gpt-5.5",
        "gpt-5.4",
        "gpt-5.4-mini",
        "gpt-5.4-nano",
        "gpt-5.2",
        "gpt-5.1",
        "gpt-5",
        "gpt-5-mini",
        "gpt-5-nano",
        "gpt-4.1",
        "gpt-4.1-mini",
        "gpt-4o",
        "gpt-4o-mini",
        "o4-mini",
        "o3",
    )
    parameters: ClassVar[Mapping[str, str]] = {
        **COMMON,
        "max_tokens": "max_completion_tokens",
        "parallel_tool_calls": "parallel_tool_calls",
        "user": "user",
        "verbosity": "verbosity: low, medium or high",
        "service_tier": "service_tier",
        "safety_identifier": "safety_identifier",
        "prompt_cache_key": "prompt_cache_key",
        "store": "store",
    }
    options: ClassVar[Mapping[str, type]] = {
        "parallel_tool_calls": bool,
        "user": str,
        "verbosity": str,
        "service_tier": str,
        "safety_identifier": str,
        "prompt_cache_key": str,
        "store": bool,
    }
    key: ClassVar[str | None] = "OPENAI_API_KEY"
    key_header: ClassVar[str] = "Authorization"
    limit: ClassVar[str] = "max_completion_tokens"
    seed: ClassVar[str] = "seed"
    effort: ClassVar[str] = "reasoning_effort"
    counts: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ()
    think_tags: ClassVar[bool] = False
    schemas: ClassVar[bool] = True
    models_path: ClassVar[str] = "/models"
    packs: ClassVar[bool] = True

    base_url: str = url("OPENAI_BASE_URL", "https://api.openai.com/v1")
    model: str = setting("OPENAI_MODEL", "gpt-5-mini")
    api_key: str | None = secret("OPENAI_API_KEY")

    def __attrs_post_init__(self) -> None:
        self.key_sent()

    def key_sent(self) -> str | None:
        """Return the key, or None where none is needed.

        Raises:
            MissingCredentialsError: There is none, and the service is not a local one.
        """
        own = any(name.lower() == "authorization" for name in self.headers)
        if not (self.api_key or self.key is None or own or is_local(self.base_url)):
            raise MissingCredentialsError(
                f"{self.name} needs a key: give api_key=... or set {self.key}", provider=self.name
            )
        return self.api_key

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        query = self.with_model(query, fetch)
        return self.request(
            "POST",
            "/chat/completions",
            query.extra_headers,
            model=self.model_of(query),
            accept="text/event-stream" if query.stream else "application/json",
            json=merged(self.payload(query), query.extra_body),
        )

    def with_model(self, query: Query, fetch: Fetch) -> Query:
        """Return the question with a model: the first one listed, if nobody named one."""
        if self.model_of(query):
            return query
        listed = self.list_models(fetch) if self.models_path else []
        if not listed:
            raise ConfigurationError(f"{self.name}: which model? Name it: '{self.name}:MODEL'")
        return evolve(query, model=listed[0].id)

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body."""
        effort: Any = query.reasoning_effort
        if effort is not None and self.effort == "reasoning":
            effort = {"effort": effort}
        return {
            "model": self.model_of(query),
            "messages": self.messages_of(query),
            "stream": query.stream,
            **given(
                stream_options={"include_usage": True} if query.stream and self.counts else None,
                temperature=query.temperature,
                top_p=query.top_p,
                stop=list(query.stop) or None,
                tools=list(query.tools) or None,
                tool_choice=query.tool_choice,
                response_format=query.response_format,
                **{self.limit: query.max_tokens, self.seed: query.seed, self.effort: effort},
                **query.options,
            ),
        }

    def messages_of(self, query: Query) -> list[dict[str, Any]]:
        """Return the messages; calls and results without an id get one, in their order."""
        waiting: list[tuple[str, str]] = []  # id and name of the calls without a result
        made = []
        for message in query.messages:
            if message.role == "tool":
                made.append(self._result(message, waiting))
                continue
            said: dict[str, Any] = {"role": message.role, "content": self._content(message)}
            if message.tool_calls:
                said["content"] = said["content"] or None
                said["tool_calls"] = self._calls(message, waiting)
            for name in self.keeps:
                kept = (message.state or {}).get(name)
                if kept and (message.tool_calls or name == "reasoning_details"):
                    said[name] = kept
            made.append(said)
        return made

    def _calls(self, message: Message, waiting: list[tuple[str, str]]) -> list[dict[str, Any]]:
        calls = []
        for call in message.tool_calls:
            id = call.id or f"call_{len(waiting)}_{call.name}"
            waiting.append((id, call.name))
            function = {"name": call.name, "arguments": call.raw or "{}"}
            calls.append({"id": id, "type": "function", "function": function})
        return calls

    def _result(self, message: Message, waiting: list[tuple[str, str]]) -> dict[str, Any]:
        return {
            "role": "tool",
            "tool_call_id": answered(message, waiting, self.name),
            "content": message.text,
        }

    def _content(self, message: Message) -> Any:
        if isinstance(message.content, str):
            return message.content
        return [
            {"type": "text", "text": part} if isinstance(part, str) else self.part(part)
            for part in message.content
        ]

    def part(self, media: Media) -> dict[str, Any]:
        """Return an image, a sound or a document as a part of a message."""
        if media.kind == "image":
            return {"type": "image_url", "image_url": {"url": media.url or data_url(media)}}
        if media.kind == "audio":
            sound = {"data": in_base64(media), "format": AUDIO[str(media.mime)]}
            return {"type": "input_audio", "input_audio": sound}
        name = media.name or "document.pdf"
        file = {"filename": name, "file_data": media.url or data_url(media)}
        return {"type": "file", "file": file}

    def check(self, query: Query) -> None:
        """Refuse what has no form here, before anything is sent."""
        super().check(query)
        check_choice(query.tool_choice, self.name)
        wanted = query.response_format
        if wanted is not None and wanted["type"] == "json_schema" and not self.schemas:
            raise UnsupportedError(
                f"{self.name} keeps to no JSON schema: response_format is"
                " {'type': 'json_object'}, and the schema a part of the question, as"
                " client.extract() makes it",
                provider=self.name,
            )
        if any(message.role == "tool" for message in query.messages):
            self.messages_of(query)
        for message in query.messages:
            if message.role != "user" and message.media:
                raise UnsupportedError(
                    f"{self.name} takes images and their like in messages of the user only",
                    provider=self.name,
                )

    def keeps_to_schemas(self) -> bool:
        """Return whether an answer can be held to a JSON schema."""
        return self.schemas and super().keeps_to_schemas()

    def request(
        self,
        method: str,
        path: str,
        extra: Mapping[str, str],
        *,
        model: str = "",
        accept: str = "application/json",
        **details: Any,
    ) -> Request:
        """Return a request with the key."""
        key = self.key_sent()
        bearer = "Bearer " if self.key_header == "Authorization" else ""
        auth = {self.key_header: f"{bearer}{key}"} if key else {}
        return Request(
            method=method,
            url=self.address(path, model),
            headers=self.request_headers({**auth, "Accept": accept}, extra),
            cookies=self.cookies,
            advice=self.advice(),
            **details,
        )

    def address(self, path: str, model: str) -> str:
        """Return the URL of a path; a model may be part of it."""
        return self.base_url + path if path[:1] == "/" else urljoin(self.base_url + "/", path)

    def advice(self) -> dict[int, str]:
        """Return what to try when a status says no."""
        where = f"api_key= or {self.key}" if self.key else "api_key="
        return {
            401: f"is the key in {where} right?",
            404: "client.models() lists the models; a base_url ends with /v1 as a rule",
        }

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models that the service lists."""
        if not self.models_path:
            return super().list_models(fetch)
        event = parse(fetch(self.request("GET", self.models_path, {}, repeatable=True)))
        return models_in(event.get("data") if isinstance(event, dict) else event, self.name)

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors."""
        body = {
            "model": query.model,
            "input": list(query.texts),
            **given(
                encoding_format="base64" if self.packs else None, dimensions=query.dimensions
            ),
        }
        made = self.request(
            "POST",
            "/embeddings",
            query.extra_headers,
            model=query.model,
            json=merged(body, query.extra_body),
            repeatable=True,
        )
        return self.embeddings_in(fetch(made), query)

    def embeddings_in(self, body: bytes, query: EmbeddingQuery) -> Embeddings:
        """Return the vectors in an answer."""
        event = parse(body)
        if not isinstance(event, dict) or not isinstance(event.get("data"), list):
            raise malformed("the answer has no vectors", body)
        vectors: dict[int, list[float]] = {}
        for place, entry in enumerate(event["data"]):
            if not isinstance(entry, dict):
                raise malformed("a vector is no JSON object", body)
            index = count(entry, "index")
            vectors[place if index is None else index] = vector(entry.get("embedding"), self.name)
        return Embeddings(
            vectors_in_order(vectors, len(query.texts), self.name),
            member(event, "model", str) or query.model,
            usage_in(event.get("usage")),
        )

    # What is read

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say: events, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind.endswith("json"):
            return chain(whole(body, parse), (DONE, END))
        return chain(sse(body, Alike(self.decode), DONE), (END,))

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event of a stream or in a whole answer."""
        if type(event) is Delta:
            return event
        quick = text_step(event, "id")
        if quick is not None and "error" not in event and "x_groq" not in event:
            return quick
        if event is DONE or event is END:
            return MARK if event is DONE else ENDED
        if not isinstance(event, dict):
            raise malformed("a frame is no JSON object", str(event))
        if event.get("error"):
            raise self.failure(event)
        choices = member(event, "choices", list)
        if not choices:
            return self._beside(event, choices)
        choice = choices[0]
        if not isinstance(choice, dict):
            raise malformed("a choice is no JSON object", str(choice))
        if choice.get("index"):  # of several answers, the first
            return None
        said = member(choice, "delta", dict) or member(choice, "message", dict) or {}
        finish = member(choice, "finish_reason", str) or None
        text, thoughts = parts_in(said.get("content") or "")
        state: dict[str, Any] | None = None
        if said.get("refusal"):
            text += member(said, "refusal", str) or ""
            state = {"refused": True}
        thoughts += reasoning_in(said)
        if said.get("reasoning_details"):
            details = member(said, "reasoning_details", list)
            state = {**(state or {}), "reasoning_details": details}
        delta = Delta(
            text=text,
            finish_reason=FINISH.get(finish, finish) if finish else None,
            usage=usage_in(event.get("usage")) or groq_usage(event),
            reasoning=thoughts,
            tool_calls=calls_in(said),
            model=member(event, "model", str),
            id=member(event, "id", str),
            state=state,
            raw=event,
        )
        told = text or thoughts or finish or delta.usage or delta.tool_calls or state
        return delta if told else None

    def _beside(self, event: Mapping[str, Any], choices: Any) -> Delta | None:
        """Return the step in an event without an answer in it: usage, or nothing."""
        usage = usage_in(event.get("usage"))
        if usage is not None:
            return Delta(usage=usage, raw=event)
        if choices is None:
            if {"message", "detail"} & event.keys():
                raise self.failure(event)
            raise malformed("a frame has neither choices nor an error", str(event))
        return None

    def failure(self, event: Mapping[str, Any]) -> ProviderError:
        """Return the error that an event reports.  OpenRouter's code is an HTTP status."""
        error = event.get("error") or event
        details = error if isinstance(error, dict) else {"message": error}
        code = details.get("code") or details.get("type") or details.get("status")
        said = details.get("message") or details.get("detail") or reprlib.repr(error)
        shown = f" ({quoted(code)})" if isinstance(code, (str, int)) else ""
        words = f"{code} {details.get('type')}".lower()
        passing = code in TRANSIENT if isinstance(code, int) else any(w in words for w in PASSING)
        return ProviderError(
            f"{self.name} failed inside its answer: {quoted(said)}{shown}", retryable=passing
        )

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer, with reasoning, refusals and calls put in order.

        An answer is whole with its mark, or when its body ends properly after a finish reason.
        """
        reading = Reading(self)
        try:
            for delta in super().deltas(query, body):
                if delta is ENDED and reading.is_whole():
                    continue
                # Most steps are text alone, or reasoning alone: no look at those.
                if reading.plain and not (
                    delta.finish_reason or delta.tool_calls or delta.state or delta.final
                ):
                    if delta.reasoning:
                        reading.keep(delta.reasoning, None)
                    yield delta
                    continue
                delta = reading.step(delta)
                yield delta
                if delta.finish_reason in FAILED:
                    raise ProviderError(
                        f"the model of {self.name} failed: finish reason {delta.finish_reason}",
                        retryable=FAILED[delta.finish_reason],
                    )
        except ChatError:
            if (rest := reading.rest()) is not None:
                yield rest
            raise


def is_local(address: str) -> bool:
    """Return whether a URL leads to this machine or into its own network."""
    host = (urlsplit(address).hostname or "").lower()
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))
    return found.is_loopback or found.is_private


def data_url(media: Media) -> str:
    """Return the bytes of an image or a document as a URL."""
    return f"data:{media.mime};base64,{in_base64(media)}"


def in_base64(media: Media) -> str:
    """Return the bytes of an image, a sound or a document in base64."""
    return b64encode(media.data or b"").decode()


def answered(message: Message, waiting: list[tuple[str, str]], provider: str) -> str:
    """Return the id of the call whose result a message is, and take it off those that wait.

    A message without an id belongs to the first call of its name, or to the first at all.

    Raises:
        UnsupportedError: It has no id, and there is no such call.
    """
    id, name = message.tool_call_id, message.name
    fitting = [call for call in waiting if (call[0] == id if id else name in (None, call[1]))]
    if fitting:
        waiting.remove(fitting[0])
        return fitting[0][0]
    if not id:
        raise UnsupportedError(
            f"{provider}: a message of role 'tool' has no tool_call_id, and no call before it is"
            " without a result",
            provider=provider,
        )
    return id


def check_choice(choice: Any, provider: str) -> None:
    """Refuse a ``tool_choice`` that is none.

    Raises:
        UnsupportedError: It is neither a known word nor a function in OpenAI's shape.
    """
    function = choice.get("function") if isinstance(choice, Mapping) else None
    named = isinstance(function, Mapping) and isinstance(function.get("name"), str)
    if not (choice in (None, "auto", "none", "required") or named):
        raise UnsupportedError(
            f"tool_choice for {provider} is 'auto', 'none', 'required' or one function:"
            " {'type': 'function', 'function': {'name': ...}}",
            provider=provider,
        )


def vector(value: Any, provider: str) -> list[float]:
    """Return a vector: a list of numbers, or 32-bit floats in base64.

    Raises:
        ProtocolError: It is neither.
    """
    if isinstance(value, str):
        numbers = array("f")
        try:
            numbers.frombytes(b64decode(value, validate=True))
        except (Base64Error, ValueError) as error:
            raise ProtocolError(f"{provider} gave a vector in no base64: {error}") from None
        if sys.byteorder == "big":
            numbers.byteswap()
        value = numbers.tolist()
    return vector_in(value, provider)
