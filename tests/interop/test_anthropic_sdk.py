"""The official anthropic package as a client of the simulator.

What it decodes is checked once more against its own types, strictly, since it is lenient itself.
"""

from __future__ import annotations

import anthropic
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
import pydantic
import pytest

from chatsdk.simulator import Simulator

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-4-5"
HI = [{"role": "user", "content": "The weather in Moscow?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"], "additionalProperties": False}
TOOLS = [{"name": name, "input_schema": CITY} for name in ("weather", "traffic")]
ADAPTIVE = {"type": "adaptive", "display": "summarized"}
EVENT = pydantic.TypeAdapter(RawMessageStreamEvent)


class Place(pydantic.BaseModel):
    city: str
    days: int


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sdk(sim):
    with anthropic.Anthropic(api_key="sk-ant-simulated", max_retries=0,
                             **sim.fields("anthropic")) as client:
        yield client


def strictly(kind, value):
    """Check a decoded value against its type, which decoding alone does not."""
    assert not value.model_extra
    return kind.model_validate(value.model_dump(mode="json"))


def create(sdk, messages=HI, model=OPUS, **rest):
    return sdk.messages.create(model=model, max_tokens=4096, messages=messages, **rest)


def test_an_answer_is_a_message(sdk):
    answer = create(sdk, system="Be kind.", stop_sequences=["never"])

    strictly(Message, answer)
    assert answer.content[0].text and answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens and answer._request_id.startswith("req_")


def test_a_stream_is_made_of_events_of_their_types(sdk):
    events = list(create(sdk, stream=True, thinking=ADAPTIVE))

    assert [EVENT.validate_python(event.model_dump(mode="json")) for event in events]
    assert events[0].type == "message_start" and events[-1].type == "message_stop"


@pytest.mark.parametrize("key", [{"api_key": "k"}, {"auth_token": "t"}])
def test_keys_and_tokens_are_taken(sim, key):
    with anthropic.Anthropic(**key, **sim.fields("anthropic")) as client:
        assert create(client).content


@pytest.mark.parametrize("model, thinking", [
    (OPUS, None), (OPUS, ADAPTIVE), (OPUS, {"type": "adaptive"}),
    (HAIKU, {"type": "enabled", "budget_tokens": 1024})])
@pytest.mark.parametrize("scenario, names", [
    ("function-call", ["weather"]), ("parallel-calls", ["weather", "traffic"])])
@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_and_their_results_understood(sim, sdk, stream, scenario, names, model,
                                                       thinking):
    rest = {"tools": TOOLS, **({"thinking": thinking} if thinking else {})}
    sim.play(scenario)
    if stream:
        with sdk.messages.stream(model=model, max_tokens=4096, messages=HI, **rest) as events:
            answer = events.get_final_message()
    else:
        answer = create(sdk, model=model, **rest)
        strictly(Message, answer)
    calls = [block for block in answer.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
               for call in calls]
    turn = {"role": "assistant", "content": answer.content}
    told = create(sdk, [*HI, turn, {"role": "user", "content": results}], model, **rest)

    assert [call.name for call in calls] == names
    assert calls[0].input == {"city": "Moscow", "days": 1}
    assert answer.stop_reason == "tool_use"
    assert [block.type for block in answer.content][0] == ("thinking" if thinking else "tool_use")
    assert told.content[-1].text == f"The function {names[-1]} returned sunny."


def test_thoughts_are_put_together(sdk):
    with sdk.messages.stream(model=OPUS, max_tokens=999, messages=HI, thinking=ADAPTIVE) as events:
        thoughts = "".join(event.thinking for event in events if event.type == "thinking")
        answer = events.get_final_message()

    assert answer.content[0].thinking == thoughts != ""
    assert answer.content[0].signature
    assert answer.usage.output_tokens_details.thinking_tokens == 4


def test_opaque_thoughts_are_taken_back(sim, sdk):
    sim.play("redacted")
    answer = create(sdk)

    more = create(sdk, [*HI, {"role": "assistant", "content": answer.content}, *HI])

    assert answer.content[0].type == "redacted_thinking" and more.content


def test_a_parsed_answer_fits_its_type(sdk):
    answer = sdk.messages.parse(model=OPUS, max_tokens=999, messages=HI, output_format=Place)

    assert answer.parsed_output == Place(city="Moscow", days=1)


def test_images_and_documents_are_taken(sdk):
    content = [{"type": "text", "text": "My name is Ada."},
               {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                            "data": "iVBORw0KGgo="}},
               {"type": "document", "source": {"type": "base64", "data": "JVBERi0=",
                                               "media_type": "application/pdf"}}]

    assert "Ada" in create(sdk, [{"role": "user", "content": content}]).content[0].text


def test_tokens_are_counted(sdk):
    counted = sdk.messages.count_tokens(model=OPUS, messages=HI, tools=TOOLS)

    strictly(MessageTokensCount, counted)
    assert counted.input_tokens == create(sdk, tools=TOOLS).usage.input_tokens


def test_models_are_listed_page_by_page(sim, sdk):
    listed = list(sdk.models.list(limit=3))

    assert len(sim.requests) > 2 and len({model.id for model in listed}) == len(listed)
    assert [strictly(ModelInfo, model) for model in listed]
    assert sdk.models.retrieve(HAIKU) in listed


@pytest.mark.parametrize("status, kind", [
    (400, anthropic.BadRequestError), (401, anthropic.AuthenticationError),
    (403, anthropic.PermissionDeniedError), (404, anthropic.NotFoundError),
    (409, anthropic.ConflictError), (422, anthropic.UnprocessableEntityError),
    (429, anthropic.RateLimitError), (500, anthropic.InternalServerError),
    (529, anthropic.InternalServerError)])
def test_each_error_is_its_class(sim, sdk, status, kind):
    sim.play(f"status-{status}")

    with pytest.raises(kind) as caught:
        create(sdk)

    assert caught.value.status_code == status
    assert caught.value.request_id == caught.value.body["request_id"]


def test_a_spent_budget_is_told_by_its_code(sim, sdk):
    sim.play("quota")

    with pytest.raises(anthropic.RateLimitError) as caught:
        create(sdk)

    assert caught.value.error_code == "enforced_spend_limit_reached"


def test_an_error_inside_a_stream_is_raised(sim, sdk):
    sim.play("error-after-text")

    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(create(sdk, stream=True))


@pytest.mark.parametrize("name", ["comments", "unknown", "noisy", "one-byte", "split", "crlf"])
def test_all_of_the_text_comes_through_noise(sim, sdk, name):
    sim.play(name)

    with sdk.messages.stream(model=OPUS, max_tokens=99, messages=HI) as events:
        text = "".join(events.text_stream)

    assert text == create(sdk).content[0].text
