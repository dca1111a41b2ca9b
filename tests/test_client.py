"""The client: whom it asks, what it refuses, what it shares, and what it never shows."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback

from attrs import frozen
import pytest
import responses
from servers import answer, chunk, document, DONE, frame, gigachat, head, said

import chatsdk
from chatsdk import Client, Limits, MemoryTokenStore, Message, Reply, RetryPolicy, Timeout, Token
from chatsdk.errors import (
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CancelledError,
    ChatError,
    ConfigurationError,
    MissingCredentialsError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    UnsupportedError,
)
from chatsdk.providers.aura import Aura
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.h2o import H2o
from chatsdk.results import Model

URL = "https://chat.example"


def ask(target, **options):
    """Ask once with a client of its own."""
    with Client(target, **{"max_retries": 0, **options}) as client:
        return client.chat("Hi")


def model_asked(server, number=-1):
    return server.requests[number].json["model"]


@frozen(kw_only=True)
class Mine(FlowGpt):
    """A provider of somebody else, with a name that no table knows."""

    name = "mine"


# Targets


def test_a_target_is_a_provider_or_a_provider_and_a_model(serve):
    server = serve(said("Hi"))
    with Client("gigachat", access_token="a", base_url=server.url) as client:
        assert client.chat("Hi").provider == "gigachat"
        client.chat("Hi", target="gigachat:GigaChat-2")
        client.chat("Hi", target="gigachat:")
        client.chat("Hi", target="gigachat", model="GigaChat-2-Pro")

    models = [model_asked(server, number) for number in range(4)]
    assert models == ["GigaChat", "GigaChat-2", "GigaChat", "GigaChat-2-Pro"]


def test_only_the_first_colon_of_a_target_divides_it(serve):
    server = serve(said("Hi"))

    ask("gigachat:some/model:v1:latest", access_token="a", base_url=server.url)

    assert model_asked(server) == "some/model:v1:latest"


def test_the_models_argument_comes_before_the_targets_model(serve):
    server = serve(said("Hi"))
    with Client("gigachat:one", access_token="a", base_url=server.url) as client:
        client.chat("Hi", model="two")

    assert model_asked(server) == "two"


def test_a_target_may_be_a_configured_provider(serve):
    server = serve(said("Hi"))

    assert ask(gigachat(server, model="own")).text == "Hi"
    assert model_asked(server) == "own"


def test_fields_may_change_a_configured_provider(serve):
    server = serve(said("Hi"))

    ask(gigachat("https://elsewhere.example", model="own"), base_url=server.url)

    assert model_asked(server) == "own"


def test_the_environment_may_name_the_target(serve, monkeypatch):
    server = serve(said("Hi"))
    monkeypatch.setenv("CHATSDK_TARGET", "gigachat:from-environment")

    ask(None, access_token="a", base_url=server.url)
    assert model_asked(server) == "from-environment"
    ask("gigachat:from-argument", access_token="a", base_url=server.url)
    assert model_asked(server) == "from-argument"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_target_the_error_says_how_to_give_one(value, monkeypatch):
    if value is not None:
        monkeypatch.setenv("CHATSDK_TARGET", value)
    with Client() as client, pytest.raises(ConfigurationError) as caught:
        client.chat("Hi")

    assert "CHATSDK_TARGET" in str(caught.value)
    for name in ("aichatonline", "aura", "flowgpt", "gigachat", "h2o"):
        assert name in str(caught.value)


def test_a_client_without_target_can_be_given_one_at_the_call(serve):
    with Client() as client:
        assert client.chat("Hi", target=gigachat(serve(said("Hi")))).text == "Hi"


def test_configured_providers_are_addressed_by_their_names(serve):
    one, two = serve(said("one")), serve(answer('{"event": "text", "data": "two"}\n'))
    with Client(providers=[gigachat(one), Mine(base_url=two.url)]) as client:
        assert client.chat("Hi", target="gigachat").text == "one"
        assert client.chat("Hi", target="mine:m").text == "two"
        assert model_asked(two) == "m"


def test_fields_may_change_a_provider_that_was_given(serve):
    server = serve(answer('{"event": "text", "data": "two"}\n'))

    with Client("mine", providers=[Mine()], base_url=server.url) as client:
        assert client.chat("Hi").text == "two"


def test_two_providers_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two that are called 'flowgpt'"):
        Client(providers=[FlowGpt(), FlowGpt()])


@pytest.mark.parametrize("bad", ["gigachat", None, FlowGpt])
def test_what_is_no_provider_is_a_type_error(bad):
    with pytest.raises(TypeError, match="no Provider"):
        Client(providers=[bad])


@pytest.mark.parametrize("bad", [5, b"gigachat", {"gigachat": 1}, GigaChat])
def test_what_is_no_target_is_a_type_error(bad):
    with pytest.raises(TypeError, match="a target is"):
        Client(bad)
    with Client() as client, pytest.raises(TypeError, match="a target is"):
        client.chat("Hi", target=bad)


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_list_of_targets_is_a_configuration_error(empty):
    with pytest.raises(ConfigurationError, match="empty"):
        Client(empty)


@pytest.mark.parametrize("name", ["gigachatt", "giga-chat", "Gigachat:m"])
def test_an_unknown_provider_is_named_with_the_nearest(name):
    with pytest.raises(ConfigurationError) as caught:
        Client(name)

    assert repr(name.partition(":")[0]) in str(caught.value)
    assert "aura" in str(caught.value) and "did you mean 'gigachat'?" in str(caught.value)


def test_an_unknown_field_is_named_with_the_nearest():
    with pytest.raises(TypeError) as caught:
        Client("gigachat", api_kye="s3cret")

    assert "'api_kye'" in str(caught.value) and "did you mean 'api_key'?" in str(caught.value)
    assert "scope" in str(caught.value) and "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="did you mean 'max_retries'"):
        Client("gigachat", max_retry=5)


def test_fields_need_one_target():
    for target in (None, ["gigachat", "h2o"]):
        with pytest.raises(ConfigurationError, match="api_key: fields are for one target"):
            Client(target, api_key="a")


def test_a_list_of_one_target_takes_fields(serve):
    assert ask(["gigachat"], access_token="a", base_url=serve(said("Hi")).url).text == "Hi"


def test_a_missing_key_names_the_argument_and_the_variable():
    with pytest.raises(MissingCredentialsError) as caught:
        Client("gigachat")

    assert caught.value.provider == "gigachat"
    assert "api_key" in str(caught.value) and "GIGACHAT_CREDENTIALS" in str(caught.value)


def test_a_key_from_the_environment_is_found(serve, monkeypatch):
    server = serve(said("Hi"))
    monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "from-environment")
    monkeypatch.setenv("GIGACHAT_BASE_URL", server.url)

    assert ask("gigachat").text == "Hi"
    assert server.requests[0].headers["Authorization"] == "Bearer from-environment"


def test_the_repr_of_a_client_names_its_target():
    assert repr(Client("gigachat:m", access_token="s3cret")) == "Client('gigachat:m')"
    assert repr(Client(gigachat(URL, access_token="s3cret"))) == "Client('gigachat')"
    assert repr(Client()) == "Client(None)"
    assert "s3cret" not in repr(Client([gigachat(URL, access_token="s3cret")]))


# Fallback


def test_the_first_target_that_answers_is_taken(serve):
    broken, good = serve(answer(b"", "503 No")), serve(said("Hi"))
    chain = [gigachat(broken), gigachat(good, model="second")]

    reply = ask(chain)

    assert (reply.text, reply.model) == ("Hi", "m")
    assert len(broken.requests) == len(good.requests) == 1


def test_a_chain_may_be_the_target_of_one_call(serve):
    broken, good = serve(answer(b"", "404 No")), serve(said("Hi"))
    with Client("gigachat", access_token="a", base_url=URL) as client:
        assert client.chat("Hi", target=(gigachat(broken), gigachat(good))).text == "Hi"


def test_each_target_of_a_chain_has_its_own_model(serve):
    broken, good = serve(answer(b"", "404 No")), serve(answer('{"event": "text", "data": "Hi"}'))
    given = [gigachat(broken), FlowGpt(base_url=good.url)]
    with Client(["gigachat:one", "flowgpt:two"], providers=given, max_retries=0) as client:
        reply = client.chat("Hi")

    assert (model_asked(broken), model_asked(good)) == ("one", "two")
    assert (reply.provider, reply.model) == ("flowgpt", "two")


def test_a_chain_falls_back_while_no_text_was_handed_out(serve):
    broken = serve(head() + chunk(b": accepted\n\n") + b"broken\r\n")
    good = serve(said("Hi"))

    with Client([gigachat(broken), gigachat(good)], max_retries=0) as client:
        assert list(client.stream("Hi")) == ["Hi"]


def test_a_chain_does_not_fall_back_once_text_was_handed_out(serve):
    broken = serve(head() + chunk(frame("Hel")) + b"broken\r\n")
    good = serve(said("Hi"))

    with pytest.raises(StreamInterruptedError) as caught:
        ask([gigachat(broken), gigachat(good)])

    assert caught.value.partial.text == "Hel"
    assert good.requests == []


def test_the_last_target_of_a_chain_has_the_last_word(serve):
    one, two = serve(answer(b"", "500 No")), serve(answer(b"", "404 No"))

    with pytest.raises(NotFoundError) as caught:
        ask([gigachat(one), FlowGpt(base_url=two.url)])

    assert caught.value.provider == "flowgpt"


def test_each_target_of_a_chain_is_tried_as_often_as_it_may_be(serve, caplog):
    broken, good = serve(answer(b"", "500 No")), serve(said("Hi"))

    ask([gigachat(broken), gigachat(good)], max_retries=RetryPolicy(2, sleep=lambda seconds: None))

    assert len(broken.requests) == 3
    assert "gigachat failed (ServerError); trying the next" in caplog.text


def test_a_cancelled_call_does_not_fall_back(serve):
    waiting = threading.Event()

    def hang(peer):
        peer.send(head())
        waiting.set()
        peer.gone()

    good = serve(said("Hi"))
    with Client([gigachat(serve(hang)), gigachat(good)]) as client:
        stream = client.stream("Hi")

        def close():
            assert waiting.wait(20)
            stream.close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(CancelledError):
            next(stream)
        thread.join(20)

    assert good.requests == []


def test_every_target_of_a_chain_is_checked_before_anything_is_sent(serve):
    server = serve(said("Hi"))
    with Client([gigachat(server), FlowGpt(base_url=URL)]) as client:
        with pytest.raises(UnsupportedError, match="flowgpt cannot honour top_p"):
            client.chat("Hi", top_p=0.5)
        with pytest.raises(ConfigurationError, match="unknown provider"):
            client.chat("Hi", target=[gigachat(server), "gigachatt"])
    assert server.requests == []


# Parameters


def test_nothing_is_sent_when_an_argument_is_bad(serve):
    server = serve(said("Hi"))
    bad = {
        "temperature": "hot",
        "max_tokens": 0,
        "top_p": 2,
        "stop": 5,
        "tools": [5],
        "response_format": object(),
        "model": "",
        "system": 5,
        "timeout": "5",
        "extra_body": 5,
        "extra_headers": {"X": "a\nb"},
        "seed": 5,
        "profanity_check": "yes",
        "session_id": "й",
        "request_id": 5,
        "temprature": 0.5,
        "api_key": "a",
        "whole": print,
        "closed": print,
    }
    with Client(gigachat(server)) as client:
        for name, value in bad.items():
            for call in (client.chat, client.stream):
                with pytest.raises((TypeError, ValueError, ChatError), match=name):
                    call("Hi", **{name: value})
        for messages in (None, 5, b"Hi", [], [{}], ["Hi", 5]):
            with pytest.raises((TypeError, ValueError), match="messages"):
                client.chat(messages)
        for target in ("nobody", 5, []):
            with pytest.raises((TypeError, ConfigurationError)):
                client.chat("Hi", target=target)
        with pytest.raises(ValueError, match="system has a lone surrogate"):
            client.chat("Hi", system="\ud800")
        with pytest.raises(TypeError):
            client.stream("Hi", stream=False)

    assert server.requests == [] and server.connections == 0


def test_an_unknown_parameter_is_named_with_the_nearest():
    with Client(gigachat(URL)) as client, pytest.raises(TypeError) as caught:
        client.chat("Hi", temprature=0.5)

    assert "'temprature'" in str(caught.value)
    assert "did you mean 'temperature'?" in str(caught.value)
    assert "profanity_check" in str(caught.value) and "timeout" in str(caught.value)


def test_a_parameter_of_another_provider_is_unknown():
    with Client(FlowGpt(base_url=URL)) as client, pytest.raises(TypeError, match="profanity_check"):
        client.chat("Hi", profanity_check=True)


def test_a_parameter_that_a_provider_cannot_honour_is_unsupported(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client, pytest.raises(UnsupportedError) as caught:
        client.chat("Hi", seed=5)

    assert caught.value.provider == "gigachat" and server.requests == []
    assert "gigachat cannot honour seed; it honours: " in str(caught.value)
    assert "temperature" in str(caught.value) and "drop_unsupported=True" in str(caught.value)


def test_a_parameter_that_cannot_be_honoured_is_left_out_on_request(serve, caplog):
    server = serve(said("Hi"))
    with Client(gigachat(server), drop_unsupported=True) as client:
        client.chat("Hi", seed=5, temperature=0.5)
        with pytest.raises(TypeError, match="seed must be"):
            client.chat("Hi", seed="5")
        with pytest.raises(TypeError, match="unknown parameter"):
            client.chat("Hi", sed=5)

    assert "seed" not in server.requests[0].json
    assert server.requests[0].json["temperature"] == 0.5
    assert "gigachat cannot honour seed: left out" in caplog.text


def test_parameters_that_are_none_are_not_given(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        client.chat("Hi", temperature=None, seed=None, system=None, timeout=None, stop=None)
        client.chat("Hi", stop=[])

    assert server.requests[0].json.keys() == {"model", "messages", "stream"}


def test_a_system_text_comes_first(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        client.chat(Message("user", "Hi"), system="Be brief.")

    assert server.requests[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_extras_of_the_body_and_the_headers_come_last(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server, headers={"X-A": "provider", "X-B": "provider"})) as client:
        client.chat(
            "Hi",
            temperature=0.5,
            extra_body={"temperature": 0.7, "new": {"a": 1}},
            extra_headers={"x-a": "call"},
        )

    (request,) = server.requests
    assert (request.json["temperature"], request.json["new"]) == (0.7, {"a": 1})
    assert (request.headers["X-A"], request.headers["X-B"]) == ("call", "provider")


def test_an_answer_may_be_asked_for_in_one_piece(serve):
    whole = {"choices": [{"message": {"role": "assistant", "content": "Hi"},
                          "finish_reason": "stop", "index": 0}], "model": "m"}
    server = serve(document(whole))
    with Client(gigachat(server)) as client:
        reply = client.chat("Hi", stream=False)

    assert (reply.text, reply.finish_reason) == ("Hi", "stop")
    assert server.requests[0].json["stream"] is False
    assert reply.raw == whole


def test_an_unknown_model_is_asked_for_all_the_same(serve, caplog):
    caplog.set_level(logging.INFO)
    server = serve(said("Hi"))

    ask(gigachat(server, model="GigaChat-99"))

    assert model_asked(server) == "GigaChat-99"
    assert "gigachat: model 'GigaChat-99' is not among those known here" in caplog.text


def test_messages_may_be_lazy_and_are_read_once(serve):
    server = serve(said("Hi"))
    with Client([gigachat(server), gigachat(server)]) as client:
        client.chat(text for text in ("one", "two"))

    assert [turn["content"] for turn in server.requests[0].json["messages"]] == ["one", "two"]


# Timeouts


@pytest.mark.parametrize(
    "given, first, total",
    [
        (5, 5.0, 600.0),
        (0.5, 0.5, 600.0),
        (None, 60.0, 600.0),
        (Timeout(first=7, total=9), 7, 9),
        (Timeout(first=None, total=None), None, None),
    ],
)
def test_a_timeout_is_a_number_or_one_of_each_kind(given, first, total):
    timeout = Timeout().changed(given)

    assert (timeout.first, timeout.total) == (first, total)
    assert timeout.connect == 10.0


@pytest.mark.parametrize("bad", ["5", True, [5], object()])
def test_a_timeout_of_another_type_is_a_type_error(bad):
    with pytest.raises(TypeError, match="timeout"):
        Client(timeout=bad)
    with pytest.raises(TypeError, match="timeout"):
        Timeout(read=bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), 10**400])
def test_a_timeout_is_above_nothing_and_finite(bad):
    with pytest.raises(ConfigurationError, match="timeout: first must be above 0"):
        Client(timeout=bad)


def test_every_wait_can_be_switched_off(serve):
    endless = Timeout(connect=None, first=None, read=None, total=None)

    assert ask(gigachat(serve(said("Hi"))), timeout=endless).text == "Hi"


def test_a_timeout_of_one_call_comes_before_the_clients(serve):
    server = serve(lambda peer: peer.gone())
    with Client(gigachat(server), timeout=60, max_retries=0) as client:
        with pytest.raises(APITimeoutError) as caught:
            client.chat("Hi", timeout=0.05)
        assert caught.value.phase == "first"
        with pytest.raises(APITimeoutError) as caught:
            client.chat("Hi", timeout=Timeout(total=0.05))
        assert caught.value.phase == "total"


# Sharing


def test_a_copy_with_other_options_shares_connections_and_tokens(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        client.chat("Hi")
        copy = client.with_options(timeout=5, max_retries=0, target=gigachat(server, model="other"))
        copy.chat("Hi")
        client.chat("Hi")

    assert server.connections == 1
    assert [model_asked(server, number) for number in range(3)] == ["GigaChat", "other", "GigaChat"]


@pytest.mark.parametrize(
    "change", [{"proxy": ""}, {"verify": False}, {"token_store": MemoryTokenStore()}]
)
def test_a_copy_that_connects_otherwise_shares_no_connection(serve, change):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        client.chat("Hi")
        with client.with_options(**change) as copy:
            copy.chat("Hi")

    assert server.connections == 2


def test_a_copy_keeps_the_fields_and_may_change_them(serve):
    server = serve(said("Hi"))
    with Client("gigachat", access_token="one", base_url=server.url) as client:
        client.with_options(timeout=5).chat("Hi")
        client.with_options(access_token="two").chat("Hi")
        client.with_options(target="gigachat:other").chat("Hi")

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer one", "Bearer two", "Bearer one"]


def test_a_copy_for_another_provider_does_not_take_the_key_along(serve):
    server = serve(answer('{"event": "text", "data": "Hi"}'))
    with Client("gigachat", api_key="s3cret", base_url="https://gigachat.example") as client:
        client.with_options(target="flowgpt", base_url=server.url).chat("Hi")

    assert "s3cret" not in str(server.requests)


def test_a_copy_with_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="'timeot'"):
        Client(gigachat(URL)).with_options(timeot=5)


def test_a_client_pickles_with_its_keys_and_without_its_connections(serve):
    server = serve(said("Hi"))
    with Client("gigachat", access_token="the-key", base_url=server.url, timeout=5) as client:
        client.chat("Hi")
        data = pickle.dumps(client)
    with pickle.loads(data) as copy:
        assert copy.chat("Hi").text == "Hi"

    assert b"the-key" in data
    assert server.connections == 2
    assert server.requests[1].headers["Authorization"] == "Bearer the-key"


@pytest.mark.parametrize("of_its_own", [True, False])
def test_tokens_do_not_travel_with_a_client(serve, of_its_own):
    token = document({"access_token": "the-token", "expires_at": 4e12})
    server = serve(token, said("Hi"))
    store = MemoryTokenStore() if of_its_own else None
    options = {"base_url": server.url, "auth_url": server.url, "token_store": store}
    with Client("gigachat", api_key="a-key-of-its-own", **options) as client:
        client.chat("Hi")
        data = pickle.dumps(client)

    assert server.requests[1].headers["Authorization"] == "Bearer the-token"
    assert b"the-token" not in data


def test_a_client_with_all_options_pickles():
    client = Client(
        ["gigachat:m", "mine"],
        providers=[gigachat(URL), Mine()],
        timeout=Timeout(first=5),
        max_retries=RetryPolicy(5),
        limits=Limits(frame_bytes=5),
        proxy="http://proxy.example:3128",
        drop_unsupported=True,
    )

    assert repr(pickle.loads(pickle.dumps(client))) == repr(client)


def test_a_client_may_be_shared_by_many_threads(serve):
    """Each thread gets the answer to its own question, whatever the others do."""

    def echo(peer):
        (turn,) = peer.request.json["messages"]
        assert "Cookie" not in peer.request.headers
        text, cookie = turn["content"], f"who={peer.request.connection}"
        return said(text[:3], text[3:], Set_Cookie=cookie)

    server = serve(echo)
    barrier = threading.Barrier(64)
    found = {}

    def work(number):
        barrier.wait(20)
        for turn in range(5):
            text = f"{number}/{turn}: й"
            if turn % 2:
                reply = client.chat(text)
            else:
                with client.stream(text) as stream:
                    assert "".join(stream) == text
                reply = stream.reply
            found[number, turn] = (reply.text == text, reply.provider)

    with Client(gigachat(server)) as client:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert len(found) == 64 * 5 and set(found.values()) == {(True, "gigachat")}
    assert len(server.requests) == 64 * 5
    assert server.connections <= 64


FORK = """
import os, sys
from chatsdk import Client
client = Client("gigachat", access_token="a", base_url=sys.argv[1], timeout=10)
print(client.chat("parent"))
sys.stdout.flush()
child = os.fork()
if not child:
    print(client.chat("child"))
    client.close()
    sys.stdout.flush()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
child = os.fork()
if not child:
    client.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(client.chat("parent"))
client.close()
"""


def test_after_a_fork_the_child_uses_connections_of_its_own(serve):
    server = serve(lambda peer: said(peer.request.json["messages"][0]["content"]))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    assert (done.stdout.split(), done.stderr) == (["parent", "child", "parent"], "")
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_the_connections_of_the_parent_are_not_touched_by_the_child(serve, monkeypatch):
    """What a fork does to one object, without the fork, which coverage cannot follow."""
    server = serve(said("Hi"))
    clients = [Client(gigachat(server)) for _ in range(2)]
    for client in clients:
        client.chat("Hi")
    kept = [client._transport._adapter for client in clients]
    monkeypatch.setattr(os, "getpid", lambda: -1)

    clients[0].close()
    assert clients[1].chat("Hi").text == "Hi"

    assert server.connections == 3 and server.settled(3)
    for closes in (*clients, *kept):
        closes.close()
    assert server.settled(0)


def test_a_closed_client_has_no_connection_and_can_be_used_again(serve):
    server = serve(said("Hi"))
    client = Client(gigachat(server))
    client.chat("Hi")
    assert server.settled(1)

    client.close()
    client.close()
    assert server.settled(0)

    assert client.chat("Hi").text == "Hi"
    client.close()
    assert server.settled(0) and server.connections == 2


def test_closing_a_client_ends_its_streams(serve):
    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        peer.gone()

    server = serve(hang)
    with Client(gigachat(server)) as client:
        streams = [client.stream("Hi") for _ in range(3)]
        assert [next(stream) for stream in streams] == ["one"] * 3

    assert [list(stream) for stream in streams] == [[], [], []]
    assert server.settled(0)


def test_closing_a_client_from_another_thread_cancels_its_streams(serve):
    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        peer.gone()

    client = Client(gigachat(serve(hang)))
    stream = client.stream("Hi")
    assert next(stream) == "one"

    thread = threading.Thread(target=client.close)
    thread.start()
    with pytest.raises(CancelledError) as caught:
        list(stream)
    thread.join(20)

    assert caught.value.partial.text == "one"


def test_closing_a_client_ends_a_call_that_another_thread_waits_for(serve):
    asked = threading.Event()
    errors = []

    def hang(peer):
        asked.set()
        peer.gone()

    server = serve(hang)
    client = Client(gigachat(server))

    def work():
        try:
            client.chat("Hi")
        except ChatError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert asked.wait(20)
    client.close()
    thread.join(20)

    assert [type(error) for error in errors] == [CancelledError]
    assert server.settled(0) and len(server.requests) == 1


def test_closing_a_client_does_not_wait_for_ever_for_its_clean_up(serve, monkeypatch):
    monkeypatch.setattr("chatsdk.transport.LAST_WAIT", 0.05)
    streaming, cleaning = threading.Event(), threading.Event()
    errors = []

    def play(peer):
        path = peer.request.target
        if peer.request.method == "DELETE" or path.endswith("stop-generating"):
            cleaning.set()
            peer.gone()
        elif path == "/settings":
            return answer(b"")
        elif path == "/conversation":
            return document({"conversationId": "c-1"})
        else:
            peer.send(head())
            streaming.set()
            peer.gone()

    server = serve(play)
    client = Client(H2o(base_url=server.url), max_retries=0)

    def work():
        try:
            client.chat("Hi")
        except ChatError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert streaming.wait(20)
    client.close()
    thread.join(20)

    assert [type(error) for error in errors] == [CancelledError]
    assert cleaning.is_set() and server.settled(0)


def test_a_client_that_nobody_holds_leaves_no_connection(serve):
    server = serve(said("Hi"))
    client = Client(gigachat(server))
    client.chat("Hi")

    del client
    gc.collect()

    assert server.settled(0)


# One-off clients


def test_one_question_needs_no_client(serve):
    server = serve(said("Hi"))

    reply = chatsdk.chat(
        "Hello", target="gigachat:m", access_token="a", base_url=server.url, temperature=0.5
    )

    assert isinstance(reply, Reply) and reply.text == "Hi"
    assert server.requests[0].json["temperature"] == 0.5
    assert server.settled(0)


def test_one_stream_needs_no_client(serve):
    server = serve(said("H", "i"))

    stream = chatsdk.stream("Hello", target=gigachat(server), max_retries=0, system="Be brief.")

    assert list(stream) == ["H", "i"]
    assert server.settled(0)


@pytest.mark.parametrize("leave", ["close", "forget"])
def test_one_stream_that_is_left_leaves_no_connection(serve, leave):
    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        peer.gone()

    server = serve(hang)
    stream = chatsdk.stream("Hello", target=gigachat(server))
    next(stream)
    if leave == "close":
        stream.close()
    del stream
    gc.collect()

    assert server.settled(0)


def test_one_question_may_be_for_the_environments_target(serve, monkeypatch):
    server = serve(said("Hi"))
    monkeypatch.setenv("CHATSDK_TARGET", "gigachat")

    assert chatsdk.chat("Hi", access_token="a", base_url=server.url).text == "Hi"


@pytest.mark.parametrize("kind", ["name", "provider", "list", "given"])
def test_one_question_may_have_a_parameter_of_its_provider(serve, kind):
    server = serve(said("Hi"))
    target = {
        "name": {"target": "gigachat", "access_token": "a", "base_url": server.url},
        "provider": {"target": gigachat(server)},
        "list": {"target": [gigachat(server)]},
        "given": {"target": "gigachat", "providers": [gigachat(server)]},
    }[kind]

    assert chatsdk.chat("Hi", profanity_check=True, stream=True, **target).text == "Hi"
    assert server.requests[0].json["profanity_check"] is True


def test_one_question_may_go_to_a_provider_that_no_table_knows(serve):
    server = serve(answer('{"event": "text", "data": "Hi"}'))

    assert chatsdk.chat("Hi", target="mine", providers=[Mine(base_url=server.url)]).text == "Hi"


def test_one_question_with_a_bad_argument_is_refused():
    with pytest.raises(TypeError, match="'temprature'"):
        chatsdk.chat("Hi", target=gigachat(URL), temprature=0.5)
    with pytest.raises(ConfigurationError, match="no target"):
        chatsdk.stream("Hi")


# Models


def test_the_models_of_a_service_are_listed_by_it(serve):
    server = serve(
        answer(b"", "503 No"),
        document({"data": [{"id": "GigaChat-9", "owned_by": "sber"}, {"id": "other"}]}),
    )
    with Client(gigachat(server), max_retries=RetryPolicy(sleep=lambda seconds: None)) as client:
        models = client.models()

    assert models == [
        Model("GigaChat-9", "gigachat", "sber", {"id": "GigaChat-9", "owned_by": "sber"}),
        Model("other", "gigachat", None, {"id": "other"}),
    ]
    assert [request.method for request in server.requests] == ["GET", "GET"]


def test_the_models_of_a_service_that_lists_none_are_those_known():
    with Client() as client:
        models = client.models("h2o:whatever")

    assert len(models) == 3 and models[0].provider == "h2o"


def test_models_that_cannot_be_listed_are_an_error_of_the_service(serve):
    with Client(gigachat(serve(answer(b"", "401 No"))), max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            client.models()
    with Client(gigachat(serve(document({"data": 5}))), max_retries=0) as client:
        with pytest.raises(ProtocolError):
            client.models()


# Services that are gone


def gone(caplog):
    return [record for record in caplog.records if "a server of your own" in record.getMessage()]


@pytest.mark.parametrize(
    "options, targets",
    [
        ({"target": "h2o"}, [None, None, "h2o:m"]),
        ({"target": H2o()}, [None, None]),
        ({}, ["h2o", "h2o"]),
        ({"providers": [H2o()]}, ["h2o", "h2o"]),
        ({}, [H2o(), H2o()]),
        ({"target": "h2o", "share_conversations": True}, [None]),
    ],
)
def test_a_service_that_is_gone_is_pointed_out_once(options, targets, caplog):
    with responses.RequestsMock() as mock, Client(**options, max_retries=0) as client:
        mock.post("https://gpt-gm.h2o.ai/settings", status=404)
        for target in targets:
            with pytest.raises(NotFoundError):
                client.chat("Hi", target=target)

    (record,) = gone(caplog)
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("h2o: gone since autumn 2023")


def test_each_service_that_is_gone_is_pointed_out(caplog):
    Client(["h2o", "flowgpt", "aura", "aichatonline"])

    assert len(gone(caplog)) == 4


def test_a_server_of_ones_own_is_not_pointed_out(caplog, serve):
    server = serve(answer('{"event": "text", "data": "Hi"}'))

    ask("flowgpt", base_url=server.url)
    Client(Aura(base_url=URL))
    Client(providers=[H2o(base_url=URL)])
    Client("gigachat", access_token="a")

    assert gone(caplog) == []


# Secrets

KEY, TOKEN, PROMPT, ANSWER = "k3yk3yk3y", "t0kent0ken", "pr0mptpr0mpt", "answ3ransw3r"
SECRETS = (KEY, TOKEN, PROMPT, ANSWER, "passw0rd")


def shown(error):
    """Return all that a careless program would print of an error."""
    found = []
    while error is not None:
        found += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(found)


BROKEN = [
    answer(b'{"message": "no"}', "400 No"),
    answer(b"", "500 No"),
    answer(b"", "429 No", Retry_After="3600"),
    answer(b"", "302 No", Location="https://elsewhere.example/?token=passw0rd"),
    lambda peer: peer.reset(),
    head() + chunk(frame(ANSWER)) + b"zz\r\n",
    head() + chunk(frame(ANSWER)),
    answer(frame(ANSWER) + b"data: nope\n\n", Content_Type="text/event-stream"),
    answer(frame(ANSWER) + b'data: {"status": 500}\n\n', Content_Type="text/event-stream"),
    answer(ANSWER.encode() * 10_000, Content_Type="text/event-stream"),
    answer(b"", "401 No"),
]


def test_no_secret_is_shown_whatever_goes_wrong(serve, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    token = document({"access_token": TOKEN, "expires_at": 4e12})
    monkeypatch.setenv("HTTP_PROXY", "")
    errors = []
    for broken in [*BROKEN, said(ANSWER)]:
        auth = serve(token)
        server = serve(broken)
        provider = GigaChat(api_key=KEY, base_url=server.url, auth_url=auth.url)
        with Client(
            provider,
            max_retries=RetryPolicy(1, sleep=lambda seconds: None),
            token_store=MemoryTokenStore(),
            timeout=Timeout(first=5, read=0.5),
        ) as client:
            assert not any(secret in repr(client) + repr(provider) for secret in SECRETS)
            try:
                client.chat(PROMPT, system=PROMPT, extra_headers={"X-Key": "passw0rd"})
            except ChatError as error:
                errors.append(error)

    assert len(errors) == len(BROKEN)
    log = "\n".join([caplog.text, *(repr(record.__dict__) for record in caplog.records)])
    assert "POST" in log
    for secret in SECRETS:
        assert secret not in log
    for error in errors:
        told = shown(error)
        # The excerpt and the partial reply are attributes for who asks, not parts of a message.
        assert not [secret for secret in SECRETS if secret in told]


def test_a_key_that_a_server_repeats_is_not_repeated_by_us(serve):
    said_back = document({"message": f"no such key: {KEY} / {TOKEN}"}, "403 No")
    server = serve(said_back)

    with pytest.raises(APIStatusError) as caught:
        ask(gigachat(server, access_token=KEY))

    assert KEY not in shown(caught.value)


def test_no_local_variable_of_ours_shows_a_secret(serve):
    server = serve(answer(b"", "500 No"))
    with pytest.raises(ServerError) as caught:
        ask(gigachat(server, access_token=TOKEN, headers={"X-Key": KEY}))

    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in told.stack if os.path.dirname(chatsdk.__file__) in frame.filename]
    assert len(ours) > 5
    for frame_of_ours in ours:
        assert TOKEN not in str(frame_of_ours.locals) and KEY not in str(frame_of_ours.locals)


def test_the_errors_of_a_real_call_travel(serve):
    server = serve(head() + chunk(frame("Hel")) + b"zz\r\n")
    with pytest.raises(StreamInterruptedError) as caught:
        ask(gigachat(server))

    found = pickle.loads(pickle.dumps(caught.value))

    assert (str(found), found.partial.text) == (str(caught.value), "Hel")
    limited = serve(answer(b"{}", "429 No", Retry_After="100"))
    with pytest.raises(RateLimitError) as caught:
        ask(gigachat(limited))
    assert pickle.loads(pickle.dumps(caught.value)).headers["retry-after"] == "100"


def test_a_stored_token_is_used_and_one_that_is_refused_is_renewed_once(serve):
    store = MemoryTokenStore()
    auth = serve(
        document({"access_token": "one", "expires_at": 4e12}),
        document({"access_token": "two", "expires_at": 4e12}),
    )
    server = serve(
        lambda peer: said("Hi") if peer.request.headers["Authorization"] == "Bearer two"
        else answer(b"", "401 No")
    )
    options = {"api_key": KEY, "base_url": server.url, "auth_url": auth.url}
    with Client("gigachat", **options, token_store=store, max_retries=0) as client:
        assert client.chat("Hi").text == "Hi"
        assert client.chat("Hi").text == "Hi"

    assert (len(auth.requests), len(server.requests)) == (2, 3)
    assert Token("two") != Token("one")


def test_a_reply_shows_what_the_service_told(serve):
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    last = {"choices": [{"delta": {}, "finish_reason": "length", "index": 0}], "usage": usage}
    text = frame("Hi") + b"data: " + json.dumps(last).encode() + b"\n\n" + DONE
    server = serve(answer(text, Content_Type="text/event-stream", X_Request_Id="r-1"))

    reply = ask(gigachat(server))

    assert (reply.finish_reason, reply.usage.total_tokens, reply.id) == ("length", 3, "r-1")
    assert 0 <= reply.first_text_after <= reply.elapsed


def test_a_provider_given_as_the_target_answers_to_its_name_and_a_model(serve):
    peer = serve(said("Hi"))

    with Client(GigaChat(access_token="a", base_url=peer.url), max_retries=0) as client:
        reply = client.chat("Hello", target="gigachat:GigaChat-Max")

    assert reply.text == "Hi"
    assert peer.requests[-1].json["model"] == "GigaChat-Max"
