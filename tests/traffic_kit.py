"""A desk over simulated sites under a virtual clock, with one mover that has a service of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker_kit import fresh_store, site
from scheduled_kit import Relay, Service

from broker.clock import VirtualClock, micros
from broker.ids import random_bits
from broker.store.sql import SqlStore
from broker.traffic import Desk
from broker.traffic.rows import MovementRow, TransferRow
from connectors.model import Transfer, TransferItem, TransferState
from sandbox.blob import Blob
from sandbox.connector import make
from sandbox.world import SimulatedWorld

SIDES = ("east", "west", "north")


@dataclass
class Yard:
    """Three sites, a service, a relay, and the desk over them."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    latency: float = 10.0
    """Seconds that the service takes for a transfer, and the relay where there is no service."""
    store: SqlStore | None = None
    scheduled: bool = True
    """Is there a service? Else all goes by the relay."""

    def __post_init__(self) -> None:
        self.db = self.store or fresh_store(self.clock, random_bits)
        self.world = SimulatedWorld()
        self.sites = {name: self.world.add(make(site(name), self.clock)) for name in SIDES}
        self.service = Service(self.world, self.clock, latency=self.latency)
        self.relay = self.new_relay()
        self.desk = self.new_desk()

    def new_relay(self) -> Relay:
        """What a relay knows is gone with its process: it has errands of its own."""
        world = SimulatedWorld()
        for one in self.sites.values():
            world.add(one)
        return Relay(world, self.clock, latency=0.0 if self.scheduled else self.latency)

    def new_desk(self, **said: Any) -> Desk:
        service = {"globus": self.service} if self.scheduled else {}
        return Desk({**service, "relay": self.relay}, self.db, self.clock, **said)

    def next_process(self, owner: str = "next", **said: Any) -> Desk:
        """The desk of another process: its relay knows nothing of what the other one carries."""
        self.relay = self.new_relay()
        self.desk = self.new_desk(owner=owner, **said)
        return self.desk

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
