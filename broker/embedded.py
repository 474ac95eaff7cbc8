"""Celery in this process: the memory transport, a threads worker, and the sweeper that makes lost hints harmless."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from celery import Celery
from celery.worker import WorkController

from broker.celery_app import make_app
from broker.clock import seconds
from broker.core import Broker
from broker.store.base import StoreError
from broker.tasks import register

log = logging.getLogger(__name__)
T = TypeVar("T")

THREADS = 4
SWEEP_EVERY = 0.25
"""Seconds between two sweeps when nothing is due sooner; commands of other processes are seen by it, too."""
SHORTEST_SLEEP = 0.005
RESTART_AFTER = 0.5
"""Seconds between the end of a worker and the next one."""
LOST_AFTER = 2.0
"""Seconds after which a hint that has not arrived is taken for lost, and sent again."""


class Embedded:
    """Serves a broker in this process until it is closed. A context manager."""

    def __init__(self, broker: Broker, *, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._broker, self._on_error = broker, on_error
        self._app: Celery = make_app()
        self._wake = register(self._app, self)
        self._outstanding: dict[str, float] = {}
        self._guard = threading.Lock()
        self._stop, self._nudge = threading.Event(), threading.Event()
        self._ready = threading.Event()
        self._worker: WorkController | None = None
        self._consumer = threading.Thread(target=self._work, name="crossfade-worker", daemon=True)
        self._sweeper = threading.Thread(target=self._sweep, name="crossfade-sweeper", daemon=True)

    def __enter__(self) -> Embedded:
        self._consumer.start()
        self._sweeper.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; jobs at sites go on."""
        self._stop.set()
        self._nudge.set()
        if self._worker is not None:
            self._worker.stop()  # returns when no task is at work any more
        # the worker's own thread is not waited for: it consumes nothing now, and the transport lets go of it only
        # when its wait of 2 s for a message is over
        self._sweeper.join(10)

    def wake(self, run_id: str) -> None:
        """A hint to look at a run; dropped if one is on its way already."""
        self._send("run", run_id)

    # -- tasks -------------------------------------------------------------------------------------------------

    def run_woken(self, run_id: str) -> None:
        """Go on with a run, and with it again if its time was up."""
        self._arrived("run", run_id)
        drained = self._guarded(lambda: self._broker.go_on(run_id))
        if drained is not None and drained.busy:
            self._send("run", run_id)
        self._nudge.set()

    def site_woken(self, site: str) -> None:
        """Look at a site, and wake the runs that are concerned."""
        self._arrived("site", site)
        for run_id in self._guarded(lambda: self._broker.look(site)) or ():
            self._send("run", run_id)

    def _guarded(self, work: Callable[[], T]) -> T | None:
        """Do it; a store that is busy or full is met again by the next sweep, and told."""
        try:
            return work()
        except StoreError as error:
            log.warning("%s", error)
            if self._on_error is not None:
                self._on_error(error)
            return None

    # -- hints -------------------------------------------------------------------------------------------------

    def _send(self, kind: str, name: str) -> None:
        key, now = f"{kind}:{name}", time.monotonic()
        with self._guard:
            if self._stop.is_set() or now - self._outstanding.get(key, -LOST_AFTER) < LOST_AFTER:
                return
            self._outstanding[key] = now
        publish = self._wake.look_at_run if kind == "run" else self._wake.look_at_site
        publish(name)

    def _arrived(self, kind: str, name: str) -> None:
        with self._guard:
            self._outstanding.pop(f"{kind}:{name}", None)

    def _sweep(self) -> None:
        """Wake whatever is due, for ever."""
        self._ready.wait(10)
        while not self._stop.is_set():
            try:
                self._guarded(self._sweep_once)
            except Exception:
                log.exception("a sweep broke off; the next one follows")
            pause = min(SWEEP_EVERY, seconds(self._broker.next_look() - self._broker.clock()))
            self._nudge.wait(max(SHORTEST_SLEEP, pause))
            self._nudge.clear()

    def _sweep_once(self) -> None:
        for site in self._broker.sites_to_look_at():
            self._send("site", site)
        for run_id in self._broker.due():
            self._send("run", run_id)

    # -- the worker --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Consume hints; a worker that ends by itself is followed by another."""
        while not self._stop.is_set():
            try:
                self._consume()
            except Exception:
                log.exception("the worker broke off; another one begins")
            self._stop.wait(0.0 if self._stop.is_set() else RESTART_AFTER)

    def _consume(self) -> None:
        self._app.finalize()
        # the pool's threads know no current app and take the default one; Celery's own worker program does the same
        self._app.set_default()
        worker = self._app.WorkController(
            pool="threads", concurrency=THREADS, without_heartbeat=True, without_mingle=True, without_gossip=True
        )
        self._worker = worker
        self._ready.set()
        worker.start()
