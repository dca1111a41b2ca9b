"""The simulated TGI: its checks, and the bytes of its answers."""

from __future__ import annotations

import json

import pytest
import requests

from chatsdk.simulator import Simulator


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def sim():
    with Simulator(reply=["Раз", ", два"]) as simulator:
        yield simulator


def send(sim, http, path, body):
    return http.post(sim.fields("tgi")["base_url"] + path, json=body)


def generate(sim, http, path="/generate_stream", inputs="Hi there", **parameters):
    return send(sim, http, path, {"inputs": inputs, "parameters": parameters})


def events(answer):
    frames = answer.content.split(b"\n\n")[:-1]
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def test_a_stream_has_a_frame_for_each_token_and_a_special_one_at_the_end(sim, http):
    answer = generate(sim, http, details=True)

    assert answer.content.decode() == (
        'data: {"index":1,"token":{"id":51223,"text":"Раз","logprob":-0.0321,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":2,"token":{"id":37375,"text":", два","logprob":-0.8221,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":3,"token":{"id":2,"text":"<|im_end|>","logprob":-0.0021,"special":true},'
        '"generated_text":"Раз, два","details":{"finish_reason":"eos_token",'
        '"generated_tokens":3,"seed":null,"input_length":2}}\n\n')
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["x-compute-characters"] == "8"
    assert answer.headers["X-Accel-Buffering"] == "no"


def test_details_come_only_if_asked_for(sim, http):
    assert events(generate(sim, http))[-1]["details"] is None
    assert generate(sim, http, "/generate").json() == {"generated_text": "Раз, два"}


def test_without_streaming_the_answer_is_an_object_with_all_tokens(sim, http):
    answer = generate(sim, http, "/generate", details=True, decoder_input_details=True)
    details = answer.json()["details"]

    assert answer.json()["generated_text"] == "Раз, два"
    assert [part["text"] for part in details["prefill"]] == ["Hi", " there"]
    assert [part["text"] for part in details["tokens"]] == ["Раз", ", два", "<|im_end|>"]
    assert (details["finish_reason"], details["generated_tokens"]) == ("eos_token", 3)
    assert answer.headers["x-prompt-tokens"] == "2"


def test_the_root_answers_both_ways_and_repeats_the_prompt(sim, http):
    whole = send(sim, http, "/", {"inputs": "Hi"})
    bare = send(sim, http, "/", {"inputs": "Hi", "parameters": {"return_full_text": False}})
    streamed = send(sim, http, "/", {"inputs": "Hi", "stream": True})

    assert whole.json() == [{"generated_text": "HiРаз, два"}]
    assert bare.json() == [{"generated_text": "Раз, два"}]
    assert events(streamed)[-1]["generated_text"] == "HiРаз, два"


@pytest.mark.parametrize("parameters, text, reason, count", [
    ({"max_new_tokens": 2}, "one two ", "length", 2),
    ({"stop": ["two"]}, "one two", "stop_sequence", 2),
    ({}, "one two three", "eos_token", 4)])
def test_an_answer_ends_by_limit_stop_text_or_itself(http, parameters, text, reason, count):
    with Simulator(reply="one two three") as sim:
        *_, last = events(generate(sim, http, details=True, **parameters))

    assert last["generated_text"] == text
    assert (last["details"]["finish_reason"], last["details"]["generated_tokens"]) == (reason,
                                                                                       count)
    assert last["token"]["special"] is (reason == "eos_token")


WRONG = [
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"top_p": 1}, "`top_p` must be > 0.0 and < 1.0"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"frequency_penalty": 3}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"max_new_tokens": 4096}, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 2 "
     "`inputs` tokens and 4096 `max_new_tokens`"),
    ({"grammar": {"type": "json", "value": {}}},
     "grammar is not valid: Grammar must have a 'properties' field"),
    ({"grammar": {"type": "json", "value": 7}}, "grammar is not supported"),
    ({"grammar": {"type": "json", "value": "{"}}, "grammar is not supported"),
    ({"inputs": ""}, "`inputs` cannot be empty")]


@pytest.mark.parametrize("parameters, message", WRONG)
def test_a_fault_is_422_or_a_frame_of_a_good_stream(sim, http, parameters, message):
    whole = generate(sim, http, "/generate", **parameters)
    streamed = generate(sim, http, **parameters)
    told = {"error": f"Input validation error: {message}", "error_type": "validation"}

    assert (whole.status_code, whole.json()) == (422, told)
    assert (streamed.status_code, events(streamed)) == (200, [told])


@pytest.mark.parametrize("parameters, stream, message", [
    ({"best_of": 2, "do_sample": True}, True,
     "`best_of` != 1 is not supported when streaming tokens"),
    ({"best_of": 2}, False, "you must use sampling when `best_of` is > 1"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, False,
     "`seed` must not be set when `best_of` > 1"),
    ({"decoder_input_details": True}, True,
     "`decoder_input_details` == true is not supported when streaming tokens")])
def test_some_values_do_not_go_together(sim, http, parameters, stream, message):
    answer = generate(sim, http, "/generate_stream" if stream else "/generate", **parameters)
    told = events(answer)[0] if stream else answer.json()

    assert told["error"] == f"Input validation error: {message}"


@pytest.mark.parametrize("body, status, text", [
    (b"{", 400, "Failed to parse the request body as JSON"),
    (b"[]", 422, "Failed to deserialize the JSON body into the target type: "
     "invalid type, expected struct"),
    (b"{}", 422, "Failed to deserialize the JSON body into the target type: "
     "missing field `inputs`"),
    (b'{"inputs":7}', 422, "Failed to deserialize the JSON body into the target type: inputs: "
     "invalid type, expected a string"),
    (b'{"inputs":"x","parameters":{"seed":"x"}}', 422, "Failed to deserialize the JSON body into "
     "the target type: parameters.seed: invalid type")])
def test_what_cannot_be_read_is_refused_in_plain_text(sim, http, body, status, text):
    answer = http.post(sim.fields("tgi")["base_url"] + "/generate", data=body,
                       headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_body_must_say_that_it_is_json(sim, http):
    answer = http.post(sim.fields("tgi")["base_url"] + "/generate", data=b'{"inputs":"x"}')

    assert answer.status_code == 415


def test_a_grammar_rules_the_answer(http):
    grammar = {"type": "json", "value": {"properties": {"city": {"type": "string"}}}}
    with Simulator() as sim:
        whole = generate(sim, http, "/generate", "Paris", grammar=grammar).json()
        text = generate(sim, http, "/generate", "Paris", grammar={
            "type": "json", "value": json.dumps(grammar["value"])}).json()

    assert json.loads(whole["generated_text"]) == {"city": "Paris"}
    assert text == whole


def test_tokens_have_their_places(sim, http):
    tokens = send(sim, http, "/tokenize", {"inputs": "Так, yes"}).json()

    assert [(t["text"], t["start"], t["stop"]) for t in tokens] == [
        ("Так", 0, 3), (",", 3, 4), (" yes", 4, 8)]
    assert all(isinstance(t["id"], int) for t in tokens)


@pytest.mark.parametrize("prompt", [
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\n", "System: Be brief.\nUser: Hi\nAssistant:"])
def test_the_turns_of_a_prompt_reach_the_reply(http, prompt):
    heard = []
    with Simulator(reply=lambda messages: heard.append(messages) or "ok") as sim:
        generate(sim, http, inputs=prompt)

    assert heard == [[{"role": "system", "content": "Be brief."},
                      {"role": "user", "content": "Hi"}]]


def test_messages_are_put_into_the_models_template(sim, http):
    body = send(sim, http, "/chat_tokenize", {"messages": [
        {"role": "user", "content": "Hi"}]}).json()
    missing = send(sim, http, "/chat_tokenize", {})

    assert body["templated_text"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "".join(t["text"] for t in body["tokenize_response"]) == body["templated_text"]
    assert missing.status_code == 422


def test_the_model_is_named_and_health_has_no_body(sim, http):
    base = sim.fields("tgi")["base_url"]
    info = http.get(base + "/info").json()
    health = http.get(base + "/health")

    assert info["model_id"] == "HuggingFaceTB/SmolLM2-1.7B-Instruct"
    assert (info["max_input_tokens"], info["max_total_tokens"]) == (3072, 4096)
    assert (health.status_code, health.content) == (200, b"")
    assert http.get(base + "/generate").status_code == 405
    assert http.get(base + "/nothing").status_code == 404


@pytest.mark.parametrize("status, kind", [
    (422, "validation"), (424, "generation"), (429, "overloaded"),
    (500, "incomplete_generation"), (503, "healthcheck")])
def test_each_status_has_its_type_of_error(sim, http, status, kind):
    sim.play(f"status-{status}", service="tgi")
    answer = generate(sim, http)

    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)


def test_a_wrong_key_is_refused_without_a_word(sim, http):
    sim.play("unauthorized", service="tgi")

    assert generate(sim, http).content == b""


@pytest.mark.parametrize("words, ended", [(1, "eos_token"), (3071, "eos_token"), (4096, None)])
def test_without_a_limit_an_answer_has_the_room_that_the_prompt_leaves(http, words, ended):
    with Simulator(reply="word " * 1000) as sim:
        last = events(generate(sim, http, inputs="x " * words, details=True))[-1]

    if ended:
        assert last["details"]["finish_reason"] == ended
    else:
        assert "Given: 4096 `inputs` tokens and 1 `max_new_tokens`" in last["error"]
