"""Aura: openchat-ui (openchat.team), which answers with bare text.

The body has no end mark: the server can end a cut answer like a whole one, and when its own
backend dies it never ends it at all; then `Timeout.read` does.

Source: github.com/imoneoi/openchat-ui, versions of 2023-10-31 and 2024-05-25.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from chatsdk.errors import ConfigurationError
from chatsdk.messages import Delta, Query
from chatsdk.providers.base import Fetch, merged, models_in, Provider, system_text
from chatsdk.records import Factory, field, frozen
from chatsdk.results import Model
from chatsdk.settings import check_headers, setting, url
from chatsdk.wire import Body, parse, Request, text

NAMES = {"openchat_3.6": "OpenChat 3.6 (latest)", "openchat_v3.2_mistral": "OpenChat 3.5 (latest)"}
LONGEST = 24576  # characters; a limit of the page, the server ignores it
WINDOW = 8192  # tokens of context, not of the answer: the server drops what does not fit
ADVICE = {
    500: "the server gives no other reason for a model that it does not know, and published"
    " openchat-ui cannot serve openchat_3.6; model='openchat_v3.2_mistral' is worth a try"
}


@frozen(kw_only=True)
class Aura(Provider):
    """A chat with an openchat-ui server.

    Attributes:
        api_key: A key for the server's own backend, sent in the body.
        browser: A Selenium WebDriver whose session has passed the site's browser check; its
            cookies for the site and its user agent are taken once, when this object is made.
    """

    name: ClassVar[str] = "aura"
    title: ClassVar[str] = "Aura"
    state: ClassVar[str] = "gone since about September 2024; the software can be hosted"
    alive: ClassVar[bool] = False
    page: ClassVar[str] = "https://github.com/imoneoi/openchat-ui"
    models: ClassVar[tuple[str, ...]] = tuple(NAMES)
    parameters: ClassVar[Mapping[str, str]] = {"temperature": "temperature (0.5 if not given)"}
    end_mark: ClassVar[bool] = False

    base_url: str = url(None, "https://openchat.team")
    model: str = setting(None, models[0])
    browser: Any = field(default=None, repr=False)
    cookies: Mapping[str, str] = field(
        default=Factory(lambda self: _cookies(self.browser, self.base_url), takes_self=True),
        repr=False,
        validator=check_headers,
    )
    headers: Mapping[str, str] = field(
        default=Factory(lambda self: _user_agent(self.browser), takes_self=True),
        repr=False,
        validator=check_headers,
    )

    def __attrs_post_init__(self) -> None:
        # What was taken is kept; the driver itself can be neither shared nor pickled.
        object.__setattr__(self, "browser", None)

    # What is asked

    def prepare(self, query: Query, fetch: Fetch) -> Request:
        """Return the request for an answer."""
        return self._post("/api/chat", query, merged(self.payload(query), query.extra_body))

    def payload(self, query: Query) -> dict[str, Any]:
        """Return the body; there is no way to limit the answer, least of all ``tokenLimit``."""
        model = self.model_of(query)
        return {
            "model": {
                "id": model,
                "name": NAMES.get(model, model),
                "maxLength": LONGEST,
                "tokenLimit": WINDOW,
            },
            "messages": [
                {"role": message.role, "content": message.text}
                for message in query.messages
                if message.role != "system"
            ],
            "key": self.api_key or "",
            "prompt": system_text(query.messages),
            "temperature": 0.5 if query.temperature is None else query.temperature,
        }

    def list_models(self, fetch: Fetch) -> list[Model]:
        """Return the models that the server offers, of those that its software knows."""
        body = fetch(self._post("/api/models", None, {"key": self.api_key or ""}))
        return models_in(parse(body), self.name)

    def _post(self, path: str, query: Query | None, body: dict[str, Any]) -> Request:
        headers = {"Accept": "*/*", "Origin": self.origin(), "Referer": f"{self.base_url}/"}
        extra = query.extra_headers if query else {}
        return Request(
            method="POST",
            url=self.base_url + path,
            headers=self.request_headers(headers, extra),
            cookies=self.cookies,
            json=body,
            advice=ADVICE,
            repeatable=query is None,
        )

    # What is read

    def events(self, body: Body) -> Iterator[str]:
        """Yield the text as it arrives."""
        return text(body)

    def decode(self, event: str) -> Delta:
        """Return a piece of text; whatever it looks like, it is text."""
        return Delta(event)


def _cookies(browser: Any, base_url: str) -> dict[str, str]:
    if browser is None:
        return {}
    if not hasattr(browser, "get_cookies"):
        raise ConfigurationError(
            "browser must be a Selenium WebDriver (pip install 'chatsdk[browser]'),"
            f" not {type(browser).__name__}"
        )
    if not browser.current_url.startswith(base_url):
        browser.get(base_url)
    return {cookie["name"]: cookie["value"] for cookie in browser.get_cookies()}


def _user_agent(browser: Any) -> dict[str, str]:
    if browser is None:
        return {}
    return {"User-Agent": browser.execute_script("return navigator.userAgent")}
