"""The client: one object to ask any chat service with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TYPE_CHECKING, TypeVar
import weakref

from chatsdk.calls import Call, Route
from chatsdk.checks import messages_from
from chatsdk.deadlines import Timeout
from chatsdk.errors import ConfigurationError
from chatsdk.exchange import Exchange
from chatsdk.listeners import listeners
from chatsdk.messages import Message, Query, Reply, Usage
from chatsdk.providers.base import Provider
from chatsdk.queries import query_for
from chatsdk.records import evolve
from chatsdk.retry import RetryPolicy
from chatsdk.streams import Stream
from chatsdk.targets import label, provider_name, Targets
from chatsdk.transport import Transport
from chatsdk.wire import Limits

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from chatsdk.conversation import Conversation
    from chatsdk.fanout import Arrivals, FanOut
    from chatsdk.hooks import Hook, Hooks
    from chatsdk.pace import Rate
    from chatsdk.results import Answer, Embeddings, Model
    from chatsdk.runs import Run, RunStream
    from chatsdk.tokens import TokenStore


class Closable(Protocol):
    """What a client ends when it is closed."""

    def close(self) -> None:
        """End it."""


Made = TypeVar("Made", bound=Closable)


# What a method alone needs is imported in it: a single call is ready 6 ms earlier without, and
# 12 ms without the sqlite3 of `Client.map`.


class Client:
    """Asks chat services, and waits for their answers.

    Safe to share between threads; survives a fork; pickles without its connections and tokens
    (keys given as arguments travel with it).

    Args:
        target: Whom to ask: ``"provider"``, ``"provider:model"``, a `Provider`, or a list of
            those to try in order; None: ``$CHATSDK_TARGET``.
        providers: Configured `Provider` objects, addressed by their names.
        timeout: A `Timeout`; a number means ``first`` and ``read``, in seconds.
        max_retries: How often a failed call is tried again, or a `RetryPolicy`.
        limits: The most that is read of one answer.
        proxy: A proxy's URL; None: the environment's proxies; "": none at all.
        verify: True, False or a CA file; None: the provider's own choice.
        token_store: Where tokens are kept; None: in memory, one store for the process.
        drop_unsupported: Leave out parameters that a provider cannot honour, with a warning in
            the log, instead of raising.
        on_request: Is told, with a `Notice`, before each request leaves; see the page on logging.
        on_retry: Is told before the wait for one more attempt.
        on_reply: Is told when an answer is whole, or was left early.
        on_error: Is told when a call has failed.
        record: A path or a `Cassette`: what is asked and answered is added to that file, without
            credentials.
        replay: A path or a `Cassette`: what is asked is answered from that file, without a key or
            the network.  With ``record`` what the file lacks is asked for, and recorded.  Tokens
            are kept apart from ``token_store`` with either.
        **fields: Fields of the target's provider: ``api_key``, ``base_url``, ``headers``, ...

    Raises:
        ConfigurationError: The target is unknown, a key is missing, an address is none.
        CassetteError: The file of ``record`` or ``replay`` cannot be used.
        TypeError: A field is unknown or of the wrong type.
    """

    def __init__(
        self,
        target: Any = None,
        *,
        providers: Iterable[Provider] = (),
        timeout: Any = None,
        max_retries: Any = 2,
        limits: Limits | None = None,
        proxy: str | None = None,
        verify: bool | str | None = None,
        token_store: TokenStore | None = None,
        drop_unsupported: bool = False,
        on_request: Hook | None = None,
        on_retry: Hook | None = None,
        on_reply: Hook | None = None,
        on_error: Hook | None = None,
        record: Any = None,
        replay: Any = None,
        _transport: Transport | None = None,
        _attached: dict[str, Hooks] | None = None,
        **fields: Any,
    ) -> None:
        self._options = {
            "target": target,
            "providers": tuple(providers),
            "timeout": timeout,
            "max_retries": max_retries,
            "limits": limits,
            "proxy": proxy,
            "verify": verify,
            "token_store": token_store,
            "drop_unsupported": drop_unsupported,
            "on_request": on_request,
            "on_retry": on_retry,
            "on_reply": on_reply,
            "on_error": on_error,
            "record": record,
            "replay": replay,
            **{name: value for name, value in fields.items() if value is not None},
        }
        self._timeout = Timeout().changed(timeout)
        self._policy = _policy(max_retries)
        self._limits = Limits() if limits is None else limits
        self._drop_unsupported = drop_unsupported
        hooks = (on_request, on_retry, on_reply, on_error)
        self._hooks = None
        if any(hook is not None for hook in hooks):
            from chatsdk.hooks import Hooks

            self._hooks = Hooks(*hooks)
        self._attached = {} if _attached is None else _attached  # hooks of others, by their name
        stand_in = None if replay is None else "<removed>"
        self._targets = Targets(
            target, self._options["providers"], fields, OPTIONS[1:], stand_in=stand_in
        )
        self._transport = _transport or self._made_transport()
        self._open: dict[int, weakref.ref[Closable]] = {}  # those not ended

    # What is asked

    def chat(
        self, messages: Any, *, target: Any = None, stream: bool = True, **params: Any
    ) -> Reply:
        """Ask, and return the whole answer.

        Args:
            messages: A str, a `Message`, a dict with role and content, or an iterable of those.
            target: Whom to ask instead of the client's own target.
            stream: Let the service send the answer in pieces, so that a long one is neither lost
                whole nor silent for long; False: in one piece, where the service can.
            **params: ``model``, ``system``, ``temperature`` (0 or more), ``max_tokens``,
                ``top_p`` (0 to 1), ``stop``, ``seed``, ``tools``, ``tool_choice``,
                ``response_format``, ``reasoning_effort``, ``timeout`` (s or a `Timeout`),
                ``extra_body``, ``extra_headers``, ``on_request``, ``on_retry``, ``on_reply``,
                ``on_error`` (told beside the client's own), and those that only this provider
                knows.

        Raises:
            TypeError: A message or parameter is of the wrong type, or unknown.
            ValueError: A value is out of range, or there is no message.
            UnsupportedError: The provider cannot do what was asked.
            ChatError: The call failed; ``partial`` has what arrived.
        """
        return self._asked(
            messages, target=target, stream=stream, whole=None, closed=None, policy=None, **params
        ).read()

    def stream(
        self, messages: Any, *, target: Any = None, display: bool = False, **params: Any
    ) -> Stream:
        """Ask, and return the answer as it comes; arguments and errors are those of `chat`.

        The question is sent here: a wrong key is raised here, not at the first ``for``.  With
        ``display`` the answer is shown to its end, see `Stream.display`.
        """
        stream = self._asked(
            messages, target=target, stream=True, whole=None, closed=None, policy=None, **params
        ).open()
        return stream.display() if display else stream

    def stream_once(self, messages: Any, *, display: bool = False, **params: Any) -> Stream:
        """Ask like `stream`, and close the client when the answer has ended."""
        stream = self._asked(
            messages, stream=True, whole=None, closed=self._transport.close, policy=None, **params
        ).open()
        return stream.display() if display else stream

    def conversation(
        self, *, target: Any = None, system: str | None = None, **params: Any
    ) -> Conversation:
        """Return a conversation that remembers its turns; ``params`` hold for each of them."""
        from chatsdk.conversation import Conversation

        return Conversation(self._asked, target=target, system=system, params=params)

    def run(
        self,
        messages: Any,
        tools: Any,
        *,
        target: Any = None,
        max_turns: int = 8,
        parallel: bool = False,
        **params: Any,
    ) -> Run:
        """Ask, call the tools that the model asks for, and go on until it has an answer.

        Args:
            messages: The question, as for `chat`.
            tools: Functions, see `chatsdk.tool`.  What they raise is told to the model.
            target: Whom to ask instead of the client's own target.
            max_turns: The most answers of the model.
            parallel: Whether the calls of one answer run in threads, all at once.
            **params: As for `chat`; ``tool_choice`` is for the first turn.

        Raises:
            TurnsExceededError: The last answer still asks for tools.
            ChatError: A turn failed; ``run`` is the run so far.
        """
        return self._run(messages, tools, target, max_turns, parallel, params).read()

    def run_stream(
        self,
        messages: Any,
        tools: Any,
        *,
        target: Any = None,
        max_turns: int = 8,
        parallel: bool = False,
        **params: Any,
    ) -> RunStream:
        """Do the same as `run`, and return it as it happens."""
        return self._run(messages, tools, target, max_turns, parallel, params).open()

    def _run(
        self, messages: Any, tools: Any, target: Any, turns: int, parallel: bool, params: Any
    ) -> RunStream:
        from chatsdk.runs import RunStream

        asks = partial(self._asked, target=target)
        run = RunStream(
            asks, messages, tools, max_turns=turns, parallel=parallel, params=params
        )
        return self._remembered(run)

    def extract(
        self,
        messages: Any,
        kind: Any,
        *,
        target: Any = None,
        max_attempts: int = 3,
        **params: Any,
    ) -> Any:
        """Ask for an object of a type; an answer that does not fit is told why, and asked again.

        A service that keeps to schemas is given one; another is told in words.

        Args:
            messages: The question, as for `chat`.
            kind: A dataclass, an attrs class, a TypedDict, a pydantic model, any other type of
                `chatsdk.tool`, or a JSON schema for plain JSON values, which are not checked.
            target: Whom to ask instead of the client's own target.
            max_attempts: The most answers.
            **params: As for `chat`.

        Raises:
            ExtractionError: No answer fitted; ``attempts`` has all of them, ``errors`` why.
        """
        from chatsdk.extraction import extract

        routes = self._targets.chain(target)
        native = all(provider.keeps_to_schemas() for provider, _ in routes)
        ask = partial(self.chat, target=target)
        return extract(
            ask, messages, kind, max_attempts=max_attempts, native=native, params=params
        )

    def fan_out(
        self,
        messages: Any,
        targets: Iterable[Any],
        *,
        max_workers: int | None = None,
        timeout: float | None = None,
        **params: Any,
    ) -> FanOut:
        """Ask several targets the same question at once.

        Args:
            messages: The question, as for `chat`.
            targets: Whom to ask, each once.
            max_workers: How many are asked at the same time; None: all.
            timeout: Seconds for all of it; what is not in by then is an `APITimeoutError`.
            **params: As for `chat`.

        Raises:
            ConfigurationError: A target is named twice, or there is none.
            ChatError: What the service says is in its `Answer`; only what can be known before
                anything is sent is raised, as by `chat`.
        """
        from chatsdk.fanout import FanOut

        starts = self._starts(messages, targets, params)
        answers = FanOut(messages, starts, max_workers=max_workers, timeout=timeout)
        return self._remembered(answers)

    def stream_all(self, messages: Any, targets: Iterable[Any], **params: Any) -> Arrivals:
        """Ask several targets at once, and return an iterator of ``(target, text)``.

        The texts come in order of arrival; after them comes ``(target, Answer)`` for each target
        that failed.  Arguments and errors are those of `fan_out`.
        """
        from chatsdk.fanout import Arrivals

        return self._remembered(Arrivals(messages, self._starts(messages, targets, params)))

    def race(
        self, messages: Any, targets: Iterable[Any], *, hedge_after: float = 0.0, **params: Any
    ) -> Reply:
        """Ask several targets, return the first good reply and end the calls of the others.

        Args:
            messages: The question, as for `chat`.
            targets: Whom to ask, in this order.
            hedge_after: The next one is asked only if those before have shown no text for so many
                seconds, or have failed; 0: all are asked at once.
            **params: As for `chat`.

        Raises:
            AllFailedError: There was no good reply; ``errors`` has all reasons by target.
        """
        from chatsdk.fanout import race

        return race(self._starts(messages, targets, params), hedge_after)

    def models(self, target: Any = None, **hooks: Hook | None) -> list[Model]:
        """Return the language models that a service offers, as it lists them where it does.

        Args:
            target: Whom to ask instead of the client's own target.
            **hooks: ``on_request``, ``on_retry``, ``on_reply``, ``on_error``.
        """
        from chatsdk.hooks import Hooks

        Hooks(**hooks)  # a TypeError for what is none
        provider, model = self._targets.chain(target)[0]
        route = Route(provider, Query(messages=(), model=model))
        call = self._call(self._timeout, [route], hooks=hooks, operation="models")
        return call.result(provider.list_models)

    def count_tokens(self, messages: Any, *, target: Any = None, **params: Any) -> int:
        """Return how many tokens a question has, as the service counts; arguments as for `chat`.

        Raises:
            UnsupportedError: The service does not count.
        """
        timeout = self._timeout.changed(params.pop("timeout", None))
        route = self._routes(messages_from(messages), target, params)[0]
        count = partial(route.provider.count_tokens, route.query)
        call = self._call(timeout, [route], hooks=params, operation="count_tokens")
        return call.result(count)

    def embed(
        self,
        texts: Any,
        *,
        target: Any = None,
        model: str | None = None,
        dimensions: int | None = None,
        numpy: bool = False,
        timeout: Any = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **hooks: Hook | None,
    ) -> Embeddings:
        """Return texts as vectors.

        Args:
            texts: A str, or an iterable of str; more than the service takes at once are asked for
                in several requests, one after the other.
            target: Whom to ask instead of the client's own target; a model in it is the one that
                makes the vectors.
            model: That model; None: the target's, or the service's usual one.
            dimensions: The length of a vector, where it can be chosen.
            numpy: Return the vectors as one array of float32; needs ``chatsdk[numpy]``.
            timeout: Seconds or a `Timeout`, for each of the requests.
            extra_body: Merged into the request's body last.
            extra_headers: Added to the request's headers last.
            **hooks: ``on_request``, ``on_retry``, ``on_reply``, ``on_error``; each of the requests
                is a call of its own to them.

        Raises:
            UnsupportedError: The service makes no vectors.
            ProtocolError: It gave another number of them than it was asked for.
        """
        from chatsdk.embeddings import array_maker, embedding_queries, joined_embeddings
        from chatsdk.hooks import Hooks

        Hooks(**hooks)  # a TypeError for what is none
        provider, named = self._targets.chain(target)[0]
        if target is None and named in provider.models:
            named = None  # the client's own target is for chats: its model makes no vectors
        queries = embedding_queries(
            provider, model or named, texts, dimensions, extra_body, extra_headers
        )
        array = array_maker() if numpy else None
        found = []
        for query in queries:
            route = Route(provider, Query(messages=(), model=query.model))
            limit = self._timeout.changed(timeout)
            call = self._call(limit, [route], hooks=hooks, operation="embeddings")
            found.append(call.result(partial(provider.embed, query)))
            if found[-1].usage is not None:
                call.count(found[-1].usage)
        joined = joined_embeddings(found)
        return joined if array is None else evolve(joined, vectors=array(joined.vectors))

    @property
    def usage(self) -> dict[str, Usage]:
        """Tokens of all answers so far, by ``"provider:model"``; `with_options` shares them."""
        return self._transport.tally.sums()

    def map(
        self,
        inputs: Iterable[Any],
        *,
        target: Any = None,
        max_workers: int = 8,
        ordered: bool = True,
        journal: Any = None,
        retry_errors: bool = False,
        progress: bool = False,
        executor: Executor | None = None,
        rate: Rate | None = None,
        **params: Any,
    ) -> Generator[Answer, None, None]:
        """Ask many questions; return an iterator of an `Answer` to each, errors kept in them.

        Args:
            inputs: The questions, read as they are needed: a str, messages as for `chat`, or
                ``(key, messages)`` with a str or int as the key.  One of a wrong type is an
                answer with that error.
            target: Whom to ask instead of the client's own target.
            max_workers: How many calls run at once.
            ordered: Keep the order of the inputs; False: as they complete.
            journal: A path: answers are kept there, and are not asked for again.
            retry_errors: Ask again for what failed in an earlier run.
            progress: Show a bar; needs ``chatsdk[progress]``.
            executor: Any `concurrent.futures.Executor` to run the calls instead of threads; the
                client and the answers are pickled on their way.
            rate: The most that is asked in a minute.
            **params: As for `chat`.

        Raises:
            JournalError: The journal cannot be read or written.
            ConfigurationError: The client cannot be sent to the executor's workers.
            ChatError: What can be known before anything is sent, as by `chat`.
        """
        from chatsdk.mapping import Asking, prepared

        self._asked("?", target=target, **params)
        chosen = self._targets.default if target is None else target
        asking = Asking(self, target, params, label(chosen), self._asked, self._policy)
        run = prepared(
            inputs,
            asking,
            max_workers=max_workers,
            ordered=ordered,
            journal=journal,
            retry_errors=retry_errors,
            progress=progress,
            executor=executor,
            rate=rate,
        )
        return self._remembered(run).answers()

    def _starts(
        self, messages: Any, targets: Any, params: Mapping[str, Any]
    ) -> dict[Any, Callable[[], Stream]]:
        """Return calls by target, each of them checked and none begun."""
        asked = messages_from(messages)
        starts: dict[Any, Callable[[], Stream]] = {}
        for target in _listed(targets):
            name = label(target)
            if name in starts:
                raise ConfigurationError(f"targets holds {name!r} twice; leave one out")
            self._asked(asked, target=target, **params)
            # Prepared again by the thread that asks: a call's time counts from there.
            starts[name] = partial(self._asked, asked, target=target, **params)
        if not starts:
            raise ConfigurationError("targets is empty: there is nobody to ask; name at least one")
        return starts

    # What is shared and set up

    def with_options(self, **changes: Any) -> Client:
        """Return a copy with some arguments changed, which shares connections and tokens."""
        kept = self._options
        if provider_name(changes.get("target", kept["target"])) != provider_name(kept["target"]):
            # The fields were for another provider: its key is nobody else's business.
            kept = {name: kept[name] for name in OPTIONS}
        shared = None if OF_TRANSPORT & changes.keys() else self._transport
        return Client(**{**kept, **changes}, _transport=shared, _attached=self._attached)

    def attach(self, name: str, hooks: Hooks | None) -> None:
        """Tell further hooks of each call from the next on, here and in copies of this client.

        It is the way of instrumentation; they stay behind when the client is pickled.

        Args:
            name: Who puts them there; hooks that were there under this name give way.
            hooks: The hooks; None takes them away.
        """
        if hooks is None:
            self._attached.pop(name, None)
        else:
            self._attached[name] = hooks

    def _made_transport(self) -> Transport:
        options = self._options
        ways = {name: options[name] for name in ("proxy", "verify")}
        if options["record"] is None and options["replay"] is None:
            return Transport(**ways, token_store=options["token_store"])
        from chatsdk.cassettes import cassette_of
        from chatsdk.tape import TapeTransport

        for name in ("record", "replay"):
            options[name] = cassette_of(options[name], name)  # a path is absolute from here on
        return TapeTransport(options["record"], options["replay"], **ways)

    def close(self) -> None:
        """End all streams of this client and release every connection; it can be used again."""
        for known in list(self._open.values()):
            still = known()
            if still is not None:
                still.close()
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)

    def __repr__(self) -> str:
        return f"Client({label(self._targets.default)!r})"

    # One call, there and back

    def _asked(
        self,
        messages: Any,
        *,
        target: Any = None,
        stream: bool = True,
        whole: Callable[[Reply], None] | None = None,
        closed: Callable[[], None] | None = None,
        policy: RetryPolicy | None = None,
        **params: Any,
    ) -> Stream:
        """Return the stream of an answer, everything checked and nothing sent yet."""
        timeout = self._timeout.changed(params.pop("timeout", None))
        routes = self._routes(messages_from(messages), target, params, stream=stream)
        call = self._call(timeout, routes, policy, hooks=params)
        return self._remembered(
            Stream(
                call,
                call.steps(),
                whole=whole,
                closed=closed,
                told=call.ended if call.heard else None,
                response_format=params.get("response_format"),
            )
        )

    def _routes(
        self,
        messages: tuple[Message, ...],
        target: Any,
        params: Mapping[str, Any],
        *,
        stream: bool = True,
    ) -> list[Route]:
        drop = self._drop_unsupported
        return [
            Route(
                provider,
                query_for(provider, model, messages, params, stream=stream, drop_unsupported=drop),
            )
            for provider, model in self._targets.chain(target)
        ]

    def _call(
        self,
        timeout: Timeout,
        routes: list[Route],
        policy: RetryPolicy | None = None,
        *,
        hooks: Mapping[str, Any],
        operation: str = "chat",
    ) -> Call:
        """Return a call, with those who are told of it; ``hooks`` has its own among others."""
        exchange = Exchange(
            self._transport, timeout, self._limits, replace=self._policy.max_retries > 0
        )
        return Call(
            exchange,
            policy or self._policy,
            routes,
            self._transport.tally,
            hooks=listeners(self._attached, self._hooks, hooks),
            operation=operation,
        )

    def _remembered(self, made: Made) -> Made:
        """Return what `close` is to end, for as long as somebody holds it."""
        key, known = id(made), self._open
        known[key] = weakref.ref(made, lambda _: known.pop(key, None))
        return made


def _policy(max_retries: Any) -> RetryPolicy:
    return max_retries if isinstance(max_retries, RetryPolicy) else RetryPolicy(max_retries)


def _listed(targets: Any) -> Iterable[Any]:
    if isinstance(targets, (str, bytes, Mapping)) or not isinstance(targets, Iterable):
        raise TypeError(f"targets must be a list of targets, not {type(targets).__name__}")
    return targets


def _rebuild(options: Mapping[str, Any]) -> Client:
    return Client(**options)


OPTIONS = (
    "target",
    "providers",
    "timeout",
    "max_retries",
    "limits",
    "proxy",
    "verify",
    "token_store",
    "drop_unsupported",
    "on_request",
    "on_retry",
    "on_reply",
    "on_error",
    "record",
    "replay",
)
OF_TRANSPORT = {"proxy", "verify", "token_store", "record", "replay"}
