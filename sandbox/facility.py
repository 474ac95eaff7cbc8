"""A rehearsal facility: what its faces may ask of it, and how what they ask is written down.

Behind this port stands the batch model with real processes, the model with simulated payloads under a virtual clock, or
a real Slurm. Faces translate: their protocol's words in, `Order`s and `JobView`s through, their protocol's words out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from connectors.model import FileInfo, JobState
from sandbox.faces.http import Request


class OrderRefused(Exception):
    """The scheduler says no. `kind`: time, nodes, queue, account, qos, reservation, script or limit; the text is what
    Slurm would print."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job as a face was asked for it. Everything that stood in the script's head is in here already."""

    name: str = ""
    comment: str = ""
    script: str = ""
    """What runs: the whole script with its head, for the interpreter in its first line."""
    argv: Sequence[str] = ()
    """Instead of a script: a program and its arguments."""
    directory: str = ""
    """Absolute, as the facility names it; empty: the user's home."""
    user: str = "user"
    queue: str = ""
    """Partition or queue; empty: the default one."""
    qos: str = ""
    account: str = ""
    reservation: str = ""
    nodes: int = 1
    cores: int = 1
    gpus: int = 0
    memory: int = 0
    walltime: float | None = None
    """Seconds; None: the queue's longest."""
    requeue: bool = True
    singleton: bool = False
    """Not beside another job of this name."""
    hold: bool = False
    warn_before: int = 0
    """Seconds before the end at which the job's shell gets USR1."""
    env: Mapping[str, str] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    """Absolute; empty: as stdout."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What only this face needs again, such as a manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as the scheduler knows it. Times are µs."""

    native_id: str
    order: Order
    state: JobState
    word: str
    """Slurm's word: PENDING, RUNNING, COMPLETED, NODE_FAIL, ..."""
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    submitted_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    nodes: Sequence[str] = ()
    start_expected_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A window in which a part of the facility is, or will be, down or degraded. µs; `end` None: open."""

    resource: str
    start: int
    end: int | None
    planned: bool
    description: str = ""
    degraded: bool = False


class FacilityFiles(Protocol):
    """The facility's file system; paths are absolute and lie below its root, or it raises UnsafePath. A real folder
    stands behind it where jobs are real processes."""

    root: str
    """The folder that users may write in, absolute, as jobs see it."""

    def read(self, path: str, *, offset: int = 0, limit: int | None = None) -> bytes:
        """Raises NotThere."""
        ...

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None: ...
    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        """Paths relative to `path`. Raises NotThere."""
        ...

    def stat(self, path: str) -> FileInfo:
        """Raises NotThere."""
        ...

    def mkdir(self, path: str) -> None: ...
    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Raises NotThere."""
        ...

    def rename(self, source: str, target: str) -> None: ...
    def digest(self, path: str) -> tuple[int, str]:
        """Size and SHA-256. Raises NotThere."""
        ...


class FaultScript(Protocol):
    """What is to go wrong. The server before a face does what every protocol suffers in the same way (a reply lost,
    5xx, 429, 401, 403, delays, drips, HTML); a face asks for what only it can do, by name."""

    def take(self, name: str, request: Request | None = None, *, job: str = "") -> Mapping[str, Any] | None:
        """Is this fault to happen now, to this request (or to the job of this name)? Then its parameters, and it counts
        as having happened."""
        ...


class NoFaults:
    """All goes well."""

    def take(self, name: str, request: Request | None = None, *, job: str = "") -> Mapping[str, Any] | None:  # noqa: ARG002
        return None


class Facility(Protocol):
    """One facility. Thread-safe. Raises connectors.errors.SiteUnreachable where the scheduler is down."""

    name: str
    files: FacilityFiles
    faults: FaultScript

    def now(self) -> int:
        """µs."""
        ...

    def submit(self, order: Order) -> str:
        """Take a job; its native id. Counted per name. Raises OrderRefused."""
        ...

    def jobs(self, *, ended_too: bool = True) -> Sequence[JobView]:
        """All that the scheduler still knows, oldest first: ended ones until MinJobAge, as squeue does."""
        ...

    def accounting(self) -> Sequence[JobView]:
        """All that the accounting remembers, oldest first, those in the queue among them, as sacct does."""
        ...

    def job(self, native_id: str) -> JobView | None:
        """As in `jobs`; None: the scheduler does not know it (any more)."""
        ...

    def cancel(self, native_id: str, *, signal: str = "") -> bool:
        """End it, or only send it a signal. False: no such job, or ended already."""
        ...

    def hold(self, native_id: str, *, held: bool) -> bool: ...

    def run(self, command: str, *, timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        """A shell command on a login node, in the home: exit code, output, errors. The shell is real everywhere, the
        files it sees are `files`; a scheduler's own commands are there only where the scheduler is real. Raises
        SiteUnreachable, also for a command that takes longer than `timeout` seconds."""
        ...

    def outages(self) -> Sequence[Outage]:
        """Past, present and planned."""
        ...

    def up(self, capability: str = "status") -> bool:
        """Does this part work now? One of submit, status, files, compute."""
        ...

    def queued(self) -> Mapping[str, int]:
        """Waiting jobs by queue, others' too."""
        ...

    def accepted(self) -> Mapping[str, int]:
        """How many submissions were accepted, per job name."""
        ...

    def use_of(self, account: str) -> tuple[float, float]:
        """Node hours granted and used."""
        ...

    def held_still(self) -> AbstractContextManager[None]:
        """Nothing happens at the facility meanwhile: for answers of several parts."""
        ...
