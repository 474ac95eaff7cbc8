"""The events, held against the rows: what was told must be what is, and every step of it lawful."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

from broker.audit.rows import Found, RunRows, Violation
from broker.states import AttemptState, may_move

_A = AttemptState


def history(rows: RunRows) -> list[Violation]:
    """All violations, by rule."""
    return [Violation(rule, where, what) for rule, check in _RULES for where, what in check(rows)]


def _told_once(rows: RunRows) -> Found:
    told = Counter(event.stage for event in rows.events if event.kind == "published")
    owners = {product.n for product in rows.products}
    for stage in rows.stages:
        if told[stage.path] != (stage.n in owners):
            yield rows.name(stage.n), f"the events tell of {told[stage.path]} products, there are {stage.n in owners:d}"


def _histories(rows: RunRows) -> Found:
    number_of = {stage.path: stage.n for stage in rows.stages}
    told: dict[tuple[int, int], str] = {}
    for event in rows.events:
        at = (number_of.get(event.stage, -1), event.attempt)
        data = json.loads(event.data)
        if event.kind == "placed":
            told[at] = data["state"]
        elif event.kind == "superseded":
            told[at] = _A.SUPERSEDED
        elif "from" in data and event.kind == str(data.get("to")).lower():
            if told.get(at) != data["from"] or not _lawful(data["from"], data["to"]):
                yield rows.name(*at), f"was {told.get(at)}, then an event says from {data['from']} to {data['to']}"
            told[at] = data["to"]
    for row in rows.attempts:
        if (state := told.get((row.n, row.number))) != row.state:
            yield rows.name(row.n, row.number), f"is {row.state}, but the events say {state}"


def _lawful(old: str, new: str) -> bool:
    """May one state follow the other, at once or by one that a site's report has skipped?"""
    a, b = AttemptState(old), AttemptState(new)
    return may_move(a, b) or any(may_move(a, c) and may_move(c, b) for c in (_A.SUBMITTING, _A.RUNNING, _A.VERIFYING))


_RULES: Sequence[tuple[str, Callable[[RunRows], Found]]] = (
    ("I1", _told_once),
    ("I12", _histories),
)

NAMES = tuple(dict.fromkeys(name for name, _ in _RULES))
"""The rules, by the names of the invariants that they see part of."""
