from __future__ import annotations

import pickle
import threading
import time

from many import by_model, Child, client_of, ends, LOADED, PATIENCE, stalls_after, targets
import pytest
from servers import answer, chunk, document, frame, head, said
from test_fanout import all_stalled, services

from chatsdk import (
    AllFailedError,
    APITimeoutError,
    Client,
    ConfigurationError,
    providers,
    ServerError,
    StreamInterruptedError,
    Timeout,
)
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")
HALF = answer(frame("half"), Content_Type="text/event-stream")


def test_the_first_good_reply_wins(serve):
    server = serve(by_model(a=stalls_after("half"), b=said("won"), c=FAILS))
    with client_of(server) as client:
        assert client.race("Hi", targets("a", "b", "c")).text == "won"


def test_a_partial_answer_does_not_win(serve):
    late = threading.Event()

    def slow(peer):
        peer.wait(late)
        return said("whole")

    server = serve(by_model(a=HALF, b=slow))
    with client_of(server) as client:
        threading.Timer(0.1, late.set).start()
        assert client.race("Hi", targets("a", "b")).text == "whole"


def test_losers_are_closed_within_100_ms(serve):
    left = []
    both = threading.Barrier(3)

    def lose(peer):
        peer.send(head(), chunk(frame("half")))
        both.wait(PATIENCE)
        peer.gone()
        left.append(time.monotonic())
        peer.hang_up()

    def win(peer):
        both.wait(PATIENCE)
        peer.send(head(), chunk(frame("won")))
        peer.send(ends())
        left.append(time.monotonic())

    server = serve(by_model(a=lose, b=win, c=lose))
    with client_of(server) as client:
        assert client.race("Hi", targets("a", "b", "c")).text == "won"
        assert server.settled(1)
    assert max(left) - min(left) < 0.1


def test_losers_do_not_wait_for_the_clean_up_of_the_winner():
    with Simulator() as simulator:
        simulator.play("stall", service="gigachat")
        simulator.play("delete-slow-head-1.5", service="h2o")
        with Client(providers=services(simulator), proxy="") as client:
            client.chat("Hello", target="flowgpt")  # so that all is imported
            began = time.monotonic()
            assert client.race("Hello", ["gigachat", "h2o"]).provider == "h2o"
            assert time.monotonic() - began > 1.4
        assert simulator.abandoned == 1


def test_the_conversations_of_losers_are_deleted():
    with Simulator(scenario={"h2o": "stall"}) as simulator:
        with Client(providers=services(simulator), proxy="") as client:
            reply = client.race("Hello", ["h2o:falcon-7b", "h2o:falcon-40b", "gigachat"])
            assert reply.provider == "gigachat"
        assert simulator.wait_idle()
        assert simulator.conversations == []


def test_the_next_target_is_not_asked_if_the_first_shows_text_in_time(serve):
    hedge = threading.Event()

    def steady(peer):
        peer.send(head(), chunk(frame("some")))
        hedge.wait(0.6)
        return ends(" more")

    server = serve(by_model(a=steady, b=said("hedge")))
    with client_of(server) as client:
        assert client.race("Hi", targets("a", "b"), hedge_after=0.3).text == "some more"
    assert [request.json["model"] for request in server.requests] == ["a"]


def test_the_next_target_is_asked_if_the_first_is_silent(serve):
    server = serve(by_model(a=stalls_after(), b=stalls_after(), c=said("hedge")))
    with client_of(server) as client:
        began = time.monotonic()
        assert client.race("Hi", targets("a", "b", "c"), hedge_after=0.15).text == "hedge"
        assert 0.3 <= time.monotonic() - began < 0.6
    assert [request.json["model"] for request in server.requests] == ["a", "b", "c"]


def test_the_next_target_is_asked_at_once_if_those_before_have_failed(serve):
    server = serve(by_model(a=FAILS, b=HALF, c=said("last")))
    with client_of(server) as client:
        began = time.monotonic()
        assert client.race("Hi", targets("a", "b", "c"), hedge_after=30).text == "last"
        assert time.monotonic() - began < 5


def test_if_all_fail_one_error_carries_all(serve):
    server = serve(by_model(a=FAILS, b=HALF, c=stalls_after("x")))
    with client_of(server) as client, pytest.raises(AllFailedError) as caught:
        client.race("Hi", targets("a", "b", "c"), timeout=Timeout(total=0.3))

    errors = caught.value.errors
    assert {target: type(error) for target, error in errors.items()} == {
        "gigachat:a": ServerError,
        "gigachat:b": StreamInterruptedError,
        "gigachat:c": APITimeoutError,
    }
    assert errors["gigachat:b"].partial.text == "half"
    assert all(target in str(caught.value) for target in errors)
    assert not caught.value.retryable
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert list(map(type, again.errors.values())) == list(map(type, errors.values()))


@pytest.mark.parametrize(
    ("hedge_after", "error"), [(-1, ValueError), ("1", TypeError), (float("inf"), ValueError)]
)
def test_bad_hedges(serve, hedge_after, error):
    server = serve(said("ok"))
    with client_of(server) as client, pytest.raises(error, match="hedge_after"):
        client.race("Hi", ["gigachat"], hedge_after=hedge_after)
    assert server.requests == []


def test_a_target_twice_is_refused(serve):
    with client_of(serve(said("ok"))) as client, pytest.raises(ConfigurationError, match="twice"):
        client.race("Hi", ["gigachat", "gigachat"])


def test_a_race_of_all_five():
    with Simulator() as simulator, Client(providers=services(simulator), proxy="") as client:
        assert client.race("Hello", list(providers.TABLE)).text


RACE = """
import sys
from chatsdk import Client
client = Client("h2o", base_url=sys.argv[1], proxy="")
print("asked", flush=True)
client.race("Hello", ["h2o:falcon-7b", "h2o:falcon-40b"])
"""


def test_ctrl_c_ends_a_race_at_once():
    with Simulator(scenario="stall") as simulator:
        child = Child(RACE, simulator.fields("h2o")["base_url"])
        assert child.line() == "asked"
        all_stalled(simulator, 2)
        seconds, _, err = child.interrupt()
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert seconds < 1 + LOADED
        assert simulator.wait_idle()
        assert simulator.conversations == []
