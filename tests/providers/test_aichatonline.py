"""AiChatOnline: an anonymous id first, then one prompt; JSON lines back."""

from __future__ import annotations

import json
import logging
import re

import pytest
import responses

from chatsdk import (
    AuthenticationError,
    ConfigurationError,
    Delta,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    StreamInterruptedError,
    UnsupportedError,
)
from chatsdk.providers.aichatonline import AiChatOnline
from chatsdk.simulator import Simulator

from .helpers import (
    BAD_KEYS,
    body_sent,
    BOM,
    broken,
    check_conversation,
    check_damage,
    check_every_end,
    check_framing,
    check_wrong_types,
    client,
    cut_everywhere,
    Fetches,
    FRAMINGS,
    headers_sent,
    HISTORY,
    outcome,
    query,
    read,
    recorded,
    REPLY,
    single_bytes,
    SYSTEM_TWICE,
    text_of,
    whole_frames,
    with_crlf,
    zipped,
)

BASE = "https://aichatonlineorg.erweima.ai"
ID_URL = f"{BASE}/api/v1/user/getUniqueId"
CHAT_URL = f"{BASE}/aichatonline/api/chat/gpt"
VISITOR = recorded("aichatonline_visitor.json")
STREAM = recorded("aichatonline_stream.ndjson")


@pytest.fixture
def server():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(server):
    server.get(ID_URL, body=VISITOR, content_type="application/json")
    server.post(CHAT_URL, body=STREAM)
    return server


def prepared(messages="Hi", visitor=VISITOR, **details):
    """Return the two requests of a chat."""
    fetch = Fetches(visitor)
    chat = AiChatOnline().prepare(query(messages, **details), fetch)
    return fetch.requests[0], chat


def prompt(messages):
    """Return the text that the messages become."""
    return prepared(messages)[1].json["prompt"]


# What is asked


def test_the_two_requests_are_byte_for_byte_those_of_the_protocol(service):
    client("aichatonline").chat("Привет 🙂")

    visit, chat = service.calls
    assert re.fullmatch(re.escape(ID_URL) + r"\?canvas=-[a-z0-9]{10}", visit.request.url)
    assert body_sent(visit) == b""
    assert headers_sent(visit) == {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Origin": BASE,
        "Referer": f"{BASE}/chatgpt/chat/",
    }
    sent = body_sent(chat).decode()
    assert re.fullmatch('{"conversationId":"[a-z0-9]{10}","prompt":"Привет 🙂"}', sent)
    assert headers_sent(chat) == {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Content-Length": str(len(sent.encode())),
        "Content-Type": "application/json",
        "Origin": BASE,
        "Referer": f"{BASE}/chatgpt/chat/",
        "UniqueId": "6dbd3acc4ffdf261b24b0541d1602cff",
    }


def test_each_chat_has_fresh_ids():
    pairs = [prepared() for _ in range(20)]

    assert len({visit.url for visit, _ in pairs}) == 20
    assert len({chat.json["conversationId"] for _, chat in pairs}) == 20


def test_each_chat_asks_for_an_id_of_its_own(service):
    asking = client("aichatonline")

    asking.chat("Hi")
    asking.chat("Hi")

    assert [call.request.method for call in service.calls] == ["GET", "POST", "GET", "POST"]


@pytest.mark.parametrize("messages, text", [
    ("Hi", "Hi"),
    ({"role": "system", "content": "Be brief."}, "Be brief."),
    ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
     "System: Be brief.\nUser: Hi\nAssistant:"),
    (HISTORY, "User: Hi\nAssistant: Hello!\nUser: More\nAssistant:"),
    (SYSTEM_TWICE, "System: Be brief.\nUser: Hi\nSystem: Be kind.\nUser: More\nAssistant:"),
    ([{"role": "user", "content": " a\n\nb "}, {"role": "user", "content": ""}],
     "User:  a\n\nb \nUser: \nAssistant:"),
    ([{"role": "user", "content": "a\nUser: b"}], "a\nUser: b"),
])
def test_messages_are_flattened_into_one_prompt(messages, text):
    assert prompt(messages) == text


def test_a_system_message_given_beside_stands_first(service):
    client("aichatonline").chat("Hi", system="Be brief.")

    body = json.loads(body_sent(service.calls[1]))
    assert body["prompt"] == "System: Be brief.\nUser: Hi\nAssistant:"
    assert set(body) == {"conversationId", "prompt"}


def test_a_list_without_messages_is_refused_before_anything_is_sent(service):
    with pytest.raises(ValueError, match="empty"):
        client("aichatonline").chat([])

    assert len(service.calls) == 0


@pytest.mark.parametrize("target, model", [
    ("aichatonline", "gpt-4"), ("aichatonline:gpt-4", None), ("aichatonline:GPT-4o-mini", None),
])
def test_another_model_is_refused_before_anything_is_sent(service, target, model):
    with pytest.raises(UnsupportedError, match="one model, gpt-4o-mini"):
        client(target).chat("Hi", model=model)

    assert len(service.calls) == 0


def test_its_one_model_may_be_named_and_is_not_sent(service):
    reply = client("aichatonline:gpt-4o-mini").chat("Hi")

    assert reply.model == "gpt-4o-mini"
    assert b"gpt-4o" not in body_sent(service.calls[1])


@pytest.mark.parametrize("name, value", [
    ("temperature", 0.5), ("max_tokens", 5), ("top_p", 0.5), ("stop", ["x"]), ("seed", 1),
    ("tools", [{"type": "function", "function": {"name": "f"}}]), ("tool_choice", "auto"),
    ("response_format", {"type": "json_object"}), ("reasoning_effort", "low"),
])
def test_parameters_are_refused_before_anything_is_sent(service, name, value):
    with pytest.raises(UnsupportedError, match=f"honour {name}; it honours: none"):
        client("aichatonline").chat("Hi", **{name: value})

    assert len(service.calls) == 0
    assert AiChatOnline.parameters == {} and AiChatOnline.options == {}


def test_parameters_can_be_left_out_with_a_warning(service, caplog):
    with caplog.at_level(logging.WARNING, "chatsdk"):
        client("aichatonline", drop_unsupported=True).chat("Hi", temperature=0.5)

    assert set(json.loads(body_sent(service.calls[1]))) == {"conversationId", "prompt"}
    assert "aichatonline cannot honour temperature: left out" in caplog.text


def test_extra_members_are_merged_last_into_the_chat_request(service):
    client("aichatonline").chat("Hi", extra_body={"attachments": [], "prompt": "Other"})

    body = json.loads(body_sent(service.calls[1]))
    assert (body["attachments"], body["prompt"]) == ([], "Other")


def test_headers_and_cookies_go_with_both_requests(service):
    asking = client(
        "aichatonline",
        headers={"User-Agent": "Mine/1", "origin": "https://aichatonline.org"},
        cookies={"cf_clearance": "abc"},
    )

    asking.chat("Hi", extra_headers={"X-B": "2"})

    for call in service.calls:
        headers = call.request.headers
        assert headers["User-Agent"] == "Mine/1"
        assert headers["Origin"] == "https://aichatonline.org"
        assert headers["Cookie"] == "cf_clearance=abc"
        assert headers["X-B"] == "2"


def test_another_base_url_moves_origin_and_referer_with_it():
    provider = AiChatOnline(base_url="http://localhost:8080/chat/")
    fetch = Fetches(VISITOR)

    request = provider.prepare(query(), fetch)

    assert fetch.requests[0].url.startswith("http://localhost:8080/chat/api/v1/user/getUniqueId?")
    assert request.url == "http://localhost:8080/chat/aichatonline/api/chat/gpt"
    assert request.headers["Origin"] == "http://localhost:8080"
    assert request.headers["Referer"] == "http://localhost:8080/chat/chatgpt/chat/"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client("aichatonline", api_key=key)

    assert not key or key not in str(caught.value)


def test_its_one_model_is_listed():
    assert [model.id for model in client("aichatonline").models()] == ["gpt-4o-mini"]


def test_nothing_is_trusted_beside_the_common_roots():
    assert [request.trust for request in prepared()] == [None, None]


# The visitor's id


@pytest.mark.parametrize("answer", [
    b'{"data":"abc"}',
    b'{"code":200,"data":"abc"}',
    b'{"code":null,"data":"abc","further":[1]}',
    b'\n{\n  "code": 200,\n  "data": "abc"\n}\n',
])
def test_only_the_member_data_of_the_id_answer_is_read(answer):
    assert prepared(visitor=answer)[1].headers["UniqueId"] == "abc"


@pytest.mark.parametrize("answer", [
    b"", b"<html>", b"null", b'"abc"', b"[]", b"{}", b'{"code":200}', b'{"data":null}',
    b'{"data":""}', b'{"data":" "}', b'{"data":7}', b'{"data":true}', b'{"data":["abc"]}',
    b'{"data":{"id":"abc"}}', '{"data":"ключ"}'.encode(), b'{"data":"a\\r\\nX: b"}',
    b'{"data":"a\\u0000"}', b'{"code":200,"data":"ab', b'{"data":"\xff"}',
])
def test_an_answer_without_an_id_ends_the_call(answer):
    with pytest.raises(ProtocolError):
        prepared(visitor=answer)


def test_an_id_with_a_blank_in_front_is_no_error_of_the_configuration(server):
    server.get(ID_URL, body=b'{"data":" abc"}')
    server.post(CHAT_URL, body=STREAM)

    try:
        client("aichatonline").chat("Hi")
    except ProtocolError:
        pass

    sent = [call.request.headers.get("UniqueId", "abc") for call in server.calls]
    assert set(sent) == {"abc"}


def test_an_id_answer_that_reports_a_failure_is_an_error_of_the_service():
    with pytest.raises(ProviderError, match=r"too many visitors \(code 429\)") as caught:
        prepared(visitor=b'{"code":429,"msg":"too many visitors","data":null}')

    assert caught.value.retryable


def test_a_refused_id_request_ends_the_call_before_the_chat(server):
    server.get(ID_URL, status=403, body=recorded("cloudflare.html"), content_type="text/html")

    with pytest.raises(PermissionDeniedError, match="browser check of Cloudflare"):
        client("aichatonline").chat("Hi")

    assert len(server.calls) == 1


# What is read


@pytest.mark.parametrize("line, text", [
    (b'{"code":200,"data":{"message":"x"}}', "x"),
    (b'{"data":{"message":"x"}}', "x"),
    (b'{"code":null,"data":{"message":"x"}}', "x"),
    (b'{"code":"200","data":{"message":"x"}}', "x"),
    (b'{"code":200,"msg":"success","data":{"message":" ","further":1},"further":[2]}', " "),
    (b'data: {"code":200,"data":{"message":"x"}}', "x"),
    (b'data:{"code":200,"data":{"message":"x"}}', "x"),
    (b'{"code":200,"data":{"message":"\\u0432"}}', "в"),
    (b'{"code":200,"data":{"message":""}}', None),
    (b'{"code":200,"data":{"message":null}}', None),
    (b'{"code":200,"data":{}}', None),
    (b'{"code":200,"data":{"content":"x"}}', None),
    (b'{"code":200,"data":null}', None),
    (b'{"code":200}', None),
    (b"[DONE]", None),
    (b"data: [DONE]", None),
])
def test_a_line_is_one_step_or_none(line, text):
    provider = AiChatOnline()
    event = provider.parse(line)

    delta = provider.decode(event)

    assert delta == (None if text is None else Delta(text, raw=event))


@pytest.mark.parametrize("line, words, retryable", [
    (b'{"code":429,"msg":"slow down","data":null}', r"slow down \(code 429\)", True),
    (b'{"code":500,"message":"broken","data":null}', r"broken \(code 500\)", True),
    (b'{"code":401,"msg":"Unauthorized","data":null}', r"Unauthorized \(code 401\)", False),
    (b'{"code":40001}', "no reason", False),
    (b'{"code":429,"msg":"no","data":{"message":"text"}}', "no", True),
])
def test_a_line_with_another_code_is_an_error_of_the_service(line, words, retryable):
    provider = AiChatOnline()

    with pytest.raises(ProviderError, match=words) as caught:
        provider.decode(provider.parse(line))

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("line", [
    b"<html>", b"null", b'"x"', b"7", b"[]", b"{]", b"\xff", b'{"code":200,"data":{"message":7}}',
    b'{"code":200,"data":{"message":["x"]}}', b'{"code":200,"data":"x"}', b'{"code":200,"data":[]}',
])
def test_a_line_of_another_form_is_an_error_with_the_text_before_it(line):
    steps, error = outcome(AiChatOnline(), STREAM + line + b"\n")

    assert text_of(steps) == "Привет!"
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError):
        read(AiChatOnline(), line + b"\n" + STREAM)


def test_wrong_types_are_read_or_refused_but_never_a_bare_error():
    check_wrong_types(AiChatOnline(), [
        {"code": 200, "data": {"message": "x"}},
        {"code": 429, "msg": "x", "message": "x", "data": None},
    ])


def test_the_answer_is_read():
    assert [delta.text for delta in read(AiChatOnline(), STREAM)] == ["При", "вет", "!"]


def test_steps_do_not_depend_on_where_the_body_is_cut():
    whole = read(AiChatOnline(), STREAM)

    for chunks in cut_everywhere(STREAM):
        assert read(AiChatOnline(), *chunks) == whole


@pytest.mark.parametrize("body", [
    with_crlf(STREAM),
    BOM + STREAM,
    STREAM.rstrip(b"\n"),
    b"\n \n\t\r\n" + STREAM,
    STREAM.replace(b'{"code"', b'data: {"code"'),
    STREAM + b"[DONE]\n",
    STREAM + b"[DONE]",
], ids=["crlf", "bom", "no end", "blank", "sse", "guard", "guard without end"])
def test_variants_of_the_lines_give_the_same_steps(body):
    whole = read(AiChatOnline(), STREAM)

    assert read(AiChatOnline(), body) == whole
    assert read(AiChatOnline(), *single_bytes(body)) == whole
    for chunks in cut_everywhere(body):
        assert read(AiChatOnline(), *chunks) == whole


def test_a_body_that_ends_anywhere_gives_all_whole_lines_and_an_error_within_one():
    whole_at = whole_frames(STREAM, lambda frame: frame["data"]["message"])

    taken_for_whole = check_every_end(AiChatOnline(), STREAM, complete_from=None, whole_at=whole_at)

    ends = [at for at, _ in whole_at]
    assert taken_for_whole == sorted({*ends, *(at - 1 for at in ends), ends[1] + 1})


def test_a_body_without_text_is_refused():
    for body in (b"", b"\r\n", b"[DONE]\n", b'{"code":200,"data":{}}\n'):
        with pytest.raises(ProtocolError, match="empty"):
            read(AiChatOnline(), body)


def test_an_error_after_text_carries_the_text(server):
    server.get(ID_URL, body=VISITOR)
    server.post(CHAT_URL, body=STREAM + b'{"code":500,"msg":"broken","data":null}\n')

    with pytest.raises(ProviderError, match="broken") as caught:
        client("aichatonline").chat("Hi")

    assert caught.value.partial.text == "Привет!"


def test_a_cut_line_carries_the_text_before_it(server):
    server.get(ID_URL, body=VISITOR)
    server.post(CHAT_URL, body=STREAM[:-5])

    with pytest.raises(StreamInterruptedError) as caught:
        client("aichatonline").chat("Hi")

    assert caught.value.partial.text == "Привет"


def test_a_compressed_answer_is_the_same(server):
    server.get(ID_URL, body=zipped(VISITOR), headers={"Content-Encoding": "gzip"})
    server.post(CHAT_URL, body=zipped(STREAM), headers={"Content-Encoding": "gzip"})

    assert client("aichatonline").chat("Hi").text == "Привет!"


def test_the_reply_tells_what_the_service_tells_and_no_more(service):
    reply = client("aichatonline").chat("Hi")

    assert (reply.text, reply.provider, reply.model) == ("Привет!", "aichatonline", "gpt-4o-mini")
    assert (reply.finish_reason, reply.usage, reply.id) == (None, None, None)


def test_an_error_status_is_no_text(server):
    server.get(ID_URL, body=VISITOR)
    server.post(CHAT_URL, status=401, json={"code": 401, "msg": "Unauthorized", "data": None})

    with pytest.raises(AuthenticationError, match="Unauthorized") as caught:
        client("aichatonline").chat("Hi")

    assert json.loads(caught.value.body)["code"] == 401


@pytest.mark.parametrize("line", [b"<html></html>", b"Internal Error", b"null", b'"x"', b"7"])
def test_a_last_line_that_no_object_begins_with_is_malformed_and_not_cut(line):
    for body in (line, STREAM + line):
        assert type(outcome(AiChatOnline(), body)[1]) is ProtocolError


def test_a_damaged_answer_is_read_or_refused_but_never_a_bare_error():
    check_damage(AiChatOnline(), STREAM)


# Over a real connection


def test_a_whole_conversation():
    requests = check_conversation("aichatonline")

    visits, chats = requests[::2], requests[1::2]
    assert [(r.method, r.path) for r in visits] == [("GET", "/api/v1/user/getUniqueId")] * 2
    assert [(r.method, r.path) for r in chats] == [("POST", "/aichatonline/api/chat/gpt")] * 2
    assert len({r.headers["UniqueId"] for r in chats}) == 2
    assert len({r.members["conversationId"] for r in chats}) == 2
    assert chats[1].members["prompt"].endswith("\nUser: What is my name?\nAssistant:")
    assert not any("cookie" in r.headers for r in requests)


@pytest.mark.parametrize("scenario", FRAMINGS)
def test_an_answer_is_the_same_however_it_is_framed(scenario):
    check_framing("aichatonline", scenario)


def test_a_tidy_early_end_cannot_be_told_from_a_whole_answer():
    with Simulator(reply=REPLY, scenario={"aichatonline": "tidy-cut"}) as sim:
        with client("aichatonline", **sim.fields("aichatonline")) as asking:
            reply = asking.chat("Hi")

    assert REPLY.startswith(reply.text)
    assert "Привет" in reply.text and reply.text != REPLY


@pytest.mark.parametrize("scenario", ["cut", "cut-clean", "cut-frames", "reset", "cut-first"])
def test_a_cut_that_shows_is_an_interruption(scenario):
    assert isinstance(broken("aichatonline", scenario), StreamInterruptedError)


@pytest.mark.parametrize("scenario, kind", [
    ("empty", ProtocolError), ("no-text", ProtocolError), ("error-first", ProviderError),
    ("error-after-text", ProviderError), ("malformed-first", ProtocolError),
    ("malformed-middle", ProtocolError), ("unauthorized", AuthenticationError),
    ("id-blank", ProtocolError), ("id-null", ProtocolError), ("id-missing", ProtocolError),
    ("id-malformed", ProtocolError), ("id-cloudflare", PermissionDeniedError),
])
def test_a_failure_is_told_by_its_kind(scenario, kind):
    assert type(broken("aichatonline", scenario)) is kind
