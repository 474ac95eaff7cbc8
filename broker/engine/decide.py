"""decide(): what follows, for one run, from what is known now. Pure; every branch tells its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.deadlines import NONE_DUE, Asked
from broker.engine.alerts import tell_people
from broker.engine.attempt import Progress, held_for, stuck_reason
from broker.engine.booking import open_charges
from broker.engine.braking import in_turn
from broker.engine.closing import end_here
from broker.engine.commands import carry_out
from broker.engine.deadlines import after_trouble, deadline_of_ready, look_at_deadlines
from broker.engine.judging import abandon, after_end
from broker.engine.leaving import ENDING, departs
from broker.engine.look import Look
from broker.engine.orphans import closed_by, reap_orphans
from broker.engine.placing import found_no_site, place, waived_for
from broker.engine.settling import adopt_winner, cancel, reopen, settle, skip
from broker.engine.shipping import tend_checkpoints
from broker.engine.silence import cannot_ask
from broker.engine.take_in import advance_all
from broker.engine.words import compact
from broker.facts import World, rules_of
from broker.states import AttemptState, RunState, StageState, move
from broker.store.base import (
    AttemptRow,
    Changes,
    CheckpointRow,
    EffectRow,
    Line,
    NewEvent,
    Purse,
    Snapshot,
    StageRow,
    StrayRow,
    WaiverRow,
)
from policies.brake import Carried
from policies.history import Load
from policies.model import Decision, Reason

_S, _A = StageState, AttemptState
NO_STRAYS: Mapping[int, StrayRow] = {}
NO_PRODUCTS: Mapping[int, str] = {}
NO_LOADS: Mapping[int, Sequence[Load]] = {}
NO_ORDERS: Mapping[int, Sequence[EffectRow]] = {}


def decide(
    world: World,
    snapshot: Snapshot,
    *,
    now: int,
    checkpoints: Mapping[int, Sequence[CheckpointRow]],
    strays: Mapping[int, StrayRow] = NO_STRAYS,
    near: Mapping[int, str] = NO_PRODUCTS,
    standby: Mapping[int, Sequence[EffectRow]] = NO_ORDERS,
    waivers: Sequence[WaiverRow] = (),
    purse: Purse | None = None,
    deadlines: Asked = NONE_DUE,
    carried: Sequence[Carried] = (),
    lying: Mapping[int, Sequence[Load]] = NO_LOADS,
    line: Line | None = None,
) -> Changes:
    """What to write. `checkpoints`: those of the snapshot's stages that have a checkpoint rule; `strays`: attempts of
    its stages that were begun in the hours that a restored backup does not know; `near`: the sites of products that
    its stages want to be near, by the number of their stage; `standby`: the orders to send inputs ahead, and to remove
    them, of stages of which a checkpoint was ever sent; `waivers`: of the run, whether they hold or not, where any of
    its stages has a rule of where its data may be; `purse`: what is spent and may be, where any site charges;
    `carried`: stages of all runs that were carried elsewhere within the last minute, where one may follow;
    `lying`: of stages that may be placed now, the products that they take files of, where several sites are known;
    `deadlines`: those that are to be looked at;
    `line`: where the run stands among those of its name, if it is in line, or was until now."""
    look = Look(
        world,
        snapshot,
        now=now,
        checkpoints=checkpoints,
        strays=strays,
        near=near,
        lying=lying,
        standby=standby,
        waivers=waivers,
        purse=purse,
        carried=carried,
        line=line,
    )
    carry_out(look)
    look_at_deadlines(look, deadlines)
    for row in in_turn(look, snapshot.stages):
        if row.n not in look.done:
            stage(look, row)
    if look.again:
        look.changes.stages[:] = [
            row._replace(due_at=now) if row.n in look.again else row for row in look.changes.stages
        ]
    run(look)
    open_charges(look)
    after_trouble(look)
    tell_people(look)
    return look.changes


def stage(look: Look, row: StageRow) -> None:
    """Look at one stage, and write it down if anything about it changed."""
    attempts = advance_all(look, row)
    state = StageState(row.state)
    if state.final:
        after = final(look, row, attempts)
    elif look.run_row.cancel_requested_at is not None:
        after = cancel(look, row, attempts, reason=look.run_row.reason or "the run was canceled")
    elif state is _S.WAITING:
        after = waiting(look, row)
    elif state is _S.READY:
        after = ready(look, row, attempts)
    elif state is _S.ACTIVE:
        after = active(look, row, attempts)
    else:
        after = awaiting(look, row, attempts)
    if after != row:
        look.changes.stages.append(after)


def waiting(look: Look, stage: StageRow) -> StageRow:
    if stage.doomed:
        return settle(look, stage, _S.SKIPPED, reason="a stage that it needs did not succeed")
    if stage.unmet:
        return stage._replace(due_at=None)
    if against := rules_of(stage.rules).skip:
        return skip(look, stage, against)
    released = stage._replace(state=move(_S.WAITING, _S.READY).value, ready_at=look.now, due_at=None)
    deadline_of_ready(look, stage)
    return ready(look, released, {})


def ready(look: Look, stage: StageRow, attempts: Mapping[int, Progress]) -> StageRow:
    adopted = adopt_winner(look, stage, attempts)
    if adopted is not None:
        return adopted
    reap_orphans(look, stage, attempts)
    if look.run_row.held:
        return stage._replace(due_at=None, reason="held")
    if look.run_row.in_line:
        return stage._replace(due_at=None)
    if stage.not_before is not None and stage.not_before > look.now:
        return stage._replace(due_at=stage.not_before)
    return place(look, stage, why="first" if not stage.attempt else "retry")


def awaiting(look: Look, stage: StageRow, attempts: Mapping[int, Progress]) -> StageRow:
    """A person was asked; the question falls away when the attempt that it was about can be seen again, or when two
    persons have waived the rule that left no site."""
    current = attempts.get(stage.attempt)
    goes_on = current is not None and current.row.open and not current.row.orphan and look.answers(current.row.site)
    if current is not None and goes_on and not held_for(current.row)[0]:
        return active(look, stage._replace(state=move(_S.AWAITING_DECISION, _S.ACTIVE).value), attempts)
    reap_orphans(look, stage, {n: p for n, p in attempts.items() if closed_by(look, p.row.site)})
    if found_no_site(stage) and waived_for(look, stage):
        return ready(look, stage._replace(state=move(_S.AWAITING_DECISION, _S.READY).value, reason=""), attempts)
    return adopt_winner(look, stage, attempts) or stage._replace(due_at=None)


def active(look: Look, stage: StageRow, attempts: Mapping[int, Progress]) -> StageRow:
    adopted = adopt_winner(look, stage, attempts)
    if adopted is not None:
        return adopted
    reap_orphans(look, stage, attempts)
    current = attempts.get(stage.attempt)
    if current is None:  # a broken invariant must not stop the run's other stages
        return stage._replace(due_at=None, reason="its current attempt is missing: see `crossfade db check`")
    if not current.row.open:
        return after_end(look, stage, current)
    rules = look.rules_there(stage, current.row.site)
    again = tend_checkpoints(look, stage, current.row, rules) if rules.checkpoint is not None else None
    stuck = stuck_reason(current.row)
    if stuck:
        return abandon(look, stage, current.row, reason=f"queued, but will never start: {stuck}")
    held, helps = held_for(current.row)
    if held:
        return ask_for_hand(look, stage, current.row, held, helps)
    if current.row.unreachable_since is not None or look.silence_begun(current.row.site):
        return cannot_ask(look, stage, current, rules)
    if stage.want == current.row.site:  # told to wait for its site, which answers again
        stage = stage._replace(want="")
    if (why := closed_by(look, current.row.site)) and current.row.state not in ENDING:
        return end_here(look, stage, current.row, why)
    if (departed := departs(look, stage, current.row, rules)) is not None:
        return sooner(departed, again)
    return stage._replace(due_at=again, reason="")


def sooner(stage: StageRow, again: int | None) -> StageRow:
    """To be looked at again by then, if that is sooner."""
    if again is None or (stage.due_at is not None and stage.due_at <= again):
        return stage
    return stage._replace(due_at=again)


def ask_for_hand(look: Look, stage: StageRow, row: AttemptRow, held: str, helps: str) -> StageRow:
    """Its files wait for a person; when that has helped, they go on by themselves."""
    words = f"{held}; what helps: {helps}" if helps else held
    decision = Decision("transfer", "ask", (Reason("held", "ask", words, row.site),))
    look.tell(stage, "asks", attempt=row.number, data={"reason": held, "help": helps}, decision=decision)
    return stage._replace(state=move(_S.ACTIVE, _S.AWAITING_DECISION).value, reason=words, due_at=None)


def final(look: Look, stage: StageRow, attempts: Mapping[int, Progress]) -> StageRow:
    """A stage that is over: what is left of its other attempts is ended as soon as their site can be asked."""
    if stage.state == _S.SKIPPED and not stage.doomed and stage.reason != rules_of(stage.rules).skip:
        return reopen(look, stage, was="failed", to=_S.WAITING)
    reap_orphans(look, stage, attempts, all_of_them=True)
    return stage._replace(due_at=None)


def run(look: Look) -> None:
    """The run's own state, from its counters and this look."""
    row = look.run_row
    wants = int(look.wants or (look.snapshot.waiting and not row.held and not row.in_line))
    if wants != row.wants:
        row = row._replace(wants=wants)
    state = run_state(look)
    if state.value != row.state:
        move(RunState(row.state), state)
        ended = look.now if state.final else None
        reason = row.reason if state is RunState.CANCELED else look.waits_for if state is RunState.WAITING else ""
        row = row._replace(state=state.value, ended_at=ended, reason=reason, wants=0 if state.final else row.wants)
        row = row._replace(in_line=0 if state.final else row.in_line)
        look.changes.events.append(NewEvent(kind=f"run_{state.value.lower()}", data=compact({"reason": row.reason})))
    if row != look.snapshot.run:
        look.changes.run = row


def run_state(look: Look) -> RunState:
    run, changes = look.run_row, look.changes
    left = run.unsettled - len(changes.settled) + len(changes.reopened) + len(changes.new_stages)
    if left == 0:
        if run.failed + changes.failed == 0:
            return RunState.SUCCEEDED
        return RunState.FAILED if run.cancel_requested_at is None else RunState.CANCELED
    alive = run.open_attempts + len(changes.new_attempts) - changes.wake_ready > 0
    if look.waits_for and not alive:
        return RunState.WAITING
    if look.line is not None and look.line.taken:
        return RunState.RUNNING
    if RunState(run.state) is RunState.WAITING and not changes.new_attempts:
        return RunState.WAITING
    return RunState.RUNNING
