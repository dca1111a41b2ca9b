"""The openai SDK: the O of the table."""

from __future__ import annotations

from openai import OpenAI


class Asker:
    def __init__(self, url, ca=None):
        self.client = OpenAI(api_key="t", base_url=url)

    def create(self, messages, stream):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.client.chat.completions.create(
            model="GigaChat", messages=messages, stream=stream
        )

    def stream(self, messages):
        for chunk in self.create(messages, True):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content

    def call(self, messages):
        return self.create(messages, False).choices[0].message.content
