"""What carries files in a drill: one mover with a service of its own, as Globus is, and one that this process is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.clock import Clock
from connectors.errors import SiteUnreachable
from connectors.model import Evidence, SubmitAnswer, Transfer, TransferStatus
from sandbox.faults import Window
from sandbox.mover import SimulatedMover
from sandbox.world import SimulatedWorld

RELAYED = 1 << 20
"""Bytes of one transfer that may pass through the broker's own machine."""


class Carrier(SimulatedMover):
    """A transfer service. It works on while it gives no answer, as Globus does."""

    slots = 3

    def __init__(self, world: SimulatedWorld, clock: Clock, *, latency: float, bandwidth: float) -> None:
        super().__init__(world, clock, latency=latency, bandwidth=bandwidth)
        self.silences: list[Window] = []

    def refuses(self, transfer: Transfer) -> str:
        """The broker's own store is no collection."""
        return "" if transfer.source_site and transfer.destination_site else "this machine has no collection"

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        self._answer()
        return super().submit(transfers)

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        self._answer()
        return super().status(keys)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        self._answer()
        return super().cancel(keys)

    def forget(self, keys: Sequence[str]) -> None:
        """It keeps what it knows."""

    def probe(self) -> Sequence[Evidence]:
        silent = self.silent()
        detail = "no answer" if silent else ""
        return [Evidence(site="globus", capability="transfer", ok=not silent, at=self._clock(), detail=detail)]

    def silent(self) -> bool:
        now = self._clock()
        return any(window.holds(now) for window in self.silences)

    def _answer(self) -> None:
        if self.silent():
            raise SiteUnreachable("globus: no answer")


class Relay(SimulatedMover):
    """Small files, and those of the broker's own store, through this machine."""

    crosses_network = True

    def refuses(self, transfer: Transfer) -> str:
        size = sum(item.size or 0 for item in transfer.items)
        return f"{size} bytes are too many to pass through this machine" if size > RELAYED else ""
