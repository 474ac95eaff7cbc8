"""Runs that are at risk: by their deadlines, and by what would be lost of their work with a site that is dark."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from broker.deadlines import RUN
from broker.service import Service
from broker.store.base import RunRow
from broker.views import View, when
from policies.deadline import AT_RISK, MISSED

MOST_ASKED = 20
"""Runs at dark sites whose checkpoints are looked at."""


def at_risk(service: Service, runs: Sequence[RunRow], dark: Collection[str]) -> list[View]:
    """Of the unfinished runs, the nearest deadlines first."""
    late = [view for run in runs if run.deadlines for view in _late(service, run)]
    late.sort(key=lambda view: str(view["at"]))
    return [*late, *_work(service, {run.run_id for run in runs}, dark)]


def _late(service: Service, run: RunRow) -> Iterator[View]:
    rows = [row for row in service.store.deadlines(run.run_id) if row.state in (AT_RISK, MISSED)]
    if not rows:
        return
    paths = {stage.n: stage.path for stage in service.store.stages_at(run.run_id, [row.n for row in rows]).values()}
    now = service.clock()
    for row in rows:
        left = (row.at - now) / 1e6
        ends = " It is canceled then." if row.on_miss == "cancel" and left > 0 else ""
        words = f"is missed since {round(-left)} s" if left <= 0 else f"is at risk: {round(left)} s are left.{ends}"
        where = run.run_id if row.n == RUN else f"{run.run_id}/{paths.get(row.n, row.n)}"
        yield {
            "run": run.run_id,
            "stage": paths.get(row.n),
            "risk": f"deadline_{row.state.removeprefix('deadline_')}",
            "at": when(row.at),
            "words": f"{where}: its deadline {words}",
            "do": f"crossfade explain {where}",
        }


def _work(service: Service, unfinished: Collection[str], dark: Collection[str]) -> Iterator[View]:
    """What dark sites hold of work that nobody else has."""
    there = [row for name in sorted(dark) for row in service.store.open_attempts(name) if not row.orphan]
    wanted = {(row.run_id, row.n) for row in there if row.run_id in unfinished}
    for run_id in sorted({run_id for run_id, _ in wanted})[:MOST_ASKED]:
        for held in service.checkpoints(run_id):
            risk = held["at_risk"]
            if isinstance(risk, dict) and held["site"] in dark:
                where = f"{run_id}/{held['stage']}"
                yield {
                    "run": run_id,
                    "stage": held["stage"],
                    "risk": "work",
                    "at": None,
                    "words": f"{where}: {risk['words']}",
                    "do": f"crossfade checkpoints {where}",
                }
