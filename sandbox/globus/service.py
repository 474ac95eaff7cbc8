"""Globus Transfer as a model: what may be asked of it, over the engine that does it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from connectors.registry import Clock
from sandbox.facility import FaultScript
from sandbox.globus.collections import Collection
from sandbox.globus.engine import Engine
from sandbox.globus.orders import Kind, Order
from sandbox.globus.pace import Limits, Pace
from sandbox.globus.pieces import first_pieces
from sandbox.globus.task import HOUR, Status, Task
from sandbox.globus.weather import Weather


class Refused(Exception):
    """The service does not take it. `code` is Globus' own."""

    def __init__(self, code: str, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer to a submission."""

    task: Task
    duplicate: bool


class GlobusService(Engine):
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
        """As `Engine`."""
        super().__init__(
            collections, clock=clock, pace=pace, limits=limits, faults=faults, weather=weather, inline=inline
        )
        self.submissions: Counter[str] = Counter()
        """How often each submission id was taken, duplicates too."""
        self.labels: Counter[str] = Counter()
        """How many tasks were made, by label."""
        self.made: Counter[Kind] = Counter()
        """How many tasks were made in all."""
        self._tasks: dict[str, Task] = {}
        self._by_submission: dict[tuple[str, str], Task] = {}

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
