"""Tokens in a file: private, whole whenever it is read, and shared by many processes."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
from pathlib import Path
import pickle
import signal
import stat
import subprocess
import sys

import pytest
from test_tokens import Clock, Failure, Gate, Issuer, join, NOW, run, SECRET, start, token, until

from chatsdk import token_file
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import MAX_LIFE, Token, TokenError


@pytest.fixture
def clock():
    return Clock(5_000.0)


@pytest.fixture
def wall():
    return Clock(NOW)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


@pytest.fixture
def another(path, clock, wall):
    """Make a store on the same file that knows nothing yet, as another process has it."""

    def make(**options):
        return FileTokenStore(path, clock=clock, wall=wall, **options)

    return make


@pytest.fixture
def store(another):
    return another()


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def content(**changes):
    """What the file says of one token, with some of it changed."""
    entry = {"value": SECRET, "expires_at": NOW + 1800, "issued_at": NOW, "margin": 60.0}
    return json.dumps({"version": 1, "tokens": {"key": {**entry, **changes}}})


def written(path, text):
    path.write_text(text)
    path.chmod(0o600)


class Locked:
    """Holds the lock as another process would."""

    def __init__(self, path):
        self.path = f"{path}.lock"

    def __enter__(self):
        self.file = open(self.path, "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


# One file for all


def test_a_token_outlives_its_store(store, another):
    assert store.fetch("key", Issuer(token())).value == SECRET

    assert another().get("key") == token()
    assert another().fetch("key", Issuer(Failure())).value == SECRET
    assert another().get("other") is None


def test_a_token_that_is_put_is_in_the_file(store, another):
    store.put("key", Token(SECRET, NOW + 1800, margin=7.0))

    assert another().get("key") == Token(SECRET, NOW + 1800, margin=7.0)


def test_tokens_of_other_keys_stay_in_the_file(store, another):
    store.put("one", token("a"))
    another().put("two", token("b"))
    store.discard("two", token("b"))
    another().put("three", token("c"))

    assert [another().get(key) for key in ("one", "two", "three")] == [
        token("a"),
        None,
        token("c"),
    ]


@pytest.mark.parametrize(
    ("made", "due", "gone"),
    [(token(life=1800), 1740, 1800), (token(life=5), 2.5, 5), (Token(SECRET), 240, 300)],
)
def test_the_life_of_a_token_began_when_it_was_issued_not_when_it_was_read(
    store, another, clock, wall, made, due, gone
):
    store.put("key", made)
    issuer = Issuer(token("new"))

    wall.now = NOW + due - 1
    assert another().fetch("key", issuer).value == SECRET
    wall.now = NOW + gone - 1
    assert another().get("key").value == SECRET
    wall.now = NOW + gone + 1
    assert another().get("key") is None
    wall.now = NOW + due + 1
    assert another().fetch("key", issuer).value == "new"
    assert issuer.calls == 1


def test_a_token_that_another_process_renewed_is_taken_and_not_renewed_again(
    store, another, clock, wall
):
    store.put("key", token("old"))
    clock.now, wall.now = clock.now + 1801, NOW + 1801
    another().put("key", token("new", life=3600))

    assert store.fetch("key", Issuer(Failure())).value == "new"


def test_a_stale_token_in_the_file_is_used_when_its_early_renewal_fails(
    store, another, clock, wall, caplog
):
    store.put("key", token())
    wall.now += 1741

    assert another().fetch("key", Issuer(Failure())).value == SECRET
    assert "early renewal" in caplog.text


def test_expired_tokens_are_dropped_when_the_file_is_written(store, path, wall):
    store.put("short", token("a", life=5))
    store.put("unknown", Token("b"))
    wall.now += 301
    store.put("long", token("c"))

    assert list(json.loads(path.read_text())["tokens"]) == ["long"]


def test_a_token_that_is_past_on_arrival_is_used_once_and_not_kept(store, another, path):
    issuer = Issuer(token(life=-5))

    assert store.fetch("key", issuer).value == SECRET
    assert another().get("key") is None
    assert store.fetch("key", issuer).value == SECRET
    assert issuer.calls == 2


def test_a_store_on_a_relative_path_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FileTokenStore("tokens.json")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    store.put("key", Token(SECRET))

    assert store.path == tmp_path / "tokens.json"
    assert store.path.exists()


def test_a_path_may_begin_at_home():
    assert FileTokenStore("~/tokens.json").path == Path(os.environ["HOME"], "tokens.json")


@pytest.mark.parametrize("path", ["", "/", "a\0b"])
def test_a_path_that_names_no_file_is_refused(path):
    with pytest.raises(ValueError, match="path of a token store"):
        FileTokenStore(path)


# A refused token


def test_a_discarded_token_is_gone_from_the_file(store, another):
    store.put("key", token())

    another().discard("key", token())

    assert another().get("key") is None


def test_a_late_refusal_of_an_old_token_keeps_the_new_one_in_the_file(store, another):
    store.put("key", token("new"))

    another().discard("key", token("old"))
    another().discard("unknown", token("old"))

    assert another().get("key").value == "new"


def test_a_token_refused_here_is_not_taken_from_the_file_again(store, path, another, monkeypatch):
    monkeypatch.setattr(token_file, "DISCARD_WAIT", 0.01)
    store.put("key", token("old"))
    with Locked(path):
        store.discard("key", token("old"))

    assert another().get("key").value == "old"
    assert store.get("key") is None
    assert store.fetch("key", Issuer(token("new"))).value == "new"
    assert another().get("key").value == "new"


def test_after_a_refusal_the_token_that_another_process_got_meanwhile_is_taken(store, another):
    store.put("key", token("old"))
    another().put("key", token("new", life=3600))

    store.discard("key", token("old"))

    assert store.fetch("key", Issuer(Failure())).value == "new"


def test_an_issuer_that_returns_the_refused_token_is_an_error_and_it_is_not_written(
    store, another
):
    store.put("key", token())
    store.discard("key", token())

    with pytest.raises(TokenError):
        store.fetch("key", Issuer(token()))
    assert another().get("key") is None


# The two clocks


def test_a_token_whose_end_was_seen_is_not_taken_again_when_the_wall_clock_is_set_back(
    store, clock, wall
):
    store.put("key", token("old"))
    clock.now += 1801
    wall.now -= 5000

    assert store.fetch("key", Issuer(token("new"))).value == "new"


@pytest.mark.parametrize(
    ("changes", "life"),
    [
        ({"expires_at": NOW + 1e9, "issued_at": NOW}, MAX_LIFE),
        ({"expires_at": 1e300}, MAX_LIFE),
        ({"expires_at": NOW + 91800, "issued_at": NOW + 90000}, 1800),
        ({"expires_at": None, "issued_at": NOW + 90000}, 300),
    ],
)
def test_a_life_from_the_file_is_never_longer_than_it_can_have_been(
    store, path, clock, changes, life
):
    written(path, content(**changes))

    assert store.get("key").value == SECRET
    clock.now += life - 1
    assert store.get("key") is not None
    path.unlink()
    clock.now += 2
    assert store.get("key") is None


# What is no file of ours

DAMAGED = {
    "empty": "",
    "text": "hello",
    "bare token": SECRET,
    "bare string": json.dumps(SECRET),
    "list": "[]",
    "null": "null",
    "no version": '{"tokens": {}}',
    "no tokens": '{"version": 1}',
    "tokens a list": '{"version": 1, "tokens": []}',
    "newer": content().replace('"version": 1', '"version": 2'),
    "older": content().replace('"version": 1', '"version": 0'),
    "version a string": content().replace('"version": 1', '"version": "1"'),
    "version true": content().replace('"version": 1', '"version": true'),
    "version a float": content().replace('"version": 1', '"version": 1.0'),
    "entry a string": json.dumps({"version": 1, "tokens": {"key": SECRET}}),
    "entry a list": json.dumps({"version": 1, "tokens": {"key": [SECRET]}}),
    "entry empty": json.dumps({"version": 1, "tokens": {"key": {}}}),
    "value empty": content(value=""),
    "value null": content(value=None),
    "value a number": content(value=1),
    "value in two lines": content(value="a\r\nb"),
    "expiry a string": content(expires_at="soon"),
    "expiry a numeric string": content(expires_at=str(NOW + 1800)),
    "expiry true": content(expires_at=True),
    "expiry NaN": content(expires_at=math.nan),
    "expiry infinite": content(expires_at=math.inf),
    "expiry 1e999": content(expires_at=-1).replace("-1", "1e999"),
    "expiry of 400 digits": content(expires_at=10**400),
    "expiry of 5000 digits": content(expires_at=-1).replace("-1", "9" * 5000),
    "expiry past": content(expires_at=NOW - 1),
    "issued null": content(issued_at=None),
    "issued a string": content(issued_at=str(NOW)),
    "issued NaN": content(issued_at=math.nan),
    "margin null": content(margin=None),
    "margin negative": content(margin=-1),
    "deep": "[" * 100_000,
    "deep and whole": "[" * 100_000 + "]" * 100_000,
    "a byte order mark": "\ufeff" + content(),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_what_makes_no_sense_is_a_miss_and_is_replaced(store, another, path, text):
    written(path, text)
    issuer = Issuer(token("new"))

    assert store.get("key") is None
    assert store.fetch("key", issuer).value == "new"
    assert issuer.calls == 1
    assert another().get("key").value == "new"


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\0" * 100, content().encode("utf-16")])
def test_bytes_that_are_no_text_are_a_miss(store, path, raw):
    path.write_bytes(raw)
    path.chmod(0o600)

    assert store.get("key") is None


def test_a_file_cut_at_any_byte_is_a_miss(another, path):
    whole = content()
    for cut in range(len(whole)):
        written(path, whole[:cut])
        assert another().get("key") is None
    written(path, whole)
    assert another().get("key").value == SECRET


def test_one_entry_that_makes_no_sense_does_not_hide_the_others(store, path):
    body = json.loads(content())
    body["tokens"]["bad"] = {"value": 1}
    written(path, json.dumps(body))

    assert store.get("key").value == SECRET
    assert store.get("bad") is None


def test_a_file_that_is_too_large_to_be_ours_is_a_miss(store, path, monkeypatch):
    monkeypatch.setattr(token_file, "LARGEST", 100)
    written(path, content())

    assert store.get("key") is None


# Private


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_and_directory_are_made_for_their_owner_alone(tmp_path, umask):
    store = FileTokenStore(tmp_path / "new" / "er" / "tokens.json")
    before = os.umask(umask)
    try:
        store.put("key", Token(SECRET))
    finally:
        os.umask(before)

    assert mode(store.path.parent) == 0o700
    assert {name: mode(store.path.parent / name) for name in os.listdir(store.path.parent)} == {
        "tokens.json": 0o600,
        "tokens.json.lock": 0o600,
    }


@pytest.mark.parametrize("others", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_made_private_before_it_is_used(
    store, path, others, caplog
):
    written(path, content())
    path.chmod(others)

    assert store.get("key").value == SECRET
    assert mode(path) == 0o600
    assert "others could read" in caplog.text


@pytest.mark.parametrize("others", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_believed_and_replaced(store, path, others):
    written(path, content())
    path.chmod(others)

    assert store.get("key") is None
    assert store.fetch("key", Issuer(token("new"))).value == "new"
    assert mode(path) == 0o600


def test_a_file_of_another_user_is_neither_read_nor_written(store, path, monkeypatch, caplog):
    written(path, content())
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)

    assert store.fetch("key", Issuer(token("new"))).value == "new"

    assert path.read_text() == content()
    assert "kept in memory" in caplog.text


def test_a_symbolic_link_is_neither_followed_nor_replaced(store, path, tmp_path, caplog):
    target = tmp_path / "target.json"
    written(target, content())
    path.symlink_to(target)

    assert store.get("key") is None
    assert store.fetch("key", Issuer(token("new"))).value == "new"
    assert store.get("key").value == "new"

    assert path.is_symlink()
    assert target.read_text() == content()
    assert "not a regular file of this user" in caplog.text


def test_a_lock_that_is_a_symbolic_link_is_not_followed(store, path, tmp_path, caplog):
    (tmp_path / "tokens.json.lock").symlink_to(tmp_path / "made")

    assert store.fetch("key", Issuer(token())).value == SECRET

    assert not (tmp_path / "made").exists()
    assert not path.exists()
    assert "kept in memory" in caplog.text


@pytest.mark.parametrize("name", ["tokens.json", "tokens.json.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_blocks_nothing_and_stays(store, tmp_path, name, make):
    make(tmp_path / name)
    before = os.lstat(tmp_path / name)

    assert store.fetch("key", Issuer(token()), timeout=5).value == SECRET
    assert os.path.samestat(before, os.lstat(tmp_path / name))


def test_no_secret_is_in_a_file_name_a_repr_or_a_log(store, another, path, clock, caplog):
    caplog.set_level(logging.DEBUG)
    store.fetch("the-key", Issuer(token()))
    path.chmod(0o644)
    another().get("the-key")
    with Locked(path):
        another(lock_wait=0.01).put("the-key", token())
    clock.now += 1741
    store.fetch("the-key", Issuer(Failure(SECRET)))
    names = " ".join(os.listdir(path.parent))

    shown = f"{names} {store!r} {store} {vars(token_file)} {caplog.text}"
    assert SECRET not in shown
    assert "the-key" not in shown


def test_a_pickled_store_is_its_path(path):
    store = FileTokenStore(path, lock_wait=7.0)
    store.put("key", Token(SECRET))

    pickled = pickle.dumps(store)

    assert SECRET.encode() not in pickled
    again = pickle.loads(pickled)
    assert (again.path, again.lock_wait) == (path, 7.0)
    assert again.get("key").value == SECRET


# When the disk does not want to


def test_without_a_directory_to_write_in_tokens_are_kept_in_memory_and_it_is_said_once(
    tmp_path, caplog
):
    (tmp_path / "file").write_text("")
    store = FileTokenStore(tmp_path / "file" / "tokens.json")
    issuer = Issuer(Token(SECRET))

    store.put("one", Token("a"))
    assert {store.fetch("key", issuer).value for _ in range(9)} == {SECRET}

    assert issuer.calls == 1
    assert store.get("one").value == "a"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_on_a_full_disk_the_old_file_stays_and_the_token_is_kept_in_memory(
    store, path, call, monkeypatch, caplog
):
    store.put("old", token("old"))
    before = path.read_bytes()
    original = getattr(os, call)

    def full(*arguments, **options):
        if call == "open" and not str(arguments[0]).endswith(".tmp"):
            return original(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    assert store.fetch("key", Issuer(token())).value == SECRET
    assert store.fetch("key", Issuer(Failure())).value == SECRET

    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["tokens.json", "tokens.json.lock"]
    assert caplog.text.count("No space left on device") == 1


def test_a_directory_that_cannot_be_synced_is_no_reason_to_worry(
    store, another, monkeypatch, caplog
):
    original = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        original(file)

    monkeypatch.setattr(os, "fsync", fsync)
    store.put("key", token())

    assert another().get("key") == token()
    assert not caplog.records


def test_without_flock_tokens_are_kept_in_memory_and_it_is_said(path, monkeypatch, caplog):
    monkeypatch.setattr(token_file, "fcntl", None)
    written(path, content())
    store = FileTokenStore(path)

    assert store.get("key") is None
    assert store.fetch("key", Issuer(Token("a"))).value == "a"
    store.discard("key", Token("a"))
    store.put("key", Token("b"))

    assert store.get("key").value == "b"
    assert path.read_text() == content()
    assert "no flock" in caplog.text


def test_the_module_can_be_imported_without_fcntl():
    run(
        "import sys; sys.modules['fcntl'] = None\n"
        "from chatsdk.token_file import FileTokenStore\n"
        "from chatsdk.tokens import Token\n"
        "store = FileTokenStore('tokens.json')\n"
        "assert store.fetch('key', lambda: Token('a')).value == 'a'\n"
    )


# The lock


def test_a_lock_that_is_held_for_too_long_is_left_alone_and_tokens_are_kept_in_memory(
    another, path, caplog
):
    store = another(lock_wait=0.05)
    with Locked(path):
        assert store.fetch("key", Issuer(token())).value == SECRET

    assert not path.exists()
    assert store.fetch("key", Issuer(Failure())).value == SECRET
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_one_who_waits_for_another_process_gives_up_at_his_own_timeout(store, path):
    issuer = Issuer(token())
    with Locked(path):
        with pytest.raises(TimeoutError, match="another process"):
            store.fetch("key", issuer, timeout=0.05)
    assert issuer.calls == 0
    assert store.fetch("key", issuer, timeout=0).value == SECRET


def test_when_the_leader_gives_up_the_others_wait_on(store, path):
    issuer = Issuer(token())
    with Locked(path):
        hasty = start(lambda: store.fetch("key", issuer, timeout=0.1))
        until(lambda: store._memory.flight("key")._round)
        patient = [start(lambda: store.fetch("key", issuer, timeout=20)) for _ in range(3)]
        assert type(join(hasty)[0]) is TimeoutError
    assert {found.value for found in join(*patient)} == {SECRET}
    assert issuer.calls == 1


def test_while_another_process_renews_a_stale_token_the_old_one_is_returned_at_once(
    store, path, clock, wall, caplog
):
    store.put("key", token("old"))
    clock.now, wall.now = clock.now + 1741, NOW + 1741
    with Locked(path):
        assert store.fetch("key", Issuer(Failure())).value == "old"

    assert not caplog.records
    assert store.fetch("key", Issuer(token("new"))).value == "new"


def test_errors_of_the_issuer_pass_whatever_their_class(store, path):
    for error in (OSError("x"), BlockingIOError("x"), TimeoutError("x"), StopIteration("x")):
        with pytest.raises(type(error), match="^x$"):
            store.fetch(f"{error!r}", Issuer(error))
    assert not token_file._held


def test_an_interrupted_renewal_leaves_no_lock_behind(store, path):
    with pytest.raises(KeyboardInterrupt):
        store.fetch("key", Issuer(KeyboardInterrupt()))

    assert not token_file._held
    with Locked(path):  # it can be had
        pass


def test_threads_of_one_process_share_a_renewal(store):
    gate = Gate(Issuer(token()))
    threads = [start(lambda: store.fetch("key", gate)) for _ in range(64)]
    assert gate.asked.wait(20)
    gate.answer.set()

    assert {found.value for found in join(*threads)} == {SECRET}
    assert gate.issuer.calls == 1


# Many processes


class Child:
    """A Python process that is spoken to a line at a time."""

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, line=""):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()


RACE = """
import os, sys, threading
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import Token

path, calls, me = sys.argv[1:]

def renew():
    file = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{key}\\n".encode())
    os.close(file)
    threading.Event().wait(0.15)
    return Token(f"{me}-{key}")

store = FileTokenStore(path)
print("ready")
for line in sys.stdin:
    key = line.strip()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.fetch(key, renew, timeout=20).value))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*sorted(set(found)))
"""


def test_eight_processes_and_a_slow_issuer_make_one_call_a_round(tmp_path):
    calls = tmp_path / "calls"
    children = [Child(RACE, tmp_path / "tokens.json", calls, number) for number in range(8)]
    try:
        assert {child.hear() for child in children} == {"ready"}
        for number in range(8):
            for child in children:
                child.tell(f"key{number}")
            (value,) = {child.hear() for child in children}
            assert value.endswith(f"-key{number}")
    finally:
        for child in children:
            child.__exit__()

    assert calls.read_text().split() == [f"key{number}" for number in range(8)]


HOLDER = """
import sys
from chatsdk.token_file import FileTokenStore

def renew():
    print("asked")
    sys.stdin.readline()

FileTokenStore(sys.argv[1]).fetch("key", renew)
"""


def test_the_lock_of_a_killed_process_is_free_for_those_who_wait(path):
    store = FileTokenStore(path)
    issuer = Issuer(Token(SECRET))
    with Child(HOLDER, path) as child:
        assert child.hear() == "asked"
        waiting = start(lambda: store.fetch("key", issuer, timeout=20))
        until(lambda: store._memory.flight("key")._round)
        assert issuer.calls == 0

        os.kill(child.process.pid, signal.SIGKILL)

        assert join(waiting)[0].value == SECRET
    assert issuer.calls == 1
    assert FileTokenStore(path).get("key").value == SECRET


KILLED = """
import os, signal, sys
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import Token

setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
FileTokenStore(sys.argv[1]).put("new", Token("half-written"))
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_killed_before_it_is_done_leaves_the_old_file_and_the_next_one_tidies_up(
    path, call
):
    store = FileTokenStore(path)
    store.put("key", Token(SECRET))
    before = path.read_bytes()

    killed = subprocess.run([sys.executable, "-c", KILLED, path, call], timeout=30)

    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(os.listdir(path.parent)) == 3
    mine = path.with_name("tokens.json.mine.tmp")
    mine.write_text("")
    store.put("other", Token("a"))
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.lock", mine.name]
    assert FileTokenStore(path).get("key").value == SECRET


WRITER = """
import itertools, sys
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import Token

store = FileTokenStore(sys.argv[1])
for number in itertools.count():
    store.put("key", Token("x" * (number % 5000 + 1)))
    if not number:
        print("begun")
"""


def test_a_reader_never_sees_half_a_file_also_when_the_writer_is_killed(path):
    for _ in range(4):
        with Child(WRITER, path) as child:
            assert child.hear() == "begun"
            for _ in range(100):
                assert set(json.loads(path.read_bytes())["tokens"]) == {"key"}
                assert set(FileTokenStore(path).get("key").value) == {"x"}
        assert set(FileTokenStore(path).get("key").value) == {"x"}


FORK = """
import os, sys, threading, warnings
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import Token

warnings.simplefilter("ignore")  # of 3.12, about forks beside threads: it is what is tested
store = FileTokenStore(sys.argv[1])
asked = threading.Event()

def renew():
    asked.set()
    threading.Event().wait(30)

threading.Thread(target=store.fetch, args=("key", renew), daemon=True).start()
asked.wait(20)
if os.fork():
    print("asked")
    threading.Event().wait(30)
try:
    store.fetch("key", lambda: 1 / 0, timeout=0.1)
except TimeoutError:
    print("locked")
    print(store.fetch("key", lambda: Token("child"), timeout=20).value)
"""


def test_a_forked_child_keeps_out_of_its_parents_renewal_but_does_not_inherit_the_lock(path):
    with Child(FORK, path) as parent:
        assert {parent.hear(), parent.hear()} == {"asked", "locked"}

        os.kill(parent.process.pid, signal.SIGKILL)

        assert parent.hear() == "child"
    until(lambda: FileTokenStore(path).get("key"))


FORK_WITHIN = """
import os, sys
from chatsdk.token_file import FileTokenStore
from chatsdk.tokens import Token

store = FileTokenStore(sys.argv[1])

def renew():
    global child
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return Token("parent" if child else "child")

print(store.fetch("key", renew).value)
"""


def test_a_renewal_that_forks_ends_in_both_processes(path):
    assert run(FORK_WITHIN, str(path)).split() == ["child", "parent"]
    assert FileTokenStore(path).get("key").value == "parent"
