"""AiChatOnline: an anonymous id first, then one prompt; JSON lines back.

Source: no page of the service documents it; this is what its public clients sent and read while
they could reach it, from August to October 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
import secrets
import string
from typing import Any, ClassVar

from chatsdk.errors import ProviderError, quoted, UnsupportedError
from chatsdk.messages import Delta, Query, step
from chatsdk.providers.base import Fetch, flatten, member, merged, Provider
from chatsdk.records import frozen
from chatsdk.settings import setting, url
from chatsdk.wire import Body, malformed, ndjson, parse, Request

LETTERS = string.ascii_lowercase + string.digits
DONE = object()  # what the line [DONE] says, which some servers of this kind send


@frozen(kw_only=True)
class AiChatOnline(Provider):
    """A chat with AiChatOnline: no model to choose, no parameters, the history flattened."""

    name: ClassVar[str] = "aichatonline"
    title: ClassVar[str] = "AiChatOnline"
    state: ClassVar[str] = "behind a browser check since about September 2024"
    alive: ClassVar[bool] = False
    page: ClassVar[str] = "https://aichatonline.org"
    system_messages: ClassVar[bool] = False
    history: ClassVar[bool] = False
    models: ClassVar[tuple[str, ...]] = ("gpt-4o-mini",)
    varies: ClassVar[tuple[str, ...]] = ("conversationId", "canvas")
    end_mark: ClassVar[bool] = False
    may_be_empty: ClassVar[bool] = False

    base_url: str = url(None, "https://aichatonlineorg.erweima.ai")
    model: str = setting(None, models[0])  # a label: it is never sent

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Get a visitor's id, and return the request for an answer under it."""
        visitor = _visitor(fetch(self._visit(query)))
        return Request(
            method="POST",
            url=f"{self.base_url}/aichatonline/api/chat/gpt",
            headers=self._headers(query, UniqueId=visitor),
            cookies=self.cookies,
            json=merged(self.payload(query), query.extra_body),
            varies=self.varies,
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: a fresh id and the flattened conversation, nothing else."""
        return {"conversationId": _alnum(10), "prompt": flatten(query.messages)}

    def check(self, query: Query) -> None:
        """Refuse any model but the one there is, since none is ever sent."""
        super().check(query)
        if self.model_of(query) not in self.models:
            raise UnsupportedError(
                f"aichatonline has one model, {self.models[0]}; {self.model_of(query)!r} cannot be"
                " asked for",
                provider=self.name,
            )

    def _visit(self, query: Query) -> Request:
        return Request(
            method="GET",
            url=f"{self.base_url}/api/v1/user/getUniqueId?canvas=-{_alnum(10)}",
            headers=self._headers(query),
            cookies=self.cookies,
            repeatable=True,
            varies=self.varies,
            confidential=True,
        )

    def _headers(self, query: Query, **more: str) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        site = {"Referer": f"{self.base_url}/chatgpt/chat/", "Origin": self.origin()}
        return self.request_headers(
            {"Accept": "*/*", **site, **key, **more}, query.extra_headers
        )

    # What is read

    def events(self, body: Body) -> Iterator[Any]:
        """Yield what the lines say."""
        return ndjson(body, self.parse)

    def parse(self, frame: bytes) -> Any:
        """Return the JSON document of a line; the marks of an event stream are tolerated."""
        frame = frame.removeprefix(b"data:").strip()
        return DONE if frame == b"[DONE]" else parse(frame)

    def decode(self, event: Any) -> Delta | None:
        """Return the text of a line, or raise for a line that reports a failure."""
        if event is DONE:
            return None
        text = member(_data(event) or {}, "message", str)
        return step(text, raw=event) if text else None


def _data(event: Any) -> dict[str, Any] | None:
    """Return the member ``data`` of a line or document with the code 200 or none."""
    _check_code(event)
    return member(event, "data", dict)


def _check_code(event: Any) -> None:
    if not isinstance(event, dict):
        raise malformed("a line is no JSON object", str(event))
    code = event.get("code", 200)
    if code not in (200, "200", None):
        reason = event.get("msg") or event.get("message") or "no reason given"
        raise ProviderError(
            f"aichatonline failed inside its answer: {quoted(reason)} (code {quoted(code)})",
            retryable=code in (429, 500, 502, 503, 504),
        )


def _visitor(body: bytes) -> str:
    """Return the visitor's id, fit to stand in a header."""
    event = parse(body)
    _check_code(event)
    visitor = event.get("data")
    if not isinstance(visitor, str) or not (visitor.isascii() and visitor.isprintable()):
        raise malformed("aichatonline gave no visitor id", body)
    if not visitor or visitor != visitor.strip():
        raise malformed("aichatonline gave a visitor id that is empty or has blanks", body)
    return visitor


def _alnum(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))
