"""What is tried again, how often, and how long is waited before."""

from __future__ import annotations

from email.utils import formatdate
import math
import socket
import threading
import time

import pytest
from servers import answer, chunk, DONE, frame, gigachat, head, said

from chatsdk import Client, RetryPolicy, Timeout
from chatsdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CancelledError,
    ChatError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from chatsdk.retry import Budget


class Asked:
    """A client with three attempts whose waits are only written down."""

    def __init__(self, server, *, draw=0.5, timeout=None, **policy):
        self.slept = []
        self.server = server
        retries = RetryPolicy(**policy, sleep=self.slept.append, random=lambda: draw)
        self.client = Client(gigachat(server), max_retries=retries, timeout=timeout)

    def chat(self):
        with self.client:
            return self.client.chat("Hi")

    def fails(self, kind):
        with pytest.raises(kind) as caught:
            self.chat()
        return caught.value


def status(code, body=b"", **headers):
    return answer(body, f"{code} Reason", **headers)


# The policy by itself


def test_the_policy_has_sensible_defaults():
    policy = RetryPolicy()

    assert (policy.max_retries, policy.initial, policy.maximum) == (2, 0.5, 8.0)
    assert (policy.maximum_retry_after, policy.retry_timeouts) == (60.0, False)


@pytest.mark.parametrize("name", ["initial", "maximum", "maximum_retry_after"])
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_a_policy_has_no_negative_times(name, value):
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("count", [-1, -5])
def test_a_policy_has_no_negative_count(count):
    with pytest.raises(ValueError, match="max_retries must be 0 or more"):
        Client(max_retries=count)


@pytest.mark.parametrize("count", [True, "2", 1.5, None])
def test_a_count_is_an_int(count):
    with pytest.raises(TypeError, match="max_retries must be an int"):
        Client(max_retries=count)


def test_retry_timeouts_is_a_bool():
    with pytest.raises(TypeError, match="retry_timeouts"):
        RetryPolicy(retry_timeouts="yes")


@pytest.mark.parametrize(
    "error, wanted",
    [
        (ServerError(retryable=True), True),
        (ServerError(), False),
        (RateLimitError(retryable=True, retry_after=60.0), True),
        (RateLimitError(retryable=True, retry_after=60.1), False),
        (APITimeoutError(phase="connect", retryable=True), True),
        (APITimeoutError(phase="first"), False),
        (APITimeoutError(phase="read"), False),
        (APITimeoutError(phase="first", retryable=True), True),
        (APITimeoutError(phase="total"), False),
        (CancelledError(), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
        (GeneratorExit(), False),
    ],
)
def test_the_error_says_whether_it_may_be_tried_again(error, wanted):
    assert RetryPolicy().retryable(error) is wanted


@pytest.mark.parametrize("phase, wanted", [("first", True), ("read", True), ("total", False)])
def test_answers_that_time_out_are_asked_for_again_on_request_only(phase, wanted):
    assert RetryPolicy(retry_timeouts=True).retryable(APITimeoutError(phase=phase)) is wanted


# Statuses


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 529])
def test_passing_failures_are_tried_again(serve, code):
    asked = Asked(serve(status(code), status(code), said("Hi")))

    assert asked.chat().text == "Hi"
    assert len(asked.server.requests) == 3
    assert asked.slept == [0.25, 0.5]


@pytest.mark.parametrize(
    "code", [204, 301, 307, 400, 402, 403, 404, 405, 409, 413, 418, 422, 501, 505]
)
def test_lasting_failures_are_not_tried_again(serve, code):
    asked = Asked(serve(status(code), said("Hi")))

    assert asked.fails(APIStatusError).status_code == code
    assert len(asked.server.requests) == 1 and not asked.slept


def test_a_refused_key_is_not_tried_again(serve):
    asked = Asked(serve(status(401), said("Hi")))

    asked.fails(AuthenticationError)
    assert len(asked.server.requests) == 1


@pytest.mark.parametrize("word", ["insufficient_quota", "billing", "quota_exceeded", "credit"])
def test_a_429_for_want_of_money_is_not_tried_again(serve, word):
    asked = Asked(serve(status(429, f'{{"error": {{"code": "{word}"}}}}'), said("Hi")))

    assert asked.fails(RateLimitError).retryable is False
    assert len(asked.server.requests) == 1


def test_the_last_failure_is_the_one_that_is_raised(serve):
    asked = Asked(serve(status(500), status(502), status(503), said("Hi")))

    assert asked.fails(ServerError).status_code == 503
    assert len(asked.server.requests) == 3 and len(asked.slept) == 2


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_number_of_retries_is_kept_to(serve, count):
    asked = Asked(serve(status(500)), max_retries=count)

    asked.fails(ServerError)
    assert len(asked.server.requests) == count + 1


# Waits


def test_waits_double_up_to_the_maximum_and_are_jittered(serve):
    policy = {"max_retries": 6, "initial": 1.0, "maximum": 8.0}
    longest = Asked(serve(status(500)), draw=1.0, **policy)
    shortest = Asked(serve(status(500)), draw=0.0, **policy)
    longest.fails(ServerError)
    shortest.fails(ServerError)

    assert longest.slept == [1, 2, 4, 8, 8, 8]
    assert shortest.slept == [0] * 6


@pytest.mark.parametrize("asks, waits", [("7", 7.0), ("0.3", 0.3), ("0.1", 0.25), ("60", 60.0)])
def test_retry_after_in_seconds_is_the_least_that_is_waited(serve, asks, waits):
    asked = Asked(serve(status(503, Retry_After=asks), said("Hi")))

    assert asked.chat().text == "Hi"
    assert asked.slept == [waits]


def test_retry_after_as_a_date_counts_from_the_answers_own_date(serve):
    dates = {
        "Date": "Fri, 31 Dec 1999 23:59:50 GMT",
        "Retry-After": "Sat, 01 Jan 2000 00:00:02 GMT",
    }
    asked = Asked(serve(status(429, **dates), said("Hi")))

    assert asked.chat().text == "Hi"
    assert asked.slept == [12.0]


def test_retry_after_as_a_date_counts_from_now_without_one(serve):
    asked = Asked(serve(status(429, Retry_After=formatdate(time.time() + 30, usegmt=True)),
                        said("Hi")))

    assert asked.chat().text == "Hi"
    assert 20 < asked.slept[0] <= 30


@pytest.mark.parametrize(
    "asks",
    ["nan", "inf", "-1", "-inf", "soon", "", "Fri, 31 Dec 1999 23:59:50 GMT", "99 Foo 9", "1e999"],
)
def test_retry_after_that_makes_no_sense_or_is_past_changes_nothing(serve, asks):
    asked = Asked(serve(status(503, Retry_After=asks), said("Hi")))

    assert asked.chat().text == "Hi"
    assert asked.slept == [0.25]


@pytest.mark.parametrize("asks", ["61", "3600", "1e300"])
def test_a_server_that_asks_for_too_long_makes_the_call_fail_now_and_say_when(serve, asks):
    asked = Asked(serve(status(429, Retry_After=asks), said("Hi")))

    error = asked.fails(RateLimitError)

    assert len(asked.server.requests) == 1 and not asked.slept
    assert error.retry_after == float(asks)
    assert f"wait {float(asks):g} s" in str(error)


def test_how_long_is_too_long_can_be_said(serve):
    asked = Asked(serve(status(429, Retry_After="61"), said("Hi")), maximum_retry_after=61)

    assert asked.chat().text == "Hi"
    assert asked.slept == [61.0]


def test_no_wait_is_begun_that_the_deadline_would_not_see_the_end_of(serve):
    asked = Asked(serve(status(503, Retry_After="7"), said("Hi")), timeout=Timeout(total=6.9))

    assert asked.fails(ServerError).retry_after == 7
    assert len(asked.server.requests) == 1 and not asked.slept


def test_a_wait_that_fits_into_the_deadline_is_begun(serve):
    asked = Asked(serve(status(503, Retry_After="7"), said("Hi")), timeout=Timeout(total=60))

    assert asked.chat().text == "Hi"


def test_without_a_deadline_there_is_only_the_count(serve):
    asked = Asked(serve(status(503), said("Hi")), timeout=Timeout(total=None))

    assert asked.chat().text == "Hi"


def test_a_wait_is_ended_by_ctrl_c(serve):
    def interrupted(seconds):
        raise KeyboardInterrupt

    server = serve(status(503), said("Hi"))
    with Client(gigachat(server), max_retries=RetryPolicy(sleep=interrupted)) as client:
        with pytest.raises(KeyboardInterrupt):
            client.chat("Hi")

    assert len(server.requests) == 1


def test_a_retry_is_logged_with_its_cause_and_wait(serve, caplog):
    Asked(serve(status(503, Retry_After="7"), said("Hi"))).chat()

    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == (
        "gigachat:GigaChat: attempt 1 failed (ServerError); the next one in 7.00 s"
    )


# Connections


def refused_url():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_refused_connection_is_tried_again():
    asked = Asked(refused_url())

    error = asked.fails(APIConnectionError)

    assert type(error) is APIConnectionError and error.retryable
    assert len(asked.slept) == 2


def test_a_fresh_connection_that_ends_without_an_answer_is_tried_again(serve):
    asked = Asked(serve(lambda peer: peer.reset(), lambda peer: peer.hang_up(), said("Hi")))

    assert asked.chat().text == "Hi"
    assert asked.server.connections == 3


QUICK = {"timeout": Timeout(first=0.4, read=0.4)}


def test_a_question_that_gets_no_answer_in_time_is_not_asked_again(serve):
    asked = Asked(serve(lambda peer: peer.gone(), said("Hi")), **QUICK)

    error = asked.fails(APITimeoutError)

    assert error.phase == "first"
    assert len(asked.server.requests) == 1


def test_a_question_that_gets_no_answer_in_time_is_asked_again_if_wished(serve):
    asked = Asked(serve(lambda peer: peer.gone(), said("Hi")), retry_timeouts=True, **QUICK)

    assert asked.chat().text == "Hi"
    assert len(asked.server.requests) == 2


def test_an_answer_that_falls_silent_before_its_text_is_not_asked_for_again(serve):
    def silent(peer):
        peer.send(head())
        peer.gone()

    asked = Asked(serve(silent, said("Hi")), **QUICK)

    assert asked.fails(APITimeoutError).phase == "read"
    assert len(asked.server.requests) == 1


# Bodies


def ends(*pieces):
    """Return an answer that breaks off after some pieces of its body."""

    def play(peer):
        peer.send(head(), *map(chunk, pieces))
        peer.hang_up()

    return play


@pytest.mark.parametrize(
    "broken",
    [
        ends(),
        ends(b": heartbeat\n\n"),
        ends(b'data: {"cho'),
        head() + b"zz\r\n",
        answer(b"", Content_Type="text/event-stream"),
        answer(b"no gzip", Content_Type="text/event-stream", Content_Encoding="gzip"),
        answer(b'data: {"status": 500, "message": "busy"}\n\n', Content_Type="text/event-stream"),
    ],
)
def test_an_answer_that_breaks_before_its_text_is_asked_for_again(serve, broken):
    asked = Asked(serve(broken, said("Hi")))

    assert asked.chat().text == "Hi"
    assert len(asked.server.requests) == 2


@pytest.mark.parametrize(
    "broken, kind",
    [
        (ends(frame("Hel")), StreamInterruptedError),
        (head() + chunk(frame("Hel")) + b"zz\r\n", StreamInterruptedError),
        (answer(frame("Hel"), Content_Type="text/event-stream"), StreamInterruptedError),
        (
            answer(frame("Hel") + b'data: {"status": 500}\n\n', Content_Type="text/event-stream"),
            ProviderError,
        ),
        (
            answer(frame("Hel") + b"data: nope\n\n", Content_Type="text/event-stream"),
            ProtocolError,
        ),
    ],
)
def test_nothing_is_asked_for_again_once_text_was_handed_out(serve, broken, kind):
    asked = Asked(serve(broken, said("Hi")), retry_timeouts=True)

    error = asked.fails(kind)

    assert error.partial.text == "Hel" and error.partial.finish_reason is None
    assert len(asked.server.requests) == 1


def test_reasoning_counts_as_handed_out_too(serve):
    asked = Asked(serve(ends(frame("", reasoning_content="hm")), said("Hi")))

    assert asked.fails(StreamInterruptedError).partial.reasoning == "hm"
    assert len(asked.server.requests) == 1


@pytest.mark.parametrize(
    "broken",
    [
        answer(b'data: {"status": 400, "message": "no"}\n\n', Content_Type="text/event-stream"),
        answer(b"data: nope\n\n" + DONE, Content_Type="text/event-stream"),
        answer(b"<html>", Content_Type="text/html"),
    ],
)
def test_an_answer_that_will_not_get_better_is_not_asked_for_again(serve, broken):
    asked = Asked(serve(broken, said("Hi")))

    asked.fails((ProviderError, ProtocolError))
    assert len(asked.server.requests) == 1


def test_a_stream_is_not_told_of_the_retry_behind_it(serve):
    asked = Asked(serve(ends(), said("Hi ", "there")))

    with asked.client as client, client.stream("Hi") as stream:
        assert list(stream) == ["Hi ", "there"]
    assert len(asked.server.requests) == 2


# The budget of a host


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def spent(budget, error):
    """Return how often a budget pays in a row."""
    count = 0
    while budget.spend(error):
        count += 1
    return count


def test_a_full_budget_pays_a_hundred_retries_or_fifty_after_timeouts():
    assert spent(Budget(Clock()), ServerError()) == 100
    assert spent(Budget(Clock()), APITimeoutError()) == 50


def test_an_empty_budget_pays_one_retry_a_second():
    clock = Clock()
    budget = Budget(clock)
    spent(budget, ServerError())

    clock.now += 0.9
    assert not budget.spend(ServerError())
    clock.now += 0.1
    assert budget.spend(ServerError()) and not budget.spend(ServerError())
    clock.now += 1e6
    assert spent(budget, ServerError()) == 100


def test_successes_fill_a_budget_up_and_no_further():
    budget = Budget(Clock())
    budget.earn()
    assert spent(budget, ServerError()) == 100

    for _ in range(5):
        assert not budget.spend(ServerError())
        budget.earn()
    assert budget.spend(ServerError())
    for _ in range(1000):
        budget.earn()
    assert spent(budget, ServerError()) == 100


def test_a_circuit_is_open_from_an_empty_budget_to_the_next_success():
    clock = Clock()
    budget = Budget(clock)
    assert all(budget.admit() for _ in range(1000))

    spent(budget, ServerError())
    assert budget.open and not budget.admit()
    clock.now += 1
    assert budget.admit() and not budget.admit()
    clock.now += 1
    assert budget.open and budget.admit()

    budget.earn()
    assert not budget.open and all(budget.admit() for _ in range(1000))


def test_a_dead_host_is_asked_once_a_second_however_many_threads_knock(serve):
    server = serve(*[status(503)] * 400)
    with Client(gigachat(server), max_retries=RetryPolicy(2, initial=0)) as client:
        over = time.monotonic() + 2.0
        errors = []

        def knock():
            while time.monotonic() < over:
                with pytest.raises(ChatError) as caught:
                    client.chat("Hi")
                errors.append(caught.value)

        threads = [threading.Thread(target=knock) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # A hundred retries are in the budget, and each has a call before it; then one a second.
    assert len(server.requests) < 16 + 150 + 5 + 4
    assert any("was not asked" in str(error) for error in errors)
    assert {error.circuit for error in errors[-16:]} == {"open"}


def test_a_call_whose_host_has_no_budget_left_fails_at_once_and_says_so(serve):
    asked = Asked(serve(status(500)))
    with asked.client as client:
        for _ in range(60):
            with pytest.raises(ServerError) as caught:
                client.chat("Hi")

    # How much time gives back depends on this machine's speed, not on the number of calls.
    assert 60 + 100 <= len(asked.server.requests) < 60 * 3
    assert caught.value.circuit == "open"
    assert f"the retry budget for 127.0.0.1:{asked.server.port} is used up" in str(caught.value)


def test_the_budget_of_one_host_is_not_that_of_another(serve):
    broken = Asked(serve(status(500)))
    other = serve(status(500), said("Hi"))
    with broken.client as client:
        for _ in range(60):
            with pytest.raises(ServerError):
                client.chat("Hi")
        assert client.chat("Hi", target=gigachat(other)).text == "Hi"
