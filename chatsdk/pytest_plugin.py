"""The pytest plugin: a simulator, its scenarios, snapshots of what was sent, and a guard.

It is found through the entry point group ``pytest11``.  A suite that does not use chatsdk pays for
importing this file, and for a look at two attributes of each test.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
import os
from pathlib import Path
import re
from typing import Any, TYPE_CHECKING

import pytest

from chatsdk import outbound

if TYPE_CHECKING:
    from chatsdk.simulator import Recorded, Simulator

MARKERS = (
    "chat_scenario(*names, service=None, times=1, always=False): what chat_simulator does with the"
    " next requests, in this order; a number is a status",
    "chat_simulator(**options): arguments of chatsdk.simulator.Simulator for chat_simulator",
    "chat_network(*hosts): lets a test reach these hosts through chatsdk, or any",
)
PLAYS = ("always", "service", "times")
LOCAL = ("localhost", "localhost.localdomain")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what can be set for a suite, and for a run."""
    parser.addini(
        "chat_network",
        "whether tests may reach real services through chatsdk (default: false)",
        type="bool",
        default=False,
    )
    parser.getgroup("chatsdk").addoption(
        "--chat-snapshot-update",
        action="store_true",
        help="write what chat_snapshot compares with anew",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers, and put the guard up."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.pluginmanager.register(_Guard(config), "chatsdk-guard")


# The guard


class _Guard:
    """Keeps tests from reaching a real service, in any thread, and fails those that tried.

    Nothing is sent, and no address is looked up.  What tries is refused with an error, and the
    test fails also if something caught that.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._everywhere = bool(config.getini("chat_network"))
        self._hosts: tuple[str, ...] = ()
        self._open = self._everywhere
        self._reached: list[str] = []
        self._before = outbound.guard
        outbound.guard = self.check

    def pytest_unconfigure(self) -> None:
        """Take the guard down."""
        outbound.guard = self._before

    def check(self, host: str) -> None:
        """Refuse a host that is not on this machine, unless it is allowed."""
        if self._open or host in self._hosts or _is_local(host):
            return
        from chatsdk.errors import ConfigurationError

        self._reached.append(host)
        raise ConfigurationError(f"a test may not reach {host}; see the marker chat_network")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Find out where a test may go."""
        mark = item.get_closest_marker("chat_network")
        self._hosts = () if mark is None else mark.args
        self._open = self._everywhere or (mark is not None and not mark.args)
        try:
            return (yield)
        finally:
            self._hosts, self._open = (), self._everywhere

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test whose fixtures tried to leave this machine."""
        _check_markers(item)
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that tried to leave this machine; compare its snapshot if it went well."""
        result = yield from self._phase(item, "call")
        snapshot = getattr(item, "funcargs", {}).get("chat_snapshot")
        if isinstance(snapshot, Snapshot):
            snapshot.check()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test whose fixtures tried to leave this machine."""
        return (yield from self._phase(item, "teardown"))

    def _phase(self, item: pytest.Item, name: str) -> Generator[None, Any, Any]:
        try:
            result = yield
        except BaseException:
            if self._reached:
                item.add_report_section(name, "chatsdk", self._verdict())
            raise
        if self._reached:
            pytest.fail(self._verdict(), pytrace=False)
        return result

    def _verdict(self) -> str:
        hosts = ", ".join(dict.fromkeys(self._reached))
        self._reached.clear()
        return (
            f"the test tried to reach {hosts} through chatsdk; nothing was sent.\n"
            "Use the fixture chat_simulator or a recording (Client(replay=...)), or allow it:"
            " @pytest.mark.chat_network for a test, chat_network = true for all of them."
        )


def _is_local(host: str) -> bool:
    import ipaddress

    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".") in LOCAL or host.lower().endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


# The simulator


@pytest.fixture
def chat_simulator(request: pytest.FixtureRequest) -> Generator[Simulator, None, None]:
    """Give a started `chatsdk.simulator.Simulator`; markers say what it does."""
    from chatsdk.simulator import Simulator

    mark = request.node.get_closest_marker("chat_simulator")
    options = {} if mark is None else dict(mark.kwargs)
    if mark is not None and mark.args:
        _usage("chat_simulator takes keywords only, those of chatsdk.simulator.Simulator")
    simulator = _checked("chat_simulator", lambda: Simulator(**options))
    for mark in reversed(list(request.node.iter_markers("chat_scenario"))):
        _play(simulator, mark)
    with pytest.MonkeyPatch.context() as patch, simulator:
        for name in ("NO_PROXY", "no_proxy"):  # a proxy of the environment is for others
            patch.setenv(name, "127.0.0.1,localhost,::1", prepend=",")
        yield simulator


def _play(simulator: Simulator, mark: pytest.Mark) -> None:
    """Put the scenarios of a marker on."""
    for name in mark.kwargs:
        if name not in PLAYS:
            from chatsdk.errors import unknown

            _usage(str(unknown(TypeError, "argument of chat_scenario", name, list(PLAYS))))
    names = [_scenario(name) for name in mark.args]
    service = mark.kwargs.get("service")
    if not names:
        _usage("chat_scenario names no scenario; `chatsdk scenarios` lists them")
    if not mark.kwargs.get("always"):
        times = mark.kwargs.get("times", 1)
        for name in names:
            _checked("chat_scenario", lambda: simulator.play(name, service, times))
        return
    if len(names) > 1 or "times" in mark.kwargs:
        _usage("chat_scenario: of several scenarios, or of some times, none is played always")
    setting: Any = names[0] if service is None else {service: names[0]}
    _checked("chat_scenario", lambda: setattr(simulator, "scenario", setting))


def _scenario(name: Any) -> str:
    """Return a scenario's name: 429 and "429" are ``status-429``."""
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        _usage(f"chat_scenario: a scenario is a name or a status, not {type(name).__name__}")
    return f"status-{name}" if str(name).isdecimal() else str(name)


def _checked(marker: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except (TypeError, ValueError) as error:
        _usage(f"{marker}: {error}")


def _usage(text: str) -> None:
    pytest.fail(text, pytrace=False)


def _check_markers(item: pytest.Item) -> None:
    """Refuse markers that would do nothing."""
    fixtures = getattr(item, "fixturenames", ())
    if "chat_simulator" in fixtures:
        return
    for name in ("chat_scenario", "chat_simulator"):
        if item.get_closest_marker(name) is not None:
            _usage(f"the marker {name} does nothing without the fixture chat_simulator")


# Snapshots


@pytest.fixture
def chat_snapshot(request: pytest.FixtureRequest, chat_simulator: Simulator) -> Snapshot:
    """Compare what was sent with a file beside the test, at its end."""
    module = request.path
    test = _file_name(request.node.nodeid.partition("::")[2])
    place = module.parent / "snapshots" / module.stem / f"{test}.txt"
    update = request.config.getoption("--chat-snapshot-update")
    return Snapshot(place, lambda: chat_simulator.requests, update=update)


def _file_name(test: str) -> str:
    """Return a test's name fit for a file; what is replaced in it is told apart by a digest."""
    name = re.sub(r"[^\w.-]+", "-", test).strip("-.")[:100]
    if re.sub(r"::|[][]", "-", test).strip("-.") == name:
        return name
    import hashlib

    return f"{name}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


class Snapshot:
    """What a test sends, compared with a file; credentials are never in it.

    Attributes:
        path: The file.
    """

    def __init__(
        self, path: Path, requests: Callable[[], Iterable[Recorded]], *, update: bool
    ) -> None:
        self.path = path
        self._requests = requests
        self._update = update
        self._replaced: list[tuple[str, str]] = []
        self._checked = False

    def replace(self, pattern: str, by: str) -> None:
        """Put a fixed text in the place of what is new each time: a date, for example.

        Args:
            pattern: A regular expression.
            by: What is written instead.
        """
        self._replaced.append((pattern, by))

    def check(self, requests: Iterable[Recorded] | None = None) -> None:
        """Compare now; without a call of this it happens once the test has passed.

        Args:
            requests: What to compare, sorted for example; None: all, in order of arrival.
        """
        if self._checked and requests is None:
            return
        self._checked = True
        from chatsdk.snapshots import difference, snapshot

        text = snapshot(self._requests() if requests is None else requests)
        for pattern, by in self._replaced:
            text = re.sub(pattern, by, text)
        kept = self.path.read_text("utf-8") if self.path.exists() else None
        if text == kept:
            return
        if self._update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text, "utf-8")
            return
        name = os.path.relpath(self.path)
        if kept is None:
            pytest.fail(
                f"there is no snapshot {name}; --chat-snapshot-update writes it.  What was sent:\n"
                + text,
                pytrace=False,
            )
        pytest.fail(
            "what was sent is not what the snapshot holds; --chat-snapshot-update writes it anew\n"
            + difference(kept, text, name),
            pytrace=False,
        )
