"""What a picture is made of, whatever it is written as: lines and words on a white ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
"""From the upper left corner to the right and down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Through these points, straight from each to the next."""

    points: Sequence[Point]
    colour: str
    """#rrggbb"""
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """On one line; `at` is where its baseline begins, or its middle, or its end."""

    at: Point
    text: str
    anchor: str = "start"
    """start, middle or end."""
    colour: str = "#222222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Later parts lie over earlier ones."""

    width: int
    height: int
    parts: Sequence[Line | Words]


SIZE = 12.0
"""Of words: from one line to the next there is room for so much."""
DASH, GAP = 5.0, 3.0
