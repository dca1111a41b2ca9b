"""Replies, conversations and answers as a notebook shows them."""

from __future__ import annotations

import sys

from attrs import evolve
import pytest

from chatsdk import Message, Reply, Run, ToolCall, Usage
from chatsdk.conversation import Conversation
from chatsdk.media import user
from chatsdk.views import columns_html, conversation_markdown, facts, text_html

REPLY = Reply(
    "Hi **you**", "m-1", "openai", "stop", Usage(1200, 34, 1234, cost=0.00120), elapsed=1.234
)


SMALL = '<small style="opacity: 0.6">'


def test_a_reply_is_shown_as_markdown_with_one_line_below():
    assert REPLY._repr_markdown_().split("\n\n") == [
        "Hi **you**",
        f"{SMALL}m&#45;1 · 1&#46;23 s · 1&#44;200 &#43; 34 tokens · &#36;0&#46;0012</small>",
    ]


@pytest.mark.parametrize(
    "changes, line",
    [
        ({}, "m-1 · 1.23 s · 1,200 + 34 tokens · $0.0012"),
        ({"model": None}, "openai · 1.23 s · 1,200 + 34 tokens"),
        ({"elapsed": 12.34, "usage": None}, "m-1 · 12.3 s"),
        ({"usage": Usage(completion_tokens=3, cost=0.0)}, "m-1 · 1.23 s · ? + 3 tokens · $0"),
        ({"usage": Usage(total_tokens=5, cost=1e-9)}, "m-1 · 1.23 s · 5 tokens · under $0.000001"),
        ({"usage": Usage(cost=12.5)}, "m-1 · 1.23 s · $12.5"),
        ({"usage": None, "finish_reason": "length"}, "m-1 · 1.23 s · length"),
        ({"usage": None, "finish_reason": None, "elapsed": 0.0}, "m-1"),
    ],
)
def test_the_line_has_what_is_known(changes, line):
    assert facts(evolve(REPLY, **changes)) == line


def test_a_price_list_that_is_not_installed_is_an_unknown_price(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    reply = evolve(REPLY, usage=Usage(1, 2, 3))

    assert facts(reply) == "m-1 · 1.23 s · 1 + 2 tokens"


def test_a_reply_of_nothing_is_shown_as_nothing():
    assert Reply()._repr_markdown_() == ""


def test_a_model_that_is_called_like_a_tag_is_shown_and_not_obeyed():
    reply = Reply("Hi", "<script>*x*</script>")

    assert "<script" not in reply._repr_markdown_()
    assert "*x*" not in reply._repr_markdown_()


def test_the_line_stands_below_code_that_has_no_end():
    reply = Reply("```python\n1 + 1", "m")

    assert reply._repr_markdown_() == f"{reply.text}\n```\n\n{SMALL}m</small>"


def test_calls_of_functions_are_shown():
    call = ToolCall("1", "f", {"a": "<b>"}, '{"a": "<b>"}')

    shown = Reply("", "m", tool_calls=(call,))._repr_markdown_()

    assert shown.startswith("<code>f&#40;&#123;&#34;a&#34;&#58; &#34;&#60;b&#62;")


def test_a_conversation_is_shown_as_a_transcript():
    talk = Conversation(lambda *said, **how: None, target=None, system="Be brief.", params={})
    talk.messages += [Message("user", "Hi\n\n**assistant**"), Message("assistant", "- a\n- b")]

    assert talk._repr_markdown_().split("\n") == [
        "**system**", "", "> Be brief.", "",
        "**user**", "", "> Hi", "> ", "> **assistant**", "",
        "**assistant**", "", "> - a", "> - b",
    ]


def test_a_run_is_shown_as_a_transcript_with_its_calls():
    call = ToolCall("1", "weather", {}, "{}")
    run = Run((Message("user", "Hi"), Message("assistant", tool_calls=(call,))))

    assert run._repr_markdown_().split("\n") == [
        "**user**", "", "> Hi", "", "**assistant**", "",
        "> <code>weather&#40;&#123;&#125;&#41;</code>",
    ]


def test_a_conversation_of_nothing_says_so():
    assert "nothing was said" in conversation_markdown([])


def test_what_came_with_a_message_is_named():
    said = user("Look", b"\x89PNG\r\n\x1a\n" + bytes(8))

    assert "image&#58; image&#47;png" in conversation_markdown([said])


def test_text_in_html_is_escaped():
    shown = text_html("<script>1</script>", "a & b")

    assert "&lt;script&gt;1&lt;/script&gt;" in shown
    assert "a &amp; b" in shown


def test_answers_stand_beside_each_other():
    shown = columns_html([("a", "<i>", "1 s"), ("b", "text", "<b>")])

    rows = [row.split("</tr>")[0] for row in shown.split("<tr>")[1:]]
    assert [row.count("</td>") + row.count("</th>") for row in rows] == [2, 2, 2]
    assert "&lt;i&gt;" in rows[1] and "text" in rows[1]
    assert "&lt;b&gt;" in rows[2] and "<b>" not in shown
