"""A chat model of LangChain over any service: ``ChatSDK(target="gigachat").invoke("Hi")``.

Needs ``chatsdk[langchain]``.  Errors are ours, as `Client.chat` raises them.
Source: the reference of langchain-core at https://reference.langchain.com/python/, "Language
models" and "Messages", read on 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from chatsdk.client import Client
from chatsdk.compat.openai import made_id, messages_from_openai, piece_of
from chatsdk.errors import ConfigurationError
from chatsdk.messages import Delta, Reply, Usage
from chatsdk.targets import label, provider_name

try:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, convert_to_openai_messages
    from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from pydantic import ConfigDict, Field, SecretStr
except ImportError as error:
    raise ConfigurationError(
        "the model for LangChain is an extra: pip install 'chatsdk[langchain]'"
    ) from error

STATE = "chatsdk_state"  # where a message keeps what the service wants back untouched
_CHOICES = {"any": "required", True: "required", False: "none"}
_THOUGHTS = ("reasoning", "redacted_thinking", "thinking")


class ChatSDK(BaseChatModel):  # type: ignore[misc]  # mypy does not read langchain-core
    """A target of ours as a chat model of LangChain.

    It pickles as `Client` does: with keys that were given as arguments, and without connections.

    Attributes:
        target: Whom to ask; None: the client's own target, or ``$CHATSDK_TARGET``.
        client: The `Client` that asks; None: one is made.
        api_key: The key for a client that is made; None: from the service's own variable.
        base_url: The address for a client that is made; None: the service's own.
        model: The language model; None: the target's, or the usual one.
        temperature: As for `Client.chat`.
        max_tokens: As for `Client.chat`.
        params: Further parameters of `Client.chat`, for each call.

    Raises:
        ConfigurationError: The target is unknown, a key is missing, an address is none.
        ValueError: An argument is unknown, or for the client while one is given.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    target: Any = None
    client: Any = Field(default=None, exclude=True)
    api_key: SecretStr | None = Field(default=None, exclude=True)
    base_url: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Make the client, or look at the one that was given."""
        super().model_post_init(context)
        key = self.api_key and self.api_key.get_secret_value()
        if self.client is None:
            self.client = Client(self.target, api_key=key, base_url=self.base_url)
        elif not isinstance(self.client, Client):
            raise ValueError(f"client must be a chatsdk.Client, not {type(self.client).__name__}")
        elif key is not None or self.base_url is not None:
            raise ValueError("give api_key and base_url to the client, or leave out client")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the model with tools that it may call.

        Args:
            tools: Functions, pydantic models, tools of LangChain, or dicts in OpenAI's shape.
            tool_choice: ``"auto"``, ``"none"``, ``"required"`` or ``"any"``, a tool's name, or a
                dict in OpenAI's shape.
            **kwargs: Further parameters of `Client.chat`.
        """
        made = [convert_to_openai_tool(tool) for tool in tools]
        names = [tool["function"]["name"] for tool in made]
        if isinstance(tool_choice, str) and tool_choice in names:
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        elif isinstance(tool_choice, (str, bool)):
            tool_choice = _CHOICES.get(tool_choice, tool_choice)
        return self.bind(tools=made, tool_choice=tool_choice, **kwargs)

    @property
    def _llm_type(self) -> str:
        return "chatsdk"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Return what makes answers differ: LangChain's cache goes by it."""
        target = repr(self.client) if self.target is None else label(self.target)
        return {"target": target, "base_url": self.base_url, **self._usual()}

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        """Return what tracing tells of a call: the service, and not a part of our class's name."""
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_provider": provider_name(self.target) or "chatsdk"}

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        reply = self.client.chat(
            messages_of(messages), target=self.target, **self._asked(stop, kwargs)
        )
        info = {"finish_reason": reply.finish_reason}
        generation = ChatGeneration(message=message_of(reply), generation_info=info)
        return ChatResult(generations=[generation], llm_output={"model_name": reply.model})

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        begun: set[int] = set()  # indices of the tool calls that have begun
        with self.client.stream(
            messages_of(messages), target=self.target, **self._asked(stop, kwargs)
        ) as stream:
            for delta in stream.deltas():
                if delta.text or delta.reasoning or delta.tool_calls:
                    chunk = ChatGenerationChunk(message=_chunk(delta, begun))
                    if run_manager is not None:
                        run_manager.on_llm_new_token(delta.text, chunk=chunk)
                    yield chunk
        yield ChatGenerationChunk(message=_last(stream.reply))

    def _usual(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("model", "temperature", "max_tokens")}
        return {**{name: it for name, it in fields.items() if it is not None}, **self.params}

    def _asked(self, stop: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a call; ``stream`` is LangChain's own."""
        given = {name: value for name, value in kwargs.items() if name != "stream"}
        return {**self._usual(), **({} if stop is None else {"stop": stop}), **given}


def messages_of(messages: Any) -> Any:
    """Return messages of LangChain as `Client.chat` takes them.

    Raises:
        TypeError: A part of a message has no meaning here.
        ValueError: A part of a message lacks something.
    """
    made = []
    for message in messages:
        for said in convert_to_openai_messages([message]):
            if isinstance(said.get("content"), list):  # thoughts go back in the state or not at all
                said["content"] = [
                    part for part in said["content"] if part.get("type") not in _THOUGHTS
                ] or ""
            if said["role"] == "assistant" and STATE in message.additional_kwargs:
                said["state"] = message.additional_kwargs[STATE]
            made.append(said)
    return messages_from_openai(made)


def message_of(reply: Reply) -> Any:
    """Return an answer as a message of LangChain."""
    good, bad = [], []
    for call in reply.tool_calls:
        id = call.id or made_id()
        if call.arguments is None:
            wrong = "the arguments are no JSON object"
            bad.append(invalid_tool_call(name=call.name, args=call.raw, id=id, error=wrong))
        else:
            good.append(tool_call(name=call.name, args=call.arguments, id=id))
    thoughts = {"reasoning_content": reply.reasoning} if reply.reasoning else {}
    return AIMessage(
        content=reply.text,
        tool_calls=good,
        invalid_tool_calls=bad,
        additional_kwargs={**thoughts, **_state(reply)},
        response_metadata=_metadata(reply),
        usage_metadata=usage_of(reply.usage),
    )


def usage_of(usage: Usage | None) -> Any:
    """Return tokens in LangChain's form, or None where the service does not tell both sides."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    total = usage.prompt_tokens + usage.completion_tokens
    made: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": total if usage.total_tokens is None else usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        made["input_token_details"] = {"cache_read": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        made["output_token_details"] = {"reasoning": usage.reasoning_tokens}
    return made


def _chunk(delta: Delta, begun: set[int]) -> Any:
    pieces = [piece_of(part, begun) for part in delta.tool_calls]
    return AIMessageChunk(
        content=delta.text,
        additional_kwargs={"reasoning_content": delta.reasoning} if delta.reasoning else {},
        tool_call_chunks=[
            tool_call_chunk(
                name=piece.function.name,
                args=piece.function.arguments,
                id=piece.id,
                index=piece.index,
            )
            for piece in pieces
        ],
    )


def _last(reply: Reply) -> Any:
    """Return the chunk that ends a stream and tells what is known only now."""
    return AIMessageChunk(
        content="",
        additional_kwargs=_state(reply),
        response_metadata=_metadata(reply),
        usage_metadata=usage_of(reply.usage),
        chunk_position="last",
    )


def _state(reply: Reply) -> dict[str, Any]:
    return {STATE: dict(reply.state)} if reply.state else {}


def _metadata(reply: Reply) -> dict[str, Any]:
    return {
        "id": reply.id,
        "model_name": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
    }
