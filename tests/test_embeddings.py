"""Texts as vectors: cut to what a service takes, and put together in order."""

from __future__ import annotations

import builtins

from attrs import field, frozen
import numpy
import pytest

from chatsdk import Client, ConfigurationError, Embeddings, ProtocolError, UnsupportedError, Usage
from chatsdk.providers.base import Provider, vectors_in_order
from chatsdk.settings import url

asked = []


@frozen(kw_only=True)
class Vectors(Provider):
    """A service that makes vectors: a text's length, three at a time."""

    name = "vectors"
    title = "Vectors"
    embeds = 3
    embedding_model = "small"
    dimensions = True
    models = ("chatty",)

    base_url: str = url(None, "http://127.0.0.1:9")
    model: str = field(default="none")

    def embed(self, query, fetch):
        asked.append(query)
        vectors = [[float(len(text))] for text in query.texts]
        return Embeddings(vectors, query.model, Usage(len(query.texts)))


@frozen(kw_only=True)
class Mute(Vectors):
    """A service that makes none, and whose vectors have one length."""

    name = "mute"
    embeds = 0
    dimensions = False


@pytest.fixture
def client():
    asked.clear()
    with Client("vectors", providers=[Vectors(), Mute()]) as client:
        yield client


def test_texts_are_cut_to_what_the_service_takes_and_the_order_is_kept(client):
    made = client.embed(["a" * n for n in range(1, 8)])

    assert made == Embeddings([[float(n)] for n in range(1, 8)], "small", Usage(7))
    assert [len(query.texts) for query in asked] == [3, 3, 1]
    assert client.usage == {"vectors:small": Usage(7)}


def test_one_text_is_a_list_of_one_vector(client):
    assert client.embed("abc").vectors == [[3.0]]


def test_a_generator_of_texts_is_read_once(client):
    assert client.embed(text for text in ("a", "bb")).vectors == [[1.0], [2.0]]


def test_the_model_may_stand_in_the_target_or_beside_it(client):
    client.embed("a", target="vectors:large")
    client.embed("a", target="vectors:large", model="other", dimensions=5, extra_body={"x": 1},
                 extra_headers={"X-A": "b"})

    assert [query.model for query in asked] == ["large", "other"]
    assert (asked[1].dimensions, asked[1].extra_body, asked[1].extra_headers) == (
        5, {"x": 1}, {"X-A": "b"},
    )


@pytest.mark.parametrize("target, model", [("vectors:chatty", "small"), ("vectors:wide", "wide")])
def test_the_clients_own_model_makes_vectors_unless_it_is_known_for_chats(target, model):
    with Client(target, providers=[Vectors()]) as client:
        assert client.embed("a").model == model


def test_numpy_gives_one_array(client):
    made = client.embed(["a", "bb"], numpy=True)

    assert isinstance(made.vectors, numpy.ndarray)
    assert made.vectors.dtype == numpy.float32
    assert made.vectors.tolist() == [[1.0], [2.0]]


def test_without_numpy_the_extra_is_named_before_anything_is_asked(client, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "numpy":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ConfigurationError, match=r"chatsdk\[numpy\]"):
        client.embed("a", numpy=True)
    assert asked == []


@pytest.mark.parametrize(
    "arguments, kind, says",
    [
        ({"texts": []}, ValueError, "empty"),
        ({"texts": ["a", ""]}, ValueError, r"texts\[1\] is empty"),
        ({"texts": ["a", 7]}, TypeError, r"texts\[1\] must be a str, not int"),
        ({"texts": 7}, TypeError, "not int"),
        ({"texts": b"a"}, TypeError, "not bytes"),
        ({"texts": {"a": 1}}, TypeError, "not dict"),
        ({"texts": "\ud800"}, ValueError, "surrogate"),
        ({"texts": "a", "dimensions": 0}, ValueError, "dimensions"),
        ({"texts": "a", "dimensions": True}, ValueError, "dimensions"),
        ({"texts": "a", "model": " "}, ValueError, "model"),
        ({"texts": "a", "extra_body": 7}, TypeError, "extra_body"),
        ({"texts": "a", "extra_headers": {"a b": "c"}}, ConfigurationError, "header name"),
        ({"texts": "a", "target": "mute"}, UnsupportedError, "mute makes no embeddings"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(client, arguments, kind, says):
    with pytest.raises(kind, match=says):
        client.embed(arguments.pop("texts"), **arguments)
    assert asked == []


def test_a_length_is_refused_where_it_cannot_be_chosen(client, monkeypatch):
    monkeypatch.setattr(Mute, "embeds", 1)

    with pytest.raises(UnsupportedError, match="one length"):
        client.embed("a", target="mute", dimensions=3)


def test_vectors_come_in_the_order_of_the_texts_or_not_at_all():
    assert vectors_in_order({1: [2.0], 0: [1.0]}, 2, "x") == [[1.0], [2.0]]
    for wrong in ({}, {0: [1.0]}, {0: [1.0], 2: [1.0]}, {0: [1.0], 1: [1.0], 2: [1.0]}):
        with pytest.raises(ProtocolError, match="for 2 texts"):
            vectors_in_order(wrong, 2, "x")


def test_a_service_without_a_counter_says_so(client):
    with pytest.raises(UnsupportedError, match="vectors counts no tokens"):
        client.count_tokens("Hi")


def test_the_repr_shows_no_numbers():
    assert repr(Embeddings([[1.0]] * 5)).startswith("Embeddings(vectors=<5 vectors>")
