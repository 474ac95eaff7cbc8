"""What would have to be different for a stage to be placed elsewhere, from what a placement has kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from policies.forecast import Forecast, equal
from policies.intervals import span
from policies.model import Decision

_STEPS = 40
"""Halvings: of ten years that is less than a millisecond."""
_HELPS = {
    "drained": "`crossfade site resume {site}` would let it start there",
    "answers": "it may start there as soon as {site} answers",
    "window": "a shorter walltime, or checkpoints, would let it start at {site} before the maintenance",
    "freeze": "`crossfade freeze off` would let it start at {site}",
    "quarantine": "it may start there as soon as {site} has listed its jobs",
    "room": "a place that comes free at {site} lets it start there",
}


def what_if(decision: Decision) -> list[str]:
    """Sentences, each on one site; none where the placement tells of no alternative."""
    if decision.kind != "placement":
        return []
    if decision.outcome == "wait":
        known = (_HELPS.get(reason.rule, "").format(site=reason.site) for reason in decision.reasons if reason.site)
        return list(dict.fromkeys(text for text in known if text))
    rows = decision.facts.get("candidates")
    if decision.outcome != "place" or not isinstance(rows, Sequence) or len(rows) < 2:
        return []
    by_site = {str(row["site"]): row for row in rows}
    chosen = by_site.pop(decision.site, None)
    if chosen is None:
        return []
    return [_would(name, row, decision.site, chosen) for name, row in by_site.items()]


_PREFER = 3
"""Of `_WELCOME`, which an older decision is taken to have gone by."""


def _would(name: str, row: Mapping[str, object], best: str, chosen: Mapping[str, object]) -> str:
    told, other = Forecast.from_facts(row), Forecast.from_facts(chosen)
    if row.get("order") != chosen.get("order"):
        return f"{name} would need to be as welcome as {best}: {_WELCOME[_differs(row, chosen)]} goes before the sum"
    if equal(told.expected, other.expected):
        return f"{name} is as good as {best}, within a tenth or a minute: the checkpoint, the load or the name decided"
    least = _with_wait(told, 0.0)
    if equal(least.expected, other.expected):
        return f"{name} would be as good as {best} without a wait, and no better (it is {span(told.wait.p50)})"
    if not _wins(least, other):
        return f"{name} would not be chosen even without a wait: its other terms are longer than those of {best}"
    low, high = 0.0, told.wait.p50 or told.wait.p90
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _wins(_with_wait(told, middle), other) else (low, middle)
    return f"{name} would be chosen if its wait were under {span(low)} (it is {span(told.wait.p50)})"


def _with_wait(told: Forecast, seconds: float) -> Forecast:
    """With another median, the spread in proportion."""
    if told.wait.p50 > 0:
        return replace(told, wait=told.wait.times(seconds / told.wait.p50))
    return replace(told, wait=replace(told.wait, p90=seconds))


def _wins(one: Forecast, other: Forecast) -> bool:
    return one.expected < other.expected and not equal(one.expected, other.expected)


_WELCOME = (
    "that it needs no waiver",
    "that its files are near",
    "where the run was moved to, or its home,",
    "the document's `prefer`",
    "that a site is well",
    "the lane that was wished for",
)


def _differs(row: Mapping[str, object], chosen: Mapping[str, object]) -> int:
    """The first of what goes before the sum in which the two differ."""
    mine, its = row.get("order"), chosen.get("order")
    if not isinstance(mine, Sequence) or not isinstance(its, Sequence):
        return _PREFER
    return next((i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), _PREFER) % len(_WELCOME)
