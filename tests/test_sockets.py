"""Connections under a watch: how they are made, bounded, ended and kept."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading

import pytest
import requests
from servers import answer

from chatsdk import Limits, Timeout
from chatsdk.deadlines import Watch
from chatsdk.errors import ConfigurationError
from chatsdk.responses import Response
from chatsdk.sockets import _Answer, Adapter, tls_context, watched

pytestmark = pytest.mark.chat_network  # names under .example that nothing is asked for


@pytest.fixture
def adapter():
    made = Adapter(Response)
    yield made
    made.close()


def get(adapter, url, watch=None, verify=None, **options):
    request = requests.Request("GET", url).prepare()
    if watch is None:
        return attended(adapter.send(request, stream=True, verify=verify, **options))
    with watched(watch):
        return attended(adapter.send(request, stream=True, verify=verify, **options), watch)


def attended(response, watch=None):
    """Return a response as a call has it."""
    return response.attend(watch or Watch(Timeout()), Limits(), lambda error: error)


# The adapter


def test_answers_are_responses_of_our_kind(adapter, serve):
    response = get(adapter, serve(answer("Hi")).url)

    assert type(response) is Response and response.status_code == 200
    assert (response.headers["Content-Length"], response.content) == ("2", b"Hi")


def test_a_response_can_be_read_in_every_way(adapter, serve):
    url = serve(answer("один\r\nдва\n")).url

    assert list(get(adapter, url).iter_lines()) == ["один".encode(), "два".encode()]
    assert list(get(adapter, url).iter_lines(decode_unicode=True)) == ["один", "два"]
    assert list(get(adapter, url).iter_lines(delimiter=b" ", decode_unicode=True)) == [
        "один\r\nдва\n"
    ]
    assert "".join(get(adapter, url).iter_content(3, decode_unicode=True)).startswith("о")
    assert b"".join(get(adapter, url).iter_content(None)) == "один\r\nдва\n".encode()
    response = get(adapter, url)
    response.hurry()
    assert response.content_within(100) and response.exhausted


def test_a_request_of_nobodys_call_goes_over_tls_too(adapter, serve, authority, ca_file):
    server = serve(answer("Hi"), tls=authority.issue_cert("127.0.0.1"))
    request = requests.Request("POST", server.url, data=b"x" * 3_000_000).prepare()

    response = attended(adapter.send(request, stream=True, verify=tls_context(ca_file, None)))

    assert response.content == b"Hi" and len(server.requests[0].body) == 3_000_000


def test_closing_the_adapter_closes_idle_connections_also_while_a_response_lives(adapter, serve):
    server = serve(answer("Hi"))
    response = get(adapter, server.url)
    assert response.content == b"Hi"
    assert server.settled(1)

    adapter.close()

    assert server.settled(0) and response.status_code == 200


def test_hosts_and_certificates_have_pools_of_their_own(adapter):
    def key(url, context=None):
        prepared = requests.Request("GET", url).prepare()
        return adapter.build_connection_pool_key_attributes(prepared, context)

    host, options = key("https://user@Host.example:8443/path?a=b", "context")
    assert host == {"scheme": "https", "host": "host.example", "port": 8443}
    assert options == {"ssl_context": "context"}
    assert key("http://host.example")[0]["port"] is None


def test_the_pools_of_a_proxy_are_ours_too_and_made_once(adapter):
    manager = adapter.proxy_manager_for("http://user:pass@proxy.example:3128")

    assert manager is adapter.proxy_manager_for("http://user:pass@proxy.example:3128")
    assert manager.pool_classes_by_scheme is adapter.poolmanager.pool_classes_by_scheme
    assert "Proxy-Authorization" in manager.proxy_headers
    adapter.close()


def test_a_proxy_that_speaks_tls_is_checked_against_the_common_roots(adapter):
    manager = adapter.proxy_manager_for("https://proxy.example")

    assert manager.proxy_config.ssl_context.verify_mode == ssl.CERT_REQUIRED


# Watched connections


def test_a_watch_goes_from_one_phase_to_the_next(adapter, serve):
    watch = Watch(Timeout())
    response = get(adapter, serve(answer("Hi")).url, watch)

    assert watch.phase == "first" and watch.answered and not watch.cut
    assert not watch.reused
    assert response.content == b"Hi"


def test_a_watch_learns_whether_its_connection_is_a_kept_one(adapter, serve):
    server = serve(answer("Hi"))
    get(adapter, server.url, Watch(Timeout())).content
    watch, fresh = Watch(Timeout()), Watch(Timeout())
    fresh.fresh = True

    get(adapter, server.url, watch).content
    assert watch.reused and server.connections == 1
    get(adapter, server.url, fresh).content
    assert not fresh.reused and server.connections == 2


def test_each_wait_asks_the_watch_that_is_in_charge(adapter, serve):
    """A server that sends a byte now and then is never too late for a timeout of requests."""
    now = [0.0]
    watch = Watch(Timeout(first=10), clock=lambda: now[0])

    def drip(peer):
        for byte in answer("Hi"):
            now[0] += 1
            peer.send(bytes([byte]))
        peer.gone()

    with pytest.raises(requests.RequestException):
        get(adapter, serve(drip).url, watch)

    assert watch.expired() == "first"


def test_a_watch_is_in_charge_only_of_what_its_thread_sends(adapter, serve):
    server = serve(answer("Hi"))
    over = Watch(Timeout(), clock=lambda: 0.0)
    over.deadline = -1.0
    with watched(over):
        thread = threading.Thread(target=lambda: found.append(get(adapter, server.url).content))
        found = []
        thread.start()
        thread.join(20)
        with pytest.raises(requests.RequestException):
            get(adapter, server.url)

    assert found == [b"Hi"]
    assert get(adapter, server.url).content == b"Hi"


def test_a_cancelled_watch_connects_no_more(adapter, serve):
    server = serve(answer("Hi"))
    watch = Watch(Timeout())
    watch.cancel()

    with pytest.raises(requests.RequestException):
        get(adapter, server.url, watch)

    assert server.requests == []


def test_a_watch_that_hangs_up_ends_a_read(adapter, serve):
    asked = threading.Event()

    def hang(peer):
        asked.set()
        peer.gone()

    watch = Watch(Timeout())

    def cancel():
        assert asked.wait(20)
        watch.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(requests.RequestException):
        get(adapter, serve(hang).url, watch)
    thread.join(20)

    assert watch.cancelled


def addresses(monkeypatch, *ports):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_each_address_has_a_wait_of_its_own(adapter, serve, monkeypatch):
    server = serve(answer("Hi"))
    addresses(monkeypatch, closed_port(), closed_port(), server.port)
    began = []
    watch = Watch(Timeout())
    begin = watch.begin
    monkeypatch.setattr(watch, "begin", lambda phase: (began.append(phase), begin(phase)))

    get(adapter, "http://chat.example", watch).content

    assert began == ["connect"] * 3 + ["first"]


def test_no_further_address_is_tried_when_the_call_is_over(adapter, monkeypatch):
    addresses(monkeypatch, closed_port(), closed_port())
    watch = Watch(Timeout(), clock=lambda: 0.0)
    tried = []

    def refuse(sock, address):
        tried.append(address)
        watch.deadline = 0.0
        raise ConnectionRefusedError

    monkeypatch.setattr("chatsdk.sockets._Socket.connect", refuse, raising=False)
    with pytest.raises(requests.RequestException):
        get(adapter, "http://chat.example", watch)

    assert len(tried) == 1


def test_ctrl_c_while_connecting_leaves_no_socket(adapter, serve, monkeypatch):
    made = []

    def interrupted(sock, address):
        made.append(sock)
        raise KeyboardInterrupt

    monkeypatch.setattr("chatsdk.sockets._Socket.connect", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        get(adapter, serve(answer("Hi")).url, Watch(Timeout()))

    assert [sock.fileno() for sock in made] == [-1]


def test_a_connection_of_nobodys_call_is_bounded_too(adapter, monkeypatch):
    timeouts = []

    def refuse(sock, address):
        timeouts.append(sock.gettimeout())
        raise TimeoutError

    monkeypatch.setattr("chatsdk.sockets._Socket.connect", refuse, raising=False)
    with pytest.raises(requests.ConnectTimeout):
        get(adapter, "http://127.0.0.1:9")

    assert 9 < timeouts[0] <= 10


# TLS contexts


def test_tls_is_checked_by_default():
    context = tls_context(None, None)

    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50


def test_tls_can_be_unchecked():
    context = tls_context(False, "never read")

    assert context.verify_mode == ssl.CERT_NONE and not context.check_hostname


def test_a_ca_file_is_trusted_and_nothing_else(ca_file):
    context = tls_context(ca_file, "never read")

    assert len(context.get_ca_certs()) == 1


def test_a_ca_folder_is_trusted(tmp_path):
    assert tls_context(str(tmp_path), None).get_ca_certs() == []


def test_a_root_may_be_trusted_beside_the_common_ones(ca_file):
    common = len(tls_context(None, None).get_ca_certs())
    with open(ca_file) as file:
        assert len(tls_context(None, file.read()).get_ca_certs()) == common + 1


def test_the_environment_may_name_a_ca_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))

    assert tls_context(None, None).get_ca_certs() == []


def test_an_environments_ca_file_that_is_none_is_a_configuration_error(monkeypatch):
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere/ca.pem")

    with pytest.raises(ConfigurationError, match="/nowhere/ca.pem"):
        tls_context(None, None)


# Heads


class Said:
    """A socket that has said something already."""

    def __init__(self, data):
        self._data = data

    def makefile(self, mode):
        return io.BytesIO(self._data)


def head(data, method="POST"):
    answer = _Answer(Said(data), method=method)
    answer.begin()
    return answer


def test_a_head_is_read_as_http_says():
    answer = head(b"HTTP/1.1 200 Fine \r\nContent-Length: 3\r\nX-A: 1\r\nx-a:  2 \r\n\r\nabc")

    assert (answer.status, answer.reason, answer.version) == (200, "Fine", 11)
    assert answer.headers.get_all("X-A") == ["1", "2"]
    assert (answer.length, answer.chunked, answer.will_close) == (3, False, False)


def test_informational_answers_before_it_are_passed_over():
    answer = head(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 204 None\r\n\r\n")

    assert (answer.status, answer.length, answer.headers.get("X")) == (204, 0, None)


@pytest.mark.parametrize(
    "lines, length, closes",
    [
        (b"", None, True),
        (b"Content-Length: 0\r\n", 0, False),
        (b"Content-Length: -1\r\n", None, True),
        (b"Content-Length: 3, 3\r\n", None, True),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", None, True),
        (b"Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n", None, False),
        (b"Content-Length: 3\r\nConnection: close\r\n", 3, True),
        (b"no colon\r\n folded\r\nContent-Length: 3\r\n", 3, False),
    ],
)
def test_how_long_the_body_is_and_whether_the_connection_lasts(lines, length, closes):
    answer = head(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")

    assert (answer.length, answer.will_close) == (length, closes)


def test_a_head_has_a_bounded_number_of_headers_of_bounded_length():
    assert len(head(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100 + b"\r\n").headers) == 100

    with pytest.raises(http.client.HTTPException, match="more than 100 headers"):
        head(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n")
    with pytest.raises(http.client.LineTooLong):
        head(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 2**16 + b"\r\n\r\n")


@pytest.mark.parametrize("version", [b"HTTP/2", b"HTTP/3.0"])
def test_a_version_that_is_not_spoken_is_refused(version):
    with pytest.raises(http.client.UnknownProtocol):
        head(version + b" 200 OK\r\n\r\n")
