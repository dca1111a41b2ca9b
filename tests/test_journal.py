from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
import io
import itertools
import json
import os
import sqlite3
import threading
import time

from many import Child, client_of, PATIENCE
import pytest
from requests.structures import CaseInsensitiveDict
from servers import answer, document, frame, said
from test_map import by_prompt, echoes, prompt

import chatsdk
from chatsdk import APITimeoutError, ChatError, Client, Journal
from chatsdk import journal as module
from chatsdk import (
    JournalError,
    Message,
    ProtocolError,
    RateLimitError,
    Reply,
    ServerError,
    StreamInterruptedError,
    ToolCall,
    Usage,
)
from chatsdk.inputs import Item, item_from
from chatsdk.journal import Ledger
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")
HALF = answer(frame("half"), Content_Type="text/event-stream")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.db"


def texts(answers):
    return [one.reply.text if one.ok else type(one.error).__name__ for one in answers]


# What is recorded


def test_a_rerun_yields_what_is_recorded_and_asks_only_for_what_is_missing(serve, path):
    server = serve(echoes)
    with client_of(server) as client:
        first = list(client.map(["a", "b"], journal=path))
        again = list(client.map(["a", "b", "c"], journal=path))
    assert texts(again) == ["<a>", "<b>", "<c>"]
    assert [one.reply for one in again[:2]] == [one.reply for one in first]
    assert [one.input for one in again] == ["a", "b", "c"]
    assert sorted(map(prompt, server.requests)) == ["a", "b", "c"]


def test_functions_and_types_count_as_what_the_model_sees_of_them(path):
    def tool(described):
        def weather(city: str) -> str:
            return city

        weather.__doc__ = described
        return weather

    @dataclass
    class City:
        name: str

    with Simulator() as simulator:
        with Client("gigachat", api_key="any", **simulator.fields("gigachat")) as client:
            def asked(**params):
                before = len(simulator.requests)
                list(client.map(["Weather in Kazan?"], journal=path, **params))
                return len(simulator.requests) - before

            assert asked(tools=[tool("Tell.")]) == 2  # a token, and the question
            assert asked(tools=[tool("Tell.")]) == asked(tools=[chatsdk.tool(tool("Tell."))]) == 0
            assert asked(tools=[tool("Tell all.")]) == 1
            assert asked(response_format=City) == 1
            City.__annotations__["name"] = City.__dataclass_fields__["name"].type = int
            assert asked(response_format=City) == 1


def test_an_image_is_known_by_its_bytes_and_not_kept(path):
    picture = b"\x89PNG\r\n\x1a\n"
    with Simulator(reply="A cat.") as simulator:
        with Client("openai", api_key="any", **simulator.fields("openai")) as client:
            for end in (b"1", b"1", b"2"):
                question = chatsdk.user("What is this?", picture + end)
                assert texts(client.map([question], journal=path)) == ["A cat."]

        assert len(simulator.requests) == 2

    kept = [answer.input for answer in Journal(path)]
    assert [message["content"][0] for (message,) in kept] == ["What is this?"] * 2
    assert kept[0][0]["content"][1]["media"] == "image"
    assert len(kept[0][0]["content"][1]["sha256"]) == 64
    assert kept[0][0]["content"][1] != kept[1][0]["content"][1]


def test_failures_are_recorded_and_asked_again_only_if_wanted(serve, path):
    server = serve(by_prompt(b=FAILS, c=HALF))
    with client_of(server) as client:
        first = list(client.map(["a", "b", "c"], journal=path))
        again = list(client.map(["a", "b", "c"], journal=path))
        assert len(server.requests) == 3
        assert texts(first) == texts(again) == ["<a>", "ServerError", "StreamInterruptedError"]
        assert again[1].error.status_code == 500
        assert again[2].error.partial.text == "half"

        server.answers[:] = [echoes]
        healed = list(client.map(["a", "b", "c"], journal=path, retry_errors=True))
        assert texts(healed) == ["<a>", "<b>", "<c>"]
        assert sorted(map(prompt, server.requests[3:])) == ["b", "c"]
        assert sorted(texts(Journal(path))) == ["<a>", "<b>", "<c>"]


def test_an_answer_is_durable_before_it_is_yielded(serve, path):
    with client_of(serve(echoes)) as client:
        for one in client.map(map(str, range(20)), journal=path):
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute("SELECT input FROM answers").fetchall()
            assert (json.dumps(one.input),) in rows


def test_commits_reach_the_disk(path):
    ledger = Ledger(path, "t", "t", False)
    ledger.enter()
    try:
        mode = ledger._connection.execute("PRAGMA journal_mode").fetchone()
        with ledger._writing():
            synchronous = ledger._connection.execute("PRAGMA synchronous").fetchone()
    finally:
        ledger.leave()
    assert (mode, synchronous) == (("wal",), (2,))


def test_the_file_is_nobody_elses(serve, path):
    with client_of(serve(echoes)) as client:
        list(client.map(["a"], journal=path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_input_of_the_wrong_type_is_not_recorded(serve, path):
    with client_of(serve(echoes)) as client:
        assert texts(client.map(["a", 5], journal=path)) == ["<a>", "TypeError"]
        assert texts(client.map(["a", 5], journal=path)) == ["<a>", "TypeError"]
    assert len(Journal(path)) == 1


def test_an_answer_that_came_before_the_loop_was_left_is_recorded(serve, path):
    both = threading.Barrier(2)

    def meet(peer):
        both.wait(PATIENCE)
        return echoes(peer)

    server = serve(meet)
    with client_of(server) as client:
        answers = client.map(["a", "b"], journal=path)
        next(answers)
        assert server.settled(2)
        ends = time.monotonic() + PATIENCE
        while len(client._open) > 1:  # until both calls are over: the map itself is left
            assert time.monotonic() < ends
            time.sleep(0.001)
        answers.close()
    assert sorted(texts(Journal(path))) == ["<a>", "<b>"]


def test_what_was_cut_off_is_not_recorded_and_asked_again(serve, path):
    begun = threading.Event()

    def stall(peer):
        begun.set()
        peer.gone()
        peer.hang_up()

    def quick(peer):
        peer.wait(begun)
        return echoes(peer)

    server = serve(by_prompt(a=quick, b=stall))
    with client_of(server) as client:
        answers = client.map(["a", "b"], journal=path)
        next(answers)
        answers.close()
        assert texts(Journal(path)) == ["<a>"]
        server.answers[:] = [echoes]
        assert texts(client.map(["a", "b"], journal=path)) == ["<a>", "<b>"]


# What is the same question


def test_the_same_text_is_another_question_with_other_parameters_or_another_target(serve, path):
    server = serve(echoes)
    with client_of(server) as client:
        for options in ({}, {"temperature": 1}, {"system": "x"}, {"target": "gigachat:other"}):
            assert texts(client.map(["a"], journal=path, **options)) == ["<a>"]
            assert texts(client.map(["a"], journal=path, timeout=9, **options)) == ["<a>"]
    assert len(server.requests) == 4


def test_a_key_tells_questions_apart_and_stands_for_the_question(serve, path):
    server = serve(echoes)
    with client_of(server) as client:
        assert texts(client.map([("x", "a"), ("y", "a"), (1, "a")], journal=path)) == ["<a>"] * 3
        assert len(server.requests) == 3
        assert texts(client.map([("x", "changed")], journal=path)) == ["<a>"]
        assert texts(client.map([("1", "a text, not a number")], journal=path)) == [
            "<a text, not a number>"
        ]


def test_a_wide_window_fits_into_statements(serve, path, monkeypatch):
    monkeypatch.setattr(module, "GROUP", 7)
    server = serve(echoes)
    with client_of(server) as client:
        for _ in range(2):
            answers = client.map(map(str, range(50)), journal=path, max_workers=20)
            assert texts(answers) == [f"<{n}>" for n in range(50)]
    assert len(server.requests) == 50


def test_the_same_question_twice_in_one_run_is_asked_once(serve, path):
    server = serve(echoes)
    with client_of(server) as client:
        answers = list(client.map(["a"] * 5 + ["b"], journal=path, max_workers=2))
    assert texts(answers) == ["<a>"] * 5 + ["<b>"]
    assert [one.index for one in answers] == list(range(6))
    assert len(server.requests) == 2


# Two at once, and death


RUN = """
import sys
from chatsdk import Client
url, path, count = sys.argv[1:]
client = Client("gigachat", access_token="t", base_url=url, proxy="")
print("ready", flush=True)
sys.stdin.readline()
answers = client.map(map(str, range(int(count))), journal=path, max_workers=4)
for one in answers:
    print(one.reply.text, flush=True)
client.close()
"""


def test_two_processes_on_one_journal_do_not_ask_twice(serve, path):
    server = serve(echoes)
    children = [Child(RUN, server.url, path, 60) for _ in range(2)]
    for child in children:
        assert child.line() == "ready"
    threads = [threading.Thread(target=child.say, args=("go\n",)) for child in children]
    for thread in threads:
        thread.start()
    ends = [child.end() for child in children]
    for thread in threads:
        thread.join()
    expected = [f"<{n}>" for n in range(60)]
    for status, out, err in ends:
        assert (status, err) == (0, "")
        assert out.split("\n")[:-1] == expected
    assert sorted(map(prompt, server.requests)) == sorted(map(str, range(60)))


def test_two_threads_on_one_journal_do_not_ask_twice(serve, path):
    server = serve(echoes)
    inputs = [str(n) for n in range(40)]
    found = []
    with client_of(server) as client:
        threads = [
            threading.Thread(target=lambda: found.append(texts(client.map(inputs, journal=path))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[f"<{text}>" for text in inputs]] * 3
    assert len(server.requests) == 40


def test_kill_9_loses_nothing_that_was_yielded_and_its_claims_end_at_once(serve, path):
    """The killed run had questions under way; the next one asks them without waiting."""
    hold = threading.Event()

    def slow_after_20(peer):
        if int(prompt(peer.request)) >= 20:
            peer.wait(hold)
        return echoes(peer)

    server = serve(slow_after_20)
    child = Child(RUN, server.url, path, 100)
    assert child.line() == "ready"
    child.say("go\n")
    seen = [child.line() for _ in range(20)]
    child.kill()
    hold.set()

    assert seen == [f"<{n}>" for n in range(20)]
    assert set(seen) <= set(texts(Journal(path)))
    before = len(server.requests)
    with client_of(server) as client:
        began = time.monotonic()
        assert texts(client.map(map(str, range(30)), journal=path)) == [
            f"<{n}>" for n in range(30)
        ]
        assert time.monotonic() - began < 5
    late = [request for request in server.requests[before:] if request.body]  # not a half one
    assert not set(map(prompt, late)) & {str(n) for n in range(20)}


def test_a_run_that_cannot_be_seen_counts_as_dead_when_it_gives_no_sign_of_life(
    serve, path, monkeypatch
):
    other = Ledger(path, "gigachat", "x", False)
    monkeypatch.setattr(module, "_host", lambda: "another machine")
    other.enter()
    monkeypatch.undo()
    (run,) = runs(path)
    now = time.time()
    assert run.alive()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET beat = ?", (now - module.LEASE - 1,))
    (run,) = runs(path)
    assert not run.alive()
    with client_of(serve(echoes)) as client:
        assert texts(client.map(["a"], journal=path)) == ["<a>"]
    assert runs(path) == []
    other.leave()


def runs(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT number, host, pid, began, beat FROM runs")
        return [module._Run(*row) for row in rows]


def test_a_process_id_that_was_given_away_again_is_not_taken_for_the_run():
    me = module._Run(1, module._host(), os.getpid(), module._started(os.getpid()), 0.0)
    assert me.alive()
    assert not module._Run(1, me.host, me.pid, "12", time.time()).alive()
    assert not module._Run(1, me.host, 2**22 + 5, "12", time.time()).alive()


def test_a_run_shows_that_it_lives(path):
    ledger = Ledger(path, "t", "t", False)
    ledger.enter()
    try:
        ledger._beat -= module.LEASE
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE runs SET beat = 0")
        item = item_from(0, "a")
        ledger.begin([item])
        item.outcome = Reply("x")
        ledger.record([item])
        assert runs(path)[0].beat > 1
    finally:
        ledger.leave()


# Files that are none, full disks, damage


def test_a_journal_of_another_program_is_refused_and_left_alone(serve, path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    server = serve(echoes)
    with client_of(server) as client:
        with pytest.raises(JournalError, match="another program"):
            client.map(["a"], journal=path)
    with pytest.raises(JournalError, match="another program"):
        Journal(path)
    assert path.read_bytes() == before
    assert server.requests == []


@pytest.mark.parametrize("content", [b"not a database " * 200, b"x", b"SQLite format 3\0" * 100])
def test_a_file_that_is_no_database_is_refused_and_left_alone(serve, path, content):
    path.write_bytes(content)
    server = serve(echoes)
    with client_of(server) as client, pytest.raises(JournalError, match="answers.db"):
        client.map(["a"], journal=path)
    with pytest.raises(JournalError):
        Journal(path)
    assert path.read_bytes() == content
    assert server.requests == []


def test_a_journal_of_a_later_version_is_refused(serve, path):
    with client_of(serve(echoes)) as client:
        list(client.map(["a"], journal=path))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        with pytest.raises(JournalError, match="later version"):
            client.map(["a"], journal=path)


def test_a_place_where_no_file_can_be_is_refused(serve, tmp_path):
    with client_of(serve(echoes)) as client:
        for place in (tmp_path, tmp_path / "missing" / "answers.db"):
            with pytest.raises(JournalError):
                client.map(["a"], journal=place)


def test_an_empty_file_becomes_a_journal(serve, path):
    path.touch()
    with pytest.raises(JournalError, match="nothing yet"):
        Journal(path)
    with client_of(serve(echoes)) as client:
        assert texts(client.map(["a"], journal=path)) == ["<a>"]


def test_a_missing_journal_is_not_made_by_reading_it(path):
    with pytest.raises(JournalError, match="no journal"):
        Journal(path)
    assert not path.exists()


def filled(serve, path, count=200):
    with client_of(serve(echoes)) as client:
        list(client.map([f"{n} " + "x" * 500 for n in range(count)], journal=path))


@pytest.mark.parametrize("how", ["cut", "zeros in the middle", "a page of noise"])
def test_a_damaged_journal_is_an_error_and_nothing_more_is_lost(serve, path, how):
    filled(serve, path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 8192 * 4096
    if how == "cut":
        del data[middle:]
    elif how == "a page of noise":
        data[middle:middle + 4096] = bytes(n % 251 for n in range(4096))
    else:
        data[middle:middle + 40960] = bytes(40960)
    path.write_bytes(data)

    server = serve(echoes)
    with client_of(server) as client:
        with pytest.raises(JournalError):
            client.map(["new"], journal=path)
    assert server.requests == []
    assert path.read_bytes() == data
    with pytest.raises(JournalError):
        Journal(path).export(io.StringIO())


def test_a_row_that_cannot_be_read_is_an_error(serve, path):
    filled(serve, path, 3)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET reply = 'no JSON' WHERE number = 2")
    with pytest.raises(JournalError):
        list(Journal(path))
    with client_of(serve(echoes)) as client, pytest.raises(JournalError):
        list(client.map([f"{n} " + "x" * 500 for n in range(3)], journal=path))


def test_a_full_disk_is_an_error_that_carries_what_could_not_be_recorded(
    serve, path, monkeypatch
):
    """The file may not grow any more: what was yielded is in it, what came then is in the error."""
    connected = module._connected

    def tiny(path):
        connection = connected(path)
        connection.execute("PRAGMA max_page_count = 24")
        return connection

    monkeypatch.setattr(module, "_connected", tiny)
    long = said("y" * 3000)
    seen = []
    with client_of(serve(long)) as client:
        with pytest.raises(JournalError, match="full") as caught:
            for one in client.map(map(str, itertools.count()), journal=path, max_workers=2):
                seen.append(one.input)
        monkeypatch.undo()
        assert len(seen) > 5
        assert set(seen) <= {one.input for one in Journal(path)}
        assert all(one.reply.text == "y" * 3000 for one in caught.value.unrecorded)
        again = list(client.map(seen, journal=path))  # there is room again
        assert all(one.ok for one in again)


LIMITED = """
import itertools, resource, signal, sys
from chatsdk import Client, JournalError
url, path = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
client = Client("gigachat", access_token="t", base_url=url, proxy="")
try:
    for one in client.map(map(str, itertools.count()), journal=path):
        print(one.input, flush=True)
except JournalError as error:
    print("error", error, flush=True)
client.close()
"""


def test_a_file_system_that_takes_no_more_is_an_error_and_nothing_recorded_is_lost(serve, path):
    server = serve(said("y" * 2000))
    status, out, err = Child(LIMITED, server.url, path).end()
    *seen, error, _ = out.split("\n")
    assert (status, err) == (0, "")
    assert error.startswith("error the journal")
    assert len(seen) > 5
    assert set(seen) <= {one.input for one in Journal(path)}


def test_a_read_only_journal_can_be_read_and_not_written(serve, path, monkeypatch):
    filled(serve, path, 3)
    connected = module._connected

    def read_only(path):
        connection = connected(path)
        connection.execute("PRAGMA query_only = 1")
        return connection

    monkeypatch.setattr(module, "_connected", read_only)
    with client_of(serve(echoes)) as client:
        with pytest.raises(JournalError, match="readonly"):
            list(client.map(["new"], journal=path))
    assert len(Journal(path)) == 3


# Reading it


def test_a_journal_gives_answers_lines_and_the_sum_of_usage(path):
    with Simulator(reply="two words") as simulator:
        fields = simulator.fields("gigachat")
        with Client("gigachat", api_key="any", proxy="", max_retries=0, **fields) as client:
            inputs = ["one", ("key", "two"), [Message("system", "s"), "three"]]
            answers = list(client.map(inputs, journal=path, max_workers=1))
            simulator.play("status-500")
            list(client.map(["four"], journal=path))
    journal = Journal(path)

    assert len(journal) == 4
    assert [one.reply for one in journal][:3] == [one.reply for one in answers]
    usages = [one.reply.usage for one in answers]
    assert journal.usage().total_tokens == sum(usage.total_tokens for usage in usages)
    assert journal.usage().reasoning_tokens is None

    out = io.StringIO()
    assert journal.export(out) == 4
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["input"] for line in lines] == [
        "one",
        "two",
        [{"role": "system", "content": "s"}, {"role": "user", "content": "three"}],
        "four",
    ]
    assert [line.get("text") for line in lines] == ["two words"] * 3 + [None]
    assert lines[1]["key"] == "key" and "key" not in lines[0]
    assert lines[3]["error"]["type"] == "ServerError"
    assert lines[0]["usage"]["total_tokens"] == usages[0].total_tokens

    assert journal.export(path.with_suffix(".jsonl")) == 4
    assert path.with_suffix(".jsonl").read_text("utf-8") == out.getvalue()


def test_a_journal_can_be_read_while_it_is_written(serve, path):
    with client_of(serve(echoes)) as client:
        for n, _ in enumerate(client.map(map(str, range(10)), journal=path, max_workers=1)):
            assert len(Journal(path)) > n


CALL = ToolCall("1", "f", {"x": 1}, '{"x": 1}')
REPLIES = [
    Reply(),
    Reply("text \u2028 \U0001f600"),
    Reply("t", "m", "p", "stop", Usage(1, 2, 3), (CALL,), "why", "id", 1.5, 0.5),
    Reply("t", raw={"half": "\ud800", "nested": [1, None]}, state={"signature": "s"}),
]


@pytest.mark.parametrize("reply", REPLIES)
def test_replies_come_back_as_they_were(path, reply):
    assert kept(path, reply) == reply


def kept(path, outcome):
    ledger = Ledger(path, "t", "t", False)
    ledger.enter()
    try:
        item = Item(0, "a", messages=(Message("user", "a"),))
        ledger.begin([item])
        item.outcome = outcome
        ledger.record([item])
        again = Item(0, "a", messages=(Message("user", "a"),))
        ledger.begin([again])
        return again.outcome
    finally:
        ledger.leave()


def test_a_reply_whose_raw_has_no_json_form_is_kept_without_it(path):
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert kept(path, Reply("text", raw=nested)).text == "text"
    while nested:
        nested = nested[0]  # or its own end would be too deep


ERRORS = [
    TypeError("not this"),
    ValueError("nor that"),
    ChatError("x", provider="p", retryable=True, retry_after=2.0),
    APITimeoutError("late", phase="read", partial=Reply("half")),
    ProtocolError("bytes", excerpt="<html>"),
    StreamInterruptedError("cut", partial=Reply("half", usage=Usage(1, 2, 3))),
    RateLimitError(
        "slow", status_code=429, body="b", headers=CaseInsensitiveDict({"Retry-After": "1"})
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_come_back_as_they_were(path, error):
    again = kept(path, error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_headers_of_an_error_are_still_looked_up_without_regard_to_case(path):
    assert kept(path, ERRORS[-1]).headers["retry-AFTER"] == "1"


def test_an_error_of_an_unknown_class_comes_back_as_one_of_ours(path):
    class Strange(Exception):
        pass

    again = kept(path, Strange("odd"))
    assert type(again) is ChatError and str(again) == "odd"


def test_nothing_in_a_journal_is_code(path):
    kept(path, ServerError("x"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE answers SET error = ?",
            (json.dumps({"type": "STATUS_ERRORS", "message": "m", "details": {}}),),
        )
    (one,) = Journal(path)
    assert type(one.error) is ChatError


def test_messages_with_tools_can_be_recorded(serve, path):
    messages = [
        Message("user", "weather?"),
        Message("assistant", "", tool_calls=(CALL,), state={"functions_state_id": "s"}),
        Message("tool", "{}", name="f", tool_call_id="1"),
    ]
    server = serve(said("ok"))
    with client_of(server) as client:
        assert texts(client.map([messages], journal=path)) == ["ok"]
        assert texts(client.map([messages], journal=path)) == ["ok"]
    assert len(server.requests) == 1
    (one,) = Journal(path)
    assert one.input[1]["tool_calls"][0]["function"]["name"] == "f"
