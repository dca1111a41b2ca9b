"""H2o: chat-ui of June 2023 in front of text-generation-inference (TGI) 0.9.1.

Settings, a conversation, a generation in it, and its deletion, in the session of a cookie.
Source: both projects' source of that time, and what they were seen to send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
import re
import secrets
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
import uuid

from .h2o_tgi import check, Generation, given, untyped
from .service import Chat, Document, Messages, phrase, Recorded, Refused, Service, unflatten

MODELS = ("h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1",
          "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-7b-v3",
          "h2oai/h2ogpt-gm-oasst1-en-2048-open-llama-13b")
COOKIE = "hf-chat"
_YEAR = 365 * 24 * 3600
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_SAFE = ("GET", "HEAD", "OPTIONS")
_MISSING = "Conversation not found"
_PATHS = (("POST", "/settings", "settings"), ("POST", "/conversation", "create"),
          ("POST", "/conversation/[^/]+", "chat"), ("DELETE", "/conversation/[^/]+", "delete"),
          ("POST", "/conversation/[^/]+/stop-generating", "stop"))


@dataclass
class _Conversation:
    session: str
    model: str
    messages: Messages = field(default_factory=list)
    stop: bool = False


class H2o(Service):
    """Conversations that belong to sessions, and the gates in front of them.

    Args:
        welcome: Refuse sessions that have not accepted the welcome dialogue.
    """

    name = "h2o"
    stages = ("settings", "create", "stop", "delete")

    def __init__(self, *, secure: bool = False, welcome: bool = True) -> None:
        super().__init__(secure=secure)
        self.welcome = welcome
        self._lock = threading.Lock()
        self._accepted: set[str] = set()
        self._conversations: dict[str, _Conversation] = {}
        self._stopped: list[str] = []

    @property
    def ids(self) -> list[str]:
        """The conversations that exist now."""
        with self._lock:
            return list(self._conversations)

    @property
    def stopped(self) -> list[str]:
        """The conversations for which stop-generating was called, in order."""
        with self._lock:
            return list(self._stopped)

    def stage(self, request: Recorded) -> str:
        """Tell the five requests of a chat apart, by method and path."""
        return next((stage for method, path, stage in _PATHS
                     if request.method == method and re.fullmatch(path, request.path)), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return SvelteKit's error: JSON or a page by Accept, and a form's own shape."""
        text = message or ("Internal Error" if status == 500 else phrase(status))
        if self.stage(request) == "settings" and not _is_page(request):
            return Document.of({"type": "error", "error": {"message": text}}, status)
        if _prefers_html(request):
            page = f"<!DOCTYPE html><html><body><h1>{status}</h1><p>{text}</p></body></html>"
            return Document(status, page.encode(), "text/html")
        return Document.of({"message": text}, status)

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Answer everything but the generation, behind the gates."""
        session = self._enter(request)
        answers: dict[str, Callable[[Recorded, str], Document]] = {
            "settings": self._settings, "create": self._create, "stop": self._stop,
            "delete": self._delete}
        if stage not in answers:
            raise Refused(self.error(404, request, "Not Found"))
        document = answers[stage](request, session)
        return replace(document, headers=(*document.headers, self._cookie(session)))

    def _enter(self, request: Recorded) -> str:
        """Let a request through the gates and return its session, maybe a new one."""
        kind = request.headers.get("Content-Type", "").split(";")[0]
        if request.method == "POST" and kind in _FORMS:
            referer = request.headers.get("Referer")
            if not referer:
                raise _stopped_at_gate(
                    403, "Non-JSON form requests need to have a referer", request)
            if not urlsplit(referer).netloc:
                raise Refused(self.error(500, request))
            if _origin(referer) != request.origin:
                raise _stopped_at_gate(403, "Invalid referer for POST request", request)
        session = _session(request)
        open_to_all = request.method in _SAFE or request.path == "/settings"
        if self.welcome and not open_to_all and session not in self._accepted:
            raise _stopped_at_gate(405, "You need to accept the welcome modal first", request)
        return session or str(uuid.uuid4())

    def _cookie(self, session: str) -> tuple[str, str]:
        expires = formatdate(time.time() + _YEAR, usegmt=True)
        # Over plain HTTP no Secure: cookie jars would not send it back, not even to loopback.
        rest = "Secure; SameSite=None" if self.secure else "SameSite=Lax"
        return "Set-Cookie", f"{COOKIE}={session}; Path=/; Expires={expires}; HttpOnly; {rest}"

    def _settings(self, request: Recorded, session: str) -> Document:
        form = parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        if form.get("activeModel", [MODELS[0]])[0] not in MODELS:
            raise Refused(self.error(500, request))
        if form.get("ethicsModalAccepted", [""])[0]:  # any text is yes, "false" too
            with self._lock:
                self._accepted.add(session)
        location = request.headers.get("Referer") or f"{request.origin}/{self.name}/"
        if _is_page(request):
            return Document(303, headers=(("Location", location),))
        return Document.of({"type": "redirect", "status": 303, "location": location})

    def _create(self, request: Recorded, session: str) -> Document:
        if request.members.get("model") not in MODELS:
            raise Refused(self.error(500, request))
        made = secrets.token_hex(12)
        with self._lock:
            self._conversations[made] = _Conversation(session, request.members["model"])
        return Document.of({"conversationId": made}, value="conversationId")

    def _stop(self, request: Recorded, session: str) -> Document:
        found, conversation = self._find(request, session)
        with self._lock:
            conversation.stop = True
            self._stopped.append(found)
        return Document()

    def _delete(self, request: Recorded, session: str) -> Document:
        found, _ = self._find(request, session)
        with self._lock:
            self._conversations.pop(found, None)
        return Document()

    def _find(self, request: Recorded, session: str) -> tuple[str, _Conversation]:
        wanted = request.path.split("/")[2]
        if not re.fullmatch("[0-9a-fA-F]{24}", wanted):
            raise Refused(self.error(500, request))
        with self._lock:
            conversation = self._conversations.get(wanted.lower())
        if conversation is None or conversation.session != session:
            raise Refused(self.error(404, request, _MISSING))
        return wanted.lower(), conversation

    def chat(self, request: Recorded) -> Chat:
        """Check a generation as chat-ui does; what TGI minds is told inside the stream."""
        session = self._enter(request)
        if _prefers_html(request):
            raise Refused(self.error(405, request))  # taken for a form of the page
        _, conversation = self._find(request, session)
        body = request.members
        inputs = _inputs(body)
        if not inputs:
            raise Refused(self.error(500, request))
        parameters = body.get("parameters") or {}
        if problem := untyped(parameters):
            raise Refused(Document(422, problem.encode(), "text/plain; charset=utf-8"))
        return self._generation(session, conversation, inputs, given(parameters),
                                stream=bool(body.get("stream")))

    def _generation(self, session: str, conversation: _Conversation, inputs: str,
                    parameters: dict[str, Any], *, stream: bool) -> Chat:
        turns = [*conversation.messages, *unflatten(inputs)]
        conversation.stop = False
        voice = Generation(parameters, check(inputs, parameters, stream=stream), stream=stream)
        if voice.refused and not stream:  # a stream tells it inside a 200
            raise Refused(Document.of(voice.refusal, 422))
        headers = (("Cache-Control", "no-cache"), ("x-compute-type", "gpu+optimized"),
                   ("x-compute-characters", str(len(inputs))), ("X-Accel-Buffering", "no"))

        def done(finished: bool) -> None:
            # An answer that broke is not kept; one whose reader left is, as it was generated.
            if finished and not voice.refused:
                text = "".join(voice.said)
                conversation.messages += [{"role": "user", "content": inputs},
                                          {"role": "assistant", "content": text}]

        return Chat(voice, turns, voice.type, (*headers, self._cookie(session)),
                    limit=parameters.get("max_new_tokens", 20),
                    stops=tuple(parameters.get("stop") or ()),
                    stopped=lambda: conversation.stop, done=done)


def _inputs(body: dict[str, Any]) -> str:
    """Return the text to answer, or "" if chat-ui's check of the body would fail."""
    inputs, options = body.get("inputs"), body.get("options")
    if not isinstance(inputs, str) or not isinstance(options, dict):
        return ""
    for name in ("id", "response_id"):
        if name in options and not _is_uuid(options[name]):
            return ""
    return inputs.strip()


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and bool(
        re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value, re.I))


def _stopped_at_gate(status: int, text: str, request: Recorded) -> Refused:
    kinds = (request.headers.get("Accept", ""), request.headers.get("Content-Type", ""))
    if any("application/json" in kind for kind in kinds):
        return Refused(Document.of({"error": text}, status))
    return Refused(Document(status, text.encode(), "text/plain"))


def _session(request: Recorded) -> str:
    try:
        cookies = SimpleCookie(request.headers.get("Cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _weight(accept: str, kind: str) -> float:
    """Return the q of a type in an Accept header: of its most exact entry, 0 if it has none."""
    best = (-1, 0.0)
    for entry in accept.split(","):
        name, *parameters = [part.strip() for part in entry.split(";")]
        if name not in (kind, f"{kind.split('/')[0]}/*", "*/*"):
            continue
        q = next((float(p[2:]) for p in parameters if re.fullmatch(r"q=[\d.]+", p)), 1.0)
        best = max(best, (2 - name.count("*"), q))
    return best[1]


def _prefers_html(request: Recorded) -> bool:
    accept = request.headers.get("Accept", "*/*")
    html = _weight(accept, "text/html")
    return html > _weight(accept, "application/json")


def _is_page(request: Recorded) -> bool:
    """Tell whether a form gets a page's answer: JSON is not admitted, or liked less than HTML."""
    accept = request.headers.get("Accept", "*/*")
    return _prefers_html(request) or not _weight(accept, "application/json")
