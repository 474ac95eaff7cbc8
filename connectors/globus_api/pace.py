"""Not more calls than Globus takes: 20 in a second for one identity, counted over ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

RATE = 15.0
"""Calls a second that this process allows itself; others may speak for the same identity."""
BURST = 40
"""Calls at once, after a time of quiet: with RATE fewer than 200 in ten seconds."""


class Pace:
    """A bucket that fills with time; who finds it empty waits. Thread-safe."""

    def __init__(
        self,
        *,
        rate: float = RATE,
        burst: int = BURST,
        elapsed: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._burst = rate, burst
        self._elapsed, self._sleep = elapsed, sleep
        self._lock = threading.Lock()
        self._left, self._at = float(burst), elapsed()

    def wait(self) -> None:
        """Until one more call is allowed."""
        with self._lock:
            now = self._elapsed()
            self._left = min(float(self._burst), self._left + (now - self._at) * self._rate)
            self._at = now
            self._left -= 1.0
            pause = max(0.0, -self._left / self._rate)
        if pause:
            self._sleep(pause)
