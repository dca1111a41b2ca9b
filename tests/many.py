"""What the tests of many calls at once share: servers that answer by model, and child processes."""

from __future__ import annotations

from pathlib import Path
import signal
import subprocess
import sys
import time

from servers import chunk, DONE, frame, gigachat, head

from chatsdk import Client

ROOT = Path(__file__).parent.parent
PATIENCE = 20  # s
LOADED = 1  # s that a loaded machine may add to a promise


def by_model(**answers):
    """Return an answer for a server: the one of the model that is asked for."""

    def choose(peer):
        chosen = answers[peer.request.json["model"]]
        return chosen(peer) if callable(chosen) else chosen

    return choose


def targets(*models):
    return [f"gigachat:{model}" for model in models]


def client_of(server, **options):
    return Client(
        "gigachat", providers=[gigachat(server)], **{"max_retries": 0, "proxy": "", **options}
    )


def stalls_after(*texts, begun=None):
    """Return an answer that says the texts and then nothing until the client has left."""

    def stall(peer):
        peer.send(head(), *(chunk(frame(text)) for text in texts))
        if begun is not None:
            begun.set()
        peer.gone()
        peer.hang_up()

    return stall


def ends(*texts):
    """Return the chunks of an answer's end."""
    frames = [frame(text) for text in texts]
    return b"".join(map(chunk, [*frames, frame("", "stop"), DONE, b""]))


class Child:
    """A Python program of its own, whose lines of output can be waited for."""

    def __init__(self, program, *arguments, warnings="error"):
        self._process = subprocess.Popen(
            [sys.executable, "-W", warnings, "-c", program, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def status(self):
        """Its exit status, None while it runs."""
        return self._process.poll()

    def line(self):
        """Wait for the next line."""
        return self._process.stdout.readline().rstrip("\n")

    def say(self, line):
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def interrupt(self):
        """Press Ctrl-C; return how many seconds it takes to end, and what it printed."""
        began = time.monotonic()
        assert self.status is None
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=PATIENCE)
        return time.monotonic() - began, out, err

    def kill(self):
        """End it as the system does when memory is short."""
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)

    def end(self, line=None):
        """Wait for its end and return its status and what it printed."""
        out, err = self._process.communicate(line, timeout=PATIENCE)
        return self._process.returncode, out, err
