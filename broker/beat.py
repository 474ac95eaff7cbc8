"""Celery's beat as a clock that asks for sweeps. Two of them are as good as one, and none is as good as one, too:
every worker sweeps by itself, a little later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler, Service

from broker.clock import Clock
from broker.heart import BEAT_EVERY, STUCK_AFTER, Heart
from broker.store.base import Store
from broker.tasks import RUNS, SWEEP
from broker.worker import Stuck

log = logging.getLogger(__name__)

SWEEP_EVERY = 5.0
"""Seconds."""


class _Ticks:
    """When a tick was last sent, and when one was last tried. Seconds by a clock that never goes back."""

    def __init__(self) -> None:
        self.sent_at = self.tried_at = time.monotonic()
        self._failing = False

    def worked(self) -> None:
        self.sent_at = time.monotonic()
        if self._failing:
            log.warning("ticks can be sent again")
        self._failing = False

    def failed(self, error: Exception) -> None:
        """Told once per outage."""
        if not self._failing:
            log.warning("no tick can be sent (%s); workers sweep by themselves", error)
        self._failing = True


class Beat:
    """Ticks until it is stopped or stuck. Keeps nothing: its schedule is its code."""

    def __init__(self, app: Celery, store: Store, *, name: str, clock: Clock, every: float = SWEEP_EVERY) -> None:
        app.conf.update(
            beat_schedule={"sweep": {"task": SWEEP, "schedule": every, "options": {"queue": RUNS, "expires": every}}},
            beat_max_loop_interval=every,
            result_expires=None,  # else it would ask for results to be cleaned up, of which there are none
            task_publish_retry=False,
        )
        self._ticks = ticks = _Ticks()

        class Told(Scheduler):
            """A schedule in memory that notes what became of its ticks."""

            producer = None  # type: ignore[assignment] # the application's: Celery's own waits without end for Redis

            def apply_async(self, entry: ScheduleEntry, *args: Any, **named: Any) -> Any:
                ticks.tried_at = time.monotonic()
                try:
                    result = super().apply_async(entry, *args, **named)
                except Exception as error:  # noqa: BLE001 - Celery would tell of each tick with a page of traceback
                    ticks.failed(error)
                    return None
                ticks.worked()
                return result

        self._service = Service(app, scheduler_cls=Told)
        self._heart = Heart(store, name=name, kind="beat", clock=clock)
        self._every = every
        self._thread = threading.Thread(target=self._service.start, name="crossfade-beat", daemon=True)

    def run(self, wait: Callable[[float], bool], *, stuck_after: float = STUCK_AFTER) -> None:
        """Tick until `wait(seconds)` answers True. Raises Stuck when no tick was even tried for long: a clock that
        was set back makes Celery's schedule wait for the time that it knew before."""
        self._thread.start()
        told = self._ticks.sent_at
        while not wait(min(BEAT_EVERY, self._every)):
            self._heart.beat(progress=self._ticks.sent_at > told)
            told = self._ticks.sent_at
            if not self._thread.is_alive():
                raise Stuck("the schedule broke off")
            if (silent := time.monotonic() - self._ticks.tried_at) > stuck_after:
                raise Stuck(f"no tick was sent for {silent:.0f} s")
        self._service.stop()
