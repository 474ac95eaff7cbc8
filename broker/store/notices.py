"""Notices on SQL. What may happen to one is looked at by the statement that writes it, so that of two operators who
end it at once one is told no."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import literal_column, or_, select

from broker.operating.rows import NoticeRow
from broker.store import chain, wake
from broker.store.accepting import SITE_NAMES, WANTING
from broker.store.base import NewEvent
from broker.store.connect import Database, Tx
from broker.store.schema import notice, run, stage
from broker.store.statement import Statement, given, given_time, insert_row

INSERT = insert_row(notice)
ONE = Statement(select(notice).where(notice.c.id == given("id")), "id")
OPEN = Statement(
    select(notice)
    .where(notice.c.ends_at > given_time("now"), notice.c.ended_at.is_(None))
    .order_by(notice.c.begins_at, notice.c.id),
    "now",
)
NEWEST = Statement(select(notice).order_by(notice.c.said_at.desc(), notice.c.id.desc()).limit(given("limit")), "limit")
COVERING = Statement(
    select(notice.c.id)
    .where(
        notice.c.kind == given("kind"),
        notice.c.site == given("site"),
        notice.c.capability == given("capability"),
        notice.c.begins_at <= given_time("begins_at"),
        notice.c.ends_at >= given_time("ends_at"),
        notice.c.ended_at.is_(None),
    )
    .limit(literal_column("1")),
    *NoticeRow._fields,
)
END = Statement(
    notice.update()
    .values(ended_by=given("by"), ended_at=given_time("now"), end_reason=given("reason"))
    .where(notice.c.id == given("id"), notice.c.ended_at.is_(None), notice.c.ends_at > given_time("now")),
    "id",
    "by",
    "reason",
    "now",
)
WAITING = Statement(
    select(stage.c.run_id, stage.c.n)
    .join(run, run.c.run_id == stage.c.run_id)
    .where(
        run.c.unsettled > literal_column("0"),
        stage.c.state == literal_column("'READY'"),
        stage.c.due_at > given_time("now"),
        or_(stage.c.not_before.is_(None), stage.c.not_before <= given_time("now")),
    )
    .limit(given("limit")),
    "now",
    "limit",
)


def add(tx: Tx, row: NoticeRow) -> bool:
    """See the port. Kept once, however often the same row arrives."""
    known = _one(tx, row.id)
    if known is not None:
        return known == row
    if tx.row(COVERING, row):
        return False
    _wake(tx, row, now=row.said_at)
    tx.run(INSERT, row)
    _tell(tx, row, row.kind, by=row.said_by, reason=row.reason, now=row.said_at)
    return True


def end(tx: Tx, ident: str, *, by: str, reason: str, now: int) -> bool:
    """See the port."""
    row = _one(tx, ident)
    if row is None:
        return False
    _wake(tx, row, now=now)  # runs' rows before notices', by all
    if not tx.run(END, (ident, by, reason, now)):
        # a second try of the same end finds the first one's
        return (row.ended_by, row.ended_at, row.end_reason) == (by, now, reason)
    _tell(tx, row, f"{row.kind}_ended", by=by, reason=reason, now=now)
    return True


def open_ones(tx: Tx, *, now: int) -> Sequence[NoticeRow]:
    return [NoticeRow._make(row) for row in tx.rows(OPEN, (now,))]


def newest(tx: Tx, *, limit: int) -> Sequence[NoticeRow]:
    return [NoticeRow._make(row) for row in tx.rows(NEWEST, (limit,))]


def _one(tx: Tx, ident: str) -> NoticeRow | None:
    row = tx.row(ONE, (ident,))
    return None if row is None else NoticeRow._make(row)


def _wake(tx: Tx, row: NoticeRow, *, now: int) -> None:
    """What is at the sites that it concerns, or waits for a place anywhere, is looked at again under what holds now."""
    sites = [row.site] if row.site else [name for (name,) in tx.rows(SITE_NAMES)]
    waiting = [(run_id, n) for run_id, n in tx.rows(WAITING, (now, WANTING))]
    there = [one for name in sites for one in wake.stages_at_site(tx, name)]
    wake.hint(tx, {*waiting, *there}, now=now)


def _tell(tx: Tx, row: NoticeRow, kind: str, *, by: str, reason: str, now: int) -> None:
    data = {
        "notice": row.id,
        "site": row.site,
        "capability": row.capability,
        "reason": reason,
        "begins_at": row.begins_at,
        "ends_at": row.ends_at,
    }
    where = f"site:{row.site}" if row.site else "operators"
    chain.append(tx, where, [NewEvent(kind=kind, data=json.dumps(data), actor=by)], at=now)


class StoredNotices:
    """Implements `broker.operating.rows.NoticeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: NoticeRow) -> bool:
        return self._database.do(lambda tx: add(tx, row))

    def end(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        return self._database.do(lambda tx: end(tx, ident, by=by, reason=reason, now=now))

    def open(self, *, now: int) -> Sequence[NoticeRow]:
        return self._database.read(lambda tx: open_ones(tx, now=now))

    def newest(self, *, limit: int = 1000) -> Sequence[NoticeRow]:
        return self._database.read(lambda tx: newest(tx, limit=limit))
