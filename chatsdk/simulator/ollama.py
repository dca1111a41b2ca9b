"""Ollama: a model server on one's own machine; one JSON object a line, the last says done.

Source: the server's own source of 2026 (server/routes.go, api/types.go) and the API page of its
repository. Its JSON comes from Go: ``<``, ``>`` and ``&`` are escaped inside texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
import secrets
import time
from typing import Any

from . import ollama_checks as checks
from .brain import arguments
from .ollama_checks import written
from .ollama_models import MODELS
from .scripts import words
from .service import Chat, Document, Messages, phrase, Recorded, Refused, Service
from .vectors import vector
from .voice import THOUGHTS, Voice, Whole

VERSION = "0.13.5"
_MESSAGES = {401: "unauthorized", 499: "request canceled",
             500: "an error was encountered while running the model: unexpected EOF",
             503: "server busy, please try again.  maximum pending requests exceeded"}
_CALLS = {("POST", "/api/chat"): "chat", ("GET", "/api/tags"): "models",
          ("HEAD", "/api/tags"): "models", ("POST", "/api/embed"): "embeddings",
          ("POST", "/api/show"): "show", ("GET", "/api/version"): "version",
          ("HEAD", "/api/version"): "version"}


@dataclass(frozen=True)
class Call:
    """A function that could be called."""

    name: str
    arguments: dict[str, Any]

    def told(self, index: int) -> dict[str, Any]:
        """Return the call as a message has it."""
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        made = "call_" + "".join(secrets.choice(letters) for _ in range(8))
        return {"id": made, "function": {"index": index, "name": self.name,
                                         "arguments": self.arguments}}


class _Lines(Voice):
    """A line for each piece of text, and a last one with the counts.

    Args:
        model: As the request named it.
        prompt: Tokens of the prompt; a word is taken for one.
        thinks: Whether thoughts come before the text.
        calls: What could be called, for the scenario that calls all of it.
    """

    malformed = b'{"model":"llama3.2","message":{"content":\n'
    error = written({"error": _MESSAGES[500]}) + b"\n"

    def __init__(self, model: str, prompt: int, *, thinks: bool, calls: list[Call]) -> None:
        super().__init__()
        self.model, self.prompt, self.thinks, self.calls = model, prompt, thinks, calls
        self.thought = False
        self.begun = time.perf_counter_ns()
        self.noise = (self.line({"role": "assistant", "content": ""}),
                      self.line({"role": "assistant", "content": ""}, logprobs=[], unheard_of={}),
                      b'{"status":"loading model"}\n')

    def line(self, message: Mapping[str, object], **rest: object) -> bytes:
        """Return one line with a message."""
        return written(self.value(message, **rest)) + b"\n"

    def value(self, message: Mapping[str, object], **rest: object) -> dict[str, object]:
        """Return what a line says."""
        return {"model": self.model, "created_at": _now(), "message": message,
                **({"done": False} | rest)}

    def thoughts(self) -> list[str]:
        """Return what is thought before the text; the second time nothing."""
        thinks = not self.thought and (self.thinks or self.scenario == "reasoning")
        self.thought = True
        return list(THOUGHTS) if thinks else []

    def frame(self, piece: str) -> bytes:
        """Return the line of a piece, after the thoughts if it is the first."""
        lines = [self.line({"role": "assistant", "content": "", "thinking": thought})
                 for thought in self.thoughts()]
        return b"".join([*lines, self.line({"role": "assistant", "content": piece})])

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the lines of the calls and the one that says done."""
        frames = [self.text(last)] if last else []
        frames += [self.line({"role": "assistant", "content": "", "thinking": thought})
                   for thought in self.thoughts()]
        if self.tool:
            frames.append(self.line({"role": "assistant", "content": "",
                                     "tool_calls": self.called()}))
        return [*frames, self.line({"role": "assistant", "content": ""}, **self.done(reason))]

    def called(self) -> list[dict[str, Any]]:
        """Return the calls that are made: one, or in one scenario all there are."""
        chosen = [Call(*self.tool)] if self.tool else []
        if self.scenario == "parallel-calls":
            chosen = self.calls
        return [call.told(index) for index, call in enumerate(chosen)]

    def done(self, reason: str) -> dict[str, object]:
        """Return what only the last line says; durations are in nanoseconds."""
        spent = time.perf_counter_ns() - self.begun
        count = len([piece for piece in self.said if piece]) + 1  # the last is the end's own token
        return {"done": True, "done_reason": "length" if reason == "length" else "stop",
                "total_duration": spent + 6_000_000, "load_duration": 4_000_000,
                "prompt_eval_count": self.prompt, "prompt_eval_duration": 2_000_000,
                "eval_count": count, "eval_duration": spent}


class _Document(Whole):
    """The answer without streaming."""

    error = _Lines.error.rstrip()

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self.inner = lines

    def document(self, reason: str) -> bytes:
        """Return the whole message with the counts."""
        inner = self.inner
        inner.said, inner.tool, inner.scenario = self.said, self.tool, self.scenario
        message: dict[str, object] = {"role": "assistant", "content": "".join(self.said)}
        calls = inner.called()
        if thought := "".join(inner.thoughts()):
            message["thinking"] = thought
        if calls:
            message["tool_calls"] = calls
        return written(inner.value(message, **inner.done(reason)))


class Ollama(Service):
    """The chat at ``/api/chat``, embeddings at ``/api/embed``, models at ``/api/tags``."""

    name = "ollama"
    stages = ("models", "embeddings", "show", "version")
    special = frozenset({"function-call", "parallel-calls", "reasoning", "think-tags", "quota",
                         "context"})

    def stage(self, request: Recorded) -> str:
        """Tell the requests apart by method and path."""
        return _CALLS.get((request.method, request.path), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return ``{"error"}``, the only shape there is."""
        if status == 404:
            message = message or checks.UNKNOWN.format(request.members.get("model", ""))
        text = message or _MESSAGES.get(status) or phrase(status).lower()
        return Document(status, written({"error": text}), checks.JSON)

    def refusal(self, kind: str, status: int, request: Recorded) -> Document:
        """Return what the cloud says when a quota is used up, or that a prompt is too long."""
        return self.error(status, request, {
            "quota": "you have reached your weekly usage limit, upgrade for higher limits: "
                     "https://ollama.com/upgrade",
            "context": "the input length exceeds the context length"}[kind])

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Tell of models and of the server, or embed texts."""
        if stage in _ANSWERS:
            return _ANSWERS[stage](request)
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return Document(200, b"Ollama is running", "text/plain; charset=utf-8")
        known = any(request.path == path for _, path in _CALLS)
        status, text = (405, b"405 method not allowed") if known else (404, b"404 page not found")
        raise Refused(Document(status, text, "text/plain"))

    def chat(self, request: Recorded) -> Chat:
        """Check shape, model, abilities and options, in this order."""
        body = checks.members(request)
        messages, tools = checks.entries(body, "messages"), checks.entries(body, "tools")
        for message in messages:
            checks.message(message)
        functions = checks.functions(tools)
        checks.keep_alive(body.get("keep_alive"))
        model = checks.model(body.get("model"))
        if not messages:
            return _loading(body)
        thinks = checks.thinks(body, model)
        checks.abilities(body, model)
        options = checks.options(body)
        schema = checks.schema(body.get("format"))
        heard = _heard(messages)
        calls = [Call(f["name"], arguments(f.get("parameters"), heard)) for f in functions]
        offered = calls and heard[-1]["role"] != "tool"  # a result is spoken of, not called for
        prompt = sum(len(words(message["content"])) + 3 for message in heard)
        lines = _Lines(body["model"], prompt, thinks=thinks, calls=calls)
        stream = body.get("stream") is not False
        limit = int(options.get("num_predict", -1))
        return Chat(lines if stream else _Document(lines), heard,
                    "application/x-ndjson" if stream else checks.JSON,
                    limit=limit if limit > 0 else None, stops=tuple(options.get("stop") or ()),
                    keeps_stop=False, tool=(calls[0].name, calls[0].arguments) if offered else None,
                    schema=schema)


def _show(request: Recorded) -> Document:
    body = checks.members(request)
    return _document(checks.model(body.get("model") or body.get("name")).shown, "details")


def _embed(request: Recorded) -> Document:
    begun = time.perf_counter_ns()
    body = checks.members(request)
    texts = checks.texts(body.get("input"))
    model = checks.model(body.get("model"), checks.NOT_PULLED)
    checks.options(body)
    if not texts:
        return _document({"model": body["model"], "embeddings": []}, "embeddings")
    counts = [len(words(text)) + 2 for text in texts]
    if body.get("truncate") is False and max(counts) > model.context:
        raise checks.no(400, "the input length exceeds the context length")
    size = min(body.get("dimensions") or model.width, model.width)
    return _document({
        "model": body["model"], "embeddings": [vector(text, size) for text in texts],
        "total_duration": time.perf_counter_ns() - begun + 1_000_000, "load_duration": 1_000_000,
        "prompt_eval_count": sum(min(count, model.context) for count in counts)}, "embeddings")


_ANSWERS: dict[str, Callable[[Recorded], Document]] = {
    "models": lambda _: _document({"models": [model.listed for model in MODELS]}, "models"),
    "version": lambda _: _document({"version": VERSION}, "version"),
    "embeddings": _embed, "show": _show}


def _document(value: Mapping[str, object], main: str) -> Document:
    return Document(200, written(value), checks.JSON, value=main)


def _loading(body: Mapping[str, Any]) -> Chat:
    """Return the answer to a request without messages: the model is loaded, or unloaded."""
    reason = "unload" if body.get("keep_alive") in (0, "0", "0s", "0m") else "load"
    value = {"model": body["model"], "created_at": _now(),
             "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason}
    return Chat(Whole(written(value)), [], checks.JSON)


def _heard(messages: list[Any]) -> Messages:
    """Return the messages with what they say as text; a tool's name is their name."""
    return [{"role": str(m.get("role") or ""), "content": m.get("content") or "",
             **({"name": m["tool_name"]} if m.get("tool_name") else {})} for m in messages]


def _now() -> str:
    now = datetime.now(timezone.utc)
    return f"{now:%Y-%m-%dT%H:%M:%S.%f}{secrets.randbelow(1000):03d}Z"
