"""What a service may say about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import hashlib
import reprlib
from typing import Any, ClassVar, TYPE_CHECKING, TypeVar

from chatsdk.errors import ChatError, ProtocolError, StreamInterruptedError, UnsupportedError
from chatsdk.messages import Delta, Message, Query, step
from chatsdk.records import field, fields, frozen
from chatsdk.settings import check_headers, secret
from chatsdk.wire import Body, malformed, merged_headers, parse, Request, sse

if TYPE_CHECKING:
    from chatsdk.parts import Media
    from chatsdk.ratelimits import RateLimits
    from chatsdk.results import EmbeddingQuery, Embeddings, Model

Fetch = Callable[[Request], bytes]
Kind = TypeVar("Kind")


@frozen(kw_only=True)
class Provider:
    """A chat service: where it lives, what it wants to be asked, how its answer is read.

    A provider is a description, frozen and without state; it makes no call itself.  Facts about
    the service are bare class attributes, what a user may change are fields.

    Attributes:
        name: The service's name in a target.
        title: Its name for people.
        state: Whether the real service is alive, in words.
        alive: The same as a fact: False makes a client without a `base_url` of its own warn.
        page: Where the service or its protocol is documented.
        streaming: Whether the answer comes in pieces.
        system_messages: Whether the protocol has system messages (else they are flattened).
        history: Whether the protocol has a history (else it is flattened).
        tools: Whether functions can be offered to the model.
        media: What a message may hold beside text: MIME types by kind, ``"image"`` for example.
        media_urls: The kinds that the service fetches itself from a URL.
        media_bytes: The most bytes of one of them.
        embeds: The most texts that one request for embeddings takes; 0: there are none.
        embedding_model: The model that makes them, unless another one is asked for.
        dimensions: Whether their length can be chosen.
        models: Language models known when this was written; the first is no default.
        aliases: Other names for them.
        parameters: The parameters that the service honours, and what each becomes.
        options: Those of them that no other service need know, and their types.
        varies: What is new in each request, see `chatsdk.wire.Request`.
        end_mark: Whether the protocol marks the end of an answer.
        may_be_empty: Whether a whole answer may have no text.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    state: ClassVar[str] = "alive"
    alive: ClassVar[bool] = True
    page: ClassVar[str] = ""
    streaming: ClassVar[bool] = True
    system_messages: ClassVar[bool] = True
    history: ClassVar[bool] = True
    tools: ClassVar[bool] = False
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    media_urls: ClassVar[tuple[str, ...]] = ()
    media_bytes: ClassVar[int] = 20 * 10**6
    embeds: ClassVar[int] = 0
    embedding_model: ClassVar[str] = ""
    dimensions: ClassVar[bool] = False
    models: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = {}
    parameters: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Mapping[str, type]] = {}
    varies: ClassVar[tuple[str, ...]] = ()
    end_mark: ClassVar[bool] = True
    may_be_empty: ClassVar[bool] = True

    base_url: str
    model: str
    api_key: str | None = secret(None)
    headers: Mapping[str, str] = field(factory=dict, repr=False, validator=check_headers)
    cookies: Mapping[str, str] = field(factory=dict, repr=False, validator=check_headers)

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer; steps before it are made with ``fetch``.

        Args:
            query: What is asked.
            fetch: Sends a `Request` of this call and returns the body of its answer.
        """
        raise NotImplementedError

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models that the service offers; here those known when this was written."""
        from chatsdk.results import Model

        return [Model(id, self.name) for id in self.models]

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors; there are at most `embeds` of them."""
        raise UnsupportedError(
            f"{self.name} makes no embeddings; ask another service", provider=self.name
        )

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return how many tokens a question has, as the service counts."""
        raise UnsupportedError(
            f"{self.name} counts no tokens; reply.usage has them afterwards", provider=self.name
        )

    def model_of(self, query: Query) -> str:
        """Return the name of the language model to ask for."""
        model = query.model or self.model
        return self.aliases.get(model, model)

    def check(self, query: Query) -> None:
        """Refuse what this service cannot do, before anything is sent.

        Raises:
            UnsupportedError: Says what.
        """
        for message in query.messages:
            if not self.tools and (message.role == "tool" or message.tool_calls):
                raise UnsupportedError(
                    f"{self.name} knows no tools: leave out messages of role 'tool' and tool_calls",
                    provider=self.name,
                )
            if isinstance(message.content, tuple):
                for media in message.media:
                    self._check_media(media)

    def _check_media(self, media: Media) -> None:
        """Refuse what the service does not take: its kind, type or size."""
        known = self.media.get(media.kind)
        size = len(media.data or b"")
        if known is None:
            takes = ", ".join(["text", *self.media])
            problem = f"takes no {media.kind} in a message, only {takes}"
        elif media.url is not None and media.kind not in self.media_urls:
            problem = f"fetches no {media.kind} from a URL; give its bytes or a path"
        elif media.mime not in known and not (media.url is not None and media.mime is None):
            problem = f"takes no {media.mime}; of this kind it takes: {', '.join(known)}"
        elif size > self.media_bytes:
            problem = f"takes at most {self.media_bytes} bytes of {media.kind}; this has {size}"
        else:
            return
        raise UnsupportedError(f"{self.name} {problem}", provider=self.name)

    def keeps_to_schemas(self) -> bool:
        """Return whether an answer can be held to a JSON schema by ``response_format``."""
        return "response_format" in self.parameters

    def secrets(self) -> list[str]:
        """Return what must stand in no message: the credentials that are sent."""
        values = [getattr(self, item.name) for item in fields(type(self)) if not item.repr]
        found = [value for value in values if isinstance(value, str)]
        return [*found, *self.headers.values(), *self.cookies.values()]

    def origin(self) -> str:
        """Return scheme, host and port of the base URL."""
        return "/".join(self.base_url.split("/", 3)[:3])

    def request_headers(
        self, protocol: Mapping[str, str], extra: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the protocol's headers, the provider's over them, and the call's over both."""
        return merged_headers(protocol, self.headers, extra)

    # What is read

    def limits(self, headers: Mapping[str, str]) -> RateLimits | None:
        """Return what an answer's headers say of the account's limits, or None."""
        return limits_in(headers, "x-ratelimit-{what}-{kind}")

    def events(self, body: Body) -> Iterator[Any]:
        """Yield what the frames of an answer say; here server-sent events with JSON."""
        return sse(body, self.parse)

    def parse(self, frame: bytes) -> Any:
        """Return what a frame says; here a JSON document."""
        return parse(frame)

    def decode(self, event: Any) -> Delta | None:
        """Return the step of the answer in an event, or None if it has none.

        Raises:
            ProviderError: The event reports a failure.
            ProtocolError: The event is none of this protocol.
        """
        raise NotImplementedError

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer until its end.

        What comes after the mark of the end is read, so that the connection can be used again, but
        cannot spoil the answer any more.

        Raises:
            StreamInterruptedError: The body ended without the protocol's mark of the end.
            ChatError: Anything else that goes wrong before that mark.
        """
        last: Delta | None = None
        nothing = True
        try:
            for event in self.events(body):
                delta = self.decode(event)
                if delta is None:
                    continue
                nothing = False
                if delta.final and last is None:
                    last = delta
                    body.hurry()
                yield delta
        except ChatError:
            if last is None or not self.end_mark:
                raise
        if last is None and self.end_mark:
            raise StreamInterruptedError(
                f"the answer of {self.name} ended without its end mark", retryable=True
            )
        if nothing and not self.may_be_empty:
            raise ProtocolError(f"the answer of {self.name} is empty", retryable=True)
        if last is not None:
            self.judge(last)

    def judge(self, last: Delta) -> None:
        """Refuse an answer whose last step tells that it failed.

        Raises:
            ProviderError: Says so.
        """


def merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with the caller's extra members merged in last, dicts level by level."""
    result = dict(body)
    for key, value in extra.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            value = merged(old, value)
        result[key] = value
    return result


def given(**members: Any) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def digest(*parts: str) -> str:
    """Return a name for the parts that tells none of them."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big") + part.encode())
    return hashed.hexdigest()


def member(event: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind | None:
    """Return a member of an object, or None if it is missing or null.

    Raises:
        ProtocolError: It is of another type than ``kind``; a bool is no int.
    """
    value = event.get(name)
    if value is None or type(value) is kind:  # the very type: JSON gives no subclass but bool
        return value
    what = f"{name!r} is {type(value).__name__}, not {kind.__name__}"
    raise malformed(what, reprlib.repr(value))


def text_step(event: Any, id: str = "") -> Delta | None:
    """Return the step of an event in OpenAI's form that holds a text and nothing else of note.

    Most events of an answer are like that, and reading them with care takes five times as long.
    None means that it takes that care.

    Args:
        event: The event.
        id: The member that is the answer's id; "": none is.
    """
    try:
        (choice,) = event["choices"]
        said = choice["delta"]
        text, model = said["content"], event["model"]
        beside = choice.get("finish_reason") or choice.get("index") or event.get("usage")
        known = event.get(id, "")
        if len(said) > 1 or beside or not text:
            return None
        if not type(text) is type(model) is type(known) is str:
            return None
    except (TypeError, LookupError, ValueError):
        return None
    return step(text, model, event, None, known or None)


def count(event: Mapping[str, Any], name: str) -> int | None:
    """Return a number of tokens, or None if it is not told as one."""
    value = event.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def limits_in(headers: Mapping[str, str], form: str) -> RateLimits | None:
    """Return the limits in an answer's headers.

    Args:
        headers: The headers.
        form: A header's name, with ``{what}`` for limit, remaining and reset, and ``{kind}`` for
            requests and tokens.
    """

    if "ratelimit" not in " ".join(headers).lower():  # as a rule: 8 us less
        return None
    from chatsdk.ratelimits import Limit, RateLimits

    def limit(kind: str) -> Limit:
        told = [headers.get(form.format(what=what, kind=kind)) for what in WHATS]
        most, left = (int(text) if text and text.isdecimal() else None for text in told[:2])
        return Limit(most, left, told[2])

    found = RateLimits(limit("requests"), limit("tokens"))
    return None if found == RateLimits() else found


WHATS = ("limit", "remaining", "reset")


def models_in(entries: Any, provider: str) -> list[Model]:
    """Return the models of a service's list: objects with ``id`` and maybe ``owned_by``."""
    from chatsdk.results import Model

    models = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not member(entry, "id", str):
            raise malformed("the list of models is none, or one of them has no id", "")
        id = str(entry["id"])
        models.append(Model(id, provider, member(entry, "owned_by", str), entry))
    return models


def vector_in(value: Any, provider: str) -> list[float]:
    """Return a vector: a list of numbers.

    Raises:
        ProtocolError: It is none.
    """
    if isinstance(value, list) and value and {float, int}.issuperset(map(type, value)):
        return value
    raise ProtocolError(f"{provider} gave a vector that is no list of numbers")


def vectors_in_order(
    vectors: Mapping[int, list[float]], asked: int, provider: str
) -> list[list[float]]:
    """Return vectors in the order of the texts.

    Raises:
        ProtocolError: There is not one for each text.
    """
    if sorted(vectors) != list(range(asked)):
        raise ProtocolError(f"{provider} gave {len(vectors)} vectors for {asked} texts")
    return [vectors[index] for index in range(asked)]


def flatten(messages: tuple[Message, ...]) -> str:
    """Return a conversation as one text, for services that take only a prompt.

    One message is its content alone; several are lines ``Role: content`` with ``Assistant:`` as
    the last.  These are the rules of the known clients from August 2023 on.
    """
    if len(messages) == 1:
        return messages[0].text
    turns = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*turns, "Assistant:"])


def system_text(messages: tuple[Message, ...]) -> str:
    """Return the contents of all system messages, joined by a line feed."""
    return "\n".join(message.text for message in messages if message.role == "system")
