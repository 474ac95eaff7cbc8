"""One worker at a time over simulated sites, ended at numbered points; another one goes on from the rows alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_kit import Lab, Stage
from simulation.seams import Call

from broker.clock import VirtualClock, micros
from broker.core import Broker
from broker.drill.truth import Broken, copies_are_real, data_stays, ends, judge
from broker.store.base import StoreBusy, StoreError, WaiverRow
from broker.store.sql import SqlStore
from connectors.errors import SiteUnreachable
from connectors.registry import SiteConfig
from sandbox.faults import Window

STEP = 5.0
"""Seconds of virtual time between two rounds of the driver."""


class Crash(BaseException):
    """The worker is no more. Not an Exception: nothing in the broker may catch it and live."""


class Strike(NamedTuple):
    """What befalls at one point."""

    at: int
    """The call's number, counted over all workers of the story."""
    how: str = "crash"
    """`crash` before the call; `reply`: it was made, and its answer is lost; `nap`: the worker stands still."""
    heal: str = "break"
    """How the next worker learns of a crash: leases and claims are broken, or `wait`: they lapse."""


@dataclass
class Points:
    """Counts the calls at the seams; at the chosen ones it ends the worker, or loses the answer."""

    strikes: tuple[Strike, ...] = ()
    seen: list[Call] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)
    """Those of them that were not met by an error of their own."""
    dead: bool = False
    struck: list[Strike] = field(default_factory=list)
    nap: Callable[[], None] = lambda: None

    def before(self, call: Call) -> None:
        if self.dead:
            raise Crash
        self.seen.append(call)
        if (strike := self._due("crash", "nap")) is None:
            return
        self.struck.append(strike)
        if strike.how == "nap":
            self.nap()
            return
        self.dead = True
        raise Crash

    def after(self, call: Call) -> None:
        if self.dead:
            raise Crash
        self.answered.add(len(self.seen) - 1)
        if (strike := self._due("reply")) is not None:
            self.struck.append(strike)
            if call.of in ("store", "decision"):
                raise StoreBusy("the answer of the store was lost")
            raise SiteUnreachable("the answer of the site was lost", site=call.of.removeprefix("site:"))

    def _due(self, *how: str) -> Strike | None:
        now = len(self.seen) - 1
        return next((s for s in self.strikes if s.at == now and s.how in how and s not in self.struck), None)


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
    service: bool = False
    """Do files go by a service, over the desk?"""
    direct: bool = False
    """Does each worker carry files itself, over a network?"""
    places: Sequence[str] = ()
    files: Sequence[str] = ()
    """PLACE:path of what lies in places from the beginning."""
    latency: float = 0.0
    """Seconds that a transfer takes at least."""
    ordained: Sequence[tuple[str, str]] = ()
    """(site, name of the odds that befall once)"""
    modes: Sequence[tuple[float, str, str, str]] = ()
    """(when, site, mode, what becomes of its stages)"""
    waivers: Sequence[tuple[float, float, str]] = ()
    """(from when, until when, site at which two persons agree that `data.stay` does not hold)"""


Ground = Callable[[], tuple[VirtualClock, SqlStore | None]]
"""Makes what a story stands on: a clock, and an empty store that goes by it (none: one in memory)."""


def in_memory() -> tuple[VirtualClock, SqlStore | None]:
    """A store in memory; the Lab makes it."""
    return VirtualClock(), None


@dataclass(frozen=True)
class Played:
    """How a story ended."""

    ends: tuple[str, ...]
    found: Sequence[str]
    points: Sequence[Call]
    answered: Collection[int]


class Rig:
    """Plays a scenario with workers that may be ended at any point."""

    def __init__(self, scenario: Scenario, *strikes: Strike, naps: int = 12, ground: Ground = in_memory) -> None:
        """`naps`: rounds that a worker stands still; `ground`: makes clock and store."""
        points = Points(strikes)
        self.scenario, self.points = scenario, points
        clock, store = ground()
        kinds = {"service": scenario.service, "direct": scenario.direct}
        self.lab = Lab(*scenario.sites, clock=clock, store=store, places=scenario.places, **kinds)
        self.lab.mover._latency = scenario.latency
        for where in scenario.files:
            self.lab.put(where, where.encode())
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
        asked, agreed = list(self.scenario.commands), list(self.scenario.waivers)
        modes = list(self.scenario.modes)
        for _ in range(rounds):
            seconds = (self.lab.clock() - self.start) / 1e6
            while agreed and agreed[0][0] <= seconds:
                self._agree(*agreed.pop(0))
            while modes and modes[0][0] <= seconds:
                _, site, mode, then = modes.pop(0)
                self.lab.store.set_site_mode(site, mode=mode, by="ann", reason="story", then=then)
            while asked and asked[0][0] <= seconds:
                _, kind, stage, args = asked.pop(0)
                self.lab.command(self.run_id, kind, stage, **args)
            self._round()
            if not asked and not modes and self._quiet():
                break
            self.lab.clock.advance(STEP)
        found = judge(self.lab.store, self.lab.sites, Broken())
        found += data_stays(self.lab.store, self.lab.sites)
        found += copies_are_real(self.lab.store, self.lab.world)
        found += [f"open: transfer {row.key} is {row.state}" for row in self.lab.store.traffic.open_transfers()]
        if self.lab.state(self.run_id) not in ("SUCCEEDED", "FAILED", "CANCELED"):
            found.append(f"stuck: {ends(self.lab.store, self.run_id)}")
        return Played(ends(self.lab.store, self.run_id), found, tuple(self.points.seen), self.points.answered)

    def _agree(self, start: float, end: float, site: str) -> None:
        """Two persons waive `data.stay` for the run at that site."""
        ends_at, now = self.start + micros(end), self.lab.clock()
        if ends_at <= now:
            return  # whoever stood still stood still for all of it
        row = WaiverRow(
            *(f"w-{site}-{start:g}", self.run_id, site, "data.stay", "it has to go on", "ann", now, ends_at),
            *("", None, "", "", None, ""),
        )
        assert self.lab.store.ask_waiver(row)
        assert self.lab.store.confirm_waiver(row.id, by="bob", reason="so it is", now=now)

    def _round(self) -> None:
        """What the sweeper does: look at sites, go on with runs. A store that is busy is met again next time."""
        try:
            for name in self.broker.sites_to_look_at():
                self._guarded(lambda name=name: self.broker.look(name))
            self._guarded(self.broker.tend)
            if self.broker.moves_due():
                self._guarded(self.broker.move)
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
        if self.points.struck[-1].heal == "break":
            self.lab.store.break_leases(lambda owner: owner == dead)
        self.broker = self.worker(f"after-{dead}")

    def _quiet(self) -> bool:
        store = self.lab.store
        run = store.run(self.run_id)
        assert run is not None
        final = run.state in ("SUCCEEDED", "FAILED", "CANCELED") and not run.commands
        if not final or run.open_attempts:
            return False
        if any(effect.state == "pending" for effect in store.effects(self.run_id)):
            return False
        return not store.traffic.open_transfers()
