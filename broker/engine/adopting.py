"""What a person does with a copy that was left behind: it is made the stage's own again, or ended at once. Pure."""

from __future__ import annotations

import json

from broker.engine.look import Look
from broker.engine.orphans import ask_to_end, let_go, unsubmitted
from broker.engine.settling import adopt_winner
from broker.engine.take_in import advance_all
from broker.states import AttemptState, StageState, move
from broker.store.base import AttemptRow, CommandRow, StageRow

_S, _A = StageState, AttemptState
_ENDING = (_A.VERIFYING, _A.STAGING_OUT)
_LIVES = (_A.QUEUED, _A.RUNNING)


def adopt(look: Look, command: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    """Its living job is the stage's from now on, and the newer copy is ended. Its number goes back; the numbers that
    were given, and the epoch, do not."""
    attempts = advance_all(look, stage)
    if (published := adopt_winner(look, stage, attempts)) is not None:
        return published, f"attempt {published.attempt} has a verified result, which is the stage's"
    row, against = _orphan(look, command, stage)
    if row is None:
        return None, against
    current = attempts.get(stage.attempt)
    if current is not None and current.row.open and current.row.state in _ENDING:
        return None, f"not possible: attempt {stage.attempt} has ended well, and its result is being verified"
    if not look.answers(row.site):
        return None, f"not possible: {row.site} gives no answer, and nobody knows whether its job lives"
    if row.state not in _LIVES:
        return None, f"not possible: attempt {row.number} is {row.state}, and no job of it is known to live"
    if row.cancel_requested_at is not None:
        return None, f"not possible: {row.site} was asked to end it already"
    if stage.state == _S.WAITING or StageState(stage.state).final:
        return None, f"not possible: the stage is {stage.state}"
    if current is not None and current.row.open and current.row.number != row.number:
        let_go(look, stage, current.row, reason=f"attempt {row.number} at {row.site} goes on, {_by(command)}")
    look.rewrite(row._replace(orphan=0, reason=""))
    state = stage.state if stage.state == _S.ACTIVE else move(StageState(stage.state), _S.ACTIVE).value
    begun = max(stage.begun, stage.attempt)
    after = stage._replace(state=state, attempt=row.number, begun=begun, want="", reason="", due_at=look.now)
    return after._replace(not_before=None), f"attempt {row.number} at {row.site} is the stage's own again"


def reap(look: Look, command: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    """Its site is asked to end it, as soon as it answers, until it has confirmed that."""
    row, against = _orphan(look, command, stage)
    if row is None:
        return None, against
    if row.cancel_requested_at is not None:
        return None, f"{row.site} was asked before, and has not confirmed it yet"
    asked = look.rewrite(ask_to_end(look, stage, row._replace(reason=f"reaped {_by(command)}"), whenever=True))
    after = stage._replace(due_at=look.now)
    if not asked.open:
        return after, "it was never submitted: it is over"
    dark = "" if look.answers(row.site) else f"; {row.site} gives no answer, and is asked until it does"
    return after, f"asked {row.site} to end it; it is over when that is confirmed{dark}"


def _orphan(look: Look, command: CommandRow, stage: StageRow) -> tuple[AttemptRow | None, str]:
    """The copy that is meant; or why nothing can be done about it."""
    number = int(json.loads(command.args)["attempt"])
    progress = advance_all(look, stage).get(number)
    row = None if progress is None else progress.row
    if row is None or not row.open:
        how = "not there, or over" if row is None else row.state
        return None, f"not possible: attempt {number} is {how}"
    if not row.orphan:
        return None, f"not possible: attempt {number} is the stage's own: cancel or move the stage"
    if row.state in _ENDING:
        return None, f"not possible: attempt {number} has ended well; its result wins as soon as it is verified"
    if command.kind == "adopt" and unsubmitted(look, row):
        return None, f"not possible: attempt {number} was never submitted"
    return row, ""


def _by(command: CommandRow) -> str:
    return f"by {command.actor}" + (f": {command.reason}" if command.reason else "")
