"""Who looks at which site next, where several workers share the store: one at a time, whoever comes first."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, or_, select

from broker.store.connect import Tx
from broker.store.schema import effect, site
from broker.store.statement import Statement, given, given_time, lease_now

TAKE_LOOK = Statement(
    site.update()
    .values(next_poll_at=given_time("until"))
    .where(
        site.c.site == given("site"),
        or_(site.c.next_poll_at.is_(None), site.c.next_poll_at <= given_time("now")),
    ),
    "site",
    "now",
    "until",
)
HASTEN = Statement(
    site.update()
    .values(next_poll_at=given_time("at"))
    .where(site.c.site == given("site"), site.c.next_poll_at > given_time("at")),
    "site",
    "at",
)
WANTED = Statement(
    select(effect.c.site)
    .where(
        effect.c.due_at <= given_time("now"),
        effect.c.state == "pending",
        or_(effect.c.claim == "", and_(effect.c.claim != "", effect.c.claim_until <= lease_now())),
    )
    .distinct()
    .order_by(effect.c.site),
    "now",
)


def take_look(tx: Tx, name: str, *, now: int, until: int) -> bool:
    return tx.run(TAKE_LOOK, (name, now, until)) == 1


def hasten_look(tx: Tx, name: str, *, at: int) -> None:
    tx.run(HASTEN, (name, at))


def sites_wanted(tx: Tx, *, now: int) -> Sequence[str]:
    return [name for (name,) in tx.rows(WANTED, (now,))]
