"""The client: one object to ask any chat service with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
import logging
import os
from typing import Any, Protocol, TypeVar
import weakref

import attrs

from chatsdk import providers as table
from chatsdk.calls import Call, Route
from chatsdk.checks import check_text, messages_from, option, PARAMETERS
from chatsdk.conversation import Conversation
from chatsdk.deadlines import Timeout
from chatsdk.errors import ConfigurationError, unknown, UnsupportedError
from chatsdk.exchange import Exchange
from chatsdk.fanout import Arrivals, FanOut, race
from chatsdk.messages import Message, Model, Query, Reply
from chatsdk.providers.base import Provider
from chatsdk.retry import RetryPolicy
from chatsdk.settings import check_headers
from chatsdk.streams import Stream
from chatsdk.tokens import MemoryTokenStore, TokenStore
from chatsdk.transport import Transport
from chatsdk.wire import Limits

log = logging.getLogger(__name__)

ANYWHERE = ("model", "extra_body")  # parameters that each provider honours in its own way
BESIDE = ("system", "timeout", "extra_headers")  # those that the client sees to

_process_store = MemoryTokenStore()  # holds no key, only tokens under digests


class Closable(Protocol):
    """What a client ends when it is closed."""

    def close(self) -> None:
        """End it."""


Made = TypeVar("Made", bound=Closable)


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
        **fields: Fields of the target's provider: ``api_key``, ``base_url``, ``headers``, ...

    Raises:
        ConfigurationError: The target is unknown, a key is missing, an address is none.
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
            **{name: value for name, value in fields.items() if value is not None},
        }
        self._timeout = Timeout().changed(timeout)
        self._policy = _policy(max_retries)
        self._limits = Limits() if limits is None else limits
        self._drop_unsupported = drop_unsupported
        self._providers = _by_name(self._options["providers"])
        self._target = os.environ.get("CHATSDK_TARGET") or None if target is None else target
        self._configure(fields)
        self._transport = Transport(
            proxy=proxy, verify=verify, token_store=token_store or _process_store
        )
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
                ``extra_body``, ``extra_headers``, and those that only this provider knows.

        Raises:
            TypeError: A message or parameter is of the wrong type, or unknown.
            ValueError: A value is out of range, or there is no message.
            UnsupportedError: The provider cannot do what was asked.
            ChatError: The call failed; ``partial`` has what arrived.
        """
        return self._asked(messages, target=target, stream=stream, **params).read()

    def stream(self, messages: Any, *, target: Any = None, **params: Any) -> Stream:
        """Ask, and return the answer as it comes; arguments and errors are those of `chat`.

        The question is sent here: a wrong key is raised here, not at the first ``for``.
        """
        return self._asked(messages, target=target, **params).open()

    def conversation(
        self, *, target: Any = None, system: str | None = None, **params: Any
    ) -> Conversation:
        """Return a conversation that remembers its turns; ``params`` hold for each of them."""
        return Conversation(self._asked, target=target, system=system, params=params)

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
        starts = self._starts(messages, targets, params)
        answers = FanOut(messages, starts, max_workers=max_workers, timeout=timeout)
        return self._remembered(answers)

    def stream_all(self, messages: Any, targets: Iterable[Any], **params: Any) -> Arrivals:
        """Ask several targets at once, and return an iterator of ``(target, text)``.

        The texts come in order of arrival; after them comes ``(target, Answer)`` for each target
        that failed.  Arguments and errors are those of `fan_out`.
        """
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
        return race(self._starts(messages, targets, params), hedge_after)

    def models(self, target: Any = None) -> list[Model]:
        """Return the language models that a service offers, as it lists them where it does."""
        provider, model = self._chain(target)[0]
        route = Route(provider, Query(messages=(), model=model))
        return Call(self._exchange(self._timeout), self._policy, [route]).list_models()

    def _starts(
        self, messages: Any, targets: Any, params: Mapping[str, Any]
    ) -> dict[Any, Callable[[], Stream]]:
        """Return calls by target, each of them checked and none begun."""
        asked = messages_from(messages)
        starts: dict[Any, Callable[[], Stream]] = {}
        for target in _listed(targets):
            label = _label(target)
            if label in starts:
                raise ConfigurationError(f"targets holds {label!r} twice")
            self._asked(asked, target=target, **params)
            # Prepared again by the thread that asks: a call's time counts from there.
            starts[label] = partial(self._asked, asked, target=target, **params)
        if not starts:
            raise ConfigurationError("targets is empty; there is nobody to ask")
        return starts

    # What is shared and set up

    def with_options(self, **changes: Any) -> Client:
        """Return a copy with some arguments changed, which shares connections and tokens."""
        client = Client(**{**self._options, **changes})
        if not {"proxy", "verify", "token_store"} & changes.keys():
            client._transport = self._transport
        return client

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
        return f"Client({_shown(self._target)})"

    # One call, there and back

    def _asked(
        self,
        messages: Any,
        *,
        target: Any = None,
        stream: bool = True,
        whole: Callable[[Reply], None] | None = None,
        closed: Callable[[], None] | None = None,
        **params: Any,
    ) -> Stream:
        """Return the stream of an answer, everything checked and nothing sent yet."""
        timeout = self._timeout.changed(params.pop("timeout", None))
        asked = messages_from(messages)
        routes = [
            Route(provider, self._query(provider, model, asked, stream, params))
            for provider, model in self._chain(target)
        ]
        call = Call(self._exchange(timeout), self._policy, routes)
        return self._remembered(Stream(call, call.steps(), whole=whole, closed=closed))

    def _remembered(self, made: Made) -> Made:
        """Return what `close` is to end, for as long as somebody holds it."""
        key, known = id(made), self._open
        known[key] = weakref.ref(made, lambda _: known.pop(key, None))
        return made

    def _exchange(self, timeout: Timeout) -> Exchange:
        replace = self._policy.max_retries > 0
        return Exchange(self._transport, timeout, self._limits, replace=replace)

    def _query(
        self,
        provider: Provider,
        model: str | None,
        messages: tuple[Message, ...],
        stream: bool,
        params: Mapping[str, Any],
    ) -> Query:
        """Return what is asked, checked for one provider."""
        fields: dict[str, Any] = {"model": model}
        options: dict[str, Any] = {}
        for name, value in params.items():
            if name not in PARAMETERS and name not in BESIDE and name not in provider.options:
                raise unknown(TypeError, "parameter", name, _known(provider))
            if value is None or name in BESIDE:
                continue
            if name in provider.options:
                options[name] = option(name, value, provider.options[name])
                continue
            checked = PARAMETERS[name](value)
            if name in ANYWHERE or name in provider.parameters:
                fields[name] = checked
            elif checked != ():
                self._unsupported(provider, name)
        query = Query(
            messages=_with_system(messages, params.get("system")),
            stream=stream,
            extra_headers=_headers(params.get("extra_headers")),
            options=options,
            **fields,
        )
        provider.check(query)
        asked = provider.model_of(query)
        if provider.models and asked not in provider.models:
            log.info("%s: model %r is not among those known here", provider.name, asked)
        return query

    def _unsupported(self, provider: Provider, name: str) -> None:
        honoured = ", ".join(sorted(provider.parameters)) or "none"
        if not self._drop_unsupported:
            raise UnsupportedError(
                f"{provider.name} cannot honour {name}; it honours: {honoured}"
                " (drop_unsupported=True leaves out what cannot be)",
                provider=provider.name,
            )
        log.warning("%s cannot honour %s: left out", provider.name, name)

    # Targets

    def _chain(self, target: Any) -> list[tuple[Provider, str | None]]:
        """Return the providers of a target, each with the model that the target names."""
        target = self._target if target is None else target
        if target is None:
            raise ConfigurationError(
                "no target: give target='gigachat', say, or set CHATSDK_TARGET; there are: "
                + ", ".join(table.names())
            )
        if isinstance(target, (list, tuple)):
            if not target:
                raise ConfigurationError("no target: the list is empty")
            return [self._one(item) for item in target]
        return [self._one(target)]

    def _one(self, target: Any) -> tuple[Provider, str | None]:
        if isinstance(target, Provider):
            return target, None
        if not isinstance(target, str):
            raise TypeError(
                "a target is 'provider', 'provider:model' or a Provider,"
                f" not {type(target).__name__}"
            )
        name, _, model = target.partition(":")
        return self._provider(name), model or None

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            self._keep(table.get(name)())  # type: ignore[call-arg]  # a subclass has defaults
        return self._providers[name]

    def _keep(self, provider: Provider) -> None:
        """Remember a provider under its name; one that is gone is pointed out once."""
        self._providers[provider.name] = provider
        default = attrs.fields_dict(type(provider))["base_url"].metadata.get("default")
        if not provider.alive and provider.base_url == default:
            log.warning(
                "%s: %s; base_url= leads to a server of your own", provider.name, provider.state
            )

    def _configure(self, fields: dict[str, Any]) -> None:
        """Set up the providers of the client's own target with the fields that were given."""
        given = {name: value for name, value in fields.items() if value is not None}
        target = self._target
        if isinstance(target, (list, tuple)) and len(target) == 1:
            target = target[0]
        if given and (target is None or isinstance(target, (list, tuple))):
            raise ConfigurationError(
                f"{', '.join(sorted(given))}: fields are for one target, and there is"
                f" {'none' if target is None else 'more than one'}; give providers=[...] instead"
            )
        if isinstance(target, Provider):
            _check_fields(type(target), given)
            self._target = attrs.evolve(target, **given) if given else target
            self._keep(self._target)
        elif isinstance(target, str) and given:
            name = target.partition(":")[0]
            known = self._providers.get(name)
            kind = table.get(name) if known is None else type(known)
            _check_fields(kind, given)
            self._keep(kind(**given) if known is None else attrs.evolve(known, **given))
        elif target is not None:
            self._chain(target)


def _check_fields(kind: type[Provider], given: Mapping[str, Any]) -> None:
    known = [attribute.alias or attribute.name for attribute in attrs.fields(kind)]
    for name in given:
        if name not in known:
            raise unknown(TypeError, f"field of {kind.name}", name, [*known, *CLIENT_OPTIONS])


def _by_name(providers: tuple[Any, ...]) -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for provider in providers:
        if not isinstance(provider, Provider):
            raise TypeError(f"providers holds a {type(provider).__name__}, which is no Provider")
        if provider.name in found:
            raise ConfigurationError(f"providers holds two that are called {provider.name!r}")
        found[provider.name] = provider
    return found


def _policy(max_retries: Any) -> RetryPolicy:
    return max_retries if isinstance(max_retries, RetryPolicy) else RetryPolicy(max_retries)


def _known(provider: Provider) -> list[str]:
    return [*PARAMETERS, *BESIDE, *provider.options]


def _headers(headers: Any) -> Mapping[str, str]:
    if headers is None:
        return {}
    check_headers(None, _EXTRA_HEADERS, headers)
    return dict(headers)


@attrs.frozen
class _Named:
    name: str


_EXTRA_HEADERS = _Named("extra_headers")


def _with_system(messages: tuple[Message, ...], system: Any) -> tuple[Message, ...]:
    if system is None:
        return messages
    if not isinstance(system, str):
        raise TypeError(f"system must be a str, not {type(system).__name__}")
    check_text(system, "system")
    return (Message("system", system), *messages)


def _listed(targets: Any) -> Iterable[Any]:
    if isinstance(targets, (str, bytes, Mapping)) or not isinstance(targets, Iterable):
        raise TypeError(f"targets must be a list of targets, not {type(targets).__name__}")
    return targets


def _label(target: Any) -> Any:
    """Return what an answer calls its target: the caller's own word, or a provider's name."""
    if isinstance(target, Provider):
        return target.name
    return tuple(map(_label, target)) if isinstance(target, (list, tuple)) else target


def _shown(target: Any) -> str:
    return repr(target.name) if isinstance(target, Provider) else repr(target)


def _rebuild(options: Mapping[str, Any]) -> Client:
    return Client(**options)


CLIENT_OPTIONS = (
    "providers",
    "timeout",
    "max_retries",
    "limits",
    "proxy",
    "verify",
    "token_store",
    "drop_unsupported",
)


# One question, one client


def chat(messages: Any, *, target: Any = None, **params: Any) -> Reply:
    """Ask with a client of this one call: `Client.chat` with the arguments of both."""
    options, asked = _divided(target, params)
    with Client(target, **options) as client:
        return client.chat(messages, **asked)


def stream(messages: Any, *, target: Any = None, **params: Any) -> Stream:
    """Ask with a client of this one call: `Client.stream` with the arguments of both."""
    options, asked = _divided(target, params)
    client = Client(target, **options)
    return client._asked(messages, closed=client._transport.close, **asked).open()


def _divided(target: Any, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which arguments make the client, and which are asked of it."""
    asked = {*PARAMETERS, *BESIDE, "stream"}
    options = {name: value for name, value in params.items() if name not in asked}
    chosen = target or os.environ.get("CHATSDK_TARGET")
    if isinstance(chosen, str):
        known = table.get(chosen.partition(":")[0]).options
        options = {name: value for name, value in options.items() if name not in known}
    return options, {name: value for name, value in params.items() if name not in options}
