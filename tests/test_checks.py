"""What callers may give, and how they are told what they may not."""

from __future__ import annotations

from collections import UserDict
import math
from types import MappingProxyType

import pytest

from chatsdk.checks import check_text, messages_from, option, PARAMETERS
from chatsdk.messages import Message
from chatsdk.parts import ToolCall

USER = Message("user", "Hi")
TOOL = {"type": "function", "function": {"name": "now", "parameters": {}}}


# Messages


@pytest.mark.parametrize(
    "given",
    [
        "Hi",
        USER,
        {"role": "user", "content": "Hi"},
        MappingProxyType({"role": "user", "content": "Hi"}),
        UserDict(role="user", content="Hi"),
        ["Hi"],
        (USER,),
        [{"role": "user", "content": "Hi"}],
        {USER: 1}.keys(),
    ],
)
def test_one_message_may_be_given_in_many_ways(given):
    assert messages_from(given) == (USER,)


def test_messages_may_be_a_lazy_iterable_and_are_taken_once():
    taken = []

    def lazy():
        for text in ("one", "two"):
            taken.append(text)
            yield text

    assert messages_from(lazy()) == (Message("user", "one"), Message("user", "two"))
    assert taken == ["one", "two"]


def test_an_error_in_a_lazy_iterable_is_the_callers_own():
    def lazy():
        yield "one"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        messages_from(lazy())


def test_a_dict_may_hold_all_that_a_message_does():
    call = ToolCall("7", "now", {}, "{}")
    history = [
        {"role": "system", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [call], "state": {"a": 1}},
        {"role": "tool", "content": "noon", "tool_call_id": "7", "name": "now"},
    ]

    assert messages_from(history) == (
        Message("system", ""),
        Message("assistant", "", tool_calls=(call,), state={"a": 1}),
        Message("tool", "noon", tool_call_id="7", name="now"),
    )


@pytest.mark.parametrize(
    "raw, arguments, text",
    [('{"a": 1}', {"a": 1}, '{"a": 1}'), ("", {}, "{}"), (None, {}, "{}"), ("[1]", None, "[1]")],
)
def test_a_tool_call_may_be_a_dict_in_openais_shape(raw, arguments, text):
    call = {"id": "7", "type": "function", "function": {"name": "now", "arguments": raw}}

    (message,) = messages_from({"role": "assistant", "tool_calls": [call]})

    assert message == Message("assistant", "", tool_calls=(ToolCall("7", "now", arguments, text),))


@pytest.mark.parametrize("given", [None, 7, 1.5, b"Hi", bytearray(b"Hi"), object(), print])
def test_what_is_no_message_is_a_type_error_that_names_its_type(given):
    with pytest.raises(TypeError, match=f"not {type(given).__name__}"):
        messages_from(given)


@pytest.mark.parametrize("given", [[], (), {}.keys(), iter(())])
def test_no_messages_are_a_value_error(given):
    with pytest.raises(ValueError, match="empty"):
        messages_from(given)


@pytest.mark.parametrize(
    "item, kind, says",
    [
        (7, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        (b"Hi", TypeError, "not bytes"),
        (["Hi"], TypeError, "not list"),
        ({}, TypeError, "no role"),
        ({"content": "Hi"}, TypeError, "no role"),
        ({"role": "user"}, TypeError, "no content"),
        ({"role": "assistant", "tool_calls": []}, TypeError, "no content"),
        ({"role": "user", "content": None}, TypeError, "content must be a str, not NoneType"),
        ({"role": "user", "content": [{"type": "text"}]}, TypeError, "content[0] must be a str"),
        (Message("user", 5), TypeError, "content must be a str, not int"),
        ({"role": "usr", "content": "Hi"}, ValueError, "did you mean 'user'"),
        (Message("bot", "Hi"), ValueError, "assistant, system, tool, user"),
        ({"role": None, "content": "Hi"}, ValueError, "unknown role None"),
        ({"role": "user", "contents": "Hi"}, TypeError, "did you mean 'content'"),
        ({"role": "user", "content": "Hi", 3: 4}, TypeError, "unknown key 3"),
        ({"role": "user", "content": "a\ud800"}, ValueError, "surrogate at position 1"),
        ({"role": "assistant", "tool_calls": ["now"]}, TypeError, "OpenAI's shape"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, TypeError, "OpenAI's shape"),
        ({"role": "assistant", "tool_calls": 5}, TypeError, "tool_calls"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {1: 2}}}]},
            TypeError,
            "arguments",
        ),
        ({"role": "tool", "content": "1", "name": 5}, TypeError, "name must be a str"),
        ({"role": "tool", "content": "1", "tool_call_id": 5}, TypeError, "tool_call_id must be"),
        ({"role": "tool", "content": "1", "name": "a\ud800"}, ValueError, "surrogate"),
        (Message("tool", "1", name=5), TypeError, "name must be a str"),
    ],
)
def test_an_item_that_is_no_message_is_told_by_its_place(item, kind, says):
    with pytest.raises(kind) as caught:
        messages_from(["Hi", item])

    assert "messages[1]" in str(caught.value)
    assert says in str(caught.value)


def test_an_error_in_a_message_does_not_quote_it():
    with pytest.raises(ValueError) as caught:
        messages_from("my secret prompt\udfff")

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


# Parameters


@pytest.mark.parametrize(
    "name, good",
    [
        ("model", ["GigaChat", "a:b"]),
        ("temperature", [0, 0.0, 2, 1e9]),
        ("max_tokens", [1, 10**6]),
        ("top_p", [0, 0.5, 1]),
        ("seed", [0, -1, -(2**63), 2**64 - 1]),
        ("tool_choice", ["auto", {"type": "function"}, None]),
        ("response_format", [{"type": "json_object"}]),
        ("reasoning_effort", ["low", ""]),
    ],
)
def test_good_values_are_taken_as_they_are(name, good):
    for value in good:
        assert PARAMETERS[name](value) == value


def test_stop_is_one_text_or_several():
    assert PARAMETERS["stop"]("END") == ("END",)
    assert PARAMETERS["stop"](["a", "b"]) == ("a", "b")
    assert PARAMETERS["stop"](()) == ()


def test_tools_are_dicts_in_openais_shape():
    assert PARAMETERS["tools"]([TOOL]) == (TOOL,)
    assert PARAMETERS["tools"](()) == ()


def test_extra_body_is_copied():
    given = {"a": {"b": 1}}

    assert PARAMETERS["extra_body"](MappingProxyType(given)) == given


@pytest.mark.parametrize(
    "name, bad",
    [
        ("model", [5, None, b"x"]),
        ("temperature", ["hot", True, None, 1j]),
        ("max_tokens", ["5", 5.0, True]),
        ("top_p", ["1", False]),
        ("seed", [1.5, "1", True]),
        ("stop", [5, [5], {"a"}, b"x", {"a": 1}]),
        ("tools", [5, "now", TOOL, [5], [{}], [{"function": {}}], [{"function": {"name": 5}}]]),
        ("tool_choice", [object(), {1, 2}]),
        ("response_format", [object(), {"schema": dict}, {("a",): 1}]),
        ("reasoning_effort", [5, True]),
        ("extra_body", [5, "x", [("a", 1)], {"a": object()}, {"a": b"x"}]),
    ],
)
def test_values_of_a_wrong_type_are_a_type_error_that_names_the_parameter(name, bad):
    for value in bad:
        with pytest.raises(TypeError, match=name):
            PARAMETERS[name](value)


@pytest.mark.parametrize(
    "name, bad",
    [
        ("model", ["", " ", "\ud800"]),
        ("temperature", [-1, -0.001, math.nan, math.inf, 10**400]),
        ("max_tokens", [0, -1, 10**400]),
        ("top_p", [-0.01, 1.01, math.nan]),
        ("seed", [-(2**63) - 1, 2**64]),
        ("stop", ["\udc00", ["a", "\udc00"]]),
        ("tools", [[{"function": {"name": "f", "description": "\ud800"}}]]),
        ("tool_choice", [math.nan, "\ud800"]),
        ("response_format", [{"a": math.inf}]),
        ("reasoning_effort", ["\ud800"]),
        ("extra_body", [{"a": math.nan}, {"a": "\ud800"}]),
    ],
)
def test_values_out_of_range_are_a_value_error_that_names_the_parameter(name, bad):
    for value in bad:
        with pytest.raises(ValueError, match=name) as caught:
            PARAMETERS[name](value)
        assert type(caught.value) is ValueError


def test_what_nests_without_end_has_no_json_form():
    endless = []
    endless.append(endless)
    deep = None
    for _ in range(200_000):
        deep = [deep]

    for value in (endless, deep):
        with pytest.raises(ValueError, match="extra_body has no JSON form"):
            PARAMETERS["extra_body"]({"a": value})
    while deep:
        deep = deep.pop()


def test_check_text_names_the_place():
    check_text("plain 🙂", "here")
    with pytest.raises(ValueError, match="^here has a lone surrogate at position 2$"):
        check_text("ab\udfff", "here")


# Parameters of one provider


@pytest.mark.parametrize(
    "kind, good",
    [(int, [0, 5]), (float, [0, 1, 0.5]), (bool, [True, False]), (str, ["", "session-1"])],
)
def test_a_providers_own_parameter_is_of_its_kind(kind, good):
    for value in good:
        assert option("own", value, kind) == value


@pytest.mark.parametrize(
    "kind, bad",
    [(int, [1.5, "1", True]), (float, ["1", True]), (bool, [1, "true"]), (str, [1, b"x"])],
)
def test_a_providers_own_parameter_of_another_kind_is_a_type_error(kind, bad):
    for value in bad:
        with pytest.raises(TypeError, match="own must be"):
            option("own", value, kind)


@pytest.mark.parametrize(
    "kind, bad",
    [(int, [-1]), (float, [-0.1, math.nan, math.inf]), (str, ["a\r\nX: b", "й", "\0", "\x7f"])],
)
def test_a_providers_own_parameter_out_of_range_is_a_value_error(kind, bad):
    for value in bad:
        with pytest.raises(ValueError, match="own must be"):
            option("own", value, kind)
