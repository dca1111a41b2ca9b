"""The SDK of GigaChat's makers."""

from __future__ import annotations

from gigachat import GigaChat


class Asker:
    def __init__(self, url, ca=None):
        self.client = GigaChat(base_url=url, access_token="t", model="GigaChat")

    def question(self, messages):
        return messages if isinstance(messages, str) else {"messages": messages}

    def stream(self, messages):
        for chunk in self.client.stream(self.question(messages)):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content

    def call(self, messages):
        return self.client.chat(self.question(messages)).choices[0].message.content
