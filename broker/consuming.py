"""Taking hints in: Celery's worker with a pool of threads, in a thread of this process.

Threads, not processes: the pool of processes may end its worker when Redis dies (measured), and what is done here
waits for the network mostly.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.worker import WorkController

log = logging.getLogger(__name__)

THREADS = 4
RESTART_AFTER = 0.5
SLOWEST_RESTART = 8.0
"""Seconds between the end of a worker and the next one: doubling from the first to the slowest. A server
without memory and one that may only be read end a worker at once, and the next one, too."""
STEADY_AFTER = 20.0
"""Seconds of work after which a worker's end is a first one again."""


class Consumer:
    """Consumes queues until it is stopped; a worker that ends by itself is followed by another."""

    def __init__(self, app: Celery, queues: Sequence[str], *, threads: int = THREADS) -> None:
        self._app, self._queues, self._threads = app, list(queues), threads
        self._stop, self._ready = threading.Event(), threading.Event()
        self._worker: WorkController | None = None
        self._thread = threading.Thread(target=self._work, name="crossfade-worker", daemon=True)
        self.restarts = 0
        """How many workers have ended by themselves."""

    def start(self) -> None:
        """Returns when it consumes, or after 10 s."""
        self._thread.start()
        self.wait_ready(10)

    def wait_ready(self, seconds: float) -> bool:
        return self._ready.wait(seconds)

    def stop(self) -> None:
        """Returns when no task is at work any more. The worker's own thread is not waited for: it takes nothing in
        now, and a transport may let go of it only when its wait for a message is over."""
        self._stop.set()
        if self._worker is not None:
            self._worker.stop()

    def _work(self) -> None:
        pause = RESTART_AFTER
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._consume()
            except Exception:
                log.exception("the worker broke off; another one begins")
            if self._stop.is_set():
                return
            self.restarts += 1
            pause = RESTART_AFTER if time.monotonic() - began > STEADY_AFTER else min(SLOWEST_RESTART, pause * 2)
            self._mend()
            self._stop.wait(pause)

    def _mend(self) -> None:
        """A key of ours that holds something else than a queue ends every worker: it goes. Nothing is lost by that."""
        for name in self._queues:
            try:
                with self._app.connection_for_write() as connection:
                    _keep_queue(connection.default_channel, name)
            except Exception as error:  # noqa: BLE001 - a transport has many ways to fail, and the worker will meet it
                log.debug("queue %s could not be looked at: %s", name, type(error).__name__)

    def _consume(self) -> None:
        self._app.finalize()
        # the pool's threads know no current app and take the default one; Celery's own worker program does the same
        self._app.set_default()
        worker = self._app.WorkController(
            pool="threads",
            concurrency=self._threads,
            queues=self._queues,
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
        self._worker = worker
        self._ready.set()
        worker.start()


def _keep_queue(channel: Any, name: str) -> None:
    """Take a key away that is no queue."""
    try:
        channel.queue_declare(name)
    except Exception as error:
        if "WRONGTYPE" not in str(error):  # Redis' own word; its errors are not ours to import
            raise
        log.warning("the key of queue %s held no queue; it is taken away", name)
        channel.queue_purge(name)
