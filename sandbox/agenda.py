"""What will happen, in order of time, and of arrival where times are equal."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Handler = Callable[..., object]
"""Called with the moment it was planned for, then with its own arguments."""


class Agenda:
    """Moves time on, event by event. `settle` runs after each one that asked for it with `touch`."""

    def __init__(self, start: int) -> None:
        self.now = start
        self._events: list[tuple[int, int, Handler, tuple[Any, ...]]] = []
        self._count = 0
        self._settle: Callable[[int], None] = _nothing
        self._touched = False

    def on_settle(self, settle: Callable[[int], None]) -> None:
        self._settle = settle

    def plan(self, at: int, handler: Handler, *args: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, handler, args))

    def touch(self) -> None:
        """Something changed that may let waiting jobs begin."""
        self._touched = True

    def next_at(self) -> int | None:
        return self._events[0][0] if self._events else None

    def advance(self, now: int) -> None:
        """Let everything happen that was planned up to `now`. A clock that went back is taken to stand still."""
        if self._touched:
            self._settled(self.now)
        while self._events and self._events[0][0] <= now:
            at, _, handler, args = heapq.heappop(self._events)
            self.now = max(self.now, at)
            handler(self.now, *args)
            if self._touched:
                self._settled(self.now)
        self.now = max(self.now, now)

    def settle(self) -> None:
        """Let waiting jobs begin now."""
        if self._touched:
            self._settled(self.now)

    def _settled(self, now: int) -> None:
        self._touched = False
        self._settle(now)


def _nothing(_now: int) -> None:
    return
