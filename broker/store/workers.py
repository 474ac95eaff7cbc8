"""Heartbeats: which processes are there, and does work get through to them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, or_, select

from broker.store.base import WorkerRow
from broker.store.connect import Tx
from broker.store.schema import worker
from broker.store.statement import Statement, given, upsert


def _heartbeat(dialect: str) -> Any:
    """Written whole; progress alone is kept where it is newer, or where nothing new is said."""
    new = upsert(dialect, worker)
    moved = {name: new.excluded[name] for name in WorkerRow._fields if name not in ("name", "progress_at")}
    behind = or_(new.excluded.progress_at.is_(None), new.excluded.progress_at < worker.c.progress_at)
    moved["progress_at"] = case((behind, worker.c.progress_at), else_=new.excluded.progress_at)
    return new.values({name: given(name) for name in WorkerRow._fields}).on_conflict_do_update(
        index_elements=[worker.c.name], set_=moved
    )


HEARTBEAT = Statement(_heartbeat, *WorkerRow._fields)
WORKERS = Statement(select(worker).order_by(worker.c.kind, worker.c.name))
FORGET = Statement(worker.delete().where(worker.c.seen_at < given("seen_before")), "seen_before")


def heartbeat(tx: Tx, row: WorkerRow) -> None:
    tx.run(HEARTBEAT, row)


def workers(tx: Tx) -> Sequence[WorkerRow]:
    return [WorkerRow._make(row) for row in tx.rows(WORKERS)]


def forget(tx: Tx, seen_before: int) -> int:
    return tx.run(FORGET, (seen_before,))
