"""Deadlines on SQL: added with their run or by the decision that makes a stage ready, moved by decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_, literal_column, null, select

from broker.deadlines import NONE_DUE, Asked, DeadlineRow, WorkRow
from broker.states import StageState
from broker.store.connect import Tx
from broker.store.schema import attempt, deadline, stage, stage_dep
from broker.store.statement import Statement, given, given_time, upsert

# a stage that was skipped and is opened again is ready twice: its time counts from the first
INSERT = Statement(
    lambda dialect: (
        upsert(dialect, deadline)
        .values({name: given(name) for name in DeadlineRow._fields})
        .on_conflict_do_nothing(index_elements=[deadline.c.run_id, deadline.c.n])
    ),
    *DeadlineRow._fields,
)
DUE = Statement(
    select(deadline)
    .where(deadline.c.run_id == given("run_id"), deadline.c.due_at <= given_time("now"))
    .order_by(deadline.c.n),
    "run_id",
    "now",
)
OF_RUN = Statement(select(deadline).where(deadline.c.run_id == given("run_id")).order_by(deadline.c.n), "run_id")
SAVE = Statement(
    deadline.update()
    .values(state=given("state"), episodes=given("episodes"), due_at=given_time("due_at"))
    .where(deadline.c.run_id == given("run_id"), deadline.c.n == given("n")),
    *DeadlineRow._fields,
    key=("run_id", "n"),
)
HASTEN = Statement(
    deadline.update()
    .values(due_at=given_time("now"))
    .where(deadline.c.run_id == given("run_id"), deadline.c.due_at > given_time("now")),
    "run_id",
    "now",
)
CLOSE = Statement(
    deadline.update()
    .values(due_at=null(), state=literal_column("'over'"))
    .where(
        deadline.c.run_id == given("run_id"),
        deadline.c.due_at >= literal_column("0"),
    ),
    "run_id",
)
_LIVE: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in StageState if not state.final]
WORKS = Statement(
    select(
        stage.c.n,
        stage.c.path,
        stage.c.state,
        stage.c.rules,
        stage.c.not_before,
        attempt.c.site,
        attempt.c.started_at,
        attempt.c.submitted_at,
        attempt.c.unreachable_since,
    )
    .select_from(stage)
    .outerjoin(
        attempt,
        and_(
            attempt.c.run_id == stage.c.run_id,
            attempt.c.n == stage.c.n,
            attempt.c.number == stage.c.attempt,
            attempt.c.open == literal_column("1"),
        ),
    )
    .where(stage.c.run_id == given("run_id"), stage.c.state.in_(_LIVE))
    .order_by(stage.c.n),
    "run_id",
)
DEPS = Statement(
    select(stage_dep.c.child, stage_dep.c.parent)
    .where(stage_dep.c.run_id == given("run_id"))
    .order_by(stage_dep.c.child, stage_dep.c.parent),
    "run_id",
)


def due(tx: Tx, run_id: str, *, now: int) -> Asked:
    """Deadlines to be looked at now, with the work that they wait for. Where none is, nothing more is read."""
    found = [DeadlineRow._make(row) for row in tx.rows(DUE, (run_id, now))]
    if not found:
        return NONE_DUE
    needs: dict[int, list[int]] = {}
    for child, parent in tx.rows(DEPS, (run_id,)):
        needs.setdefault(child, []).append(parent)
    works = [_work(*row) for row in tx.rows(WORKS, (run_id,))]
    return Asked(due=found, works=works, needs=needs)


def _work(
    n: int, path: str, state: str, rules: str, not_before: int | None, site: str | None, *at: int | None
) -> WorkRow:
    started_at, submitted_at, unreachable_since = at
    return WorkRow(n, path, state, rules, not_before, site or "", started_at, submitted_at, unreachable_since)


def write(
    tx: Tx, run_id: str, *, new: Sequence[DeadlineRow], moved: Iterable[DeadlineRow], hasten: bool, now: int
) -> None:
    """What a decision makes of them. `hasten`: all that are not over are looked at again at once."""
    tx.put(INSERT, new)
    if hasten:
        tx.put(HASTEN, [(run_id, now)])
    tx.put(SAVE, list(moved))


def close(tx: Tx, run_id: str) -> None:
    """The run is over: nothing is looked at any more. What was missed stays so."""
    tx.put(CLOSE, [(run_id,)])


def of_run(tx: Tx, run_id: str) -> Sequence[DeadlineRow]:
    return [DeadlineRow._make(row) for row in tx.rows(OF_RUN, (run_id,))]
