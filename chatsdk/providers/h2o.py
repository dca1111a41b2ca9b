"""H2o: a chat-ui of mid 2023 (gpt-gm.h2o.ai) in front of text-generation-inference.

Each call has a conversation of its own on the server, with the whole history flattened into its
one question: the server keeps turns itself and would double them otherwise.

Sources: github.com/huggingface/chat-ui as of June 2023 and github.com/huggingface/
text-generation-inference 0.9.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import re
from typing import Any, ClassVar
import uuid

from attr.validators import instance_of

from chatsdk.messages import Delta, Query
from chatsdk.providers.base import Fetch, flatten, merged, Provider
from chatsdk.providers.tgi_frames import generation, spoken
from chatsdk.records import field, frozen
from chatsdk.settings import setting, url
from chatsdk.wire import malformed, parse, Request

REDIRECTED = (200, *range(300, 400))  # settings answer 200 or 303, by what the client accepts
CONVERSATION = re.compile(r"[0-9A-Za-z_-]{1,128}")


@frozen(kw_only=True)
class H2o(Provider):
    """A chat with an H2o server.

    Attributes:
        share_conversations: Let the server share conversations with the models' authors.
    """

    name: ClassVar[str] = "h2o"
    title: ClassVar[str] = "H2o"
    state: ClassVar[str] = "gone since autumn 2023; the software can be hosted"
    alive: ClassVar[bool] = False
    page: ClassVar[str] = "https://github.com/huggingface/chat-ui"
    system_messages: ClassVar[bool] = False
    history: ClassVar[bool] = False
    models: ClassVar[tuple[str, ...]] = (
        "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1",
        "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-7b-v3",
        "h2oai/h2ogpt-gm-oasst1-en-2048-open-llama-13b",
    )
    aliases: ClassVar[Mapping[str, str]] = {
        "falcon-40b": models[0],
        "falcon-7b": models[1],
        "llama-13b": models[2],
    }
    parameters: ClassVar[Mapping[str, str]] = {
        "temperature": "parameters.temperature (0.4 if not given); 0 becomes do_sample false",
        "max_tokens": "parameters.max_new_tokens (1024 if not given)",
        "top_p": "parameters.top_p; 1 is left out, the server refuses it",
        "stop": "parameters.stop",
        "seed": "parameters.seed",
        "truncate": "parameters.truncate (2048 if not given)",
        "repetition_penalty": "parameters.repetition_penalty (1.2 if not given)",
        "top_k": "parameters.top_k",
        "typical_p": "parameters.typical_p",
    }
    options: ClassVar[Mapping[str, type]] = {
        "truncate": int,
        "repetition_penalty": float,
        "top_k": int,
        "typical_p": float,
    }

    varies: ClassVar[tuple[str, ...]] = ("options.id", "options.response_id")

    base_url: str = url(None, "https://gpt-gm.h2o.ai")
    model: str = setting(None, models[0])
    share_conversations: bool = field(default=False, validator=instance_of(bool))

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Accept the terms, open a conversation, and return the request for an answer in it."""
        fetch(self._request("POST", "/settings", query, form=self.terms(query), accepts=REDIRECTED))

        def delete(opened: bytes) -> Request:
            return self._request("DELETE", _conversation(opened), query, repeatable=True)

        model = {"model": self.model_of(query)}
        opened = fetch(self._request("POST", "/conversation", query, json=model, undo=delete))
        path = _conversation(opened)
        return self._request(
            "POST",
            path,
            query,
            json=merged(self.payload(query), query.extra_body),
            varies=self.varies,
            left_early=(self._request("POST", path + "/stop-generating", query, repeatable=True),),
        )

    def terms(self, query: Query) -> dict[str, str]:
        """Return the form that accepts the terms of use; any text, also "false", means yes."""
        return {
            "ethicsModalAccepted": "true",
            "shareConversationsWithModelAuthors": "true" if self.share_conversations else "",
            "ethicsModalAcceptedAt": "",
            "activeModel": self.model_of(query),
            "searchEnabled": "true",
        }

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body: parameters go to the model server, options to the chat server."""
        options = query.options
        parameters = {
            "temperature": 0.4 if query.temperature is None else query.temperature,
            "truncate": options.get("truncate", 2048),
            "max_new_tokens": query.max_tokens or 1024,
            "do_sample": query.temperature != 0,
            "repetition_penalty": options.get("repetition_penalty", 1.2),
            "return_full_text": False,
            "top_p": None if query.top_p == 1 else query.top_p,
            "top_k": options.get("top_k"),
            "typical_p": options.get("typical_p"),
            "stop": list(query.stop) or None,
            "seed": query.seed,
            "details": True,  # the only way to a finish reason
        }
        if query.temperature == 0:
            del parameters["temperature"]  # refused as not positive; without sampling not needed
        return {
            "inputs": flatten(query.messages),
            "parameters": {name: value for name, value in parameters.items() if value is not None},
            "stream": True,
            "options": {
                "id": str(uuid.uuid4()),
                "response_id": str(uuid.uuid4()),
                "is_retry": False,
                "use_cache": False,
                "web_search_id": "",
            },
        }

    def check(self, query: Query) -> None:
        """Refuse what the server would refuse with an unexplained error."""
        super().check(query)
        if not flatten(query.messages).strip():
            raise ValueError("h2o needs a text that is not blank")
        if query.top_p == 0:
            raise ValueError("top_p for h2o must be above 0")
        if query.seed is not None and query.seed < 0:
            raise ValueError("seed for h2o must be 0 or more")

    def _request(self, method: str, path: str, query: Query, **details: Any) -> Request:
        # A form without a Referer of the same origin is refused; any other Accept than this one
        # gives web pages for errors.
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        headers = {"Referer": self.base_url + "/", "Accept": "*/*", **key}
        return Request(
            method=method,
            url=self.base_url + path,
            headers=self.request_headers(headers, query.extra_headers),
            cookies=self.cookies,
            **details,
        )

    # What is read

    def decode(self, event: Any) -> Delta | None:
        """Return the step in an event; the last one has the whole text in ``generated_text``."""
        return generation(event, self.name)

    def deltas(self, query: Query, body: Any) -> Iterator[Delta]:
        """Yield the steps; if no token had text, the whole text of the last frame is the answer."""
        return spoken(super().deltas(query, body))


def _conversation(body: bytes) -> str:
    """Return the path of the conversation that was opened."""
    event = parse(body)
    found = event.get("conversationId") if isinstance(event, dict) else None
    if not isinstance(found, str) or not CONVERSATION.fullmatch(found):
        raise malformed("h2o opened no conversation", body)
    return "/conversation/" + found
