"""What attempts tell of queues and of work: how long they waited, and how long they ran. Read now and then, never by a
decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Select, select

from broker.store.connect import Tx
from broker.store.schema import attempt, run, stage
from broker.store.statement import Statement, given, given_time


class PastRow(NamedTuple):
    """An attempt, with what its run and its stage are called and ask for."""

    run_id: str
    n: int
    number: int
    app: str
    """The workflow's name."""
    path: str
    rules: str
    memory_raises: int
    digest: str
    site: str
    state: str
    restore: str
    staged: str
    created_at: int
    submitted_at: int | None
    started_at: int | None
    ended_at: int | None


def _told() -> Select[tuple[object, ...]]:
    return (
        select(
            attempt.c.run_id,
            attempt.c.n,
            attempt.c.number,
            run.c.name,
            stage.c.path,
            stage.c.rules,
            stage.c.memory_raises,
            attempt.c.digest,
            attempt.c.site,
            attempt.c.state,
            attempt.c.restore,
            attempt.c.staged,
            attempt.c.created_at,
            attempt.c.submitted_at,
            attempt.c.started_at,
            attempt.c.ended_at,
        )
        .join(run, run.c.run_id == attempt.c.run_id)
        .join(stage, (stage.c.run_id == attempt.c.run_id) & (stage.c.n == attempt.c.n))
        .limit(given("limit"))
    )


PAST = Statement(
    _told()
    .where(attempt.c.site == given("site"), attempt.c.ended_at > given_time("since"))
    .order_by(attempt.c.ended_at.desc()),
    "site",
    "since",
    "limit",
)
PRESENT = Statement(
    _told().where(attempt.c.open == 1, attempt.c.site == given("site")).order_by(attempt.c.run_id.desc()),
    "site",
    "limit",
)


def past(tx: Tx, site: str, *, since: int, limit: int) -> Sequence[PastRow]:
    """See the port."""
    return [PastRow._make(row) for row in tx.rows(PAST, (site, since, limit))]


def present(tx: Tx, site: str, *, limit: int) -> Sequence[PastRow]:
    """See the port."""
    return [PastRow._make(row) for row in tx.rows(PRESENT, (site, limit))]
