"""Postcards: a few lines to somebody, by a language model."""

from __future__ import annotations

from chatsdk import ChatError, Client

ASK = "Write a postcard of one sentence to {name}."
PLAIN = "Dear {name}, greetings!"


def postcard(client: Client, name: str) -> str:
    """Return the text of a postcard; a plain one if the service does not do its work."""
    try:
        return client.chat(ASK.format(name=name), temperature=0.7).text
    except ChatError:
        return PLAIN.format(name=name)


def postcards(client: Client, names: list[str]) -> dict[str, str]:
    """Return a postcard for each name, four of them written at once."""
    answers = client.map([ASK.format(name=name) for name in names], max_workers=4)
    return {
        name: answer.reply.text if answer.ok else PLAIN.format(name=name)
        for name, answer in zip(names, answers)
    }
