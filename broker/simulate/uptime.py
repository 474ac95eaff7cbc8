"""When a site is up, as a trace tells. Seconds from the trace's beginning."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Spell = tuple[float, float]
"""From (included) to (not included)."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """One site's spells of service: in order, apart from each other, within [0, length)."""

    site: str
    spells: Sequence[Spell]
    length: float
    """Until when the trace tells; after that the site counts as down."""
    tick: float = 0.0
    """Seconds between two looks of whoever recorded it: what it tells happened up to so much earlier. 0: no such."""
    _starts: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [start for start, _ in self.spells])

    def end_of_spell(self, at: float) -> float | None:
        """Until when a site that is up at `at` stays so; None: it is down."""
        index = bisect_right(self._starts, at) - 1
        return self.spells[index][1] if index >= 0 and at < self.spells[index][1] else None

    def next_spell(self, at: float, *, lasting: float = 0.0) -> Spell | None:
        """The first part of a spell from `at` on that is at least so long: (start, not before `at`; end)."""
        for start, end in self.spells[max(0, bisect_right(self._starts, at) - 1) :]:
            begins = max(start, at)
            if end > begins and end - begins >= lasting:
                return begins, end
        return None

    def changes(self, since: float, until: float) -> Iterator[tuple[float, bool]]:
        """(when, up) of every change in (since, until)."""
        for start, end in self.spells[max(0, bisect_right(self._starts, since) - 1) :]:
            if start >= until:
                return
            if start > since:
                yield start, True
            if since < end < until:
                yield end, False

    @property
    def share(self) -> float:
        """Of the trace's time, that in which the site is up."""
        return sum(end - start for start, end in self.spells) / self.length

    @property
    def losses_every(self) -> float:
        """Seconds of service, on average, between two losses; the whole length where it was never lost."""
        lost = sum(end < self.length for _, end in self.spells)
        return sum(end - start for start, end in self.spells) / lost if lost else self.length


def joined(spells: Sequence[Spell]) -> list[Spell]:
    """In order, with those that touch or overlap made one, and empty ones left out."""
    found: list[Spell] = []
    for start, end in sorted(spells):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(length: float, down: Sequence[Spell]) -> list[Spell]:
    """What is left of [0, length) when these are taken out."""
    found, at = [], 0.0
    for start, end in joined(down):
        if start > at:
            found.append((at, min(start, length)))
        at = max(at, end)
    if at < length:
        found.append((at, length))
    return [spell for spell in found if spell[0] < spell[1]]
