"""Turns of runs that may not all go on at once: `concurrency: {max}` of one workflow's name.

A run is in line until its turn has come. Who comes before is told by the times of submission, so that two who look at
once see the same line; and decisions take turns where they count (`Tx.hold_places`), so that none gives the last place
away twice. Nothing of it is in anybody's memory: a run that ends, or is held, wakes the next one in the transaction
that says so, and whoever waits looks again by itself now and then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import and_, func, literal_column, or_, select

from broker.store import wake
from broker.store.base import Line, RunRow
from broker.store.connect import Tx
from broker.store.schema import run
from broker.store.statement import Lookup, Statement, given, given_time

_GOES_ON = and_(run.c.name == given("name"), run.c.ended_at.is_(None), run.c.in_line == literal_column("0"))
_IN_LINE = and_(
    run.c.name == given("name"),
    run.c.ended_at.is_(None),
    run.c.in_line == literal_column("1"),
    run.c.held == literal_column("0"),  # whoever is held lets the others pass
)
_BEFORE = or_(
    run.c.created_at < given_time("created_at"),
    and_(run.c.created_at == given_time("created_at"), run.c.run_id < given("run_id")),
)
GO_ON = Statement(select(func.count()).select_from(run).where(_GOES_ON), "name")
AHEAD = Statement(select(func.count()).select_from(run).where(_IN_LINE, _BEFORE), "name", "created_at", "run_id")
TAKE = Statement(run.update().values(in_line=literal_column("0")).where(run.c.run_id == given("run_id")), "run_id")
# As with runs that want a place: one that is held elsewhere is not waited for, and looks again by itself.
NEXT = Statement(
    select(run.c.run_id)
    .where(_IN_LINE)
    .order_by(run.c.created_at, run.c.run_id)
    .limit(literal_column("1"))
    .with_for_update(skip_locked=True),
    "name",
)
LINES = Lookup(
    lambda names: (
        select(run.c.name, run.c.run_id)
        .where(
            run.c.name.in_(names),
            run.c.ended_at.is_(None),
            run.c.in_line == literal_column("1"),
            run.c.held == literal_column("0"),
        )
        .order_by(run.c.created_at, run.c.run_id)
    )
)


def take(tx: Tx, row: RunRow, *, now: int) -> Line:
    """The turn of a run in line, if it has come; else where it stands. Its lease is held."""
    tx.hold_places()
    (go_on,) = tx.row(GO_ON, (row.name,)) or (0,)
    (ahead,) = tx.row(AHEAD, (row.name, row.created_at, row.run_id)) or (0,)
    if row.held or go_on + ahead >= row.at_once:
        return Line(ahead=ahead, go_on=go_on, taken=False)
    tx.run(TAKE, (row.run_id,))
    tx.many(wake.WAKE_RUN_STAGES, [(row.run_id, now)])
    wake_next(tx, row.name, now=now)
    return Line(ahead=0, go_on=go_on, taken=True)


def wake_next(tx: Tx, name: str, *, now: int) -> None:
    """Who is first in that line looks whether its turn has come."""
    wake.hint_runs(tx, [run_id for (run_id,) in tx.rows(NEXT, (name,))], now=now)


def positions(tx: Tx, names: Collection[str]) -> Mapping[str, int]:
    """By run, its place in the line of its workflow, from 1; of these workflows."""
    seen: dict[str, int] = {}
    found: dict[str, int] = {}
    for name, run_id in tx.rows_of(LINES, (), names):
        seen[name] = seen.get(name, 0) + 1
        found[run_id] = seen[name]
    return found
