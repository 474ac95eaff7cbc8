"""The table of what sites were, or would be, compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.cli.output import cell, table
from policies.intervals import span

MOST_NAMED = 3
"""Stages that one table names; the others are counted."""
_COLUMNS = ("site", "takes it", "stage-in", "wait", "work", "stage-out", "finish", "risk")


def candidate_tables(views: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each set of stages that fare alike, in document order."""
    alike: dict[str, list[str]] = {}
    for view in views:
        if view.get("candidates"):
            alike.setdefault(_table(view["candidates"]), []).append(str(view["stage"]))
    return [f"{_names(stages)}\n{text}" for text, stages in alike.items()]


def _table(candidates: Sequence[Mapping[str, Any]]) -> str:
    charged = any(one.get("charge") is not None for one in candidates)
    columns = (*_COLUMNS, *(("charge",) if charged else ()), "known from")
    rows = [_row(one, charged=charged) for one in sorted(candidates, key=_first_chosen)]
    return table(columns, rows, empty="no sites")


def _first_chosen(one: Mapping[str, Any]) -> tuple[bool, bool, float]:
    return not one["chosen"], not one["open"], one.get("expected", 0.0)


def _row(one: Mapping[str, Any], *, charged: bool) -> list[str]:
    name = f"{one['site']} *" if one["chosen"] else str(one["site"])
    takes = "yes" if one["open"] else "not now" if one["fits"] else "no"
    if "finish" not in one:
        return [name, takes, *("-" for _ in _COLUMNS[2:]), *(("-",) if charged else ()), cell(one["why"])]
    terms = ("stage_in", "wait", "work", "stage_out", "finish")
    charge = _charge(one["charge"], one["unit"])
    return [
        name,
        takes,
        *(_both(one[term]) for term in terms),
        f"{100 * one['risk']:.2g} %",
        *((charge,) if charged else ()),
        cell(one["why"] if one["why"] else _sources(one)),
    ]


def _charge(charge: float | None, unit: str | None) -> str:
    return "-" if charge is None else f"{charge:.3g} {(unit or '').replace('_', ' ')}".strip()


def _both(term: Mapping[str, float]) -> str:
    """Median and 90th percentile; one of them where they are the same."""
    p50, p90 = span(term["p50"]), span(term["p90"])
    return p50 if p50 == p90 else f"{p50} / {p90}"


def _sources(one: Mapping[str, Any]) -> str:
    terms = ("stage_in", "wait", "work")
    return "; ".join(f"{term.replace('_', '-')}: {one[term]['source']}" for term in terms if one[term]["source"])


def _names(stages: Sequence[str]) -> str:
    named = ", ".join(stages[:MOST_NAMED])
    more = len(stages) - MOST_NAMED
    return f"{named} and {more} more:" if more > 0 else f"{named}:"
