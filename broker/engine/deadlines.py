"""What follows from deadlines: a person is told in time, and what is missed goes on or ends, as the document says.
Pure."""

from __future__ import annotations

from collections.abc import Mapping

from broker.alerts.rows import Over
from broker.deadlines import RUN, Asked, DeadlineRow, WorkRow
from broker.engine.look import Look
from broker.engine.settling import cancel
from broker.engine.words import compact, last_fact
from broker.facts import rules_at, rules_of
from broker.states import RunState, StageState
from broker.store.base import NewEvent, StageRow
from policies.deadline import AT_RISK, IN_TIME, MISSED, Work, expected_ends, judge
from policies.model import Decision

OVER = "over"
TROUBLE = frozenset({"failover", "unreachable", "stays", "asks", "stuck", "judged"})
"""Events after which a deadline that was far away may be near."""
MOST_ASKED = 500
"""Stages of a run that are not over; of a larger one the work is summed up at the deadlines' own times alone."""


def look_at_deadlines(look: Look, asked: Asked) -> None:
    """Judge those whose time has come, before the stages are looked at: what is to end is ended first."""
    if not asked.due or RunState(look.run_row.state).final:
        return
    works = {row.n: row for row in asked.works}
    ends = expected_ends([_work(look, row) for row in asked.works], asked.needs or {}, now=look.now)
    for row in asked.due:
        if row.state == MISSED:
            _end_stage(look, row)
        elif row.n != RUN and row.n not in works:
            look.changes.deadlines.append(row._replace(state=OVER, due_at=None))
            look.changes.alerts_over.append(Over(row.run_id, row.n, "deadline_at_risk", "it is done"))
        else:
            _judge(look, row, works, ends)


def after_trouble(look: Look) -> None:
    """Ask again at once where something has happened that takes time."""
    if not look.run_row.deadlines or look.run_row.unsettled > MOST_ASKED:
        return
    look.changes.hasten_deadlines = any(event.kind in TROUBLE for event in look.changes.events)


def deadline_of_ready(look: Look, stage: StageRow) -> None:
    """One that is counted from the moment when its stage is ready begins."""
    rule = rules_of(stage.rules).deadline
    if rule is None or rule.since != "ready":
        return
    at = look.now + round(rule.within * 1e6)
    row = DeadlineRow(stage.run_id, stage.n, at, look.now, rule.on_miss, "open", 0, look.now)
    look.changes.new_deadlines.append(row)


def _judge(look: Look, row: DeadlineRow, works: Mapping[int, WorkRow], ends: Mapping[int, int]) -> None:
    last = row.n if row.n != RUN else max(ends, key=lambda n: (ends[n], -n), default=RUN)
    name = works[last].path if last in works else "the run"
    decision = judge(
        at=row.at,
        since=row.since,
        expected=ends.get(last, look.now),
        of=name,
        at_risk=row.state == AT_RISK,
        now=look.now,
    )
    path = works[row.n].path if row.n in works else ""
    after = row._replace(state={IN_TIME: "open"}.get(decision.outcome, decision.outcome), due_at=decision.until)
    if after.state != row.state:
        after = after._replace(episodes=row.episodes + (after.state == AT_RISK))
        _tell(look, after, path, decision)
    if after.state == MISSED and row.on_miss == "cancel":
        after = _ends(look, after, decision)
    look.changes.deadlines.append(after)


def _ends(look: Look, row: DeadlineRow, decision: Decision) -> DeadlineRow:
    """What was missed ends. A stage may not be in this look; it is in the next one, which follows at once."""
    if row.n != RUN:
        look.changes.wake_stages.append(row.n)
        return row._replace(due_at=look.now)
    if look.run_row.cancel_requested_at is None:
        reason = f"canceled by its deadline: {last_fact(decision)}"
        look.run_row = look.run_row._replace(cancel_requested_at=look.now, reason=reason)
        look.changes.wake_all = True
    return row


def _end_stage(look: Look, row: DeadlineRow) -> None:
    stage = next((stage for stage in look.snapshot.stages if stage.n == row.n), None)
    if stage is None:
        look.changes.wake_stages.append(row.n)
        return
    look.changes.deadlines.append(row._replace(due_at=None))
    if stage.n in look.done or StageState(stage.state).final:
        return
    after = cancel(look, stage, None, reason="canceled by its deadline, which has passed")
    look.done.add(stage.n)
    look.changes.stages.append(after)


def _tell(look: Look, row: DeadlineRow, path: str, decision: Decision) -> None:
    kind = {"open": "deadline_safe"}.get(row.state, f"deadline_{row.state}")
    data = {"at": row.at, "expected": decision.facts["expected"], "fact": last_fact(decision), "time": row.episodes}
    if row.state == MISSED:
        data["on_miss"] = row.on_miss
    words = {"open": "it is expected to be done in time again", MISSED: ""}
    if row.state in words:
        look.changes.alerts_over.append(Over(row.run_id, row.n, "deadline_at_risk", words[row.state]))
    look.changes.events.append(
        NewEvent(
            kind=kind,
            stage=path,
            n=row.n,
            data=compact(data),
            decision=(decision.kind, decision.outcome, decision.json),
        )
    )


def _work(look: Look, row: WorkRow) -> Work:
    setup = look.world.sites.get(row.site)
    rules = rules_at(row.rules, row.site, setup.config.profile) if setup else rules_of(row.rules)
    started, not_before = row.started_at, row.not_before
    if row.unreachable_since is not None and rules.failover.act == "auto":
        started = None
        not_before = row.unreachable_since + round(rules.failover.after * 1e6)
    return Work(n=row.n, name=row.path, seconds=rules.resources.walltime, started_at=started, not_before=not_before)
