"""Tests of a program that uses chatsdk: no network, no key, real sockets."""

from pathlib import Path

from postcards import postcard, postcards
import pytest

from chatsdk import Client

TAPES = Path(__file__).parent / "tapes"


@pytest.fixture
def client(chat_simulator):
    with Client("gigachat", api_key="any", **chat_simulator.fields("gigachat")) as client:
        yield client


@pytest.mark.chat_simulator(reply="Dear Ann, the sea is warm.")
def test_a_postcard_is_what_the_model_writes(client):
    assert postcard(client, "Ann") == "Dear Ann, the sea is warm."


@pytest.mark.chat_scenario("cut")
def test_a_postcard_is_plain_when_the_answer_breaks_off(client):
    assert postcard(client, "Ann") == "Dear Ann, greetings!"


@pytest.mark.chat_scenario(403)
def test_a_postcard_is_plain_when_the_service_refuses(client):
    assert postcard(client, "Ann") == "Dear Ann, greetings!"


@pytest.mark.chat_simulator(reply="Dear Ann, the sea is warm.")
@pytest.mark.chat_scenario("retry-after-0")
def test_a_busy_service_is_asked_again(client, chat_simulator):
    assert postcard(client, "Ann") == "Dear Ann, the sea is warm."
    assert chat_simulator.requests[-2].scenario == "retry-after-0"


@pytest.mark.chat_scenario("cut")
def test_one_that_fails_does_not_spoil_the_others(client):
    cards = postcards(client, ["Ann", "Bob", "Cy"])

    assert sum(card.endswith(", greetings!") for card in cards.values()) == 1


def test_what_is_sent(client, chat_snapshot):
    postcard(client, "Ann")  # compared with snapshots/test_postcards/test_what_is_sent.txt


def test_what_the_service_really_said_once():
    with Client("gigachat", replay=TAPES / "ann.jsonl") as client:
        assert postcard(client, "Ann") == "Dear Ann, the lighthouse says hello."
