"""Hooks: what they are told, in which order and thread, and that they can break nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import gc
import logging
import os
import pickle
import signal
import threading

import attrs
import pytest
from servers import answer, chunk, document, frame, gigachat, head, said

import chatsdk
from chatsdk import CancelledError, Client, Embeddings
from chatsdk import listeners as who_listens
from chatsdk import mapping, Notice, RateLimitError, RetryPolicy, ServerError, Usage
from chatsdk.hooks import Hooks
from chatsdk.listeners import attach, NAMES
from chatsdk.providers.gigachat import GigaChat
from chatsdk.simulator import Simulator
from chatsdk.wire import Request

BUSY = answer("", "503 Service Unavailable", Retry_After="0")
WRONG = answer("", "400 Bad Request", X_Request_Id="r-1")


class Told:
    """Four hooks that write down what they are told."""

    def __init__(self):
        self.notices = []
        self.threads = []
        self.hooks = {name: self._hook(name) for name in NAMES}

    def _hook(self, name):
        def hook(notice):
            self.notices.append((name, notice))
            self.threads.append(threading.current_thread())

        return hook

    @property
    def names(self):
        return [name.removeprefix("on_") for name, _ in self.notices]

    def last(self):
        return self.notices[-1][1]


@pytest.fixture
def told():
    return Told()


def client_of(server, told=None, **options):
    quick = RetryPolicy(sleep=lambda seconds: None, random=lambda: 0.5)
    options = {"max_retries": quick, "proxy": "", **options}
    return Client(gigachat(server), **options, **(told.hooks if told else {}))


# What they are told


def test_a_call_is_told_when_it_leaves_and_when_its_reply_is_whole(serve, told):
    server = serve(said("Hel", "lo", X_Request_Id="r-7"))

    with client_of(server, told) as client:
        reply = client.chat("Hi", model="GigaChat-2", temperature=0.5)

    (_, request), (_, end) = told.notices
    assert told.names == ["request", "reply"]
    assert (request.provider, request.model, request.target) == (
        "gigachat", "GigaChat-2", "gigachat:GigaChat-2",
    )
    assert (request.operation, request.attempt, request.call) == ("chat", 1, end.call)
    assert (request.method, request.host) == ("POST", server.url.removeprefix("http://"))
    assert (request.path, request.base_url) == ("/chat/completions", server.url)
    assert (request.status, request.reply, request.error) == (None, None, None)
    assert request.query.temperature == 0.5
    assert (end.reply, end.usage, end.status, end.request_id) == (reply, reply.usage, 200, "r-7")
    assert 0 <= end.first_chunk_after <= end.seconds
    assert (end.error, end.wait) == (None, None)


def test_a_retry_is_told_with_its_cause_and_wait(serve, told):
    server = serve(answer("", "503 Service Unavailable", Retry_After="7"), said("Hi"))

    with client_of(server, told) as client:
        client.chat("Hi")

    assert told.names == ["request", "retry", "request", "reply"]
    retry = told.notices[1][1]
    assert (retry.wait, retry.attempt, retry.status) == (7.0, 1, 503)
    assert isinstance(retry.error, ServerError)
    assert told.last().attempt == 2


def test_a_call_that_fails_is_told_once_with_its_error(serve, told):
    with client_of(serve(BUSY), told) as client:
        with pytest.raises(ServerError) as caught:
            client.chat("Hi")

    assert told.names == ["request", "retry"] * 2 + ["request", "error"]
    end = told.last()
    assert (end.error, end.attempt, end.status) == (caught.value, 3, 503)


def test_an_error_has_what_came_of_the_reply(serve, told):
    server = serve(head() + chunk(frame("Half")) + b"0\r\n\r\n")

    with client_of(server, told) as client, pytest.raises(chatsdk.StreamInterruptedError):
        client.chat("Hi")

    assert told.last().reply.text == told.last().error.partial.text == "Half"


def test_requests_for_tokens_are_told_as_well(told):
    with Simulator() as sim:
        fields = sim.fields("gigachat")
        with Client("gigachat", api_key="any", **fields, **told.hooks) as client:
            client.chat("Hi")
            client.chat("Hi")

    assert told.names == ["request", "request", "reply", "request", "reply"]
    assert [notice.call for _, notice in told.notices[:3]] == [told.notices[0][1].call] * 3
    assert "oauth" in told.notices[0][1].path


def test_a_chain_of_targets_is_told_as_retries_at_the_next(serve, told):
    bad, good = serve(WRONG), serve(said("Hi"))
    targets = [gigachat(bad, model="one"), gigachat(good, model="two")]

    with Client(targets, **told.hooks) as client:
        client.chat("Hi")

    assert told.names == ["request", "retry", "request", "reply"]
    assert [notice.model for _, notice in told.notices] == ["one", "one", "two", "two"]
    assert told.notices[1][1].wait == 0.0
    assert [notice.attempt for _, notice in told.notices] == [1, 1, 1, 1]


def test_a_kept_connection_that_died_is_told_as_one_more_request(serve, told):
    server = serve(said("one"), lambda peer: peer.hang_up(), said("two"))

    with client_of(server, told) as client:
        client.chat("Hi")
        client.chat("Hi")

    assert told.names == ["request", "reply", "request", "request", "reply"]


def test_no_credential_and_no_query_string_is_in_a_notice(serve, told):
    server = serve(said("Hi"))
    options = {"access_token": "top-secret", "headers": {"X-Key": "top-secret"}}

    with Client(gigachat(server, **options), **told.hooks) as client:
        client.chat(
            "Hi", extra_headers={"X-Other": "top-secret"}, extra_body={"key": "top-secret"}
        )

    for _, notice in told.notices:
        assert "top-secret" not in repr(attrs.asdict(notice))
        assert "?" not in notice.path


def test_a_notice_is_frozen_and_public(serve, told):
    with client_of(serve(said("Hi")), told) as client:
        client.chat("Hi")

    assert isinstance(told.last(), chatsdk.Notice)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        told.last().model = "other"


# Every way to ask


def test_a_stream_is_told_when_it_is_read_to_its_end(serve, told):
    with client_of(serve(said("a", "b")), told) as client:
        stream = client.stream("Hi")
        opened = list(told.names)
        text = "".join(stream)

    assert (opened, told.names) == (["request"], ["request", "reply"])
    assert told.last().reply.text == text == "ab"
    assert told.last().reply.finish_reason == "stop"


@pytest.mark.parametrize("leave", ["break", "close", "drop"])
def test_a_stream_that_is_left_early_is_told_with_what_has_come(serve, told, leave):
    def never_whole(peer):
        peer.send(head() + chunk(frame("one")))
        peer.gone()

    with client_of(serve(never_whole), told) as client:
        stream = client.stream("Hi")
        assert next(stream) == "one"
        if leave == "break":
            with stream:
                pass
        elif leave == "close":
            stream.close()
        else:
            del stream
            gc.collect()

    assert told.names == ["request", "reply"]
    assert (told.last().reply.text, told.last().reply.finish_reason) == ("one", None)


def test_a_reader_whose_stream_another_thread_closes_is_told_of_an_error(serve, told):
    waits = threading.Event()

    def silent(peer):
        peer.send(head() + chunk(frame("one")))
        waits.set()
        peer.gone()

    with client_of(serve(silent), told) as client:
        stream = client.stream("Hi")
        next(stream)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(next, stream)
            waits.wait(20)
            while not reading.running():
                pass
            stream.cancel()
            assert isinstance(reading.exception(20), CancelledError)

    assert told.names == ["request", "error"]
    assert isinstance(told.last().error, CancelledError)


def test_ctrl_c_is_told_as_the_error_that_it_is(serve, told):
    def half(peer):
        peer.send(head() + chunk(frame("one")))
        signal.raise_signal(signal.SIGINT)
        peer.gone()

    with client_of(serve(half), told) as client, pytest.raises(KeyboardInterrupt):
        for _ in client.stream("Hi"):
            pass

    assert told.names[-1] == "error"
    assert isinstance(told.last().error, KeyboardInterrupt)


def test_a_stream_that_was_only_prepared_tells_nothing(serve, told):
    with client_of(serve(said("Hi")), told) as client:
        client._asked("Hi")
        gc.collect()

    assert told.names == []


def test_each_call_of_a_fan_out_is_told_in_its_own_thread(serve, told):
    server = serve(lambda peer: said("a") if peer.request.json["model"] == "a" else WRONG)

    with client_of(server, told) as client:
        answers = client.fan_out("Hi", ["gigachat:a", "gigachat:b"])
        assert (len(answers.replies), len(answers.errors)) == (1, 1)

    ends = {notice.model: name for name, notice in told.notices if name != "on_request"}
    assert ends == {"a": "on_reply", "b": "on_error"}
    assert threading.main_thread() not in told.threads
    by_call = {}
    for (_, notice), thread in zip(told.notices, told.threads):
        by_call.setdefault(notice.call, set()).add(thread)
    assert [len(threads) for threads in by_call.values()] == [1, 1]


def test_a_call_is_told_in_the_thread_that_asks(serve, told):
    with client_of(serve(BUSY, said("Hi")), told) as client:
        client.chat("Hi")

    assert set(told.threads) == {threading.current_thread()}


def test_the_losers_of_a_race_are_told_as_cancelled(serve, told):
    began = threading.Event()

    def race(peer):
        if peer.request.json["model"] == "slow":
            began.set()
            peer.gone()
            return b""
        peer.wait(began)
        return said("first")

    with client_of(serve(race), told) as client:
        assert client.race("Hi", ["gigachat:slow", "gigachat:quick"]).text == "first"

    ends = {notice.model: notice for name, notice in told.notices if name != "on_request"}
    assert ends["quick"].reply.text == "first"
    assert isinstance(ends["slow"].error, CancelledError)


def test_each_call_of_a_map_is_told(serve, told):
    with client_of(serve(said("Hi"))) as client:
        answers = list(client.map(["a", "b", "c"], **told.hooks))

    assert all(found.ok for found in answers)
    assert sorted(told.names) == ["reply"] * 3 + ["request"] * 3
    assert len({notice.call for _, notice in told.notices}) == 3


TOLD_ELSEWHERE = []


def tell_elsewhere(notice):
    TOLD_ELSEWHERE.append(notice.query.messages[0].content)


@pytest.fixture
def workers():
    """Close the clients that the "workers" of this very process have kept."""
    yield
    for client in mapping._clients.values():
        client.close()
    mapping._clients.clear()
    TOLD_ELSEWHERE.clear()


def test_hooks_travel_to_the_workers_of_an_executor(serve, workers):
    with client_of(serve(said("Hi")), on_reply=tell_elsewhere, max_retries=2) as client:
        with ThreadPoolExecutor(2) as executor:
            answers = list(client.map(["a", "b"], executor=executor))

    assert all(found.ok for found in answers)
    assert sorted(TOLD_ELSEWHERE) == ["a", "b"]


def test_a_hook_that_cannot_travel_is_refused_before_anything_is_sent(serve):
    server = serve(said("Hi"))

    with client_of(server, on_reply=lambda notice: None, max_retries=2) as client:
        with ThreadPoolExecutor(2) as executor:
            with pytest.raises(chatsdk.ConfigurationError, match="on_reply cannot be sent"):
                list(client.map(["a"], executor=executor))

    assert server.requests == []


def test_each_call_behind_stream_all_is_told(serve, told):
    with client_of(serve(said("a", "b")), told) as client:
        pairs = list(client.stream_all("Hi", ["gigachat:a", "gigachat:b"]))

    assert len(pairs) == 4
    assert sorted(told.names) == ["reply", "reply", "request", "request"]


def test_a_hook_makes_a_question_of_a_journal_no_other_one(serve, told, tmp_path):
    server, journal = serve(said("Hi")), tmp_path / "journal"

    with client_of(server) as client:
        list(client.map(["a"], journal=journal))
        answers = list(client.map(["a"], journal=journal, on_reply=told.hooks["on_reply"]))

    assert (answers[0].reply.text, len(server.requests)) == ("Hi", 1)


def test_each_turn_of_a_conversation_is_told(serve, told):
    with client_of(serve(said("Hi"))) as client:
        conversation = client.conversation(**told.hooks)
        conversation.chat("one")
        conversation.chat("two")

    assert told.names == ["request", "reply"] * 2


def test_each_turn_of_a_run_and_each_answer_to_extract_is_told(serve, told):
    with client_of(serve(said("7"), said('{"value": 7}')), told) as client:
        client.run("Hi", [max_of], on_reply=told.hooks["on_reply"])
        assert client.extract("Hi", int) == 7

    assert told.names == ["request", "reply", "reply", "request", "reply"]


def max_of(a: int, b: int) -> int:
    """Return the greater one."""
    return max(a, b)


def test_a_list_of_models_is_told(serve, told):
    models = {"data": [{"id": "GigaChat", "owned_by": "salutedevices"}]}

    with client_of(serve(document(models)), told) as client:
        client.models()

    assert told.names == ["request", "reply"]
    assert (told.last().operation, told.last().reply) == ("models", None)
    assert (told.last().method, told.last().path) == ("GET", "/models")


@attrs.frozen(kw_only=True)
class Counts(GigaChat):
    """A service that makes vectors and counts tokens, each with one request."""

    embeds = 1
    embedding_model = "Vectors"

    def embed(self, query, fetch):
        fetch(Request(method="POST", url=f"{self.base_url}/embeddings"))
        return Embeddings([[0.5, 1.0] for _ in query.texts], "Vectors-2", Usage(prompt_tokens=4))

    def count_tokens(self, query, fetch):
        fetch(Request(method="POST", url=f"{self.base_url}/tokens/count"))
        return 3


def test_each_request_for_embeddings_is_told_as_a_call_with_its_result(serve, told):
    provider = Counts(access_token="a", base_url=serve(answer("{}")).url)

    with Client(provider, **told.hooks) as client:
        client.embed(["one", "two"])

    assert told.names == ["request", "reply"] * 2
    assert (told.last().operation, told.last().reply) == ("embeddings", None)
    assert (told.last().target, told.last().path) == ("gigachat:Vectors", "/embeddings")
    assert told.last().result.vectors == [[0.5, 1.0]]
    assert told.last().usage == Usage(prompt_tokens=4)


def test_a_count_of_tokens_is_told(serve, told):
    provider = Counts(access_token="a", base_url=serve(answer("{}")).url)

    with Client(provider) as client:
        client.count_tokens("a text", **told.hooks)

    assert told.names == ["request", "reply"]
    assert (told.last().operation, told.last().result) == ("count_tokens", 3)


def test_a_list_of_models_that_fails_is_told_to_hooks_of_that_call(serve, told):
    with client_of(serve(WRONG)) as client, pytest.raises(chatsdk.BadRequestError):
        client.models(**told.hooks)

    assert told.names == ["request", "error"]


def test_a_one_off_call_takes_hooks(serve, told):
    chatsdk.chat("Hi", target=gigachat(serve(said("Hi"))), **told.hooks)
    "".join(chatsdk.stream("Hi", target=gigachat(serve(said("Hi"))), **told.hooks))

    assert told.names == ["request", "reply"] * 2


# Whose hooks they are


def test_the_hooks_of_the_client_and_of_the_call_are_both_called(serve):
    order = []

    with client_of(serve(said("Hi")), on_reply=lambda notice: order.append("client")) as client:
        client.chat("Hi", on_reply=lambda notice: order.append("call"))
        client.chat("Hi")

    assert order == ["client", "call", "client"]


def test_hooks_can_be_changed_in_a_copy_of_a_client(serve):
    order = []
    client = client_of(serve(said("Hi")), on_reply=lambda notice: order.append("old"))
    copy = client.with_options(on_reply=lambda notice: order.append("new"))
    silent = client.with_options(on_reply=None)

    for asked in (copy, client, silent):
        asked.chat("Hi")
    client.close()

    assert order == ["new", "old"]


def test_hooks_of_the_process_are_told_of_every_client_until_they_are_taken_away(serve, told):
    server = serve(said("Hi"))
    attach("test", Hooks(on_reply=told.hooks["on_reply"]))
    try:
        with client_of(server) as one, client_of(server) as two:
            one.chat("Hi")
            two.chat("Hi")
            attach("test", None)
            one.chat("Hi")
    finally:
        attach("test", None)

    assert told.names == ["reply", "reply"]
    assert who_listens.everywhere == {}


def test_a_client_is_pickled_with_hooks_that_can_be():
    client = Client("gigachat", access_token="a", on_reply=len)

    copy = pickle.loads(pickle.dumps(client))

    assert copy._hooks.on_reply is len


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [1, "print", object(), 0, "", False])
def test_a_hook_is_callable(name, value):
    with pytest.raises(TypeError, match=f"{name} must be callable, not"):
        Client("gigachat", access_token="a", **{name: value})
    with pytest.raises(TypeError, match=f"{name} must be callable, not"):
        Client("gigachat", access_token="a").chat("Hi", **{name: value})
    with pytest.raises(TypeError, match=f"{name} must be callable, not"):
        Client("gigachat", access_token="a").models(**{name: value})
    with pytest.raises(TypeError, match=f"{name} must be callable, not"):
        Client("gigachat", access_token="a").embed("a", **{name: value})


def test_a_hook_is_no_coroutine():
    async def hook(notice):
        pass

    with pytest.raises(TypeError, match="on_reply must be a plain function"):
        Client("gigachat", access_token="a", on_reply=hook)


def test_a_misspelt_hook_is_a_type_error():
    with pytest.raises(TypeError, match="did you mean 'on_reply'"):
        Client("gigachat", access_token="a").chat("Hi", on_repl=print)
    with pytest.raises(TypeError, match="did you mean 'on_reply'"):
        Client("gigachat", access_token="a", on_repl=print)
    with pytest.raises(TypeError, match="on_repl"):
        Client("gigachat", access_token="a").models(on_repl=print)


# What they cannot do


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_raises_breaks_nothing_and_is_logged_once(serve, name, caplog):
    def broken(notice):
        raise ValueError("the answer to the prompt")

    server = serve(BUSY, said("Hi"), BUSY, said("Hi"), WRONG)
    with client_of(server, **{name: broken}) as client:
        assert client.chat("Hi").text == "Hi"
        assert client.chat("Hi").text == "Hi"
        with pytest.raises(chatsdk.BadRequestError):
            client.chat("Hi")

    (record,) = [record for record in caplog.records if record.name == "chatsdk.hooks"]
    assert record.levelname == "WARNING"
    line = broken.__code__.co_firstlineno + 1
    assert record.getMessage() == (
        f"the hook {name} failed: ValueError in broken, {__file__}:{line}"
    )


def test_a_hook_that_raises_does_not_keep_another_from_being_told(serve, told):
    def broken(notice):
        raise ValueError

    with client_of(serve(said("Hi")), on_reply=broken) as client:
        client.chat("Hi", on_reply=told.hooks["on_reply"])

    assert told.names == ["reply"]


@pytest.mark.parametrize("name", NAMES)
def test_ctrl_c_in_a_hook_ends_the_call(serve, name):
    def interrupted(notice):
        raise KeyboardInterrupt

    server = serve(BUSY, WRONG if name == "on_error" else said("Hi"))
    with client_of(server, **{name: interrupted}) as client, pytest.raises(KeyboardInterrupt):
        client.chat("Hi")

    assert server.settled()


def test_a_hook_can_add_headers_to_a_request(serve):
    server = serve(said("Hi"))

    with client_of(server) as client:
        client.chat("Hi", on_request=lambda notice: notice.headers.update({"X-Trace": "7"}))

    assert server.requests[0].headers["X-Trace"] == "7"


@pytest.mark.parametrize(
    "name, value",
    [
        ("authorization", "Bearer other"),
        ("Content-Length", "0"),
        ("content-type", "text/plain"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "elsewhere"),
        ("x-own", "other"),
        ("X-Bad", "line\r\nbreak"),
        ("no name", "a"),
        ("X-Number", 7),
    ],
)
def test_a_hook_cannot_break_a_request_with_a_header(serve, name, value):
    server = serve(said("Hi"))

    with client_of(server) as client:
        hook = {"on_request": lambda notice: notice.headers.update({name: value})}
        assert client.chat("Hi", extra_headers={"X-Own": "mine"}, **hook).text == "Hi"

    headers = server.requests[0].headers
    assert headers["X-Own"] == "mine"
    assert headers["Authorization"] == "Bearer a-token"
    assert headers.get(name) != value


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_tells_nothing_of_the_calls_of_its_parent(serve, told):
    def half(peer):
        peer.send(head() + chunk(frame("one")))
        peer.gone()

    with client_of(serve(half), told) as client:
        stream = client.stream("Hi")
        next(stream)
        pid = os.fork()
        if not pid:
            stream.close()
            os._exit(len(told.notices))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        stream.close()

    assert told.names == ["request", "reply"]


def test_notices_of_calls_in_many_threads_do_not_mix(serve):
    seen = {}

    def note(notice):
        seen.setdefault(notice.call, []).append(notice.query.messages[0].content)

    with client_of(serve(said("Hi")), on_request=note, on_reply=note) as client:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client.chat, map(str, range(64))))

    assert sorted(seen.values(), key=lambda pair: int(pair[0])) == [
        [str(number)] * 2 for number in range(64)
    ]


# What is logged


def test_the_end_of_a_call_is_logged_at_info_without_what_was_said(serve, caplog):
    caplog.set_level(logging.INFO)

    with client_of(serve(said("the reply"), WRONG)) as client:
        client.chat("the prompt")
        with pytest.raises(chatsdk.BadRequestError):
            client.chat("the prompt")

    first, second = [record for record in caplog.records if record.name == "chatsdk.calls"]
    assert first.getMessage().startswith("gigachat:GigaChat: answered after 0.")
    assert first.getMessage().endswith(" s, attempt 1")
    assert second.getMessage().startswith("gigachat:GigaChat: BadRequestError after 0.")
    assert "the prompt" not in caplog.text and "the reply" not in caplog.text


def test_a_notice_names_the_target_of_a_service_without_models():
    notice = Notice(
        call=1, operation="chat", provider="p", model=None, base_url="", began=0.0, seconds=0.0,
        attempt=1,
    )

    assert (notice.target, attrs.evolve(notice, model="m").target) == ("p", "p:m")


def test_a_rate_limit_of_a_map_is_told_as_any_other_error(serve, told):
    with client_of(serve(answer("", "429 Too Many")), max_retries=0) as client:
        (found,) = client.map(["a"], **told.hooks)

    assert told.names == ["request", "error"]
    assert told.last().error is found.error and isinstance(found.error, RateLimitError)
