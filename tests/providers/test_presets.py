"""Services that speak as OpenAI does: the table's facts, and rows of a user's own."""

from __future__ import annotations

import json
import pickle

from attrs import evolve
import pytest
import responses

from chatsdk import (
    Client,
    ConfigurationError,
    Media,
    Message,
    MissingCredentialsError,
    Preset,
    ProtocolError,
    ProviderError,
    providers,
    ToolCall,
    UnsupportedError,
    Usage,
)
from chatsdk.providers import presets
from chatsdk.providers.presets import ROWS
from chatsdk.providers.thoughts import Kept, ThinkTags
from chatsdk.results import EmbeddingQuery
from chatsdk.simulator import Simulator
from chatsdk.simulator.openai_dialects import DIALECTS

from .helpers import (
    body_sent,
    check_conversation,
    check_every_end,
    client,
    cut_everywhere,
    Fetches,
    outcome,
    query,
    read,
    recorded,
    text_of,
)

NAMES = sorted(providers.PRESETS)
LOCAL = ("litellm-proxy", "llamacpp", "lmstudio", "vllm")
FREE = ("llamacpp", "lmstudio", "vllm")
SSE = {"Content_Type": "text/event-stream"}
GROQ = recorded("groq_stream.sse")
MISTRAL = recorded("mistral_stream.sse")
OPENROUTER = recorded("openrouter_stream.sse")
OPENROUTER_ERROR = recorded("openrouter_error.sse")
DEEPSEEK = recorded("deepseek_answer_tools.json")
VLLM = recorded("vllm_stream.sse")
THOUGHTS = "Let me think: a greeting wants an answer."
KEY = "q9z8"
WEATHER = {"type": "function", "function": {"name": "weather"}}


def preset(name, **options):
    """Return a service of the table, with a key and an address."""
    if name == "azure-openai":
        options.setdefault("base_url", "https://own.openai.azure.com")
    return providers.get(name)(**{"api_key": KEY, **options})


def payload(name, asked=None, **options):
    """Return the body of a question as it is sent."""
    return preset(name, **options).prepare(asked or query(), Fetches()).json


# The table


def test_the_table_has_a_row_for_each_name_and_the_simulator_too():
    assert sorted(row.name for row in ROWS) == NAMES
    assert sorted(row.name for row in DIALECTS) == NAMES
    assert len(NAMES) == 17
    assert set(NAMES) <= set(providers.names())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_all_that_is_to_be_said(row):
    kind = providers.get(row.name)

    assert (kind.name, kind.title, kind.page) == (row.name, row.title, row.page)
    assert row.title != row.name and row.page.startswith("https://")
    assert (row.key is None) == (row.name in FREE)
    assert row.model or row.name in (*LOCAL, "azure-openai")
    assert not row.embeds or row.embedding_model or row.name in LOCAL
    assert kind.parameters == row.parameters and set(kind.options) <= set(kind.parameters)
    assert getattr(presets, kind.__name__) is kind


def test_the_module_knows_no_other_classes():
    with pytest.raises(AttributeError, match="Nobody"):
        presets.Nobody


@pytest.mark.parametrize("name, address", [
    ("cerebras", "https://api.cerebras.ai/v1"), ("deepseek", "https://api.deepseek.com"),
    ("fireworks", "https://api.fireworks.ai/inference/v1"),
    ("github", "https://models.github.ai/inference"), ("groq", "https://api.groq.com/openai/v1"),
    ("huggingface", "https://router.huggingface.co/v1"),
    ("litellm-proxy", "http://localhost:4000/v1"),
    ("llamacpp", "http://localhost:8080/v1"), ("lmstudio", "http://localhost:1234/v1"),
    ("mistral", "https://api.mistral.ai/v1"), ("nvidia", "https://integrate.api.nvidia.com/v1"),
    ("openrouter", "https://openrouter.ai/api/v1"), ("perplexity", "https://api.perplexity.ai"),
    ("together", "https://api.together.xyz/v1"), ("vllm", "http://localhost:8000/v1"),
    ("xai", "https://api.x.ai/v1"),
])
def test_questions_go_to_the_services_address_with_its_key(name, address):
    request = preset(name).prepare(query(model="m"), Fetches())

    assert request.url == f"{address}/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "m"


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_gives_key_address_and_model(name, monkeypatch):
    kind = providers.get(name)
    prefix = name.upper().replace("-", "_")
    address = presets.VARIABLES.get(name, f"{prefix}_BASE_URL")
    monkeypatch.setenv(address, "https://own.example/v9")
    monkeypatch.setenv(f"{prefix}_MODEL", "own-model")
    if kind.key:
        monkeypatch.setenv(kind.key, "from-environment")

    made = kind()

    assert made.base_url == "https://own.example/v9"
    assert made.model == "own-model"
    assert made.api_key == ("from-environment" if kind.key else None)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LOCAL])
def test_without_a_key_there_is_an_error_that_names_its_variable(name):
    options = {"base_url": "https://a.openai.azure.com"} if name == "azure-openai" else {}

    with pytest.raises(MissingCredentialsError, match=providers.get(name).key):
        Client(name, **options)


@pytest.mark.parametrize("name", LOCAL)
def test_a_server_at_home_needs_no_key(name):
    request = providers.get(name)().prepare(query(model="m"), Fetches())

    assert "Authorization" not in request.headers


@pytest.mark.parametrize("name", LOCAL)
def test_a_server_at_home_is_asked_for_its_first_model(name):
    fetch = Fetches(b'{"data":[{"id":"loaded"},{"id":"other"}]}')

    request = providers.get(name)().prepare(query(), fetch)

    assert request.json["model"] == "loaded"
    assert fetch.requests[0].url.endswith("/v1/models")


def test_a_service_without_any_model_says_so():
    with pytest.raises(ConfigurationError, match="vllm: which model"):
        providers.get("vllm")().prepare(query(), Fetches(b'{"data":[]}'))


@pytest.mark.parametrize("name, told", [
    ("deepseek", {"max_tokens": 9}), ("groq", {"max_completion_tokens": 9, "seed": 7}),
    ("mistral", {"max_tokens": 9, "random_seed": 7}), ("vllm", {"max_tokens": 9, "seed": 7}),
    ("xai", {"max_completion_tokens": 9, "seed": 7}),
    ("cerebras", {"max_completion_tokens": 9, "seed": 7}),
])
def test_limits_and_seeds_have_the_services_names(name, told):
    seed = {} if name == "deepseek" else {"seed": 7}
    body = payload(name, query(model="m", max_tokens=9, **seed))

    assert {key: body[key] for key in body if key not in (
        "model", "messages", "stream", "stream_options")} == told


@pytest.mark.parametrize("name, parameter", [
    ("deepseek", "seed"), ("perplexity", "tools"), ("perplexity", "stop"), ("perplexity", "seed")])
def test_what_a_service_refuses_is_refused_before_anything_is_sent(name, parameter):
    values = {"seed": 7, "stop": "x", "tools": [WEATHER]}

    with client(name, api_key=KEY) as asking:
        with pytest.raises(UnsupportedError, match=f"{name} cannot honour {parameter}"):
            asking.chat("Hi", **{parameter: values[parameter]})


@pytest.mark.parametrize("name, asked", [
    *((name, True) for name in NAMES if name not in ("mistral", "perplexity")),
    ("mistral", False), ("perplexity", False)])
def test_usage_is_asked_for_where_it_has_to_be(name, asked):
    assert ("stream_options" in payload(name, query(model="m"))) == asked
    assert "stream_options" not in payload(name, query(model="m", stream=False))


@pytest.mark.parametrize("name, told", [
    ("openrouter", {"reasoning": {"effort": "low"}}), ("groq", {"reasoning_effort": "low"})])
def test_the_effort_of_reasoning_has_the_services_form(name, told):
    body = payload(name, query(reasoning_effort="low"))

    assert told.items() <= body.items()
    assert ("reasoning_effort" in body) == (name == "groq")


def test_parameters_of_one_service_are_its_own():
    with responses.RequestsMock() as server, client("groq", api_key=KEY) as asking:
        server.post("https://api.groq.com/openai/v1/chat/completions", body=GROQ,
                    content_type="text/event-stream")
        asking.chat("Hi", reasoning_format="parsed", include_reasoning=True)
        with pytest.raises(TypeError, match="safe_prompt"):
            asking.chat("Hi", safe_prompt=True)

        sent = json.loads(body_sent(server.calls[0]))
    assert (sent["reasoning_format"], sent["include_reasoning"]) == ("parsed", True)


def test_a_schema_is_refused_where_the_service_keeps_to_none():
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": False}}

    with pytest.raises(UnsupportedError, match="deepseek keeps to no JSON schema"):
        preset("deepseek").check(query(response_format=wanted))
    preset("deepseek").check(query(response_format={"type": "json_object"}))
    assert not preset("deepseek").keeps_to_schemas()
    assert preset("groq").keeps_to_schemas()


@pytest.mark.parametrize("name, kind, mime, fits", [
    ("deepseek", "image", "image/png", False), ("xai", "image", "image/webp", False),
    ("xai", "image", "image/jpeg", True), ("openrouter", "document", "application/pdf", True),
    ("groq", "audio", "audio/wav", False), ("vllm", "audio", "audio/wav", True)])
def test_a_service_takes_the_media_that_it_takes(name, kind, mime, fits):
    asked = query([Message("user", ("x", Media(kind, mime, b"1")))])

    if fits:
        preset(name).check(asked)
    else:
        with pytest.raises(UnsupportedError, match=f"{name} takes no"):
            preset(name).check(asked)


def test_a_document_at_a_url_goes_to_openrouter_as_a_url():
    media = Media("document", "application/pdf", url="https://example.org/a.pdf", name="a.pdf")

    assert preset("openrouter").part(media) == {"type": "file", "file": {
        "filename": "a.pdf", "file_data": "https://example.org/a.pdf"}}


# What they send back


def test_groq_tells_usage_and_reasoning_in_its_own_places():
    deltas = read(preset("groq"), GROQ, **SSE)

    assert text_of(deltas) == "Hello there."
    assert "".join(delta.reasoning for delta in deltas) == "A greeting, so greet."
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(73, 31, 104, None, 8)]


def test_mistral_thinks_in_parts_of_the_content():
    deltas = read(preset("mistral"), MISTRAL, **SSE)

    assert text_of(deltas) == "Bonjour !"
    assert "".join(delta.reasoning for delta in deltas) == "They greet me."
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(9, 21, 30)]


DETAILS = [
    {"type": "reasoning.text", "text": "Just a greeting.", "format": "anthropic-claude-v1",
     "index": 0, "signature": "EsMBCkYICRgCKkD5"},
    {"type": "reasoning.encrypted", "data": "gAAAAABpICSI", "id": "rs_0f2",
     "format": "openai-responses-v1", "index": 1},
]


def test_openrouter_tells_cost_and_details_and_sends_comments():
    deltas = read(preset("openrouter"), OPENROUTER, **SSE)
    states = [delta.state for delta in deltas if delta.state]

    assert text_of(deltas) == "Hi there"
    assert "".join(delta.reasoning for delta in deltas) == "Just a greeting."
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(11, 40, 51, 0, 19, 0.000633)]
    assert states[-1] == {"reasoning_details": DETAILS}


def test_an_error_of_openrouters_has_a_status_for_its_code():
    steps, error = outcome(preset("openrouter"), OPENROUTER_ERROR, **SSE)

    assert text_of(steps) == "Hi"
    assert isinstance(error, ProviderError) and error.retryable
    assert "Provider returned error (502)" in str(error)


def test_deepseek_counts_its_cache_and_wants_its_thoughts_back_with_calls():
    delta, *_ = deltas = read(preset("deepseek"), DEEPSEEK, Content_Type="application/json")
    state = [each.state for each in deltas if each.state][-1]
    calls = (ToolCall("call_00_h3Jk8sLm2Qw9", "weather", {}, "{}"),)

    assert (delta.text, delta.usage) == ("Let me look.", Usage(563, 116, 679, 512, 60))
    assert state == {"reasoning_content": "They ask for the weather.\nI need the tool."}
    called = payload("deepseek", query(["Hi", Message("assistant", "", tool_calls=calls,
                                                      state=state), "More"]))
    spoke = payload("deepseek", query(["Hi", Message("assistant", "x", state=state), "More"]))
    assert called["messages"][1]["reasoning_content"] == state["reasoning_content"]
    assert "reasoning_content" not in spoke["messages"][1]


def test_openrouter_gets_its_details_back_on_every_turn():
    message = Message("assistant", "x", state={"reasoning_details": DETAILS, "other": 1})

    sent = payload("openrouter", query(["Hi", message, "More"]))["messages"][1]

    assert sent == {"role": "assistant", "content": "x", "reasoning_details": DETAILS}
    assert payload("groq", query(["Hi", message, "More"]))["messages"][1] == {
        "role": "assistant", "content": "x"}


def test_tags_of_a_model_are_no_text_and_a_server_may_send_no_mark():
    deltas = read(preset("vllm"), VLLM, **SSE)

    assert text_of(deltas) == "Hello <b>"
    assert "".join(delta.reasoning for delta in deltas) == "\nThey say hi."
    assert deltas[-1].final


@pytest.mark.parametrize("name, body", [
    ("groq", GROQ), ("mistral", MISTRAL), ("openrouter", OPENROUTER), ("vllm", VLLM)])
def test_where_a_stream_is_cut_does_not_matter(name, body):
    provider = preset(name)
    whole = read(provider, body, **SSE)

    for chunks in cut_everywhere(body):
        assert read(provider, *chunks, **SSE) == whole


@pytest.mark.parametrize("name, body", [
    ("groq", GROQ), ("mistral", MISTRAL), ("openrouter", OPENROUTER)])
def test_a_stream_that_ends_anywhere_is_whole_only_after_its_finish_reason(name, body):
    finish = body.index(b"\n\n", body.index(b'"finish_reason":"stop"'))

    taken = check_every_end(preset(name), body, complete_from=None, whole_at=[], **SSE)

    assert taken[0] == finish and taken[-1] == len(body)


# Tags split anywhere


def told(*pieces):
    """Return the reasoning and the text of some pieces."""
    tags = ThinkTags()
    found = [tags.feed(piece) for piece in pieces] + [tags.rest()]
    return "".join(one for one, _ in found), "".join(other for _, other in found)


TAGGED = "<think>a <b> </thin> b</think>\n\n Hi <think>no</think> there"


@pytest.mark.parametrize("cut", range(len(TAGGED) + 1))
def test_tags_may_be_split_anywhere(cut):
    expected = ("a <b> </thin> b", "Hi <think>no</think> there")

    assert told(TAGGED[:cut], TAGGED[cut:]) == told(*TAGGED) == expected


@pytest.mark.parametrize("text, reasoning, rest", [
    ("plain", "", "plain"), ("", "", ""), ("  plain", "", "  plain"),
    ("<thin air>", "", "<thin air>"),
    ("<th", "", "<th"), (" \n", "", " \n"), ("<think>", "", ""), ("<think>only", "only", ""),
    ("<think>cut </thi", "cut </thi", ""), ("\n<think>a</think>b", "a", "b"),
    ("<thinking>a</thinking>b", "a", "b"), ("<thought>a</thought>b", "a", "b"),
    ("<think>a</thinking>b</think>c", "a</thinking>b", "c"), ("<think></think>b", "", "b"),
    ("<think>a</think>\n<think>b</think>\nc", "ab", "c"), ("<think>a</think>\n", "a", ""),
    ("x <think>a</think>", "", "x <think>a</think>"),
])
def test_only_what_an_answer_begins_with_is_reasoning(text, reasoning, rest):
    assert told(text) == told(*text) == (reasoning, rest)


def test_held_text_is_not_lost_when_an_answer_breaks():
    body = b'data: {"choices":[{"delta":{"content":"<thi"}}]}\n\n'

    steps, error = outcome(preset("vllm"), body, **SSE)

    assert text_of(steps) == "<thi" and error is not None


def test_a_step_may_hold_the_end_of_the_thoughts_and_the_text():
    body = b"".join(b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":%b}]}\n\n' % part
                    for part in ((b"<think>a</think>b", b"null"), (b"c", b'"stop"')))

    deltas = read(preset("vllm"), body, **SSE)

    assert [(delta.reasoning, delta.text) for delta in deltas[:2]] == [("a", "b"), ("", "c")]


def test_what_is_kept_is_what_was_asked_for():
    kept = Kept(("reasoning_details",))
    kept.add("text", None)
    kept.add("", {"reasoning_details": ["no object", {"type": "a", "index": 0, "text": "x"}]})
    kept.add("", {"reasoning_details": [{"type": "a", "index": 0, "text": "y", "id": None}]})

    assert kept.state() == {"reasoning_details": [{"type": "a", "index": 0, "text": "xy"}]}
    assert Kept(("reasoning_content",)).state() == {}


# Azure


@pytest.mark.parametrize("address", [
    "https://own.openai.azure.com", "https://own.openai.azure.com/openai",
    "https://own.openai.azure.com/openai/v1", "https://own.openai.azure.com/"])
def test_azure_has_a_v1_and_its_own_header(address):
    request = preset("azure-openai", base_url=address).prepare(query(model="dep"), Fetches())

    assert request.url == "https://own.openai.azure.com/openai/v1/chat/completions"
    assert request.headers["api-key"] == KEY and "Authorization" not in request.headers
    assert request.json["model"] == "dep"


def test_azure_of_a_date_has_the_deployment_in_the_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    made = preset("azure-openai")
    fetch = Fetches(b'{"data":[{"index":0,"embedding":[1.0]}]}', b'{"data":[]}')
    made.embed(EmbeddingQuery(texts=("a",), model="emb"), fetch)
    made.list_models(fetch)

    root = "https://own.openai.azure.com/openai"
    assert made.prepare(query(model="my dep"), Fetches()).url == \
        f"{root}/deployments/my%20dep/chat/completions?api-version=2024-10-21"
    assert [request.url for request in fetch.requests] == [
        f"{root}/deployments/emb/embeddings?api-version=2024-10-21",
        f"{root}/models?api-version=2024-10-21"]


def test_azure_without_an_address_says_what_is_missing():
    with pytest.raises(ConfigurationError, match="base_url=.*AZURE_OPENAI_ENDPOINT"):
        providers.get("azure-openai")(api_key=KEY)


# Hugging Face


def test_the_token_of_the_command_line_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_saved\n")
    made = providers.get("huggingface")()

    assert made.prepare(query(), Fetches()).headers["Authorization"] == "Bearer hf_saved"
    assert "hf_saved" in made.secrets() and "hf_saved" not in repr(made)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "other"))
    (tmp_path / "other").write_text("hf_other")
    assert made.prepare(query(), Fetches()).headers["Authorization"] == "Bearer hf_other"
    monkeypatch.setenv("HF_TOKEN", "hf_variable")
    found = providers.get("huggingface")().prepare(query(), Fetches())
    assert found.headers["Authorization"] == "Bearer hf_variable"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_none(monkeypatch, tmp_path, content):
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_bytes(content)

    with pytest.raises(MissingCredentialsError, match="HF_TOKEN"):
        Client("huggingface")


def test_hugging_face_embeds_by_another_endpoint():
    fetch = Fetches(b"[[1.0, 2.0], [3, 4]]")

    made = preset("huggingface").embed(EmbeddingQuery(texts=("a", "b"), model="o/m"), fetch)

    assert (made.vectors, made.model) == ([[1.0, 2.0], [3, 4]], "o/m")
    assert fetch.requests[0].url == \
        "https://router.huggingface.co/hf-inference/models/o/m/pipeline/feature-extraction"
    assert fetch.requests[0].json == {"inputs": ["a", "b"]}


@pytest.mark.parametrize("body", [b"{}", b"[]", b"[[1.0]]", b'["a","b"]', b"[[[1.0]],[[1.0]]]"])
def test_vectors_of_hugging_face_that_are_none_are_refused(body):
    with pytest.raises(ProtocolError):
        preset("huggingface").embed(EmbeddingQuery(texts=("a", "b"), model="m"), Fetches(body))


def test_the_models_of_github_are_in_its_catalogue():
    fetch = Fetches(b'[{"id":"openai/gpt-5"}]')

    assert preset("github").list_models(fetch)[0].id == "openai/gpt-5"
    assert fetch.requests[0].url == "https://models.github.ai/catalog/models"


def test_perplexity_lists_what_is_known():
    assert "sonar" in [model.id for model in preset("perplexity").list_models(Fetches())]


# Rows of a user's own


def test_a_preset_of_ones_own_is_a_provider():
    with Simulator(reply="Hi") as sim:
        address = sim.fields("groq")["base_url"]
        mine = Preset(name="mine", base_url=address, limit="max_completion_tokens")
        with Client(mine, api_key=KEY) as one, Client(providers=[evolve(mine, api_key=KEY)]) as two:
            assert one.chat("Hi", model="a", max_tokens=9).text == "Hi"
            assert two.chat("Hi", target="mine:b").text == "Hi"
            assert one.models()[0].provider == "mine"

        assert [request.json.get("model") for request in sim.requests[:2]] == ["a", "b"]
        assert sim.requests[0].json["max_completion_tokens"] == 9


def test_its_key_is_found_when_it_is_needed(monkeypatch):
    mine = Preset(name="mine", base_url="https://api.example.com/v1", key="MINE_KEY", model="m")

    with pytest.raises(MissingCredentialsError, match="mine needs a key.*MINE_KEY"):
        mine.prepare(query(), Fetches())
    monkeypatch.setenv("MINE_KEY", "secret-1")
    assert mine.prepare(query(), Fetches()).headers["Authorization"] == "Bearer secret-1"
    assert "secret-1" in mine.secrets() and "secret-1" not in repr(mine)
    assert evolve(mine, api_key="k").prepare(query(), Fetches()).headers["Authorization"] == \
        "Bearer k"


def test_the_key_of_openai_goes_nowhere_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.example/v1")
    monkeypatch.setenv("OPENAI_MODEL", "gpt-x")

    for made in (Preset(name="mine", base_url="https://api.example.com/v1"),
                 providers.get("vllm")()):
        assert made.api_key is None and made.model == ""
        assert "openai" not in made.base_url
    with pytest.raises(MissingCredentialsError):
        providers.get("groq")()


@pytest.mark.parametrize("name", ["", "Mine", "a:b", "a b", "-a", 7])
def test_a_name_that_cannot_stand_in_a_target_is_refused(name):
    with pytest.raises((ValueError, TypeError)):
        Preset(name=name, base_url="https://api.example.com")


@pytest.mark.parametrize("address", [None, "", "api.example.com", "https://a b"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigurationError, match="base_url"):
        Preset(name="mine", base_url=address)


def test_an_unknown_field_is_told_with_the_presets_name():
    mine = Preset(name="mine", base_url="https://api.example.com")

    with pytest.raises(TypeError, match="field of mine.*'base_ur'.*did you mean 'base_url'"):
        Client(mine, base_ur="https://x.example")
    with pytest.raises(TypeError):
        Preset(name="mine", base_url="https://api.example.com", think_tag=True)


def test_a_presets_facts_make_its_parameters():
    mine = Preset(name="mine", base_url="https://api.example.com", seed="", effort="",
                  without=("stop",), options={"top_k": int}, tools=False)

    assert mine.parameters == {
        "temperature": "temperature", "max_tokens": "max_tokens", "top_p": "top_p",
        "response_format": "response_format", "top_k": "top_k"}
    assert mine.title == "mine"


@pytest.mark.parametrize("made", [
    Preset(name="mine", base_url="https://api.example.com", api_key="k"),
    providers.get("groq")(api_key="k"), providers.get("huggingface")(api_key="k")],
    ids=lambda made: made.name)
def test_a_preset_is_a_value_and_travels(made):
    again = pickle.loads(pickle.dumps(made))

    assert again == made and again != evolve(made, api_key="other")
    assert evolve(made, model="m").parameters == made.parameters


# Over real connections


@pytest.mark.parametrize("name", NAMES)
def test_each_holds_a_conversation(name):
    requests = check_conversation(name, api_key=KEY)

    assert len([request for request in requests if request.method == "POST"]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_each_tells_reasoning_and_usage_in_either_form(name):
    with Simulator(scenario="reasoning") as sim:
        with client(name, api_key=KEY, **sim.fields(name)) as asking:
            pieces, whole = asking.chat("Hi"), asking.chat("Hi", stream=False)

    assert pieces.reasoning == whole.reasoning == THOUGHTS
    assert pieces.text == whole.text and "think" not in pieces.text
    assert pieces.usage == whole.usage and pieces.usage.completion_tokens == 11


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "perplexity"])
@pytest.mark.parametrize("stream", [True, False])
def test_each_runs_tools_and_takes_its_thoughts_back(name, stream):
    with Simulator(scenario="reasoning") as sim:
        with client(name, api_key=KEY, **sim.fields(name)) as asking:
            run = asking.run("Weather in Paris", tools=[weather], stream=stream)

    assert run.reply.text == "The function weather returned rain in Paris."


@pytest.mark.parametrize("name", NAMES)
def test_each_tells_of_refusals_in_its_own_shape(name):
    with Simulator(scenario="status-400") as sim:
        with client(name, api_key=KEY, **sim.fields(name)) as asking:
            with pytest.raises(Exception) as caught:
                asking.chat("Hi")

    assert type(caught.value).__name__ == "BadRequestError"
