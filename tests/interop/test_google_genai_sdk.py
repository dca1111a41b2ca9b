"""The official google-genai package as a client of the simulator.

Its types refuse members that they do not know, so what it decodes is checked on the way.
"""

from __future__ import annotations

from google import genai
from google.genai import errors, types
import pydantic
import pytest

from chatsdk.simulator import Simulator

NEW, OLD = "gemini-3.8-flash", "gemini-2.5-flash"
HI = "The weather in Moscow?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"]}
TOOLS = [types.Tool(function_declarations=[
    types.FunctionDeclaration(name=name, parameters_json_schema=CITY)
    for name in ("weather", "traffic")])]


class Place(pydantic.BaseModel):
    city: str
    days: int


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(params=["v1", "v1beta"])
def sdk(sim, request):
    options = types.HttpOptions(base_url=sim.fields("gemini")["base_url"],
                                api_version=request.param)
    with genai.Client(api_key="simulated", http_options=options) as client:
        yield client


def create(sdk, contents=HI, model=NEW, **config):
    return sdk.models.generate_content(model=model, contents=contents,
                                       config=types.GenerateContentConfig(**config))


def stream(sdk, contents=HI, model=NEW, **config):
    return list(sdk.models.generate_content_stream(model=model, contents=contents,
                                                   config=types.GenerateContentConfig(**config)))


def test_an_answer_is_a_response(sdk):
    answer = create(sdk, system_instruction="Be kind.", stop_sequences=["never"], seed=5)

    assert answer.text and answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.model_version == NEW and answer.response_id
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


def test_a_stream_says_the_same(sdk):
    steps = stream(sdk)

    assert "".join(step.text or "" for step in steps) == create(sdk).text
    assert steps[-1].candidates[0].finish_reason == types.FinishReason.STOP


@pytest.mark.parametrize("model, level", [(NEW, {"thinking_level": "LOW"}),
                                          (OLD, {"thinking_budget": 1024})])
def test_thoughts_are_told_apart(sdk, model, level):
    config = {"thinking_config": types.ThinkingConfig(include_thoughts=True, **level)}

    for steps in ([create(sdk, model=model, **config)], stream(sdk, model=model, **config)):
        parts = [part for step in steps for part in step.candidates[0].content.parts]
        assert "".join(part.text for part in parts if part.thought).startswith("Let me think")
        assert steps[-1].usage_metadata.thoughts_token_count == 4


@pytest.mark.parametrize("model", [NEW, OLD])
@pytest.mark.parametrize("scenario, names", [
    ("function-call", ["weather"]), ("parallel-calls", ["weather", "traffic"])])
@pytest.mark.parametrize("ask", [create, stream])
def test_functions_are_called_and_their_results_understood(sim, sdk, ask, scenario, names, model):
    sim.play(scenario)
    answer = ask(sdk, model=model, tools=TOOLS)
    steps = answer if isinstance(answer, list) else [answer]
    parts = [part for step in steps for part in step.candidates[0].content.parts]
    calls = [part.function_call for part in parts if part.function_call]
    results = [types.Part(function_response=types.FunctionResponse(
        id=call.id, name=call.name, response={"result": "sunny"})) for call in calls]
    told = create(sdk, [types.UserContent(HI), types.ModelContent(parts),
                        types.UserContent(results)], model, tools=TOOLS)

    assert [call.name for call in calls] == names
    assert calls[0].args == {"city": "Moscow", "days": 1}
    assert told.text == f"The function {names[-1]} returned sunny."


def test_a_chat_calls_python_functions_and_returns_signatures(sim, sdk):
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    chat = sdk.chats.create(model=NEW, config=types.GenerateContentConfig(tools=[weather]))

    assert chat.send_message("Now in Oslo").text == "The function weather returned sunny in Oslo."
    assert chat.send_message("Thanks").text
    assert b"thoughtSignature" in sim.requests[-1].body


@pytest.mark.parametrize("form", [{"response_schema": Place}, {"response_json_schema": CITY}])
def test_a_parsed_answer_fits_its_type(sdk, form):
    answer = create(sdk, response_mime_type="application/json", **form)

    assert Place.model_validate_json(answer.text) == Place(city="Moscow", days=1)


def test_images_are_taken(sdk):
    picture = types.Part.from_bytes(data=b"\x89PNG\xff\xfe", mime_type="image/png")

    assert "Ada" in create(sdk, ["My name is Ada.", picture]).text


def test_tokens_are_counted(sdk):
    counted = sdk.models.count_tokens(model=NEW, contents=HI)

    assert counted.total_tokens == create(sdk).usage_metadata.prompt_token_count


def test_texts_are_embedded_in_order(sdk):
    config = types.EmbedContentConfig(output_dimensionality=16, task_type="CLUSTERING")

    found = sdk.models.embed_content(model="gemini-embedding-001", contents=["red sea", "sky"],
                                     config=config)

    first, second = (entry.values for entry in found.embeddings)
    assert len(first) == len(second) == 16 and first != second


def test_models_are_listed_page_by_page(sim, sdk):
    listed = list(sdk.models.list(config={"page_size": 4}))

    assert len(sim.requests) > 2 and len({model.name for model in listed}) == len(listed)
    assert sdk.models.get(model=NEW).display_name == "Gemini 3.8 Flash"


@pytest.mark.parametrize("status, kind", [
    (400, errors.ClientError), (401, errors.ClientError), (403, errors.ClientError),
    (404, errors.ClientError), (429, errors.ClientError), (500, errors.ServerError),
    (503, errors.ServerError)])
def test_each_error_tells_its_status(sim, sdk, status, kind):
    sim.play(f"status-{status}")

    with pytest.raises(kind) as caught:
        create(sdk)

    assert caught.value.code == status and caught.value.status.isupper()
    assert caught.value.message


def test_an_error_inside_a_stream_is_raised(sim, sdk):
    sim.play("error-after-text")

    with pytest.raises(errors.APIError, match="UNAVAILABLE"):
        stream(sdk)


def test_a_blocked_prompt_has_its_reason(sim, sdk):
    sim.play("blocked")

    assert create(sdk).prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


@pytest.mark.parametrize("name", ["one-byte", "split", "crlf"])
def test_all_of_the_text_comes_however_it_is_cut(sim, sdk, name):
    sim.play(name)

    assert "".join(step.text or "" for step in stream(sdk)) == create(sdk).text
