"""litellm, which speaks to OpenAI-like servers through the openai SDK."""

from __future__ import annotations

import litellm


class Asker:
    def __init__(self, url, ca=None):
        self.url = url

    def create(self, messages, stream):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return litellm.completion(
            model="openai/GigaChat",
            api_base=self.url,
            api_key="t",
            messages=messages,
            stream=stream,
        )

    def stream(self, messages):
        for chunk in self.create(messages, True):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content

    def call(self, messages):
        return self.create(messages, False).choices[0].message.content
