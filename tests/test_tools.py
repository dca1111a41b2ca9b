"""A function as a tool: its schema."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional, Union

import attrs
from pydantic import BaseModel
import pytest

from chatsdk import Client, tool
from chatsdk.simulator import Simulator
from chatsdk.tools import tool_schema


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


def weather(city: str, days: int = 1, unit: Unit = Unit.C) -> str:
    """Tell the weather.

    Longer explanations are for people.
    """
    return f"{city} {days} {unit}"


def test_a_function_is_described_by_its_hints_and_the_first_paragraph_of_its_docstring():
    assert tool_schema(weather) == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                },
                "required": ["city"],
            },
        },
    }


@pytest.mark.parametrize(
    "hint, schema",
    [
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict, {"type": "object"}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Any, {}),
    ],
)
def test_each_kind_of_hint_has_its_schema(hint, schema):
    def function(value):
        return value

    function.__annotations__["value"] = hint

    assert tool_schema(function)["function"]["parameters"]["properties"] == {"value": schema}
    assert "description" not in tool_schema(function)["function"]


def test_a_function_that_no_schema_describes_is_refused_with_the_parameter():
    def bare(value):
        return value

    def many(*values: int):
        return values

    def odd(value: bytes):
        return value

    for function, says in ((bare, "no type hint"), (many, "any number"), (odd, "no JSON schema")):
        with pytest.raises(TypeError, match=says):
            tool_schema(function)


def test_the_repr_of_a_tool_is_the_same_in_each_run_as_a_journal_needs_it():
    assert repr(tool(weather)).startswith("Tool(name='weather', description='Tell the weather.', ")
    assert " at 0x" not in repr(tool(weather))


def test_functions_reach_the_service_as_tools():
    with Simulator() as simulator:
        with Client("gigachat", api_key="any", proxy="", **simulator.fields("gigachat")) as client:
            reply = client.chat("Weather in Kazan?", tools=[weather], tool_choice="auto")

        sent = simulator.requests[-1].json["functions"]

    assert sent == [tool_schema(weather)["function"]]
    assert [call.name for call in reply.tool_calls] == ["weather"]
    assert reply.finish_reason == "tool_calls"


# Tools that run


def test_a_tool_can_still_be_called():
    assert tool(weather)("Rome", unit=Unit.F) == "Rome 1 Unit.F"


def test_the_decorator_may_say_what_the_model_is_told():
    @tool(name="forecast", description="Look ahead.")
    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    assert (weather.name, weather.description) == ("forecast", "Look ahead.")
    assert tool(weather) is weather


def test_the_section_of_arguments_describes_the_parameters():
    @tool
    def trip(start: str, end: str, by: str = "train") -> str:
        """Plan a trip.

        Args:
            start: Where it begins,
                in one word.
            end (str): Where it ends.

        Returns:
            by: This is no parameter's line.
        """
        return start

    described = trip.parameters["properties"]
    assert described["start"]["description"] == "Where it begins, in one word."
    assert described["end"]["description"] == "Where it ends."
    assert "description" not in described["by"]


@dataclass
class Data:
    a: int


@attrs.frozen
class Attrs:
    a: int


class Pydantic(BaseModel):
    a: int


@pytest.mark.parametrize(
    "result, text",
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"a": "é"}, '{"a": "é"}'),
        (Data(1), '{"a": 1}'),
        ([Attrs(1)], '[{"a": 1}]'),
        ({"in": Pydantic(a=1)}, '{"in": {"a": 1}}'),
        (Path("a") / "b", '"a/b"'),
    ],
)
def test_a_result_is_told_as_text_or_as_json(result, text):
    def function() -> Any:
        return result

    assert tool(function).run({}) == text


def test_arguments_are_made_what_the_hints_say():
    seen = []

    @tool
    def note(unit: Unit, data: Data, many: list[float], more: Optional[int] = None) -> None:
        seen.append((unit, data, many, more))

    note.run({"unit": "celsius", "data": {"a": 1}, "many": [1]})

    assert seen == [(Unit.C, Data(1), [1.0], None)]


class Counter:
    """Counts."""

    def __call__(self, to: int) -> int:
        return to


def test_an_object_that_can_be_called_is_a_tool_too():
    assert tool(Counter()).name == "Counter"
    assert tool(Counter()).run({"to": 3}) == "3"
