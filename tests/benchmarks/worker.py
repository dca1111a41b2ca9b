"""One contender in a process of its own: ``python worker.py CONTENDER``.

It reads a line of JSON with the name of a function of `work` and its arguments, and writes a line
of JSON with what came of it; so the contenders can take turns.
"""

from __future__ import annotations

import json
import os
import sys

import work


def obey(order):
    try:
        return getattr(work, order.pop("work"))(**order)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def main():
    said, sys.stdout = sys.stdout, sys.stderr  # whatever a package prints is no answer
    for line in sys.stdin:
        said.write(json.dumps(obey(json.loads(line))) + "\n")
        said.flush()
    os._exit(0)  # some packages wait for threads of theirs


if __name__ == "__main__":
    main()
