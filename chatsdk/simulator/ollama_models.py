"""The models that the simulated Ollama has pulled, and what it tells of them."""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
from typing import Any

MODIFIED = "2026-01-15T09:30:00.123456789Z"


@dataclass(frozen=True)
class Pulled:
    """One model on the disk.

    Attributes:
        name: With its tag.
        family: Of the architecture.
        size: Parameters, as Ollama writes it.
        capabilities: Among ``"completion"``, ``"tools"``, ``"thinking"``, ``"vision"`` and
            ``"embedding"``.
        width: Components of an embedding.
        context: The longest prompt, in tokens.
    """

    name: str
    family: str
    size: str
    capabilities: tuple[str, ...]
    width: int = 64
    context: int = 131072

    @property
    def full(self) -> str:
        """The name with its registry, as in some messages."""
        return f"registry.ollama.ai/library/{self.name}"

    @property
    def details(self) -> dict[str, Any]:
        """What every listing says of it."""
        return {"parent_model": "", "format": "gguf", "family": self.family,
                "families": [self.family], "parameter_size": self.size,
                "quantization_level": "Q4_K_M"}

    @property
    def listed(self) -> dict[str, Any]:
        """The entry in ``/api/tags``."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()
        return {"name": self.name, "model": self.name, "modified_at": MODIFIED,
                "size": int(digest[:8], 16), "digest": digest, "details": self.details}

    @property
    def shown(self) -> dict[str, Any]:
        """The answer of ``/api/show``."""
        about = {"general.architecture": self.family, f"{self.family}.context_length": self.context,
                 f"{self.family}.embedding_length": self.width}
        return {"license": "Simulated.", "modelfile": f"FROM {self.name}\n",
                "parameters": 'stop                           "<|eot_id|>"',
                "template": "{{ .Prompt }}", "details": self.details, "model_info": about,
                "capabilities": list(self.capabilities), "modified_at": MODIFIED}


MODELS = (
    Pulled("llama3.2:latest", "llama", "3.2B", ("completion", "tools")),
    Pulled("qwen3:8b", "qwen3", "8.2B", ("completion", "tools", "thinking")),
    Pulled("gpt-oss:20b", "gptoss", "20.9B", ("completion", "tools", "thinking")),
    Pulled("gemma3:4b", "gemma3", "4.3B", ("completion", "vision")),
    Pulled("nomic-embed-text:latest", "nomic-bert", "137M", ("embedding",), 64, 2048),
)


def find(name: str) -> Pulled | None:
    """Return a model by its name in any case; without a tag it is ``latest``."""
    wanted = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    wanted = wanted if ":" in wanted else f"{wanted}:latest"
    return next((model for model in MODELS if model.name == wanted), None)
