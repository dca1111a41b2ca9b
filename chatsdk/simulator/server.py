"""The simulator: all services on one loopback port, and a record of what they were asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
import ipaddress
import logging
import os
import ssl
import threading
import time
from types import MappingProxyType, TracebackType
from typing import Any, Union
from urllib.parse import parse_qsl, unquote, urlsplit

from .aichatonline import AiChatOnline
from .anthropic import Anthropic
from .aura import Aura
from .connection import Desk, Received
from .flowgpt import FlowGPT
from .gemini import Gemini
from .gigachat import GigaChat, Keys
from .h2o import H2o
from .listener import Listener
from .ollama import Ollama
from .openai import OpenAI
from .openai_dialects import COMPATIBLE
from .openai_responses import OpenAIResponses
from .playbill import NORMAL, Playbill, Scenarios
from .responses import refusal, Reply, Response, show, tell
from .scenarios import Scenario
from .service import Document, Recorded, Refused, Service
from .tgi import Tgi

log = logging.getLogger(__name__)

#: One line for each service; the name is the mount prefix.
_CLASSES: tuple[type[Service], ...] = (
    AiChatOnline, Aura, FlowGPT, GigaChat, H2o,
    Anthropic, Gemini,
    Ollama,
    OpenAI, OpenAIResponses,
    Tgi,
)
SERVICES: tuple[str, ...] = tuple(service.name for service in _CLASSES)
#: Which other requests scenarios can be aimed at: ``"token-500"``, ``"delete-stall"``.
KINDS: Mapping[str, tuple[str, ...]] = {service.name: service.stages for service in _CLASSES}
_PATIENCE = 5.0

Path = Union[str, "os.PathLike[str]"]


class Simulator:
    """A loopback server that speaks the real protocol of every service.

    Each service is mounted under its name: ``http://127.0.0.1:<port>/h2o`` and so on; so is each
    of those that speak nearly as OpenAI does, such as ``groq``. Use it in a ``with`` block, or
    call `start` and `stop`.

    Args:
        host: A loopback address; nothing else is accepted.
        port: 0 takes a free one.
        reply: What is answered. A text is sent word by word; an iterable of texts is sent piece
            by piece, the same for each answer; a callable gets the messages (dicts with ``role``
            and ``content``) and returns one of the two. None: a small brain talks.
        chunk_delay: Pause after each piece of text, in seconds.
        scenario: The name of the scenario for all requests, or a mapping of service to name.
        tls: Paths of certificate and key in PEM, and of the CA's certificate if there is one.
        token_life: How long a gigachat token is accepted, in seconds.
        keys: Authorization keys that gigachat knows, each with its scopes. None accepts any.
        welcome: Whether h2o wants its welcome dialogue accepted first.

    Raises:
        ValueError: The host is no loopback address, or a name does not exist.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, reply: Reply = None,
                 chunk_delay: float = 0.0, scenario: Scenarios = "normal",
                 tls: tuple[Path, Path] | tuple[Path, Path, Path] | None = None,
                 token_life: float = 1800.0, keys: Keys = None, welcome: bool = True) -> None:
        self._host = _loopback(host)
        self._port = port
        self._reply = reply if reply is None or callable(reply) or isinstance(reply, str) \
            else tuple(reply)
        self._chunk_delay = chunk_delay
        self._tls = tls
        self._lock = threading.Lock()
        self._desk = Desk(self._answer, chunk_delay)
        self._listener: Listener | None = None
        self._last: Listener | None = None  # for counts that are asked for after stop()
        self._url = ""
        self._requests: list[Recorded] = []
        secure = tls is not None
        self._gigachat = GigaChat(secure=secure, token_life=token_life, keys=keys)
        self._h2o = H2o(secure=secure, welcome=welcome)
        made: dict[str, Service] = {s.name: s for s in (self._gigachat, self._h2o)}
        every = (*_CLASSES, *COMPATIBLE)
        self._services = {s.name: made.get(s.name) or s(secure=secure) for s in every}
        self._playbill = Playbill(self._services.values())
        self.scenario = scenario

    def start(self) -> Simulator:
        """Begin to listen; does nothing if it does already."""
        with self._lock:
            if self._listener is None:
                self._desk = Desk(self._answer, self._chunk_delay)
                self._listener = Listener(self._host, self._port, self._desk, _context(self._tls))
                self._last = self._listener
                port = self._listener.server_address[1]
                host = f"[{self._host}]" if ":" in self._host else self._host
                self._url = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self

    def stop(self) -> None:
        """Close the port and every connection and end all threads; what was recorded stays."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close(_PATIENCE)

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, or with https.

        Raises:
            RuntimeError: It was never started.
        """
        if not self._url:
            raise RuntimeError("the simulator has no address before start() or a with block")
        return self._url

    def fields(self, service: str) -> dict[str, Any]:
        """Return the client's settings for a service: its URLs and, with TLS, `verify`."""
        fields = self._services[self._playbill.known(service)].fields(f"{self.url}/{service}")
        if self._tls:
            fields["verify"] = os.fspath(self._tls[-1] if len(self._tls) > 2 else self._tls[0])
        return fields

    @property
    def requests(self) -> list[Recorded]:
        """What was received so far, in order of arrival; a copy."""
        with self._lock:
            return list(self._requests)

    @property
    def scenario(self) -> Scenarios:
        """The scenario of all requests for which none was set by `play`.

        A mapping sets it for each service; services that are not in it play ``"normal"``.
        """
        return self._scenario

    @scenario.setter
    def scenario(self, value: Scenarios) -> None:
        self._playbill.default(value)
        self._scenario: Scenarios = value if isinstance(value, str) else dict(value)

    def play(self, name: str, service: str | None = None, times: int = 1) -> None:
        """Let the next requests follow a scenario.

        A scenario is used up by requests that the service accepts; one that it refuses (401 for
        an old token, 404 for an unknown model) does not count.

        Args:
            name: See `chatsdk.simulator.SCENARIOS`.
            service: Only requests to this service; None for any.
            times: How many requests.

        Raises:
            ValueError: There is no such scenario or service, or the service can't play it.
        """
        self._playbill.play(name, service, times)

    @property
    def tokens_issued(self) -> int:
        """How many tokens gigachat has given out."""
        return self._gigachat.tokens_issued

    def revoke_tokens(self) -> None:
        """Make gigachat refuse, with 401, every token given out so far."""
        self._gigachat.drop_tokens("Unauthorized")

    def expire_tokens(self) -> None:
        """Let the life of every gigachat token given out so far be over: the API answers 401."""
        self._gigachat.drop_tokens("Token has expired")

    @property
    def conversations(self) -> list[str]:
        """Ids of the h2o conversations that exist now."""
        return self._h2o.ids

    @property
    def stopped_generations(self) -> list[str]:
        """Ids of the h2o conversations for which stop-generating was called."""
        return self._h2o.stopped

    @property
    def connections(self) -> int:
        """How many connections were accepted since the start."""
        return self._last.accepted if self._last else 0

    @property
    def abandoned(self) -> int:
        """How many chats lost their client before the answer was complete, since the start."""
        return self._desk.abandoned

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Wait until no request is being answered; return whether that came within `timeout` s."""
        desk = self._desk
        with desk.changed:
            return desk.changed.wait_for(lambda: desk.busy == 0, timeout)

    def _answer(self, received: Received) -> Response:
        # A target is a path, but for proxies a whole URL; "//x" would be taken for a host.
        target = received.target
        parts = urlsplit(f"http://host{target}" if target.startswith("/") else target)
        whole = unquote(parts.path)
        name, _, path = whole.lstrip("/").partition("/")
        service = self._services.get(name)
        recorded = Recorded(
            name if service else "", received.method, f"/{path}" if service else whole,
            MappingProxyType(dict(parse_qsl(parts.query, keep_blank_values=True))),
            received.headers, received.body, "normal", time.monotonic(), self._origin(received))
        with self._lock:
            index = len(self._requests)
            self._requests.append(recorded)
        if service is None:
            text = f"Nothing here; the services are: {', '.join(SERVICES)}\n"
            return show(Document(404, text.encode(), "text/plain"), NORMAL)
        try:
            return self._respond(service, recorded, index)
        except Refused as refused:
            return show(refused.document, NORMAL)
        except Exception:
            log.exception("no answer could be made")  # a reply of the user's that raises
            return show(service.error(500, recorded), NORMAL)

    def _respond(self, service: Service, request: Recorded, index: int) -> Response:
        stage = service.stage(request)
        chat = service.chat(request) if stage == "chat" else None
        played = self._claim(service, stage, index)
        if played.status:
            return show(refusal(played, service, request), replace(played, value=""))
        if chat is not None:
            return tell(chat, played, self._reply)
        return show(service.other(request, stage, played.name), played)

    def _claim(self, service: Service, stage: str, index: int) -> Scenario:
        """Return the scenario of a request and note it in the record."""
        chosen = self._playbill.claim(service, stage)
        with self._lock:
            self._requests[index] = replace(self._requests[index], scenario=chosen.name)
        return chosen

    def _origin(self, received: Received) -> str:
        host = received.headers.get("host") or urlsplit(self._url).netloc
        return f"{'https' if self._tls else 'http'}://{host}"


def _loopback(host: str) -> str:
    try:
        safe = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        safe = False
    if not safe:
        raise ValueError(f"the simulator listens on this machine only, not on {host!r}")
    return "127.0.0.1" if host == "localhost" else host


def _context(tls: Iterable[Path] | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    certificate, key, *_ = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
