"""Our client and the LiteLLM proxy: answers that it makes up, and answers that it passes on.

What it passes on comes from the simulator, so that both of its sides speak what we speak.
"""

from __future__ import annotations

from collections import namedtuple
import dataclasses
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import time

import pytest

from chatsdk import ChatError, Client, RetryPolicy
from chatsdk.simulator import Simulator

KEY = "sk-proxy-1234"
TEXT = "The proxy made this up, word by word."
LONGEST_START = 240.0  # s; it imports half a thousand modules
PATIENT = {"proxy": "", "max_retries": RetryPolicy(0), "timeout": 60}

Proxy = namedtuple("Proxy", "url sim")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Run the proxy in front of the simulator until the last test is through."""
    folder = tmp_path_factory.mktemp("litellm")
    with Simulator() as sim:
        upstream = {"api_key": "any", "api_base": sim.fields("openai")["base_url"]}
        config = {
            "model_list": [
                {"model_name": "made-up", "litellm_params": {
                    "model": "openai/gpt-4.1", "api_key": "any", "mock_response": TEXT}},
                {"model_name": "passed-on", "litellm_params": {
                    "model": "openai/gpt-4.1", **upstream}},
                {"model_name": "items", "litellm_params": {
                    "model": "openai/gpt-5-mini", **upstream,
                    "api_base": sim.fields("openai-responses")["base_url"]}},
                {"model_name": "claude", "litellm_params": {
                    "model": "anthropic/claude-haiku-4-5", "api_key": "any",
                    "api_base": sim.fields("anthropic")["base_url"]}},
                {"model_name": "gemini", "litellm_params": {
                    "model": "gemini/gemini-2.5-flash", "api_key": "any",
                    "api_base": sim.fields("gemini")["base_url"] + "/v1beta"}},
                {"model_name": "vectors", "litellm_params": {
                    "model": "openai/text-embedding-3-small", **upstream}},
            ],
            "litellm_settings": {"telemetry": False, "num_retries": 0},
            "router_settings": {"disable_cooldowns": True},
            "general_settings": {"master_key": KEY},
        }
        path = folder / "config.yaml"
        path.write_text(json.dumps(config), "utf-8")  # JSON is YAML
        quiet = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False",
                 "NO_COLOR": "1", "NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}
        program = Path(__file__).with_name("litellm_server.py")
        log = folder / "proxy.log"
        with log.open("wb") as out:
            server = subprocess.Popen([sys.executable, program, path], stdout=out,
                                      stderr=subprocess.STDOUT, env=quiet, cwd=folder)
        try:
            yield Proxy(_address(server, log), sim)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server, log):
    """Return where the proxy listens, once it says so."""
    ends = time.monotonic() + LONGEST_START
    while time.monotonic() < ends:
        told = log.read_text("utf-8", "replace")
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", told)
        if found:
            return found[1]
        assert server.poll() is None, told[-3000:]
        time.sleep(0.2)
    raise AssertionError(log.read_text("utf-8", "replace")[-3000:])


@pytest.fixture
def client(proxy):
    with Client("litellm-proxy:made-up", api_key=KEY, base_url=f"{proxy.url}/v1",
                **PATIENT) as made:
        yield made


@pytest.mark.parametrize("stream", [True, False])
def test_a_made_up_answer_is_read(client, stream):
    reply = client.chat("Hi", stream=stream)

    assert (reply.text, reply.finish_reason, reply.provider) == (TEXT, "stop", "litellm-proxy")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.id


def test_a_made_up_answer_comes_in_pieces(client):
    with client.stream("Hi") as stream:
        pieces = list(stream)

    assert "".join(pieces) == TEXT and len(pieces) > 1


def test_the_first_model_is_asked_if_none_is_named(proxy):
    with Client("litellm-proxy", api_key=KEY, base_url=f"{proxy.url}/v1", **PATIENT) as made:
        assert {model.id for model in made.models()} == \
            {"made-up", "passed-on", "items", "claude", "gemini", "vectors"}
        asked = made.chat("Hi", stream=False).model

    assert asked


def test_openai_itself_can_be_the_target(proxy):
    with Client("openai:made-up", api_key=KEY, base_url=f"{proxy.url}/v1", **PATIENT) as made:
        assert made.chat("Hi").text == TEXT


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


@pytest.mark.parametrize("stream", [True, False])
def test_responses_are_read_and_their_reasoning_goes_back(proxy, stream):
    proxy.sim.scenario = {"openai-responses": "reasoning"}
    with Client("openai-responses:items", api_key=KEY, base_url=f"{proxy.url}/v1",
                **PATIENT) as made:
        sealed = {"include": ["reasoning.encrypted_content"]}  # the name tells nothing of reasoning
        run = made.run("The weather in Paris", tools=[weather], stream=stream, extra_body=sealed)
    proxy.sim.scenario = "normal"

    assert run.reply.text == "The function weather returned rain in Paris."
    assert run.reply.reasoning == "Let me think: a greeting wants an answer."


@pytest.fixture
def claude(proxy):
    """Ask the proxy as Anthropic is asked."""
    with Client("anthropic:claude", api_key=KEY, base_url=proxy.url, **PATIENT) as made:
        yield made


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("effort", [None, "low"])
def test_anthropics_answers_come_through_with_tools_and_thoughts(claude, proxy, effort, stream):
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if effort else {}
    run = claude.run("The weather in Paris", tools=[weather], stream=stream, extra_body=thinking)

    assert run.text == "The function weather returned rain in Paris."
    assert bool(run.reply.reasoning) == bool(effort)
    assert proxy.sim.requests[-1].service == "anthropic"


def test_a_claude_is_asked_in_openais_form_as_well(client, proxy):
    run = client.run("The weather in Paris", tools=[weather], model="claude")

    assert run.text == "The function weather returned rain in Paris."
    assert proxy.sim.requests[-1].service == "anthropic"


def test_an_answer_in_anthropics_form_that_breaks_is_not_taken_for_whole(claude, proxy):
    proxy.sim.play("cut", service="anthropic")

    with pytest.raises(ChatError) as caught:
        claude.chat("Hi")

    whole = "Hello! How can I help you today?"
    text = caught.value.partial.text if caught.value.partial else ""
    assert whole.startswith(text) and text != whole


@pytest.mark.parametrize("stream", [True, False])
def test_geminis_answers_come_through_with_tools(proxy, stream):
    with Client("gemini:gemini", api_key=KEY, base_url=proxy.url, **PATIENT) as made:
        run = made.run("The weather in Paris", tools=[weather], stream=stream)

    assert run.text == "The function weather returned rain in Paris."
    assert proxy.sim.requests[-1].service == "gemini"


@pytest.mark.parametrize("stream", [True, False])
def test_a_gemini_is_asked_in_openais_form_as_well(client, proxy, stream):
    run = client.run("The weather in Paris", tools=[weather], model="gemini", stream=stream)

    assert "rain in Paris" in run.text  # the proxy wraps a result once more
    assert proxy.sim.requests[-1].service == "gemini"


def test_a_wrong_key_and_an_unknown_model_are_errors(proxy):
    with Client("litellm-proxy:made-up", api_key="sk-wrong", base_url=f"{proxy.url}/v1",
                **PATIENT) as made:
        with pytest.raises(ChatError) as refused:
            made.chat("Hi")
    with Client("litellm-proxy:nobody", api_key=KEY, base_url=f"{proxy.url}/v1",
                **PATIENT) as made:
        with pytest.raises(ChatError, match="nobody") as unknown:
            made.chat("Hi")

    assert "sk-wrong" not in str(refused.value)
    assert refused.value.status_code in (400, 401)  # 400: without a database it knows one key
    assert unknown.value.status_code in (400, 404)


@pytest.mark.parametrize("stream", [True, False])
def test_the_endpoint_of_anthropics_protocol_is_read(proxy, stream):
    with Client("anthropic:made-up", api_key=KEY, base_url=proxy.url, **PATIENT) as made:
        reply = made.chat("Hi", stream=stream, max_tokens=100)

    assert (reply.text, reply.finish_reason, reply.provider) == (TEXT, "stop", "anthropic")


@pytest.mark.parametrize("stream", [True, False])
def test_tools_are_run_by_the_endpoint_of_anthropics_protocol(proxy, stream):
    with Client("anthropic:items", api_key=KEY, base_url=proxy.url, **PATIENT) as made:
        run = made.run("The weather in Paris", tools=[weather], stream=stream, max_tokens=100)

    assert run.reply.text == "The function weather returned rain in Paris."


@dataclasses.dataclass
class Place:
    """Where, and for how long."""

    city: str
    days: int


def test_tools_are_run_through_the_proxy(client):
    run = client.run("The weather in Paris", tools=[weather], model="passed-on")

    assert run.reply.text == "The function weather returned rain in Paris."


def test_objects_come_through_the_proxy(client):
    assert client.extract("The weather in Rome", Place, model="passed-on") == Place("Rome", 1)


def test_reasoning_comes_through_the_proxy(client, proxy):
    proxy.sim.play("reasoning", service="openai", times=2)

    for stream in (True, False):
        reply = client.chat("Hi", model="passed-on", stream=stream)
        assert reply.reasoning == "Let me think: a greeting wants an answer."
        assert reply.text == "Hello! How can I help you today?"


def test_vectors_come_through_the_proxy(client):
    first, other, again = client.embed(["red sea", "blue", "red sea"], model="vectors").vectors

    assert first == again != other and len(first) == 1536


@pytest.mark.parametrize("scenario", ["cut", "error-after-text"])
def test_an_answer_that_breaks_behind_the_proxy_is_not_taken_for_whole(client, proxy, scenario):
    proxy.sim.play(scenario, service="openai")

    with pytest.raises(ChatError) as caught:
        client.chat("Hi", model="passed-on")

    whole = "Hello! How can I help you today?"
    text = caught.value.partial.text if caught.value.partial else ""
    assert whole.startswith(text) and text != whole


@pytest.mark.parametrize("scenario, name", [
    ("status-429", "RateLimitError"), ("context", "ContextLengthError")])
def test_refusals_keep_their_meaning(client, proxy, scenario, name):
    proxy.sim.play(scenario, service="openai")

    with pytest.raises(ChatError) as caught:
        client.chat("Hi", model="passed-on")

    assert type(caught.value).__name__ == name
