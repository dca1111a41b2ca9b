"""The pytest plugin, as the test suites of others meet it: each in a process of its own."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
import subprocess
import sys
import textwrap

import pytest

import chatsdk
from chatsdk import providers
from chatsdk.simulator import SERVICES

pytest_plugins = ["pytester"]

NAMES = sorted({*SERVICES} & {*providers.TABLE})
ROOT = Path(chatsdk.__file__).parents[1]
KEY = "c2VjcmV0LWlkOnNlY3JldC1rZXk="
ASK = f"""
import pytest
from chatsdk import *

def ask(sim, text="Hi", name="gigachat", **options):
    options = {{"api_key": "{KEY}", "max_retries": 0, **sim.fields(name), **options}}
    with Client(name, **options) as client:
        return client.chat(text)
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """Run a test file with this plugin and no other; give the result."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text, *arguments, ini=""):
        pytester.makefile(
            ".ini",
            pytest=f"[pytest]\naddopts = --strict-markers -p no:cacheprovider\n{ini}",
        )
        (pytester.path / "test_app.py").write_text(ASK + textwrap.dedent(text), "utf-8")
        return pytester.runpytest_subprocess("-p", "chatsdk.pytest_plugin", *arguments)

    return run


# The simulator and its scenarios


def test_the_simulator_is_started_and_stopped(suite):
    result = suite("""
        used = []

        def test_one(chat_simulator):
            used.append(chat_simulator.url)
            assert ask(chat_simulator).text
            assert [request.service for request in chat_simulator.requests] == ["gigachat"] * 2

        def test_it_is_gone():
            with pytest.raises(APIConnectionError, match="no connection"):
                Client("aura", base_url=used[0], proxy="", max_retries=0).chat("Hi")
    """)

    result.assert_outcomes(passed=2)


def test_the_marker_of_the_simulator_has_its_arguments(suite):
    result = suite("""
        @pytest.mark.chat_simulator(reply="Forty-two.")
        def test_reply(chat_simulator):
            assert ask(chat_simulator).text == "Forty-two."

        @pytest.mark.chat_simulator(replies="Forty-two.")
        def test_wrong_name(chat_simulator):
            pass

        @pytest.mark.chat_simulator("Forty-two.")
        def test_no_name(chat_simulator):
            pass
    """)

    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines([
        "*chat_simulator:*unexpected keyword argument 'replies'*",
        "*chat_simulator takes keywords only*",
    ])


def test_a_scenario_is_played_once_and_several_in_their_order(suite):
    result = suite("""
        @pytest.mark.chat_scenario("cut")
        def test_one(chat_simulator):
            with pytest.raises(StreamInterruptedError):
                ask(chat_simulator)
            ask(chat_simulator)

        @pytest.mark.chat_scenario("no-text")
        class TestClass:
            @pytest.mark.chat_scenario(429, "403")
            @pytest.mark.chat_scenario("cut", times=2)
            def test_several(self, chat_simulator):
                ask(chat_simulator)
                for kind in (RateLimitError, PermissionDeniedError):
                    with pytest.raises(kind):
                        ask(chat_simulator)
                for _ in range(2):
                    with pytest.raises(StreamInterruptedError):
                        ask(chat_simulator)
                ask(chat_simulator)
    """)

    result.assert_outcomes(passed=2)


def test_a_scenario_can_be_for_one_service_and_for_always(suite):
    result = suite("""
        @pytest.mark.chat_scenario("cut", service="h2o")
        def test_service(chat_simulator):
            ask(chat_simulator)
            with pytest.raises(StreamInterruptedError):
                ask(chat_simulator, name="h2o")

        @pytest.mark.chat_scenario("cut", always=True)
        def test_always(chat_simulator):
            for _ in range(3):
                with pytest.raises(StreamInterruptedError):
                    ask(chat_simulator)

        @pytest.mark.chat_scenario("cut", always=True, service="h2o")
        def test_always_there(chat_simulator):
            ask(chat_simulator)
            for _ in range(2):
                with pytest.raises(StreamInterruptedError):
                    ask(chat_simulator, name="h2o")
    """)

    result.assert_outcomes(passed=3)


NONSENSE = {
    "'cutt'": "unknown scenario 'cutt'; did you mean 'cut'? There are: *",
    "'cut', service='gigachatt'": "unknown service 'gigachatt'; did you mean 'gigachat'? *",
    "'no-finish', service='h2o'": "h2o can't play 'no-finish', only: *",
    "": "chat_scenario names no scenario; *",
    "'cut', tmes=2": "unknown argument of chat_scenario 'tmes'; *; did you mean 'times'?",
    "'cut', times=0": "chat_scenario: times must be at least 1, not 0",
    "'cut', 'drip', always=True": "*none is played always",
    "None": "chat_scenario: a scenario is a name or a status, not NoneType",
    "999": "*unknown scenario 'status-999'*",
}


def test_a_marker_that_makes_no_sense_is_a_clear_error(suite):
    result = suite("\n".join(
        f"""
        @pytest.mark.chat_scenario({arguments})
        def test_{number}(chat_simulator):
            raise AssertionError("it ran")
        """
        for number, arguments in enumerate(NONSENSE)
    ))

    result.assert_outcomes(errors=len(NONSENSE))
    result.stdout.fnmatch_lines([f"*{message}" for message in NONSENSE.values()])
    result.stdout.no_fnmatch_line("*it ran*")
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_scenario_without_the_simulator_is_an_error(suite):
    result = suite("""
        @pytest.mark.chat_scenario("cut")
        def test_it():
            pass
    """)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*chat_scenario does nothing without the fixture chat_simulator*"])


def test_a_proxy_of_the_environment_is_not_used_for_the_simulator(suite, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")

    result = suite("""
        import os

        def test_it(chat_simulator):
            ask(chat_simulator)
            assert "intranet.example" in os.environ["NO_PROXY"]

        def test_after_it():
            assert os.environ["NO_PROXY"] == "intranet.example"
            assert "no_proxy" not in os.environ
    """)

    result.assert_outcomes(passed=2)


# The guard

HOSTS = """
        import socket

        @pytest.fixture(autouse=True)
        def nobody_is_asked(monkeypatch):
            monkeypatch.setattr(socket, "getaddrinfo", None)
            monkeypatch.setattr(socket.socket, "connect", None)
"""


def test_a_test_that_would_reach_a_service_fails_and_names_the_host(suite):
    result = suite(HOSTS + """
        def test_plain():
            Client("aura", proxy="").chat("Hi")

        def test_caught():
            with pytest.raises(ChatError):
                Client("gigachat", api_key="any", proxy="").chat("Hi")

        def test_address():
            with pytest.raises(ChatError):
                Client("aura", base_url="http://192.0.2.7:8080", proxy="").chat("Hi")
    """)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines([
        "*a test may not reach openchat.team; see the marker chat_network*",
        "*the test tried to reach openchat.team through chatsdk; nothing was sent*",
        "*the test tried to reach ngw.devices.sberbank.ru through chatsdk; nothing was sent*",
        "*@pytest.mark.chat_network for a test, chat_network = true for all of them*",
        "*the test tried to reach 192.0.2.7 through chatsdk*",
    ])


def test_calls_of_worker_threads_are_caught_too(suite):
    result = suite(HOSTS + """
        def test_map():
            with Client("aura", proxy="") as client:
                assert not any(answer.ok for answer in client.map(["a", "b"]))

        def test_thread():
            import threading

            def work():
                try:
                    Client("h2o", proxy="").chat("Hi")
                except ChatError:
                    pass

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        def test_fallback():
            with pytest.raises(ChatError):
                Client(["aura", "flowgpt"], proxy="").chat("Hi")
    """)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines([
        "*tried to reach openchat.team through chatsdk*",
        "*tried to reach gpt-gm.h2o.ai through chatsdk*",
        "*tried to reach openchat.team, prod-backend-k8s.flowgpt.com through chatsdk*",
    ])


def test_fixtures_and_imports_are_guarded_as_well(suite, pytester):
    result = suite(HOSTS + """
        def quietly():
            try:
                Client("aura", proxy="").chat("Hi")
            except ChatError:
                pass

        @pytest.fixture
        def before():
            quietly()

        @pytest.fixture
        def after():
            yield
            quietly()

        def test_before(before):
            raise AssertionError("it ran")

        def test_after(after):
            pass
    """)

    result.assert_outcomes(passed=1, errors=2)
    result.stdout.no_fnmatch_line("*it ran*")

    pytester.makepyfile(test_app="from chatsdk import chat\nchat('Hi', target='aura', proxy='')")
    result = pytester.runpytest_subprocess("-p", "chatsdk.pytest_plugin")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a test may not reach openchat.team*"])


def test_a_proxy_on_this_machine_does_not_hide_where_it_leads(suite, serve):
    server = serve(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    result = suite(f"""
        @pytest.mark.parametrize("proxy, url", [
            ("{server.url}", "http://chat.example"),
            ("{server.url}", "https://chat.example"),
            ("http://proxy.example:3128", "{server.url}"),
            ("socks5h://127.0.0.1:9", "http://chat.example"),
        ])
        def test_it(proxy, url):
            with pytest.raises(ChatError, match="may not reach (chat|proxy).example"):
                Client("aura", proxy=proxy, base_url=url).chat("Hi")
    """)

    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(["*reach chat.example*", "*reach proxy.example*"])
    assert server.connections == 0


@pytest.mark.parametrize("ini, marker, outcome", [
    ("", "", "failed"),
    ("chat_network = true", "", "passed"),
    ("", "chat_network", "passed"),
    ("", "chat_network('chat.invalid')", "passed"),
    ("", "chat_network('other.invalid')", "failed"),
])
def test_the_network_can_be_allowed(suite, ini, marker, outcome):
    result = suite(f"""
        import socket

        def unknown(*arguments):
            raise socket.gaierror("looked up")

        @pytest.mark.{marker or "filterwarnings('error')"}
        def test_it(monkeypatch):
            monkeypatch.setattr(socket, "getaddrinfo", unknown)
            with pytest.raises(ChatError, match="looked up"):
                Client("aura", base_url="http://chat.invalid", proxy="", max_retries=0).chat("Hi")

        def test_next():
            from chatsdk import outbound
            with pytest.raises(ConfigurationError) if {not ini} else pytest.raises(TypeError):
                outbound.guard("chat.invalid")
                raise TypeError("it may")
    """, "-k", "test_it", ini=ini)

    result.assert_outcomes(deselected=1, **{outcome: 1})


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0",
    "api.localhost", "LOCALHOST",
])
def test_this_machine_may_be_reached(host):
    from chatsdk.pytest_plugin import _is_local

    assert _is_local(host)


@pytest.mark.parametrize("host", [
    "localhost.example", "10.0.0.1", "128.0.0.1", "::2", "api.openai.com", "", "127.0.0.1.example",
    "::ffff:8.8.8.8", "fe80::1%eth0",
])
def test_other_machines_may_not_be_reached(host):
    from chatsdk.pytest_plugin import _is_local

    assert not _is_local(host)


def test_stubs_of_responses_are_no_network(suite):
    result = suite("""
        import responses

        @responses.activate
        def test_it():
            responses.post("https://openchat.team/api/chat", body="Stubbed.")
            assert Client("aura").chat("Hi").text == "Stubbed."
    """)

    result.assert_outcomes(passed=1)


def test_the_guard_is_taken_down_at_the_end(pytester, monkeypatch):
    program = """
        import pytest
        from chatsdk import outbound

        assert pytest.main(["-p", "chatsdk.pytest_plugin", "-q", "--co", "."]) == 5
        assert outbound.guard is None
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(run=program)
    done = subprocess.run(
        [sys.executable, "run.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )

    assert done.returncode == 0


# Snapshots

SENDS = """
        def test_sends(chat_simulator, chat_snapshot):
            ask(chat_simulator, TEXT, cookies={"sid": "crumb-4711-crumb"})
"""
PLACE = Path("snapshots", "test_app", "test_sends.txt")


def test_a_snapshot_is_written_on_demand_and_compared_from_then_on(suite, pytester):
    result = suite("        TEXT = 'Привет'\n" + SENDS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*no snapshot {PLACE}; --chat-snapshot-update writes it*"])
    assert not (pytester.path / PLACE).exists()

    suite("        TEXT = 'Привет'\n" + SENDS, "--chat-snapshot-update").assert_outcomes(passed=1)
    text = (pytester.path / PLACE).read_text("utf-8")
    suite("        TEXT = 'Привет'\n" + SENDS).assert_outcomes(passed=1)
    result = suite("        TEXT = 'Пока'\n" + SENDS)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['*-*"content": "Привет",*', '*+*"content": "Пока",*'])
    assert (pytester.path / PLACE).read_text("utf-8") == text
    assert KEY not in text and "crumb" not in text
    assert text == """\
=== 1. gigachat POST /api/v2/oauth
Accept: application/json
Authorization: <removed>
Content-Type: application/x-www-form-urlencoded
Cookie: <removed>
Rquid: <removed>

scope = GIGACHAT_API_PERS

=== 2. gigachat POST /api/v1/chat/completions
Accept: text/event-stream
Authorization: <removed>
Content-Type: application/json
Cookie: <removed>

{
  "messages": [
    {
      "content": "Привет",
      "role": "user"
    }
  ],
  "model": "GigaChat",
  "stream": true
}
""".replace("Cookie: <removed>\n", "", 1)


def test_a_snapshot_is_the_same_each_time_and_has_no_credential(suite, pytester):
    text = f"""
        @pytest.mark.parametrize("name", {NAMES!r})
        def test_sends(name, chat_simulator, chat_snapshot):
            ask(chat_simulator, "Hi", name=name, headers={{"X-Secret": "{KEY}"}})
            ask(chat_simulator, "Hi", name=name)
            assert chat_simulator.wait_idle()
    """
    suite(text, "--chat-snapshot-update").assert_outcomes(passed=len(NAMES))

    suite(text).assert_outcomes(passed=len(NAMES))

    for name in NAMES:
        kept = pytester.path / PLACE.with_name(f"test_sends-{name}.txt")
        assert KEY not in kept.read_text("utf-8")


def test_what_is_new_each_time_can_be_replaced(suite):
    text = """
        def test_sends(chat_simulator, chat_snapshot):
            import time
            chat_snapshot.replace(r"It is [0-9.]+", "It is <now>")
            ask(chat_simulator, f"It is {time.time()}")
    """
    suite(text, "--chat-snapshot-update").assert_outcomes(passed=1)

    suite(text).assert_outcomes(passed=1)


def test_a_part_can_be_compared_in_an_order_of_its_own(suite, pytester):
    text = """
        def test_sends(chat_simulator, chat_snapshot):
            with Client("aura", **chat_simulator.fields("aura")) as client:
                list(client.map(["one", "two", "three"], max_workers=3))
            chat_snapshot.check(sorted(chat_simulator.requests, key=lambda sent: sent.body))
    """
    suite(text, "--chat-snapshot-update").assert_outcomes(passed=1)

    suite(text).assert_outcomes(passed=1)


def test_each_test_has_a_snapshot_of_its_own(suite, pytester):
    result = suite("""
        class TestOne:
            @pytest.mark.parametrize("text", ["a", "b/c", "d?"])
            def test_sends(self, text, chat_simulator, chat_snapshot):
                ask(chat_simulator, text)

        class TestTwo:
            def test_sends(self, chat_simulator, chat_snapshot):
                ask(chat_simulator)
    """, "--chat-snapshot-update")

    result.assert_outcomes(passed=4)
    names = sorted(path.name for path in (pytester.path / PLACE.parent).iterdir())
    assert len(names) == 4
    assert {"TestOne-test_sends-a.txt", "TestTwo-test_sends.txt"} < {*names}


def test_a_test_that_fails_writes_no_snapshot(suite, pytester):
    result = suite("""
        def test_sends(chat_simulator, chat_snapshot):
            ask(chat_simulator)
            raise AssertionError("for a reason of its own")
    """, "--chat-snapshot-update")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*for a reason of its own*"])
    assert not (pytester.path / PLACE).exists()


# What it costs


def test_the_plugin_loads_nothing_else():
    program = (
        "import pytest, sys; old = {*sys.modules}; import chatsdk.pytest_plugin;"
        " print(*({*sys.modules} - old))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert set(done.stdout.split()) <= {
        "chatsdk", "chatsdk.version", "chatsdk.outbound", "chatsdk.pytest_plugin"
    }


def test_a_suite_without_chatsdk_runs_as_it_did(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("""
        import sys

        def test_it():
            assert "requests" not in sys.modules
            assert not [name for name in sys.modules if name.startswith("chatsdk.sim")]
    """)

    pytester.runpytest_subprocess("-p", "chatsdk.pytest_plugin").assert_outcomes(passed=1)


def test_pytest_finds_the_plugin_by_its_entry_point(pytester, monkeypatch):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    points = config["options.entry_points"]["pytest11"].strip()
    installed = pytester.path / "site" / "chatsdk-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: chatsdk\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{points}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed.parent), str(ROOT)]))
    pytester.makepyfile(test_app="def test_it(chat_simulator): chat_simulator.url")

    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
    blocked = pytester.runpytest_subprocess("-p", "no:chatsdk")

    blocked.assert_outcomes(errors=1)
    blocked.stdout.fnmatch_lines(["*fixture 'chat_simulator' not found*"])


def test_markers_and_options_are_explained(suite):
    suite("", "--markers").stdout.fnmatch_lines([
        "@pytest.mark.chat_scenario(*",
        "@pytest.mark.chat_simulator(*",
        "@pytest.mark.chat_network(*",
    ])
    suite("", "--help").stdout.fnmatch_lines(["*--chat-snapshot-update*", "*chat_network (bool)*"])


# The example of the docs

POSTCARDS = ROOT / "docs" / "examples" / "postcards"


def test_the_tests_of_the_example_program_pass(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(POSTCARDS)]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "chatsdk.pytest_plugin", "-p", "no:cacheprovider"],
        cwd=POSTCARDS, capture_output=True, text=True, timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "7 passed" in run.stdout
