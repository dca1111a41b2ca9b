"""requests, for chat: one blocking client for any chat service, threads instead of an event loop.

>>> from chatsdk import Client
>>> client = Client("gigachat")             # the key is in GIGACHAT_CREDENTIALS
>>> print(client.chat("Hello"))             # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
import logging
import os
from typing import Any

from chatsdk.version import __version__

# Where each public name lives.  Its module is loaded when the name is first used: `import chatsdk`
# alone loads neither requests nor attrs.  Type checkers read __init__.pyi instead.
_HOMES = {
    "chatsdk.cassettes": ("Cassette",),
    "chatsdk.client": ("Client",),
    "chatsdk.conversation": ("Conversation",),
    "chatsdk.deadlines": ("Timeout",),
    "chatsdk.errors": (
        "AllFailedError",
        "APIConnectionError",
        "APIStatusError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "CancelledError",
        "CassetteError",
        "ChatError",
        "ConfigurationError",
        "ConflictError",
        "ContextLengthError",
        "ExtractionError",
        "JournalError",
        "MissingCredentialsError",
        "NotFoundError",
        "PermissionDeniedError",
        "ProtocolError",
        "ProviderError",
        "QuotaExceededError",
        "RateLimitError",
        "RedirectError",
        "ServerError",
        "StreamInterruptedError",
        "TurnsExceededError",
        "UnprocessableEntityError",
        "UnsupportedError",
        "WorkerLostError",
    ),
    "chatsdk.fanout": ("FanOut",),
    "chatsdk.hooks": ("Notice",),
    "chatsdk.journal": ("Journal",),
    "chatsdk.media": ("audio", "document", "image", "user"),
    "chatsdk.messages": (
        "Delta",
        "Message",
        "Reply",
        "Usage",
    ),
    "chatsdk.pace": ("Rate",),
    "chatsdk.oneoff": ("chat", "stream"),
    "chatsdk.parts": ("Media", "ToolCall", "ToolCallPart"),
    "chatsdk.plots": ("plot",),
    "chatsdk.providers.base": ("Provider",),
    "chatsdk.providers.presets": ("Preset",),
    "chatsdk.ratelimits": ("Limit", "RateLimits"),
    "chatsdk.results": ("Answer", "Embeddings", "Model"),
    "chatsdk.retry": ("RetryPolicy",),
    "chatsdk.runs": ("Run", "RunStream", "ToolResult"),
    "chatsdk.streams": ("Stream",),
    "chatsdk.token_file": ("FileTokenStore",),
    "chatsdk.tools": ("Tool", "tool"),
    "chatsdk.tokens": ("MemoryTokenStore", "Token", "TokenStore"),
    "chatsdk.wire": ("Limits",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]

logging.getLogger(__name__).addHandler(logging.NullHandler())
if os.environ.get("CHATSDK_LOG"):
    import_module("chatsdk.logs").switch_on(os.environ["CHATSDK_LOG"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chatsdk' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Add ``%%chat`` to a notebook: ``%load_ext chatsdk`` calls this."""
    import_module("chatsdk.magics").load(ipython)
