"""A loopback server that speaks every service's real protocol, for tests, docs and offline work.

    with Simulator() as sim:
        client = Client("gigachat", api_key="any", **sim.fields("gigachat"))

It binds to loopback addresses only and uses nothing but the standard library.
"""

from __future__ import annotations

from .scenarios import FAMILIES, SCENARIOS
from .server import KINDS, SERVICES, Simulator
from .service import Recorded

__all__ = ["FAMILIES", "KINDS", "SCENARIOS", "SERVICES", "Recorded", "Simulator"]
