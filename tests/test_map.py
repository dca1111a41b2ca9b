from __future__ import annotations

import itertools
import logging
import sys
import threading
import time

from many import Child, client_of, ends, LOADED, PATIENCE
import pytest
from servers import answer, chunk, document, frame, head, said

from chatsdk import (
    CancelledError,
    Client,
    ConfigurationError,
    Message,
    Rate,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UnsupportedError,
)
from chatsdk.messages import Reply, Usage
from chatsdk.pace import Pace
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")


def prompt(request):
    return request.json["messages"][-1]["content"]


def echoes(peer):
    """Answer with the prompt."""
    return said(f"<{prompt(peer.request)}>")


def by_prompt(**answers):
    """Answer with what is given for a prompt, else with the prompt."""

    def choose(peer):
        chosen = answers.get(prompt(peer.request), echoes)
        return chosen(peer) if callable(chosen) else chosen

    return choose


# Inputs and answers


def test_answers_keep_the_order_of_the_inputs(serve):
    first = threading.Event()

    def slow(peer):
        peer.wait(first)
        return echoes(peer)

    def fast(peer):
        first.set()
        return echoes(peer)

    server = serve(by_prompt(a=slow, b=fast))
    with client_of(server) as client:
        answers = list(client.map(["a", "b", "c"]))
    assert [(one.index, one.input, one.reply.text) for one in answers] == [
        (0, "a", "<a>"),
        (1, "b", "<b>"),
        (2, "c", "<c>"),
    ]
    assert {one.target for one in answers} == {"gigachat"}


def test_answers_come_as_they_complete_if_wanted(serve):
    late = threading.Event()

    def slow(peer):
        peer.wait(late)
        return echoes(peer)

    with client_of(serve(by_prompt(a=slow))) as client:
        answers = client.map(["a", "b", "c"], ordered=False)
        early = {next(answers).index, next(answers).index}
        late.set()
        assert early == {1, 2}
        assert [one.index for one in answers] == [0]


def test_inputs_may_be_texts_messages_and_have_keys(serve):
    inputs = [
        "text",
        ("key", "with a key"),
        (7, [{"role": "user", "content": "numbered"}]),
        Message("user", "message"),
        {"role": "user", "content": "dict"},
        [Message("system", "be short"), "two"],
        (Message("system", "be short"), Message("user", "a tuple")),
    ]
    server = serve(echoes)
    with client_of(server) as client:
        answers = list(client.map(inputs))
    assert [one.reply.text for one in answers] == [
        "<text>", "<with a key>", "<numbered>", "<message>", "<dict>", "<two>", "<a tuple>",
    ]
    assert [one.input for one in answers] == inputs


def test_an_input_of_the_wrong_type_is_an_answer_and_the_rest_goes_on(serve):
    server = serve(echoes)
    with client_of(server) as client:
        answers = list(client.map(["a", 5, [], "b", ("k", None), ["x", 3]]))

    assert [one.ok for one in answers] == [True, False, False, True, False, False]
    assert [type(one.error) for one in answers if one.error] == [
        TypeError, ValueError, TypeError, TypeError,
    ]
    assert str(answers[1].error).startswith("inputs[1]: ")
    assert "inputs[5]: messages[1]" in str(answers[5].error)
    assert sorted(prompt(request) for request in server.requests) == ["a", "b"]


def test_errors_are_kept_in_their_answers(serve):
    half = answer(frame("half"), Content_Type="text/event-stream")
    with client_of(serve(by_prompt(b=FAILS, c=half))) as client:
        answers = list(client.map(["a", "b", "c", "d"]))
    assert [one.ok for one in answers] == [True, False, False, True]
    assert isinstance(answers[1].error, ServerError)
    assert answers[2].error.partial.text == "half"


def test_what_a_service_cannot_do_with_one_input_is_that_inputs_error():
    with Simulator() as simulator:
        with Client("h2o", proxy="", **simulator.fields("h2o")) as client:
            answers = list(client.map(["hello", " ", "there"]))
    assert [one.ok for one in answers] == [True, False, True]


def test_inputs_that_never_end_are_read_a_little_ahead(serve):
    read = []

    def forever():
        for n in itertools.count():
            read.append(n)
            yield str(n)

    with client_of(serve(echoes)) as client:
        answers = client.map(forever(), max_workers=3)
        assert read == []
        for one in answers:
            assert len(read) <= one.index + 1 + 2 * 3
            if one.index == 50:
                break


def test_a_slow_head_holds_back_no_more_than_the_window(serve):
    late = threading.Event()

    def slow(peer):
        peer.wait(late)
        return echoes(peer)

    read = []
    inputs = (read.append(n) or str(n) for n in range(50))
    server = serve(by_prompt(**{"0": slow}))
    with client_of(server) as client:
        answers = client.map(inputs, max_workers=2)
        threading.Timer(0.2, late.set).start()
        assert next(answers).index == 0
        assert len(read) == 4
        assert len(list(answers)) == 49


def test_inputs_that_fail_end_the_run_after_what_was_asked(serve):
    def broken():
        yield "a"
        yield "b"
        raise OSError("the disk is gone")

    with client_of(serve(echoes)) as client:
        seen = []
        with pytest.raises(OSError, match="the disk is gone"):
            for one in client.map(broken()):
                seen.append(one.reply.text)
    assert seen == ["<a>", "<b>"]


def test_no_inputs_no_answers(serve):
    server = serve(echoes)
    with client_of(server) as client:
        assert list(client.map([])) == []
    assert server.connections == 0


def test_no_more_than_max_workers_run_at_once(serve):
    running, most = [], []
    lock = threading.Lock()
    pair = threading.Barrier(2)

    def count(peer):
        with lock:
            running.append(1)
            most.append(len(running))
        pair.wait(PATIENCE)
        with lock:
            running.pop()
        return echoes(peer)

    with client_of(serve(count)) as client:
        assert len(list(client.map(map(str, range(20)), max_workers=2))) == 20
    assert max(most) == 2


def test_many_threads_many_inputs_each_once(serve):
    server = serve(echoes)
    inputs = [str(n) for n in range(400)]
    with client_of(server) as client:
        answers = list(client.map(inputs, max_workers=16))
    assert [one.reply.text for one in answers] == [f"<{text}>" for text in inputs]
    assert sorted(map(prompt, server.requests)) == sorted(inputs)
    assert server.connections <= 16


# Leaving


def stalls(begun):
    def stall(peer):
        peer.send(head(), chunk(frame("half")))
        begun.set()
        peer.gone()
        peer.hang_up()

    return stall


@pytest.mark.parametrize("leave", ["break", "close", "error", "drop"])
def test_leaving_ends_what_runs(serve, leave):
    begun = threading.Event()

    def quick(peer):
        peer.wait(begun)
        return echoes(peer)

    server = serve(by_prompt(a=quick, b=stalls(begun)))
    with client_of(server) as client:
        answers = client.map(["a", "b"])
        assert next(answers).ok
        if leave == "break":
            for _ in client.map(["a"]):
                break
            answers.close()
        elif leave == "close":
            answers.close()
        elif leave == "error":
            with pytest.raises(ZeroDivisionError):
                answers.throw(ZeroDivisionError)
        else:
            del answers
        assert server.settled(1)


def test_closing_the_client_from_another_thread_ends_a_map(serve):
    begun = threading.Event()
    server = serve(stalls(begun))
    client = client_of(server)
    closer = threading.Thread(target=lambda: (begun.wait(PATIENCE), client.close()))
    closer.start()
    with pytest.raises(CancelledError):
        list(client.map(map(str, itertools.count()), max_workers=2))
    closer.join()
    assert server.settled()
    assert len(server.requests) <= 2


MAP = """
import itertools, sys
from chatsdk import Client, Rate
client = Client("h2o", base_url=sys.argv[1], proxy="")
answers = client.map(map(str, itertools.count()), max_workers=4, rate=Rate(**eval(sys.argv[2])))
print("asked", flush=True)
for one in answers: pass
"""


@pytest.mark.parametrize("rate", ["{}", "{'requests_per_minute': 1}"])
def test_ctrl_c_ends_a_map_at_once(rate):
    with Simulator(scenario="stall") as simulator:
        child = Child(MAP, simulator.fields("h2o")["base_url"], rate)
        assert child.line() == "asked"
        while not any(request.scenario == "stall" for request in simulator.requests):
            time.sleep(0.01)
        seconds, _, err = child.interrupt()
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert seconds < 1 + LOADED
        assert simulator.wait_idle()
        assert simulator.conversations == []


# Pace


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def begin_times(pace, clock, count):
    """Return when calls may begin that ask as soon as they may."""
    times = []
    while len(times) < count:
        seconds = pace.take()
        clock.now += seconds
        if not seconds:
            times.append(round(clock.now - 1000, 6))
    return times


def test_requests_are_evenly_spaced():
    clock = Clock()
    pace = Pace(Rate(requests_per_minute=30), clock)
    assert begin_times(pace, clock, 4) == [0, 2, 4, 6]


def test_a_thread_that_is_late_does_not_lower_the_rate_and_a_pause_gives_no_burst():
    clock = Clock()
    pace = Pace(Rate(requests_per_minute=30), clock)
    assert begin_times(pace, clock, 1) == [0]
    clock.now += 2.5
    assert begin_times(pace, clock, 2) == [2.5, 4]
    clock.now += 100
    assert begin_times(pace, clock, 3) == [104, 104, 106]


def test_tokens_are_paid_for_when_they_are_known():
    clock = Clock()
    pace = Pace(Rate(tokens_per_minute=600), clock)
    assert begin_times(pace, clock, 2) == [0, 0]  # nothing is known of either
    pace.spent(Reply(usage=Usage(total_tokens=30)))
    pace.spent(Reply(usage=Usage(total_tokens=50)))
    assert begin_times(pace, clock, 1)[0] == pytest.approx(8, abs=1)


def test_the_tokens_of_a_minute_stay_below_the_rate():
    clock = Clock()
    pace = Pace(Rate(tokens_per_minute=6000), clock)
    spent = []
    while clock.now < 1000 + 180:
        seconds = pace.take()
        clock.now += seconds
        if not seconds:
            spent.append((clock.now, 100))
            clock.now += 0.01
            pace.spent(Reply(usage=Usage(total_tokens=100)))
    for start in (1000, 1060, 1120):
        inside = sum(tokens for at, tokens in spent if start <= at < start + 60)
        assert 5700 <= inside <= 6300


@pytest.mark.parametrize("outcome", [ServerError("no"), Reply(), Reply(usage=Usage())])
def test_an_answer_without_usage_costs_no_tokens(outcome):
    clock = Clock()
    pace = Pace(Rate(tokens_per_minute=1), clock)
    assert pace.take() == 0
    pace.spent(outcome)
    assert pace.take() == 0


def test_a_pause_holds_everybody():
    clock = Clock()
    pace = Pace(Rate(), clock)
    pace.pause(5)
    pace.pause(3)
    assert begin_times(pace, clock, 2) == [5, 5]


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "5", True])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_bad_rates(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        Rate(**{name: value})


def test_a_rate_holds_for_all_workers(serve):
    server = serve(echoes)
    with client_of(server) as client:
        began = time.monotonic()
        rate = Rate(requests_per_minute=1500)
        answers = client.map(map(str, range(11)), rate=rate)
        assert len(list(answers)) == 11
        assert 0.4 <= time.monotonic() - began < 2


def test_429_with_retry_after_pauses_all_workers_of_the_target(serve):
    """One of four is told to wait: nobody asks until that time is over, and all get an answer."""
    times = []
    refused = threading.Event()

    def answers(peer):
        times.append(time.monotonic())
        if len(times) == 5:
            refused.set()
            return document({"message": "slow down"}, "429 Too Many", Retry_After="1")
        if len(times) < 5:
            peer.wait(refused)  # those that run already; they come back in the pause
        return echoes(peer)

    server = serve(answers)
    policy = RetryPolicy(2, initial=0.0)
    with client_of(server, max_retries=policy) as client:
        found = list(client.map(map(str, range(30)), max_workers=5))
    assert all(one.ok for one in found)
    assert len(server.requests) == 31
    told = times[4]
    assert not [at for at in times if told + 0.2 < at < told + 0.95]


def test_a_pause_also_follows_a_call_that_may_not_be_tried_again(serve):
    answers = iter([document({"message": "slow"}, "429 Too Many", Retry_After="1")])
    server = serve(lambda peer: next(answers, None) or echoes(peer))
    with client_of(server, max_retries=0) as client:
        began = time.monotonic()
        first, second = client.map(["a", "b"], max_workers=1)
    assert isinstance(first.error, RateLimitError) and second.ok
    assert time.monotonic() - began >= 0.9


# Progress


def test_progress_shows_rate_tokens_and_errors(serve, capsys, monkeypatch):
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # a thread of tqdm's that stays
    pytest.importorskip("tqdm")
    with client_of(serve(by_prompt(b=FAILS))) as client:
        assert len(list(client.map(["a", "b", "c"], progress=True))) == 3
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "tokens=" in shown and "errors=1" in shown
    assert "answers/s" in shown


def test_progress_without_tqdm_says_what_to_install(serve, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    server = serve(echoes)
    with client_of(server) as client:
        with pytest.raises(ConfigurationError, match=r"chatsdk\[progress\]"):
            client.map(["a"], progress=True)
    assert server.requests == []


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("inputs", "options", "error", "words"),
    [
        ("text", {}, TypeError, "inputs must be an iterable of questions.*not str"),
        ({"role": "user"}, {}, TypeError, "not dict"),
        (Message("user", "x"), {}, TypeError, "not Message"),
        (5, {}, TypeError, "not int"),
        (["a"], {"max_workers": 0}, ValueError, "max_workers must be 1 or more"),
        (["a"], {"max_workers": None}, TypeError, "max_workers"),
        (["a"], {"target": "gigachatt"}, ConfigurationError, "did you mean"),
        (["a"], {"target": "flowgpt", "seed": 3}, UnsupportedError, "seed"),
        (["a"], {"temprature": 1}, TypeError, "did you mean 'temperature'"),
        (["a"], {"rate": 5}, TypeError, "rate must be a Rate, not int"),
        (["a"], {"executor": 5}, TypeError, "executor must be an Executor, not int"),
        (["a"], {"journal": 5}, TypeError, "a journal is a path, not int"),
    ],
)
def test_bad_arguments_are_refused_at_once(serve, inputs, options, error, words):
    server = serve(echoes)
    with client_of(server) as client, pytest.raises(error, match=words):
        client.map(inputs, **options)
    assert server.requests == []


def test_nothing_of_a_map_is_logged_above_debug(serve, caplog):
    caplog.set_level(logging.WARNING)
    with client_of(serve(echoes)) as client:
        assert len(list(client.map(["secret prompt"]))) == 1
    assert caplog.text == ""


def test_a_long_answer_streams_through(serve):
    def long(peer):
        peer.send(head(), *(chunk(frame("x" * 100)) for _ in range(50)))
        return ends("!")

    with client_of(serve(long)) as client:
        (one,) = client.map(["a"])
    assert len(one.reply.text) == 5001
