"""What all services share: headers and bodies merged, texts flattened, answers that end."""

from __future__ import annotations

import json

import attrs
from hypothesis import given as drawn
from hypothesis import settings, strategies
import pytest

from chatsdk import (
    ChatError,
    ConfigurationError,
    Delta,
    Message,
    Model,
    ProtocolError,
    Provider,
    ProviderError,
    StreamInterruptedError,
    UnsupportedError,
)
from chatsdk.providers.aichatonline import AiChatOnline
from chatsdk.providers.aura import Aura
from chatsdk.providers.base import (
    count,
    digest,
    flatten,
    given,
    member,
    merged,
    merged_headers,
    system_text,
)
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.h2o import H2o

from .helpers import Answer, client, Fetches, outcome, query, read, text_of


@attrs.frozen(kw_only=True)
class Plain(Provider):
    """Events whose data is the step itself."""

    name = "plain"
    models = ("one", "two")
    aliases = {"first": "one"}

    base_url: str = "https://plain.example:8443/api/v1"
    model: str = "one"

    def decode(self, event):
        if "fail" in event:
            raise ProviderError(event["fail"])
        return Delta(**event) if event else None


@attrs.frozen(kw_only=True)
class Endless(Plain):
    """The same without an end mark, and never empty."""

    end_mark = False
    may_be_empty = False


def frames(*events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# Merging


@pytest.mark.parametrize("layers, result", [
    ([], {}),
    ([{"A": "1"}, {}], {"A": "1"}),
    ([{"A": "1", "B": "1"}, {"b": "2"}, {"C": "3"}], {"A": "1", "b": "2", "C": "3"}),
    ([{"X-A": "1"}, {"x-a": "2"}, {"X-a": "3"}], {"X-a": "3"}),
])
def test_a_later_header_wins_without_regard_to_case(layers, result):
    assert merged_headers(*layers) == result


@pytest.mark.parametrize("body, extra, result", [
    ({"a": 1}, {}, {"a": 1}),
    ({"a": 1}, {"a": None, "b": 2}, {"a": None, "b": 2}),
    ({"a": {"x": 1, "y": {"z": 1}}}, {"a": {"y": {"w": 2}}},
     {"a": {"x": 1, "y": {"z": 1, "w": 2}}}),
    ({"a": {"x": 1}}, {"a": 7}, {"a": 7}),
    ({"a": 7}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ({"a": [1]}, {"a": [2]}, {"a": [2]}),
])
def test_extra_members_are_merged_last_and_level_by_level(body, extra, result):
    before = json.dumps(body)

    assert merged(body, extra) == result
    assert json.dumps(body) == before


def test_members_that_are_not_given_are_left_out_but_not_those_that_are_false():
    assert given(a=None, b=0, c=False, d="", e=[]) == {"b": 0, "c": False, "d": "", "e": []}


def test_a_digest_tells_the_parts_apart_and_none_of_them():
    names = {digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest()}

    assert len(names) == 5
    assert digest("ключ", "a") == digest("ключ", "a")


# Reading members


@pytest.mark.parametrize("value, kind", [
    ("x", str), (7, int), ([], list), ({}, dict), (True, bool),
])
def test_a_member_of_its_kind_is_read(value, kind):
    assert member({"a": value}, "a", kind) == value


@pytest.mark.parametrize("event", [{}, {"a": None}])
def test_a_member_that_is_missing_or_null_is_none(event):
    assert member(event, "a", str) is None


@pytest.mark.parametrize("value, kind", [
    (7, str), ("x", int), (True, int), (1.5, int), ("x", list), ([], dict), ({}, list),
])
def test_a_member_of_another_kind_is_an_error_of_the_protocol(value, kind):
    with pytest.raises(ProtocolError, match=f"'a' is {type(value).__name__}, not {kind.__name__}"):
        member({"a": value}, "a", kind)


def test_a_long_member_of_another_kind_is_quoted_in_short():
    with pytest.raises(ProtocolError) as caught:
        member({"a": ["x" * 10_000] * 1000}, "a", str)

    assert len(caught.value.excerpt) <= 200


@pytest.mark.parametrize("value, found", [
    (0, 0), (7, 7), (10**30, 10**30), (None, None), ("7", None), (1.5, None), (True, None),
    ([], None),
])
def test_a_count_that_is_no_number_is_not_told(value, found):
    assert count({"a": value}, "a") == found


# Flattening


@pytest.mark.parametrize("messages, text", [
    ([Message("user", "Hi")], "Hi"),
    ([Message("system", "Be brief.")], "Be brief."),
    ([Message("system", "Be brief."), Message("user", "Hi")],
     "System: Be brief.\nUser: Hi\nAssistant:"),
    ([Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "More")],
     "User: Hi\nAssistant: Hello!\nUser: More\nAssistant:"),
    ([Message("function_result", "a\n\nb "), Message("SYSTEM", "")],
     "Function_result: a\n\nb \nSystem: \nAssistant:"),
])
def test_messages_are_flattened_by_the_rules(messages, text):
    assert flatten(tuple(messages)) == text


def test_system_messages_are_joined_by_one_line_feed():
    messages = [Message("system", "a"), Message("user", "b"), Message("system", "c\n")]

    assert system_text(tuple(messages)) == "a\nc\n"
    assert system_text((Message("user", "b"),)) == ""


# What a provider says of itself


@pytest.mark.parametrize("kind, facts", [
    (AiChatOnline, {"system_messages": False, "history": False, "tools": False, "end_mark": False}),
    (Aura, {"system_messages": True, "history": True, "tools": False, "end_mark": False}),
    (FlowGpt, {"system_messages": True, "history": True, "tools": False, "end_mark": False}),
    (GigaChat, {"system_messages": True, "history": True, "tools": True, "end_mark": True}),
    (H2o, {"system_messages": False, "history": False, "tools": False, "end_mark": True}),
])
def test_the_capabilities_are_those_of_the_protocol_and_of_the_request(kind, facts):
    answers = [b'{"data":"abc"}'] if kind is AiChatOnline else [b"{}", b'{"conversationId":"abc"}']
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "A"},
             {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]

    sent = json.dumps(kind(api_key="a2V5").prepare(query(asked), Fetches(*answers)).json)

    assert {name: getattr(kind, name) for name in facts} == facts
    assert kind.streaming
    flat = "System: S\\nUser: A\\nAssistant: B\\nUser: C\\nAssistant:"
    assert (flat in sent) is not facts["history"]
    assert ('"content": "B"' in sent) is facts["history"]


@pytest.mark.parametrize("kind", [AiChatOnline, Aura, FlowGpt, H2o])
@pytest.mark.parametrize("message", [
    {"role": "tool", "name": "f", "content": "{}"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
])
def test_tools_in_the_history_are_refused_by_a_service_without_tools(kind, message):
    with pytest.raises(UnsupportedError, match="knows no tools") as caught:
        client(kind.name).chat([message, "Hi"])

    assert caught.value.provider == kind.name


def test_the_model_of_a_query_comes_before_the_providers_own_and_is_resolved():
    assert Plain().model_of(query()) == "one"
    assert Plain(model="two").model_of(query()) == "two"
    assert Plain(model="first").model_of(query()) == "one"
    assert Plain().model_of(query(model="first")) == "one"
    assert Plain().model_of(query(model="other")) == "other"


def test_the_models_are_those_known_if_the_service_cannot_be_asked():
    assert Plain().list_models(Fetches()) == [Model("one", "plain"), Model("two", "plain")]


@pytest.mark.parametrize("address, origin", [
    ("https://plain.example:8443/api/v1", "https://plain.example:8443"),
    ("http://[::1]:8080/a/b/c", "http://[::1]:8080"),
    ("https://plain.example", "https://plain.example"),
])
def test_the_origin_is_scheme_host_and_port(address, origin):
    assert Plain(base_url=address).origin() == origin


def test_headers_of_the_call_come_over_those_of_the_provider_and_of_the_protocol():
    found = Plain(headers={"b": "2", "C": "2"}).request_headers({"A": "1", "B": "1"}, {"c": "3"})

    assert found == {"A": "1", "b": "2", "c": "3"}


def test_what_a_provider_does_not_describe_is_said_to_be_missing():
    class Silent(Provider):
        name = "silent"

    silent = Silent(base_url="https://silent.example", model="none")

    with pytest.raises(NotImplementedError):
        silent.prepare(query(), Fetches())
    with pytest.raises(NotImplementedError):
        silent.decode({})


def test_headers_of_a_provider_are_checked():
    with pytest.raises(ConfigurationError, match="headers"):
        Plain(headers={"X-A": "a\nb"})


# Answers that end


def test_steps_are_handed_on_and_events_without_one_passed_over():
    body = frames({"text": "a"}, {}, {"text": "b"}, {"final": True})

    assert read(Plain(), body) == [Delta("a"), Delta("b"), Delta(final=True)]


def test_an_answer_without_its_end_mark_is_interrupted():
    steps, error = outcome(Plain(), frames({"text": "a"}))

    assert text_of(steps) == "a"
    assert isinstance(error, StreamInterruptedError)
    assert error.retryable


def test_the_rest_is_hurried_once_the_end_mark_has_come():
    body = Answer(frames({"text": "a", "final": True}, {"final": True}, {"text": "b"}))

    steps = list(Plain().deltas(query(), body))

    assert body.hurried == 1
    assert text_of(steps) == "ab"


@pytest.mark.parametrize("rest", [b"data: {]\n\n", frames({"fail": "x"}), b'data: {"text"'])
def test_what_comes_after_the_end_mark_cannot_spoil_the_answer(rest):
    steps, error = outcome(Plain(), frames({"text": "a", "final": True}) + rest)

    assert (text_of(steps), error) == ("a", None)


@pytest.mark.parametrize("kind", [Plain, Endless])
def test_a_failure_before_the_end_is_one(kind):
    steps, error = outcome(kind(), frames({"text": "a"}, {"fail": "out of order"}))

    assert text_of(steps) == "a"
    assert isinstance(error, ProviderError)


def test_an_answer_that_needs_no_end_mark_ends_with_its_body():
    assert text_of(read(Endless(), frames({"text": "a"}))) == "a"


def test_an_answer_without_an_end_mark_may_have_to_have_text():
    for body in (b"", frames({}), b": ping\n\n"):
        with pytest.raises(ProtocolError, match="plain is empty"):
            read(Endless(), body)


def test_an_answer_with_an_end_mark_may_be_empty():
    assert text_of(read(Plain(), frames({"final": True}))) == ""


# Whatever comes

TEXTS = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
    | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(
        strategies.sampled_from([
            "choices", "delta", "message", "content", "finish_reason", "usage", "function_call",
            "name", "arguments", "status", "error", "token", "text", "special", "generated_text",
            "details", "event", "data", "code", "msg",
        ]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())
ALL = [AiChatOnline(), Aura(), FlowGpt(), GigaChat(api_key="a2V5"), H2o()]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@drawn(strategies.lists(TEXTS | strategies.binary(max_size=12), max_size=4))
def test_whatever_comes_no_bare_error_leaves_a_provider(pieces):
    for provider in ALL:
        for mark in (b"", b"data:"):
            body = b"".join(mark + piece + b"\n\n" for piece in pieces)
            for kind in ("text/event-stream", "application/json"):
                steps, _ = outcome(provider, body, Content_Type=kind)
                assert all(isinstance(step.text, str) for step in steps)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@drawn(TEXTS | strategies.binary(max_size=12))
def test_whatever_a_request_beside_the_chat_answers_no_bare_error_leaves_a_provider(answer):
    grant = ALL[3].prepare(query(), Fetches()).grant
    for read_answer in (
        lambda: ALL[0].prepare(query(), Fetches(answer)),
        lambda: ALL[1].list_models(Fetches(answer)),
        lambda: ALL[3].list_models(Fetches(answer)),
        lambda: ALL[4].prepare(query(), Fetches(b"", answer)),
        lambda: grant.read(answer, {}, 0.0),
    ):
        try:
            read_answer()
        except ChatError:
            pass
