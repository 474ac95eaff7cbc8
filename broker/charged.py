"""Charges, bounds and allocations in figures and words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from broker.store.base import AllocationRow, CapRow, ChargeRow, SumRow
from broker.views import View, when
from policies.budget import MICRO, Amount, told, worth
from policies.model import Cap

DIFFERS = 0.05
"""From this part of what the site says on, a difference from it is said."""


def charge_view(row: ChargeRow) -> View:
    """One attempt's charge, in its site's unit."""
    return {
        "unit": row.unit,
        "estimated": row.estimated / MICRO,
        "actual": None if row.settled_at is None else row.actual / MICRO,
        "wasted": None if row.settled_at is None else row.wasted / MICRO,
        "cause": row.cause or None,
        "lane": row.lane,
        "account": row.account or None,
        "reservation": row.reservation or None,
        "times_from": row.source or None,
        "site_says": None if row.told is None else row.told / MICRO,
        "usd": (row.actual if row.settled_at is not None else row.estimated) * row.usd / MICRO**2 if row.usd else None,
    }


def charge_words(view: Mapping[str, object]) -> str:
    """The same in a line."""
    unit, actual = str(view["unit"]), view["actual"]
    expected = f"{_told(view['estimated'], unit)} at the most"
    if actual is None:
        return f"{expected}; not over yet"
    wasted = f", {_told(view['wasted'], unit)} of it wasted ({view['cause']})" if view["wasted"] else ""
    cause = f" ({view['cause']})" if view["cause"] and not wasted else ""
    says = f"; the site says {_told(view['site_says'], unit)}" if view["site_says"] is not None else ""
    return f"{_told(actual, unit)}{cause}{wasted}; {expected}{says}"


def _told(value: object, unit: str) -> str:
    assert isinstance(value, float)  # noqa: S101
    return told(round(value * MICRO), unit)


def grouped(sums: Iterable[SumRow], key: Callable[[SumRow], str]) -> dict[str, list[SumRow]]:
    groups: defaultdict[str, list[SumRow]] = defaultdict(list)
    for row in sums:
        groups[key(row)].append(row)
    return dict(sorted(groups.items()))


def by_unit(groups: Mapping[str, Sequence[SumRow]]) -> Iterable[tuple[str, str, Sequence[SumRow]]]:
    """Nothing is added up that is counted differently."""
    for name, rows in groups.items():
        for unit in sorted({row.unit for row in rows}):
            yield name, unit, [row for row in rows if row.unit == unit]


def charge_line(by: str, name: str, unit: str, rows: Sequence[SumRow]) -> View:
    wasted: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        if row.wasted:
            wasted[row.cause] += row.wasted / MICRO
    compared = sum(row.told_ours for row in rows) / MICRO
    says = sum(row.told for row in rows) / MICRO
    return {
        by: name,
        "unit": unit,
        "attempts": sum(row.attempts for row in rows),
        "open": sum(row.open for row in rows),
        "held": sum(row.held for row in rows) / MICRO,
        "estimated": sum(row.estimated for row in rows) / MICRO,
        "actual": sum(row.actual for row in rows) / MICRO,
        "wasted": sum(row.wasted for row in rows) / MICRO,
        "wasted_by_cause": dict(sorted(wasted.items())),
        "usd": sum((row.actual + row.held) * row.usd for row in rows) / MICRO**2,
        "compared": compared,
        "site_says": says,
        "difference": says - compared,
    }


def differs(line: Mapping[str, object]) -> bool:
    """Is what the site says so far from what was booked for the same attempts that it must be said?"""
    says, difference = line["site_says"], line["difference"]
    assert isinstance(says, float) and isinstance(difference, float)  # noqa: S101, PT018
    compared = line["compared"]
    assert isinstance(compared, float)  # noqa: S101
    return abs(difference) > DIFFERS * max(says, compared)


def capped(cap: Cap, said: CapRow | None) -> Cap:
    return cap if said is None else cap.over(Cap(node_hours=said.node_hours, usd=said.usd))


def bound(kind: str, name: str, cap: Cap, rows: Sequence[SumRow], said: CapRow | None) -> View:
    actual = sum((worth(row.actual, usd=row.usd, nodes=row.nodes) for row in rows), Amount())
    held = sum((worth(row.held, usd=row.usd, nodes=row.nodes) for row in rows), Amount())
    return bound_of(kind, name, cap, actual, held, said)


def bound_of(kind: str, name: str, cap: Cap, actual: Amount, held: Amount, said: CapRow | None) -> View:
    def figure(of: str) -> Iterable[tuple[str, float | None]]:
        most, spent, kept = getattr(cap, of), getattr(actual, of), getattr(held, of)
        yield f"cap_{of}", None if most is None else most / MICRO
        yield f"spent_{of}", spent / MICRO
        yield f"held_{of}", kept / MICRO
        yield f"left_{of}", None if most is None else max(0, most - spent - kept) / MICRO

    return {
        "kind": kind,
        "name": name,
        **dict(figure("node_hours")),
        **dict(figure("usd")),
        "set_by": said.by if said else None,
        "reason": said.reason if said else None,
    }


def allocation_view(row: AllocationRow, now: int) -> View:
    return {
        "site": row.site,
        "project": row.account,
        "pool": row.pool or None,
        "unit": row.unit,
        "granted": row.granted / MICRO,
        "used": row.used / MICRO,
        "left": (row.granted - row.used) / MICRO,
        "ends_at": when(row.ends_at),
        "read_at": when(row.read_at),
        "age": round((now - row.read_at) / 1e6),
        "detail": row.detail or None,
    }


def millionths(value: float | None) -> int | None:
    return None if value is None else round(value * MICRO)
