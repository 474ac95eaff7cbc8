"""One worker at a time over simulated sites, ended at a numbered point; another one goes on from the rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker_kit import Lab, Stage
from simulation.seams import Call
from simulation.truth import Broken, ends, judge

from broker.core import Broker
from broker.store.base import StoreBusy, StoreError
from connectors.errors import SiteUnreachable
from connectors.registry import SiteConfig
from sandbox.faults import Window

STEP = 5.0
"""Seconds of virtual time between two rounds of the driver."""


class Crash(BaseException):
    """The worker is no more. Not an Exception: nothing in the broker may catch it and live."""


@dataclass
class Points:
    """Counts the calls at the seams; at the chosen one it ends the worker, or loses the answer."""

    at: int = -1
    variant: str = "crash"
    """`crash` before the call; `reply`: it was made, and its answer is lost; `nap`: the worker stands still."""
    seen: list[Call] = field(default_factory=list)
    dead: bool = False
    struck: bool = False
    nap: Callable[[], None] = lambda: None

    def before(self, call: Call) -> None:
        if self.dead:
            raise Crash
        self.seen.append(call)
        if len(self.seen) - 1 != self.at:
            return
        if self.variant == "crash":
            self.struck = self.dead = True
            raise Crash
        if self.variant == "nap":
            self.struck = True
            self.nap()

    def after(self, call: Call) -> None:
        if self.dead:
            raise Crash
        if len(self.seen) - 1 == self.at and self.variant == "reply" and not self.struck:
            self.struck = True
            if call.of in ("store", "decision"):
                raise StoreBusy("the answer of the store was lost")
            raise SiteUnreachable("the answer of the site was lost", site=call.of.removeprefix("site:"))


@dataclass(frozen=True)
class Scenario:
    """A small story: sites, stages, and what befalls them when (seconds)."""

    name: str
    sites: Sequence[SiteConfig]
    stages: Sequence[Stage]
    commands: Sequence[tuple[float, str, str, dict[str, str]]] = ()
    """(when, kind, stage or empty, arguments)"""
    faults: Sequence[tuple[str, Callable[[int], Window]]] = ()
    """(site, fault from the story's first moment)"""
    ordained: Sequence[tuple[str, str]] = ()
    """(site, name of the odds that befall once)"""


@dataclass(frozen=True)
class Played:
    """How a story ended."""

    ends: tuple[str, ...]
    found: Sequence[str]
    points: Sequence[Call]


class Rig:
    """Plays a scenario with workers that may be ended at any point."""

    def __init__(self, scenario: Scenario, points: Points, *, heal: str = "break", naps: int = 12) -> None:
        self.scenario, self.points, self.heal = scenario, points, heal
        self.lab = Lab(*scenario.sites)
        self.start = self.lab.clock()
        points.nap = lambda: self.lab.clock.advance(STEP * naps)
        for site, fault in scenario.faults:
            self.lab.sites[site].model.inject(fault(self.start))
        for site, odds in scenario.ordained:
            self.lab.sites[site].model.ordain(odds)
        self.run_id = self.lab.submit(*scenario.stages, run_id="run")
        self.broker = self.worker("first")

    def worker(self, owner: str) -> Broker:
        """A new worker; another one, should it end while it is being made."""
        self.owner = owner
        try:
            return self.lab.new_broker(owner, hook=self.points)
        except Crash:
            self.points.dead = False
            return self.worker(f"after-{owner}")
        except StoreError:
            return self.worker(owner)

    def play(self, *, rounds: int = 400) -> Played:
        """Until the run is final and everything is put away."""
        asked = list(self.scenario.commands)
        for _ in range(rounds):
            seconds = (self.lab.clock() - self.start) / 1e6
            while asked and asked[0][0] <= seconds:
                _, kind, stage, args = asked.pop(0)
                self.lab.command(self.run_id, kind, stage, **args)
            self._round()
            if not asked and self._quiet():
                break
            self.lab.clock.advance(STEP)
        found = judge(self.lab.store, self.lab.sites, Broken())
        if self.lab.state(self.run_id) not in ("SUCCEEDED", "FAILED", "CANCELED"):
            found.append(f"stuck: {ends(self.lab.store, self.run_id)}")
        return Played(ends(self.lab.store, self.run_id), found, tuple(self.points.seen))

    def _round(self) -> None:
        """What the sweeper does: look at sites, go on with runs. A store that is busy is met again next time."""
        try:
            for name in self.broker.sites_to_look_at():
                self._guarded(lambda name=name: self.broker.look(name))
            for run_id in self.broker.due():
                self._guarded(lambda run_id=run_id: self._go_on(run_id))
        except StoreError:
            return
        except Crash:
            self._bury()

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except StoreError:
            return

    def _go_on(self, run_id: str) -> None:
        while (drained := self.broker.go_on(run_id)) is not None and drained.busy:
            pass

    def _bury(self) -> None:
        """The worker is thrown away. Its leases and claims are broken, or lapse by themselves."""
        dead, self.points.dead = self.owner, False
        if self.heal == "break":
            self.lab.store.break_leases(lambda owner: owner == dead)
        self.broker = self.worker(f"after-{dead}")

    def _quiet(self) -> bool:
        store = self.lab.store
        run = store.run(self.run_id)
        assert run is not None
        final = run.state in ("SUCCEEDED", "FAILED", "CANCELED") and not run.commands
        if not final or run.open_attempts:
            return False
        return not any(effect.state == "pending" for effect in store.effects(self.run_id))
