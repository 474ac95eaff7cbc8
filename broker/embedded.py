"""Celery in this process: the memory transport, a threads worker, and the sweeper that makes lost hints harmless."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from broker.celery_app import make_app
from broker.clock import seconds
from broker.consuming import THREADS, Consumer
from broker.core import Broker
from broker.hints import LocalHints
from broker.tasks import RUNS, register, site_queue
from broker.waking import Waker

log = logging.getLogger(__name__)

SWEEP_EVERY = 0.25
"""Seconds between two sweeps when nothing is due sooner; commands of other processes are seen by it, too."""
SHORTEST_SLEEP = 0.005


class Embedded:
    """Serves a broker in this process until it is closed. A context manager."""

    def __init__(self, broker: Broker, *, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._broker = broker
        self._stop, self._nudge = threading.Event(), threading.Event()
        self._app = make_app()
        self._hints = LocalHints(register(self._app, self), stopped=self._stop.is_set)
        self._waker = Waker(broker, self._hints, threads=THREADS, on_error=on_error)
        self._consumer = Consumer(self._app, [RUNS, *map(site_queue, broker.sites)])
        self._sweeper = threading.Thread(target=self._sweep, name="crossfade-sweeper", daemon=True)

    def __enter__(self) -> Embedded:
        self._consumer.start()
        self._sweeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; jobs at sites go on."""
        self._stop.set()
        self._nudge.set()
        self._consumer.stop()
        self._sweeper.join(10)
        self._waker.finish()

    def wake(self, run_id: str) -> None:
        """A hint to look at a run; dropped if one is on its way already."""
        self._hints.runs([run_id])

    # -- tasks -------------------------------------------------------------------------------------------------

    def runs_woken(self, run_ids: Sequence[str]) -> None:
        self._hints.arrived("run", *run_ids)
        self._waker.runs(run_ids)
        self._nudge.set()

    def site_woken(self, site: str) -> None:
        self._hints.arrived("look", site)
        self._waker.look(site)

    def site_acts(self, site: str) -> None:
        self._hints.arrived("act", site)
        self._waker.act(site)

    def movers_turn(self) -> None:
        self._hints.arrived("move", "")
        self._waker.move()

    def sweep(self) -> None:
        """Nobody asks for it here: the sweeper is in the same process."""
        self._nudge.set()

    def came_back(self, sent: str) -> None:
        """Nothing is sent to come back here: a process that is its own transport cannot lose it."""

    # -- the sweeper -------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Wake whatever is due, for ever."""
        self._consumer.wait_ready(10)
        while not self._stop.is_set():
            try:
                self._waker.sweep()
            except Exception:
                log.exception("a sweep broke off; the next one follows")
            pause = min(SWEEP_EVERY, seconds(self._broker.next_look() - self._broker.clock()))
            self._nudge.wait(max(SHORTEST_SLEEP, pause))
            self._nudge.clear()
