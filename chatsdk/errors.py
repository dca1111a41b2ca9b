"""The tree of errors: nothing else leaves the library.

::

    ChatError
    ├── ConfigurationError
    │   └── MissingCredentialsError
    ├── UnsupportedError
    ├── APIConnectionError
    │   ├── APITimeoutError
    │   ├── StreamInterruptedError
    │   └── WorkerLostError
    ├── APIStatusError
    │   ├── BadRequestError  AuthenticationError  PermissionDeniedError  NotFoundError
    │   ├── ConflictError  UnprocessableEntityError
    │   ├── ContextLengthError (of BadRequestError)
    │   ├── RateLimitError
    │   │   └── QuotaExceededError
    │   ├── RedirectError
    │   └── ServerError
    ├── ProviderError
    ├── ProtocolError
    ├── CancelledError
    ├── AllFailedError
    ├── ExtractionError
    ├── CassetteError
    ├── TurnsExceededError
    └── JournalError

The error of requests, urllib3, json or the socket module that lies below is the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

AnyError = TypeVar("AnyError", bound=Exception)

EXCERPT = 200  # characters: the most that an error quotes of what a server sent


class ChatError(Exception):
    """Anything that can go wrong in a chat.

    Attributes:
        provider: Name of the service, or None where none was chosen yet.
        partial: The `Reply` so far if the answer had begun, else None.
        retryable: Whether the same call may be sent again without harm.
        retry_after: Seconds that the server asked to wait, or None.
        circuit: ``"open"`` if so much had failed at the host that the call was not tried again, or
            not sent at all; else ``"closed"``.
        run: The `Run` so far if the call was a turn of one, else None.
        target: Who was asked, as ``"provider:model"``, or None where nobody was.
        attempts: How often; 0 where nothing was asked.
        elapsed: Seconds from the call to its end, or None where nothing was asked.
        request_id: The service's own id of the last request, for its support, or None.
        reason: What went wrong, without the facts of the call and the next step, which the whole
            message has too; None if the message has neither.
        advice: The next step, or None.
    """

    circuit = "closed"
    run: Any = None
    target: str | None = None
    attempts: Any = 0  # `ExtractionError` has replies here
    elapsed: float | None = None
    request_id: str | None = None
    reason: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        partial: Any = None,  # a Reply; that module stands above this one
        retryable: bool = False,
        retry_after: float | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.provider = provider
        self.partial = partial
        self.retryable = retryable
        self.retry_after = retry_after

    def open_circuit(self, reason: str) -> None:
        """Note that too much fails at the host, and what that meant for the call."""
        self.circuit = "open"
        if self.reason is not None:
            self.reason = f"{self.reason}; {reason}"
        self.args = (f"{self}; {reason}",)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by class, arguments and attributes, since keywords are not in ``args``."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[ChatError], args: tuple[Any, ...], state: dict[str, Any]) -> ChatError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(ChatError):
    """What was asked cannot be set up: unknown provider, no target, a bad base_url."""


class MissingCredentialsError(ConfigurationError):
    """A key is needed and none was given; names the argument and the environment variable."""


class UnsupportedError(ChatError):
    """The provider cannot do what was asked."""


class APIConnectionError(ChatError):
    """Nothing, or not all, came back."""


class APITimeoutError(APIConnectionError):
    """A wait ended.

    Attributes:
        phase: Which: ``"connect"``, ``"first"``, ``"read"`` or ``"total"``, see `Timeout`.
    """

    def __init__(self, message: str = "", *, phase: str = "total", **details: Any) -> None:
        super().__init__(message, **details)
        self.phase = phase


class WorkerLostError(APIConnectionError):
    """An executor lost the call: its worker died, or it was shut down."""


class StreamInterruptedError(APIConnectionError):
    """The body ended before the reply did; ``partial`` has the text."""


class APIStatusError(ChatError):
    """The service answered with a status that is no success.

    Attributes:
        status_code: The HTTP status.
        body: The beginning of the error's body as text, at most ``Limits.error_body_bytes``.
        headers: The answer's headers; look-ups disregard case.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int = 0,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.status_code = status_code
        self.body = body
        self.headers = {} if headers is None else headers
        self.request_id = request_id


class BadRequestError(APIStatusError):
    """400: the service does not accept the request."""


class ContextLengthError(BadRequestError):
    """The messages, with the answer they ask for, are longer than the model can take."""


class AuthenticationError(APIStatusError):
    """401: the key, or a fresh token, was refused."""


class PermissionDeniedError(APIStatusError):
    """403: not allowed, or blocked by a gateway."""


class NotFoundError(APIStatusError):
    """404: no such model, conversation or path."""


class ConflictError(APIStatusError):
    """409: in conflict with another request."""


class UnprocessableEntityError(APIStatusError):
    """422: understood, and refused."""


class RateLimitError(APIStatusError):
    """429: too many requests; see ``retry_after``."""


class QuotaExceededError(RateLimitError):
    """402, or 429 with such a code: money or quota is used up, and waiting is no help."""


class RedirectError(APIStatusError):
    """3xx: redirects are not followed.

    Attributes:
        location: Where the server pointed to, or None.
    """

    def __init__(self, message: str = "", *, location: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.location = location


class ServerError(APIStatusError):
    """5xx: the service failed."""


class ProviderError(ChatError):
    """The service reported a failure inside an answer that began as a success."""


class ProtocolError(ChatError):
    """The bytes are not what the protocol allows.

    Attributes:
        excerpt: The beginning of what was received, at most 200 characters.
    """

    def __init__(self, message: str = "", *, excerpt: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.excerpt = excerpt


class CancelledError(ChatError):
    """The stream was closed by another thread."""


class AllFailedError(ChatError):
    """Of several targets none gave a good reply.

    Attributes:
        errors: Why, by target.
    """

    def __init__(
        self, message: str = "", *, errors: Mapping[Any, Exception] | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.errors = dict(errors or {})


class ExtractionError(ChatError):
    """An answer is not of the shape that was asked for.

    Attributes:
        attempts: Each `Reply`, the last one last.
        errors: What was wrong with each.
    """

    def __init__(
        self, message: str = "", *, attempts: Any = (), errors: Any = (), **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.attempts = tuple(attempts)
        self.errors = tuple(errors)


class TurnsExceededError(ChatError):
    """The model went on calling tools in the last turn that was allowed; see ``run``."""


class CassetteError(ChatError):
    """A cassette cannot be read or written, or has no answer to what is asked.

    Attributes:
        nearest: The recorded exchange that is most like what was asked, or None.
    """

    def __init__(self, message: str = "", *, nearest: Any = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.nearest = nearest


class JournalError(ChatError):
    """A journal cannot be read or written; what it holds is as it was.

    Attributes:
        unrecorded: Each `Answer` that had come and could not be recorded any more.
    """

    def __init__(self, message: str = "", *, unrecorded: Any = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.unrecorded = tuple(unrecorded)


STATUS_ERRORS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error(status: int) -> type[APIStatusError]:
    """Return the class for an HTTP status."""
    if 300 <= status < 400:
        return RedirectError
    if 500 <= status < 600:
        return ServerError
    return STATUS_ERRORS.get(status, APIStatusError)


def quoted(said: object, most: int = EXCERPT) -> str:
    """Return a server's words as one short printable line, fit for a message."""
    text = str(said)[:most]
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def unknown(kind: type[AnyError], what: str, name: object, known: list[str]) -> AnyError:
    """Return an error that names what is unknown, lists what exists and suggests the nearest."""
    import difflib  # 1 ms, for those who mistype

    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return kind(f"unknown {what} {name!r}; there are: {', '.join(sorted(known))}{hint}")
