"""AiChatOnline: an anonymous id first, then one prompt; lines of JSON come back.

Source: the public client that worked in 2024-09; statuses of refusals are inferred.
"""

from __future__ import annotations

import re
import secrets
import threading

from .service import Chat, Document, phrase, Recorded, Refused, Service, unflatten
from .voice import compact, Voice

_CALLS = {("GET", "/api/v1/user/getUniqueId"): "id",
          ("POST", "/aichatonline/api/chat/gpt"): "chat"}
_CONVERSATION = re.compile("[A-Za-z0-9]{10,40}")  # real clients use 10, 24, 32 and 40 characters


class _Lines(Voice):
    noise = (b'{"code":200,"data":{}}\n', b'{"code":200,"data":{"message":null}}\n',
             b'{"code":200,"data":{"message":"","id":7},"msg":"success"}\n')
    malformed = b'{"code":200,"data":{"message":\n'
    error = b'{"code":500,"msg":"Internal Server Error","data":null}\n'

    def frame(self, piece: str) -> bytes:
        return compact({"code": 200, "data": {"message": piece}}) + b"\n"


class AiChatOnline(Service):
    """Ids at ``/api/v1/user/getUniqueId``, the chat at ``/aichatonline/api/chat/gpt``."""

    name = "aichatonline"
    stages = ("id",)

    def __init__(self, *, secure: bool = False) -> None:
        super().__init__(secure=secure)
        self._lock = threading.Lock()
        self._ids: set[str] = set()

    def stage(self, request: Recorded) -> str:
        """Tell the id request and the chat apart."""
        return _CALLS.get((request.method, request.path), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return the shape of the chat's own lines (inferred)."""
        return Document.of({"code": status, "msg": message or phrase(status), "data": None}, status)

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Give out an anonymous id; any fingerprint will do."""
        if stage != "id":
            raise Refused(self.error(404, request))
        if not request.query.get("canvas"):
            raise Refused(self.error(400, request, "canvas is missing"))
        visitor = secrets.token_hex(16)
        with self._lock:
            self._ids.add(visitor)
        return Document.of({"code": 200, "msg": "success", "data": visitor}, value="data")

    def chat(self, request: Recorded) -> Chat:
        """Check that the id was given out and that there is a prompt."""
        with self._lock:
            known = request.headers.get("UniqueId") in self._ids
        if not known:
            raise Refused(self.error(401, request))
        prompt = request.members.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise Refused(self.error(422, request, "prompt is missing"))
        conversation = request.members.get("conversationId")
        if not isinstance(conversation, str) or not _CONVERSATION.fullmatch(conversation):
            raise Refused(self.error(422, request, "conversationId is missing"))
        return Chat(_Lines(), unflatten(prompt), "application/json;charset=UTF-8")
