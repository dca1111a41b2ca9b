"""Parrot: a service that repeats what it is told, one JSON object a line.

Source: the API page of the service, https://parrot.example/api.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from attrs import frozen

from chatsdk.errors import ProtocolError, ProviderError
from chatsdk.messages import Delta, Query
from chatsdk.providers.base import Fetch, merged, Provider, system_text
from chatsdk.settings import secret, setting, url
from chatsdk.wire import Body, ndjson, Request


@frozen(kw_only=True)
class Parrot(Provider):
    """A chat with Parrot."""

    name: ClassVar[str] = "parrot"  # ClassVar: a fact about the service
    title: ClassVar[str] = "Parrot"
    page: ClassVar[str] = "https://parrot.example/api"
    models: ClassVar[tuple[str, ...]] = ("macaw", "cockatoo")
    parameters: ClassVar[Mapping[str, str]] = {"max_tokens": "words"}

    base_url: str = url("PARROT_BASE_URL", "https://parrot.example/v1")  # the user's to change
    model: str = setting("PARROT_MODEL", "macaw")
    api_key: str | None = secret("PARROT_API_KEY")

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        key = {"X-Api-Key": self.api_key} if self.api_key else {}
        return Request(
            method="POST",
            url=f"{self.base_url}/say",
            headers=self.request_headers(key, query.extra_headers),
            cookies=self.cookies,
            json=merged(self.payload(query), query.extra_body),
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: the last turn is what is to be repeated."""
        body = {
            "bird": self.model_of(query),
            "manners": system_text(query.messages),
            "text": query.messages[-1].content,
        }
        return body if query.max_tokens is None else {**body, "words": query.max_tokens}

    # What is read

    def events(self, body: Body) -> Iterator[Any]:
        """Yield what the lines say."""
        return ndjson(body, self.parse)

    def decode(self, event: Any) -> Delta:
        """Return the step in a line: a word, the end, or a failure."""
        if "word" in event:
            return Delta(event["word"], raw=event)
        if "over" in event:
            return Delta(finish_reason=event["over"], final=True, raw=event)
        if "failed" in event:
            raise ProviderError(f"parrot failed: {event['failed']}")
        raise ProtocolError("a line of parrot is none of this protocol", excerpt=str(event)[:200])
