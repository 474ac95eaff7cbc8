"""What a declared `keep` will remove, and what it has: rows that a pass takes one at a time, alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, literal_column, or_, select

from broker.store import chain
from broker.store.base import EndedAttempt, NewEvent, RetentionRow
from broker.store.connect import Tx
from broker.store.schema import attempt, retention, run
from broker.store.statement import Statement, given, given_time, insert_row, upsert

INSERT = insert_row(retention)
_NAMES = tuple(column.name for column in retention.columns)
ENROL = Statement(
    lambda dialect: (
        upsert(dialect, retention)
        .values({name: given(name) for name in _NAMES})
        .on_conflict_do_nothing(index_elements=[retention.c.key])
    ),
    *_NAMES,
)
ALL = Statement(
    select(retention).order_by(retention.c.created_at.desc(), retention.c.key).limit(given("limit")), "limit"
)
DUE = Statement(
    select(retention)
    .where(retention.c.due_at <= given_time("now"))
    .order_by(retention.c.due_at, retention.c.key)
    .limit(given("limit")),
    "now",
    "limit",
)
# those of other entries under the same folder, or around it; a path of a folder ends with /
OF_SIDE = Statement(
    select(retention).where(
        retention.c.side == given("side"),
        retention.c.due_at >= literal_column("0"),
        retention.c.key != given("key"),
        or_(
            func.substr(retention.c.path, 1, func.length(given("path"))) == given("path"),
            func.substr(given("path"), 1, func.length(retention.c.path)) == retention.c.path,
        ),
    ),
    "side",
    "key",
    "path",
)
CHANGE = Statement(
    retention.update()
    .values(
        {name: given(f"new_{name}") for name in ("state", "reason", "files")}
        | {name: given_time(f"new_{name}") for name in ("due_at", "done_at")}
    )
    .where(
        retention.c.key == given("key"),
        retention.c.state == given("state"),
        retention.c.due_at == given_time("due_at"),
    ),
    "key",
    "state",
    "due_at",
    "new_state",
    "new_reason",
    "new_files",
    "new_due_at",
    "new_done_at",
)
OTHERS_AT_WORK = Statement(
    select(func.count()).where(
        retention.c.state == literal_column("'removing'"),
        retention.c.due_at > given_time("now"),
        retention.c.key != given("key"),
    ),
    "now",
    "key",
)
ENDED = Statement(
    select(
        run.c.run_id,
        run.c.state,
        run.c.ended_at,
        attempt.c.n,
        attempt.c.number,
        attempt.c.submit_key,
        attempt.c.directory,
    )
    .join(attempt, attempt.c.run_id == run.c.run_id)
    .where(
        run.c.ended_at <= given_time("until"),
        or_(
            run.c.ended_at > given_time("at"),
            and_(run.c.ended_at == given_time("at"), run.c.run_id > given("run_id")),
        ),
        attempt.c.site == given("site"),
        attempt.c.directory != literal_column("''"),
    )
    .order_by(run.c.ended_at, run.c.run_id, attempt.c.n, attempt.c.number)
    .limit(given("limit")),
    "until",
    "at",
    "run_id",
    "site",
    "limit",
)


def rows(tx: Tx, *, limit: int) -> Sequence[RetentionRow]:
    return [RetentionRow._make(row) for row in tx.rows(ALL, (limit,))]


def due(tx: Tx, *, now: int, limit: int) -> Sequence[RetentionRow]:
    return [RetentionRow._make(row) for row in tx.rows(DUE, (now, limit))]


def around(tx: Tx, row: RetentionRow) -> Sequence[RetentionRow]:
    """Other rows, not dealt with, for the same files, some of them, or more."""
    return [RetentionRow._make(found) for found in tx.rows(OF_SIDE, (row.side, row.key, row.path))]


def enrol(tx: Tx, new: Sequence[RetentionRow]) -> None:
    for row in new:
        tx.run(ENROL, row)


def change(
    tx: Tx, old: RetentionRow, new: RetentionRow, *, alone: bool, told: tuple[str, NewEvent] | None, now: int
) -> bool:
    """See the port."""
    if alone:
        tx.hold_places()  # claims take turns, so that two of them never both find that nobody is at work
        (busy,) = tx.row(OTHERS_AT_WORK, (now, old.key))
        if busy:
            return False
    values: tuple[Any, ...] = (
        old.key,
        old.state,
        old.due_at,
        new.state,
        new.reason,
        new.files,
        new.due_at,
        new.done_at,
    )
    if tx.run(CHANGE, values) != 1:
        return False
    if told is not None:
        chain.append(tx, told[0], [told[1]], at=now)
    return True


def ended(tx: Tx, site: str, *, after: tuple[int, str], until: int, limit: int) -> Sequence[EndedAttempt]:
    return [EndedAttempt._make(row) for row in tx.rows(ENDED, (until, *after, site, limit))]
