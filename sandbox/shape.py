"""What a simulated site is like when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.model import Resources
from sandbox.queue import Reservation

LANES: Mapping[str, int] = {
    "urgent": 100,
    "realtime": 100,
    "normal": 0,
    "regular": 0,
    "preemptible": -100,
    "preempt": -100,
}
"""Priorities by `submit: {qos: ...}` or `{queue: ...}`; words that are not here count as normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteShape:
    """Durations are seconds."""

    slots: int = 1
    """Jobs that run at once, where `nodes` is 0."""
    nodes: int = 0
    """More than 0: cores are counted instead of slots. A job on one node takes the cores it asks for, a job on
    several takes whole nodes. Which node has the cores is not modelled."""
    cores_per_node: int = 1
    max_walltime: float | None = None
    enforce_limits: bool = True
    """False: a job that can never fit is accepted and waits for ever, as Slurm does without EnforcePartLimits."""
    submit_latency: float = 0.0
    """From acceptance until the scheduler looks at the job."""
    listing_lag: float = 0.0
    """From acceptance until listings show the job."""
    requeue_delay: float = 0.0
    """Slurm was seen to take 121."""
    cancel_grace: float = 0.0
    """Between a cancel and the death of a running job."""
    kill_wait: float = 0.0
    """Between TERM and KILL at a job's time limit, where executions are real."""
    preempting: bool = False
    """Do urgent jobs push out preemptible ones?"""
    preempt_notice: float = 0.0
    first_id: int = 1
    lanes: Mapping[str, int] = field(default_factory=lambda: LANES)
    reservations: tuple[Reservation, ...] = ()
    claim: str = "atomic_fs"
    """How the start gate claims; `none`: there is no gate."""
    adopts: bool = True
    """Does the connector look for a key in the listings before it submits? A bare batch system starts what it is
    given; with `listing_lag` even the look may come too early."""
    latency: float = 0.002
    """What a probe measures; calls themselves take no time."""

    @property
    def capacity(self) -> int:
        return self.nodes * self.cores_per_node if self.nodes else self.slots

    def units(self, resources: Resources) -> int:
        if not self.nodes:
            return 1
        if resources.nodes > 1:
            return resources.nodes * self.cores_per_node
        return max(1, resources.cores)

    def priority(self, submit: Mapping[str, str]) -> int:
        return self.lanes.get(submit.get("qos", ""), self.lanes.get(submit.get("queue", ""), 0))

    def limit_broken(self, resources: Resources) -> str:
        """The limit that a job can never keep, in Slurm's words; empty: none."""
        walltime = resources.walltime
        if self.max_walltime is not None and walltime is not None and walltime > self.max_walltime:
            return "PartitionTimeLimit"
        if self.units(resources) > self.capacity or (self.nodes and resources.nodes > self.nodes):
            return "PartitionConfig"
        return ""
