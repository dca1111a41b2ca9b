"""A conversation at the keyboard: what its commands do, whatever the screen looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
from pathlib import Path
from typing import Any, Protocol

from attrs import evolve

from chatsdk import providers
from chatsdk.cli.keychain import stored
from chatsdk.client import Client
from chatsdk.errors import ChatError
from chatsdk.messages import Message, Reply
from chatsdk.results import Answer
from chatsdk.streams import Stream
from chatsdk.targets import provider_name

HELP = {
    "/help": "show this",
    "/model [NAME]": "talk to this model or target from now on; alone: say which it is",
    "/system [TEXT]": "set the system message; - removes it; alone: show it",
    "/retry": "ask the last question again, in place of its answer",
    "/clear": "forget the conversation; the system message stays",
    "/save FILE": "write the conversation down: .json for programs, else Markdown",
    "/quit": "leave; so does Ctrl-D",
}


class Screen(Protocol):
    """Where a session shows what happens."""

    def show(self, stream: Stream) -> None:
        """Show an answer as it comes."""

    def ended(self, answer: Answer) -> None:
        """Tell how a question ended."""

    def tell(self, text: str) -> None:
        """Tell something that no model said."""


class Session:
    """A conversation, and the commands that change it.

    Attributes:
        target: Whom it is with.
        failed: How many questions were not answered.
    """

    def __init__(
        self, client: Client, screen: Screen, *, target: str, how: Mapping[str, Any]
    ) -> None:
        """Begin.

        Args:
            client: Whose conversation it is.
            screen: Where it is shown.
            target: Whom it is with.
            how: What holds for each question, and ``system`` for a system message.
        """
        self.target = target
        self.failed = 0
        self._client = client
        self._screen = screen
        self._how = {name: value for name, value in how.items() if name != "system"}
        self._talk = client.conversation(target=target, **how)
        self._question: str | None = None
        self._asked = 0
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/model": self._model,
            "/system": self._system,
            "/retry": self._retry,
            "/clear": self._clear,
            "/save": self._save,
        }

    def obey(self, said: str) -> bool:
        """Do what was said: ask it, or obey a command; return False to leave."""
        said = said.strip()
        word, _, rest = said.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        if not said:
            return True
        if not word.startswith("/") or "/" in word[1:]:  # a path is no command
            self._ask(said)
        elif word in self._commands:
            self._commands[word](rest.strip())
        else:
            self._screen.tell(f"there is no command {word}; /help lists those there are")
        return True

    def _ask(self, question: str) -> None:
        """Ask a question, show the answer, and tell how it ended."""
        self._question = question
        number, self._asked = self._asked, self._asked + 1
        reply: Reply | None = None
        problem: Exception | None = None
        try:
            with self._talk.stream(question) as stream:
                self._screen.show(stream)
            reply = stream.reply
        except (ChatError, TypeError, ValueError) as error:
            problem = error
            self.failed += 1
        self._screen.ended(Answer(self.target, number, question, reply, problem))

    def _help(self, rest: str) -> None:
        width = max(map(len, HELP))
        lines = [f"{name:{width}}  {about}" for name, about in HELP.items()]
        lines.append('A line that ends in \\ goes on, and so does text between """ and """.')
        self._screen.tell("\n".join(lines))

    def _model(self, name: str) -> None:
        if not name:
            self._screen.tell(f"{self.target}; `chatsdk models` lists what there is")
            return
        known = name.partition(":")[0] in providers.names()
        target = name if known else f"{provider_name(self.target)}:{name}"
        moved = provider_name(target) != provider_name(self.target)
        try:
            changes = {"providers": stored([target])} if moved else {}
            client = self._client.with_options(target=target, **changes)
            talk = client.conversation(**self._how)
        except (ChatError, ValueError) as error:
            self._screen.tell(str(error))
            return
        talk.messages = [_plain(one) if moved else one for one in self._talk.messages]
        self._client, self._talk, self.target = client, talk, target
        self._screen.tell(f"talking to {target}")

    def _system(self, text: str) -> None:
        messages = self._talk.messages
        first = messages[0] if messages and messages[0].role == "system" else None
        if not text:
            self._screen.tell(first.text if first else "no system message")
            return
        rest = messages[1:] if first else messages
        self._talk.messages = rest if text == "-" else [Message("system", text), *rest]
        self._screen.tell("system message removed" if text == "-" else "system message set")

    def _retry(self, rest: str) -> None:
        if self._question is None:
            self._screen.tell("nothing was asked yet")
            return
        before = list(self._talk.messages)
        kept = len(before) > 1 and before[-2] == Message("user", self._question)
        if kept:
            del self._talk.messages[-2:]
        at = len(self._talk.messages)
        try:
            self._ask(self._question)
        finally:
            if len(self._talk.messages) == at:  # no new answer: the old one stays
                self._talk.messages[:] = before

    def _clear(self, rest: str) -> None:
        self._talk.messages = [one for one in self._talk.messages if one.role == "system"]
        self._question = None
        self._screen.tell("forgotten")

    def _save(self, name: str) -> None:
        if not name:
            self._screen.tell("/save FILE says where to")
            return
        path = Path(name).expanduser()
        text = _written(self._talk.messages, path.suffix == ".json")
        try:
            with open(path, "w" if path in self._saved else "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            self._screen.tell(f"{path} exists already; choose another name")
        except OSError as error:
            self._screen.tell(f"not saved: {error}")
        else:
            self._saved.add(path)
            self._screen.tell(f"saved in {path}")


def _plain(message: Message) -> Message:
    """Return a message for another service, without what this one wants back."""
    return evolve(message, state=None)


def _written(messages: list[Message], as_json: bool) -> str:
    """Return a conversation as a file holds it; JSON can be given to `Client.chat` again."""
    if as_json:
        said = [{"role": one.role, "content": one.text} for one in messages]
        return json.dumps(said, ensure_ascii=False, indent=2) + "\n"
    return "\n".join(f"## {one.role}\n\n{one.text.strip()}\n" for one in messages)
