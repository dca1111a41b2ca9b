"""Services that speak nearly as OpenAI does: a row each, with what they do otherwise.

Source: the services' own SDKs and pages, and recordings that public clients keep in their tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .openai import Chunks, completion, embeddings, OpenAI
from .openai_chat_checks import check_messages
from .openai_checks import missing, Problem
from .service import Chat, Document, phrase, Recorded, Refused
from .vectors import vector
from .voice import compact, THOUGHTS

_MODEL = "model"  # the name of the only model
_THOUGHT_ABOUT = "thought_"  # begins the id of a call that needs its reasoning ever after


@dataclass(frozen=True)
class Dialect:
    """What one service does otherwise.

    Attributes:
        name: The service.
        path: What comes between the mount prefix and ``/chat/completions``.
        key: The header with the key; "" if none is wanted.
        thoughts: How it tells reasoning: in ``"reasoning_content"``, ``"reasoning"``,
            ``"reasoning_details"``, as ``"parts"`` of the content, or between ``"tags"``.
        usage: When it counts: ``"asked"``, in the ``"last"`` chunk with a choice, or ``"x_groq"``.
        refuses: Parameters that it does not take.
        comment: What it sends in silence.
    """

    name: str
    path: str = "/v1"
    key: str = "Authorization"
    thoughts: str = "reasoning_content"
    usage: str = "asked"
    refuses: tuple[str, ...] = ()
    comment: bytes = b": keep-alive\n\n"


DIALECTS: tuple[Dialect, ...] = (
    Dialect("azure-openai", "", key="api-key", refuses=("max_tokens",)),
    Dialect("cerebras", thoughts="reasoning", refuses=("parallel_tool_calls", "service_tier")),
    Dialect("deepseek", ""),
    Dialect("fireworks", "/inference/v1"),
    Dialect("github", "/inference"),
    Dialect("groq", "/openai/v1", thoughts="reasoning", usage="x_groq"),
    Dialect("huggingface", thoughts="reasoning"),
    Dialect("litellm-proxy"),
    Dialect("llamacpp", key=""),
    Dialect("lmstudio", key="", thoughts="reasoning"),
    Dialect("mistral", thoughts="parts", usage="last", refuses=("seed", "stream_options", "user")),
    Dialect("nvidia"),
    Dialect("openrouter", "/api/v1", thoughts="reasoning_details",
            refuses=("reasoning_effort",), comment=b": OPENROUTER PROCESSING\n\n"),
    Dialect("perplexity", "", thoughts="tags", usage="last", refuses=("tools", "seed", "stop")),
    Dialect("together", thoughts="tags"),
    Dialect("vllm", key="", thoughts="reasoning"),
    Dialect("xai"),
)


def _thought(dialect: Dialect, piece: str) -> dict[str, Any]:
    """Return reasoning as members of a delta or a message."""
    if dialect.thoughts == "parts":
        inner = [{"type": "text", "text": piece}]
        return {"content": [{"type": "thinking", "thinking": inner}]}
    if dialect.thoughts == "reasoning_details":
        detail = {"type": "reasoning.text", "text": piece, "format": None, "index": 0}
        return {"reasoning": piece, "reasoning_details": [detail]}
    return {"content" if dialect.thoughts == "tags" else dialect.thoughts: piece}


def _chunks(dialect: Dialect) -> type[Chunks]:
    """Return the kind of chunks of a dialect."""

    class Dialectal(Chunks):
        heartbeat = dialect.comment

        def __init__(self, *details: Any) -> None:
            super().__init__(*details)
            self.padded = False
            if dialect.name == "openrouter":
                choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
                error = {"code": 502, "message": "Provider returned an error"}
                self.error = b"data: %b\n\n" % compact({"error": error, "choices": [choice]})

        def reasoning(self) -> tuple[str, ...]:
            tagged = dialect.thoughts == "tags"
            return ("<th", "ink>", *THOUGHTS, "</thi", "nk>\n\n") if tagged else THOUGHTS

        def thought(self, piece: str) -> dict[str, Any]:
            return _thought(dialect, piece)

        def made(self) -> list[dict[str, Any]]:
            calls = super().made()
            if self.scenario == "reasoning":
                calls = [{**call, "id": _THOUGHT_ABOUT + call["id"]} for call in calls]
            return calls

        def closing(self, delta: dict[str, object], reason: str) -> list[bytes]:
            if dialect.usage == "asked":
                return super().closing(delta, reason)
            usage: dict[str, object] = {"usage": self.usage()}
            self.counts = False
            if dialect.usage == "x_groq":
                usage = {"x_groq": {"id": "req_0", **usage}}
            return [] if self.scenario == "no-finish" else [self.chunk(delta, reason, **usage)]

    return Dialectal


class Compatible(OpenAI):
    """A service of the table: any model is known, and few parameters are minded."""

    dialect: ClassVar[Dialect]
    listed = (_MODEL,)
    paths = (("POST", "(/.*)?/chat/completions", "chat"), ("GET", "(/.*)?/models", "models"),
             ("POST", "(/.*)?/embeddings", "embeddings"),
             ("POST", "/hf-inference/models/.+/pipeline/feature-extraction", "embeddings"))

    def fields(self, root: str) -> dict[str, Any]:
        """Return the URL of the API."""
        return {"base_url": root + self.dialect.path}

    def authorize(self, request: Recorded) -> None:
        """Check that there is a key, in the header of this service."""
        header = self.dialect.key
        if header == "Authorization":
            super().authorize(request)
        elif header and not request.headers.get(header):
            raise Refused(self.error(401, request, "Access denied due to invalid key."))

    def error(self, status: int, request: Recorded, message: str = "") -> Document:
        """Return OpenAI's shape, or a status as the code, or Mistral's flat one."""
        text = message or phrase(status)
        if self.name == "openrouter":
            return Document.of({"error": {"message": text, "code": status}}, status)
        if self.name == "mistral":
            flat = {"object": "error", "message": text, "type": "error", "code": str(status)}
            return Document.of(flat, status)
        return super().error(status, request, message)

    def other(self, request: Recorded, stage: str, scenario: str) -> Document:
        """Embed texts in Hugging Face's own way too."""
        if stage == "embeddings" and "feature-extraction" in request.path:
            self.authorize(request)
            inputs = request.members.get("inputs")
            if not isinstance(inputs, list):
                raise Refused(self.error(422, request))
            return Document.of([vector(str(text), 384) for text in inputs])
        return super().other(request, stage, scenario)

    def embedded(self, body: dict[str, Any]) -> Document:
        """Return vectors, of any model."""
        return embeddings(body, str(body.get("model")))

    def made(self, body: dict[str, Any]) -> Chat:
        """Check the messages and the parameters that this service minds."""
        if wrong := next((name for name in self.dialect.refuses if name in body), ""):
            raise Problem(f"Extra inputs are not permitted: {wrong}", wrong, "unsupported")
        for name in ("model", "messages"):
            if not body.get(name):
                raise missing(name)
        check_messages(body["messages"])
        self._check_thoughts(body["messages"])
        wanted = body.get("response_format") or {}
        if self.name == "deepseek" and wanted.get("type") == "json_schema":
            raise Problem("This response_format type is unavailable now", "response_format")
        return completion(body, _CHUNKS[self.name])

    def _check_thoughts(self, messages: list[dict[str, Any]]) -> None:
        """Refuse a call of DeepSeek's that comes back without the thoughts that led to it."""
        for message in messages if self.name == "deepseek" else ():
            ids = [call["id"] for call in message.get("tool_calls") or ()]
            thought = any(each.startswith(_THOUGHT_ABOUT) for each in ids)
            if thought and not message.get("reasoning_content"):
                raise Problem("Missing `reasoning_content` field in the assistant message")


_CHUNKS: Mapping[str, type[Chunks]] = {row.name: _chunks(row) for row in DIALECTS}
#: A class for each row.
COMPATIBLE: tuple[type[Compatible], ...] = tuple(
    type(row.name, (Compatible,), {"name": row.name, "dialect": row}) for row in DIALECTS)
