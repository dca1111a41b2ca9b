"""What a simulated service is made of: requests as received, checks, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
import json
from typing import Any, ClassVar

from .voice import compact, Voice

Pairs = tuple[tuple[str, str], ...]
Messages = list[dict[str, str]]


class Headers(Mapping[str, str]):
    """Header fields as received; names are looked up without regard to case.

    A field that came twice is one value joined by a comma and a blank.
    """

    def __init__(self, pairs: Pairs = ()) -> None:
        self.pairs = pairs
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"  # names only: a value may be a credential


@dataclass(frozen=True)
class Recorded:
    """One request as the simulator received it.

    Attributes:
        service: Name of the service it was sent to, ``""`` if the path names none.
        method: ``"POST"`` and so on.
        path: Path without the mount prefix and without the query, percent signs decoded.
        query: Fields of the query string; of equal names the last one.
        headers: Looked up without regard to case.
        body: The bytes after transfer decoding.
        scenario: Name of the scenario that the answer followed.
        at: Time of arrival in seconds, ``time.monotonic()``.
        origin: ``http://host:port`` as the client wrote it in its ``Host``.
    """

    service: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    body: bytes = field(repr=False)
    scenario: str
    at: float
    origin: str = ""

    @cached_property
    def json(self) -> Any:
        """The body decoded, or None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def members(self) -> dict[str, Any]:
        """The body as a JSON object, empty if it is none."""
        return self.json if isinstance(self.json, dict) else {}


@dataclass(frozen=True)
class Document:
    """A short whole answer: everything that is not a generation.

    `value` names the member that clients need (a token, an id); scenarios blank or remove it.
    """

    status: int = 200
    body: bytes = b""
    type: str | None = None
    headers: Pairs = ()
    reason: str = ""
    value: str = ""

    @classmethod
    def of(cls, content: object, status: int = 200, *, type: str = "application/json",
           headers: Pairs = (), value: str = "") -> Document:
        """Return a document of compact JSON."""
        return cls(status, compact(content), type, headers, value=value)


class Refused(Exception):
    """A service says no: `document` is its answer."""

    def __init__(self, document: Document) -> None:
        super().__init__(document.status)
        self.document = document


def _forget(complete: bool) -> None:
    """Be the `done` of a chat that leaves nothing behind."""


@dataclass
class Chat:
    """A chat request that passed all checks.

    Attributes:
        voice: Puts the answer into frames.
        messages: What was said so far, as ``{"role", "content"}``.
        type: Content-Type of the answer; None sends none.
        headers: Further fields of the answer's head.
        limit: The most tokens (here: words) of the answer, None for no limit.
        stops: Texts that end the answer when they come up in it.
        keeps_stop: The text that ended the answer is part of it.
        tool: Name and arguments of the function that the answer would call, if any was offered.
        forced: The client insists on that call.
        schema: JSON Schema that the answer has to fit, None if there is none.
        stopped: Asked before each frame; True breaks the answer off.
        done: Called at the end, with True if the service regards the turn as finished.
    """

    voice: Voice
    messages: Messages
    type: str | None = None
    headers: Pairs = ()
    limit: int | None = None
    stops: tuple[str, ...] = ()
    keeps_stop: bool = True
    tool: tuple[str, dict[str, Any]] | None = None
    forced: bool = False
    schema: object = None
    stopped: Callable[[], bool] = bool
    done: Callable[[bool], None] = _forget


class Service:
    """One simulated service. Subclasses hold what it remembers between requests.

    Attributes:
        name: The mount prefix and the name in `Simulator.fields`.
        stages: Kinds of requests besides ``"chat"`` that scenarios may aim at.
        special: Names of scenarios that only some services can play, and this one can.
    """

    name: ClassVar[str]
    stages: ClassVar[tuple[str, ...]] = ()
    special: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, secure: bool = False) -> None:
        self.secure = secure

    def fields(self, root: str) -> dict[str, Any]:
        """Return the client's settings for a service mounted at `root`."""
        return {"base_url": root}

    def stage(self, request: Recorded) -> str:
        """Return the kind of a request: ``"chat"``, one of `stages`, or ``""``."""
        raise NotImplementedError

    def chat(self, request: Recorded) -> Chat:
        """Check a chat request.

        Raises:
            Refused: The service does not accept it.
        """
        raise NotImplementedError

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Answer a request of any other kind.

        Raises:
            Refused: The service does not accept it.
        """
        raise Refused(self.error(404, request))

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return an error answer in the service's own shape; default message: the phrase."""
        raise NotImplementedError

    def refusal(self, kind: str, status: int, request: Recorded) -> Document:
        """Return the error answer of a kind, such as ``"quota"`` and ``"context"``."""
        return self.error(status, request)

    def adorn(self, document: Document, request: Recorded) -> Document:
        """Add what every answer of the application carries, such as cookies."""
        return document


def phrase(status: int) -> str:
    """Return the standard reason phrase of a status, ``"Unknown"`` for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def said(messages: object) -> Messages:
    """Return the entries of a list that are messages: objects with a text as content."""
    if not isinstance(messages, list):
        return []
    return [{key: str(m[key]) for key in ("role", "content", "name") if key in m}
            for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str)]


_ROLES = ("System", "User", "Assistant", "Function", "Tool", "Developer")


def unflatten(text: str) -> Messages:
    r"""Return the turns of messages that a client wrote as one text.

    ``"User: Hi\nAssistant: Hello!\nUser: More\nAssistant:"`` has three turns. A text that
    does not end with ``"\nAssistant:"`` is a single message of the user.
    """
    if not text.endswith("\nAssistant:"):
        return [{"role": "user", "content": text}]
    turns: Messages = []
    for line in text[:-len("\nAssistant:")].split("\n"):
        role, colon, content = line.partition(": ")
        if colon and role in _ROLES:
            turns.append({"role": role.lower(), "content": content})
        elif turns:
            turns[-1]["content"] += "\n" + line
        else:
            turns.append({"role": "user", "content": line})
    return turns
