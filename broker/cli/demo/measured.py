"""How long a slice takes, measured while somebody watches them being computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """The first and the last slice that were seen to be done."""

    _first: tuple[float, int] | None = None
    _last: tuple[float, int] | None = None

    def saw(self, done: int, *, at: float) -> None:
        """So many slices are done, `at` seconds. Only changes count: a slice is dated by when it was new."""
        if done <= (self._last[1] if self._last else 0):
            return
        self._last = (at, done)
        self._first = self._first or self._last

    @property
    def slices(self) -> int:
        """How many slices the measurement is over."""
        return self._last[1] - self._first[1] if self._first and self._last else 0

    @property
    def seconds(self) -> float:
        """How long these took."""
        return self._last[0] - self._first[0] if self._first and self._last else 0.0

    @property
    def per_slice(self) -> float:
        """Seconds; 0: nothing was measured."""
        return self.seconds / self.slices if self.slices else 0.0
