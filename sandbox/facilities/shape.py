"""What a rehearsal facility is like: its queues, accounts, memory and manners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandbox.queue import Reservation
from sandbox.shape import SiteShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A partition. `priority` above 0 pushes out what is below 0, where the facility preempts."""

    max_walltime: float | None = 86_400.0
    """Seconds; None: no limit."""
    max_nodes: int = 0
    """0: all there are."""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilityShape:
    """Durations are seconds."""

    name: str
    dialect: str = "slurm"
    """Whose variables jobs find, and whose words refusals use: slurm or pbs."""
    user: str = "user"
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where jobs and login shells look for programs."""
    nodes: int = 4
    cores_per_node: int = 2
    queues: Mapping[str, Queue] = field(default_factory=lambda: {"regular": Queue()})
    """The first one is the default."""
    qos: Mapping[str, int] = field(default_factory=dict)
    """Priorities by quality of service; empty: any word is taken."""
    accounts: Sequence[str] = ()
    """Empty: any account is taken, and none is needed."""
    reservations: tuple[Reservation, ...] = ()
    enforce_limits: bool = False
    """True: a job that can never run is refused. False: it waits for ever, with a reason, as Slurm's default is."""
    whole_nodes: bool = False
    """A job has its nodes for itself."""
    cancel_grace: float = 2.0
    """Between TERM and KILL of a canceled job; the same at a time limit."""
    preempting: bool = True
    preempt_notice: float = 2.0
    requeue_delay: float = 1.0
    submit_latency: float = 0.0
    listing_lag: float = 0.0
    min_job_age: float = 300.0
    """How long the scheduler knows a job that has ended."""
    accounting_age: float = 14 * 86_400.0
    """How long the accounting does."""
    granted_node_hours: float = 1_000.0
    first_id: int = 1001

    def site(self) -> SiteShape:
        """As the batch model wants it."""
        return SiteShape(
            nodes=self.nodes,
            cores_per_node=self.cores_per_node,
            enforce_limits=False,
            submit_latency=self.submit_latency,
            listing_lag=self.listing_lag,
            requeue_delay=self.requeue_delay,
            cancel_grace=self.cancel_grace,
            kill_wait=self.cancel_grace,
            preempting=self.preempting,
            preempt_notice=self.preempt_notice,
            first_id=self.first_id,
            reservations=self.reservations,
            adopts=False,
        )

    @property
    def default_queue(self) -> str:
        return next(iter(self.queues))

    def slots(self, count: int) -> FacilityShape:
        """The same facility with room for that many jobs of one node each."""
        return replace(self, nodes=count, whole_nodes=True)
