"""Tokens that expire, and the store that keeps them in memory and renews each of them once.

What happens to a token, key by key::

    EMPTY ── REFRESHING ── FRESH ── STALE ── EXPIRED      FAILED: a renewal failed a moment ago
      │          │           │        │         │            │
    one thread asks,      handed   one asks,  as EMPTY     all wait for the end of a short hold,
    the others wait       out,     the others              then as EMPTY
    for its result        no lock  get the old one

Expiry told by a server is on the wall clock; what is kept here ends on the monotonic clock, so that
a wall clock which is set anew does no harm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
import copy
from hashlib import sha256
import logging
import math
import os
from threading import Condition, get_ident, RLock, TIMEOUT_MAX
import time
from typing import Any
from weakref import WeakSet

from attr import Attribute

from chatsdk.records import define, field, frozen

log = logging.getLogger(__name__)

DEFAULT_LIFE = 300.0  # s, of a token whose expiry is unknown
MAX_LIFE = 24 * 3600.0  # s, no expiry is believed beyond this
MARGIN = 60.0  # s
MILLISECONDS = 1e11  # from here on (the year 5138 in s) a Unix time is in ms
FIRST_HOLD, LONGEST_HOLD = 0.25, 8.0  # s, between two failed renewals
EARLY_PAUSE = 10.0  # s, between two early renewals when the first one failed


class TokenError(Exception):
    """The issuer's answer is of no use: it returned the very token that was refused."""


def _check_value(instance: Any, attribute: Attribute[str], value: Any) -> None:
    """Refuse what cannot be sent in a header, naming the place and not the value."""
    if not isinstance(value, str):
        raise ValueError(f"a token must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError("a token must not be empty")
    for position, character in enumerate(value):
        if character.isspace() or not character.isprintable() or ord(character) > 0xFF:
            raise ValueError(
                f"a token has a character at position {position} (of {len(value)}) that none has:"
                " a blank, a control character or one beyond Latin-1"
            )


def _check_seconds(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if value is None and attribute.default is None:
        return
    if number(value) is None:
        raise ValueError(f"{attribute.name} of a token must be a finite number of seconds")
    if attribute.name == "margin" and value < 0:
        raise ValueError("margin of a token must not be negative")


def number(value: Any) -> float | None:
    """Return a finite number as a float, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _parsed(value: Any) -> Any:
    """Return the number that is written in a string, if one is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None


@frozen
class Token:
    """A credential with a life time.

    Attributes:
        value: What is sent; never shown.
        expires_at: Unix time in s on this machine's clock; None: not known, good for
            `DEFAULT_LIFE` s from when it is put into a store.
        margin: How long before its end a renewal is due, in s; at most half of its life, so that a
            token of a few seconds is used and not renewed for ever.
    """

    value: str = field(repr=False, validator=_check_value)
    expires_at: float | None = field(default=None, validator=_check_seconds)
    margin: float = field(default=MARGIN, validator=_check_seconds)

    @classmethod
    def from_payload(
        cls,
        value: Any,
        expiry: Any,
        *,
        asked_at: float,
        server_date: float | None = None,
        margin: float = MARGIN,
    ) -> Token:
        """Make a token of an issuer's answer, and believe its expiry with care.

        Args:
            value: The token.
            expiry: A Unix time, in s or (from 1e11 on) in ms, maybe as a string.  What is no finite
                number counts as unknown.  At most `MAX_LIFE` of it is believed.
            asked_at: When it was asked for: Unix time in s on this machine's clock.
            server_date: The answer's own ``Date``, as a Unix time in s.  With it the life is the
                one that the issuer meant, however wrong this machine's clock is.
            margin: See `Token`.

        Raises:
            ValueError: The value is no token; the message does not quote it.
        """
        ends = number(_parsed(expiry))
        if ends is None:
            return cls(value, None, margin)
        if abs(ends) >= MILLISECONDS:
            ends /= 1000
        date = number(server_date)
        life = ends - (asked_at if date is None else date)
        return cls(value, asked_at + min(life, MAX_LIFE), margin)


@frozen
class Entry:
    """A token and its ends on the monotonic clock, in s.

    Attributes:
        token: The token.
        stale_at: From here on it is renewed early.
        expires_at: From here on it is not used any more.
    """

    token: Token
    stale_at: float
    expires_at: float

    @classmethod
    def of(cls, token: Token, now: float, wall: float, issued_at: float | None = None) -> Entry:
        """Return what is kept of a token.

        Args:
            token: The token.
            now: The time on the monotonic clock, in s.
            wall: The same moment as a Unix time, in s.
            issued_at: The Unix time when it was new, in s; None: it is new.
        """
        if issued_at is None:
            issued_at = wall
        ends = issued_at + DEFAULT_LIFE if token.expires_at is None else token.expires_at
        life = min(ends - issued_at, MAX_LIFE)
        age = max(wall - issued_at, 0.0)  # below 0 the clock was set back: a whole life at most
        expires_at = now + life - age
        return cls(token, expires_at - min(token.margin, max(life, 0.0) / 2), expires_at)


class TokenStore(ABC):
    """Where tokens are kept, each under a key that holds no credential.  Safe between threads."""

    @abstractmethod
    def get(self, key: str) -> Token | None:
        """Return the token if there is one that has not expired; nothing is renewed."""

    @abstractmethod
    def put(self, key: str, token: Token) -> None:
        """Keep a token in place of the one before."""

    @abstractmethod
    def discard(self, key: str, token: Token) -> None:
        """Forget a token that was refused, unless another one has taken its place."""

    @abstractmethod
    def fetch(
        self, key: str, renew: Callable[[], Token], *, timeout: float | None = None
    ) -> Token:
        """Return a token, renewed if need be: by one thread, for all.

        A token that is still good is returned when its early renewal fails.  After a failure the
        next renewal may begin only after a hold of up to 8 s, for which all callers wait.

        Args:
            key: Whose token; a digest.
            renew: Asks the issuer.  It has time limits of its own.
            timeout: How long to wait for the renewal of another thread or for the end of a hold,
                in s; None: as long as it takes.

        Raises:
            TimeoutError: It took others longer than that.
            TokenError: The issuer returned the token that was discarded.
            Exception: What `renew` raised.  All who waited for it get it, as copies whose
                ``__cause__`` is the original.
        """


@define(eq=False)
class _Round:
    """One renewal: who leads it, and what came of it."""

    leader: int | None = None
    outcome: Token | Exception | None = None


@define(eq=False)
class Flight:
    """The token of one key, and its renewals: never two at once.  For those who write stores.

    Attributes:
        entry: The newest token, maybe expired; read without a lock.
    """

    clock: Callable[[], float]
    entry: Entry | None = field(default=None, init=False)
    _refused: bytes | None = field(default=None, init=False, repr=False)  # a digest, no token
    _failures: int = field(default=0, init=False)
    _failed: str = field(default="", init=False)
    _hold_until: float = field(default=-math.inf, init=False)
    _early_at: float = field(default=-math.inf, init=False)
    _round: _Round | None = field(default=None, init=False)
    # An RLock: the collector may run a finalizer at any line, also one that asks for a token.
    _lock: RLock = field(factory=RLock, init=False, repr=False)
    _changed: Condition = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # `with` takes the lock, not the condition, whose __exit__ is Python code in which Ctrl-C
        # could strike before the lock is released.
        self._changed = Condition(self._lock)

    def forked(self) -> None:
        """Forget, in the child of a fork, what only the parent's threads could end."""
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._round = None

    def get(self) -> Token | None:
        """Return the token unless it has expired."""
        entry = self.entry
        return entry.token if entry is not None and self.clock() < entry.expires_at else None

    def fresh(self) -> Token | None:
        """Return the token unless a renewal is due."""
        entry = self.entry
        return entry.token if entry is not None and self.clock() < entry.stale_at else None

    def put(self, entry: Entry) -> None:
        """Keep a token, whatever was before: that it was refused once, or that renewals fail."""
        with self._lock:
            self._refused = None
            self._keep(entry)
            self._changed.notify_all()

    def adopt(self, entry: Entry) -> None:
        """Keep a token that others renewed, if it is better than ours."""
        with self._lock:
            if self.refuses(entry.token) or self.clock() >= entry.expires_at:
                return
            old = self.entry
            # Ours, found again, may look younger after the wall clock was set back.
            if old is not None and old.token.value == entry.token.value:
                return
            if old is None or old.expires_at < entry.expires_at:
                self._keep(entry)
                self._changed.notify_all()

    def discard(self, token: Token) -> None:
        """Forget a refused token if it is the current one, but know it again."""
        with self._lock:
            if self.entry is not None and self.entry.token.value == token.value:
                self.entry = None
                self._refused = _digest(token)

    def refuses(self, token: Token) -> bool:
        """Tell whether this is the token that was discarded last."""
        return self._refused is not None and self._refused == _digest(token)

    def fetch(self, renew: Callable[[], Entry], timeout: float | None) -> Token:
        """Return the token, renewed if need be; see `TokenStore.fetch`.

        When `renew` raises what is no `Exception` (Ctrl-C), one of the threads that wait leads.
        """
        token = self.fresh()
        if token is not None:
            return token
        if self._own_round() is not None:
            return self._within_renewal()
        try:
            found = self._turn(timeout)
            if found is None:
                return self._settled(_outcome(renew))
        except BaseException:
            self._step_down()
            raise
        try:
            return _given(found)
        finally:
            del found  # the error's traceback holds this frame: no cycle

    def _within_renewal(self) -> Token:
        """Return the old token to a thread that is about to renew it, as a finalizer may ask."""
        token = self.get()
        if token is None:
            raise RuntimeError("a renewal must not fetch the token that it is to renew")
        return token

    def _turn(self, timeout: float | None) -> Token | Exception | None:
        """Wait for a token or an error; None: it is up to this thread to renew."""
        joined: _Round | None = None
        with self._lock:
            deadline = math.inf if timeout is None else self.clock() + timeout
            while True:
                now = self.clock()
                usable = self._usable(now)
                if usable is not None:
                    return usable
                if joined is not None and joined.outcome is not None:
                    return joined.outcome
                joined = self._round = self._round or _Round()
                if joined.leader is None and now >= self._hold_until:
                    joined.leader = get_ident()
                    return None
                if now >= deadline:
                    raise TimeoutError(self._late())
                if not self._wait(now, deadline, joined):
                    deadline = -math.inf

    def _usable(self, now: float) -> Token | None:
        """Return the token if it is fresh, or good while it is not this thread's to renew."""
        entry = self.entry
        if entry is None or now >= entry.expires_at:
            return None
        led = self._round is not None and self._round.leader is not None
        return entry.token if now < entry.stale_at or led or now < self._early_at else None

    def _wait(self, now: float, deadline: float, joined: _Round) -> bool:
        """Wait for a change or the end of the hold; False: the deadline came first.

        That a wait is over is told by the wait, not by the clock, which may be a test's.
        """
        hold = self._hold_until if joined.leader is None else math.inf
        until = min(hold, deadline)
        seconds = None if until == math.inf else min(until - now, TIMEOUT_MAX)
        if self._changed.wait(seconds):
            return True
        if until == deadline:
            return False
        if self._hold_until == hold:  # else another thread led meanwhile, and failed
            self._hold_until = -math.inf
        return True

    def _late(self) -> str:
        reason = f"; the last renewal failed ({self._failed})" if self._failed else ""
        return f"the token was not renewed in time{reason}"

    def _settled(self, outcome: Entry | Exception) -> Token:
        """End this thread's round: tell those who wait, and return the token or raise the error."""
        with self._lock:
            if isinstance(outcome, Entry) and self.refuses(outcome.token):
                outcome = TokenError("the issuer returned the token that was refused")
            ended = self._own_round() or _Round()  # none is left in the child of a fork
            if isinstance(outcome, Entry):
                ended.outcome = outcome.token
                self._keep(outcome)
            else:
                ended.outcome = outcome
                self._fail(outcome)
            if ended is self._round:
                self._round = None
            self._changed.notify_all()
            old = self.get()
        try:
            if isinstance(ended.outcome, Token):
                return ended.outcome
            if old is None:
                raise ended.outcome
            log.warning(
                "the early renewal of a token failed (%s); the old one is still good", self._failed
            )
            return old
        finally:
            del outcome, ended  # no cycle, as above

    def _keep(self, entry: Entry) -> None:
        self.entry = entry
        self._failures, self._failed = 0, ""
        self._hold_until = self._early_at = -math.inf

    def _fail(self, error: Exception) -> None:
        now = self.clock()
        hold = min(LONGEST_HOLD, FIRST_HOLD * 2 ** min(self._failures, 16))
        self._failures += 1
        self._failed = type(error).__name__
        self._hold_until = now + hold
        self._early_at = now + EARLY_PAUSE

    def _own_round(self) -> _Round | None:
        current = self._round
        return current if current is not None and current.leader == get_ident() else None

    def _step_down(self) -> None:
        """Leave the lead, if this thread has it, to one of those who wait."""
        with self._lock:
            left = self._own_round()
            if left is not None:
                left.leader = None
                self._changed.notify_all()


def _outcome(renew: Callable[[], Entry]) -> Entry | Exception:
    try:
        return renew()
    except Exception as error:
        return error


def _digest(token: Token) -> bytes:
    return sha256(token.value.encode("latin-1")).digest()


def _given(found: Token | Exception) -> Token:
    """Return the token, or raise a copy: one error in many threads would mix their tracebacks."""
    if isinstance(found, Token):
        return found
    twin = _copy(found)
    try:
        if twin is found:
            raise found
        raise twin from found
    finally:
        del twin, found  # no cycle, as above


def _copy(error: Exception) -> Exception:
    """Return a copy, or the error itself when its class cannot be copied."""
    try:
        twin = copy.copy(error)
    except Exception as reason:
        log.debug("%s cannot be copied (%s)", type(error).__name__, type(reason).__name__)
        return error
    return twin if type(twin) is type(error) else error


@define(eq=False)
class MemoryTokenStore(TokenStore):
    """Tokens in the memory of this process: gone at its end, left behind when it is pickled.

    Attributes:
        clock: The monotonic clock, in s.
        wall: The wall clock: Unix time in s.
    """

    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    wall: Callable[[], float] = field(default=time.time, kw_only=True, repr=False)
    _flights: dict[str, Flight] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _stores.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def get(self, key: str) -> Token | None:
        """Return the token if there is one that has not expired; nothing is renewed."""
        flight = self._flights.get(key)
        return None if flight is None else flight.get()

    def put(self, key: str, token: Token) -> None:
        """Keep a token in place of the one before."""
        self.flight(key).put(self.entry(token))

    def discard(self, key: str, token: Token) -> None:
        """Forget a token that was refused, unless another one has taken its place."""
        self.flight(key).discard(token)

    def fetch(
        self, key: str, renew: Callable[[], Token], *, timeout: float | None = None
    ) -> Token:
        """Return a token, renewed if need be: by one thread, for all.  See `TokenStore.fetch`."""
        return self.flight(key).fetch(lambda: self.entry(renew()), timeout)

    def flight(self, key: str) -> Flight:
        """Return what is known of a key; for stores that are built on this one."""
        return self._flights.get(key) or self._flights.setdefault(key, Flight(self.clock))

    def entry(self, token: Token, issued_at: float | None = None) -> Entry:
        """Return a token with its ends on this store's clock; for stores built on this one.

        Args:
            token: The token.
            issued_at: The Unix time when it was new, in s; None: it is new.

        Raises:
            TypeError: It is no token.
        """
        if not isinstance(token, Token):
            raise TypeError(f"a renewal must return a Token, not {type(token).__name__}")
        return Entry.of(token, self.clock(), self.wall(), issued_at)

    def forked(self) -> None:
        """Make the locks anew in the child of a fork, and forget the parent's renewals."""
        for flight in self._flights.values():
            flight.forked()


_stores: WeakSet[MemoryTokenStore] = WeakSet()


def _forked() -> None:
    for store in list(_stores):
        store.forked()


process_store = MemoryTokenStore()  # holds no key, only tokens under digests

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
