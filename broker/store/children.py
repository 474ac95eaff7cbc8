"""What the end of a stage, or its reopening, does to the stages that need it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import case, or_, select

from broker.store.base import Changes
from broker.store.connect import Tx
from broker.store.schema import stage, stage_dep
from broker.store.statement import Lookup, Statement, given, given_count, given_time

CHILDREN = Lookup(
    lambda parents: select(stage_dep.c.parent, stage_dep.c.child, stage_dep.c.inputs).where(
        stage_dep.c.run_id == given("run_id"), stage_dep.c.parent.in_(parents)
    ),
    "run_id",
)

_HINT = case(
    (or_(stage.c.due_at.is_(None), stage.c.due_at > given_time("now")), given_time("now")), else_=stage.c.due_at
)
UPDATE_CHILD = Statement(
    stage.update()
    .values(
        unmet=stage.c.unmet + given("unmet"),
        doomed=stage.c.doomed + given("doomed"),
        due_at=case(
            (
                or_(
                    given_count("always") == 1,
                    stage.c.unmet + given("unmet") <= 0,
                    stage.c.doomed + given("doomed") > 0,
                ),
                _HINT,
            ),
            else_=stage.c.due_at,
        ),
    )
    .where(stage.c.run_id == given("run_id"), stage.c.n == given("n")),
    "unmet",
    "doomed",
    "always",
    "run_id",
    "n",
    "now",
    key=("run_id", "n"),
)


def changes_of_children(
    tx: Tx, run_id: str, changes: Changes, *, now: int
) -> list[tuple[int, int, int, str, int, int]]:
    """Rows for UPDATE_CHILD, one for each child however many of its needs are concerned."""
    settled, reopened = dict(changes.settled), dict(changes.reopened)
    if not settled and not reopened:
        return []
    unmet: dict[int, int] = {}
    doomed: dict[int, int] = {}
    always: dict[int, int] = {}
    for how_of, sign in ((settled, 1), (reopened, -1)):
        for parent, child, inputs in tx.rows_of(CHILDREN, (run_id,), list(how_of)):
            meets = _meets(how_of, parent, inputs)
            unmet[child] = unmet.get(child, 0) - (sign if meets else 0)
            doomed[child] = doomed.get(child, 0) + (0 if meets else sign)
            always[child] = always.get(child, 0) or int(sign < 0)
    return [(unmet[child], doomed[child], always[child], run_id, child, now) for child in sorted(unmet)]


def _meets(how_of: Mapping[int, str], parent: int, inputs: int) -> bool:
    """Does the way in which the parent settled give this child what it needs?"""
    how = how_of[parent]
    return how == "ok" or (how == "waived" and not inputs)
