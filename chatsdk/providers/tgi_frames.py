"""The frames of text-generation-inference, for it and for what stands in front of it.

Source: github.com/huggingface/text-generation-inference, router/src, versions 0.9.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chatsdk.errors import ChatError, ContextLengthError, ProviderError, quoted
from chatsdk.messages import Delta, step, Usage
from chatsdk.providers.base import count, member
from chatsdk.records import evolve
from chatsdk.wire import malformed

FINISH = {"eos_token": "stop", "stop_sequence": "stop"}
TOO_LONG = ("`inputs` must have less than", "`inputs` tokens + `max_new_tokens`")


def generation(event: Any, name: str) -> Delta | None:
    """Return the step in an event of text-generation-inference.

    The last one has the whole text in ``generated_text``.  If a limit or a stop text ended the
    answer, its token is an ordinary one and belongs to it.

    Args:
        event: What a frame says, or the document of an answer in one piece.
        name: The provider's, for messages.
    """
    text = _text_alone(event)
    if text:
        return step(text, raw=event)
    if not isinstance(event, dict):
        raise malformed("a frame is no JSON object", str(event))
    if "error" in event:
        raise _failure(event, name)
    token = member(event, "token", dict)
    generated = member(event, "generated_text", str)
    if token is None and generated is None:
        raise malformed("a frame has neither a token nor an error", str(event))
    text = "" if token is None or token.get("special") is True else _token_text(token)
    if generated is None:
        return step(text, raw=event) if text else None
    details = member(event, "details", dict) or {}
    finish = member(details, "finish_reason", str)
    return Delta(
        text=text,
        finish_reason=FINISH.get(finish, finish) if finish else None,
        usage=_usage(details),
        final=True,
        raw=event,
    )


def _text_alone(event: Any) -> str | None:
    """Return the text of a frame with one ordinary token and nothing else, as most are."""
    try:
        token = event["token"]
        text = token["text"]
        alone = event["generated_text"] is None and token["special"] is False
        return text if alone and type(text) is str and "error" not in event else None
    except (TypeError, LookupError):
        return None


def spoken(deltas: Iterator[Delta]) -> Iterator[Delta]:
    """Yield steps; if no token had text, the whole text of the last one is the answer."""
    silent = True
    for delta in deltas:
        if delta.final and silent and not delta.text:
            delta = evolve(delta, text=delta.raw["generated_text"])
        silent = silent and not delta.text
        yield delta


def _usage(details: Mapping[str, Any]) -> Usage | None:
    """Return the counts; before version 3 the prompt's is not told."""
    prompt, answer = count(details, "input_length"), count(details, "generated_tokens")
    if prompt is None and answer is None:
        return None
    both = None if prompt is None or answer is None else prompt + answer
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=both)


def _failure(event: Mapping[str, Any], name: str) -> ChatError:
    kind, reason = event.get("error_type"), str(event["error"])
    sentence = f"{name} failed inside its answer: {quoted(reason)} ({quoted(kind)})"
    if any(words in reason for words in TOO_LONG):
        return ContextLengthError(sentence, status_code=200)
    return ProviderError(sentence, retryable=kind == "overloaded")


def _token_text(token: Mapping[str, Any]) -> str:
    text = member(token, "text", str)
    if text is None:
        raise malformed("a token has no text", str(token))
    return text
