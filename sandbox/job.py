"""One job in the books of a simulated site, and each execution of it on a node."""

from __future__ import annotations

from connectors.model import JobSpec, JobState, JobStatus
from sandbox.papers import Papers


class Job:
    """The site's record. Changed by `SiteModel` alone, through `set`, so that `status` can be remembered."""

    __slots__ = (
        "_status",
        "available_at",
        "bare",
        "ended_at",
        "execution",
        "exit_code",
        "fate",
        "forgotten",
        "listed_from",
        "native_id",
        "native_reason",
        "native_state",
        "number",
        "order",
        "papers",
        "parked",
        "priority",
        "reservation",
        "restarts",
        "signal",
        "spec",
        "started_at",
        "state",
        "stuck_reason",
        "submitted_at",
        "units",
        "walltime",
    )

    def __init__(self, *, spec: JobSpec, native_id: str, papers: Papers, units: int, now: int) -> None:
        self.spec = spec
        self.native_id = native_id
        self.papers = papers
        self.units = units
        self.submitted_at = now
        self.listed_from = now
        """Before this moment the site's listings do not show the job yet."""
        self.available_at = now
        self.priority = 0
        self.reservation = ""
        self.walltime = spec.resources.walltime
        self.state = JobState.QUEUED
        self.native_state = "PENDING"
        self.native_reason = ""
        self.stuck_reason = ""
        self.restarts = 0
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.started_at: int | None = None
        self.ended_at: int | None = None
        self.execution: Execution | None = None
        """The one that the site believes in."""
        self.fate = ""
        """What the site will book when the execution ends, however it ends: requeued, preempted, canceled."""
        self.bare = False
        """A simulated payload without our harness around it: no gate, no records."""
        self.number = 0
        """In order of acceptance; ids may come twice."""
        self.forgotten = False
        """The site gave an id for it, and knows nothing of it."""
        self.parked = False
        """Waits for something else than room: held, or after another job."""
        self.order: object = None
        """What whoever entered the job wants to find at it again."""
        self._status: JobStatus | None = None

    @property
    def key(self) -> str:
        return self.spec.key

    def set(self, state: JobState, native_state: str, *, reason: str = "") -> None:
        self.state = state
        self.native_state = native_state
        self.native_reason = reason
        self._status = None

    def begin(self, execution: Execution, now: int) -> None:
        self.execution = execution
        self.started_at = now
        self.fate = ""
        self.set(JobState.RUNNING, "RUNNING")

    def back_in_queue(self, *, reason: str) -> None:
        """Requeued: the same id, one restart more, and no trace of why."""
        self.restarts += 1
        self.execution = None
        self.started_at = None
        self.fate = ""
        self.set(JobState.QUEUED, "PENDING", reason=reason)

    def end(self, state: JobState, native_state: str, now: int, *, code: int | None, signal: int | None) -> None:
        self.exit_code = code
        self.signal = signal
        self.ended_at = now
        self.set(state, native_state)

    @property
    def status(self) -> JobStatus:
        if self._status is None:
            self._status = JobStatus(
                key=self.spec.key,
                native_id=self.native_id,
                state=self.state,
                exit_code=self.exit_code,
                signal=self.signal,
                restarts=self.restarts,
                native_state=self.native_state,
                native_reason=self.native_reason,
                stuck_reason=self.stuck_reason,
                submitted_at=self.submitted_at,
                started_at=self.started_at,
                ended_at=self.ended_at,
            )
        return self._status


class Execution:
    """One start of a job on a node. `Journal` keeps them as the truth about what ran."""

    __slots__ = (
        "alive",
        "asked",
        "began",
        "ended_at",
        "factor",
        "generation",
        "how",
        "job",
        "key",
        "left_record",
        "native_id",
        "owner",
        "progress",
        "progress_at",
        "records",
        "restore_seq",
        "seq",
        "started_at",
        "stop_at",
    )

    def __init__(self, *, job: Job, host: str, factor: float, nonce: int, now: int) -> None:
        self.job = job
        self.key = job.spec.key
        self.native_id = job.native_id
        self.owner = f"{job.native_id}.{job.restarts}.{host}.boot.{now // 1_000_000}-{nonce}"
        """What it writes into the claim."""
        self.generation = 0
        """0: it has not passed the start gate."""
        self.started_at = now
        self.ended_at: int | None = None
        self.how = ""
        """How it ended: done, failed, gated, too_late, stopped, restore_failed, timed_out, out_of_memory,
        preempted, node_failed, canceled, no_disk. Empty while it runs."""
        self.alive = True
        self.began = False
        """Has its payload really begun?"""
        self.left_record = False
        """Did its wrapper write an exit record?"""
        self.factor = factor
        """How slow the node is; 1: as the payload says."""
        self.progress = 0.0
        """Seconds of work done at `progress_at`."""
        self.progress_at = now
        self.restore_seq: int | None = None
        self.seq = 0
        """Of the newest checkpoint known to it."""
        self.records = 0
        """Spool records written so far."""
        self.asked = ""
        self.stop_at: int | None = None
        """When the wrapper or the site will end it, whatever the payload does."""

    @property
    def host(self) -> str:
        return self.owner.split(".")[2]

    def last_beat(self, beat: int, now: int) -> int:
        """The last sign of life that others have seen (µs); `beat` is the rhythm in seconds."""
        lived = (now if self.ended_at is None else self.ended_at) - self.started_at
        return self.started_at + lived // (beat * 1_000_000) * beat * 1_000_000

    def work_done(self, now: int) -> float:
        """Seconds of the payload's work, restored work included."""
        return self.progress + (now - self.progress_at) / 1_000_000 / self.factor

    def when(self, progress: float) -> int:
        """The moment at which that much work will be done."""
        return self.progress_at + round(max(0.0, progress - self.progress) * self.factor * 1_000_000)
