"""TGI: Hugging Face's text-generation-inference, by its native endpoints.

These take one prompt, not messages.  The server puts messages into its model's own chat template
(``/chat_tokenize``, since version 2.3), and the prompt it gives back is what is generated from;
``template="plain"`` writes them as lines instead, ``User: Hi``, for a model without a template and
for older servers.

Sources: github.com/huggingface/text-generation-inference, router/src (version 3.3), and its
docs/openapi.json.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Union

from chatsdk.errors import ChatError, ConfigurationError, UnsupportedError
from chatsdk.messages import Delta, Message, Query
from chatsdk.parts import Media
from chatsdk.providers.base import Fetch, flatten, given, member, merged, Provider
from chatsdk.providers.tgi_frames import generation, spoken
from chatsdk.providers.thoughts import told_apart
from chatsdk.records import evolve, field, frozen
from chatsdk.results import Model
from chatsdk.settings import setting, url
from chatsdk.wire import malformed, parse, Request, sse, whole

BASE = "tgi"  # the model that the server was started with; other names are its adapters
#: Marks of a text's begin that a template writes and the server writes once more.
BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>")
ADVICE = {
    401: "this server wants a key: api_key=",
    404: "is base_url a text-generation-inference server?",
    424: "the model server failed; its log says why",
    "connect": "is the server running there, and is base_url right?",
}
NO_TEMPLATE = (
    "this server has no template: it is older than 2.3, or its model has none;"
    " template='plain' writes the messages as lines"
)

Template = Union[str, Callable[[tuple[Message, ...]], str]]


def check_template(instance: Any, attribute: Any, value: Any) -> None:
    """Refuse what is no way to write messages as one prompt."""
    if value not in ("server", "plain") and not callable(value):
        raise ConfigurationError(
            "template is 'server', 'plain' or a function of messages that returns the prompt"
        )


@frozen(kw_only=True)
class Tgi(Provider):
    """A chat with a text-generation-inference server.

    Attributes:
        api_key: The key that the server was started with, if any; sent as a bearer.  No variable of
            the environment is read: a token of the Hugging Face hub is for the hub alone.
        template: How messages become a prompt: ``"server"`` asks it for the model's own template,
            ``"plain"`` writes lines, and a function gets the messages and returns the prompt.
    """

    name: ClassVar[str] = "tgi"
    title: ClassVar[str] = "TGI"
    page: ClassVar[str] = "https://huggingface.co/docs/text-generation-inference"
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": ("image/png", "image/jpeg", "image/gif", "image/webp", "image/tiff")
    }
    media_urls: ClassVar[tuple[str, ...]] = ("image",)
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "parameters.temperature; 0 becomes do_sample false",
        "top_p": "parameters.top_p; 1 is left out, the server refuses it",
        "max_tokens": "parameters.max_new_tokens; else the server's own default",
        "stop": "parameters.stop; the text that ended the answer is cut off",
        "seed": "parameters.seed",
        "response_format": "parameters.grammar, a JSON schema of an object",
        "top_k": "parameters.top_k",
        "typical_p": "parameters.typical_p",
        "repetition_penalty": "parameters.repetition_penalty",
        "frequency_penalty": "parameters.frequency_penalty",
        "truncate": "parameters.truncate, tokens of the prompt's end that are kept",
    }
    options: ClassVar[Mapping[str, type]] = {
        "top_k": int,
        "typical_p": float,
        "repetition_penalty": float,
        "frequency_penalty": float,
        "truncate": int,
    }

    base_url: str = url("TGI_BASE_URL", "http://127.0.0.1:8080")
    model: str = setting(None, BASE)
    template: Template = field(default="server", validator=check_template)

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer; the prompt may be asked for first."""
        payload = {"inputs": self.prompt(query, fetch), "parameters": self.rules(query)}
        path = "/generate_stream" if query.stream else "/generate"
        return self._request("POST", path, query, json=merged(payload, query.extra_body))

    def prompt(self, query: Query, fetch: Fetch) -> str:
        """Return the messages as one text."""
        if self.template == "server":
            prompt = self._templated(query, fetch)["templated_text"]
            begin = next((mark for mark in BEGINNINGS if prompt.startswith(mark)), "")
            return str(prompt[len(begin):])
        return self.written(query)

    def written(self, query: Query) -> str:
        """Return the messages as one text that is made here.

        Raises:
            TypeError: The function in ``template`` returns something else than a text.
            ValueError: The prompt is empty.
        """
        messages = tuple(evolve(m, content=_marked(m)) for m in query.messages)
        write = flatten if isinstance(self.template, str) else self.template
        prompt = write(messages)
        if not isinstance(prompt, str):
            raise TypeError(f"template must return a str, not {type(prompt).__name__}")
        if not prompt:
            raise ValueError("tgi needs a prompt that is not empty")
        return prompt

    def rules(self, query: Query) -> dict[str, Any]:
        """Return the parameters of the generation."""
        return given(
            # 0 is refused as not positive, and needs no temperature: without sampling there is none
            temperature=query.temperature or None,
            do_sample=False if query.temperature == 0 else None,
            top_p=None if query.top_p == 1 else query.top_p,
            max_new_tokens=query.max_tokens,
            stop=list(query.stop) or None,
            seed=query.seed,
            grammar=_grammar(query.response_format),
            adapter_id=None if self.model_of(query) == BASE else self.model_of(query),
            details=True,  # the only way to a finish reason
            return_full_text=False,
            **query.options,
        )

    def check(self, query: Query) -> None:
        """Refuse what the server would refuse with an unexplained error."""
        super().check(query)
        if query.top_p == 0:
            raise ValueError("top_p for tgi must be above 0")
        if query.seed is not None and query.seed < 0:
            raise ValueError("seed for tgi must be 0 or more")
        _grammar(query.response_format)
        if self.template != "server":
            self.written(query)
        elif not any(message.content for message in query.messages):
            raise ValueError("tgi needs a prompt that is not empty")

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the one model that the server was started with."""
        body = fetch(self._request("GET", "/info", repeatable=True))
        event = parse(body)
        id = member(event, "model_id", str) if isinstance(event, dict) else None
        if not id:
            raise malformed("tgi does not tell its model", body)
        return [Model(id, self.name, raw=event)]

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return how many tokens the prompt has, its template's own included."""
        if self.template == "server":
            tokens = self._templated(query, fetch).get("tokenize_response")
        else:
            asked = {"inputs": self.prompt(query, fetch)}
            body = fetch(self._request("POST", "/tokenize", query, json=asked, repeatable=True))
            tokens = parse(body)
        if not isinstance(tokens, list):
            raise malformed("the tokens are no list", str(tokens))
        return len(tokens)

    def _templated(self, query: Query, fetch: Fetch) -> dict[str, Any]:
        """Return the prompt that the server makes of messages, and its tokens."""
        asked = {
            "model": self.model_of(query),
            "messages": [{"role": m.role, "content": _parts(m)} for m in query.messages],
        }
        advice = {**ADVICE, 404: NO_TEMPLATE, 422: NO_TEMPLATE}
        body = fetch(
            self._request(
                "POST", "/chat_tokenize", query, json=asked, repeatable=True, advice=advice
            )
        )
        event = parse(body)
        if not isinstance(event, dict) or not member(event, "templated_text", str):
            raise malformed("tgi gave no prompt for the messages", body)
        return event

    def _request(
        self, method: str, path: str, query: Query | None = None, **details: Any
    ) -> Request:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        live = path == "/generate_stream"
        accept = {"Accept": "text/event-stream" if live else "application/json"}
        extra = {} if query is None else query.extra_headers
        return Request(
            method=method,
            url=self.base_url + path,
            headers=self.request_headers({**accept, **key}, extra),
            cookies=self.cookies,
            advice=details.pop("advice", ADVICE),
            **details,
        )

    # What is read

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return (whole if kind == "application/json" else sse)(body, self.parse)

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event."""
        return generation(event, self.name)

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps: no text that was to end the answer, no thoughts in tags in the text."""
        steps = spoken(super().deltas(query, body))
        return told_apart(without_stop(steps, query.stop) if query.stop else steps)


def without_stop(deltas: Iterator[Delta], stops: tuple[str, ...]) -> Iterator[Delta]:
    """Yield steps without the stop text that ended the answer.

    What may be its beginning waits for what comes next; nothing waits beyond an end or an error.
    """
    held = ""
    try:
        for delta in deltas:
            text = held + delta.text
            if delta.final:
                held = ""
                text = text[: len(text) - _stopped_by(delta.raw, text, stops)]
            else:
                kept = _may_begin(text, stops)
                text, held = text[: len(text) - kept], text[len(text) - kept:]
            if text or delta.final:
                yield delta if text == delta.text else evolve(delta, text=text)
    except ChatError:
        if held:
            yield Delta(held)
        raise


def _may_begin(text: str, stops: tuple[str, ...]) -> int:
    """Return the length of the longest end of a text with which a stop text may have begun."""
    longest = min(len(text), max(map(len, stops)))
    ends = (n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in stops))
    return next(ends, 0)


def _stopped_by(event: Mapping[str, Any], text: str, stops: tuple[str, ...]) -> int:
    """Return the length of the stop text at the end of an answer that one ended."""
    details = event.get("details")
    if not isinstance(details, dict) or details.get("finish_reason") != "stop_sequence":
        return 0
    return max((len(stop) for stop in stops if text.endswith(stop)), default=0)


def _grammar(wanted: Any) -> Any:
    """Return what keeps an answer to a schema."""
    if wanted is None or wanted["type"] == "text":
        return None
    schema = wanted["json_schema"]["schema"] if wanted["type"] == "json_schema" else {}
    if not isinstance(schema.get("properties"), Mapping):
        raise UnsupportedError(
            "response_format for tgi is a JSON schema of an object, with properties"
        )
    return {"type": "json", "value": schema}


def _parts(message: Message) -> Any:
    """Return a message's content in OpenAI's shape: a text, or a list of parts."""
    if isinstance(message.content, str):
        return message.content
    return [
        {"type": "text", "text": part} if isinstance(part, str) else
        {"type": "image_url", "image_url": {"url": _address(part)}}
        for part in message.content
    ]


def _marked(message: Message) -> str:
    """Return a message's content as text with images in it, as the server reads them."""
    if isinstance(message.content, str):
        return message.content
    return "".join(p if isinstance(p, str) else f"![]({_address(p)})" for p in message.content)


def _address(image: Media) -> str:
    if image.url is not None:
        return image.url
    return f"data:{image.mime};base64,{b64encode(image.data or b'').decode()}"
