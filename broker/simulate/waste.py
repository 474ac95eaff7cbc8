"""What of all the work of one start is in its result, and why the rest is not. Seconds of work; one node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
