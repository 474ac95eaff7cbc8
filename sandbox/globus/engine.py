"""What happens at Globus as time goes by: slots, deadlines, rests, pauses, and the work itself.

`advance(now)` does all that is due by then, each thing at its own time, so that days pass in milliseconds under a
virtual clock. `step(now)` does one thing, late or not: what a thread calls again and again under real time. Bytes are
moved outside the lock, so that questions are answered meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from connectors.registry import Clock
from sandbox.facility import FaultScript, NoFaults
from sandbox.globus.collections import Collection
from sandbox.globus.orders import Kind
from sandbox.globus.pace import Limits, Pace
from sandbox.globus.pieces import Done, Job
from sandbox.globus.task import HOUR, Skipped, Status, Task
from sandbox.globus.troubles import FATAL, QUOTA, SKIPPABLE, Trouble, told
from sandbox.globus.weather import Weather
from sandbox.globus.work import work

log = logging.getLogger(__name__)

_BETWEEN_PROGRESS = 60_000_000
"""µs."""
_Lane = tuple[str, Kind]
"""Whose tasks, and of which kind: they share slots."""


class Engine:
    """The tasks that are not over, and the hand that works at them. Thread-safe."""

    def __init__(
        self,
        collections: Sequence[Collection],
        *,
        clock: Clock,
        pace: Pace | None = None,
        limits: Limits | None = None,
        faults: FaultScript | None = None,
        weather: Weather | None = None,
        inline: bool = True,
    ) -> None:
        """`inline`: whoever asks brings it up to date first; otherwise a `Worker` does the work."""
        self.collections = {one.id: one for one in collections}
        self.pace, self.limits = pace or Pace(), limits or Limits()
        self.faults: FaultScript = faults or NoFaults()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._clock, self._inline = clock, inline
        self._weather = weather or Weather(())
        self._now = clock()
        self._open: dict[str, Task] = {}
        """Those that are not over, the oldest first."""
        self._hand = threading.Lock()
        """Whoever does a step holds it. Always taken before the other lock."""
        self._turn = 0

    def purge(self, *, older: float = 0.0) -> int:
        """Forget tasks that have been over for so many seconds; how many."""
        raise NotImplementedError

    # -- time ------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """µs, by the clock that was given."""
        return self._clock()

    def look(self) -> None:
        """Bring it up to date, unless a worker does."""
        if self._inline:
            self.advance(self._clock())

    def advance(self, now: int) -> None:
        """All that is due by then, each thing at its time. What others have changed counts from the last time on."""
        with self._hand, self.lock:
            self._arrive(self._now)
        while (at := self.next_event_at()) is not None and at <= now:
            self.step(at)
        with self._hand, self.lock:
            self._arrive(now)

    def next_event_at(self) -> int | None:
        """When something will happen, if nobody asks for anything; None: nothing will."""
        with self.lock:
            taken = self._taken()
            times = [at for task in self._open.values() for at in self._times(task, taken)]
            if (change := self._weather.next_at(self._now)) is not None:
                times.append(change)
            return max(self._now, min(times)) if times else None

    def _times(self, task: Task, taken: Mapping[_Lane, int]) -> Iterator[int]:
        if not self._moves(task):
            yield task.deadline
        if task.cancel_at is not None:
            yield task.cancel_at
        if task.status is not Status.ACTIVE or task.paused_now:
            return
        if task.slot:
            yield task.ready_at
        elif task.rests_until > self._now:
            yield task.rests_until
        elif taken.get((task.owner, task.kind), 0) < self.limits.slots:
            yield self._now

    def step(self, now: int) -> bool:
        """One thing that is due; False: nothing was."""
        with self._hand:
            with self.lock:
                self._arrive(now)
                task = self._next()
                if task is None:
                    return False
                job, steps = self._begun(task)
            done, trouble = _one(job, steps)
            with self.lock:
                self._book(task, done, trouble)
            return True

    def _arrive(self, now: int) -> None:
        """Let the time be now: weather, deadlines, pauses, slots."""
        self._now = max(self._now, now)
        self._weather.blow(self, self._now)
        for task in list(self._open.values()):
            self._settle(task)
        taken = self._taken()
        for task in self._open.values():
            lane = task.owner, task.kind
            if self._may_begin(task) and taken[lane] < self.limits.slots:
                taken[lane] += 1
                self._take_slot(task)

    def _settle(self, task: Task) -> None:
        now = self._now
        if task.cancel_at is not None and now >= task.cancel_at:
            self._end(task, Status.FAILED, "CANCELED", "The task was canceled")
        elif not self._moves(task) and now >= task.deadline:
            task.fatal = ("EXPIRED", "The deadline of the task has passed")
            self._end(task, Status.FAILED, "EXPIRED", "deadline passed")
        else:
            task.resting = task.resting and now < task.rests_until
            self._pause_or_go_on(task)
            self._log_in_or_out(task)

    def _pause_or_go_on(self, task: Task) -> None:
        paused = bool(task.paused) or any(side.paused for side in self.sides(task))
        if paused == task.paused_now:
            return
        task.paused_now, task.slot = paused, False
        if not task.deadline_given:
            task.deadline = self._now + (90 * 24 if paused else 24) * HOUR
        task.note(self._now, "PAUSED" if paused else "UNPAUSED", "paused" if paused else "unpaused")

    def _log_in_or_out(self, task: Task) -> None:
        expired = any(side.login_expired for side in self.sides(task))
        if expired and task.status is Status.ACTIVE:
            task.status, task.slot = Status.INACTIVE, False
            self._suffer(task, Trouble("NO_CREDENTIALS", "the credentials have expired"))
        elif not expired and task.status is Status.INACTIVE:
            task.status, task.trouble, task.rests_until = Status.ACTIVE, None, 0

    def _may_begin(self, task: Task) -> bool:
        return (
            task.status is Status.ACTIVE
            and not task.slot
            and not task.paused_now
            and task.rests_until <= self._now
            and task.id in self._open
        )

    def _taken(self) -> Counter[_Lane]:
        """Slots in use."""
        return Counter((task.owner, task.kind) for task in self._open.values() if task.slot)

    def _take_slot(self, task: Task) -> None:
        if self._moves(task):
            task.deadline = self._now + 24 * HOUR
        if not any(event.code == "STARTED" for event in task.events):
            task.note(self._now, "STARTED", "started")
        task.slot, task.ready_at = True, self._now

    def _next(self) -> Task | None:
        """Whose turn it is: of those that are due, one after the other."""
        due = [task for task in self._open.values() if task.slot and task.ready_at <= self._now]
        if not due:
            return None
        self._turn += 1
        first = min(task.ready_at for task in due)
        due = [task for task in due if task.ready_at == first]
        return due[self._turn % len(due)]

    # -- work ------------------------------------------------------------------------------------------------

    def _begun(self, task: Task) -> tuple[Job, Iterator[Done]]:
        job = self._job(task)
        if task.steps is None:
            task.current = task.current or task.pending.popleft()
            task.steps = work(job, task.current)
        return job, task.steps

    def _job(self, task: Task) -> Job:
        source, destination = self.ends(task)
        rates = self.pace.rates or {}
        return Job(
            order=task.order,
            source=source,
            destination=destination,
            mishaps=lambda name, path: self.faults.take(name, job=f"{task.label} {path}"),
            latency=self.pace.latency,
            rate=rates.get((source.id, destination.id), self.pace.rate),
            block=self.pace.block,
        )

    def _book(self, task: Task, done: Done | None, trouble: Trouble | None) -> None:
        self._now = max(self._now, self._clock()) if not self._inline else self._now
        if trouble is not None:
            self._drop_steps(task)
            if task.id in self._open:
                self._failed(task, trouble)
        elif done is None:
            task.steps = None
            if task.id in self._open:
                self._piece_done(task)
        else:
            self._progress(task, done)
            if done.end:
                self._drop_steps(task)
                if task.id in self._open:
                    self._piece_done(task)

    def _progress(self, task: Task, done: Done) -> None:
        counts = task.counts
        counts.bytes += done.bytes
        counts.checksummed += done.checksummed
        counts.files += done.files
        counts.directories += done.directories
        counts.symlinks += done.symlinks
        counts.files_skipped += done.skipped
        if done.copied is not None:
            counts.files_transferred += 1
            task.copied.append(done.copied)
        counts.subtasks += len(done.found)
        if task.id in self._open:
            task.pending.extend(done.found)
            task.ready_at = self._now + round(done.seconds * 1e6)

    def _piece_done(self, task: Task) -> None:
        task.current, task.retrying, task.trouble, task.rest = None, False, None, 0.0
        task.counts.succeeded += 1
        if task.kind is Kind.TRANSFER and not task.deadline_given:
            task.deadline = max(task.deadline, self._now + 72 * HOUR)
        if not task.pending:
            self._finish(task)
            return
        told = [event.at for event in task.events if event.code in ("PROGRESS", "STARTED")]
        if self._now - max(told, default=self._now) >= _BETWEEN_PROGRESS:
            task.note(self._now, "PROGRESS", "progress", f'{{"bytes_transferred": {task.counts.bytes}}}')

    def _finish(self, task: Task) -> None:
        if task.skipped:
            task.note(self._now, "SKIPPED_ERRORS", "skipped errors", f"{len(task.skipped)} files")
        details = f'{{"files_succeeded": {task.counts.files_transferred}}}'
        self._end(task, Status.SUCCEEDED, "SUCCEEDED", "succeeded", details)

    def _failed(self, task: Task, trouble: Trouble) -> None:
        order = task.order
        if order.skip_source_errors and trouble.side == "source" and trouble.code in SKIPPABLE and task.current:
            self._skip(task, trouble)
            return
        fatal = trouble.code in FATAL or (trouble.code in QUOTA and order.fail_on_quota_errors)
        if fatal or self.faults.take("task_fatal", job=task.label) is not None:
            task.counts.faults += 1
            task.note(self._now, trouble.code, trouble.short, str(trouble), is_error=True)
            task.fatal = (trouble.code, str(trouble))
            self._end(task, Status.FAILED, "FAILED", trouble.short)
            return
        self._suffer(task, trouble)

    def _skip(self, task: Task, trouble: Trouble) -> None:
        if task.current is None:
            return
        task.skipped.append(Skipped(at=self._now, code=trouble.code, details=str(trouble), piece=task.current))
        task.counts.skipped_errors += 1
        task.current = None
        if not task.pending:
            self._finish(task)

    def _suffer(self, task: Task, trouble: Trouble) -> None:
        rest = min(self.pace.longest_rest, task.rest * 2 or self.pace.first_rest)
        task.suffer(self._now, trouble, rest=rest)

    def _end(self, task: Task, status: Status, code: str, description: str, details: str = "") -> None:
        task.end(self._now, status, code, description)
        if details:
            last = task.events.pop()
            task.note(last.at, last.code, last.description, details)
        self._open.pop(task.id, None)
        self._drop_steps(task)
        self.changed.notify_all()

    def _drop_steps(self, task: Task) -> None:
        if task.steps is not None:
            close = getattr(task.steps, "close", None)
            task.steps = None
            if close is not None:
                close()

    def drop(self) -> None:
        """Let go of what is half done, and leave nothing of it behind."""
        with self._hand, self.lock:
            for task in self._open.values():
                self._drop_steps(task)

    @staticmethod
    def _moves(task: Task) -> bool:
        return task.queued and task.kind is Kind.TRANSFER and not task.deadline_given

    def sides(self, task: Task) -> list[Collection]:
        """Its collections."""
        return list({one.id: one for one in self.ends(task)}.values())

    def ends(self, task: Task) -> tuple[Collection, Collection]:
        """Source and destination; of a deletion, twice the same."""
        source = self.collections[task.order.source]
        return source, self.collections[task.order.destination or task.order.source]


def _one(job: Job, steps: Iterator[Done]) -> tuple[Done | None, Trouble | None]:
    """The next step's outcome; two times None: the piece is done."""
    try:
        job.reach()
        with told():
            return next(steps), None
    except StopIteration:
        return None, None
    except Trouble as trouble:
        return None, trouble
    except Exception as error:
        log.exception("a step broke off")
        return None, Trouble("INTERNAL_ERROR", type(error).__name__)
