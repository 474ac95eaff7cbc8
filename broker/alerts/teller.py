"""When passes are made, by a process that serves: often, beside everything else, one at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from broker.store.base import StoreError

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two passes of one process."""
AT_THE_END = 5.0
"""Seconds that a process which stops gives to what is still to be told."""


class Teller:
    """Makes passes in a thread of its own: an address may take its time, and no run waits for it."""

    def __init__(
        self,
        watch: Callable[[], None],
        send: Callable[[], int],
        *,
        every: float = EVERY,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watch`: look for what stands and is to be told; `send`: one pass over what is due."""
        self._watch, self._send, self._every, self._elapsed = watch, send, every, elapsed
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Begin a pass if it is time for one and none is under way. Returns at once."""
        if self._elapsed() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._next = self._elapsed() + self._every
        self._thread = threading.Thread(target=self.run, name="crossfade-teller", daemon=True)
        self._thread.start()

    def finish(self, seconds: float = AT_THE_END) -> None:
        """Send what is due, for so long at most: who submits, serves and goes hears of the end."""
        end = self._elapsed() + seconds
        if self._thread is not None:
            self._thread.join(seconds)
        if self._elapsed() < end:
            self._thread = threading.Thread(target=self._pass, args=(self._send,), daemon=True)
            self._thread.start()
            self._thread.join(end - self._elapsed())

    def run(self) -> None:
        """One pass; whatever goes wrong is met again by the next."""
        self._pass(self._watch)
        self._pass(self._send)

    @staticmethod
    def _pass(work: Callable[[], object]) -> None:
        try:
            work()
        except StoreError as error:
            log.warning("nothing more is told in this pass: %s", error)
        except Exception:
            log.exception("a pass of the teller broke off; the next one follows")
