"""One decision transaction: what it saw, and how its changes are written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from broker.clock import micros
from broker.deadlines import Asked
from broker.states import RunState, StageState
from broker.store import alerting, booking, carrying, dating, look, recording, retention, stray, turns, waiving, wake
from broker.store.base import (
    AttemptRow,
    Changes,
    ChargeRow,
    CheckpointRow,
    DepRow,
    EffectRow,
    Lease,
    LeaseLost,
    Line,
    ProductRow,
    Purse,
    RunRow,
    Snapshot,
    StageRow,
    StaleRow,
    StrayRow,
    WaiverRow,
)
from broker.store.chain import Chain
from broker.store.children import UPDATE_CHILD, changes_of_children
from broker.store.connect import Database, Duplicate, Tx
from broker.store.rows import (
    DROP_EFFECT,
    FINISH_COMMAND,
    INSERT_ATTEMPT,
    INSERT_DEP,
    INSERT_EFFECT,
    INSERT_PRODUCT,
    INSERT_STAGE,
    JUDGE_CHECKPOINT,
    RUN_DECIDED,
    TOUCH_RUN,
    UPDATE_ATTEMPT,
    UPDATE_RUN,
    UPDATE_STAGE,
)
from broker.store.schema import attempt, checkpoint, effect, product, stage, stage_dep
from broker.store.statement import Lookup, given
from policies.brake import Carried

CHECKPOINTS = Lookup(
    lambda numbers: (
        select(checkpoint)
        .where(checkpoint.c.run_id == given("run_id"), checkpoint.c.n.in_(numbers))
        .order_by(*checkpoint.primary_key)
    ),
    "run_id",
)
STAGES_BY_PATH = Lookup(
    lambda paths: select(stage).where(stage.c.run_id == given("run_id"), stage.c.path.in_(paths)), "run_id"
)
PRODUCTS = Lookup(
    lambda numbers: select(product).where(product.c.run_id == given("run_id"), product.c.n.in_(numbers)), "run_id"
)
PARENTS = Lookup(
    lambda numbers: (
        select(stage_dep)
        .where(stage_dep.c.run_id == given("run_id"), stage_dep.c.child.in_(numbers))
        .order_by(stage_dep.c.child, stage_dep.c.parent)
    ),
    "run_id",
)
EFFECTS = Lookup(lambda keys: select(effect).where(effect.c.key.in_(keys)).order_by(effect.c.key))
OPEN_OF = Lookup(
    lambda numbers: select(attempt.c.n, attempt.c.number, attempt.c.open).where(
        attempt.c.run_id == given("run_id"), attempt.c.n.in_(numbers)
    ),
    "run_id",
)


@contextmanager
def deciding(database: Database, lease: Lease, *, ttl: float) -> Iterator[Decision]:
    """See the port. The run's row stays locked from the first statement to the commit."""
    try:
        with database.writing() as tx:
            decision = Decision(tx, lease, ttl=ttl)
            yield decision
            decision.finish()
    except Duplicate as error:
        raise StaleRow(f"a row that this decision adds is there already ({error})") from error


class Decision:
    """Implements `DecisionTx`."""

    def __init__(self, tx: Tx, lease: Lease, *, ttl: float) -> None:
        self._tx = tx
        self._lease = lease
        self._guard = (lease.run_id, lease.token, lease.owner)
        self._ttl = micros(ttl)
        self._world: look.World | None = None
        self._open: dict[tuple[int, int], int] = {}
        self._purse: tuple[object, Purse] | None = None
        asked = look.asked_run(tx, *self._guard)
        self._events = Chain(tx, lease.run_id)
        self._run: RunRow | None = self._leased(asked())

    # -- look --------------------------------------------------------------------------------------------------

    def snapshot(self, *, now: int, limit: int, room: Callable[[Mapping[str, int]], int]) -> Snapshot:
        # on a server, each group of questions is one trip
        tx, run_id = self._tx, self._lease.run_id
        asked = look.asked_run(tx, *self._guard) if self._run is None else None
        asked_due = look.due_stages(tx, run_id, now=now, limit=limit)
        if self._world is None:
            self._world = look.World(tx, run_id, now=now)
        stages, more = asked_due()
        world = self._world.read()
        if asked is not None:
            self._run = self._leased(asked())
        run_row = self._run_row()

        asked_queue = look.queued_stages(tx, run_id, limit=min(limit, room(world.load)))
        asked_journey = carrying.asked_journey(tx, run_id)
        of_due, asked_commands = look.asked_attempts(tx, run_id, stages), look.asked_commands(tx, run_row)
        queued, waiting = asked_queue()
        stages += queued
        attempts = look.attempts_of(stages, of_due, look.asked_attempts(tx, run_id, queued))
        self._open.update({(row.n, row.number): row.open for rows in attempts.values() for row in rows})
        return Snapshot(
            run=run_row,
            stages=stages,
            attempts=attempts,
            sites=world.sites,
            load=dict(world.load),
            own_load=dict(world.own_load),
            rivals=world.rivals,
            commands=asked_commands(),
            more=more,
            waiting=waiting,
            journey=asked_journey(),
            notices=world.notices,
        )

    def checkpoints(self, stages: Collection[int]) -> Mapping[int, Sequence[CheckpointRow]]:
        return look.grouped(self._of(CHECKPOINTS, stages), CheckpointRow._make, 1, stages)

    def stage_rows(self, paths: Collection[str]) -> Mapping[str, StageRow]:
        rows = map(StageRow._make, self._tx.rows_of(STAGES_BY_PATH, (self._lease.run_id,), paths))
        return {row.path: row for row in rows}

    def products(self, stages: Collection[int]) -> Mapping[int, ProductRow]:
        return {row[1]: ProductRow._make(row) for row in self._of(PRODUCTS, stages)}

    def parents(self, stages: Collection[int]) -> Mapping[int, Sequence[DepRow]]:
        return look.grouped(self._of(PARENTS, stages), DepRow._make, 2, stages)

    def effects(self, keys: Collection[str]) -> Sequence[EffectRow]:
        return [EffectRow._make(row) for row in self._tx.rows_of(EFFECTS, (), keys)]

    def strays(self, stages: Collection[int]) -> Mapping[int, StrayRow]:
        return stray.adoptable(self._tx, self._lease.run_id, stages)

    def waivers(self) -> Sequence[WaiverRow]:
        return waiving.of_run(self._tx, self._lease.run_id)

    def deadlines(self, *, now: int) -> Asked:
        return dating.due(self._tx, self._lease.run_id, now=now)

    def carried(self, *, since: int) -> Sequence[Carried]:
        return carrying.lately(self._tx, since=since)

    def line(self, *, now: int) -> Line | None:
        row = self._run_row()
        if not row.in_line:
            return None
        line = turns.take(self._tx, row, now=now)
        if line.taken:
            self._run = None
        return line

    # -- write -------------------------------------------------------------------------------------------------

    def purse(self, *, by_stage: bool, projects: Collection[str], users: Collection[str]) -> Purse:
        asked = (by_stage, tuple(sorted(projects)), tuple(sorted(users)))
        if self._purse is None or self._purse[0] != asked:
            found = booking.purse(self._tx, self._lease.run_id, by_stage=by_stage, projects=projects, users=users)
            self._purse = (asked, found)
        return self._purse[1]

    def charges(self, stages: Collection[int]) -> Sequence[ChargeRow]:
        return booking.of_stages(self._tx, self._lease.run_id, stages)

    def apply(self, changes: Changes, *, now: int) -> None:
        if changes.empty():
            return
        tx, run_id = self._tx, self._lease.run_id
        # before new needs are added: those count only parents that are not final, so these have no part in them
        children = changes_of_children(tx, run_id, changes, now=now)
        self._apply_run(changes, due_children=bool(children), now=now)
        tx.put(INSERT_STAGE, changes.new_stages)
        tx.put(INSERT_DEP, changes.new_deps)
        tx.put_each(UPDATE_STAGE, changes.stages, _stale(len(changes.stages), "stage"))
        tx.put_each(UPDATE_ATTEMPT, changes.attempts, _stale(len(changes.attempts), "attempt"))
        tx.put(INSERT_ATTEMPT, changes.new_attempts)
        tx.put(INSERT_EFFECT, map(_as_claimed, changes.effects))
        tx.put(DROP_EFFECT, [(key, now) for key in changes.dropped_effects])
        tx.put(INSERT_PRODUCT, changes.products)
        tx.put(JUDGE_CHECKPOINT, changes.checkpoint_states)
        tx.put(retention.INSERT, changes.retention)
        if changes.new_charges or changes.charges:
            booking.book(tx, changes.new_charges, changes.charges)
            self._purse = None
        recording.save_evidence(tx, changes.evidence)
        done = [(key, outcome, run_id, now) for key, outcome in changes.commands_done]
        tx.put_each(FINISH_COMMAND, done, _stale(len(done), "command"))
        tx.put(UPDATE_CHILD, children)
        alerting.decided(tx, changes.alerts, changes.alerts_over, now=now)
        self._apply_deadlines(changes, now=now)
        tx.put(wake.HINT_STAGE, [(run_id, n, now) for n in changes.wake_stages])
        if changes.wake_all:
            tx.put(wake.WAKE_RUN_STAGES, [(run_id, now)])
        if changes.wake_ready > 0:
            wake.wake_ready(tx, changes.wake_ready, now=now)
        if changes.run is not None and changes.run.at_once:  # it may have ended, or be held: the next one looks
            turns.wake_next(tx, changes.run.name, now=now)
        self._events.append(changes.events, at=now)

    def finish(self) -> None:
        """Write what was kept back for one statement at the end."""
        self._events.flush()

    def _apply_run(self, changes: Changes, *, due_children: bool, now: int) -> None:
        """The guard of all that follows, and the run's counters."""
        counters = (
            len(changes.new_stages),
            sum(not StageState(row.state).final for row in changes.new_stages)
            + len(changes.reopened)
            - len(changes.settled),
            changes.failed,
            self._opened(changes),
            -len(changes.commands_done),
        )
        hint = now if due_children or changes.wake_all or changes.wake_stages else _least_due(changes)
        given_values = (*self._guard, *counters, self._ttl, hint)
        if (new := changes.run) is None:
            self._tx.put_each(TOUCH_RUN, [given_values], self._lost())
        else:
            decided = tuple(getattr(new, name) for name in RUN_DECIDED)
            self._tx.put_each(UPDATE_RUN, [(*given_values, *decided)], self._lost())
        self._run = None

    def _apply_deadlines(self, changes: Changes, *, now: int) -> None:
        new, moved, hasten = changes.new_deadlines, changes.deadlines, changes.hasten_deadlines
        if new or moved or hasten:
            dating.write(self._tx, self._lease.run_id, new=new, moved=moved, hasten=hasten, now=now)
        after = changes.run
        if after is not None and after.deadlines and RunState(after.state).final:
            dating.close(self._tx, self._lease.run_id)

    def _opened(self, changes: Changes) -> int:
        """By how many the run's open attempts grow; the load of each site is kept up."""
        total = 0
        for row, change in self._changes_of_open(changes):
            if change:
                total += change
                if self._world is not None:
                    self._world.add(row.site, change)
        return total

    def _changes_of_open(self, changes: Changes) -> Iterator[tuple[AttemptRow, int]]:
        known = self._open
        if any((row.n, row.number) not in known for row in changes.attempts):
            numbers = sorted({row.n for row in changes.attempts})
            known.update({(n, number): is_open for n, number, is_open in self._of(OPEN_OF, numbers)})
        for row in changes.attempts:
            key = (row.n, row.number)
            yield row, row.open - known.get(key, row.open)
            known[key] = row.open
        for row in changes.new_attempts:
            yield row, row.open
            known[row.n, row.number] = row.open

    # -- inner -------------------------------------------------------------------------------------------------

    def _run_row(self) -> RunRow:
        if self._run is None:
            self._run = self._leased(look.asked_run(self._tx, *self._guard)())
        return self._run

    def _leased(self, row: RunRow | None) -> RunRow:
        if row is None:
            raise self._lost()
        return row

    def _of(self, lookup: Lookup, stages: Iterable[int]) -> Sequence[Any]:
        return self._tx.rows_of(lookup, (self._lease.run_id,), stages)

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"somebody else decides for run {self._lease.run_id} now; nothing was written")


def _stale(count: int, what: str) -> StaleRow:
    return StaleRow(f"of {count} {what} rows to write, not all are as this decision saw them")


def _as_claimed(row: EffectRow) -> EffectRow:
    """An effect that comes claimed is due for others only when its claim lapses."""
    return row._replace(due_at=row.claim_until) if row.claim else row


def _least_due(changes: Changes) -> int | None:
    times = [row.due_at for row in changes.stages if row.due_at is not None]
    times += [row.due_at for row in changes.new_stages if row.due_at is not None]
    times += [row.due_at for row in map(_as_claimed, changes.effects) if row.due_at is not None]
    return min(times, default=None)
