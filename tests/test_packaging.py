"""What an install brings, and what the archives hold."""

from __future__ import annotations

from configparser import ConfigParser
from importlib.metadata import distribution, requires
from pathlib import Path
import re

ROOT = Path(__file__).parent.parent
SEVEN = {
    "attrs", "certifi", "charset-normalizer", "idna", "requests", "tenacity", "urllib3",
}


def needed(name):
    """Yield the names of all distributions that one needs without any extra."""
    for line in requires(name) or ():
        if "extra ==" in line:
            continue
        found = re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
        yield found
        yield from needed(found)


def test_the_base_install_brings_exactly_seven_distributions():
    assert set(needed("chatsdk")) == SEVEN


def test_each_extra_has_lower_bounds_and_no_upper_ones():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")

    for name, lines in config["options.extras_require"].items():
        for line in lines.split("\n"):
            if line and not line.startswith("chatsdk["):
                assert re.fullmatch(r"[\w.\[\]-]+ >= [\d.]+(; .+)?", line), (name, line)


def test_the_metadata_says_what_it_is():
    metadata = distribution("chatsdk").metadata

    assert metadata["Name"] == "chatsdk"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/x-rst"
    assert "requests, for chat" in metadata["Summary"]
