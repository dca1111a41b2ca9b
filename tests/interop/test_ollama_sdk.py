"""Ollama's own Python package as a client of the simulator: if it is content, we are exact."""

from __future__ import annotations

import json

import ollama
import pytest

from chatsdk.simulator import Simulator

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def talk():
    """Return a function that gives a client of a simulator; both are closed at the end."""
    opened = []

    def start(scenario="normal", **settings):
        sim = Simulator(scenario={"ollama": scenario}, **settings).start()
        client = ollama.Client(sim.fields("ollama")["base_url"], trust_env=False)
        opened.extend((client.close, sim.stop))
        return client

    yield start
    for close in opened:
        close()


def test_it_reads_a_whole_answer(talk):
    answer = talk(reply="Hello, world").chat("llama3.2", HI)

    assert answer.message.content == "Hello, world"
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (4, 3)
    assert answer.total_duration > answer.load_duration > 0


@pytest.mark.parametrize("scenario", [
    "normal", "one-byte", "split", "gzip", "content-length", "close-delimited",
    "no-last-newline", "merged-0.01"])
def test_it_reads_a_stream(talk, scenario):
    client = talk(scenario, reply='Да "нет" \U0001f600')
    parts = list(client.chat("llama3.2", HI, stream=True))

    assert "".join(part.message.content for part in parts) == 'Да "нет" \U0001f600'
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_it_reads_thoughts(talk):
    client = talk(reply="Hello")
    parts = list(client.chat("qwen3:8b", HI, stream=True, think=True))
    whole = client.chat("qwen3:8b", HI, think=True)

    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    assert whole.message.thinking and whole.message.content == "Hello"


def test_it_calls_functions_and_sends_their_results(talk):
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Its name.
        """
        return f"clear in {city}"

    client = talk()
    messages = [{"role": "user", "content": "The weather in Moscow?"}]
    asked = client.chat("llama3.2", messages, tools=[weather])
    call = asked.message.tool_calls[0].function
    messages += [asked.message,
                 {"role": "tool", "tool_name": call.name, "content": weather(**call.arguments)}]
    answer = client.chat("llama3.2", messages, tools=[weather])

    assert (call.name, call.arguments) == ("weather", {"city": "Moscow"})
    assert answer.message.content == "The function weather returned clear in Moscow."


def test_it_sends_images_options_and_a_format(talk, tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG")
    client = talk()
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    answer = client.chat("gemma3:4b", [{"role": "user", "content": "Tom", "images": [picture]}],
                         format=schema, options={"temperature": 0, "num_ctx": 2048, "seed": 7},
                         keep_alive="5m")

    assert json.loads(answer.message.content) == {"name": "Tom"}


def test_it_embeds_lists_and_shows(talk):
    client = talk()
    embedded = client.embed("nomic-embed-text", ["one", "two"])
    shown = client.show("qwen3:8b")

    assert [len(vector) for vector in embedded.embeddings] == [64, 64]
    assert embedded.prompt_eval_count == 6
    assert "llama3.2:latest" in [model.model for model in client.list().models]
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo["general.architecture"] == "qwen3"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario, model, status, words", [
    ("normal", "nobody", 404, "model 'nobody' not found"),
    ("unauthorized", "llama3.2", 401, "unauthorized"),
    ("status-503", "llama3.2", 503, "server busy, please try again.  maximum pending requests "
     "exceeded")])
def test_it_reads_refusals(talk, scenario, model, status, words, stream):
    client = talk(scenario)
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(model, HI, stream=stream))

    assert (caught.value.status_code, caught.value.error) == (status, words)


def test_it_reads_an_error_inside_a_stream(talk):
    client = talk("error-after-text", reply=["a", "b"])
    stream = client.chat("llama3.2", HI, stream=True)

    assert next(stream).message.content == "a"
    with pytest.raises(ollama.ResponseError, match="unexpected EOF"):
        list(stream)
