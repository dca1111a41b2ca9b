"""Gemini: parts of content in events without a mark of the end, or in one document."""

from __future__ import annotations

import base64
import json

import pytest
import responses

from chatsdk import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContextLengthError,
    Delta,
    image,
    Message,
    MissingCredentialsError,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    ToolCall,
    ToolCallPart,
    UnsupportedError,
    Usage,
)
from chatsdk.media import media_from
from chatsdk.parts import Media
from chatsdk.providers.gemini import BUDGETS, Gemini
from chatsdk.results import EmbeddingQuery
from chatsdk.schemas import response_format
from chatsdk.simulator import Simulator

from .helpers import (
    Answer,
    BAD_KEYS,
    body_sent,
    broken,
    check_conversation,
    check_damage,
    check_every_end,
    check_framing,
    check_types,
    check_wrong_types,
    client,
    cut_everywhere,
    Fetches,
    FRAMINGS,
    headers_sent,
    HISTORY,
    outcome,
    query,
    read,
    recorded,
    single_bytes,
    SYSTEM_TWICE,
    variants,
    whole_frames,
    zipped,
)

BASE = "https://generativelanguage.googleapis.com/v1beta"
NEW, OLD, VECTORS = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-embedding-001"
URL = f"{BASE}/models/{NEW}:streamGenerateContent?alt=sse"
KEY = "AIzaSy-qwe"
STREAM = recorded("gemini_stream.sse")
CALLS = recorded("gemini_stream_function.sse")
FAILED = recorded("gemini_stream_error.sse")
ANSWER = recorded("gemini_answer.json")
BLOCKED = recorded("gemini_blocked.json")
TEXT = 'Привет, "мир"! 🙂\nEnd.'
SIGNATURE = "Eo8BCowBAdHtim9Z"
EVENTS = {"content_type": "text/event-stream"}
AS_JSON = {"content_type": "application/json; charset=UTF-8"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Погода",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
CALL = ToolCall("3k2xw", "weather", {"place": "Рим"}, '{"place":"Рим"}')
RESULT = Message("tool", "sunny", name="weather", tool_call_id="3k2xw")


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    """Answer questions with a stream."""
    server.post(URL, body=STREAM, **EVENTS)
    return server


def gemini(**options):
    return client("gemini", **{"api_key": KEY, **options})


def provider(**fields):
    return Gemini(**{"api_key": KEY, **fields})


def payload(messages="Hi", **details):
    """Return the body of a question, and check that nothing was asked before it."""
    fetch = Fetches()
    asked = query(messages, **details)
    provider().check(asked)
    request = provider().prepare(asked, fetch)
    assert fetch.requests == []
    return request.json


def contents(*messages, **details):
    return payload(list(messages), **details)["contents"]


def reply(server, body, messages="Hi", **options):
    server.post(URL, body=body, **(EVENTS if body[:5] == b"data:" else AS_JSON))
    return gemini(**options).chat(messages)


# The key


def test_a_missing_key_is_told_with_the_argument_and_the_variables():
    with pytest.raises(MissingCredentialsError) as caught:
        Gemini()

    for name in ("api_key=", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        assert name in str(caught.value)


def test_the_environment_gives_what_the_services_own_tools_read(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    second = Gemini().api_key
    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "https://proxy.example/google/")
    monkeypatch.setenv("GEMINI_MODEL", "gemini-of-env")

    request = Gemini().prepare(query(), Fetches())

    assert second == "second"
    assert request.headers["x-goog-api-key"] == "first"
    assert request.url == \
        "https://proxy.example/google/v1beta/models/gemini-of-env:streamGenerateContent?alt=sse"
    assert Gemini(api_key="mine").api_key == "mine"


def test_a_header_with_a_key_is_a_key_too():
    headers = Gemini(headers={"X-Goog-Api-Key": "mine"}).prepare(query(), Fetches()).headers

    assert headers["X-Goog-Api-Key"] == "mine"
    assert "x-goog-api-key" not in headers


def test_an_image_of_the_models_own_goes_back():
    answer = Message("assistant", ("See", image(b"\x89PNG\r\n\x1a\n")))

    assert [set(part) for part in contents("Hi", answer)[1]["parts"]] == [{"text"}, {"inlineData"}]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        Gemini(api_key=key)

    assert "api_key" in str(caught.value)
    assert "q9" not in str(caught.value)


def test_no_repr_and_no_url_holds_the_key():
    request = provider().prepare(query(), Fetches())

    assert KEY not in repr(provider()) + repr(request) + request.url
    assert provider().secrets() == [KEY]


@pytest.mark.parametrize("base, root", [
    ("http://localhost:8080", "http://localhost:8080/v1beta"),
    ("http://localhost:8080/v1beta/", "http://localhost:8080/v1beta"),
    ("http://localhost:8080/v1", "http://localhost:8080/v1"),
])
def test_a_base_url_may_hold_the_version_already(base, root):
    request = provider(base_url=base).prepare(query(), Fetches())

    assert request.url.startswith(f"{root}/models/")


@pytest.mark.parametrize("model, path", [
    ("gemini-2.5-pro", "models/gemini-2.5-pro"), ("models/gemini-2.5-pro", "models/gemini-2.5-pro"),
    ("tunedModels/mine", "tunedModels/mine"), ("a?b#c:d e", "models/a%3Fb%23c%3Ad%20e"),
])
def test_a_model_is_a_part_of_the_path(model, path):
    request = provider().prepare(query(model=model), Fetches())

    assert request.url == f"{BASE}/{path}:streamGenerateContent?alt=sse"


# What is asked


def test_the_request_is_byte_for_byte_that_of_the_protocol(service):
    gemini().chat("Привет")

    call, = service.calls
    assert call.request.url == URL
    assert headers_sent(call) == {
        "Accept": "text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Content-Length": str(len(body_sent(call))),
        "Content-Type": "application/json",
        "x-goog-api-key": KEY,
    }
    assert body_sent(call) == \
        '{"contents":[{"role":"user","parts":[{"text":"Привет"}]}]}'.encode()


def test_a_conversation_is_byte_for_byte_that_of_the_protocol(service):
    gemini().chat(
        SYSTEM_TWICE, system="First.", temperature=0.5, top_p=0.9, top_k=7, max_tokens=50,
        stop=["A", "B"], seed=-3,
    )

    assert body_sent(service.calls[0]) == (
        b'{"contents":[{"role":"user","parts":[{"text":"Hi"},{"text":"More"}]}],'
        b'"systemInstruction":{"parts":[{"text":"First.\\nBe brief.\\nBe kind."}]},'
        b'"generationConfig":{"temperature":0.5,"topP":0.9,"topK":7,"maxOutputTokens":50,'
        b'"stopSequences":["A","B"],"seed":-3}}'
    )


def test_an_answer_in_one_piece_is_asked_for_at_another_path():
    request = provider().prepare(query(stream=False), Fetches())

    assert request.url == f"{BASE}/models/{NEW}:generateContent"
    assert request.headers["Accept"] == "application/json"


def test_turns_alternate():
    assert contents(*HISTORY) == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"text": "Hello!"}]},
        {"role": "user", "parts": [{"text": "More"}]},
    ]
    assert contents("a", Message("assistant", ""), "b") == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
    ]


@pytest.mark.parametrize("messages, words", [
    ([Message("system", "Be kind.")], "needs a message besides the system's"),
    (["Hi", ""], r"takes no empty message; see messages\[1\]"),
    ([Message("tool", "x", tool_call_id="f")], "the function's name"),
    ([Message("system", ("x", image(b"\x89PNG\r\n\x1a\n"))), "Hi"], "system has text alone"),
])
def test_what_has_no_form_in_a_message_is_refused_before_anything_is_sent(service, messages, words):
    with pytest.raises(UnsupportedError, match=words):
        gemini().chat(messages)

    assert len(service.calls) == 0


SAID = {  # for each parameter: what a caller gives, and what is sent for it
    "temperature": (0.5, {"generationConfig": {"temperature": 0.5}}),
    "top_p": (0.5, {"generationConfig": {"topP": 0.5}}),
    "top_k": (5, {"generationConfig": {"topK": 5}}),
    "max_tokens": (5, {"generationConfig": {"maxOutputTokens": 5}}),
    "stop": ("x", {"generationConfig": {"stopSequences": ["x"]}}),
    "seed": (5, {"generationConfig": {"seed": 5}}),
    "tools": ([WEATHER], {"tools": [{"functionDeclarations": [{
        "name": "weather",
        "description": "Погода",
        "parametersJsonSchema": WEATHER["function"]["parameters"],
    }]}]}),
    "tool_choice": ("required", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    "response_format": (
        {"type": "object", "properties": {}},
        {"generationConfig": {
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "properties": {}},
        }},
    ),
    "reasoning_effort": ("high", {"generationConfig": {
        "thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True},
    }}),
}


def test_every_parameter_that_is_listed_has_an_example_here():
    assert set(SAID) == set(Gemini.parameters)


@pytest.mark.parametrize("name", SAID)
def test_every_parameter_that_is_listed_changes_the_request(service, name):
    given, sent = SAID[name]

    gemini().chat("Hi")
    gemini().chat("Hi", **{name: given})

    bare, said = (json.loads(body_sent(call)) for call in service.calls)
    assert said == {**bare, **sent}


@pytest.mark.parametrize("name, value, words", [
    ("temperature", 2.1, "0 to 2"), ("stop", list("abcdef"), "at most 5"), ("stop", "", "empty"),
    ("tool_choice", "weather", "tool_choice"), ("tool_choice", {"name": "x"}, "tool_choice"),
    ("reasoning_effort", "none", "always thinks"),
])
def test_what_the_service_cannot_honour_is_refused_before_anything_is_sent(
    service, name, value, words
):
    with pytest.raises(UnsupportedError, match=words):
        gemini().chat("Hi", **{name: value})

    assert len(service.calls) == 0


@pytest.mark.parametrize("effort, sent", [
    ("none", {"thinkingBudget": 0}),
    *((word, {"thinkingBudget": budget, "includeThoughts": True})
      for word, budget in BUDGETS.items() if word != "none"),
])
@pytest.mark.parametrize("model", [OLD, "models/gemini-2.5-pro", "gemini-2.0-flash-thinking"])
def test_older_models_get_a_budget_for_their_thoughts(model, effort, sent):
    asked = payload(model=model, reasoning_effort=effort)

    assert asked["generationConfig"]["thinkingConfig"] == sent


@pytest.mark.parametrize("model", [NEW, "gemini-3-flash-preview", "gemini-4-argon", "mine",
                                   "gemini-flash-latest", "gemini-10-x"])
def test_newer_models_get_a_level(model):
    asked = payload(model=model, reasoning_effort="low")

    assert asked["generationConfig"]["thinkingConfig"] == {
        "thinkingLevel": "low", "includeThoughts": True,
    }


def test_an_unknown_effort_has_no_budget(service):
    with pytest.raises(UnsupportedError, match="none, minimal, low"):
        gemini(model=OLD).chat("Hi", reasoning_effort="max")

    assert len(service.calls) == 0


@pytest.mark.parametrize("choice, sent", [
    ("auto", {"mode": "AUTO"}),
    ("none", {"mode": "NONE"}),
    ({"type": "function", "function": {"name": "weather"}},
     {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ({"mode": "VALIDATED"}, {"mode": "VALIDATED"}),
])
def test_the_choice_of_a_function_is_sent_in_the_services_own_shape(choice, sent):
    asked = payload(tools=(WEATHER,), tool_choice=choice)

    assert asked["toolConfig"] == {"functionCallingConfig": sent}


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_has_no_schema(parameters):
    bare = {"type": "function", "function": {"name": "now", "parameters": parameters}}

    assert payload(tools=(bare,))["tools"] == [{"functionDeclarations": [{"name": "now"}]}]


@pytest.mark.parametrize("wanted, sent", [
    ({"type": "text"}, None), ({"type": "json_object"}, {"responseMimeType": "application/json"}),
])
def test_plain_forms_have_no_schema(wanted, sent):
    assert payload(response_format=response_format(wanted)).get("generationConfig") == sent


def test_calls_and_their_results_go_back_as_the_service_wants_them():
    second = ToolCall(None, "now", None, "")
    sent = contents(
        "Hi",
        Message("assistant", "Let me see.", tool_calls=(CALL, second)),
        RESULT,
        Message("tool", '{"hour": 5}', name="now"),
        "And?",
        model=OLD,
    )

    assert sent == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [
            {"text": "Let me see."},
            {"functionCall": {"id": "3k2xw", "name": "weather", "args": {"place": "Рим"}}},
            {"functionCall": {"name": "now", "args": {}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"id": "3k2xw", "name": "weather",
                                  "response": {"result": "sunny"}}},
            {"functionResponse": {"name": "now", "response": {"hour": 5}}},
            {"text": "And?"},
        ]},
    ]


@pytest.mark.parametrize("text, response", [
    ("sunny", {"result": "sunny"}), ("5", {"result": 5}), ("[1]", {"result": [1]}),
    ("", {"result": ""}), ("null", {"result": None}), ('{"a": 1}', {"a": 1}),
    ("[" * 5000, {"result": "[" * 5000}),
])
def test_a_result_is_always_an_object(text, response):
    told = contents("Hi", Message("assistant", tool_calls=(CALL,)),
                    Message("tool", text, tool_call_id="3k2xw"))[-1]

    result = told["parts"][0]["functionResponse"]
    assert (result["name"], result["response"]) == ("weather", response)


@pytest.mark.parametrize("model, signatures", [(OLD, [None, None]), (NEW, [
    "skip_thought_signature_validator", None,
])])
def test_calls_of_other_services_are_let_through_by_newer_models(model, signatures):
    calls = (CALL, ToolCall("x", "now", None, "{nonsense"))
    results = [RESULT, Message("tool", "5", tool_call_id="x")]

    said = contents("Hi", Message("assistant", tool_calls=calls), *results, model=model)[1]

    assert [part.get("thoughtSignature") for part in said["parts"]] == signatures
    assert said["parts"][1]["functionCall"]["args"] == {"INVALID_JSON": "{nonsense"}


PNG = b"\x89PNG\r\n\x1a\n"


def test_media_are_sent_in_their_places():
    sound = Media("audio", "audio/wav", b"RIFF")
    pdf = Media("document", "application/pdf", b"%PDF-")
    far = media_from("https://host.example/cat.jpg")

    parts = contents(Message("user", ("See", image(PNG), "", sound, pdf, far)))[0]["parts"]

    data = base64.b64encode(PNG).decode()
    assert parts == [
        {"text": "See"},
        {"inlineData": {"mimeType": "image/png", "data": data}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://host.example/cat.jpg"}},
    ]


def test_a_result_may_be_an_image():
    result = Message("tool", ("See", image(PNG)), tool_call_id="3k2xw")

    told = contents("Hi", Message("assistant", tool_calls=(CALL,)), result)[-1]

    response = told["parts"][0]["functionResponse"]
    assert response["response"] == {"result": "See"}
    assert response["parts"][0]["inlineData"]["mimeType"] == "image/png"


def test_media_of_another_type_are_refused_before_anything_is_sent(service):
    with pytest.raises(UnsupportedError, match="takes no image/tiff"):
        gemini().chat([Message("user", ("See", Media("image", "image/tiff", b"II*")))])

    assert len(service.calls) == 0


def test_extra_members_and_headers_come_last(service):
    gemini(headers={"X-Goog-User-Project": "a"}).chat(
        "Hi", max_tokens=5, extra_headers={"X-Goog-User-Project": "b"},
        extra_body={"generationConfig": {"candidateCount": 1}, "safetySettings": []},
    )

    call, = service.calls
    body = json.loads(body_sent(call))
    assert body["generationConfig"] == {"maxOutputTokens": 5, "candidateCount": 1}
    assert body["safetySettings"] == []
    assert call.request.headers["X-Goog-User-Project"] == "b"


# Counts, embeddings and models


def test_tokens_are_counted_by_the_service(server):
    server.post(f"{BASE}/models/{NEW}:countTokens", json={"totalTokens": 14})

    found = gemini().count_tokens("Hi", system="Be kind.", tools=[WEATHER])

    asked = json.loads(body_sent(server.calls[0]))["generateContentRequest"]
    assert found == 14
    assert asked["model"] == f"models/{NEW}"
    assert set(asked) == {"model", "contents", "systemInstruction", "tools"}


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"totalTokens":"5"}', b'{"totalTokens":true}'])
def test_a_count_that_is_none_is_an_error_of_the_protocol(server, answer):
    server.post(f"{BASE}/models/{NEW}:countTokens", body=answer)

    with pytest.raises(ProtocolError):
        gemini().count_tokens("Hi")


def embedding_query(*texts, **details):
    return EmbeddingQuery(texts=texts, model=VECTORS, **details)


def test_texts_are_embedded_in_one_request():
    answer = b'{"embeddings":[{"values":[1,0.5]},{"values":[-1.5,0]}],' \
        b'"usageMetadata":{"promptTokenCount":3}}'
    fetch = Fetches(answer)

    found = provider().embed(
        embedding_query("a", "b", dimensions=2, extra_body={"taskType": "CLUSTERING"}), fetch
    )

    request, = fetch.requests
    assert request.url == f"{BASE}/models/{VECTORS}:batchEmbedContents"
    assert request.json == {"requests": [
        {"model": f"models/{VECTORS}", "content": {"parts": [{"text": text}]},
         "outputDimensionality": 2, "taskType": "CLUSTERING"} for text in "ab"
    ]}
    assert request.repeatable
    assert found.vectors == [[1.0, 0.5], [-1.5, 0.0]]
    assert (found.model, found.usage) == (VECTORS, Usage(3))


@pytest.mark.parametrize("answer", [
    b"[]", b"{}", b'{"embeddings":[{"values":[1]}]}', b'{"embeddings":5}',
    b'{"embeddings":[{"values":[1]},{"values":["x"]}]}', b'{"embeddings":[{"values":[1]},{}]}',
    b'{"embeddings":[{"values":[1]},{"values":[]}]}', b'{"embeddings":[{"values":[1]},5]}',
    b'{"embeddings":[{"values":[1]},{"values":[true]}]}',
])
def test_embeddings_that_are_none_are_an_error_of_the_protocol(answer):
    with pytest.raises(ProtocolError):
        provider().embed(embedding_query("a", "b"), Fetches(answer))


def test_models_are_listed_page_by_page():
    fetch = Fetches(recorded("gemini_models.json"), b'{"models":[{"name":"tunedModels/x"}]}')

    models = provider().list_models(fetch)

    assert [model.id for model in models] == [OLD, VECTORS, "tunedModels/x"]
    assert models[1].raw["supportedGenerationMethods"] == ["embedContent"]
    assert [request.url for request in fetch.requests] == [
        f"{BASE}/models?pageSize=1000", f"{BASE}/models?pageSize=1000&pageToken=Ch9t%20b2Rl",
    ]


def test_a_list_of_models_that_never_ends_does():
    page = recorded("gemini_models.json")
    fetch = Fetches(page, page, page)

    assert len(provider().list_models(fetch)) == 2
    assert len(fetch.requests) == 2


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"models":{}}', b'{"models":[5]}',
                                    b'{"models":[{}]}', b'{"models":[{"name":5}]}'])
def test_an_answer_that_is_no_list_of_models_is_refused(answer):
    with pytest.raises(ProtocolError):
        provider().list_models(Fetches(answer))


# What is read: events


def event(*parts, **candidate):
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **candidate}]}


@pytest.mark.parametrize("frame, delta", [
    (event({"text": "a"}, {"text": "b"}), Delta("ab")),
    (event({"text": "a", "thought": True}, {"text": "b"}), Delta("b", reasoning="a")),
    (event({"functionCall": {"name": "f", "args": {"a": "ж"}}}, {"functionCall": {
        "name": "g", "id": "i"}}), Delta(tool_calls=(
            ToolCallPart(0, None, "f", '{"a": "ж"}'), ToolCallPart(1, "i", "g", "{}")))),
    (event({"text": "a"}, finishReason="STOP"), Delta("a", "stop", final=True)),
    (event({"functionCall": {"name": "f"}}, finishReason="STOP"), Delta(
        "", "tool_calls", tool_calls=(ToolCallPart(0, None, "f", "{}"),), final=True)),
    (event(finishReason="FINISH_REASON_UNSPECIFIED"), Delta()),
    (event({"executableCode": {"code": "1"}}, {"of_tomorrow": 5}), Delta()),
    ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, Delta("", "length", final=True)),
    ({"candidates": []}, Delta()),
    ({"usageMetadata": {"promptTokenCount": 1}}, Delta(usage=Usage(1))),
    ({"modelVersion": "m", "responseId": "i"}, Delta(model="m", id="i")),
    ({"promptFeedback": {"blockReason": "SAFETY"}}, Delta("", "content_filter", final=True)),
])
def test_an_event_is_one_step(frame, delta):
    found = provider().decode(frame)

    assert found.raw is frame
    assert (found.text, found.reasoning, found.tool_calls, found.finish_reason, found.usage,
            found.final, found.id, found.model) == (
        delta.text, delta.reasoning, delta.tool_calls, delta.finish_reason, delta.usage,
        delta.final, delta.id, delta.model)


@pytest.mark.parametrize("error, words, retryable", [
    ({"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}, "Overloaded .UNAVAIL", True),
    ({"code": 429, "message": "Slow"}, "Slow .no status", True),
    ({"code": 500}, "no reason given", True),
    ({"code": 400, "message": "No"}, "No", False),
    ({}, "no reason given", False),
])
def test_an_event_that_reports_a_failure_is_an_error_of_the_service(error, words, retryable):
    with pytest.raises(ProviderError, match=words) as caught:
        provider().decode({"error": error})

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("frame", [
    {}, {"error": 5}, [], None, {"candidates": [5]}, {"candidates": 5}, event(5),
    event({"text": 5}), event({"functionCall": 5}), event({"functionCall": {"args": "{}"}}),
    {"promptFeedback": 5}, event({"text": "a", "thoughtSignature": 5}),
])
def test_an_event_of_another_form_is_an_error_of_the_protocol(frame):
    with pytest.raises(ProtocolError):
        provider().decode(frame)


def frames(body):
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(provider(), [*frames(STREAM), *frames(CALLS), json.loads(BLOCKED)])


@pytest.mark.parametrize("body", [STREAM, CALLS, FAILED], ids=["text", "calls", "error"])
def test_wrong_types_in_a_stream_are_read_or_refused_but_never_a_bare_error(body):
    events = frames(body)
    for place, said in enumerate(events):
        for _, _, changed in variants(said):
            whole = [*events[:place], changed, *events[place + 1:]]
            stream = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in whole)
            steps, _ = outcome(provider(), stream)  # raises what is none of ours
            for delta in steps:
                check_types(delta)


# What is read: answers


def test_a_stream_is_read(server):
    found = reply(server, STREAM)

    assert found.text == TEXT
    assert found.reasoning == "**Greeting**\n\nShort."
    assert (found.id, found.model) == ("mJ8faYqBHeO7xN8P", OLD)
    assert (found.finish_reason, found.state) == ("stop", None)
    assert found.usage == Usage(8, 36, 44, 4, 28)


def test_calls_are_read(server):
    found = reply(server, CALLS)

    assert found.text == "I will look."
    assert found.finish_reason == "tool_calls"
    assert found.tool_calls == (
        ToolCall("3k2xw", "weather", {"place": "Париж"}, '{"place": "Париж"}'),
        ToolCall("9d1ab", "now", {}, "{}"),
    )
    assert found.usage == Usage(67, 104, 164, None, 64)


def test_calls_in_several_events_are_told_apart(server):
    single = b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"%b"}}]}}]}\n\n'
    end = b'data: {"candidates":[{"finishReason":"STOP"}]}\r\n\r\n'

    found = reply(server, single % b"f" + single % b"g" + end)

    assert [(call.name, call.raw) for call in found.tool_calls] == [("f", "{}"), ("g", "{}")]
    assert found.finish_reason == "tool_calls"


def test_a_document_is_read(server):
    found = reply(server, ANSWER)

    assert (found.text, found.reasoning) == ("Привет, мир!", "Short.")
    assert found.finish_reason == "tool_calls"
    assert found.tool_calls[0].arguments == {"place": "Рим"}
    assert found.usage == Usage(8, 52, 60, None, 40)
    assert found.raw == json.loads(ANSWER)


@pytest.mark.parametrize("body", [CALLS, ANSWER], ids=["stream", "document"])
def test_signed_parts_go_back_untouched_and_in_their_places(server, body):
    found = reply(server, body)

    sent = contents("Hi", found.message)[1]

    whole = [
        {"text": "Привет, мир!"},
        {"functionCall": {"name": "weather", "args": {"place": "Рим"}},
         "thoughtSignature": SIGNATURE},
    ] if body is ANSWER else [
        {"text": "I will look."},
        {"functionCall": {"name": "weather", "args": {"place": "Париж"}, "id": "3k2xw"},
         "thoughtSignature": SIGNATURE},
        {"functionCall": {"name": "now", "args": {}, "id": "9d1ab"}},
        {"text": "", "thoughtSignature": "RW1wdHk="},
    ]
    assert sent == {"role": "model", "parts": whole}
    assert json.loads(json.dumps(found.state)) == found.state


def test_parts_that_are_no_text_go_back_too(server):
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    said = event({"text": "a"}, code, result, {"text": "b"}, {"text": "c"}, finishReason="STOP")

    found = reply(server, b"data: %b\r\n\r\n" % json.dumps(said).encode())

    assert found.text == "abc"
    assert contents("Hi", found.message)[1]["parts"] == [
        {"text": "a"}, code, result, {"text": "bc"},
    ]


def test_a_signed_thought_goes_back_and_others_do_not(server):
    signed = {"text": "b", "thought": True, "thoughtSignature": "AA=="}
    said = event({"text": "a", "thought": True}, signed, {"text": "c"}, finishReason="STOP")

    found = reply(server, b"data: %b\r\n\r\n" % json.dumps(said).encode())

    assert (found.text, found.reasoning) == ("c", "ab")
    assert contents("Hi", found.message)[1]["parts"] == [signed, {"text": "c"}]


@pytest.mark.parametrize("change", [
    {"content": "Other."}, {"tool_calls": (CALL,)}, {"tool_calls": ()}, {"content": ""},
])
def test_a_message_that_was_changed_is_told_as_it_is_now(server, change):
    found = reply(server, CALLS).message
    fields = {"content": found.content, "tool_calls": found.tool_calls, "state": found.state}

    parts = contents("Hi", Message("assistant", **{**fields, **change}))[1]["parts"]

    assert "".join(part.get("text", "") for part in parts) == change.get("content", "I will look.")
    calls = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
    assert calls == [call.name for call in change.get("tool_calls", found.tool_calls)]
    signed = [part.get("thoughtSignature") == SIGNATURE for part in parts]
    assert any(signed) == ("tool_calls" not in change)


@pytest.mark.parametrize("state", [
    {}, {"anthropic": []}, {"gemini": None}, {"gemini": 5}, {"gemini": ["x"]}, {"gemini": {"a": 1}},
    {"gemini": []}, {"gemini": [{"length": 99}, {"length": 1}, {"functionCall": {"name": "x"}}]},
])
def test_a_state_that_is_not_ours_changes_nothing(state):
    sent = contents("Hi", Message("assistant", "Yes.", state=state), "So?")

    assert sent[1] == {"role": "model", "parts": [{"text": "Yes."}]}


@pytest.mark.parametrize("reason, finish", [
    ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"),
    ("RECITATION", "content_filter"), ("BLOCKLIST", "content_filter"),
    ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
    ("MODEL_ARMOR", "content_filter"), ("IMAGE_SAFETY", "content_filter"),
    ("IMAGE_PROHIBITED_CONTENT", "content_filter"), ("IMAGE_RECITATION", "content_filter"),
    ("MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"), ("OTHER", "OTHER"),
    ("MISSING_THOUGHT_SIGNATURE", "MISSING_THOUGHT_SIGNATURE"), ("OF_TOMORROW", "OF_TOMORROW"),
])
def test_every_finish_reason_reaches_the_reply(server, reason, finish):
    found = reply(server, STREAM.replace(b'"STOP"', b'"%b"' % reason.encode()))

    assert (found.text, found.finish_reason) == (TEXT, finish)


def test_a_blocked_prompt_is_an_answer_without_text(server):
    found = reply(server, BLOCKED)

    assert (found.text, found.finish_reason) == ("", "content_filter")
    assert found.usage == Usage(8, None, 8)
    assert found.raw["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"


@pytest.mark.parametrize("body", [STREAM, CALLS], ids=["text", "calls"])
def test_steps_do_not_depend_on_where_the_body_is_cut(body):
    whole = read(provider(), body)

    assert read(provider(), *single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read(provider(), *chunks) == whole


@pytest.mark.parametrize("body", [
    STREAM.replace(b"\r\n", b"\n"), STREAM.replace(b"data: ", b"data:"), b"\xef\xbb\xbf" + STREAM,
    STREAM.rstrip(b"\r\n"), STREAM.replace(b"data: ", b": beat\r\n\r\nevent: message\r\ndata: "),
    STREAM + b"data: nonsense\r\n\r\n",
])
def test_variants_of_the_stream_give_the_same_steps(body):
    assert read(provider(), body) == read(provider(), STREAM)


def said(event):
    parts = event.get("candidates", [{}])[0].get("content", {}).get("parts", [])
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


@pytest.mark.parametrize("body", [STREAM, CALLS], ids=["text", "calls"])
def test_a_body_is_whole_from_its_finish_reason_on_and_interrupted_before(body):
    check_every_end(
        provider(), body, complete_from=len(body) - 4, whole_at=whole_frames(body, said)
    )


@pytest.mark.parametrize("body", [ANSWER, BLOCKED], ids=["answer", "blocked"])
def test_a_document_is_whole_at_its_end_and_interrupted_before(body):
    whole = len(body.rstrip())
    check_every_end(provider(), body, complete_from=whole, whole_at=[(0, "")], **AS_JSON)


def test_what_comes_before_the_first_text_is_not_told_alone():
    counts = b'data: {"usageMetadata":{"promptTokenCount":8},"modelVersion":"m"}\r\n\r\n'

    assert read(provider(), counts + STREAM) == read(provider(), STREAM)


def test_an_answer_that_breaks_before_its_first_text_is_asked_for_again(server):
    counts = b'data: {"usageMetadata":{"promptTokenCount":8}}\r\n\r\n'
    server.post(URL, body=counts + FAILED[FAILED.index(b'data: {"error"'):], **EVENTS)
    server.post(URL, body=STREAM, **EVENTS)

    assert gemini(max_retries=1).chat("Hi").text == TEXT
    assert len(server.calls) == 2


def test_a_failure_after_the_first_text_is_final_and_carries_it(server):
    server.post(URL, body=FAILED, **EVENTS)

    with pytest.raises(ProviderError, match="overloaded") as caught:
        gemini(max_retries=1).chat("Hi")

    assert caught.value.partial.text == "Hel"
    assert len(server.calls) == 1


def test_usage_that_comes_after_the_finish_reason_counts(server):
    late = b'data: {"usageMetadata":{"promptTokenCount":80,"totalTokenCount":90}}\r\n\r\n'

    assert reply(server, STREAM + late).usage.total_tokens == 90


@pytest.mark.parametrize("frame", [
    b"data: {\r\n\r\n", b"data: [1]\r\n\r\n", b"data: \xff\r\n\r\n", b"data: {}\r\n\r\n",
    b'data: {"candidates":[5]}\r\n\r\n',
])
def test_a_bad_frame_is_an_error_that_carries_the_text_before_it(server, frame):
    place = STREAM.index(b'data: {"candidates":[{"content":{"parts":[{"text":"\\nEnd.')

    with pytest.raises(ProtocolError) as caught:
        reply(server, STREAM[:place] + frame + STREAM[place:])

    assert caught.value.partial.text == TEXT[:-5]


@pytest.mark.parametrize("body", [b"", b"\r\n", b": beat\r\n\r\n"])
def test_a_body_without_any_event_is_an_interruption(body):
    with pytest.raises(StreamInterruptedError):
        read(provider(), body)


@pytest.mark.parametrize("body", [b"[]", b"5", b"{}", b"nonsense"])
def test_a_document_that_is_no_answer_is_refused(server, body):
    server.post(URL, body=body, **AS_JSON)

    with pytest.raises(ProtocolError):
        gemini().chat("Hi")


def test_a_page_is_an_error_of_the_protocol(server):
    server.post(URL, body=b"<html>Hello</html>", content_type="text/html")

    with pytest.raises(ProtocolError):
        gemini().chat("Hi")


def test_a_compressed_answer_is_the_same(server):
    server.post(URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"}, **EVENTS)

    assert gemini().chat("Hi").text == TEXT


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(provider(), CALLS)
    check_damage(provider(), ANSWER, **AS_JSON)


def test_the_rest_of_a_whole_answer_is_read_in_a_hurry():
    answer = Answer(STREAM)

    list(provider().deltas(query(), answer))

    assert answer.hurried == 1


# Refusals


@pytest.mark.parametrize("status, error", [
    (400, BadRequestError), (401, AuthenticationError), (403, PermissionDeniedError),
    (429, RateLimitError), (500, ServerError), (503, ServerError),
])
def test_a_refusal_is_told_in_the_services_words(server, status, error):
    body = {"error": {"code": status, "message": "Because.", "status": "X"}}
    server.post(URL, json=body, status=status)

    with pytest.raises(error, match="gemini answered .*Because.") as caught:
        gemini().chat("Hi")

    assert type(caught.value) is error
    assert KEY not in str(caught.value)


def quota(span, wait="40s"):
    metric = {"quotaId": f"GenerateRequests{span}PerProjectPerModel-FreeTier"}
    details = [{"@type": "t/google.rpc.QuotaFailure", "violations": [metric]},
               {"@type": "t/google.rpc.RetryInfo", "retryDelay": wait}]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details, "message":
                      "You exceeded your current quota, please check your plan and billing."}}


def test_a_quota_of_the_day_is_used_up_and_one_of_the_minute_is_not(server):
    server.post(URL, json=quota("PerDay"), status=429)
    server.post(URL, json=quota("PerMinute", "0.25s"), status=429)

    with pytest.raises(QuotaExceededError) as day:
        gemini(max_retries=2).chat("Hi")
    with pytest.raises(RateLimitError) as minute:
        gemini().chat("Hi")

    assert (day.value.retryable, day.value.retry_after) == (False, 40)
    assert type(minute.value) is RateLimitError
    assert (minute.value.retryable, minute.value.retry_after) == (True, 0.25)


def test_a_quota_of_the_minute_is_waited_for(server):
    server.post(URL, json=quota("PerMinute", "0.01s"), status=429)
    server.post(URL, body=STREAM, **EVENTS)

    assert gemini(max_retries=1).chat("Hi").text == TEXT
    assert len(server.calls) == 2


def test_a_prompt_that_is_too_long_has_its_own_class(server):
    message = "The input token count (1048593) exceeds the maximum number of tokens allowed."
    server.post(URL, json={"error": {"code": 400, "message": message}}, status=400)

    with pytest.raises(ContextLengthError):
        gemini().chat("Hi")


def test_a_key_that_is_none_is_told_in_the_services_words(server):
    server.post(URL, body=recorded("gemini_error_400.json"), status=400, **AS_JSON)

    with pytest.raises(AuthenticationError, match="API key not valid.*GOOGLE_API_KEY") as caught:
        gemini().chat("Hi")

    assert caught.value.status_code == 400


# Over real connections


def test_a_whole_conversation():
    requests = check_conversation("gemini", api_key=KEY)

    assert {request.path for request in requests} == {
        f"/v1beta/models/{NEW}:streamGenerateContent",
    }
    assert {request.query["alt"] for request in requests} == {"sse"}


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("gemini", scenario, api_key=KEY)


@pytest.mark.parametrize("scenario", [
    "cut", "cut-clean", "cut-frames", "tidy-cut", "cut-first", "empty", "reset",
])
def test_a_cut_is_an_interruption(scenario):
    error = broken("gemini", scenario, api_key=KEY)

    assert isinstance(error, StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("error-first", ProviderError), ("error-after-text", ProviderError),
    ("malformed-first", ProtocolError), ("malformed-middle", ProtocolError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert isinstance(broken("gemini", scenario, api_key=KEY), kind)


@pytest.mark.parametrize("model", [NEW, OLD])
@pytest.mark.parametrize("effort", ["low", None])
@pytest.mark.parametrize("scenario", ["normal", "parallel-calls"])
def test_a_run_with_tools_returns_signatures_as_they_came(scenario, effort, model):
    def weather(place: str) -> str:
        """Tell the weather."""
        return f"sunny in {place}"

    def now() -> int:
        """Tell the time."""
        return 5

    with Simulator() as sim, gemini(model=model, **sim.fields("gemini")) as asking:
        sim.play(scenario)
        run = asking.run("In Rome", tools=[weather, now], reasoning_effort=effort)

    names = ["weather", "now"] if scenario == "parallel-calls" else ["weather"]
    assert [result.call.name for result in run.results] == names
    assert run.text == f"The function {names[-1]} returned {'5' if names[1:] else 'sunny in Rome'}."
    assert (b"thoughtSignature" in sim.requests[-1].body) == (model == NEW)


def test_everything_else_is_asked_of_the_same_service():
    with Simulator() as sim, gemini(**sim.fields("gemini")) as asking:
        for name, finish in (("content-filter", "content_filter"), ("blocked", "content_filter"),
                             ("no-finish", None)):
            sim.play(name)
            if finish:
                assert asking.chat("Hi").finish_reason == finish
            else:
                with pytest.raises(StreamInterruptedError):
                    asking.chat("Hi")
        whole = asking.chat("Hi", stream=False, reasoning_effort="low")
        assert whole.text == asking.chat("Hi").text
        assert whole.reasoning and whole.state
        assert sim.requests[-2].path == f"/v1beta/models/{NEW}:generateContent"
        assert asking.count_tokens("One two") == 2
        assert NEW in [model.id for model in asking.models()]
        limited = asking.chat("Count to 9", max_tokens=2)
        assert (limited.text, limited.finish_reason) == ("1, 2, ", "length")
        texts = [str(number) for number in range(150)]
        found = asking.embed(texts, model=VECTORS, dimensions=3)
        assert len(found.vectors) == 150 and len(found.vectors[0]) == 3
        assert found.vectors[149] == asking.embed("149", model=VECTORS, dimensions=3).vectors[0]
        assert found.usage.prompt_tokens == 150
        for name, kind in (("quota", QuotaExceededError), ("context", ContextLengthError)):
            sim.play(name)
            with pytest.raises(kind):
                asking.chat("Hi")
