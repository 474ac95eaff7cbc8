"""What became of one start, and of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median

from broker.simulate.waste import Booked, Waste, mean_of

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One start under one policy. Durations: seconds."""

    span: float | None
    """From the start to the result; None: there was none within the limit."""
    lost: float = 0.0
    """Work that was done and is not in the result: done again after a loss, or by a copy that came too late.
    Without a result: all but what the newest checkpoint holds."""
    spent: float = 0.0
    """Work of all copies, whether it came to anything or not: the node was taken for so long."""
    waste: Waste = field(default_factory=Waste)
    """Why `lost` was lost."""
    booked: Booked | None = None
    """What the broker has booked, where sites charge for what runs there; None: they do not."""
    failures: int = 0
    """Times that a site went dark under the stage at work."""
    moves: int = 0
    """Times that the stage went on at another site than the one where it had worked last."""
    double_submissions: int = 0
    """Submissions beyond the first under one key."""
    products: int = 0
    """Results that were published."""
    digest: str = ""
    """Of the result's files, where the broker published one: the same at every start, or work was mixed up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All starts under one policy."""

    done: float
    """The share with a result within the limit, 0 to 1."""
    median_h: float | None
    """Hours, of those that are done; None: none is."""
    p90_h: float | None
    over_oracle: float | None
    """Median of span ÷ the oracle's span for the same start, of those that are done."""
    lost_h_per_run: float
    node_h_per_run: float
    """Node-hours spent, by all copies."""
    wasted_by_outage_h_per_run: float
    """Of them, those that were done again after an outage."""
    wasted_by_copies_h_per_run: float
    """Of them, those of copies that were not needed."""
    failures_per_run: float
    moves_per_run: float
    double_submissions: int
    charges: Booked | None
    """Per run, as the broker booked them; None: nothing was."""
    products_not_one: int
    """Runs that are done and have not exactly one product, and runs that are not and have any."""


def figures(outcomes: Sequence[Outcome], oracle: Sequence[float | None]) -> Figures:
    """Of outcomes in the order of the oracle's spans. Raises ValueError when there is none."""
    if not outcomes:
        raise ValueError("no start")
    spans = [outcome.span for outcome in outcomes if outcome.span is not None]
    ratios = [
        outcome.span / best
        for outcome, best in zip(outcomes, oracle, strict=True)
        if outcome.span is not None and best is not None
    ]
    count = len(outcomes)
    return Figures(
        done=len(spans) / count,
        median_h=median(spans) / HOUR if spans else None,
        p90_h=percentile(spans, 0.9) / HOUR if spans else None,
        over_oracle=median(ratios) if ratios else None,
        lost_h_per_run=sum(outcome.lost for outcome in outcomes) / HOUR / count,
        node_h_per_run=sum(outcome.spent for outcome in outcomes) / HOUR / count,
        wasted_by_outage_h_per_run=sum(outcome.waste.outage for outcome in outcomes) / HOUR / count,
        wasted_by_copies_h_per_run=sum(outcome.waste.copies for outcome in outcomes) / HOUR / count,
        failures_per_run=sum(outcome.failures for outcome in outcomes) / count,
        moves_per_run=sum(outcome.moves for outcome in outcomes) / count,
        double_submissions=sum(outcome.double_submissions for outcome in outcomes),
        charges=mean_of(kept) if (kept := [one.booked for one in outcomes if one.booked is not None]) else None,
        products_not_one=sum(outcome.products != (outcome.span is not None) for outcome in outcomes),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
