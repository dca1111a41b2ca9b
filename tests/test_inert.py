"""Markdown of a model's, made inert: what is left of it in the hands of those who render it."""

from __future__ import annotations

from html.parser import HTMLParser
import re

from hypothesis import given
from hypothesis import strategies as st
from nbconvert.filters import markdown2html
import pytest

from chatsdk.inert import inert, literal

PIECES = st.lists(
    st.sampled_from(
        [
            "<script>", "</script>", "<img src=x onerror=alert(1)>", "<!--", "-->", "<?", "<", ">",
            "![", "](", "http://x", ")", "`", "``", "```", "~~~", "\n", "\n\n", "    ", "> ", "- ",
            "\\", "$", "$$", "a", " ", "&lt;", "<https://x>", "<b", "<pre>", "</code>", "</pre>",
        ]
    ),
    max_size=30,
).map("".join)


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.attributes = {}
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.update(attributes)

    def handle_data(self, text):
        self.text += text

    def handle_comment(self, text):
        self.tags.append("!--")


def rendered(text):
    """Return a text as nbconvert shows it on a page, which is not sanitized."""
    return Page(markdown2html(inert(text)))


def words(text):
    return re.sub(r"\W+", " ", text).split()


def without_ours(markdown):
    """Return Markdown without the code that we have put in tags: entities between two of them."""
    return re.sub(r"<pre><code>[^<]*</code></pre>|<code>[^<]*</code>", "", markdown)


@given(PIECES)
def test_no_tag_of_a_text_survives(text):
    assert not re.search(r"<[A-Za-z/!?]", without_ours(inert(text)))


@given(PIECES)
def test_a_renderer_that_sanitizes_nothing_finds_nothing_to_run(text):
    page = rendered(text)

    assert not {"script", "img", "b", "!--"} & {*page.tags}
    assert not any(name.startswith("on") for name in page.attributes)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<!")))
def test_a_text_without_tags_and_images_is_left_as_it_is(text):
    fenced = re.search(r"^[ \t>]*(```|~~~)", text, re.MULTILINE)

    assert inert(text) == text or fenced


@given(st.text())
def test_a_literal_text_is_shown_as_it_is(text):
    visible = " ".join(text.split())

    assert " ".join(Page(f"<p>{literal(text)}</p>").text.split()) == visible
    assert not re.search(r"[<*_`\\$\[\]]", literal(text))


@pytest.mark.parametrize(
    "text, shown",
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a < b and b > a", "a < b and b > a"),
        ("a<b", "a<b"),
        ("\\<b>", "<b>"),
        ("\\\\<b>", "\\<b>"),
        ("Use `<div>` here", "Use <div> here"),
        ("`` ` <b> ``", "` <b>"),
        ("<https://example.org/a>", "https://example.org/a"),
        ("![cat](https://example.org/cat.png)", "!cat"),
        ("\\![cat](u)", "!cat"),
        ("<!-- hidden -->", "<!-- hidden -->"),
        ("<" + "`x`", "<x"),
    ],
)
def test_what_would_be_obeyed_is_shown_instead(text, shown):
    assert words(rendered(text).text) == words(shown)
    assert "img" not in rendered(text).tags
    assert "".join(rendered(text).text.split()) == "".join(shown.split())


@pytest.mark.parametrize("first, prefix", [("Look:", ""), ("1. Look:", "   "), ("> Look:", "> ")])
def test_code_with_tags_is_shown_as_it_is(first, prefix):
    code = ["<ul>", "", "  <li>*a* $b$ &amp; `c`</li>", "</ul>"]
    text = "\n".join(prefix + line for line in ["```html", *code, "```"])

    page = rendered(f"{first}\n{prefix}\n{text}\n\nthen")

    assert "\n".join(code) in page.text
    assert {"pre", "code"} <= {*page.tags}
    assert not {"ul", "em"} & {*page.tags}


def test_code_without_tags_keeps_its_language():
    text = "```rust\nlet v = vec![1, 2]; if a < b {}\n```\nand `a < b`"

    assert inert(text) == text


def test_code_that_has_no_end_gets_one():
    assert inert("~~~~ python\n1 + 1\n~~~") == "~~~~ python\n1 + 1\n~~~\n~~~~"
    assert inert("```\n<b>") == "<pre><code>&#60;b&#62;</code></pre>"


@pytest.mark.parametrize("formula", ["$a<b$", "$$\na<b\n$$", "$n![$"])
def test_a_formula_gets_spaces_and_no_entities(formula):
    assert inert(formula) == formula.replace("<", "< ").replace("![", "! [")


def test_money_is_no_formula():
    assert inert("It is $5 <b>and</b> then\n$6") == "It is $5 &lt;b>and&lt;/b> then\n$6"


@pytest.mark.parametrize(
    "text", ["` `` " * 300_000, "\\" * 1_000_000, "$" * 1_000_000, "![" * 500_000, "$a " * 300_000]
)
def test_a_million_characters_take_no_longer_than_others(text):
    assert len(inert(text)) >= len(text)  # a search that starts over would take an hour
