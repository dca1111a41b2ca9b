"""A fast loopback server as a process of its own, which says what its address asks for.

Usage: ``python server.py [CERTIFICATE]``; it prints its ports as JSON and ends with its standard
input, or after an hour.  The first part of the path is the plan of the answer:

- ``json``: a whole answer; ``json-close``: and then the connection ends;
- ``stream-N``: N pieces of text as fast as they go; ``stream-N-close`` without any length;
- ``varied-N``: the same, where no event has the same members around its text as another;
- ``line-BYTES``: one event as long as that;
- ``first-MS``: the head at once and the text MS milliseconds later; the text is when the question
  had come and when the text left;
- ``paced-N-MS``, ``paced-N-MS-close``: a piece each MS milliseconds, its text when it left.

Clocks are `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

from functools import cache
import json
import os
import socket
import ssl
import sys
import threading
import time

LIFETIME = 3600  # s
SERVICE = {
    "id": "chatcmpl-8f2b6a1e9c",
    "created": 1700000000,
    "model": "GigaChat",
    "system_fingerprint": "fp_44709d6fcb",
}
USAGE = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
ROLE = {"role": "assistant", "content": ""}


def event(delta, finish=None, **more):
    """Return an event in OpenAI's shape, which is GigaChat's as well."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {**SERVICE, "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


LAST = event({}, "stop", usage=USAGE) + b"data: [DONE]\n\n"


def framed(piece, chunked):
    """Return a piece as one chunk of the transfer, or as it is."""
    return b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece


def head(chunked):
    how = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%s\r\n\r\n" % how


def end(chunked):
    return framed(LAST, chunked) + (b"0\r\n\r\n" if chunked else b"")


@cache
def body(count, chunked, varied=False):
    """Return a whole stream of so many pieces of text."""
    pieces = []
    for number in range(count):
        beside = {"obfuscation": f"{number:08x}"} if varied else {}
        pieces.append(event({"content": f" word{number % 1000:03}"}, **beside))
    frames = [framed(piece, chunked) for piece in [event(ROLE), *pieces]]
    return head(chunked) + b"".join(frames) + end(chunked)


@cache
def line(size):
    return head(True) + framed(event({"content": "x" * size}), True) + end(True)


@cache
def document(close):
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "a short answer"},
        "logprobs": None,
        "finish_reason": "stop",
    }
    answer = {**SERVICE, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    text = json.dumps(answer).encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
        % (b"Connection: close\r\n" if close else b"", len(text), text)
    )


def first(sock, milliseconds):
    came = time.monotonic()
    sock.sendall(head(True))
    time.sleep(milliseconds / 1000)
    text = f"{came!r} {time.monotonic()!r}"
    sock.sendall(framed(event({"content": text}), True))
    sock.sendall(end(True))


def paced(sock, count, milliseconds, chunked):
    began = time.monotonic()
    sock.sendall(head(chunked))
    for number in range(1, count + 1):
        time.sleep(max(0.0, began + number * milliseconds / 1000 - time.monotonic()))
        sock.sendall(framed(event({"content": f"{time.monotonic()!r} "}), chunked))
    sock.sendall(end(chunked))


def answer(sock, plan):
    """Send what a plan says; return whether the connection is kept."""
    kind, *numbers = plan.split("-")
    keep = numbers[-1:] != ["close"]
    sizes = [int(number) for number in numbers if number != "close"]
    if kind == "json":
        sock.sendall(document(not keep))
    elif kind == "stream":
        sock.sendall(body(*sizes, keep))
    elif kind == "varied":
        sock.sendall(body(*sizes, keep, varied=True))
    elif kind == "line":
        sock.sendall(line(*sizes))
    elif kind == "first":
        first(sock, *sizes)
    elif kind == "paced":
        paced(sock, *sizes, keep)
    else:
        sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    return keep


def serve(sock):
    """Answer one request after the other."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = b""
    keep = True
    while keep:
        while b"\r\n\r\n" not in buffer:
            more = sock.recv(65536)
            if not more:
                return
            buffer += more
        top, _, rest = buffer.partition(b"\r\n\r\n")
        length = int(top.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        while len(rest) < length:
            more = sock.recv(1 << 20)
            if not more:
                return
            rest += more
        buffer = rest[length:]
        keep = answer(sock, top.split(b" ", 2)[1].decode().split("/")[1])


def talk(sock, context):
    try:
        with sock if context is None else context.wrap_socket(sock, server_side=True) as wrapped:
            serve(wrapped)
    except OSError:
        pass  # the client left


def listen(context=None):
    """Serve on a free port, in threads; return the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=talk, args=(sock, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def main():
    ports = {"http": listen()}
    if sys.argv[1:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        ports["https"] = listen(context)
    print(json.dumps(ports), flush=True)
    timer = threading.Timer(LIFETIME, os._exit, [1])
    timer.daemon = True
    timer.start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
