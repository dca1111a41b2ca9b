"""Each fault, to each service, by both ways of asking: the error, the text, and what is left."""

from __future__ import annotations

import copy
import logging
import pickle
import time
import traceback

from chatsdk import Client, Limits, MemoryTokenStore, RetryPolicy, Timeout
from chatsdk.errors import APIStatusError, APITimeoutError, ChatError
from faults import FAULTS, SOME
from hostile import COOKIE, DIALECTS, fields, FULL, KEY, PROMPT, serving, TOKEN
import pytest

SLACK = 1.5  # s: 0.5 that are allowed, and what a loaded machine takes
SECRETS = (KEY, COOKIE, PROMPT, TOKEN)
CLIENTS = []  # those of the running test
PATIENT = {"connect": 10, "first": 10, "read": 10, "total": 20}


@pytest.fixture(scope="module")
def servers():
    with serving() as server, serving() as other:
        yield server, other


@pytest.fixture
def server(servers):
    for one in servers:
        one.forget()
    yield servers[0]
    for client in CLIENTS:
        client.close()
    CLIENTS.clear()
    assert servers[0].deserted()


@pytest.fixture
def other(servers):
    return servers[1]


def client_of(server, name, *, timeout=None, limits=None, **options):
    client = Client(
        name,
        timeout=Timeout(**{**PATIENT, **(timeout or {})}),
        limits=Limits(**(limits or {})),
        max_retries=options.pop("max_retries", RetryPolicy(max_retries=2, initial=0)),
        token_store=MemoryTokenStore(),
        proxy="",
        **{**fields(name, server.url), **options},
    )
    CLIENTS.append(client)
    return client


def ask(client, mode, **params):
    """Return the text that was handed out and the error, of which one may be missing."""
    pieces = []
    try:
        if mode == "chat":
            return client.chat(PROMPT, **params).text, None
        for piece in client.stream(PROMPT, **params):
            pieces.append(piece)
        return "".join(pieces), None
    except BaseException as error:
        return "".join(pieces), error


CASES = [
    pytest.param(fault, name, mode, id=f"{fault.name}-{name}-{mode}")
    for fault in FAULTS
    for name in fault.only
    for mode in ("chat", "stream")
]


@pytest.mark.parametrize("fault, name, mode", CASES)
def test_a_fault_ends_as_the_table_says(server, other, caplog, fault, name, mode):
    caplog.set_level(logging.DEBUG)
    server.answers["chat"] = fault.answer
    client = client_of(server, name, timeout=fault.timeout, limits=fault.limits)

    began = time.monotonic()
    handed, error = ask(client, mode)
    took = time.monotonic() - began

    wanted = fault.cell("error", name)
    if wanted is None:
        assert error is None
        assert handed == fault.cell("text", name) or FULL
    else:
        check_error(error, wanted, fault, name)
        check_text(error, handed, fault.cell("text", name), mode)
        check_secrets(error, caplog)
    assert took < fault.within + SLACK
    assert server.count("chat") == fault.cell("asked", name)
    check_next(server, client, name)
    assert server.settled()
    client.close()
    assert server.deserted()
    assert not other.accepted


def check_error(error, wanted, fault, name):
    if type(error) is not wanted:
        raise error or AssertionError("no error")
    assert error.provider == name
    if fault.status is not None:
        assert error.status_code == fault.status
    if isinstance(error, APITimeoutError):
        assert error.phase == fault.phase
    if isinstance(error, APIStatusError):
        assert len(error.body) <= 2**16
    assert str(error).isprintable() and len(str(error)) < 1500
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin.args == error.args
        assert twin.__dict__ == error.__dict__


def check_text(error, handed, text, mode):
    partial = "" if error.partial is None else error.partial.text
    if text is SOME:
        assert partial
    else:
        assert partial == text
    if mode == "stream":
        assert handed == partial


def check_secrets(error, caplog):
    told = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    logged = [record.getMessage() for record in caplog.records]
    assert all(line.isprintable() for line in logged)
    for secret in SECRETS:
        assert not [words for words in told + logged if secret in words]
    assert not [words for words in logged if FULL[:3] in words]


def check_next(server, client, name):
    """The same client answers the next question at once, whatever came before."""
    assert not server.conversations
    server.answers.clear()
    assert client.chat(PROMPT).text == FULL
    assert not server.conversations
