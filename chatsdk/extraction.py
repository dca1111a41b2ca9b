"""Objects out of answers: ask, check, say what is wrong, ask again."""

from __future__ import annotations

from collections.abc import Mapping
import json
import re
from typing import Any, Protocol

import attrs

from chatsdk.advice import explain
from chatsdk.checks import messages_from
from chatsdk.errors import ExtractionError, UnsupportedError
from chatsdk.messages import Message, Reply
from chatsdk.schemas import build, schema_of

PROMPT = (
    "Answer with one JSON document and nothing else: no explanation, no code fence."
    " It must fit this JSON schema:\n{schema}"
)
AGAIN = "That does not fit: {problem}. Answer again, with the whole JSON document and nothing else."
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class Asks(Protocol):
    """How the model is asked."""

    def __call__(self, messages: list[Message], **params: Any) -> Reply:
        """Return a whole reply."""


def extract(
    ask: Asks, messages: Any, kind: Any, *, max_attempts: int, native: bool, params: Any
) -> Any:
    """Return an object of a type, taken from a model's answer.

    Args:
        ask: Asks the model.
        messages: The question, as for `Client.chat`.
        kind: A type with a JSON schema, or a JSON schema.
        max_attempts: The most answers.
        native: Whether the service itself keeps to a schema; else it is told in words.
        params: Further parameters of `Client.chat`.

    Raises:
        ExtractionError: No answer fitted; ``attempts`` and ``errors`` tell all of it.
    """
    if type(max_attempts) is not int or max_attempts < 1:
        raise ValueError("max_attempts must be an int of 1 or more")
    wanted = _Wanted.of(kind)
    said = list(messages_from(messages))
    in_words = Message("system", PROMPT.format(schema=json.dumps(wanted.schema)))
    form = {"response_format": wanted.format} if native else {}
    if not native:
        said.insert(0, in_words)
    attempts: list[Reply] = []
    problems: list[str] = []
    while len(attempts) < max_attempts:
        try:
            reply = ask(said, **{**params, **form})
        except UnsupportedError:
            if not form:
                raise
            said.insert(0, in_words)  # the service has no form for this schema
            form = {}
            continue
        attempts.append(reply)
        try:
            return wanted.read(reply.text)
        except (ValueError, RecursionError) as error:
            problems.append(str(error) or type(error).__name__)
        said += [reply.message, Message("user", AGAIN.format(problem=problems[-1]))]
    failed = ExtractionError(
        f"no answer of {attempts[-1].provider} fitted in {max_attempts} attempts; the last:"
        f" {problems[-1]}",
        provider=attempts[-1].provider, partial=attempts[-1], attempts=attempts, errors=problems,
    )
    explain(failed)
    raise failed


@attrs.frozen
class _Wanted:
    """What is to be taken from an answer.

    Attributes:
        kind: The type, or None for plain JSON values.
        schema: The JSON schema that the answer must fit.
        wrapped: Whether it stands in an object, since services want an object at the top.
    """

    kind: Any
    schema: dict[str, Any]
    wrapped: bool

    @classmethod
    def of(cls, kind: Any) -> _Wanted:
        if isinstance(kind, Mapping):
            return cls(None, dict(kind), False)
        schema = schema_of(kind, "the type")
        if schema.get("type") == "object":
            return cls(kind, schema, False)
        inner = {"value": schema}
        return cls(kind, {"type": "object", "properties": inner, "required": ["value"]}, True)

    @property
    def format(self) -> Any:
        """What goes to the service as ``response_format``."""
        return self.schema if self.kind is None or self.wrapped else self.kind

    def read(self, text: str) -> Any:
        """Return what an answer holds.

        Raises:
            ValueError: It does not fit.
        """
        fenced = _FENCE.fullmatch(text)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except ValueError as error:
            raise ValueError(f"it is no JSON: {error}") from None
        if self.wrapped:
            if not isinstance(value, dict) or list(value) != ["value"]:
                raise ValueError("it must be an object with the one member 'value'")
            value = value["value"]
        return value if self.kind is None else build(self.kind, value)
