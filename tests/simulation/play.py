"""Plays a story: weather, workers and operators until all is quiet; then the truth is held against the rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from broker_kit import Lab
from simulation.crew import Crew, Process
from simulation.glance import Glance
from simulation.seams import Seam, StoreSeam
from simulation.split import SplitStore
from simulation.story import LIES, PLACES, Story, tell

from broker.clock import micros, seconds
from broker.core import Broker, Parts
from broker.drill.truth import Broken, copies_are_real, ends, judge
from sandbox.faults import TransferOdds
from sandbox.mover import SimulatedMover

LIMIT = 40_000.0
"""Seconds of virtual time after which a story that is not quiet counts as stuck."""
PATIENCE = 300.0
"""Seconds without any change after which only a person can help."""
_GO_ON = ("ACTIVE", "READY", "WAITING")
SPIN = 3000
"""Steps at one moment after which the broker is taken to turn in a circle."""
QUESTIONS = 4
"""How often a person answers the stages that ask."""


@dataclass
class Result:
    """How a story ended."""

    seed: int
    ends: tuple[str, ...]
    found: list[str]
    steps: int
    late: int
    span: float
    """Seconds of virtual time."""


def play(seed: int) -> Result:
    """The story of that seed, whole."""
    return Player(tell(seed)).play()


class Player:
    """One story under way."""

    def __init__(self, story: Story) -> None:
        self.story, self.rng = story, random.Random(f"crew {story.seed}")
        self.lab = Lab(*(ordeal.config for ordeal in story.ordeals), seed=story.seed, places=PLACES)
        for where in LIES:
            self.lab.put(where, where.encode())
        self.clock, self.store, self.sites = self.lab.clock, self.lab.store, self.lab.sites
        self.start = self.clock()
        self.mover = SimulatedMover(
            self.lab.world,
            self.clock,
            latency=2.0,
            odds=TransferOdds(corrupt=0.04, source_vanished=0.02, reply_lost=0.05),
            rng=self.rng,
        )
        self.glance = Glance(self.store, self.sites)
        self.crew = Crew(
            rng=self.rng,
            clock=self.clock,
            store=self.store,
            glance=self.glance,
            shared=story.shared,
            make=self._broker,
        )
        self.broken = Broken(
            late_keys=self.crew.late,
            dishonest={o.config.name for o in story.ordeals if o.dishonest},
            ungated={o.config.name for o in story.ordeals if o.wiped or o.lost},
            gone={o.config.name for o in story.ordeals if o.lost},
            doubling={o.config.name for o in story.ordeals if o.doubles},
        )
        self.births: list[int] = []
        """When dead processes are replaced."""
        self.answers, self.cleared = 0, 0
        self.found: list[str] = []
        self._plan()

    def _plan(self) -> None:
        story = self.story
        for ordeal in story.ordeals:
            self.sites[ordeal.config.name].inline = not ordeal.slow
            for fault in ordeal.faults:
                end = None if fault.end is None else fault.end + self.start
                model = self.sites[ordeal.config.name].model
                model.inject(replace(fault, start=fault.start + self.start, end=end))
        plan: list[tuple[float, Callable[[], None]]] = [(story.clears, self._clear)]
        plan += [(at, lambda c=c: self._command(*c)) for at, *c in story.commands]
        plan += [(at, lambda d=d: self._drain(*d)) for at, *d in story.drains]
        plan += [(at, lambda name=name: self._tear(name)) for at, name in story.tears]
        self.plan = sorted(((self.start + micros(at), i, act) for i, (at, act) in enumerate(plan)), reverse=True)
        self.run_id = self.lab.submit(*story.stages, run_id=f"run-{story.seed}")

    # -- the broker's making -------------------------------------------------------------------------------------

    def _broker(self, process: Process) -> Broker:
        store = SplitStore(self.store, process.between) if self.story.split else self.store
        return Broker(
            Parts(
                store=StoreSeam(store, "store", process),
                configs=self.lab.configs,
                sites={name: Seam(s, f"site:{name}", process) for name, s in self.sites.items()},
                mover=Seam(self.mover, "mover", process),
                clock=self.clock,
                owner=process.owner,
                elapsed=lambda: seconds(self.clock()),
                places=self.lab.places,
                among_others=self.story.shared,
            )
        )

    # -- the story -----------------------------------------------------------------------------------------------

    def play(self) -> Result:
        self.crew.start_process()
        self.crew.start_process()
        changed, seen = self.clock(), (-1, 0)
        moved, still = self.clock(), 0
        while seconds(self.clock() - self.start) < LIMIT:
            self._happen()
            moved, still = (moved, still + 1) if moved == self.clock() else (self.clock(), 0)
            if still > SPIN:
                self.found.append("spins: much is done, and no time passes")
                break
            if self.crew.go_on():
                continue
            if not self.plan and self._quiet():
                break
            now_seen = self._progress()
            if now_seen != seen:
                changed, seen = self.clock(), now_seen
            elif not self.plan and seconds(self.clock() - max(changed, self.cleared)) > PATIENCE:
                if not self._answer():
                    break
                changed = self.clock()
            self._pass_time()
        self.found += judge(self.store, self.sites, self.broken)
        self.found += copies_are_real(self.store, self.lab.world)
        self.found += self._stuck()
        span = seconds(self.clock() - self.start)
        late = len(self.broken.late_keys)
        return Result(self.story.seed, ends(self.store, self.run_id), self.found, self.crew.steps, late, span)

    def _happen(self) -> None:
        now = self.clock()
        while self.plan and self.plan[-1][0] <= now:
            self.plan.pop()[2]()
        missing = 2 - len(self.crew.processes) - len(self.births)
        self.births += [now + micros(self.rng.uniform(0, 20)) for _ in range(missing)]
        for at in [at for at in self.births if at <= now]:
            self.births.remove(at)
            self.crew.start_process()
            if self.rng.random() < 0.5:  # a process that finds its predecessor dead breaks its leases at once
                self._break_leases({process.owner for process in self.crew.processes})

    def _break_leases(self, living: set[str]) -> None:
        self.store.break_leases(lambda owner: owner not in living)

    def _pass_time(self) -> None:
        """Jump to where something may happen, and sweep there."""
        now = self.clock()
        ahead = [self.crew.next_message(), self.glance.next_due(), self.mover.next_event_at()]
        ahead += [process.wakes_at for process in self.crew.processes if process.wakes_at > now]
        ahead += [*self.births, *([self.plan[-1][0]] if self.plan else [])]
        for name in self.glance.watched():
            ahead += self.crew.looks_at(name)
        times = [at for at in ahead if at is not None]
        self.clock.advance_to(max(min(times, default=0), now + micros(0.5)))
        if min(times, default=0) <= self.clock():
            self.crew.sweep()
        else:
            self.clock.advance(30)
            self.crew.sweep()

    def _clear(self) -> None:
        """The weather clears: nothing goes wrong any more."""
        self.crew.stormy, self.cleared = False, self.clock()
        for process in self.crew.processes:
            process.wakes_at = min(process.wakes_at, self.clock())
        self.mover._odds = TransferOdds()
        for site in self.sites.values():
            dice = site.model._dice
            dice._chances = dict.fromkeys(dice._chances, 0.0)

    def _command(self, kind: str, stage: str, args: dict[str, str]) -> None:
        if kind in ("move", "retry") and stage:
            self.broken.overruled.add(stage)
        self.lab.command(self.run_id, kind, stage, **args)

    def _drain(self, site: str, mode: str) -> None:
        self.store.set_site_mode(site, mode=mode, by="operator", reason="tests")

    def _tear(self, name: str) -> None:
        """Half of a checkpoint's file is gone, and its manifest does not know."""
        disk = self.sites[name].model.disk
        files = [(path, blob) for path, blob in disk.files_below("runs") if path.endswith("/files/progress.sim")]
        if files:
            path, blob = self.rng.choice(files)
            disk.put(path, blob.cut(blob.size // 2))

    # -- the end -------------------------------------------------------------------------------------------------

    def _progress(self) -> tuple[int, int]:
        run = self.glance.run(self.run_id)
        return run.unsettled, sum(len(site.model.journal.executions) for site in self.sites.values())

    def _quiet(self) -> bool:
        run = self.glance.run(self.run_id)
        return not (run.unsettled or run.open_attempts or run.commands or self.glance.pending(self.run_id))

    def _answer(self) -> bool:
        """A person answers every stage that asks; False: none does, or they have asked often enough."""
        asking = [s.path for s in self.store.stages(self.run_id) if s.state == "AWAITING_DECISION"]
        if not asking or self.answers == QUESTIONS:
            return False
        self.answers += 1
        for path in asking:
            self._command("retry", path, {})
        return True

    def _stuck(self) -> list[str]:
        """Stages that are not over, though nothing stands in their way."""
        return [
            f"stuck: {stage.path} is {stage.state}: {stage.reason}"
            for stage in self.store.stages(self.run_id)
            if stage.state in _GO_ON and not self._may_wait(stage)
        ]

    def _may_wait(self, stage: Any) -> bool:
        """Does it, or something that it needs, wait for a site that is gone, or for a person?"""
        rows = self.store.attempts(self.run_id, stage.n)
        if any(row.open and row.site in self.broken.gone for row in rows):
            return True
        if "cannot be read" in "".join(e.note for e in self.store.effects(self.run_id) if e.n == stage.n):
            return bool(self.broken.gone)
        needs = {dep.parent for dep in self.store.deps(self.run_id) if dep.child == stage.n}
        parents = [s for s in self.store.stages(self.run_id) if s.n in needs]
        return any(p.state == "AWAITING_DECISION" or (p.state in _GO_ON and self._may_wait(p)) for p in parents)
