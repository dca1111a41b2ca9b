"""Objects out of answers."""

from dataclasses import dataclass
import json
from typing import Optional

import pytest

from chatsdk import Client, ExtractionError, Reply
from chatsdk.extraction import extract
from chatsdk.simulator import Simulator


@dataclass
class City:
    name: str
    people: Optional[int] = None


class Model:
    """A model that gives its answers in order, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, messages, **params):
        self.asked.append((list(messages), params))
        return Reply(self.answers.pop(0), provider="test")


def taken(model, kind=City, *, attempts=3, native=True, **params):
    return extract(model, "Rome?", kind, max_attempts=attempts, native=native, params=params)


GOOD = '{"name": "Rome", "people": 3}'


def test_an_answer_that_fits_is_an_object():
    model = Model(GOOD)

    assert taken(model, temperature=0.0) == City("Rome", 3)
    assert model.asked[0][1] == {"temperature": 0.0, "response_format": City}


@pytest.mark.parametrize(
    "bad, problem",
    [
        ("Rome", "it is no JSON"),
        ('{"name": 7}', "it.name must be of type string, not integer"),
        ("{}", "name is missing"),
        ("[]", "must be an object"),
        ('{"name": "Rome"', "it is no JSON"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_why_and_asked_again(bad, problem):
    model = Model(bad, GOOD)

    assert taken(model) == City("Rome", 3)

    first, second = (messages for messages, _ in model.asked)
    assert [message.role for message in second] == ["user", "assistant", "user"]
    assert second[:1] == first and second[1].content == bad
    assert problem in second[2].content


def test_after_the_last_attempt_all_of_them_are_told():
    with pytest.raises(ExtractionError, match="2 attempts; the last: it: name is") as caught:
        taken(Model("Rome", "{}"), attempts=2)

    assert [reply.text for reply in caught.value.attempts] == ["Rome", "{}"]
    assert len(caught.value.errors) == 2
    assert caught.value.partial.text == "{}"


def test_a_service_without_schemas_is_told_in_words():
    model = Model("```json\n" + GOOD + "\n```")

    assert taken(model, native=False) == City("Rome", 3)

    messages, params = model.asked[0]
    assert "response_format" not in params
    assert messages[0].role == "system" and '"people"' in messages[0].content


def test_a_type_that_is_no_object_is_wrapped_in_one_on_its_way():
    model = Model('[{"name": "Rome"}]', '{"value": [{"name": "Rome"}]}')

    assert taken(model, list[City]) == [City("Rome")]
    assert "'value'" in model.asked[1][0][-1].content
    assert model.asked[0][1]["response_format"]["properties"]["value"]["type"] == "array"


def test_a_schema_gives_plain_values():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}

    assert taken(Model('{"name": "Rome"}'), schema) == {"name": "Rome"}


@pytest.mark.parametrize("attempts", [0, True, 1.5])
def test_attempts_are_a_number_of_one_or_more(attempts):
    with pytest.raises(ValueError, match="max_attempts"):
        taken(Model(), attempts=attempts)


def test_a_type_without_a_schema_is_refused_before_anything_is_asked():
    model = Model()

    with pytest.raises(TypeError, match="no JSON schema"):
        taken(model, bytes)

    assert model.asked == []


def test_a_reply_is_parsed_by_what_was_asked_for():
    assert Reply(GOOD, response_format=City).parse() == City("Rome", 3)
    assert Reply(GOOD).parse(City) == City("Rome", 3)
    assert Reply(GOOD).parse() == Reply(GOOD, response_format={}).parse() == json.loads(GOOD)


@pytest.mark.parametrize("text", ["", "Rome", '{"name": 7}', "[" * 100_000])
def test_a_reply_that_does_not_fit_says_so_and_keeps_its_text(text):
    with pytest.raises(ExtractionError, match="not what was asked for") as caught:
        Reply(text, provider="test", response_format=City).parse()

    assert caught.value.partial.text == text and caught.value.provider == "test"


def test_a_client_takes_objects_from_services_of_both_kinds():
    with Simulator(reply=GOOD) as simulator:
        for name, key in (("gigachat", {"api_key": "any"}), ("aura", {})):
            with Client(name, **key, **simulator.fields(name)) as client:
                assert client.extract("Rome?", City) == City("Rome", 3)

        native = next(request for request in simulator.requests if "response_format" in
                      (request.json or {}))

    assert native.json["response_format"]["schema"]["required"] == ["name", "people"]


def test_the_type_of_a_call_is_the_type_of_its_reply():
    with Simulator(reply=GOOD) as simulator:
        with Client("gigachat", api_key="any", **simulator.fields("gigachat")) as client:
            assert client.chat("Rome?", response_format=City).parse() == City("Rome", 3)
