"""Queue logs (SWF): how long jobs waited, and what could be known of that at the time.

The Standard Workload Format has one job a line, 18 columns of numbers, comments after `;`
(https://www.cs.huji.ac.il/labs/parallel/workload/swf.html). Used are column 2 (submitted, seconds) and 3 (waited).
One log makes several sites when it is rotated: the n-th begins n parts of the log later, and its end comes first.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path

from broker.errors import UsageError
from policies.waits import LAST, NEWEST, expected, upper_bound

MOST_JOBS = 2_000_000
MOST_BYTES = 512 << 20
"""Of a log, unpacked."""
LONGEST_LINE = 4096
FEWEST_JOBS = 100
_NAME = re.compile(r"[^A-Za-z0-9_-]+")

Job = tuple[float, float]
"""Submitted (seconds from the log's beginning), waited (seconds)."""


@dataclass(frozen=True, slots=True)
class QueueLog:
    """The queue of one site."""

    site: str
    jobs: Sequence[Job]
    """In order of submission; at least one."""
    length: float
    _submitted: list[float] = field(init=False, repr=False, compare=False)
    _started: list[Job] = field(init=False, repr=False, compare=False)
    """(started, waited), in order of the start."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_submitted", [at for at, _ in self.jobs])
        object.__setattr__(self, "_started", sorted((at + wait, wait) for at, wait in self.jobs))

    def wait_at(self, at: float) -> float:
        """How long a job submitted then waits: as long as the next one of the log did."""
        return self.jobs[bisect_left(self._submitted, at) % len(self.jobs)][1]

    def predicted_at(self, at: float) -> float:
        """What may be expected then: the median wait of the last jobs that have started; 0 where none has yet.

        A job that still waits does not count: how long it will is what nobody knows.
        """
        end = bisect_right(self._started, (at, math.inf))
        return expected([wait for _, wait in self._started[max(0, end - LAST) : end]])

    def bound_at(self, at: float) -> float | None:
        """What a job submitted then waits at most, 95 times of 100, by the waits known then; None: too few are."""
        end = bisect_right(self._started, (at, math.inf))
        return upper_bound([wait for _, wait in self._started[max(0, end - NEWEST) : end]])

    def exceeded(self) -> float | None:
        """Of all jobs for which there was a bound when they were submitted, the share that waited longer."""
        told = [(bound, wait) for at, wait in self.jobs if (bound := self.bound_at(at)) is not None]
        return sum(wait > bound for bound, wait in told) / len(told) if told else None


def read_queue(path: Path) -> QueueLog:
    """A log, plain or packed with gzip. Raises UsageError."""
    try:
        with closing(_opened(path)) as stream:
            jobs = list(_jobs(path, stream))
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path.name} cannot be read: {error}", help="name an SWF log, plain or .gz") from error
    if len(jobs) < FEWEST_JOBS:
        raise UsageError(f"{path.name} has {len(jobs)} jobs that started", help=f"at least {FEWEST_JOBS} are needed")
    first = min(at for at, _ in jobs)
    site = _NAME.sub("-", path.name.split(".")[0]).strip("-") or "queue"
    moved = sorted((at - first, wait) for at, wait in jobs)
    return QueueLog(site, moved, moved[-1][0] + 1)


def rotated(log: QueueLog, count: int) -> list[QueueLog]:
    """So many sites of one log, each begun another part of it later."""
    found = []
    for number in range(count):
        shift = number * log.length / count
        jobs = sorted(((at - shift) % log.length, wait) for at, wait in log.jobs)
        found.append(QueueLog(f"{log.site}-{number + 1}", jobs, log.length))
    return found


def _opened(path: Path) -> BufferedIOBase:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _jobs(path: Path, stream: BufferedIOBase) -> Iterator[Job]:
    """Every job that started. Raises UsageError with the line that is wrong."""
    count = size = number = 0
    while line := stream.readline(LONGEST_LINE):
        number, size = number + 1, size + len(line)
        if size > MOST_BYTES or count > MOST_JOBS:
            raise UsageError(f"{path.name} is larger than {MOST_BYTES >> 20} MB or {MOST_JOBS} jobs", help="cut it")
        if not line.strip() or line.lstrip().startswith(b";"):
            continue
        try:
            at, wait = (float(word) for word in line.split()[1:3])
        except ValueError as error:
            what = f"{path.name}, line {number}: no job of an SWF log"
            raise UsageError(what, help="columns 2 and 3 must be numbers: submitted and waited") from error
        if not (math.isfinite(at) and math.isfinite(wait) and abs(at) < 1e12 and wait < 1e9):
            raise UsageError(f"{path.name}, line {number}: a time out of all bounds")
        if wait >= 0:  # -1: not known, or it never started
            count += 1
            yield at, wait
