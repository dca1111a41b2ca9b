"""The fixtures of all tests, and what must be left behind: no thread, no open socket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import gc
import inspect
import os
import signal
import socket
import threading

import pytest
from servers import Server
import trustme

PREFIXES = (
    "ANTHROPIC_", "AZURE_OPENAI_", "CEREBRAS_", "CHATSDK_", "DEEPSEEK_", "FIREWORKS_", "GEMINI_",
    "GIGACHAT_", "GITHUB_", "GOOGLE_", "GROQ_", "HF_", "HUGGINGFACE_", "LITELLM_", "LLAMACPP_",
    "LMSTUDIO_", "MISTRAL_", "NVIDIA_", "OLLAMA_", "OPENAI_", "OPENROUTER_", "PERPLEXITY_",
    "TOGETHER_", "VLLM_", "XAI_",
)
NAMES = {
    "all_proxy",
    "curl_ca_bundle",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "requests_ca_bundle",
    "ssl_cert_dir",
    "ssl_cert_file",
}


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the children that tests send it to.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    # The plugin's own marker, also where the package was installed before it had the plugin.
    config.addinivalue_line("markers", "chat_network: see chatsdk.pytest_plugin")


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(empty_home):
    """No key, no keyring, no proxy, no CA bundle and no netrc of the machine reaches a test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if name.startswith(PREFIXES) or name.lower() in NAMES:
                monkeypatch.delenv(name)
        for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, str(empty_home))
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
        monkeypatch.setenv("NETRC", str(empty_home / "no-netrc"))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_left():
    """After the last test no thread of ours runs and no socket is open."""
    threads, sockets = set(threading.enumerate()), _open_sockets()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads
    assert not _open_sockets() - sockets


def _open_sockets():
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), socket.socket)]
    return {id(sock) for sock in found if sock.fileno() != -1}


AHEAD = pytest.StashKey()


@pytest.fixture(scope="module", autouse=True)
def begun_ahead(request):
    """Begin the module's tests that are marked ``ahead``, all of them beside the others.

    Such a test waits most of its time.  It runs in a thread, so it has a server of its own and no
    fixture of a function's scope; its outcome is told in its turn.
    """
    items = [item for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(16) as pool:
        for item in items:
            if item.get_closest_marker("ahead"):
                given = dict(item.callspec.params) if hasattr(item, "callspec") else {}
                for name in inspect.signature(item.function).parameters.keys() - given:
                    given[name] = request.getfixturevalue(name)
                item.stash[AHEAD] = pool.submit(item.function, **given)
        yield
        pool.shutdown(cancel_futures=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Tell the outcome of a test that was begun ahead."""
    begun = pyfuncitem.stash.get(AHEAD, None)
    if begun is None:
        return None
    begun.result()
    return True


@pytest.fixture
def serve():
    """Start servers with scripted answers, see `servers.Server`; they are stopped at the end."""
    started = []

    def start(*answers, **options):
        started.append(Server(*answers, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def authority():
    """A certificate authority that nobody trusts yet."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
