"""Every wait ends: by its deadline, by a close from another thread, by Ctrl-C; a fork is safe."""

from __future__ import annotations

from contextlib import contextmanager
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import hostile
from hostile import (
    alone,
    begin,
    chat,
    client_of,
    DIALECTS,
    does,
    dripping,
    end,
    first,
    FIRST,
    for_ever,
    FRAMED,
    FULL,
    in_turn,
    mark,
    PROMPT,
    raw,
    rest,
    serving,
    stall,
    status,
    texts,
    unreachable,
)
import pytest

import chatsdk
from chatsdk import MemoryTokenStore, RetryPolicy
from chatsdk.errors import APITimeoutError, CancelledError, ServerError

SLACK = 1.0  # s that a loaded machine takes on top of what is allowed
PYTHONPATH = os.pathsep.join(
    str(path) for path in (Path(__file__).parent, Path(chatsdk.__file__).parents[1])
)


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.forget()
    yield running
    assert running.deserted()


WAIT = 1.0  # s; such tests run beside each other


def timed_out(name, answer, **timeout):
    """Return the error of a question that takes too long, and the time it took."""
    with alone() as server, client_of(server.url, name, timeout=timeout) as client:
        server.answers["chat"] = answer
        began = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            client.chat(PROMPT)
        return caught.value, time.monotonic() - began


# What is measured


@pytest.mark.ahead
@pytest.mark.parametrize("name", DIALECTS)
def test_the_head_must_be_there_within_first_however_it_drips(name):
    answer = does(raw("HTTP/1.1 200 OK\r\nA: "), for_ever(dripping(b"b")))

    error, took = timed_out(name, answer, first=WAIT)

    assert error.phase == "first"
    assert took < WAIT + 0.5 + SLACK


@pytest.mark.ahead
@pytest.mark.parametrize("name", FRAMED)
def test_heartbeats_cut_at_any_byte_are_no_data(name):
    beat = DIALECTS[name].beat
    answer = does(begin(framing="close"), first, for_ever(dripping(beat, 0.01)))

    error, took = timed_out(name, answer, read=WAIT)

    assert error.phase == "read"
    assert error.partial.text == FIRST
    assert took < WAIT + 0.5 + SLACK


@pytest.mark.ahead
@pytest.mark.parametrize("name", FRAMED)
def test_heartbeats_between_data_do_not_prolong_the_wait_for_the_next(name):
    beat = DIALECTS[name].beat
    some = dripping(beat * 3, WAIT / 4 / len(beat * 3))  # for a quarter of the wait
    beats = for_ever(dripping(beat, 0.01))
    answer = does(begin(framing="close"), first, some, texts("ещё"), beats)

    error, _ = timed_out(name, answer, read=WAIT)

    assert error.partial.text == FIRST + "ещё"


@pytest.mark.ahead
@pytest.mark.parametrize("name", DIALECTS)
def test_data_that_drips_is_data(name):
    # A whole answer takes twice as long as the longest silence that is allowed.
    def answer(peer):
        content = peer.dialect.body()
        peer.begin(framing="close")
        peer.drip(content, 2 * WAIT / len(content))
        peer.fin()

    with alone() as server, client_of(server.url, name, timeout={"read": WAIT}) as client:
        server.answers["chat"] = answer
        assert client.chat(PROMPT).text == FULL


@pytest.mark.ahead
@pytest.mark.parametrize("name", DIALECTS)
def test_a_slow_reader_is_no_silence_of_the_server(name):
    gone_on = threading.Event()
    with alone() as server, client_of(server.url, name, timeout={"read": WAIT}) as client:
        server.answers["chat"] = does(
            begin(), first, lambda peer: gone_on.wait(20), rest, mark, end
        )
        stream = client.stream(PROMPT)
        text = next(stream)
        # Longer than `read`, first while nothing comes, then with the rest at hand.
        for _ in range(2):
            threading.Event().wait(1.2 * WAIT)
            gone_on.set()
        text += "".join(stream)

    assert text == FULL


@pytest.mark.ahead
@pytest.mark.parametrize("name", DIALECTS)
def test_total_covers_retries_and_their_waits(name):
    policy = RetryPolicy(100, initial=0)
    with alone() as server, client_of(
        server.url, name, timeout={"total": WAIT}, max_retries=policy
    ) as client:
        server.answers["chat"] = lambda peer: (peer.pause(WAIT / 5), peer.reply(503, b""))
        began = time.monotonic()
        with pytest.raises((APITimeoutError, ServerError)):
            client.chat(PROMPT)
        took = time.monotonic() - began

    assert took < WAIT + 0.5 + SLACK
    assert server.count("chat") < 10


# Closing from another thread


@contextmanager
def in_thread(work):
    """Run something in a thread; give the list that its error comes to."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        thread.join(20)
        assert not thread.is_alive()


def closes_at_once(client, errors, close=None):
    """Close the client; assert that its reader learns of it within 0.5 s."""
    began = time.monotonic()
    (close or client.close)()
    while not errors and time.monotonic() - began < 10:
        threading.Event().wait(0.005)
    assert time.monotonic() - began < 0.5 + SLACK
    assert [type(error) for error in errors] == [CancelledError]


@pytest.mark.parametrize("close", ["stream", "client"])
@pytest.mark.parametrize("name", DIALECTS)
def test_closing_ends_a_read_in_another_thread(server, name, close):
    server.answers["chat"] = does(begin(), first, stall)
    with client_of(server.url, name) as client:
        stream = client.stream(PROMPT)
        assert next(stream) == FIRST
        with in_thread(lambda: next(stream)) as errors:
            closes_at_once(client, errors, stream.close if close == "stream" else None)

    assert errors[0].partial.text == FIRST
    assert errors[0].provider == name
    assert not server.conversations


@pytest.mark.parametrize("name", DIALECTS)
def test_closing_ends_the_wait_for_a_head(server, name):
    server.answers["chat"] = stall
    with client_of(server.url, name) as client:
        with in_thread(lambda: client.chat(PROMPT)) as errors:
            assert server.until(lambda: server.count("chat") == 1)
            closes_at_once(client, errors)

    assert server.count("chat") == 1
    assert not server.conversations


@pytest.mark.parametrize("name", ["aura", "gigachat"])
def test_closing_ends_the_wait_for_a_connection(server, name):
    with unreachable() as url, client_of(url, name) as client:
        others = connecting(url)
        with in_thread(lambda: client.chat(PROMPT)) as errors:
            assert until_connecting(url, others)
            closes_at_once(client, errors)


TCP = Path("/proc/net/tcp")


def connecting(url):
    """Return how many connections to an address are begun and not made, where the system tells."""
    port = f":{int(url.rpartition(':')[2]):04X} 02 "  # SYN_SENT
    return TCP.read_text().count(port) if TCP.exists() else 1


def until_connecting(url, others):
    """Wait until one more connection to an address is begun."""
    began = time.monotonic()
    while TCP.exists() and connecting(url) <= others:
        if time.monotonic() - began > 10:
            return False
        threading.Event().wait(0.005)
    return True


@pytest.mark.parametrize("name", ["aura", "h2o"])
def test_closing_ends_a_tls_handshake(server, name):
    server.greeting = stall
    url = server.url.replace("http:", "https:")
    with client_of(url, name) as client:
        with in_thread(lambda: client.chat(PROMPT)) as errors:
            assert server.until(lambda: len(server.received) > 100)
            closes_at_once(client, errors)


@pytest.mark.parametrize("name", DIALECTS)
def test_closing_ends_the_wait_before_a_retry(server, name):
    server.answers["chat"] = status(503)
    policy = RetryPolicy(2, initial=30, maximum=30, random=lambda: 1.0)
    with client_of(server.url, name, max_retries=policy, timeout={"total": 99}) as client:
        with in_thread(lambda: client.chat(PROMPT)) as errors:
            assert server.until(lambda: server.count("chat") == 1 and not server.busy)
            closes_at_once(client, errors)

    assert server.count("chat") == 1


def test_closing_ends_a_token_call_and_those_who_wait_for_it(server):
    server.answers["token"] = stall
    with client_of(server.url, "gigachat") as client:
        with in_thread(lambda: client.chat(PROMPT)) as first_errors:
            assert server.until(lambda: server.count("token") == 1)
            with in_thread(lambda: client.chat(PROMPT)) as errors:
                closes_at_once(client, errors)
    assert [type(error) for error in first_errors] == [CancelledError]


def test_closing_ends_the_wait_for_a_token_that_another_client_asks_for(server):
    store = MemoryTokenStore()
    server.answers["token"] = stall
    with client_of(server.url, "gigachat", token_store=store) as leader:
        with in_thread(lambda: leader.chat(PROMPT)) as first_errors:
            assert server.until(lambda: server.count("token") == 1)
            waits = {"token_store": store, "timeout": {"total": 5}}
            with client_of(server.url, "gigachat", **waits) as client:
                with in_thread(lambda: client.chat(PROMPT)) as errors:
                    closes_at_once(client, errors)
            assert not first_errors
            leader.close()


@pytest.mark.parametrize("name", DIALECTS)
def test_a_closed_client_leaves_no_connection_however_many_threads_read(server, name):
    server.answers["chat"] = does(begin(), first, stall)
    together = threading.Barrier(9)
    errors = []

    def read():
        stream = client.stream(PROMPT)
        try:
            assert next(stream) == FIRST
            together.wait(20)
            next(stream)
        except BaseException as error:
            errors.append(error)

    with client_of(server.url, name) as client:
        threads = [threading.Thread(target=read, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        together.wait(20)

        began = time.monotonic()
        client.close()
        for thread in threads:
            thread.join(20)

        assert time.monotonic() - began < 0.5 + SLACK
        assert [type(error) for error in errors] == [CancelledError] * 8
        assert server.deserted(0.5 + SLACK)
        assert not server.conversations
        server.answers.clear()
        assert client.chat(PROMPT).text == FULL


def create_slowly(peer):
    """Create a conversation at once, and tell its id a moment later."""
    peer.server.conversations.add(f"{1:024x}")
    peer.pause(0.1)
    peer.reply(200, json.dumps({"conversationId": f"{1:024x}"}).encode())


def test_closing_while_a_conversation_is_created_leaves_none(server):
    server.answers["create"] = create_slowly
    with client_of(server.url, "h2o") as client:
        with in_thread(lambda: client.chat(PROMPT)) as errors:
            assert server.until(lambda: bool(server.conversations))
            closes_at_once(client, errors)

    assert not server.conversations
    assert server.count("chat") == 0


# Children


@contextmanager
def child(code, *arguments):
    """Run code in an interpreter of its own, with a server's address in ``url``."""
    prelude = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hostile import *\n"
        "url, *arguments = sys.argv[1:]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONIOENCODING": "utf-8"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def tell(process):
    """Let the child go on that waits for a line."""
    process.stdin.write("\n")
    process.stdin.flush()


def interrupted(process, within=1.0):
    """Send Ctrl-C; assert that the process is gone within a second, by nothing else."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=20)
    finally:
        took = time.monotonic() - began
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert process.returncode == -signal.SIGINT, errors
    assert took < within + SLACK
    return output


# Tells when its main thread waits for a socket.
ASK = """
def watch(main):
    while sys._current_frames()[main].f_code.co_name != "recv_into":
        told.wait(0.01)
    print("waiting", flush=True)

def received():
    threading.Thread(target=watch, args=(threading.get_ident(),), daemon=True).start()

told = threading.Event()
name, *arguments = arguments
client = client_of(url, name)
try:
    for piece in client.stream(PROMPT):
        received()
except KeyboardInterrupt as error:
    partial = getattr(error, "partial", None)
    print("partial", partial and partial.text, flush=True)
    raise
"""


@pytest.mark.parametrize("name", DIALECTS)
def test_ctrl_c_ends_a_read_at_once(server, name):
    server.answers["chat"] = does(begin(), first, stall)
    with child(ASK, server.url, name) as process:
        assert process.stdout.readline() == "waiting\n"
        output = interrupted(process)

    assert output == f"partial {FIRST}\n"
    assert not server.conversations
    if name == "h2o":
        assert server.steps[-2:] == ["stop", "delete"]


@pytest.mark.parametrize("name", ["aura", "h2o"])
def test_ctrl_c_ends_the_wait_for_a_head_at_once(server, name):
    server.answers["chat"] = stall
    with child(ASK, server.url, name) as process:
        assert server.until(lambda: server.count("chat") == 1, 20)
        interrupted(process)

    assert not server.conversations


@pytest.mark.parametrize("where", ["in the library", "in the caller's own code"])
def test_ctrl_c_is_at_once_also_when_the_clean_up_gets_no_answer(server, where):
    server.answers.update(chat=does(begin(), first, stall), stop=stall, delete=stall)
    code = ASK
    if where != "in the library":
        code = code.replace("    received()", "    print('waiting', flush=True); told.wait(60)")
    with child(code, server.url, "h2o") as process:
        assert process.stdout.readline() == "waiting\n"
        interrupted(process)


def test_ctrl_c_ends_the_wait_for_a_connection_at_once():
    with unreachable() as url:
        others = connecting(url)
        with child(ASK, url, "aura") as process:
            assert until_connecting(url, others)
            interrupted(process)


def test_ctrl_c_ends_a_tls_handshake_at_once(server):
    server.greeting = stall
    with child(ASK, server.url.replace("http:", "https:"), "aura") as process:
        assert server.until(lambda: len(server.received) > 100, 20)
        interrupted(process)


def test_ctrl_c_ends_the_wait_before_a_retry_at_once(server):
    server.answers["chat"] = status(503)
    code = ASK.replace(
        "client_of(url, name)",
        "client_of(url, name, timeout={'total': 99},"
        " max_retries=RetryPolicy(2, initial=30, maximum=30, random=lambda: 1.0))",
    )
    log = "import logging; logging.basicConfig(stream=sys.stdout, level=logging.WARNING)\n"
    with child(log + code, server.url, "h2o") as process:
        assert "attempt 1 failed" in process.stdout.readline()
        interrupted(process)

    assert server.count("chat") == 1
    assert not server.conversations


def test_ctrl_c_ends_a_token_call_at_once(server):
    server.answers["token"] = stall
    with child(ASK, server.url, "gigachat") as process:
        assert server.until(lambda: server.count("token") == 1, 20)
        interrupted(process)


def test_ctrl_c_ends_the_wait_for_the_token_of_another_thread_at_once(server):
    server.answers["token"] = stall
    code = """
client = client_of(url, "gigachat")
threading.Thread(target=client.chat, args=(PROMPT,), daemon=True).start()
sys.stdin.readline()
print("asking", flush=True)
client.chat(PROMPT)
"""
    with child(code, server.url) as process:
        assert server.until(lambda: server.count("token") == 1, 20)
        tell(process)
        assert process.stdout.readline() == "asking\n"
        interrupted(process)

    assert server.count("token") == 1


def test_ctrl_c_while_a_conversation_is_created_leaves_none(server):
    server.answers["create"] = create_slowly
    with child(ASK, server.url, "h2o") as process:
        assert server.until(lambda: bool(server.conversations), 20)
        interrupted(process)

    assert not server.conversations
    assert server.count("chat") == 0


def test_a_termination_while_a_conversation_is_created_leaves_none(server):
    server.answers["create"] = create_slowly
    code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + ASK
    with child(code, server.url, "h2o") as process:
        assert server.until(lambda: bool(server.conversations), 20)
        process.terminate()
        _, errors = process.communicate(timeout=20)

    assert process.returncode == 7, errors
    assert not server.conversations
    assert server.count("chat") == 0


def test_ctrl_c_is_at_once_also_when_no_conversation_is_told_of(server):
    server.answers["create"] = stall
    with child(ASK, server.url, "h2o") as process:
        assert server.until(lambda: server.count("create") == 1, 20)
        interrupted(process)

    assert server.steps == ["settings", "create"]


def test_a_second_ctrl_c_does_not_wait_for_a_conversation(server):
    server.answers["create"] = stall
    code = """
from chatsdk import deadlines

def told(watch):
    cancel(watch)
    print("interrupted", flush=True)

deadlines.SHELTER = 60
deadlines.Watch.cancel, cancel = told, deadlines.Watch.cancel
client_of(url, "h2o").chat(PROMPT)
"""
    with child(code, server.url) as process:
        assert server.until(lambda: server.count("create") == 1, 20)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        interrupted(process)


def test_ctrl_c_in_the_clean_up_does_not_lose_it(server):
    server.answers["delete"] = in_turn(stall, hostile.PROPER["delete"])
    with child('client_of(url, "h2o").chat(PROMPT)', server.url) as process:
        assert server.until(lambda: server.count("delete") == 1, 20)
        interrupted(process)

    assert not server.conversations


def test_ctrl_c_in_a_clean_up_that_gets_no_answer_is_at_once(server):
    server.answers["delete"] = stall
    with child('client_of(url, "h2o").chat(PROMPT)', server.url) as process:
        assert server.until(lambda: server.count("delete") == 1, 20)
        interrupted(process)


MANY = {
    "fan_out": "print(client.fan_out(PROMPT, ['h2o:a', 'h2o:b']).errors)",
    "race": "client.race(PROMPT, ['h2o:a', 'h2o:b'])",
    "stream_all": "print(*client.stream_all(PROMPT, ['h2o:a', 'h2o:b']))",
    "map": "print(*client.map(list('abc'), max_workers=2))",
}


def create_both_slowly(peer):
    """Create two conversations, and tell their ids a moment after both are there."""
    server = peer.server
    name = f"{peer.sock.getpeername()[1]:024x}"
    server.conversations.add(name)
    server.until(lambda: len(server.conversations) == 2)
    peer.pause(0.1)
    peer.reply(200, json.dumps({"conversationId": name}).encode())


@pytest.mark.parametrize("work", MANY.values(), ids=list(MANY))
def test_ctrl_c_while_many_conversations_are_created_leaves_none(server, work):
    server.answers["create"] = create_both_slowly
    with child('client = client_of(url, "h2o")\n' + work, server.url) as process:
        assert server.until(lambda: len(server.conversations) == 2, 20)
        interrupted(process)

    assert not server.conversations
    assert server.count("chat") == 0


def test_a_conversation_is_also_created_when_no_thread_can_be_started(server, monkeypatch):
    start = threading.Thread.start

    def refused(thread):
        if threading.current_thread() is threading.main_thread():
            raise RuntimeError("can't start new thread")
        start(thread)

    with client_of(server.url, "h2o") as client:
        monkeypatch.setattr(threading.Thread, "start", refused)
        assert client.chat(PROMPT).text == FULL

    assert not server.conversations


# Forks

FORK = """
import os, traceback
name, action = arguments
client = client_of(url, name)
stream = client.stream(PROMPT)
text = next(stream)
pid = os.fork()
if not pid:
    status = 1
    try:
        print("child", client.chat(PROMPT).text, flush=True)
        exec(action)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)
print("status", os.waitpid(pid, 0)[1], flush=True)
print("parent", text + "".join(stream), flush=True)
client.close()
"""


@contextmanager
def releasing(event):
    """Let those who wait for an event go on, whatever happens."""
    try:
        yield
    finally:
        event.set()


@pytest.mark.parametrize(
    "action",
    ["pass", "del stream", "stream.close()", "client.close()"],
    ids=["leaves", "drops the stream", "closes the stream", "closes the client"],
)
@pytest.mark.parametrize("name", ["gigachat", "h2o", "aura"])
def test_a_fork_in_the_middle_of_a_stream_harms_neither_side(server, name, action):
    go = threading.Event()
    held = does(begin(), first, lambda peer: go.wait(30), rest, mark, end)
    server.answers["chat"] = in_turn(held, chat)
    with child(FORK, server.url, name, action) as process, releasing(go):
        assert process.stdout.readline() == f"child {FULL}\n"
        assert process.stdout.readline() == "status 0\n"
        assert len(server.conversations) == (name == "h2o")  # the parent's own
        go.set()
        assert process.stdout.readline() == f"parent {FULL}\n"
        _, errors = process.communicate(timeout=20)

    assert not errors
    assert not server.conversations
    assert server.count("delete") == 2 * (name == "h2o")


def test_a_fork_in_the_middle_of_a_token_call_harms_neither_side(server):
    go = threading.Event()
    proper = hostile.PROPER["token"]
    server.answers["token"] = in_turn(lambda peer: (go.wait(30), proper(peer)), proper)
    code = """
import os, traceback
client = client_of(url, "gigachat")
texts = []
thread = threading.Thread(target=lambda: texts.append(client.chat(PROMPT).text))
thread.start()
sys.stdin.readline()
pid = os.fork()
if not pid:
    status = 1
    try:
        print("child", client.chat(PROMPT).text, flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)
print("status", os.waitpid(pid, 0)[1], flush=True)
thread.join()
print("parent", *texts, flush=True)
"""
    with child(code, server.url) as process, releasing(go):
        assert server.until(lambda: server.count("token") == 1, 20)
        tell(process)
        assert process.stdout.readline() == f"child {FULL}\n"
        assert process.stdout.readline() == "status 0\n"
        go.set()
        assert process.stdout.readline() == f"parent {FULL}\n"

    assert server.count("token") == 2
