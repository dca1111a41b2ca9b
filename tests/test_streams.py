"""A stream: an iterator for one, the sum of its steps, and every way it can end."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from servers import chunk, DONE, frame, gigachat, head, said

from chatsdk import Client
from chatsdk.errors import CancelledError, ChatError, ProviderError, StreamInterruptedError
from chatsdk.messages import Delta, Message, Reply, Usage
from chatsdk.parts import ToolCall, ToolCallPart
from chatsdk.streams import Stream


class Call:
    """A call that only notes what is done to it."""

    provider = "test"
    model = "asked-for"

    def __init__(self):
        self.done = []

    def cancel(self, *, hurry=False):
        self.done.append("hurried" if hurry else "cancelled")

    def abort(self):
        self.done.append("aborted")

    def count(self, usage):
        self.done.append(usage)

    def limits(self):
        return None


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def stream(*steps, call=None, **options):
    """Return an opened stream of steps; an exception among them is raised in its place."""
    call = Call() if call is None else call

    def played():
        try:
            yield None
            for step in steps:
                if isinstance(step, BaseException):
                    raise step
                yield Delta(step) if isinstance(step, str) else step
        finally:
            call.done.append("finished")

    return Stream(call, played(), **options).open()


# Reading


def test_a_stream_is_an_iterator_of_text():
    answer = stream("Hel", "lo")

    assert iter(answer) is answer
    assert list(answer) == ["Hel", "lo"]


def test_a_stream_can_be_read_once():
    answer = stream("Hello")

    assert list(answer) == ["Hello"]
    assert list(answer) == list(answer.deltas()) == []
    with pytest.raises(StopIteration):
        next(answer)
    assert answer.text == "Hello"


def test_steps_without_text_are_passed_over_by_who_reads_text():
    steps = [None, Delta(reasoning="hm"), "a", None, Delta(finish_reason="stop")]

    assert list(stream(*steps)) == ["a"]


def test_deltas_are_given_as_they_are():
    steps = [Delta(reasoning="hm"), Delta("a", raw={"n": 1}), Delta(usage=Usage(1), final=True)]

    assert list(stream(*steps).deltas()) == steps


def test_text_and_deltas_may_take_turns():
    answer = stream("a", "b", "c", "d")

    assert next(answer) == "a"
    assert next(answer.deltas()).text == "b"
    assert list(answer) == ["c", "d"]


def test_the_text_and_the_reply_so_far_are_there_at_any_moment():
    answer = stream("a", Delta("b", model="told", id="7"), Delta(finish_reason="stop"))

    assert (answer.text, answer.reply.text, answer.reply.model) == ("", "", "asked-for")
    next(answer)
    assert (answer.text, answer.reply.finish_reason) == ("a", None)
    next(answer)
    assert (answer.text, answer.reply.model, answer.reply.id) == ("ab", "told", "7")
    assert list(answer) == []
    assert answer.reply.finish_reason == "stop"


def test_the_reply_is_the_sum_of_all_steps():
    answer = stream(
        Delta(reasoning="let me "),
        Delta(reasoning="see", model="m", id="7", usage=Usage(1), state={"a": 1}),
        Delta("text", raw={"n": 1}, state={"b": 2}),
        Delta(usage=Usage(1, 2, 3), finish_reason="length", final=True, raw={"n": 2}),
        clock=lambda: 0.0,
    )

    assert list(answer) == ["text"]
    assert answer.reply == Reply(
        text="text",
        model="m",
        provider="test",
        finish_reason="length",
        usage=Usage(1, 2, 3),
        reasoning="let me see",
        id="7",
        first_text_after=0.0,
        raw={"n": 2},
        state={"a": 1, "b": 2},
    )
    assert answer.reply.message == Message("assistant", "text", state={"a": 1, "b": 2})


def test_a_reply_can_be_read_in_one_go():
    assert stream().text == ""
    call = Call()
    unopened = Stream(call, (Delta(text) if text else None for text in (None, "a", "b")))

    assert unopened.read().text == "ab"


def test_pieces_of_tool_calls_are_put_together_in_order():
    def part(*pieces):
        return Delta(tool_calls=pieces)

    answer = stream(
        part(ToolCallPart(1, "b", "later", "")),
        part(ToolCallPart(0, "a", "now", '{"zone"')),
        part(ToolCallPart(1, arguments="nope"), ToolCallPart(0, arguments=': "й\\ud83d')),
        part(ToolCallPart(0, arguments='\\ude42"}')),
    )

    assert list(answer) == []
    assert answer.reply.tool_calls == (
        ToolCall("a", "now", {"zone": "й🙂"}, '{"zone": "й\\ud83d\\ude42"}'),
        ToolCall("b", "later", None, "nope"),
    )
    assert answer.reply.message.tool_calls == answer.reply.tool_calls


def test_what_is_told_early_can_be_seen_early():
    answer = stream(Delta("a", tool_calls=(ToolCallPart(0, "a", "now", '{"zo'),)), "b")

    next(answer)
    assert answer.reply.tool_calls == (ToolCall("a", "now", None, '{"zo'),)


# Surrogates

HIGH, LOW = "\ud83d", "\ude42"


@pytest.mark.parametrize(
    "pieces, texts",
    [
        (["a" + HIGH, LOW + "b"], ["a", "🙂b"]),
        ([HIGH, LOW], ["🙂"]),
        ([HIGH + LOW], ["🙂"]),
        (["a" + HIGH], ["a", "\ufffd"]),
        ([HIGH, "b"], ["\ufffdb"]),
        ([HIGH, HIGH + LOW], ["\ufffd🙂"]),
        ([HIGH, HIGH, LOW], ["\ufffd", "🙂"]),
        ([LOW, "a"], ["\ufffd", "a"]),
        (["a" + LOW + HIGH + "b"], ["a\ufffd\ufffdb"]),
        ([HIGH], ["\ufffd"]),
        (["\ufeffй", "\ufeff" + HIGH, LOW], ["\ufeffй", "\ufeff", "🙂"]),
    ],
)
def test_pairs_are_put_together_and_halves_are_replaced(pieces, texts):
    answer = stream(*pieces)

    assert list(answer) == texts
    assert answer.text == "".join(texts)


def test_a_half_waits_also_while_steps_without_text_come():
    answer = stream("a" + HIGH, Delta(reasoning="hm"), LOW)

    assert list(answer) == ["a", "🙂"]


def test_a_half_that_is_left_is_the_last_delta():
    answer = stream(Delta("a" + HIGH, finish_reason="stop"))

    assert [delta.text for delta in answer.deltas()] == ["a", "\ufffd"]
    assert (answer.text, answer.reply.finish_reason) == ("a\ufffd", "stop")


def test_a_half_that_is_left_at_an_error_is_in_the_partial_reply():
    with pytest.raises(ProviderError) as caught:
        list(stream("a" + HIGH, ProviderError("no")))

    assert caught.value.partial.text == "a\ufffd"


@pytest.mark.parametrize(
    "pieces, whole",
    [(["a" + HIGH, LOW + "b"], "a🙂b"), (["a" + HIGH], "a\ufffd"), ([LOW], "\ufffd")],
)
def test_reasoning_is_mended_like_text(pieces, whole):
    answer = stream(*[Delta(reasoning=piece) for piece in pieces], "text")

    handed = "".join(delta.reasoning for delta in answer.deltas())

    assert answer.reply.reasoning == whole
    handed.encode()  # no half is handed out either


# Time


def test_times_count_from_the_call_by_the_clock_that_is_given():
    clock = Clock()
    answer = stream(Delta(reasoning="hm"), "a", "b", clock=clock)

    clock.now += 1
    assert next(answer.deltas()).reasoning == "hm"
    assert (answer.reply.elapsed, answer.reply.first_text_after) == (1.0, None)
    clock.now += 2
    assert next(answer) == "a"
    clock.now += 4
    assert next(answer) == "b"
    assert (answer.reply.elapsed, answer.reply.first_text_after) == (7.0, 3.0)
    assert list(answer) == []
    clock.now += 8
    assert (answer.reply.elapsed, answer.reply.first_text_after) == (7.0, 3.0)


# Ends


def test_a_stream_that_was_read_to_its_end_is_finished_once():
    ended = []
    call = Call()
    answer = stream("a", call=call, closed=lambda: ended.append("closed"), whole=ended.append)

    assert list(answer) == ["a"]
    answer.close()
    with answer:
        pass
    assert call.done == ["finished"]
    assert ended == ["closed", answer.reply]


def test_a_stream_that_is_closed_ends():
    ended = []
    call = Call()
    answer = stream("a", "b", call=call, closed=lambda: ended.append("closed"), whole=ended.append)

    assert next(answer) == "a"
    answer.close()
    answer.close()

    assert list(answer) == list(answer.deltas()) == []
    assert call.done == ["cancelled", "finished"]
    assert ended == ["closed"]
    assert answer.text == answer.reply.text == "a"
    assert answer.reply.finish_reason is None


def test_leaving_a_with_block_closes():
    call = Call()
    with stream("a", "b", call=call) as answer:
        for _ in answer:
            break

    assert call.done == ["cancelled", "finished"]


def test_an_error_in_a_with_block_is_not_hidden():
    call = Call()
    with pytest.raises(KeyError, match="mine"), stream("a", "b", call=call) as answer:
        for text in answer:
            raise KeyError("mine")

    assert call.done == ["cancelled", "finished"]


def test_closing_inside_the_loop_ends_it():
    answer = stream("a", "b")
    seen = []
    for text in answer:
        seen.append(text)
        answer.close()

    assert seen == ["a"]


def test_a_stream_that_nobody_holds_is_closed():
    call = Call()
    answer = stream("a", "b", call=call)
    next(answer)
    known = weakref.ref(answer)

    del answer
    gc.collect()

    assert known() is None
    assert call.done == ["finished"]


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_a_stream_closed_by_another_thread_is_cancelled_and_keeps_its_text():
    answer = stream("a", "b")
    next(answer)

    in_a_thread(answer.close)

    for _ in range(2):
        with pytest.raises(CancelledError) as caught:
            next(answer)
        assert caught.value.partial.text == "a"
        assert caught.value.provider == "test"
    with pytest.raises(CancelledError):
        next(answer.deltas())


def test_closing_after_another_thread_did_changes_nothing():
    answer = stream("a", "b")
    in_a_thread(answer.close)
    answer.close()

    with pytest.raises(CancelledError):
        next(answer)


def test_a_stream_that_has_ended_cannot_be_cancelled_any_more():
    call = Call()
    answer = stream("a", call=call)
    assert list(answer) == ["a"]

    in_a_thread(answer.close)

    assert list(answer) == []
    assert call.done == ["finished"]


def test_what_arrived_while_another_thread_closed_is_in_the_partial_reply():
    closing, closed = threading.Event(), threading.Event()

    def steps():
        yield None
        yield Delta("a")
        closing.set()
        assert closed.wait(20)
        yield Delta("b")

    answer = Stream(Call(), steps()).open()
    assert next(answer) == "a"

    def close():
        assert closing.wait(20)
        answer.close()
        closed.set()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(CancelledError) as caught:
        next(answer)
    thread.join(20)

    assert caught.value.partial.text == "ab"


def test_the_end_that_comes_while_another_thread_closes_is_no_whole_reply():
    ended = []

    def steps():
        yield None
        in_a_thread(answer.close)

    answer = Stream(Call(), steps(), whole=ended.append).open()

    with pytest.raises(CancelledError):
        next(answer)
    assert not ended


def test_a_reader_that_meets_a_closer_is_cancelled():
    closing, go = threading.Event(), threading.Event()

    def steps():
        try:
            yield None
            yield Delta("a")
            yield Delta("b")
        finally:
            closing.set()
            assert go.wait(20)  # as a clean-up at the service does

    ended = []
    answer = Stream(Call(), steps(), closed=lambda: ended.append("closed")).open()
    assert next(answer) == "a"
    thread = threading.Thread(target=answer.close)
    thread.start()
    assert closing.wait(20)

    try:
        with pytest.raises(CancelledError) as caught:
            next(answer)
    finally:
        go.set()
        thread.join(20)

    assert caught.value.partial.text == "a"
    assert ended == ["closed"]


def test_an_aborted_stream_ends_its_clean_up_too():
    call = Call()
    answer = stream("a", call=call)

    answer.abort()

    assert call.done == ["hurried", "aborted"]
    answer.close()


# Errors


def test_an_error_carries_the_provider_and_the_text_so_far():
    ended = []
    cause = ValueError("below")
    error = StreamInterruptedError("broke off")
    error.__cause__ = cause
    call = Call()
    answer = stream("a", "b", error, call=call, whole=ended.append)

    with pytest.raises(StreamInterruptedError) as caught:
        list(answer)

    assert caught.value is error and error.__cause__ is cause
    assert (error.provider, error.partial.text) == ("test", "ab")
    assert error.partial.finish_reason is None
    assert call.done == ["finished"] and not ended
    assert list(answer) == []


def test_an_error_that_knows_its_provider_keeps_it():
    with pytest.raises(ProviderError) as caught:
        list(stream(ProviderError("no", provider="mine")))

    assert caught.value.provider == "mine"


def test_an_error_at_the_call_is_raised_there():
    call = Call()
    ended = []

    def steps():
        raise ChatError("refused")
        yield

    with pytest.raises(ChatError) as caught:
        Stream(call, steps(), closed=lambda: ended.append("closed")).open()

    assert caught.value.provider == "test" and ended == ["closed"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interruption_passes_through_with_the_text_so_far(kind):
    call = Call()
    answer = stream("a", "b", kind(), call=call)

    with pytest.raises(kind) as caught:
        list(answer)

    assert caught.value.partial.text == "ab"
    assert call.done == ["finished"]


def test_an_interruption_at_the_call_passes_through():
    ended = []

    def steps():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        Stream(Call(), steps(), closed=lambda: ended.append("closed")).open()

    assert ended == ["closed"]


# Over a real connection


def slowly(*pieces, go):
    """Return an answer that waits for the test before its last piece."""

    def play(peer):
        peer.send(head(), *map(chunk, pieces[:-1]))
        peer.wait(go)
        peer.send(chunk(pieces[-1]), chunk(b""))

    return play


def test_text_is_handed_out_when_its_bytes_arrive(serve):
    go = threading.Event()
    server = serve(slowly(frame("one"), frame("two", "stop") + DONE, go=go))

    with Client(gigachat(server)) as client, client.stream("Hi") as answer:
        assert next(answer) == "one"
        go.set()
        assert list(answer) == ["two"]
    assert answer.reply.finish_reason == "stop"


def test_a_read_that_waits_is_ended_by_another_thread(serve):
    waiting = threading.Event()

    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        waiting.set()
        peer.gone()

    server = serve(hang)
    with Client(gigachat(server)) as client:
        answer = client.stream("Hi")
        assert next(answer) == "one"

        def close():
            assert waiting.wait(20)
            answer.close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(CancelledError) as caught:
            next(answer)
        thread.join(20)

        assert caught.value.partial.text == "one"
        assert server.settled(0)


@pytest.mark.parametrize("leave", ["close", "with", "forget", "error"])
def test_a_stream_that_is_left_early_leaves_no_connection(serve, leave):
    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        peer.gone()

    server = serve(hang, said("Hi"))
    with Client(gigachat(server)) as client:
        answer = client.stream("Hi")
        assert next(answer) == "one"
        if leave == "close":
            answer.close()
        elif leave == "with":
            with answer:
                pass
        elif leave == "error":
            with pytest.raises(KeyError), answer:
                raise KeyError
        del answer
        gc.collect()

        assert server.settled(0)
        assert client.chat("Hi").text == "Hi"


def test_ctrl_c_in_a_read_keeps_the_text(serve, monkeypatch):
    def interrupted(watch):
        raise KeyboardInterrupt

    server = serve(head() + chunk(frame("one")) + chunk(frame("two")))
    with Client(gigachat(server)) as client:
        answer = client.stream("Hi")
        assert next(answer) == "one"
        monkeypatch.setattr("chatsdk.sockets.Watch.remaining", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            list(answer)

        assert caught.value.partial.text == answer.text
        assert answer.text.startswith("one")
        monkeypatch.undo()
        assert server.settled(0)
