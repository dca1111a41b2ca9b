"""The journal of a map: an SQLite file in which every answer is safe before anyone sees it.

The file says whose it is (``application_id``) and in which form (``user_version``).  Answers stay
for ever; a claim says which run is asking a question now, so that two of them do not ask it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
import hashlib
import json
import os
from pathlib import Path
import socket
import sqlite3
import time
from typing import Any, TextIO

import attrs
from requests.structures import CaseInsensitiveDict

from chatsdk import errors
from chatsdk.errors import CancelledError, ChatError, JournalError, WorkerLostError
from chatsdk.inputs import Item, Outcome
from chatsdk.messages import Message, Reply, Usage
from chatsdk.parts import Media, tool_call
from chatsdk.records import frozen
from chatsdk.results import Answer

APPLICATION = 0x63686A6C  # "chjl"
VERSION = 1
GROUP = 500  # ids in one statement
HEAD = b"SQLite format 3\0"
PATIENCE = 30.0  # s to wait for another process that is writing
LEASE = 60.0  # s without a sign of life after which a run counts as dead, where it cannot be seen
TABLES = """
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    key TEXT,
    target TEXT NOT NULL,
    input TEXT NOT NULL,
    reply TEXT,
    error TEXT,
    at REAL NOT NULL
);
CREATE TABLE claims (id BLOB PRIMARY KEY, run INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (number INTEGER PRIMARY KEY, host TEXT, pid INTEGER, began TEXT, beat REAL);
"""


class Journal:
    """The answers that maps have recorded in a file: iterate it for each `Answer`.

    Raises:
        JournalError: There is no such file, it is damaged, or it is none of ours.
    """

    def __init__(self, path: Any) -> None:
        """Take a journal's path; the file is only read, also while a map writes to it."""
        self._path = _path(path)
        with self._opened():
            pass

    def __len__(self) -> int:
        with self._opened() as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __iter__(self) -> Iterator[Answer]:
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT key, target, input, reply, error FROM answers ORDER BY number"
            )
            for index, row in enumerate(rows):
                yield _answer(index, *row)

    def usage(self) -> Usage:
        """Return the tokens of all replies; what none of them tells is None."""
        sums: dict[str, int] = {}
        for answer in self:
            usage = answer.reply.usage if answer.reply else None
            for name, count in (attrs.asdict(usage) if usage else {}).items():
                if count is not None:
                    sums[name] = sums.get(name, 0) + count
        return Usage(**sums)

    def export(self, out: TextIO | str | os.PathLike[str]) -> int:
        """Write each answer as a line of JSON; return how many there are.

        Args:
            out: A text file, or a path to write to.
        """
        if isinstance(out, (str, os.PathLike)):
            with open(out, "w", encoding="utf-8") as file:
                return self.export(file)
        count = 0
        for count, answer in enumerate(self, 1):
            out.write(json_line(answer) + "\n")
        return count

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not os.path.exists(self._path):
            raise JournalError(f"there is no journal at {self._path!r}; map(journal=...) makes one")
        with _translated(self._path):
            _check_head(self._path)
            uri = Path(self._path).absolute().as_uri() + "?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as connection:
                if not _is_ours(connection, self._path):
                    raise JournalError(f"{self._path!r} holds nothing yet; a map fills it")
                yield connection


class Ledger:
    """One run's hand in a journal."""

    def __init__(self, path: Any, target: Any, identity: str, retry_errors: bool) -> None:
        """Look at the file, and make it if there is none.

        Args:
            path: Where it is.
            target: Who is asked.
            identity: Target and parameters as a text.
            retry_errors: Leave out what failed before this run began.

        Raises:
            JournalError: It is damaged, or none of ours.
        """
        self._path = _path(path)
        self._target = json.dumps(target)
        self._identity = identity
        self._retry_errors = retry_errors
        self._run = 0
        self._began = self._beat = 0.0
        self._connection: Any = None
        with _translated(self._path), closing(_connected(self._path)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise JournalError(
                    f"the journal {self._path!r} is damaged: {found}; move it away"
                )

    def enter(self) -> None:
        """Begin a run."""
        self._began = self._beat = time.time()
        me = _Run(0, _host(), os.getpid(), _started(os.getpid()), self._began)
        with _translated(self._path):
            self._connection = _connected(self._path)
            with self._writing():
                self._drop_dead()
                insert = "INSERT INTO runs (host, pid, began, beat) VALUES (?, ?, ?, ?)"
                row = self._connection.execute(insert, attrs.astuple(me)[1:])
            self._run = int(row.lastrowid or 0)

    def begin(self, items: list[Item]) -> None:
        """Fill in what is recorded; claim what nobody asks, leave what somebody else does."""
        for item in items:
            item.id = item.id or self._id(item)
        wanted = {item.id: item for item in reversed(items)}  # of the same one the first
        with _translated(self._path), self._writing(durable=False):
            known = self._known(list(wanted))
            claimed = self._claimed([id for id in wanted if id not in known])
            mine: list[Item] = []
            for item in items:
                item.outcome = known.get(item.id)
                item.ours = wanted[item.id] is item and item.id not in claimed
                if item.outcome is None and item.ours:
                    mine.append(item)
            self._connection.executemany(
                "INSERT INTO claims VALUES (?, ?)", [(item.id, self._run) for item in mine]
            )

    def record(self, items: list[Item]) -> None:
        """Make outcomes durable; those that say nothing of the question are asked again."""
        now = time.time()
        rows = [self._row(item, now) for item in items if _lasts(item.outcome)]
        with _translated(self._path), self._writing():
            self._connection.executemany(
                "INSERT INTO answers (id, key, target, input, reply, error, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " reply = excluded.reply, error = excluded.error, at = excluded.at",
                rows,
            )
            self._connection.executemany(
                "DELETE FROM claims WHERE id = ? AND run = ?",
                [(item.id, self._run) for item in items],
            )
            if now > self._beat + LEASE / 4:
                self._beat = now
                beat = "UPDATE runs SET beat = ? WHERE number = ?"
                self._connection.execute(beat, (now, self._run))

    def leave(self) -> None:
        """End the run and give back its claims."""
        if self._connection is None:
            return
        with suppress(JournalError), _translated(self._path), self._writing():
            self._drop([self._run])
        self._connection.close()
        self._connection = None

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[None]:
        """Hold the file for oneself; what is done inside is whole, or undone.

        Args:
            durable: Whether it must outlive a power cut; a claim needs to outlive nobody.
        """
        connection = self._connection
        # In WAL mode less than FULL would let a power cut take back what was yielded.
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _known(self, ids: list[bytes]) -> dict[bytes, Outcome]:
        found: dict[bytes, Outcome] = {}
        for id, reply, error, at in self._rows("id, reply, error, at FROM answers", ids):
            if reply is not None:
                found[id] = _reply(json.loads(reply))
            elif not (self._retry_errors and at < self._began):
                found[id] = _error(json.loads(error))
        return found

    def _claimed(self, ids: list[bytes]) -> set[bytes]:
        """Return what runs that are alive are asking now; the claims of dead ones end here."""
        found = self._rows("id, run FROM claims", ids)
        if any(run != self._run for _, run in found):
            self._drop_dead()
            found = self._rows("id, run FROM claims", ids)
        return {id for id, _ in found}

    def _rows(self, what: str, ids: list[bytes]) -> list[tuple[Any, ...]]:
        """Return rows by their ids, asked for in groups: a statement has room for only so many."""
        rows: list[tuple[Any, ...]] = []
        for n in range(0, len(ids), GROUP):
            group = ids[n:n + GROUP]
            marks = ",".join("?" * len(group))
            rows += self._connection.execute(f"SELECT {what} WHERE id IN ({marks})", group)
        return rows

    def _drop_dead(self) -> None:
        rows = self._connection.execute("SELECT number, host, pid, began, beat FROM runs")
        runs = [_Run(*row) for row in rows.fetchall()]
        self._drop([run.number for run in runs if run.number != self._run and not run.alive()])

    def _drop(self, runs: list[int]) -> None:
        for table, column in (("claims", "run"), ("runs", "number")):
            self._connection.executemany(
                f"DELETE FROM {table} WHERE {column} = ?", [(run,) for run in runs]
            )

    def _id(self, item: Item) -> bytes:
        """Return what tells a question from others: its key and target, or all of it."""
        if item.key is None:
            parts = "messages", _messages_json(item.messages), self._identity
        else:
            parts = "key", json.dumps(item.key), self._target
        return hashlib.sha256("\0".join(parts).encode()).digest()[:16]

    def _row(self, item: Item, now: float) -> tuple[Any, ...]:
        key = None if item.key is None else json.dumps(item.key)
        asked = _messages_json(item.messages)
        failed = isinstance(item.outcome, Exception)
        text = _error_json(item.outcome) if failed else _reply_json(item.outcome)
        reply, error = (None, text) if failed else (text, None)
        return item.id, key, self._target, asked, reply, error, now


def _lasts(outcome: Outcome | None) -> bool:
    """Return whether an outcome is the service's word, and not about this run."""
    return not isinstance(outcome, (CancelledError, WorkerLostError))


# The file


def _path(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"a journal is a path, not {type(path).__name__}")
    return os.fspath(path)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, LookupError) as error:
        raise JournalError(
            f"the journal {path!r} cannot be used: {error}; see to the disk and to its rights, or"
            " give another path"
        ) from error


def _check_head(path: str) -> None:
    """Refuse a file that is no database; SQLite takes a very short one for an empty database."""
    with open(path, "rb") as file:
        if file.read(len(HEAD)) not in (b"", HEAD):
            raise JournalError(f"{path!r} is no journal, and no database; give another path")


def _connected(path: str) -> sqlite3.Connection:
    """Return a connection to a journal, made if there is none."""
    with suppress(FileExistsError):  # questions and answers are nobody else's business
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _check_head(path)
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        if not _is_ours(connection, path):
            _set_up(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether a file is a journal; False if it is empty.

    Raises:
        JournalError: It is another program's, or of a later version.
    """
    # The mark is read last: another process may set the file up between two of these.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if not (application or version or tables):
        return False
    if application != APPLICATION:
        raise JournalError(
            f"{path!r} is a database of another program, not a journal; give another path"
        )
    if version > VERSION:
        raise JournalError(
            f"the journal {path!r} was made by a later version of chatsdk; update chatsdk"
        )
    return True


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if _is_ours(connection, path):  # another process was faster
        connection.execute("ROLLBACK")
        return
    for statement in TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work at once; the file keeps the setting."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # SQLite itself does not wait here
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


# Runs


@frozen
class _Run:
    """A map that is writing, or was when it died."""

    number: int
    host: str
    pid: int
    began: str
    beat: float

    def alive(self) -> bool:
        """Return whether it still runs: exactly on this machine, else by its last sign of life."""
        if self.host == _host() and self.began:
            return self.began == _started(self.pid)
        return time.time() - self.beat < LEASE


def _host() -> str:
    """Return a name for the space in which process ids are unique, until the next boot."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str:
    """Return when a process began, in ticks of its machine; "" if that cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


# Answers as text


def json_line(answer: Answer) -> str:
    """Return an answer as one line of JSON: what was asked, the text, or the error."""
    key, asked = None, answer.input
    if isinstance(asked, tuple) and len(asked) == 2 and isinstance(asked[0], (str, int)):
        key, asked = asked
    line: dict[str, Any] = {"index": answer.index, "target": answer.target}
    if key is not None:
        line["key"] = key
    line["input"] = asked
    if answer.reply is not None:
        reply = answer.reply
        line["text"] = reply.text
        line |= {"model": reply.model, "finish_reason": reply.finish_reason}
        line["usage"] = None if reply.usage is None else attrs.asdict(reply.usage)
        if reply.tool_calls:
            line["tool_calls"] = [attrs.asdict(call) for call in reply.tool_calls]
    if answer.error is not None:
        partial = getattr(answer.error, "partial", None)
        line["error"] = {"type": type(answer.error).__name__, "message": str(answer.error)}
        line["partial"] = None if partial is None else partial.text
    return _json(line)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, in what came as JSON
            return json.dumps(value, separators=(",", ":"), default=_plain)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return _message_dict(value)
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _messages_json(messages: tuple[Message, ...]) -> str:
    """Return messages as text: a lone question is that text alone."""
    first = messages[0]
    if messages == (Message("user", first.content),) and isinstance(first.content, str):
        return _json(first.content)
    return _json([_message_dict(message) for message in messages])


def _message_dict(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if not isinstance(content, str):
        content = [part if isinstance(part, str) else _media_dict(part) for part in content]
    found: dict[str, Any] = {"role": message.role, "content": content}
    for name in ("name", "tool_call_id", "state"):
        if getattr(message, name) is not None:
            found[name] = getattr(message, name)
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.raw}}
            for call in message.tool_calls
        ]
    return found


def _media_dict(media: Media) -> dict[str, Any]:
    """Return media without their bytes, which stand for themselves by a digest."""
    digest = hashlib.sha256(media.data).hexdigest() if media.data is not None else None
    found = {"media": media.kind, "mime": media.mime, "name": media.name, "url": media.url}
    return {**found, "sha256": digest}


_NOT_KEPT = ("limits", "response_format")
_REPLY = {part.name: part.default for part in attrs.fields(Reply) if part.name not in _NOT_KEPT}
_USAGE = [part.name for part in attrs.fields(Usage)]


def _reply_dict(reply: Reply) -> dict[str, Any]:
    found = {
        name: value
        for name, default in _REPLY.items()
        if (value := getattr(reply, name)) != default
    }
    if reply.usage is not None:
        found["usage"] = [getattr(reply.usage, name) for name in _USAGE]
    if reply.tool_calls:
        found["tool_calls"] = [(call.id, call.name, call.raw) for call in reply.tool_calls]
    return found


def _reply_json(reply: Any) -> str:
    try:
        return _json(_reply_dict(reply))
    except (RecursionError, ValueError):  # what a service sent is deeper than JSON is written
        return _json(_reply_dict(attrs.evolve(reply, raw=None, state=None)))


def _reply(found: dict[str, Any]) -> Reply:
    if "usage" in found:
        found["usage"] = Usage(*found["usage"])
    if "tool_calls" in found:
        found["tool_calls"] = tuple(tool_call(*parts) for parts in found["tool_calls"])
    return Reply(**found)


def _error_json(error: Any) -> str:
    """Return an error as text; nothing in a file is ever unpickled."""
    details = dict(vars(error))
    partial = details.pop("partial", None)
    kept = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in details.items()
        if value is None or isinstance(value, (str, int, float, Mapping))
    }
    found = {"type": type(error).__name__, "message": str(error), "details": kept}
    if partial is not None:
        found["partial"] = json.loads(_reply_json(partial))
    return _json(found)


def _error(found: dict[str, Any]) -> Exception:
    kind = getattr(errors, found["type"], None) or {"TypeError": TypeError}.get(found["type"])
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = ValueError if found["type"] == "ValueError" else ChatError
    error: Exception = kind(found["message"])
    if isinstance(error, ChatError):
        details = found["details"]
        if "headers" in details:
            details["headers"] = CaseInsensitiveDict(details["headers"])
        vars(error).update(details)
        error.partial = _reply(found["partial"]) if "partial" in found else None
    return error


def _answer(
    index: int, key: str | None, target: str, asked: str, reply: str | None, error: str | None
) -> Answer:
    given = json.loads(asked)
    if key is not None:
        given = (json.loads(key), given)
    label = json.loads(target)
    label = tuple(label) if isinstance(label, list) else label
    if reply is not None:
        return Answer(label, index, given, reply=_reply(json.loads(reply)))
    return Answer(label, index, given, error=_error(json.loads(str(error))))
