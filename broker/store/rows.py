"""What a decision may write of each row, and the statements that do it. Rows are given whole."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, literal_column, null, or_

from broker.store.base import AttemptRow, CheckpointRow, StageRow
from broker.store.schema import attempt, checkpoint, command, effect, product, run, stage, stage_dep
from broker.store.statement import Statement, given, given_count, given_time, insert_row, lease_now

FIXED_IN_STAGES = {"run_id", "n", "path", "rules", "body", "digest"}
KEPT_IN_STAGES = {"ver", "unmet", "doomed"}
FIXED_IN_ATTEMPTS = {"run_id", "n", "number", "site", "submit_key", "created_at"}
SEEN_IN_ATTEMPTS = {"native_id", "staged", "answer", "job", "started", "exit", "verified", "dead", "seen_at"}

DECIDED_OF_STAGE = [name for name in StageRow._fields if name not in FIXED_IN_STAGES | KEPT_IN_STAGES]
DECIDED_OF_ATTEMPT = [name for name in AttemptRow._fields if name not in FIXED_IN_ATTEMPTS | SEEN_IN_ATTEMPTS | {"ver"}]

_ONE: ColumnElement[int] = literal_column("1")
COUNTERS = ("stages", "unsettled", "failed", "open_attempts", "commands")
GUARD = ("run_id", "token", "owner")
_RUN_DELTAS = {
    "ver": run.c.ver + _ONE,
    **{name: run.c[name] + given_count(name) for name in COUNTERS},
    "lease_until": lease_now() + given_time("ttl"),
    "due_at": case(
        (or_(run.c.due_at.is_(None), run.c.due_at > given_time("hint")), given_time("hint")), else_=run.c.due_at
    ),
}
RUN_DECIDED = ("state", "reason", "ended_at", "held", "wants", "cancel_requested_at", "in_line")
_LEASED = and_(
    run.c.run_id == given("run_id"), run.c.lease_token == given("token"), run.c.lease_owner == given("owner")
)
TOUCH_RUN = Statement(
    run.update().values(_RUN_DELTAS).where(_LEASED),
    *(*GUARD, *COUNTERS, "ttl", "hint"),
    key=GUARD,
)
UPDATE_RUN = Statement(
    run.update().values({**_RUN_DELTAS, **{name: given(name) for name in RUN_DECIDED}}).where(_LEASED),
    *(*GUARD, *COUNTERS, "ttl", "hint", *RUN_DECIDED),
    key=GUARD,
)
UPDATE_STAGE = Statement(
    stage.update()
    .values({**{name: given(name) for name in DECIDED_OF_STAGE}, "ver": stage.c.ver + _ONE})
    .where(stage.c.run_id == given("run_id"), stage.c.n == given("n"), stage.c.ver == given("ver")),
    *StageRow._fields,
    key=("run_id", "n"),
)
UPDATE_ATTEMPT = Statement(
    attempt.update()
    .values({**{name: given(name) for name in DECIDED_OF_ATTEMPT}, "ver": attempt.c.ver + _ONE})
    .where(
        attempt.c.run_id == given("run_id"),
        attempt.c.n == given("n"),
        attempt.c.number == given("number"),
        attempt.c.ver == given("ver"),
    ),
    *AttemptRow._fields,
    key=("run_id", "n", "number"),
)
DROP_EFFECT = Statement(
    effect.update()
    .values(state="dropped", due_at=null(), done_at=given("now"))
    .where(effect.c.key == given("key"), effect.c.state == "pending", effect.c.claim == ""),
    "key",
    "now",
    key=("key",),
)
_COURSE = ("seen", "checking", "verified", "shipped", "gone", "suspect", "bad")


def rank_of_checkpoint(state: ColumnElement[str]) -> ColumnElement[int]:
    """How far a checkpoint's state is on its way, which goes one way only."""
    whens: list[tuple[ColumnElement[bool], ColumnElement[int]]] = [
        (state == literal_column(f"'{word}'"), literal_column(str(rank))) for rank, word in enumerate(_COURSE)
    ]
    return case(*whens, else_=literal_column("-1"))


def further(
    state: ColumnElement[str], reason: ColumnElement[str], old_state: ColumnElement[str], old_reason: ColumnElement[str]
) -> ColumnElement[bool]:
    """Is that a step on? A state that is further on, or a first reason for the one that it has."""
    new, old = rank_of_checkpoint(state), rank_of_checkpoint(old_state)
    return or_(new > old, and_(new == old, old_reason == literal_column("''"), reason != literal_column("''")))


JUDGE_CHECKPOINT = Statement(
    # a check may have been recorded since the decision looked: its word is not taken back
    checkpoint.update()
    .values(state=given("state"), reason=given("reason"))
    .where(
        *(column == given(column.name) for column in checkpoint.primary_key),
        further(given("state"), given("reason"), checkpoint.c.state, checkpoint.c.reason),
    ),
    *CheckpointRow._fields,
)
FINISH_COMMAND = Statement(
    command.update()
    .values(done_at=given("now"), outcome=given("outcome"))
    .where(command.c.id == given("id"), command.c.run_id == given("run_id"), command.c.done_at.is_(None)),
    "id",
    "outcome",
    "run_id",
    "now",
    key=("id",),
)
INSERT_STAGE = insert_row(stage)
INSERT_DEP = insert_row(stage_dep)
INSERT_ATTEMPT = insert_row(attempt)
INSERT_EFFECT = insert_row(effect)
INSERT_PRODUCT = insert_row(product)
