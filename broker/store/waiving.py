"""Waivers of where data may be. What may happen to one is looked at by the statement that writes it, so that of two
persons who are at it at once one is told no."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import select

from broker.store import chain, wake
from broker.store.base import NewEvent, WaiverRow
from broker.store.connect import Tx
from broker.store.schema import run, waiver
from broker.store.statement import Statement, given, given_time, insert_row

INSERT = insert_row(waiver)
ONE = Statement(select(waiver).where(waiver.c.id == given("id")), "id")
OF_RUN = Statement(select(waiver).where(waiver.c.run_id == given("run_id")).order_by(waiver.c.id), "run_id")
ALL = Statement(select(waiver).order_by(waiver.c.asked_at.desc(), waiver.c.id.desc()).limit(given("limit")), "limit")
NEWEST_OF_RUN = Statement(
    select(waiver)
    .where(waiver.c.run_id == given("run_id"))
    .order_by(waiver.c.asked_at.desc(), waiver.c.id.desc())
    .limit(given("limit")),
    "run_id",
    "limit",
)
OPEN = Statement(
    select(waiver.c.id).where(
        waiver.c.run_id == given("run_id"),
        waiver.c.side == given("side"),
        waiver.c.rule == given("rule"),
        waiver.c.withdrawn_at.is_(None),
        waiver.c.ends_at > given_time("now"),
    ),
    "run_id",
    "side",
    "rule",
    "now",
)
HELD_RUN = Statement(select(run.c.run_id).where(run.c.run_id == given("run_id")).with_for_update(), "run_id")
CONFIRM = Statement(
    waiver.update()
    .values(confirmed_by=given("by"), confirmed_at=given_time("now"), confirm_reason=given("reason"))
    .where(
        waiver.c.id == given("id"),
        waiver.c.asked_by != given("by"),
        waiver.c.confirmed_at.is_(None),
        waiver.c.withdrawn_at.is_(None),
        waiver.c.ends_at > given_time("now"),
    ),
    "id",
    "by",
    "reason",
    "now",
)
WITHDRAW = Statement(
    waiver.update()
    .values(withdrawn_by=given("by"), withdrawn_at=given_time("now"), withdraw_reason=given("reason"))
    .where(waiver.c.id == given("id"), waiver.c.withdrawn_at.is_(None)),
    "id",
    "by",
    "reason",
    "now",
)


def ask(tx: Tx, row: WaiverRow) -> bool:
    """See the port. Kept once, however often the same row arrives."""
    tx.rows(HELD_RUN, (row.run_id,))  # two who ask at once take turns
    known = one(tx, row.id)
    if known is not None:
        return known == row
    if tx.row(OPEN, (row.run_id, row.side, row.rule, row.asked_at)):
        return False
    tx.run(INSERT, row)
    _tell(tx, row, "waiver_asked", by=row.asked_by, reason=row.reason, now=row.asked_at)
    return True


def confirm(tx: Tx, ident: str, *, by: str, reason: str, now: int) -> bool:
    """See the port."""
    row = _with_its_run(tx, ident)
    if row is None:
        return False
    if not tx.run(CONFIRM, (ident, by, reason, now)):
        # a second try of the same confirmation finds the first one's
        return (row.confirmed_by, row.confirmed_at, row.confirm_reason) == (by, now, reason)
    _tell(tx, row, "waiver_confirmed", by=by, reason=reason, now=now)
    return True


def withdraw(tx: Tx, ident: str, *, by: str, reason: str, now: int) -> bool:
    """See the port."""
    row = _with_its_run(tx, ident)
    if row is None:
        return False
    if not tx.run(WITHDRAW, (ident, by, reason, now)):
        return (row.withdrawn_by, row.withdrawn_at, row.withdraw_reason) == (by, now, reason)
    _tell(tx, row, "waiver_withdrawn", by=by, reason=reason, now=now)
    return True


def one(tx: Tx, ident: str) -> WaiverRow | None:
    row = tx.row(ONE, (ident,))
    return None if row is None else WaiverRow._make(row)


def of_run(tx: Tx, run_id: str) -> Sequence[WaiverRow]:
    """All of a run, by id."""
    return [WaiverRow._make(row) for row in tx.rows(OF_RUN, (run_id,))]


def newest(tx: Tx, run_id: str, *, limit: int) -> Sequence[WaiverRow]:
    """Of a run or of all, those asked for last first."""
    found = tx.rows(NEWEST_OF_RUN, (run_id, limit)) if run_id else tx.rows(ALL, (limit,))
    return [WaiverRow._make(row) for row in found]


def _with_its_run(tx: Tx, ident: str) -> WaiverRow | None:
    """The waiver, whose run is held from now on: rows are held in one order by all, a run's own first."""
    row = one(tx, ident)
    if row is not None:
        tx.rows(HELD_RUN, (row.run_id,))
        row = one(tx, ident)
    return row


def _tell(tx: Tx, row: WaiverRow, kind: str, *, by: str, reason: str, now: int) -> None:
    """In the run's stream; and what waits of the run is looked at again under what holds now."""
    data = {"waiver": row.id, "side": row.side, "rule": row.rule, "reason": reason, "ends_at": row.ends_at}
    wake.hint_runs(tx, (row.run_id,), now=now)
    tx.many(wake.WAKE_RUN_STAGES, [(row.run_id, now)])
    chain.append(tx, row.run_id, [NewEvent(kind=kind, data=json.dumps(data), actor=by)], at=now)
