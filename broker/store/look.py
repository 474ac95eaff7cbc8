"""What a decision looks at: the statements behind `Snapshot`. None of them costs more than what is due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import case, func, literal_column, or_, select, union_all

from broker.store.base import AttemptRow, CommandRow, RunRow, SiteRow, StageRow
from broker.store.connect import Tx
from broker.store.schema import attempt, command, run, site, stage
from broker.store.statement import Lookup, Statement, given

R = TypeVar("R")

# FOR UPDATE: on a server, what a decision saw stays as it is until it commits. SQLite has one writer and ignores it.
LEASED_RUN = Statement(
    select(run)
    .where(run.c.run_id == given("run_id"), run.c.lease_token == given("token"), run.c.lease_owner == given("owner"))
    .with_for_update(),
    "run_id",
    "token",
    "owner",
)
DUE = Statement(
    select(stage)
    .where(stage.c.run_id == given("run_id"), stage.c.due_at <= given("now"))
    .order_by(stage.c.due_at, stage.c.n)
    .limit(given("limit"))
    .with_for_update(),
    "run_id",
    "now",
    "limit",
)
QUEUE = Statement(
    select(stage)
    .where(
        stage.c.run_id == given("run_id"),
        stage.c.state == literal_column("'READY'"),
        stage.c.due_at.is_(None),
    )
    .order_by(stage.c.n)
    .limit(given("limit"))
    .with_for_update(),
    "run_id",
    "limit",
)
ATTEMPTS = Lookup(
    lambda numbers: (
        select(attempt)
        .join(stage, (stage.c.run_id == attempt.c.run_id) & (stage.c.n == attempt.c.n))
        .where(
            attempt.c.run_id == given("run_id"),
            attempt.c.n.in_(numbers),
            or_(attempt.c.open == 1, attempt.c.number == stage.c.attempt),
        )
        .order_by(attempt.c.n, attempt.c.number)
        .with_for_update(of=attempt)
    ),
    "run_id",
)
SITES = Statement(select(site).order_by(site.c.site))
# Two questions in one trip: the rivals' row has no site.
LOAD = Statement(
    union_all(
        select(
            attempt.c.site,
            func.count(),
            func.sum(case((attempt.c.run_id == given("run_id"), 1), else_=0)),
        )
        .where(attempt.c.open == 1)
        .group_by(attempt.c.site),
        select(literal_column("''"), func.count(), literal_column("0")).where(
            run.c.wants == 1, run.c.run_id != given("run_id")
        ),
    ),
    "run_id",
)
OPEN_COMMANDS = Statement(
    select(command)
    .where(command.c.run_id == given("run_id"), command.c.done_at.is_(None))
    .order_by(command.c.at, command.c.id),
    "run_id",
)


class World:
    """The sites and what runs there, read once in a transaction and kept up with its own changes."""

    def __init__(self, tx: Tx, run_id: str) -> None:
        self.sites: Mapping[str, SiteRow] = {row[0]: SiteRow._make(row) for row in tx.rows(SITES)}
        self.load: dict[str, int] = dict.fromkeys(self.sites, 0)
        self.own_load: dict[str, int] = dict.fromkeys(self.sites, 0)
        self.rivals = 0
        for name, total, own in tx.rows(LOAD, (run_id,)):
            if name:
                self.load[name], self.own_load[name] = total, int(own)
            else:
                self.rivals = total

    def add(self, name: str, change: int) -> None:
        """This run's open attempts at a site grew by so many."""
        self.load[name] = self.load.get(name, 0) + change
        self.own_load[name] = self.own_load.get(name, 0) + change


def leased_run(tx: Tx, run_id: str, token: int, owner: str) -> RunRow | None:
    """The run, if that lease holds it."""
    row = tx.row(LEASED_RUN, (run_id, token, owner))
    return None if row is None else RunRow._make(row)


def due_stages(tx: Tx, run_id: str, *, now: int, limit: int) -> tuple[list[StageRow], bool]:
    """Those due, oldest first; were there more than the limit?"""
    rows = tx.rows(DUE, (run_id, now, limit + 1))
    return [StageRow._make(row) for row in rows[:limit]], len(rows) > limit


def queued_stages(tx: Tx, run_id: str, *, limit: int) -> tuple[list[StageRow], bool]:
    """READY stages that wait for a place, by number; are there more than the limit?"""
    limit = max(limit, 0)
    rows = tx.rows(QUEUE, (run_id, limit + 1))
    return [StageRow._make(row) for row in rows[:limit]], len(rows) > limit


def attempts_of(tx: Tx, run_id: str, stages: Iterable[StageRow]) -> dict[int, list[AttemptRow]]:
    """Open attempts and the current one of each stage."""
    found: dict[int, list[AttemptRow]] = {row.n: [] for row in stages}
    tried = [row.n for row in stages if row.attempt]
    for values in tx.rows_of(ATTEMPTS, (run_id,), tried):
        row = AttemptRow._make(values)
        found[row.n].append(row)
    return found


def open_commands(tx: Tx, run_row: RunRow) -> Sequence[CommandRow]:
    if not run_row.commands:
        return ()
    return [CommandRow._make(row) for row in tx.rows(OPEN_COMMANDS, (run_row.run_id,))]


def grouped(
    rows: Iterable[Any], make: Callable[[Any], R], place: int, wanted: Collection[int] = ()
) -> dict[int, list[R]]:
    """Rows by the number in one of their columns; also an empty list for each that is wanted."""
    found: dict[int, list[R]] = {number: [] for number in wanted}
    for row in rows:
        found.setdefault(row[place], []).append(make(row))
    return found
