"""A provider is tested as functions: a query in, a request out; an event in, a step out."""

from chatsdk_parrot import Parrot
import pytest

from chatsdk import Delta, Message, ProviderError
from chatsdk.messages import Query
from chatsdk.wire import Request

HELLO = Query(messages=(Message("user", "Hello"),), max_tokens=5)


def test_asks_for_as_many_words_as_tokens():
    parrot = Parrot(base_url="https://parrot.example/v1", api_key="k")

    request = parrot.prepare(HELLO, fetch=None)

    assert request == Request(
        method="POST",
        url="https://parrot.example/v1/say",
        headers={"X-Api-Key": "k"},
        json={"bird": "macaw", "manners": "", "text": "Hello", "words": 5},
    )


def test_reads_words_and_the_end():
    parrot = Parrot()

    assert parrot.decode({"word": "Hel"}).text == "Hel"
    assert parrot.decode({"over": "stop"}) == Delta(
        finish_reason="stop", final=True, raw={"over": "stop"}
    )


def test_raises_what_the_service_reports():
    with pytest.raises(ProviderError, match="asleep"):
        Parrot().decode({"failed": "the bird is asleep"})
