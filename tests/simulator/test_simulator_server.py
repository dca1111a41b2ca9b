"""The simulator itself: its port, threads, TLS, records, replies and scenarios."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
import http.client
import json
import logging
import pathlib
import socket
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest
import trustme

import chatsdk.simulator
from chatsdk.simulator import SERVICES, Simulator

ASK = {"model": {"id": "openchat_3.6"}, "messages": [{"role": "user", "content": "Hi"}]}
BODY = json.dumps(ASK).encode()


def connect(sim):
    return http.client.HTTPConnection(urlsplit(sim.url).netloc, timeout=10)


def ask(sim, messages=None, connection=None):
    """Return status and text of one chat with Aura, the service without ceremony."""
    own = connection or connect(sim)
    body = BODY if messages is None else json.dumps({**ASK, "messages": messages})
    try:
        own.request("POST", "/aura/api/chat", body)
        response = own.getresponse()
        return response.status, response.read().decode()
    finally:
        if connection is None:
            own.close()


def raw(sim, data):
    """Send bytes over a connection of its own; return all that comes back."""
    with socket.create_connection(urlsplit(sim.url).netloc.split(":"), timeout=10) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def users(*texts):
    return [{"role": "user", "content": text} for text in texts]


def until(condition):
    """Wait for something that happens in the simulator's threads."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("simulator")}


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.1.1", "example.org", "::"])
def test_only_loopback_addresses_are_served(host):
    with pytest.raises(ValueError, match="this machine only"):
        Simulator(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_addresses_are_served(host):
    with Simulator(host=host) as sim:
        assert ask(sim)[0] == 200


def test_the_address_is_known_once_it_runs_and_remembered():
    sim = Simulator()
    with pytest.raises(RuntimeError, match="start"):
        print(sim.url)
    with sim:
        url = sim.url
        assert url.startswith("http://127.0.0.1:")

    assert sim.url == url


def test_start_and_stop_can_be_repeated():
    sim = Simulator(reply="hi")
    sim.stop()
    for _ in range(2):
        assert sim.start() is sim.start()
        assert ask(sim) == (200, "hi")
        sim.stop()
        sim.stop()

    assert len(sim.requests) == 2


@pytest.mark.parametrize("name", ["normal", "stall", "stall-head", "heartbeat", "drip"])
def test_stop_leaves_no_thread_and_no_socket(name):
    before = threads()
    sim = Simulator(scenario=name, reply="some words").start()
    idle, busy = connect(sim), connect(sim)
    idle.connect()
    busy.request("POST", "/aura/api/chat", BODY)
    mute = socket.create_connection(urlsplit(sim.url).netloc.split(":"))
    until(lambda: sim.connections == 3 and sim.requests)

    start = time.monotonic()
    sim.stop()
    took = time.monotonic() - start

    assert took < 1
    assert threads() - before == set()
    with idle.sock, mute, busy.sock:
        assert mute.recv(1) == b"" and idle.sock.recv(1) == b""
        while busy.sock.recv(65536):
            continue
    with pytest.raises(ConnectionRefusedError):
        ask(sim)


def test_a_connection_is_forgotten_when_it_ends():
    with Simulator() as sim:
        for _ in range(5):
            ask(sim)
        assert sim.wait_idle()
        alive = [thread for thread in threads() if thread.name == "simulator-connection"]
        for thread in alive:
            thread.join(5)

        assert not any(thread.is_alive() for thread in alive)


def test_a_reply_may_stop_the_simulator():
    sim = Simulator(reply=lambda messages: sim.stop() or "bye").start()
    with pytest.raises(ConnectionError):
        ask(sim)


def test_sixty_four_chats_at_once_do_not_mix():
    together = threading.Barrier(64)

    def reply(messages):
        together.wait(10)
        return messages[-1]["content"].split()

    with Simulator(reply=reply) as sim, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: ask(sim, users(f"{n} {n}")), range(64)))

    assert answers == [(200, f"{n}{n}") for n in range(64)]
    assert sorted(r.json["messages"][0]["content"] for r in sim.requests) == sorted(
        f"{n} {n}" for n in range(64))
    assert sim.connections == 64


def test_one_connection_carries_many_requests():
    with Simulator(reply="hi") as sim:
        connection = connect(sim)
        assert [ask(sim, connection=connection) for _ in range(3)] == [(200, "hi")] * 3
        connection.close()

        assert sim.connections == 1


@pytest.mark.parametrize("head, last", [
    (b"HTTP/1.1\r\nConnection: close", b"\r\n0\r\n\r\n"), (b"HTTP/1.0", b"hi")])
def test_old_and_closing_clients_are_served(head, last):
    with Simulator(reply="hi") as sim:
        answer = raw(sim, b"POST /aura/api/chat " + head + b"\r\nHost: x\r\nContent-Length: "
                     b"%d\r\n\r\n%b" % (len(BODY), BODY))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(last)


def test_a_chunked_body_is_put_together():
    parts = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    with Simulator(reply="hi") as sim:
        answer = raw(sim, b"POST /aura/api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\nA: b\r\n\r\n")

        assert b"200 OK" in answer
        assert sim.requests[0].body == BODY


@pytest.mark.parametrize("framing", [
    b"Content-Length: x\r\n\r\n", b"Content-Length: 99999999999\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"])
def test_a_body_without_a_sound_length_is_400(framing):
    with Simulator() as sim:
        answer = raw(sim, b"POST /aura/api/chat HTTP/1.1\r\nHost: x\r\n" + framing)

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_leaves_is_noticed_and_makes_no_noise(capfd, caplog):
    gone = threading.Event()

    def reply(messages):
        yield "first"
        gone.wait(5)
        while True:
            yield "more" * 10_000

    with caplog.at_level(logging.WARNING), Simulator(reply=reply) as sim:
        connection = connect(sim)
        connection.request("POST", "/aura/api/chat", BODY)
        response = connection.getresponse()
        response.read1()
        response.close()
        connection.close()
        gone.set()

        assert sim.wait_idle()
        assert sim.abandoned == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("name", ["stall", "heartbeat", "slow-head-60"])
def test_a_client_that_leaves_in_silence_is_noticed(name):
    with Simulator(scenario=name) as sim:
        with socket.create_connection(urlsplit(sim.url).netloc.split(":")) as sock:
            sock.sendall(b"POST /aura/api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: "
                         b"%d\r\n\r\n%b" % (len(BODY), BODY))
            until(lambda: sim.requests)

        assert sim.wait_idle()
        assert sim.abandoned == 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    paths = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(paths[0], append=True)
    certificate.private_key_pem.write_to_path(paths[1])
    authority.cert_pem.write_to_path(paths[2])
    return paths


def secure(sim):
    context = ssl.create_default_context(cafile=sim.fields("aura")["verify"])
    return http.client.HTTPSConnection(urlsplit(sim.url).netloc, context=context, timeout=10)


@pytest.mark.parametrize("name", ["normal", "gzip", "content-length", "close-delimited"])
def test_tls_is_served_and_the_ca_is_named(files, name):
    with Simulator(tls=files, reply="hi", scenario=name) as sim:
        connection = secure(sim)
        connection.request("POST", "/aura/api/chat", BODY)
        text = connection.getresponse().read()
        connection.close()

        assert sim.url.startswith("https://127.0.0.1:")
        assert sim.fields("aura") == {"base_url": f"{sim.url}/aura", "verify": str(files[2])}
        assert text == b"hi"
    assert Simulator(tls=files[:2]).start().stop() is None


def test_over_tls_the_cookie_is_secure(files):
    with Simulator(tls=files) as sim:
        connection = secure(sim)
        connection.request("POST", "/h2o/settings", "", {"Referer": f"{sim.url}/h2o/"})
        cookie = connection.getresponse().getheader("Set-Cookie")
        connection.close()

    assert cookie.endswith("; HttpOnly; Secure; SameSite=None")


@pytest.mark.parametrize("name", ["stall", "cut"])
def test_a_tls_stream_can_break_and_be_stopped(files, name):
    with Simulator(tls=files, scenario=name, reply=["a", "b"]) as sim:
        connection = secure(sim)
        connection.request("POST", "/aura/api/chat", BODY)
        response = connection.getresponse()
        assert response.read1() == b"a"
        start = time.monotonic()
        sim.stop()
        with pytest.raises((http.client.IncompleteRead, OSError)):
            while response.read1():
                continue
        connection.close()

    assert time.monotonic() - start < 1


def test_a_slow_handshake_holds_nobody_up(files):
    with Simulator(tls=files, reply="hi") as sim:
        address = urlsplit(sim.url).netloc.split(":")
        with socket.create_connection(address), socket.create_connection(address) as rude:
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection = secure(sim)
            connection.request("POST", "/aura/api/chat", BODY)
            assert connection.getresponse().read() == b"hi"
            connection.close()
            start = time.monotonic()
            sim.stop()

    assert time.monotonic() - start < 1


def test_requests_are_recorded_as_they_came():
    with Simulator() as sim:
        before = time.monotonic()
        connection = connect(sim)
        connection.request("POST", "/aura/api/chat?a=1&b=", BODY, {"X-One": "two"})
        connection.getresponse().read()
        connection.request("GET", "/elsewhere/x%20y")
        missing = connection.getresponse()
        text = missing.read().decode()
        connection.close()
    first, second = sim.requests

    assert (first.service, first.method, first.path) == ("aura", "POST", "/api/chat")
    assert first.query == {"a": "1", "b": ""}
    assert first.headers["x-one"] == first.headers.get("X-ONE") == "two"
    assert "X-Two" not in first.headers
    assert (first.body, first.json, first.scenario) == (BODY, ASK, "normal")
    assert before <= first.at <= second.at <= time.monotonic()
    assert (second.service, second.path, second.json) == ("", "/elsewhere/x y", None)
    assert missing.status == 404 and all(name in text for name in SERVICES)


def test_a_record_cannot_be_changed_and_hides_what_may_be_secret():
    with Simulator() as sim:
        ask(sim)
        sim.requests.clear()
    record = sim.requests[0]

    with pytest.raises(AttributeError):
        record.path = "/"
    assert "openchat" not in repr(record) and "identity" not in repr(record)


@pytest.mark.parametrize("reply, chunks", [
    ("two words", ["two ", "words"]), (["tw", "o w", "ords"], ["tw", "o w", "ords"]),
    (iter(["once", "kept"]), ["once", "kept"]), (lambda messages: "a b", ["a ", "b"]),
    (lambda messages: iter(["a", "", "b"]), ["a", "b"]), ("", []),
    (lambda messages: messages[-1]["content"], ["Hi"])])
def test_a_reply_may_be_text_pieces_or_a_function(reply, chunks):
    with Simulator(reply=reply) as sim:
        for _ in range(2):
            connection = connect(sim)
            connection.request("POST", "/aura/api/chat", BODY)
            response = connection.getresponse()
            assert [c.decode() for c in iter(response.read1, b"")] == chunks
            connection.close()


def test_chunk_delay_is_a_pause_after_each_piece():
    with Simulator(reply=["a", "b", "c"], chunk_delay=0.05) as sim:
        start = time.monotonic()
        assert ask(sim) == (200, "abc")

    assert time.monotonic() - start >= 0.15


def test_a_piece_is_sent_before_the_next_is_there():
    go_on = threading.Event()

    def reply(messages):
        yield "first"
        assert go_on.wait(5)
        yield "second"

    with Simulator(reply=reply) as sim:
        connection = connect(sim)
        connection.request("POST", "/aura/api/chat", BODY)
        response = connection.getresponse()
        first = response.read1()
        go_on.set()
        rest = response.read()
        connection.close()

    assert (first, rest) == (b"first", b"second")


def test_a_reply_that_raises_is_a_500_or_a_broken_stream(caplog):
    def late(messages):
        yield "a"
        raise ZeroDivisionError

    with Simulator(reply=lambda messages: 1 / 0) as sim:
        assert ask(sim) == (500, "Error")
    with Simulator(reply=late) as sim, pytest.raises(http.client.IncompleteRead):
        ask(sim)
    assert all("ZeroDivisionError" in record.exc_text for record in caplog.records)
    assert len(caplog.records) == 2


def test_play_lasts_for_so_many_requests_of_a_service():
    with Simulator(reply="hi") as sim:
        sim.play("status-500", service="aura", times=2)
        sim.play("status-429", service="h2o")
        sim.play("status-503")

        assert [ask(sim)[0] for _ in range(4)] == [500, 500, 503, 200]
        assert [r.scenario for r in sim.requests] == [
            "status-500", "status-500", "status-503", "normal"]


def test_a_request_that_is_refused_uses_nothing_up():
    with Simulator(reply="hi") as sim:
        sim.play("status-503-empty")

        assert ask(sim, "no messages") == (500, "Error")
        assert ask(sim) == (503, "")


def test_the_default_scenario_can_be_set_for_all_or_for_some():
    with Simulator(reply="hi", scenario="status-500") as sim:
        found = [ask(sim)[0]]
        sim.scenario = {"aura": "status-502", "h2o": "cut"}
        found.append(ask(sim)[0])
        sim.scenario = {"h2o": "cut"}
        found.append(ask(sim)[0])

        assert sim.scenario == {"h2o": "cut"}
    assert found == [500, 502, 200]


@pytest.mark.parametrize("wrong, message", [
    (lambda: Simulator(scenario="nromal"), "'nromal'; did you mean 'normal'.*cut-frames"),
    (lambda: Simulator(scenario="zzzzzz"), r"unknown scenario 'zzzzzz'\. There are: normal, "),
    (lambda: Simulator(scenario={"gigchat": "cut"}), "'gigchat'; did you mean 'gigachat'.*h2o"),
    (lambda: Simulator().play("status-999"), "status-CODE"),
    (lambda: Simulator().play("delete-nothing"), "unknown scenario"),
    (lambda: Simulator().play("blank"), "unknown scenario"),
    (lambda: Simulator().play("cut", service="nobody"), "unknown service 'nobody'"),
    (lambda: Simulator().play("delete-500", service="aura"), "only: h2o"),
    (lambda: Simulator().play("null-finish", service="h2o"), "only: gigachat"),
    (lambda: Simulator().play("cut", times=0), "at least 1"),
    (lambda: Simulator().fields("giga"), "did you mean 'gigachat'")])
def test_names_that_do_not_exist_are_refused_with_a_hint(wrong, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        wrong()


@pytest.mark.parametrize("service", SERVICES)
def test_fields_are_below_the_mount_prefix(service):
    with Simulator() as sim:
        fields = sim.fields(service)

    assert all(url.startswith(f"{sim.url}/{service}") for url in fields.values())
    assert set(fields) == ({"base_url", "auth_url"} if service == "gigachat" else {"base_url"})


def test_nothing_but_the_standard_library_is_imported():
    folder = pathlib.Path(chatsdk.simulator.__file__).parent
    imported = {name.split(".")[0] for path in folder.glob("*.py")
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, (ast.Import, ast.ImportFrom))
                and not getattr(node, "level", 0)
                for name in ([a.name for a in node.names] if isinstance(node, ast.Import)
                             else [node.module])}

    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("texts, answer", [
    (["My name is Ada.", "What is my name?"], "Your name is Ada. You told me so."),
    (["What is my name?"], "You have not told me your name yet."),
    (["Меня зовут Анна", "Как меня зовут?"], "Вас зовут Анна. Вы сами мне сказали."),
    (["My name is Ada.", "Как меня зовут?"], "Вас зовут Ada. Вы сами мне сказали."),
    (["Count to 3"], "1, 2, 3."), (["Посчитай до 3"], "1, 2, 3."),
    (["I am tired.", "I am tired."], "You asked that before. Has something changed since?"),
    ([" "], "I am listening. What would you like to talk about?"),
    ([], "I am listening. What would you like to talk about?")])
def test_the_brain_answers_from_the_history(texts, answer):
    with Simulator() as sim:
        assert ask(sim, users(*texts)) == (200, answer)


@pytest.mark.parametrize("text", ["Hello", "Привет", "{} {x} {0}", "I want {tea}", "\ud83d", "?"])
def test_the_brain_answers_the_same_in_the_tongue_of_the_question(text):
    with Simulator() as sim:
        first, second = (ask(sim, users("{} {y}", text)) for _ in range(2))

    assert first == second
    assert first[0] == 200 and first[1]
    assert ("а" in first[1]) == (text == "Привет")


def test_the_brain_comes_back_to_earlier_words_and_can_be_brief():
    with Simulator() as sim:
        long = ask(sim, users("The sea is near.", "It rains."))[1]
        connection = connect(sim)
        connection.request("POST", "/aura/api/chat", json.dumps(
            {**ASK, "prompt": "Be brief.", "messages": users("The sea is near.", "It rains.")}))
        brief = connection.getresponse().read().decode()
        connection.close()

    assert "The sea is near." in long
    assert long.startswith(brief) and brief != long
