"""A store that keeps tokens in a file: between runs, and for many processes at once.

The file is one JSON object, readable by its owner only::

    {"version": 1, "tokens": {key: {"value", "expires_at", "issued_at", "margin"}}}

It is always replaced as a whole, so a reader needs no lock and never sees half of it.  Who renews
or writes holds ``flock`` on a second file, ``<path>.lock``, which is never removed: two processes
that lock two files of one name would both go ahead.  The kernel drops the lock of a process that
is killed.

Whatever is wrong with the file is a token missed, and whatever is wrong with the disk means that
tokens are kept in memory: neither is a reason to fail a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import errno
from functools import partial
from io import FileIO
import json
import logging
import math
import os
from pathlib import Path
import re
import secrets
import stat
from threading import Event
import time
from typing import Any

from chatsdk.records import define, field, frozen
from chatsdk.tokens import Entry, Flight, MemoryTokenStore, number, Token, TokenStore

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

VERSION = 1
LARGEST = 16 * 1024 * 1024  # bytes, no file of ours is larger
LOCK_WAIT = 30.0  # s, longer than most issuers need
DISCARD_WAIT = 1.0  # s
POLL = 0.02  # s, between two looks at a lock that others hold: flock has no timeout


class _Left(BaseException):
    """The leader of a renewal leaves without an outcome: look again.

    No `Exception`, for those would be the outcome.
    """


@frozen
class _Record:
    """What the file says about one key."""

    token: Token
    issued_at: float


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Return the path as it is now, whatever the working directory is later."""
    text = os.fspath(path)
    if "\0" in text:
        raise ValueError("the path of a token store has a NUL")
    path = Path(text).expanduser().absolute()
    if not text or not path.name:
        raise ValueError("the path of a token store names no file")
    return path


@define(eq=False)
class FileTokenStore(TokenStore):
    """Tokens in a file, shared by all processes that name it.

    One process renews, the others wait for it and read the result.  Where files cannot be locked
    (Windows) or written, and when a lock is held for too long, tokens are kept in memory, and a
    warning is logged.  A pickle holds the path and no token.

    Attributes:
        path: The file.  Its directory is made, with mode 0700, when it is missing.  The file is
            replaced if it is damaged or of another version, and left alone if it is not a regular
            file of this user's.
        lock_wait: The longest wait for another process, in s; afterwards this one asks the issuer
            itself.
        clock: The monotonic clock, in s.
        wall: The wall clock: Unix time in s.
    """

    path: Path = field(converter=_absolute)
    lock_wait: float = field(default=LOCK_WAIT, kw_only=True, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    wall: Callable[[], float] = field(default=time.time, kw_only=True, repr=False)
    _memory: MemoryTokenStore = field(init=False, repr=False)
    _warned: set[str] = field(factory=set, init=False, repr=False)
    # Since when others hold the lock: callers may wait for it in short turns.
    _busy_since: float | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._memory = MemoryTokenStore(clock=self.clock, wall=self.wall)
        if fcntl is None:
            self._warn("this system has no flock")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), lock_wait=self.lock_wait), (str(self.path),)

    def get(self, key: str) -> Token | None:
        """Return the token if there is one that has not expired; nothing is renewed."""
        flight = self._memory.flight(key)
        if flight.get() is None:
            self._adopt(key, flight)
        return flight.get()

    def put(self, key: str, token: Token) -> None:
        """Keep a token in place of the one before.

        Waits up to `lock_wait` s for a renewal by another process.
        """
        self._memory.put(key, token)
        with self._locked(self.lock_wait) as locked:
            if locked:
                self._write(key, token)

    def discard(self, key: str, token: Token) -> None:
        """Forget a token that was refused, unless another one has taken its place.

        If the file is locked, the token may stay in it until the next renewal; this store does
        not take it from there again.
        """
        self.get(key)
        self._memory.discard(key, token)
        if not self._holds(key, token):
            return
        with self._locked(DISCARD_WAIT) as locked:
            if locked and self._holds(key, token):
                self._write(key, None)

    def fetch(
        self, key: str, renew: Callable[[], Token], *, timeout: float | None = None
    ) -> Token:
        """Return a token, renewed if need be: by one thread of one process, for all.

        See `TokenStore.fetch`; the timeout bounds the wait for other processes, too.
        """
        if fcntl is None:
            return self._memory.fetch(key, renew, timeout=timeout)
        flight = self._memory.flight(key)
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                return flight.fetch(lambda: self._renewed(key, flight, renew, deadline), left)
            except _Left:
                found = flight.get()
            if found is not None:
                return found
            self._busy_since = self._busy_since or began
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("another process was not done renewing the token in time")

    def _renewed(
        self, key: str, flight: Flight, renew: Callable[[], Token], deadline: float | None
    ) -> Entry:
        """Renew a token that no other process has renewed, and write it down."""
        self._look(key, flight)
        with self._locked(*self._patience(flight, deadline)) as locked:
            self._busy_since = None
            if locked:
                self._look(key, flight)
            entry = self._memory.entry(renew())
            if locked and not flight.refuses(entry.token):
                self._write(key, entry.token)
            return entry

    def _patience(self, flight: Flight, deadline: float | None) -> tuple[float, bool]:
        """Return how long to wait for the lock, in s, and whether to leave if that is not enough.

        While the old token is good there is nothing to wait for: whoever has the lock renews it.
        """
        if flight.get() is not None:
            return 0.0, True
        now = time.monotonic()
        left = math.inf if deadline is None else deadline - now
        patience = self.lock_wait - (now - (self._busy_since or now))
        return min(left, patience), left <= patience

    def _look(self, key: str, flight: Flight) -> None:
        """Leave if another process wrote a fresh token; a stale one is kept to fall back on."""
        self._adopt(key, flight)
        if flight.fresh() is not None:
            raise _Left

    def _adopt(self, key: str, flight: Flight) -> None:
        """Take the token that is in the file, if it is better than ours."""
        record = _records(self.path).get(key)
        if record is None:
            return
        flight.adopt(self._memory.entry(record.token, record.issued_at))

    @contextmanager
    def _locked(self, seconds: float, leave: bool = False) -> Iterator[bool]:
        """Hold the lock between processes; gives False when there is none to be had.

        Raises:
            _Left: Others hold it for that long, and ``leave`` is set.
        """
        lock = self._lock(seconds, leave)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                _unlock(lock)

    def _lock(self, seconds: float, leave: bool) -> FileIO | None:
        if fcntl is None:
            return None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(self.path.with_name(self.path.name + ".lock"), seconds)
        except OSError as error:
            self._warn(error.strerror or type(error).__name__)
            return None
        if lock is not None:
            return lock
        if leave:
            raise _Left
        log.warning(
            "%r has been locked by others for %.3g s; going on in memory", str(self.path), seconds
        )
        return None

    def _holds(self, key: str, token: Token) -> bool:
        record = _records(self.path).get(key)
        return record is not None and record.token.value == token.value

    def _write(self, key: str, token: Token | None) -> None:
        """Change one key in the file; expired tokens go.  Call it under the lock."""
        now = self.wall()
        records = _records(self.path)
        records.pop(key, None)
        if token is not None:
            records[key] = _Record(token, now)
        tokens = {
            name: _written(record)
            for name, record in records.items()
            if Entry.of(record.token, 0, now, record.issued_at).expires_at > 0
        }
        try:
            _replace(self.path, json.dumps({"version": VERSION, "tokens": tokens}).encode())
        except OSError as error:
            self._warn(error.strerror or type(error).__name__)

    def _warn(self, reason: str) -> None:
        """Log, once for each reason, that the file is not used."""
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning("tokens are kept in memory, not in %r: %s", str(self.path), reason)


def _records(path: Path) -> dict[str, _Record]:
    """Return what is in the file and makes sense."""
    if fcntl is None:
        return {}
    try:
        body = json.loads(_content(path).decode(), parse_constant=_refuse)
        if type(body["version"]) is not int or body["version"] != VERSION:
            return {}
        found = body["tokens"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    records = ((key, _record(entry)) for key, entry in found)
    return {key: record for key, record in records if record is not None}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _record(found: Any) -> _Record | None:
    try:
        token = Token(found["value"], found["expires_at"], found["margin"])
        issued_at = number(found["issued_at"])
    except (KeyError, TypeError, ValueError):
        return None
    return None if issued_at is None else _Record(token, issued_at)


def _written(record: _Record) -> dict[str, Any]:
    token = record.token
    return {
        "value": token.value,
        "expires_at": token.expires_at,
        "issued_at": record.issued_at,
        "margin": token.margin,
    }


def _content(path: Path) -> bytes:
    """Read a file that is ours alone; one that others can read is made private first.

    Raises:
        OSError: There is no such file, or others can write it.
    """
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        _demand_ours(status)
        if status.st_mode & 0o022 or status.st_size > LARGEST:
            # The mode stays, else the next reader would believe what others may have written.
            raise OSError("others can write it, or it is too large to be ours")
        if status.st_mode & 0o077:
            os.fchmod(file, 0o600)
            log.warning("others could read %r; its mode is 0600 now", str(path))
        with open(file, "rb", closefd=False) as content:
            return content.read()
    finally:
        os.close(file)


def _demand_ours(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it is not a regular file of this user")


def _replace(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that it is the old or the new one whenever we are killed.

    Raises:
        OSError: The file is as it was.
    """
    with suppress(FileNotFoundError):
        _demand_ours(os.lstat(path))
    _sweep(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def _sweep(path: Path) -> None:
    """Remove what a writer left that was killed; under the lock there is no other writer."""
    leftover = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.tmp")
    for name in os.listdir(path.parent):
        if leftover.fullmatch(name):
            with suppress(OSError):
                os.unlink(path.parent / name)


def _sync_directory(path: Path) -> None:
    """See to it that the new name outlives a power cut, where the file system can."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # the file is in place; some file systems cannot do this
            os.fsync(directory)
    finally:
        os.close(directory)


_held: set[FileIO] = set()


def _lock(path: Path, seconds: float) -> FileIO | None:
    """Return the locked file, or None if others hold it for that long.

    Raises:
        OSError: It cannot be locked at all.
    """
    deadline = time.monotonic() + seconds
    while True:
        lock = _try_lock(path)
        if lock is not None:
            return lock
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        Event().wait(min(POLL, left))


def _try_lock(path: Path) -> FileIO | None:
    lock = FileIO(path, "r+", opener=_open_lock)
    try:
        _demand_ours(os.fstat(lock.fileno()))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except BaseException:
        lock.close()
        raise
    _held.add(lock)
    return lock


def _open_lock(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def _unlock(lock: FileIO) -> None:
    if lock.closed:  # in the child of a fork, where the lock is the parent's
        return
    _held.discard(lock)
    with lock:
        # Closing is not enough: a forked child may hold the same open file.
        fcntl.flock(lock, fcntl.LOCK_UN)


def _forked() -> None:
    """Close the parent's locks in the child of a fork: else they would be held until both end."""
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
