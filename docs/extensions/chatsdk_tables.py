"""Directives for what the code already says (services, scenarios, help), and links to names.

=====================  ==========================================================
``.. services::``      the table of services, and a section for each of them
``.. scenarios::``     the table of the simulator's scenarios
``.. errors::``        the table of errors: when, attributes, tried again, what to do
``.. help:: COMMAND``  the help page of ``chatsdk COMMAND``, from reference/help/
=====================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import inspect
from pathlib import Path
import re
from typing import Any

import attrs
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from chatsdk import Conversation, FanOut, providers, RunStream, Stream
from chatsdk.advice import ADVICE, TIMEOUTS
from chatsdk.errors import APITimeoutError, ChatError
from chatsdk.simulator import FAMILIES, SCENARIOS

ABILITIES = (
    ("streaming", "answers in pieces"),
    ("system_messages", "system messages"),
    ("history", "a history"),
    ("tools", "tools"),
    ("end_mark", "a mark at the end of an answer"),
)

CAPABILITIES: dict[str, Callable[[type[Any]], Any]] = {
    "tools": lambda kind: kind.tools,
    "schemas": lambda kind: "response_format" in kind.parameters and getattr(kind, "schemas", True),
    "reasoning": lambda kind: "reasoning_effort" in kind.parameters,
    "images": lambda kind: "image" in kind.media,
    "documents": lambda kind: "document" in kind.media,
    "sound": lambda kind: "audio" in kind.media,
    "embeddings": lambda kind: kind.embeds,
    "counts tokens": lambda kind: kind.count_tokens is not providers.base.Provider.count_tokens,
    "end mark": lambda kind: kind.end_mark,
}


def list_table(heads: Sequence[str], rows: Sequence[Sequence[str]], widths: str = "auto") -> str:
    """Return a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (heads, *rows):
        for column, cell in enumerate(row):
            lines.append(f"   {'* -' if column == 0 else '  -'} {cell}".rstrip())
    return "\n".join([*lines, ""])


def services() -> Iterator[str]:
    """Yield the table of services, then a section for each."""
    kinds = [providers.get(name) for name in sorted(providers.TABLE)]
    rows = [
        (
            f"`{kind.title} <provider-{kind.name}_>`_",
            f"``{kind.name}``",
            kind.state,
        )
        for kind in kinds
    ]
    yield list_table(("service", "target", "the real service"), rows)
    yield "What each can do:\n"
    yield list_table(
        ("target", *CAPABILITIES),
        [
            (f"``{kind.name}``", *("yes" if can(kind) else "" for can in CAPABILITIES.values()))
            for kind in kinds
        ],
    )
    for kind in kinds:
        yield from service(kind)


def service(kind: type[Any]) -> Iterator[str]:
    """Yield the section of one service."""
    yield f".. _provider-{kind.name}:\n"
    yield f"{kind.title}\n{'-' * len(kind.title)}\n"
    module = inspect.getmodule(kind)
    yield f"{inspect.getdoc(module)}\n"
    yield f":The real service: {kind.state}."
    yield f":Page: {kind.page}"
    can = [text for name, text in ABILITIES if getattr(kind, name)]
    cannot = [text for name, text in ABILITIES if not getattr(kind, name)]
    yield f":The protocol has: {', '.join(can)}."
    if cannot:
        yield f":It lacks: {', '.join(cannot)}."
    known = ", ".join(f"``{model}``" for model in kind.models)
    yield f":Models known: {known}."
    if kind.aliases:
        pairs = [f"``{alias}`` for ``{model}``" for alias, model in kind.aliases.items()]
        yield f":Aliases: {', '.join(pairs)}."
    yield ""
    if kind.parameters:
        rows = [(f"``{name}``", into) for name, into in kind.parameters.items()]
        yield list_table(("parameter", "what it becomes"), rows, "30 70")
    else:
        yield "No parameter is honoured.\n"
    yield list_table(
        ("field", "environment variable", "default"), list(fields(kind)), "30 35 35"
    )
    yield f".. autoclass:: {kind.__module__}.{kind.__qualname__}\n   :no-index:\n"


def fields(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the fields that a user may set: name, variable, default."""
    for field in attrs.fields(kind):
        if not field.init or field.name.startswith("_"):
            continue
        variable = field.metadata.get("variable")
        default: Any = field.metadata.get("default", field.default)
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = {} if default.factory is dict else None
        shown = "" if default in (None, attrs.NOTHING, {}, "") else f"``{default}``"
        yield f"``{field.name}``", f"``{variable}``" if variable else "", shown


def scenarios() -> Iterator[str]:
    """Yield the two tables of scenarios."""
    yield list_table(
        ("scenario", "what the server does"),
        [(f"``{name}``", about) for name, about in SCENARIOS.items()],
        "30 70",
    )
    yield "Those with a part to fill in, which is written in capitals:\n"
    yield list_table(
        ("scenario", "what the server does"),
        [(f"``{name}``", about) for name, about in FAMILIES.items()],
        "40 60",
    )


def errors() -> Iterator[str]:
    """Yield the table of errors, each class before those that are made of it."""
    rows = []
    for kind in _tree(ChatError):
        about = inspect.getdoc(kind) or ""
        when = about.partition("\n\n")[0].replace("\n", " ")
        own = ", ".join(f"``{name}``" for name in re.findall(r"^    (\w+): ", about, re.MULTILINE))
        advice = ADVICE[kind]
        do = "by its phase" if kind is APITimeoutError else advice.do
        rows.append((f"`{kind.__name__}`", when, own, _tried(advice.again), _said(do)))
        if kind is APITimeoutError:
            for phase, one in TIMEOUTS.items():
                rows.append(("", f"``phase`` is ``{phase}``", "", _tried(one.again), _said(one.do)))
    heads = ("class", "when", "attributes of its own", "tried again", "what to do")
    yield list_table(heads, rows, "18 26 14 18 24")


def _tree(kind: type[ChatError]) -> Iterator[type[ChatError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "chatsdk.errors":
            yield from _tree(below)


def _tried(text: str) -> str:
    return re.sub(r"(RetryPolicy\(.*?\)|max_attempts)", r"``\1``", text)


def _said(text: str) -> str:
    """Return a piece of advice with its code as code."""
    text = text or "see its message"
    code = r"(error\.\w+|\w+\([^()]*\)|\w+\.\w+\(\)|\w+=|[A-Z]\w+\.\w+|\b\w+_\w+\b)"
    return re.sub(code, r"``\1``", text)


class _Generated(SphinxDirective):
    """Inserts reStructuredText that a function makes."""

    make = staticmethod(services)

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the text."""
        text = "\n".join(self.make())
        node = nodes.Element()
        node.document = self.state.document
        source = StringList(text.splitlines(), source=f"<{self.name}>")
        self.state.nested_parse(source, 0, node, match_titles=True)
        return node.children


class Services(_Generated):
    """The table of services."""

    make = staticmethod(services)


class Scenarios(_Generated):
    """The table of scenarios."""

    make = staticmethod(scenarios)


class Errors(_Generated):
    """The table of errors."""

    make = staticmethod(errors)


class Help(SphinxDirective):
    """Shows a help page; tests/test_docs.py sees to it that it is the command's own."""

    optional_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the page as it stands."""
        name = "-".join(["chatsdk", *self.arguments])
        path = Path(__file__).parent.parent / "reference" / "help" / f"{name}.txt"
        self.env.note_dependency(str(path))
        text = path.read_text("utf-8").rstrip()
        return [nodes.literal_block(text, text, language="none")]


def signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, shown: str, returned: str
) -> tuple[str, str] | None:
    """Return a signature that people can read, or none for what they do not call."""
    if what == "class" and issubclass(thing, MADE_BY_OTHERS):
        return "", ""
    if not shown:
        return None
    public = re.sub(r", _\w+: [^,()]+", "", shown)
    return re.sub(r"<[^<>]*>|\bNOTHING\b", "...", public), returned


# A service's fields stand in its table; the others no caller makes.
MADE_BY_OTHERS = (
    providers.base.Provider, Conversation, FanOut, RunStream, Stream, BaseException
)

HOMES = ("chatsdk", "chatsdk.errors", "chatsdk.messages", "chatsdk.simulator", "chatsdk.wire")


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """Return where a name of a docstring leads, which is written there as code knows it.

    Names that lead nowhere (of arguments, say) stay plain; names that begin with ``chatsdk.``
    must lead somewhere, so that Sphinx complains of a misspelt one.
    """
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    name = node["reftarget"].removeprefix("chatsdk.")
    for home in HOMES:
        found = objects.get(f"{home}.{name}")
        if found is not None:
            return make_refnode(
                app.builder, node["refdoc"], found.docname, found.node_id, shown, name
            )
    plain = node["reftype"] == "obj" and not node["reftarget"].startswith("chatsdk.")
    return shown if plain else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("services", Services)
    app.add_directive("scenarios", Scenarios)
    app.add_directive("errors", Errors)
    app.add_directive("help", Help)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
