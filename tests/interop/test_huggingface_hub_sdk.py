"""Hugging Face's own client as a client of the simulated TGI: if it is content, we are exact."""

from __future__ import annotations

import json

from huggingface_hub import InferenceClient
from huggingface_hub.errors import (
    HfHubHTTPError,
    OverloadedError,
    TextGenerationError,
    ValidationError,
)
import pytest

from chatsdk.simulator import Simulator


@pytest.fixture
def talk():
    """Return a function that gives a client of a simulator, which stops at the end."""
    opened = []

    def start(scenario="normal", **settings):
        sim = Simulator(scenario={"tgi": scenario}, **settings).start()
        opened.append(sim.stop)
        return InferenceClient(sim.fields("tgi")["base_url"])

    yield start
    for close in opened:
        close()


def test_it_reads_a_whole_answer_with_its_details(talk):
    client = talk(reply="Hello, world")
    plain = client.text_generation("Hi", return_full_text=False)
    full = client.text_generation("Hi", details=True, return_full_text=False,
                                  decoder_input_details=True)

    assert plain == full.generated_text == "Hello, world"
    assert (full.details.finish_reason, full.details.generated_tokens) == ("eos_token", 3)
    assert [token.text for token in full.details.tokens][:2] == ["Hello, ", "world"]
    assert [token.text for token in full.details.prefill] == ["Hi"]


@pytest.mark.parametrize("scenario", ["normal", "one-byte", "split", "comments", "crlf", "gzip",
                                      "content-length", "merged-0.01"])
def test_it_reads_a_stream(talk, scenario):
    client = talk(scenario, reply="Да, нет \U0001f600")
    parts = list(client.text_generation("Hi", stream=True, details=True, return_full_text=False))

    assert "".join(p.token.text for p in parts if not p.token.special) == "Да, нет \U0001f600"
    assert [part.index for part in parts] == list(range(1, len(parts) + 1))
    assert parts[-1].generated_text == "Да, нет \U0001f600"
    assert parts[-1].details.input_length == 1


def test_it_sends_a_grammar(talk):
    schema = {"properties": {"city": {"type": "string"}}}
    text = talk().text_generation("Paris", grammar={"type": "json", "value": schema},
                                  return_full_text=False)

    assert json.loads(text) == {"city": "Paris"}


def test_it_reads_a_fault_before_and_inside_a_stream(talk):
    client = talk()

    with pytest.raises(ValidationError, match="`top_p` must be"):
        client.text_generation("Hi", top_p=1.5)
    with pytest.raises(ValidationError, match="`top_p` must be"):
        list(client.text_generation("Hi", top_p=1.5, stream=True))


@pytest.mark.parametrize("scenario, error", [("status-429", OverloadedError),
                                             ("unauthorized", HfHubHTTPError)])
def test_it_reads_refusals(talk, scenario, error):
    with pytest.raises(error):
        talk(scenario).text_generation("Hi")


def test_it_reads_an_error_inside_a_stream(talk):
    client = talk("error-after-text", reply=["a", "b"])
    stream = client.text_generation("Hi", stream=True)

    assert next(stream) == "a"
    with pytest.raises(TextGenerationError, match="CUDA out of memory"):
        list(stream)
