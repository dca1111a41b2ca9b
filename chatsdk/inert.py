"""Markdown of a stranger's, made inert: it looks as it was meant, and nothing in it is obeyed.

Those who show Markdown do not see to that: JupyterLab leaves the output of a cell that was run in
it as it is, tags and links to programs included (seen with version 4.6).

No ``<`` of the text is left where it could begin a tag, no image, and no link but to the web or
beside the page, whichever program turns the Markdown into HTML, and wherever that program sees
code and formulas begin and end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
import re

# An address with a scheme that is not the web's, as far as that can be seen before anything is
# decoded: behind a link's text, or behind the name of one that is defined.
_SCHEME = r"(?=[\s<>]*(?![\s<>]|(?i:https?://|mailto:))[^\n /?#():&]*[:&])"
# A tag, a comment or an instruction of HTML; an image, for which Markdown would ask its server,
# and tell it that the text was read; a link to a program.  A backslash that escapes it already
# goes, as the entity would not be one behind it.
_RISK = re.compile(
    rf"(?<!\\)((?:\\\\)*)\\?(<(?=[A-Za-z/!?])|!(?=\[))|(\])([(:]){_SCHEME}"
)
_HREF = re.compile(r"\\(?=href(?![A-Za-z]))")  # TeX's link
_IN_CODE = re.compile(rf"<[A-Za-z/!?]|(?<!\w)!\[|\][(:]{_SCHEME}|{_HREF.pattern}")
_ADDRESS = re.compile(r"<(https?://[^\s<>]+)>")
_MATH = re.compile(r"(\$\$.+?\$\$|\$(?![\s$])[^$\n]+(?<!\s)\$)", re.DOTALL)
_FENCE = re.compile(r"([ \t>]*)(`{3,}(?=[^`]*$)|~{3,})")
_PARAGRAPHS = re.compile(r"(\n[ \t]*\n)")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def inert(text: str) -> str:
    """Return Markdown that shows HTML tags and images as text; code is shown as it is.

    Code stays Markdown, with its colours, unless there is a tag in it: then it becomes ``<pre>`` or
    ``<code>`` with entities for all that is no letter or digit.  A block of code that has no end
    gets one, so that more can follow.
    """
    return "\n".join(_blocks(iter(text.split("\n"))))


def literal(text: str) -> str:
    """Return a text of which neither Markdown nor HTML nor TeX takes anything for its own."""
    return _encoded(_HREF.sub(r"\\ ", text))


def _encoded(text: str) -> str:
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", text)


def _blocks(lines: Iterator[str]) -> Iterator[str]:
    """Yield prose and blocks of code in turn."""
    prose: list[str] = []
    for line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            prose.append(line)
            continue
        if prose:
            yield _prose("\n".join(prose))
            prose = []
        yield _code_block(fence, line, lines)
    if prose:
        yield _prose("\n".join(prose))


def _code_block(fence: re.Match[str], first: str, lines: Iterator[str]) -> str:
    """Return a block of code, up to its end or that of the text."""
    prefix, mark = fence.groups()
    end = re.compile(rf"[ \t>]*{re.escape(mark)}{re.escape(mark[0])}*[ \t]*")
    inside: list[str] = []
    last = f"{prefix}{mark}"
    for line in lines:
        if end.fullmatch(line):
            last = line
            break
        inside.append(line)
    whole = "\n".join([first, *inside, last])
    if not _IN_CODE.search(whole):
        return whole
    encoded = [prefix + _encoded(line.removeprefix(prefix)) for line in inside]
    code = "\n".join(encoded).removeprefix(prefix)
    return f"{prefix}<pre><code>{code}</code></pre>"


def _prose(text: str) -> str:
    """Return paragraphs; code in a line does not reach beyond its paragraph."""
    return "".join(map(_paragraph, _PARAGRAPHS.split(text)))


def _paragraph(text: str) -> str:
    parts: list[str] = []
    done = 0
    for start, end, width in _spans(text):
        parts.append(_words(text[done:start]))
        span = text[start:end]
        risky = _IN_CODE.search(span)
        parts.append(f"<code>{_encoded(span[width:-width])}</code>" if risky else span)
        done = end
    parts.append(_words(text[done:]))
    return "".join(parts)


def _spans(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield where code in a line begins and ends, and how many backquotes it has on each side.

    Each run of backquotes looks for the next one of its width in a table: a text with a hundred
    thousand of them takes no longer than another.
    """
    runs = [found.span() for found in re.finditer("`+", text)]
    places: dict[int, list[int]] = {}
    for start, end in runs:
        places.setdefault(end - start, []).append(start)
    done = 0
    for start, end in runs:
        if start < done or text[start - 1:start] == "\\":
            continue
        width = end - start
        later = places[width]
        next_one = bisect_right(later, start)
        if next_one < len(later):
            done = later[next_one] + width
            yield start, done, width


def _words(text: str) -> str:
    """Return what is no code; in a formula a space does what an entity cannot."""
    parts = _MATH.split(_HREF.sub(r"\\ ", text))
    parts[::2] = [_RISK.sub(_entity, _ADDRESS.sub(r"\1", part)) for part in parts[::2]]
    parts[1::2] = [_RISK.sub(r"\g<0> ", part) for part in parts[1::2]]
    return "".join(parts)


def _entity(found: re.Match[str]) -> str:
    escapes, mark, bracket, sign = found.groups(default="")
    return f"{escapes}{bracket}{_encoded(mark or sign)}"
