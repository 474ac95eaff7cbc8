"""What a comparison is told as: a document for programs, a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.simulate.compare import Comparison
from broker.simulate.outcome import HOUR, Figures
from broker.simulate.queues import QueueLog
from broker.simulate.setting import Setting
from broker.simulate.uptime import Uptime

TOLD = (
    "done",
    "median_h",
    "p90_h",
    "over_oracle",
    "lost_h_per_run",
    "node_h_per_run",
    "wasted_by_outage_h_per_run",
    "wasted_by_copies_h_per_run",
    "failures_per_run",
    "moves_per_run",
    "double_submissions",
    "products_not_one",
)
"""Keys of each policy in the document."""
_HEADINGS = (
    *("policy", "done", "median h", "p90 h", "÷ oracle", "node h", "lost h", "copies h"),
    *("failures", "moves", "twice", "not one"),
)


def as_view(found: Comparison) -> dict[str, Any]:
    """`{oracle: {median_h}, policies: {NAME: {...}}}`: shares from 0 to 1, hours; null where no start is done."""
    return {
        "oracle": {"median_h": _rounded(found.oracle_median_h)},
        "policies": {
            name: {key: _rounded(getattr(told, key)) for key in TOLD} | _charges(told)
            for name, told in found.policies.items()
        },
    }


def _charges(told: Figures) -> dict[str, Any]:
    """Of a policy that the broker carried out, where sites charge."""
    booked = told.charges
    if booked is None:
        return {}
    wasted = {cause: _rounded(hours) for cause, hours in booked.wasted.items()}
    per_run = {"spent_node_h": _rounded(booked.spent), "wasted_node_h": wasted, "unsettled_jobs": booked.unsettled}
    return {"charges_per_run": per_run}


def about_charges(found: Comparison) -> list[str]:
    """A line for each policy that the broker carried out: what it booked, where sites charge."""
    lines = []
    for name, told in found.policies.items():
        if told.charges is not None:
            causes = ", ".join(f"{hours:.2f} {cause}" for cause, hours in told.charges.wasted.items())
            spent = f"{name} was charged {told.charges.spent:.2f} node-hours a run"
            lines.append(f"{spent}; wasted of them: {causes or 'none'}")
    return lines


def as_table(found: Comparison, about: Sequence[str]) -> str:
    """The same for people, below some lines about what was simulated."""
    rows = [_row(name, told) for name, told in found.policies.items()]
    done, best = f"{found.oracle_done:.0%}", found.oracle_median_h
    rows.append(("oracle", done, _figure(best), "-", "1.000", *"-------"))
    return "\n".join([*about, "", *_aligned([_HEADINGS, *rows])])


def about_outages(found: Comparison, traces: Sequence[Uptime], setting: Setting) -> list[str]:
    """What was simulated, of traces."""
    days = min(trace.length for trace in traces) / 86_400
    sites = ", ".join(f"{trace.site} (up {trace.share:.0%})" for trace in traces)
    return [
        f"{len(found.starts)} starts of a {setting.stage / HOUR:g} h stage over {days:.1f} days of {sites}",
        _costs(setting),
    ]


def about_queues(found: Comparison, logs: Sequence[QueueLog], setting: Setting) -> list[str]:
    """What was simulated, of queues."""
    days, jobs = logs[0].length / 86_400, len(logs[0].jobs)
    sites = f"{len(logs)} sites, each {jobs} jobs of one log, rotated"
    exceeded = logs[0].exceeded()
    bound = "too few jobs for a bound" if exceeded is None else f"exceeded by {exceeded:.1%} of later jobs"
    return [
        f"{len(found.starts)} starts of a {setting.stage / HOUR:g} h stage over {days:.1f} days of {sites}",
        _costs(setting),
        f"the 95 % bound on a wait, from the last waits known: {bound}",
    ]


def _costs(setting: Setting) -> str:
    costs = f"a checkpoint every {setting.every:g} s costs {setting.cost:g} s; detection {setting.detection:g} s"
    return f"{costs}, move {setting.move:g} s, limit {setting.limit / HOUR:g} h, seed {setting.seed}"


def _row(name: str, told: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{told.done:.0%}",
        _figure(told.median_h),
        _figure(told.p90_h),
        _figure(told.over_oracle, 3),
        _figure(told.node_h_per_run),
        _figure(told.lost_h_per_run),
        _figure(told.wasted_by_copies_h_per_run),
        _figure(told.failures_per_run),
        _figure(told.moves_per_run),
        str(told.double_submissions),
        str(told.products_not_one),
    )


def _figure(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _rounded(value: float | int | None) -> float | int | None:
    return round(value, 4) if isinstance(value, float) else value
