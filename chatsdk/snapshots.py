"""Snapshots: what a simulator was asked, as a text to keep beside a test and to compare with."""

from __future__ import annotations

from collections.abc import Iterable
import difflib
import json
import re
from urllib.parse import parse_qsl

from chatsdk import providers
from chatsdk.credentials import blurred, Credentials, sent_headers
from chatsdk.simulator import Recorded

SHOWN = 100  # lines of a difference
_IDS = re.compile(r"\b([0-9a-f]{24}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")


def snapshot(requests: Iterable[Recorded]) -> str:
    """Return what was sent as a text without credentials, the same each time.

    What a protocol makes new in each request is ``<varies>``, and ids are numbered as they come.
    """
    found = list(requests)
    known = Credentials()
    for request in found:
        known.learn_headers(request.headers)
    text = "\n".join(_written(request, number, known) for number, request in enumerate(found, 1))
    return _numbered(known.hide(text))


def difference(kept: str, sent: str, name: str) -> str:
    """Return how what was sent differs from what is kept in a file of some name."""
    lines = list(
        difflib.unified_diff(
            kept.splitlines(), sent.splitlines(), name, "what was sent", lineterm=""
        )
    )
    more = [f"and {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


def _written(request: Recorded, number: int, known: Credentials) -> str:
    varies = providers.get(request.service).varies if request.service in providers.TABLE else ()
    target = request.path
    query = known.stripped(blurred(dict(request.query), varies))
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in sorted(query.items()))
    service = f"{request.service} " if request.service else ""
    lines = [f"=== {number}. {service}{request.method} {target}"]
    headers = {name.title(): value for name, value in request.headers.items()}
    lines += [f"{name}: {value}" for name, value in sent_headers(headers).items()]
    body = _body(request, varies, known)
    return "\n".join([*lines, *(["", body] if body else []), ""])


def _body(request: Recorded, varies: Iterable[str], known: Credentials) -> str:
    if request.json is not None:
        document = known.stripped(blurred(request.json, varies))
        return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    text = request.body.decode(errors="replace")
    if "form-urlencoded" in request.headers.get("content-type", ""):
        fields = known.stripped(dict(parse_qsl(text, keep_blank_values=True)))
        return "\n".join(f"{name} = {value}" for name, value in sorted(fields.items()))
    return text


def _numbered(text: str) -> str:
    """Return a text with numbers for ids: equal ids, and no others, have equal numbers."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"<id {numbers.setdefault(found[0], len(numbers) + 1)}>"

    return _IDS.sub(number, text)
