"""A person at a real pseudo-terminal, for tests of the command line."""

from __future__ import annotations

import os
import re
import sys

from many import PATIENCE, ROOT
import pexpect

READY = r"\x1b\[\?2004h(?s:.*?)\x1b\[\?25h"  # prompt_toolkit has drawn its prompt
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Person:
    """Types at a program, and looks at what it shows.

    Attributes:
        screen: All that was sent to the terminal so far.
    """

    def __init__(self, *arguments, columns=100, **environment):
        self._child = pexpect.spawn(
            sys.executable,
            ["-W", "error", "-m", "chatsdk", *map(str, arguments)],
            cwd=ROOT,
            dimensions=(30, columns),
            encoding="utf-8",
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                "PYTHONPATH": str(ROOT),
                **environment,
            },
            timeout=PATIENCE,
        )
        self._child.delaybeforesend = None
        self._seen = []
        self._child.logfile_read = self

    def write(self, text):
        self._seen.append(text)

    def flush(self):
        pass

    @property
    def screen(self):
        return "".join(self._seen)

    def ready(self):
        """Wait for the prompt; return what was shown before it, without colours and moves."""
        self._child.expect(READY)
        return ESCAPES.sub("", self._child.before)

    def sees(self, text):
        """Wait until a text is shown."""
        self._child.expect_exact(text)

    def types(self, text, end="\r"):
        self._child.send(text + end)

    def says(self, text):
        """Type a line, and wait for the next prompt; return what was shown in between."""
        self.types(text)
        return self.ready()

    def presses_ctrl_c(self):
        self._child.sendintr()

    def presses_ctrl_d(self):
        self._child.sendeof()

    @property
    def alive(self):
        return self._child.isalive()

    def leaves(self):
        """Wait for the program's end; return its exit status."""
        self._child.expect(pexpect.EOF)
        self._child.close()
        return self._child.exitstatus

    def gone(self):
        """End the program if it runs, in its own way if it knows one."""
        if self._child.isalive():
            self.presses_ctrl_c()
            self.presses_ctrl_d()
            self._child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=5)
        self._child.close(force=True)
