"""What a process that works does with a hint, and whom it hints at when nobody else does.

A hint says what to look at. Whoever takes it in does what is to be done there, and hints at what follows. The sweep
finds what is due by the rows alone, so a lost hint costs the time until the next sweep.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from broker.alerts.teller import Teller
from broker.core import Broker
from broker.drain import Drained
from broker.retention import Keeper
from broker.store.base import StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_RUNS = 8
"""In one hint. Those that take their whole time each hold a thread for 1.6 s."""
DRAIN_SECONDS = 0.2
"""How long a hint goes on with one run. Then others have their turn."""
LONG_DRAIN_SECONDS = 1.0
"""The same while most threads have nothing to do: handing a run on costs more than the work of a layer."""


class Hints(Protocol):
    """Where hints go. Each verb answers whether the hint is on its way; it never raises for the transport's sake."""

    def runs(self, run_ids: Sequence[str]) -> bool: ...
    def look(self, site: str) -> bool: ...
    def act(self, site: str) -> bool: ...
    def move(self) -> bool: ...


class Waker:
    """Takes hints in and sends others. Thread-safe."""

    def __init__(
        self,
        broker: Broker,
        hints: Hints,
        *,
        threads: int = 1,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        """`threads`: how many take hints in, in this process."""
        self._broker, self._hints, self._on_error = broker, hints, on_error
        self._threads = threads
        self._guard, self._draining = threading.Lock(), 0
        self._keeper = Keeper(broker.retention)
        self._teller = Teller(broker.lookout.look, broker.sender.run)

    # -- hints taken in ----------------------------------------------------------------------------------------

    def runs(self, run_ids: Iterable[str]) -> None:
        """Go on with runs, and again with those whose time was up."""
        for run_id in run_ids:
            drained = self.guarded(lambda run_id=run_id: self._drain(run_id))  # type: ignore[misc]
            if drained is None:
                continue
            if drained.busy:
                self._hints.runs([run_id])
            for site in drained.acts:
                self._hints.act(site)

    def look(self, site: str) -> None:
        """Look at a site, and wake the runs that are concerned."""
        self._wake(self.guarded(lambda: self._broker.look(site)) or ())

    def act(self, site: str) -> None:
        """Do what is wanted at a site, all of it together, and wake the runs that wanted it."""
        self._wake(self.guarded(lambda: self._broker.act(site=site)) or ())

    def move(self) -> None:
        """Take the movers' turn, and wake the runs that are concerned."""
        self._wake(self.guarded(self._broker.move) or ())

    # -- the sweep ---------------------------------------------------------------------------------------------

    def sweep(self, *, alone: Callable[[], bool] = lambda: True) -> None:
        """Hint at whatever is due. What cannot be hinted at is done here and now, while `alone()`: with no transport
        at all, work goes on as fast as one thread does it."""
        self.guarded(lambda: self._sweep(alone))
        self._keeper.tick()
        self._teller.tick()

    def finish(self) -> None:
        """What is still to be told is, before a process goes; within some seconds."""
        self._teller.finish()

    def _sweep(self, alone: Callable[[], bool]) -> None:
        for site in self._broker.sites_to_look_at():
            if self._hints.look(site):
                continue
            if alone() and self._broker.serves(site):
                self.look(site)
            else:
                self._broker.leave(site)
        for site in self._broker.sites_to_act_at():
            if not self._hints.act(site) and alone() and self._broker.serves(site):
                self.act(site)
        self._wake(self._broker.tend())
        if self._broker.moves_due() and not self._hints.move() and alone():
            self.move()
        for bundle in bundles(self._broker.due()):
            if not self._hints.runs(bundle) and alone():
                self.runs(bundle)

    # -- inner -------------------------------------------------------------------------------------------------

    def _drain(self, run_id: str) -> Drained | None:
        with self._guard:
            spare = 2 * (self._draining + 1) <= self._threads
            self._draining += 1
        try:
            return self._broker.go_on(run_id, budget=LONG_DRAIN_SECONDS if spare else DRAIN_SECONDS)
        finally:
            with self._guard:
                self._draining -= 1

    def _wake(self, run_ids: Iterable[str]) -> None:
        for bundle in bundles(sorted(run_ids)):
            self._hints.runs(bundle)

    def guarded(self, work: Callable[[], T]) -> T | None:
        """Do it; a store that is busy, gone or full is met again by the next sweep, and told."""
        try:
            return work()
        except StoreError as error:
            log.warning("%s", error)
            if self._on_error is not None:
                self._on_error(error)
            return None


def bundles(run_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Runs that are hinted at together: each by itself while there are few, so that every worker gets some."""
    size = min(MOST_RUNS, 1 + len(run_ids) // 32)
    return (run_ids[start : start + size] for start in range(0, len(run_ids), size))
