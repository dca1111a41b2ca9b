"""GigaChat: a token of 30 minutes first, then a chat in server-sent events or one document.

Source: Sber's developer pages and recordings of the official SDK's test suite (API v1, 2026-01).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
import re
import secrets
import threading
import time
from typing import Any, Optional
from urllib.parse import parse_qs
import uuid

from .gigachat_checks import offered, problem
from .scripts import words
from .service import Chat, Document, Pairs, phrase, Recorded, Refused, said, Service
from .vectors import vector
from .voice import compact, Voice, Whole

Keys = Optional[Mapping[str, Sequence[str]]]

SCOPES = ("GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP")
CHATS = ("GigaChat", "GigaChat-2", "GigaChat-2-Max", "GigaChat-2-Max-preview", "GigaChat-2-Pro",
         "GigaChat-2-Pro-preview", "GigaChat-2-preview", "GigaChat-Max", "GigaChat-Max-preview",
         "GigaChat-Plus", "GigaChat-Pro", "GigaChat-Pro-preview", "GigaChat-preview",
         "GigaChat-3-Ultra")
OTHERS = {"GigaFilter": "filter", "GigaCheckClassification": "aicheck",
          "GigaCheckDetection": "aicheck", "Embeddings": "embedder", "Embeddings-2": "embedder",
          "EmbeddingsGigaR": "embedder"}
_ACCEPTED = (*CHATS, "GigaChat:latest")  # the name of 2024, in no list of today
_VERSION = "2.0.28.2"
_WIDTH = 1024  # numbers of a vector
_BAD_KEY = "credentials doesn't match db data"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_KEY = re.compile(r"[\w+/=.-]+", re.ASCII)
_JSON = "application/json; charset=utf-8"


class _Frames(Voice):
    """Frames as recorded: the role in the first delta only, no nulls, usage in the last."""

    heartbeat = b": ping\n\n"
    noise = (
        b"event: message\n",
        b"id: 1\nretry: 1000\n",
        b'data: {"choices":[],"created":0,"model":"GigaChat","object":"chat.completion"}\n\n',
        b'data: {"choices":[{"delta":{"content":"12","role":"function_in_progress",'
        b'"name":"text2image"},"index":0}],"created":0,"model":"GigaChat",'
        b'"object":"chat.completion"}\n\n',
    )
    malformed = b'data: {"choices":[{"delta":{"content":\n\n'
    error = b'data: {"status":500,"message":"Internal Server Error"}\n\n'

    def __init__(self, model: str, prompt: int, cached: int) -> None:
        super().__init__()
        self.model, self.prompt, self.cached = model, prompt, cached
        self.created = int(time.time())
        self.role = {"role": "assistant"}

    def frame(self, piece: str) -> bytes:
        """Return an event with a delta."""
        nulls = {"finish_reason": None} if self.scenario == "null-finish" else {}
        return self.event({"delta": self.delta(piece), "index": 0, **nulls})

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the events of a function call, the finish reason with usage, and the mark."""
        frames = []
        if self.scenario == "last-text" and not last and self.tool is None:
            last = " The end."
        elif last:
            frames, last = [self.text(last)], ""
        if self.tool:
            name, values = self.tool
            call = {"function_call": {"name": name, "arguments": values},
                    "functions_state_id": str(uuid.uuid4())}
            frames.append(self.event({"delta": {**self.delta(""), **call}, "index": 0}))
            reason = "function_call"
        if self.scenario != "no-finish":
            self.said.append(last)
            choice = {"delta": {"content": last}, "index": 0, "finish_reason": reason}
            frames.append(self.event(choice, usage=self.usage()))
        return [*frames, b"data: [DONE]\n\n"]

    def delta(self, content: str) -> dict[str, object]:
        """Return a delta; the first one names the role."""
        role, self.role = self.role, {}
        return {"content": content, **role}

    def event(self, choice: dict[str, object], **rest: object) -> bytes:
        """Return an event with one choice."""
        return b"data: %b\n\n" % compact({"choices": [choice], **self.about(), **rest})

    def about(self) -> dict[str, object]:
        """Return what every event and document says."""
        return {"created": self.created, "model": self.model, "object": "chat.completion"}

    def usage(self) -> dict[str, int]:
        """Return the counts; a word is taken for a token."""
        completion = len([piece for piece in self.said if piece]) or int(self.tool is not None)
        return {"prompt_tokens": self.prompt, "completion_tokens": completion,
                "total_tokens": self.prompt + completion,
                "precached_prompt_tokens": self.cached}


class _Document(Whole):
    """The answer without streaming."""

    def __init__(self, frames: _Frames) -> None:
        super().__init__()
        self.frames = frames
        self.error = b'{"status":500,"message":"Internal Server Error"}\n'

    def document(self, reason: str) -> bytes:
        """Return the document with the whole message."""
        self.frames.said, self.frames.tool = self.said, self.tool
        message: dict[str, object] = {"content": "".join(self.said), "role": "assistant"}
        if self.tool:
            message["function_call"] = {"name": self.tool[0], "arguments": self.tool[1]}
            message["functions_state_id"] = str(uuid.uuid4())
            reason = "function_call"
        choice: dict[str, object] = {"message": message, "index": 0, "finish_reason": reason}
        if self.scenario == "no-finish":
            del choice["finish_reason"]
        return compact({"choices": [choice], **self.frames.about(), "usage": self.frames.usage()})


class GigaChat(Service):
    """The token endpoint at ``/api/v2/oauth`` and the API below ``/api/v1``."""

    name = "gigachat"
    stages = ("token", "models", "embeddings", "count")
    special = frozenset({"no-finish", "null-finish", "last-text", "function-call", "seconds",
                         "tok"})

    def __init__(self, *, secure: bool = False, token_life: float = 1800.0,
                 keys: Keys = None) -> None:
        super().__init__(secure=secure)
        self.token_life = token_life
        self.keys = keys
        self.tokens_issued = 0
        self._lock = threading.Lock()
        self._ends: dict[str, float] = {}
        self._dropped: dict[str, str] = {}
        self._sessions: dict[str, int] = {}

    def fields(self, root: str) -> dict[str, Any]:
        """Return the two URLs: tokens come from another host in reality."""
        return {"base_url": f"{root}/api/v1", "auth_url": f"{root}/api/v2/oauth"}

    def drop_tokens(self, message: str) -> None:
        """Refuse every token given out so far, with this message."""
        with self._lock:
            self._dropped.update(dict.fromkeys(self._ends, message))
            self._ends.clear()

    def stage(self, request: Recorded) -> str:
        """Tell tokens, chats and models apart, by method and path."""
        call = (request.method, request.path)
        known = {("POST", "/api/v2/oauth"): "token", ("POST", "/api/v1/chat/completions"): "chat",
                 ("POST", "/api/v1/embeddings"): "embeddings",
                 ("POST", "/api/v1/tokens/count"): "count"}
        models = request.method == "GET" and re.fullmatch("/api/v1/models(/.+)?", request.path)
        return known.get(call, "models" if models else "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return ``{"code"}`` of the token endpoint or ``{"status"}`` of the API."""
        if self.stage(request) == "token":
            code, text = (6, _BAD_KEY) if status == 401 else (status, phrase(status))
            return Document.of({"code": code, "message": message or text}, status)
        text = {429: "Too many requests", 413: "Payload too large"}.get(status, phrase(status))
        body = compact({"status": status, "message": message or text}) + b"\n"
        return Document(status, body, _JSON, _ids(request))

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Give out a token or tell of models."""
        if stage == "token":
            return self._token(request, scenario)
        answers = {"models": self._models, "embeddings": self._embed, "count": self._count}
        if stage in answers:
            self._authorize(request)
            return answers[stage](request)
        raise Refused(self.error(404, request, "Not Found"))

    def _token(self, request: Recorded, scenario: str) -> Document:
        if not _UUID.fullmatch(request.headers.get("RqUID", "")):
            raise _no_token(400, 2, "RqUID is missing or no uuid")
        self._check_key(request)
        token = _jwe()
        end = time.time() + self.token_life
        with self._lock:
            self._ends[token] = end
            self.tokens_issued += 1
        expires = int(end) if scenario == "token-seconds" else int(end * 1000)
        names = ("tok", "exp") if scenario == "token-tok" else ("access_token", "expires_at")
        cache = (("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate"),)
        return Document.of(dict(zip(names, (token, expires))), headers=cache, value=names[0])

    def _check_key(self, request: Recorded) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("basic", "bearer") or not _KEY.fullmatch(key):
            raise _no_token(400, 4, "Can't decode 'Authorization' header")
        form = request.headers.get("Content-Type", "").startswith(
            "application/x-www-form-urlencoded")
        scope = parse_qs(request.body.decode("latin-1")).get("scope", [""])[0] if form else ""
        if not scope:
            raise _no_token(400, 5, "scope is empty")
        if scope not in SCOPES:
            raise _no_token(400, 1, "scope data format invalid")
        if self.keys is None:
            return
        if key not in self.keys:
            raise _no_token(401, 6, _BAD_KEY)
        if scope not in self.keys[key]:
            raise _no_token(400, 7, "scope from db not fully includes consumed scope")

    def _authorize(self, request: Recorded) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        with self._lock:
            end = self._ends.get(token, 0.0) if scheme.lower() == "bearer" else 0.0
            message = self._dropped.get(token, "Token has expired" if end else "Unauthorized")
        if end <= time.time():
            raise Refused(self.error(401, request, message))

    def _models(self, request: Recorded) -> Document:
        kinds = {**dict.fromkeys(CHATS, "chat"), **OTHERS}
        listed = [{"id": name, "object": "model", "owned_by": "salutedevices", "type": kind}
                  for name, kind in kinds.items()]
        wanted = request.path.removeprefix("/api/v1/models").strip("/")
        if not wanted:
            listing = {"object": "list", "data": listed}
            return Document.of(listing, type=_JSON, headers=_ids(request), value="data")
        for model in listed:
            if model["id"] == wanted:
                return Document.of(model, type=_JSON, headers=_ids(request), value="id")
        raise Refused(self.error(404, request, "No such model"))

    def _texts(self, request: Recorded, kinds: Sequence[str]) -> list[str]:
        """Return the texts of a request for vectors or counts, if its model is among those."""
        body = request.members
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise Refused(self.error(422, request, "Invalid params: input must be strings"))
        if body.get("model") not in kinds:
            raise Refused(self.error(404, request, "No such model"))
        return texts

    def _embed(self, request: Recorded) -> Document:
        embedders = [name for name, kind in OTHERS.items() if kind == "embedder"]
        data = [{"object": "embedding", "index": n, "embedding": vector(text, _WIDTH),
                 "usage": {"prompt_tokens": len(words(text)) + 2}}
                for n, text in enumerate(self._texts(request, embedders))]
        return Document.of({"object": "list", "model": request.members["model"], "data": data},
                           type=_JSON, headers=_ids(request), value="data")

    def _count(self, request: Recorded) -> Document:
        counted = [{"object": "tokens", "tokens": len(words(text)), "characters": len(text)}
                   for text in self._texts(request, (*_ACCEPTED, *OTHERS))]
        return Document.of(counted, type=_JSON, headers=_ids(request))

    def chat(self, request: Recorded) -> Chat:
        """Check token, shape, values and model, in this order."""
        self._authorize(request)
        if not isinstance(request.json, dict):
            raise Refused(self.error(400, request))
        body = request.members
        if wrong := problem(body):
            raise Refused(self.error(422, request, f"Invalid params: {wrong}"))
        if body["model"] not in _ACCEPTED:
            raise Refused(self.error(404, request, "No such model"))
        prompt = sum(len(words(m.get("content") or "")) + 3 for m in body["messages"])
        frames = _Frames(f"{body['model']}:{_VERSION}", prompt, self._cached(request, prompt))
        stream = bool(body.get("stream"))
        tool, forced = offered(body)
        return Chat(frames if stream else _Document(frames), said(body["messages"]),
                    "text/event-stream" if stream else _JSON, _ids(request),
                    limit=body.get("max_tokens"), tool=tool, forced=forced,
                    schema=(body.get("response_format") or {}).get("schema"))

    def _cached(self, request: Recorded, prompt: int) -> int:
        """Return how many tokens are cached: the last prompt of the client's session."""
        session = request.headers.get("X-Session-ID", "")
        with self._lock:
            cached = self._sessions.get(session, 2)
            if session:
                self._sessions[session] = prompt
        return min(cached, prompt)


def _ids(request: Recorded) -> Pairs:
    """Return the headers of every API answer; the client's own ids come back."""
    ids = ((name, request.headers.get(name) or str(uuid.uuid4()))
           for name in ("X-Request-Id", "X-Session-Id"))
    return (("Server", "SynGX"), ("Allow", "GET, POST"), *ids)


def _no_token(status: int, code: int, message: str) -> Refused:
    return Refused(Document.of({"code": code, "message": message}, status))


def _jwe() -> str:
    """Return an opaque token of the real one's shape and length: five parts, 1233 characters."""
    head = compact({"enc": "A256CBC-HS512", "alg": "RSA-OAEP-256"})
    parts = [head, *(secrets.token_bytes(size) for size in (256, 16, 572, 32))]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
