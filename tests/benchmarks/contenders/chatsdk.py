"""This package, through its public `Client`."""

from __future__ import annotations

from chatsdk import Client


class Asker:
    def __init__(self, url, ca=None):
        self.client = Client("gigachat", access_token="t", base_url=url, verify=ca)
        self.stream = self.client.stream

    def call(self, messages):
        return self.client.chat(messages, stream=False).text

    def fan_out(self, width):
        answers = self.client.fan_out("Hi", [f"gigachat:{number}" for number in range(width)])
        assert len(answers.replies) == width and not answers.errors

    def map(self, prompts, workers, journal=None):
        for answer in self.client.map(prompts, max_workers=workers, journal=journal):
            yield answer.reply.text
