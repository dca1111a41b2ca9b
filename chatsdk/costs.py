"""What answers cost, by the price list of ``chatsdk[cost]`` (genai-prices)."""

from __future__ import annotations

from typing import Protocol

from chatsdk.errors import ConfigurationError

# What the price list calls a service, where it is not our name.
PROVIDERS = {
    "openai-responses": "openai",
    "gemini": "google",
    "azure-openai": "azure",
    "xai": "x-ai",
}


class Counts(Protocol):
    """What a price needs of a `chatsdk.Usage`."""

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the question."""

    @property
    def completion_tokens(self) -> int | None:
        """Tokens of the answer."""

    @property
    def cached_tokens(self) -> int | None:
        """The part of the question that came from a cache."""

    @property
    def cost(self) -> float | None:
        """What the service itself says."""


def cost_of(provider: str | None, model: str | None, usage: Counts | None) -> float | None:
    """Return what an answer costs in US dollars, or None if it is unknown.

    Raises:
        ConfigurationError: ``chatsdk[cost]`` is not installed, and the service says nothing.
    """
    if usage is None or model is None:
        return None
    if usage.cost is not None:
        return usage.cost
    try:
        import genai_prices
    except ImportError as error:
        raise ConfigurationError(
            "prices are an extra: pip install 'chatsdk[cost]'", provider=provider
        ) from error
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
    )
    name = provider or ""
    try:
        price = genai_prices.calc_price(tokens, model, provider_id=PROVIDERS.get(name, name))
    except LookupError:  # a model or a service that the list does not know
        return None
    return float(price.total_price)
