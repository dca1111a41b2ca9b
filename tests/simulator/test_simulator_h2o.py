"""The simulated H2o: gates, sessions, conversations, and the frames of its model server."""

from __future__ import annotations

import json
import re
import threading
import uuid

import pytest
import requests

from chatsdk.simulator import Simulator

MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
ID = {"id": str(uuid.uuid4())}


class Person(requests.Session):
    """A session with cookies of its own, like a browser's."""

    def __init__(self, sim, referer=True):
        super().__init__()
        self.trust_env = False
        self.base = sim.fields("h2o")["base_url"]
        if referer:
            self.headers["Referer"] = self.base + "/"

    def settings(self, headers=None, **change):
        form = {"ethicsModalAccepted": "true", "shareConversationsWithModelAuthors": "",
                "ethicsModalAcceptedAt": "", "activeModel": MODEL, "searchEnabled": "true"}
        return self.post(self.base + "/settings", {**form, **change}, headers=headers,
                         allow_redirects=False)

    def create(self, model=MODEL):
        return self.post(self.base + "/conversation", json={"model": model})

    def open(self):
        """Accept the dialogue and return the URL of a new conversation."""
        self.settings()
        return f"{self.base}/conversation/{self.create().json()['conversationId']}"

    def ask(self, url, inputs="Hi", headers=None, options=ID, stream=True, **parameters):
        parameters.setdefault("max_new_tokens", 1024)
        body = {"inputs": inputs, "parameters": parameters, "options": options}
        return self.post(url, json={**body, "stream": stream} if stream else body,
                         headers=headers)


@pytest.fixture
def sim():
    with Simulator(reply=["Да", "!"]) as simulator:
        yield simulator


@pytest.fixture
def person(sim):
    with Person(sim) as made:
        yield made


def frames(answer):
    return [json.loads(line.removeprefix("data:"))
            for line in answer.content.decode().split("\n") if line]


def test_a_chat_goes_from_settings_to_deletion(sim, person):
    url = person.open()
    answer = person.ask(url)
    made = sim.conversations
    deleted = person.delete(url)

    assert answer.status_code == 200
    assert made == [url.rpartition("/")[2]] and re.fullmatch("[0-9a-f]{24}", made[0])
    assert (deleted.status_code, deleted.content, sim.conversations) == (200, b"", [])
    assert [r.path for r in sim.requests] == ["/settings", "/conversation"] + [
        f"/conversation/{made[0]}"] * 2


def test_frames_are_the_model_servers_byte_for_byte(person):
    answer = person.ask(person.open())
    first, second, last, rest = answer.content.decode().split("\n\n")
    token = r'"id":\d+,"text":"%s","logprob":-0\.\d+,"special":false'

    assert re.fullmatch(r'data:\{"token":\{' + token % "Да" +
                        r'\},"generated_text":null,"details":null\}', first)
    assert re.fullmatch(r'data:\{"token":\{' + token % "!" +
                        r'\},"generated_text":null,"details":null\}', second)
    assert last == ('data:{"token":{"id":11,"text":"<|endoftext|>","logprob":-0.0021,'
                    '"special":true},"generated_text":"Да!","details":null}')
    assert rest == ""
    assert {name: answer.headers[name] for name in (
        "Content-Type", "Cache-Control", "x-compute-type", "x-compute-characters",
        "X-Accel-Buffering", "Transfer-Encoding")} == {
            "Content-Type": "text/event-stream", "Cache-Control": "no-cache",
            "x-compute-type": "gpu+optimized", "x-compute-characters": "2",
            "X-Accel-Buffering": "no", "Transfer-Encoding": "chunked"}


def test_details_come_in_the_last_frame_if_asked_for(person):
    url = person.open()
    plain = frames(person.ask(url, details=True, seed=7, do_sample=True))
    unsampled = frames(person.ask(url, details=True))

    assert [frame["details"] for frame in plain] == [
        None, None, {"finish_reason": "eos_token", "generated_tokens": 3, "seed": 7}]
    assert unsampled[-1]["details"]["seed"] is None


@pytest.mark.parametrize("change, text, reason", [
    ({"max_new_tokens": 2}, "one two ", "length"),
    ({"stop": ["wo"]}, "one two", "stop_sequence"),
    ({"max_new_tokens": 3}, "one two three", "eos_token")])
def test_an_answer_ends_for_a_reason(change, text, reason):
    with Simulator(reply="one two three") as sim, Person(sim) as person:
        *_, last = frames(person.ask(person.open(), details=True, **change))

    assert last["generated_text"] == text
    assert last["details"]["finish_reason"] == reason
    assert last["token"]["special"] == (reason == "eos_token")


def test_the_model_server_generates_20_tokens_unless_told():
    with Simulator(reply="word " * 21) as sim, Person(sim) as person:
        *_, last = frames(person.ask(person.open(), max_new_tokens=None, details=True))

    assert last["details"] == {"finish_reason": "length", "generated_tokens": 20, "seed": None}


def test_without_streaming_there_is_one_document(person):
    url = person.open()

    assert person.ask(url, stream=False).json() == [{"generated_text": "Да!"}]
    assert person.ask(url, stream=False, top_p=1.0).status_code == 422


@pytest.mark.parametrize("parameters, message", [
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"typical_p": 1}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 3072. Given: 0"),
    ({"max_new_tokens": 4096}, "`inputs` tokens + `max_new_tokens` must be <= 4096. "
                               "Given: 1 `inputs` tokens and 4096 `max_new_tokens`"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"best_of": 2}, "`best_of` != 1 is not supported when streaming tokens"),
])
def test_the_model_server_refuses_values_inside_the_stream(person, parameters, message):
    answer = person.ask(person.open(), **parameters)

    assert answer.status_code == 200
    assert answer.content == b"data:" + json.dumps(
        {"error": f"Input validation error: {message}", "error_type": "validation"},
        separators=(",", ":")).encode() + b"\n\n"


def test_too_long_a_text_is_refused_unless_it_is_truncated(person):
    url = person.open()
    text = "word " * 3073

    assert frames(person.ask(url, text, max_new_tokens=1))[0]["error"].endswith(
        "`inputs` must have less than 3072 tokens. Given: 3073")
    assert "error" not in frames(person.ask(url, text, truncate=2048))[0]


@pytest.mark.parametrize("parameters", [{"temperature": "hot"}, {"top_k": 1.5}, {"stop": "x"}])
def test_values_of_the_wrong_type_are_422_before_the_stream(person, parameters):
    answer = person.ask(person.open(), **parameters)

    assert answer.status_code == 422
    assert answer.text.startswith("Failed to deserialize the JSON body")


@pytest.mark.parametrize("accept, status, json_body", [
    (None, 200, True), ("*/*", 200, True), ("application/json", 200, True),
    ("text/html", 303, False), ("text/html,application/xhtml+xml,*/*;q=0.8", 303, False),
    ("application/json, text/html;q=0.9", 200, True), ("text/event-stream", 303, False)])
def test_settings_answer_in_json_or_by_a_redirect(person, accept, status, json_body):
    answer = person.settings({"Accept": accept} if accept else None)
    location = person.base + "/"

    assert answer.status_code == status
    if json_body:
        assert answer.content == ('{"type":"redirect","status":303,"location":"%s"}'
                                  % location).encode()
    else:
        assert (answer.headers["Location"], answer.content) == (location, b"")


def test_unknown_models_in_the_settings_are_500(person):
    plain = person.settings(activeModel="nobody")
    page = person.settings({"Accept": "text/html"}, activeModel="nobody")

    assert (plain.status_code, plain.content) == (
        500, b'{"type":"error","error":{"message":"Internal Error"}}')
    assert (page.status_code, page.headers["Content-Type"]) == (500, "text/html")


@pytest.mark.parametrize("referer, status, message", [
    (None, 403, "Non-JSON form requests need to have a referer"),
    ("https://gpt-gm.h2o.ai/", 403, "Invalid referer for POST request")])
def test_forms_need_a_referer_of_the_same_origin(sim, referer, status, message):
    with Person(sim, referer=False) as person:
        headers = {"Referer": referer} if referer else {}
        plain = person.settings(headers)
        asked = person.settings({**headers, "Accept": "application/json"})

    assert (plain.status_code, plain.text) == (status, message)
    assert plain.headers["Content-Type"] == "text/plain"
    assert asked.json() == {"error": message}
    assert not person.cookies


def test_a_referer_that_is_no_url_is_500(sim):
    with Person(sim, referer=False) as person:
        assert person.settings({"Referer": "nonsense"}).status_code == 500


@pytest.mark.parametrize("accepted, status", [("true", 200), ("false", 200), ("", 405)])
def test_the_welcome_dialogue_must_be_accepted_by_any_text(person, accepted, status):
    person.settings(ethicsModalAccepted=accepted)
    answer = person.create()

    assert answer.status_code == status
    assert status == 200 or answer.json() == {
        "error": "You need to accept the welcome modal first"}


def test_without_a_welcome_dialogue_settings_are_needless():
    with Simulator(welcome=False) as sim, Person(sim) as person:
        assert person.create().status_code == 200


def test_the_cookie_comes_with_each_good_answer_and_keeps_the_clients_value(sim):
    with Person(sim) as person:
        person.cookies["hf-chat"] = "mine"
        cookies = [person.settings().headers["Set-Cookie"],
                   person.create().headers["Set-Cookie"]]
    with Person(sim) as person:
        fresh = person.settings().headers["Set-Cookie"]

    assert all(re.fullmatch(r"hf-chat=mine; Path=/; Expires=[^;]+ GMT; HttpOnly; SameSite=Lax",
                            cookie) for cookie in cookies)
    assert re.match(r"hf-chat=[0-9a-f]{8}-", fresh)


def test_conversations_belong_to_their_session(sim, person):
    url = person.open()
    with Person(sim) as other:
        other.settings()
        answers = [other.ask(url), other.delete(url), other.post(url + "/stop-generating")]

    assert [(a.status_code, a.json()) for a in answers] == [
        (404, {"message": "Conversation not found"})] * 3
    assert len(sim.conversations) == 1


def test_what_is_deleted_is_not_found(person):
    url = person.open()
    person.delete(url)

    assert person.delete(url).status_code == 404
    assert person.ask(url).status_code == 404


def test_an_id_that_cannot_be_one_is_500(person):
    person.open()
    answer = person.ask(person.base + "/conversation/short")

    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Error"})


@pytest.mark.parametrize("change", [
    {"inputs": "  "}, {"options": None}, {"options": {"id": "x"}},
    {"options": {"response_id": "x"}}])
def test_a_body_that_chat_ui_cannot_take_is_500(person, change):
    answer = person.ask(person.open(), **change)

    assert (answer.status_code, answer.content) == (500, b'{"message":"Internal Error"}')


def test_an_unknown_model_cannot_be_talked_to(person):
    person.settings()

    assert person.create("nobody").status_code == 500


def test_generating_for_a_page_is_405_and_errors_for_event_streams_are_pages(person):
    url = person.open()

    assert person.ask(url, headers={"Accept": "text/html"}).status_code == 405
    assert person.ask(url, headers={"Accept": "text/event-stream"}).status_code == 200
    person.delete(url)
    answer = person.ask(url, headers={"Accept": "text/html;q=0.1,text/event-stream"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (405, "text/html")


def test_stop_generating_breaks_the_stream_off():
    said, go_on = threading.Event(), threading.Event()

    def reply(messages):
        yield "a"
        said.set()
        go_on.wait(5)
        yield "b"

    with Simulator(reply=reply) as sim, Person(sim) as person:
        url = person.open()
        stream = person.post(url, json={"inputs": "Hi", "stream": True, "options": ID,
                                        "parameters": {"max_new_tokens": 9}}, stream=True)
        said.wait(5)
        with Person(sim) as same:
            same.cookies.update(person.cookies)
            stopped = same.post(url + "/stop-generating")
        go_on.set()
        with stream, pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(stream.iter_content(None))

        assert (stopped.status_code, stopped.content) == (200, b"")
        assert sim.stopped_generations == [url.rpartition("/")[2]]


def test_the_server_keeps_the_history_of_a_conversation():
    seen = []

    def reply(messages):
        seen.append([(m["role"], m["content"]) for m in messages])
        return "Hello"

    with Simulator(reply=reply) as sim, Person(sim) as person:
        url = person.open()
        person.ask(url, "One")
        assert sim.wait_idle()
        sim.play("cut", service="h2o")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            person.ask(url, "Lost")
        assert sim.wait_idle()
        person.ask(url, "User: Two\nAssistant: Yes\nmore\nUser: Three\nAssistant:")

    assert seen[-1] == [("user", "One"), ("assistant", "Hello"), ("user", "Two"),
                        ("assistant", "Yes\nmore"), ("user", "Three")]
