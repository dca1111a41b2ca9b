"""From a service's answer and a scenario to what the connection has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from email.utils import formatdate
import json
import time
from typing import Union

from .brain import example, think
from .scenarios import Scenario
from .scripts import normal, Speech, Step, Steps, words
from .service import Chat, Document, Messages, Pairs, phrase, Recorded, Service
from .voice import compact, Voice, Whole

Said = Union[str, Iterable[str]]
Reply = Union[None, Said, Callable[[Messages], Said]]

_DATE_AHEAD = 2.0
_CALLING = ("function-call", "parallel-calls", "whole-calls")
_UPSTREAM = "Rate limit reached for requests"
_CHALLENGE = b"""<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title></head>
<body><div id="cf-please-wait"><p id="cf-spinner-please-wait">Checking your browser</p></div>
<noscript>Enable JavaScript and cookies to continue</noscript></body></html>
"""
_CLOUDFLARE: Pairs = (("Server", "cloudflare"), ("CF-RAY", "8c0ffee0decafbad-AMS"),
                      ("cf-mitigated", "challenge"), ("Cache-Control", "private, no-store"))


@dataclass
class Response:
    """One answer, ready to be sent.

    Attributes:
        status, reason, headers: The head; an empty reason is the standard one.
        steps: The body.
        framing: ``"chunked"``, ``"length"`` or ``"close"``.
        before: Steps before the head.
        gzip: Compress the body.
        hang_up: Close the connection afterwards.
        stopped: Asked before each chunk; True breaks the body off.
        done: Called once at the end: True after the last step or when the client left early,
            False when the scenario broke the answer off.
    """

    status: int
    headers: Pairs
    steps: Steps
    framing: str = "chunked"
    reason: str = ""
    before: tuple[Step, ...] = ()
    gzip: bool = False
    hang_up: bool = False
    stopped: Callable[[], bool] = bool
    done: Callable[[bool], object] = bool
    chat: bool = False


def say(reply: Reply, chat: Chat) -> Speech:
    """Return the words of an answer.

    Texts are cut into words and kept within the request's limits; pieces are taken as given.
    """
    found = reply(chat.messages) if callable(reply) else reply
    if found is None:
        found = think(chat.messages) if chat.schema is None else \
            compact(example(chat.schema, chat.messages)).decode()
    if not isinstance(found, str):
        return Speech(iter(found))
    for stop in chat.stops:
        if stop and stop in found:
            end = found.index(stop) + (len(stop) if chat.keeps_stop else 0)
            *first, last = words(found[:end]) or [""]
            return Speech(iter(first), "stop_sequence", last, stop)
    pieces = words(found)
    if chat.limit is not None and len(pieces) > chat.limit > 0:
        return Speech(iter(pieces[:chat.limit - 1]), "length", pieces[chat.limit - 1])
    return Speech(iter(pieces))


def tell(chat: Chat, scenario: Scenario, reply: Reply) -> Response:
    """Return the answer to a chat request, told by the scenario's script."""
    asked = chat.forced or reply is None or scenario.name in _CALLING
    called = chat.tool and asked
    chat.voice.scenario = scenario.name
    if called:
        chat.voice.tool = chat.tool
    speech = Speech(iter(())) if called else say(reply, chat)
    chat.voice.stop = speech.stop
    response = _staged(scenario, 200, chat.type, chat.headers, chat.voice, speech)
    response.stopped, response.done, response.chat = chat.stopped, chat.done, True
    return response


def show(document: Document, scenario: Scenario) -> Response:
    """Return a document as an answer; the scenario's script gets its body as one frame."""
    voice = Whole(_changed(document, scenario.value))
    response = _staged(scenario, document.status, document.type, document.headers, voice,
                       Speech(iter(())))
    response.reason = document.reason
    return response


def _staged(scenario: Scenario, status: int, type: str | None, headers: Pairs, voice: Voice,
            speech: Speech) -> Response:
    head: Pairs = (("Content-Type", type),) if type else ()
    framing = scenario.framing
    if voice.whole and scenario.script is normal and not scenario.gzip and framing == "chunked":
        framing = "length"  # what a server does with a document it has at hand
    return Response(status, head + headers, scenario.script(voice, speech), framing,
                    before=scenario.before, gzip=scenario.gzip, hang_up=scenario.hang_up)


def refusal(scenario: Scenario, service: Service, request: Recorded) -> Document:
    """Return the error answer that a scenario with a status asks for."""
    headers: Pairs = ()
    if scenario.retry_after:
        wait = scenario.retry_after
        date = formatdate(time.time() + _DATE_AHEAD, usegmt=True)
        headers = (("Retry-After", date if wait == "date" else wait),)
    if 300 <= scenario.status < 400:
        headers = (("Location", f"{request.origin}/elsewhere"),)
    document = _refused(scenario.status, scenario.body, service, request)
    return replace(document, headers=document.headers + headers)


def _refused(status: int, body: str, service: Service, request: Recorded) -> Document:
    text = phrase(status)
    if body == "json":
        return Document.of({"error": {"message": text}}, status)
    if body == "text":
        return Document(status, text.encode(), "text/plain")
    if body == "html":
        page = f"<html><head><title>{status} {text}</title></head><body>" \
               f"<center><h1>{status} {text}</h1></center></body></html>\r\n"
        return Document(status, page.encode(), "text/html", (("Server", "nginx"),))
    if body == "empty":
        return Document(status)
    if body == "cloudflare":
        return Document(status, _CHALLENGE, "text/html; charset=UTF-8", _CLOUDFLARE)
    if body in ("quota", "context"):
        return service.refusal(body, status, request)
    native = service.error(status, request)
    return replace(native, reason=_UPSTREAM) if body == "upstream" else native


def _changed(document: Document, value: str) -> bytes:
    if not (value and document.value):
        return document.body
    members = json.loads(document.body)
    del members[document.value]
    if value == "missing":
        return compact(members)
    return compact({**members, document.value: "" if value == "blank" else None})
