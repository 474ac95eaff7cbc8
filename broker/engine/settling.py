"""How a stage ends: one product published, failed, skipped, canceled; and how it is opened again. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from broker.engine.attempt import Progress
from broker.engine.copying import brought_to, copied, kept
from broker.engine.look import Look
from broker.engine.orphans import let_go
from broker.engine.standby import recall
from broker.engine.take_in import advance_all
from broker.facts import NOWHERE, is_copy, rules_of
from broker.states import AttemptState, StageState, move
from broker.store.base import AttemptRow, ProductRow, StageRow
from policies.placement import skipped

_S, _A = StageState, AttemptState
NO_MANIFEST = '{"files":[]}'


def settle(look: Look, stage: StageRow, state: StageState, *, reason: str, number: int | None = None) -> StageRow:
    """The stage is over."""
    recall(look, stage)
    required = rules_of(stage.rules).required
    how = "ok" if state is _S.SUCCEEDED else ("failed" if required or state is _S.SKIPPED else "waived")
    look.changes.settled.append((stage.n, how))
    # a skipped stage is no failure of its own: the one that it needed was counted, or may fail
    look.changes.failed += required and state in (_S.FAILED, _S.CANCELED)
    if state is not _S.SUCCEEDED:
        look.tell(stage, state.value.lower(), data={"reason": reason})
    return stage._replace(
        state=move(StageState(stage.state), state).value,
        reason=reason,
        ended_at=look.now,
        due_at=look.now if look.open_attempts(stage) else None,  # what is left of it is ended by the next look
        attempt=stage.attempt if number is None else number,
        want="",
    )


def skip(look: Look, stage: StageRow, why: str) -> StageRow:
    """The document does not want the stage with these params: no failure, and who needs its turn goes on. Who takes its
    files is not wanted either: the compiler has seen to that."""
    look.changes.settled.append((stage.n, "ok"))
    look.tell(stage, "skipped", data={"reason": why}, decision=skipped(why))
    state = move(StageState(stage.state), _S.SKIPPED).value
    return stage._replace(state=state, reason=why, ended_at=look.now, due_at=None)


def publish(look: Look, stage: StageRow, winner: AttemptRow) -> None:
    verified = json.loads(winner.verified) if winner.verified else {}
    record = json.loads(winner.exit) if winner.exit else {}
    # also of a copy that a person has taken over again: the epoch says that a newer one had been begun
    adopted = int(winner.number != stage.attempt or winner.epoch != stage.epoch)
    manifest = json.dumps({"files": verified["files"]}) if "files" in verified else NO_MANIFEST
    if is_copy(stage.body):
        manifest = copied(stage)
        look.changes.retention += kept(stage, winner, now=look.now)
    look.changes.products.append(
        ProductRow(
            run_id=stage.run_id,
            n=stage.n,
            attempt=winner.number,
            epoch=winner.epoch,
            site=winner.site,
            path=winner.directory,
            manifest=manifest,
            manifest_digest=record.get("digest") or "",
            adopted=adopted,
            published_at=look.now,
        )
    )
    if winner.site != NOWHERE:
        look.note_end(winner, None)
    data: dict[str, object] = {"site": winner.site, "epoch": winner.epoch, "adopted": bool(adopted)}
    if is_copy(stage.body):
        data["to"] = brought_to(json.loads(stage.body))[:5]
    look.tell(stage, "published", attempt=winner.number, data=data)


def adopt_winner(look: Look, stage: StageRow, attempts: Mapping[int, Progress]) -> StageRow | None:
    """Publish the first attempt that is verified, the current one or an orphan: one result, never two."""
    winner = next((p.row for p in attempts.values() if p.row.state == _A.SUCCEEDED), None)
    if winner is None:
        return None
    publish(look, stage, winner)
    for progress in attempts.values():
        if progress.row.open:
            reason = f"attempt {winner.number} at {winner.site} won"
            let_go(look, stage, progress.row, reason=reason)
    return settle(look, stage, _S.SUCCEEDED, reason="", number=winner.number)


def cancel(look: Look, stage: StageRow, attempts: Mapping[int, Progress] | None, *, reason: str) -> StageRow:
    """End a stage for good: no product will be accepted any more, its attempts are ended."""
    known = attempts if attempts is not None else advance_all(look, stage)
    if any(p.row.state == _A.SUCCEEDED for p in known.values()):
        return adopt_winner(look, stage, known) or stage  # it had succeeded before the wish was looked at
    for progress in known.values():
        if progress.row.open:
            let_go(look, stage, progress.row, reason=reason)
    return settle(look, stage, _S.CANCELED, reason=reason)


def reopen(look: Look, stage: StageRow, *, was: str, to: StageState) -> StageRow:
    """A settled stage gets another chance."""
    look.changes.reopened.append((stage.n, was))
    look.tell(stage, "reopened", data={"from": stage.state})
    state = move(StageState(stage.state), to)
    return stage._replace(state=state.value, reason="", ended_at=None, due_at=look.now, not_before=None)
