"""A whole broker over simulated sites under a virtual clock: days in milliseconds, the same every time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any
from unittest.mock import patch

from scheduled_kit import Relay, Service
from simulation.seams import CrossingSeam, Hook, Seam, ServiceSeam, StoreSeam

from broker.alerts.allowed import NotifyConfig
from broker.clock import VirtualClock, micros
from broker.core import Broker, Parts
from broker.ids import RandomBits
from broker.jobs import BLOBS
from broker.residency import Residency
from broker.rows import stage_row as _stage_row
from broker.store import migrate
from broker.store.base import CommandRow, DepRow, NewEvent, NewRun, RunRow
from broker.store.connect import Database
from broker.store.sql import SqlStore
from broker.traffic import Desk
from connectors.registry import PlaceConfig, SiteConfig
from policies.numbers import USUAL_NUMBERS, Numbers
from sandbox.blob import Blob
from sandbox.connector import SimulatedSite, make
from sandbox.mover import SimulatedMover
from sandbox.world import SimulatedWorld

RULES: dict[str, Any] = {
    "sites": {"allow": [], "prefer": [], "deny": []},
    "failover": {"act": "auto", "after": 300.0, "max": 3, "old_copy": "kill"},
    "duplicates": "allow",
    "resources": {"nodes": 1, "cores": 1, "gpus": 0, "memory": 0, "walltime": None},
    "checkpoint": None,
    "continue": None,
    "retry": {"site_fault": 3, "app_fault": 0, "exit_codes": {}},
    "required": True,
    "at": {},
}
CHECKPOINT = {
    "path": ".",
    "match": None,
    "complete": None,
    "ask": None,
    "every": None,
    "restore": "dir",
    "ship": "always",
    "keep": 2,
}


def rules(**changes: Any) -> dict[str, Any]:
    """The default rules with some of them changed, maps merged one level deep."""
    merged = dict(RULES)
    for name, value in changes.items():
        both = isinstance(merged.get(name), dict) and isinstance(value, dict) and name != "checkpoint"
        merged[name] = {**merged[name], **value} if both else value
    return merged


@dataclass
class Stage:
    """A stage of a test's run: what it does at a simulated site, and whom it needs."""

    name: str
    sim: str = ""
    needs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    inputs: Sequence[tuple[str, str]] = ()
    """(name, stage that makes it)"""
    rules: Mapping[str, Any] = field(default_factory=dict)
    copies: Sequence[tuple[str, str]] = ()
    """(PLACE:path, or STAGE/path; PLACE:path): it only moves data."""
    keep: Sequence[Mapping[str, Any]] = ()
    """As bodies have it."""
    places: Sequence[tuple[str, Sequence[str]]] = ()
    """(name, PLACE:path of each that holds it): inputs from places."""
    wait: float = 0.0

    def body(self) -> dict[str, Any]:
        if self.copies:
            copy = [{"from": _origin(source), "to": _side(to)} for source, to in self.copies]
            return {"copy": copy, **({"keep": list(self.keep)} if self.keep else {})}
        return {
            "run": f": sim {self.sim}" if self.sim else ":",
            "restart": None,
            "setup": "",
            "env": {},
            "files": [],
            "inputs": [
                *({"name": name, "stage": of, "from": name, "match": None} for name, of in self.inputs),
                *(
                    {"name": name, "places": [_side(text) for text in texts], "match": None, "wait": self.wait}
                    for name, texts in self.places
                ),
            ],
            "outputs": [{"path": path, "required": True} for path in self.outputs],
            "submit": {},
            "at": {},
        }


def _side(text: str) -> list[str]:
    name, _, path = text.partition(":")
    return [f"{name}:", path]


def _origin(text: str) -> Any:
    if ":" in text:
        return [_side(text)]
    stage, _, path = text.partition("/")
    return {"stage": stage, "path": path}


@cache
def _empty_database() -> bytes:
    store = SqlStore("sqlite://", clock=VirtualClock())
    connection = store._database.engine.raw_connection()
    image: bytes = connection.driver_connection.serialize()
    connection.close()
    store.close()
    return image


def fresh_store(clock: VirtualClock, bits: RandomBits) -> SqlStore:
    """An empty store in memory. Its tables are copied, not made: that takes longer than many a test."""

    def copy(database: Database) -> None:
        connection = database.engine.raw_connection()
        connection.driver_connection.deserialize(_empty_database())
        connection.close()

    _empty_database()
    with patch.object(migrate, "make_ready", copy):
        return SqlStore("sqlite://", clock=clock, bits=bits)


class Lab:
    """Simulated sites, a mover, a store and brokers over them."""

    def __init__(
        self,
        *sites: SiteConfig,
        clock: VirtualClock | None = None,
        store: SqlStore | None = None,
        seed: int = 1,
        service: bool = False,
        direct: bool = False,
        places: Sequence[str] = (),
        numbers: Numbers = USUAL_NUMBERS,
        notify: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        """`service`: files go by a mover with a service of its own, over a desk; `direct`: each worker carries them
        itself over a network, with all that it knows of them."""
        self.clock = clock or VirtualClock()
        self.bits = _bits(seed)
        self.store = store or fresh_store(self.clock, self.bits)
        self.world = SimulatedWorld()
        self.world.add_memory(BLOBS)
        self.places = {name: PlaceConfig(name=name, collection="simulated", prune=True) for name in places}
        self.stored = {name: self.world.add_memory(f"{name}:") for name in places}
        self.configs = {config.name: config for config in sites}
        self.sites: dict[str, SimulatedSite] = {c.name: self.world.add(make(c, self.clock)) for c in sites}
        self.direct = direct
        self.notify = NotifyConfig(commands={"page": ("true",), "ops": ("true",)}, tell=notify)
        self.mover = Service(self.world, self.clock) if service else SimulatedMover(self.world, self.clock)
        self.store.ensure_sites(self.sites)
        self._numbers = count(1)
        self.numbers = numbers
        self.broker = self.new_broker()

    def new_broker(self, owner: str = "", *, hook: Hook | None = None) -> Broker:
        """Another worker over the same store and sites; `hook` is called at every call to them."""
        store: Any = StoreSeam(self.store, "store", hook) if hook else self.store
        sites, mover = self.sites, self.mover
        owner = owner or f"worker-{next(self._numbers)}"
        desk = self.desk(store, hook, owner=owner) if isinstance(mover, Service) or self.direct else None
        return Broker(
            Parts(
                store=store,
                configs=self.configs,
                sites={name: Seam(s, f"site:{name}", hook) for name, s in sites.items()} if hook else sites,
                mover=desk or (Seam(mover, "mover", hook) if hook else mover),
                turn=desk.turn if desk else None,
                direct=desk.direct if desk else None,
                clock=self.clock,
                owner=owner,
                numbers=self.numbers,
                elapsed=lambda: 0.0,
                places=self.places,
                notify=self.notify,
            )
        )

    def desk(self, store: Any, hook: Hook | None = None, *, owner: str) -> Desk:
        """Over the service, and over a relay for what it does not reach: the broker's own store."""
        against = Residency(store=store, sites=self.configs, places=self.places, clock=self.clock).refused
        if self.direct:
            relay = Relay(self.world.apart(), self.clock, latency=self.mover._latency)
            relays = {"relay": CrossingSeam(relay, hook) if hook else relay}
            return Desk(relays, store, self.clock, owner=owner, against=against)
        assert isinstance(self.mover, Service)
        relay = Relay(self.world, self.clock)
        service = ServiceSeam(self.mover, hook) if hook else self.mover
        return Desk({"globus": service, "relay": relay}, store, self.clock, owner=owner, against=against)

    def submit(self, *stages: Stage, name: str = "test", run_id: str = "", key: str | None = None) -> str:
        """Store a run of these stages; its id."""
        run_id = run_id or f"run-{next(self._numbers)}"
        self.store.create_run(new_run(run_id, stages, now=self.clock(), name=name, key=key))
        return run_id

    def command(self, run_id: str, kind: str, stage: str = "", **args: str) -> None:
        ident = f"c{next(self._numbers):06d}"
        row = CommandRow(ident, run_id, stage, kind, json.dumps(args), "tester", "", self.clock(), None, "")
        self.store.add_command(row)

    def step(self, seconds: float = 1.0) -> None:
        """Let time pass once, look at every site, go on with every run that is due."""
        self.clock.advance(seconds)
        self.look()
        self.broker.tend()
        if self.broker.moves_due():
            self.broker.move()
        self.settle()

    def look(self) -> None:
        for name in self.broker.sites_to_look_at():
            self.broker.look(name)

    def settle(self) -> None:
        for _ in range(50):
            due = self.store.due_runs(now=self.clock(), limit=100, resend_after=0.0)
            if not due:
                return
            for run_id in due:
                while (drained := self.broker.go_on(run_id)) is not None and drained.busy:
                    pass

    def run_for(self, seconds: float, *, step: float = 5.0) -> None:
        end = self.clock() + micros(seconds)
        self.settle()
        while self.clock() < end:
            self.step(min(step, (end - self.clock()) / 1e6))

    def finish(self, run_id: str, *, limit: float = 86_400.0, step: float = 5.0) -> str:
        """Go on until the run is final or the time is up; its state."""
        end = self.clock() + micros(limit)
        self.settle()
        while self.state(run_id) not in ("SUCCEEDED", "FAILED", "CANCELED") and self.clock() < end:
            self.step(step)
        return self.state(run_id)

    def put(self, where: str, content: bytes = b"data") -> None:
        """A file lies in a place from now on."""
        name, _, path = where.partition(":")
        self.stored[name].put(path, Blob(content, len(content)), self.clock())

    def lies(self, where: str) -> bytes | None:
        """What a place holds there."""
        name, _, path = where.partition(":")
        blob = self.stored[name].get(path)
        return None if blob is None else blob.whole()

    # -- what a test asks ----------------------------------------------------------------------------------

    def state(self, run_id: str) -> str:
        row = self.store.run(run_id)
        assert row is not None
        return row.state

    def stage(self, run_id: str, path: str) -> Any:
        return next(s for s in self.store.stages(run_id) if s.path == path)

    def attempts(self, run_id: str, path: str) -> list[Any]:
        return list(self.store.attempts(run_id, self.stage(run_id, path).n))

    def executions(self) -> list[Any]:
        return [e for site in self.sites.values() for e in site.model.journal.executions]


def _bits(seed: int):
    import random

    rng = random.Random(seed)
    return rng.getrandbits


def new_run(run_id: str, stages: Sequence[Stage], *, now: int, name: str = "test", key: str | None = None) -> NewRun:
    """A run's rows from a test's stages."""
    place = {stage.name: n for n, stage in enumerate(stages)}
    rows, deps = [], []
    for n, stage in enumerate(stages):
        takes = {*(of for _, of in stage.inputs), *(f.partition("/")[0] for f, _ in stage.copies if ":" not in f)}
        parents = {*stage.needs, *takes}
        deps += [DepRow(run_id, place[p], n, int(p in takes)) for p in sorted(parents)]
        text = json.dumps(rules(**stage.rules), separators=(",", ":"))
        body = json.dumps(stage.body(), separators=(",", ":"))
        rows.append(_stage_row(run_id, n, stage.name, text, body, f"d-{stage.name}", len(parents), now))
    total = len(rows)
    row = RunRow(
        run_id, name, key, "digest", "PENDING", "", 0, "digest", "", "tester", now, None, now, None,
        total, total, 0, 0, 0, 0, 0, None, None, 0, None,
    )  # fmt: skip
    return NewRun(run=row, document="{}", stages=rows, deps=deps, events=[NewEvent(kind="submitted")])


def site(name: str, **options: Any) -> SiteConfig:
    """A simulated site's entry."""
    own = {f for f in SiteConfig.__dataclass_fields__ if f not in ("options", "name", "connector")}
    direct = {key: value for key, value in options.items() if key in own}
    rest = {key: value for key, value in options.items() if key not in own}
    defaults: dict[str, Any] = {"slots": 4, "poll": 5.0, "unreachable_probes": 3, "unreachable_seconds": 30.0}
    return SiteConfig(name=name, connector="simulated", options=rest, **{**defaults, **direct})
