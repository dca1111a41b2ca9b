"""The table of services: a name, and where its class is found."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from chatsdk.errors import ConfigurationError, unknown
from chatsdk.providers.base import Provider

TABLE = {
    "aichatonline": "chatsdk.providers.aichatonline:AiChatOnline",
    "anthropic": "chatsdk.providers.anthropic:Anthropic",
    "aura": "chatsdk.providers.aura:Aura",
    "flowgpt": "chatsdk.providers.flowgpt:FlowGpt",
    "gemini": "chatsdk.providers.gemini:Gemini",
    "gigachat": "chatsdk.providers.gigachat:GigaChat",
    "h2o": "chatsdk.providers.h2o:H2o",
    "ollama": "chatsdk.providers.ollama:Ollama",
    "openai": "chatsdk.providers.openai:OpenAI",
    "openai-responses": "chatsdk.providers.openai_responses:OpenAIResponses",
    "tgi": "chatsdk.providers.tgi:Tgi",
}
PRESETS = {  # services that speak as OpenAI does; their rows are in presets.py
    "azure-openai": "chatsdk.providers.presets:AzureOpenai",
    "cerebras": "chatsdk.providers.presets:Cerebras",
    "deepseek": "chatsdk.providers.presets:Deepseek",
    "fireworks": "chatsdk.providers.presets:Fireworks",
    "github": "chatsdk.providers.presets:Github",
    "groq": "chatsdk.providers.presets:Groq",
    "huggingface": "chatsdk.providers.presets:Huggingface",
    "litellm-proxy": "chatsdk.providers.presets:LitellmProxy",
    "llamacpp": "chatsdk.providers.presets:Llamacpp",
    "lmstudio": "chatsdk.providers.presets:Lmstudio",
    "mistral": "chatsdk.providers.presets:Mistral",
    "nvidia": "chatsdk.providers.presets:Nvidia",
    "openrouter": "chatsdk.providers.presets:Openrouter",
    "perplexity": "chatsdk.providers.presets:Perplexity",
    "together": "chatsdk.providers.presets:Together",
    "vllm": "chatsdk.providers.presets:Vllm",
    "xai": "chatsdk.providers.presets:Xai",
}
TABLE.update(PRESETS)
GROUP = "chatsdk.providers"  # the entry point group through which other packages join


def get(name: str) -> type[Provider]:
    """Return the class of a service.

    Raises:
        ConfigurationError: No service has that name; the message lists those that exist.
    """
    if name in TABLE:
        module, _, attribute = TABLE[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        found = _from_entry_point(name)
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigurationError(f"what {GROUP} has for {name!r} is no subclass of Provider")
    return found


def names() -> list[str]:
    """Return the names of all services, ours and those that other packages add."""
    return sorted({*TABLE, *(point.name for point in entry_points(group=GROUP))})


def _from_entry_point(name: str) -> object:
    for point in entry_points(group=GROUP, name=name):
        try:
            return point.load()
        except Exception as error:
            raise ConfigurationError(
                f"the provider {name!r} of another package cannot be loaded"
                f" ({type(error).__name__}: {error}); see its entry point {point.value!r}"
            ) from error
    raise unknown(ConfigurationError, "provider", name, names())
