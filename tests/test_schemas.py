"""Types as JSON schemas, and JSON as values of those types."""

from dataclasses import dataclass, field
from enum import Enum
import json
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import attrs
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
import pytest

from chatsdk.schemas import build, response_format, schema_of


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


@dataclass
class City:
    """A place where people live.

    More for people.
    """

    name: Annotated[str, "in English"]
    people: int = 0


@attrs.frozen
class Trip:
    cities: list[City]
    unit: Unit
    note: Optional[str] = None
    _secret: int = 0


class Row(TypedDict, total=False):
    key: str
    value: Union[int, float]


@dataclass
class Tree:
    value: int
    children: list["Tree"] = field(default_factory=list)


class Model(BaseModel):
    name: str
    age: int = 3


TRIP = {"cities": [{"name": "Rome", "people": 3}, {"name": "Oslo"}], "unit": "celsius"}


def test_a_dataclass_is_an_object_with_its_docstring_and_what_is_required():
    assert schema_of(City) == {
        "description": "A place where people live.",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "in English"},
            "people": {"type": "integer"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_classes_stand_in_classes():
    schema = schema_of(Trip)

    assert schema["properties"]["cities"] == {"type": "array", "items": schema_of(City)}
    assert schema["required"] == ["cities", "unit"]
    assert "secret" in schema["properties"]


def test_a_typed_dict_has_the_keys_that_it_requires():
    schema = schema_of(Row)

    assert schema["required"] == []
    assert schema["properties"]["value"] == {
        "anyOf": [{"type": "integer"}, {"type": "number"}]
    }
    assert "description" not in schema


def test_a_class_that_holds_itself_is_referred_to():
    schema = schema_of(Tree)

    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["properties"]["value"] == {"type": "integer"}
    assert build(Tree, {"value": 1, "children": [{"value": 2}]}) == Tree(1, [Tree(2)])


def test_a_pydantic_model_says_its_own_schema():
    assert schema_of(Model) == Model.model_json_schema()
    assert build(Model, {"name": "Ann"}) == Model(name="Ann")


def test_a_value_is_built_through_and_through():
    assert build(Trip, TRIP) == Trip([City("Rome", 3), City("Oslo")], Unit.C)
    assert build(Row, {"value": 1}) == {"value": 1}


@pytest.mark.parametrize(
    "hint, value, built",
    [
        (float, 3, 3.0),
        (int, 3.0, 3),
        (Any, {"a": [None]}, {"a": [None]}),
        (None, None, None),
        (list[int], [1], [1]),
        (list, [1, "a"], [1, "a"]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict, {"a": "b"}, {"a": "b"}),
        (Literal["a", 1], 1, 1),
        (Unit, "fahrenheit", Unit.F),
        (Optional[int], None, None),
        (Union[int, str], "a", "a"),
        (Annotated[int, "years"], 7, 7),
    ],
)
def test_each_kind_of_hint_builds_its_value(hint, value, built):
    found = build(hint, value)

    assert found == built and type(found) is type(built)


@pytest.mark.parametrize(
    "hint, value, says",
    [
        (int, "3", "it must be of type integer, not string"),
        (int, True, "not boolean"),
        (int, 3.5, "not number"),
        (str, None, "not null"),
        (bool, 1, "not integer"),
        (list[int], [1, "a"], r"it\[1\] must be of type integer"),
        (list[int], {"a": 1}, "it must be a list, not an object"),
        (dict[str, int], [1], "it must be an object, not a list"),
        (dict[str, int], {"a": "b"}, r"it\.a must be"),
        (Literal["a", 1], True, "one of 'a', 1, not True"),
        (Unit, "kelvin", "one of 'celsius', 'fahrenheit'"),
        (Union[int, bool], "a", "integer, not string; or it must be of type boolean"),
        (City, {}, "name is missing"),
        (City, {"name": "a", "x": 1}, "x is unknown; known: name, people"),
        (City, [], "must be an object"),
        (Trip, {"cities": [{"name": 1}], "unit": "celsius"}, r"it\.cities\[0\]\.name must be"),
        (Model, {"name": 1}, "name"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(hint, value, says):
    with pytest.raises(ValueError, match=says):
        build(hint, value)


@pytest.mark.parametrize("hint", [bytes, object, tuple[int, str], set[int], "text", 7])
def test_a_type_without_a_schema_is_refused(hint):
    with pytest.raises(TypeError, match="no JSON schema"):
        schema_of(hint, "the type")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))
def test_whatever_json_comes_it_is_built_or_refused(value):
    value = json.loads(json.dumps(value))
    for hint in (Trip, City, Tree, Row, Optional[City], dict[str, list[int]]):
        try:
            build(hint, value)
        except ValueError as error:
            assert str(error)


def test_a_type_becomes_a_strict_format_in_which_each_member_is_required():
    made = response_format(Trip)

    assert made["type"] == "json_schema"
    assert made["json_schema"]["name"] == "Trip"
    assert made["json_schema"]["strict"] is True
    schema = made["json_schema"]["schema"]
    assert schema["required"] == ["cities", "unit", "note", "secret"]
    assert schema["properties"]["cities"]["items"]["required"] == ["name", "people"]


def test_a_type_with_open_objects_is_not_strict():
    @dataclass
    class Open:
        counts: dict[str, int]
        more: int = 0

    made = response_format(Open)

    assert made["json_schema"]["strict"] is False
    assert made["json_schema"]["schema"]["required"] == ["counts"]


def test_a_bare_schema_is_taken_as_one():
    schema = {"title": "A b", "type": "object"}

    assert response_format(schema) == {
        "type": "json_schema",
        "json_schema": {"name": "A_b", "schema": schema, "strict": False},
    }


@pytest.mark.parametrize("wanted", [{"type": "text"}, {"type": "json_object"}])
def test_the_plain_formats_stay_what_they_are(wanted):
    assert response_format(wanted) == wanted


@pytest.mark.parametrize("wanted", [{"type": "json_schema"}, {"type": "json_schema",
                                    "json_schema": {"schema": 7}}, "json", 7])
def test_what_is_no_format_is_a_type_error(wanted):
    with pytest.raises(TypeError):
        response_format(wanted)
