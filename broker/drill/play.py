"""One play: time goes on, from event to event, until the run is over and nothing is left behind; or to the limit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.clock import micros
from broker.drill.casting import Cast
from broker.drill.document import DrillDocument, Incident
from broker.drill.ground import Ground
from broker.drill.troubles import Happened, Troubles
from broker.states import RunState
from connectors.errors import SiteError
from sandbox.job import Execution

PATIENCE = 6 * 3600.0
"""Seconds for which what was left behind may still be cleared away, once the run is over."""
PLACE_FILE = 1_000_000
"""Bytes of each file that the workflow takes from a place."""


@dataclass(slots=True)
class Hit:
    """A stage whose execution a fault has met, until it is at work again."""

    fault: Happened
    run: Execution
    stage: str
    back_at: int | None = None
    """When it worked again under the broker's eyes, or its result was there; None: never."""


@dataclass(slots=True)
class Played:
    """A play that is over; the ground is as it left it."""

    ground: Ground
    run_id: str
    troubles: Troubles
    hits: list[Hit] = field(default_factory=list)
    looks: int = 0

    @property
    def over_at(self) -> int:
        """When the run was over, or where it stood at the limit."""
        row = self.ground.store.run(self.run_id)
        return row.ended_at if row is not None and row.ended_at is not None else self.ground.clock()


def play(drill: DrillDocument, made: Cast, incidents: Sequence[Incident], *, seed: int) -> Played:
    """The same arguments bring the same play. The caller closes the ground."""
    ground = Ground(made.sites, drill.carrying, seed=seed)
    try:
        return _Play(drill, made, incidents, ground).go()
    except BaseException:
        ground.close()
        raise


class _Play:
    def __init__(self, drill: DrillDocument, made: Cast, incidents: Sequence[Incident], ground: Ground) -> None:
        self._ground, self._clock = ground, ground.clock
        self._limit = ground.start + micros(drill.limit)
        fill_places(made, ground)
        run_id = ground.submit(made.run)
        self._played = Played(ground, run_id, Troubles(ground))
        self._played.troubles.plan(incidents)

    def go(self) -> Played:
        ground, troubles = self._ground, self._played.troubles
        ground.turn()
        while not self._over():
            self._name_stages()
            then = min(self._next(), self._limit)
            self._clock.advance_to(then)
            for site in ground.sites.values():
                site.model.advance(then)
            before = len(troubles.happened)
            troubles.happen(then)
            for fault in troubles.happened[before:]:
                self._note(fault)
            ground.turn()
            self._played.looks += 1
            self._recover()
        return self._played

    def _next(self) -> int:
        times = [self._ground.next_moment()]
        incident = self._played.troubles.next_at()
        if incident is not None:
            times.append(max(incident, self._clock()))
        if any(hit.back_at is None for hit in self._played.hits):
            times += [at for site in self._ground.sites.values() if (at := site.model.next_event_at()) is not None]
        return min(times)

    def _over(self) -> bool:
        now, store = self._clock(), self._ground.store
        row = store.run(self._played.run_id)
        if now >= self._limit or row is None:
            return True
        if not RunState(row.state).final:
            return False
        gone = self._played.troubles.gone
        left = [a for a in store.attempts(row.run_id) if a.open and a.site not in gone]
        wanted = [e for e in store.effects(row.run_id) if e.state == "pending" and e.site not in gone]
        return not (left or wanted) or now > (row.ended_at or now) + micros(PATIENCE)

    # -- who was hit, and is back ----------------------------------------------------------------------------------

    def _name_stages(self) -> None:
        """Which stage each key belongs to."""
        store, known = self._ground.store, self._played.troubles.stages
        if all(run.key in known for site in self._ground.sites.values() for run in site.model.journal.executions):
            return
        paths = {stage.n: stage.path for stage in store.stages(self._played.run_id)}
        known.update({row.submit_key: paths[row.n] for row in store.attempts(self._played.run_id)})

    def _note(self, fault: Happened) -> None:
        self._name_stages()
        known = self._played.troubles.stages
        self._played.hits += [Hit(fault, run, known[run.key]) for run in fault.hit if run.key in known]

    def _recover(self) -> None:
        waiting = [hit for hit in self._played.hits if hit.back_at is None]
        if not waiting:
            return
        store = self._ground.store
        products = {p.n: p.published_at for p in store.products(self._played.run_id)}
        done = {s.path: products[s.n] for s in store.stages(self._played.run_id) if s.n in products}
        for hit in waiting:
            if hit.stage in done:
                hit.back_at = max(hit.fault.at, done[hit.stage])
            else:
                hit.back_at = self._back_at_work(hit)

    def _back_at_work(self, hit: Hit) -> int | None:
        """Since when an execution of it works at a site that answers."""
        known, now = self._played.troubles.stages, self._clock()
        for name, site in self._ground.sites.items():
            for run in site.model.journal.executions:
                works = run.began and run.alive and not run.job.fate  # one that was told to go is as good as gone
                if known.get(run.key) == hit.stage and works and self._answers(name):
                    new = run is not hit.run or run.generation != hit.run.generation
                    return max(hit.fault.at, run.progress_at) if new and run.started_at >= hit.fault.at else now
        return None

    def _answers(self, name: str) -> bool:
        try:
            for capability in ("status", "files"):
                self._ground.sites[name].model.knock(capability, self._clock())
        except SiteError:
            return False
        return True


def fill_places(made: Cast, ground: Ground) -> None:
    """What the workflow takes from places lies there."""
    for stage in made.run.stages:
        body = json.loads(stage.body)
        sides = [side for item in body.get("inputs", ()) for side in item.get("places", ())]
        sides += [side for item in body.get("copy", ()) if isinstance(item["from"], list) for side in item["from"]]
        for side, path in sides:
            name = side.removesuffix(":")
            if name in ground.places and path:
                ground.put(name, path + ("file" if path.endswith("/") else ""), PLACE_FILE)
