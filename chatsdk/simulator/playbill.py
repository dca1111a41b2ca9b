"""Which scenario a request follows: the defaults, and what was put on for the next few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import threading
from typing import Union

from .scenarios import Scenario, scenario, unknown
from .service import Service

Scenarios = Union[str, Mapping[str, str]]
NORMAL = scenario("normal")


@dataclass
class _Play:
    """A scenario for the next few requests."""

    scenario: Scenario
    service: str | None
    times: int


class Playbill:
    """Chooses scenarios; safe to use from all connections at once.

    Args:
        services: Those that there are.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = {service.name: service for service in services}
        self._stages = {stage for service in self._services.values() for stage in service.stages}
        self._lock = threading.Lock()
        self._plays: list[_Play] = []
        self._defaults: dict[str, Scenario] = {}

    def known(self, service: str) -> str:
        """Return the name of a service, or raise a ValueError that names those there are."""
        if service not in self._services:
            raise ValueError(unknown("service", service, self._services))
        return service

    def default(self, value: Scenarios) -> None:
        """Set the scenario of all services, or of some by a mapping of service to name."""
        if isinstance(value, str):
            defaults = dict.fromkeys(self._services, self._find(value, None))
        else:
            defaults = {self.known(name): self._find(play, name) for name, play in value.items()}
        self._defaults = defaults

    def play(self, name: str, service: str | None, times: int) -> None:
        """Put a scenario on for the next `times` requests to which it can apply."""
        if service is not None:
            self.known(service)
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        play = _Play(self._find(name, service), service, times)
        with self._lock:
            self._plays.append(play)

    def claim(self, service: Service, stage: str) -> Scenario:
        """Return the scenario for a request of this kind, and count it."""
        with self._lock:
            for play in self._plays:
                if play.service in (None, service.name) and _fits(play.scenario, service, stage):
                    play.times -= 1
                    self._plays = [left for left in self._plays if left.times > 0]
                    return play.scenario
        default = self._defaults.get(service.name, NORMAL)
        return default if _fits(default, service, stage) else NORMAL

    def _find(self, name: str, service: str | None) -> Scenario:
        found = scenario(name, self._stages)
        able = [each.name for each in self._services.values()
                if found.stage in ("chat", *each.stages) and _fits(found, each, found.stage)]
        if service is not None and service not in able:
            raise ValueError(f"{service} can't play {name!r}, only: {', '.join(able)}")
        return found


def _fits(played: Scenario, service: Service, stage: str) -> bool:
    return played.stage == stage and (not played.special or played.base in service.special)
