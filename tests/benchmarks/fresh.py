"""The least program with a contender: ``python fresh.py CONTENDER URL`` reads one stream of 20."""

from __future__ import annotations

from importlib import import_module
import sys

asker = import_module(f"contenders.{sys.argv[1]}").Asker(sys.argv[2])
assert sum(1 for _ in asker.stream("Hi")) == 20
