"""What comes back beside replies: models, vectors, and what became of one question of many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatsdk.messages import Reply, Usage
from chatsdk.records import field, frozen


@frozen
class Answer:
    """What became of one question of many: a reply or an error, never both.

    Attributes:
        target: Who was asked, as the caller named it.
        index: The place of the target, or of the input, among all, from 0.
        input: What was asked, as the caller gave it.
        reply: The whole answer, or None.
        error: Why there is none, or None; what arrived of it is in the error's ``partial``.
    """

    target: Any
    index: int
    input: Any = field(repr=False)
    reply: Reply | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a reply."""
        return self.reply is not None


@frozen
class Model:
    """A language model that a service offers.

    Attributes:
        id: The name to ask for.
        provider: The service.
        owner: Who made it, or None.
        raw: The service's own entry.
    """

    id: str
    provider: str
    owner: str | None = None
    raw: Any = field(default=None, repr=False)


@frozen
class Embeddings:
    """Texts as vectors.

    Attributes:
        vectors: One for each text, in the order of the texts: lists of float, or an array of numpy
            where that was asked for.
        model: The model that made them.
        usage: Tokens, or None.
    """

    vectors: Any = field(repr=lambda vectors: f"<{len(vectors)} vectors>")
    model: str | None = None
    usage: Usage | None = None


@frozen(kw_only=True)
class EmbeddingQuery:
    """Texts to be made vectors.

    Attributes:
        texts: At least one.
        model: The model that makes them.
        dimensions: The length of a vector, or None.
        extra_body: Merged into the request's body last.
        extra_headers: Added to the request's headers last.
    """

    texts: tuple[str, ...] = field(repr=False)
    model: str
    dimensions: int | None = None
    extra_body: Mapping[str, Any] = field(factory=dict, repr=False)
    extra_headers: Mapping[str, str] = field(factory=dict, repr=False)
