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


class FollowingClock:
    """The time of somewhere else, told by this machine's stopwatch: of a database that many machines share.

    Machines' own clocks may be an hour apart, and jump; what one of them is to do "at three" another one must not
    do at four. Between two questions (`follow`) nobody is asked, so it costs nothing and needs no connection.
    """

    def __init__(self, ask: Clock, *, elapsed: Callable[[], int] = time.monotonic_ns) -> None:
        """Asks once; `elapsed` counts nanoseconds."""
        self._ask, self._elapsed = ask, elapsed
        self._ahead = 0
        self.follow()

    def __call__(self) -> int:
        return self._elapsed() // 1_000 + self._ahead

    def follow(self) -> None:
        """Ask again: stopwatches drift, and stand still while a machine sleeps. Raises what asking raises."""
        before = self._elapsed()
        told = self._ask()
        self._ahead = told - (before + self._elapsed()) // 2_000  # told half-way between question and answer


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
