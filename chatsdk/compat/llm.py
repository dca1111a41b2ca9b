"""A plugin for the command ``llm`` and its Python API: ``llm -m chatsdk/gigachat "Hi"``.

It is found through the entry point group ``llm``; needs ``chatsdk[llm]``.  At the start of ``llm``
only the descriptions of the services are loaded, and nothing that makes calls.
Source: the plugin pages at https://llm.datasette.io/en/stable/plugins/, read on 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
import json
from pathlib import Path
from typing import Any, Optional
import uuid

import chatsdk
from chatsdk import providers
from chatsdk.errors import ChatError, ConfigurationError, MissingCredentialsError
from chatsdk.messages import Message, Reply
from chatsdk.parts import Media, tool_call
from chatsdk.providers.base import Provider

try:
    import llm
    from llm.parts import AttachmentPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart
    from pydantic import Field
except ImportError as error:
    raise ConfigurationError(
        "the plugin for llm is an extra: pip install 'chatsdk[llm]'"
    ) from error

PREFIX = "chatsdk/"
MADE = "chatsdk_"  # how the ids of tool calls begin that we make where a protocol has none
STATE = "chatsdk"  # where llm keeps for us what the service wants back untouched


class ChatSDK(llm.KeyModel):  # type: ignore[misc]  # mypy does not read llm
    """A target of ours as a model of ``llm``.

    Args:
        target: ``"provider"`` or ``"provider:model"``.
        **options: Any options of the `Client` that asks.
    """

    can_stream = True

    class Options(llm.Options):  # type: ignore[misc]  # mypy does not read llm
        """What ``-o`` takes; each is one of `Client.chat`."""

        model: Optional[str] = Field(None, description="The language model of the service")
        temperature: Optional[float] = Field(None, description="Randomness, 0 or more")
        max_tokens: Optional[int] = Field(None, description="The most tokens of the answer")
        top_p: Optional[float] = Field(None, description="Nucleus sampling, 0 to 1")
        stop: Optional[str] = Field(None, description="A text that ends the answer")
        seed: Optional[int] = Field(None, description="For repeatable sampling")
        reasoning_effort: Optional[str] = Field(None, description="low, medium or high")
        timeout: Optional[float] = Field(None, description="Seconds without data")

    def __init__(self, target: str, **options: Any) -> None:
        self.model_id = PREFIX + target
        self._target = target
        self._options = options

    @property
    def supports_tools(self) -> bool:
        """Whether the service knows tools."""
        return self._kind.tools

    @property
    def supports_schema(self) -> bool:
        """Whether the service keeps to schemas."""
        return "response_format" in self._kind.parameters

    @property
    def attachment_types(self) -> set[str]:
        """What a prompt may have beside text."""
        return {mime for mimes in self._kind.media.values() for mime in mimes}

    @cached_property
    def _kind(self) -> type[Provider]:
        return providers.get(self._target.partition(":")[0])

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """Return the key of ``--key``, or of ``llm keys set`` with the service's name.

        None leaves it to the service's own environment variable.
        """
        name = self._target.partition(":")[0]
        key: str | None = self.key or llm.get_key(explicit_key=explicit_key, key_alias=name)
        return key

    def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any, key: str | None = None
    ) -> Iterator[Any]:
        """Yield the answer in pieces.

        Raises:
            llm.ModelError: The call failed, or what was asked makes no sense to the service.
        """
        try:
            yield from self._answer(prompt, stream, response, key)
        except MissingCredentialsError as error:
            name = self._target.partition(":")[0]
            message = f"{error}; or llm keys set {name}"
            raise llm.NeedsKeyException(message) from error
        except (ChatError, TypeError, ValueError, OSError) as error:
            raise llm.ModelError(str(error)) from error

    def _answer(self, prompt: Any, stream: bool, response: Any, key: str | None) -> Iterator[Any]:
        params = asked(prompt)
        given = {**self._options, **({} if key is None else {"api_key": key})}
        with chatsdk.Client(self._target, **given) as client:
            messages = [made for message in prompt.messages for made in messages_of(message)]
            if not stream:
                reply = client.chat(messages, stream=False, **params)
                yield from filter(None, [reply.text])
            else:
                with client.stream(messages, **params) as answer:
                    for delta in answer.deltas():
                        if delta.reasoning:
                            yield StreamEvent(type="reasoning", chunk=delta.reasoning)
                        if delta.text:
                            yield StreamEvent(type="text", chunk=delta.text)
                reply = answer.reply
        if reply.state:  # comes back with the next question
            yield StreamEvent(
                type="reasoning", chunk="", provider_metadata={STATE: dict(reply.state)}
            )
        tell(response, reply)


def asked(prompt: Any) -> dict[str, Any]:
    """Return what is asked beside the messages, as `Client.chat` takes it."""
    params = {name: value for name, value in prompt.options if value is not None}
    if prompt.schema:
        params["response_format"] = prompt.schema
    if prompt.tools:
        params["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.input_schema or {"type": "object", "properties": {}},
                },
            }
            for tool in prompt.tools
        ]
    return params


def messages_of(given: Any) -> Iterator[Message]:
    """Yield a message of ``llm`` as ours; results of tools are one message each."""
    content: list[str | Media] = []
    calls = []
    state: dict[str, Any] = {}
    for part in given.parts:
        state.update((part.provider_metadata or {}).get(STATE, {}))
        if isinstance(part, ToolResultPart):
            yield Message("tool", part.output, name=part.name, tool_call_id=_id(part))
        elif isinstance(part, ToolCallPart):
            calls.append(tool_call(_id(part), part.name, json.dumps(part.arguments)))
        elif isinstance(part, AttachmentPart):
            content.append(_media(part.attachment))
        elif isinstance(part, TextPart):
            content.append(part.text)
    if content or calls:
        yield Message(
            given.role, tuple(content) or "", tool_calls=tuple(calls), state=state or None
        )


def tell(response: Any, reply: Reply) -> None:
    """Note in the response of ``llm`` what an answer has beside its text."""
    for call in reply.tool_calls:
        arguments = {"_raw": call.raw} if call.arguments is None else call.arguments
        id = call.id or MADE + uuid.uuid4().hex
        response.add_tool_call(llm.ToolCall(call.name, arguments, id))
    response.response_json = {"id": reply.id, "finish_reason": reply.finish_reason}
    if reply.model:
        response.set_resolved_model(reply.model)
    if reply.usage is not None:
        told = {
            name: getattr(reply.usage, name)
            for name in ("cached_tokens", "reasoning_tokens", "cost")
            if getattr(reply.usage, name) is not None
        }
        response.set_usage(
            input=reply.usage.prompt_tokens, output=reply.usage.completion_tokens, details=told
        )


def register_models(register: Callable[[Any], None]) -> None:
    """Tell ``llm`` of each service, of the models known here, and of those that aliases name."""
    for target in dict.fromkeys([*_known(), *_aliased()]):
        register(ChatSDK(target))


llm.hookimpl(register_models)


def _known() -> Iterator[str]:
    for name in providers.names():
        yield name
        if name in providers.TABLE:  # of other packages' services no code is run at the start
            kind = providers.get(name)
            yield from (f"{name}:{model}" for model in kind.models if kind.alive)


def _aliased() -> Iterator[str]:
    """Yield targets in the user's aliases: ``llm aliases set local chatsdk/ollama:llama3.2``."""
    path = llm.user_dir() / "aliases.json"
    aliases = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for model_id in aliases.values():
        if str(model_id).startswith(PREFIX):
            yield str(model_id).removeprefix(PREFIX)


def _id(part: Any) -> str | None:
    id: str | None = part.tool_call_id
    return None if id is not None and id.startswith(MADE) else id


def _media(attachment: Any) -> Media:
    path = attachment.path and Path(attachment.path)
    return chatsdk.user("", attachment.content or path or attachment.url).media[0]
