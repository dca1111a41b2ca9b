"""``chatsdk keys``: a keyring of the tests' own in place of the system's."""

from __future__ import annotations

from getpass import GetPassWarning
import io
import json
import sys
import warnings

from attrs import frozen
import keyring
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, NoKeyringError, PasswordDeleteError
import pytest
from servers import said
from terminals import Person

from chatsdk import Client, ConfigurationError, MissingCredentialsError
from chatsdk.cli import keychain, main
from chatsdk.providers.gigachat import GigaChat

KEY = "s3cret-Key"
ENTRY = "chatsdk", "GIGACHAT_CREDENTIALS"


class Memory(KeyringBackend):
    """A keyring that forgets when the test ends."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.kept = {}

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def get_password(self, service, username):
        return self.kept.get((service, username))

    def delete_password(self, service, username):
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


class PlaintextKeyring(Memory):
    """Called like that of keyrings.alt, which is a readable file."""


class Chain(Memory):
    """Like that of keyring itself: the first of several does the work."""

    backends = (PlaintextKeyring(), Memory())


class Locked(Memory):
    def get_password(self, service, username):
        raise KeyringLocked("locked")

    def set_password(self, service, username, password):
        raise KeyringLocked("locked")


class Missing(Memory):
    def get_password(self, service, username):
        raise NoKeyringError("no backend")

    def set_password(self, service, username, password):
        raise NoKeyringError("no backend")


@pytest.fixture
def use():
    before = keyring.get_keyring()

    def use(backend):
        keyring.set_keyring(backend)
        return backend

    yield use
    keyring.set_keyring(before)


@pytest.fixture
def memory(use):
    return use(Memory())


@pytest.fixture
def type_in(monkeypatch):
    def type_in(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return type_in


def test_a_key_is_kept_and_not_shown(memory, type_in, capsys):
    type_in(f"{KEY}\n")

    assert main(["keys", "set", "gigachat"]) == 0

    assert memory.kept == {ENTRY: KEY}
    assert KEY not in "".join(capsys.readouterr())


def test_as_json_it_says_what_became_of_a_key(memory, type_in, monkeypatch, capsys):
    monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "other")
    type_in(f"{KEY}\n")

    assert main(["keys", "set", "gigachat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "gigachat", "kept": True, "hidden_by": "GIGACHAT_ACCESS_TOKEN",
    }
    assert main(["keys", "delete", "gigachat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "gigachat", "kept": False}


def test_a_terminal_that_would_show_the_key_gets_none(memory, monkeypatch, capsys):
    class Telling(io.StringIO):
        def isatty(self):
            return True

    def shows(prompt):
        warnings.warn("cannot control echo", GetPassWarning, stacklevel=1)

    monkeypatch.setattr("sys.stdin", Telling(KEY))
    monkeypatch.setattr("chatsdk.cli.keys.getpass", shows)

    assert main(["keys", "set", "gigachat"]) == 2
    assert "through a pipe" in capsys.readouterr().err
    assert memory.kept == {}


def test_commands_use_a_kept_key_and_programs_do_not(memory, serve, monkeypatch, capsys):
    memory.kept[ENTRY] = KEY
    server = serve(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("GIGACHAT_AUTH_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "*")

    assert main(["ask", "gigachat", "Hi", "--base-url", server.url]) == 1

    assert server.requests[0].headers["Authorization"] == f"Basic {KEY}"
    assert KEY not in "".join(capsys.readouterr())
    with pytest.raises(MissingCredentialsError):
        Client("gigachat")


def test_services_with_one_variable_share_a_key(memory, type_in, capsys):
    type_in(KEY)

    assert main(["keys", "set", "openai"]) == 0

    assert memory.kept == {("chatsdk", "OPENAI_API_KEY"): KEY}
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    rows = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert rows["openai"] == rows["openai-responses"] == "keyring"


def test_a_kept_key_goes_to_an_address_that_only_the_command_line_has(memory, serve, monkeypatch):
    memory.kept["chatsdk", "AZURE_OPENAI_API_KEY"] = KEY
    server = serve(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("NO_PROXY", "*")

    assert main(["ask", "azure-openai:model", "Hi", "--base-url", server.url]) == 1

    assert KEY in str(server.requests[0].headers)


def test_the_environment_comes_before_the_keyring(memory, serve, monkeypatch):
    memory.kept[ENTRY] = KEY
    server = serve(said("Hi"))
    monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "of-the-environment")
    monkeypatch.setenv("NO_PROXY", "*")

    assert main(["ask", "gigachat", "Hi", "--base-url", server.url]) == 0

    assert server.requests[0].headers["Authorization"] == "Bearer of-the-environment"


def test_it_is_told_when_a_variable_hides_a_kept_key(memory, type_in, monkeypatch, capsys):
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "other")
    type_in(KEY)

    assert main(["keys", "set", "gigachat"]) == 0

    assert "GIGACHAT_CREDENTIALS is set too" in capsys.readouterr().out


def test_the_list_says_where_keys_are_and_shows_none(memory, monkeypatch, capsys):
    def found():
        main(["keys", "list", "--json"])
        out = capsys.readouterr().out
        assert KEY not in out
        return {one["name"]: one["found"] for one in json.loads(out)}["gigachat"]

    assert found() == "missing"
    memory.kept[ENTRY] = KEY
    assert found() == "keyring"
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", KEY)
    assert found() == "GIGACHAT_CREDENTIALS"


def test_the_table_of_services_says_the_same(memory, capsys):
    memory.kept[ENTRY] = KEY

    assert main(["providers"]) == 0

    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "  keyring  " in rows["gigachat"] and "none needed" in rows["h2o"]


@frozen(kw_only=True)
class Odd(GigaChat):
    name = "odd"

    def __attrs_post_init__(self):
        raise ConfigurationError("odd needs what nobody has")


def test_a_service_that_wants_more_than_a_key_is_not_said_to_miss_one(memory):
    assert keychain.key_of(GigaChat) == "missing"
    assert keychain.key_of(Odd) == "optional"


def test_a_key_can_be_deleted_once(memory, capsys):
    memory.kept[ENTRY] = KEY

    assert main(["keys", "delete", "gigachat"]) == 0
    assert memory.kept == {}
    assert main(["keys", "delete", "gigachat"]) == 1
    assert "has no key for gigachat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("gigachatt", KEY, "did you mean 'gigachat'"),
        ("h2o", KEY, "h2o needs no key"),
        ("gigachat", "", "api_key is empty"),
        ("gigachat", "two words", "a character at position 3"),
    ],
)
def test_what_can_be_no_key_is_a_mistake(memory, type_in, capsys, name, typed, words):
    type_in(typed)

    assert main(["keys", "set", name]) == 2

    assert words in capsys.readouterr().err
    assert memory.kept == {}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (PlaintextKeyring, "no key goes there"),
        (Chain, "no key goes there"),
        (Locked, "the keyring refused: KeyringLocked: locked"),
        (Missing, "set the key in the environment instead"),
    ],
)
def test_a_keyring_that_will_not_do_is_told(use, type_in, capsys, kind, words):
    backend = use(kind())
    type_in(KEY)

    assert main(["keys", "set", "gigachat"]) == 1

    err = capsys.readouterr().err
    assert words in err and KEY not in err
    assert backend.kept == {}


def test_other_commands_do_without_a_keyring_that_will_not_do(use, capsys):
    use(Locked())

    assert main(["keys", "list"]) == 0
    assert "missing" in capsys.readouterr().out


def test_without_the_extra_it_is_told_how_to_get_it(type_in, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "keyring", None)
    type_in(KEY)

    assert main(["keys", "list"]) == 0
    assert main(["keys", "set", "gigachat"]) == 1
    assert "pip install 'chatsdk[keyring]'" in capsys.readouterr().err


def test_on_a_terminal_the_key_is_not_echoed():
    person = Person(
        "keys", "set", "gigachat", PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring"
    )

    person.sees("Key of GigaChat (it is not shown): ")
    person.types(KEY)

    assert person.leaves() == 0
    assert KEY not in person.screen
