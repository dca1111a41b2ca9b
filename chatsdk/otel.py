"""OpenTelemetry: a span and metrics for each call, made by hooks; needs ``chatsdk[otel]``.

Source: the semantic conventions for generative AI, spans and metrics, release 1.41 of April 2026
(https://opentelemetry.io/docs/specs/semconv/gen-ai/), read on 2026-11-21.  It is the last one: the
repository in which they live on since then had no release on that day, and renames its metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import json
import os
from typing import Any
from urllib.parse import urlsplit

from chatsdk.client import Client
from chatsdk.errors import ConfigurationError
from chatsdk.hooks import Hooks, Notice
from chatsdk.listeners import attach
from chatsdk.messages import Message, Query, Reply, Usage
from chatsdk.parts import ToolCall
from chatsdk.version import __version__

NAME = "otel"  # under which the hooks are known: instrumented twice is instrumented once
SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CONTENT_WANTED = {"1", "true", "span_only", "span_and_event"}

# What the conventions call a service, where it is not our name.
PROVIDERS = {
    "azure-openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "openai-responses": "openai",
    "xai": "x_ai",
}
PORTS = {"http": 80, "https": 443}

SECONDS = [0.01 * 2**n for n in range(14)]  # the boundaries that the conventions give
TOKENS = [4**n for n in range(14)]

NANO = 10**9


def instrument(
    client: Client | None = None,
    *,
    tracer_provider: Any = None,
    meter_provider: Any = None,
    content: bool | None = None,
    propagate: bool = False,
) -> Instrumentation:
    """Have a span and metrics made of each call from now on.

    Instrumenting what is instrumented replaces that.

    Args:
        client: Only this client and its copies; None: all clients of this process.
        tracer_provider: Where spans go; None: the process's own provider.
        meter_provider: Where metrics go; None: the process's own provider.
        content: Record prompts, replies and tools; None: as the environment variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says, which is no by default.
        propagate: Send ``traceparent`` to the service with each request.

    Returns:
        The way to end it, by its `Instrumentation.remove` or as a ``with`` block.

    Raises:
        ConfigurationError: ``chatsdk[otel]`` is not installed.
        TypeError: ``client`` is none.
    """
    if client is not None and not isinstance(client, Client):
        raise TypeError(f"client must be a Client or None, not {type(client).__name__}")
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as error:
        raise ConfigurationError(
            "OpenTelemetry is an extra: pip install 'chatsdk[otel]'"
        ) from error
    if content is None:
        content = os.environ.get(CONTENT, "").lower() in CONTENT_WANTED
    made = Instrumentation(
        client,
        trace.get_tracer("chatsdk", __version__, tracer_provider, SCHEMA),
        metrics.get_meter("chatsdk", __version__, meter_provider, SCHEMA),
        TraceContextTextMapPropagator() if propagate else None,
        content=content,
    )
    made.install()
    return made


class Instrumentation:
    """Makes spans and metrics of what hooks are told, until it is removed."""

    def __init__(
        self, client: Client | None, tracer: Any, meter: Any, propagator: Any, *, content: bool
    ) -> None:
        """Prepare; see `instrument`."""
        from opentelemetry import trace

        self._trace = trace
        self._client = client
        self._tracer = tracer
        self._propagator = propagator
        self._content = content
        self._open: dict[int, Any] = {}  # spans by the number of their call
        self._hooks = Hooks(self._requested, self._retrying, self._ended, self._ended)
        self._tokens, self._duration, self._first_chunk = (
            meter.create_histogram(
                f"gen_ai.client.{name}", unit, about, explicit_bucket_boundaries_advisory=bounds
            )
            for name, unit, about, bounds in (
                ("token.usage", "{token}", "Number of input and output tokens used.", TOKENS),
                ("operation.duration", "s", "GenAI operation duration.", SECONDS),
                ("operation.time_to_first_chunk", "s", "Time to receive the first chunk.", SECONDS),
            )
        )

    def install(self) -> None:
        """Begin to be told."""
        self._attach(self._hooks)

    def remove(self) -> None:
        """Make no more spans; calls that run already still have theirs."""
        self._attach(None)

    def _attach(self, hooks: Hooks | None) -> None:
        if self._client is None:
            attach(NAME, hooks)
        else:
            self._client.attach(NAME, hooks)

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(self, *details: object) -> None:
        self.remove()

    # What the hooks are

    def _requested(self, notice: Notice) -> None:
        span = self._span(notice)
        if self._propagator is not None:
            context = self._trace.set_span_in_context(span)
            self._propagator.inject(notice.headers, context)

    def _retrying(self, notice: Notice) -> None:
        attributes = {"error.type": type(notice.error).__name__, "chatsdk.wait": notice.wait}
        at = _nanoseconds(notice.began + notice.seconds)
        self._span(notice).add_event("chatsdk.retry", attributes, at)

    def _ended(self, notice: Notice) -> None:
        span = self._span(notice)
        del self._open[notice.call]
        common = {**_asked(notice), **_answered(notice)}
        if span.is_recording():
            span.update_name(_name(notice))  # a chain of targets may have come to another model
            span.set_attributes(
                {**common, **_request(notice.query), **_response(notice), **self._said(notice)}
            )
            if notice.error is not None:
                self._fail(span, notice)
        span.end(_nanoseconds(notice.began + notice.seconds))
        self._measure(notice, common)

    def _span(self, notice: Notice) -> Any:
        """Return the span of a call; the first notice begins it, as of when the call began."""
        if notice.call not in self._open:
            self._open[notice.call] = self._tracer.start_span(
                _name(notice),
                kind=self._trace.SpanKind.CLIENT,
                attributes=_asked(notice),
                start_time=_nanoseconds(notice.began),
            )
        return self._open[notice.call]

    def _fail(self, span: Any, notice: Notice) -> None:
        # A service may quote a prompt in its error: its words are content.
        words = str(notice.error) if self._content else ""
        status = self._trace.Status(self._trace.StatusCode.ERROR, words or _kind(notice))
        span.set_status(status)

    def _said(self, notice: Notice) -> dict[str, Any]:
        """Return what was said, for those who want that."""
        if not self._content or notice.query is None or not notice.query.messages:
            return {}
        found = {"gen_ai.input.messages": [_message(one) for one in notice.query.messages]}
        if notice.reply is not None:
            found["gen_ai.output.messages"] = [_output(notice.reply)]
        if notice.query.tools:
            found["gen_ai.tool.definitions"] = [_tool(tool) for tool in notice.query.tools]
        return {name: json.dumps(value, ensure_ascii=False) for name, value in found.items()}

    def _measure(self, notice: Notice, common: Mapping[str, Any]) -> None:
        self._duration.record(notice.seconds, common)
        for kind, tokens in _counts(notice.usage):
            self._tokens.record(tokens, {**common, "gen_ai.token.type": kind})
        if notice.first_chunk_after is not None and notice.query and notice.query.stream:
            self._first_chunk.record(notice.first_chunk_after, common)


# What the attributes are


def _nanoseconds(seconds: float) -> int:
    return int(seconds * NANO)


def _name(notice: Notice) -> str:
    return f"{notice.operation} {notice.model}" if notice.model else notice.operation


def _kind(notice: Notice) -> str:
    return type(notice.error).__name__


def _given(**attributes: Any) -> dict[str, Any]:
    """Return attributes by their names, ``__`` for a dot, without those that are None."""
    return {
        name.replace("__", "."): value for name, value in attributes.items() if value is not None
    }


def _asked(notice: Notice) -> dict[str, Any]:
    """Return what is known when a call begins, and is fit for metrics."""
    parts = urlsplit(notice.base_url)
    return _given(
        gen_ai__operation__name=notice.operation,
        gen_ai__provider__name=PROVIDERS.get(notice.provider, notice.provider),
        gen_ai__request__model=notice.model,
        server__address=parts.hostname,
        server__port=parts.port or PORTS.get(parts.scheme),
    )


def _answered(notice: Notice) -> dict[str, Any]:
    """Return what is known when a call has ended, and is fit for metrics."""
    answer = notice.result if notice.reply is None else notice.reply
    return _given(
        gen_ai__response__model=getattr(answer, "model", None),
        error__type=None if notice.error is None else _kind(notice),
    )


def _request(query: Query | None) -> dict[str, Any]:
    """Return the parameters of a question."""
    if query is None or not query.messages:
        return {}
    shape = query.response_format
    wants_json = isinstance(shape, Mapping) and str(shape.get("type")).startswith("json")
    return _given(
        gen_ai__request__temperature=query.temperature,
        gen_ai__request__max_tokens=query.max_tokens,
        gen_ai__request__top_p=query.top_p,
        gen_ai__request__seed=query.seed,
        gen_ai__request__stop_sequences=list(query.stop) or None,
        gen_ai__request__stream=query.stream or None,
        gen_ai__output__type="json" if wants_json else None,
    )


def _response(notice: Notice) -> dict[str, Any]:
    """Return what an answer tells, beside its words."""
    reply, usage = notice.reply or Reply(), notice.usage or Usage()
    streamed = notice.query is not None and notice.query.stream
    vectors = getattr(notice.result, "vectors", None)
    return _given(
        gen_ai__response__id=reply.id,
        gen_ai__response__finish_reasons=[reply.finish_reason] if reply.finish_reason else None,
        gen_ai__response__time_to_first_chunk=notice.first_chunk_after if streamed else None,
        gen_ai__usage__input_tokens=usage.prompt_tokens,
        gen_ai__usage__output_tokens=usage.completion_tokens,
        gen_ai__usage__cache_read__input_tokens=usage.cached_tokens,
        gen_ai__usage__reasoning__output_tokens=usage.reasoning_tokens,
        gen_ai__embeddings__dimension__count=len(vectors[0]) if vectors else None,
        http__response__status_code=notice.status,
        chatsdk__attempts=notice.attempt,
        chatsdk__request_id=notice.request_id,
    )


def _counts(usage: Usage | None) -> Iterable[tuple[str, int]]:
    if usage is not None and usage.prompt_tokens is not None:
        yield "input", usage.prompt_tokens
    if usage is not None and usage.completion_tokens is not None:
        yield "output", usage.completion_tokens


# What was said, in the shape of the conventions


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        result = {"type": "tool_call_response", "id": message.tool_call_id}
        return {"role": "tool", "parts": [{**result, "response": message.text}]}
    parts: list[dict[str, Any]] = [_part(part) for part in _pieces(message)]
    return {"role": message.role, "parts": [*parts, *map(_call, message.tool_calls)]}


def _pieces(message: Message) -> Iterable[Any]:
    content = message.content
    return (content,) if isinstance(content, str) and content else content


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    if part.url is not None:
        return {"type": "uri", "modality": part.kind, "mime_type": part.mime, "uri": part.url}
    size = len(part.data or b"")  # the bytes themselves are too much for a span
    return {"type": "media", "modality": part.kind, "mime_type": part.mime, "bytes": size}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.raw if call.arguments is None else call.arguments
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}


def _output(reply: Reply) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if reply.reasoning:
        parts.append({"type": "reasoning", "content": reply.reasoning})
    if reply.text:
        parts.append({"type": "text", "content": reply.text})
    parts.extend(map(_call, reply.tool_calls))
    reason = "tool_call" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return {"role": "assistant", "parts": parts, "finish_reason": reason}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return {"type": "function", **(function if isinstance(function, Mapping) else tool)}
