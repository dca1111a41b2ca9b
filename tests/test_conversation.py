"""A conversation remembers whole turns, and only those."""

from __future__ import annotations

import pytest
from servers import answer, chunk, frame, gigachat, head, said

from chatsdk import Client, Message
from chatsdk.errors import ServerError, StreamInterruptedError
from chatsdk.parts import ToolCall


@pytest.fixture
def asks(serve):
    """Return a server with answers and a conversation with it."""
    made = []

    def start(*answers, **options):
        server = serve(*answers)
        client = Client(gigachat(server), max_retries=0)
        made.append(client)
        return server, client.conversation(**options)

    yield start
    for client in made:
        client.close()


def sent(server, number):
    return [(turn["role"], turn["content"]) for turn in server.requests[number].json["messages"]]


def test_each_turn_is_sent_with_those_before(asks):
    server, talk = asks(said("I am ", "fine"), said("Bye"), system="Be brief.")

    assert talk.chat("How are you?").text == "I am fine"
    assert talk.chat("Bye").text == "Bye"

    assert sent(server, 0) == [("system", "Be brief."), ("user", "How are you?")]
    assert sent(server, 1) == [
        ("system", "Be brief."),
        ("user", "How are you?"),
        ("assistant", "I am fine"),
        ("user", "Bye"),
    ]
    assert [message.role for message in talk.messages] == [
        "system", "user", "assistant", "user", "assistant"
    ]


def test_a_turn_that_is_streamed_is_kept_at_its_end(asks):
    _, talk = asks(said("one", "two"))

    with talk.stream("Hi") as stream:
        assert next(stream) == "one"
        assert talk.messages == []
        assert list(stream) == ["two"]

    assert talk.messages == [Message("user", "Hi"), Message("assistant", "onetwo")]


def test_a_turn_that_is_left_early_is_forgotten(asks):
    server, talk = asks(said("one", "two"), said("Hi"))
    with talk.stream("Hi") as stream:
        next(stream)

    assert talk.messages == []
    talk.chat("again")
    assert sent(server, 1) == [("user", "again")]


@pytest.mark.parametrize(
    "broken, kind",
    [
        (answer(b"", "500 No"), ServerError),
        (head() + chunk(frame("Hel")) + b"\r\n", StreamInterruptedError),
    ],
)
def test_a_turn_that_failed_is_forgotten(asks, broken, kind):
    _, talk = asks(broken, said("Hi"))

    with pytest.raises(kind):
        talk.chat("Hi")
    assert talk.messages == []
    assert talk.chat("Hi").text == "Hi"


def test_parameters_hold_for_each_turn_and_can_be_changed_for_one(asks):
    server, talk = asks(said("Hi"), temperature=0.5, max_tokens=9)

    talk.chat("one")
    talk.chat("two", temperature=0.7)
    talk.chat("three")

    bodies = [request.json for request in server.requests]
    told = [(body["temperature"], body["max_tokens"]) for body in bodies]
    assert told == [(0.5, 9), (0.7, 9), (0.5, 9)]


def test_a_turn_may_be_several_messages(asks):
    server, talk = asks(said("Hi"))

    talk.chat([Message("user", "one"), {"role": "user", "content": "two"}])

    assert sent(server, 0) == [("user", "one"), ("user", "two")]
    assert len(talk.messages) == 3


def test_the_history_is_the_callers_to_change(asks):
    server, talk = asks(said("Hi"))
    talk.chat("one")
    del talk.messages[:]
    talk.messages.append(Message("system", "Be brief."))

    talk.chat("two")

    assert sent(server, 1) == [("system", "Be brief."), ("user", "two")]


def test_calls_and_state_go_back_to_the_service(asks):
    call = {"role": "assistant", "function_call": {"name": "now", "arguments": {}}}
    server, talk = asks(said("noon"))
    talk.messages.append(
        Message(
            "assistant",
            tool_calls=(ToolCall(None, "now", {}, "{}"),),
            state={"functions_state_id": "s-1"},
        )
    )
    talk.chat(Message("tool", '{"time": "noon"}', name="now"))

    first, second = server.requests[0].json["messages"]
    assert first == {**call, "content": "", "functions_state_id": "s-1"}
    assert second["role"] == "function"


def test_nothing_is_sent_or_kept_when_a_message_is_none(asks):
    server, talk = asks(said("Hi"))

    for bad in (5, [], [{"role": "user"}], b"Hi"):
        with pytest.raises((TypeError, ValueError)):
            talk.chat(bad)
        with pytest.raises((TypeError, ValueError)):
            talk.stream(bad)
    assert talk.messages == [] and server.requests == []


def test_a_system_message_is_text():
    with pytest.raises(TypeError, match="content must be a str"):
        Client("gigachat", access_token="a").conversation(system=5)


def test_a_conversation_may_have_a_target_of_its_own(serve):
    server = serve(said("Hi"))
    with Client(providers=[gigachat(server)]) as client:
        talk = client.conversation(target="gigachat:GigaChat-2-Max")

        assert talk.chat("Hi").provider == "gigachat"
    assert server.requests[0].json["model"] == "GigaChat-2-Max"
