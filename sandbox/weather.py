"""Which timed faults hold at a moment: the sky over a simulated site."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sandbox.faults import (
    ControllerCrash,
    Maintenance,
    Partition,
    SiteLost,
    Window,
)

F = TypeVar("F", bound=Window)


class Weather:
    """All timed faults of a site. Cheap to ask while nothing is wrong."""

    def __init__(self, faults: Iterable[Window]) -> None:
        self._faults = list(faults)

    def add(self, fault: Window) -> None:
        self._faults.append(fault)

    def forget(self, now: int) -> None:
        """Let go of what is over, so that a long story with many faults stays cheap to ask."""
        self._faults = [fault for fault in self._faults if fault.end is None or fault.end > now]

    def __bool__(self) -> bool:
        return bool(self._faults)

    def now(self, kind: type[F], at: int) -> F | None:
        """A fault of that kind which holds at `at`."""
        for fault in self._faults:
            if isinstance(fault, kind) and fault.holds(at):
                return fault
        return None

    def silent(self, capability: str, at: int) -> str:
        """Why the front end gives no answer to this capability; empty: it does."""
        for fault in self._faults:
            if isinstance(fault, SiteLost) and fault.start <= at:
                return "the site is gone"
            if not fault.holds(at):
                continue
            if isinstance(fault, Partition) and capability in fault.capabilities:
                return "no route to the front end"
            if isinstance(fault, ControllerCrash) and capability in ("submit", "status") and fault.end is not None:
                return "the scheduler does not answer"
        return ""

    def maintenance_after(self, at: int) -> Maintenance | None:
        """The next planned window that was announced and has not ended."""
        known = [
            fault
            for fault in self._faults
            if isinstance(fault, Maintenance) and fault.announced_at <= at and (fault.end is None or at < fault.end)
        ]
        return min(known, key=lambda fault: fault.start, default=None)
