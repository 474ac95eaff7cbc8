"""The nouns of a site, as frozen values.

Times are integer microseconds since the Unix epoch, UTC. Sizes are bytes, durations are seconds.
Paths are POSIX and relative to the site's root unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum


class JobState(Enum):
    """What a site says of a job. The table of native words is each connector's own."""

    QUEUED = "queued"
    """Accepted, waiting for resources. Also: requeued, with `restarts` one higher."""
    HELD = "held"
    """In the queue, but will not start until somebody releases it."""
    RUNNING = "running"
    """Has resources. A suspended job stays RUNNING and keeps its native word."""
    SUCCEEDED = "succeeded"
    """Ended, and the site saw exit code 0. Whether the outputs are there is another question."""
    FAILED = "failed"
    """Ended with a non-zero exit code or by a fault the site books to the job."""
    CANCELED = "canceled"
    """Ended because somebody asked for it."""
    PREEMPTED = "preempted"
    """Ended to make room for other work, and was not requeued."""
    TIMED_OUT = "timed_out"
    """Ended by the site at its time limit."""
    OUT_OF_MEMORY = "out_of_memory"
    """Ended by the site because it used more memory than it had asked for."""
    NODE_FAILED = "node_failed"
    """Ended because what it ran on failed."""
    LOST = "lost"
    """The site answered completely, and does not know the job (any more)."""
    UNKNOWN = "unknown"
    """The site used a word that we do not know, or could not say. Never final."""

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELED,
        JobState.PREEMPTED,
        JobState.TIMED_OUT,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAILED,
        JobState.LOST,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One job as the site sees it. `key` is ours, `native_id` the site's (and no identity: sites reuse ids)."""

    key: str
    native_id: str
    state: JobState
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    """How often the site itself started the job again (Slurm's restart count)."""
    native_state: str = ""
    native_reason: str = ""
    stuck_reason: str = ""
    """Not empty: the job is queued for a reason that time will not cure."""
    submitted_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """An answer to «which of these jobs are there?». Absence counts only when `complete`."""

    items: Sequence[JobStatus]
    complete: bool
    as_of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFile:
    """A control file: at most a few hundred kilobytes, written with the job. `mode` is octal permission bits."""

    path: str
    content: bytes
    mode: int = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job asks for, site-neutral; counts are per job, `memory` is bytes per node (0: the site's default)."""

    nodes: int = 1
    cores: int = 1
    gpus: int = 0
    memory: int = 0
    walltime: float | None = None
    """Seconds; None: the site's longest."""
    ranks: int = 0
    """Processes of the payload over all nodes; 0: not said."""
    ranks_per_node: int = 0
    exclusive: bool = False
    """Whole nodes, shared with nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """What a site's lane takes, beside the scheduler's words for it. Durations in seconds; None: not said."""

    charge: float = 1.0
    """What a node hour there costs, in node hours."""
    min_walltime: float | None = None
    """A job that asks for less has no business there."""
    max_walltime: float | None = None
    min_nodes: int = 1
    max_nodes: int | None = None
    walltimes: tuple[tuple[int, float], ...] = ()
    """(nodes, seconds), ascending: up to so many nodes a job may last so long."""

    def longest(self, nodes: int) -> float | None:
        """The longest that a job of so many nodes may ask for; None: not said."""
        step = next((seconds for most, seconds in self.walltimes if nodes <= most), None)
        known = [limit for limit in (step, self.max_walltime) if limit is not None]
        return min(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """How a machine charges for what runs on it: counted things times hours times factors."""

    unit: str = "node_hours"
    """node_hours, core_hours, gpu_hours: what is counted; usd: nodes are, and paid for in money."""
    factor: float = 1.0
    """What one node, core or GPU costs in an hour, in the unit; a lane's own (`LaneLimits.charge`) is multiplied."""
    usd_per_hour: float = 0.0
    """Dollars for one unit, where hours are bought; of the unit usd: 1."""
    whole_nodes: bool = False
    """Are all cores and GPUs of a node charged, however few are asked for?"""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    """By the name that jobs ask for them by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Nodes kept for us for a time, all of which is charged, used or not."""

    nodes: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a site says that an account has left of one kind of hours. In the unit, not in millionths of it."""

    account: str
    granted: float
    used: float
    unit: str
    """node_hours, core_hours, gpu_hours or usd."""
    pool: str = ""
    """Which jobs draw on it: cpu, gpu, or all of them (empty)."""
    ends_at: int | None = None
    """When what is left of it is forfeit; None: the site does not say."""

    @property
    def left(self) -> float:
        return self.granted - self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """What a site's own accounting says of the jobs behind one key, all of its executions together."""

    key: str
    node_seconds: float
    """Nodes times seconds that it held them."""
    core_seconds: float | None = None
    """Cores times seconds; None: not told."""
    complete: bool = True
    """Are they all over? One that goes on will have cost more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One execution to ask for. The connector writes `files` below `directory`, then starts `entry` there."""

    key: str
    """The submit key: 15 characters of [a-z0-9], in the job's name and comment. Find by it, adopt by it."""
    digest: str
    """Digest of what would run; a job found under `key` with another digest is not ours to adopt."""
    directory: str
    entry: str
    """Path of the script to start, relative to `directory`; run as `/bin/sh ENTRY` with `directory` as cwd."""
    files: Sequence[SmallFile] = ()
    resources: Resources = field(default_factory=Resources)
    submit: Mapping[str, str] = field(default_factory=dict)
    """Scheduler words of this site (queue, qos, account, ...): the profile's, the lane's, the account and the stage's
    own, put together already. A word without a value is a flag ("exclusive": "")."""
    image: str = ""
    """Container image of the payload, for sites that run containers themselves (Kubernetes, AWS Batch); elsewhere it
    is part of the payload's launch line."""
    warn_before: int = 0
    """Seconds before the job's end at which the scheduler is to send it USR1, where it can; 0: never."""
    comment: str = ""
    requeue: bool = True
    """May the site start the job again by itself?"""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variables that the job's process is started with, and the name under which the site's owner keeps each value.
    Sites that are not on this machine are never asked for a job with any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a site would be given for a job, to be read by a person; no secret is in it."""

    script: str
    """The job script, as the scheduler gets it; empty where there is none."""
    request: str
    """The call that carries it: a command line, or method, address and body."""


# -- answers to a submission, one per key ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The site has the job. `adopted`: it had it before this call (found by its key)."""

    native_id: str
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The site took the request and will say later which job it became; look it up by key."""

    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The site said no, and certainly started nothing. `fault` is a value of errors.Fault."""

    reason: str
    fault: str = "site"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """No clear answer came back: a job may or may not exist. Find by key before anything else."""

    reason: str


SubmitAnswer = Accepted | Ticket | Refused | Doubtful


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One entry of a listing; `path` is relative to the site's root. `size` is bytes, 0 for a folder."""

    path: str
    size: int
    is_dir: bool = False
    modified_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measured fact about a site's capability, never a judgement."""

    site: str
    capability: str
    """One of submit, status, files, transfer, compute, credentials."""
    ok: bool
    at: int
    latency: float = 0.0
    detail: str = ""
    until: int | None = None
    """When this ends by itself, where the site says so: a credential's expiry, a maintenance window's end; of a window
    that is still to come (`ok`), when it begins."""
    source: str = "probe"
    """`probe`: measured here; `feed`: the site's own word on itself, which clears nothing that was measured."""
    word: str = ""
    """Of a feed: `degraded` (it works, but not well), `maintenance` (a window that is announced or open)."""

    def published(self, word: str = "") -> Evidence:
        """The same, as the site's own word on itself."""
        return replace(self, source="feed", word=word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step of a site's check."""

    step: str
    """One of credentials, expiry, status, allocation, files, submit, canary, collection, claim."""
    ok: bool | None
    """None: not tried, or nothing to try."""
    detail: str = ""
    help: str = ""
    """What mends it: a command or a setting, where there is one."""


# -- moving data -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferItem:
    """One file or, when `source` ends in `/`, one folder with all below it. Paths relative to each side's root.

    `size` and `sha256` are checked where given (files only); a folder's files are hashed on both sides.
    """

    source: str
    destination: str
    size: int | None = None
    sha256: str | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One more place where a transfer's files lie: the same files, with this side's own paths."""

    site: str
    items: Sequence[TransferItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Files to bring from one side to another. Asking twice under one key moves them once.

    A side is a site by its name, a place by its name with a colon (`cfs:`), or the broker's own store ("").
    """

    key: str
    source_site: str
    destination_site: str
    items: Sequence[TransferItem]
    label: str = ""
    """What a person would call it: run, stage, attempt."""
    others: Sequence[Origin] = ()
    """Where else the files may be taken from. Whoever chooses the route chooses the source; a mover never looks."""
    private: bool = False
    """Nobody reads at the destination before SUCCEEDED was told: an attempt's own folder. The files may then be written
    under their final names, where a mover has no quick way to rename many."""
    urgent: bool = False
    deadline: int | None = None
    """µs; nothing is to be written after it."""
    about: str = ""
    """What it is wanted for, in whatever words the asker finds it again by; movers keep nothing of it."""


class TransferState(Enum):
    """Where a transfer stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    """Every item is at its destination and was verified there."""
    FAILED = "failed"
    """Ended without; nothing was published at the destination. `fault` says whose fault."""
    HELD = "held"
    """Alive, but it goes no further until a person acts; `help` says what to do."""
    UNKNOWN = "unknown"
    """The mover does not know the key (it was restarted): ask again, the same key is harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStatus:
    key: str
    state: TransferState
    bytes_moved: int = 0
    reason: str = ""
    fault: str = ""
    """A value of errors.Fault when FAILED: "staging" (missing, corrupt), "quota", or "site" (a side is away)."""
    site: str = ""
    """The side that is at fault, where that is known."""
    files_moved: int = 0
    faults: int = 0
    """What the service behind it had to try again."""
    detail: str = ""
    """What it is doing or waiting for, in the service's words: queued, connection failed, paused."""
    help: str = ""
    """The command that a person types, where only a person helps."""
    native_id: str = ""
    """What the service calls it, where there is one."""
    calls_back: bool = False
    """Whoever it is about is woken when it ends: there is no need to ask again and again."""
    bad_items: Sequence[str] = ()
    """Of a FAILED transfer, the sources of the items that are known to be missing or damaged, as they were asked for;
    empty: not known, or all. One that gave up at the first names that one."""
