"""Notices on SQL: added by who decides, claimed and given back by who sends, acknowledged by people."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Select, literal_column, select

from broker.alerts import rows as alerts
from broker.alerts.rows import AlertRow, Over
from broker.store import chain, wake
from broker.store.base import NewEvent
from broker.store.connect import Database, Tx
from broker.store.schema import alert
from broker.store.statement import Lookup, Statement, given, given_time, upsert

_NAMES = AlertRow._fields
# the same notice is written once, whoever writes it again
INSERT = Statement(
    lambda dialect: (
        upsert(dialect, alert)
        .values({name: given(name) for name in _NAMES})
        .on_conflict_do_nothing(index_elements=[alert.c.id])
    ),
    *_NAMES,
)
_MOVED = (
    "number",
    "tries",
    "error",
    "claim",
    "acked_by",
    "ack_reason",
    "over_why",
)
_TIMES = ("due_at", "sent_at", "acked_at", "over_at", "over_sent_at")
SAVE = Statement(
    alert.update()
    .values({**{name: given(name) for name in _MOVED}, **{name: given_time(name) for name in _TIMES}})
    .where(alert.c.id == given("id")),
    *_NAMES,
    key=("id",),
)
DUE = Statement(
    select(alert)
    .where(alert.c.due_at <= given_time("now"))
    .order_by(alert.c.due_at, alert.c.id)
    .limit(given("limit"))
    .with_for_update(skip_locked=True),
    "now",
    "limit",
)
ANY_DUE = Statement(select(alert.c.id).where(alert.c.due_at <= given_time("now")).limit(literal_column("1")), "now")
SEEN = Lookup(lambda ids: select(alert).where(alert.c.id.in_(ids)).order_by(alert.c.id))
HELD = Lookup(lambda ids: select(alert).where(alert.c.id.in_(ids)).order_by(alert.c.id).with_for_update())
_STANDS = (alert.c.stands == literal_column("1"), alert.c.over_at.is_(None))
OF_RUN = Statement(
    select(alert).where(alert.c.run_id == given("run_id"), *_STANDS).order_by(alert.c.id).with_for_update(),
    "run_id",
)
_OF_KIND = select(alert).where(alert.c.kind == given("kind"), *_STANDS).order_by(alert.c.id)
KIND_SEEN, KIND_HELD = Statement(_OF_KIND, "kind"), Statement(_OF_KIND.with_for_update(), "kind")


def _listed(*, of_run: bool, open_only: bool) -> Statement:
    found: Select[Any] = select(alert).order_by(alert.c.created_at.desc(), alert.c.id).limit(given("limit"))
    if of_run:
        found = found.where(alert.c.run_id == given("run_id"))
    if open_only:
        found = found.where(*_STANDS, alert.c.acked_at.is_(None))
    return Statement(found, "run_id", "limit")


LISTED = {(run, opened): _listed(of_run=run, open_only=opened) for run in (False, True) for opened in (False, True)}


def decided(tx: Tx, new: Sequence[AlertRow], over: Sequence[Over], *, now: int) -> None:
    """What a decision tells, and what of former notices of its run has passed by it."""
    if over:
        why = {(one.run_id, one.n, one.kind): one.why for one in over}
        whole = {one.run_id: one.why for one in over if not one.kind}
        for run_id in sorted({one.run_id for one in over}):
            for row in _of(tx, OF_RUN, run_id):
                said = why.get(row.of_stage, whole.get(run_id))
                if said is not None:
                    tx.put(SAVE, [alerts.passed(row, why=said, now=now)])
    tx.put(INSERT, new)


class StoredAlerts:
    """Implements `broker.alerts.rows.AlertStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, *, claim: str, now: int, limit: int, seconds: float) -> Sequence[AlertRow]:
        if not self._database.read(lambda tx: tx.row(ANY_DUE, (now,))):
            return ()
        until = now + round(seconds * 1e6)

        def work(tx: Tx) -> Sequence[AlertRow]:
            due = map(AlertRow._make, tx.rows(DUE, (now, limit)))
            taken = [row._replace(claim=claim, due_at=until) for row in due]
            tx.put(SAVE, taken)
            return taken

        return self._database.do(work)

    def give_back(self, claimed: AlertRow, *, now: int, error: str = "") -> bool:
        def work(tx: Tx) -> bool:
            row = self._ours(tx, claimed)
            if row is None:
                return False
            if error:
                after = alerts.in_vain(row, now, error)
            else:
                after = alerts.over_arrived(row, now) if claimed.says_over else alerts.arrived(row, now)
            tx.put(SAVE, [after])
            return True

        return self._database.do(work)

    def put_off(self, claimed: Sequence[AlertRow], *, until: int, error: str) -> None:
        def work(tx: Tx) -> None:
            found = [row for one in claimed if (row := self._ours(tx, one)) is not None]
            tx.put(SAVE, [row._replace(claim="", due_at=until, error=error[:300]) for row in found])

        self._database.do(work)

    @staticmethod
    def _ours(tx: Tx, claimed: AlertRow) -> AlertRow | None:
        """The row as it is now, if it is still the caller's. Two claims of one worker are told apart by their end."""
        row = next(iter(_rows(tx.rows_of(HELD, (), [claimed.id]))), None)
        return row if row is not None and (row.claim, row.due_at) == (claimed.claim, claimed.due_at) else None

    def keep_standing(
        self,
        wanted: Sequence[AlertRow],
        *,
        kind: str,
        abouts: Collection[str] | None,
        why: str,
        now: int,
        one_each: bool = False,
    ) -> None:
        ids, others = {row.id for row in wanted}, {_same(row) for row in wanted}

        def look(tx: Tx, of_kind: Statement) -> tuple[list[AlertRow], list[AlertRow]]:
            standing = [row for row in _of(tx, of_kind, kind) if abouts is None or row.about in abouts]
            known = {row.id for row in _rows(tx.rows_of(SEEN, (), sorted(ids)))}
            if one_each:
                goes_on = {_same(row) for row in standing}
                new = [row for row in wanted if row.id not in known and _same(row) not in goes_on]
                return [row for row in standing if _same(row) not in others], new
            return [row for row in standing if row.id not in ids], [row for row in wanted if row.id not in known]

        def work(tx: Tx) -> None:
            gone, new = look(tx, KIND_HELD)
            tx.put(SAVE, [alerts.passed(row, why="" if _same(row) in others else why, now=now) for row in gone])
            tx.put(INSERT, new)

        if any(self._database.read(lambda tx: look(tx, KIND_SEEN))):
            self._database.do(work)

    def ack(self, ids: Collection[str], *, by: str, reason: str, now: int) -> Sequence[AlertRow]:
        def work(tx: Tx) -> Sequence[AlertRow]:
            runs = {row.run_id for row in _rows(tx.rows_of(SEEN, (), sorted(ids)))} - {""}
            wake.hold(tx, runs)  # as decisions do: the run first, then its notices, then its stream
            found = _rows(tx.rows_of(HELD, (), sorted(ids)))
            taken = [alerts.acked(row, by=by, reason=reason, now=now) for row in found if row.open]
            tx.put(SAVE, taken)
            for stream in sorted({row.run_id for row in taken}):
                told = [_told(row, by=by) for row in taken if row.run_id == stream]
                chain.append(tx, stream or "operators", told, at=now)
            # what a first try has written, of which nobody knows whether it was kept
            return taken or [row for row in found if (row.acked_by, row.acked_at) == (by, now)]

        return self._database.do(work)

    def ls(self, *, run_id: str = "", open_only: bool = False, limit: int = 200) -> Sequence[AlertRow]:
        statement = LISTED[bool(run_id), open_only]
        return self._database.read(lambda tx: _rows(tx.rows(statement, (run_id, limit))))


def _told(row: AlertRow, *, by: str) -> NewEvent:
    data = {"notice": row.id, "kind": row.kind, "about": row.about, "reason": row.ack_reason}
    return NewEvent(kind="acknowledged", stage=row.about if row.n >= 0 else "", data=json.dumps(data), actor=by)


def _same(row: AlertRow) -> tuple[str, str, str]:
    return row.run_id, row.about, row.address


def _of(tx: Tx, statement: Statement, value: str) -> list[AlertRow]:
    return _rows(tx.rows(statement, (value,)))


def _rows(found: Iterable[Any]) -> list[AlertRow]:
    return [AlertRow._make(row) for row in found]
