"""Aura: openchat-ui in front of the OpenChat model server; the answer is bare text.

Source: openchat-ui of 2024-05-25 (pages/api/chat.ts, models.ts) and what it was seen to send.
"""

from __future__ import annotations

from dataclasses import replace
import re
from typing import Any

from .service import Chat, Document, Messages, Recorded, Refused, said, Service
from .voice import Voice

MODELS = {"openchat_3.6": "OpenChat 3.6 (latest)",
          "openchat_v3.2_mistral": "OpenChat 3.5 (latest)"}
_LONGEST = 1000   # tokens of an answer; nothing in the request changes it
_HELD_BACK = 768  # tokens kept free for the answer when the history is trimmed
_CALLS = {("POST", "/api/chat"): "chat", ("POST", "/api/models"): "models"}


class _Text(Voice):
    """Raw UTF-8: no frames, hence no comments and no way to report an error but to hang up."""

    lines = False
    heartbeat = b""
    noise = ()
    malformed = b"\xff\xfe"

    def frame(self, piece: str) -> bytes:
        return piece.encode("utf-8", "replace")


class Aura(Service):
    """The chat at ``/api/chat``, the models at ``/api/models``."""

    name = "aura"
    stages = ("models",)
    special = frozenset({"upstream-error"})

    def stage(self, request: Recorded) -> str:
        """Name the two requests there are."""
        return _CALLS.get((request.method, request.path), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return the five bytes that openchat-ui says to anything wrong."""
        return Document(status, b"Error", "text/plain;charset=UTF-8")

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """List the models; redirect away from trailing slashes."""
        if stage == "models" and isinstance(request.json, dict):
            listed = [{"id": key, "name": name} for key, name in MODELS.items()]
            return Document.of(listed, type="text/plain;charset=UTF-8")
        if request.path.endswith("/") and request.path != "/":
            target = f"/{self.name}{request.path.rstrip('/')}"  # relative, as Next.js sends it
            raise Refused(Document(308, headers=(("Location", target),)))
        if request.path in ("/api/chat", "/api/models"):
            raise Refused(self.error(500, request))
        raise Refused(replace(Document(404, b"<html><body><h1>404</h1></body></html>"),
                              type="text/html; charset=utf-8"))

    def chat(self, request: Recorded) -> Chat:
        """Check the body; every fault is the same 500."""
        body = request.members
        if not _is_good(body):
            raise Refused(self.error(500, request))
        return Chat(_Text(), _seen(body), None, limit=_LONGEST)


def _is_good(body: dict[str, Any]) -> bool:
    model, messages = body.get("model"), body.get("messages")
    key, temperature = body.get("key") or "", body.get("temperature")
    return (isinstance(model, dict) and model.get("id") in MODELS
            and isinstance(messages, list) and len(said(messages)) == len(messages)
            and isinstance(key, str) and all(ord(c) < 256 for c in key)  # it becomes a header
            and (temperature is None or isinstance(temperature, (int, float))))


def _seen(body: dict[str, Any]) -> Messages:
    """Return what the model sees: the newest messages that fit into the client's tokenLimit."""
    prompt = body.get("prompt") or ""
    limit = body["model"].get("tokenLimit")
    counted = _tokens(prompt)
    kept: Messages = []
    for message in reversed(said(body["messages"])):
        counted += _tokens(message["content"])
        if isinstance(limit, (int, float)) and counted + _HELD_BACK > limit:
            break
        kept.insert(0, message)
    return ([{"role": "system", "content": prompt}] if prompt.strip() else []) + kept


def _tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))
