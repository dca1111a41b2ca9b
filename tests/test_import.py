"""What an import loads, and who may know whom."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path
import subprocess
import sys

import pytest

import chatsdk
from chatsdk.providers import PRESETS, TABLE

ROOT = Path(chatsdk.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
BASE = {"attr", "attrs", "requests", "tenacity", "urllib3"}
# What a first answer does without, so that it is loaded where it is used.
LATE = {
    "attrs", "chatsdk.advice", "chatsdk.cassettes", "chatsdk.conversation", "chatsdk.costs",
    "chatsdk.embeddings", "chatsdk.extraction", "chatsdk.fanout", "chatsdk.hooks",
    "chatsdk.journal", "chatsdk.mapping", "chatsdk.media", "chatsdk.notebook", "chatsdk.pace",
    "chatsdk.parts", "chatsdk.ratelimits", "chatsdk.results", "chatsdk.runs", "chatsdk.schemas",
    "chatsdk.tape", "chatsdk.tokens", "chatsdk.tools", "chatsdk.views", "concurrent.futures",
    "contextvars", "difflib", "fcntl", "msgspec", "msvcrt", "sqlite3", "tenacity",
    "urllib3.contrib.socks", "uuid",
}
OF_OTHERS = {"fcntl", "msgspec", "msvcrt", "urllib3.contrib.socks"}  # may be loaded beside ours
EXTRAS = {
    "IPython", "PIL", "click", "genai_prices", "httpx", "ipywidgets", "keyring", "langchain_core",
    "llm", "matplotlib", "numpy", "opentelemetry", "pandas", "prompt_toolkit", "pydantic",
    "pytest", "responses", "rich", "selenium", "tqdm", "trustme", "yaml",
}


def loaded(statement):
    """Return the modules that a statement loads into a fresh interpreter."""
    program = f"import sys\nold = {{*sys.modules}}\n{statement}\nprint(*({{*sys.modules}} - old))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, check=True, timeout=60, cwd=ROOT.parent,
    )
    return set(done.stdout.split())


def imports(name):
    """Yield the names of the modules that a module imports, and whether at its top."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = parsed(path)
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            for found in node.names:
                yield found.name, top
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = package.split(".")[:len(package.split(".")) - node.level + 1]
                source = ".".join([*parents, source]).rstrip(".")
            for found in node.names:
                full = f"{source}.{found.name}"
                yield (full if full in MODULES else source), top


def parsed(path):
    return ast.parse(path.read_text("utf-8"))


def test_importing_the_package_loads_nothing_else():
    found = loaded("import chatsdk")

    assert {name for name in found if name.startswith("chatsdk")} == {"chatsdk", "chatsdk.version"}
    assert not found & {*BASE, *EXTRAS, "socket", "ssl", "http.client", "json", "asyncio"}


def test_all_public_names_load_no_module_of_an_extra():
    found = loaded("from chatsdk import *")

    assert BASE - {"attr", "tenacity"} <= found
    assert not found & EXTRAS


@pytest.mark.parametrize("name", sorted({*TABLE} - {*PRESETS}) + ["groq", "azure-openai"])
def test_a_provider_is_loaded_when_it_is_asked_for(name):
    keyed = {"gigachat": "access_token='a'", "anthropic": "api_key='a'", "gemini": "api_key='a'"}
    options = keyed.get(name, "base_url='http://localhost'")
    found = loaded(f"import chatsdk\nchatsdk.Client({name!r}, {options})")

    others = {module.partition(":")[0] for module in TABLE.values()} & found
    of_some = {"chatsdk.parts", "chatsdk.ratelimits", "chatsdk.results", "uuid"}
    assert not found & (LATE - of_some - OF_OTHERS)
    spoken = {"chatsdk.providers.openai"} if name in PRESETS or "openai" in name else set()
    assert others == {TABLE[name].partition(":")[0], *spoken}
    assert not found & EXTRAS


def test_an_answer_loads_no_more_than_it_needs():
    asked = """
from chatsdk import Client
from chatsdk.simulator import Simulator
with Simulator() as sim, Client("gigachat", api_key="a", **sim.fields("gigachat")) as client:
    assert client.chat("Hi").text
"""
    for_tokens, of_simulator = {"chatsdk.tokens", "uuid"}, {"difflib", "uuid"}
    assert loaded(asked) & LATE <= for_tokens | of_simulator | OF_OTHERS


def test_the_simulator_needs_the_standard_library_only():
    found = loaded("import chatsdk.simulator")

    assert not found & {*EXTRAS, "requests", "urllib3", "tenacity"}


def test_the_client_in_the_shape_of_openai_needs_no_extra():
    assert not loaded("import chatsdk.compat.openai") & {*EXTRAS, "openai"}


def test_every_public_name_can_be_had():
    for name in chatsdk.__all__:
        assert getattr(chatsdk, name) is not None
        assert name in dir(chatsdk)
    assert len(set(chatsdk.__all__)) == len(chatsdk.__all__)


def test_a_name_that_is_not_public_cannot_be_had():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        chatsdk.nothing
    with pytest.raises(ImportError):
        from chatsdk import nothing  # noqa: F401


def test_type_checkers_see_the_same_names_in_the_same_places():
    seen = {}
    for node in parsed(ROOT / "__init__.pyi").body:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                assert name.asname == name.name
                seen[name.name] = node.module

    assert seen == {**chatsdk._HOME, "__version__": "chatsdk.version"}


def test_every_error_is_public():
    assert set(chatsdk._HOMES["chatsdk.errors"]) == {
        name for name, kind in vars(chatsdk.errors).items()
        if isinstance(kind, type) and issubclass(kind, chatsdk.ChatError)
    }


def test_imports_inside_the_package_point_one_way():
    known = {
        name: {module for module, _ in imports(name) if module.partition(".")[0] == "chatsdk"}
        for name in MODULES
    }
    # The package itself names its modules as text and imports none of them.
    assert known.pop("chatsdk") == {"chatsdk.version"}

    graphlib.TopologicalSorter(known).prepare()  # raises CycleError


LOW = {"chatsdk.errors", "chatsdk.records", "chatsdk.tokens", "chatsdk.version"}
KNOWS = {
    "chatsdk.errors": set(),
    "chatsdk.version": set(),
    "chatsdk.records": set(),
    "chatsdk.parts": LOW,
    "chatsdk.ratelimits": LOW,
    "chatsdk.tokens": LOW,
    "chatsdk.settings": LOW,
    "chatsdk.schemas": set(),
    "chatsdk.costs": LOW,
    "chatsdk.inert": set(),
    "chatsdk.views": LOW | {"chatsdk.inert"},
    "chatsdk.controls": set(),
    "chatsdk.notebook": LOW | {"chatsdk.controls", "chatsdk.views"},
    "chatsdk.messages": LOW | {
        "chatsdk.costs", "chatsdk.parts", "chatsdk.ratelimits", "chatsdk.schemas", "chatsdk.views",
    },
    "chatsdk.results": LOW | {"chatsdk.messages"},
    "chatsdk.deadlines": LOW,
    "chatsdk.retry": LOW,
    "chatsdk.wire": LOW,
    "chatsdk.advice": LOW,
    "chatsdk.streams": LOW | {
        "chatsdk.advice", "chatsdk.messages", "chatsdk.notebook", "chatsdk.parts",
        "chatsdk.ratelimits",
    },
}


@pytest.mark.parametrize("name", sorted(KNOWS))
def test_the_low_layers_know_nothing_of_the_high_ones(name):
    known = {module for module, _ in imports(name)}

    assert {module for module in known if module.startswith("chatsdk")} <= KNOWS[name]


@pytest.mark.parametrize("name", sorted(name for name in MODULES if ".providers." in name))
def test_a_provider_knows_nothing_of_the_facade(name):
    allowed = LOW | {"settings", "messages", "parts", "ratelimits", "results", "wire", "providers"}
    for module, _ in imports(name):
        if module.startswith("chatsdk."):
            assert module in LOW or module.split(".")[1] in allowed, module


@pytest.mark.parametrize("name", sorted(name for name in MODULES if ".simulator" in name))
def test_the_simulator_knows_nothing_of_the_client(name):
    high = {"chatsdk.client", "chatsdk.transport", "chatsdk.exchange", "chatsdk.calls"}

    assert not high & {module for module, _ in imports(name)}


def test_only_what_a_first_answer_does_without_is_imported_late():
    for name in MODULES:
        if name in ("chatsdk.demo", "chatsdk.pytest_plugin") or name.startswith("chatsdk.cli"):
            continue  # they load what they need
        if name == "chatsdk.records":
            continue  # type checkers read attrs' own there
        late = {module for module, top in imports(name) if not top}
        assert {module for module in late if module.partition(".")[0] not in EXTRAS} <= LATE, name
