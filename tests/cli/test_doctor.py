"""``chatsdk doctor``: each step that can fail, on real sockets; no name is looked up elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
import json
import re
import socket
import ssl
import struct
import threading

import pytest
from servers import answer, document, said
from terminals import Person
import trustme

from chatsdk.cli import main
from chatsdk.cli.certificates import Certificate, complaint, culprit
from chatsdk.simulator import Simulator

YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)
LATER = datetime.now(timezone.utc) + timedelta(days=90)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "t0ken")


@pytest.fixture
def examined(capsys):
    """Run the doctor; return the status and what was found, each by its step."""

    def run(*arguments):
        status = main(["doctor", *arguments, "--json"])
        told = json.loads(capsys.readouterr().out)
        assert told["ok"] == (status == 0)
        return status, told["findings"]

    return run


def step(findings, name):
    found = [one for one in findings if one["step"] == name]
    assert found, findings
    return found[-1]


def test_all_is_well_where_the_service_answers(serve, examined, key):
    server = serve(said("Hi"))

    status, findings = examined("gigachat", "--base-url", server.url)

    assert status == 0
    assert [(one["step"], one["ok"]) for one in findings] == [
        ("key", True), ("dns", True), ("tcp", True), ("call", True),
    ]
    assert step(findings, "key")["said"] == "GIGACHAT_ACCESS_TOKEN"
    assert [request.json["max_tokens"] for request in server.requests] == [1]


def test_every_host_that_a_call_needs_is_tried(examined, monkeypatch):
    with Simulator() as simulator, Simulator() as other:
        monkeypatch.setenv("GIGACHAT_CREDENTIALS", "any")
        monkeypatch.setenv("GIGACHAT_BASE_URL", simulator.fields("gigachat")["base_url"])
        monkeypatch.setenv("GIGACHAT_AUTH_URL", other.fields("gigachat")["auth_url"])

        status, findings = examined("gigachat", "--no-call")

        hosts = [one["where"] for one in findings if one["step"] == "tcp"]
        assert hosts == [other.url.partition("//")[2], simulator.url.partition("//")[2]]
        assert (status, simulator.requests, other.requests) == (0, [], [])
    assert step(findings, "call")["ok"] is None


def test_a_service_with_steps_before_the_question_is_tried_as_well(examined):
    with Simulator() as simulator:
        status, findings = examined("h2o", "--base-url", simulator.fields("h2o")["base_url"])

        assert status == 0
        assert simulator.wait_idle() and simulator.conversations == []
    assert step(findings, "key")["said"] == "none needed"
    assert "gone" in step(findings, "state")["said"]


def test_a_missing_key_is_told_and_the_way_is_tried_all_the_same(serve, examined):
    server = serve(said("Hi"))

    status, findings = examined("gigachat", "--base-url", server.url)

    assert status == 1
    assert "GIGACHAT_CREDENTIALS" in step(findings, "key")["said"]
    assert "chatsdk keys set gigachat" in step(findings, "key")["advice"]
    assert step(findings, "tcp")["ok"] and step(findings, "call")["ok"] is None
    assert server.requests == []


def test_a_name_without_an_address_is_told(examined, key, monkeypatch):
    def unknown(host, *rest, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)

    status, findings = examined("gigachat", "--base-url", "https://chat.invalid/v1")

    assert status == 1
    assert step(findings, "dns")["said"] == "no address: Name or service not known"
    assert "HTTPS_PROXY" in step(findings, "dns")["advice"]
    assert [one["step"] for one in findings] == ["key", "dns", "call"]


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_port_that_refuses_is_told(examined, key):
    status, findings = examined("gigachat", "--base-url", f"http://127.0.0.1:{closed_port()}")

    assert status == 1
    assert step(findings, "tcp")["said"] == "no connection: Connection refused"
    assert "running" in step(findings, "tcp")["advice"]


def test_a_host_that_does_not_answer_is_told(examined, key, monkeypatch):
    def silent(address, timeout):
        assert timeout == 0.5
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", silent)

    status, findings = examined("gigachat", "--base-url", "http://127.0.0.1:1", "--timeout", "0.5")

    assert status == 1
    assert step(findings, "tcp")["said"] == "no answer within 0.5 s"


def test_what_keeps_a_client_from_being_made_is_told(examined):
    status, findings = examined("azure-openai")

    assert status == 1
    assert [one["step"] for one in findings] == ["setup"]
    assert "base_url" in findings[0]["said"]


# Certificates


@pytest.mark.parametrize(
    ("issued", "words", "advice"),
    [
        ({"not_after": YESTERDAY}, f"ended on {YESTERDAY:%Y-%m-%d}", "clock"),
        ({"not_before": TOMORROW, "not_after": LATER}, f"from {TOMORROW:%Y-%m-%d} on", "clock"),
    ],
)
def test_a_certificate_out_of_its_time_is_named(
    serve, examined, key, authority, ca_file, monkeypatch, issued, words, advice
):
    certificate = authority.issue_cert("127.0.0.1", common_name="Ada's", **issued)
    server = serve(said("Hi"), tls=certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    status, findings = examined("gigachat", "--base-url", server.url)

    found = step(findings, "tls")
    assert status == 1 and found["ok"] is False
    assert re.match(r"certificate 1 of [12], Ada's, ", found["said"]) and words in found["said"]
    assert advice in found["advice"]
    assert server.requests == []  # no key was sent


def test_an_intermediate_certificate_that_ended_is_told_from_the_others():
    fresh = Certificate("leaf", "middle", YESTERDAY, LATER)
    ended = Certificate("middle", "root", YESTERDAY - timedelta(days=9), YESTERDAY)

    assert culprit([fresh, ended], 10, datetime.now(timezone.utc)) == (2, ended)


@pytest.mark.parametrize("code", [9, 10, 20])
def test_without_certificates_there_is_no_culprit(code):
    assert culprit([], code, datetime.now(timezone.utc)) == (0, None)
    error = ssl.SSLCertVerificationError(1, "no")
    error.verify_code, error.verify_message = code, "as OpenSSL says"
    assert complaint([], error, "host") == "as OpenSSL says"


def test_a_certificate_of_another_host_is_named(
    serve, examined, key, authority, ca_file, monkeypatch
):
    server = serve(said("Hi"), tls=authority.issue_cert("elsewhere.example"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    status, findings = examined("gigachat", "--base-url", server.url)

    assert status == 1
    assert "is not for 127.0.0.1 but for elsewhere.example" in step(findings, "tls")["said"]
    assert "Somebody else" in step(findings, "tls")["advice"]


def test_an_issuer_that_is_not_trusted_is_named(serve, examined, key):
    root = trustme.CA(organization_name="Root Works")
    middle = root.create_child_ca()
    server = serve(said("Hi"), tls=middle.issue_cert("127.0.0.1"))

    status, findings = examined("gigachat", "--base-url", server.url)

    found = step(findings, "tls")
    assert status == 1
    assert found["said"].startswith("certificate 2 of 2, ")
    assert "is signed by" in found["said"] and "Root Works" in found["said"]
    assert "REQUESTS_CA_BUNDLE" in found["advice"]


def test_good_certificates_are_told_with_their_end(
    serve, examined, key, authority, ca_file, monkeypatch
):
    server = serve(said("Hi"), tls=authority.issue_cert("127.0.0.1", not_after=LATER))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    status, findings = examined("gigachat", "--base-url", server.url)

    assert status == 0 and step(findings, "tls")["ok"]
    assert step(findings, "tls")["said"].startswith("TLSv1.3, ")
    assert f"{LATER:%Y-%m-%d}" in step(findings, "tls")["said"]


def test_a_certificate_that_ends_soon_is_worth_a_word(
    serve, examined, key, authority, ca_file, monkeypatch
):
    server = serve(said("Hi"), tls=authority.issue_cert("127.0.0.1", not_after=TOMORROW))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    status, findings = examined("gigachat", "--base-url", server.url)

    assert (status, step(findings, "tls")["ok"]) == (0, None)
    assert "soon" in step(findings, "tls")["advice"]


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no handshake: WRONG_VERSION_NUMBER"),
        (None, "no handshake: no answer within 0.5 s"),
        (b"", "no handshake: UNEXPECTED_EOF|the connection broke"),
        (b"reset", "the connection broke: "),
    ],
)
def test_a_port_without_tls_is_told(examined, key, hello, words):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_plain, args=(listener, hello))
        answering.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        status, findings = examined("gigachat", "--base-url", url, "--timeout", "0.5")

        answering.join()
    assert status == 1
    assert re.match(words, step(findings, "tls")["said"])


def _plain(listener, hello):
    """Answer the TLS greeting with other bytes, or wait until the client has left."""
    listener.accept()[0].close()  # the look at the port
    sock, _ = listener.accept()
    with sock:
        sock.recv(65536)
        if hello == b"reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif hello is not None:
            sock.sendall(hello)
        else:
            sock.recv(1)


# Proxies


@pytest.mark.parametrize(
    ("status_line", "advice"),
    [("407 Proxy Authentication Required", "user:password"), ("403 Forbidden", "NO_PROXY")],
)
def test_a_proxy_that_refuses_is_told(
    serve, examined, key, monkeypatch, status_line, advice
):
    proxy = serve(answer("", status_line, Connection="close"))
    address = proxy.url.replace("//", "//ada:passw0rd@")
    monkeypatch.setenv("HTTPS_PROXY", address)

    status, findings = examined("gigachat", "--base-url", "https://chat.invalid/v1")

    found = step(findings, "proxy")
    assert status == 1 and found["ok"] is False
    assert "no tunnel to chat.invalid:443" in found["said"] and status_line[:3] in found["said"]
    assert advice in found["advice"]
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].headers["Proxy-Authorization"] == "Basic YWRhOnBhc3N3MHJk"
    assert "passw0rd" not in json.dumps(findings)


def test_a_proxy_that_is_not_there_is_told(examined, key, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")

    status, findings = examined("gigachat", "--base-url", "https://chat.invalid/v1")

    assert (status, step(findings, "tcp")["ok"]) == (1, False)


@pytest.mark.parametrize("scheme", ["socks5", "https"])
def test_behind_other_proxies_the_call_has_to_look(examined, key, monkeypatch, scheme):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")

        status, findings = examined(
            "gigachat", "--base-url", "https://chat.invalid/v1", "--no-call"
        )

    assert status == 0
    assert [(one["step"], one["ok"]) for one in findings[1:]] == [
        ("proxy", None), ("dns", True), ("tcp", True), ("proxy", None), ("call", None),
    ]
    assert step(findings, "proxy")["where"] == f"{scheme}://127.0.0.1:{port}"


def test_what_is_no_proxy_is_told(examined, key, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_plain, args=(listener, b"SSH-2.0-server\r\n"))
        answering.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")

        status, findings = examined("gigachat", "--base-url", "https://chat.invalid/v1")

        answering.join()
    assert status == 1
    assert "Is that a proxy?" in step(findings, "proxy")["advice"]


@pytest.mark.chat_network  # by way of a proxy on this machine, which goes no further
def test_a_plain_address_behind_a_proxy_needs_no_tunnel(serve, examined, key, monkeypatch):
    proxy = serve(said("Hi"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)

    status, findings = examined("gigachat", "--base-url", "http://chat.invalid/v1")

    assert status == 0
    assert [request.method for request in proxy.requests] == ["POST"]


def tunnel(peer):
    """Answer CONNECT with a way to the host."""
    host, _, port = peer.request.target.partition(":")
    with socket.create_connection((host, int(port))) as onward:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _exchange(peer.sock, onward)
    peer.hang_up()


def _exchange(one, other):
    """Pass on what comes from either side until one of them ends."""
    import select

    pairs = {one: other, other: one}
    while True:
        for ready in select.select(pairs, [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            pairs[ready].sendall(data)


def test_certificates_are_looked_at_through_a_proxys_tunnel(
    serve, examined, key, authority, ca_file, monkeypatch
):
    server = serve(said("Hi"), tls=authority.issue_cert("127.0.0.1", not_after=YESTERDAY))
    proxy = serve(tunnel)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    status, findings = examined("gigachat", "--base-url", server.url)

    tunnels = [one["ok"] for one in findings if one["step"] == "proxy"]
    assert (status, tunnels) == (1, [None, True])
    assert "ended on" in step(findings, "tls")["said"]
    assert {request.method for request in proxy.requests} == {"CONNECT"}


# The call


@pytest.mark.parametrize(
    ("reply", "said_", "advice"),
    [
        (document({"message": "no"}, "401 Unauthorized"), "AuthenticationError", "current"),
        (document({"message": "no"}, "404 Not Found"), "NotFoundError", "chatsdk models"),
        (document({"message": "no"}, "429 Too Many"), "RateLimitError", "limits"),
        (document({"message": "no"}, "503 Busy"), "ServerError", "status page"),
        (answer("<html>", Content_Type="text/html"), "ProtocolError", "base URL"),
    ],
)
def test_a_call_that_fails_is_told_with_what_to_do(serve, examined, key, reply, said_, advice):
    server = serve(reply)

    status, findings = examined("gigachat", "--base-url", server.url)

    found = step(findings, "call")
    assert (status, found["ok"]) == (1, False)
    assert said_ in found["said"] and advice in found["advice"]
    assert "t0ken" not in json.dumps(findings)


# What is printed


def test_in_a_pipe_each_finding_is_a_line_and_advice_stands_below(capsys, key):
    assert main(["doctor", "gigachat", "--base-url", f"http://127.0.0.1:{closed_port()}"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      key    gigachat: GIGACHAT_ACCESS_TOKEN"
    assert lines[2].startswith("FAILED  tcp    127.0.0.1:")
    assert lines[3].lstrip().startswith("-> ")


def test_on_a_terminal_failures_stand_out(key):
    person = Person("doctor", "gigachat", "--base-url", f"http://127.0.0.1:{closed_port()}")

    assert person.leaves() == 1
    assert "\x1b[1;31mFAILED  tcp " in person.screen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gigachatt"], "did you mean 'gigachat'"),
        ([], "no TARGET"),
        (["gigachat", "--timeout", "0"], "above 0"),
        (["gigachat", "--base-url", "chat"], "must look like"),
    ],
)
def test_a_mistake_is_status_2(capsys, arguments, words):
    assert main(["doctor", *arguments]) == 2
    assert words in capsys.readouterr().err
