"""Exceptions of the layers below and statuses, in our words and without a secret."""

from __future__ import annotations

import errno
import http.client
import ssl

import pytest
import requests
from requests.structures import CaseInsensitiveDict
import responses
from servers import answer, gigachat
import urllib3

from chatsdk import Client, Timeout
from chatsdk.deadlines import Watch
from chatsdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CancelledError,
    ConfigurationError,
    ContextLengthError,
    PermissionDeniedError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
    RedirectError,
    ServerError,
    StreamInterruptedError,
)
from chatsdk.failures import connection_error, reason_in, seconds_to_wait
from chatsdk.wire import Limits, Request

URL = "https://chat.example"
POST = Request(method="POST", url=URL)
GET = Request(method="GET", url=URL, repeatable=True)
CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"


def failed(error, phase, request=POST, *, cancelled=False, name="gigachat"):
    watch = Watch(Timeout(connect=1, first=2, read=3, total=4), clock=lambda: 0.0)
    watch.begin(phase)
    watch.cancelled = cancelled
    return connection_error(error, watch, request, name)


def refused(status, **answer):
    """Return the error for a status, the request made with `responses`."""
    with responses.RequestsMock() as mock, Client(gigachat(URL), max_retries=0) as client:
        mock.post(URL + "/chat/completions", status=status, **answer)
        with pytest.raises(APIStatusError) as caught:
            client.chat("Hi")
    return caught.value


# Connections


@pytest.mark.parametrize(
    "phase, kind, says",
    [
        (
            "connect",
            APIConnectionError,
            "no connection to gigachat at chat.example (ConnectionResetError: gone)",
        ),
        ("first", APIConnectionError, "gigachat gave no answer (ConnectionResetError: gone)"),
        (
            "read",
            StreamInterruptedError,
            "the answer of gigachat broke off (ConnectionResetError: gone)",
        ),
    ],
)
def test_a_broken_connection_is_told_by_what_was_waited_for(phase, kind, says):
    broken = urllib3.exceptions.ProtocolError("Connection broken", ConnectionResetError("gone"))

    error = failed(requests.ConnectionError(broken), phase)

    assert type(error) is kind and str(error) == says and error.retryable


@pytest.mark.parametrize(
    "phase, post, get",
    [("connect", True, True), ("first", False, True), ("read", False, True)],
)
def test_a_timeout_names_its_phase_and_may_be_repeated_where_that_does_no_harm(phase, post, get):
    late = urllib3.exceptions.ReadTimeoutError(None, "/", "late") if phase != "connect" else None
    error = requests.Timeout(late or TimeoutError("late"))

    for request, retryable in ((POST, post), (GET, get)):
        found = failed(error, phase, request)
        assert type(found) is APITimeoutError
        assert (found.phase, found.retryable) == (phase, retryable)
        assert str(found).endswith(f"(timeout: {phase})")


def test_a_timeout_says_how_long_it_was():
    assert "within 2 s" in str(failed(TimeoutError(), "first"))


def test_a_call_that_is_over_is_a_timeout_that_is_never_repeated():
    times = iter([0.0, 0.0, 5.0, 5.0])
    watch = Watch(Timeout(total=4), clock=lambda: next(times))
    watch.begin("first")

    error = connection_error(TimeoutError(), watch, GET, None)

    assert error.phase == "total" and not error.retryable
    assert str(error) == "the call to the service was not over within 4 s (timeout: total)"


def test_a_wait_that_is_switched_off_has_no_length():
    watch = Watch(Timeout(connect=None, first=None), clock=lambda: 0.0)

    error = connection_error(TimeoutError("as the system says"), watch, GET, "gigachat")

    assert str(error) == "no connection to gigachat at chat.example (timeout: connect)"


def test_a_read_that_timed_out_before_the_watch_took_over_is_one_of_the_first_byte():
    late = urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out.")

    assert failed(requests.ReadTimeout(late), "connect").phase == "first"


def test_a_refused_connection_is_no_timeout():
    refusal = urllib3.exceptions.NewConnectionError(None, "refused")

    error = failed(requests.ConnectionError(refusal), "connect")

    assert type(error) is APIConnectionError and error.retryable


@pytest.mark.parametrize(
    "cause",
    [
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."),
        requests.exceptions.InvalidProxyURL("x"),
        requests.exceptions.InvalidHeader("X-Key: s3cret"),
        urllib3.exceptions.LocationParseError("s3cret"),
        urllib3.exceptions.ProxySchemeUnknown("ftp"),
        UnicodeEncodeError("idna", "s3cret", 0, 1, "label empty"),
    ],
)
def test_what_cannot_be_used_is_a_configuration_error_that_repeats_nothing(cause):
    error = failed(cause, "connect")

    assert type(error) is ConfigurationError
    assert "chatsdk[socks]" in error.advice and "s3cret" not in str(error)


def test_a_certificate_that_is_not_trusted_is_not_tried_again():
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed: unable to get issuer")
    error = failed(requests.exceptions.SSLError(urllib3.exceptions.SSLError(cause)), "connect")

    assert type(error) is APIConnectionError and not error.retryable
    assert "certificate of gigachat at chat.example is not trusted" in str(error)


@pytest.mark.parametrize("error", [ssl.SSLError(1, "bad record"), ConnectionResetError()])
def test_a_handshake_that_breaks_is_tried_again(error):
    assert failed(error, "connect").retryable


@pytest.mark.parametrize("status, retryable", [(407, False), (403, False), (502, True)])
def test_a_proxy_that_refuses_is_told_by_its_status(status, retryable):
    cause = OSError(f"Tunnel connection failed: {status} No")
    error = failed(urllib3.exceptions.ProxyError("Cannot connect to proxy.", cause), "connect")

    assert str(error) == f"the proxy refused the way to gigachat at chat.example with {status}"
    assert error.retryable is retryable


@pytest.mark.parametrize(
    "error", [OverflowError("int too large"), ValueError("bad"), AttributeError("x"), KeyError(5)]
)
def test_bare_errors_of_the_layers_below_are_broken_answers(error):
    assert type(failed(error, "read")) is StreamInterruptedError


def test_whatever_happens_in_a_call_that_was_ended_is_its_end():
    error = failed(OSError(errno.EBADF, "bad"), "read", cancelled=True)

    assert type(error) is CancelledError and not error.retryable


def test_an_error_of_ours_stays_what_it_is():
    error = ProtocolError("mine")

    assert failed(error, "read") is error


def test_what_was_sent_is_not_kept_in_the_cause():
    cause = requests.ConnectionError("x", request=requests.Request("POST", URL).prepare())

    failed(cause, "connect")

    assert cause.request is cause.response is None


def test_causes_in_a_circle_end():
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one

    assert "OSError: two" in str(failed(one, "connect"))


def test_a_cause_is_quoted_as_one_short_line():
    error = failed(OSError("a\r\nb\x1b[2J\u202e" + "x" * 5000), "first", name=None)

    assert str(error).startswith("the service gave no answer (OSError: a b [2J x")
    assert str(error).isprintable() and len(str(error)) < 400


# Statuses


def test_a_status_error_has_all_that_the_answer_told():
    error = refused(
        429, json={"message": "slow\ndown"}, headers={"Retry-After": "90", "X-Request-ID": "r-1"}
    )

    assert (error.status_code, error.request_id, error.retry_after) == (429, "r-1", 90.0)
    assert error.body == '{"message": "slow\\ndown"}'
    assert error.headers["retry-after"] == "90"
    assert error.provider == "gigachat"
    assert error.reason == (
        "gigachat answered 429 Too Many Requests; slow down; it asks to wait 90 s"
    )


def test_a_request_id_has_two_names():
    assert refused(500, headers={"Request-Id": "r-2"}).request_id == "r-2"
    assert refused(500).request_id is None


def test_a_message_ends_with_advice_where_there_is_some():
    error = refused(401, json={"message": "Token has expired"})

    assert type(error) is AuthenticationError
    assert "Token has expired" in str(error) and "GIGACHAT_CREDENTIALS" in str(error)


def test_a_redirect_is_not_followed_and_says_where_to():
    location = "https://evil.example/a?token=s3cret"
    error = refused(302, headers={"Location": location})

    assert type(error) is RedirectError and error.location == location
    assert "redirects are not followed; it points to https://evil.example/a" in str(error)
    assert "s3cret" not in str(error)


def test_a_redirect_to_nowhere_is_one_too():
    error = refused(304)

    assert type(error) is RedirectError and error.location is None
    assert "nowhere" in str(error)


@pytest.mark.parametrize("status, kind", [(403, PermissionDeniedError), (503, ServerError)])
def test_a_browser_check_of_cloudflare_is_named(status, kind):
    error = refused(status, body=CHALLENGE, content_type="text/html")

    assert type(error) is kind
    assert "Cloudflare" in str(error) and "cookies=" in str(error)
    assert "<" not in str(error)


def test_a_page_of_cloudflare_under_another_status_is_only_a_status():
    assert "Cloudflare" not in str(refused(500, body=CHALLENGE))


def test_a_status_that_nobody_knows_is_an_error():
    assert str(refused(799)).startswith("gigachat answered 799")


@pytest.mark.parametrize("status", [102, 103, 202, 204, 206, 226])
def test_only_what_the_protocol_calls_a_success_is_one(serve, status):
    server = serve(answer(b"", f"{status} Fine", Connection="close"))
    with Client(gigachat(server), max_retries=0) as client:
        with pytest.raises((APIStatusError, APIConnectionError)):
            client.chat("Hi")


def test_the_reason_phrase_is_told_if_it_is_the_servers_own(serve):
    own = serve(answer(b"Error", "500 model \xab\x1b[2J not found"))
    with Client(gigachat(own), max_retries=0) as client, pytest.raises(ServerError) as caught:
        client.chat("Hi")

    assert caught.value.reason == (
        "gigachat answered 500 Internal Server Error; Error; model \xab [2J not found"
    )


@pytest.mark.parametrize("coding", ["identity", "gzip", "nonsense"])
def test_the_body_of_an_error_is_cut_and_never_refused(serve, coding):
    limits = Limits(error_body_bytes=100)
    server = serve(answer(b"x" * 100_000, "400 Bad Request", Content_Encoding=coding))
    with Client(gigachat(server), max_retries=0, limits=limits) as client:
        with pytest.raises(APIStatusError) as caught:
            client.chat("Hi")

    assert caught.value.body == ("x" * 100 if coding == "identity" else "")
    assert len(str(caught.value)) < 1000


def test_the_body_of_an_error_is_64_kib_at_most(serve):
    server = serve(answer(b"x" * 100_000, "400 Bad Request"))
    with Client(gigachat(server), max_retries=0) as client:
        with pytest.raises(APIStatusError) as caught:
            client.chat("Hi")

    assert caught.value.body == "x" * 65536


def test_what_came_of_an_errors_body_before_it_broke_is_kept(serve):
    def cut(peer):
        peer.send(answer(b"why" + b" " * 1000, "400 Bad Request")[:-900])
        peer.hang_up()

    with Client(gigachat(serve(cut)), max_retries=0) as client:
        with pytest.raises(APIStatusError) as caught:
            client.chat("Hi")

    assert caught.value.body.strip() == "why"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", ""),
        ("plain words\nmore", "plain words"),
        ("<html>page</html>", ""),
        ('{"message": "m", "error": "e"}', "m"),
        ('{"error": {"message": "deep", "code": 5}}', "deep"),
        ('{"error": "e"}', "e"),
        ('{"msg": "m"}', "m"),
        ('{"detail": "d"}', "d"),
        ('{"detail": [{"msg": "list"}]}', ""),
        ('{"message": 5, "detail": "d"}', "d"),
        ('{"message": " ", "error": "e"}', "e"),
        ("[1]", ""),
        ('"a string"', ""),
        ("{}", ""),
        ("\ufffd", "\ufffd"),
    ],
)
def test_the_reason_is_found_where_services_put_it(text, reason):
    assert reason_in(text) == reason


@pytest.mark.parametrize(
    "asked, date, seconds",
    [
        (None, None, None),
        ("0", None, 0.0),
        (" 7 ", None, 7.0),
        ("1.5", None, 1.5),
        ("-1", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("soon", None, None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None, 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:59:59", "Fri, 31 Dec 1999 23:59:00 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:59:59 +0100", "Fri, 31 Dec 1999 22:59:00 GMT", 59.0),
        ("Friday, 31-Dec-99 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "no date", 0.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None, None),
        ("Fri, 31 Foo 1999 23:59:59 GMT", None, None),
        ("Fri, 31 Dec 1999 25:61:61 GMT", None, None),
        (",", None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(asked, date, seconds):
    headers = CaseInsensitiveDict()
    if asked is not None:
        headers["retry-after"] = asked
    if date is not None:
        headers["date"] = date

    assert seconds_to_wait(headers) == seconds


def test_no_two_phrases_of_a_message_say_the_same():
    error = refused(500, json={"message": http.client.responses[500]})

    assert error.reason == "gigachat answered 500 Internal Server Error"


@pytest.mark.parametrize(
    "exactly, plain, seconds",
    [
        ("1500", "9", 1.5),
        ("0", None, 0.0),
        ("-1", "9", None),
        ("soon", "9", 9.0),
        ("inf", "9", None),
    ],
)
def test_retry_after_ms_comes_first(exactly, plain, seconds):
    headers = CaseInsensitiveDict({"Retry-After-Ms": exactly})
    if plain is not None:
        headers["Retry-After"] = plain

    assert seconds_to_wait(headers) == seconds


@pytest.mark.parametrize(
    "status, body, kind",
    [
        (402, {}, QuotaExceededError),
        (429, {"error": {"code": "insufficient_quota"}}, QuotaExceededError),
        (429, {"error": {"type": "billing_error"}}, QuotaExceededError),
        (429, {"error": {"code": "rate_limit_exceeded"}}, RateLimitError),
        (400, {"error": {"code": "context_length_exceeded"}}, ContextLengthError),
        (400, {"error": {"message": "prompt is too long: 9 > 8 maximum"}}, ContextLengthError),
        (413, {"error": {"message": "Input is too long"}}, ContextLengthError),
        (400, {"error": {"message": "no such role"}}, BadRequestError),
        (500, {"error": {"code": "context_length_exceeded"}}, ServerError),
    ],
)
def test_money_and_length_have_classes_of_their_own(status, body, kind):
    error = refused(status, json=body)

    assert type(error) is kind
    assert error.retryable == (kind in (RateLimitError, ServerError))


def test_a_server_that_wants_no_other_attempt_gets_none():
    assert not refused(503, headers={"x-should-retry": "false"}).retryable
    assert refused(503, headers={"x-should-retry": "true"}).retryable
    assert not refused(400, headers={"x-should-retry": "true"}).retryable
