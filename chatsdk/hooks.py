"""Hooks: what a call tells those who want to know, and how they are told without any risk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import inspect
import logging
import traceback
from typing import Any

from chatsdk.errors import ConfigurationError
from chatsdk.messages import Query, Reply, Usage
from chatsdk.records import field, frozen
from chatsdk.settings import headers_from

log = logging.getLogger(__name__)

# Headers that a hook cannot add: they frame the message, or say who asks.
NOT_FOR_HOOKS = {
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


@frozen(kw_only=True)
class Notice:
    """What a hook is told of a call; an attribute that does not apply is None.

    No credential is in it, and no query string of an address.

    Attributes:
        call: The call's number in this process: the same in all its notices.
        operation: ``"chat"``, ``"embeddings"``, ``"models"`` or ``"count_tokens"``.
        provider: The service that is asked now; a chain of targets goes from one to the next.
        model: The language model that is asked for.
        base_url: Where the service is.
        began: When the call began, in s since 1970.
        seconds: Seconds since then, by a clock that is never set.
        attempt: How often this service was asked in this call, from 1; 0: not yet.
        method: The method of the last request, ``"POST"`` say.
        host: Its host, with a port if one was written.
        path: Its path.
        status: The HTTP status of its answer.
        request_id: The service's own id of it.
        wait: In `on_retry`: seconds until the next attempt.
        error: In `on_retry` and `on_error`: what went wrong.
        reply: In `on_reply` and `on_error`: the `Reply`, or as much of it as has come.
        result: In `on_reply` of a call that is no chat: what it returns.
        usage: Tokens of the language model, as far as they are told.
        first_chunk_after: Seconds from the last request to the first step of its answer.
        query: What is asked, without ``extra_headers`` and ``extra_body``.
        headers: In `on_request`: an empty dict; what a hook puts in is sent as well, but for
            headers that the request has already, and those that frame it or carry credentials.
    """

    call: int
    operation: str
    provider: str
    model: str | None
    base_url: str
    began: float
    seconds: float
    attempt: int
    method: str | None = None
    host: str | None = None
    path: str | None = None
    status: int | None = None
    request_id: str | None = None
    wait: float | None = None
    error: BaseException | None = None
    reply: Reply | None = None
    result: Any = field(default=None, repr=False)
    usage: Usage | None = None
    first_chunk_after: float | None = None
    query: Query | None = field(default=None, repr=False)
    headers: dict[str, str] = field(factory=dict, repr=False)

    @property
    def target(self) -> str:
        """The service and the model, as a target is written."""
        return f"{self.provider}:{self.model}" if self.model else self.provider


Hook = Callable[[Notice], object]


def _check_hook(instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{attribute.name} must be callable, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{attribute.name} must be a plain function: nobody would await this one")


@frozen
class Hooks:
    """Callables that are told of a call, each with a `Notice`, in the thread of the call.

    An exception in one of them is logged, once, and goes no further; `KeyboardInterrupt` passes.

    Attributes:
        on_request: Before each request of the call leaves, those for tokens included.
        on_retry: Before the wait for one more attempt, or before the next target is asked.
        on_reply: Once, when the answer is whole, or the caller has left it early.
        on_error: Once, when the call has failed.
    """

    on_request: Hook | None = field(default=None, validator=_check_hook)
    on_retry: Hook | None = field(default=None, validator=_check_hook)
    on_reply: Hook | None = field(default=None, validator=_check_hook)
    on_error: Hook | None = field(default=None, validator=_check_hook)
    _failed: set[str] = field(factory=set, init=False, repr=False, eq=False)

    def tell(self, name: str, notice: Notice) -> None:
        """Call one of them."""
        hook = getattr(self, name)
        if hook is None:
            return
        try:
            hook(notice)
        except Exception as error:
            if name not in self._failed:
                self._failed.add(name)
                log.warning("the hook %s failed: %s", name, _place(error))


def _place(error: Exception) -> str:
    """Return what went wrong and where; not in which words, since they may quote a prompt."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


def sendable(
    headers: Mapping[str, str], present: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield those of the headers that hooks have put in which can be sent beside those present."""
    kept = NOT_FOR_HOOKS.union(map(str.lower, present))
    for name, value in headers.items():
        try:
            headers_from({name: value}, "headers")
        except (TypeError, ConfigurationError):
            log.warning("a header that a hook has added cannot be sent: left out")
            continue
        if name.lower() not in kept:
            yield name, value
