"""Services and servers that speak OpenAI's Chat Completions: a row each.

The deltas come from the services' own SDKs and pages: each row names its page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attr.validators import matches_re

from chatsdk.errors import ConfigurationError
from chatsdk.providers.base import Fetch, merged
from chatsdk.providers.openai import COMMON, IMAGES, OpenAI, vector
from chatsdk.records import field, frozen
from chatsdk.results import EmbeddingQuery, Embeddings
from chatsdk.settings import secret, setting, url
from chatsdk.wire import malformed, parse

# What a row says is a field of it and a fact of the class made of it: mypy knows no such thing.
# mypy: disable-error-code="misc"

AZURE = "https://YOUR-RESOURCE.openai.azure.com"
PICTURES: Mapping[str, tuple[str, ...]] = {"image": IMAGES}


@frozen(kw_only=True)
class Preset(OpenAI):
    """A service that speaks Chat Completions, described in one row.

    A client takes it like any other provider, ``Client(Preset(name="mine", base_url=...))``, or
    in ``providers=[...]`` for a target ``"mine:model"``.

    Attributes:
        name: What it is called in a target.
        base_url: Where it lives, up to what comes before ``/chat/completions``.
        model: The model to ask for; "": the first that the service lists.
        api_key: Its key.
        title: Its name for people.
        page: Where it is documented.
        key: The environment's variable for its key; None: it needs none.
        key_header: The header that carries the key, as a bearer if that is ``Authorization``.
        limit: What it calls ``max_tokens``.
        seed: What it calls ``seed``; "": it has none.
        effort: What it calls ``reasoning_effort``: ``"reasoning"`` is an object; "": it has none.
        counts: Whether usage has to be asked for in a stream.
        keeps: Members of a message that it wants back with the next question:
            ``("reasoning_content",)`` or ``("reasoning_details",)``.
        think_tags: Whether models write reasoning between ``<think>`` and ``</think>``.
        schemas: Whether ``response_format`` may be a JSON schema.
        without: Parameters that it refuses.
        options: Parameters that only it knows, and their types.
        tools: Whether functions can be offered to its models.
        media: What a message may hold beside text: MIME types by kind.
        media_urls: The kinds that it fetches itself from a URL.
        embeds: The most texts of one request for embeddings; 0: there are none.
        embedding_model: The model that makes them.
        dimensions: Whether their length can be chosen.
        packs: Whether it gives vectors in base64.
        models_path: Where models are listed, from the base URL on; "": nowhere.
    """

    name: str = field(validator=matches_re("[a-z0-9][a-z0-9._-]*"))
    base_url: str = url(None, None)
    model: str = ""
    api_key: str | None = secret(None)
    title: str = field()
    page: str = ""
    key: str | None = None
    key_header: str = "Authorization"
    limit: str = "max_tokens"
    seed: str = "seed"
    effort: str = "reasoning_effort"
    counts: bool = True
    keeps: tuple[str, ...] = ()
    think_tags: bool = True
    schemas: bool = True
    without: tuple[str, ...] = ()
    options: Mapping[str, type] = field(
        factory=lambda: {"parallel_tool_calls": bool, "user": str}
    )
    tools: bool = True
    media: Mapping[str, tuple[str, ...]] = PICTURES
    media_urls: tuple[str, ...] = ("image",)
    embeds: int = 2048
    embedding_model: str = ""
    dimensions: bool = True
    packs: bool = False
    models_path: str = "/models"
    models: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(init=False, repr=False, eq=False)

    @title.default
    def _title(self) -> str:
        return self.name

    @parameters.default
    def _parameters(self) -> Mapping[str, str]:
        called = {"max_tokens": self.limit, "seed": self.seed, "reasoning_effort": self.effort}
        known = {**COMMON, **called, **{name: name for name in self.options}}
        gone = self.without if self.tools else (*self.without, "tools", "tool_choice")
        return {name: word for name, word in known.items() if word and name not in gone}

    def __attrs_post_init__(self) -> None:
        """Leave the key for later: it may be given to the client."""

    def key_sent(self) -> str | None:
        """Return the key: the argument, then the environment's."""
        if self.api_key is None and self.key is not None and os.environ.get(self.key):
            return os.environ[self.key]
        return super().key_sent()

    def secrets(self) -> list[str]:
        """Return what must stand in no message."""
        found = os.environ.get(self.key) if self.key else None
        return [*super().secrets(), *([found] if found else [])]


@frozen(kw_only=True)
class AzureBase(OpenAI):
    """What Azure does otherwise: its endpoints, and the header of the key.

    Attributes:
        api_version: A dated version of the older endpoints, with the deployment in the URL; None:
            the ``v1`` endpoints, which have no versions.
    """

    api_version: str | None = setting("OPENAI_API_VERSION")

    def __attrs_post_init__(self) -> None:
        self.key_sent()
        if self.base_url == AZURE:
            raise ConfigurationError(
                "azure-openai needs your resource's address: give base_url=... or set"
                " AZURE_OPENAI_ENDPOINT",
                provider=self.name,
            )

    def address(self, path: str, model: str) -> str:
        """Return a URL below the endpoint; ``model`` names a deployment."""
        root = self.base_url.removesuffix("/openai/v1").removesuffix("/openai")
        if self.api_version is None:
            return f"{root}/openai/v1{path}"
        place = f"/deployments/{quote(model, safe='')}" if model else ""
        return f"{root}/openai{place}{path}?api-version={quote(self.api_version)}"


@frozen(kw_only=True)
class HuggingFaceBase(OpenAI):
    """What Hugging Face does otherwise: the key in a file, embeddings by another protocol."""

    def key_sent(self) -> str | None:
        """Return the key: the argument, the environment's, then that of ``hf auth login``."""
        if self.api_key is not None:
            return self.api_key
        return _token_of_hugging_face() or super().key_sent()

    def secrets(self) -> list[str]:
        """Return what must stand in no message."""
        found = None if self.api_key else _token_of_hugging_face()
        return [*super().secrets(), *([found] if found else [])]

    def embed(self, query: EmbeddingQuery, fetch: Fetch) -> Embeddings:
        """Return texts as vectors, by the feature-extraction endpoint of hf-inference.

        Source: https://huggingface.co/docs/inference-providers/tasks/feature-extraction.
        """
        made = self.request(
            "POST",
            f"../hf-inference/models/{quote(query.model)}/pipeline/feature-extraction",
            query.extra_headers,
            json=merged({"inputs": list(query.texts)}, query.extra_body),
            repeatable=True,
        )
        body = fetch(made)
        vectors = parse(body)
        if not isinstance(vectors, list) or len(vectors) != len(query.texts):
            raise malformed("the answer has not one vector for each text", body)
        return Embeddings([vector(each, self.name) for each in vectors], query.model)


def _token_of_hugging_face() -> str | None:
    """Return the token that ``hf auth login`` keeps, or None."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    path = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    try:
        return Path(path).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


#: The table: one row a service.
ROWS: tuple[Preset, ...] = (
    Preset(
        name="azure-openai",
        title="Azure OpenAI",
        base_url=AZURE,
        key="AZURE_OPENAI_API_KEY",
        key_header="api-key",
        page="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        limit="max_completion_tokens",
        think_tags=False,
        media={**PICTURES, "audio": OpenAI.media["audio"], "document": OpenAI.media["document"]},
        embedding_model="text-embedding-3-small",
        packs=True,
    ),
    Preset(
        name="cerebras",
        title="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        key="CEREBRAS_API_KEY",
        model="gpt-oss-120b",
        page="https://inference-docs.cerebras.ai/resources/openai",
        limit="max_completion_tokens",
        options={"user": str},
        media={},
        embeds=0,
    ),
    Preset(
        name="deepseek",
        title="DeepSeek",
        base_url="https://api.deepseek.com",
        key="DEEPSEEK_API_KEY",
        model="deepseek-v4-flash",
        page="https://api-docs.deepseek.com/api/create-chat-completion",
        seed="",
        keeps=("reasoning_content",),
        think_tags=False,
        schemas=False,
        options={},
        media={},
        embeds=0,
        models=("deepseek-v4-flash", "deepseek-v4-pro"),
    ),
    Preset(
        name="fireworks",
        title="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        key="FIREWORKS_API_KEY",
        model="accounts/fireworks/models/gpt-oss-120b",
        page="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        embedding_model="nomic-ai/nomic-embed-text-v1.5",
    ),
    Preset(
        name="github",
        title="GitHub Models",
        base_url="https://models.github.ai/inference",
        key="GITHUB_TOKEN",
        model="openai/gpt-5-mini",
        page="https://docs.github.com/en/rest/models/inference",
        limit="max_completion_tokens",
        embedding_model="openai/text-embedding-3-small",
        models_path="../catalog/models",
    ),
    Preset(
        name="groq",
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        key="GROQ_API_KEY",
        model="openai/gpt-oss-120b",
        page="https://console.groq.com/docs/openai",
        limit="max_completion_tokens",
        options={
            "parallel_tool_calls": bool,
            "user": str,
            "service_tier": str,
            "reasoning_format": str,
            "include_reasoning": bool,
        },
        embeds=0,
        models=("openai/gpt-oss-120b", "openai/gpt-oss-20b", "llama-3.3-70b-versatile",
                "llama-3.1-8b-instant"),
    ),
    Preset(
        name="huggingface",
        title="Hugging Face Inference Providers",
        base_url="https://router.huggingface.co/v1",
        key="HF_TOKEN",
        model="openai/gpt-oss-120b",
        page="https://huggingface.co/docs/inference-providers/tasks/chat-completion",
        embeds=32,
        embedding_model="BAAI/bge-small-en-v1.5",
        dimensions=False,
    ),
    Preset(
        name="litellm-proxy",
        title="LiteLLM proxy",
        base_url="http://localhost:4000/v1",
        key="LITELLM_PROXY_API_KEY",
        page="https://docs.litellm.ai/docs/proxy/user_keys",
        keeps=("reasoning_content",),
        media={**PICTURES, "audio": OpenAI.media["audio"], "document": OpenAI.media["document"]},
    ),
    Preset(
        name="llamacpp",
        title="llama.cpp server",
        base_url="http://localhost:8080/v1",
        page="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        media={**PICTURES, "audio": OpenAI.media["audio"]},
        dimensions=False,
    ),
    Preset(
        name="lmstudio",
        title="LM Studio",
        base_url="http://localhost:1234/v1",
        page="https://lmstudio.ai/docs/developer/openai-compat",
        media_urls=(),
        dimensions=False,
    ),
    Preset(
        name="mistral",
        title="Mistral AI",
        base_url="https://api.mistral.ai/v1",
        key="MISTRAL_API_KEY",
        model="mistral-small-latest",
        page="https://docs.mistral.ai/api/endpoint/chat",
        seed="random_seed",
        counts=False,
        think_tags=False,
        options={"parallel_tool_calls": bool, "safe_prompt": bool, "prompt_mode": str},
        embedding_model="mistral-embed",
        dimensions=False,
        models=("mistral-small-latest", "mistral-medium-latest", "mistral-large-latest",
                "magistral-medium-latest", "ministral-8b-latest", "codestral-latest"),
    ),
    Preset(
        name="nvidia",
        title="NVIDIA NIM",
        base_url="https://integrate.api.nvidia.com/v1",
        key="NVIDIA_API_KEY",
        model="openai/gpt-oss-120b",
        page="https://docs.api.nvidia.com/nim/reference/llm-apis",
        embeds=0,
    ),
    Preset(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key="OPENROUTER_API_KEY",
        model="openrouter/auto",
        page="https://openrouter.ai/docs/api-reference/overview",
        effort="reasoning",
        keeps=("reasoning_details",),
        think_tags=False,
        media={**PICTURES, "audio": OpenAI.media["audio"], "document": OpenAI.media["document"]},
        media_urls=("image", "document"),
        embedding_model="openai/text-embedding-3-small",
    ),
    Preset(
        name="perplexity",
        title="Perplexity",
        base_url="https://api.perplexity.ai",
        key="PERPLEXITY_API_KEY",
        model="sonar",
        page="https://docs.perplexity.ai/docs/sonar/openai-compatibility",
        seed="",
        counts=False,
        tools=False,
        without=("stop",),
        options={"search_mode": str, "search_recency_filter": str},
        embeds=0,
        models_path="",
        models=("sonar", "sonar-pro", "sonar-reasoning-pro", "sonar-deep-research"),
    ),
    Preset(
        name="together",
        title="Together AI",
        base_url="https://api.together.xyz/v1",
        key="TOGETHER_API_KEY",
        model="openai/gpt-oss-120b",
        page="https://docs.together.ai/docs/openai-api-compatibility",
        embedding_model="intfloat/multilingual-e5-large-instruct",
        dimensions=False,
    ),
    Preset(
        name="vllm",
        title="vLLM",
        base_url="http://localhost:8000/v1",
        page="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        media={**PICTURES, "audio": OpenAI.media["audio"]},
    ),
    Preset(
        name="xai",
        title="xAI",
        base_url="https://api.x.ai/v1",
        key="XAI_API_KEY",
        model="grok-latest",
        page="https://docs.x.ai/docs/api-reference",
        limit="max_completion_tokens",
        think_tags=False,
        media={"image": ("image/png", "image/jpeg")},
        embeds=0,
    ),
)
BASES: Mapping[str, type[OpenAI]] = {
    "azure-openai": AzureBase,
    "huggingface": HuggingFaceBase,
}
VARIABLES = {  # of addresses, where the service's own tools read another one
    "azure-openai": "AZURE_OPENAI_ENDPOINT",
    "litellm-proxy": "LITELLM_PROXY_API_BASE",
}
FACTS = ("title", "page", "key", "key_header", "limit", "seed", "effort", "counts", "keeps",
         "think_tags", "schemas", "tools", "options", "media", "media_urls", "embeds",
         "embedding_model", "dimensions", "packs", "models_path", "models", "parameters")


def class_name(name: str) -> str:
    """Return the name of the class of a service."""
    return "".join(part.capitalize() for part in name.split("-"))


NAMES: Mapping[str, str] = {class_name(row.name): row.name for row in ROWS}


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return class_of(NAMES[name])


@cache
def class_of(name: str) -> type[OpenAI]:
    """Return the class of a service in the table, whose facts are those of its row."""
    row = next(row for row in ROWS if row.name == name)
    prefix = name.upper().replace("-", "_")
    base = BASES.get(name, OpenAI)
    members: dict[str, Any] = {
        "__doc__": f"A chat with {row.title}.",
        "__module__": __name__,
        "__qualname__": class_name(name),
        "__annotations__": {"base_url": str, "model": str, "api_key": "str | None"},
        "name": name,
        "base_url": url(VARIABLES.get(name, f"{prefix}_BASE_URL"), row.base_url),
        "model": setting(f"{prefix}_MODEL", row.model),
        "api_key": secret(row.key),
    }
    members.update({fact: getattr(row, fact) for fact in FACTS})
    made: type[OpenAI] = frozen(kw_only=True)(type(class_name(name), (base,), members))
    return made
