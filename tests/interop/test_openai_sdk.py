"""The official openai package as a client of the simulator: both chat protocols, and the rest.

What it decodes is checked once more against its own types, strictly, since it is lenient itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import openai
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
import pydantic
import pytest

from chatsdk.simulator import Simulator

BODIES = Path(__file__).parent.parent / "bodies"
HI = [{"role": "user", "content": "The weather in Moscow?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": CITY, "strict": True}}
         for name in ("weather", "traffic")]
FUNCTIONS = [{"type": "function", "strict": True, "name": name, "parameters": CITY}
             for name in ("weather", "traffic")]
EVENT = pydantic.TypeAdapter(Annotated[ResponseStreamEvent, pydantic.Field(discriminator="type")])


class Place(pydantic.BaseModel):
    city: str
    days: int


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sdk(sim):
    with openai.OpenAI(api_key="sk-simulated", max_retries=0, **sim.fields("openai")) as client:
        yield client


@pytest.fixture
def responses(sim):
    with openai.OpenAI(api_key="sk-simulated", max_retries=0,
                       **sim.fields("openai-responses")) as client:
        yield client.responses


def strictly(kind, value):
    """Check a decoded value against its type, which decoding alone does not."""
    checked = kind.model_validate(value.model_dump(mode="json"), strict=False)
    assert value.model_extra is None or set(value.model_extra) <= {"obfuscation", "store"}
    return checked


def create(sdk, messages=HI, **rest):
    return sdk.chat.completions.create(model="gpt-5-mini", messages=messages, **rest)


def test_an_answer_is_a_completion(sdk):
    answer = create(sdk)

    strictly(ChatCompletion, answer)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_made_of_chunks_with_usage_in_the_last(sdk):
    chunks = list(create(sdk, stream=True, stream_options={"include_usage": True}))

    assert [strictly(ChatCompletionChunk, chunk) for chunk in chunks]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) \
        == create(sdk).choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens
    assert {chunk.usage for chunk in chunks[:-1]} == {None}


@pytest.mark.parametrize("scenario, names", [
    ("function-call", ["weather"]), ("parallel-calls", ["weather", "traffic"])])
@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_called_and_their_results_understood(sim, sdk, scenario, names, stream):
    sim.scenario = {"openai": scenario}
    if stream:
        with sdk.chat.completions.stream(model="gpt-5-mini", messages=HI, tools=TOOLS) as events:
            answer = events.get_final_completion()
    else:
        answer = create(sdk, tools=TOOLS)
        strictly(ChatCompletion, answer)
    calls = answer.choices[0].message.tool_calls
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    turn = answer.choices[0].message.model_dump(exclude={"parsed", "refusal"}, exclude_none=True)
    for call in turn["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    told = create(sdk, [*HI, turn, *results], tools=TOOLS)

    assert [call.function.name for call in calls] == names
    assert Place.model_validate_json(calls[0].function.arguments) == Place(city="Moscow", days=1)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert told.choices[0].message.content == f"The function {names[-1]} returned sunny."


def test_a_parsed_answer_fits_its_type(sdk, responses):
    answer = sdk.chat.completions.parse(model="gpt-5-mini", messages=HI, response_format=Place)
    response = responses.parse(model="gpt-5-mini", input=HI, text_format=Place)

    assert answer.choices[0].message.parsed == Place(city="Moscow", days=1)
    assert response.output_parsed == Place(city="Moscow", days=1)


def test_images_are_taken(sdk, responses):
    picture = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "text", "text": "My name is Ada."},
               {"type": "image_url", "image_url": {"url": picture}}]
    items = [{"type": "input_text", "text": "My name is Ada."},
             {"type": "input_image", "image_url": picture, "detail": "auto"}]

    answer = create(sdk, [{"role": "user", "content": content}])
    response = responses.create(model="gpt-5-mini", input=[{"role": "user", "content": items}])

    assert answer.choices[0].message.content == response.output_text
    assert "Ada" in response.output_text


def test_models_are_listed(sdk):
    listed = list(sdk.models.list())

    assert [strictly(Model, model) for model in listed]
    assert sdk.models.retrieve("gpt-5-mini") in listed
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nobody")


def test_both_forms_of_embeddings_say_the_same(sdk):
    ask = {"model": "text-embedding-3-small", "input": ["red sea", "blue sky"]}
    packed = sdk.embeddings.create(**ask)  # the package asks for base64
    plain = sdk.embeddings.create(**ask, encoding_format="float")

    strictly(CreateEmbeddingResponse, plain)
    assert [each.embedding for each in packed.data] == [each.embedding for each in plain.data]
    assert [len(each.embedding) for each in plain.data] == [1536, 1536]


@pytest.mark.parametrize("status, kind", [
    (400, openai.BadRequestError), (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError), (404, openai.NotFoundError),
    (429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_refusals_are_of_the_packages_classes(sim, sdk, responses, status, kind):
    sim.scenario = f"status-{status}"
    for ask in (lambda: create(sdk), lambda: responses.create(model="gpt-5-mini", input="Hi")):
        with pytest.raises(kind) as caught:
            ask()

        assert caught.value.message and caught.value.type
        assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize("scenario, code", [
    ("quota", "insufficient_quota"), ("context", "context_length_exceeded")])
def test_refusals_have_codes(sim, sdk, scenario, code):
    sim.scenario = {"openai": scenario}
    with pytest.raises(openai.APIStatusError) as caught:
        create(sdk)

    assert caught.value.code == code


def test_an_error_inside_a_stream_is_raised(sim, sdk, responses):
    sim.scenario = "error-after-text"
    for stream in (create(sdk, stream=True),
                   responses.create(model="gpt-5-mini", input="Hi", stream=True)):
        told = []
        try:
            for event in stream:
                told.append(event)
        except openai.APIError as error:
            told.append(error)

        assert isinstance(told[-1], openai.APIError) or told[-1].type == "error"
        assert len(told) > 2


def test_a_response_is_of_its_type(responses):
    answer = responses.create(model="gpt-5-mini", input="Hi", instructions="Be brief.")

    strictly(Response, answer)
    assert answer.status == "completed" and answer.output_text
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize("scenario, last", [
    ("normal", "completed"), ("reasoning", "completed"), ("parallel-calls", "completed"),
    ("refusal", "completed"), ("length", "incomplete"), ("content-filter", "incomplete"),
    ("failed", "failed")])
def test_each_event_is_of_its_type_and_numbered(sim, responses, scenario, last):
    sim.scenario = {"openai-responses": scenario}
    tools = FUNCTIONS if scenario == "parallel-calls" else openai.omit
    events = list(responses.create(model="gpt-5-mini", input=HI, stream=True, tools=tools,
                                   include=["reasoning.encrypted_content"]))

    for event in events:
        EVENT.validate_python(event.model_dump(mode="json", by_alias=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == f"response.{last}"


@pytest.mark.parametrize("scenario", ["normal", "reasoning", "parallel-calls"])
def test_the_packages_own_sum_of_a_stream_is_the_last_response(sim, responses, scenario):
    sim.scenario = {"openai-responses": scenario}
    with responses.stream(model="gpt-5-mini", input=HI, tools=FUNCTIONS if "call" in scenario
                          else openai.omit) as stream:
        text = "".join(event.delta for event in stream
                       if event.type == "response.output_text.delta")
        final = stream.get_final_response()

    assert final.output_text == text
    assert (text == "") == (scenario == "parallel-calls")


def test_thoughts_and_calls_come_back_untouched_or_are_refused(sim, responses):
    sim.scenario = {"openai-responses": "reasoning"}
    ask = {"model": "gpt-5-mini", "tools": FUNCTIONS, "store": False,
           "include": ["reasoning.encrypted_content"]}
    first = responses.create(input=HI, **ask)
    thought, call = first.output
    items = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}, by_alias=True)
             for item in first.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    told = responses.create(input=[*HI, *items, result], **ask)

    assert (thought.type, call.type) == ("reasoning", "function_call")
    assert told.output_text == "The function weather returned sunny."
    with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
        responses.create(input=[*HI, items[1], result], **ask)
    items[0]["encrypted_content"] = "gAAAAAother"
    with pytest.raises(openai.BadRequestError, match="could not be verified"):
        responses.create(input=[*HI, *items, result], **ask)


def test_a_stored_response_is_followed(responses):
    first = responses.create(model="gpt-5-mini", input="My name is Ada.")
    second = responses.create(model="gpt-5-mini", input="What is my name?",
                              previous_response_id=first.id)
    unstored = responses.create(model="gpt-5-mini", input="My name is Ada.", store=False)

    assert second.output_text == "Your name is Ada. You told me so."
    with pytest.raises(openai.BadRequestError, match="not found"):
        responses.create(model="gpt-5-mini", input="Hi", previous_response_id=unstored.id)


def test_tokens_are_counted(responses):
    few = responses.input_tokens.count(model="gpt-5-mini", input="Hi")
    more = responses.input_tokens.count(model="gpt-5-mini", input="Hi, how are you?")

    assert 0 < few.input_tokens < more.input_tokens


@pytest.mark.parametrize("name", ["openai_stream.sse", "openai_stream_tools.sse"])
def test_recorded_chunks_are_of_their_type(name):
    for line in (BODIES / name).read_text("utf-8").splitlines():
        if line.startswith("data: {"):
            ChatCompletionChunk.model_validate_json(line.removeprefix("data: "))


@pytest.mark.parametrize("name", [
    "openai_responses_stream.sse", "openai_responses_stream_tools.sse"])
def test_recorded_events_are_of_their_type(name):
    for line in (BODIES / name).read_text("utf-8").splitlines():
        if line.startswith("data: {"):
            EVENT.validate_json(line.removeprefix("data: "))
