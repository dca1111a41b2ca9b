"""FlowGPT: one signed request, JSON lines back; the signature holds no secret.

Source: no page of the service documents it; this is what its public clients sent and read while
it could be used without an account, until September 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import hashlib
import secrets
import string
import time
from typing import Any, ClassVar

from chatsdk.errors import ProviderError, quoted
from chatsdk.messages import Delta, Query, step
from chatsdk.providers.base import Fetch, merged, Provider, system_text
from chatsdk.records import frozen
from chatsdk.settings import setting, url
from chatsdk.wire import Body, malformed, ndjson, parse, Request

BASE = "https://prod-backend-k8s.flowgpt.com"
SITE = "https://flowgpt.com"
GREETING = {"role": "assistant", "content": "Hello, how can I help you today?"}
INSTRUCTION = "You are helpful assistant. Follow the user's instructions carefully."
LETTERS = string.ascii_lowercase + string.digits


@frozen(kw_only=True)
class FlowGpt(Provider):
    """A chat with FlowGPT, without an account unless an ``api_key`` is given."""

    name: ClassVar[str] = "flowgpt"
    title: ClassVar[str] = "FlowGPT"
    state: ClassVar[str] = "closed to clients without an account since about September 2024"
    alive: ClassVar[bool] = False
    page: ClassVar[str] = "https://flowgpt.com/chat"
    models: ClassVar[tuple[str, ...]] = (
        "gpt-3.5-turbo",
        "gpt-3.5-long",
        "gpt-4-turbo",
        "google-gemini",
        "claude-instant",
        "claude-v1",
        "claude-v2",
        "llama2-13b",
        "mythalion-13b",
        "pygmalion-13b",
        "chronos-hermes-13b",
        "Mixtral-8x7B",
        "Dolphin-2.6-8x7B",
    )
    aliases: ClassVar[Mapping[str, str]] = {
        "gemini": "google-gemini",
        "gemini-pro": "google-gemini",
    }
    parameters: ClassVar[Mapping[str, str]] = {"temperature": "temperature (0.7 if not given)"}
    end_mark: ClassVar[bool] = False
    may_be_empty: ClassVar[bool] = False

    base_url: str = url(None, BASE)
    model: str = setting(None, models[0])

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer, signed anew: a nonce is good for one request."""
        site = SITE if self.base_url == BASE else self.origin()
        protocol = {
            "Accept": "*/*",
            "Referer": f"{site}/",
            "Origin": site,
            "Authorization": f"Bearer {self.api_key or 'null'}",
        }
        headers = self.request_headers(protocol, query.extra_headers)
        return Request(
            method="POST",
            url=f"{self.base_url}/v3/chat-anonymous",
            headers={**_signature(headers), **headers},
            cookies=self.cookies,
            json=merged(self.payload(query), query.extra_body),
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: the last turn is the question, the others are its history."""
        *earlier, last = [
            {"role": message.role, "content": message.text}
            for message in query.messages
            if message.role != "system"
        ]
        model = self.model_of(query)
        return {
            "model": model,
            "nsfw": False,
            "question": last["content"],
            "history": [GREETING, *earlier],
            "system": system_text(query.messages) or INSTRUCTION,
            "temperature": 0.7 if query.temperature is None else query.temperature,
            "promptId": f"model-{model}",
            "documentIds": [],
            "chatFileDocumentIds": [],
            "generateImage": False,
            "generateAudio": False,
        }

    def check(self, query: Query) -> None:
        """Refuse messages without a question."""
        super().check(query)
        if all(message.role == "system" for message in query.messages):
            raise ValueError("flowgpt needs a message that is not a system message: the question")

    # What is read

    def events(self, body: Body) -> Iterator[Any]:
        """Yield what the lines say."""
        return ndjson(body, self.parse)

    def parse(self, frame: bytes) -> Any:
        """Return the JSON document of a line; the prefix of an event stream is tolerated."""
        return parse(frame.removeprefix(b"data:"))

    def decode(self, event: Any) -> Delta | None:
        """Return the text of an event of that name; others but errors are passed over."""
        if not isinstance(event, dict):
            raise malformed("a line is no JSON object", str(event))
        kind = event.get("event")
        if kind == "text":
            return _text(event)
        if kind == "error":
            raise _failure(event.get("data"), None)
        if kind is None and {"error", "message", "statusCode"} & event.keys():
            raise _failure(event.get("message") or event.get("error"), event.get("statusCode"))
        return None


def _signature(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the signing headers: the MD5 of time, nonce and the Authorization that is sent."""
    authorization = {name.lower(): value for name, value in headers.items()}["authorization"]
    timestamp = str(int(time.time()))
    nonce = secrets.token_hex(16)
    signed = f"{timestamp}-{nonce}-{authorization}".encode("latin-1")
    return {
        "x-flow-device-id": "f-" + "".join(secrets.choice(LETTERS) for _ in range(19)),
        "x-nonce": nonce,
        "x-timestamp": timestamp,
        "x-signature": hashlib.md5(signed, usedforsecurity=False).hexdigest(),
    }


def _text(event: Mapping[str, Any]) -> Delta | None:
    text = event.get("data", ...)
    if text is None:
        return None
    if not isinstance(text, str):
        raise malformed("a text event has no text", str(event))
    return step(text, raw=event) if text else None


def _failure(reason: Any, status: Any) -> ProviderError:
    return ProviderError(
        f"flowgpt failed inside its answer: {quoted(reason or 'no reason given')}",
        retryable=status in (429, 500, 502, 503, 504),
    )
