"""A loopback server as a process of its own: the least that answers like GigaChat.

Usage: ``python server.py DELAY``; it prints its port.  Each connection is a thread, each request
is answered after DELAY seconds with the same short answer.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time


def _frame(delta, finish=None):
    event = {"choices": [{"delta": delta, "index": 0, "finish_reason": finish}], "model": "m"}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


BODY = _frame({"content": "a short answer"}) + _frame({}, "stop") + b"data: [DONE]\n\n"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)


def serve(sock, delay):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            more = sock.recv(65536)
            if not more:
                return
            buffer += more
        head, _, rest = buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        while len(rest) < length:
            rest += sock.recv(65536)
        buffer = rest[length:]
        if delay:
            time.sleep(delay)
        sock.sendall(ANSWER)


def _quietly(sock, delay):
    with sock:
        try:
            serve(sock, delay)
        except OSError:
            pass


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_quietly, args=(sock, float(sys.argv[1])), daemon=True).start()


if __name__ == "__main__":
    main()
