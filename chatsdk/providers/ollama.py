"""Ollama: a model server on one's own machine, or Ollama's cloud; one JSON object a line.

Sources: the server's own code (github.com/ollama/ollama: server/routes.go, api/types.go,
envconfig/config.go) and that of its Python package (github.com/ollama/ollama-python), 2026.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
import json
from typing import Any, ClassVar
from urllib.parse import urlsplit

from chatsdk.errors import ConfigurationError, ProviderError, quoted, UnsupportedError
from chatsdk.messages import Delta, Message, Query, step, Usage
from chatsdk.parts import ToolCallPart
from chatsdk.providers.base import (
    count,
    Fetch,
    given,
    member,
    merged,
    Provider,
    vector_in,
    vectors_in_order,
)
from chatsdk.providers.thoughts import told_apart
from chatsdk.records import evolve, frozen
from chatsdk.results import EmbeddingQuery, Embeddings, Model
from chatsdk.settings import check_url, secret, setting
from chatsdk.wire import Body, malformed, ndjson, parse, Request

PORT = 11434
PORTS = {"http": 80, "https": 443}  # where the address names its scheme
#: Where a server listens, and where it is found; without a host it is on this machine.
LISTENING = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
EFFORTS: Mapping[str, Any] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high",
    "max": "max", "true": True, "false": False,
}
FORMATS = {"text": None, "json_object": "json"}
LOADING = (
    "a model that is not loaded yet may take minutes before its first word: give it time with"
    " timeout=Timeout(first=600), and keep it loaded with keep_alive='1h'"
)


def server_url(address: Any) -> Any:
    """Return an address as Ollama's own tools understand it, as a URL.

    ``host``, ``host:port`` and ``:port`` are http at port 11434 unless another is named; a URL
    without a port has the port of its scheme.  ``0.0.0.0``, on which a server listens, is where a
    client finds it: 127.0.0.1.  What is no address is returned as it is: `check_url` refuses it.
    """
    if not isinstance(address, str) or not address.strip():
        return address
    scheme, mark, rest = address.strip().partition("://")
    if not mark:
        scheme, rest = ("https" if scheme == "ollama.com" else "http"), scheme
    if scheme not in PORTS or any(strange in rest for strange in "@?#"):
        return address
    place, _, path = rest.partition("/")
    host, port = _host_and_port(place)
    if port == 0 or mark and not host:
        return address
    host = LISTENING.get(host, host)
    usual = PORTS[scheme] if mark or scheme == "https" else PORT
    at = "" if (port or usual) == PORTS[scheme] else f":{port or usual}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{at}/{path}".rstrip("/")


def _host_and_port(place: str) -> tuple[str, int | None]:
    """Return the host, ``""`` for none, and the port, None for none, of ``host:port``."""
    if place.count(":") > 1 and not place.startswith("["):
        place = f"[{place}]"  # an IPv6 address alone
    try:
        parts = urlsplit(f"//{place}")
        return parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(
            "base_url (or OLLAMA_HOST) must be a host, host:port, :port or a URL"
        ) from None


@frozen(kw_only=True)
class Ollama(Provider):
    """A chat with an Ollama server.

    Attributes:
        base_url: Where it is: ``host``, ``host:port``, ``:port`` or a URL, as in OLLAMA_HOST.
        api_key: A key of ollama.com; a server of one's own needs none.
    """

    name: ClassVar[str] = "ollama"
    title: ClassVar[str] = "Ollama"
    page: ClassVar[str] = "https://docs.ollama.com/api"
    tools: ClassVar[bool] = True
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": ("image/png", "image/jpeg", "image/webp")
    }
    embeds: ClassVar[int] = 64
    embedding_model: ClassVar[str] = "nomic-embed-text"
    dimensions: ClassVar[bool] = True
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "options.temperature",
        "top_p": "options.top_p",
        "max_tokens": "options.num_predict",
        "stop": "options.stop",
        "seed": "options.seed",
        "tools": "tools",
        "tool_choice": "'auto'; 'none' sends no tools",
        "response_format": "format, a JSON schema or 'json'",
        "reasoning_effort": "think: none, low, medium, high, max, true or false",
        "num_ctx": "options.num_ctx, tokens of question and answer together",
        "top_k": "options.top_k",
        "min_p": "options.min_p",
        "repeat_penalty": "options.repeat_penalty",
        "keep_alive": "keep_alive, how long the model stays loaded: '5m', '0'",
        "options": "options, whatever else the model server knows",
    }
    options: ClassVar[Mapping[str, type]] = {
        "num_ctx": int,
        "top_k": int,
        "min_p": float,
        "repeat_penalty": float,
        "keep_alive": str,
        "options": dict,
    }

    base_url: str = setting(
        "OLLAMA_HOST", f"http://127.0.0.1:{PORT}", converter=server_url, validator=check_url
    )
    model: str = setting("OLLAMA_MODEL", "llama3.2")
    api_key: str | None = secret("OLLAMA_API_KEY")

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        return self._request(
            "POST",
            "/api/chat",
            self.model_of(query),
            json=merged(self.payload(query), query.extra_body),
            headers=self._headers(query.extra_headers),
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: what rules the sampling stands under its own key."""
        more = dict(query.options)
        keep_alive = more.pop("keep_alive", None)
        options = given(
            temperature=query.temperature,
            top_p=query.top_p,
            num_predict=query.max_tokens,
            stop=list(query.stop) or None,
            seed=query.seed,
        )
        options |= {**more.pop("options", {}), **more}
        tools = [] if query.tool_choice == "none" else list(query.tools)
        return {
            "model": self.model_of(query),
            "messages": _messages(query.messages),
            "stream": query.stream,
            **given(
                options=options or None,
                tools=tools or None,
                format=_format(query.response_format),
                think=_think(query.reasoning_effort),
                keep_alive=_seconds(keep_alive),
            ),
        }

    def check(self, query: Query) -> None:
        """Refuse what has no form here, before anything is sent."""
        super().check(query)
        if query.tool_choice not in (None, "auto", "none"):
            raise UnsupportedError(
                "tool_choice for ollama is 'auto' or 'none': the model itself chooses",
                provider=self.name,
            )
        bare = tuple(evolve(m, content="") for m in query.messages)  # images are big
        self._check_json(self.payload(evolve(query, messages=bare)))

    def _check_json(self, payload: Mapping[str, Any]) -> None:
        try:
            json.dumps(payload.get("options"), allow_nan=False)
        except TypeError as error:
            raise TypeError(f"options has no JSON form: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"options has no JSON form: {type(error).__name__}") from None

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models that the server has."""
        body = fetch(self._request("GET", "/api/tags", "", repeatable=True))
        event = parse(body)
        entries = event.get("models") if isinstance(event, dict) else None
        models = []
        for entry in entries if isinstance(entries, list) else [None]:
            known = isinstance(entry, dict) and (entry.get("model") or entry.get("name"))
            if not isinstance(known, str):
                raise malformed("the list of models is none, or one of them has no name", body)
            models.append(Model(known, self.name, raw=entry))
        return models

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors."""
        model = query.model
        payload = {
            "model": model, "input": list(query.texts), **given(dimensions=query.dimensions)
        }
        body = fetch(
            self._request(
                "POST",
                "/api/embed",
                model,
                json=merged(payload, query.extra_body),
                headers=self._headers(query.extra_headers),
                repeatable=True,
            )
        )
        event = parse(body)
        if not isinstance(event, dict):
            raise malformed("the answer with the vectors is no JSON object", body)
        found = member(event, "embeddings", list) or []
        vectors = {n: vector_in(value, self.name) for n, value in enumerate(found)}
        tokens = count(event, "prompt_eval_count")
        return Embeddings(
            vectors_in_order(vectors, len(query.texts), self.name),
            member(event, "model", str),
            None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens),
        )

    def _headers(self, extra: Mapping[str, str]) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return self.request_headers({"Accept": "application/x-ndjson, application/json", **key},
                                    extra)

    def _request(self, method: str, path: str, model: str, **details: Any) -> Request:
        pull = f"`ollama pull {quoted(model)}` gets it; " if model else ""
        return Request(
            method=method,
            url=self.base_url + path,
            headers=details.pop("headers", None) or self._headers({}),
            cookies=self.cookies,
            advice={
                401: "is a key of ollama.com in api_key= or OLLAMA_API_KEY?",
                404: f"{pull}client.models() lists what is there",
                503: "the server's queue is full; OLLAMA_MAX_QUEUE there makes it longer",
                "connect": "is Ollama running there, and is OLLAMA_HOST right?",
                "first": LOADING,
            },
            **details,
        )

    # What is read

    def events(self, body: Body) -> Iterator[Any]:
        """Yield what the lines say; an answer in one piece is one line."""
        return ndjson(body, self.parse)

    def decode(self, event: Any) -> Delta | None:
        """Return the step in a line, or raise for a line that reports a failure."""
        text = _text_alone(event)
        if text:
            return step(text, event["model"], event)
        if not isinstance(event, dict):
            raise malformed("a line is no JSON object", str(event))
        if "error" in event and event["error"] is not None:
            raise ProviderError(
                f"ollama failed inside its answer: {quoted(event['error'])}",
                retryable="server busy" in str(event["error"]),
            )
        said = member(event, "message", dict) or {}
        done = event.get("done") is True
        delta = Delta(
            text=member(said, "content", str) or "",
            finish_reason=_finish(event, said) if done else None,
            usage=_usage(event) if done else None,
            reasoning=member(said, "thinking", str) or "",
            tool_calls=_tool_calls(said),
            final=done,
            model=member(event, "model", str),
            raw=event,
        )
        return delta if delta.text or done or delta.reasoning or delta.tool_calls else None

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps: calls are counted through, and thoughts that led to them are kept.

        The last line says "stop" after calls as well, and each line numbers its calls anew.  A
        model whose template Ollama does not know writes its thoughts between tags in the text.
        """
        called = 0
        thoughts: list[str] = []
        for delta in told_apart(super().deltas(query, body)):
            if delta.reasoning:
                thoughts.append(delta.reasoning)
            if delta.tool_calls:
                parts = [
                    evolve(part, index=called + n) for n, part in enumerate(delta.tool_calls)
                ]
                called += len(parts)
                delta = evolve(delta, tool_calls=tuple(parts))
            if delta.final and called:
                finish = "tool_calls" if delta.finish_reason == "stop" else delta.finish_reason
                state = {"thinking": "".join(thoughts)} if thoughts else None
                delta = evolve(delta, finish_reason=finish, state=state)
            yield delta


def _text_alone(event: Any) -> str | None:
    """Return the text of a line that tells nothing else but its model, as most do."""
    try:
        said = event["message"]
        text = said["content"]
        alone = event["done"] is False and "error" not in event
        alone = alone and len(said) == ("role" in said) + 1
        return text if alone and type(text) is type(event["model"]) is str else None
    except (TypeError, LookupError):
        return None


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return messages in Ollama's shape; a tool's result is known by the tool's name."""
    calls = [call for message in messages for call in message.tool_calls]
    names = {call.id: call.name for call in calls if call.id}
    return [_message(message, names) for message in messages]


def _message(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    calls = []
    for call in message.tool_calls:
        function = {"name": call.name, "arguments": call.arguments or {}}
        calls.append({**given(id=call.id), "function": function})
    name = None
    if message.role == "tool":
        name = message.name or names.get(message.tool_call_id or "")
        if name is None:
            raise UnsupportedError("ollama needs the function's name in a message of role 'tool'")
    return {
        "role": message.role,
        "content": message.text,
        **given(
            thinking=(message.state or {}).get("thinking"),
            images=[b64encode(m.data or b"").decode() for m in message.media] or None,
            tool_calls=calls or None,
            tool_name=name,
            tool_call_id=message.tool_call_id,
        ),
    }


def _format(wanted: Any) -> Any:
    """Return how an answer is kept to a shape: a schema, ``"json"``, or not at all."""
    if wanted is None:
        return None
    if wanted["type"] in FORMATS:
        return FORMATS[wanted["type"]]
    return wanted["json_schema"]["schema"]


def _think(effort: str | None) -> Any:
    if effort is None:
        return None
    if effort not in EFFORTS:
        raise UnsupportedError(f"reasoning_effort for ollama is one of: {', '.join(EFFORTS)}")
    return EFFORTS[effort]


def _seconds(keep_alive: str | None) -> str | int | None:
    """Return a span as Ollama reads it: with a unit a text, without one a number of seconds."""
    try:
        return None if keep_alive is None else int(keep_alive)
    except ValueError:
        return keep_alive


def _tool_calls(said: Mapping[str, Any]) -> tuple[ToolCallPart, ...]:
    """Return the calls of a line; they come whole, their arguments as an object."""
    return tuple(_call(call, n) for n, call in enumerate(member(said, "tool_calls", list) or ()))


def _call(call: Any, index: int) -> ToolCallPart:
    function = member(call, "function", dict) if isinstance(call, dict) else None
    name = member(function, "name", str) if function is not None else None
    if function is None or not name:
        raise malformed("a tool call has no function with a name", str(call))
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    return ToolCallPart(index, member(call, "id", str) or None, name, arguments)


def _finish(event: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """Return why the answer ended; other words than "stop" and "length" are Ollama's own."""
    finish = member(event, "done_reason", str) or None
    return "tool_calls" if finish == "stop" and said.get("tool_calls") else finish


def _usage(event: Mapping[str, Any]) -> Usage | None:
    """Return the counts of the last line; of a prompt from the cache there may be none."""
    prompt, answer = count(event, "prompt_eval_count"), count(event, "eval_count")
    if prompt is None and answer is None:
        return None
    both = None if prompt is None or answer is None else prompt + answer
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=both)
