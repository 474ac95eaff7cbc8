"""What a decision looks at: the statements behind `Snapshot`. None of them costs more than what is due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import case, func, literal_column, or_, select, union_all

from broker.store.base import AttemptRow, CommandRow, NoticeRow, RunRow, SiteRow, StageRow
from broker.store.connect import Tx
from broker.store.notices import OPEN as OPEN_NOTICES
from broker.store.schema import attempt, command, run, site, stage
from broker.store.statement import Lookup, Statement, given
from broker.store.transaction import Answer

R = TypeVar("R")

# FOR UPDATE: on a server, whoever writes to a run's rows holds its own row, so what a decision saw of them stays as it
# is until it commits. SQLite has one writer and ignores it.
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
    .limit(given("limit")),
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
    .limit(given("limit")),
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
        # what only moves data is at no site, and takes no place
        .where(attempt.c.open == 1, attempt.c.site != literal_column("''"))
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
    """The sites and what runs there, read once in a transaction and kept up with its own changes.

    On a server, two decisions for different runs go on at the same time, and each could give the last place of a site
    away. So from here to their commit they take turns.
    """

    def __init__(self, tx: Tx, run_id: str, *, now: int) -> None:
        """Asks; the rest is there after `read`."""
        tx.hold_places()
        self._sites, self._load = tx.ask(SITES), tx.ask(LOAD, (run_id,))
        self._notices = tx.ask(OPEN_NOTICES, (now,))
        self.sites: Mapping[str, SiteRow] = {}
        self.notices: Sequence[NoticeRow] = ()
        self.load: dict[str, int] = {}
        self.own_load: dict[str, int] = {}
        self.rivals = 0
        self._known = False

    def read(self) -> World:
        if not self._known:
            self._known = True
            self.sites = {row[0]: SiteRow._make(row) for row in self._sites()}
            self.notices = [NoticeRow._make(row) for row in self._notices()]
            self.load, self.own_load = dict.fromkeys(self.sites, 0), dict.fromkeys(self.sites, 0)
            for name, total, own in self._load():
                if name:
                    self.load[name], self.own_load[name] = total, int(own)
                else:
                    self.rivals = total
        return self

    def add(self, name: str, change: int) -> None:
        """This run's open attempts at a site grew by so many."""
        if not name:
            return
        self.load[name] = self.load.get(name, 0) + change
        self.own_load[name] = self.own_load.get(name, 0) + change


def asked_run(tx: Tx, run_id: str, token: int, owner: str) -> Callable[[], RunRow | None]:
    """The run, if that lease holds it."""
    answer = tx.ask(LEASED_RUN, (run_id, token, owner))
    return lambda: next(map(RunRow._make, answer()), None)


def due_stages(tx: Tx, run_id: str, *, now: int, limit: int) -> Callable[[], tuple[list[StageRow], bool]]:
    """Those due, oldest first; were there more than the limit?"""
    return _cut(tx.ask(DUE, (run_id, now, limit + 1)), limit)


def queued_stages(tx: Tx, run_id: str, *, limit: int) -> Callable[[], tuple[list[StageRow], bool]]:
    """READY stages that wait for a place, by number; are there more than the limit?"""
    limit = max(limit, 0)
    return _cut(tx.ask(QUEUE, (run_id, limit + 1)), limit)


def _cut(answer: Answer, limit: int) -> Callable[[], tuple[list[StageRow], bool]]:
    def cut() -> tuple[list[StageRow], bool]:
        rows = answer()
        return [StageRow._make(row) for row in rows[:limit]], len(rows) > limit

    return cut


def asked_attempts(tx: Tx, run_id: str, stages: Iterable[StageRow]) -> Answer:
    """Open attempts and the current one of each stage."""
    return tx.ask_of(ATTEMPTS, (run_id,), [row.n for row in stages if row.attempt])


def attempts_of(stages: Iterable[StageRow], *answers: Answer) -> dict[int, list[AttemptRow]]:
    found: dict[int, list[AttemptRow]] = {row.n: [] for row in stages}
    for answer in answers:
        for values in answer():
            row = AttemptRow._make(values)
            found[row.n].append(row)
    return found


def asked_commands(tx: Tx, run_row: RunRow) -> Callable[[], Sequence[CommandRow]]:
    if not run_row.commands:
        return tuple
    answer = tx.ask(OPEN_COMMANDS, (run_row.run_id,))
    return lambda: [CommandRow._make(row) for row in answer()]


def grouped(
    rows: Iterable[Any], make: Callable[[Any], R], place: int, wanted: Collection[int] = ()
) -> dict[int, list[R]]:
    """Rows by the number in one of their columns; also an empty list for each that is wanted."""
    found: dict[int, list[R]] = {number: [] for number in wanted}
    for row in rows:
        found.setdefault(row[place], []).append(make(row))
    return found
