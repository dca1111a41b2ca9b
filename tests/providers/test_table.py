"""The table of services: names, services of other packages, names that nobody has."""

from __future__ import annotations

import sys

import attrs
import pytest
import responses

from chatsdk import Client, ConfigurationError, Provider, providers
from chatsdk.providers.aichatonline import AiChatOnline
from chatsdk.providers.anthropic import Anthropic
from chatsdk.providers.aura import Aura
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gemini import Gemini
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.h2o import H2o
from chatsdk.providers.ollama import Ollama
from chatsdk.providers.tgi import Tgi

SERVICES = {
    "aichatonline": AiChatOnline,
    "anthropic": Anthropic,
    "aura": Aura,
    "flowgpt": FlowGpt,
    "gemini": Gemini,
    "gigachat": GigaChat,
    "h2o": H2o,
    "ollama": Ollama,
    "tgi": Tgi,
}
PLUGIN = '''
from attrs import frozen

from chatsdk.messages import Delta
from chatsdk.providers.base import Provider
from chatsdk.settings import setting, url
from chatsdk.wire import Request


@frozen(kw_only=True)
class Parrot(Provider):
    """Repeats what it was told, in events."""

    name = "parrot"
    title = "Parrot"
    parameters = {"temperature": "mood"}

    base_url: str = url("PARROT_BASE_URL", "https://parrot.example")
    model: str = setting(None, "grey")

    def prepare(self, query, fetch):
        said = [message.content for message in query.messages]
        body = {"said": said, "model": self.model_of(query), "mood": query.temperature}
        headers = self.request_headers({}, query.extra_headers)
        return Request(method="POST", url=self.base_url + "/say", json=body, headers=headers)

    def decode(self, event):
        return Delta(event["word"], final=event["last"])


class NoProvider:
    """Something else."""
'''
STREAM = b'data: {"word":"Po","last":false}\n\ndata: {"word":"lly","last":true}\n\n'


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a package that adds services."""
    (tmp_path / "parrot_plugin.py").write_text(PLUGIN)
    installed = tmp_path / "parrot_plugin-1.0.dist-info"
    installed.mkdir()
    metadata = "Metadata-Version: 2.1\nName: parrot-plugin\nVersion: 1.0\n"
    (installed / "METADATA").write_text(metadata)
    (installed / "entry_points.txt").write_text(
        "[chatsdk.providers]\n"
        "parrot = parrot_plugin:Parrot\n"
        "stranger = parrot_plugin:NoProvider\n"
        "instance = parrot_plugin:STRANGER\n"
        "broken = parrot_plugin_that_is_not_there:Parrot\n"
        "gigachat = parrot_plugin:Parrot\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("parrot_plugin", None)


# Names


@pytest.mark.parametrize("name", SERVICES)
def test_a_name_gives_its_class(name):
    found = providers.get(name)

    assert found is SERVICES[name]
    assert found.name == name


def test_all_names_are_listed_in_order():
    assert set(SERVICES) <= set(providers.names())
    assert providers.names() == sorted(providers.names())


@pytest.mark.parametrize("name, near", [
    ("gigachta", "gigachat"), ("GigaChat", "gigachat"), ("h20", "h2o"), ("flow-gpt", "flowgpt"),
])
def test_an_unknown_name_is_told_with_those_that_exist_and_the_nearest(name, near):
    with pytest.raises(ConfigurationError) as caught:
        Client(name)

    told = str(caught.value)
    assert repr(name) in told
    assert all(known in told for known in SERVICES)
    assert f"did you mean {near!r}?" in told


@pytest.mark.parametrize("name", ["", "zzzzzz", "gigachat ", "../h2o", "chatsdk.providers.h2o:H2o"])
def test_a_name_that_is_near_to_none_is_unknown_too(name):
    with pytest.raises(ConfigurationError, match="unknown provider"):
        providers.get(name)


def test_a_client_without_a_target_lists_the_names():
    with Client() as client, pytest.raises(ConfigurationError) as caught:
        client.chat("Hi")

    assert all(known in str(caught.value) for known in SERVICES)
    assert "CHATSDK_TARGET" in str(caught.value)


# Services of other packages


def test_another_package_adds_a_service(plugin):
    assert providers.get("parrot").__name__ == "Parrot"
    assert "parrot" in providers.names()


def test_its_service_answers_like_ours(plugin, monkeypatch):
    monkeypatch.setenv("PARROT_BASE_URL", "https://aviary.example/")
    with responses.RequestsMock() as server:
        server.post("https://aviary.example/say", body=STREAM, content_type="text/event-stream")

        with Client("parrot:green", headers={"X-A": "1"}) as client:
            reply = client.chat("Polly?", temperature=0.5)

        sent = server.calls[0].request
    assert (reply.text, reply.provider, reply.model) == ("Polly", "parrot", "green")
    assert sent.body == b'{"said":["Polly?"],"model":"green","mood":0.5}'
    assert sent.headers["X-A"] == "1"


def test_a_bare_error_of_its_service_does_not_leave_the_library(plugin):
    with responses.RequestsMock() as server:
        server.post("https://parrot.example/say", body=b'data: {"word":"Po"}\n\n')

        with Client("parrot", max_retries=0) as client, pytest.raises(Exception) as caught:
            client.chat("Polly?")

    assert type(caught.value).__name__ == "ProtocolError"
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_unknown_name_lists_its_service(plugin):
    with pytest.raises(ConfigurationError, match="did you mean 'parrot'") as caught:
        providers.get("parot")

    assert "stranger" in str(caught.value)


def test_it_cannot_take_the_place_of_ours(plugin):
    assert providers.get("gigachat") is GigaChat
    assert providers.names().count("gigachat") == 1


@pytest.mark.parametrize("name", ["stranger", "instance", "broken"])
def test_what_is_no_provider_is_an_error_of_the_configuration(plugin, name):
    with pytest.raises(ConfigurationError, match=name):
        providers.get(name)


def test_a_provider_object_needs_no_name_in_the_table(plugin):
    parrot = providers.get("parrot")(base_url="https://own.example")
    with responses.RequestsMock() as server:
        server.post("https://own.example/say", body=STREAM)

        with Client(parrot) as client:
            assert client.chat("Polly?").text == "Polly"


# What each class must say


@pytest.mark.parametrize("kind", SERVICES.values(), ids=SERVICES)
def test_a_class_says_what_the_table_of_services_shows(kind):
    assert issubclass(kind, Provider)
    assert kind.title and kind.page.startswith("https://")
    assert kind.state == "alive" if kind.alive else kind.state != "alive"
    assert set(kind.options) <= set(kind.parameters)
    assert set(kind.aliases.values()) <= set(kind.models)
    assert not set(kind.aliases) & set(kind.models)


@pytest.mark.parametrize("kind", SERVICES.values(), ids=SERVICES)
def test_a_provider_is_a_value(kind):
    one, other = kind(api_key="a2V5"), kind(api_key="a2V5")

    assert one == other
    assert attrs.evolve(one, base_url="https://own.example").base_url == "https://own.example"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.base_url = "https://own.example"
    with pytest.raises(TypeError):
        kind("https://own.example")


@pytest.mark.parametrize("kind", SERVICES.values(), ids=SERVICES)
@pytest.mark.parametrize("address", ["", "own.example", "ftp://own.example", "https://a b", 7])
def test_a_base_url_that_is_none_is_refused(kind, address):
    if (kind, address) == (Ollama, "own.example"):
        assert kind(base_url=address).base_url == "http://own.example:11434"  # as its own tools
        return
    with pytest.raises(ConfigurationError, match="base_url"):
        kind(api_key="a2V5", base_url=address)


@pytest.mark.parametrize("kind", SERVICES.values(), ids=SERVICES)
@pytest.mark.parametrize("field", ["headers", "cookies"])
def test_headers_and_cookies_that_cannot_be_sent_are_refused_without_their_values(kind, field):
    for pairs in ({"X-A": "q9\r\nX-B: 1"}, {"X-A": "ключ"}, {"X A": "q9"}, {"": "q9"}):
        with pytest.raises(ConfigurationError, match=field) as caught:
            kind(api_key="a2V5", **{field: pairs})
        assert "q9" not in str(caught.value) and "ключ" not in str(caught.value)
    for pairs in ({"X-A": 7}, {7: "x"}, [("X-A", "x")], "X-A: x"):
        with pytest.raises(TypeError, match=field):
            kind(api_key="a2V5", **{field: pairs})


@pytest.mark.parametrize("kind", SERVICES.values(), ids=SERVICES)
@pytest.mark.parametrize("value", [" q9", "\tq9"])
def test_a_header_that_begins_with_a_blank_is_refused_when_it_is_given(kind, value):
    with pytest.raises(ConfigurationError, match="headers"):
        kind(api_key="a2V5", headers={"X-A": value})
    with Client(kind(api_key="a2V5")) as client:
        with pytest.raises(ConfigurationError, match="extra_headers"):
            client.chat("Hi", extra_headers={"X-A": value})


@pytest.mark.parametrize("name", SERVICES)
def test_an_unknown_field_is_told_with_those_that_exist(name):
    with pytest.raises(TypeError, match="'base_ur'.*did you mean 'base_url'"):
        Client(name, api_key="a2V5", base_ur="https://own.example")
