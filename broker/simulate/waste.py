"""What of all the work of one start is in its result, and why the rest is not. Seconds of work; one node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.store.booked import ChargeRow
from policies.budget import MICRO

_SAME = 1e-3
"""Seconds by which two counts of the same work may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One job's work, from where it took the stage up."""

    start: float
    """How far in the stage's work it began: 0, or its checkpoint."""
    worked: float
    lost: bool
    """Did its site go dark under it?"""


@dataclass(frozen=True, slots=True)
class Waste:
    """Work that is not in the result."""

    outage: float = 0.0
    """Since the newest checkpoint that was gone on from, when a site went dark."""
    copies: float = 0.0
    """Of copies that were not needed: of a race, or left behind at a site that lived on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What the broker itself has booked for the jobs of one start, or of all: charged node-hours."""

    spent: float
    wasted: Mapping[str, float]
    """By its causes (`policies.budget.Cause`)."""
    unsettled: float
    """Jobs whose end it had not heard of when the start ended: what they cost is no part of the above."""


def booked(rows: Iterable[ChargeRow]) -> Booked:
    """Of one start's charge rows."""
    spent, unsettled, wasted_by = 0.0, 0, dict[str, float]()
    for row in rows:
        if row.settled_at is None:
            unsettled += 1
            continue
        spent += row.actual / MICRO
        if row.wasted:
            wasted_by[row.cause] = wasted_by.get(row.cause, 0.0) + row.wasted / MICRO
    return Booked(spent=spent, wasted=wasted_by, unsettled=unsettled)


def mean_of(found: Sequence[Booked]) -> Booked:
    """Of several starts, for each. Raises ZeroDivisionError for none."""
    causes = sorted({cause for one in found for cause in one.wasted})
    count = len(found)
    return Booked(
        spent=sum(one.spent for one in found) / count,
        wasted={cause: sum(one.wasted.get(cause, 0.0) for one in found) / count for cause in causes},
        unsettled=sum(one.unsettled for one in found) / count,
    )


def wasted(pieces: Iterable[Piece], *, kept: float) -> Waste:
    """`pieces` in the order in which they began; `kept`: how far the stage came that counts.

    Backwards: who came to the end kept all it did; who saved what that one had begun from kept its work up to there.
    """
    outage = copies = 0.0
    for piece in reversed(list(pieces)):
        of_it = 0.0
        if piece.start < kept <= piece.start + piece.worked + _SAME:
            of_it, kept = kept - piece.start, piece.start
        if piece.lost:
            outage += piece.worked - of_it
        else:
            copies += piece.worked - of_it
    return Waste(max(0.0, outage), max(0.0, copies))
