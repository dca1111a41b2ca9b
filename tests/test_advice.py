"""Errors that tell what to do: whom was asked, how often, what went wrong, and the next step."""

from __future__ import annotations

import copy
import pickle
import re
import socket

import pytest
from servers import answer, chunk, document, frame, gigachat, head, said

from chatsdk import (
    AllFailedError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    CancelledError,
    ChatError,
    Client,
    errors,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    Timeout,
)
from chatsdk.advice import ADVICE, advice_for, explain, TIMEOUTS
from chatsdk.simulator import SERVICES, Simulator

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChatError)
]
BUSY = answer("", "503 Service Unavailable", X_Request_Id="r-7")
FACTS = r" \(gigachat:GigaChat, {}\); "


def client_of(server, **options):
    quick = RetryPolicy(sleep=lambda seconds: None, initial=1.0, random=lambda: 0.5)
    return Client(gigachat(server), **{"max_retries": quick, "proxy": "", **options})


def failed(server, *, kind=ChatError, **options):
    with client_of(server, **options) as client, pytest.raises(kind) as caught:
        client.chat("Hi")
    return caught.value


# What a message says


def test_a_message_names_target_cause_attempts_waits_id_and_next_step(serve):
    error = failed(serve(BUSY), kind=ServerError)

    facts = r"3 attempts in \d\.\d\d s, 1.50 s of them waits, request id r-7"
    assert re.fullmatch(
        "gigachat answered 503 Service Unavailable" + FACTS.format(facts)
        + "the fault is the service's: ask again later, or name a second target to fall back on",
        str(error),
    )


def test_what_a_message_says_is_in_attributes_as_well(serve):
    error = failed(serve(BUSY))

    assert (error.target, error.attempts, error.request_id) == ("gigachat:GigaChat", 3, "r-7")
    assert error.reason == "gigachat answered 503 Service Unavailable"
    assert error.advice == ADVICE[ServerError].do
    assert 0 <= error.elapsed < 20


def test_a_request_id_is_named_also_where_the_status_was_a_success(serve):
    error = failed(serve(head(X_Request_Id="r-8") + chunk(b"data: nonsense\n\n") + chunk(b"")))

    assert (error.request_id, error.attempts) == ("r-8", 1)
    assert "1 attempt in" in str(error) and "request id r-8" in str(error)


def test_a_question_that_was_refused_at_once_names_one_attempt(serve):
    error = failed(serve(document({"message": "no such field"}, "422 Unprocessable Entity")))

    assert re.search(FACTS.format(r"1 attempt in \d\.\d\d s"), str(error))
    assert str(error).endswith(
        "; error.body names what the service refuses; leave it out or change it"
    )


def test_a_refused_connection_is_told_so_too():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = "http://127.0.0.1:%d" % sock.getsockname()[1]

    error = failed(url)

    assert "no connection to gigachat" in error.reason
    assert re.search(FACTS.format("3 attempts in .* s of them waits"), str(error))
    assert error.advice == "check the network, the proxy and base_url"


def test_the_services_own_advice_comes_before_the_general_one(serve):
    error = failed(serve(document({"message": "Token has expired"}, "401 Unauthorized")))

    assert "GIGACHAT_CREDENTIALS" in error.advice and str(error).endswith(error.advice)
    assert error.advice != ADVICE[errors.AuthenticationError].do


def test_a_wait_that_is_too_long_is_told_with_what_bounds_it(serve):
    busy = answer("", "429 Too Many Requests", Retry_After="90")

    error = failed(serve(busy), kind=RateLimitError)

    assert error.attempts == 1
    assert str(error).endswith(
        "; ask again in 90 s, which is longer than RetryPolicy.maximum_retry_after (60 s)"
    )


def test_an_answer_that_broke_after_its_text_tells_why_it_was_not_asked_for_again(serve):
    error = failed(
        serve(head() + chunk(frame("Half")) + chunk(b"")), kind=StreamInterruptedError
    )

    assert error.attempts == 1
    assert "1 attempt in" in str(error)
    assert "not tried again since text was handed out" in str(error)
    assert str(error).endswith("; ask again; what arrived is in error.partial")


def test_a_deadline_that_leaves_no_time_for_one_more_attempt_is_named(serve):
    busy = answer("", "503 Service Unavailable", Retry_After="30")

    error = failed(serve(busy), kind=ServerError, timeout=Timeout(total=20))

    assert error.attempts == 1
    assert "not tried again since Timeout.total would be over" in str(error)


def test_without_retries_nothing_is_said_of_them(serve):
    error = failed(serve(BUSY), max_retries=0)

    assert "not tried again" not in str(error)


def test_the_last_target_of_a_chain_names_those_before_it(serve):
    targets = [gigachat(serve(BUSY), model="one"), gigachat(serve(BUSY), model="two")]

    with Client(targets, max_retries=0) as client, pytest.raises(ServerError) as caught:
        client.chat("Hi")

    assert caught.value.target == "gigachat:two"
    assert "before it gigachat:one: ServerError)" in str(caught.value)


@pytest.mark.parametrize("phase", TIMEOUTS)
def test_each_timeout_says_which_one_to_raise(phase):
    error = APITimeoutError("no answer", phase=phase)

    assert advice_for(error) == TIMEOUTS[phase].do
    assert ("timeout=" in advice_for(error)) or (f"Timeout.{phase}" in advice_for(error))


def test_a_list_of_models_that_fails_tells_as_much(serve):
    with client_of(serve(BUSY)) as client, pytest.raises(ServerError) as caught:
        client.models()

    assert (caught.value.target, caught.value.attempts) == ("gigachat", 3)
    assert "(gigachat, 3 attempts in" in str(caught.value)


def test_an_answer_that_is_too_long_names_the_limit(serve):
    from chatsdk import Limits

    error = failed(serve(said("x" * 5000)), limits=Limits(reply_bytes=1000))

    assert error.advice == "if that is right, raise Limits(reply_bytes=...)"


# Many calls at once


def test_each_answer_of_a_map_has_such_an_error(serve):
    with client_of(serve(BUSY)) as client:
        (found,) = client.map(["Hi"])

    assert (found.error.target, found.error.attempts) == ("gigachat:GigaChat", 3)
    assert "3 attempts in" in str(found.error)


def test_a_race_that_nobody_wins_names_the_reason_of_each(serve):
    with client_of(serve(BUSY), max_retries=0) as client:
        with pytest.raises(AllFailedError) as caught:
            client.race("Hi", ["gigachat:a", "gigachat:b"])

    busy = "ServerError: gigachat answered 503 Service Unavailable;"
    assert sorted(caught.value.errors) == ["gigachat:a", "gigachat:b"]
    for target in caught.value.errors:
        assert f" {target}: {busy} " in str(caught.value)
    assert str(caught.value).startswith("no target gave a reply: gigachat:")
    assert str(caught.value).endswith("; error.errors has each target's own")


def test_a_target_that_was_too_slow_says_what_to_raise(serve):
    def silent(peer):
        peer.gone()

    with client_of(serve(silent)) as client:
        error = client.fan_out("Hi", ["gigachat:a"], timeout=0.05).errors["gigachat:a"]

    assert str(error) == (
        "gigachat:a was not in within 0.05 s (timeout: total);"
        " raise timeout= of fan_out, or leave the slow ones out"
    )
    assert error.target == "gigachat:a"


def test_a_stream_that_another_thread_closed_names_its_target(serve):
    def half(peer):
        peer.send(head() + chunk(frame("one")))
        peer.gone()

    with client_of(serve(half)) as client:
        stream = client.stream("Hi")
        next(stream)
        stream._closer = -1  # as another thread leaves it
        with pytest.raises(CancelledError) as caught:
            next(stream)

    assert str(caught.value) == (
        "the stream was closed by another thread (gigachat:GigaChat);"
        " what arrived is in error.partial"
    )


# Every way to fail


WITHOUT_KEYS = {"aichatonline", "aura", "flowgpt", "h2o"}
BROKEN = [
    "cut", "cut-clean", "cut-first", "cut-frames", "cut-head", "empty", "reset", "tidy-cut",
    "error-first", "error-after-text", "malformed-first", "malformed-middle", "unauthorized",
    "retry-after", "cloudflare", "cloudflare-503", "status-500-html",
    "status-404-json", "status-402-json", "status-301-html",
]


@pytest.fixture
def simulator():
    with Simulator(reply="Half of this sentence arrives.") as sim:
        yield sim


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_fails_says_who_how_often_and_what_next_in_one_line(simulator, name):
    fields = simulator.fields("gigachat")
    with Client("gigachat", api_key="very-secret", max_retries=0, **fields) as client:
        simulator.scenario = name
        try:
            client.chat("Hi")
        except ChatError as caught:
            error = caught
        else:
            raise AssertionError(f"{name} is no failure")

    assert (error.provider, error.target, error.attempts) == ("gigachat", "gigachat:GigaChat", 1)
    assert "(gigachat:GigaChat, 1 attempt in " in str(error)
    assert error.advice and str(error).endswith(f"; {error.advice}")
    assert str(error).startswith(error.reason)
    assert str(error).isprintable() and len(str(error)) < 600
    assert "very-secret" not in repr(vars(error))


@pytest.mark.parametrize("name", SERVICES)
def test_a_failure_of_each_service_says_as_much(simulator, name):
    key = {} if name in WITHOUT_KEYS else {"api_key": "very-secret"}
    with Client(name, max_retries=0, **{**key, **simulator.fields(name)}) as client:
        simulator.scenario = "status-500-html"
        with pytest.raises(ServerError) as caught:
            client.chat("Hi")

    error = caught.value
    assert error.target == f"{name}:{error.target.partition(':')[2]}" and error.attempts == 1
    assert f" ({error.target}, 1 attempt in " in str(error)
    assert error.advice and str(error).endswith(f"; {error.advice}")


def test_what_a_service_cannot_do_names_it_before_anything_is_sent(serve):
    server = serve(said("Hi"))
    question = {"role": "tool", "content": "12:00"}  # of which function?

    with client_of(server) as client, pytest.raises(errors.UnsupportedError) as caught:
        client.chat([question], model="GigaChat-2")

    assert (caught.value.provider, caught.value.target) == ("gigachat", "gigachat:GigaChat-2")
    assert (caught.value.attempts, server.requests) == (0, [])


def test_a_key_that_the_service_quotes_is_blotted_out_of_every_part(serve):
    quoting = document({"message": "bad key a-token here"}, "400 Bad Request")

    error = failed(serve(quoting), kind=BadRequestError)

    assert "bad key *** here" in str(error) and "bad key *** here" in error.reason


# The tables


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_has_advice_that_fits_a_message(kind):
    assert kind in ADVICE
    assert ADVICE[kind].again
    assert not ADVICE[kind].do.endswith(".")


def test_a_class_of_somebody_elses_takes_the_advice_of_its_base():
    class Teapot(APIStatusError):
        pass

    assert advice_for(Teapot("I am one")) == ADVICE[APIStatusError].do


# Complete errors travel, and are completed anew


def test_a_complete_error_travels_with_all_that_it_says(serve):
    error = failed(serve(BUSY))

    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.args) == (str(error), error.args)
        names = ("reason", "advice", "target", "attempts", "elapsed", "request_id")
        assert [getattr(twin, name) for name in names] == [getattr(error, name) for name in names]


def test_a_copy_that_another_call_raises_has_the_facts_of_that_call():
    error = ServerError("the issuer is down")
    explain(error, target="gigachat:a", attempts=3, elapsed=1.0, request_id="r-1")
    twin = copy.copy(error)

    explain(twin, target="gigachat:b", attempts=1, elapsed=2.0)

    assert str(twin).startswith(
        "the issuer is down (gigachat:b, 1 attempt in 2.00 s, request id r-1); "
    )
    assert str(error).startswith("the issuer is down (gigachat:a, 3 attempts in 1.00 s, ")


def test_what_the_circuit_adds_stays_when_an_error_is_completed_anew():
    error = ServerError("down")
    explain(error, target="gigachat:a", attempts=1, elapsed=1.0)
    error.open_circuit("not tried again")

    explain(error, target="gigachat:a", attempts=2, elapsed=1.0)

    assert str(error).startswith("down; not tried again (gigachat:a, 2 attempts in 1.00 s); ")
