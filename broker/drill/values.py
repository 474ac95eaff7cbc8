"""Values that only drill files have: moments, and how many of something may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import WithJsonSchema

from broker.spec.errors import Wrong, quoted
from broker.spec.expressions import Filling
from broker.spec.quantities import duration
from broker.spec.values import reads

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%")
MOST_PLAYS = 100


class Moment(NamedTuple):
    """When a fault begins: so many seconds after the start, or when that share of a stage's work is done."""

    seconds: float = 0.0
    share: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:g} s" if self.share is None else f"{100 * self.share:g}%"


@dataclass(frozen=True, slots=True)
class Span:
    """From `least` to `most`, both included; `most` None: as many as there are."""

    least: int = 0
    most: int | None = None

    def holds(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least}"
        if self.most is None:
            return f"at least {self.least}"
        return f"{self.least} to {self.most}" if self.least else f"at most {self.most}"


def _moment(value: object, _: Filling) -> Moment:
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return Moment(seconds=duration(value))
    share = float(found[1]) / 100
    if not 0 < share < 1:
        raise Wrong(f"{quoted(value)} is no part of a stage's work", "write more than 0% and less than 100%")
    return Moment(share=share)


def _moments(value: object, filling: Filling) -> tuple[Moment, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MOST_PLAYS:
        raise Wrong(f"a drill is played at most {MOST_PLAYS} times, and at least once", "write fewer moments")
    return tuple(_moment(item, filling) for item in values)


def _span(value: object, _: Filling) -> Span:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Span(value, value)
    if isinstance(value, dict) and value and set(value) <= {"least", "most"}:
        least, most = value.get("least", 0), value.get("most")
        counts = [count for count in (least, most) if count is not None]
        if all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
            return Span(least, most)
    raise Wrong(f"{quoted(value)} is no count", "write a whole number, or {least: 1, most: 2}")


def _lost(value: object, _: Filling) -> float | str:
    return value if value == "shipping" else duration(value)


Moments = Annotated[tuple[Moment, ...], reads(_moments), WithJsonSchema({"type": ["string", "number", "array"]})]
Spread = Annotated[Span, reads(_span), WithJsonSchema({"type": ["integer", "object"]})]
Lost = Annotated[float | str, reads(_lost), WithJsonSchema({"type": ["string", "number"]})]
