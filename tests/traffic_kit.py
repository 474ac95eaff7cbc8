"""A desk over simulated sites under a virtual clock, with one mover that has a service of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker_kit import fresh_store, site

from broker.clock import VirtualClock, micros
from broker.ids import random_bits
from broker.store.sql import SqlStore
from broker.traffic import Desk
from broker.traffic.rows import MovementRow, TransferRow
from connectors.errors import CredentialError, SiteError, SiteUnreachable
from connectors.model import Evidence, SubmitAnswer, Transfer, TransferItem, TransferState, TransferStatus
from sandbox.blob import Blob
from sandbox.connector import make
from sandbox.mover import SimulatedMover
from sandbox.world import SimulatedWorld

SIDES = ("east", "west", "north")


class Service(SimulatedMover):
    """The simulated mover as one whose transfers live in a service: it takes so many, may be away, may ask for a
    person, and remembers what it was asked for."""

    slots = 3

    def __init__(self, world: SimulatedWorld, clock: VirtualClock, *, latency: float = 10.0) -> None:
        super().__init__(world, clock, latency=latency)
        self.asked: list[Transfer] = []
        self.status_calls = 0
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
        if self.held and status.state is TransferState.ACTIVE:
            reason, helps = next(iter(self.held.values()))
            return replace(status, state=TransferState.HELD, reason=reason, help=helps)
        return status

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


class Relay(SimulatedMover):
    """The simulated mover as one that carries within this process."""

    def __init__(self, world: SimulatedWorld, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.asked: list[Transfer] = []
        self.most = 1 << 20

    def refuses(self, transfer: Transfer) -> str:
        size = sum(item.size or 0 for item in transfer.items)
        return "" if size <= self.most else f"{size} bytes are too many"

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        self.asked += transfers
        return super().submit(transfers)


@dataclass
class Yard:
    """Three sites, a service, a relay, and the desk over them."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    latency: float = 10.0
    store: SqlStore | None = None

    def __post_init__(self) -> None:
        self.db = self.store or fresh_store(self.clock, random_bits)
        self.world = SimulatedWorld()
        self.sites = {name: self.world.add(make(site(name), self.clock)) for name in SIDES}
        self.service = Service(self.world, self.clock, latency=self.latency)
        other = SimulatedWorld()  # what a relay knows is gone with its process: it has errands of its own
        for one in self.sites.values():
            other.add(one)
        self.relay = Relay(other, self.clock)
        self.desk = self.new_desk()

    def new_desk(self) -> Desk:
        return Desk({"globus": self.service, "relay": self.relay}, self.db, self.clock)

    def put(self, side: str, path: str, content: bytes = b"data\n") -> str:
        """Write a file there; its digest."""
        self.sites[side].write(path, content)
        return Blob(content, len(content)).sha256

    def ask(self, key: str, *items: TransferItem, source: str = "east", to: str = "west", **said: object) -> None:
        given = Transfer(key=key, source_site=source, destination_site=to, items=items or (item("a"),), **said)  # type: ignore[arg-type]
        self.desk.submit([given])

    def turn(self, *, after: float = 0.0) -> Collection[str]:
        """So much later, and then a turn, if one is due."""
        self.clock.advance(after)
        return self.desk.turn.take()

    def turns(self, seconds: float, *, every: float = 1.0) -> None:
        until = self.clock() + micros(seconds)
        while self.clock() < until:
            self.turn(after=every)

    def state(self, key: str) -> TransferState:
        return self.desk.status([key])[key].state

    def movement(self, key: str) -> MovementRow:
        return self.db.traffic.movements([key])[key]

    def transfers(self) -> Sequence[TransferRow]:
        return self.db.traffic.transfers()

    def read(self, side: str, path: str) -> bytes:
        return self.sites[side].read(path)


def item(name: str, **said: object) -> TransferItem:
    values = {"source": f"from/{name}", "destination": f"to/{name}", **said}
    return TransferItem(**values)  # type: ignore[arg-type]
