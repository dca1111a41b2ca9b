"""A client in the shape of the official openai package, over any service of ours.

Code that was written for ``openai.OpenAI`` gets the same attributes to read, and the same names
for errors.  Sources: the reference at https://platform.openai.com/docs/api-reference/chat and the
types of openai-python, read on 2026-11-21.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
import json
import struct
import time
from typing import Any
import uuid

import attrs
from attrs import frozen

from chatsdk import errors
from chatsdk.client import Client
from chatsdk.media import media_from
from chatsdk.messages import Delta, Reply, Usage
from chatsdk.parts import Media, ToolCallPart
from chatsdk.results import Model as OurModel
from chatsdk.streams import Stream as OurStream
from chatsdk.targets import default_target

# The errors that code written for openai catches, in our tree.
OpenAIError = APIError = errors.ChatError
APIConnectionError = errors.APIConnectionError
APIStatusError = errors.APIStatusError
APITimeoutError = errors.APITimeoutError
AuthenticationError = errors.AuthenticationError
BadRequestError = errors.BadRequestError
ConflictError = errors.ConflictError
InternalServerError = errors.ServerError
NotFoundError = errors.NotFoundError
PermissionDeniedError = errors.PermissionDeniedError
RateLimitError = errors.RateLimitError
UnprocessableEntityError = errors.UnprocessableEntityError

MADE = "call_chatsdk_"  # how the ids begin that we make where a protocol has none

# What an answer has and a question has not: it is left out of a message that is sent back.
_ONLY_SAID = ("annotations", "reasoning_content", "refusal")
_SOUNDS = {"mp3": "mpeg"}  # where the format's word is not that of its type


class OpenAI:
    """A client with the methods of ``openai.OpenAI``, for one target.

    There are ``chat.completions.create``, ``embeddings.create`` and ``models.list``.  Safe to share
    between threads, as the `Client` behind it is.

    Args:
        target: Whom to ask; None: ``$CHATSDK_TARGET``, else ``"openai"``.
        client: A `Client` to ask with, instead of one of its own; nothing else is given then.
        default_headers: Added to the headers of each request.
        **options: Anything else of a `Client`: ``api_key``, ``base_url``, ``timeout``, ...

    Raises:
        ConfigurationError: The target is unknown, a key is missing, an address is none.
        TypeError: An option is unknown, or given beside ``client``.
    """

    def __init__(
        self,
        target: Any = None,
        *,
        client: Client | None = None,
        default_headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if default_headers is not None:
            options["headers"] = default_headers
        if client is None:
            chosen = default_target(target)
            client = Client("openai" if chosen is None else chosen, **options)
        elif target is not None or options:
            given = ", ".join(sorted({*options, *(["target"] if target is not None else [])}))
            raise TypeError(f"{given}: give these to the client, or leave out client=")
        elif not isinstance(client, Client):
            raise TypeError(f"client must be a chatsdk.Client, not {type(client).__name__}")
        self.client = client
        self.chat = Chat(client)
        self.embeddings = EmbeddingsOf(client)
        self.models = ModelsOf(client)

    def with_options(self, **changes: Any) -> OpenAI:
        """Return a copy with some options changed, which shares connections and tokens."""
        if "default_headers" in changes:
            changes["headers"] = changes.pop("default_headers")
        return OpenAI(client=self.client.with_options(**changes))

    copy = with_options

    def close(self) -> None:
        """Release every connection; it can be used again."""
        self.client.close()

    def __enter__(self) -> OpenAI:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenAI(client={self.client!r})"


@frozen
class Chat:
    """Holds `completions`, as the official client does."""

    _client: Client

    @property
    def completions(self) -> Completions:
        """What is asked for answers."""
        return Completions(self._client)


@frozen
class Completions:
    """What is asked for answers."""

    _client: Client

    def create(
        self,
        *,
        messages: Any,
        model: str | None = None,
        stream: bool | None = False,
        stream_options: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        n: int | None = None,
        **params: Any,
    ) -> Any:
        """Ask, and return a `ChatCompletion`, or with ``stream`` a `ChunkStream`.

        Args:
            messages: Dicts in OpenAI's shape, messages of earlier answers, or what `Client.chat`
                takes.
            model: The language model of the client's target; None: the usual one.
            stream: Whether the answer comes as an iterator of `ChatCompletionChunk`.
            stream_options: ``{"include_usage": True}``: the last chunk tells the tokens.
            max_tokens: The most tokens of the answer.
            max_completion_tokens: The same by its newer name.
            n: How many answers; there is only ever 1.
            **params: As for `Client.chat`.

        Raises:
            TypeError: An argument is unknown or of the wrong type.
            UnsupportedError: The service cannot do what was asked.
            ChatError: The call failed; ``partial`` has what arrived.
        """
        params = _given({**params, "model": model})
        most = _given({"max_tokens": max_tokens, "max_completion_tokens": max_completion_tokens})
        if len(most) > 1:
            raise TypeError("max_tokens and max_completion_tokens are the same; give one of them")
        if _given({"n": n}).get("n", 1) != 1:
            raise errors.UnsupportedError("n must be 1: a call has one answer; call again for more")
        if most:
            params["max_tokens"] = next(iter(most.values()))
        counted = _include_usage(_given({"stream_options": stream_options}), bool(stream))
        asked = messages_from_openai(messages)
        if stream:
            return ChunkStream(self._client.stream(asked, **params), counted)
        return completion_of(self._client.chat(asked, **params))


@frozen
class EmbeddingsOf:
    """What is asked for vectors."""

    _client: Client

    def create(
        self,
        *,
        input: Any,
        model: str | None = None,
        dimensions: int | None = None,
        encoding_format: str | None = None,
        timeout: Any = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> CreateEmbeddingResponse:
        """Return texts as vectors.

        Args:
            input: A str, or an iterable of str.
            model: The model that makes them; None: the usual one.
            dimensions: Their length, where it can be chosen.
            encoding_format: ``"float"``, or ``"base64"`` for packed floats of 4 bytes.
            timeout: Seconds or a `Timeout`.
            extra_body: Merged into the request's body last.
            extra_headers: Added to the request's headers last.
        """
        form = _given({"form": encoding_format}).get("form", "float")
        if form not in ("float", "base64"):
            raise ValueError(f"encoding_format must be 'float' or 'base64', not {form!r}")
        asked = {
            "model": model, "dimensions": dimensions, "timeout": timeout,
            "extra_body": extra_body, "extra_headers": extra_headers,
        }
        made = self._client.embed(input, **_given(asked))
        pack = _packed if form == "base64" else list
        data = [Embedding(pack(vector), index) for index, vector in enumerate(made.vectors)]
        # Vectors have no tokens: those of the question are all.
        told = None if made.usage is None else made.usage.prompt_tokens
        usage = None if told is None else EmbeddingUsage(told, told)
        return CreateEmbeddingResponse(data, made.model or "", usage)


@frozen
class ModelsOf:
    """What is asked for the models of the service."""

    _client: Client

    def list(self) -> ModelList:
        """Return the models that the service offers; iterate over it, or read its ``data``."""
        return ModelList([_model(model) for model in self._client.models()])


# What is answered.  Fields have the names and the order of the official types.


class Shape:
    """What all answers have: they can be told as plain values."""

    def model_dump(self, *, mode: str = "python", exclude_none: bool = False) -> dict[str, Any]:
        """Return it as dicts and lists; they are the same for both values of ``mode``."""
        return {**_plain(self, exclude_none)}

    def model_dump_json(self, *, indent: int | None = None, exclude_none: bool = False) -> str:
        """Return it as JSON text."""
        dumped = self.model_dump(exclude_none=exclude_none)
        between = None if indent else (",", ":")
        return json.dumps(dumped, ensure_ascii=False, indent=indent, separators=between)

    def to_dict(self) -> dict[str, Any]:
        """Return it as dicts and lists, without what is not told."""
        return self.model_dump(exclude_none=True)

    def to_json(self) -> str:
        """Return it as JSON text, without what is not told."""
        return self.model_dump_json(indent=2, exclude_none=True)


def _plain(value: Any, exclude_none: bool) -> Any:
    if isinstance(value, Shape):
        return {
            field.name: _plain(getattr(value, field.name), exclude_none)
            for field in attrs.fields(type(value))  # type: ignore[arg-type]  # each has fields
            if not (getattr(value, field.name) is None and (exclude_none or field.metadata))
        }
    if isinstance(value, list):
        return [_plain(item, exclude_none) for item in value]
    return value


def _ours() -> Any:
    """Return a field that the official types have not: it is only told where it has a value."""
    return attrs.field(default=None, metadata={"ours": True})


@frozen
class Function(Shape):
    """A function that is called: ``arguments`` is JSON text, or in a chunk a piece of it."""

    arguments: str | None
    name: str | None


@frozen
class ToolCall(Shape):
    """A call of a function that the model asks for."""

    id: str
    function: Function
    type: str = "function"


@frozen
class ChatCompletionMessage(Shape):
    """An answer's message; ``reasoning_content`` and ``state`` are told where there are any."""

    content: str | None
    refusal: str | None = None
    role: str = "assistant"
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = _ours()
    state: Mapping[str, Any] | None = _ours()


@frozen
class Choice(Shape):
    """An answer and why it ended."""

    finish_reason: str
    index: int
    message: ChatCompletionMessage
    logprobs: None = None


@frozen
class PromptTokensDetails(Shape):
    """A part of the question's tokens."""

    cached_tokens: int | None


@frozen
class CompletionTokensDetails(Shape):
    """A part of the answer's tokens."""

    reasoning_tokens: int | None


@frozen
class CompletionUsage(Shape):
    """Tokens; details that the service does not tell are None."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


@frozen
class ChatCompletion(Shape):
    """A whole answer."""

    id: str
    choices: list[Choice]
    created: int
    model: str
    object: str = "chat.completion"
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


@frozen
class DeltaToolCall(Shape):
    """A piece of a tool call."""

    index: int
    id: str | None
    function: Function
    type: str | None


@frozen
class ChoiceDelta(Shape):
    """A piece of an answer."""

    content: str | None = None
    refusal: str | None = None
    role: str | None = None
    tool_calls: list[DeltaToolCall] | None = None
    reasoning_content: str | None = _ours()


@frozen
class ChunkChoice(Shape):
    """A piece of an answer, or why it ended."""

    delta: ChoiceDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


@frozen
class ChatCompletionChunk(Shape):
    """A step of an answer."""

    id: str
    choices: list[ChunkChoice]
    created: int
    model: str
    object: str = "chat.completion.chunk"
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


@frozen
class Embedding(Shape):
    """A vector: numbers, or base64 of packed floats."""

    embedding: Any
    index: int
    object: str = "embedding"


@frozen
class EmbeddingUsage(Shape):
    """Tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


@frozen
class CreateEmbeddingResponse(Shape):
    """Vectors, one for each text."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage | None
    object: str = "list"


@frozen
class Model(Shape):
    """A language model; ``created`` is 0 where the service does not tell."""

    id: str
    created: int
    owned_by: str
    object: str = "model"


@frozen
class ModelList(Shape):
    """The models of a service."""

    data: list[Model]
    object: str = "list"

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)


class ChunkStream:
    """An answer as it comes: an iterator of `ChatCompletionChunk` for one consumer.

    The role is in the first chunk, and the finish reason in one of its own after all else; where
    the service tells no reason it is ``"stop"``.  Use it in a ``for`` loop, or ``with`` it where
    the loop may be left early.

    Attributes:
        stream: The `Stream` behind it.

    Raises:
        ChatError: While iterating: what `Stream` raises.
    """

    def __init__(self, stream: OurStream, counted: bool = False) -> None:
        self.stream = stream
        self._chunks = _chunks(stream, counted)

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self

    def __next__(self) -> ChatCompletionChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Close the connection; from any thread."""
        self.stream.close()

    def __enter__(self) -> ChunkStream:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def _chunks(stream: OurStream, counted: bool) -> Iterator[ChatCompletionChunk]:
    """Yield an answer in chunks, after all else one with its tokens if they are to be told."""
    created = int(time.time())
    id, model = "", stream.reply.model or ""
    role: str | None = "assistant"
    begun: set[int] = set()  # indices of the tool calls that have begun
    for delta in stream.deltas():
        id, model = id or delta.id or _made_completion_id(), delta.model or model
        if delta.text or delta.reasoning or delta.tool_calls:
            choice = ChunkChoice(_choice_delta(delta, role, begun))
            role = None
            yield ChatCompletionChunk(id, [choice], created, model)
    if stream.closed:
        return
    reply = stream.reply
    id = id or _made_completion_id()
    choice = ChunkChoice(ChoiceDelta(role=role), finish_reason_of(reply))
    yield ChatCompletionChunk(id, [choice], created, model)
    if counted:
        yield ChatCompletionChunk(id, [], created, model, usage=usage_of(reply.usage))


def completion_of(reply: Reply) -> ChatCompletion:
    """Return a reply as a completion."""
    calls = [
        ToolCall(call.id or made_id(), Function(call.raw or "{}", call.name))
        for call in reply.tool_calls
    ]
    message = ChatCompletionMessage(
        reply.text or (None if calls else ""),
        tool_calls=calls or None,
        reasoning_content=reply.reasoning or None,
        state=reply.state,
    )
    return ChatCompletion(
        reply.id or _made_completion_id(),
        [Choice(finish_reason_of(reply), 0, message)],
        int(time.time()),
        reply.model or "",
        usage=usage_of(reply.usage),
    )


def finish_reason_of(reply: Reply) -> str:
    """Return why a whole answer ended: in OpenAI's shape there always is a reason."""
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def usage_of(usage: Usage | None) -> CompletionUsage | None:
    """Return tokens in OpenAI's shape, or None where the service does not tell both sides."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    thought, cached = usage.reasoning_tokens, usage.cached_tokens
    total = usage.prompt_tokens + usage.completion_tokens
    return CompletionUsage(
        usage.completion_tokens,
        usage.prompt_tokens,
        total if usage.total_tokens is None else usage.total_tokens,
        None if thought is None else CompletionTokensDetails(thought),
        None if cached is None else PromptTokensDetails(cached),
    )


def made_id() -> str:
    """Return an id for a tool call of a service that has none."""
    return MADE + uuid.uuid4().hex


def _made_completion_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _choice_delta(delta: Delta, role: str | None, begun: set[int]) -> ChoiceDelta:
    calls = [piece_of(part, begun) for part in delta.tool_calls]
    return ChoiceDelta(
        delta.text or None,
        role=role,
        tool_calls=calls or None,
        reasoning_content=delta.reasoning or None,
    )


def piece_of(part: ToolCallPart, begun: set[int]) -> DeltaToolCall:
    """Return a piece of a tool call; the first of each, not in ``begun`` yet, has an id."""
    if part.index in begun:
        return DeltaToolCall(part.index, None, Function(part.arguments, None), None)
    begun.add(part.index)
    id = part.id or made_id()
    return DeltaToolCall(part.index, id, Function(part.arguments, part.name), "function")


def _model(model: OurModel) -> Model:
    created = model.raw.get("created") if isinstance(model.raw, Mapping) else None
    return Model(
        model.id, created if isinstance(created, int) else 0, model.owner or model.provider
    )


def _packed(vector: Any) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


# What is asked.


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given: neither None nor what the official package has for "not given"."""
    nothing = ("NoneType", "NotGiven", "Omit")
    return {name: value for name, value in params.items() if type(value).__name__ not in nothing}


def _include_usage(given: Mapping[str, Any], stream: bool) -> bool:
    """Return whether the last chunk is to tell the tokens."""
    if not given:
        return False
    options = given["stream_options"]
    if not isinstance(options, Mapping):
        raise TypeError(f"stream_options must be a dict, not {type(options).__name__}")
    strange = sorted({*options} - {"include_usage", "include_obfuscation"})
    if strange:
        raise TypeError(f"stream_options: unknown key {strange[0]!r}; there is: include_usage")
    if not stream:
        raise ValueError("stream_options is for stream=True only")
    return bool(options.get("include_usage"))


def messages_from_openai(messages: Any) -> Any:
    """Return messages in OpenAI's shape as `Client.chat` takes them.

    Instead of dicts there may be the messages of answers, ours and those of the official package.
    Anything else is passed on as it is.

    Raises:
        TypeError: A part of a message has no meaning here.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        return messages
    names: dict[str, str] = {}  # of the functions that were called, by id
    return [_message(item, f"messages[{n}]", names) for n, item in enumerate(messages)]


def _message(given: Any, where: str, names: dict[str, str]) -> Any:
    item = given.model_dump() if hasattr(given, "model_dump") else given
    if not isinstance(item, Mapping):
        return item
    made = {
        key: value
        for key, value in item.items()
        if key not in _ONLY_SAID and (value is not None or key == "content")
    }
    if made.get("role") == "developer":
        made["role"] = "system"
    if made.get("content") is None and item.get("refusal"):
        made["content"] = item["refusal"]
    if isinstance(made.get("content"), (list, tuple)):
        made["content"] = [
            _part(part, f"{where}: content[{n}]") for n, part in enumerate(made["content"])
        ]
    if isinstance(made.get("tool_calls"), (list, tuple)):
        made["tool_calls"] = [_call(call, names) for call in made["tool_calls"]]
    _find_name(made, names)
    return made


def _find_name(message: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give a function's result its name, which some services want, and take away a made id."""
    id = message.get("tool_call_id")
    if isinstance(id, str):
        if id in names:
            message.setdefault("name", names[id])
        if id.startswith(MADE):
            del message["tool_call_id"]


def _call(call: Any, names: dict[str, str]) -> Any:
    if not isinstance(call, Mapping):
        return call
    id, function = call.get("id"), call.get("function")
    if isinstance(id, str) and isinstance(function, Mapping):
        names[id] = function.get("name", "")
        if id.startswith(MADE):
            return {**call, "id": None}
    return call


def _part(part: Any, where: str) -> Any:
    """Return a sound or a file as `Media`; `Client.chat` knows the other parts."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    held = part.get(kind) if kind in ("input_audio", "file", "refusal") else None
    if kind == "refusal" and isinstance(held, str):
        return held
    if not isinstance(held, Mapping):
        return part
    if kind == "input_audio" and isinstance(held.get("data"), str):
        form = held.get("format")
        if not isinstance(form, str) or not form.isalnum():
            raise TypeError(f"{where}: format must be a word such as 'wav', not {form!r}")
        return media_from(f"data:audio/{_SOUNDS.get(form, form)};base64,{held['data']}")
    if str(held.get("file_data"))[:5].lower() == "data:":  # and never a path
        media = media_from(held["file_data"])
        return Media(media.kind, media.mime, media.data, media.url, held.get("filename"))
    raise TypeError(f"{where}: a {kind} has its bytes with it, a file as a data: URL")
