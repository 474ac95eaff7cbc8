"""Who starts next: slots, priorities and reservations of a simulated site. Strict, without backfill."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from sandbox.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Units kept free from `start` to `end` (µs) for jobs that name it (`submit: {reservation: NAME}`)."""

    name: str
    start: int
    end: int
    units: int


class JobQueue:
    """Waiting jobs, highest priority first, then in order of arrival; and the units that the running ones hold.

    A head that does not fit blocks all behind it: the real answer to «why does the small job wait?», and the
    simplest rule that starves nobody. Units are plain slots, or cores where the site counts nodes.
    """

    def __init__(self, *, capacity: int, reservations: tuple[Reservation, ...] = ()) -> None:
        self.capacity = capacity
        self.used = 0
        self.reservations = {item.name: item for item in reservations}
        self._reserved_used = dict.fromkeys(self.reservations, 0)
        self._waiting: list[tuple[int, int, Job]] = []
        self._waiting_reserved: dict[str, list[tuple[int, int, Job]]] = {name: [] for name in self.reservations}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._waiting_reserved.values()))

    def put(self, job: Job) -> None:
        self._count += 1
        line = self._waiting_reserved[job.reservation] if job.reservation else self._waiting
        heapq.heappush(line, (-job.priority, self._count, job))

    def clear(self) -> None:
        self._waiting.clear()
        for line in self._waiting_reserved.values():
            line.clear()

    def head(self) -> Job | None:
        """The first job without a reservation, whether it fits or not."""
        return self._waiting[0][2] if self._waiting else None

    def pop_head(self) -> Job:
        return heapq.heappop(self._waiting)[2]

    def missing(self, job: Job, now: int) -> int:
        """Units that must come free before the job can begin."""
        kept = 0
        for item in self.reservations.values():
            if item.start <= now < item.end:
                kept += max(0, item.units - self._reserved_used[item.name])
        return self.used + kept + job.units - self.capacity

    def pop_reserved(self, now: int) -> Job | None:
        """The next job that may begin inside its reservation."""
        for name, line in self._waiting_reserved.items():
            window = self.reservations[name]
            if not line or not window.start <= now < window.end:
                continue
            units = line[0][2].units
            if self._reserved_used[name] + units <= window.units and self.used + units <= self.capacity:
                return heapq.heappop(line)[2]
        return None

    def take(self, job: Job) -> None:
        self.used += job.units
        if job.reservation:
            self._reserved_used[job.reservation] += job.units

    def give_back(self, job: Job) -> None:
        self.used -= job.units
        if job.reservation:
            self._reserved_used[job.reservation] -= job.units
