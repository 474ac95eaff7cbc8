"""Globus Transfer as a model: tasks, slots, deadlines, pauses. Event-driven, with a clock that is given.

`advance(now)` does all that is due by then, each thing at its own time, so that days pass in milliseconds under a
virtual clock. `step(now)` does one thing, late or not: what a thread calls again and again under real time. Bytes are
moved outside the lock, so that questions are answered meanwhile.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from connectors.registry import Clock
from sandbox.facility import FaultScript, NoFaults
from sandbox.globus.collections import Collection
from sandbox.globus.orders import Kind, Order
from sandbox.globus.task import HOUR, Skipped, Status, Task
from sandbox.globus.troubles import FATAL, QUOTA, SKIPPABLE, Trouble, told
from sandbox.globus.weather import Weather
from sandbox.globus.work import BLOCK, Done, Job, first_pieces, work

log = logging.getLogger(__name__)

_SECOND = 1_000_000
_BETWEEN_PROGRESS = 60 * _SECOND


class Refused(Exception):
    """The service does not take it. `code` is Globus' own."""

    def __init__(self, code: str, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How quick it is, and how patient. Seconds; bytes per second."""

    latency: float = 0.0
    """Of each file."""
    rate: float = 0.0
    """Of each link; 0: as quick as it goes."""
    rates: Mapping[tuple[str, str], float] | None = None
    """Of single links, by the ids of source and destination."""
    first_rest: float = 2.0
    """After the first fault; twice as long after each further one."""
    longest_rest: float = 300.0
    block: int = BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one identity may have."""

    slots: int = 3
    """Tasks of each kind that are worked at."""
    pending: int = 100
    items: int = 500_000
    """Of one submission."""
    listing: int = 100_000
    """Entries of a folder that is listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer to a submission."""

    task: Task
    duplicate: bool


class GlobusService:
    """The service over its collections. Thread-safe."""

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
        self.submissions: Counter[str] = Counter()
        """How often each submission id was taken, duplicates too."""
        self.labels: Counter[str] = Counter()
        """How many tasks were made, by label."""
        self.made: Counter[Kind] = Counter()
        """How many tasks were made in all."""
        self._clock, self._inline = clock, inline
        self._weather = weather or Weather(())
        self._now = clock()
        self._tasks: dict[str, Task] = {}
        self._by_submission: dict[tuple[str, str], Task] = {}
        self._open: dict[str, Task] = {}
        """Those that are not over, the oldest first."""
        self._hand = threading.Lock()
        """Whoever does a step holds it. Always taken before the other lock."""
        self._turn = 0

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
            times = [at for task in self._open.values() for at in self._times(task)]
            if (change := self._weather.next_at(self._now)) is not None:
                times.append(change)
            return max(self._now, min(times)) if times else None

    def _times(self, task: Task) -> Iterator[int]:
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
        elif self._free(task):
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
        for task in self._open.values():
            if self._waits(task) and self._free(task):
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

    def _waits(self, task: Task) -> bool:
        return (
            task.status is Status.ACTIVE
            and not task.slot
            and not task.paused_now
            and task.rests_until <= self._now
            and task.id in self._open
        )

    def _free(self, task: Task) -> bool:
        taken = sum(
            other.slot and other.owner == task.owner and other.kind is task.kind for other in self._open.values()
        )
        return taken < self.limits.slots

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

    # -- verbs -----------------------------------------------------------------------------------------------

    def submit(self, order: Order, *, owner: str, username: str) -> Accepted:
        """Take it, once for each submission id however often it comes. Raises Refused."""
        self.look()
        with self.lock:
            known = self._by_submission.get((owner, order.submission_id))
            if known is not None:
                self.submissions[order.submission_id] += 1
                return Accepted(task=known, duplicate=True)
            if sum(task.owner == owner for task in self._open.values()) >= self.limits.pending:
                raise Refused("Conflict", f"more than {self.limits.pending} tasks are pending", status=409)
            now = max(self._now, self._clock())
            task = Task(
                id=str(uuid.uuid4()),
                order=order,
                owner=owner,
                username=username,
                requested_at=now,
                deadline=order.deadline if order.deadline is not None else now + 24 * HOUR,
                deadline_given=order.deadline is not None,
                label=order.label,
            )
            task.pending.extend(first_pieces(order))
            task.counts.subtasks = len(task.pending)
            self.submissions[order.submission_id] += 1
            self.labels[order.label] += 1
            self.made[order.kind] += 1
            self._tasks[task.id] = self._open[task.id] = task
            self._by_submission[owner, order.submission_id] = task
            self.changed.notify_all()
        self.look()
        return Accepted(task=task, duplicate=False)

    def cancel(self, task: Task) -> str:
        """Canceled, CancelAccepted (it goes on for a while), or TaskComplete."""
        with self._still():
            if task.status.final:
                return "TaskComplete"
            late = self.faults.take("cancel_late", job=task.label)
            if late is not None:
                task.cancel_at = self._now + round(float(late.get("seconds", 10)) * 1e6)
                return "CancelAccepted"
            self._end(task, Status.FAILED, "CANCELED", "canceled")
            return "Canceled"

    def update(self, task: Task, *, label: str | None, deadline: int | None) -> bool:
        """False: it is over."""
        with self._still():
            if task.status.final:
                return False
            task.label = task.label if label is None else label
            if deadline is not None:
                task.deadline, task.deadline_given = deadline, True
            self.changed.notify_all()
            return True

    def pause(self, task: Task, message: str) -> None:
        """By an administrator; an empty message lets it go on."""
        with self._still():
            task.paused = message
            self._arrive(self._now)
            self.changed.notify_all()

    def remove(self, task: Task) -> bool:
        """Forget a task that is over. False: it is not."""
        with self._still():
            if not task.status.final:
                return False
            self._tasks.pop(task.id, None)
            return True

    def purge(self, *, older: float = 0.0) -> int:
        """Forget all tasks that have been over for so many seconds; how many."""
        with self.lock:
            until = self._now - round(older * 1e6)
            gone = [task for task in self._tasks.values() if (task.completed_at or until + 1) <= until]
            for task in gone:
                del self._tasks[task.id]
            return len(gone)

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Brought up to date, and no step is being done."""
        self.look()
        with self._hand, self.lock:
            self._now = max(self._now, self._clock())
            yield

    # -- looking ---------------------------------------------------------------------------------------------

    def knows_scope(self, collection: str, name: str) -> bool:
        """Has that collection a scope of this name? What `GlobusAuth` wants to know."""
        found = self.collections.get(collection)
        return found is not None and (found.https if name == "https" else found.needs_data_access)

    def task(self, task_id: str, *, owner: str) -> Task | None:
        """None: nobody knows it (any more), or it is somebody else's."""
        self.look()
        with self.lock:
            task = self._tasks.get(task_id)
            return task if task is not None and task.owner == owner else None

    def tasks(self, *, owner: str) -> list[Task]:
        """All that are remembered, the newest first."""
        self.look()
        with self.lock:
            return [task for task in reversed(self._tasks.values()) if task.owner == owner]

    def deadline(self, task: Task) -> int:
        """As it is told: of a task that waits in the queue, it moves with the time."""
        return self._now + 24 * HOUR if self._moves(task) else task.deadline

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

    @property
    def counted(self) -> Mapping[str, Any]:
        """For tests and demonstrations: what was asked of it in all."""
        with self.lock:
            return {
                "transfers": self.made[Kind.TRANSFER],
                "deletions": self.made[Kind.DELETE],
                "by_label": dict(self.labels),
                "by_submission": dict(self.submissions),
            }


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
