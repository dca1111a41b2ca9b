"""Replies, conversations and answers beside each other, as Markdown and HTML for a notebook.

What a model says is data: in HTML it is escaped, in Markdown it is `chatsdk.inert`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Protocol

from chatsdk.errors import ConfigurationError
from chatsdk.inert import inert, literal

# In a <pre> no formula is looked for; all it looks like is taken back.
PRE = (
    "white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; text-align: left;"
    " font: inherit; background: none; border: 0; margin: 0; padding: 0"
)
CELL = "text-align: left; vertical-align: top"
QUIET = "opacity: 0.6; font-size: 85%"


class Shown(Protocol):
    """What is shown of a `chatsdk.Reply`."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def model(self) -> str | None:
        """The model that answered."""

    @property
    def provider(self) -> str | None:
        """The service."""

    @property
    def finish_reason(self) -> str | None:
        """Why it ended."""

    @property
    def usage(self) -> Any:
        """Tokens, or None."""

    @property
    def tool_calls(self) -> Sequence[Any]:
        """Functions that the model asks for."""

    @property
    def elapsed(self) -> float:
        """Seconds."""

    @property
    def cost(self) -> float | None:
        """US dollars."""


class Said(Protocol):
    """What is shown of a `chatsdk.Message`."""

    @property
    def role(self) -> str:
        """Who said it."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def media(self) -> Sequence[Any]:
        """What came with it."""

    @property
    def tool_calls(self) -> Sequence[Any]:
        """Functions that the model asks for."""


def facts(reply: Shown) -> str:
    """Return model, seconds, tokens and cost in one line: those that are known."""
    known = [
        reply.model or reply.provider,
        _seconds(reply.elapsed),
        _tokens(reply.usage),
        _dollars(reply),
        None if reply.finish_reason == "stop" else reply.finish_reason,
    ]
    return " · ".join(part for part in known if part)


def reply_markdown(reply: Shown, note: str = "") -> str:
    """Return a reply as Markdown, with its facts below.

    Args:
        reply: What came.
        note: What there is to say about it, before the facts.
    """
    line = " · ".join(part for part in (note, facts(reply)) if part)
    below = [f'<small style="opacity: 0.6">{literal(line)}</small>'] if line else []
    return "\n\n".join([*_said(reply.text, reply.tool_calls), *below])


def conversation_markdown(messages: Iterable[Said]) -> str:
    """Return a conversation as Markdown: who speaks in bold, and what they say as a quotation.

    All lines of a text are in its quotation, so that no text can pass for the next speaker's.
    """
    turns = [f"**{literal(said.role)}**\n\n{_quoted(said)}" for said in messages]
    return "\n\n".join(turns) or "<small>nothing was said yet</small>"


def text_html(text: str, note: str) -> str:
    """Return a text and a note below it as HTML."""
    return _pre(text) + _quiet(note)


def columns_html(columns: Sequence[tuple[str, str, str]]) -> str:
    """Return texts beside each other as HTML; each has a title above it and a note below."""
    rows = (("th", _pre), ("td", _pre), ("td", _quiet))
    body = "".join(_row(*kind, cells) for kind, cells in zip(rows, zip(*columns)))
    return (
        '<div style="overflow-x: auto">'
        f'<table style="table-layout: fixed; width: 100%; min-width: {12 * len(columns)}em">'
        f"{body}</table></div>"
    )


def _row(tag: str, show: Callable[[str], str], cells: Iterable[str]) -> str:
    inside = "".join(f'<{tag} style="{CELL}">{show(cell)}</{tag}>' for cell in cells)
    return f"<tr>{inside}</tr>"


def _pre(text: str) -> str:
    return f'<pre style="{PRE}">{escape(text)}</pre>'


def _quiet(text: str) -> str:
    return f'<div style="{QUIET}">{_pre(text)}</div>'


def _said(text: str, calls: Sequence[Any]) -> list[str]:
    """Return a text and the calls of functions as paragraphs."""
    asked = [f"<code>{literal(f'{call.name}({call.raw})')}</code>" for call in calls]
    return [inert(text), *asked] if text else asked


def _quoted(said: Said) -> str:
    sent = [f"<small>{literal(f'{it.kind}: {it.name or it.mime or it.url}')}</small>"
            for it in said.media]
    paragraphs = "\n\n".join([*_said(said.text, said.tool_calls), *sent])
    return "\n".join(f"> {line}" for line in paragraphs.split("\n"))


def _seconds(elapsed: float) -> str:
    return f"{elapsed:.{1 if elapsed >= 10 else 2}f} s" if elapsed else ""


def _tokens(usage: Any) -> str:
    if usage is None:
        return ""
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return "" if usage.total_tokens is None else f"{usage.total_tokens:,} tokens"
    both = (usage.prompt_tokens, usage.completion_tokens)
    return " + ".join("?" if count is None else f"{count:,}" for count in both) + " tokens"


def _dollars(reply: Shown) -> str:
    try:
        cost = reply.cost
    except ConfigurationError:  # no price list is installed
        return ""
    if cost is None:
        return ""
    if 0 < cost < 0.000001:
        return "under $0.000001"
    return "$" + f"{cost:.6f}".rstrip("0").rstrip(".")
