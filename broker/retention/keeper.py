"""When passes are made, by a process that serves: now and then, beside everything else, one at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from broker.retention.removing import Retention
from broker.store.base import StoreError

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two passes of one process."""


class Keeper:
    """Makes passes in a thread of its own: comparing digests may take long, and nothing waits for it."""

    def __init__(self, retention: Retention, *, every: float = EVERY, elapsed: Callable[[], float] = time.monotonic):
        self._retention, self._every, self._elapsed = retention, every, elapsed
        self._next = elapsed() + every
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Begin a pass if it is time for one and none is under way. Returns at once."""
        if self._elapsed() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._next = self._elapsed() + self._every
        self._thread = threading.Thread(target=self.run, name="crossfade-retention", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """One pass; whatever goes wrong is met again by the next."""
        try:
            for _ in self._retention.run():
                pass
        except StoreError as error:
            log.warning("nothing more is removed in this pass: %s", error)
        except Exception:
            log.exception("a pass of the retention broke off; the next one follows")
