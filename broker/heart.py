"""A process' signs of life: a row that says when work last got through to it, and the end of it when none does.

A message is sent to oneself through the queue that one consumes; whatever stops work from getting through stops it,
too: a pool whose threads all hang, a consumer that has lost its connection, a sweeper that waits for ever. A
process that is alive and does nothing is the one fault that no supervisor sees, so it ends itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.clock import Clock, FollowingClock
from broker.store.base import Store, StoreError, WorkerRow

log = logging.getLogger(__name__)

BEAT_EVERY = 5.0
"""Seconds between two signs of life."""
DEAF_AFTER = 2 * BEAT_EVERY
"""Seconds without progress after which a process no longer counts on what it sends to be taken in."""
STUCK_AFTER = 60.0
"""Seconds without progress after which a process ends itself."""
FRESH = 30.0
"""Seconds for which a sign of progress counts: what health checks and people go by."""
FORGOTTEN_AFTER = 600.0
"""Seconds after which the row of a process that gave no sign is taken away."""


def own_queue(name: str) -> str:
    """The queue that one process alone consumes."""
    return f"worker.{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def gives_signs(store: Store, name: str, *, now: int) -> bool:
    """Has the process of that name given a sign of life so lately that it may be at work?"""
    return any(row.name == name and now - row.seen_at < STUCK_AFTER * 1e6 for row in store.workers())


@dataclass(slots=True)
class Pulse:
    """What was sent to oneself and has not come back. Seconds by a clock that never goes back. Thread-safe."""

    stuck_after: float = STUCK_AFTER
    elapsed: Callable[[], float] = time.monotonic
    _waiting_since: float | None = None
    _swept_at: float = field(default=0.0)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._swept_at = self.elapsed()

    def sent(self, *, ok: bool) -> None:
        """Something was sent to oneself; or could not be, which is the transport's fault and not ours."""
        with self._guard:
            if not ok:
                self._waiting_since = None
            elif self._waiting_since is None:
                self._waiting_since = self.elapsed()

    def came_back(self) -> None:
        """Work gets through."""
        with self._guard:
            self._waiting_since = None

    def swept(self) -> None:
        """The sweeper has got somewhere."""
        self._swept_at = self.elapsed()

    @property
    def waiting(self) -> float:
        """Seconds for which what was sent has not come back."""
        with self._guard:
            return 0.0 if self._waiting_since is None else self.elapsed() - self._waiting_since

    @property
    def sweeping(self) -> bool:
        """Has the sweeper got somewhere lately?"""
        return self.elapsed() - self._swept_at <= DEAF_AFTER

    @property
    def why_stuck(self) -> str:
        """In words what does not move any more; empty: all does."""
        now, waiting = self.elapsed(), self.waiting
        if waiting > self.stuck_after:
            return f"hints were sent to this process and none was taken in for {waiting:.0f} s"
        if now - self._swept_at > self.stuck_after:
            return f"the sweeper has been at the same thing for {now - self._swept_at:.0f} s"
        return ""


class Heart:
    """Writes this process' row. A store that does not answer is no reason to die: others feel it, too."""

    def __init__(self, store: Store, *, name: str, kind: str, queues: Sequence[str] = (), clock: Clock) -> None:
        self._store, self._clock = store, clock
        now = clock()
        self._row = WorkerRow(
            name=name,
            kind=kind,
            host=platform.node(),
            queues=json.dumps(list(queues)),
            started_at=now,
            seen_at=now,
            progress_at=None,
            detail="{}",
        )

    def beat(self, *, progress: bool = False, **detail: object) -> None:
        """Say that this process is there; with `progress`, that work has got through to it just now."""
        now = self._clock()
        told = json.dumps(detail) if detail else self._row.detail
        self._row = self._row._replace(seen_at=now, progress_at=now if progress else self._row.progress_at, detail=told)
        try:
            self._store.heartbeat(self._row)
            if isinstance(self._clock, FollowingClock):
                self._clock.follow()
        except StoreError as error:
            log.warning("no sign of life can be written: %s", error)


def is_fresh(row: WorkerRow, now: int) -> bool:
    """Has work got through to that process lately?"""
    return row.progress_at is not None and now - row.progress_at <= FRESH * 1e6


def who_works(store: Store, *, clock: Clock, kinds: Sequence[str] = ("worker",)) -> Sequence[WorkerRow]:
    """The processes of these kinds to which work gets through."""
    now = clock()
    return [row for row in store.workers() if row.kind in kinds and is_fresh(row, now)]
