"""Cassettes: what is recorded, what is replayed, and that no credential is written down."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
from pathlib import Path
import pickle
import re
import subprocess
import sys
import threading
import time

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from servers import answer, chunk, head

from chatsdk import (
    APITimeoutError,
    CancelledError,
    Cassette,
    CassetteError,
    cassettes,
    ChatError,
    Client,
    ConfigurationError,
    MemoryTokenStore,
    MissingCredentialsError,
    providers,
    RetryPolicy,
    Timeout,
)
from chatsdk.cassettes import Fault, RecordedExchange
from chatsdk.checks import messages_from
from chatsdk.credentials import Credentials, is_secret, stripped
from chatsdk.messages import Query
from chatsdk.simulator import SCENARIOS, SERVICES, Simulator

NAMES = sorted({*SERVICES} & {*providers.TABLE})
KEY = "c2VjcmV0LWlkOnNlY3JldC1rZXk="
NOWHERE = {"base_url": "http://127.0.0.1:9", "proxy": ""}
HOSTS = {"gigachat": {"auth_url": "http://127.0.0.1:9/oauth"}}


@pytest.fixture
def tape(tmp_path):
    return tmp_path / "tape.jsonl"


def gone(name, **options):
    """Return the options of a client whose service is not there."""
    return {**NOWHERE, **HOSTS.get(name, {}), "max_retries": 0, **options}


def outcome(client, *args, **options):
    """Return all that a caller sees of a call."""
    try:
        reply = client.chat(*args, **options)
    except ChatError as error:
        partial = error.partial
        seen = [getattr(error, name, None) for name in ("phase", "status_code", "body", "excerpt")]
        message = re.sub(r"\bin [0-9.]+ s\b", "in T s", str(error))  # it took another time
        return type(error), message, error.retryable, seen, partial and partial.text
    return reply.text, reply.finish_reason, reply.usage, reply.id, reply.model, reply.raw


def served_at(sim, name):
    """Return the fields of a service, its path kept and its port closed to all."""
    return {
        field: value.replace(sim.url, "http://127.0.0.1:9") if isinstance(value, str) else value
        for field, value in sim.fields(name).items()
    }


# There and back


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_is_replayed_without_its_service_and_without_a_key(name, tape):
    with Simulator(chunk_delay=0.002) as sim:
        fields = served_at(sim, name)
        with Client(name, api_key=KEY, record=tape, **sim.fields(name)) as client:
            talk = client.conversation(system="Be kind.")
            said = [talk.chat("Hello, my name is Ann.").text, talk.chat("What is my name?").text]
            with client.stream("Tell me more.") as stream:
                pieces = list(stream)
        count = len(sim.requests)

    with Client(name, replay=tape, **gone(name, **fields)) as client:
        talk = client.conversation(system="Be kind.")
        again = [talk.chat("Hello, my name is Ann.").text, talk.chat("What is my name?").text]
        with client.stream("Tell me more.") as stream:
            assert "".join(stream) == "".join(pieces)

    assert again == said
    assert len(Cassette(tape).exchanges) == count


def can_play(name):
    """Return whether a scenario is one of gigachat's."""
    try:
        Simulator().play(name, "gigachat")
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("scenario", sorted(filter(can_play, SCENARIOS)))
def test_whatever_happens_happens_again_in_the_replay(scenario, tape):
    options = {"max_retries": 0, "timeout": Timeout(first=0.3, read=0.2, total=3)}
    with Simulator(reply="Half of it arrives, ёлка.") as sim:
        sim.scenario = {"gigachat": scenario}
        with Client(
            "gigachat", api_key=KEY, record=tape, **options, **sim.fields("gigachat")
        ) as client:
            first = outcome(client, "Hi")
        fields = served_at(sim, "gigachat")
    with Client("gigachat", replay=tape, **options, **fields) as client:
        again = outcome(client, "Hi")

    assert again == first


@pytest.mark.parametrize("name", sorted({*NAMES} - {"gigachat"}))
@pytest.mark.parametrize(
    "scenario", ["cut", "cut-head", "stall", "status-500-html", "gzip", "split"]
)
def test_what_happens_happens_again_with_every_service(name, scenario, tape):
    options = {"max_retries": 0, "timeout": Timeout(first=0.3, read=0.2, total=5)}
    with Simulator(reply="Half of it arrives.", scenario=scenario) as sim:
        with Client(name, api_key=KEY, record=tape, **options, **sim.fields(name)) as client:
            first = outcome(client, "Hi")
        fields = served_at(sim, name)
    with Client(name, replay=tape, **options, **fields) as client:
        again = outcome(client, "Hi")

    assert again == first


@pytest.mark.parametrize(
    "scenario", ["token-500", "token-unauthorized", "token-blank", "token-malformed", "token-cut"]
)
def test_a_token_that_is_not_given_is_replayed_as_well(scenario, tape):
    with Simulator(scenario=scenario) as sim:
        fields = sim.fields("gigachat")
        with Client("gigachat", api_key=KEY, record=tape, max_retries=0, **fields) as client:
            first = outcome(client, "Hi")
        gone_fields = served_at(sim, "gigachat")
    with Client("gigachat", replay=tape, max_retries=0, **gone_fields) as client:
        again = outcome(client, "Hi")

    assert again == first
    assert issubclass(again[0], ChatError)


def test_an_unreachable_service_is_replayed_with_its_reason(tape):
    with Client("aura", record=tape, **gone("aura")) as client:
        first = outcome(client, "Hi")
    with Client("aura", replay=tape, **gone("aura")) as client:
        again = outcome(client, "Hi")

    assert again == first
    assert "ConnectionRefusedError" in again[1]
    assert Cassette(tape).exchanges[0].fault.kind == "connection"


def test_a_certificate_that_is_not_trusted_is_replayed_as_one(tape, serve, authority):
    server = serve(b"", tls=authority.issue_cert("127.0.0.1"))
    options = {"base_url": server.url, "proxy": "", "max_retries": 0}
    with Client("aura", record=tape, **options) as client:
        first = outcome(client, "Hi")
    with Client("aura", replay=tape, **options) as client:
        again = outcome(client, "Hi")

    assert again == first
    assert "is not trusted" in again[1]


def test_an_attempt_that_failed_and_the_next_one_are_replayed_in_their_order(tape):
    slept = []
    patient = RetryPolicy(sleep=slept.append)
    with Simulator(reply="At last.") as sim:
        sim.play("retry-after-3")
        fields = served_at(sim, "flowgpt")
        with Client("flowgpt", record=tape, max_retries=patient, **sim.fields("flowgpt")) as client:
            client.chat("Hi")
    with Client("flowgpt", replay=tape, max_retries=patient, **fields) as client:
        reply = client.chat("Hi")

    assert reply.text == "At last."
    assert slept == [3.0, 3.0]


def test_what_fails_often_in_a_replay_is_not_held_back(tape):
    quick = RetryPolicy(sleep=lambda seconds: None)
    with Simulator(scenario="status-503") as sim:
        fields = served_at(sim, "aura")
        with Client("aura", record=tape, max_retries=0, **sim.fields("aura")) as client:
            outcome(client, "Hi")
    with Client("aura", replay=tape, max_retries=quick, **fields) as client:
        errors = [answer.error for answer in client.map(["Hi"] * 150)]

    assert {(error.status_code, error.circuit) for error in errors} == {(503, "closed")}


def test_a_kept_connection_that_died_is_replaced_in_the_replay_as_it_was(tape):
    with Simulator(scenario="hang-up") as sim:
        fields = served_at(sim, "aura")
        with Client("aura", record=tape, max_retries=1, **sim.fields("aura")) as client:
            said = [client.chat(text).text for text in ("one", "two", "three")]
    once = RetryPolicy(1, sleep=pytest.fail)
    with Client("aura", replay=tape, max_retries=once, **fields) as client:
        again = [client.chat(text).text for text in ("one", "two", "three")]

    assert again == said


def test_a_refused_token_is_renewed_in_the_replay_as_it_was(tape):
    with Simulator(reply="Yes.") as sim:
        fields = served_at(sim, "gigachat")
        with Client("gigachat", api_key=KEY, record=tape, **sim.fields("gigachat")) as client:
            client.chat("one")
            sim.expire_tokens()
            client.chat("two")
            sim.expire_tokens()
            client.chat("three")
    with Client("gigachat", replay=tape, max_retries=0, **fields) as client:
        replies = [client.chat(text).text for text in ("one", "two", "three")]

    assert replies == ["Yes.", "Yes.", "Yes."]
    statuses = [(found.token, found.status) for found in Cassette(tape).exchanges]
    assert statuses.count((False, 401)) == 2
    assert statuses.count((True, 200)) == 3


def test_models_are_replayed(tape):
    with Simulator() as sim:
        fields = served_at(sim, "gigachat")
        with Client("gigachat", api_key=KEY, record=tape, **sim.fields("gigachat")) as client:
            models = client.models()
    with Client("gigachat", replay=tape, **fields) as client:
        assert client.models() == models


def test_recorded_text_is_handed_out_as_it_arrives(tape, serve):
    seen = threading.Event()

    def spoken(peer):
        peer.send(head(), chunk(b"One"))
        peer.wait(seen)
        peer.send(chunk(b" two"), chunk(b""))

    server = serve(spoken)
    with Client("aura", record=tape, base_url=server.url, proxy="") as client:
        with client.stream("Hi") as stream:
            first = next(stream)
            seen.set()
            rest = list(stream)

    assert (first, rest) == ("One", [" two"])


def test_an_answer_that_was_left_is_replayed_up_to_there(tape):
    with Simulator(reply=["One ", "two ", "three."], chunk_delay=0.05) as sim:
        fields = served_at(sim, "aura")
        with Client("aura", record=tape, **sim.fields("aura")) as client:
            with client.stream("Hi") as stream:
                assert next(stream) == "One "
    with Client("aura", replay=tape, **fields) as client:
        with client.stream("Hi") as stream:
            assert next(stream) == "One "
        with client.stream("Hi") as stream, pytest.raises(CassetteError, match="closed it") as met:
            list(stream)

    assert met.value.partial.text == "One "


def test_an_answer_that_another_thread_closed_is_not_taken_for_a_whole_one(tape, serve):
    def spoken(peer):
        peer.send(answer("One", length=False))
        peer.gone()

    server = serve(spoken)
    options = {"base_url": server.url, "proxy": "", "max_retries": 0}
    with Client("aura", record=tape, **options) as client:
        stream = client.stream("Hi")
        assert next(stream) == "One"
        closing = threading.Thread(target=stream.close)
        closing.start()
        with pytest.raises(CancelledError):
            next(stream)
        closing.join()

    assert [found.fault.kind for found in Cassette(tape).exchanges] == ["left"]
    with Client("aura", replay=tape, **options) as client:
        with pytest.raises(CassetteError, match="closed it before its end"):
            client.chat("Hi")


# What is found


@pytest.fixture
def three(tape):
    """A recording of three questions, two of them the same; the fields to replay it with."""
    replies = iter(["first", "second", "third"])
    with Simulator(reply=lambda messages: next(replies)) as sim:
        with Client("aura", record=tape, **sim.fields("aura")) as client:
            for text in ("same", "other", "same"):
                client.chat(text)
        return gone("aura", **served_at(sim, "aura"))


def test_the_same_question_gets_its_answers_in_turn_and_the_last_one_again(tape, three):
    with Client("aura", replay=tape, **three) as client:
        texts = [client.chat(text).text for text in ("other", "same", "same", "same", "other")]

    assert texts == ["second", "first", "third", "third", "second"]


def test_a_strict_replay_keeps_to_the_order_and_gives_each_answer_once(tape, three):
    with Client("aura", replay=Cassette(tape, match="strict"), **three) as client:
        assert client.chat("same").text == "first"
        with pytest.raises(CassetteError, match="next request .* was 'other' and is 'same'"):
            client.chat("same")
        assert [client.chat(text).text for text in ("other", "same")] == ["second", "third"]
        with pytest.raises(CassetteError, match="all 3 exchanges have been replayed"):
            client.chat("same")


def test_the_order_is_that_of_the_questions_also_if_their_answers_ended_in_another(tape):
    def ask(client):
        with client.stream("one") as first, client.stream("two") as second:
            return ["".join(second), "".join(first)]

    with Simulator(reply=lambda messages: messages[-1]["content"].upper()) as sim:
        fields = served_at(sim, "aura")
        with Client("aura", record=tape, **sim.fields("aura")) as client:
            ask(client)
    with Client("aura", replay=Cassette(tape, match="strict"), **fields) as client:
        assert ask(client) == ["TWO", "ONE"]

    said = [found.body["messages"][0]["content"] for found in Cassette(tape).exchanges]
    assert said == ["two", "one"]


def test_a_question_that_was_not_recorded_shows_the_nearest_one(tape, three):
    with Client("aura", replay=tape, **three) as client:
        with pytest.raises(CassetteError) as met:
            client.chat("othor", temperature=1.0)

    assert "tape.jsonl has no answer to POST /aura/api/chat" in str(met.value)
    assert "line 6" in str(met.value)
    assert "body.messages[0].content was 'other' and is 'othor'" in str(met.value)
    assert "body.temperature was 0.5 and is 1.0" in str(met.value)
    assert str(met.value).endswith("with record= as well, what is missing is asked for and"
                                   " recorded")
    assert met.value.nearest.body["messages"][0]["content"] == "other"
    assert not met.value.retryable
    assert pickle.loads(pickle.dumps(met.value)).nearest == met.value.nearest


def test_a_miss_in_a_long_text_shows_the_place_and_not_the_text(tape):
    said = {"prompt": "x" * 500 + "cat" + "y" * 500}
    asked = RecordedExchange(provider="p", method="POST", url="http://h/a", body=said, kind="json")
    cassettes.begin(tape)
    cassettes.append(tape, evolve(asked, status=200))
    other = evolve(asked, body={"prompt": said["prompt"].replace("cat", "dog"), "more": [1]})

    message = str(cassettes.Player(Cassette(tape)).miss(other))

    assert "cat" in message and "dog" in message and "body.more was missing and is [1]" in message
    assert len(message) < 500


def test_another_service_is_not_answered_from_the_recording(tape):
    asked = RecordedExchange(provider="a", method="POST", url="http://h/v1/chat", status=200)
    cassettes.append(tape, asked)
    player = cassettes.Player(Cassette(tape))

    assert player.find(evolve(asked, url="https://elsewhere:8443/v1/chat")) is not None
    assert player.find(evolve(asked, provider="b")) is None


def test_an_empty_recording_says_so(tape):
    cassettes.begin(tape)

    with Client("aura", replay=tape, **gone("aura")) as client:
        with pytest.raises(CassetteError, match="nothing is recorded in it"):
            client.chat("Hi")


def test_a_replay_opens_no_connection_and_asks_no_name_server(tape, three, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", pytest.fail)
    monkeypatch.setattr("socket.socket.connect", pytest.fail)
    monkeypatch.setattr("socket.socket.__init__", pytest.fail)

    elsewhere = {**three, "base_url": "https://no.such.host/aura"}
    with Client("aura", replay=tape, **elsewhere) as client:
        assert client.chat("other").text == "second"


def test_threads_share_one_replay(tape):
    questions = [f"question {n}" for n in range(40)]
    with Simulator(reply=lambda messages: messages[-1]["content"].upper()) as sim:
        fields = served_at(sim, "gigachat")
        with Client("gigachat", api_key=KEY, record=tape, **sim.fields("gigachat")) as client:
            first = [answer.reply.text for answer in client.map(questions, max_workers=8)]
    with Client("gigachat", replay=tape, **fields) as client:
        again = [answer.reply.text for answer in client.map(questions[::-1], max_workers=8)]

    assert again[::-1] == first == [text.upper() for text in questions]


# The speed of a replay


def recorded(tape, *chunks, **details):
    """Write an answer of aura, in chunks of (seconds, text); return the options to replay it."""
    sent = providers.get("aura")().payload(Query(messages=messages_from("Hi")))
    cassettes.begin(tape)
    cassettes.append(tape, RecordedExchange(
        provider="aura", method="POST", url="http://h/api/chat", body=stripped(sent), kind="json",
        status=200, chunks=tuple((at, text.encode()) for at, text in chunks),
        **{"head": 0.0, "elapsed": chunks[-1][0], **details},
    ))
    return {"base_url": "http://127.0.0.1:9", "proxy": "", "max_retries": 0}


@pytest.mark.parametrize(
    "speed, least, most", [(1.0, 0.3, 2.0), (10.0, 0.03, 0.29), (math.inf, 0, 0.1)]
)
def test_a_replay_takes_as_long_as_its_speed_says(tape, speed, least, most):
    options = recorded(tape, (0.0, "One "), (0.15, "two "), (0.3, "three."))

    with Client("aura", replay=Cassette(tape, speed=speed), **options) as client:
        with client.stream("Hi") as stream:
            began = time.monotonic()
            pieces = list(stream)
            took = time.monotonic() - began

    assert pieces == ["One ", "two ", "three."]
    assert least <= took <= most


def test_a_replay_at_its_own_speed_keeps_to_the_timeouts(tape):
    options = recorded(tape, (0.0, "One "), (30.0, "two."))

    with Client("aura", replay=Cassette(tape, speed=1), timeout=0.1, **options) as client:
        with pytest.raises(APITimeoutError) as met:
            client.chat("Hi")

    assert (met.value.phase, met.value.partial.text) == ("read", "One ")


def test_a_replay_that_waits_ends_when_it_is_closed_from_another_thread(tape):
    options = recorded(tape, (0.0, "One "), (30.0, "two."))
    with Client("aura", replay=Cassette(tape, speed=1), **options) as client:
        stream = client.stream("Hi")
        assert next(stream) == "One "
        closing = threading.Thread(target=stream.close)
        closing.start()

        with pytest.raises(CancelledError):
            next(stream)

        closing.join()


def test_a_replay_that_waits_for_its_head_ends_when_the_client_is_closed(tape):
    options = recorded(tape, (30.0, "One."), head=30.0)
    caught = []

    def ask():
        with pytest.raises(CancelledError) as met:
            client.chat("Hi")
        caught.append(met.value)

    with Client("aura", replay=Cassette(tape, speed=1), **options) as client:
        asking = threading.Thread(target=ask)
        asking.start()
        ends = time.monotonic() + 20
        while not client._transport._running:
            assert time.monotonic() < ends
            time.sleep(0.001)
        client.close()
        asking.join(20)

    assert len(caught) == 1


@pytest.mark.parametrize("body, kept", [
    (b"", b""),
    (b'"a-token-in-a-text"', b"<removed>"),
    (b"a-token-and-no-json", b"<removed>"),
    (b'{"tok": "", "expires_at": "1795284890634", "note": "short"}',
     b'{"tok": "", "expires_at": "1795284890634", "note": "short"}'),
    (b'{"deeper": [{"access_token": "x"}]}', b'{"deeper": [{"access_token": "<removed-'),
])
def test_of_a_token_answer_only_harmless_members_are_kept(tape, serve, body, kept):
    server = serve(answer(body))
    options = {"auth_url": server.url, "base_url": server.url, "proxy": "", "max_retries": 0}
    with Client("gigachat", api_key=KEY, record=tape, **options) as client:
        outcome(client, "Hi")

    whole = b"".join(data for _, data in Cassette(tape).exchanges[0].chunks)
    assert whole.startswith(kept)
    assert b"a-token" not in whole


def test_an_exchange_can_be_read_without_a_client(tape):
    recorded(tape, (0.0, "One "), (0.2, "two."))
    exchange, = Cassette(tape).exchanges
    provider = providers.get("aura")()

    began = time.monotonic()
    deltas = list(provider.deltas(Query(messages=()), exchange.response(speed=1.0)))

    assert [delta.text for delta in deltas if delta.text] == ["One ", "two."]
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("wrong", [
    {"speed": 0}, {"speed": -1.0}, {"speed": math.nan}, {"match": "strickt"}, {"match": None},
])
def test_a_cassette_refuses_values_that_make_no_sense(tape, wrong):
    with pytest.raises(ValueError, match="match must be|speed must be"):
        Cassette(tape, **wrong)


def test_a_cassette_refuses_types_that_make_no_sense(tape):
    with pytest.raises(TypeError, match="speed must be a number"):
        Cassette(tape, speed="1")
    with pytest.raises(TypeError, match="replay must be a path or a Cassette, not int"):
        Client("aura", replay=7)
    with pytest.raises(TypeError, match="must be a str"):
        Cassette(b"tape")
    with pytest.raises(ValueError, match="empty"):
        Cassette("")
    with pytest.raises(ValueError, match="did you mean 'strict'"):
        Cassette(tape, match="strickt")


# What is there is replayed, what is not is asked for


def test_what_is_recorded_costs_nothing_and_the_rest_is_asked_for_and_recorded(tape):
    with Simulator(reply=lambda messages: messages[-1]["content"].upper()) as sim:
        options = {"api_key": KEY, "max_retries": 0, **sim.fields("gigachat")}

        def run(*texts):
            before = len(sim.requests)
            with Client("gigachat", record=tape, replay=tape, **options) as client:
                assert [client.chat(text).text for text in texts] == [t.upper() for t in texts]
            return [found.path for found in sim.requests[before:]]

        first = run("one", "two")
        again = run("one", "two")
        more = run("one", "three", "two")
        last = run("one", "three", "two")

    assert first == ["/api/v2/oauth", "/api/v1/chat/completions", "/api/v1/chat/completions"]
    assert again == []
    assert more == ["/api/v2/oauth", "/api/v1/chat/completions"]
    assert last == []


def test_a_question_asked_more_often_than_recorded_is_asked_for_again(tape):
    numbers = iter(range(9))
    with Simulator(reply=lambda messages: str(next(numbers))) as sim:
        options = {"record": tape, "replay": tape, **sim.fields("aura")}
        with Client("aura", **options) as client:
            first = [client.chat("Throw a die").text for _ in range(2)]
        with Client("aura", **options) as client:
            again = [client.chat("Throw a die").text for _ in range(3)]

    assert (first, again) == (["0", "1"], ["0", "1", "2"])


@pytest.mark.parametrize("scenario", ["status-500", "cut", "stall", "cut-head"])
def test_what_failed_is_asked_for_again(scenario, tape):
    with Simulator(reply="At last.") as sim:
        options = {"max_retries": 0, "record": tape, "replay": tape, "timeout": Timeout(read=0.2)}
        sim.play(scenario)
        with Client("gigachat", api_key=KEY, **options, **sim.fields("gigachat")) as client:
            with pytest.raises(ChatError):
                client.chat("Hi")
        with Client("gigachat", api_key=KEY, **options, **sim.fields("gigachat")) as client:
            assert client.chat("Hi").text == "At last."
        count = len(sim.requests)
        with Client("gigachat", api_key=KEY, **options, **sim.fields("gigachat")) as client:
            assert client.chat("Hi").text == "At last."
        assert len(sim.requests) == count


def test_what_was_left_is_asked_for_again(tape):
    with Simulator(reply=["One ", "two."], chunk_delay=0.05) as sim:
        options = {"record": tape, "replay": tape, **sim.fields("aura")}
        with Client("aura", **options) as client, client.stream("Hi") as stream:
            next(stream)
        with Client("aura", **options) as client:
            assert client.chat("Hi").text == "One two."


@pytest.mark.parametrize("name", ["h2o", "aichatonline", "tgi"])
def test_a_call_of_several_steps_is_asked_for_as_a_whole(name, tape):
    quick = RetryPolicy(sleep=lambda seconds: None)
    with Simulator(reply=lambda messages: messages[-1]["content"].upper()) as sim:
        options = {"max_retries": quick, "record": tape, "replay": tape, **sim.fields(name)}
        with Client(name, **options) as client:
            client.chat("one")
        with Client(name, **options) as client:
            assert [client.chat(text).text for text in ("one", "two")] == ["ONE", "TWO"]
        count = len(sim.requests)
        with Client(name, **options) as client:
            assert [client.chat(text).text for text in ("one", "two")] == ["ONE", "TWO"]
        assert len(sim.requests) == count
        assert sim.conversations == []


def test_without_a_key_what_is_not_recorded_is_an_error_before_it_is_asked(tape):
    with Simulator() as sim:
        fields = sim.fields("gigachat")
        with Client("gigachat", api_key=KEY, record=tape, **fields) as client:
            said = client.chat("one").text
        count = len(sim.requests)

        with Client("gigachat", record=tape, replay=tape, max_retries=0, **fields) as client:
            assert client.chat("one").text == said
            with pytest.raises(MissingCredentialsError, match="there is no key to ask with"):
                client.chat("two")

        assert len(sim.requests) == count


def test_a_recording_that_is_to_grow_has_no_strict_order(tape):
    with pytest.raises(ConfigurationError, match="match='strict' keeps to one order"):
        Client("aura", record=tape, replay=Cassette(tape, match="strict"))


# Credentials


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scenario", ["normal", "gzip", "unauthorized"])
def test_no_credential_is_in_the_file(name, scenario, tape):
    with Simulator(scenario=scenario) as sim:
        with Client(
            name, api_key=KEY, record=tape, max_retries=0, cookies={"sid": "crumb-4711-crumb"},
            headers={"X-Team-Secret": "my-own-header-4711"}, **sim.fields(name)
        ) as client:
            outcome(client, "Hi")
        requests = sim.requests

    written = tape.read_text("utf-8")
    secrets = {KEY, "crumb-4711-crumb", "my-own-header-4711"}
    for request in requests:
        cookies = request.headers.get("cookie", "").split("; ")
        secrets.update(request.headers.get("authorization", "none given").split()[1:])
        secrets.update(pair.partition("=")[2] for pair in cookies)
        secrets.add(request.headers.get("uniqueid", ""))
    for secret in secrets - {"", "given", "null"}:
        assert secret not in written


MORSEL = "morsel-4711-morsel"
ECHOES = {
    "a body": answer(json.dumps({"message": f"no key: {KEY}"}), "401 Unauthorized"),
    "an escaped body": answer(json.dumps({"error": KEY}).replace("/", "\\/"), "400 Bad Request"),
    "a cut body": head() + b"".join(map(chunk, (KEY[:9].encode(), KEY[9:].encode(), b""))),
    "a zipped body": answer(gzip.compress(KEY.encode()), Content_Encoding="gzip"),
    "a damaged zipped body": answer(gzip.compress(KEY.encode())[:-4], Content_Encoding="gzip"),
    "the reason": answer("", f"500 {KEY}"),
    "a cookie, then the body": answer(MORSEL, Set_Cookie=f"sid={MORSEL}; Path=/"),
    "the place it points to": answer("", "302 Found", Location=f"http://x/?k={KEY}"),
    "a header that is kept": answer(KEY, "400 Bad Request", X_Request_Id=KEY),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_the_server_echoes_is_not_in_the_file(echo, tape, serve):
    server = serve(ECHOES[echo])
    options = {"api_key": KEY, "base_url": server.url, "proxy": "", "max_retries": 0}
    with Client("aura", record=tape, **options) as client:
        outcome(client, "Hi")

    written = tape.read_text("utf-8")
    bodies = b"".join(data for found in Cassette(tape).exchanges for _, data in found.chunks)
    assert KEY not in written
    assert MORSEL not in written
    assert KEY.encode() not in bodies
    assert server.requests[0].json["key"] == KEY


@pytest.mark.parametrize("name", [
    "key", "api_key", "apiKey", "API-Key", "X-Goog-Api-Key", "accessToken", "access_token", "tok",
    "client_secret", "password", "Authorization", "cookie", "sig",
])
def test_a_member_with_the_name_of_a_credential_is_one(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "tokens", "keyword", "monkey", "content", "stop", "keys", "design"]
)
def test_a_member_with_another_name_is_none(name):
    assert not is_secret(name)


def test_a_key_in_the_query_is_removed_and_known_from_there_on():
    known = Credentials()

    url = known.stripped_url(f"https://h/v1beta/models?key={KEY[:-1]}&alt=sse")

    assert url == "https://h/v1beta/models?alt=sse&key=<removed>"
    assert known.hide(f"no such key: {KEY[:-1]}") == "no such key: <removed>"


def test_of_headers_only_credentials_are_looked_for_elsewhere():
    known = Credentials()
    known.learn_headers({
        "Set-Cookie": "a=first-crumb; Domain=chat.example; Expires=Wed, 21 Oct 2026 07:28:00 GMT,"
        " b=second-crumb; Path=/v1/chat/completions",
        "Authorization": b"Bearer token-of-mine",
        "Anthropic-Ratelimit-Tokens-Reset": "2026-11-21T17:00:00Z",
        "Content-Type": "application/json",
    })
    text = "chat.example 21 Oct 2026 07:28:00 /v1/chat/completions 2026-11-21T17:00:00Z"

    assert known.hide(text) == text
    assert known.hide("first-crumb second-crumb token-of-mine") == "<removed> <removed> <removed>"


@given(
    secret=st.text("abc/+=\"\\", min_size=8, max_size=12),
    around=st.lists(st.text("abc/+é", max_size=6), min_size=2, max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_a_credential_is_found_however_the_body_is_cut(secret, around, cuts):
    known = Credentials()
    known.learn(secret)
    body = secret.join(around).encode()
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[start:end] for start, end in zip(places, places[1:])]

    hidden = known.hide_in(chunks)

    assert len(hidden) == len(chunks)
    assert secret.encode() not in b"".join(hidden)
    assert b"".join(hidden) == known.hide(body.decode()).encode()


def test_tokens_of_a_replay_stay_in_it(tape):
    store = MemoryTokenStore()
    with Simulator() as sim:
        fields = sim.fields("gigachat")
        with Client("gigachat", api_key=KEY, record=tape, token_store=store, **fields) as client:
            client.chat("Hi")
        with Client("gigachat", api_key=KEY, replay=tape, token_store=store, **fields) as client:
            client.chat("Hi")
        count = sim.tokens_issued

        with Client("gigachat", api_key=KEY, token_store=store, **fields) as client:
            client.chat("Hi")

        assert sim.tokens_issued == count + 1


def test_a_recording_has_its_token_call_also_if_a_token_was_there_before(tape):
    with Simulator() as sim:
        fields = sim.fields("gigachat")
        with Client("gigachat", api_key=KEY, **fields) as client:
            client.chat("Hi")
            with client.with_options(record=tape) as recording:
                recording.chat("Hi")

    assert [found.token for found in Cassette(tape).exchanges] == [True, False]


def test_a_recording_made_with_a_token_is_replayed_without_one(tape):
    with Simulator() as sim:
        with Client("gigachat", api_key=KEY, **sim.fields("gigachat")) as client:
            client.chat("Hi")
        token = sim.requests[-1].headers["authorization"].split()[1]
        fields = served_at(sim, "gigachat")
        own = {"access_token": token, **sim.fields("gigachat")}
        with Client("gigachat", record=tape, **own) as client:
            said = client.chat("Hi").text
    with Client("gigachat", replay=tape, **fields) as client:
        again = client.chat("Hi").text

    assert again == said
    assert token not in tape.read_text("utf-8")


# The file


def test_the_file_is_read_line_by_line_by_people_and_by_tools(tape):
    recorded(tape, (0.25, "One "), (0.5, "два\u2028"))

    lines = tape.read_text("utf-8").split("\n")

    assert lines[0] == '{"cassette": 1}'
    assert lines[2] == '{"head": 0.0, "status": 200, "reason": "", "headers": {}}'
    assert lines[3:5] == ['{"chunk": 0.25, "text": "One "}', '{"chunk": 0.5, "text": "два\u2028"}']
    assert lines[5:] == ['{"end": 0.5}', ""]


SOME = RecordedExchange(provider=None, method="GET", url="/", status=200)
GOOD = [
    '{"cassette": 1}',
    '{"request": {"provider": "aura", "method": "POST", "url": "http://h/a"}}',
    '{"head": 0.1, "status": 200}',
    '{"chunk": 0.2, "text": "Hi"}',
    '{"end": 0.3}',
]


@pytest.mark.parametrize("line, wrong, reason", [
    (1, "", "this is no cassette"),
    (1, '{"cassette": 2}', "format 2"),
    (1, "[]", "line 1: it is no JSON object"),
    (2, '{"request": {"provider": "aura", "url": "http://h/a"}}', "line 2: 'method' is missing"),
    (2, '{"request": {"provider": 7, "method": "POST", "url": "u"}}', "line 2: a text is int"),
    (2, '{"request": 7}', "line 2"),
    (2, '{"end": 1}', "line 2: it is of none"),
    (3, '{"head": 0.1, "status": "200"}', "line 3: its status is none"),
    (3, '{"head": -1, "status": 200}', "line 3: a time is no number of seconds"),
    (3, '{"tail": 1}', "line 3: it is none of request, head, chunk, end"),
    (3, "<<<<<<< HEAD", "line 3: it is no JSON document"),
    (3, '{"chunk": 0.1, "text": "Hi"}', "line 3: a chunk before the head"),
    (4, '{"chunk": 0.2}', "line 4: 'text' is missing"),
    (4, '{"chunk": 0.2, "base64": "*"}', "line 4"),
    (4, '{"chunk": true, "text": "Hi"}', "line 4: a time is no number"),
    (4, '{"chunk": 0.2, "te', "line 4: it is no JSON document"),
    (5, '{"end": 0.3, "fault": {"kind": "x", "phase": "read"}}', "line 5: its fault is none"),
    (5, '{"end": 0.3, "fault": 7}', "line 5"),
    (5, "", "line 2: the exchange that begins here has no end"),
    (5, GOOD[1], "line 5: the exchange of line 2 has no end"),
])
def test_a_damaged_line_is_named_by_its_number(tape, line, wrong, reason):
    tape.write_text("\n".join([*GOOD[:line - 1], wrong, *GOOD[line:]]) + "\n", "utf-8")

    with pytest.raises(CassetteError) as met:
        Client("aura", replay=tape)

    assert reason in str(met.value)
    assert repr(str(tape)) in str(met.value)


def test_bytes_that_are_no_text_are_a_damaged_line(tape):
    tape.write_bytes("\n".join(GOOD[:3]).encode() + b"\n\xff\n")

    with pytest.raises(CassetteError, match="line 4: it is no UTF-8"):
        Cassette(tape).exchanges


def test_a_file_that_is_not_there_says_how_to_make_one(tape):
    with pytest.raises(CassetteError, match="no cassette .* record='tape.jsonl' makes one"):
        Client("aura", replay=tape)


def test_a_file_that_is_no_cassette_is_left_as_it_is(tape):
    tape.write_text("my notes\n", "utf-8")

    with pytest.raises(CassetteError, match="line 1: it is no JSON document"):
        Client("aura", record=tape)

    assert tape.read_text("utf-8") == "my notes\n"


def test_a_place_where_nothing_can_be_written_is_an_error_before_anything_is_sent(tmp_path):
    with pytest.raises(CassetteError, match="cannot be read: Is a directory"):
        Client("aura", record=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CassetteError, match="Not a directory"):
        Client("aura", record=tmp_path / "file" / "tape.jsonl")


def test_a_directory_that_is_missing_is_made(tmp_path):
    with Client("aura", record=tmp_path / "a" / "b" / "tape.jsonl"):
        assert (tmp_path / "a" / "b" / "tape.jsonl").read_text() == '{"cassette": 1}\n'


def test_a_torn_last_line_does_not_spoil_what_comes_after_it(tape):
    tape.write_text("\n".join(GOOD[:4]) + '\n{"end": 0.', "utf-8")

    cassettes.append(tape, RecordedExchange(provider=None, method="GET", url="/", status=200))

    assert tape.read_text("utf-8").split("\n")[5].startswith('{"request"')
    with pytest.raises(CassetteError, match="line 5: it is no JSON document"):
        Cassette(tape).exchanges


def test_a_full_disk_is_an_error_with_the_text_and_leaves_the_file_whole(tape, monkeypatch):
    write = os.write

    def full(file, data):
        if len(data) > 100:
            write(file, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    with Simulator(reply="All of it.") as sim:
        with Client("aura", record=tape, **sim.fields("aura")) as client:
            client.chat("one")
            before = tape.read_bytes()
            monkeypatch.setattr(os, "write", full)
            with pytest.raises(CassetteError, match="cannot be written: No space left") as met:
                client.chat("two")

    assert met.value.partial.text == "All of it."
    assert tape.read_bytes() == before


def test_what_could_not_be_recorded_of_a_stream_that_was_left_is_told_by_the_next_call(
    tape, monkeypatch, caplog
):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Simulator(reply=["One ", "two."], chunk_delay=0.05) as sim:
        with Client("aura", record=tape, max_retries=0, **sim.fields("aura")) as client:
            monkeypatch.setattr(os, "write", full)
            with client.stream("one") as stream:
                next(stream)
            monkeypatch.undo()
            with pytest.raises(CassetteError, match="No space left"):
                client.chat("two")
            client.chat("three")

    assert "an exchange was not recorded" in caplog.text
    assert len(Cassette(tape).exchanges) == 1


def test_an_exchange_that_ends_within_the_writing_of_another_comes_after_it(tape, monkeypatch):
    write = os.write
    exchange = RecordedExchange(provider=None, method="GET", url="/outer", status=200)
    inner = [evolve(exchange, url="/inner")]

    def collected(file, data):
        if inner:
            cassettes.append(tape, inner.pop())  # as a finalizer of the collector would
        return write(file, data)

    monkeypatch.setattr(os, "write", collected)
    cassettes.append(tape, exchange)

    assert [found.url for found in Cassette(tape).exchanges] == ["/outer", "/inner"]


WRITER = """
import sys
from chatsdk.cassettes import append, RecordedExchange
from pathlib import Path

for n in range(60):
    text = (sys.argv[2] + str(n)).encode() * 3000
    append(Path(sys.argv[1]), RecordedExchange(
        provider=None, method="GET", url="/" + sys.argv[2], status=200,
        chunks=((0.0, text), (0.1, text)),
    ))
"""


def test_processes_that_write_at_once_tear_no_line(tape):
    here = Path(__file__).parents[1]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tape), name], cwd=here)
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]

    found = Cassette(tape).exchanges

    assert tape.read_text("utf-8").count('{"cassette": 1}') == 1
    for name in ("one", "two", "three"):
        mine = [exchange for exchange in found if exchange.url == f"/{name}"]
        assert [exchange.chunks[0][1][:len(name) + 2] for exchange in mine] == [
            (f"{name}{n}" * 2).encode()[:len(name) + 2] for n in range(60)
        ]


def test_a_lock_that_others_never_give_back_is_an_error(tape, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(cassettes, "LOCK_WAIT", 0.05)
    cassettes.begin(tape)

    with tape.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CassetteError, match="cannot be written: others held it for 0.05 s"):
            cassettes.append(tape, SOME)
    cassettes.append(tape, SOME)

    assert len(Cassette(tape).exchanges) == 1


def test_threads_take_turns_where_files_cannot_be_locked(tape, monkeypatch):
    monkeypatch.setattr(cassettes, "fcntl", None)
    threads = [
        threading.Thread(target=lambda: [cassettes.append(tape, SOME) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(Cassette(tape).exchanges) == 80


def test_after_a_fork_a_replay_waits_for_no_thread_of_the_parent(tape):
    cassettes.append(tape, SOME)
    player = cassettes.Player(Cassette(tape))
    holding, done = threading.Event(), threading.Event()

    def hold():
        with player._lock:
            holding.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(20)
    player._pid -= 1  # what a fork does to it, without the fork, which coverage cannot follow
    found = player.find(SOME)
    done.set()
    thread.join()

    assert found is not None


def test_an_exchange_without_an_answer_says_so():
    exchange = evolve(SOME, status=None, fault=Fault("timeout", "first"))

    with pytest.raises(CassetteError, match="GET / got no answer"):
        exchange.response()


def test_cassettes_can_be_joined_by_their_lines(tape):
    tape.write_text("\n".join([*GOOD, *GOOD]) + "\n", "utf-8")

    assert [found.line for found in Cassette(tape).exchanges] == [2, 7]


def test_a_client_with_a_cassette_can_be_pickled_and_copied(tape, three, tmp_path, monkeypatch):
    monkeypatch.chdir(tape.parent)
    with Client("aura", replay=tape.name, **three) as client:
        monkeypatch.chdir("/")
        with pickle.loads(pickle.dumps(client)) as again:
            assert again.chat("other").text == "second"
        assert client.with_options(timeout=5).chat("same").text == "first"
        assert client.chat("same").text == "third"
        with client.with_options(replay=Cassette(tape)) as anew:
            assert anew.chat("same").text == "first"


TIMES = st.integers(0, 10**6).map(lambda ms: ms / 1000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)
EXCHANGES = st.builds(
    RecordedExchange,
    provider=st.none() | TEXTS, method=TEXTS, url=TEXTS, at=TEXTS, reason=TEXTS,
    headers=st.dictionaries(TEXTS, TEXTS, max_size=3),
    answer_headers=st.dictionaries(TEXTS, TEXTS, max_size=3),
    body=JSONS, kind=st.sampled_from(["json", "form"]), token=st.booleans(), cut=st.booleans(),
    head=TIMES, status=st.integers(100, 999), elapsed=TIMES,
    chunks=st.lists(st.tuples(TIMES, st.binary(max_size=30) | TEXTS.map(str.encode))).map(tuple),
    fault=st.none() | st.builds(
        Fault, st.sampled_from(cassettes.FAULTS), st.sampled_from(cassettes.PHASES), TEXTS,
        st.booleans(),
    ),
)


@settings(max_examples=60, deadline=None)
@given(written=st.lists(EXCHANGES, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("tapes") / "tape.jsonl"
    cassettes.begin(path)
    for exchange in written:
        cassettes.append(path, exchange)

    assert [evolve(found, line=0) for found in Cassette(path).exchanges] == written
