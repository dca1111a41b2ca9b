"""Markdown of a model's, made inert: what is left of it in the hands of those who render it."""

from __future__ import annotations

from html.parser import HTMLParser
import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
import mistune
import pytest

from chatsdk.inert import inert, literal

PIECES = st.lists(
    st.sampled_from(
        [
            "<script>", "</script>", "<img src=x onerror=alert(1)>", "<!--", "-->", "<?", "<", ">",
            "![", "](", "http://x", ")", "`", "``", "```", "~~~", "\n", "\n\n", "    ", "> ", "- ",
            "\\", "$", "$$", "a", " ", "&lt;", "<https://x>", "<b", "<pre>", "</code>", "</pre>",
            "[x](", "[x]: ", "[x]", "javascript:alert(1)", "java&#115;cript:x", "<javascript:x>",
            "\t", "\\href{javascript:x}{y}",
        ]
    ),
    max_size=30,
).map("".join)


# Two that turn Markdown into HTML, told to let through what they are given.  JupyterLab's own one
# is in test_notebook_browser.py.
OBLIGING = MarkdownIt("gfm-like", {"html": True, "linkify": False})
OBLIGING.validateLink = lambda address: True
NBCONVERTS = mistune.create_markdown(
    renderer=mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True),
    plugins=["strikethrough", "table", "url"],
)
INVISIBLE = "".join(map(chr, range(33)))
RENDERERS = [OBLIGING.render, NBCONVERTS]


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.attributes = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, text):
        self.text += text

    def handle_comment(self, text):
        self.tags.append("!--")

    def links(self):
        """Return where the links lead; a browser drops what is invisible."""
        found = [value for name, value in self.attributes if name in ("href", "src")]
        return [re.sub(r"[\t\r\n]", "", value).lstrip(INVISIBLE) for value in found]


def rendered(text, render=OBLIGING.render):
    return Page(render(inert(text)))


def words(text):
    return re.sub(r"\W+", " ", text).split()


def without_ours(markdown):
    """Return Markdown without the code that we have put in tags: entities between two of them."""
    return re.sub(r"<pre><code>[^<]*</code></pre>|<code>[^<]*</code>", "", markdown)


@given(PIECES)
def test_no_tag_of_a_text_survives(text):
    assert not re.search(r"<[A-Za-z/!?]", without_ours(inert(text)))


@pytest.mark.parametrize("render", RENDERERS)
@given(text=PIECES)
def test_a_renderer_that_lets_all_through_finds_nothing_to_run(render, text):
    page = rendered(text, render)

    assert not {"script", "img", "b", "!--"} & {*page.tags}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not any(re.match(r"(?!https?:)[a-z][a-z0-9+.-]*:", it, re.I) for it in page.links())


@given(text=PIECES)
def test_no_macro_of_tex_makes_a_link(text):
    assert not re.search(r"\\href(?![A-Za-z])", without_ours(inert(text)))


@pytest.mark.parametrize(
    "link",
    [
        "[x](javascript:alert(1))", "[x](JavaScript:alert(1))", "[x]( \t javascript:alert(1))",
        "[x](<javascript:alert(1)>)", "[x](< javascript:alert(1)>)", "[x](java&#115;cript:y)",
        "[x](javascript&colon;y)", "[x](&#1;javascript:y)", "[x](\x01javascript:y)",
        "[x](\njavascript:y)", "[x](data:text/html,y)", "[x](java\\script:y)",
        "[x]\n\n[x]: javascript:y", "[x]\n\n> [x]:\n> javascript:y", "<javascript:y>",
        "[x](javascript\\:y)", "[![a](b)](javascript:y)",
    ],
)
@pytest.mark.parametrize("render", RENDERERS)
def test_a_link_to_a_program_is_shown_and_is_none(render, link):
    page = rendered(link, render)

    assert not any(":" in address for address in page.links())
    assert "x" in page.text or "javascript:y" in page.text


@pytest.mark.parametrize(
    "address", ["https://a.example/b?c=d:e#f", "HTTP://a.example", "mailto:a@b.example", "/a:b",
                "#a:b", "a/b.html", "../a.md", "?a=b:c", ""]
)
@pytest.mark.parametrize("render", RENDERERS)
def test_other_links_are_left(render, address):
    assert rendered(f"[x]({address})", render).links() == [address]
    assert inert(f"[x]({address})") == f"[x]({address})"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<!]")))
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


@pytest.mark.parametrize("formula", ["$a<b$", "$$\na<b\n$$", "$n![a$"])
def test_a_formula_gets_spaces_and_no_entities(formula):
    assert inert(formula) == formula.replace("<", "< ").replace("![", "! [")


def test_a_link_in_a_formula_gets_a_space():
    assert inert(r"$\href{javascript:x}{y}$") == r"$\ href{javascript:x}{y}$"
    assert inert(r"$[x](javascript:y)$") == r"$[x]( javascript:y)$"
    assert inert(r"\hrefs") == r"\hrefs"


def test_money_is_no_formula():
    assert inert("It is $5 <b>and</b> then\n$6") == "It is $5 &#60;b>and&#60;/b> then\n$6"


LONG = [
    "` `` ", "\\", "$", "![", "$a ", "](", "]:", "](<", "[x]( ", "<https://a", "\\href", "\n```\n",
]


@pytest.mark.parametrize("text", [part * 200_000 for part in LONG] + ["[x](" + " " * 1_000_000])
def test_a_million_characters_take_no_longer_than_others(text):
    assert inert(text)  # a search that starts over at each of them would take an hour
