"""Deciding anew from what a decision has kept, by other numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.forecast import Forecast, equal
from policies.intervals import URGENT
from policies.model import Decision
from policies.ranking import RankNumbers
from policies.shipping import AheadNumbers


class NotKept(ValueError):
    """The decision does not tell enough to decide it anew; the message says what is missing."""


def place_again(decision: Decision, numbers: RankNumbers) -> str:
    """The site that a placement would choose from its table of candidates. Raises NotKept.

    What goes before the sum (`prefer`, a site that is not well, ...) is as it was then.
    """
    rows = decision.facts.get("candidates")
    if not isinstance(rows, Sequence) or not rows:
        raise NotKept("no table of candidates")
    if not all(isinstance(row, Mapping) and "order" in row and "no_checkpoint" in row for row in rows):
        raise NotKept("a table of candidates of an older version")
    first = min(list(row["order"]) for row in rows)
    pool = [row for row in rows if list(row["order"]) == first]
    told = [Forecast.from_facts(row).expected for row in pool]
    soonest = min(told)
    near = (equal(soonest, each, band=numbers.band, seconds=numbers.seconds) for each in told)
    pool = [row for row, good in zip(pool, near, strict=True) if good]
    return str(min(pool, key=_tie)["site"])


def _tie(row: Mapping[str, object]) -> tuple[object, float, str]:
    """As `ranking` breaks ties."""
    load, slots = float(str(row["load"])), float(str(row["slots"]))
    return row["no_checkpoint"], load / max(slots, 1.0), str(row["site"])


def inputs_again(decision: Decision, numbers: AheadNumbers) -> str:
    """Whether inputs would be sent ahead: `send` or `keep`. Raises NotKept."""
    facts = decision.facts
    if "worth" not in facts:
        raise NotKept("no worth and no price")
    bytes_, seconds, chance = (float(str(facts[name])) for name in ("bytes", "seconds", "chance"))
    if bytes_ > numbers.most_ahead:
        return "keep"
    saved = (seconds + (numbers.away if facts["fade"] else 0.0)) * (URGENT if facts["urgent"] else 1.0)
    return "send" if chance * saved > numbers.link_second * seconds else "keep"
