"""OpenAI's Responses: items instead of messages, named events instead of chunks.

Nothing is stored at the service unless ``store=True`` says so: a conversation is sent whole each
time, with the reasoning as the service sealed it (``reasoning.encrypted_content``).

Sources: the pages at https://platform.openai.com/docs/api-reference/responses, and the types of
the official SDK (openai-python).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import re
from typing import Any, ClassVar

from chatsdk.errors import ProtocolError
from chatsdk.messages import Delta, Message, Query, step, Usage
from chatsdk.parts import Media, ToolCallPart
from chatsdk.providers.base import count, Fetch, given, member, merged, Provider
from chatsdk.providers.openai import answered, data_url, DONE, IMAGES, OpenAI
from chatsdk.records import evolve, frozen
from chatsdk.wire import malformed, parse, Request, sse, whole

SEALED = "reasoning.encrypted_content"
REASONS = re.compile(r"(gpt-([5-9]|\d\d)(?!.*-chat)|o\d|codex)")  # models that have reasoning
COUNTED = ("input", "instructions", "model", "previous_response_id", "reasoning", "text",
           "tool_choice", "tools")
INCOMPLETE = {"max_output_tokens": "length"}
ENDS = ("response.completed", "response.incomplete", "response.failed")


@frozen(kw_only=True)
class OpenAIResponses(OpenAI):
    """A chat with OpenAI by its Responses API, or with a server of the same protocol."""

    name: ClassVar[str] = "openai-responses"
    title: ClassVar[str] = "OpenAI Responses"
    page: ClassVar[str] = "https://platform.openai.com/docs/api-reference/responses"
    media: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": IMAGES,
        "document": ("application/pdf",),
    }
    media_urls: ClassVar[tuple[str, ...]] = ("image", "document")
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature",
        "max_tokens": "max_output_tokens, 16 or more",
        "top_p": "top_p",
        "tools": "tools",
        "tool_choice": "tool_choice",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
        "reasoning_summary": "reasoning.summary: auto, concise or detailed",
        "verbosity": "text.verbosity: low, medium or high",
        "store": "store; False if it is not given",
        "previous_response_id": "previous_response_id, of a stored response",
        "parallel_tool_calls": "parallel_tool_calls",
        "truncation": "truncation: auto or disabled",
        "service_tier": "service_tier",
        "safety_identifier": "safety_identifier",
        "prompt_cache_key": "prompt_cache_key",
        "user": "user",
    }
    options: ClassVar[Mapping[str, type]] = {
        "reasoning_summary": str,
        "verbosity": str,
        "store": bool,
        "previous_response_id": str,
        "parallel_tool_calls": bool,
        "truncation": str,
        "service_tier": str,
        "safety_identifier": str,
        "prompt_cache_key": str,
        "user": str,
    }

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        query = self.with_model(query, fetch)
        return self.request(
            "POST",
            "/responses",
            query.extra_headers,
            accept="text/event-stream" if query.stream else "application/json",
            json=merged(self.payload(query), query.extra_body),
        )

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: system messages at the start are the instructions."""
        instructions, items = self._input(query.messages)
        options = dict(query.options)
        model = self.model_of(query)
        store = options.pop("store", False)
        reasoning = given(
            effort=query.reasoning_effort, summary=options.pop("reasoning_summary", None)
        )
        text = given(
            format=_format(query.response_format), verbosity=options.pop("verbosity", None)
        )
        return {
            "model": model,
            "input": items,
            "stream": query.stream,
            "store": store,
            **given(
                instructions=instructions or None,
                include=[SEALED] if not store and REASONS.match(model) else None,
                max_output_tokens=query.max_tokens,
                temperature=query.temperature,
                top_p=query.top_p,
                tools=[_function(tool["function"]) for tool in query.tools] or None,
                tool_choice=_choice(query.tool_choice),
                reasoning=reasoning or None,
                text=text or None,
                **options,
            ),
        }

    def count_tokens(self, query: Query, fetch: Fetch) -> int:
        """Return how many tokens a question has, as the service counts."""
        body = merged(self.payload(self.with_model(query, fetch)), query.extra_body)
        asked = self.request(
            "POST",
            "/responses/input_tokens",
            query.extra_headers,
            json={name: body[name] for name in COUNTED if name in body},
            repeatable=True,
        )
        answer = fetch(asked)
        event = parse(answer)
        found = count(event, "input_tokens") if isinstance(event, dict) else None
        if found is None:
            raise malformed("the answer has no count of tokens", answer)
        return found

    def messages_of(self, query: Query) -> list[dict[str, Any]]:
        """Return the items of the input."""
        return self._input(query.messages)[1]

    def _input(self, messages: tuple[Message, ...]) -> tuple[str, list[dict[str, Any]]]:
        instructions: list[str] = []
        items: list[dict[str, Any]] = []
        waiting: list[tuple[str, str]] = []
        for message in messages:
            if message.role == "system" and not items:
                instructions.append(message.text)
            elif message.role == "tool":
                id = answered(message, waiting, self.name)
                result = {"type": "function_call_output", "call_id": id, "output": message.text}
                items.append(result)
            else:
                items += self._items(message, waiting)
        return "\n".join(instructions), items

    def _items(self, message: Message, waiting: list[tuple[str, str]]) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        for call in message.tool_calls:
            id = call.id or f"call_{len(waiting)}_{call.name}"
            waiting.append((id, call.name))
            call_item = {"type": "function_call", "call_id": id, "name": call.name,
                         "arguments": call.raw or "{}"}
            calls.append(call_item)
        kept = (message.state or {}).get("output")
        if isinstance(kept, list) and _is_what_was_said(kept, message):
            return kept
        said = {"role": message.role, "content": self._content(message)}
        return [*([said] if message.content or not calls else []), *calls]

    def _content(self, message: Message) -> Any:
        if isinstance(message.content, str):
            return message.content
        return [
            {"type": "input_text", "text": part} if isinstance(part, str) else self.part(part)
            for part in message.content
        ]

    def part(self, media: Media) -> dict[str, Any]:
        """Return an image or a document as a part of an item."""
        if media.kind == "image":
            return {"type": "input_image", "image_url": media.url or data_url(media)}
        if media.url:
            return {"type": "input_file", "file_url": media.url}
        name = media.name or "document.pdf"
        return {"type": "input_file", "filename": name, "file_data": data_url(media)}

    # What is read

    def events(self, body: Any) -> Iterator[Any]:
        """Yield what the frames say: events, or the one document of an answer in one piece."""
        kind = body.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return whole(body, parse) if kind.endswith("json") else sse(body, parse, DONE)

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event of a stream or in a whole response."""
        if event is DONE:  # of proxies; it ends nothing
            return None
        if not isinstance(event, dict):
            raise malformed("a frame is no JSON object", str(event))
        kind = event.get("type")
        if type(kind) is not str:
            return self._whole(event)
        if kind == "response.output_text.delta":
            return step(member(event, "delta", str) or "", raw=event)
        if kind in ENDS:
            return self._end(member(event, "response", dict) or {}, event)
        if kind == "error" or event.get("error"):
            raise self.failure(event)
        read = _READ.get(kind)
        return read(event) if read is not None else None

    def _whole(self, event: dict[str, Any]) -> Delta:
        """Return the one step of a response that came in one piece."""
        if event.get("error") and "status" not in event:
            raise self.failure(event)
        if member(event, "output", list) is None:
            raise malformed("a frame has neither a type nor an output", str(event))
        return evolve(self._end(event, event), **_said(_items_in(event)))

    def _end(self, response: dict[str, Any], event: dict[str, Any]) -> Delta:
        """Return the step that ends an answer.

        Raises:
            ProviderError: It failed, or was cancelled.
        """
        status = member(response, "status", str) or str(event.get("type")).rpartition(".")[2]
        if status in ("failed", "cancelled"):
            error = member(response, "error", dict)
            raise self.failure({"error": error or {"message": f"the response was {status}"}})
        if status not in ("completed", "incomplete"):
            raise ProtocolError(f"the response of {self.name} is not ready: {status!r}")
        items = _items_in(response)
        finish = _finish(items)
        if status == "incomplete":
            reason = member(member(response, "incomplete_details", dict) or {}, "reason", str)
            finish = INCOMPLETE.get(reason or "", reason or "length")
        return Delta(
            finish_reason=finish,
            usage=_usage(response.get("usage")),
            final=True,
            model=member(response, "model", str),
            id=member(response, "id", str),
            state=_state(items, response),
            raw=event,
        )

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps of an answer; what only the end tells of it comes with the end."""
        spoke = called = False
        for delta in Provider.deltas(self, query, body):
            if delta.text:
                spoke = True
            elif delta.tool_calls:
                called = True
            elif delta.final and not (spoke and called):
                event = delta.raw.get("response") or delta.raw
                told = _said(_items_in(event)) if isinstance(event, dict) else {}
                wanted = {"text": spoke, "tool_calls": called}
                late = {name: told[name] for name, had in wanted.items() if told and not had}
                delta = evolve(delta, **late)
            yield delta


def _opened(event: Mapping[str, Any]) -> Delta | None:
    """Return id and model from the first event."""
    response = member(event, "response", dict) or {}
    return Delta(model=member(response, "model", str), id=member(response, "id", str), raw=event)


def _begun(event: Mapping[str, Any]) -> Delta | None:
    """Return the beginning of a call."""
    item = member(event, "item", dict) or {}
    if item.get("type") != "function_call":
        return None
    arguments = member(item, "arguments", str) or ""
    id, name = member(item, "call_id", str), member(item, "name", str)
    return Delta(tool_calls=(ToolCallPart(_place(event), id, name, arguments),), raw=event)


def _arguments(event: Mapping[str, Any]) -> Delta | None:
    piece = member(event, "delta", str) or ""
    return Delta(tool_calls=(ToolCallPart(_place(event), arguments=piece),), raw=event)


def _thought(event: Mapping[str, Any]) -> Delta | None:
    return Delta(reasoning=member(event, "delta", str) or "", raw=event)


def _next_thought(event: Mapping[str, Any]) -> Delta | None:
    return Delta(reasoning="\n\n", raw=event) if count(event, "summary_index") else None


def _refused(event: Mapping[str, Any]) -> Delta | None:
    return Delta(member(event, "delta", str) or "", raw=event)


_READ = {
    "response.created": _opened,
    "response.output_item.added": _begun,
    "response.function_call_arguments.delta": _arguments,
    "response.reasoning_text.delta": _thought,
    "response.reasoning_summary_text.delta": _thought,
    "response.reasoning_summary_part.added": _next_thought,
    "response.refusal.delta": _refused,
}


def _place(event: Mapping[str, Any]) -> int:
    return count(event, "output_index") or 0


def _items_in(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = member(response, "output", list) or []
    for item in items:
        if not isinstance(item, dict):
            raise malformed("an item is no JSON object", str(item))
    return items


def _said(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the items say, as attributes of a step."""
    texts, thoughts, calls = [], [], []
    for place, item in enumerate(items):
        kind = item.get("type")
        if kind == "function_call":
            id, name = member(item, "call_id", str), member(item, "name", str)
            calls.append(ToolCallPart(place, id, name, member(item, "arguments", str) or ""))
        elif kind == "message":
            texts += _texts(item, "content")
        elif kind == "reasoning":
            thoughts += _texts(item, "summary") or _texts(item, "content")
    return {
        "text": "".join(texts), "reasoning": "\n\n".join(thoughts), "tool_calls": tuple(calls)
    }


def _texts(item: Mapping[str, Any], name: str) -> list[str]:
    found = []
    for part in member(item, name, list) or ():
        if not isinstance(part, dict):
            raise malformed("a part of an item is no JSON object", str(part))
        found.append(member(part, "text", str) or member(part, "refusal", str) or "")
    return found


def _finish(items: list[dict[str, Any]]) -> str:
    """Return why a complete response ended: its items tell."""
    if any(item.get("type") == "function_call" for item in items):
        return "tool_calls"
    told = [member(item, "content", list) for item in items if item.get("type") == "message"]
    parts = [part for content in told for part in content or ()]
    refused = any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)
    return "content_filter" if refused else "stop"


def _state(items: list[dict[str, Any]], response: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the items to be sent back as they are, if that matters and can be done.

    Reasoning that was neither stored nor sealed cannot be named again.
    """
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    sealed = all(item.get("encrypted_content") for item in thoughts)
    matters = thoughts or any("phase" in item for item in items)
    return {"output": items} if matters and (sealed or response.get("store")) else None


def _is_what_was_said(items: list[dict[str, Any]], message: Message) -> bool:
    """Return whether a message was not changed since its items came."""
    told = _said(items)
    ids = [part.id for part in told["tool_calls"]]
    return bool(told["text"] == message.text and ids == [call.id for call in message.tool_calls])


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    sent, made = told.get("input_tokens_details"), told.get("output_tokens_details")
    return Usage(
        count(told, "input_tokens"),
        count(told, "output_tokens"),
        count(told, "total_tokens"),
        count(sent, "cached_tokens") if isinstance(sent, dict) else None,
        count(made, "reasoning_tokens") if isinstance(made, dict) else None,
    )


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in this protocol's shape, where strict is the default."""
    known = {name: function[name] for name in ("description", "parameters") if name in function}
    strict = bool(function.get("strict", False))
    return {"type": "function", "name": function["name"], **known, "strict": strict}


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        return {"type": "function", "name": choice["function"]["name"]}
    return choice


def _format(wanted: Any) -> Any:
    if wanted is None or wanted["type"] != "json_schema":
        return wanted
    return {"type": "json_schema", **wanted["json_schema"]}
