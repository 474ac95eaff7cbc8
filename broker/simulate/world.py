"""One start: simulated sites that fade as traces tell, a store in memory, and the real broker over them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from broker.clock import VirtualClock, micros
from broker.core import Broker, Parts
from broker.jobs import BLOBS
from broker.simulate.setting import Setting
from broker.simulate.stage import new_run
from broker.simulate.uptime import Uptime
from broker.spec import CompiledRun
from broker.store.base import Store
from broker.store.sql import SqlStore
from connectors.model import JobSpec, SubmitAnswer, Tariff
from connectors.registry import SiteConfig
from policies.doubt import TOGETHER
from policies.numbers import USUAL_NUMBERS, Numbers
from sandbox.connector import SimulatedSite
from sandbox.faults import ComputeDown, Partition, Preemption
from sandbox.mover import SimulatedMover
from sandbox.shape import SiteShape
from sandbox.site import SiteModel
from sandbox.world import SimulatedWorld

ORIGIN = 1_767_225_600
"""Seconds since the Unix epoch at which every trace begins here; a whole day, so that ticks fall on looks."""
PROBES = 4
"""Looks within the detection time; so often a site is looked at."""
SLOTS = 16
"""Places at each site: copies that were left behind must not keep the stage out."""
EVERYBODY = 1_000_000
ONE_PROVIDER = "recorded"
"""Whose the sites are of which a trace tells a tick at a time, when that is longer than the time within which silences
count as having begun together: it cannot tell those that did from those that began minutes apart."""


Wait = Callable[[float], float]
"""Seconds that a job waits in a site's queue which is submitted at that second of the trace."""


def no_wait(_at: float) -> float:
    """Of sites whose traces tell of no queue."""
    return 0.0


@dataclass(slots=True)
class Trail:
    """Where the stage has worked last."""

    site: str = ""


class FadingSite(SimulatedSite):
    """A site of the trace: a job waits as long as its queue says, and a stage that worked elsewhere before begins here
    after the time that a move takes."""

    def __init__(self, model: SiteModel, clock: VirtualClock, *, trail: Trail, move: float, wait: Wait) -> None:
        super().__init__(model, clock)
        self._trail, self._move, self._wait = trail, move, wait
        self.up = True
        model.on_start(self._started)

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        comes_from_elsewhere = self._trail.site not in ("", self.name)
        latency = self._wait(self._clock() / 1e6 - ORIGIN) + (self._move if comes_from_elsewhere else 0.0)
        self.model.shape = replace(self.model.shape, submit_latency=latency)
        return super().submit(specs)

    def fade(self, now: int, until: int | None) -> None:
        """Everything that runs there is lost to somebody else, and the front end is silent."""
        self.up = False
        self.model.inject(Preemption(start=now, count=EVERYBODY, requeue=False))
        self.model.inject(ComputeDown(start=now, end=until))
        self.model.inject(Partition(start=now, end=until))

    def come_back(self) -> None:
        """Its time has come; the windows that `fade` opened end by themselves."""
        self.up = True

    def _started(self, _spec: JobSpec, _now: int) -> None:
        self._trail.site = self.name


class World:
    """All that one start needs. Times are the virtual clock's (µs); `at` turns a trace's seconds into them."""

    def __init__(
        self,
        traces: Sequence[Uptime],
        setting: Setting,
        made: CompiledRun,
        *,
        start: float,
        seed: int,
        waits: Mapping[str, Wait] | None = None,
        numbers: Numbers = USUAL_NUMBERS,
    ) -> None:
        """`waits`: of the sites' queues, by name; none where a site is not named."""
        self.setting, self.traces = setting, traces
        self._waits = waits or {}
        self.start, self.limit = at(start), at(start + setting.limit)
        self.clock = VirtualClock(self.start)
        self.poll = look_every(setting)
        bits = random.Random(seed)  # noqa: S311 - a reproducible study, no secret
        self.store: Store = SqlStore("sqlite://", clock=self.clock, bits=bits.getrandbits)
        self._places = SimulatedWorld()
        self._places.add_memory(BLOBS)
        trail = Trail()
        self.sites = {trace.site: self._site(trace, trail, seed) for trace in traces}
        configs = {trace.site: self._config(trace) for trace in traces}
        self.store.ensure_sites(self.sites)
        self.broker = Broker(
            Parts(
                store=self.store,
                configs=configs,
                sites=self.sites,
                mover=SimulatedMover(self._places, self.clock),
                clock=self.clock,
                owner="simulate",
                elapsed=lambda: 0.0,
                numbers=numbers,
                failovers_per_minute=numbers.brake.per_minute,
            )
        )
        self.run_id = f"start-{seed}"
        self.store.create_run(new_run(made, self.run_id, now=self.start))

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _site(self, trace: Uptime, trail: Trail, seed: int) -> FadingSite:
        model = SiteModel(
            name=trace.site,
            shape=SiteShape(slots=SLOTS),
            rng=random.Random(f"{seed} {trace.site}"),  # noqa: S311 - a reproducible study, no secret
            start=self.start,
        )
        wait = self._waits.get(trace.site, no_wait)
        site = FadingSite(model, self.clock, trail=trail, move=self.setting.move, wait=wait)
        self._places.add(site)
        return site

    def _config(self, trace: Uptime) -> SiteConfig:
        """As a person would write the site down who knows how often it is lost."""
        charge = self.setting.charge
        return SiteConfig(
            name=trace.site,
            connector="simulated",
            slots=SLOTS,
            provider=ONE_PROVIDER if trace.tick > TOGETHER else "",
            poll=self.poll,
            unreachable_probes=PROBES,
            unreachable_seconds=self.setting.detection,
            losses_every=max(60.0, trace.losses_every),
            tariff=None if charge is None else Tariff(factor=charge.get(trace.site, 1.0)),
        )


def at(seconds: float) -> int:
    """That second of the traces on the virtual clock."""
    return micros(ORIGIN + seconds)


def look_every(setting: Setting) -> float:
    """Seconds between two looks at a site: whole ones, and at least PROBES within the detection time."""
    return float(max(1, ceil(setting.detection / PROBES)))
