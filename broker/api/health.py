"""Is this installation fit to be asked? Cheap, and the same however often it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
from anyio import CapacityLimiter, to_thread

from broker.store.base import Store, StoreError

FRESH = 1.0
"""Seconds for which an answer is given again: anybody may ask, and the store has better things to do."""
PATIENCE = 5.0
"""Seconds after which a store that is still busy with the question counts as not answering."""


class Health:
    """Asks the store, and whoever serves beside it."""

    def __init__(self, store: Store, healthy: Callable[[], bool]) -> None:
        self._store, self._healthy = store, healthy
        self._one_at_a_time: CapacityLimiter | None = None
        self._seen: tuple[float, dict[str, bool]] | None = None

    async def view(self) -> dict[str, bool]:
        """`store`: it answers. `serving`: what goes on with runs is well. `ok`: both."""
        if self._one_at_a_time is None:
            self._one_at_a_time = CapacityLimiter(1)  # beside the routes' threads: those may all be waiting
        with anyio.move_on_after(PATIENCE):
            return await to_thread.run_sync(self._look, limiter=self._one_at_a_time, abandon_on_cancel=True)
        return {"ok": False, "store": False, "serving": False}

    def _look(self) -> dict[str, bool]:
        now = time.monotonic()
        if self._seen is not None and now - self._seen[0] < FRESH:
            return self._seen[1]
        store, serving = self._store_answers(), self._is_served()
        answer = {"ok": store and serving, "store": store, "serving": serving}
        self._seen = (time.monotonic(), answer)
        return answer

    def _store_answers(self) -> bool:
        try:
            self._store.next_due()
        except StoreError:
            return False
        return True

    def _is_served(self) -> bool:
        try:
            return self._healthy()
        except Exception:  # noqa: BLE001 - who cannot say that all is well is not well
            return False
