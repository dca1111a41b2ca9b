from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
import json
import multiprocessing
import os
import signal
import threading

from many import Child, client_of, PATIENCE
import pytest
from servers import answer, document, frame
from test_map import by_prompt, echoes, prompt

from chatsdk import (
    Client,
    ConfigurationError,
    Journal,
    mapping,
    MemoryTokenStore,
    Rate,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    WorkerLostError,
)
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")
HALF = answer(frame("half"), Content_Type="text/event-stream")


@pytest.fixture(scope="module")
def processes():
    """Two worker processes that were not forked, so that they share nothing with this one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(autouse=True)
def closed():
    """Close what this process keeps for calls, where its own threads are the workers."""
    yield
    for client in mapping._clients.values():
        client.close()
    mapping._clients.clear()


def test_answers_and_errors_come_home_from_other_processes(serve, processes):
    server = serve(by_prompt(b=FAILS, c=HALF))
    with client_of(server) as client:
        answers = list(client.map(["a", "b", "c", 5, "d"], executor=processes))
    assert [one.ok for one in answers] == [True, False, False, False, True]
    assert answers[0].reply.text == "<a>"
    assert isinstance(answers[1].error, ServerError) and answers[1].error.status_code == 500
    assert isinstance(answers[2].error, StreamInterruptedError)
    assert answers[2].error.partial.text == "half"
    assert "inputs[3]" in str(answers[3].error)


def test_the_workers_ask_and_share_their_connections(serve, processes):
    server = serve(echoes)
    with client_of(server) as client:
        answers = list(client.map(map(str, range(40)), executor=processes, max_workers=4))
        assert [one.reply.text for one in answers] == [f"<{n}>" for n in range(40)]
        assert client._transport._running == set()
    assert server.connections <= 2


def test_tokens_are_shared_per_process(processes):
    with Simulator() as simulator:
        with Client("gigachat", api_key="k", proxy="", **simulator.fields("gigachat")) as client:
            answers = list(client.map(map(str, range(20)), executor=processes))
        assert all(one.ok for one in answers)
        assert simulator.tokens_issued <= 2


def test_the_journal_stays_with_the_caller(serve, processes, tmp_path):
    server = serve(by_prompt(b=FAILS))
    path = tmp_path / "answers.db"
    with client_of(server) as client:
        first = list(client.map(["a", "b"], executor=processes, journal=path))
        again = list(client.map(["a", "b", "c"], executor=processes, journal=path))
    assert [one.ok for one in first] == [True, False]
    assert [one.ok for one in again] == [True, False, True]
    assert sorted(map(prompt, server.requests)) == ["a", "b", "c"]
    assert len(Journal(path)) == 3


def test_no_more_than_max_workers_are_handed_out(serve):
    most = []

    class Counting(ThreadPoolExecutor):
        def __init__(self):
            super().__init__(8)
            self.running = set()

        def submit(self, *args, **kwargs):
            future = super().submit(*args, **kwargs)
            self.running.add(future)
            most.append(sum(not one.done() for one in self.running))
            return future

    with client_of(serve(echoes)) as client, Counting() as pool:
        answers = list(client.map(map(str, range(30)), executor=pool, max_workers=3))
    assert len(answers) == 30
    assert max(most) <= 3


def test_a_rate_holds_for_an_executor_too(serve):
    server = serve(echoes)
    with client_of(server) as client, ThreadPoolExecutor(4) as pool:
        rate = Rate(requests_per_minute=1200)
        answers = client.map(map(str, range(5)), executor=pool, rate=rate)
        times = [one.reply.text for one in answers]
    assert len(times) == 5


@pytest.mark.parametrize(
    ("options", "params", "name"),
    [
        ({"max_retries": RetryPolicy(1, sleep=lambda seconds: None)}, {}, "max_retries"),
        ({"token_store": type("Local", (MemoryTokenStore,), {})()}, {}, "token_store"),
    ],
)
def test_what_does_not_pickle_is_named_before_anything_is_sent(
    serve, processes, options, params, name
):
    server = serve(echoes)
    with client_of(server, **options) as client:
        with pytest.raises(ConfigurationError, match=name):
            client.map(["a"], executor=processes, **params)
    assert server.requests == []


class Refusing(ThreadPoolExecutor):
    """Takes two calls and is then shut down."""

    def __init__(self):
        super().__init__(1)
        self.left = 2

    def submit(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return super().submit(*args, **kwargs)


def test_an_executor_that_takes_no_more_ends_the_run_after_what_it_took(serve):
    with client_of(serve(echoes)) as client, Refusing() as pool:
        seen = []
        with pytest.raises(WorkerLostError, match="after shutdown"):
            for one in client.map(map(str, range(100)), executor=pool, max_workers=2):
                seen.append(one)
    assert [one.reply.text for one in seen[:2]] == ["<0>", "<1>"]
    assert all(isinstance(one.error, WorkerLostError) for one in seen[2:])
    assert len(seen) < 10


def test_leaving_cancels_what_was_not_begun(serve):
    class Slow(ThreadPoolExecutor):
        futures: list[Future] = []

        def submit(self, *args, **kwargs):
            future = Future() if self.futures else super().submit(*args, **kwargs)
            self.futures.append(future)
            return future

    with client_of(serve(echoes)) as client, Slow(1) as pool:
        answers = client.map(map(str, range(9)), executor=pool, max_workers=4)
        assert next(answers).ok
        answers.close()
    assert all(future.cancelled() for future in pool.futures[1:])


def test_a_worker_process_that_dies_is_an_error_and_not_recorded(serve, tmp_path):
    """The pool of the standard library is broken then; the next run asks for what is missing."""
    path = tmp_path / "answers.db"
    workers = []

    def kill(peer):
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        peer.gone()
        peer.hang_up()

    server = serve(by_prompt(**{"5": kill}))
    context = multiprocessing.get_context("spawn")
    with client_of(server) as client, ProcessPoolExecutor(1, mp_context=context) as pool:
        workers.append(pool.submit(os.getpid).result(PATIENCE))
        seen = []
        with pytest.raises(WorkerLostError):
            for one in client.map(map(str, range(50)), executor=pool, journal=path, max_workers=1):
                seen.append(one)
        assert [one.ok for one in seen][:6] == [True] * 5 + [False]
        assert isinstance(seen[5].error, WorkerLostError) and seen[5].error.retryable

        server.answers[:] = [echoes]
        answers = list(client.map(map(str, range(8)), journal=path))
    assert [one.reply.text for one in answers] == [f"<{n}>" for n in range(8)]
    assert sorted(map(prompt, server.requests)) == sorted([*"01234567", "5"])


# A cluster


@pytest.fixture(scope="module")
def cluster():
    """Start a Dask cluster in a process of its own, since it leaves threads behind."""
    program = "import sys; sys.path[:0] = ['', 'tests']; import cluster; cluster.main()"
    child = Child(program, warnings="default")
    pids = json.loads(child.line())
    assert len(set(pids)) == 2

    def run(fields, inputs, **options):
        job = {"fields": fields, "inputs": inputs, "options": options}
        child.say(json.dumps(job) + "\n")
        return json.loads(child.line())

    run.pids = pids
    yield run
    assert child.end()[0] == 0


def test_a_map_runs_on_a_cluster_and_outlives_one_of_its_workers(serve, cluster):
    """One of two worker processes is killed in the middle: its calls are run again elsewhere."""
    killed = threading.Event()

    def kill_one(peer):
        if not killed.is_set():
            killed.set()
            os.kill(cluster.pids[0], signal.SIGKILL)
        return echoes(peer)

    server = serve(by_prompt(**{"20": kill_one}, b=FAILS))
    inputs = [*map(str, range(60)), "b"]
    fields = {"access_token": "t", "base_url": server.url}
    found = cluster(fields, inputs, max_workers=4)

    assert killed.is_set()
    assert found == [*(f"<{n}>" for n in range(60)), "ServerError"]
    assert {prompt(request) for request in server.requests} == set(inputs)


def test_a_cluster_shares_tokens_per_process_and_leaves_the_journal_here(cluster, tmp_path):
    path = tmp_path / "answers.db"
    inputs = ["the same question"] * 5 + list(map(str, range(20)))
    with Simulator(reply="ok") as simulator:
        fields = {"api_key": "k", **simulator.fields("gigachat")}
        assert cluster(fields, inputs) == ["ok"] * 25
        asked = len(chats(simulator))
        assert cluster(fields, inputs, journal=str(path)) == ["ok"] * 25
        assert simulator.tokens_issued <= 4  # for each map at most one in each of two processes
        assert (asked, len(chats(simulator)) - asked) == (25, 21)
    assert len(Journal(path)) == 21


def chats(simulator):
    return [one for one in simulator.requests if "messages" in one.members]
