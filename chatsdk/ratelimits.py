"""What a service lets an account do, as the headers of its answers tell."""

from __future__ import annotations

from chatsdk.records import frozen


@frozen
class Limit:
    """What a service lets an account do in a time.

    Attributes:
        limit: How many, or None.
        remaining: How many are left, or None.
        reset: When it is whole again, in the service's own words (a span or a date), or None.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: str | None = None


@frozen
class RateLimits:
    """What the headers of an answer say of the account's limits.

    Attributes:
        requests: Of requests.
        tokens: Of the language model's tokens.
    """

    requests: Limit = Limit()
    tokens: Limit = Limit()
