"""What to do about an error: one table for the messages and for the documentation."""

from __future__ import annotations

from chatsdk import errors
from chatsdk.errors import APITimeoutError, ChatError
from chatsdk.records import frozen


@frozen
class Advice:
    """What is known of a class of errors beyond its name.

    Attributes:
        again: Whether the library tries again by itself.
        do: The next step, as an error's message ends; "": the message has its own.
    """

    again: str
    do: str = ""


NEVER = "no: nothing was sent"
TRANSIENT = "yes, before the first text"

ADVICE: dict[type[ChatError], Advice] = {
    ChatError: Advice("no"),
    errors.ConfigurationError: Advice(NEVER),
    errors.MissingCredentialsError: Advice(NEVER),
    errors.UnsupportedError: Advice(NEVER),
    errors.APIConnectionError: Advice(
        "yes, but for a certificate that is not trusted",
        "check the network, the proxy and base_url",
    ),
    errors.APITimeoutError: Advice("by its phase"),  # see `TIMEOUTS`
    errors.WorkerLostError: Advice(
        "no",
        "see the executor's own log for why; with journal= the next run asks only what is missing",
    ),
    errors.StreamInterruptedError: Advice(
        TRANSIENT, "ask again; what arrived is in error.partial"
    ),
    errors.APIStatusError: Advice(
        "408, 425, 429, 500, 502, 503, 504 and 529", "error.body has what the service says"
    ),
    errors.BadRequestError: Advice(
        "no", "check the model and the parameters; error.body has what the service says"
    ),
    errors.ContextLengthError: Advice(
        "no", "shorten the messages, lower max_tokens, or ask a model that takes more"
    ),
    errors.AuthenticationError: Advice(
        "once, with a new token, where the service has tokens",
        "check the key: api_key=, or its environment variable",
    ),
    errors.PermissionDeniedError: Advice(
        "no", "check what this key may do, and whether the service answers this address"
    ),
    errors.NotFoundError: Advice(
        "no", "check the model, client.models() lists those there are, and base_url"
    ),
    errors.ConflictError: Advice("no", "wait until the other request is done, and ask again"),
    errors.UnprocessableEntityError: Advice(
        "no", "error.body names what the service refuses; leave it out or change it"
    ),
    errors.RateLimitError: Advice(
        "yes, after the wait that the service asks for",
        "ask less at once, or wait longer: RetryPolicy(max_retries=...), map(rate=...)",
    ),
    errors.QuotaExceededError: Advice(
        "no", "waiting does not help: pay, raise the quota, or use another key"
    ),
    errors.RedirectError: Advice(
        "no", "if that address is right, give it as base_url; keys go nowhere else by themselves"
    ),
    errors.ServerError: Advice(
        "500, 502, 503, 504 and 529",
        "the fault is the service's: ask again later, or name a second target to fall back on",
    ),
    errors.ProviderError: Advice(
        "where the service says that it passes, before the first text",
        "ask again; if it stays, tell the service",
    ),
    errors.ProtocolError: Advice(
        "where a damaged answer may come whole, before the first text",
        "check that base_url is this service; error.excerpt has what came",
    ),
    errors.CancelledError: Advice("no", "what arrived is in error.partial"),
    errors.AllFailedError: Advice("no", "error.errors has each target's own"),
    errors.ExtractionError: Advice(
        "as often as max_attempts says", "error.attempts has the replies; try a simpler type"
    ),
    errors.TurnsExceededError: Advice("no", "raise max_turns, or see in error.run what it tries"),
    errors.CassetteError: Advice("no"),  # what is missing says itself how to come by it
    errors.JournalError: Advice("no"),
}

TIMEOUTS = {
    "connect": Advice("yes", "check the network, the proxy and base_url, or raise Timeout.connect"),
    "first": Advice(
        "only by RetryPolicy(retry_timeouts=True), since it may be billed twice",
        "raise timeout=, or allow RetryPolicy(retry_timeouts=True), which may be billed twice",
    ),
    "read": Advice(
        "only by RetryPolicy(retry_timeouts=True), before the first text",
        "raise timeout=; what arrived is in error.partial",
    ),
    "total": Advice("no", "raise Timeout.total; what arrived is in error.partial"),
}


def advice_for(error: ChatError) -> str:
    """Return the next step: what who raised the error says, else what the tables say."""
    if error.advice is not None:
        return error.advice
    if isinstance(error, APITimeoutError) and error.phase in TIMEOUTS:
        return TIMEOUTS[error.phase].do
    return next(ADVICE[kind].do for kind in type(error).__mro__ if kind in ADVICE)


def explain(
    error: ChatError,
    *,
    target: str | None = None,
    attempts: int = 0,
    elapsed: float | None = None,
    waited: float = 0.0,
    request_id: str | None = None,
    notes: list[str] | None = None,
) -> None:
    """Complete an error's message with what is known of the call, and with the next step.

    Args:
        error: The error; done again with a copy of it, the facts are those of the last time.
        target: Who was asked, as ``"provider:model"``.
        attempts: How often.
        elapsed: Seconds since the call began.
        waited: Seconds of them between the attempts.
        request_id: The service's own id of the last request.
        notes: What else is to be said of the call.
    """
    error.reason = error.reason or str(error)
    error.target = target or error.target
    if attempts:
        error.attempts, error.elapsed = attempts, elapsed
    error.request_id = error.request_id or request_id
    error.advice = advice_for(error)
    facts = [*_facts(error, waited if attempts else 0.0), *(notes or ())]
    told = f" ({', '.join(facts)})" if facts else ""
    error.args = (f"{error.reason}{told}" + (f"; {error.advice}" if error.advice else ""),)


def _facts(error: ChatError, waited: float) -> list[str]:
    facts = [error.target] if error.target else []
    if error.elapsed is not None:
        times = "1 attempt" if error.attempts == 1 else f"{error.attempts} attempts"
        waits = f", {waited:.2f} s of them waits" if waited else ""
        facts.append(f"{times} in {error.elapsed:.2f} s{waits}")
    if error.request_id:
        facts.append(f"request id {error.request_id}")
    return facts
