"""OpenTelemetry: spans and metrics of calls, by the real SDK and its real exporter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import gzip
from http.server import BaseHTTPRequestHandler, HTTPServer
import json
import logging
import pickle
import subprocess
import sys
import threading

import attrs
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
import pytest
from servers import answer, chunk, document, DONE, frame, gigachat, head, said

import chatsdk
from chatsdk import Client, Embeddings, listeners, Message, RetryPolicy, ToolCall, Usage
from chatsdk.otel import CONTENT, instrument, PROVIDERS, SCHEMA
from chatsdk.parts import Media
from chatsdk.providers import TABLE
from chatsdk.providers.gigachat import GigaChat
from chatsdk.wire import Request

BUSY = answer("", "503 Service Unavailable", Retry_After="0")


class Watched:
    """The two providers of the real SDK, with what has come to them."""

    def __init__(self):
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.options = {"tracer_provider": self.tracers, "meter_provider": self.meters}

    @property
    def spans(self):
        return self._spans.get_finished_spans()

    @property
    def span(self):
        (only,) = self.spans
        return only

    def points(self):
        """Return (attributes, point) pairs by the names of the metrics."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        return {
            metric.name: [(dict(point.attributes), point) for point in metric.data.data_points]
            for metric in scope.metrics
        }

    def stop(self):
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def watched(caplog):
    found = Watched()
    yield found
    found.stop()
    assert listeners.everywhere == {}
    assert not [record for record in caplog.records if record.name == "chatsdk.hooks"]


def client_of(server, **options):
    quick = RetryPolicy(sleep=lambda seconds: None, random=lambda: 0.5)
    return Client(gigachat(server), **{"max_retries": quick, "proxy": "", **options})


def whole(**headers):
    """Return an answer with all that an answer can tell."""
    usage = {
        "prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46,
        "precached_prompt_tokens": 5,
    }
    last = {"choices": [{"delta": {"content": ""}, "index": 0, "finish_reason": "stop"}]}
    last = b"data: " + json.dumps({**last, "model": "GigaChat-2:7", "usage": usage}).encode()
    return answer(
        frame("the reply") + last + b"\n\n" + DONE,
        Content_Type="text/event-stream",
        X_Request_Id="r-7",
        **headers,
    )


# Spans


def test_a_call_is_one_span_with_the_attributes_of_the_conventions(serve, watched):
    server = serve(whole())

    with client_of(server) as client, instrument(client, **watched.options):
        client.chat(
            "the prompt", model="GigaChat-2", temperature=0.5, max_tokens=100, top_p=0.9
        )

    span = watched.span
    attributes = dict(span.attributes)
    seconds = (span.end_time - span.start_time) / 10**9
    first = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert (span.name, span.kind) == ("chat GigaChat-2", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert 0 < first < seconds
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gigachat",
        "gen_ai.request.model": "GigaChat-2",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "r-7",
        "gen_ai.response.model": "GigaChat-2:7",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": 200,
        "chatsdk.attempts": 1,
        "chatsdk.request_id": "r-7",
    }


def test_what_matters_for_sampling_is_known_when_the_span_begins(serve, watched):
    seen = []

    class Sampler(trace.NoOpTracer):
        def start_span(self, name, **details):
            seen.append((name, details["attributes"]))
            return super().start_span(name, **details)

    class Provider(trace.NoOpTracerProvider):
        def get_tracer(self, *names, **details):
            return Sampler()

    server = serve(said("Hi"))
    with client_of(server) as client, instrument(client, tracer_provider=Provider()):
        client.chat("Hi")

    assert seen == [("chat GigaChat", {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gigachat",
        "gen_ai.request.model": "GigaChat",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    })]


def test_the_scope_says_which_conventions_are_kept(serve, watched):
    with client_of(serve(said("Hi"))) as client, instrument(client, **watched.options):
        client.chat("Hi")

    scope = watched.span.instrumentation_scope
    assert (scope.name, scope.version) == ("chatsdk", chatsdk.__version__)
    assert scope.schema_url == SCHEMA == "https://opentelemetry.io/schemas/1.41.0"


def test_a_span_covers_all_attempts_and_names_each_retry(serve, watched):
    with client_of(serve(BUSY, BUSY, said("Hi"))) as client, instrument(client, **watched.options):
        client.chat("Hi")

    span = watched.span
    assert span.attributes["chatsdk.attempts"] == 3
    assert [(event.name, event.attributes["error.type"]) for event in span.events] == [
        ("chatsdk.retry", "ServerError")
    ] * 2
    assert all(span.start_time <= event.timestamp <= span.end_time for event in span.events)
    assert "error.type" not in span.attributes


def test_a_failed_call_is_an_error_without_the_words_of_the_service(serve, watched):
    refusal = document({"message": "cannot say: the prompt"}, "400 Bad Request")

    with client_of(serve(refusal)) as client, instrument(client, **watched.options):
        with pytest.raises(chatsdk.BadRequestError):
            client.chat("the prompt")

    span = watched.span
    assert span.attributes["error.type"] == "BadRequestError"
    assert span.attributes["http.response.status_code"] == 400
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR, "BadRequestError",
    )
    assert "the prompt" not in span.to_json()


def test_a_chain_of_targets_is_one_span_that_ends_with_who_answered(serve, watched):
    good = serve(said("Hi"))
    targets = [gigachat(serve(BUSY), model="one"), gigachat(good, model="two")]

    with Client(targets, max_retries=0) as client, instrument(client, **watched.options):
        client.chat("Hi")

    assert watched.span.name == "chat two"
    assert watched.span.attributes["gen_ai.request.model"] == "two"
    assert watched.span.attributes["server.port"] == good.port
    assert [event.name for event in watched.span.events] == ["chatsdk.retry"]


def test_a_stream_that_is_left_early_ends_its_span(serve, watched):
    def half(peer):
        peer.send(head() + chunk(frame("one")))
        peer.gone()

    with client_of(serve(half)) as client, instrument(client, **watched.options):
        with client.stream("Hi") as stream:
            next(stream)
            assert watched.spans == ()

    assert watched.span.status.status_code is StatusCode.UNSET
    assert "gen_ai.response.finish_reasons" not in watched.span.attributes


def test_spans_belong_to_the_span_that_is_current_also_in_other_threads(serve, watched):
    tracer = watched.tracers.get_tracer("test")
    server = serve(said("Hi"))

    with client_of(server) as client, instrument(client, **watched.options):
        with tracer.start_as_current_span("parent") as parent:
            client.chat("Hi")
            list(client.fan_out("Hi", ["gigachat:a", "gigachat:b"]))
            list(client.map(["a", "b"]))

    children = [span for span in watched.spans if span.name != "parent"]
    assert len(children) == 5
    assert {child.parent.span_id for child in children} == {parent.get_span_context().span_id}


def test_spans_of_calls_in_many_threads_do_not_mix(serve, watched):
    def echo(peer):
        return said(peer.request.json["messages"][0]["content"])

    with client_of(serve(echo)) as client, instrument(client, content=True, **watched.options):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client.chat, map(str, range(64))))

    said_by = [
        (
            json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"],
            json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"],
        )
        for span in watched.spans
    ]
    assert sorted(said_by) == sorted((str(n), str(n)) for n in range(64))


@attrs.frozen(kw_only=True)
class Vectors(GigaChat):
    """A service that makes vectors."""

    embeds = 8
    embedding_model = "Vectors"

    def embed(self, query, fetch):
        fetch(Request(method="POST", url=f"{self.base_url}/embeddings"))
        return Embeddings([[0.5, 1.0, 0.0]], "Vectors-2", Usage(prompt_tokens=4))


def test_embeddings_are_an_operation_of_their_own(serve, watched):
    provider = Vectors(access_token="a", base_url=serve(answer("{}")).url)

    with Client(provider) as client, instrument(client, **watched.options):
        client.embed("a text")

    assert watched.span.name == "embeddings Vectors"
    attributes = watched.span.attributes
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.response.model"] == "Vectors-2"
    assert attributes["gen_ai.embeddings.dimension.count"] == 3
    assert attributes["gen_ai.usage.input_tokens"] == 4
    assert "gen_ai.request.stream" not in attributes


def test_a_list_of_models_is_a_span(serve, watched):
    with client_of(serve(document({"data": []}))) as client, instrument(client, **watched.options):
        client.models()

    assert watched.span.name == "models"
    assert "gen_ai.request.model" not in watched.span.attributes


def test_a_seed_a_stop_and_a_schema_are_attributes(watched):
    from chatsdk.messages import Query
    from chatsdk.otel import _request

    query = Query(
        messages=(Message("user", "Hi"),), seed=7, stop=("a", "b"), stream=False,
        response_format={"type": "json_object"},
    )

    assert _request(query) == {
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["a", "b"],
        "gen_ai.output.type": "json",
    }


# Words


ASKED = ToolCall("7", "now", {"zone": "UTC"}, '{"zone": "UTC"}')
HISTORY = [
    Message("system", "be brief"),
    Message("user", ("look:", Media("image", "image/png", data=b"1234"))),
    Message("assistant", "", tool_calls=(ASKED,)),
    Message("tool", "12:00", name="now", tool_call_id="7"),
]


def test_prompts_and_replies_are_recorded_by_no_default(serve, watched):
    with client_of(serve(said("the reply"))) as client, instrument(client, **watched.options):
        client.chat("the prompt")

    assert "the prompt" not in watched.span.to_json()
    assert "the reply" not in watched.span.to_json()


@pytest.mark.parametrize("value, wanted", [
    ("true", True), ("1", True), ("SPAN_ONLY", True), ("span_and_event", True),
    ("false", False), ("", False), ("event_only", False), ("no_content", False),
])
def test_the_variable_of_the_conventions_asks_for_words(serve, watched, monkeypatch, value, wanted):
    monkeypatch.setenv(CONTENT, value)

    with client_of(serve(said("the reply"))) as client, instrument(client, **watched.options):
        client.chat("the prompt")

    assert ("the prompt" in watched.span.to_json()) is wanted


def test_words_are_recorded_in_the_shape_of_the_conventions(serve, watched):
    def now():
        """Tell the time."""

    call = {"name": "now", "arguments": {"zone": "UTC"}}
    event = {"choices": [{"delta": {"content": "Well.", "function_call": call}, "index": 0,
                          "finish_reason": "function_call"}]}
    server = serve(
        answer(b"data: " + json.dumps(event).encode() + b"\n\n" + DONE,
               Content_Type="text/event-stream")
    )

    with client_of(server) as client, instrument(client, content=True, **watched.options):
        client.chat(["Hello"], tools=[now])

    attributes = watched.span.attributes
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Hello"}]}
    ]
    (output,) = json.loads(attributes["gen_ai.output.messages"])
    assert (output["role"], output["finish_reason"]) == ("assistant", "tool_call")
    assert output["parts"][0] == {"type": "text", "content": "Well."}
    assert output["parts"][1]["name"] == "now"
    assert output["parts"][1]["arguments"] == {"zone": "UTC"}
    (tool,) = json.loads(attributes["gen_ai.tool.definitions"])
    assert (tool["type"], tool["name"], tool["description"]) == (
        "function", "now", "Tell the time.",
    )


def test_each_kind_of_message_has_its_shape():
    from chatsdk.otel import _message

    found = [_message(message) for message in HISTORY]

    assert found == [
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [
            {"type": "text", "content": "look:"},
            {"type": "media", "modality": "image", "mime_type": "image/png", "bytes": 4},
        ]},
        {"role": "assistant", "parts": [
            {"type": "tool_call", "id": "7", "name": "now", "arguments": {"zone": "UTC"}},
        ]},
        {"role": "tool", "parts": [
            {"type": "tool_call_response", "id": "7", "response": "12:00"},
        ]},
    ]


def test_a_picture_that_the_service_fetches_is_named_by_its_address():
    from chatsdk.otel import _message

    message = Message("user", (Media("image", url="https://host/cat.png"),))

    assert _message(message)["parts"] == [
        {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://host/cat.png"}
    ]


# Metrics


def test_a_call_is_measured_in_tokens_and_seconds(serve, watched):
    with client_of(serve(whole())) as client, instrument(client, **watched.options):
        client.chat("Hi", model="GigaChat-2")

    points = watched.points()
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gigachat",
        "gen_ai.request.model": "GigaChat-2",
        "gen_ai.response.model": "GigaChat-2:7",
        "server.address": "127.0.0.1",
        "server.port": watched.span.attributes["server.port"],
    }
    tokens = {
        attributes.pop("gen_ai.token.type"): (attributes, point.sum)
        for attributes, point in points["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": (common, 12), "output": (common, 34)}
    ((attributes, duration),) = points["gen_ai.client.operation.duration"]
    assert (attributes, duration.count) == (common, 1)
    assert duration.sum == pytest.approx(
        (watched.span.end_time - watched.span.start_time) / 10**9, abs=1e-5
    )
    assert duration.explicit_bounds == tuple(0.01 * 2**n for n in range(14))
    ((attributes, first),) = points["gen_ai.client.operation.time_to_first_chunk"]
    assert (attributes, first.count) == (common, 1)
    assert 0 < first.sum < duration.sum
    ((_, usage), _) = points["gen_ai.client.token.usage"]
    assert usage.explicit_bounds == tuple(4**n for n in range(14))


def test_a_call_without_streaming_has_no_first_chunk(serve, watched):
    reply = {"choices": [{"message": {"content": "Hi"}, "index": 0, "finish_reason": "stop"}]}

    with client_of(serve(document(reply))) as client, instrument(client, **watched.options):
        client.chat("Hi", stream=False)

    assert set(watched.points()) == {"gen_ai.client.operation.duration"}
    assert "gen_ai.response.time_to_first_chunk" not in watched.span.attributes


def test_a_failed_call_is_measured_with_its_error(serve, watched):
    with client_of(serve(BUSY), max_retries=0) as client, instrument(client, **watched.options):
        with pytest.raises(chatsdk.ServerError):
            client.chat("Hi")

    ((attributes, point),) = watched.points()["gen_ai.client.operation.duration"]
    assert (attributes["error.type"], point.count) == ("ServerError", 1)


# The header


def test_traceparent_is_not_sent_unless_asked_for(serve, watched):
    server = serve(said("Hi"))

    with client_of(server) as client:
        with instrument(client, **watched.options):
            client.chat("Hi")
        with instrument(client, propagate=True, **watched.options):
            client.chat("Hi")

    context = watched.spans[1].get_span_context()
    sent = [request.headers.get("traceparent") for request in server.requests]
    flags = f"{context.trace_flags:02x}"
    assert sent == [None, f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}"]
    assert not any("baggage" in request.headers for request in server.requests)


# Who is instrumented


def test_a_process_is_instrumented_as_a_whole(serve, watched):
    server = serve(said("Hi"))

    with instrument(**watched.options):
        with client_of(server) as one, client_of(server) as two:
            one.chat("Hi")
            two.chat("Hi")
            chatsdk.chat("Hi", target=gigachat(server))
    with client_of(server) as three:
        three.chat("Hi")

    assert len(watched.spans) == 3


def test_only_the_client_and_its_copies_are_instrumented(serve, watched):
    server = serve(said("Hi"))

    with client_of(server) as client, client_of(server) as other:
        copy = client.with_options(timeout=5)
        instrument(client, **watched.options)
        for asked in (client, copy, other):
            asked.chat("Hi")

    assert len(watched.spans) == 2


def test_instrumenting_twice_makes_one_span(serve, watched):
    with client_of(serve(said("Hi"))) as client, instrument(**watched.options):
        with instrument(**watched.options), instrument(client, **watched.options):
            client.chat("Hi")

    assert len(watched.spans) == 1


def test_an_instrumented_client_can_be_pickled_and_leaves_that_behind(watched):
    client = Client("gigachat", access_token="a")
    instrument(client, **watched.options)

    assert pickle.loads(pickle.dumps(client))._attached == {}


def test_what_is_instrumented_is_a_client():
    with pytest.raises(TypeError, match="client must be a Client or None, not str"):
        instrument("gigachat")


def test_without_the_extra_an_error_says_what_to_install():
    program = (
        "import sys\nsys.modules['opentelemetry'] = None\n"
        "from chatsdk.otel import instrument\n"
        "try:\n    instrument()\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout == (
        "ConfigurationError OpenTelemetry is an extra: pip install 'chatsdk[otel]'\n"
    ), done.stderr


def test_without_a_configured_sdk_nothing_happens(serve):
    with client_of(serve(said("Hi"))) as client, instrument(client, propagate=True):
        assert client.chat("Hi").text == "Hi"


def test_services_that_the_conventions_know_have_their_names():
    assert PROVIDERS["gemini"] == "gcp.gemini"
    assert PROVIDERS.keys() < TABLE.keys() - {"gigachat", "openai", "anthropic"}


# A collector


class Collector:
    """Receives OTLP over HTTP as a collector does, and keeps what it was sent."""

    KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}

    def __init__(self):
        self.received = received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                received.append(Collector.KINDS[self.path].FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *details):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.stop()


def test_a_collector_gets_spans_and_metrics_by_the_real_exporter(serve, collector):
    resource = Resource.create({"service.name": "overnight"})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"))
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    with instrument(tracer_provider=tracers, meter_provider=meters):
        with client_of(serve(BUSY, whole())) as client:
            client.chat("Hi", model="GigaChat-2")
    tracers.shutdown()
    meters.shutdown()

    traces, metrics = sorted(collector.received, key=lambda one: type(one).__name__, reverse=True)
    (resource,) = traces.resource_spans
    (scope,) = resource.scope_spans
    (span,) = scope.spans
    assert (scope.scope.name, scope.scope.version) == ("chatsdk", chatsdk.__version__)
    assert (span.name, span.kind) == ("chat GigaChat-2", 3)  # SPAN_KIND_CLIENT
    found = {pair.key: pair.value for pair in span.attributes}
    assert found["gen_ai.usage.input_tokens"].int_value == 12
    assert found["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert [event.name for event in span.events] == ["chatsdk.retry"]
    names = {
        metric.name
        for one in metrics.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
    }
    assert names == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
    }


def test_a_collector_that_is_down_changes_nothing_of_a_call(serve, caplog):
    caplog.set_level(logging.CRITICAL)
    collector = Collector()
    collector.stop()
    tracers = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{collector.url}/v1/traces", timeout=0.2)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    with client_of(serve(said("Hi"))) as client, instrument(client, tracer_provider=tracers):
        assert client.chat("Hi").text == "Hi"

    tracers.shutdown()
