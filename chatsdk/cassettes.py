"""Cassettes: files of recorded exchanges, one JSON document a line, fit to be read and compared.

An exchange is a few lines, written together when it ends::

    {"request": {"at": "2026-03-01T09:00:00.000000Z", "provider": "gigachat", ...}}
    {"head": 0.412, "status": 200, "reason": "OK", "headers": {"Content-Type": "..."}}
    {"chunk": 0.413, "text": "data: ..."}
    {"end": 0.921}

Times are seconds since the request.  ``tape`` records and replays; here is what is kept.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import difflib
import errno
import io
import json
import math
import os
from pathlib import Path
import ssl
import threading
import time
from typing import Any

from attrs import field
import requests
from requests.structures import CaseInsensitiveDict

from chatsdk.credentials import path_of, REMOVED, shown
from chatsdk.deadlines import Timeout, Watch
from chatsdk.errors import CassetteError, quoted
from chatsdk.failures import connection_error
from chatsdk.records import frozen
from chatsdk.responses import Response
from chatsdk.wire import Limits, Request

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
HEADER = json.dumps({"cassette": FORMAT}) + "\n"
MATCHES = ("lenient", "strict")
FAULTS = ("certificate", "connection", "left", "timeout")
PHASES = ("connect", "first", "read", "total")
BODIES = ("json", "form")
COMPARED = 200  # exchanges of which the nearest is looked for
LOCK_WAIT = 10.0  # s that a writer waits for others
POLL = 0.005  # s, between two looks at a lock that others hold: flock has no timeout
TO_RECORD = "with record= as well, what is missing is asked for and recorded"
EXCERPT = 60  # characters of a value that differs

_turn = threading.Lock()  # between threads, where files cannot be locked
_writing = threading.local()


def _absolute(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"the path of a cassette must be a str, not {type(text).__name__}")
    if not text or "\0" in text:
        raise ValueError("the path of a cassette is empty or has a NUL")
    return Path(text).expanduser().absolute()


def _check_match(instance: Any, attribute: Any, value: Any) -> None:
    if value not in MATCHES:
        near = difflib.get_close_matches(str(value), MATCHES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"match must be one of {', '.join(MATCHES)}, not {value!r}{hint}")


def _check_speed(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"speed must be a number, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"speed must be above 0, not {value}; math.inf is at once")


@frozen
class Cassette:
    """A file of recorded exchanges, for `Client`'s ``record=`` and ``replay=``.

    Attributes:
        path: The file.
        match: ``"lenient"``: a question gets what the same method, path, query and body got in the
            recording, wherever that stands; the n-th time the n-th answer, afterwards the last
            one again.  ``"strict"``: what is asked is what was asked, in that order, each once.
        speed: 1.0 replays at the speed of the recording, 2.0 twice as fast, ``math.inf`` at once.
    """

    path: Path = field(converter=_absolute)
    match: str = field(default="lenient", kw_only=True, validator=_check_match)
    speed: float = field(default=math.inf, kw_only=True, validator=_check_speed)

    @property
    def exchanges(self) -> tuple[RecordedExchange, ...]:
        """What the file holds now, in the order in which the exchanges ended.

        Raises:
            CassetteError: It cannot be read, or a line of it is damaged; its number is told.
        """
        return tuple(read(self.path))


def cassette_of(given: Any, name: str) -> Cassette | None:
    """Return the cassette that a caller means: one, or a path to one."""
    if given is None or isinstance(given, Cassette):
        return given
    if isinstance(given, (str, os.PathLike)):
        return Cassette(given)
    raise TypeError(f"{name} must be a path or a Cassette, not {type(given).__name__}")


@frozen
class Fault:
    """How an exchange ended that did not end well.

    Attributes:
        kind: ``"timeout"``, ``"connection"``, ``"certificate"``, or ``"left"`` where the reader
            closed the answer before its end.
        phase: What was waited for: ``"connect"``, ``"first"``, ``"read"`` or ``"total"``.
        text: The error's type and its message, or "".
        reused: Whether it was on a connection that had served another request.
    """

    kind: str
    phase: str
    text: str = ""
    reused: bool = False


@frozen(kw_only=True)
class RecordedExchange:
    """One request and what came back, without credentials.

    Attributes:
        provider: Name of the service that was asked, or None.
        method: In capitals.
        url: The whole address.
        headers: Those of the request; ``"<removed>"`` for the value of one that may be a secret.
        body: What was sent: a JSON document, the fields of a form, or None.
        kind: What the body is: ``"json"``, ``"form"`` or "".
        token: Whether it asked for a token.
        at: When it was asked, in UTC.
        head: Seconds until the head of the answer, or None if none came.
        status: The HTTP status, or None.
        reason: The phrase after the status.
        answer_headers: Those of the answer's headers that are kept.
        cut: Whether the connection ended within the head.
        chunks: The body as it came: seconds since the request, and bytes.
        elapsed: Seconds until the end.
        fault: How it ended, or None: well.
        line: Number of its first line in the file, from 1; 0 where it is in none.
    """

    provider: str | None
    method: str
    url: str
    headers: Mapping[str, str] = field(factory=dict)
    body: Any = None
    kind: str = ""
    token: bool = False
    at: str = ""
    head: float | None = None
    status: int | None = None
    reason: str = ""
    answer_headers: Mapping[str, str] = field(factory=dict)
    cut: bool = False
    chunks: tuple[tuple[float, bytes], ...] = ()
    elapsed: float = 0.0
    fault: Fault | None = None
    line: int = 0

    @property
    def question(self) -> str:
        """Service, method, path, query and body as one text, which is compared."""
        body = shown(self.body)
        compared = [self.provider, self.method, path_of(self.url), self._query, self.kind, body]
        return json.dumps(compared, sort_keys=True)

    @property
    def went_well(self) -> bool:
        """Whether there is a whole answer, and it is no refusal."""
        return self.fault is None and not self.cut and self.status is not None and self.status < 400

    @property
    def _query(self) -> list[str]:
        fields = self.url.partition("?")[2].split("&")
        return [field for field in fields if not field.endswith(f"={REMOVED}")]

    def response(self, watch: Watch | None = None, *, speed: float = math.inf) -> Response:
        """Return the answer, to be read as if it came from the service.

        Args:
            watch: What its waits keep to; None: nothing.
            speed: See `Cassette`.

        Raises:
            CassetteError: It has no answer.
        """
        if watch is None:
            watch = Watch(Timeout(connect=None, first=None, read=None, total=None))
            watch.begin("read")
        if self.status is None:
            raise CassetteError(f"{self.method} {path_of(self.url)} got no answer")
        answer: Any = Response()
        answer.status_code = self.status
        answer.reason = self.reason
        answer.headers = CaseInsensitiveDict(self.answer_headers)
        answer.url = self.url
        answer.request = requests.PreparedRequest()
        answer.raw = Tape(self, watch, speed)
        asked = Request(method=self.method, url=self.url)
        final: Response = answer
        return final.attend(
            watch, Limits(), lambda error: connection_error(error, watch, asked, self.provider)
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what is written of it."""
        request: dict[str, Any] = {
            "at": self.at,
            "provider": self.provider,
            "method": self.method,
            "url": self.url,
            "headers": dict(self.headers),
        }
        if self.token:
            request["token"] = True
        if self.kind:
            request[self.kind] = self.body
        yield {"request": request}
        if self.status is not None:
            head = {"head": _ms(self.head or 0.0), "status": self.status, "reason": self.reason}
            head["headers"] = dict(self.answer_headers)
            yield {**head, "cut": True} if self.cut else head
        for at, data in self.chunks:
            yield {"chunk": _ms(at), **_written(data)}
        end: dict[str, Any] = {"end": _ms(self.elapsed)}
        if self.fault is not None:
            fault: dict[str, Any] = {"kind": self.fault.kind, "phase": self.fault.phase}
            fault.update({"text": self.fault.text} if self.fault.text else {})
            fault.update({"reused": True} if self.fault.reused else {})
            end["fault"] = fault
        yield end


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _written(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


class Tape:
    """The raw body of a replayed answer: what urllib3 gives for a real one."""

    def __init__(self, exchange: RecordedExchange, watch: Watch, speed: float) -> None:
        self._exchange = exchange
        self._watch = watch
        self._speed = speed
        self._began = watch.clock() - (exchange.head or 0.0) / speed
        self._next = 0

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Return the next chunk when its time has come, b"" at the end."""
        exchange = self._exchange
        if self._next < len(exchange.chunks):
            at, data = exchange.chunks[self._next]
            self._until(at)
            self._next += 1
            return data
        self._until(exchange.elapsed)
        if exchange.fault is not None:
            raise broken(exchange, self._watch)
        return b""

    def _until(self, at: float) -> None:
        wait_until(self._began + at / self._speed, self._watch)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def wait_until(moment: float, watch: Watch) -> None:
    """Wait as a socket would: no longer than a watch allows, or until the call is cancelled.

    Raises:
        TimeoutError: The watch allows no more.
    """
    pause = moment - watch.clock()
    if pause <= 0:
        return
    left = watch.remaining()
    watch.sleep(pause if left is None else min(pause, left))
    if not watch.cancelled:
        watch.remaining()


def broken(exchange: RecordedExchange, watch: Watch) -> Exception:
    """Return the error of the layers below that ended an exchange, and set its watch as it was."""
    fault = exchange.fault
    assert fault is not None
    if fault.kind == "left":
        return CassetteError(
            "the recording of this answer ends here: whoever read it then closed it before its end",
            advice=TO_RECORD,
        )
    if fault.kind == "timeout":
        if fault.phase == "total":
            watch.hurry(0.0)
        elif fault.phase != watch.phase:
            watch.begin(fault.phase)
        return TimeoutError("timed out, in the recording")
    if fault.phase != watch.phase:
        watch.begin(fault.phase)
    watch.reused = fault.reused
    name, _, text = fault.text.partition(": ")
    if fault.kind == "certificate":
        return ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, text)
    # A class of its own, so that the message reads as it did.
    kind = type(name if name.isidentifier() else "ConnectionError", (ConnectionError,), {})
    return kind(text)  # type: ignore[no-any-return]


# The file


def append(path: Path, exchange: RecordedExchange) -> None:
    """Write an exchange to the end of a file; never between the lines of another one.

    Raises:
        CassetteError: It cannot be written; the file is as it was.
    """
    written = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in exchange.lines())
    _append(path, written)


def begin(path: Path) -> None:
    """See to it that there is a file that can be written to.

    Raises:
        CassetteError: It cannot be written, or is no cassette.
    """
    try:
        with path.open("rb") as file:
            start = file.readline(io.DEFAULT_BUFFER_SIZE)
    except FileNotFoundError:
        start = b""
        _make_directory(path.parent)
    except OSError as error:
        raise _failed(path, "read", error) from error
    if start.strip():
        _check_header(path, _document(path, 1, start))
    _append(path, "")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed(path, "made", error) from error


def _append(path: Path, written: str) -> None:
    waiting: list[tuple[Path, str]] | None = getattr(_writing, "waiting", None)
    if waiting is not None:
        # The collector ran a finalizer in the midst of a write, and it ended another exchange.
        waiting.append((path, written))
        return
    _writing.waiting = waiting = [(path, written)]
    try:
        for next_path, text in waiting:  # it may grow
            _write(next_path, text)
    finally:
        _writing.waiting = None


def _write(path: Path, written: str) -> None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            with _locked(file):
                _extend(file, written.encode())
        finally:
            os.close(file)
    except OSError as error:
        raise _failed(path, "written", error) from error


def _extend(file: int, data: bytes) -> None:
    size = os.fstat(file).st_size
    if not size:
        data = HEADER.encode() + data
    elif data and _last_byte(file, size) != b"\n":
        data = b"\n" + data  # what was torn stays a line of its own, which reading points out
    try:
        while data:
            data = data[os.write(file, data):]
    except BaseException:
        os.ftruncate(file, size)
        raise


def _last_byte(file: int, size: int) -> bytes:
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Hold the file alone; without flock (Windows) against the threads of this process only."""
    if fcntl is None:
        with _turn:
            yield
        return
    deadline = time.monotonic() + LOCK_WAIT
    while not _try_lock(file):
        if time.monotonic() >= deadline:
            raise BlockingIOError(errno.EAGAIN, f"others held it for {LOCK_WAIT:g} s")
        threading.Event().wait(POLL)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _failed(path: Path, what: str, error: OSError) -> CassetteError:
    reason = error.strerror or type(error).__name__
    return CassetteError(f"the cassette {str(path)!r} cannot be {what}: {reason}")


def read(path: Path) -> Iterator[RecordedExchange]:
    """Yield the exchanges in a file.

    Raises:
        CassetteError: It cannot be read, or a line of it is damaged; the message has its number.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CassetteError(
            f"there is no cassette {str(path)!r}; record={path.name!r} makes one"
        ) from None
    except OSError as error:
        raise _failed(path, "read", error) from error
    headed = False
    lines: list[tuple[int, dict[str, Any]]] = []  # of one exchange
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        document = _document(path, number, line)
        if not headed or "cassette" in document:  # also in the midst of those that were joined
            _check_header(path, document, number)
            headed = True
            continue
        if bool(lines) == ("request" in document):
            reason = f"the exchange of line {lines[0][0]} has no end" if lines else "it is of none"
            raise _damaged(path, number, reason)
        lines.append((number, document))
        if "end" in document:
            yield _exchange(path, lines)
            lines = []
    if lines:
        raise _damaged(path, lines[0][0], "the exchange that begins here has no end")


def _document(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        reason = "no UTF-8" if isinstance(error, UnicodeDecodeError) else "no JSON document"
        raise _damaged(path, number, f"it is {reason}") from error
    if not isinstance(document, dict):
        raise _damaged(path, number, "it is no JSON object")
    return document


def _check_header(path: Path, document: dict[str, Any], number: int = 1) -> None:
    version = document.get("cassette")
    if version is None:
        raise _damaged(path, number, f"this is no cassette: its first line is not {HEADER.strip()}")
    if version != FORMAT:
        raise CassetteError(
            f"the cassette {str(path)!r} is of format {quoted(version)}; this version of chatsdk"
            f" reads format {FORMAT}"
        )


def _damaged(path: Path, number: int, reason: str) -> CassetteError:
    return CassetteError(f"{str(path)!r}, line {number}: {reason}")


def _exchange(path: Path, lines: list[tuple[int, dict[str, Any]]]) -> RecordedExchange:
    found: dict[str, Any] = {"line": lines[0][0], "chunks": []}
    for number, line in lines:
        try:
            take = next((take for name, take in _TAKERS.items() if name in line), None)
            if take is None:
                raise ValueError(f"it is none of {', '.join(_TAKERS)}")
            take(found, line)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
            raise _damaged(path, number, str(what)) from error
    return RecordedExchange(**{**found, "chunks": tuple(found["chunks"])})


def _take_request(found: dict[str, Any], line: dict[str, Any]) -> None:
    request = line["request"]
    kind = next((name for name in BODIES if name in request), "")
    provider = request["provider"]
    found.update(
        provider=None if provider is None else _str(provider),
        method=_str(request["method"]),
        url=_str(request["url"]),
        headers=_headers(request.get("headers", {})),
        body=request[kind] if kind else None,
        kind=kind,
        token=request.get("token") is True,
        at=_str(request.get("at", "")),
    )


def _take_head(found: dict[str, Any], line: dict[str, Any]) -> None:
    status = line["status"]
    if type(status) is not int or not 100 <= status <= 999:
        raise ValueError("its status is none")
    found.update(
        head=_number(line["head"]),
        status=status,
        reason=_str(line.get("reason", "")),
        answer_headers=_headers(line.get("headers", {})),
        cut=line.get("cut") is True,
    )


def _take_chunk(found: dict[str, Any], line: dict[str, Any]) -> None:
    if "status" not in found:
        raise ValueError("a chunk before the head")
    found["chunks"].append((_number(line["chunk"]), _data(line)))


def _take_end(found: dict[str, Any], line: dict[str, Any]) -> None:
    told = line.get("fault")
    fault = None
    if told is not None:
        text = _str(told.get("text", ""))
        fault = Fault(told["kind"], told["phase"], text, told.get("reused") is True)
        if fault.kind not in FAULTS or fault.phase not in PHASES:
            raise ValueError("its fault is none that is known")
    if "status" not in found and (fault is None or fault.kind == "left"):
        raise ValueError("an end without a head or a fault")
    found.update(elapsed=_number(line["end"]), fault=fault)


_TAKERS = {
    "request": _take_request,
    "head": _take_head,
    "chunk": _take_chunk,
    "end": _take_end,
}


def _data(line: dict[str, Any]) -> bytes:
    if "base64" in line:
        return base64.b64decode(line["base64"], validate=True)
    return _str(line["text"]).encode()


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError("a time is no number of seconds")
    return float(value)


def _headers(value: Any) -> dict[str, str]:
    return {_str(name): _str(text) for name, text in dict(value).items()}


# What is found in it


class Player:
    """Finds the recorded answer to what is asked; safe between threads.

    Args:
        cassette: Whose exchanges.
        alone: Whether nobody can be asked for what it lacks: then the last answer to a question is
            given again when there is no further one, and what failed fails again.  Else only good
            answers are given.
    """

    def __init__(self, cassette: Cassette, *, alone: bool = True) -> None:
        self._cassette = cassette
        self._alone = alone
        # As they were asked; in the file they stand as they ended.
        found = sorted(cassette.exchanges, key=lambda exchange: exchange.at)
        self._exchanges = [exchange for exchange in found if alone or exchange.went_well]
        self._strict = cassette.match == "strict"
        self._order = [found for found in self._exchanges if not found.token]
        self._place = 0
        self._by_question: dict[str, list[RecordedExchange]] = {}
        for exchange in self._exchanges:
            self._by_question.setdefault(exchange.question, []).append(exchange)
        self._used: dict[str, int] = {}
        self._lock = threading.RLock()  # a finalizer may send its clean-up inside of it
        self._pid = os.getpid()

    def find(self, asked: RecordedExchange) -> RecordedExchange | None:
        """Return the exchange to replay, or None."""
        if self._pid != os.getpid():  # a fork: a thread that is not here may hold the lock
            self._pid, self._lock = os.getpid(), threading.RLock()
        question = asked.question
        with self._lock:
            if self._strict and not asked.token:
                return self._next(question)
            return self._any(question)

    def _next(self, question: str) -> RecordedExchange | None:
        if self._place == len(self._order) or self._order[self._place].question != question:
            return None
        self._place += 1
        return self._order[self._place - 1]

    def _any(self, question: str) -> RecordedExchange | None:
        found = self._by_question.get(question, [])
        used = self._used.get(question, 0)
        if not found or (used >= len(found) and not self._alone):
            return None
        self._used[question] = used + 1
        return found[min(used, len(found) - 1)]

    def miss(self, asked: RecordedExchange) -> CassetteError:
        """Return the error for a question that has no answer; it shows the nearest that has."""
        what = f"{asked.method} {path_of(asked.url)}"
        name = self._cassette.path.name
        if self._strict and self._place == len(self._order):
            return CassetteError(
                f"{name} has no answer to {what}: all {len(self._order)} exchanges have been"
                " replayed, and match='strict' replays each once",
                advice=TO_RECORD,
            )
        nearest = self._order[self._place] if self._strict else _nearest(asked, self._exchanges)
        if nearest is None:
            return CassetteError(
                f"{name} has no answer to {what}: nothing is recorded in it", advice=TO_RECORD
            )
        differences = _differences(nearest, asked)
        which = "next" if self._strict else "nearest"
        return CassetteError(
            f"{name} has no answer to {what}; the {which} request that it has is in line"
            f" {nearest.line}, {nearest.method} {path_of(nearest.url)}, where "
            + ("; ".join(differences) or "all is the same, and match='strict' replays it once"),
            nearest=nearest,
            advice=TO_RECORD,
        )


def _nearest(
    asked: RecordedExchange, exchanges: Sequence[RecordedExchange]
) -> RecordedExchange | None:
    """Return the exchange whose question is most like what is asked, of those that are asked so."""

    def alike(found: RecordedExchange) -> tuple[bool, bool, bool]:
        return (
            found.token == asked.token,
            (found.provider, found.method) == (asked.provider, asked.method),
            path_of(found.url) == path_of(asked.url),
        )

    best = max(map(alike, exchanges), default=None)
    closest = [found for found in exchanges if alike(found) == best][:COMPARED]
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(asked.question[-2000:])

    def likeness(found: RecordedExchange) -> float:
        matcher.set_seq1(found.question[-2000:])
        return matcher.quick_ratio()

    return max(closest, key=likeness, default=None)


def _differences(recorded: RecordedExchange, asked: RecordedExchange, most: int = 5) -> list[str]:
    """Return how two requests differ, as short sentences."""
    found = []
    for name, was, value in (
        ("the service", recorded.provider, asked.provider),
        ("the method", recorded.method, asked.method),
        ("the path", path_of(recorded.url), path_of(asked.url)),
        ("the query", "&".join(recorded._query), "&".join(asked._query)),
        ("the kind of body", recorded.kind, asked.kind),
    ):
        if was != value:
            found.append(_difference(name, was, value))
    found.extend(_unequal("body", shown(recorded.body), shown(asked.body)))
    more = len(found) - most
    return found[:most] + ([f"and {more} more differences"] if more > 0 else [])


MISSING = object()


def _unequal(name: str, was: Any, value: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(value, dict):
        for key in {**was, **value}:
            yield from _unequal(f"{name}.{key}", was.get(key, MISSING), value.get(key, MISSING))
    elif isinstance(was, list) and isinstance(value, list):
        for index in range(max(len(was), len(value))):
            pair = (items[index] if index < len(items) else MISSING for items in (was, value))
            yield from _unequal(f"{name}[{index}]", *pair)
    elif was != value:
        yield _difference(name, was, value)


def _difference(name: str, was: Any, value: Any) -> str:
    start = 0
    if isinstance(was, str) and isinstance(value, str):
        start = max(len(os.path.commonprefix([was, value])) - EXCERPT // 3, 0)
    return f"{name} was {_shown(was, start)} and is {_shown(value, start)}"


def _shown(value: Any, start: int) -> str:
    if value is MISSING:
        return "missing"
    text = value[start:] if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    dots = "…" if len(text) > EXCERPT else ""
    text = quoted(text, EXCERPT) + dots
    return f"'{'…' if start else ''}{text}'" if isinstance(value, str) else text
