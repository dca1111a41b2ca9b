"""The plugin of ``llm``, through its Python API and its command."""

from __future__ import annotations

from importlib import import_module
import json
import subprocess
import sys

from click.testing import CliRunner
import llm
from llm.cli import cli
from llm.plugins import pm
import pytest

import chatsdk
from chatsdk.compat import llm as plugin
from chatsdk.simulator import Simulator

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.fixture
def sim(monkeypatch):
    """A simulator that the environment leads gigachat, openai and h2o to."""
    with Simulator(reply="Fine, thank you.") as simulator:
        gigachat = simulator.fields("gigachat")
        monkeypatch.setenv("GIGACHAT_CREDENTIALS", "any")
        monkeypatch.setenv("GIGACHAT_BASE_URL", gigachat["base_url"])
        monkeypatch.setenv("GIGACHAT_AUTH_URL", gigachat["auth_url"])
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.fields("openai")["base_url"])
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
        yield simulator


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Keys, aliases and logs of ``llm`` in a place of their own, and the plugin loaded."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    llm.get_models()  # loads all plugins that are installed
    ours = None if pm.is_registered(plugin) else pm.register(plugin, "chatsdk-of-this-checkout")
    yield tmp_path
    if ours is not None:
        pm.unregister(plugin)


def run(*args):
    """Run the command, and return what it printed."""
    done = CliRunner().invoke(cli, [*args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*args):
    """Run the command, and return how it failed."""
    done = CliRunner().invoke(cli, [*args], catch_exceptions=False)
    assert done.exit_code == 1, done.output
    return done.stderr


def sent(sim, place=-1):
    return json.loads(sim.requests[place].body)


# The command


def test_the_command_asks_a_service_and_prints_its_answer(sim):
    printed = run("prompt", "-m", "chatsdk/gigachat", "Hi")

    assert printed == "Fine, thank you.\n"
    assert sent(sim)["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_command_knows_models_options_and_a_system_prompt(sim):
    run(
        "prompt", "-m", "chatsdk/openai:gpt-4.1-mini", "-s", "Be brief", "Hi",
        "-o", "temperature", "0.5", "-o", "max_tokens", "9", "--no-stream",
    )

    body = sent(sim)
    assert (body["model"], body["temperature"]) == ("gpt-4.1-mini", 0.5)
    assert (body["max_completion_tokens"], body["stream"]) == (9, False)
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}


def test_the_command_goes_on_with_a_conversation_from_its_log(sim):
    run("prompt", "-m", "chatsdk/gigachat", "Hi")
    run("prompt", "-c", "And then?")

    assert [message["content"] for message in sent(sim)["messages"]] == [
        "Hi", "Fine, thank you.", "And then?",
    ]


def test_the_command_shows_the_tokens(sim):
    done = CliRunner().invoke(cli, ["prompt", "-m", "chatsdk/openai:gpt-5-mini", "Hi", "--usage"])

    assert "Token usage: " in done.stderr and "output" in done.stderr


def test_any_model_is_asked_by_an_option_or_an_alias(sim):
    run("prompt", "-m", "chatsdk/gigachat", "-o", "model", "GigaChat-2-Pro", "Hi")
    run("aliases", "set", "huge", "chatsdk/openai:gpt-5-nano-2027")
    models = run("models", "list")
    failed = refused("prompt", "-m", "huge", "Hi")

    assert sent(sim, -2)["model"] == "GigaChat-2-Pro"
    assert sent(sim)["model"] == "gpt-5-nano-2027"
    assert "ChatSDK: chatsdk/openai:gpt-5-nano-2027 (aliases: huge)" in models
    assert "gpt-5-nano-2027" in failed and "404" in failed


def test_a_key_comes_from_the_option_the_store_or_the_environment(sim, home):
    ask = ["prompt", "-m", "chatsdk/openai:gpt-5-mini", "Hi"]
    run(*ask)
    (home / "keys.json").write_text('{"openai": "sk-stored"}')
    run(*ask)
    run(*ask, "--key", "sk-given")

    assert [request.headers["Authorization"] for request in sim.requests] == [
        "Bearer sk-environment", "Bearer sk-stored", "Bearer sk-given",
    ]


def test_a_missing_key_is_told_with_the_way_out(monkeypatch):
    monkeypatch.delenv("GIGACHAT_CREDENTIALS", raising=False)

    failed = refused("prompt", "-m", "chatsdk/gigachat", "Hi")

    assert "GIGACHAT_CREDENTIALS" in failed and "llm keys set gigachat" in failed


def test_text_that_came_before_a_break_is_printed(sim):
    sim.play("cut")

    done = CliRunner().invoke(cli, ["prompt", "-m", "chatsdk/gigachat", "Hi"])

    assert done.exit_code == 1
    assert done.stdout.strip() and "Fine, thank you.".startswith(done.stdout.strip())
    assert "Error: " in done.stderr


@pytest.mark.parametrize(
    "options, words",
    [
        (["-o", "temprature", "1"], "temprature"),
        (["-o", "temperature", "-1"], "temperature must be 0 or more"),
        (["-o", "stop", "x"], "gigachat cannot honour stop"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(sim, options, words):
    assert words in refused("prompt", "-m", "chatsdk/gigachat", "Hi", *options)
    assert sim.requests == []


# The Python API


def test_a_response_has_text_tokens_and_the_model_that_answered(sim):
    response = llm.get_model("chatsdk/openai:gpt-5-mini").prompt("Hi")

    assert "".join(response) == response.text() == "Fine, thank you."
    usage = response.usage()
    assert usage.input > 0 and usage.output > 0
    assert usage.details == {"cached_tokens": 0, "reasoning_tokens": 0}
    assert response.resolved_model.startswith("gpt-5-mini")
    assert response.response_json["finish_reason"] == "stop"


def test_a_conversation_remembers_its_turns(sim):
    conversation = llm.get_model("chatsdk/gigachat").conversation()
    conversation.prompt("Hi", system="Be kind").text()
    conversation.prompt("And then?").text()

    assert [(said["role"], said["content"]) for said in sent(sim)["messages"]] == [
        ("system", "Be kind"), ("user", "Hi"), ("assistant", "Fine, thank you."),
        ("user", "And then?"),
    ]


def test_a_failure_is_a_model_error_with_ours_below(sim):
    sim.play("unauthorized")

    with pytest.raises(llm.ModelError, match="401") as caught:
        llm.get_model("chatsdk/openai:gpt-5-mini").prompt("Hi").text()

    assert isinstance(caught.value.__cause__, chatsdk.AuthenticationError)
    assert "sk-environment" not in str(caught.value)


def test_an_answer_that_is_left_early_closes_its_connection():
    with Simulator(reply="word " * 200, chunk_delay=0.02) as sim:
        model = plugin.ChatSDK("openai:gpt-5-mini", api_key="any", **sim.fields("openai"))
        pieces = iter(model.prompt("Hi"))
        first = next(pieces)
        pieces.close()

    assert first.strip() == "word"


@pytest.mark.parametrize("service", ["openai", "gigachat", "gemini", "anthropic"])
def test_tools_are_called_and_told_their_results(service):
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"{city}: 7 degrees"

    with Simulator() as sim:
        model = plugin.ChatSDK(service, api_key="any", **sim.fields(service))
        chain = model.chain("What is the weather in Rome?", tools=[weather])
        text = chain.text()
        bodies = [request.body for request in sim.requests]

    assert "7 degrees" in text
    assert not any(plugin.MADE.encode() in (body or b"") for body in bodies)


def test_reasoning_is_told_apart_and_what_belongs_to_it_goes_back():
    with Simulator(scenario="reasoning") as sim:
        model = plugin.ChatSDK("anthropic", api_key="any", **sim.fields("anthropic"))
        conversation = model.conversation()
        first = conversation.prompt("Hi")
        events = list(first.stream_events())
        conversation.prompt("And then?").text()
        said = sent(sim)["messages"][1]

    assert "".join(event.chunk for event in events if event.type == "reasoning")
    assert "".join(event.chunk for event in events if event.type == "text") == first.text()
    assert said["content"][0]["type"] == "thinking"


def test_an_attachment_is_sent_where_the_service_takes_it(sim):
    image = llm.Attachment(content=PNG, type="image/png")

    llm.get_model("chatsdk/openai:gpt-5-mini").prompt("Look", attachments=[image]).text()

    assert [part["type"] for part in sent(sim)["messages"][0]["content"]] == ["text", "image_url"]
    with pytest.raises(ValueError, match="does not support attachments"):
        llm.get_model("chatsdk/h2o").prompt("Look", attachments=[image])


def test_a_schema_is_what_the_answer_keeps_to():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    with Simulator() as sim:
        model = plugin.ChatSDK("openai:gpt-5-mini", api_key="any", **sim.fields("openai"))
        text = model.prompt("Where?", schema=schema).text()

    assert isinstance(json.loads(text)["city"], str)
    assert not plugin.ChatSDK("h2o").supports_schema
    assert not plugin.ChatSDK("h2o").supports_tools


def test_each_service_is_a_model():
    ids = {model.model_id for model in llm.get_models()}

    assert {plugin.PREFIX + name for name in chatsdk.providers.TABLE} <= ids
    assert "chatsdk/gigachat:GigaChat-2-Max" in ids


def test_the_start_of_llm_loads_nothing_that_makes_calls(tmp_path):
    program = (
        "import sys; import llm; old = {*sys.modules}; import chatsdk.compat.llm as plugin\n"
        "plugin.register_models(lambda model: None)\n"
        "print(*({*sys.modules} - old))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60,
        env={"LLM_USER_PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )

    found = set(done.stdout.split())
    assert "chatsdk.providers.gigachat" in found
    assert not found & {
        "requests", "urllib3", "tenacity", "chatsdk.client", "chatsdk.transport", "chatsdk.calls",
    }


def test_without_llm_the_error_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "chatsdk.compat.llm")
    monkeypatch.setitem(sys.modules, "llm.parts", None)

    with pytest.raises(chatsdk.ConfigurationError, match=r"pip install 'chatsdk\[llm\]'"):
        import_module("chatsdk.compat.llm")
