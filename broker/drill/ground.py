"""Where a drill is played: a clock that jumps, simulated sites and carriers, the real store and broker over them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from broker.clock import VirtualClock, micros
from broker.core import Broker, Parts
from broker.drill.document import Carrying
from broker.drill.movers import Carrier, Relay
from broker.jobs import BLOBS
from broker.residency import Residency
from broker.rows import rows_of, run_row
from broker.sites import Sites
from broker.spec import CompiledRun
from broker.store.base import NewEvent, NewRun, Store
from broker.store.sql import SqlStore
from broker.submitting import dated
from broker.traffic import Desk
from policies.links import PRIOR, Sample
from sandbox.blob import Blob
from sandbox.connector import SimulatedSite, make_here
from sandbox.world import world_of

START = 1_767_225_600
"""Seconds since the Unix epoch at which drills begin."""
TURNS = 5.0
"""Seconds between two looks at the transfer service while something changes, as `globus: {poll}` has it."""
STEP = 5.0
"""Seconds after which whatever is under way is looked at again, as a sweeper does many times a second."""
IN_CIRCLES = 1000
"""Wake-ups of a run at one moment after which something is wrong."""


class Ground:
    """One installation in the air."""

    def __init__(
        self,
        sites: Sites,
        carrying: Carrying,
        *,
        seed: int,
        clock: VirtualClock | None = None,
        url: str = "sqlite://",
        standing: Mapping[str, SimulatedSite] | None = None,
    ) -> None:
        """`clock`, `url`: of an installation that somebody else goes on with. `standing`: sites that were there before
        this installation was, under the same clock."""
        self.clock = clock or VirtualClock(micros(START))
        self.start = self.clock()
        bits = random.Random(seed)  # noqa: S311 - a reproducible drill, no secret
        self.store: Store = SqlStore(url, clock=self.clock, bits=bits.getrandbits)
        self.configs = dict(sites.configs)
        self.world = world_of(self.clock)
        self.sites: dict[str, SimulatedSite] = {}
        for name, config in self.configs.items():
            played = replace(config, options={**config.options, "seed": f"{config.options.get('seed', 0)} {seed}"})
            self.configs[name] = played
            self.sites[name] = standing[name] if standing else make_here(played, self.clock)
        self.places = dict(sites.places)
        self._blobs = self.world.add_memory(BLOBS)
        self._stored = {name: self.world.add_memory(f"{name}:") for name in self.places}
        self.store.ensure_sites(self.sites)
        rate = float(carrying.rate)
        self.carrier = Carrier(self.world, self.clock, latency=float(carrying.latency), bandwidth=rate)
        self.broker = self._broker()
        self._teach(carrying)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _broker(self) -> Broker:
        relay = Relay(self.world.apart(), self.clock)
        against = Residency(store=self.store, sites=self.configs, places=self.places, clock=self.clock).refused
        movers = {"globus": self.carrier, "relay": relay}
        self.desk = desk = Desk(movers, self.store, self.clock, quick=TURNS, owner="drill", against=against)
        return Broker(
            Parts(
                store=self.store,
                configs=self.configs,
                sites=self.sites,
                mover=desk,
                turn=desk.turn,
                direct=desk.direct,
                clock=self.clock,
                owner="drill",
                elapsed=lambda: 0.0,
                places=self.places,
            )
        )

    def _teach(self, carrying: Carrying) -> None:
        """Links are known from transfers of that size."""
        known, took = PRIOR, self.copy_seconds(carrying)
        for _ in range(carrying.known):
            known = known.with_sample(Sample(bytes=carrying.size, files=2, seconds=took))
        if carrying.known:
            pairs = [(a, b) for a in self.sites for b in self.sites if a != b]
            self.broker.world.links.update({(a, b, "globus"): known for a, b in pairs})

    @staticmethod
    def copy_seconds(carrying: Carrying) -> float:
        """What a transfer of that size takes on its way."""
        return carrying.latency + carrying.size / carrying.rate

    # -- a run -----------------------------------------------------------------------------------------------------

    def submit(self, made: CompiledRun, *, run_id: str = "drill") -> str:
        """Store a run, and all that it takes from places and from its own folder."""
        now = self.clock()
        stages, deps = rows_of(made, run_id, now=now)
        row = run_row(run_id, name=made.name, digest=made.digest, stages=len(stages), by="drill", now=now)
        row, deadlines = dated(made, row, stages)
        for digest, source in made.blobs.items():
            self._blobs.put(f"{digest[:2]}/{digest}", _blob(source), now)
        told = [NewEvent(kind="submitted")]
        self.store.create_run(
            NewRun(run=row, document="{}", stages=stages, deps=deps, deadlines=deadlines, events=told)
        )
        return run_id

    def put(self, place: str, path: str, size: int) -> None:
        """A file lies in a place from now on."""
        line = f"{place}:{path}\n".encode()[:size]
        self._stored[place].put(path, Blob(line, size), self.clock())

    def state(self, run_id: str) -> str:
        row = self.store.run(run_id)
        return row.state if row is not None else "CANCELED"

    # -- time ------------------------------------------------------------------------------------------------------

    def next_moment(self) -> int:
        """When something is to be looked at: a site, a run, or what is being carried."""
        now = self.clock()
        wanted = [self.broker.next_look(), self.store.next_due()]
        if self.carrier.next_event_at() is not None or self.store.traffic.open_transfers():
            wanted.append(now + micros(STEP))
        return max(now + micros(1), min(at for at in wanted if at is not None))

    def turn(self) -> None:
        """Look at what is due at this moment, and let every run that is due go on until it is quiet."""
        for name in self.broker.sites_to_look_at():
            self.broker.look(name)
        self.broker.tend()
        if self.broker.moves_due():
            self.broker.move()
        for _ in range(IN_CIRCLES):
            due = self.store.due_runs(now=self.clock(), limit=100, resend_after=0.0)
            if not due:
                return
            for run_id in due:
                while (drained := self.broker.go_on(run_id)) is not None and drained.busy:
                    pass
        raise RuntimeError("a run turns in a circle")


def _blob(source: Path) -> Blob:
    content = source.read_bytes()
    return Blob(content, len(content))
