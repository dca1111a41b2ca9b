"""Transports that record what is sent and what comes back, and that replay it.

A recording is made beside the answer: its bytes are handed out as they arrive, and are written down
when it ends.  A replay asks nobody: it opens no connection and looks no name up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
import json
import logging
import secrets
import threading
from typing import Any
from urllib.parse import unquote
import weakref

import requests

from chatsdk.cassettes import (
    append,
    begin,
    broken,
    Cassette,
    Fault,
    Player,
    RecordedExchange,
    wait_until,
)
from chatsdk.credentials import answered_headers, blurred, Credentials, REMOVED, sent_headers
from chatsdk.deadlines import Watch
from chatsdk.errors import (
    APITimeoutError,
    CancelledError,
    CassetteError,
    ChatError,
    ConfigurationError,
    MissingCredentialsError,
    quoted,
)
from chatsdk.failures import connection_error, innermost
from chatsdk.records import evolve
from chatsdk.responses import Response
from chatsdk.retry import Budget
from chatsdk.tokens import MemoryTokenStore, Token, TokenStore
from chatsdk.transport import Ends, Transport
from chatsdk.wire import inflate, Request

log = logging.getLogger(__name__)

LEFT = Fault("left", "read")
MASK = REMOVED[:-1]  # how all that stands for a credential begins
Chunks = list[tuple[float, bytes]]


class TapeTransport(Transport):
    """A transport that records, replays, or replays what is there and records the rest.

    Its tokens are its own: a recording has every token call that it needs, and a token that is none
    reaches no store that others share.

    Args:
        record: Where exchanges are written to.
        replay: Where they are looked for.
        proxy: See `Transport`.
        verify: See `Transport`.

    Raises:
        CassetteError: A cassette cannot be read or written.
        ConfigurationError: A strict replay cannot be recorded to.
    """

    def __init__(
        self,
        record: Cassette | None,
        replay: Cassette | None,
        *,
        proxy: str | None,
        verify: bool | str | None,
    ) -> None:
        self._own = _OwnTokens(made_up=record is None)
        super().__init__(proxy=proxy, verify=verify, token_store=self._own)
        if record is not None and replay is not None and replay.match == "strict":
            raise ConfigurationError(
                "record= and replay= together ask for what is missing, wherever it is missing;"
                " match='strict' keeps to one order"
            )
        self._record = record
        self._speed = 0.0 if replay is None else replay.speed
        if record is not None:
            begin(record.path)
        self._player: Player | None = None
        if replay is not None and (record is None or replay.path.exists()):
            self._player = Player(replay, alone=record is None)
        self._credentials = Credentials()
        self._unwritten: CassetteError | None = None
        self._real_tokens = False  # whether tokens are asked for, not replayed

    def _begin(self) -> None:
        super()._begin()
        self._here = threading.local()
        # By call: whether steps of it were replayed (False), or all of them are asked for (True).
        self._asking: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._states = threading.RLock()  # a finalizer may send its clean-up inside of it

    def budget(self, host: str) -> Budget:
        """Return what may be spent on retries at a host; those of a replay cost nothing."""
        return super().budget(host) if self._record is not None else _FREE

    def began(self, call: Ends) -> None:
        """Keep count of the calls, and of the one that this thread sends for."""
        super().began(call)
        self._here.call = weakref.ref(call)

    def send(
        self, prepared: requests.PreparedRequest, request: Request, watch: Watch
    ) -> Response:
        """Send a request, or find its answer; wait for the head of it."""
        asked = self._asked(prepared, request)
        found = self._found(asked)
        if found is not None:
            return self._replayed(found, watch)
        if self._record is None:
            assert self._player is not None  # one of the two there is
            raise self._player.miss(asked)
        if self._player is not None:
            refused = self._unsendable(prepared, request, asked)
            if refused is not None:
                return refused.response(watch)
        return self._recorded(prepared, request, watch, asked)

    def _asked(self, prepared: requests.PreparedRequest, request: Request) -> RecordedExchange:
        """Return a request as it is written down and compared."""
        known = self._credentials
        known.learn_headers(prepared.headers)
        kind, body = "", None
        if request.json is not None:
            kind, body = "json", json.loads(prepared.body or b"null")
        elif request.form is not None:
            kind, body = "form", dict(request.form)
        body = known.stripped(blurred(body, request.varies))
        return RecordedExchange(
            provider=getattr(self._call(), "provider", None),
            method=request.method,
            url=known.stripped_url(str(prepared.url), request.varies),
            headers=sent_headers(prepared.headers),
            body=body,
            kind=kind,
            token=self._own.asking,
            at=datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        )

    # Replaying

    def _found(self, asked: RecordedExchange) -> RecordedExchange | None:
        if self._player is None or (self._real_tokens if asked.token else self._state() is True):
            return None
        found = self._player.find(asked)
        if found is not None and not asked.token:
            self._note(False)
        return found

    def _call(self) -> Ends | None:
        """Return the call that this thread sends for."""
        known: weakref.ref[Ends] | None = getattr(self._here, "call", None)
        return None if known is None else known()

    def _state(self) -> bool | None:
        call = self._call()
        with self._states:
            return None if call is None else self._asking.get(call)

    def _note(self, state: bool) -> None:
        call = self._call()
        if call is not None:
            with self._states:
                self._asking[call] = state

    def _replayed(self, found: RecordedExchange, watch: Watch) -> Response:
        began = watch.clock()
        watch.begin("first")
        head = found.elapsed if found.head is None else found.head
        wait_until(began + head / self._speed, watch)
        if watch.cancelled:
            raise ConnectionAbortedError("cancelled")
        if found.status is None:
            raise broken(found, watch)
        watch.cut = found.cut
        return found.response(watch, speed=self._speed)

    def _unsendable(
        self, prepared: requests.PreparedRequest, request: Request, asked: RecordedExchange
    ) -> RecordedExchange | None:
        """See to it that what was replayed is not sent to a service, which would not know it.

        Returns:
            A refusal of the token that was replayed: the call then asks for a real one.

        Raises:
            CassetteError: Steps of this call were replayed; tried again, all of them are asked for.
            MissingCredentialsError: There is no key to ask with.
        """
        if self._state() is False:
            self._note(True)
            raise CassetteError(
                f"{asked.method} {asked.url.partition('?')[0]} is not in the recording, but the"
                " steps of the call before it are; tried again, it asks for all of them",
                retryable=True,
            )
        sent = (unquote(str(prepared.url)), *map(str, prepared.headers.values()))
        if not any(MASK in text for text in sent):
            return None
        if request.grant is not None:
            self._real_tokens = True
            return evolve(asked, status=401, reason="Unauthorized")
        raise MissingCredentialsError(
            f"{asked.method} {asked.url.partition('?')[0]} is not in the recording, and there is no"
            " key to ask with; give api_key=..., or set its variable",
            provider=asked.provider,
        )

    # Recording

    def _recorded(
        self,
        prepared: requests.PreparedRequest,
        request: Request,
        watch: Watch,
        asked: RecordedExchange,
    ) -> Response:
        failed, self._unwritten = self._unwritten, None
        if failed is not None:
            raise failed
        began = watch.clock()
        try:
            response = super().send(prepared, request, watch)
        except Exception as error:
            fault = _fault(error, watch, request)
            if fault is not None and fault.kind != "left":
                elapsed = watch.clock() - began
                self._keep(evolve(asked, elapsed=elapsed, fault=fault), [], request)
            raise
        self._credentials.learn_headers(response.headers)
        answered = evolve(
            asked,
            head=watch.clock() - began,
            status=response.status_code,
            reason=response.reason or "",
            answer_headers=answered_headers(response.headers),
            cut=watch.cut,
        )

        def ended(chunks: Chunks, fault: Fault | None) -> None:
            elapsed = watch.clock() - began
            self._keep(evolve(answered, elapsed=elapsed, fault=fault), chunks, request)

        response.raw = _Recording(
            response.raw,
            watch,
            began,
            ended,
            lambda error: _fault(error, watch, request),
            self._missed,
        )
        return response

    def _missed(self, error: CassetteError) -> None:
        """Keep an error that nobody could be told for the next call."""
        log.warning("an exchange was not recorded: %s", error)
        self._unwritten = error

    def _keep(self, exchange: RecordedExchange, chunks: Chunks, request: Request) -> None:
        """Write an exchange down, without credentials."""
        assert self._record is not None
        known = self._credentials
        headers = {name: known.hide(value) for name, value in exchange.answer_headers.items()}
        private = request.confidential or exchange.token
        chunks, plain = _decoded(chunks, headers.get(_encoding(headers)), known, private)
        if plain:
            headers.pop(_encoding(headers), None)
        if private and exchange.status is not None and exchange.status < 300:
            chunks = _masked(chunks, known)
        bodies = known.hide_in([data for _, data in chunks])
        fault = exchange.fault
        kept = evolve(
            exchange,
            reason=known.hide(exchange.reason),
            answer_headers=headers,
            chunks=tuple((at, data) for (at, _), data in zip(chunks, bodies)),
            fault=None if fault is None else evolve(fault, text=known.hide(fault.text)),
        )
        append(self._record.path, kept)


class _Free(Budget):
    """A budget that is never used up: a replay is over in a moment, whatever failed in it."""

    def _pay(self, cost: float) -> bool:
        return True


_FREE = _Free()


def _encoding(headers: Any) -> str:
    """Return the name of the header with the content encoding, in the case in which it stands."""
    return next((name for name in headers if name.lower() == "content-encoding"), "")


def _fault(error: Exception, watch: Watch, request: Request) -> Fault | None:
    """Return how an exchange ended, or None if nothing of it is the service's or the network's."""
    failure = connection_error(error, watch, request, None)
    if isinstance(failure, CancelledError):
        return LEFT
    if isinstance(failure, APITimeoutError):
        return Fault("timeout", failure.phase)
    if isinstance(failure, ConfigurationError):
        return None
    cause = innermost(error)
    kind = "certificate" if "is not trusted" in str(failure) else "connection"
    text = f"{type(cause).__name__}: {quoted(cause)}"
    return Fault(kind, watch.phase, text, watch.reused and watch.phase == "first")


def _decoded(
    chunks: Chunks, encoding: str | None, known: Credentials, private: bool
) -> tuple[Chunks, bool]:
    """Return chunks without their content encoding, and whether it is off.

    A body that cannot be decoded to its end is kept as it came, for that is how it is replayed;
    unless a credential would be kept in it.
    """
    if encoding is None:
        return chunks, True
    now = 0.0
    plain: Chunks = []

    def feed() -> Iterator[bytes]:
        nonlocal now
        for now, data in chunks:
            yield data

    try:
        for data in inflate(feed(), encoding):
            plain.append((now, data))
    except ChatError:
        bodies = [data for _, data in plain]
        if not private and known.hide_in(bodies) == bodies:
            return chunks, False
    return plain, True


def _masked(chunks: Chunks, known: Credentials) -> Chunks:
    """Return the body of an answer that is a credential, as one chunk with masks."""
    whole = b"".join(data for _, data in chunks)
    if not whole.strip():
        return chunks
    try:
        document = known.masked(json.loads(whole))
        written = REMOVED if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    except (ValueError, RecursionError):
        written = REMOVED
    return [(chunks[-1][0], written.encode())]


class _Recording:
    """The raw body of an answer, of which is kept what is read."""

    def __init__(
        self,
        raw: Any,
        watch: Watch,
        began: float,
        ended: Callable[[Chunks, Fault | None], None],
        fault: Callable[[Exception], Fault | None],
        missed: Callable[[CassetteError], None],
    ) -> None:
        self._raw = raw
        self._watch = watch
        self._began = began
        self._ended = ended
        self._fault = fault
        self._missed = missed
        self._chunks: Chunks = []
        self._open = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Return the next bytes, and keep them."""
        try:
            data: bytes = self._raw.read1(amt, decode_content=decode_content)
        except Exception as error:
            self._end(self._fault(error) or LEFT)
            raise
        if data:
            self._chunks.append((self._watch.clock() - self._began, data))
        else:
            self._end(LEFT if self._watch.cancelled else None)  # a socket that we shut ends like so
        return data

    def close(self) -> None:
        """Close the answer; what was not read of it is not in the recording."""
        try:
            self._end(LEFT)
        except CassetteError as error:
            self._missed(error)
        finally:
            self._raw.close()

    def _end(self, fault: Fault | None) -> None:
        if self._open:
            self._open = False
            self._ended(self._chunks, fault)


class _OwnTokens(TokenStore):
    """Tokens in memory; what is asked for inside of a renewal is a token call.

    Args:
        made_up: Whether a token is made up where the recording has none: no answer depends on it.
    """

    def __init__(self, *, made_up: bool) -> None:
        self._store = MemoryTokenStore()
        self._made_up = made_up
        self._here = threading.local()

    @property
    def asking(self) -> bool:
        """Whether this thread asks for a token."""
        return getattr(self._here, "asking", False)

    def get(self, key: str) -> Token | None:
        """Return the token if there is one."""
        return self._store.get(key)

    def put(self, key: str, token: Token) -> None:
        """Keep a token."""
        self._store.put(key, token)

    def discard(self, key: str, token: Token) -> None:
        """Forget a token that was refused."""
        self._store.discard(key, token)

    def fetch(
        self, key: str, renew: Callable[[], Token], *, timeout: float | None = None
    ) -> Token:
        """Return a token, renewed if need be."""

        def renewed() -> Token:
            self._here.asking = True
            try:
                return renew()
            except CassetteError:
                if not self._made_up:
                    raise
                return Token(f"{MASK}-{secrets.token_hex(4)}>")
            finally:
                self._here.asking = False

        return self._store.fetch(key, renewed, timeout=timeout)
