"""The command ``chatsdk doctor``: why a service does not answer, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import sys
from typing import Any

import attrs
import click

from chatsdk import providers
from chatsdk.cli.command import argument, as_json, command, usage
from chatsdk.cli.keychain import key_of
from chatsdk.cli.options import client_for, connection, named, TARGET
from chatsdk.cli.output import console, dump, is_screen, tell, visible
from chatsdk.cli.probes import Finding, Probe
from chatsdk.client import Client
from chatsdk.deadlines import Timeout
from chatsdk.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ChatError,
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    ServerError,
)
from chatsdk.messages import Message
from chatsdk.providers.base import Provider
from chatsdk.queries import query_for
from chatsdk.targets import provider_name
from chatsdk.wire import Request

PATIENCE = 10.0  # s for each wait, unless --timeout says another time
QUESTION = "Hi"
ADVICE: Mapping[type[ChatError], str] = {
    AuthenticationError: "The key was refused: is it current, whole, and for this service?",
    PermissionDeniedError: "The account may not do this, or a gateway blocks this network.",
    NotFoundError: "Is the model right (`chatsdk models` lists them), and the base URL?",
    RateLimitError: "Wait, or look at the account's limits and balance.",
    RedirectError: "The base URL is not the right one: the server points elsewhere.",
    ServerError: "The service has a fault; try again later, and look at its status page.",
    APITimeoutError: "The service is slow or overloaded; try again, or give it longer: --timeout.",
    APIConnectionError: "The connection broke; a proxy or firewall may cut long answers.",
    ProtocolError: "This is no answer of such a service; does the base URL lead to another one?",
}
MARKS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("--", "yellow")}


@command(
    "doctor",
    short_help="Find out why a service does not answer.",
    notes={
        "Steps": {
            "key": "whether one is found, and where",
            "dns, tcp": "whether each host has an address, and answers",
            "proxy": "whether the proxy of the environment leads there",
            "tls": "whether the certificates are trusted; if not, which one and why",
            "call": "a question with an answer of one token, which may be billed",
        }
    },
    examples=(
        "chatsdk doctor gigachat",
        "chatsdk doctor h2o --base-url https://chat.example.org --no-call",
        "chatsdk doctor gigachat --json | jq '.findings[] | select(.ok == false)'",
    ),
    ends={1: "a step failed; its line says what to do"},
)
@argument("target", required=False, metavar="TARGET", type=TARGET,
          about="Provider or provider:model; else $CHATSDK_TARGET.")
@connection
@click.option("--no-call", is_flag=True, help="Ask nothing: look at the way there only.")
@as_json
def doctor(target: str | None, no_call: bool, as_json: bool, **options: Any) -> int:
    """Go the way to a service step by step, and say what is wrong and what to do.

    Each host that a call needs is tried, that of the tokens as well. No key is shown, and none is
    sent before the certificates of the service were found to be good.
    """
    with usage():
        target = named(target)
        kind = providers.get(str(provider_name(target)))
        Timeout().changed(options["timeout"])
        if options["base_url"] is not None:
            _requests(target, kind, options)
    found = []
    for finding in _examine(target, kind, options, no_call):
        found.append(finding)
        if not as_json:
            _show(finding)
    well = all(finding.ok is not False for finding in found)
    if as_json:
        dump({"target": target, "ok": well, "findings": [attrs.asdict(one) for one in found]})
    return 0 if well else 1


def _show(finding: Finding) -> None:
    word, style = MARKS[finding.ok]
    line = f"{word:6}  {finding.step:5}  {finding.where}: {finding.said}"
    more = f"{'':15}-> {finding.advice}" if finding.advice else ""
    if is_screen(sys.stdout):
        screen = console(sys.stdout)
        screen.print(visible(line), style=style if finding.ok is False else None)
        if more:
            screen.print(visible(more), style="bold")
    else:
        tell("\n".join(filter(None, [line, more])))


def _examine(
    target: str, kind: type[Provider], options: Mapping[str, Any], no_call: bool
) -> Iterator[Finding]:
    """Yield what each step shows."""
    try:
        requests = _requests(target, kind, options)
    except ChatError as error:
        yield Finding("setup", target, False, str(error))
        return
    client, key = _client(target, kind, options)
    yield key
    if not kind.alive:
        yield Finding("state", kind.name, None, kind.state)
    failed = client is None
    for request in requests:
        for finding in Probe(request, options["timeout"] or PATIENCE).findings():
            failed = failed or finding.ok is False
            yield finding
    if no_call or client is None or failed:
        yield Finding("call", target, None, "not tried")
        return
    with client:
        yield _call(client, target)


def _client(
    target: str, kind: type[Provider], options: Mapping[str, Any]
) -> tuple[Client | None, Finding]:
    """Return a client, if there can be one, and what is to be said of its key."""
    try:
        client = client_for([target], {**options, "timeout": options["timeout"] or PATIENCE})
    except MissingCredentialsError as error:
        hint = f"Or keep it in the system keyring: chatsdk keys set {kind.name}"
        return None, Finding("key", kind.name, False, str(error), hint)
    return client, Finding("key", kind.name, True, key_of(kind))


def _requests(target: str, kind: type[Provider], options: Mapping[str, Any]) -> list[Request]:
    """Return the first request of a call to each host that it needs, made with no real key."""
    fields = {"base_url": options["base_url"], "api_key": "none"}
    provider = kind(**{name: value for name, value in fields.items() if value is not None})
    model = target.partition(":")[2] or None
    query = query_for(provider, model, (Message("user", QUESTION),), {})

    def fetch(request: Request) -> bytes:
        raise _Asked(request)

    try:
        request = provider.prepare(query, fetch)
    except _Asked as asked:
        request = asked.request
    found = [request] if request.grant is None else [request.grant.ask(), request]
    return list({one.url.split("/", 3)[2]: one for one in found}.values())


class _Asked(Exception):
    """The first request that a provider makes."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


def _call(client: Client, target: str) -> Finding:
    """Return what a question with an answer of one token shows."""
    asking = client.with_options(max_retries=0, drop_unsupported=True)
    try:
        reply = asking.chat(QUESTION, max_tokens=1)
    except ChatError as error:
        said = f"{type(error).__name__}: {error.reason or error}"  # the advice is below
        advice = next((text for kind, text in ADVICE.items() if isinstance(error, kind)), "")
        return Finding("call", target, False, said, advice)
    return Finding("call", target, True, f"an answer after {reply.elapsed:.1f} s")
