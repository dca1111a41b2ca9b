"""Every scenario, played to every service, seen from a plain HTTP client."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
import gzip
import hashlib
import http.client
import json
import re
import time
from urllib.parse import urlencode, urlsplit
import uuid

import pytest

from chatsdk.simulator import FAMILIES, KINDS, SCENARIOS, SERVICES, Simulator

TEXT = 'Раз "два"\nтри \\ \U0001f600 пять. Six seven eight.'
FALCON = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
JSON = {"Content-Type": "application/json"}
CLAUDE = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
FRAMED = [name for name in SERVICES if name != "aura"]
MARKED = ["anthropic", "gemini", "gigachat", "h2o", "ollama", "openai", "openai-responses", "tgi"]
LINES = ["ollama"]
KEY = {"Authorization": "Bearer any"}
GOOGLE = {"x-goog-api-key": "any"}


class Caller:
    """Asks one service of a simulator, over one connection."""

    def __init__(self, sim, service):
        self.sim = sim
        self.service = service
        self.base = urlsplit(sim.fields(service)["base_url"])
        self.connection = http.client.HTTPConnection(self.base.netloc, timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()

    def send(self, method, path, body=b"", headers=None):
        """Send a request and return the answer, unread."""
        self.connection.request(method, self.base.path + path, body, headers or {})
        return self.connection.getresponse()

    def call(self, *args):
        """Send a request, read the answer, return both."""
        response = self.send(*args)
        return response, response.read()

    def prepare(self):
        """Do what has to be done before a chat; return the chat's request."""
        return getattr(self, f"_{self.service}".replace("-", "_"))()

    def chat(self, **headers):
        """Send a chat request and return the answer, unread."""
        method, path, body, fields = self.prepare()
        return self.send(method, path, json.dumps(body), {**JSON, **fields, **headers})

    def _gigachat(self):
        url = urlsplit(self.sim.fields("gigachat")["auth_url"])
        form = {"Content-Type": "application/x-www-form-urlencoded", "RqUID": str(uuid.uuid4()),
                "Authorization": "Basic any"}
        self.connection.request("POST", url.path, "scope=GIGACHAT_API_PERS", form)
        token = json.loads(self.connection.getresponse().read())["access_token"]
        body = {"model": "GigaChat", "stream": True, "messages": [
            {"role": "user", "content": "Hi"}], "functions": [{"name": "now"}]}
        return "POST", "/chat/completions", body, {"Authorization": f"Bearer {token}"}

    def _h2o(self):
        referer = {"Referer": self.base.geturl() + "/", "Cookie": "hf-chat=me"}
        form = {"ethicsModalAccepted": "true", "activeModel": FALCON}
        self.call("POST", "/settings", urlencode(form),
                  {**referer, "Content-Type": "application/x-www-form-urlencoded"})
        _, made = self.call("POST", "/conversation", json.dumps({"model": FALCON}),
                            {**referer, **JSON})
        body = {"inputs": "Hi", "stream": True, "options": {"id": str(uuid.uuid4())},
                "parameters": {"max_new_tokens": 1024, "details": True}}
        self.conversation = f"/conversation/{json.loads(made)['conversationId']}"
        return "POST", self.conversation, body, referer

    def _flowgpt(self):
        nonce, stamp = uuid.uuid4().hex, str(int(time.time()))
        signed = f"{stamp}-{nonce}-Bearer null".encode()
        headers = {"x-flow-device-id": "f-" + "a" * 19, "x-nonce": nonce, "x-timestamp": stamp,
                   "Authorization": "Bearer null", "x-signature": hashlib.md5(signed).hexdigest()}
        body = {"model": "gpt-3.5-turbo", "question": "Hi", "history": [], "system": ""}
        return "POST", "/v3/chat-anonymous", body, headers

    def _aichatonline(self):
        _, answer = self.call("GET", "/api/v1/user/getUniqueId?canvas=-abcdefghij")
        body = {"conversationId": "abcdefghij", "prompt": "Hi"}
        return ("POST", "/aichatonline/api/chat/gpt", body,
                {"UniqueId": json.loads(answer)["data"]})

    def _aura(self):
        body = {"model": {"id": "openchat_3.6"}, "key": "", "prompt": "",
                "messages": [{"role": "user", "content": "Hi"}]}
        return "POST", "/api/chat", body, {}

    def _openai(self):
        body = {"model": "gpt-5-mini", "stream": True, "messages": [
            {"role": "user", "content": "Hi"}]}
        return "POST", "/chat/completions", body, KEY

    def _openai_responses(self):
        return "POST", "/responses", {"model": "gpt-5-mini", "stream": True, "input": "Hi"}, KEY

    def _ollama(self):
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}]}
        return "POST", "/api/chat", body, {}

    def _tgi(self):
        body = {"inputs": "Hi", "parameters": {"details": True}}
        return "POST", "/generate_stream", body, JSON

    def _anthropic(self):
        body = {"model": "claude-opus-5-5", "max_tokens": 1024, "stream": True,
                "messages": [{"role": "user", "content": "Hi"}]}
        return "POST", "/v1/messages", body, CLAUDE

    def _gemini(self):
        body = {"contents": [{"parts": [{"text": "Hi"}]}]}
        return ("POST", "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse", body,
                GOOGLE)


def values(service, body):
    """Return the decoded frames of a body, `[DONE]` as a text."""
    lines = (line.strip(b"\r") for line in body.split(b"\n"))
    prefix = b"data:" if service in MARKED and service not in LINES else b"{"
    lines = (line for line in lines if line.startswith(prefix))
    datas = (line.removeprefix(b"data:").strip() for line in lines)
    return [data.decode() if data == b"[DONE]" else json.loads(data) for data in datas if data]


def text_of(service, body):
    """Return the text that the frames of a body spell."""
    if service == "aura":
        return body.decode()
    return "".join(_piece(service, value) for value in values(service, body))


def _piece(service, value):
    if service == "gigachat":
        choices = [] if value == "[DONE]" else value["choices"]
        return "".join(c["delta"]["content"] for c in choices
                       if c["delta"].get("role") != "function_in_progress")
    if service in ("h2o", "tgi"):
        return "" if value["token"]["special"] else value["token"]["text"]
    if service == "openai":
        choices = [] if value == "[DONE]" else value["choices"]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    if service == "openai-responses":
        return value["delta"] if value["type"] == "response.output_text.delta" else ""
    if service == "ollama":
        return value.get("message", {}).get("content", "")
    if service == "anthropic":
        return value.get("delta", {}).get("text", "")
    if service == "gemini":
        parts = value.get("candidates", [{}])[0].get("content", {}).get("parts", [])
        return "".join(part.get("text", "") for part in parts)
    if service == "flowgpt":
        return value["data"] if value.get("event") == "text" else ""
    return value["data"].get("message") or ""


def ended(service, body):
    """Tell whether a body has the end mark of its protocol."""
    last = values(service, body)[-1:]
    if service == "anthropic":
        return last == [{"type": "message_stop"}]
    if service == "gemini":
        return bool(last and last[0]["candidates"][0].get("finishReason"))
    if service == "openai-responses":
        return bool(last and last[0]["type"] in ("response.completed", "response.incomplete"))
    if service == "ollama":
        return bool(last and last[0]["done"])
    return last == ["[DONE]"] if service in ("gigachat", "openai") else \
        bool(last and last[0]["generated_text"])


def chunks(response):
    """Return the body chunk by chunk, as it was sent."""
    return list(iter(response.read1, b""))


def read_cut(response):
    """Return what came before the connection broke; fail if it did not break."""
    parts = []
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        while True:
            part = response.read1()
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


def played(name, service, **settings):
    """Return a simulator that plays one scenario to one service, and a caller."""
    settings.setdefault("reply", TEXT)
    sim = Simulator(scenario={service: name}, **settings).start()
    return sim, Caller(sim, service)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", [
    "normal", "one-byte", "merged-0.01", "split", "crlf", "blank-lines", "comments", "unknown",
    "noisy", "no-last-newline", "gzip", "content-length", "close-delimited", "hang-up",
    "slow-head-0.01", "drip-0"])
def test_all_of_the_text_comes_however_it_is_cut(name, service):
    sim, caller = played(name, service)
    with sim, caller:
        response = caller.chat()
        body = response.read()

    assert response.status == 200
    assert text_of(service, body) == TEXT
    assert service not in MARKED or ended(service, body)
    assert sim.requests[-1].scenario == name


@pytest.mark.parametrize("service", SERVICES)
def test_one_byte_is_one_chunk(service):
    sim, caller = played("one-byte", service, reply=["Да"])
    with sim, caller:
        assert {len(chunk) for chunk in chunks(caller.chat())} == {1}


@pytest.mark.parametrize("service", SERVICES)
def test_merged_frames_come_in_two_chunks_with_all_of_the_text(service):
    sim, caller = played("merged-0.01", service, reply=["a", "b", "c", "d"])
    with sim, caller:
        first, second = chunks(caller.chat())

    assert text_of(service, first) == "ab"
    assert text_of(service, first + second) == "abcd"


@pytest.mark.parametrize("service", FRAMED)
def test_chunks_are_split_inside_characters_line_ends_and_escapes(service):
    sim, caller = played("split", service, reply=['"Да"'])
    with sim, caller:
        sent = chunks(caller.chat())

    assert any(0xC0 <= chunk[-1] for chunk in sent)
    assert any(chunk.endswith(b"\r") for chunk in sent)
    assert any(chunk.endswith(b"\\") for chunk in sent)
    assert text_of(service, b"".join(sent)) == '"Да"'


def test_raw_text_is_split_inside_characters_and_keeps_its_line_ends():
    sim, caller = played("split", "aura", reply=["Да\n"])
    with sim, caller:
        assert chunks(caller.chat()) == [b"\xd0", b"\x94\xd0", b"\xb0\n"]


@pytest.mark.parametrize("service", FRAMED)
def test_noise_stands_between_the_frames(service):
    sim, caller = played("noisy", service)
    with sim, caller:
        body = caller.chat().read()

    assert b"\n\r\n\r\n" in body
    assert not re.search(rb"[^\r]\n", body)
    assert service not in MARKED or service in LINES or b"\r\n:" in body


@pytest.mark.parametrize("service", FRAMED)
def test_the_last_line_may_lack_its_end(service):
    sim, caller = played("no-last-newline", service)
    with sim, caller:
        assert caller.chat().read()[-1:] in b"}]"


@pytest.mark.parametrize("service", SERVICES)
def test_a_byte_order_mark_may_come_first(service):
    sim, caller = played("bom", service)
    with sim, caller:
        body = caller.chat().read()

    assert body.startswith(b"\xef\xbb\xbf")
    assert text_of(service, body[3:]) == TEXT


@pytest.mark.parametrize("service", SERVICES)
def test_separators_stand_raw_in_the_frames(service):
    sim, caller = played("separators", service)
    with sim, caller:
        body = caller.chat().read()

    assert "\u2028" in body.decode() and "\u0085" in body.decode()
    assert text_of(service, body).endswith("seven \U0001f600.")


@pytest.mark.parametrize("service", SERVICES)
def test_gzip_is_flushed_at_each_frame_for_those_who_accept_it(service):
    sim, caller = played("gzip", service, reply=["a", "b"])
    with sim, caller:
        plain = caller.chat()
        bare = plain.read()
        zipped = caller.chat(**{"Accept-Encoding": "gzip"})
        sent = chunks(zipped)

    assert plain.getheader("Content-Encoding") is None
    assert zipped.getheader("Content-Encoding") == "gzip"
    assert len(sent) >= 3
    assert text_of(service, gzip.decompress(b"".join(sent))) == text_of(service, bare) == "ab"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name, header, value", [
    ("normal", "Transfer-Encoding", "chunked"), ("content-length", "Transfer-Encoding", None),
    ("close-delimited", "Connection", "close")])
def test_a_body_is_framed_as_the_scenario_says(name, header, value, service):
    sim, caller = played(name, service)
    with sim, caller:
        response = caller.chat()
        response.read()

    assert response.getheader(header) == value
    assert (response.getheader("Content-Length") is not None) == (name == "content-length")


@pytest.mark.parametrize("name, connections", [("normal", 1), ("hang-up", 2)])
def test_an_idle_connection_is_kept_unless_the_server_hangs_up(name, connections):
    with Simulator(scenario=name) as sim, Caller(sim, "aura") as caller:
        caller.chat().read()
        caller.connection.sock.settimeout(5)
        if name == "hang-up":
            assert caller.connection.sock.recv(1) == b""
            caller.connection.close()
        caller.chat().read()

        assert sim.connections == connections


@pytest.mark.parametrize("service", SERVICES)
def test_a_line_may_be_a_mebibyte_long(service):
    sim, caller = played("long-line", service)
    with sim, caller:
        assert text_of(service, caller.chat().read()) == "y" * 2 ** 20


@pytest.mark.parametrize("service", SERVICES)
def test_there_may_be_a_hundred_thousand_frames(service):
    sim, caller = played("many-frames", service)
    with sim, caller:
        assert text_of(service, caller.chat().read()) == "x" * 100_000


@pytest.mark.parametrize("service", SERVICES)
def test_a_body_may_be_empty(service):
    sim, caller = played("empty", service)
    with sim, caller:
        response = caller.chat()
        assert (response.status, response.read()) == (200, b"")


@pytest.mark.parametrize("service", SERVICES)
def test_an_answer_may_have_no_text(service):
    sim, caller = played("no-text", service)
    with sim, caller:
        body = caller.chat().read()

    assert text_of(service, body) == ""
    assert service != "gigachat" or ended(service, body)
    assert service != "h2o" or values(service, body)[0]["generated_text"] == ""


@pytest.mark.parametrize("service", SERVICES)
def test_the_limit_of_tokens_ends_the_answer(service):
    sim, caller = played("length", service, reply=["a", "b", "c", "d"])
    with sim, caller:
        body = caller.chat().read()

    assert text_of(service, body) == "ab"
    assert service not in MARKED or re.search(
        b'"(finish|done|stop)(_r|R)eason":"(length|max_tokens|MAX_TOKENS)"|'
        b'"reason":"max_output_tokens"', body)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["tidy-cut", "cut-clean"])
def test_a_body_may_end_normally_in_the_middle(name, service):
    sim, caller = played(name, service, reply=["a", "b", "cc", "d"])
    with sim, caller:
        body = caller.chat().read()
    whole = body if service == "aura" else body[:body.rindex(b"\n") + 1]

    assert text_of(service, whole) == ("abc" if (name, service) == ("cut-clean", "aura") else "ab")
    assert (whole == body) == (name == "tidy-cut" or service == "aura")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["cut", "cut-frames", "cut-first", "reset"])
def test_a_connection_may_break_in_the_middle(name, service):
    sim, caller = played(name, service, reply=["a", "b", "cc", "d"])
    with sim, caller:
        body = read_cut(caller.chat())

    assert (body == b"") == (name == "cut-first") or name == "reset"
    assert name != "cut-frames" or text_of(service, body) == "ab"


@pytest.mark.parametrize("service", SERVICES)
def test_a_connection_may_break_before_the_head(service):
    sim, caller = played("cut-head", service)
    with sim, caller, pytest.raises(ConnectionError):
        caller.chat()


@pytest.mark.parametrize("service", FRAMED)
@pytest.mark.parametrize("name, text", [("error-first", ""), ("error-after-text", "ab")])
def test_an_error_frame_ends_the_body(name, text, service):
    sim, caller = played(name, service, reply=["a", "b", "c", "d"])
    with sim, caller:
        body = caller.chat().read()
    last = values(service, body)[-1]

    assert re.search("[Ee]rror|failed", json.dumps(last))
    assert text_of(service, body[:body.rindex(b"\n", 0, -2) + 1] if text else b"") == text


@pytest.mark.parametrize("name", ["error-first", "error-after-text"])
def test_raw_text_has_no_error_frame_and_breaks(name):
    sim, caller = played(name, "aura", reply=["a", "b", "c", "d"])
    with sim, caller:
        assert read_cut(caller.chat()) == (b"" if name == "error-first" else b"ab")


@pytest.mark.parametrize("service", FRAMED)
@pytest.mark.parametrize("name, before", [("malformed-first", 0), ("malformed-middle", 2)])
def test_a_frame_may_be_unreadable(name, before, service):
    sim, caller = played(name, service, reply=["a", "b", "c", "d"])
    with sim, caller:
        body = caller.chat().read()
    lines = [line.removeprefix(b"data:") for line in body.split(b"\n")
             if line.strip() and not line.startswith(b"event:")]
    quiet = {"openai": 1, "openai-responses": 4, "anthropic": 3}  # frames before the first text
    before += quiet.get(service, 0) if before else 0

    with pytest.raises(ValueError):
        json.loads(lines[before])
    assert all(json.loads(line) for line in lines[:before])


def test_raw_text_may_be_no_utf_8():
    sim, caller = played("malformed-middle", "aura", reply=["a", "b"])
    with sim, caller:
        assert caller.chat().read() == b"a\xff\xfeb"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name, text", [
    ("stall", "ab"), ("stall-first", ""), ("stall-end", "abcd"), ("heartbeat", ""),
    ("heartbeat-after-text", "ab")])
def test_silence_lasts_until_the_simulator_stops(name, text, service):
    sim, caller = played(name, service, reply=["a", "b", "c", "d"])
    with sim, caller:
        response = caller.chat()
        body = b""
        while text and text_of(service, body) != text:
            body += response.read1()
        before = time.monotonic()
        sim.stop()
        took = time.monotonic() - before
        body += read_cut(response)

    assert took < 1
    assert text_of(service, body) == text


@pytest.mark.parametrize("service", SERVICES)
def test_even_the_head_may_never_come(service):
    sim, caller = played("stall-head", service)
    with sim, caller:
        method, path, body, headers = caller.prepare()
        before = time.monotonic()
        caller.connection.request(method, caller.base.path + path, json.dumps(body), headers)
        caller.connection.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            caller.connection.sock.recv(1)
        sim.stop()

    assert 0.1 <= time.monotonic() - before < 2


@pytest.mark.parametrize("service", FRAMED)
def test_heartbeats_come_without_end(service):
    sim, caller = played("heartbeat", service)
    with sim, caller:
        response = caller.chat()
        beats = [response.read1() for _ in range(3)]

    assert text_of(service, b"".join(beats)) == ""


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name, least", [("slow-head-0.2", 0.2), ("drip-0.002", 0.02)])
def test_slowness_takes_its_time(name, least, service):
    sim, caller = played(name, service, reply=["1234567890"])
    with sim, caller:
        request = caller.prepare()
        before = time.monotonic()
        caller.send(*request[:2], json.dumps(request[2]), request[3]).read()

    assert time.monotonic() - before >= least


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429, 500, 502, 503, 504])
def test_a_status_comes_with_the_services_own_error(status, service):
    sim, caller = played(f"status-{status}", service)
    with sim, caller:
        response = caller.chat()
        body = response.read()

    assert response.status == status
    if service == "aura":
        assert body == b"Error"
    elif (service, status) == ("tgi", 401):
        assert body == b""
    else:
        assert json.loads(body)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind, expected", [
    ("json", b'{"error":{"message":"Service Unavailable"}}'), ("text", b"Service Unavailable"),
    ("html", b"<h1>503 Service Unavailable</h1>"), ("empty", b"")])
def test_a_status_comes_with_a_gateways_body(kind, expected, service):
    sim, caller = played(f"status-503-{kind}", service)
    with sim, caller:
        response = caller.chat()
        body = response.read()

    assert response.status == 503
    assert (expected in body) if expected else body == b""
    assert response.getheader("Content-Length") == str(len(body))


@pytest.mark.parametrize("service", SERVICES)
def test_a_redirect_has_a_location(service):
    sim, caller = played("status-302-empty", service)
    with sim, caller:
        response = caller.chat()
        response.read()

    assert response.getheader("Location") == f"{sim.url}/elsewhere"


@pytest.mark.parametrize("service", SERVICES)
def test_status_204_has_no_body_and_the_connection_goes_on(service):
    sim, caller = played("status-204", service)
    with sim, caller:
        response = caller.chat()
        assert (response.status, response.read()) == (204, b"")
        sim.scenario = "normal"
        assert text_of(service, caller.chat().read()) == TEXT


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name, status", [("cloudflare", 403), ("cloudflare-503", 503)])
def test_cloudflare_shows_its_page(name, status, service):
    sim, caller = played(name, service)
    with sim, caller:
        response = caller.chat()
        page = response.read()

    assert (response.status, response.getheader("Server")) == (status, "cloudflare")
    assert b"<title>Just a moment...</title>" in page


@pytest.mark.parametrize("service", SERVICES)
def test_one_401_is_followed_by_the_answer(service):
    with Simulator(reply=TEXT) as sim, Caller(sim, service) as caller:
        sim.play("unauthorized", service=service)
        refused = caller.chat()
        refused.read()
        answered = caller.chat()

        assert (refused.status, answered.status) == (401, 200)
        assert text_of(service, answered.read()) == TEXT


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name, wait", [("retry-after", "1"), ("retry-after-0", "0"),
                                        ("retry-after-2.5", "2.5")])
def test_retry_after_is_told(name, wait, service):
    sim, caller = played(name, service)
    with sim, caller:
        response = caller.chat()
        response.read()

    assert (response.status, response.getheader("Retry-After")) == (429, wait)


def test_retry_after_may_be_a_date():
    sim, caller = played("retry-after-date", "gigachat")
    with sim, caller:
        response = caller.chat()
        response.read()
    ahead = parsedate_to_datetime(response.getheader("Retry-After")).timestamp() - time.time()

    assert 0 < ahead <= 2


def test_a_stream_may_have_no_finish_reason():
    sim, caller = played("no-finish", "gigachat")
    with sim, caller:
        body = caller.chat().read()

    assert b"finish_reason" not in body and ended("gigachat", body)


def test_finish_reasons_may_be_null_before_the_last():
    sim, caller = played("null-finish", "gigachat", reply=["a", "b"])
    with sim, caller:
        *events, done = values("gigachat", caller.chat().read())

    assert [e["choices"][0]["finish_reason"] for e in events] == [None, None, "stop"]


def test_the_last_event_may_have_text():
    sim, caller = played("last-text", "gigachat", reply=["a"])
    with sim, caller:
        *_, last, done = values("gigachat", caller.chat().read())

    assert last["choices"][0] == {"delta": {"content": " The end."}, "index": 0,
                                  "finish_reason": "stop"}


def test_a_function_is_called_although_a_reply_is_set():
    sim, caller = played("function-call", "gigachat")
    with sim, caller:
        first, last, done = values("gigachat", caller.chat().read())

    assert first["choices"][0]["delta"]["function_call"] == {"name": "now", "arguments": {}}
    assert last["choices"][0]["finish_reason"] == "function_call"


def test_the_reason_phrase_may_be_the_upstreams_message():
    sim, caller = played("upstream-error", "aura")
    with sim, caller:
        response = caller.chat()

        assert (response.status, response.read()) == (500, b"Error")
        assert response.reason == "Rate limit reached for requests"


AIMED = [("gigachat", "token"), ("aichatonline", "id"), ("h2o", "settings"), ("h2o", "create"),
         ("h2o", "delete"), ("h2o", "stop"), ("gigachat", "models"), ("aura", "models"),
         *((service, kind) for service in ("openai", "openai-responses")
           for kind in ("models", "embeddings")), ("openai-responses", "count"),
         ("gigachat", "embeddings"), ("gigachat", "count"),
         ("ollama", "models"), ("ollama", "embeddings"), ("ollama", "show"),
         ("ollama", "version"),
         ("tgi", "models"), ("tgi", "health"), ("tgi", "tokenize"), ("tgi", "template"),
         ("anthropic", "count"), ("anthropic", "models"), ("gemini", "count"),
         ("gemini", "embeddings"), ("gemini", "models")]
#: What asks for documents without any preparation, by kind, or by service and kind.
ASKED = {"models": ("GET", "/models", b"", KEY),
         "embeddings": ("POST", "/embeddings",
                        b'{"model":"text-embedding-3-small","input":"Hi","dimensions":2}', KEY),
         "count": ("POST", "/responses/input_tokens", b'{"model":"gpt-5-mini","input":"Hi"}',
                   KEY),
         ("anthropic", "count"): (
             "POST", "/v1/messages/count_tokens",
             '{"model":"claude-opus-5-5","messages":[{"role":"user","content":"Hi"}]}', CLAUDE),
         ("anthropic", "models"): ("GET", "/v1/models", b"", CLAUDE),
         ("gemini", "count"): ("POST", "/v1beta/models/gemini-3.8-flash:countTokens",
                               '{"contents":[{"parts":[{"text":"Hi"}]}]}', GOOGLE),
         ("gemini", "embeddings"): ("POST", "/v1beta/models/gemini-embedding-001:embedContent",
                                    '{"content":{"parts":[{"text":"Hi"}]}}', GOOGLE),
         ("gemini", "models"): ("GET", "/v1beta/models", b"", GOOGLE),
         ("ollama", "models"): ("GET", "/api/tags"),
         ("ollama", "embeddings"): ("POST", "/api/embed", '{"model":"llama3.2","input":"Hi"}'),
         ("ollama", "show"): ("POST", "/api/show", '{"model":"llama3.2"}'),
         ("ollama", "version"): ("GET", "/api/version"),
         ("tgi", "models"): ("GET", "/info"), ("tgi", "health"): ("GET", "/health"),
         ("tgi", "tokenize"): ("POST", "/tokenize", '{"inputs":"Hi"}', JSON),
         ("tgi", "template"): ("POST", "/chat_tokenize",
                               '{"messages":[{"role":"user","content":"Hi"}]}', JSON)}


def other(caller, kind):
    """Send a request of another kind, with all that has to come before it."""
    sim, service = caller.sim, caller.service
    if service.startswith("openai"):
        return caller.send(*ASKED[kind])
    if (service, kind) in ASKED:
        return caller.send(*ASKED[service, kind])
    scenario, sim.scenario = sim.scenario, "normal"
    method, path, _, headers = caller.prepare()
    sim.scenario = scenario
    referer = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    if kind == "token":
        form = {"RqUID": str(uuid.uuid4()), "Authorization": "Basic any",
                "Content-Type": "application/x-www-form-urlencoded"}
        caller.connection.request("POST", "/gigachat/api/v2/oauth", "scope=GIGACHAT_API_PERS",
                                  form)
        return caller.connection.getresponse()
    requests = {
        "id": ("GET", "/api/v1/user/getUniqueId?canvas=-a"),
        "settings": ("POST", "/settings", "ethicsModalAccepted=true", referer),
        "create": ("POST", "/conversation", json.dumps({"model": FALCON}), {**headers, **JSON}),
        "delete": ("DELETE", path, b"", headers),
        "stop": ("POST", f"{path}/stop-generating", b"", headers),
        "embeddings": ("POST", "/embeddings", '{"model":"Embeddings","input":["a"]}',
                       {**headers, **JSON}),
        "count": ("POST", "/tokens/count", '{"model":"GigaChat","input":["a"]}',
                  {**headers, **JSON}),
        "models": ("GET", "/models", b"", headers) if service == "gigachat"
        else ("POST", "/api/models", b'{"key":""}')}
    return caller.send(*requests[kind])


def test_all_kinds_are_tried_here():
    assert sorted(AIMED) == sorted((s, kind) for s, kinds in KINDS.items() for kind in kinds)


@pytest.mark.parametrize("service, kind", AIMED)
@pytest.mark.parametrize("rest, status", [("500", 500), ("404-html", 404), ("status-503", 503),
                                          ("unauthorized", 401), ("cloudflare", 403)])
def test_another_request_can_be_refused(service, kind, rest, status):
    sim, caller = played(f"{kind}-{rest}", service)
    with sim, caller:
        response = other(caller, kind)
        response.read()

        assert response.status == status
        assert sim.requests[-1].scenario == f"{kind}-{rest}"


@pytest.mark.parametrize("service, kind", AIMED)
def test_another_request_can_be_left_unanswered(service, kind):
    sim, caller = played(f"{kind}-cut-head", service)
    with sim, caller, pytest.raises(ConnectionError):
        other(caller, kind)


@pytest.mark.parametrize("service, kind", AIMED)
def test_another_request_can_stall(service, kind):
    sim, caller = played(f"{kind}-stall", service)
    with sim, caller:
        response = other(caller, kind)
        sim.stop()

        assert read_cut(response) == b""


@pytest.mark.parametrize("service, kind, member", [
    ("gigachat", "token", "access_token"), ("h2o", "create", "conversationId"),
    ("aichatonline", "id", "data")])
def test_a_main_member_can_be_blank_null_or_missing(service, kind, member):
    found = {}
    for how in ("blank", "null", "missing", "normal"):
        sim, caller = played(f"{kind}-{how}", service)
        with sim, caller:
            found[how] = json.loads(other(caller, kind).read()).get(member, "-")

    assert (found["blank"], found["null"], found["missing"]) == ("", None, "-")
    assert len(found["normal"]) > 20


@pytest.mark.parametrize("service, kind", [("gigachat", "token"), ("h2o", "create"),
                                           ("aichatonline", "id")])
def test_a_document_can_be_empty_or_unreadable(service, kind):
    for how in ("empty", "malformed", "cut-clean"):
        sim, caller = played(f"{kind}-{how}", service)
        with sim, caller:
            response = other(caller, kind)
            assert response.status == 200
            with pytest.raises(ValueError):
                json.loads(response.read())


def test_a_failed_deletion_leaves_the_conversation():
    sim, caller = played("delete-500", "h2o")
    with sim, caller:
        other(caller, "delete").read()

        assert sim.conversations == [caller.conversation.split("/")[2]]


def test_a_token_may_tell_its_end_in_seconds_or_by_other_names():
    with Simulator() as sim, Caller(sim, "gigachat") as caller:
        sim.scenario = "token-seconds"
        seconds = json.loads(other(caller, "token").read())
        sim.scenario = "token-tok"
        short = json.loads(other(caller, "token").read())

    assert 1700 < seconds["expires_at"] - time.time() < 1900
    assert set(short) == {"tok", "exp"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_in_the_table_exists_and_is_described(name):
    Simulator(scenario=name)

    assert SCENARIOS[name]


def test_families_are_described():
    assert all(FAMILIES.values()) and "status-CODE" in FAMILIES
