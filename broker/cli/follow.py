"""Watching one run to its end, while this or another process serves it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

from broker.cli.progress import Progress
from broker.cli.stopping import Stop
from broker.states import RunState
from broker.store.base import RunRow, Store
from broker.waiting import only_people_help

LOOK_EVERY = 0.05
"""Seconds between two looks at the run's row."""
QUIET_SECONDS = 0.5
"""Look for people who must act only when nothing has happened for so long: it reads every stage."""
CLEAN_UP_SECONDS = 2.0
"""How long a run that is over may take to end the copies it does not need."""


class Ending(Enum):
    """Why the watch ended."""

    OVER = "over"
    PERSON = "person"
    """Nothing goes on until a person has decided."""
    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    PAUSED = "paused"
    """The time given for this look is up; nothing has ended."""


@dataclass(slots=True)
class Follower:
    """Watches a run. Keeps its place, so that the watch can go on after a change of server."""

    store: Store
    run_id: str
    progress: Progress
    stop: Stop
    deadline: float | None = None
    """By `time.monotonic()`; None: no limit of time."""
    _told: int = 0
    _ver: int = -1
    _changed_at: float = field(default_factory=time.monotonic)

    def follow(self, *, seconds: float | None = None) -> Ending:
        """Watch until something ends, at most `seconds` long."""
        pause_at = None if seconds is None else time.monotonic() + seconds
        while True:
            ending = self._look()
            if ending is not None:
                return ending
            if pause_at is not None and time.monotonic() >= pause_at:
                return Ending.PAUSED
            self.stop.wait(LOOK_EVERY)

    def clean_up(self) -> int:
        """Wait a moment for copies that are being ended; how many are still open then."""
        end = time.monotonic() + CLEAN_UP_SECONDS
        while (left := self._row().open_attempts) and time.monotonic() < end and not self.stop.asked:
            self.stop.wait(LOOK_EVERY)
        return left

    def _look(self) -> Ending | None:
        now, run = time.monotonic(), self._row()
        if run.ver != self._ver:
            self._ver, self._changed_at = run.ver, now
            self._tell(run)
        if RunState(run.state).final:
            self._tell(run)
            return Ending.OVER
        if self.stop.asked:
            return Ending.STOPPED
        if self.deadline is not None and now >= self.deadline:
            return Ending.TIMED_OUT
        if now - self._changed_at >= QUIET_SECONDS:
            self._changed_at = now
            if not run.commands and only_people_help(self.store.stages(self.run_id)):
                return Ending.PERSON
        return None

    def _tell(self, run: RunRow) -> None:
        events = self.store.events(self.run_id, after=self._told)
        if events:
            self._told = events[-1].seq
        self.progress.show(run, events)

    def _row(self) -> RunRow:
        run = self.store.run(self.run_id)
        if run is None:
            raise LookupError(f"run {self.run_id} has gone from the store")
        return run
