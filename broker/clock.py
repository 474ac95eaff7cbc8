"""Time, always passed in. Integer microseconds since the Unix epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]

SECOND = 1_000_000
"""Microseconds."""


def wall_clock() -> int:
    """The machine's time."""
    return time.time_ns() // 1_000


def micros(seconds: float) -> int:
    """Seconds as microseconds."""
    return round(seconds * SECOND)


def seconds(span: int) -> float:
    """Microseconds as seconds."""
    return span / SECOND


class VirtualClock:
    """A clock that stands still until it is told to go on; never goes back."""

    def __init__(self, start: int = 1_767_225_600 * SECOND) -> None:
        self._now = start

    def __call__(self) -> int:
        return self._now

    def advance(self, by_seconds: float) -> None:
        if by_seconds < 0:
            raise ValueError("a virtual clock never goes back")
        self._now += micros(by_seconds)

    def advance_to(self, at: int) -> None:
        self._now = max(self._now, at)
