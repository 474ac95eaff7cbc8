"""Simulated movers of two kinds: one with a service of its own, one that carries within this process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from broker.clock import VirtualClock
from connectors.errors import CredentialError, SiteError, SiteUnreachable
from connectors.model import Evidence, SubmitAnswer, Transfer, TransferState, TransferStatus
from sandbox.mover import SimulatedMover
from sandbox.world import SimulatedWorld


class Service(SimulatedMover):
    """The simulated mover as one whose transfers live in a service: it takes so many, may be away, may ask for a
    person, and remembers what it was asked for."""

    slots = 3

    def __init__(self, world: SimulatedWorld, clock: VirtualClock, *, latency: float = 10.0) -> None:
        super().__init__(world, clock, latency=latency)
        self.asked: list[Transfer] = []
        self.status_calls = 0
        self.forgotten: list[str] = []
        self.error: SiteError | None = None
        self.lose_answers = 0
        self.held: dict[str, tuple[str, str]] = {}
        self.failing: dict[str, TransferStatus] = {}
        self.refused: Collection[str] = ()
        """Sides that it cannot reach."""

    def refuses(self, transfer: Transfer) -> str:
        away = [side for side in (transfer.source_site, transfer.destination_site) if side in self.refused]
        return f"{away[0]} has no collection" if away else ""

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        self._raise()
        self.asked += transfers
        answers = super().submit(transfers)
        if self.lose_answers:
            self.lose_answers -= 1
            raise SiteUnreachable("the answer was lost")
        return answers

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        self._raise()
        self.status_calls += 1
        return {key: self._dressed(key, status) for key, status in super().status(keys).items()}

    def forget(self, keys: Sequence[str]) -> None:
        self.forgotten += keys

    def probe(self) -> Sequence[Evidence]:
        detail, capability = (
            str(self.error or ""),
            "credentials" if isinstance(self.error, CredentialError) else "transfer",
        )
        return [Evidence(site="globus", capability=capability, ok=not self.error, at=self._clock(), detail=detail)]

    def _dressed(self, key: str, status: TransferStatus) -> TransferStatus:
        told = self.failing.get(key, self.failing.get("all"))
        if told is not None and status.state is not TransferState.UNKNOWN:
            return replace(told, key=key)
        if self.held and status.state in (TransferState.ACTIVE, TransferState.SUCCEEDED):
            reason, helps = next(iter(self.held.values()))
            return replace(status, state=TransferState.HELD, reason=reason, help=helps)
        return status

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


class Relay(SimulatedMover):
    """The simulated mover as one that carries within this process, over a network."""

    crosses_network = True

    def __init__(self, world: SimulatedWorld, clock: VirtualClock, *, latency: float = 0.0) -> None:
        super().__init__(world, clock, latency=latency)
        self.canceled: list[str] = []
        self.asked: list[Transfer] = []
        self.most = 1 << 20

    def refuses(self, transfer: Transfer) -> str:
        size = sum(item.size or 0 for item in transfer.items)
        return "" if size <= self.most else f"{size} bytes are too many"

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        self.canceled += keys
        return super().cancel(keys)

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        self.asked += transfers
        return super().submit(transfers)
