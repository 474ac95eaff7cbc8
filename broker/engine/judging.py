"""What follows when the current attempt ended without a product. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from broker.cases.kept import kept
from broker.engine.attempt import Progress
from broker.engine.checking import check_newest
from broker.engine.closing import waits_for_word
from broker.engine.look import Look
from broker.engine.orphans import let_go
from broker.engine.placing import place
from broker.engine.settling import settle
from broker.engine.words import last_fact
from broker.facts import (
    NOWHERE,
    USABLE_CHECKPOINTS,
    newest_seq,
    tries_of,
)
from broker.states import AttemptState, StageState, move
from broker.store.base import AttemptRow, CheckpointRow, StageRow
from connectors.errors import Fault
from policies import retry
from policies.model import Decision, Failure

_S, _A = StageState, AttemptState


def after_end(look: Look, stage: StageRow, current: Progress) -> StageRow:
    """The current attempt ended without a product: what now?"""
    row = current.row
    check_newest(look, stage, row, last=True)
    if current.failure is None and (waits := waits_for_word(look, stage, row)) is not None:
        return waits
    if current.failure is None or (row.state == _A.CANCELED and stage.want):
        ready = stage._replace(state=move(_S.ACTIVE, _S.READY).value, ready_at=look.now, due_at=None)
        return place(look, ready, why="move")
    return ended(look, stage, row, current.failure)


def ended(look: Look, stage: StageRow, row: AttemptRow, failure: Failure) -> StageRow:
    """Judge a failure, and do what the judgement says."""
    rows = look.checkpoints.get(stage.n, ())
    newest = newest_seq(rows, row.number)
    if newest is not None and failure.restored_seq is not None and newest <= failure.restored_seq:
        newest = None
    failure = replace(failure, newest_seq=newest)
    asked: dict[str, Any] = {
        "rules": look.rules_there(stage, row.site),
        "failure": failure,
        "tries": tries_of(stage),
        "now": look.now,
    }
    decision = kept(retry.after_failure(**asked, numbers=look.world.numbers.retry), "retry", asked)
    look.tell(
        stage,
        "judged",
        attempt=row.number,
        data={"outcome": decision.outcome, "fault": row.failure},
        decision=decision,
    )
    look.note_end(row, failure)
    if decision.facts.get("suspect") or "could not be restored" in row.reason:
        suspect(look, row, rows)
    if row.staged and json.loads(row.staged).get("gone"):
        gone(look, row, rows)
    if decision.outcome == "fail":
        return settle(look, stage, _S.FAILED, reason=row.reason)
    if decision.outcome == "ask":
        look.waits_for = last_fact(decision)
        return stage._replace(
            state=move(_S.ACTIVE, _S.AWAITING_DECISION).value, reason=last_fact(decision), due_at=None
        )
    return next_try(look, stage, row, decision, progressed=newest is not None)


def next_try(look: Look, stage: StageRow, row: AttemptRow, decision: Decision, *, progressed: bool) -> StageRow:
    booked = str(decision.facts.get("booked", ""))
    avoid = list(json.loads(stage.avoid)) if stage.avoid else []
    if decision.outcome == "elsewhere" and row.site not in (NOWHERE, *avoid):
        avoid.append(row.site)
    ready = stage._replace(
        state=move(_S.ACTIVE, _S.READY).value,
        ready_at=look.now,
        due_at=None,
        not_before=decision.until,
        reason=row.reason,
        avoid=json.dumps(avoid) if avoid else "",
        site_retries=stage.site_retries + (booked == "site_retries"),
        app_retries=stage.app_retries + (booked == "app_retries"),
        memory_raises=stage.memory_raises + (booked == "memory_raises"),
    )
    if decision.outcome == "continue":
        ready = ready._replace(continuations=stage.continuations + 1, stalled=0 if progressed else stage.stalled + 1)
    if ready.not_before is not None and ready.not_before > look.now:
        return ready._replace(due_at=ready.not_before)
    return place(look, ready, why="continuation" if decision.outcome == "continue" else "retry")


def suspect(look: Look, row: AttemptRow, rows: Sequence[CheckpointRow]) -> None:
    """Never start from that checkpoint again, at no site."""
    if not row.restore:
        return
    origin = json.loads(row.restore)
    for copy in rows:
        same = (copy.attempt, copy.generation, copy.seq) == (
            origin["attempt"],
            origin["generation"],
            origin["seq"],
        )
        if same and copy.state in USABLE_CHECKPOINTS:
            look.mark(copy, "suspect", f"attempt {row.number} failed right after a restore from it")


def gone(look: Look, row: AttemptRow, rows: Sequence[CheckpointRow]) -> None:
    """That copy is not where it was (a site keeps only the newest few): use another one, or another checkpoint."""
    origin = json.loads(row.restore)
    for copy in rows:
        if copy[2:6] == (origin["attempt"], origin["generation"], origin["seq"], origin["site"]):
            look.mark(copy, "gone", f"attempt {row.number} could not bring it: {row.reason}"[:300])


def abandon(look: Look, stage: StageRow, row: AttemptRow, *, reason: str) -> StageRow:
    """Give an attempt up although its site answers; it is ended there, and the stage goes on elsewhere."""
    let_go(look, stage, row, reason=reason)
    return ended(look, stage, row, Failure(fault=Fault.SITE, site=row.site, detail=reason))
