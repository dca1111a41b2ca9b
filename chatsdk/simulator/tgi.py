"""TGI: Hugging Face's text-generation-inference on its own, with its native interface.

A prompt goes to ``/generate`` or ``/generate_stream``; templates and tokens can be asked for.
Source: the server's source of version 3 (router/src/server.rs, lib.rs, validation.rs). The model
server behind h2o is its version 0.9.1, in h2o_tgi.py: no index, no input_length, other framing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
import re
from typing import Any

from .h2o_tgi import check, Generation
from .h2o_tgi import given as present
from .h2o_tgi import token, untyped
from .service import (
    Chat,
    Document,
    Messages,
    Pairs,
    phrase,
    Recorded,
    Refused,
    said,
    Service,
    unflatten,
)
from .voice import compact

MODEL = "HuggingFaceTB/SmolLM2-1.7B-Instruct"
VERSION = "3.3.6"
_DEFAULT_NEW = 1024
_LONGEST = 4096  # tokens of prompt and answer together
_INFO = {"model_id": MODEL, "model_sha": "31b70e2e869a7173562077fd711b654946d38674",
         "model_pipeline_tag": "text-generation", "max_concurrent_requests": 128,
         "max_best_of": 2, "max_stop_sequences": 4, "max_input_tokens": 3072,
         "max_total_tokens": _LONGEST, "validation_workers": 2, "max_client_batch_size": 4,
         "router": "text-generation-router", "version": VERSION, "sha": None,
         "docker_label": "sha-24c2bff"}
_CALLS = {("POST", "/generate"): "chat", ("POST", "/generate_stream"): "chat",
          ("POST", "/"): "chat",
          ("GET", "/info"): "models", ("GET", "/health"): "health",
          ("POST", "/tokenize"): "tokenize", ("POST", "/chat_tokenize"): "template"}
_ERRORS = {422: ("Input validation error: `inputs` cannot be empty", "validation"),
           424: ("Request failed during generation: CUDA out of memory", "generation"),
           429: ("Model is overloaded", "overloaded"),
           500: ("Incomplete generation", "incomplete_generation"),
           503: ("unhealthy", "healthcheck")}
_UNREAD = "Failed to deserialize the JSON body into the target type: "
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n?", re.S)


class _Tokens(Generation):
    """Frames of version 3: an index in each, the length of the prompt in the last.

    Args:
        parameters: Of the request.
        refused: Why they are refused; a stream tells it inside a 200.
        stream: False for one document.
        inputs: The prompt.
        listed: The document is an entry of a list.
    """

    def __init__(self, parameters: dict[str, Any], refused: str, *, stream: bool, inputs: str,
                 listed: bool) -> None:
        self.inputs, self.listed = inputs, listed
        super().__init__(parameters, refused, stream=stream)
        self.index = 0
        if stream:
            self.malformed = b'data: {"index":1,"token":\n\n'

    def event(self, value: object) -> bytes:
        """Return an event of the stream; without streaming, the bare value."""
        return b"data: %b\n\n" % compact(value) if self.stream else compact(value)

    def frame(self, piece: str) -> bytes:
        """Return the event of one ordinary token."""
        if not self.stream:
            return b""
        return self.told(token(piece))

    def told(self, found: dict[str, object], text: str | None = None,
             details: dict[str, object] | None = None) -> bytes:
        """Return an event with a token."""
        self.index += 1
        return self.event({"index": self.index, "token": found, "generated_text": text,
                           "details": details})

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the event with the whole text, or the document."""
        if self.refused:
            return [self.event(self.refusal)]
        if last:
            self.said.append(last)
        found = token(last) if last else {"id": 2, "text": "<|im_end|>", "logprob": -0.0021,
                                          "special": True}
        prompt = self.inputs if self.parameters.get("return_full_text") else ""
        whole = prompt + "".join(self.said)
        details = self.details("eos_token" if reason == "stop" else reason, natural=not last)
        if self.stream:
            if details is not None:
                details["input_length"] = tokens_of(self.inputs)
            return [self.told(found, whole, details)]
        document: dict[str, object] = {"generated_text": whole}
        if details is not None:
            spoken = [token(piece) for piece in self.said] + ([] if last else [found])
            document["details"] = {**details, "prefill": self.prefill(), "tokens": spoken}
        return [compact([document] if self.listed else document)]

    def prefill(self) -> list[dict[str, object]]:
        """Return the tokens of the prompt, if they were asked for."""
        if not self.parameters.get("decoder_input_details"):
            return []
        return [{key: part for key, part in token(piece).items() if key != "special"}
                for piece in _cut(self.inputs)]


class Tgi(Service):
    """Generation at ``/generate_stream``, ``/generate`` and ``/``, all else beside it."""

    name = "tgi"
    stages = ("models", "health", "tokenize", "template")
    special = frozenset({"think-tags"})

    def stage(self, request: Recorded) -> str:
        """Tell the requests apart by method and path."""
        return _CALLS.get((request.method, request.path), "")

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return ``{"error", "error_type"}``; a wrong key gets a bare 401."""
        if status == 401:
            return Document(401)
        text, kind = _ERRORS.get(status, (phrase(status), "unknown"))
        return Document.of({"error": message or text, "error_type": kind}, status)

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Tell of the model, or count tokens."""
        if stage in _ANSWERS:
            return _ANSWERS[stage](request)
        known = any(request.path == path for _, path in _CALLS)
        raise Refused(Document(405 if known else 404))

    def chat(self, request: Recorded) -> Chat:
        """Check a generation; what a stream minds is told inside it."""
        body = _body(request)
        inputs = _inputs(body)
        wrong = untyped(body.get("parameters") or {})
        if wrong:
            raise _plain(422, wrong)
        parameters = present(body.get("parameters") or {})
        listed = request.path == "/"
        stream = bool(body.get("stream")) if listed else request.path == "/generate_stream"
        if listed:
            parameters.setdefault("return_full_text", True)
        room = _LONGEST - tokens_of(inputs)
        rules = {"max_new_tokens": max(1, min(room, _DEFAULT_NEW)), **parameters}
        refused = check(inputs, rules, stream=stream) or _beyond(parameters, stream=stream)
        voice = _Tokens(parameters, refused, stream=stream, inputs=inputs, listed=listed)
        if refused and not stream:
            raise Refused(Document.of(voice.refusal, 422))
        grammar = parameters.get("grammar") or {}
        return Chat(voice, _read(inputs), voice.type, _headers(inputs, stream=stream),
                    limit=rules["max_new_tokens"],
                    stops=tuple(parameters.get("stop") or ()),
                    schema=_schema(grammar) if grammar.get("type") == "json" else None)


@dataclass(frozen=True)
class _Piece:
    """A token of a text with its place, in characters."""

    text: str
    start: int

    def told(self) -> dict[str, object]:
        """Return it as ``/tokenize`` does."""
        return {"id": token(self.text)["id"], "text": self.text, "start": self.start,
                "stop": self.start + len(self.text)}


def _cut(text: str) -> list[str]:
    return re.findall(r"<\|\w+\|>|\s+(?=<\||$)|\s*\w+|\s*[^\w\s]|\s+", text)


def _pieces(text: str) -> list[_Piece]:
    found, start = [], 0
    for piece in _cut(text):
        found.append(_Piece(piece, start))
        start += len(piece)
    return found


def tokens_of(text: str) -> int:
    """Return how many tokens a text has."""
    return len(_cut(text))


def _plain(status: int, text: str) -> Refused:
    return Refused(Document(status, text.encode(), "text/plain; charset=utf-8"))


def _body(request: Recorded) -> dict[str, Any]:
    if not request.headers.get("Content-Type", "").startswith("application/json"):
        raise _plain(415, "Expected request with `Content-Type: application/json`")
    try:
        body = json.loads(request.body)
    except ValueError:
        raise _plain(400, "Failed to parse the request body as JSON") from None
    if not isinstance(body, dict):
        raise _plain(422, f"{_UNREAD}invalid type, expected struct")
    return body


def _inputs(body: dict[str, Any]) -> str:
    inputs = body.get("inputs")
    if not isinstance(inputs, str):
        fault = "inputs: invalid type, expected a string" if "inputs" in body else \
            "missing field `inputs`"
        raise _plain(422, _UNREAD + fault)
    return inputs


def _beyond(parameters: dict[str, Any], *, stream: bool) -> str:
    """Return what version 3 minds beyond the checks of version 0.9.1."""
    sampled = parameters.get("do_sample") or any(
        name in parameters for name in ("temperature", "top_k", "top_p", "typical_p"))
    several = parameters.get("best_of", 1) > 1
    penalty = parameters.get("frequency_penalty", 0)
    checks = (
        (stream and bool(parameters.get("decoder_input_details")),
         "`decoder_input_details` == true is not supported when streaming tokens"),
        (several and not sampled, "you must use sampling when `best_of` is > 1"),
        (several and "seed" in parameters, "`seed` must not be set when `best_of` > 1"),
        (not -2 <= penalty <= 2, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    )
    return next((text for wrong, text in checks if wrong), "") or _unfit(parameters)


def _unfit(parameters: dict[str, Any]) -> str:
    grammar = parameters.get("grammar")
    if not isinstance(grammar, dict) or grammar.get("type") != "json":
        return ""
    schema = _schema(grammar)
    if not isinstance(schema, dict):
        return "grammar is not supported"
    return "" if "properties" in schema else \
        "grammar is not valid: Grammar must have a 'properties' field"


def _schema(grammar: dict[str, Any]) -> object:
    value = grammar.get("value")
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _headers(inputs: str, *, stream: bool) -> Pairs:
    counted = (("x-compute-type", "gpu+optimized"), ("x-compute-characters", str(len(inputs))))
    if stream:
        return (("Cache-Control", "no-cache"), *counted, ("X-Accel-Buffering", "no"))
    return (*counted, ("x-prompt-tokens", str(tokens_of(inputs))))


def _read(inputs: str) -> Messages:
    """Return the turns of a prompt: written with the model's template, or as plain lines."""
    turns = [{"role": role, "content": text} for role, text in _TURN.findall(inputs)]
    return turns or unflatten(inputs)


def _templated(messages: Messages) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join([*turns, "<|im_start|>assistant\n"])


def _tokenize(request: Recorded) -> Document:
    return Document.of([piece.told() for piece in _pieces(_inputs(_body(request)))])


def _template(request: Recorded) -> Document:
    given = _body(request).get("messages")
    messages = said([{**m, "content": _joined(m.get("content"))} for m in given]
                    if isinstance(given, list) and all(isinstance(m, dict) for m in given) else [])
    if not messages:
        raise _plain(422, f"{_UNREAD}missing field `messages`")
    text = _templated(messages)
    return Document.of({"tokenize_response": [piece.told() for piece in _pieces(text)],
                        "templated_text": text}, value="templated_text")


def _joined(content: object) -> object:
    """Return a list of parts as one text, images in it as addresses."""
    if not isinstance(content, list):
        return content
    images = (part.get("image_url") or {} for part in content)
    return "".join(part.get("text") or f"![]({image.get('url')})"
                   for part, image in zip(content, images))


_ANSWERS: dict[str, Callable[[Recorded], Document]] = {
    "models": lambda _: Document.of(_INFO, value="model_id"), "health": lambda _: Document(),
    "tokenize": _tokenize, "template": _template}
