"""Each fault, to each service, by both ways of asking: the error, the text, and what is left."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
import copy
from datetime import datetime, timezone
import json
import logging
import pickle
import re
import socket
import ssl
import threading
import time
import traceback
import zlib

from faults import (
    EARLIER,
    EXPIRIES,
    FAULTS,
    GIVES_UP,
    HANDSHAKES,
    RETRY_AFTER,
    SHORT,
    SILENT,
    SOME,
    TOTAL,
    UNTRUSTED,
    VALUES,
    WHOLE,
    WRONG,
)
import hostile
from hostile import (
    alone,
    begin,
    body,
    chat,
    COOKIE,
    DIALECTS,
    does,
    end,
    fin,
    first,
    FIRST,
    forged,
    FULL,
    in_turn,
    issue,
    KEY,
    PIECES,
    PROMPT,
    raw,
    reset,
    serving,
    stall,
    status,
    TOKEN,
)
import pytest
import trustme

from chatsdk import RetryPolicy, Timeout
from chatsdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ChatError,
    ProtocolError,
    ServerError,
    StreamInterruptedError,
)

SLACK = 1.5  # s: 0.5 that are allowed, and what a loaded machine takes
SECRETS = (KEY, COOKIE, PROMPT, TOKEN)
CLIENTS = []  # those of the running test


@contextmanager
def pair():
    """Give a server, and another one of which it knows the address."""
    with serving() as server, serving() as other:
        server.other = other.url
        yield server, other


@pytest.fixture(scope="module")
def servers():
    with pair() as servers:
        yield servers


@pytest.fixture
def server(servers):
    server, _ = servers
    server.forget()
    yield server
    for client in CLIENTS:
        client.close()
    CLIENTS.clear()
    assert server.deserted()


HEARD = ContextVar("HEARD", default=None)


class _Ear(logging.Handler):
    def emit(self, record):
        heard = HEARD.get()
        if heard is not None:
            heard.append(record)


@pytest.fixture(scope="module")
def listen():
    """Return what gives a list that the log of one call goes to, also beside other calls."""
    ear, logs = _Ear(), [logging.getLogger(name) for name in ("chatsdk", "urllib3")]
    for log in logs:
        log.addHandler(ear)
        log.setLevel(logging.DEBUG)
        log.propagate = False  # pytest would write all of it down

    def begin_to_listen():
        heard = []
        HEARD.set(heard)
        return heard

    yield begin_to_listen
    for log in logs:
        log.removeHandler(ear)
        log.setLevel(logging.NOTSET)
        log.propagate = True


def client_of(server, name, **options):
    client = hostile.client_of(server.url, name, **options)
    CLIENTS.append(client)
    return client


def ask(client, mode, **params):
    """Return the text that was handed out and the error, of which one may be missing."""
    pieces = []
    try:
        if mode == "chat":
            return client.chat(PROMPT, **params).text, None
        for piece in client.stream(PROMPT, **params):
            pieces.append(piece)
        return "".join(pieces), None
    except BaseException as error:
        return "".join(pieces), error


MODES = ("chat", "stream")


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=fault.name) for fault in FAULTS if not fault.waits]
)
def test_a_fault_ends_as_the_table_says(servers, listen, subtests, fault):
    for name in fault.only:
        for mode in MODES:
            with subtests.test(service=name, mode=mode):
                ends_as_the_table_says(*servers, listen(), fault, name, mode)


@pytest.mark.ahead
@pytest.mark.parametrize(
    "fault, name, mode",
    [
        pytest.param(fault, name, mode, id=f"{fault.name}-{name}-{mode}")
        for fault in FAULTS
        for name in fault.only
        for mode in MODES
        if fault.waits
    ],
)
def test_a_fault_that_takes_time_ends_as_the_table_says(listen, fault, name, mode):
    with pair() as servers:
        ends_as_the_table_says(*servers, listen(), fault, name, mode)


def ends_as_the_table_says(server, other, heard, fault, name, mode):
    for one in (server, other):
        one.forget()
    server.answers["chat"] = fault.answer
    with hostile.client_of(
        server.url, name, timeout=fault.timeout, limits=fault.limits
    ) as client:
        began = time.monotonic()
        handed, error = ask(client, mode)
        took = time.monotonic() - began

        wanted = fault.cell("error", name)
        if wanted is None:
            assert error is None
            assert handed == fault.cell("text", name) or FULL
        else:
            check_error(error, wanted, fault, name)
            check_text(error, handed, fault.cell("text", name), mode)
            check_secrets(error, heard)
        assert took < fault.within + SLACK
        assert server.count("chat") == fault.cell("asked", name)
        check_next(server, client, name)
        assert server.settled()
    assert server.deserted()
    assert not other.accepted


def check_error(error, wanted, fault, name):
    if type(error) is not wanted:
        raise error or AssertionError("no error")
    assert error.provider == name
    if fault.status is not None:
        assert error.status_code == fault.status
    if isinstance(error, APITimeoutError):
        assert error.phase == fault.phase
    if isinstance(error, APIStatusError):
        assert len(error.body) <= 2**16
    assert str(error).isprintable() and len(str(error)) < 1500
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin.args == error.args
        assert twin.__dict__ == error.__dict__


def check_text(error, handed, text, mode):
    partial = "" if error.partial is None else error.partial.text
    if text is SOME:
        assert partial
    else:
        assert partial == text
    if mode == "stream":
        assert handed == partial


def check_secrets(error, heard):
    told = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    logged = [record.getMessage() for record in heard]
    assert logged
    assert all(line.isprintable() for line in logged)
    for secret in SECRETS:
        assert not [words for words in told + logged if secret in words]
    assert not [words for words in logged if FULL[:3] in words]


def check_next(server, client, name):
    """Assert that the same client answers the next question at once, whatever came before."""
    assert not server.conversations
    server.answers.clear()
    assert client.chat(PROMPT, timeout=Timeout(**hostile.PATIENT)).text == FULL
    assert not server.conversations


# Before and after the question


@pytest.mark.ahead
@pytest.mark.parametrize(
    "step, name, fault, mode",
    [
        pytest.param(*case, MODES[number % 2], id=case[2].name)
        for number, case in enumerate(EARLIER)
    ],
)
def test_a_fault_beside_the_question_ends_as_the_table_says(listen, step, name, fault, mode):
    heard = listen()
    with pair() as (server, other):
        server.answers[step] = fault.answer
        with hostile.client_of(
            server.url, name, timeout=fault.timeout, limits=fault.limits
        ) as client:
            began = time.monotonic()
            handed, error = ask(client, mode)
            took = time.monotonic() - began

            if fault.error is None:
                assert error is None
                assert handed == FULL
            else:
                check_error(error, fault.error, fault, name)
                check_secrets(error, heard)
                assert server.count("chat") == 0
            assert took < fault.within + SLACK
            assert server.count(step) == fault.asked
            if step == "delete":
                assert any("clean-up at h2o failed" in record.getMessage() for record in heard)
                server.conversations.clear()
            if step != "token":  # where an issuer that has failed is left alone for a while
                check_next(server, client, name)
            assert server.settled()
        assert server.deserted()
        assert not other.accepted


@pytest.mark.ahead
@pytest.mark.parametrize("fault", WHOLE, ids=lambda fault: fault.name)
def test_an_answer_in_one_piece_ends_as_the_table_says(fault):
    with alone() as server:
        server.answers["chat"] = fault.answer
        with hostile.client_of(
            server.url, "gigachat", timeout=fault.timeout, limits=fault.limits
        ) as client:
            text, error = ask(client, "chat", stream=False)

            assert server.count("chat") == fault.asked
            if fault.error is None:
                assert (text, error) == (FULL, None)
            else:
                check_error(error, fault.error, fault, "gigachat")
            check_next(server, client, "gigachat")


def test_a_failing_clean_up_does_not_hide_the_first_error(server):
    server.answers.update(chat=does(begin(), first, reset), delete=status(500), stop=reset)
    client = client_of(server, "h2o")

    _, error = ask(client, "chat")

    assert type(error) is StreamInterruptedError
    assert error.partial.text == FIRST


@pytest.mark.parametrize("how", ["close", "break", "raise", "forget", "interrupt"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_that_is_left_early_leaves_nothing(server, name, how):
    server.answers["chat"] = does(begin(), first, stall)
    client = client_of(server, name)
    stream = client.stream(PROMPT)
    assert next(stream) == FIRST

    if how == "close":
        stream.close()
    elif how == "break":
        with stream:
            pass
    elif how == "forget":
        del stream
    else:
        error = ValueError if how == "raise" else KeyboardInterrupt
        with pytest.raises(error), stream:
            raise error

    assert server.settled()
    assert not server.conversations
    if name == "h2o":
        assert server.steps[-2:] == ["stop", "delete"]


# Wrong types


@pytest.mark.parametrize("mode", ["chat", "stream"])
@pytest.mark.parametrize(
    "name, frame",
    [pytest.param(name, frame, id=f"{name} {frame}") for name in WRONG for frame in WRONG[name]],
)
def test_a_member_of_the_wrong_type_is_read_or_refused_and_loses_no_text(
    server, name, frame, mode
):
    client = client_of(server, name, max_retries=0)
    for value in VALUES:
        server.answers["chat"] = does(begin(), first, body(frame.replace(b"@", value)), end)

        handed, error = ask(client, mode)

        if error is None:
            assert handed.startswith(FIRST)
        else:
            assert isinstance(error, ChatError), value
            assert error.partial.text.startswith(FIRST), value
            assert str(error).isprintable()
            assert pickle.loads(pickle.dumps(error)).partial == error.partial


# Any byte


def _whole_frames(dialect, received):
    """Return the text of the whole frames in the beginning of a body, and whether its mark is."""
    if dialect.name == "aura":
        return received.decode(errors="ignore"), False
    text = ""
    sent = b""
    for piece in PIECES:
        sent += dialect.frame(piece).rstrip(b"\n") + b"\n"
        if len(received) < len(sent):
            return text, False
        text += piece
        sent += b"\n" * (len(dialect.frame(piece)) - len(dialect.frame(piece).rstrip(b"\n")) - 1)
    named, rest = re.match(rb"(event:.*\n)?(.*)", dialect.mark).groups()
    seal = (named or b"") + rest + b"\n"
    return text, dialect.marked and len(received) >= len(sent + seal)


@pytest.mark.parametrize("cut", ["close", "reset", "chunked", "length"])
@pytest.mark.parametrize("name", DIALECTS)
def test_an_answer_broken_at_any_byte_gives_the_whole_frames_and_no_more(server, name, cut):
    dialect = DIALECTS[name]
    content = dialect.body()
    client = client_of(server, name, max_retries=0)
    framing = {"length": "99999", "reset": "99999"}.get(cut, cut)
    step = 7 if len(content) > 200 else 1
    for length in range(0, len(content) + 1, step):
        received = content[:length]
        # A last line without its end is a line where the body ends well.
        whole = received + b"\n" if cut == "close" and name != "aura" else received
        text, complete = _whole_frames(dialect, whole)
        last = reset if cut == "reset" else fin
        server.answers["chat"] = does(begin(framing=framing), body(received), last)

        handed, error = ask(client, "stream")

        if error is None:
            assert complete or (cut == "close" and not dialect.marked), length
            assert handed == text or name == "aura", length
            assert handed.rstrip("\ufffd") == text, length
        else:
            assert isinstance(error, (StreamInterruptedError, ProtocolError)), length
            assert not complete, length
            assert handed == (error.partial.text if error.partial else "") == text, length


@pytest.mark.parametrize("wbits", [31, 15, -15])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_compressed_answer_cut_at_any_byte_is_never_taken_for_a_whole_one(server, name, wbits):
    dialect = DIALECTS[name]
    content = b""
    packer = zlib.compressobj(wbits=wbits)
    for piece in PIECES:
        content += packer.compress(dialect.frame(piece)) + packer.flush(zlib.Z_SYNC_FLUSH)
    content += packer.compress(dialect.mark) + packer.flush()
    encoding = "gzip" if wbits == 31 else "deflate"
    client = client_of(server, name, max_retries=0)
    for length in range(0, len(content), 3):
        server.answers["chat"] = does(
            begin(encoding=encoding, framing="close"), body(content[:length]), fin
        )

        handed, error = ask(client, "stream")

        if error is None:
            assert dialect.marked or length == 0
            assert handed == (FULL if length else "")
        else:
            assert isinstance(error, (StreamInterruptedError, ProtocolError))
            assert FULL.startswith(handed)
            assert handed == (error.partial.text if error.partial else "")


# Connections that are used again


KEPT = {
    "it is closed while idle": lambda peer: (chat(peer), peer.fin()),
    "it is reset while idle": lambda peer: (chat(peer), peer.reset()),
    "an answer that nobody asked for comes": lambda peer: (chat(peer), forged(peer)),
    "half an answer that nobody asked for comes": lambda peer: (chat(peer), peer.send(b"HTTP/1")),
}


@pytest.mark.parametrize("fault", KEPT)
@pytest.mark.parametrize("name", DIALECTS)
def test_a_kept_connection_that_goes_bad_is_replaced(server, name, fault):
    slept = []
    server.keeps = True
    server.answers["chat"] = KEPT[fault]
    client = client_of(server, name, max_retries=RetryPolicy(1, sleep=slept.append))

    for _ in range(3):
        assert client.chat(PROMPT).text == FULL
        assert server.settled()

    assert server.count("chat") == 3
    assert not slept


@pytest.mark.parametrize("last", [fin, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_kept_connection_that_dies_as_the_request_comes_is_replaced_once_silently(
    server, listen, name, last
):
    def dies_if_used(peer):
        (last if peer.served else chat)(peer)

    slept = []
    heard = listen()
    server.keeps = True
    client = client_of(server, name, max_retries=RetryPolicy(1, sleep=slept.append))
    assert client.chat(PROMPT).text == FULL
    server.answers["chat"] = dies_if_used

    assert client.chat(PROMPT).text == FULL

    assert server.count("chat") == 3
    assert not slept
    assert heard
    assert not [record for record in heard if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("last", [fin, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("name", DIALECTS)
def test_the_new_connection_in_its_place_is_an_attempt_like_any_other(server, name, last):
    server.keeps = True
    client = client_of(server, name, max_retries=RetryPolicy(1, initial=0))
    assert client.chat(PROMPT).text == FULL
    before = server.count("chat")
    server.answers["chat"] = last

    _, error = ask(client, "chat")

    assert type(error) is APIConnectionError
    # An attempt of several steps comes on a connection that its first ones have used.
    again = 4 if name in ("h2o", "aichatonline", "tgi") else 3
    assert server.count("chat") - before == again


@pytest.mark.parametrize("name", DIALECTS)
def test_of_many_kept_connections_that_died_only_one_is_tried(server, listen, name):
    # The pool gives the one that came back last.  When one has died, another one comes back, as
    # from another thread, before the question is sent again.
    class Returning(logging.Handler):
        def emit(self, record):
            if "APIConnectionError" in record.getMessage() and streams:
                assert "".join(streams.pop()) == FULL

    slept = []
    server.keeps = True
    client = client_of(server, name, max_retries=RetryPolicy(1, sleep=slept.append))
    streams = [client.stream(PROMPT) for _ in range(4)]
    assert "".join(streams.pop()) == FULL
    server.answers["chat"] = lambda peer: (reset if peer.served else chat)(peer)

    log, returning = logging.getLogger("chatsdk.exchange"), Returning()
    log.addHandler(returning)
    try:
        assert client.chat(PROMPT).text == FULL
    finally:
        log.removeHandler(returning)

    assert server.count("chat") == 4 + 2
    assert len(streams) == 2
    assert not slept


@pytest.mark.parametrize("name", DIALECTS)
def test_a_kept_connection_that_dies_within_the_head_is_not_replaced_silently(server, name):
    slept = []
    server.keeps = True
    client = client_of(server, name, max_retries=RetryPolicy(1, sleep=slept.append))
    assert client.chat(PROMPT).text == FULL
    server.answers["chat"] = in_turn(does(raw("HTTP/1.1 200 OK\r\nA:"), reset), chat)

    assert client.chat(PROMPT).text == FULL

    assert len(slept) == 1


@pytest.mark.parametrize("name", DIALECTS)
def test_without_retries_nothing_is_sent_twice(server, name):
    server.keeps = True
    client = client_of(server, name, max_retries=0)
    assert client.chat(PROMPT).text == FULL
    for answer in (fin, reset, status(503), does(begin(), reset), does(begin(), end)):
        before = server.count("chat")
        server.answers["chat"] = answer

        ask(client, "chat")

        assert server.count("chat") == before + 1


@pytest.mark.ahead
@pytest.mark.parametrize("answer", [stall, does(begin(), stall)], ids=["first", "read"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_question_that_timed_out_is_sent_again_if_that_is_asked_for(name, answer):
    policy = RetryPolicy(1, initial=0, retry_timeouts=True)
    short = {**SHORT, **SILENT}
    with alone() as server:
        server.answers["chat"] = in_turn(answer, chat)
        with hostile.client_of(server.url, name, max_retries=policy, timeout=short) as client:
            assert client.chat(PROMPT).text == FULL

    assert server.count("chat") == 2


# Waiting as the server asks


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("headers, seconds", RETRY_AFTER, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("name", DIALECTS)
def test_retry_after_is_obeyed_in_every_sensible_form(server, name, headers, seconds, code):
    slept = []
    server.answers["chat"] = in_turn(status(code, b"", *headers), chat)
    policy = RetryPolicy(2, initial=0, sleep=slept.append)
    client = client_of(server, name, max_retries=policy, timeout={"total": 600})

    text, error = ask(client, "chat")

    if seconds == GIVES_UP:
        assert error.status_code == code
        assert error.retry_after > 60
        assert "wait" in str(error)
        assert not slept
    else:
        assert (text, slept) == (FULL, [seconds])


@pytest.mark.parametrize("name", DIALECTS)
def test_a_wait_that_would_not_end_in_time_is_not_begun(server, name):
    server.answers["chat"] = status(503, b"", "Retry-After: 30")
    client = client_of(server, name, timeout={"total": 20})

    began = time.monotonic()
    _, error = ask(client, "chat")

    assert error.retry_after == 30
    assert server.count("chat") == 1
    assert time.monotonic() - began < SLACK


# Tokens


@pytest.mark.parametrize("expiry, lasts", EXPIRIES, ids=lambda value: str(value)[:30])
def test_a_token_is_used_whatever_its_end_is_said_to_be(server, expiry, lasts):
    def token(peer):
        event = {"access_token": issue(server), "expires_at": expiry}
        if expiry is ...:
            del event["expires_at"]
        peer.reply(200, json.dumps(event).encode())

    server.answers["token"] = token
    client = client_of(server, "gigachat")

    for _ in range(3):
        assert client.chat(PROMPT).text == FULL

    assert len(server.tokens) == (1 if lasts else 3)


def test_the_other_form_of_a_token_answer_is_read(server):
    server.answers["token"] = lambda peer: peer.reply(
        200, json.dumps({"tok": issue(server), "exp": 4102444800}).encode()
    )
    client = client_of(server, "gigachat")

    assert client.chat(PROMPT).text == FULL


@pytest.mark.parametrize("retries", [0, 2])
def test_a_refused_token_is_renewed_once(server, retries):
    client = client_of(server, "gigachat", max_retries=retries)
    assert client.chat(PROMPT).text == FULL
    server.refused.update(server.tokens)

    assert client.chat(PROMPT).text == FULL

    assert server.steps == ["token", "chat", "chat", "token", "chat"]


def test_a_second_refusal_is_final(server):
    server.answers["chat"] = status(401, b'{"message":"no"}')
    client = client_of(server, "gigachat")

    _, error = ask(client, "chat")

    assert type(error) is AuthenticationError
    assert server.steps == ["token", "chat", "token", "chat"]


def test_an_issuer_that_returns_the_refused_token_is_an_error(server):
    expiry = {"expires_at": 4102444800000}
    server.answers["token"] = lambda peer: peer.reply(
        200, json.dumps({"access_token": f"{TOKEN}same", **expiry}).encode()
    )
    client = client_of(server, "gigachat")

    _, error = ask(client, "chat")

    assert type(error) is AuthenticationError
    assert server.steps == ["token", "chat", "token"]


@pytest.mark.ahead
def test_an_issuer_that_fails_twice_is_asked_three_times():
    proper = hostile.PROPER["token"]
    with alone() as server:
        server.answers["token"] = in_turn(status(503), fin, proper)
        with hostile.client_of(server.url, "gigachat") as client:
            assert client.chat(PROMPT).text == FULL

    assert server.steps == ["token", "token", "token", "chat"]


def test_a_late_refusal_of_an_old_token_keeps_the_new_one(server):
    late = threading.Event()

    def refuse_late(peer):
        late.wait(20)
        peer.reply(401, b'{"message":"late"}')

    client = client_of(server, "gigachat")
    server.answers["chat"] = in_turn(refuse_late, chat)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.chat(PROMPT).text))
    thread.start()
    assert server.until(lambda: server.count("chat") == 1)
    server.refused.update(server.tokens)
    assert client.chat(PROMPT).text == FULL
    assert len(server.tokens) == 2

    late.set()
    thread.join(20)

    assert answers == [FULL]
    assert len(server.tokens) == 2


def test_many_threads_cause_one_token_call(server):
    proper = hostile.PROPER["token"]
    together = threading.Barrier(32)
    server.answers["token"] = lambda peer: (peer.pause(0.1), proper(peer))
    client = client_of(server, "gigachat")
    answers = []

    def run():
        together.wait(20)
        answers.append(client.chat(PROMPT).text)

    threads = [threading.Thread(target=run) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert answers == [FULL] * 32
    assert server.count("token") == 1
    assert server.settled()


def test_a_failing_issuer_is_called_a_bounded_number_of_times_by_many_threads(server):
    together = threading.Barrier(32)
    server.answers["token"] = lambda peer: (peer.pause(0.1), peer.reply(500, b""))
    client = client_of(server, "gigachat", max_retries=0)
    errors = []

    def run():
        together.wait(20)
        errors.append(ask(client, "chat")[1])

    threads = [threading.Thread(target=run) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert [error.status_code for error in errors] == [500] * 32
    assert server.count("token") <= 3
    assert server.count("chat") == 0


# A dead service


@pytest.mark.ahead
def test_a_dead_service_costs_a_bounded_number_of_requests():
    errors = []

    def run():
        for _ in range(3):
            errors.append(ask(client, "chat")[1])

    threads = [threading.Thread(target=run) for _ in range(8)]
    policy = RetryPolicy(99, initial=0)
    with alone() as server, hostile.client_of(server.url, "aura", max_retries=policy) as client:
        server.answers["chat"] = status(503)
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        took = time.monotonic() - began

    # 24 calls would be 2400 requests.  The bucket pays for 100 retries, and for one call a second;
    # the calls that ran when it became empty had their first attempt each.
    assert server.count("chat") <= 100 + 2 * 8 + took
    assert len(errors) == 24
    assert {type(error) for error in errors} <= {ServerError, APIConnectionError}
    assert {error.circuit for error in errors} == {"open"}


# No connection at all


@pytest.mark.parametrize("mode", ["chat", "stream"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_refused_connection_is_tried_again(server, name, mode):
    slept = []
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    policy = RetryPolicy(2, initial=0, sleep=slept.append)
    client = client_of(server, name, max_retries=policy, base_url=f"http://127.0.0.1:{port}")

    _, error = ask(client, mode)

    assert type(error) is APIConnectionError
    assert slept == [0, 0]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_host_without_an_address_is_tried_again(server, monkeypatch, name):
    def unknown(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    slept = []
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    policy = RetryPolicy(2, initial=0, sleep=slept.append)
    client = client_of(server, name, max_retries=policy)

    _, error = ask(client, "chat")

    assert type(error) is APIConnectionError
    assert slept == [0, 0]


# TLS


@pytest.fixture(scope="module")
def tls(authority):
    """What gives a server with a certificate: a good one, or one that nobody should trust."""
    past = datetime(2001, 1, 1, tzinfo=timezone.utc)
    certificates = {
        "good": authority.issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_after=past),
        "for another host": authority.issue_cert("example.org"),
        "of an unknown authority": trustme.CA().issue_cert("127.0.0.1"),
    }
    contexts = {}
    for name, certificate in certificates.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(contexts[name])
    return lambda name: alone(contexts[name])


@pytest.mark.parametrize("what, wanted, connections", UNTRUSTED, ids=lambda value: str(value))
@pytest.mark.parametrize("name", DIALECTS)
def test_a_certificate_that_cannot_be_trusted_is_refused_at_once(
    tls, ca_file, name, what, wanted, connections
):
    with tls(what) as server, hostile.client_of(server.url, name, verify=ca_file) as client:
        _, error = ask(client, "chat")

    assert type(error) is wanted
    assert "certificate" in str(error)
    assert server.accepted == connections
    assert not server.requests


@pytest.mark.ahead
@pytest.mark.parametrize(
    "fault, name",
    [
        pytest.param(fault, name, id=f"{fault.name}-{name}")
        for fault in HANDSHAKES
        for name in fault.only
    ],
)
def test_a_handshake_that_fails_ends_as_the_table_says(tls, ca_file, name, fault):
    # A token of the user's own: no issuer whose failures are waited for.
    own = {"access_token": TOKEN, "api_key": None} if name == "gigachat" else {}
    with tls("good") as server, hostile.client_of(
        server.url, name, verify=ca_file, timeout=fault.timeout, **own
    ) as client:
        server.greeting = lambda peer: (fault.answer(peer), peer.stall())
        began = time.monotonic()
        _, error = ask(client, "chat")
        took = time.monotonic() - began

    check_error(error, fault.error, fault, name)
    assert took < fault.within + SLACK
    assert server.accepted == fault.asked


TLS_FAULTS = {
    "whole": (chat, None),
    "reset after text": (does(begin(), first, reset), StreamInterruptedError),
    "closed after text": (does(begin(), first, fin), StreamInterruptedError),
    "stall after text": (does(begin(), first, stall), APITimeoutError),
    "drip after text": (does(begin(), first, hostile.dripping(b"ffff\r\n" + b"x" * 999)),
                        APITimeoutError),
    "stall without a byte": (stall, APITimeoutError),
    "reset without a byte": (reset, APIConnectionError),
}


@pytest.mark.ahead
@pytest.mark.parametrize("fault", TLS_FAULTS)
@pytest.mark.parametrize("name", DIALECTS)
def test_faults_behind_tls_are_those_without_it(tls, ca_file, name, fault):
    answer, wanted = TLS_FAULTS[fault]
    timeout = TOTAL if wanted is APITimeoutError else {}
    with tls("good") as server, hostile.client_of(
        server.url, name, verify=ca_file, timeout=timeout
    ) as client:
        server.answers["chat"] = answer
        text, error = ask(client, "stream")
        if wanted is None:
            assert (text, error) == (FULL, None)
        else:
            assert type(error) is wanted
            assert text.startswith(FIRST if "text" in fault else "")
        server.answers.clear()
        assert client.with_options(timeout=Timeout(**hostile.PATIENT)).chat(PROMPT).text == FULL

    assert not server.conversations
