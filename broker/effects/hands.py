"""Sorts claimed effects by kind and site, and hands each batch to the room that performs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.clock import Clock
from broker.effects.asking import ask
from broker.effects.carry import Carrier
from broker.effects.check import Checker
from broker.effects.cleaning import prune
from broker.effects.copying import Copier
from broker.effects.moving import Moving
from broker.effects.outcome import Result, again, done
from broker.effects.placed_inputs import PlacedInputs
from broker.effects.standby import Standby
from broker.effects.submit import Submitter
from broker.facts import NOWHERE, World
from broker.jobs import Job
from broker.limits import NO_LIMITS, Limits
from broker.residency import Residency
from broker.states import ENDS_WITH_ATTEMPT
from broker.store.base import EffectRow, Sightings, Store
from connectors.base import Mover, PlaceFiles, Site
from connectors.errors import SiteError

BRINGS_WORK = ("stage_in", "submit")
"""Kinds of effects that a site in quarantine must wait for."""
NO_PLACES: Mapping[str, PlaceFiles] = {}
JobKey = tuple[str, int, int]


@dataclass(slots=True)
class JobCache:
    """The immutable rows behind effects, kept from the decision that wrote them or read again from the store."""

    store: Store
    jobs: dict[JobKey, Job] = field(default_factory=dict)

    def get(self, effect: EffectRow) -> Job | None:
        """The job that an effect is about; None when its attempt does not exist."""
        key = (effect.run_id, effect.n, effect.attempt)
        found = self.jobs.get(key)
        if found is None:
            stage = self.store.stages_at(effect.run_id, [effect.n]).get(effect.n)
            attempt = next(
                (a for a in self.store.attempts(effect.run_id, effect.n) if a.number == effect.attempt), None
            )
            if stage is None or attempt is None:
                return None
            found = self.jobs[key] = Job(stage=stage, attempt=attempt)
        return found


class Hands:
    """Performs effects at the sites it was given."""

    def __init__(
        self,
        *,
        store: Store,
        world: World,
        sites: Mapping[str, Site],
        mover: Mover,
        clock: Clock,
        limits: Limits = NO_LIMITS,
        places: Mapping[str, PlaceFiles] = NO_PLACES,
    ) -> None:
        self._store, self._world, self._sites, self._clock = store, world, sites, clock
        submitter = Submitter(store=store, world=world, clock=clock, limits=limits)
        moving = Moving(residency=Residency.of(store, world, clock), mover=mover, clock=clock)
        inputs = PlacedInputs(world=world, places=places, clock=clock)
        carrier = Carrier(store=store, world=world, moving=moving, inputs=inputs, clock=clock)
        standby = Standby(store=store, moving=moving, asked=carrier.inbound, clock=clock)
        copier = Copier(store=store, moving=moving, mover=mover, clock=clock)
        checker = Checker(clock=clock)
        self._rooms: Mapping[str, Callable[[Site, Sequence[tuple[EffectRow, Job]]], Result]] = {
            "submit": submitter.submit,
            "cancel": submitter.cancel,
            "stage_in": carrier.bring,
            "ship": carrier.ship,
            "ahead": standby.send,
            "recall": standby.recall,
            "verify": checker.verify,
            "check": checker.check,
            "prune": prune,
            "ask": ask,
        }
        self._nowhere: Mapping[str, Callable[[Sequence[tuple[EffectRow, Job]]], Result]] = {
            "copy": copier.copy,
            "cancel": copier.stop,
        }
        """What is done at no site."""

    def perform(self, effects: Sequence[EffectRow], jobs: JobCache) -> Sightings:
        """Perform claimed effects, batched by site and kind; never raises for what a site does."""
        sightings = Sightings()
        batches: dict[tuple[str, str], list[tuple[EffectRow, Job]]] = {}
        for effect in effects:
            job = jobs.get(effect)
            if job is None:
                sightings.effects_done.append(done(effect, {"dropped": "its attempt does not exist"}))
            elif not job.attempt.open and effect.kind in ENDS_WITH_ATTEMPT:
                sightings.effects_done.append(done(effect, {"dropped": "its attempt is over"}))
            else:
                batches.setdefault((effect.kind, effect.site), []).append((effect, job))
        for (kind, name), batch in batches.items():
            self._perform(kind, name, batch).add_to(sightings)
        return sightings

    def _perform(self, kind: str, name: str, batch: Sequence[tuple[EffectRow, Job]]) -> Result:
        if name == NOWHERE:
            return self._move(kind, batch)
        site = self._sites.get(name)
        if site is None:
            reason = f"site {name} is not in the site document"
            return Result(again=[again(effect, self._clock(), reason=reason, slowest=60.0) for effect, _ in batch])
        if kind in BRINGS_WORK and self._quarantined(name):
            reason = f"{name} is in quarantine after a restore: first its jobs are listed and reconciled"
            return Result(again=[again(effect, self._clock(), reason=reason, slowest=5.0) for effect, _ in batch])
        try:
            return self._rooms[kind](site, batch)
        except SiteError as error:
            # whoever may have caused a side effect has caught this nearer by; here nothing can have happened twice
            return Result(again=[again(effect, self._clock(), reason=str(error)) for effect, _ in batch])

    def _move(self, kind: str, batch: Sequence[tuple[EffectRow, Job]]) -> Result:
        try:
            return self._nowhere[kind](batch)
        except SiteError as error:
            return Result(again=[again(effect, self._clock(), reason=str(error)) for effect, _ in batch])

    def _quarantined(self, name: str) -> bool:
        if not self._world.installation.incarnation:  # no backup was ever restored
            return False
        return any(row.quarantined for row in self._store.sites() if row.site == name)
