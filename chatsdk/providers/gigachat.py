"""GigaChat by Sber: a token first, then an API much like OpenAI's.

Sources: the developer pages at https://developers.sber.ru/docs/ru/gigachat/api/reference and the
recordings in the tests of the service's own SDK (github.com/ai-forever/gigachat), 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from itertools import chain
import json
from typing import Any, ClassVar, TYPE_CHECKING
from urllib.parse import urlsplit

from attr.validators import ge, in_

from chatsdk.errors import (
    MissingCredentialsError,
    ProtocolError,
    ProviderError,
    quoted,
    UnsupportedError,
)
from chatsdk.messages import Delta, Message, Query, Usage
from chatsdk.providers.alike import Alike
from chatsdk.providers.base import (
    count,
    digest,
    Fetch,
    given,
    member,
    merged,
    models_in,
    Provider,
    system_text,
    text_step,
    vector_in,
    vectors_in_order,
)
from chatsdk.records import evolve, field, frozen
from chatsdk.settings import secret, setting, url
from chatsdk.wire import Grant, malformed, parse, Request, sse, unix_time, whole

if TYPE_CHECKING:
    from chatsdk.parts import ToolCallPart
    from chatsdk.results import EmbeddingQuery, Embeddings, Model
    from chatsdk.tokens import Token

DONE = b"[DONE]"
SCOPES = ("GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP")
FINISH = {"function_call": "tool_calls", "blacklist": "content_filter"}
LEAST_TEMPERATURE = 0.001  # 0 is refused; up to here the service is at its most deterministic
HEADERS = {"request_id": "X-Request-ID", "session_id": "X-Session-ID", "client_id": "X-Client-ID"}
ADVICE = {
    401: "is the key in api_key= or GIGACHAT_CREDENTIALS current, and for this scope?",
    402: "no tokens are left for this model; buy some or choose another model",
    404: "client.models() lists the models of this account",
}


@frozen(kw_only=True)
class GigaChat(Provider):
    """A chat with GigaChat.

    Attributes:
        api_key: The authorization key, as Sber gives it (base64 of id and secret).
        access_token: A token of the user's own, used until it is refused; needs no key.
        scope: What the key is for: ``GIGACHAT_API_PERS``, ``_B2B`` or ``_CORP``.
        auth_url: Where tokens are issued.
        auth_scheme: How the key is sent there: ``"Basic"``, or ``"Bearer"`` as older clients did.
        margin: Seconds before its end at which a token is renewed.
        ca_bundle_file: A CA file to trust instead of the common roots and Sber's.
    """

    name: ClassVar[str] = "gigachat"
    title: ClassVar[str] = "GigaChat"
    page: ClassVar[str] = "https://developers.sber.ru/docs/ru/gigachat/overview"
    tools: ClassVar[bool] = True
    embeds: ClassVar[int] = 90  # as many as the service's own integrations send at once
    embedding_model: ClassVar[str] = "Embeddings"
    models: ClassVar[tuple[str, ...]] = (
        "GigaChat",
        "GigaChat-2",
        "GigaChat-2-Pro",
        "GigaChat-2-Max",
        "GigaChat-3-Ultra",
        "GigaChat-Plus",
        "GigaChat-Pro",
        "GigaChat-Max",
        "GigaChat:latest",
    )
    aliases: ClassVar[Mapping[str, str]] = {"gigachat": "GigaChat"}
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature; 0 is sent as 0.001",
        "top_p": "top_p",
        "max_tokens": "max_tokens",
        "tools": "functions",
        "tool_choice": "function_call",
        "response_format": "response_format, a JSON schema",
        "reasoning_effort": "reasoning_effort",
        "repetition_penalty": "repetition_penalty",
        "update_interval": "update_interval, in s",
        "profanity_check": "profanity_check",
        "request_id": "the header X-Request-ID",
        "session_id": "the header X-Session-ID",
        "client_id": "the header X-Client-ID",
    }
    options: ClassVar[Mapping[str, type]] = {
        "repetition_penalty": float,
        "update_interval": float,
        "profanity_check": bool,
        "request_id": str,
        "session_id": str,
        "client_id": str,
    }

    base_url: str = url("GIGACHAT_BASE_URL", "https://gigachat.devices.sberbank.ru/api/v1")
    auth_url: str = url("GIGACHAT_AUTH_URL", "https://ngw.devices.sberbank.ru:9443/api/v2/oauth")
    model: str = setting("GIGACHAT_MODEL", "GigaChat")
    api_key: str | None = secret("GIGACHAT_CREDENTIALS")
    access_token: str | None = secret("GIGACHAT_ACCESS_TOKEN")
    scope: str = setting("GIGACHAT_SCOPE", SCOPES[0])
    auth_scheme: str = field(default="Basic", validator=in_(("Basic", "Bearer")))
    margin: float = field(default=60.0, validator=ge(0))
    ca_bundle_file: str | None = setting("GIGACHAT_CA_BUNDLE_FILE")

    def __attrs_post_init__(self) -> None:
        if self.api_key is None and self.access_token is None:
            raise MissingCredentialsError(
                "gigachat needs a key: give api_key=... or set GIGACHAT_CREDENTIALS"
                " (access_token= or GIGACHAT_ACCESS_TOKEN if you have a token already)",
                provider=self.name,
            )

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        headers = {"Accept": "text/event-stream" if query.stream else "application/json"}
        for name, header in HEADERS.items():
            if name in query.options:
                headers[header] = query.options[name]
        return self._signed(
            "POST",
            "/chat/completions",
            json=merged(self.payload(query), query.extra_body),
            headers=self.request_headers(headers, query.extra_headers),
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: functions instead of tools, one system message, the first."""
        temperature = query.temperature
        if temperature is not None:
            temperature = max(temperature, LEAST_TEMPERATURE)
        options = {key: query.options[key] for key in query.options if key not in HEADERS}
        return {
            "model": self.model_of(query),
            "messages": _messages(query.messages),
            "stream": query.stream,
            **given(
                temperature=temperature,
                top_p=query.top_p,
                max_tokens=query.max_tokens,
                functions=[_function(tool["function"]) for tool in query.tools] or None,
                function_call=_function_call(query.tool_choice),
                response_format=_response_format(query.response_format),
                reasoning_effort=query.reasoning_effort,
                **options,
            ),
        }

    def check(self, query: Query) -> None:
        """Refuse what has no form here, before anything is sent."""
        super().check(query)
        for message in query.messages:
            if message.role == "tool" or message.tool_calls:  # a text alone has no flaw to find
                _message(message)
        _function_call(query.tool_choice)
        _response_format(query.response_format)

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models that the service lists for this account."""
        body = fetch(self._signed("GET", "/models", repeatable=True))
        event = parse(body)
        return models_in(event.get("data") if isinstance(event, dict) else None, self.name)

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors; each entry of the answer tells its tokens by itself."""
        from chatsdk.results import Embeddings

        asked = merged({"model": query.model, "input": list(query.texts)}, query.extra_body)
        body = fetch(self._plain("/embeddings", asked, query.extra_headers))
        event = parse(body)
        entries = member(event, "data", list) if isinstance(event, dict) else None
        if entries is None or not all(isinstance(entry, dict) for entry in entries):
            raise malformed("the answer with the vectors is none", body)
        vectors = {
            place if (place := count(entry, "index")) is not None else n:
                vector_in(entry.get("embedding"), self.name)
            for n, entry in enumerate(entries)
        }
        usages = [_usage(entry) for entry in entries]
        counts = [None if usage is None else usage.prompt_tokens for usage in usages]
        tokens = None if None in counts else sum(number or 0 for number in counts)
        return Embeddings(
            vectors_in_order(vectors, len(query.texts), self.name),
            member(event, "model", str),
            None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens),
        )

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return the tokens of the messages' texts; the service counts no marks between them."""
        texts = [message.text for message in query.messages if message.text]
        if not texts:
            return 0
        asked = merged({"model": self.model_of(query), "input": texts}, query.extra_body)
        body = fetch(self._plain("/tokens/count", asked, query.extra_headers))
        event = parse(body)
        entries = event if isinstance(event, list) else [event]
        counts = [count(e, "tokens") if isinstance(e, dict) else None for e in entries]
        if None in counts or len(counts) != len(texts):
            raise malformed("the answer with the numbers of tokens is none", body)
        return sum(number or 0 for number in counts)

    def _plain(self, path: str, asked: Any, extra: Mapping[str, str]) -> Request:
        """Return a request for a document that it does no harm to ask for twice."""
        headers = self.request_headers({"Accept": "application/json"}, extra)
        return self._signed("POST", path, json=asked, headers=headers, repeatable=True)

    def _signed(self, method: str, path: str, **details: Any) -> Request:
        if self.access_token is None:
            grant, bearer = self._grant(), {}
        else:
            grant, bearer = None, {"Authorization": f"Bearer {self.access_token}"}
        headers = {**bearer, **(details.pop("headers", None) or self.headers)}
        return Request(
            method=method,
            url=self.base_url + path,
            headers=headers,
            cookies=self.cookies,
            grant=grant,
            advice=ADVICE,
            trust=_root_for(self.base_url),
            verify=self.ca_bundle_file,
            **details,
        )

    def _grant(self) -> Grant:
        key = str(self.api_key)
        return Grant(
            name=digest(self.auth_url, self.auth_scheme, key, self.scope),
            ask=self._ask,
            read=self._read,
        )

    def _ask(self) -> Request:
        import uuid  # 1 ms, which an access_token does not need

        return Request(
            method="POST",
            url=self.auth_url,
            headers={
                "Authorization": f"{self.auth_scheme} {self.api_key}",
                "RqUID": str(uuid.uuid4()),
                "Accept": "application/json",
            },
            form={"scope": self.scope},
            repeatable=True,
            advice=ADVICE,
            trust=_root_for(self.auth_url),
            verify=self.ca_bundle_file,
        )

    def _read(self, body: bytes, headers: Mapping[str, str], asked_at: float) -> Token:
        """Return the token of an answer in either of its two forms."""
        from chatsdk.tokens import Token

        try:
            event = parse(body)
        except ProtocolError:
            event = None  # the error would quote the token
        if not isinstance(event, dict):
            raise ProtocolError("the token answer of gigachat is no JSON object")
        value = event.get("access_token") or event.get("tok")
        expiry = event.get("expires_at")
        if expiry is None:
            expiry = event.get("exp")
        try:
            return Token.from_payload(
                value,
                expiry,
                asked_at=asked_at,
                server_date=unix_time(headers.get("Date")),
                margin=self.margin,
            )
        except ValueError as error:
            raise ProtocolError(f"the token answer of gigachat has no token: {error}") from None

    # What is read

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say: events, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return chain(whole(body, parse), (DONE,))
        if kind in ("text/event-stream", ""):
            return sse(body, Alike(self.decode), DONE)
        raise ProtocolError(f"gigachat answered with {kind[:80]!r}, not with events or JSON")

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event of a stream or in a whole answer."""
        if type(event) is Delta:
            return event
        quick = text_step(event)
        if quick is not None:
            return quick
        if event is DONE:
            return Delta(final=True)
        if not isinstance(event, dict):
            raise malformed("a frame is no JSON object", str(event))
        choices = member(event, "choices", list)
        if choices is None:
            raise _failure(event)
        usage = _usage(event) if "usage" in event else None
        if not choices:
            return Delta(usage=usage, raw=event) if usage else None
        if not isinstance(choices[0], dict):
            raise malformed("a choice is no JSON object", str(choices[0]))
        choice = choices[0]
        said = member(choice, "delta", dict) or member(choice, "message", dict) or {}
        text = member(said, "content", str) or ""
        finish = member(choice, "finish_reason", str) or None  # proxies send "" as well as null
        if said.get("role") == "function_in_progress":  # a built-in function's progress, no text
            return None
        delta = Delta(
            text=text,
            finish_reason=FINISH.get(finish, finish) if finish else None,
            usage=usage,
            reasoning=member(said, "reasoning_content", str) or "",
            tool_calls=_tool_calls(said),
            final=finish is not None,
            model=member(event, "model", str),
            state=_state(said),
            raw=event,
        )
        if finish == "error" and not text:
            raise ProviderError("the model of gigachat gave a call with invalid arguments")
        told = text or delta.reasoning or delta.tool_calls or usage or delta.state or delta.final
        return delta if told else None

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer; its id is the request's, since it has no other."""
        deltas = super().deltas(query, body)
        request_id = body.headers.get("X-Request-Id")
        return deltas if request_id is None else _identified(deltas, request_id)

    def judge(self, last: Delta) -> None:
        """Refuse an answer that ends with an error, after its text."""
        if last.finish_reason == "error":
            raise ProviderError("the model of gigachat gave a call with invalid arguments")


def _identified(deltas: Iterator[Delta], id: str) -> Iterator[Delta]:
    """Yield the steps, the first of them with an id."""
    for first in deltas:
        yield evolve(first, id=id)
        break
    yield from deltas


@cache
def russian_root() -> str:
    """Return the root certificate that Sber's hosts chain to, as PEM text."""
    return (files("chatsdk") / "data" / "russian_trusted_root_ca.pem").read_text("ascii")


@lru_cache(maxsize=256)
def _root_for(address: str) -> str | None:
    """Return what to trust for an address: Sber's root for Sber's hosts, and for no other."""
    host = urlsplit(address).hostname or ""
    return russian_root() if host.endswith(".sberbank.ru") else None


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    system = system_text(messages)
    first = [{"role": "system", "content": system}] if system else []
    return first + [_message(message) for message in messages if message.role != "system"]


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        if not message.name:
            raise UnsupportedError("gigachat needs the function's name= in messages of role tool")
        return {"role": "function", "name": message.name, "content": _object(message.text)}
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if len(message.tool_calls) > 1:
        raise UnsupportedError("gigachat knows at most one function call in a message; split it")
    for call in message.tool_calls:
        said["function_call"] = {"name": call.name, "arguments": call.arguments or {}}
    if message.state and message.state.get("functions_state_id") is not None:
        said["functions_state_id"] = message.state["functions_state_id"]
    return said


def _object(result: str) -> str:
    """Return a function's result as the text of a JSON object, which the service insists on."""
    try:
        is_object = isinstance(json.loads(result), dict)
    except (ValueError, RecursionError):
        is_object = False
    return result if is_object else json.dumps({"result": result}, ensure_ascii=False)


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    known = ("name", "description", "parameters", "return_parameters", "few_shot_examples")
    return {name: function[name] for name in known if name in function}


def _function_call(choice: Any) -> Any:
    if choice in (None, "auto", "none"):
        return choice
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return {"name": function["name"]}
    raise UnsupportedError("tool_choice for gigachat is 'auto', 'none' or one function")


def _response_format(wanted: Any) -> Any:
    if wanted is None:
        return None
    if wanted["type"] != "json_schema":
        raise UnsupportedError("response_format for gigachat is a type or a schema, not plain JSON")
    inner = wanted["json_schema"]
    return {"type": "json_schema", "schema": inner["schema"], "strict": inner["strict"]}


def _tool_calls(said: Mapping[str, Any]) -> tuple[ToolCallPart, ...]:
    """Return the one call of an answer; its arguments are an object, not a text."""
    call = member(said, "function_call", dict)
    if call is None:
        return ()
    from chatsdk.parts import ToolCallPart

    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    return (ToolCallPart(0, None, member(call, "name", str), arguments),)


def _state(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    state = member(said, "functions_state_id", str)
    return {"functions_state_id": state} if state else None


def _usage(event: Mapping[str, Any]) -> Usage | None:
    told = event.get("usage")
    if not isinstance(told, dict):
        return None
    return Usage(
        prompt_tokens=count(told, "prompt_tokens"),
        completion_tokens=count(told, "completion_tokens"),
        total_tokens=count(told, "total_tokens"),
        cached_tokens=count(told, "precached_prompt_tokens"),
    )


def _failure(event: Mapping[str, Any]) -> Exception:
    """Return the error for a frame without choices: the service's own, or one of the protocol."""
    if not {"error", "message", "status"} & event.keys():
        return malformed("a frame has neither choices nor an error", str(event))
    status = count(event, "status") or count(event, "error")
    text = event.get("message") or event.get("error") or "no reason given"
    return ProviderError(
        f"gigachat failed inside its answer: {quoted(text)}",
        retryable=status in (429, 500, 502, 503, 504),
    )
