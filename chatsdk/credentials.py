"""Credentials taken out of what is written down: headers, cookies, queries, bodies.

Headers are kept only if they are known to be harmless.  In queries and bodies a credential is told
by its name; one that was met anywhere is looked for everywhere from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import json
import re
import secrets
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlencode, urlsplit, urlunsplit

REMOVED = "<removed>"
VARIES = "<varies>"
SHORTEST = 8  # characters; what is shorter stands in too many words to be looked for in texts

SENT = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta"})
DULL = frozenset({"accept-encoding", "connection", "content-length", "host", "user-agent"})
ANSWERED = frozenset(
    {
        "content-encoding",
        "content-type",
        "date",
        "location",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "x-should-retry",
    }
)
ANSWERED_PREFIXES = ("anthropic-ratelimit-", "ratelimit-", "x-ratelimit-")
COOKIE_ATTRIBUTES = frozenset({"comment", "domain", "expires", "max-age", "path", "samesite"})

_SECRET_HEADER = re.compile(
    r"auth|key|token|secret|cookie|session|signature|credential|password|uniqueid", re.IGNORECASE
)
_SECRET_MEMBER = re.compile(
    r"(^|[-_])(key|token|tok|secret|passw(or)?d|authorization|credentials?|cookies?|signature|sig)$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_secret(name: str) -> bool:
    """Return whether a member or field of that name holds a credential: api_key, accessToken."""
    return _SECRET_MEMBER.search(_HUMP.sub("_", name).lower()) is not None


def sent_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a request's headers in order of name, the values only of those that are harmless."""
    return {
        name: _text(value) if name.lower() in SENT else REMOVED
        for name, value in sorted(headers.items(), key=_lower)
        if name.lower() not in DULL
    }


def answered_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of an answer's headers that are harmless, in order of name."""
    kept = {
        name: _text(value)
        for name, value in sorted(headers.items(), key=_lower)
        if _is_answered(name.lower())
    }
    return {
        name: value.partition("?")[0] if name.lower() == "location" else value
        for name, value in kept.items()
    }


def _is_answered(name: str) -> bool:
    return name in ANSWERED or name.startswith(ANSWERED_PREFIXES)


def _is_kept(name: str) -> bool:
    return name in SENT or name == "www-authenticate" or _is_answered(name)


def _crumbs(cookies: str) -> Iterator[str]:
    """Yield the values of cookies; of several ``Set-Cookie``, joined by commas, those as well."""
    for pair in re.split("[;,]", cookies):
        name, _, value = pair.strip().partition("=")
        if name.lower() not in COOKIE_ATTRIBUTES:
            yield value


def _lower(item: tuple[str, str]) -> str:
    return item[0].lower()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def stripped(document: Any, found: Callable[[str], object] = bool) -> Any:
    """Return a JSON document without the texts whose names say that they are credentials.

    Args:
        document: What was decoded.
        found: Is handed each text that is taken out.
    """
    if isinstance(document, list):
        return [stripped(item, found) for item in document]
    if not isinstance(document, dict):
        return document
    kept = {}
    for name, value in document.items():
        if (isinstance(value, str) or value is None) and is_secret(name):
            found(value or "")
            value = REMOVED
        kept[name] = stripped(value, found)
    return kept


def blurred(document: Any, paths: Iterable[str]) -> Any:
    """Return a JSON document with `VARIES` at the paths, ``"options.id"`` for example."""
    if not isinstance(document, dict):
        return document
    result = dict(document)
    for path in paths:
        name, _, below = path.partition(".")
        if name in result:
            result[name] = blurred(result[name], [below]) if below else VARIES
    return result


def shown(document: Any) -> Any:
    """Return a JSON document without what was removed: a key or none makes no difference."""
    if isinstance(document, list):
        return [shown(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {name: shown(value) for name, value in document.items() if value != REMOVED}


class Credentials:
    """Those that were met so far, so that they are found wherever they come up again.

    Safe between threads: it only ever grows, by single steps.
    """

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._masks: dict[str, str] = {}
        self._pattern: tuple[int, re.Pattern[str], re.Pattern[bytes]] | None = None

    def learn(self, secret: str) -> None:
        """Look for a text from now on, in all forms in which it may be written."""
        if len(secret) < SHORTEST or secret.startswith(REMOVED[:-1]):
            return
        escaped = json.dumps(secret, ensure_ascii=False)[1:-1]
        for form in (secret, quote(secret, safe=""), quote_plus(secret), escaped):
            self._known[form] = None
        self._known[secret.replace("/", "\\/")] = None

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        """Look for what the headers of a request or an answer hold of credentials."""
        for name, value in headers.items():
            if "cookie" in name.lower():
                for crumb in _crumbs(_text(value)):
                    self.learn(crumb)
            elif _SECRET_HEADER.search(name) and not _is_kept(name.lower()):
                self.learn(_text(value))
                self.learn(_text(value).rpartition(" ")[2])

    def mask(self, secret: str) -> str:
        """Return what stands for a token, and learn it: equal tokens, and no others, look alike."""
        self.learn(secret)
        return self._masks.setdefault(secret, f"{REMOVED[:-1]}-{secrets.token_hex(4)}>")

    def hide(self, text: str) -> str:
        """Return a text without the credentials that are known."""
        return self._patterns()[0].sub(REMOVED, text) if self._known else text

    def hide_all(self, document: Any) -> Any:
        """Return a JSON document without the credentials that are known."""
        if isinstance(document, str):
            return self.hide(document)
        if isinstance(document, list):
            return [self.hide_all(item) for item in document]
        if isinstance(document, dict):
            return {self.hide(name): self.hide_all(item) for name, item in document.items()}
        return document

    def hide_in(self, chunks: list[bytes]) -> list[bytes]:
        """Return chunks without the credentials that are known, also where one is cut in two."""
        whole = b"".join(chunks)
        if not self._known:
            return chunks
        spans = [found.span() for found in self._patterns()[1].finditer(whole)]
        kept, start = [], 0
        for chunk in chunks:
            end = start + len(chunk)
            kept.append(_without(whole, start, end, spans))
            start = end
        return kept

    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
        known = sorted(self._known, key=len, reverse=True)
        found = self._pattern
        if found is None or found[0] != len(known):
            text = "|".join(map(re.escape, known))
            found = self._pattern = (
                len(known), re.compile(text), re.compile(text.encode("latin-1", "ignore"))
            )
        return found[1:]

    def stripped(self, document: Any) -> Any:
        """Return a JSON document without credentials, and learn those that its names tell."""
        return self.hide_all(stripped(document, self.learn))

    def stripped_url(self, url: str, varies: Iterable[str] = ()) -> str:
        """Return an address without the credentials in its query, and learn them."""
        parts = urlsplit(url)
        fields = []
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if is_secret(name):
                self.learn(value)
                value = REMOVED
            fields.append((name, VARIES if name in varies else value))
        query = urlencode(sorted(fields), safe="<>:/")
        return self.hide(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))

    def masked(self, document: Any) -> Any:
        """Return the answer to a request for a token, with a mask for each text of some length."""
        if isinstance(document, list):
            return [self.masked(item) for item in document]
        if isinstance(document, dict):
            return {
                name: self.mask(value)
                if isinstance(value, str) and value and _hides(name, value)
                else self.masked(value)
                for name, value in document.items()
            }
        return document


def _hides(name: str, value: str) -> bool:
    if is_secret(name):
        return True
    try:
        float(value)
    except ValueError:
        return len(value) >= SHORTEST
    return False


def _without(whole: bytes, start: int, end: int, spans: list[tuple[int, int]]) -> bytes:
    """Return a piece of the whole with `REMOVED` where a span begins, and nothing of the spans."""
    pieces, at = [], start
    for first, last in spans:
        if last <= start or first >= end:
            continue
        pieces.append(whole[at:max(first, at)])
        if first >= start:
            pieces.append(REMOVED.encode())
        at = min(last, end)
    pieces.append(whole[at:end])
    return b"".join(pieces)


def path_of(url: str) -> str:
    """Return the path of an address, percent signs decoded."""
    return unquote(urlsplit(url).path)
