"""A bare socket and a fast JSON decoder: what no library can be below."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

try:
    from orjson import loads
except ImportError:
    from json import loads


class Asker:
    def __init__(self, url, ca=None):
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.path = parts.path
        self.kept = []

    def ask(self, messages, stream):
        """Send a question; return the socket, the head of the answer and what came with it."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        question = {"model": "GigaChat", "messages": messages, "stream": stream}
        body = json.dumps(question).encode()
        head = (
            f"POST {self.path}/chat/completions HTTP/1.1\r\nHost: {self.address[0]}\r\n"
            "Content-Type: application/json\r\nAuthorization: Bearer t\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        sock = self.kept.pop() if self.kept else socket.create_connection(self.address)
        sock.sendall(head.encode() + body)
        came = sock.recv(262144)
        while b"\r\n\r\n" not in came:
            came += sock.recv(262144)
        head, _, rest = came.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        return sock, head, rest

    def stream(self, messages):
        sock, head, came = self.ask(messages, True)
        whole, parts = False, [b""]
        while True:
            parts.append(came)
            if b"\n\n" in parts[-2][-1:] + came:
                *events, rest = b"".join(parts).split(b"\n\n")
                parts = [rest]
                for event in events:
                    # Before the event stand the end and the size of chunks, if there are any.
                    _, _, event = event.partition(b"data: ")
                    if event == b"[DONE]":
                        whole = True
                        break
                    for choice in loads(event)["choices"]:
                        text = choice["delta"].get("content")
                        if text:
                            yield text
            if whole:
                break
            came = sock.recv(262144)
            assert came
        if b"chunked" not in head:
            sock.close()
            return
        while not parts[0].endswith(b"0\r\n\r\n"):
            parts[0] += sock.recv(65536)
        self.kept.append(sock)

    def call(self, messages):
        sock, head, body = self.ask(messages, False)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        while len(body) < length:
            body += sock.recv(262144)
        self.kept.append(sock)
        return loads(body)["choices"][0]["message"]["content"]
