"""What is sent and by which way: proxies, certificates, cookies, kept connections."""

from __future__ import annotations

from contextlib import suppress
import os
import re
import shutil
import socket
import threading

import pytest
import requests
from requests.exceptions import InvalidSchema
from servers import answer, chunk, document, frame, gigachat, head, said
import trustme

from chatsdk import __version__, Client, Limits, MemoryTokenStore, RetryPolicy, Timeout
from chatsdk.deadlines import Watch
from chatsdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CancelledError,
    ConfigurationError,
    ProtocolError,
    RedirectError,
    StreamInterruptedError,
)
from chatsdk.providers.aura import Aura
from chatsdk.providers.flowgpt import FlowGpt
from chatsdk.providers.gigachat import GigaChat
from chatsdk.providers.h2o import H2o
from chatsdk.responses import Response
from chatsdk.sockets import _POOLS, Adapter, tls_context, watched

pytestmark = pytest.mark.chat_network  # names under .example that nothing is asked for

LINE = '{"event": "text", "data": "Hi"}\n'


def ask(server, **options):
    with Client(gigachat(server), **{"max_retries": 0, "timeout": 10, **options}) as client:
        return client.chat("Hi").text


def fails(kind, server, **options):
    with pytest.raises(kind) as caught:
        ask(server, **options)
    return caught.value


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


# What is sent


def test_we_say_who_we_are(serve):
    server = serve(said("Hi"))

    ask(server)

    headers = server.requests[0].headers
    assert headers["User-Agent"] == f"chatsdk/{__version__} python-requests/{requests.__version__}"
    assert headers["Accept-Encoding"] == "gzip, deflate"
    assert headers["Host"] == f"127.0.0.1:{server.port}"


class Careless(GigaChat):
    """A provider of somebody's own, which puts into a header what it finds."""

    found = None

    def request_headers(self, protocol, extra):
        return {**super().request_headers(protocol, extra), "X-Found": self.found}


@pytest.mark.parametrize("found", ["a\r\nX-Evil: 1", "a\nb", "a\rb", 5, None, b"a", "один"])
def test_a_header_that_cannot_be_sent_is_refused_before_anything_is(serve, monkeypatch, found):
    monkeypatch.setattr(Careless, "found", found)
    server = serve()

    with Client(Careless(access_token="a", base_url=server.url)) as client:
        with pytest.raises(ConfigurationError, match="a header cannot be used"):
            client.chat("Hi")

    assert not server.requests


def test_no_header_is_sent_twice_however_it_is_spelled(serve):
    server = serve(answer("Hi"))
    own = {"user-agent": "me", "CONTENT-LENGTH": "1", "content-type": "a/b", "cookie": "a=b"}
    with Client(Aura(base_url=server.url, headers=own, cookies={"c": "d"})) as client:
        client.chat("Hi")

    (request,) = server.requests  # where a header that came twice would be an error
    assert (request.headers["User-Agent"], request.headers["Cookie"]) == ("me", "a=b")
    assert int(request.headers["Content-Length"]) == len(request.body)


@pytest.mark.parametrize("name", ["Host", "host"])
def test_a_host_of_ones_own_is_sent_instead(serve, name):
    server = serve(answer("Hi"))
    with Client(Aura(base_url=server.url, headers={name: "chat.example"})) as client:
        client.chat("Hi")

    assert server.requests[0].headers["Host"] == "chat.example"


def test_a_host_is_named_with_its_port_unless_that_is_the_usual_one():
    def authority(scheme, host, port, tunnel=None):
        connection = _POOLS[scheme].ConnectionCls(host, port)
        if tunnel is not None:
            connection.set_tunnel(*tunnel)
        return connection._authority("/")

    assert authority("http", "chat.example", 80) == "chat.example"
    assert authority("https", "chat.example", 443) == "chat.example"
    assert authority("https", "chat.example", 80) == "chat.example:80"
    assert authority("http", "::1", 8000) == "[::1]:8000"
    assert authority("http", "::1", 80) == "[::1]"
    assert authority("https", "proxy", 3128, ("chat.example", 443)) == "chat.example"
    assert authority("https", "proxy", 3128, ("chat.example", 8443)) == "chat.example:8443"


def test_a_user_agent_of_ones_own_is_sent_instead(serve):
    server = serve(answer("Hi"))
    with Client(Aura(base_url=server.url, headers={"user-agent": "mine"})) as client:
        client.chat("Hi")

    assert server.requests[0].headers["User-Agent"] == "mine"


def test_a_question_is_sent_in_utf_8_and_not_escaped(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        client.chat("Почему 🙂?")

    assert "Почему 🙂?".encode() in server.requests[0].body
    assert server.requests[0].headers["Content-Type"] == "application/json"


def test_a_netrc_is_never_read(serve, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password passw0rd\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(answer("Hi"), said("Hi"))
    with Client(Aura(base_url=server.url)) as client:
        client.chat("Hi")
    ask(server)

    assert "Authorization" not in server.requests[0].headers
    assert server.requests[1].headers["Authorization"] == "Bearer a-token"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_nothing_to_another_host(serve, status):
    other = serve(said("Hi"))
    location = other.url + "/chat/completions"
    server = serve(answer(b"", f"{status} Elsewhere", Location=location))

    error = fails(RedirectError, server, max_retries=2)

    assert error.location == location and error.status_code == status
    assert other.requests == [] and len(server.requests) == 1


# Cookies


def h2o_that_sets(cookie):
    """Return what H2o answers, with a cookie in its first answer."""
    def play(peer):
        path = peer.request.target
        if path == "/settings":
            return answer(b"", "303 See Other", Location="/", Set_Cookie=cookie)
        if path == "/conversation":
            return document({"conversationId": "c-1"})
        if peer.request.method == "DELETE":
            return answer(b"")
        return answer(
            b'data:{"token":{"text":"Hi","special":false},"generated_text":"Hi"}\n\n',
            Content_Type="text/event-stream",
        )

    return play


def test_cookies_live_as_long_as_one_call(serve):
    server = serve(h2o_that_sets("session=s-1; Path=/"))
    with Client(H2o(base_url=server.url, cookies={"own": "1"})) as client:
        assert [client.chat("Hi").text, client.chat("Hi").text] == ["Hi", "Hi"]

    cookies = [request.headers["Cookie"] for request in server.requests]
    assert cookies[0] == cookies[4] == "own=1"
    for cookie in (*cookies[1:4], *cookies[5:]):
        assert set(cookie.split("; ")) == {"own=1", "session=s-1"}


@pytest.mark.parametrize("cookie", ["a=b; Path=/other", "a=b; Secure", "a=b; Max-Age=0", "=; x"])
def test_a_cookie_for_elsewhere_is_no_header_at_all(serve, cookie):
    server = serve(h2o_that_sets(cookie))
    with Client(H2o(base_url=server.url)) as client:
        assert client.chat("Hi").text == "Hi"

    assert not any("Cookie" in request.headers for request in server.requests)


# Proxies


def test_a_proxy_carries_plain_requests(serve):
    proxy = serve(said("Hi"))

    ask("http://chat.example/api", proxy=proxy.url)

    assert proxy.requests[0].target == "http://chat.example/api/chat/completions"
    assert proxy.requests[0].headers["Host"] == "chat.example"
    assert "Proxy-Authorization" not in proxy.requests[0].headers


def test_a_proxys_credentials_are_for_the_proxy(serve):
    proxy = serve(said("Hi"))

    ask("http://chat.example", proxy=proxy.url.replace("//", "//user:passw0rd@"))

    assert proxy.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNzdzByZA=="
    assert proxy.requests[0].headers["Authorization"] == "Bearer a-token"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_environments_proxy_is_used(serve, monkeypatch, name):
    proxy = serve(said("Hi"))
    monkeypatch.setenv(name, proxy.url)

    ask("http://chat.example")

    assert len(proxy.requests) == 1


def test_the_argument_comes_before_the_environments_proxy(serve, monkeypatch):
    wrong, proxy = serve(answer(b"", "500 No")), serve(said("Hi"))
    monkeypatch.setenv("HTTP_PROXY", wrong.url)
    monkeypatch.setenv("NO_PROXY", "*")

    ask("http://chat.example", proxy=proxy.url)

    assert len(proxy.requests) == 1 and wrong.requests == []


def test_an_empty_proxy_is_none_at_all(serve, monkeypatch):
    wrong, server = serve(answer(b"", "500 No")), serve(said("Hi"))
    monkeypatch.setenv("HTTP_PROXY", wrong.url)

    ask(server, proxy="")

    assert len(server.requests) == 1 and wrong.requests == []


def test_hosts_that_the_environment_excepts_are_reached_directly(serve, monkeypatch):
    wrong, server = serve(answer(b"", "500 No")), serve(said("Hi"))
    monkeypatch.setenv("HTTP_PROXY", wrong.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    ask(server)

    assert len(server.requests) == 1 and wrong.requests == []


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy.example:3128",
        "proxy.example",
        "//proxy.example",
        "http://",
        "http://:3128",
        "http://proxy.example:port",
        "http://proxy.example:99999",
        "http://[::1",
        "ftp://user:passw0rd@proxy.example",
        "user:passw0rd@proxy.example:3128",
    ],
)
def test_a_proxy_that_is_none_is_a_configuration_error(proxy):
    with pytest.raises(ConfigurationError, match="proxy must look like") as caught:
        Client(proxy=proxy)

    assert "passw0rd" not in str(caught.value)


@pytest.mark.parametrize("proxy", [5, b"http://proxy.example", {"http": "http://proxy.example"}])
def test_a_proxy_is_a_str(proxy):
    with pytest.raises(TypeError, match="proxy must be a URL"):
        Client(proxy=proxy)


@pytest.mark.parametrize("proxy", ["ftp://user:passw0rd@proxy.example", "http://[user:passw0rd"])
def test_an_environments_proxy_that_is_none_is_a_configuration_error(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)

    assert "passw0rd" not in str(fails(ConfigurationError, "http://chat.example"))


def test_a_proxy_that_cannot_be_reached_is_tried_again_and_not_named_with_its_password(monkeypatch):
    slept = []
    policy = RetryPolicy(2, sleep=slept.append)

    error = fails(
        APIConnectionError,
        "http://chat.example",
        proxy=f"http://user:passw0rd@127.0.0.1:{closed_port()}",
        max_retries=policy,
    )

    assert len(slept) == 2 and error.retryable
    assert "passw0rd" not in f"{error} {error.__cause__} {error.__cause__!r}"


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_a_socks_proxy_needs_an_extra(monkeypatch, scheme):
    def missing(*args, **options):
        raise InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", missing)

    error = fails(ConfigurationError, "http://chat.example", proxy=f"{scheme}://127.0.0.1:1080")

    assert "chatsdk[socks]" in str(error)


class Socks:
    """A SOCKS5 proxy without names and passwords, for one connection after the other.

    Attributes:
        wanted: Where the connections wanted to go.
    """

    def __init__(self, silent=False):
        self.wanted = []
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return f"socks5h://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *details):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock:
                    sock.settimeout(20)
                    if self._silent:
                        sock.recv(65536)
                        while sock.recv(65536):
                            pass
                        continue
                    self._serve(sock)

    def _serve(self, sock):
        sock.recv(2 + sock.recv(2)[1])
        sock.sendall(b"\x05\x00")
        length = sock.recv(5)[4]
        host = sock.recv(length)
        port = int.from_bytes(sock.recv(2), "big")
        self.wanted.append((host.decode(), port))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as other:
            sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_pump, args=(other, sock), daemon=True)
            back.start()
            _pump(sock, other)
            back.join(20)


def test_a_socks_proxy_carries_plain_requests(serve):
    server, proxy = serve(said("Hi")), Socks()
    with proxy as url, Client(gigachat(f"http://chat.example:{server.port}"), proxy=url) as client:
        assert client.chat("Hi").text == "Hi"
        assert client.chat("Hi").text == "Hi"

    assert proxy.wanted == [("chat.example", server.port)]
    assert server.connections == 1


def test_a_socks_proxy_carries_tls(secure, ca_file):
    server, proxy = secure(said("Hi")), Socks()
    with proxy as url:
        assert ask(f"https://localhost:{server.port}", proxy=url, verify=ca_file) == "Hi"

    assert proxy.wanted == [("localhost", server.port)]


def test_a_call_through_a_socks_proxy_keeps_to_its_timeouts(serve):
    server = f"http://localhost:{serve(lambda peer: peer.gone()).port}"
    with Socks() as url:
        error = fails(APITimeoutError, server, proxy=url, timeout=Timeout(first=0.1))
    assert error.phase == "first"

    with Socks(silent=True) as url:
        error = fails(APITimeoutError, server, proxy=url, timeout=Timeout(connect=0.1))
    assert error.phase == "connect" and error.retryable


def test_a_socks_proxy_that_cannot_be_reached_is_no_connection():
    proxy = f"socks5://user:passw0rd@127.0.0.1:{closed_port()}"

    error = fails(APIConnectionError, "http://127.0.0.1:9", proxy=proxy)

    assert error.retryable and "passw0rd" not in f"{error} {error.__cause__!r}"


def tunnel(peer):
    """Answer CONNECT with a connection to where it wants to go."""
    assert peer.request.method == "CONNECT"
    host, _, port = peer.request.target.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=20) as other:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(other, peer.sock), daemon=True)
        back.start()
        _pump(peer.sock, other)
        back.join(20)
    peer.hang_up()


def _pump(source, sink):
    try:
        for data in iter(lambda: source.recv(65536), b""):
            sink.sendall(data)
    except OSError:
        pass
    for sock in (source, sink):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.fixture
def secure(serve, authority):
    """Start servers with a certificate for this machine."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    return lambda *answers: serve(*answers, tls=certificate)


def test_a_proxy_is_a_tunnel_for_tls(serve, secure, ca_file):
    server, proxy = secure(said("Hi")), serve(tunnel)
    credentials = proxy.url.replace("//", "//user:passw0rd@")

    assert ask(server, proxy=credentials, verify=ca_file) == "Hi"

    (connect,) = proxy.requests
    assert connect.target == f"127.0.0.1:{server.port}"
    assert connect.headers["Proxy-Authorization"].startswith("Basic ")
    assert "Authorization" not in connect.headers
    assert "Proxy-Authorization" not in server.requests[0].headers


def test_a_new_connection_in_place_of_a_kept_one_goes_through_the_tunnel_too(
    serve, secure, ca_file
):
    server, proxy = secure(said("Hi")), serve(tunnel)
    request = requests.Request("GET", server.url).prepare()
    adapter, context = Adapter(Response), tls_context(ca_file, None)
    try:
        for fresh in (False, True):
            watch = Watch(Timeout())
            watch.fresh = fresh
            with watched(watch):
                response = adapter.send(
                    request, stream=True, verify=context, proxies={"https": proxy.url}
                )
            response.attend(watch, Limits(), lambda error: error)
            assert response.content and not watch.reused
    finally:
        adapter.close()

    assert [connect.target for connect in proxy.requests] == 2 * [f"127.0.0.1:{server.port}"]


def test_a_proxy_may_speak_tls_itself(serve, secure, authority, ca_file, monkeypatch):
    server = secure(said("Hi"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    proxy = secure(tunnel)

    assert ask(server, proxy=proxy.url.replace("127.0.0.1", "localhost")) == "Hi"
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status, tries", [(407, 1), (403, 1), (503, 3)])
def test_a_tunnel_that_is_refused_is_told_by_its_status(serve, status, tries):
    proxy = serve(answer(b"", f"{status} No", Connection="close"))

    error = fails(
        APIConnectionError,
        "https://chat.example",
        proxy=proxy.url,
        max_retries=RetryPolicy(2, sleep=lambda seconds: None),
    )

    assert error.reason == f"the proxy refused the way to gigachat at chat.example with {status}"
    assert "check the proxy's address" in error.advice
    assert len(proxy.requests) == tries


def test_a_plain_request_that_a_proxy_refuses_is_told_by_its_status(serve):
    proxy = serve(answer(b"", "407 Proxy Authentication Required"))

    assert fails(APIStatusError, "http://chat.example", proxy=proxy.url).status_code == 407


# Certificates


def test_a_certificate_that_nobody_trusts_is_refused_once(secure):
    server = secure(said("Hi"))

    error = fails(APIConnectionError, server, max_retries=2)

    assert error.reason.startswith("the certificate of gigachat at 127.0.0.1:")
    assert "is not trusted" in error.reason and not error.retryable
    assert "verify=" in error.advice
    assert server.requests == [] and server.connections == 1


def test_a_ca_file_of_ones_own_is_trusted(secure, ca_file, tmp_path):
    server = secure(said("Hi"))

    assert ask(server, verify=ca_file) == "Hi"
    path = tmp_path / "ca.pem"
    shutil.copy(ca_file, path)
    assert ask(server, verify=path) == "Hi"


def test_a_ca_file_of_the_providers_own_is_trusted(secure, ca_file):
    server = secure(said("Hi"))
    with Client(gigachat(server, ca_bundle_file=ca_file)) as client:
        assert client.chat("Hi").text == "Hi"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_roots_take_the_place_of_the_common_ones(
    secure, ca_file, monkeypatch, name
):
    monkeypatch.setenv(name, ca_file)

    assert ask(secure(said("Hi"))) == "Hi"
    assert ask(secure(said("Hi")), verify=True) == "Hi"


def test_the_environments_roots_never_replace_those_that_were_given(
    secure, ca_file, monkeypatch, tmp_path
):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    assert ask(secure(said("Hi")), verify=ca_file) == "Hi"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    fails(APIConnectionError, secure(said("Hi")), verify=str(other))


def test_the_clients_choice_comes_before_the_providers(secure, ca_file, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    server = secure(said("Hi"))
    provider = gigachat(server, ca_bundle_file=str(other))
    with Client(provider, verify=ca_file) as client:
        assert client.chat("Hi").text == "Hi"
    with Client(provider, max_retries=0) as client, pytest.raises(APIConnectionError):
        client.chat("Hi")


def test_a_certificate_for_another_host_is_refused(serve, authority, ca_file):
    server = serve(said("Hi"), tls=authority.issue_cert("elsewhere.example"))

    assert "not trusted" in str(fails(APIConnectionError, server, verify=ca_file))


def test_checking_can_be_switched_off_for_one_client_and_is_warned_of_once(secure, caplog):
    server = secure(said("Hi"))
    with Client(gigachat(server), verify=False, max_retries=0) as client:
        assert client.chat("Hi").text == "Hi"
        client.close()
        assert client.with_options(timeout=5).chat("Hi").text == "Hi"
        with Client(gigachat(server), max_retries=0) as other:
            with pytest.raises(APIConnectionError):
                other.chat("Hi")

    (record,) = [record for record in caplog.records if "verify=False" in record.getMessage()]
    assert record.levelname == "WARNING"


def test_a_ca_file_that_is_none_is_a_configuration_error(tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate\n")

    for path in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigurationError, match="no certificates can be read"):
            Client(verify=str(tmp_path / path))


@pytest.mark.parametrize("bad", [5, [True], b"ca.pem"])
def test_verify_is_a_bool_or_a_file(bad, tmp_path):
    if isinstance(bad, bytes):
        bad = [bad]
    with pytest.raises(TypeError, match="verify must be"):
        Client(verify=bad)


def test_a_tls_connection_is_kept_and_shared(secure, ca_file):
    server = secure(said("Hi"))
    with Client(gigachat(server), verify=ca_file) as client:
        for _ in range(3):
            assert client.chat("Hi").text == "Hi"

    assert server.connections == 1


def test_a_read_over_tls_is_ended_by_another_thread(secure, ca_file):
    waiting = threading.Event()

    def hang(peer):
        peer.send(head(), chunk(frame("one")))
        waiting.set()
        peer.gone()

    server = secure(hang)
    with Client(gigachat(server), verify=ca_file) as client:
        stream = client.stream("Hi")
        assert next(stream) == "one"

        def close():
            assert waiting.wait(20)
            stream.close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(CancelledError):
            next(stream)
        thread.join(20)
        assert server.settled(0)


def test_a_large_question_goes_out_over_tls(secure, ca_file):
    server = secure(said("Hi"))
    with Client(gigachat(server), verify=ca_file) as client:
        client.chat("x" * 3_000_000)

    assert len(server.requests[0].body) > 3_000_000


def test_plain_text_where_tls_is_expected_is_a_connection_error():
    def play():
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=play)
        thread.start()
        error = fails(APIConnectionError, f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(20)

    assert "no connection to gigachat" in str(error)


def test_a_stalled_handshake_is_a_connect_timeout_and_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slept = []
        error = fails(
            APITimeoutError,
            f"https://127.0.0.1:{silent.getsockname()[1]}",
            timeout=Timeout(connect=0.1),
            max_retries=RetryPolicy(2, sleep=slept.append),
        )

    assert error.phase == "connect" and error.retryable
    assert len(slept) == 2


def test_a_stalled_tunnel_is_a_connect_timeout(serve):
    proxy = serve(lambda peer: peer.gone())

    error = fails(
        APITimeoutError, "https://chat.example", proxy=proxy.url, timeout=Timeout(connect=0.1)
    )

    assert error.phase == "connect" and error.retryable


# Kept connections


def test_a_connection_is_kept_for_the_next_call(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        for _ in range(5):
            client.chat("Hi")

    assert server.connections == 1


def closing(peer):
    """Answer well, and close the connection without having said so."""
    peer.send(said("Hi"))
    peer.hang_up()


@pytest.mark.parametrize("retries", [0, 2])
def test_a_connection_that_was_closed_while_idle_is_replaced(serve, retries, caplog):
    server = serve(closing, said("Hi"))
    with Client(gigachat(server), max_retries=retries) as client:
        client.chat("Hi")
        assert server.settled(0)
        assert client.chat("Hi").text == "Hi"

    assert len(server.requests) == 2
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("die", ["hang_up", "reset"])
def test_a_kept_connection_that_dies_unanswered_is_replaced_once_and_silently(serve, die, caplog):
    server = serve(said("Hi"), lambda peer: getattr(peer, die)(), said("again"))
    with Client(gigachat(server), max_retries=1) as client:
        client.chat("Hi")
        assert client.chat("Hi").text == "again"

    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_kept_connection_that_dies_is_not_replaced_without_retries(serve):
    server = serve(said("Hi"), lambda peer: peer.hang_up(), said("again"))
    with Client(gigachat(server), max_retries=0) as client:
        client.chat("Hi")
        with pytest.raises(APIConnectionError):
            client.chat("Hi")

    assert len(server.requests) == 2


def test_the_connection_that_replaces_a_dead_one_is_not_replaced_again(serve, caplog):
    slept = []
    dead = [lambda peer: peer.hang_up()] * 2
    server = serve(said("Hi"), *dead, said("again"))
    with Client(gigachat(server), max_retries=RetryPolicy(1, sleep=slept.append)) as client:
        client.chat("Hi")
        assert client.chat("Hi").text == "again"

    assert len(slept) == 1 and len(server.requests) == 4


def test_a_replacement_takes_no_other_kept_connection(serve):
    """What kept one connection from answering may be true of all that are as old."""
    both = threading.Barrier(2)

    def together(peer):
        both.wait(20)
        return said("Hi")

    server = serve(together, together, lambda peer: peer.hang_up(), said("again"))
    with Client(gigachat(server), max_retries=1) as client:
        threads = [threading.Thread(target=client.chat, args=("Hi",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert client.chat("Hi").text == "again"

    assert server.requests[-1].connection == 3


def test_a_kept_connection_that_dies_within_its_head_is_not_replaced(serve):
    def cut(peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
        peer.hang_up()

    server = serve(said("Hi"), cut, said("again"))
    slept = []
    with Client(gigachat(server), max_retries=RetryPolicy(1, sleep=slept.append)) as client:
        client.chat("Hi")
        assert client.chat("Hi").text == "again"

    assert len(slept) == 1


@pytest.mark.parametrize(
    "cut",
    [b"H", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: text/e"],
)
def test_a_head_that_is_not_whole_is_no_empty_answer(serve, cut):
    def play(peer):
        peer.send(cut)
        peer.hang_up()

    server = serve(play)
    with Client(Aura(base_url=server.url), max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            client.chat("Hi")

    assert caught.value.retryable


def test_what_follows_an_early_hint_is_never_the_next_answer(serve):
    def early(peer):
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        return b""

    def again(peer):
        if peer.request.connection == 1:
            peer.send(said("wrong"))
        return said("right")

    server = serve(early)
    with Client(gigachat(server), max_retries=0, timeout=5) as client:
        with pytest.raises((APIStatusError, APITimeoutError)):
            client.chat("Hi", timeout=Timeout(total=2))
        server.answers[:] = [again]
        assert client.chat("Hi").text == "right"


def test_a_connection_with_an_unread_answer_is_not_used_again(serve):
    server = serve(answer(b"x" * 10_000, "400 No"), said("Hi"))
    limits = Limits(error_body_bytes=10)
    with Client(gigachat(server), max_retries=0, limits=limits) as client:
        with pytest.raises(APIStatusError):
            client.chat("Hi")
        assert client.chat("Hi").text == "Hi"


# Broken bodies


@pytest.mark.parametrize(
    "broken",
    [
        b"-5\r\nhello\r\n",
        b"8000000000000000\r\nhello\r\n",
        b"zz\r\nhello\r\n",
        b"\r\n",
        b"5\r\nhel",
    ],
)
def test_a_chunk_that_is_none_is_a_broken_answer(serve, broken):
    def play(peer):
        peer.send(head(), chunk(frame("one")), broken)
        peer.hang_up()

    error = fails(StreamInterruptedError, serve(play))

    assert error.partial.text == "one" and error.retryable


def test_the_whole_events_of_a_broken_chunk_are_not_lost(serve):
    def play(peer):
        events = frame("one") + frame("two") + frame("three")
        peer.send(head(), chunk(events)[:-10])
        peer.hang_up()

    assert fails(StreamInterruptedError, serve(play)).partial.text == "onetwo"


def test_a_body_shorter_than_its_length_is_a_broken_answer(serve):
    def play(peer):
        peer.send(answer("Hello", Content_Type="text/plain")[:-2])
        peer.hang_up()

    server = serve(play)
    with Client(Aura(base_url=server.url), max_retries=0) as client:
        with pytest.raises(StreamInterruptedError) as caught:
            client.chat("Hi")

    assert caught.value.partial.text == "Hel"


def test_a_token_answer_without_end_is_bounded(serve):
    auth = serve(document({"access_token": "x" * 1000}))
    options = {
        "api_key": "a-key", "base_url": "http://chat.example", "auth_url": auth.url,
        "token_store": MemoryTokenStore(), "limits": Limits(frame_bytes=500), "max_retries": 0,
    }
    with Client("gigachat", **options) as client:
        with pytest.raises(ProtocolError, match="longer than 500 bytes"):
            client.chat("Hi")


def test_what_cannot_be_sent_is_an_error_of_ours_and_shows_no_value(serve):
    server = serve(said("Hi"))
    with Client(gigachat(server)) as client:
        for headers in ({"X-Key": " passw0rd"}, {"X-Key": "passw0rd\n"}, {" X": "passw0rd"}):
            with pytest.raises(ConfigurationError) as caught:
                client.chat("Hi", extra_headers=headers)
            assert "passw0rd" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example", "пример..рф"])
def test_a_host_that_no_name_can_be_is_a_configuration_error(host):
    slept = []
    error = fails(
        ConfigurationError, f"http://{host}", max_retries=RetryPolicy(sleep=slept.append)
    )

    assert slept == [] and "address" in str(error)


def test_a_host_that_nobody_knows_is_tried_again(monkeypatch):
    def nobody(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    slept = []
    error = fails(
        APIConnectionError,
        "http://chat.example",
        max_retries=RetryPolicy(2, sleep=slept.append),
    )

    assert len(slept) == 2 and "no connection to gigachat" in str(error)


def test_a_name_that_leads_nowhere_at_first_is_tried_at_its_next_address(serve, monkeypatch):
    server = serve(said("Hi"))
    family, kind = socket.AF_INET, socket.SOCK_STREAM
    addresses = [
        (family, kind, 6, "", ("127.0.0.1", port)) for port in (closed_port(), server.port)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: addresses)

    assert ask("http://chat.example") == "Hi"


def test_a_name_without_an_address_is_no_connection(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [])

    assert "the host has no address" in str(fails(APIConnectionError, "http://chat.example"))


def test_no_query_is_logged(serve, caplog):
    caplog.set_level("DEBUG", logger="chatsdk")
    visitor = document({"code": 200, "data": "visitor"})
    server = serve(visitor, answer('{"data": {"message": "Hi"}}\n'))
    with Client("aichatonline", base_url=server.url) as client:
        assert client.chat("Hi").text == "Hi"

    assert "canvas" in server.requests[0].target
    assert "canvas" not in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]
    assert re.fullmatch(
        rf"GET 127.0.0.1:{server.port} /api/v1/user/getUniqueId: 200, \d\.\d{{3}} s", lines[0]
    )
    assert "POST" in lines[1] and "/aichatonline/api/chat/gpt: 200" in lines[1]


def test_a_grant_is_asked_for_by_the_same_way(serve, ca_file, secure):
    """The token's request keeps to the client's proxy and certificates as well."""
    auth = secure(document({"access_token": "one", "expires_at": 4e12}))
    server, proxy = secure(said("Hi")), serve(tunnel)
    provider = GigaChat(api_key="a-key", base_url=server.url, auth_url=auth.url)
    with Client(
        provider, verify=ca_file, proxy=proxy.url, token_store=MemoryTokenStore()
    ) as client:
        assert client.chat("Hi").text == "Hi"

    assert len(proxy.requests) == 2
    assert os.path.basename(ca_file) == "ca.pem"


def granted(server, auth, **options):
    """Return a client that needs a token."""
    provider = GigaChat(api_key="a-key-of-its-own", base_url=server.url, auth_url=auth.url)
    return Client(provider, **{"token_store": MemoryTokenStore(), "max_retries": 0, **options})


TOKEN = document({"access_token": "one-token", "expires_at": 4e12})


def test_a_call_may_be_over_before_its_token_is_here(serve):
    auth, server = serve(lambda peer: peer.gone()), serve(said("Hi"))
    with granted(server, auth) as client, pytest.raises(APITimeoutError) as caught:
        client.chat("Hi", timeout=Timeout(total=0.1))

    assert caught.value.phase == "total" and caught.value.provider == "gigachat"
    assert server.requests == []


def test_who_waits_for_a_token_that_another_asks_for_keeps_to_its_own_time(serve):
    asked, go = threading.Event(), threading.Event()

    def slow(peer):
        asked.set()
        peer.wait(go)
        return TOKEN

    auth, server = serve(slow), serve(said("Hi"))
    with granted(server, auth) as client:
        found = []
        thread = threading.Thread(target=lambda: found.append(client.chat("Hi").text))
        thread.start()
        assert asked.wait(20)
        with pytest.raises(APITimeoutError, match="no token for gigachat in time") as caught:
            client.chat("Hi", timeout=Timeout(total=0.1))
        go.set()
        thread.join(20)

    assert caught.value.phase == "total"
    assert found == ["Hi"] and len(auth.requests) == 1


def test_a_call_that_gives_up_on_its_token_does_not_fail_those_who_wait_for_it(serve):
    asked = threading.Event()

    def hang(peer):
        asked.set()
        peer.gone()

    auth, server = serve(hang, TOKEN), serve(said("Hi"))
    errors = []
    with granted(server, auth) as client:
        def leave():
            try:
                client.chat("Hi", timeout=Timeout(total=1))
            except APITimeoutError as error:
                errors.append(error.phase)

        thread = threading.Thread(target=leave)
        thread.start()
        assert asked.wait(20)
        assert client.chat("Hi").text == "Hi"
        thread.join(20)

    assert errors == ["total"] and len(auth.requests) == 2


def test_an_issuer_that_gives_the_refused_token_again_is_told(serve):
    auth, server = serve(TOKEN), serve(answer(b"", "401 No"))
    with granted(server, auth) as client, pytest.raises(AuthenticationError) as caught:
        client.chat("Hi")

    assert caught.value.status_code == 401 and "one-token" not in str(caught.value)
    assert len(server.requests) == 1


def test_an_issuer_that_does_not_answer_in_time_is_asked_again(serve):
    auth, server = serve(lambda peer: peer.gone(), TOKEN), serve(said("Hi"))
    policy = RetryPolicy(1, sleep=lambda seconds: None)
    with granted(server, auth, max_retries=policy, timeout=Timeout(first=0.5)) as client:
        assert client.chat("Hi").text == "Hi"

    assert len(auth.requests) == 2 and len(server.requests) == 1


def test_a_refused_key_is_told_with_the_issuers_words(serve):
    auth = serve(document({"code": 6, "message": "credentials doesn't match db data"}, "401 No"))
    with granted(serve(said("Hi")), auth) as client, pytest.raises(AuthenticationError) as caught:
        client.chat("Hi")

    assert "credentials doesn't match db data" in str(caught.value)


def test_a_signature_is_fresh_for_each_attempt(serve):
    server = serve(answer(b"", "503 No"), answer(LINE))
    with Client(
        FlowGpt(base_url=server.url), max_retries=RetryPolicy(sleep=lambda seconds: None)
    ) as client:
        client.chat("Hi")

    first, second = (request.headers["x-nonce"] for request in server.requests)
    assert first != second
