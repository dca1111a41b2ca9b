"""A conversation: a client that remembers what was said."""

from __future__ import annotations

from typing import Any, Protocol

from chatsdk.checks import messages_from
from chatsdk.messages import Message, Reply
from chatsdk.streams import Stream


class Asks(Protocol):
    """What a conversation needs of a client: a way to ask, and to learn of the whole reply."""

    def __call__(
        self, messages: list[Message], *, whole: Any, target: Any, **params: Any
    ) -> Stream:
        """Ask."""


class Conversation:
    """Turns with one target; not for two threads at once.

    A turn is kept once its answer is complete; after an error, or a stream that was left early,
    the history is what it was before.

    Attributes:
        messages: The history, a list of `Message`; change it as you like.
    """

    def __init__(self, ask: Asks, *, target: Any, system: str | None, params: Any) -> None:
        """Begin with a system message, or with nothing."""
        self.messages: list[Message] = []
        if system is not None:
            self.messages.extend(messages_from({"role": "system", "content": system}))
        self._ask = ask
        self._target = target
        self._params = params

    def chat(self, text: Any, **params: Any) -> Reply:
        """Say something and return the whole answer."""
        return self._say(text, params).read()

    def stream(self, text: Any, *, display: bool = False, **params: Any) -> Stream:
        """Say something and return the answer as it comes; ``display`` shows it to its end."""
        stream = self._say(text, params).open()
        return stream.display() if display else stream

    def _repr_markdown_(self) -> str:
        from chatsdk.views import conversation_markdown

        return conversation_markdown(self.messages)

    def _say(self, text: Any, params: dict[str, Any]) -> Stream:
        said = messages_from(text)

        def keep(reply: Reply) -> None:
            self.messages.extend([*said, reply.message])

        return self._ask(
            [*self.messages, *said],
            whole=keep,
            target=self._target,
            **{**self._params, **params},
        )
