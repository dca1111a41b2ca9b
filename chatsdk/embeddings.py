"""Texts as vectors: what a caller gave, cut to what a service takes, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chatsdk.checks import check_text, PARAMETERS
from chatsdk.errors import ConfigurationError, UnsupportedError
from chatsdk.providers.base import Provider
from chatsdk.results import EmbeddingQuery, Embeddings
from chatsdk.settings import headers_from
from chatsdk.tally import summed


def embedding_queries(
    provider: Provider,
    model: Any,
    texts: Any,
    dimensions: Any,
    extra_body: Any,
    extra_headers: Any,
) -> list[EmbeddingQuery]:
    """Return what is asked of a provider, in requests of as many texts as it takes.

    Raises:
        TypeError: An argument is of the wrong type; a text is named by its place.
        ValueError: There is no text, or an empty one.
        UnsupportedError: The provider makes no vectors, or none of that length.
    """
    if not provider.embeds:
        raise UnsupportedError(
            f"{provider.name} makes no embeddings; ask another service", provider=provider.name
        )
    if dimensions is not None:
        if not provider.dimensions:
            raise UnsupportedError(
                f"{provider.name} makes vectors of one length only; leave out dimensions",
                provider=provider.name,
            )
        if type(dimensions) is not int or dimensions < 1:
            raise ValueError("dimensions must be an int of 1 or more")
    found = _texts(texts)
    name = PARAMETERS["model"](provider.embedding_model if model is None else model)
    body = PARAMETERS["extra_body"](extra_body) if extra_body is not None else {}
    return [
        EmbeddingQuery(
            texts=found[start:start + provider.embeds],
            model=name,
            dimensions=dimensions,
            extra_body=body,
            extra_headers=headers_from(extra_headers, "extra_headers"),
        )
        for start in range(0, len(found), provider.embeds)
    ]


def _texts(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"texts must be a str or an iterable of str, not {type(given).__name__}")
    texts = tuple(given)
    if not texts:
        raise ValueError("texts is empty; there is nothing to embed")
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{n}] must be a str, not {type(text).__name__}")
        if not text:
            raise ValueError(f"texts[{n}] is empty")
        check_text(text, f"texts[{n}]")
    return texts


def joined_embeddings(parts: list[Embeddings]) -> Embeddings:
    """Return the vectors of several requests as those of one."""
    usages = [part.usage for part in parts if part.usage is not None]
    usage = usages[0] if usages else None
    for other in usages[1:]:
        usage = summed(usage, other) if usage else other
    return Embeddings([vector for part in parts for vector in part.vectors], parts[0].model, usage)


def array_maker() -> Callable[[Any], Any]:
    """Return what makes one numpy array of vectors.

    Raises:
        ConfigurationError: numpy is not installed.
    """
    try:
        import numpy
    except ImportError as error:
        raise ConfigurationError(
            "numpy=True needs numpy: pip install 'chatsdk[numpy]'"
        ) from error
    return lambda vectors: numpy.asarray(vectors, dtype="float32")
