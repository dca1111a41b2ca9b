from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import contextvars
import gc
import logging
import os
import pickle
import threading
import time

from many import by_model, Child, client_of, ends, LOADED, PATIENCE, stalls_after, targets
import pytest
from servers import answer, chunk, document, frame, gigachat, head, said

from chatsdk import (
    Answer,
    APITimeoutError,
    CancelledError,
    Client,
    ConfigurationError,
    providers,
    ServerError,
    UnsupportedError,
)
from chatsdk.crew import Crew
from chatsdk.fanout import AHEAD
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")


def services(simulator):
    return [
        providers.get(name)(**{"api_key": "any", **simulator.fields(name)})
        for name in providers.TABLE
    ]


def gives_when(event, *texts):
    """Return an answer that waits for the test."""

    def give(peer):
        peer.wait(event)
        return said(*texts)

    return give


# Fan-out


def test_answers_come_as_they_complete(serve):
    late = threading.Event()
    server = serve(by_model(a=gives_when(late, "slow"), b=said("quick")))
    with client_of(server) as client:
        answers = iter(client.fan_out("Hi", targets("a", "b")))
        first = next(answers)
        late.set()
        second = next(answers)

        assert (first.target, first.index, first.reply.text) == ("gigachat:b", 1, "quick")
        assert (second.target, second.index, second.reply.text) == ("gigachat:a", 0, "slow")
        assert first.input == "Hi" and first.ok and first.error is None
        assert list(answers) == []


def test_one_failure_hides_nothing(serve):
    server = serve(by_model(a=said("good"), b=FAILS, c=said("fine")))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a", "b", "c"))

        assert {answer.target: answer.ok for answer in answers} == {
            "gigachat:a": True,
            "gigachat:b": False,
            "gigachat:c": True,
        }
        assert {target: reply.text for target, reply in answers.replies.items()} == {
            "gigachat:a": "good",
            "gigachat:c": "fine",
        }
        assert [type(error) for error in answers.errors.values()] == [ServerError]


def test_replies_and_errors_wait_for_all_and_keep_the_order_of_the_targets(serve):
    late = threading.Event()
    server = serve(by_model(a=gives_when(late, "one"), b=said("two"), c=FAILS))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a", "b", "c"))
        threading.Timer(0.05, late.set).start()

        assert list(answers.replies) == targets("a", "b")
        assert list(answers.errors) == targets("c")
        assert len(list(answers)) == 3


def test_replies_inside_the_loop_are_those_so_far(serve):
    late = threading.Event()
    server = serve(by_model(a=gives_when(late, "slow"), b=said("quick")))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a", "b"))
        seen = []
        for _ in answers:
            seen.append(sorted(answers.replies))
            late.set()

        assert seen == [targets("b"), targets("a", "b")]


def test_all_five_services_at_once():
    with Simulator() as simulator, Client(providers=services(simulator), proxy="") as client:
        answers = client.fan_out("Hello", list(providers.TABLE))

        assert sorted(answers.replies) == sorted(providers.TABLE)
        assert simulator.conversations == []


def test_a_provider_is_labelled_by_its_name(serve):
    server = serve(said("ok"))
    with client_of(server) as client:
        assert list(client.fan_out("Hi", [gigachat(server)]).replies) == ["gigachat"]


def test_a_chain_is_labelled_by_its_parts(serve):
    server = serve(by_model(a=FAILS, b=said("ok")))
    with client_of(server) as client:
        replies = client.fan_out("Hi", [targets("a", "b")]).replies
        assert {label: reply.text for label, reply in replies.items()} == {
            ("gigachat:a", "gigachat:b"): "ok"
        }


def test_no_more_than_max_workers_run_at_once(serve):
    together = threading.Barrier(2)
    running = []

    def count(peer):
        running.append(server.open)
        together.wait(PATIENCE)
        return answer(said("ok").partition(b"\r\n\r\n")[2], Content_Type="text/event-stream",
                      Connection="close")

    server = serve(count)
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets(*"abcdef"), max_workers=2)
        assert len(answers.replies) == 6
        assert server.settled()
    assert len(running) == 6


def test_a_queued_call_has_its_whole_time(serve):
    held = threading.Event()
    server = serve(by_model(a=gives_when(held, "one"), b=said("two")))
    clients = client_of(server, timeout=5)
    with clients as client:
        answers = client.fan_out("Hi", targets("a", "b"), max_workers=1)
        threading.Timer(0.2, held.set).start()
        assert answers.replies["gigachat:b"].elapsed < 0.2


def test_timeout_bounds_the_whole_and_keeps_the_partial_text(serve):
    begun = threading.Event()
    server = serve(by_model(a=gives_when(begun, "in time"), b=stalls_after("half", begun=begun)))
    with client_of(server) as client:
        began = time.monotonic()
        answers = client.fan_out("Hi", targets("a", "b"), timeout=0.3)
        found = list(answers)

        assert time.monotonic() - began < 1 + LOADED
        assert [answer.ok for answer in found] == [True, False]
        error = answers.errors["gigachat:b"]
        assert isinstance(error, APITimeoutError) and error.phase == "total"
        assert error.partial.text == "half" and error.provider == "gigachat"
        assert server.settled(1)  # the other one is kept for the next call


def test_timeout_holds_while_the_caller_is_busy(serve):
    begun = threading.Event()
    server = serve(by_model(a=stalls_after("half", begun=begun), b=gives_when(begun, "quick")))
    with client_of(server) as client:
        answers = iter(client.fan_out("Hi", targets("a", "b"), timeout=0.2))
        next(answers)
        assert server.settled(1)  # closed in time although nobody asks for the next answer
        assert isinstance(next(answers).error, APITimeoutError)


def test_what_is_queued_when_time_is_over_is_never_sent(serve):
    server = serve(stalls_after())
    with client_of(server) as client:
        errors = client.fan_out("Hi", targets("a", "b", "c"), max_workers=1, timeout=0.2).errors
        assert [type(error) for error in errors.values()] == [APITimeoutError] * 3
        assert [error.partial for error in errors.values()] == [None] * 3
        assert server.settled()
    assert len(server.requests) == 1


def test_context_variables_reach_the_workers(serve):
    """As a log's filter wants them, that notes whose request a line belongs to."""
    seen = []
    variable = contextvars.ContextVar("variable")

    class Noting(logging.Handler):
        def emit(self, record):
            seen.append((record.threadName[:7], variable.get()))

    noting = Noting()
    log = logging.getLogger("chatsdk.exchange")
    log.addHandler(noting)
    level = log.level
    log.setLevel(logging.DEBUG)
    try:
        with client_of(serve(said("ok"))) as client:
            variable.set("here")
            assert client.fan_out("Hi", targets("a", "b")).errors == {}
    finally:
        log.removeHandler(noting)
        log.setLevel(level)
    assert seen == [("chatsdk", "here")] * 2


# Leaving


def leave_the_loop(answers):
    for _ in answers:
        break


def fail_in_the_loop(answers):
    with pytest.raises(ZeroDivisionError):
        for _ in answers:
            1 / 0


def leave_the_block(answers):
    with answers:
        next(iter(answers))


def close(answers):
    answers.close()


@pytest.mark.parametrize("leave", [leave_the_loop, fail_in_the_loop, leave_the_block, close])
def test_leaving_ends_every_call(serve, leave):
    begun = threading.Event()
    server = serve(by_model(a=gives_when(begun, "ok"), b=stalls_after("half", begun=begun)))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a", "b"))
        assert begun.wait(PATIENCE)
        leave(answers)

        assert leave is close or server.settled(1)  # the other one is kept for the next call
        error = answers.errors["gigachat:b"]
        assert isinstance(error, CancelledError)
    assert server.settled()


def test_one_that_nobody_holds_is_ended(serve):
    begun = threading.Event()
    server = serve(stalls_after("half", begun=begun))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a"))
        assert begun.wait(PATIENCE)
        del answers
        gc.collect()
        assert server.settled()


def test_closing_the_client_ends_it(serve):
    begun = threading.Event()
    server = serve(stalls_after("half", begun=begun))
    client = client_of(server)
    answers = client.fan_out("Hi", targets("a", "b"), max_workers=1)
    assert begun.wait(PATIENCE)
    client.close()
    assert [type(answer.error) for answer in answers] == [CancelledError] * 2
    assert server.settled()
    assert len(server.requests) == 1


def test_conversations_are_deleted_when_the_loop_is_left():
    with Simulator(scenario={"h2o": "stall"}) as simulator:
        with Client(providers=services(simulator), proxy="") as client:
            answers = client.fan_out("Hello", ["h2o", "flowgpt"])
            assert next(iter(answers)).target == "flowgpt"
            del answers
        assert simulator.wait_idle()
        assert simulator.conversations == []


def test_closing_twice_and_after_the_end_is_harmless(serve):
    with client_of(serve(said("ok"))) as client:
        answers = client.fan_out("Hi", targets("a"))
        assert len(list(answers)) == 1
        answers.close()
        answers.close()
        assert len(answers.replies) == 1


FAN_OUT = """
import sys
from chatsdk import Client
from chatsdk.simulator import Simulator
url = sys.argv[1]
client = Client("h2o", base_url=url, proxy="")
answers = client.fan_out("Hello", ["h2o:falcon-7b", "h2o:falcon-40b", "h2o:llama-13b"])
print("asked", flush=True)
"""
WAITS = {
    "in the loop": "for answer in answers: pass",
    "elsewhere": "import threading; threading.Event().wait()",
    "in its with block": "with answers: import threading; threading.Event().wait()",
    "in replies": "answers.replies",
}


def all_stalled(simulator, count):
    """Wait until so many answers have begun."""
    for _ in range(PATIENCE * 100):
        chats = [request for request in simulator.requests if request.scenario != "normal"]
        if len(chats) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the calls never came")


@pytest.mark.parametrize("where", WAITS)
def test_ctrl_c_ends_the_process_within_a_second_and_deletes_conversations(where):
    with Simulator(scenario="stall") as simulator:
        child = Child(FAN_OUT + WAITS[where], simulator.fields("h2o")["base_url"])
        assert child.line() == "asked"
        all_stalled(simulator, 3)
        seconds, _, err = child.interrupt()

        assert err.rstrip().endswith("KeyboardInterrupt")
        assert seconds < 1 + LOADED
        assert simulator.wait_idle()
        assert simulator.conversations == []


def test_ctrl_c_does_not_wait_for_a_clean_up_that_stalls():
    with Simulator(scenario="delete-stall-head") as simulator:
        program = FAN_OUT + "answers.replies; print('never')"
        child = Child(program, simulator.fields("h2o")["base_url"])
        assert child.line() == "asked"
        all_stalled(simulator, 3)
        seconds, out, _ = child.interrupt()
        assert seconds < 1 + LOADED
        assert "never" not in out


def test_a_program_that_ends_does_not_wait_for_its_calls():
    with Simulator(scenario="stall") as simulator:
        child = Child(FAN_OUT + "sys.stdin.readline()", simulator.fields("h2o")["base_url"])
        assert child.line() == "asked"
        all_stalled(simulator, 3)
        began = time.monotonic()
        status, _, err = child.end("now\n")
        assert (status, err) == (0, "")
        assert time.monotonic() - began < 1 + LOADED
        assert simulator.conversations == []


def test_a_fork_leaves_the_calls_of_its_parent_alone(serve):
    late = threading.Event()
    server = serve(gives_when(late, "ok"))
    with client_of(server) as client:
        answers = client.fan_out("Hi", targets("a"))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            answers.close()
            os.write(writer, b".")
            os._exit(0)
        os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        os.waitpid(child, 0)
        late.set()
        assert [reply.text for reply in answers.replies.values()] == ["ok"]


def test_a_call_that_begins_while_the_crew_ends_is_ended_too():
    ended = []

    class Call:
        def cancel(self, *, hurry=False):
            ended.append(hurry)

    crew = Crew(1)
    crew.end(hurry=True)
    with crew.busy(Call()):
        pass
    assert ended == [True]


def test_a_crew_that_has_ended_begins_nothing():
    before, after = threading.Event(), threading.Event()
    crew = Crew(1)
    crew.submit(before.set)
    assert before.wait(PATIENCE)

    crew.end()
    crew.submit(after.set)

    assert not after.wait(0.05)


# What is refused before anything is sent


@pytest.mark.parametrize("ask", ["fan_out", "stream_all", "race"])
@pytest.mark.parametrize(
    ("asked", "chosen", "params", "error", "words"),
    [
        ("Hi", ["gigachat", "gigachat"], {}, ConfigurationError, "'gigachat' twice"),
        ("Hi", [], {}, ConfigurationError, "nobody"),
        ("Hi", "gigachat", {}, TypeError, "list of targets, not str"),
        ("Hi", 5, {}, TypeError, "list of targets, not int"),
        ("Hi", ["gigachat", 5], {}, TypeError, "not int"),
        ("Hi", ["gigachat", "gigachatt"], {}, ConfigurationError, "did you mean 'gigachat'"),
        ([], ["gigachat"], {}, ValueError, "empty"),
        (["a", 5], ["gigachat"], {}, TypeError, r"messages\[1\]"),
        ("Hi", ["gigachat"], {"temperature": -1}, ValueError, "temperature"),
        ("Hi", ["gigachat", "flowgpt"], {"seed": 1}, UnsupportedError, "seed"),
        ("Hi", ["gigachat"], {"temprature": 1}, TypeError, "did you mean 'temperature'"),
    ],
)
def test_bad_arguments(serve, ask, asked, chosen, params, error, words):
    server = serve(said("ok"))
    with client_of(server) as client, pytest.raises(error, match=words):
        getattr(client, ask)(asked, chosen, **params)
    assert server.requests == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be 1 or more, not 0"),
        ({"max_workers": 1.5}, TypeError, "max_workers must be an int, not float"),
        ({"max_workers": True}, TypeError, "max_workers must be an int, not bool"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
    ],
)
def test_bad_options(serve, options, error, words):
    server = serve(said("ok"))
    with client_of(server) as client, pytest.raises(error, match=words):
        client.fan_out("Hi", ["gigachat"], **options)
    assert server.requests == []


def test_messages_and_targets_may_be_generators(serve):
    server = serve(said("ok"))
    with client_of(server) as client:
        answers = client.fan_out(iter(["a", "b"]), iter(targets("x", "y")))
        assert len(answers.replies) == 2
    assert [len(request.json["messages"]) for request in server.requests] == [2, 2]


# Streams of all


def test_texts_come_in_order_of_arrival(serve):
    turn = [threading.Event() for _ in range(4)]

    def says(*when_and_what):
        def say(peer):
            peer.send(head())
            for when, text in when_and_what:
                peer.wait(turn[when])
                peer.send(chunk(frame(text)))
            peer.send(ends())

        return say

    server = serve(by_model(a=says((0, "a0"), (2, "a2")), b=says((1, "b1"), (3, "b3"))))
    with client_of(server) as client:
        arrivals = client.stream_all("Hi", targets("a", "b"))
        seen = []
        for event in turn:
            event.set()
            seen.append(next(arrivals))

        assert seen == [
            ("gigachat:a", "a0"),
            ("gigachat:b", "b1"),
            ("gigachat:a", "a2"),
            ("gigachat:b", "b3"),
        ]
        assert list(arrivals) == []


def test_errors_are_answers_at_the_end(serve):
    half = answer(frame("half"), Content_Type="text/event-stream")
    server = serve(by_model(a=FAILS, b=said("x", "y"), c=half))
    with client_of(server) as client:
        *texts, first, second = client.stream_all("Hi", targets("a", "b", "c"))

        assert sorted(texts) == [("gigachat:b", "x"), ("gigachat:b", "y"), ("gigachat:c", "half")]
        assert [type(item) for _, item in (first, second)] == [Answer, Answer]
        assert (first[0], type(first[1].error)) == ("gigachat:a", ServerError)
        assert (second[0], second[1].error.partial.text) == ("gigachat:c", "half")


def test_a_slow_consumer_slows_the_readers(serve):
    """A service is read no further than the channel's room, and what the kernel holds."""
    text = "x" * 50_000
    sent = []
    blocked = threading.Event()

    def flood(peer):
        peer.send(head())
        peer.sock.settimeout(0.5)
        try:
            for n in range(4000):
                peer.send(chunk(frame(text)))
                sent.append(n)
        except TimeoutError:
            blocked.set()
        peer.sock.settimeout(PATIENCE)
        peer.gone()
        peer.hang_up()

    server = serve(flood)
    with client_of(server) as client, client.stream_all("Hi", targets("a")) as arrivals:
        next(arrivals)
        assert blocked.wait(PATIENCE)
        assert len(sent) < AHEAD + 400
    assert server.settled()


def test_leaving_ends_all_streams(serve):
    server = serve(stalls_after("half"))
    with client_of(server) as client:
        for _, text in client.stream_all("Hi", targets("a", "b")):
            assert text == "half"
            break
        assert server.settled()


def test_closing_from_another_thread_wakes_the_consumer(serve):
    begun = threading.Event()
    server = serve(stalls_after(begun=begun))
    with client_of(server) as client:
        arrivals = client.stream_all("Hi", targets("a"))

        def wait():
            with pytest.raises(CancelledError):
                next(arrivals)
            return True

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wait)
            assert begun.wait(PATIENCE)
            arrivals.close()
            assert waiting.result(PATIENCE)
        assert server.settled()


def test_after_the_end_nothing_comes(serve):
    with client_of(serve(said("x"))) as client:
        arrivals = client.stream_all("Hi", targets("a"))
        assert list(arrivals) == [("gigachat:a", "x")]
        assert list(arrivals) == []
        arrivals.close()
        assert list(arrivals) == []


STREAM_ALL = """
import sys
from chatsdk import Client
client = Client("h2o", base_url=sys.argv[1], proxy="")
arrivals = client.stream_all("Hello", ["h2o:falcon-7b", "h2o:falcon-40b"])
print("asked", flush=True)
for n, pair in enumerate(arrivals):
    if n == 0 and sys.argv[2] == "full": import threading; threading.Event().wait()
"""


@pytest.mark.parametrize(("scenario", "room"), [("stall", "empty"), ("many-frames", "full")])
def test_ctrl_c_ends_streams_at_once_also_blocked_ones(scenario, room):
    with Simulator(scenario=scenario) as simulator:
        child = Child(STREAM_ALL, simulator.fields("h2o")["base_url"], room)
        assert child.line() == "asked"
        all_stalled(simulator, 2)
        seconds, _, err = child.interrupt()
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert seconds < 1 + LOADED
        assert simulator.wait_idle()
        assert simulator.conversations == []


def test_answers_pickle(serve):
    server = serve(by_model(a=FAILS, b=said("ok")))
    with client_of(server) as client:
        for one in client.fan_out("Hi", targets("a", "b")):
            again = pickle.loads(pickle.dumps(one))
            assert (again.target, again.ok, again.reply) == (one.target, one.ok, one.reply)
            assert str(again.error) == str(one.error)
