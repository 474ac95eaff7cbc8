"""One worker of a service: takes hints in over Redis, sweeps what nobody hinted at, and shows that it gets on.

It needs Redis for speed alone. While no hint can be sent its sweeper does the work that is due itself.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery import Celery
from kombu import Exchange, Queue

from broker.consuming import THREADS, Consumer
from broker.core import Broker
from broker.heart import BEAT_EVERY, DEAF_AFTER, FORGOTTEN_AFTER, STUCK_AFTER, Heart, Pulse, own_queue
from broker.hints import RemoteHints
from broker.news import Announcer
from broker.store.base import Store
from broker.tasks import register
from broker.waking import Waker

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
"""Seconds between two sweeps, give or take a quarter: workers that started together do not sweep together."""
TIDY_EVERY = 60.0
"""Seconds between two looks for rows and queues of processes that are no more."""
ALONE_SECONDS = 2.0
"""How long one sweep works by itself while nothing can be hinted at."""


class Stuck(Exception):
    """This process does not get on; a supervisor starts another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """A worker's times, seconds."""

    sweep_every: float = SWEEP_EVERY
    beat_every: float = BEAT_EVERY
    stuck_after: float = STUCK_AFTER
    threads: int = THREADS


USUAL = Habits()


class Worker:
    """Works until it is stopped or stuck. Two of them never harm each other."""

    def __init__(
        self,
        broker: Broker,
        app: Celery,
        *,
        name: str,
        queues: Sequence[str],
        habits: Habits = USUAL,
        announcer: Announcer | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._broker, self._app, self._habits, self._jitter = broker, app, habits, jitter
        self.queues, self._announcer = list(queues), announcer
        self._queue = own_queue(name)
        self._hints = RemoteHints(register(app, self), probed=True)
        self._waker = Waker(broker, self._hints, threads=habits.threads)
        self._consumer = Consumer(app, [*queues, self._queue], threads=habits.threads)
        self._pulse = Pulse(stuck_after=habits.stuck_after)
        self._heart = Heart(broker.store, name=name, kind="worker", queues=queues, clock=broker.clock)
        self._stop, self._worked = threading.Event(), False
        self._sweeper = threading.Thread(target=self._sweep, name="crossfade-sweeper", daemon=True)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Work until `wait(seconds)` answers True: somebody wants it to stop. Raises Stuck."""
        self._sweeper.start()  # it needs no transport, which may take its time to be found
        threading.Thread(target=self._consumer.start, name="crossfade-consumer", daemon=True).start()
        self._heart.beat()
        try:
            stopped = False
            while not stopped:
                self._pulse.sent(ok=self._hints.come_back(self._queue, self._queue))
                self._hints.unheard = self._pulse.waiting > DEAF_AFTER
                dark = self._hints.dark
                # while nothing can be sent, work gets through by the sweeper, and so does the sign of it
                alone = dark and self._pulse.sweeping
                self._heart.beat(progress=alone, restarts=self._consumer.restarts, redis="dark" if dark else "ok")
                if why := self._pulse.why_stuck:
                    raise Stuck(why)
                stopped = wait(self._habits.beat_every)
        finally:
            self._stop.set()
        self._consumer.stop()
        self._sweeper.join(10)
        drop_queues(self._app, [self._queue])

    # -- tasks -------------------------------------------------------------------------------------------------

    def runs_woken(self, run_ids: Sequence[str]) -> None:
        self._waker.runs(run_ids)
        if self._announcer is not None:
            self._announcer.tell(run_ids)

    def site_woken(self, site: str) -> None:
        self._waker.look(site)

    def site_acts(self, site: str) -> None:
        self._waker.act(site)

    def movers_turn(self) -> None:
        self._waker.move()

    def sweep(self) -> None:
        """Asked for by a beat."""
        self._waker.sweep(alone=lambda: False)

    def came_back(self, sent: str) -> None:
        """What this process sent to itself went through the queue and a thread of the pool."""
        if sent == self._queue:
            self._pulse.came_back()
            self._heart.beat(progress=True)

    # -- the sweeper -------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        tidy_at = time.monotonic() + TIDY_EVERY * self._jitter()
        while not self._stop.is_set():
            self._alone_until = 0.0
            try:
                self._waker.sweep(alone=self._goes_on)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_EVERY
                    self._waker.guarded(lambda: tidy(self._broker.store, self._app, now=self._broker.clock()))
            except Exception:
                log.exception("a sweep broke off; the next one follows")
            self._pulse.swept()
            busy = self._worked and (self._hints.dark or self._hints.unheard)
            self._worked = False
            self._stop.wait(0.0 if busy else self._habits.sweep_every * (0.75 + 0.5 * self._jitter()))

    def _goes_on(self) -> bool:
        """May the sweeper do one more thing by itself? Its time begins with the first."""
        now = time.monotonic()
        self._alone_until = self._alone_until or now + ALONE_SECONDS
        self._pulse.swept()
        self._worked = True
        return not self._stop.is_set() and now < self._alone_until


def tidy(store: Store, app: Celery, *, now: int) -> None:
    """Take away the rows, and the queues, of processes that have given no sign for long."""
    before = now - round(FORGOTTEN_AFTER * 1e6)
    gone = [own_queue(row.name) for row in store.workers() if row.seen_at < before]
    if gone:
        store.forget_workers(before)
        drop_queues(app, gone)


def drop_queues(app: Celery, names: Sequence[str]) -> None:
    """Take queues away, if the transport lets us; what stays is a few bytes."""
    try:
        with app.connection_for_write() as connection:
            channel = connection.default_channel
            for name in names:
                queue = Queue(name, Exchange(name), routing_key=name)(channel)
                queue.declare()  # a channel takes only those bindings away that it knows
                queue.delete()
    except Exception as error:  # noqa: BLE001 - a transport has many ways to fail, and this is housekeeping
        log.info("queues of processes that are no more were left: %s", type(error).__name__)
