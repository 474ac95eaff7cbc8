"""What people asked for, carried out in the order in which they asked. Pure."""

from __future__ import annotations

import json

from broker.engine.adopting import adopt, reap
from broker.engine.look import Look
from broker.engine.settling import cancel, reopen
from broker.engine.silence import move_away
from broker.engine.take_in import advance_all
from broker.engine.words import what_helps
from broker.facts import is_copy, rules_of
from broker.states import RunState, StageState, move
from broker.store.base import CommandRow, NewEvent, StageRow
from policies.model import Decision, Reason

_S = StageState


def carry_out(look: Look) -> None:
    """Every open command of the run. A command for a stage that is not in this look waits for the next; so does the
    second one for a stage, which is then looked at again at once, whatever the first one made of it."""
    stages = {stage.path: stage for stage in look.snapshot.stages}
    for command in look.snapshot.commands:
        if command.stage:
            stage = stages.get(command.stage)
            if stage is None:
                continue
            if stage.n in look.done:
                look.again.add(stage.n)
                continue
            outcome = _for_stage(look, command, stage)
        else:
            outcome = _for_run(look, command)
        look.changes.commands_done.append((command.id, outcome))


def _for_run(look: Look, command: CommandRow) -> str:
    run = look.run_row
    outcome = f"not possible: the run is {run.state}"
    if RunState(run.state).final and not (command.kind == "release" and run.held):
        return outcome  # who ended while held can be released: else a retry would make it go on, and be held
    if command.kind == "cancel":
        look.run_row = run._replace(cancel_requested_at=look.now, reason=_by(command, "canceled"))
        look.changes.wake_all = True
        outcome = "canceling"
    elif command.kind == "hold":
        look.run_row = run._replace(held=1)
        outcome = "held: nothing new starts"
    elif command.kind == "release":
        look.run_row = run._replace(held=0)
        look.changes.wake_all = True
        outcome = "released"
    data = {"outcome": outcome, "reason": command.reason}
    look.changes.events.append(NewEvent(kind=command.kind, data=json.dumps(data), actor=command.actor))
    return outcome


def _for_stage(look: Look, command: CommandRow, stage: StageRow) -> str:
    events, run = look.changes.events, look.run_row
    told = len(events)
    after, outcome = None, f"not possible: the run is {run.state}"
    if run.state not in (RunState.SUCCEEDED, RunState.CANCELED):
        after, outcome = _ACTIONS[command.kind](look, command, stage)
    reason = Reason("operator", command.kind, _by(command, command.kind))
    decision = Decision("command", command.kind, (reason, Reason("outcome", "done", outcome)))
    look.tell(
        stage, command.kind, attempt=stage.attempt, data={"outcome": outcome}, decision=decision, actor=command.actor
    )
    events.insert(told, events.pop())  # before what it led to, although its outcome is known only now
    if after is not None:
        look.done.add(stage.n)
        look.changes.stages.append(after)
    return outcome


def _cancel(look: Look, command: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    if StageState(stage.state).final:
        return None, f"not possible: the stage is {stage.state}"
    after = cancel(look, stage, advance_all(look, stage), reason=_by(command, "canceled"))
    return after, "canceled" if after.state == _S.CANCELED else f"not possible: the stage is {after.state}"


def _retry(look: Look, _: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    """A failed stage gets all its tries again; one that waits for a person goes on."""
    fresh = stage._replace(
        site_retries=0, app_retries=0, failovers=0, continuations=0, stalled=0, memory_raises=0, avoid=""
    )
    if stage.state == _S.FAILED:
        rules = rules_of(stage.rules)
        look.changes.failed -= rules.required
        if RunState(look.run_row.state) is RunState.FAILED and look.run_row.at_once:  # it was over: others go on
            look.run_row = look.run_row._replace(in_line=1)
        return reopen(look, fresh, was="failed" if rules.required else "waived", to=_S.READY), "ready again"
    if stage.state == _S.AWAITING_DECISION:
        ready = move(_S.AWAITING_DECISION, _S.READY).value
        return fresh._replace(state=ready, reason="", due_at=look.now, not_before=None), "ready again"
    if stage.state == _S.READY:
        return fresh._replace(due_at=look.now, not_before=None), "ready at once"
    if waits_there(look, stage):
        return fresh._replace(want="", due_at=look.now), "waits for its site no longer than its document says"
    return None, f"not possible: the stage is {stage.state}"


def _move(look: Look, command: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    """To the site asked for: at once when it has not started, else as soon as the present copy is ended."""
    target = str(json.loads(command.args).get("to", ""))
    if target not in look.world.sites:
        return None, f"not possible: no site {target!r}"
    if is_copy(stage.body):
        return None, "not possible: it only moves data, and is at no site"
    against = look.candidates(stage)[1][target]
    if against is not None and against.rule.startswith("data"):
        helps = what_helps(stage.run_id, against)
        return None, f"not possible: {against.rule}: {against.fact}" + (f"; what helps: {helps}" if helps else "")
    wanting = stage._replace(want=target)
    if stage.state in (_S.WAITING, _S.READY):
        return wanting._replace(due_at=look.now, not_before=None), f"will start at {target}"
    if stage.state == _S.AWAITING_DECISION:
        ready = move(_S.AWAITING_DECISION, _S.READY).value
        return wanting._replace(state=ready, reason="", due_at=look.now, not_before=None), f"goes on at {target}"
    if stage.state != _S.ACTIVE:
        return None, f"not possible: the stage is {stage.state}"
    return move_away(look, wanting, by=_by(command, "moved"))


def _hold(look: Look, _: CommandRow, stage: StageRow) -> tuple[StageRow | None, str]:
    """It waits for its site, which gives no answer, however long that takes: the one answer that moves nothing."""
    site = here(look, stage)
    if not site or look.answers(site):
        return None, "not possible: only a stage whose site gives no answer can be told to wait for it"
    waiting = stage._replace(want=site, due_at=look.now)
    if stage.state == _S.AWAITING_DECISION:
        waiting = waiting._replace(state=move(_S.AWAITING_DECISION, _S.ACTIVE).value, reason="")
    return waiting, f"waits for {site}; `crossfade release {stage.run_id}/{stage.path}` ends that"


def waits_there(look: Look, stage: StageRow) -> bool:
    """Was the stage told to wait for its site?"""
    return stage.state == _S.ACTIVE and bool(stage.want) and stage.want == here(look, stage)


def here(look: Look, stage: StageRow) -> str:
    """The site of the stage's present attempt; empty: it has none that is open."""
    current = advance_all(look, stage).get(stage.attempt)
    there = current is not None and current.row.open and not current.row.orphan
    return current.row.site if current is not None and there else ""


def _by(command: CommandRow, what: str) -> str:
    return f"{what} by {command.actor}" + (f": {command.reason}" if command.reason else "")


_ACTIONS = {
    "adopt": adopt,
    "reap": reap,
    "cancel": _cancel,
    "hold": _hold,
    "retry": _retry,
    "release": _retry,
    "move": _move,
}
