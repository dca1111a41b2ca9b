"""FlowGPT: one signed POST, lines of JSON with named events.

Source: the public client that worked until 2024-09; what it never saw (errors, the checks of
signature, nonce and time) is inferred.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import Any

from .service import Chat, Document, Messages, phrase, Recorded, Refused, said, Service
from .voice import compact, Voice

MODELS = ("gpt-3.5-turbo", "gpt-3.5-long", "gpt-4-turbo", "google-gemini", "claude-instant",
          "claude-v1", "claude-v2", "llama2-13b", "mythalion-13b", "pygmalion-13b",
          "chronos-hermes-13b", "Mixtral-8x7B", "Dolphin-2.6-8x7B")
_PATH = "/v3/chat-anonymous"
_WINDOW = 300.0  # seconds
_GREETING = "Hello, how can I help you today?"
_SYSTEM = "You are helpful assistant. Follow the user's instructions carefully."
_SHAPES = (("x-flow-device-id", re.compile("f-[a-z0-9]{19}")),
           ("x-nonce", re.compile("[0-9a-f]{32}")),
           ("x-timestamp", re.compile("[0-9]{1,12}")))


class _Lines(Voice):
    noise = (b'{"event":"metadata","data":{}}\n\n', b'{"event":"ping"}\n\n', b'{}\n\n')
    malformed = b'{"event":"text","data":\n\n'
    error = b'{"event":"error","data":"Internal Server Error"}\n\n'

    def frame(self, piece: str) -> bytes:
        return compact({"event": "text", "data": piece}) + b"\n\n"


class FlowGPT(Service):
    """The anonymous chat at ``/v3/chat-anonymous``."""

    name = "flowgpt"

    def __init__(self, *, secure: bool = False) -> None:
        super().__init__(secure=secure)
        self._lock = threading.Lock()
        self._nonces: set[str] = set()

    def stage(self, request: Recorded) -> str:
        """Name the one request there is."""
        return "chat" if (request.method, request.path) == ("POST", _PATH) else ""

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return the shape that the backend's framework gives errors (inferred)."""
        return Document.of({"statusCode": status, "message": message or phrase(status)}, status)

    def chat(self, request: Recorded) -> Chat:
        """Check signature, nonce, time and model."""
        if not self._is_signed(request):
            raise Refused(self.error(401, request))
        body = request.members
        if body.get("model") not in MODELS:
            raise Refused(self.error(400, request, "Unknown model"))
        if not isinstance(body.get("question"), str) or not isinstance(body.get("history"), list):
            raise Refused(self.error(400, request))
        return Chat(_Lines(), _messages(body), "text/plain; charset=utf-8")

    def _is_signed(self, request: Recorded) -> bool:
        headers = request.headers
        if not all(shape.fullmatch(headers.get(name, "")) for name, shape in _SHAPES):
            return False
        nonce, stamp = headers["x-nonce"], headers["x-timestamp"]
        text = f"{stamp}-{nonce}-{headers.get('Authorization', '')}"
        signature = hashlib.md5(text.encode("latin-1", "replace"), usedforsecurity=False)
        if headers.get("x-signature") != signature.hexdigest():
            return False
        if abs(time.time() - int(stamp)) > _WINDOW:
            return False
        with self._lock:
            fresh = nonce not in self._nonces
            self._nonces.add(nonce)
        return fresh


def _messages(body: dict[str, Any]) -> Messages:
    """Return what was said, without the two texts that the protocol puts there itself."""
    system, history = body.get("system", ""), said(body["history"])
    if history[:1] == [{"role": "assistant", "content": _GREETING}]:
        history = history[1:]
    first = [{"role": "system", "content": system}] if system not in ("", _SYSTEM) else []
    return said(first) + history + [{"role": "user", "content": body["question"]}]
