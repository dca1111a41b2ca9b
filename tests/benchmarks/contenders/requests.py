"""Plain requests, as one writes it without a library: the R of the table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import json

import requests


class Asker:
    def __init__(self, url, ca=None):
        self.url = f"{url}/chat/completions"
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer t"
        self.session.verify = ca or True

    def post(self, messages, stream):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        question = {"model": "GigaChat", "messages": messages, "stream": stream}
        response = self.session.post(self.url, json=question, stream=stream)
        response.raise_for_status()
        return response

    def stream(self, messages):
        with self.post(messages, True) as response:
            for line in response.iter_lines():
                if line == b"data: [DONE]":
                    continue  # to the end of the body, so that the connection is kept
                if line.startswith(b"data: "):
                    for choice in json.loads(line[6:])["choices"]:
                        text = choice["delta"].get("content")
                        if text:
                            yield text

    def call(self, messages):
        return self.post(messages, False).json()["choices"][0]["message"]["content"]

    def map(self, prompts, workers, kept=True):
        """Ask over threads; ``kept`` is False without a session, over a connection for each."""

        def ask(prompt):
            asker = self if kept else Asker(self.url.removesuffix("/chat/completions"))
            text = "".join(asker.stream(prompt))
            if not kept:
                asker.session.close()
            return text

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(ask, prompts)
