"""Messages, deltas and replies as values."""

from __future__ import annotations

import copy
import pickle

from attrs.exceptions import FrozenInstanceError
import pytest

from chatsdk.messages import Delta, Message, Query, Reply, Usage
from chatsdk.parts import tool_call, ToolCall, ToolCallPart
from chatsdk.results import Model

CALL = ToolCall("7", "now", {"zone": "UTC"}, '{"zone": "UTC"}')
VALUES = [
    Message("user", "Hi"),
    Message("assistant", "", tool_calls=(CALL,), state={"a": 1}),
    Usage(1, 2, 3, 0, None),
    Delta("text", finish_reason="stop", tool_calls=(ToolCallPart(0, "7", "now", "{"),), raw={}),
    Reply("text", "m", "gigachat", "stop", Usage(1), (CALL,), "why", "id", 1.0, 0.5, {"a": []}),
    Model("m", "gigachat", "owner", {"id": "m"}),
    Query(messages=(Message("user", "Hi"),), model="m"),
]


@pytest.mark.parametrize("value", VALUES)
def test_values_cannot_be_changed(value):
    name = type(value).__attrs_attrs__[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, "else")
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", VALUES)
def test_values_are_equal_after_a_journey(value):
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == copy.copy(value) == value


def test_a_reply_is_its_text():
    reply = Reply("**Hi** \U0001f642")

    assert str(reply) == f"{reply}" == reply._repr_markdown_() == "**Hi** \U0001f642"


def test_a_reply_goes_back_into_the_history_with_its_calls_and_state():
    reply = Reply("text", tool_calls=(CALL,), state={"signature": "s"})

    assert reply.message == Message(
        "assistant", "text", tool_calls=(CALL,), state={"signature": "s"}
    )


def test_what_is_not_told_is_none_and_never_a_guess():
    assert Reply() == Reply("", None, None, None, None, (), "", None, 0.0, None, None, None)
    assert Usage() == Usage(None, None, None, None, None)


@pytest.mark.parametrize(
    "raw, arguments",
    [
        ('{"a": [1]}', {"a": [1]}),
        ("{}", {}),
        ("[]", None),
        ("5", None),
        ("", None),
        ('{"a"', None),
        ("[" * 100_000, None),
        ("1" * 5000, None),
    ],
)
def test_arguments_are_a_dict_or_none_and_their_text_is_kept(raw, arguments):
    assert tool_call("7", "now", raw) == ToolCall("7", "now", arguments, raw)


def test_no_repr_shows_what_the_service_wants_back_untouched():
    assert "s3cret" not in repr(Message("assistant", "", state={"signature": "s3cret"}))
    assert "s3cret" not in repr(Reply("", state={"signature": "s3cret"}, raw="s3cret"))


def test_a_query_shows_no_prompt_and_no_header():
    query = Query(
        messages=(Message("user", "prompt"),),
        extra_headers={"X-Key": "s3cret"},
        extra_body={"key": "s3cret"},
    )

    assert "prompt" not in repr(query) and "s3cret" not in repr(query)
