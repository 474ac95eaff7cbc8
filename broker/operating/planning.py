"""What a maintenance would do: which runs it hits, what moves where, what waits, and what work is done twice for it.

Nothing is changed and nobody is asked: it is the engine's own judgement, of the moment at which work would leave.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.facts import USABLE_CHECKPOINTS, rules_at
from broker.operating.standing import stamp
from broker.operating.windows import Announcement, Windows
from broker.planning import Planner
from broker.service import Service
from broker.states import AttemptState
from broker.store.base import AttemptRow, CheckpointRow, RunRow, StageRow
from broker.views import View, when
from policies.departing import LEAVES, Departure, Work, leave
from policies.model import Decision, Rules

_WHAT = {"ends_before": "ends before", "moves": "moves", "waits": "waits", "starts_again": "starts again elsewhere"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """One attempt at the site."""

    run: RunRow
    stage: StageRow
    row: AttemptRow
    rules: Rules
    good_at: int | None
    bytes: int


def plan(service: Service, said: Announcement) -> View:
    """What would follow if that were announced now. Raises as announcing it would."""
    Windows(service).wanted(said)
    planner = Planner(service.store, service.sites, now=service.clock(), prices=service.prices())
    views = [_view(service, planner, hit, said) for hit in _hits(service, said.site)]
    counts = {what: sum(view["what"] == what for view in views) for what in _WHAT}
    return {
        "site": said.site,
        "begins": when(said.begins),
        "ends": when(said.ends),
        "runs": len({view["run"] for view in views}),
        **counts,
        "node_hours_again": round(sum(float(str(view["node_hours_again"])) for view in views), 3),
        "attempts": views,
    }


def _hits(service: Service, site: str) -> list[_Hit]:
    store, config = service.store, service.sites.configs[site]
    hits = []
    for row in store.open_attempts(site):
        run = store.run(row.run_id)
        stage = store.stages_at(row.run_id, [row.n]).get(row.n)
        if row.orphan or run is None or stage is None:
            continue
        known = store.checkpoints(row.run_id)
        mine = [c for c in known if (c.n, c.attempt, c.site) == (row.n, row.number, site)]
        good = max(
            (c for c in mine if c.state in USABLE_CHECKPOINTS), key=lambda c: (c.seq, c.generation), default=None
        )
        hits.append(
            _Hit(
                run=run,
                stage=stage,
                row=row,
                rules=rules_at(stage.rules, site, config.profile),
                good_at=None if good is None else good.verified_at or good.created_at,
                bytes=0 if good is None else good.bytes,
            )
        )
    return sorted(hits, key=lambda hit: (hit.run.created_at, hit.stage.n))


def _age(copy: CheckpointRow) -> tuple[int, int]:
    return copy.seq, copy.generation


def _view(service: Service, planner: Planner, hit: _Hit, said: Announcement) -> View:
    row, rules = hit.row, hit.rules
    placed, finish = planner.elsewhere(hit.run.name, hit.stage, away=said.site)
    copy = planner.copy_seconds(said.site, placed.site, hit.bytes) if placed.site and hit.good_at is not None else 0.0
    running = row.state == AttemptState.RUNNING
    moment = max(service.clock(), said.begins - round((LEAVES + 2 * copy) * 1e6))
    work = Work(
        running=running,
        began=row.started_at,
        ends_by=_ends_by(row, rules),
        asks=rules.checkpoint is not None and rules.checkpoint.asked,
        asked_at=moment,
        good_at=moment if rules.checkpoint is not None and rules.checkpoint.asked else hit.good_at,
        saving=False,
        copy=copy,
    )
    going = Departure(
        rule="window",
        words=f"maintenance of {said.site} begins at {stamp(said.begins)}",
        by=max(said.begins, service.clock() + 1),
        back=said.ends,
    )
    targets = [planner.facts[placed.site]] if placed.outcome == "place" else []
    there = replace(planner.facts[said.site], window_at=said.begins, window_until=said.ends)
    decision = leave(
        going, replace(work, asked_at=work.asked_at if running else None), at=there, elsewhere=targets, now=moment
    )
    what = _what(decision, placed)
    return {
        "attempt": f"{row.run_id}/{hit.stage.path}@{row.number}",
        "run": row.run_id,
        "name": hit.run.name,
        "state": row.state,
        "what": what,
        "to": placed.site if what in ("moves", "starts_again") and placed.site else None,
        "why": decision.reasons[-1].fact,
        "done_by": when(service.clock() + round(finish * 1e6)) if what == "moves" and finish is not None else None,
        "node_hours_again": _again(hit, work, said, what),
        "charge": planner.charge(hit.stage, placed.site) if what in ("moves", "starts_again") else None,
    }


def _what(decision: Decision, placed: Decision) -> str:
    rule = decision.reasons[-1].rule
    if decision.outcome == "leave":
        return "moves"
    if rule == "time_limit":
        return "ends_before"
    return "starts_again" if rule == "checkpoint" and placed.outcome == "place" else "waits"


def _ends_by(row: AttemptRow, rules: Rules) -> int | None:
    limit = rules.resources.walltime
    return None if row.started_at is None or limit is None else row.started_at + round(limit * 1e6)


def _again(hit: _Hit, work: Work, said: Announcement, what: str) -> float:
    """Node hours of work since what it would go on from, at the moment at which the site goes."""
    if what == "ends_before" or not work.running or work.began is None:
        return 0.0
    since = work.good_at if work.good_at is not None else work.began
    return round(max(0.0, (said.begins - since) / 3.6e9) * max(1, hit.rules.resources.nodes), 3)


def words(view: View) -> str:
    """The heading of the table."""
    told = ", ".join(f"{view[what]} {label}" for what, label in _WHAT.items() if view[what])
    span = f"maintenance of {view['site']} from {view['begins']} to {view['ends']}"
    again = f"; {view['node_hours_again']} node hours would be done twice" if view["node_hours_again"] else ""
    runs = view["runs"]
    hit = "no run is hit" if not runs else "1 run is hit" if runs == 1 else f"{runs} runs are hit"
    return f"{span}: {hit}{f' ({told})' if told else ''}{again}; nothing was changed"
