"""How Sphinx builds these pages: strictly (``-W -n``), and without the network."""

from __future__ import annotations

import doctest
import os
from pathlib import Path
import sys

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

from chatsdk.version import __version__  # noqa: E402

for name in list(os.environ):  # the examples talk to this machine only, and with no real key
    if name.lower().endswith("_proxy") or name.startswith(("CHATSDK_", "GIGACHAT_")):
        del os.environ[name]

project = "chatsdk"
author = "the chatsdk authors"
copyright = "the chatsdk authors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "chatsdk_tables",  # docs/extensions: tables made from the code, which cannot go stale
]
exclude_patterns = ["build", "examples"]

html_theme = "furo"
html_title = f"chatsdk {version}"
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what is copied can be run
copybutton_prompt_is_regexp = True

default_role = "py:obj"  # in docstrings `Timeout` means the class
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
doctest_test_doctest_blocks = "default"
doctest_default_flags = doctest.ELLIPSIS  # errors are compared with their messages

# Names of the standard library and of the packages below ours.  Their documentation would be
# found by intersphinx, which needs a network.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(None|True|False|str|int|float|bool|bytes|dict|list|tuple|set|object|type|weakref\..*"
        r"|Exception|TypeError|ValueError|TimeoutError"
        r"|(typing|collections\.abc|os|ssl|pathlib|requests|attr|attrs|concurrent\.futures)\..*"
        r"|Any|Iterable|Iterator|Mapping|Sequence|Callable|Generator|Container|IO|Path|Kind"
        r"|Executor)",
    ),
    # Types that stand in signatures and that no caller makes.
    ("py:class", r"(chatsdk\..*\.)?(Arrivals|Fetch|Headers|Hook|Response|Watch)"),
]
