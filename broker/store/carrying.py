"""Stages that were carried elsewhere. Their attempts are few, and have indexes of their own: the storm brake and the
way home need no rows beside them, so what they go by is never older or younger than what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import and_, literal_column, select

from broker.store.connect import Tx
from broker.store.schema import attempt
from broker.store.statement import Statement, given, given_time
from policies.brake import Carried
from policies.failback import Journey

_CARRIED = attempt.c.why == literal_column("'failover'")
LATELY = Statement(
    select(attempt.c.created_at, attempt.c.site)
    .where(_CARRIED, attempt.c.created_at > given_time("since"))
    .order_by(attempt.c.created_at.desc(), attempt.c.run_id, attempt.c.n, attempt.c.number)
    .limit(given("limit")),
    "since",
    "limit",
)


def _of_run(newest: bool) -> Statement:
    """Of the run's first, or newest, stage that was carried: where it came from, and where it went."""
    former = attempt.alias("former")
    order = attempt.c.created_at.desc() if newest else attempt.c.created_at
    return Statement(
        select(former.c.site, attempt.c.site)
        .select_from(attempt)
        .join(
            former,
            and_(
                former.c.run_id == attempt.c.run_id,
                former.c.n == attempt.c.n,
                former.c.number == attempt.c.number - literal_column("1"),
            ),
        )
        .where(attempt.c.run_id == given("run_id"), _CARRIED)
        .order_by(order, attempt.c.n, attempt.c.number)
        .limit(literal_column("1")),
        "run_id",
    )


FIRST, NEWEST = _of_run(newest=False), _of_run(newest=True)
MOST = 10_000
"""More than any brake lets pass within a minute."""


def lately(tx: Tx, *, since: int) -> Sequence[Carried]:
    """Of all runs, in order of time."""
    return [Carried(at, site) for at, site in reversed(list(tx.rows(LATELY, (since, MOST))))]


def asked_journey(tx: Tx, run_id: str) -> Callable[[], Journey | None]:
    """Where a run began and where it was carried last; None: it was not, as most are not."""
    asked = tx.ask(FIRST, (run_id,))

    def journey() -> Journey | None:
        first = next(iter(asked()), None)
        newest = next(iter(tx.rows(NEWEST, (run_id,))), None) if first else None
        return Journey(home=first[0], at=newest[1]) if first and newest else None

    return journey
