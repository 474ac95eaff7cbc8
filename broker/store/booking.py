"""Charges: booked and settled by decisions, summed for them, and compared with what sites say. Caps and allocations."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_, select

from broker.store import chain, wake
from broker.store.base import AllocationRow, CapRow, ChargeRow, NewEvent, Purse, SumRow
from broker.store.connect import Database, Tx
from broker.store.schema import allocation, cap, charge, run, stage
from broker.store.statement import Lookup, Statement, given, given_time, insert_row, upsert
from policies.budget import DOUBLE

INSERT = insert_row(charge)
# one that is settled stays: whoever settles it a second time saw less than the first
SETTLE = Statement(
    charge.update()
    .values(
        {
            name: given(name)
            for name in ("actual", "wasted", "cause", "source", "doubles", "cut", "cut_wasted", "settled_at")
        }
    )
    .where(
        charge.c.run_id == given("run_id"),
        charge.c.n == given("n"),
        charge.c.attempt == given("attempt"),
        charge.c.settled_at.is_(None),
    ),
    *ChargeRow._fields,
)
OF_STAGES = Lookup(
    lambda numbers: (
        select(charge)
        .where(charge.c.run_id == given("run_id"), charge.c.n.in_(numbers))
        .order_by(charge.c.n, charge.c.attempt)
    ),
    "run_id",
)
OF_RUN = Statement(
    select(charge).where(charge.c.run_id == given("run_id")).order_by(charge.c.n, charge.c.attempt), "run_id"
)
_OPEN = charge.c.settled_at.is_(None)
_ZERO: ColumnElement[int] = literal_column("0")
_ONE: ColumnElement[int] = literal_column("1")
_ALIKE = (
    charge.c.site,
    charge.c.account,
    charge.c.pool,
    charge.c.person,
    charge.c.reservation,
    charge.c.unit,
    charge.c.usd,
    charge.c.nodes,
    charge.c.cause,
)
_DOUBLES = case(
    (and_(_OPEN, charge.c.doubles == _ONE), charge.c.estimated),
    (charge.c.cause.in_([literal_column(f"'{cause.value}'") for cause in sorted(DOUBLE)]), charge.c.wasted),
    else_=_ZERO,
)
_SUMS = (
    func.count(),
    func.sum(case((_OPEN, _ONE), else_=_ZERO)),
    func.sum(case((_OPEN, charge.c.estimated), else_=_ZERO)),
    func.sum(charge.c.estimated),
    func.sum(charge.c.actual),
    func.sum(charge.c.wasted),
    func.sum(_DOUBLES),
    func.sum(func.coalesce(charge.c.told, _ZERO)),
    func.sum(case((charge.c.told.is_(None), _ZERO), else_=charge.c.actual)),
)
_ALL_STAGES: ColumnElement[int] = literal_column("-1")
SUMS = Statement(select(_ALL_STAGES, *_ALIKE, *_SUMS).group_by(*_ALIKE))
SUMS_OF_RUN = Statement(
    select(_ALL_STAGES, *_ALIKE, *_SUMS).where(charge.c.run_id == given("run_id")).group_by(*_ALIKE), "run_id"
)
SUMS_BY_STAGE = Statement(
    select(charge.c.n, *_ALIKE, *_SUMS).where(charge.c.run_id == given("run_id")).group_by(charge.c.n, *_ALIKE),
    "run_id",
)
SUMS_OF_PROJECTS = Lookup(
    lambda names: select(_ALL_STAGES, *_ALIKE, *_SUMS).where(charge.c.account.in_(names)).group_by(*_ALIKE)
)
SUMS_OF_USERS = Lookup(
    lambda names: select(_ALL_STAGES, *_ALIKE, *_SUMS).where(charge.c.person.in_(names)).group_by(*_ALIKE)
)
CAPS = Statement(select(cap).order_by(cap.c.kind, cap.c.name))
ALLOCATIONS = Statement(select(allocation).order_by(*allocation.primary_key))
# a balance that was read is late: what ended since is not in it, nor is what has not ended
HELD = Statement(
    select(
        allocation.c.site,
        allocation.c.account,
        allocation.c.pool,
        func.sum(case((_OPEN, charge.c.estimated), else_=charge.c.actual)),
    )
    .where(
        charge.c.site == allocation.c.site,
        charge.c.account == allocation.c.account,
        charge.c.unit == allocation.c.unit,
        or_(_OPEN, charge.c.settled_at > allocation.c.read_at),
        or_(allocation.c.pool == literal_column("''"), allocation.c.pool == charge.c.pool),
    )
    .group_by(allocation.c.site, allocation.c.account, allocation.c.pool)
)
UNRECONCILED = Statement(
    select(charge)
    .where(
        charge.c.site == given("site"),
        charge.c.settled_at <= given_time("until"),
        charge.c.told.is_(None),
        charge.c.cause != literal_column("'queue'"),
    )
    .order_by(charge.c.settled_at, charge.c.run_id, charge.c.n, charge.c.attempt)
    .limit(given("limit")),
    "site",
    "until",
    "limit",
)
RECONCILE = Statement(
    charge.update()
    .values(told=given_time("told"), told_at=given_time("told_at"))
    .where(
        charge.c.run_id == given("run_id"),
        charge.c.n == given("n"),
        charge.c.attempt == given("attempt"),
        charge.c.told.is_(None),
    ),
    *ChargeRow._fields,
)
_CAP = tuple(column.name for column in cap.columns)
SET_CAP = Statement(
    lambda dialect: (
        upsert(dialect, cap)
        .values({name: given(name) for name in _CAP})
        .on_conflict_do_update(
            index_elements=[cap.c.kind, cap.c.name],
            set_={name: given(name) for name in ("node_hours", "usd", "by", "reason", "at")},
        )
    ),
    *_CAP,
)
DROP_CAP = Statement(cap.delete().where(cap.c.kind == given("kind"), cap.c.name == given("name")), "kind", "name")
FORGET_ALLOCATIONS = Statement(allocation.delete().where(allocation.c.site == given("site")), "site")
INSERT_ALLOCATION = insert_row(allocation)
# stages that wait for money; FOR UPDATE of runs in one order, as all who write to several runs do
WAITING = Statement(
    select(stage.c.run_id)
    .distinct()
    .join(run, run.c.run_id == stage.c.run_id)
    .where(stage.c.state == literal_column("'READY'"), run.c.unsettled > _ZERO)
    .order_by(stage.c.run_id)
)


# -- within a decision -----------------------------------------------------------------------------------------


def book(tx: Tx, new: Iterable[ChargeRow], settled: Iterable[ChargeRow]) -> None:
    """Write what a decision booked."""
    tx.put(INSERT, new)
    tx.put(SETTLE, settled)


def purse(tx: Tx, run_id: str, *, by_stage: bool, projects: Collection[str] = (), users: Collection[str] = ()) -> Purse:
    """See the port."""
    asked_caps, asked_allocations = tx.ask(CAPS), tx.ask(ALLOCATIONS)
    asked_own = tx.ask(SUMS_BY_STAGE if by_stage else SUMS_OF_RUN, (run_id,))
    caps = [CapRow._make(row) for row in asked_caps()]
    allocations = [AllocationRow._make(row) for row in asked_allocations()]
    projects = sorted({*projects, *(row.name for row in caps if row.kind == "project")})
    users = sorted({*users, *(row.name for row in caps if row.kind == "user")})
    shared: dict[tuple[str, str], list[SumRow]] = {}
    for kind, names, lookup in (("project", projects, SUMS_OF_PROJECTS), ("user", users, SUMS_OF_USERS)):
        for row in map(_sum, tx.rows_of(lookup, (), names) if names else ()):
            shared.setdefault((kind, row.account if kind == "project" else row.person), []).append(row)
    held = {(site, account, pool): int(sum_) for site, account, pool, sum_ in tx.rows(HELD)} if allocations else {}
    return Purse(own=[_sum(row) for row in asked_own()], shared=shared, caps=caps, allocations=allocations, held=held)


def of_stages(tx: Tx, run_id: str, numbers: Collection[int]) -> Sequence[ChargeRow]:
    return [ChargeRow._make(row) for row in tx.rows_of(OF_STAGES, (run_id,), numbers)]


def _sum(row: Sequence[object]) -> SumRow:
    """Sums of a server come as numbers of any size."""
    return SumRow._make((*row[:10], *(int(value) for value in row[10:])))  # type: ignore[call-overload]


# -- outside of decisions --------------------------------------------------------------------------------------


def of_run(tx: Tx, run_id: str) -> Sequence[ChargeRow]:
    return [ChargeRow._make(row) for row in tx.rows(OF_RUN, (run_id,))]


def sums(tx: Tx, run_id: str) -> Sequence[SumRow]:
    """Of a run; no id: of all."""
    return [_sum(row) for row in (tx.rows(SUMS_OF_RUN, (run_id,)) if run_id else tx.rows(SUMS))]


def unreconciled(tx: Tx, site: str, *, until: int, limit: int) -> Sequence[ChargeRow]:
    return [ChargeRow._make(row) for row in tx.rows(UNRECONCILED, (site, until, limit))]


def reconcile(tx: Tx, told: Sequence[ChargeRow]) -> None:
    tx.put(RECONCILE, told)


def caps(tx: Tx) -> Sequence[CapRow]:
    return [CapRow._make(row) for row in tx.rows(CAPS)]


def set_cap(tx: Tx, row: CapRow) -> None:
    """See the port."""
    if row.node_hours is None and row.usd is None:
        tx.run(DROP_CAP, (row.kind, row.name))
    else:
        tx.run(SET_CAP, row)
    runs = [row.name] if row.kind == "run" else [run_id for (run_id,) in tx.rows(WAITING)]
    wake.hint_runs(tx, runs, now=row.at)
    tx.many(wake.WAKE_RUN_STAGES, [(run_id, row.at) for run_id in runs])
    data = {"kind": row.kind, "name": row.name, "node_hours": row.node_hours, "usd": row.usd, "reason": row.reason}
    told = NewEvent(kind="budget_set", data=json.dumps(data), actor=row.by)
    chain.append(tx, row.name if row.kind == "run" else "operators", [told], at=row.at)


def allocations(tx: Tx, site: str) -> Sequence[AllocationRow]:
    """Of one site; no name: of all."""
    return [row for row in map(AllocationRow._make, tx.rows(ALLOCATIONS)) if site in ("", row.site)]


def keep_allocations(tx: Tx, site: str, rows: Sequence[AllocationRow], *, told: Sequence[NewEvent], now: int) -> None:
    """See the port."""
    before = {row[1:3]: row.granted - row.used for row in allocations(tx, site)}
    tx.run(FORGET_ALLOCATIONS, (site,))
    tx.put(INSERT_ALLOCATION, rows)
    if any(row.granted - row.used > before.get(row[1:3], 0) for row in rows if row[1:3] in before):
        runs = [run_id for (run_id,) in tx.rows(WAITING)]
        wake.hint_runs(tx, runs, now=now)
        tx.many(wake.WAKE_RUN_STAGES, [(run_id, now) for run_id in runs])
    if told:
        chain.append(tx, f"site:{site}", told, at=now)


class StoredMoney:
    """Implements `broker.store.booked.MoneyStore`. Whatever it does is the same when it is done twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def charges(self, run_id: str, n: int | None = None) -> Sequence[ChargeRow]:
        rows = self._database.ask(lambda tx: of_run(tx, run_id))
        return rows if n is None else [row for row in rows if row.n == n]

    def sums(self, run_id: str = "") -> Sequence[SumRow]:
        return self._database.ask(lambda tx: sums(tx, run_id))

    def purse(self, run_id: str, *, projects: Collection[str], users: Collection[str]) -> Purse:
        return self._database.read(lambda tx: purse(tx, run_id, by_stage=True, projects=projects, users=users))

    def unreconciled(self, site: str, *, until: int, limit: int) -> Sequence[ChargeRow]:
        return self._database.ask(lambda tx: unreconciled(tx, site, until=until, limit=limit))

    def reconcile(self, told: Sequence[ChargeRow]) -> None:
        if told:
            self._database.do(lambda tx: reconcile(tx, told))

    def caps(self) -> Sequence[CapRow]:
        return self._database.ask(caps)

    def set_cap(self, row: CapRow) -> None:
        self._database.do(lambda tx: set_cap(tx, row))

    def allocations(self, site: str = "") -> Sequence[AllocationRow]:
        return self._database.ask(lambda tx: allocations(tx, site))

    def keep_allocations(self, site: str, rows: Sequence[AllocationRow], *, told: Sequence[NewEvent], now: int) -> None:
        self._database.do(lambda tx: keep_allocations(tx, site, rows, told=told, now=now))
