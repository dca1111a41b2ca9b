"""Tokens: how their expiry is believed, and one renewal for all who need one."""

from __future__ import annotations

import gc
import logging
import math
import pickle
import signal
import subprocess
import sys
import threading
import weakref

from hypothesis import given
from hypothesis import strategies as st
import pytest

from chatsdk.tokens import DEFAULT_LIFE, MAX_LIFE, MemoryTokenStore, Token, TokenError

NOW = 1_700_000_000.0
SECRET = "s3cret-t0ken"
THREADS = 64


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


class Issuer:
    """Counts its calls; gives one outcome after the other, the last one for ever."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Gate:
    """An issuer that has been asked, and answers when it is let."""

    def __init__(self, issuer):
        self.issuer = issuer
        self.asked = threading.Event()
        self.answer = threading.Event()

    def __call__(self):
        self.asked.set()
        assert self.answer.wait(20)
        return self.issuer()


class Failure(Exception):
    """What an issuer raises; copies like the SDK's errors do."""

    def __init__(self, message="down", *, status=503):
        super().__init__(message)
        self.status = status


def outcome_of(work):
    try:
        return work()
    except BaseException as error:
        return error


def start(work):
    """Run it in a thread; `.outcome` is what it returned or raised."""

    def run():
        thread.outcome = outcome_of(work)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def join(*threads):
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return [thread.outcome for thread in threads]


def together(work, count=THREADS):
    """Run it in many threads that begin at once, and return what each returned or raised."""
    barrier = threading.Barrier(count)

    def run():
        barrier.wait()
        return work()

    return join(*[start(run) for _ in range(count)])


def until(true):
    """Wait for another thread to come as far as that."""
    for _ in range(20_000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came true")


def waiting(store, key="key"):
    return len(store.flight(key)._changed._waiters)


@pytest.fixture
def clock():
    return Clock(5_000.0)


@pytest.fixture
def wall():
    return Clock(NOW)


@pytest.fixture
def store(clock, wall):
    return MemoryTokenStore(clock=clock, wall=wall)


def token(value=SECRET, life=1800.0, margin=60.0):
    return Token(value, NOW + life, margin)


# A token and its expiry


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\n", "\ra", "a\0b", "a\x7f", "ключ", "a\u2028", None, 1, b"a", []]
)
def test_what_cannot_be_sent_in_a_header_is_no_token(value):
    with pytest.raises(ValueError, match="token") as caught:
        Token(value)
    assert "ключ" not in str(caught.value)


def test_a_refused_value_is_not_quoted():
    with pytest.raises(ValueError) as caught:
        Token(SECRET + "\n")
    assert SECRET not in str(caught.value)
    assert "position 12 (of 13)" in str(caught.value)


@pytest.mark.parametrize("expires_at", [math.nan, math.inf, True, "1", 10**400])
def test_a_token_ends_at_a_finite_number_or_none(expires_at):
    with pytest.raises(ValueError, match="expires_at"):
        Token("a", expires_at)


@pytest.mark.parametrize("margin", [math.nan, math.inf, -1, None, "1"])
def test_a_margin_is_a_finite_number_of_seconds(margin):
    with pytest.raises(ValueError, match="margin"):
        Token("a", None, margin)


@pytest.mark.parametrize(
    ("expiry", "life"),
    [
        (NOW + 1800, 1800),
        ((NOW + 1800) * 1000, 1800),
        (int(NOW + 1800), 1800),
        (str(int(NOW + 1800) * 1000), 1800),
        (f" {NOW + 1800} ", 1800),
        (1e11 - 1, MAX_LIFE),
        (1e11, 1e8 - NOW),
        (NOW - 5, -5),
        (0, -NOW),
        (1e300, MAX_LIFE),
        (NOW + MAX_LIFE - 1, MAX_LIFE - 1),
        (NOW + MAX_LIFE + 1, MAX_LIFE),
    ],
)
def test_an_expiry_is_in_s_or_in_ms_and_capped(expiry, life):
    made = Token.from_payload(SECRET, expiry, asked_at=NOW)

    assert made.expires_at == pytest.approx(NOW + life)


@pytest.mark.parametrize(
    "expiry",
    [None, True, False, math.nan, math.inf, -math.inf, 10**400, "", "soon", "nan", "1e999", [], {}],
)
def test_an_expiry_that_is_no_finite_number_is_not_known(expiry):
    assert Token.from_payload(SECRET, expiry, asked_at=NOW).expires_at is None


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.none())),
    st.one_of(st.none(), st.floats()),
)
def test_no_expiry_makes_a_token_that_lasts(expiry, server_date):
    made = Token.from_payload(SECRET, expiry, asked_at=NOW, server_date=server_date)

    assert made.expires_at is None or -math.inf < made.expires_at <= NOW + MAX_LIFE


@pytest.mark.parametrize("wrong", [-7200.0, 0.0, 7200.0])
def test_with_the_date_of_the_answer_a_wrong_local_clock_does_no_harm(wrong):
    made = Token.from_payload(
        SECRET, (NOW + 1800) * 1000, asked_at=NOW + wrong, server_date=NOW + 1
    )

    assert made.expires_at == NOW + wrong + 1799


@pytest.mark.parametrize("date", [None, math.nan, math.inf, True])
def test_a_date_that_is_none_is_not_used(date):
    made = Token.from_payload(SECRET, NOW + 1800, asked_at=NOW, server_date=date)

    assert made.expires_at == NOW + 1800


def test_a_payload_without_a_value_is_refused():
    with pytest.raises(ValueError, match="must be a str, not NoneType"):
        Token.from_payload(None, NOW, asked_at=NOW)


# Fresh, stale, expired


@pytest.mark.parametrize(
    ("made", "renewed_after", "gone_after"),
    [
        (token(life=1800), 1740, 1800),
        (token(life=1800, margin=0), 1800, 1800),
        (token(life=90), 45, 90),
        (token(life=5), 2.5, 5),
        (Token(SECRET), DEFAULT_LIFE - 60, DEFAULT_LIFE),
        (token(life=1e9), MAX_LIFE - 60, MAX_LIFE),
    ],
)
def test_a_token_is_renewed_from_its_margin_on_and_never_used_after_its_end(
    store, clock, made, renewed_after, gone_after
):
    issuer = Issuer(token("new"))
    store.put("key", made)
    began = clock.now

    clock.now = began + renewed_after - 1
    assert store.fetch("key", issuer).value == SECRET
    assert issuer.calls == 0
    clock.now = began + gone_after - 1
    assert store.get("key").value == SECRET
    clock.now = began + gone_after + 1
    assert store.get("key") is None
    clock.now = began + renewed_after + 1
    assert store.fetch("key", issuer).value == "new"
    assert issuer.calls == 1


def test_a_token_of_five_seconds_is_used_and_not_renewed_again_and_again(store, wall):
    issuer = Issuer(token(life=5))

    assert {store.fetch("key", issuer).value for _ in range(1000)} == {SECRET}
    assert issuer.calls == 1


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_jump_of_the_wall_clock_changes_nothing(store, clock, wall, jump):
    store.put("key", token(life=1800))

    wall.now += jump
    assert store.fetch("key", Issuer(Failure())).value == SECRET
    clock.now += 1801
    assert store.get("key") is None


def test_a_fresh_token_is_returned_while_another_thread_holds_the_lock(store):
    store.put("key", token())
    with store.flight("key")._lock:
        assert join(start(lambda: store.fetch("key", Issuer(Failure()))))[0].value == SECRET


def test_keys_do_not_share_tokens(store):
    store.put("one", token("a"))

    assert store.get("two") is None
    assert store.fetch("two", Issuer(token("b"))).value == "b"
    assert store.get("one").value == "a"


def test_while_one_thread_renews_a_stale_token_the_others_get_the_old_one_at_once(store, clock):
    store.put("key", token("old"))
    clock.now += 1741
    gate = Gate(Issuer(token("new")))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)

    others = together(lambda: store.fetch("key", Issuer(Failure()), timeout=0))

    assert {other.value for other in others} == {"old"}
    gate.answer.set()
    assert join(leader)[0].value == "new"
    assert store.get("key").value == "new"


def test_an_early_renewal_that_fails_is_logged_and_not_tried_again_for_ten_seconds(
    store, clock, caplog
):
    issuer = Issuer(Failure(f"no {SECRET}"), token("new"))
    store.put("key", token(SECRET))
    clock.now += 1741

    assert store.fetch("key", issuer).value == SECRET
    clock.now += 9
    assert store.fetch("key", issuer).value == SECRET
    assert issuer.calls == 1
    clock.now += 2
    assert store.fetch("key", issuer).value == "new"
    (record,) = caplog.records
    assert (record.levelname, SECRET in caplog.text, "Failure" in caplog.text) == (
        "WARNING",
        False,
        True,
    )


def test_after_a_failed_early_renewal_the_end_of_the_token_is_still_its_end(store, clock):
    issuer = Issuer(Failure(), token("new"))
    store.put("key", token(life=5))
    clock.now += 4

    assert store.fetch("key", issuer).value == SECRET
    clock.now += 2
    assert store.fetch("key", issuer).value == "new"


# One renewal


def test_however_many_threads_need_a_token_one_asks_for_it():
    store = MemoryTokenStore()
    for number in range(150):
        key = f"key {number}"
        issuer = Issuer(Token(f"token-{number}"))

        tokens = together(lambda: store.fetch(key, issuer), THREADS if number % 10 == 0 else 8)

        assert {found.value for found in tokens} == {f"token-{number}"}
        assert issuer.calls == 1


def test_threads_that_discard_and_fetch_at_once_cause_one_renewal_a_round():
    store = MemoryTokenStore()
    issued = []

    def renew():
        issued.append(None)
        return Token(f"token-{len(issued)}")

    def refused():
        store.discard("key", current)
        return store.fetch("key", renew)

    for number in range(1, 40):
        current = store.fetch("key", renew)
        together(refused, 16)
        assert len(issued) == number + 1


def test_the_error_of_one_call_goes_to_all_who_waited_each_in_its_own_copy(store):
    gate = Gate(Issuer(Failure("down", status=503)))
    threads = [start(lambda: store.fetch("key", gate)) for _ in range(THREADS)]
    until(lambda: waiting(store) == THREADS - 1)

    gate.answer.set()
    errors = join(*threads)

    assert gate.issuer.calls == 1
    assert {(type(error), str(error), error.status) for error in errors} == {(Failure, "down", 503)}
    assert len({id(error) for error in errors}) == THREADS
    assert len({id(error.__traceback__) for error in errors}) == THREADS
    originals = {id(error) for error in errors if error.__cause__ is None}
    assert len(originals) == 1
    assert {id(error.__cause__) for error in errors} - {id(None)} == originals


class Uncopied(Exception):
    """Cannot be copied: its arguments are not those of its __init__."""

    def __init__(self, one, two):
        super().__init__(one + two)


class Sealed(Exception):
    """Copies to another class."""

    def __reduce__(self):
        return Exception, ()


@pytest.mark.parametrize("error", [Uncopied("a", "b"), Sealed()])
def test_an_error_that_cannot_be_copied_is_raised_as_it_is(store, error):
    gate = Gate(Issuer(error))
    threads = [start(lambda: store.fetch("key", gate)) for _ in range(3)]
    until(lambda: waiting(store) == 2)

    gate.answer.set()

    assert all(found is error for found in join(*threads))


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_leaves_no_cycle_behind(store, count):
    """Else its answer, and the answer's connection, would wait for the collector."""
    gone = []
    answer = threading.Event()

    def fail():
        answer.wait(20)
        raise remembered(gone)

    def kind_of_failure():
        try:
            store.fetch("key", fail)
        except Failure as error:
            return type(error)

    gc.collect()
    gc.disable()
    try:
        threads = [start(kind_of_failure) for _ in range(count)]
        until(lambda: waiting(store) == count - 1)
        answer.set()
        assert join(*threads) == [Failure] * count
        assert [reference() for reference in gone] == [None]
    finally:
        gc.enable()


def remembered(gone):
    error = Failure()
    gone.append(weakref.ref(error))
    return error


def test_one_who_waits_gives_up_at_his_own_timeout_and_the_others_do_not(store):
    gate = Gate(Issuer(token()))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)
    patient = start(lambda: store.fetch("key", gate, timeout=20))
    hasty = [start(lambda: store.fetch("key", gate, timeout=0.01)) for _ in range(8)]

    assert {type(outcome) for outcome in join(*hasty)} == {TimeoutError}
    gate.answer.set()
    assert {found.value for found in join(leader, patient)} == {SECRET}
    assert gate.issuer.calls == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_when_the_leader_is_interrupted_one_of_those_who_wait_leads(store, stop):
    gate = Gate(Issuer(stop()))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)
    issuer = Issuer(token())
    others = [start(lambda: store.fetch("key", issuer)) for _ in range(8)]
    until(lambda: waiting(store) == 8)

    gate.answer.set()

    assert type(join(leader)[0]) is stop
    assert {found.value for found in join(*others)} == {SECRET}
    assert issuer.calls == 1


def test_an_interrupted_renewal_without_anyone_waiting_does_not_count_as_a_failure(store):
    with pytest.raises(KeyboardInterrupt):
        store.fetch("key", Issuer(KeyboardInterrupt()))

    assert store.fetch("key", Issuer(token()), timeout=0).value == SECRET


def test_ctrl_c_ends_a_wait_at_once(store):
    gate = Gate(Issuer(token()))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)
    main = threading.main_thread().ident

    def interrupt():
        until(lambda: waiting(store) == 1)
        signal.pthread_kill(main, signal.SIGINT)

    helper = start(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.fetch("key", gate)

    assert leader.is_alive()
    gate.answer.set()
    join(leader, helper)


def test_a_renewal_that_fetches_its_own_token_is_an_error_and_not_a_deadlock(store):
    issuer = Issuer(token())
    with pytest.raises(RuntimeError, match="must not fetch"):
        store.fetch("key", lambda: store.fetch("key", issuer))

    assert store.fetch("key", issuer).value == SECRET
    assert issuer.calls == 1


def test_within_an_early_renewal_the_old_token_is_still_to_be_had(store, clock):
    store.put("key", token("old"))
    clock.now += 1741
    found = []

    def renew():
        found.append(store.fetch("key", Issuer(Failure())).value)
        return token("new")

    assert store.fetch("key", renew).value == "new"
    assert found == ["old"]


def test_a_renewal_that_returns_no_token_is_an_error(store):
    with pytest.raises(TypeError, match="must return a Token, not NoneType"):
        store.fetch("key", Issuer(None))


def test_a_token_that_is_put_meanwhile_serves_those_who_wait(store):
    gate = Gate(Issuer(token("renewed")))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)
    other = start(lambda: store.fetch("key", gate))
    until(lambda: waiting(store) == 1)

    store.put("key", token("put"))

    assert join(other)[0].value == "put"
    gate.answer.set()
    assert join(leader)[0].value == "renewed"


# Past on arrival


def test_a_token_that_is_past_on_arrival_is_used_once_by_each_who_waited(store):
    gate = Gate(Issuer(token(life=-5)))
    threads = [start(lambda: store.fetch("key", gate)) for _ in range(16)]
    until(lambda: waiting(store) == 15)

    gate.answer.set()

    assert {found.value for found in join(*threads)} == {SECRET}
    assert gate.issuer.calls == 1
    assert store.get("key") is None
    assert store.fetch("key", gate).value == SECRET
    assert gate.issuer.calls == 2


def test_a_token_that_is_past_on_arrival_can_be_discarded(store):
    found = store.fetch("key", Issuer(token(life=-5)))
    store.discard("key", found)

    with pytest.raises(TokenError):
        store.fetch("key", Issuer(token(life=-5)))


# A failing issuer


def test_the_hold_after_a_failure_doubles_up_to_eight_seconds(store, clock):
    issuer = Issuer(Failure())
    for number, hold in enumerate([0.25, 0.5, 1, 2, 4, 8, 8, 8], 1):
        with pytest.raises(Failure):
            store.fetch("key", issuer, timeout=0)
        clock.now += hold - 0.01
        with pytest.raises(TimeoutError, match="Failure"):
            store.fetch("key", issuer, timeout=0)
        assert issuer.calls == number
        clock.now += 0.02


def test_after_a_success_the_hold_begins_anew(store, clock):
    issuer = Issuer(Failure(), Failure(), Failure(), token(life=10), Failure())
    for _ in range(3):
        with pytest.raises(Failure):
            store.fetch("key", issuer)
        clock.now += 2
    store.fetch("key", issuer)
    clock.now += 11

    with pytest.raises(Failure):
        store.fetch("key", issuer)
    clock.now += 0.26
    with pytest.raises(Failure):
        store.fetch("key", issuer, timeout=0)


@pytest.mark.parametrize("stopped", [False, True], ids=["real clock", "stopped clock"])
def test_one_who_tries_again_waits_for_the_end_of_the_hold_and_gets_his_own_call(clock, stopped):
    store = MemoryTokenStore(clock=clock) if stopped else MemoryTokenStore()
    issuer = Issuer(Failure(), Token(SECRET))
    with pytest.raises(Failure):
        store.fetch("key", issuer)

    assert store.fetch("key", issuer, timeout=20).value == SECRET
    assert issuer.calls == 2


def test_those_who_wait_for_the_end_of_a_hold_share_the_next_renewal():
    store = MemoryTokenStore()
    issuer = Issuer(Failure(), Failure(), Failure())
    with pytest.raises(Failure):
        store.fetch("key", issuer)

    errors = together(lambda: store.fetch("key", issuer), 32)

    assert {type(error) for error in errors} == {Failure}
    assert issuer.calls == 2


def test_a_dead_issuer_is_called_a_few_times_however_many_threads_knock():
    store = MemoryTokenStore()
    issuer = Issuer(Failure())
    over = threading.Event()
    timer = threading.Timer(1.0, over.set)

    def knock():
        while not over.is_set():
            outcome_of(lambda: store.fetch("key", issuer, timeout=0.05))

    timer.start()
    together(knock)

    timer.join()
    assert 2 <= issuer.calls <= 4  # after 0, 0.25, 0.75 s and, on a slow machine, 1.75 s


# A refused token


def test_discarding_the_current_token_makes_room_for_a_new_one(store):
    store.put("key", token("old"))

    store.discard("key", Token("old"))

    assert store.get("key") is None
    assert store.fetch("key", Issuer(token("new"))).value == "new"


def test_a_late_refusal_of_an_old_token_keeps_the_new_one(store):
    store.put("key", token("new"))

    store.discard("key", token("old"))
    store.discard("unknown", token("old"))

    assert store.fetch("key", Issuer(Failure())).value == "new"


def test_a_renewal_that_began_before_its_predecessor_was_refused_is_still_valid(store, clock):
    store.put("key", token("old"))
    clock.now += 1741
    gate = Gate(Issuer(token("new")))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)

    store.discard("key", token("old"))
    other = start(lambda: store.fetch("key", Issuer(Failure())))
    until(lambda: waiting(store) == 1)
    gate.answer.set()

    assert {found.value for found in join(leader, other)} == {"new"}
    assert store.get("key").value == "new"


def test_a_renewal_that_returns_the_refused_token_is_an_error_without_its_value(store):
    store.put("key", token(SECRET))
    store.discard("key", token(SECRET))

    with pytest.raises(TokenError) as caught:
        store.fetch("key", Issuer(token(SECRET)))
    assert SECRET not in repr(caught.value)
    assert store.get("key") is None


def test_a_token_refused_while_it_was_renewed_is_known_when_it_comes_back(store, clock):
    store.put("key", token("old"))
    clock.now += 1741
    gate = Gate(Issuer(token("old")))
    leader = start(lambda: store.fetch("key", gate))
    assert gate.asked.wait(20)

    store.discard("key", token("old"))
    gate.answer.set()

    assert type(join(leader)[0]) is TokenError


def test_a_refused_token_that_is_put_again_on_purpose_is_taken(store):
    store.put("key", token())
    store.discard("key", token())

    store.put("key", token())

    assert store.fetch("key", Issuer(Failure())).value == SECRET


# Secrets, pickles, forks


def test_no_value_is_in_a_repr_or_a_log(store, clock, caplog):
    caplog.set_level(logging.DEBUG)
    store.put("key", token())
    clock.now += 1741
    store.fetch("key", Issuer(Failure(SECRET)))
    shown = [token(), store, store.flight("key"), store.flight("key").entry, caplog.text]

    assert SECRET not in "".join(f"{thing!r}{thing!s}" for thing in shown)


def test_a_pickled_store_leaves_its_tokens_behind():
    store = MemoryTokenStore()
    store.put("key", Token(SECRET))

    pickled = pickle.dumps(store)

    assert SECRET.encode() not in pickled
    assert pickle.loads(pickled).get("key") is None
    assert store.get("key").value == SECRET


def run(script, *arguments, timeout=30):
    """Run a script in an interpreter of its own, for forks want one without other threads."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
import os, threading, warnings
from chatsdk.tokens import MemoryTokenStore, Token

warnings.simplefilter("ignore")  # of 3.12, about forks beside threads: it is what is tested
store = MemoryTokenStore()
store.put("kept", Token("kept"))
asked, answer, locked = threading.Event(), threading.Event(), threading.Event()

def renew():
    asked.set()
    answer.wait(20)
    return Token("parent")

def hold():
    with store.flight("locked")._lock:
        locked.set()
        answer.wait(20)

threads = [threading.Thread(target=store.fetch, args=("key", renew)), threading.Thread(target=hold)]
for thread in threads:
    thread.start()
asked.wait(20)
locked.wait(20)
child = os.fork()
if not child:
    good = (
        store.fetch("key", lambda: Token("child"), timeout=0).value == "child"
        and store.fetch("locked", lambda: Token("child"), timeout=0).value == "child"
        and store.get("kept").value == "kept"
    )
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
answer.set()
for thread in threads:
    thread.join()
print(os.waitstatus_to_exitcode(status), store.get("key").value)
"""


def test_a_child_forked_during_a_renewal_waits_for_no_thread_of_its_parent():
    assert run(FORK).split() == ["0", "parent"]


FORK_WITHIN = """
import os
from chatsdk.tokens import MemoryTokenStore, Token

store = MemoryTokenStore()

def renew():
    global child
    child = os.fork()
    return Token("parent" if child else "child")

value = store.fetch("key", renew).value
good = store.fetch("key", renew).value == value
if not child:
    os._exit(0 if good and value == "child" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), value)
"""


def test_a_renewal_that_forks_ends_in_both_processes():
    assert run(FORK_WITHIN).split() == ["0", "parent"]
