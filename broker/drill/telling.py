"""A rehearsal as programs and people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from broker.drill.measure import HOUR, Figures
from broker.drill.rehearse import Outcome, Rehearsal
from policies.intervals import span

View = dict[str, Any]
COLUMNS = ("play", "state", "took", "recovery", "lost", "node_hours", "wasted", "moves", "doubles", "ok")


def as_view(rehearsal: Rehearsal) -> View:
    """One document; durations in seconds, computing in hours."""
    invariants = rehearsal.outcomes[0].verdict.invariants
    return {
        "drill": rehearsal.name,
        "title": rehearsal.title,
        "seed": rehearsal.seed,
        "workflow": rehearsal.cast.run.name,
        "sites": list(rehearsal.cast.sites.configs),
        "given_work": list(rehearsal.cast.given),
        "plays": [_play(outcome) for outcome in rehearsal.outcomes],
        "invariants": list(invariants),
        "ok": rehearsal.ok,
    }


def _play(outcome: Outcome) -> View:
    return {
        "at": outcome.at or None,
        **figures_view(outcome.figures),
        "checks": [asdict(check) for check in outcome.verdict.checks],
        "violations": list(outcome.verdict.violations),
        "ok": outcome.verdict.ok,
    }


def figures_view(figures: Figures) -> View:
    """By the names that documents and pages use."""
    return {
        "state": figures.state,
        "took_s": figures.span,
        "recovery_s": figures.recovery,
        "never_recovered": figures.unrecovered,
        "lost_h": _hours(figures.lost),
        "shipping_bound_h": _hours(figures.shipping),
        "node_hours": _hours(figures.node_seconds),
        "wasted_node_hours": _hours(figures.wasted),
        "attempts": figures.attempts,
        "moves": figures.moves,
        "restores": figures.restores,
        "copies_sent": figures.copies,
        "double_submissions": figures.double_submissions,
        "products": figures.products,
        "alerts": figures.alerts,
        "reaped": figures.reaped,
        "adopted": figures.adopted,
        "ready_s": dict(figures.within),
    }


def as_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A line for each play, in COLUMNS."""
    return [
        [outcome.at or "-", *_cells(outcome.figures), "yes" if outcome.verdict.ok else "NO"] for outcome in outcomes
    ]


def _cells(figures: Figures) -> Iterator[str]:
    yield figures.state
    yield span(figures.span)
    yield recovery(figures)
    yield f"{_hours(figures.lost):.2f} h"
    yield f"{_hours(figures.node_seconds):.2f}"
    yield f"{_hours(figures.wasted):.2f}"
    yield str(figures.moves)
    yield str(figures.double_submissions)


def recovery(figures: Figures) -> str:
    """In words; a dash where no stage was hit."""
    if figures.unrecovered:
        return "never"
    return "-" if figures.recovery is None else span(figures.recovery)


def check_lines(rehearsal: Rehearsal) -> Iterator[str]:
    """What was asked: of one play everything, of several what each bound came to at the worst, and all that broke."""
    many = len(rehearsal.outcomes) > 1
    for outcome in rehearsal.outcomes:
        mark = f" (at {outcome.at})" if many else ""
        for check in outcome.verdict.checks:
            if not many or not check.ok:
                yield f"{'ok    ' if check.ok else 'BROKEN'}  {check.name}: {check.found}, wanted {check.bound}{mark}"
        yield from (f"BROKEN  {violation}{mark}" for violation in outcome.verdict.violations)
    if many and rehearsal.ok:
        names = ", ".join(check.name for check in rehearsal.outcomes[0].verdict.checks)
        yield f"ok      in all {len(rehearsal.outcomes)} plays: {names}"
    invariants = rehearsal.outcomes[0].verdict.invariants
    broken = sum(len(outcome.verdict.violations) for outcome in rehearsal.outcomes)
    holding = "all hold" if not broken else f"{broken} violations, above"
    yield f"{'ok    ' if not broken else 'BROKEN'}  {len(invariants)} invariants, {holding}: {' '.join(invariants)}"


def _hours(seconds: float) -> float:
    return round(seconds / HOUR, 4)
