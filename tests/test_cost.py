"""What a chunk and a call cost, counted in calls of functions: no clock, so no noise.

A limit that is passed is no fault by itself: it says that the road of every chunk, or of every
call, has become longer.  Then shorten it, or raise the limit knowingly.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

import pytest

from chatsdk import Client

# Measured on CPython 3.11: 24.1; 67, with the test's own; 664; 9.  Python 3.10 counts
# comprehensions as well.
MOST_FOR_A_CHUNK = 25
MOST_FOR_AN_ARRIVAL = 70
MOST_FOR_A_CALL = 720
MOST_FOR_A_MESSAGE = 10

FRAME = {
    "choices": [{"delta": {"content": "word "}, "index": 0}],
    "created": 1768996176,
    "model": "GigaChat:2.0.28.2",
    "object": "chat.completion",
}
LAST = {"choices": [{"delta": {"content": ""}, "index": 0, "finish_reason": "stop"}]}
WHOLE = {"choices": [{"message": {"content": "Hello."}, "index": 0, "finish_reason": "stop"}]}


def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def event(data):
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def answer(chunks):
    """Return a whole answer: a stream of so many chunks, or for None one in one piece."""
    if chunks is None:
        body = json.dumps(WHOLE).encode()
        kind, framing = b"application/json", b"Content-Length: %d" % len(body)
    else:
        body = chunked(*[event(FRAME)] * chunks, event(LAST), b"data: [DONE]\n\n")
        kind, framing = b"text/event-stream", b"Transfer-Encoding: chunked"
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n\r\n%s" % (kind, framing, body)


@pytest.fixture
def serve(monkeypatch):
    """A server that gives the same answer to all; only the client is counted."""
    monkeypatch.setattr("chatsdk.outbound.guard", None)  # the plugin's, in suites that load it
    listener = socket.create_server(("127.0.0.1", 0))
    given = []

    def attend():
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as requests:
            while requests.readline():
                length = 0
                for line in iter(requests.readline, b"\r\n"):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                requests.read(length)
                connection.sendall(given[-1])

    threading.Thread(target=attend, daemon=True).start()
    with listener:
        url = "http://127.0.0.1:%d" % listener.getsockname()[1]
        with Client("gigachat", access_token="a", base_url=url, proxy="") as client:
            yield lambda chunks: given.append(answer(chunks)) or client


@pytest.fixture
def one_by_one(monkeypatch):
    """A stream whose events leave one by one, each when it is asked for."""
    monkeypatch.setattr("chatsdk.outbound.guard", None)
    listener = socket.create_server(("127.0.0.1", 0))
    wanted, over = threading.Semaphore(0), threading.Event()

    def attend():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer(0).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            while wanted.acquire() and not over.is_set():
                connection.sendall(chunked(event(FRAME)).removesuffix(b"0\r\n\r\n"))

    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    with listener:
        url = "http://127.0.0.1:%d" % listener.getsockname()[1]
        with Client("gigachat", access_token="a", base_url=url, proxy="") as client:
            stream = client.stream("hi")

            def arrive():
                wanted.release()
                assert next(stream) == "word "

            yield arrive
    over.set()
    wanted.release()
    thread.join(20)
    assert not thread.is_alive()


def calls(work):
    """Return how many functions, methods and built-ins a warm piece of work calls; the least."""
    found = []
    for _ in range(5):
        count = 0

        def note(frame, what, detail):
            nonlocal count
            count += what in ("call", "c_call")

        old = sys.getprofile()
        sys.setprofile(note)
        try:
            work()
        finally:
            sys.setprofile(old)
        found.append(count)
    return min(found[1:])


@pytest.mark.parametrize("hooks", [{}, {"on_request": id, "on_reply": id}])
def test_a_chunk_costs_few_calls_whoever_is_told_of_the_call(serve, hooks):
    def streamed(chunks):
        client = serve(chunks).with_options(**hooks)

        def work():
            for _ in client.stream("hi"):
                pass

        return calls(work)

    assert (streamed(3000) - streamed(1000)) / 2000 <= MOST_FOR_A_CHUNK


def test_the_arrival_of_a_chunk_costs_few_calls(one_by_one):
    assert calls(one_by_one) <= MOST_FOR_AN_ARRIVAL


def test_a_warm_call_costs_few_calls(serve):
    client = serve(None)

    assert calls(lambda: client.chat("hi", stream=False)) <= MOST_FOR_A_CALL


def test_a_message_more_costs_few_calls(serve):
    client = serve(None)

    def asked(messages):
        history = [{"role": "user", "content": "x" * 1000}] * messages
        return calls(lambda: client.chat(history, stream=False))

    assert (asked(101) - asked(1)) / 100 <= MOST_FOR_A_MESSAGE
