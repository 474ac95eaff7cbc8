"""Hints: what is due, whose turn it is, and leases. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    and_,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
)

from broker.clock import micros
from broker.states import StageState
from broker.store.base import Lease
from broker.store.connect import Tx
from broker.store.schema import attempt, deadline, effect, run, stage
from broker.store.statement import Lookup, Statement, given, given_time, lease_now
from broker.store.transaction import Answer

HINT_RUN = Statement(
    run.update()
    .values(due_at=given_time("at"))
    .where(run.c.run_id == given("run_id"), or_(run.c.due_at.is_(None), run.c.due_at > given_time("at"))),
    "run_id",
    "at",
    key=("run_id",),
)
HINT_STAGE = Statement(
    stage.update()
    .values(due_at=given_time("at"))
    .where(
        stage.c.run_id == given("run_id"),
        stage.c.n == given("n"),
        or_(stage.c.due_at.is_(None), stage.c.due_at > given_time("at")),
    ),
    "run_id",
    "n",
    "at",
    key=("run_id", "n"),
)


HOLD_RUNS = Lookup(
    lambda runs: select(run.c.run_id).where(run.c.run_id.in_(runs)).order_by(run.c.run_id).with_for_update()
)


def hold(tx: Tx, runs: Iterable[str]) -> None:
    """Hold these runs' rows until the end, and with them the right to write to all rows of theirs: see `recording`."""
    if tx.holds_rows:
        tx.ask_of(HOLD_RUNS, (), sorted(set(runs)))


def hint(tx: Tx, stages: Iterable[tuple[str, int]], *, now: int, held: bool = False) -> None:
    """Make stages, and the runs they belong to, due. `held`: the runs are."""
    wanted = sorted(set(stages))
    runs = {run_id for run_id, _ in wanted}
    if not held:
        hold(tx, runs)  # also those that are due already, which the next statement leaves alone
    hint_runs(tx, runs, now=now)
    tx.put(HINT_STAGE, [(run_id, n, now) for run_id, n in wanted])


def hint_runs(tx: Tx, runs: Iterable[str], *, now: int) -> None:
    tx.put(HINT_RUN, [(run_id, now) for run_id in sorted(runs)])


# -- leases ------------------------------------------------------------------------------------------------

LEASE = Statement(
    select(run.c.lease_owner, run.c.lease_token, run.c.lease_until, lease_now())
    .where(run.c.run_id == given("run_id"))
    .with_for_update(),
    "run_id",
)
TAKE = Statement(
    # the wake-up has arrived: the next one need not wait until this one would be sent again
    run.update()
    .values(
        lease_owner=given("owner"),
        lease_token=given("token"),
        lease_until=lease_now() + given_time("ttl"),
        wake_sent_at=null(),
    )
    .where(run.c.run_id == given("run_id")),
    "run_id",
    "owner",
    "token",
    "ttl",
)


def acquire(tx: Tx, run_id: str, *, owner: str, ttl: float) -> Lease | None:
    found = tx.row(LEASE, (run_id,))
    if found is None:
        return None
    holder, token, until, now = found
    if holder not in (None, owner) and until > now:
        return None
    tx.put(TAKE, [(run_id, owner, token + 1, micros(ttl))])
    return Lease(run_id=run_id, token=token + 1, owner=owner)


def _least_hint() -> ScalarSelect[int]:
    """The least of what is given and of the hints of the run's stages, effects and deadlines: looks into indexes."""
    wanted = select(cast(given_time("due_at"), BigInteger).label("at"))
    of_stages = select(func.min(stage.c.due_at)).where(stage.c.run_id == given("run_id"))
    of_effects = select(func.min(effect.c.due_at)).where(effect.c.run_id == given("run_id"))
    of_deadlines = select(func.min(deadline.c.due_at)).where(deadline.c.run_id == given("run_id"))
    hints = union_all(wanted, of_stages, of_effects, of_deadlines).subquery("hints")
    return select(func.min(hints.c.at)).scalar_subquery()


# The row is locked by LEASE first: a hint that another transaction writes meanwhile is then either seen here or
# set after this.
GIVE_BACK = Statement(
    run.update()
    .values(lease_owner=null(), lease_until=null(), due_at=_least_hint())
    .where(run.c.run_id == given("run_id")),
    "run_id",
    "due_at",
)


def release(tx: Tx, lease: Lease, *, due_at: int | None) -> bool:
    found = tx.row(LEASE, (lease.run_id,))
    if found is None or found[:2] != (lease.owner, lease.token):
        return False
    tx.put(GIVE_BACK, [(lease.run_id, due_at)])
    return True


HOLDERS = Statement(select(run.c.lease_owner).where(run.c.lease_owner.is_not(None)).distinct())
CLAIMANTS = Statement(select(effect.c.claim).where(effect.c.due_at >= 0, effect.c.claim != "").distinct())
LEASED_BY = Lookup(lambda owners: select(run.c.run_id).where(run.c.lease_owner.in_(owners)))
CLAIMED_BY = Lookup(
    lambda owners: select(effect.c.key, effect.c.run_id).where(effect.c.due_at >= 0, effect.c.claim.in_(owners))
)
BREAK_LEASE = Statement(
    run.update().values(lease_owner=null(), lease_until=null()).where(run.c.run_id == given("run_id")), "run_id"
)
FREE_CLAIM = Statement(
    effect.update().values(claim="", claim_until=null(), due_at=given_time("at")).where(effect.c.key == given("key")),
    "key",
    "at",
)


def break_leases(tx: Tx, is_dead: Callable[[str], bool], *, now: int) -> int:
    holders = {name for statement in (HOLDERS, CLAIMANTS) for (name,) in tx.rows(statement)}
    dead = sorted(name for name in holders if is_dead(name))
    runs = sorted({run_id for (run_id,) in tx.rows_of(LEASED_BY, (), dead)})
    effects = sorted({(key, run_id) for key, run_id in tx.rows_of(CLAIMED_BY, (), dead)})
    concerned = {*runs, *(run_id for _, run_id in effects)}
    hold(tx, concerned)
    tx.put(BREAK_LEASE, [(run_id,) for run_id in runs])
    hint_runs(tx, concerned, now=now)
    tx.put(FREE_CLAIM, [(key, now) for key, _ in effects])
    return len(runs) + len(effects)


# -- what is due -------------------------------------------------------------------------------------------

_FREE = or_(run.c.lease_owner.is_(None), run.c.lease_until <= lease_now())
DUE_RUNS = Statement(
    select(run.c.run_id, run.c.wants, run.c.deadline_at)
    .where(
        run.c.due_at <= given_time("now"),
        _FREE,
        or_(run.c.wake_sent_at.is_(None), run.c.wake_sent_at <= given_time("before")),
    )
    .order_by(run.c.due_at, run.c.run_id)
    .limit(given("limit"))
    .with_for_update(skip_locked=True),
    "now",
    "before",
    "limit",
)
MARK_SENT = Statement(
    run.update().values(wake_sent_at=given_time("now")).where(run.c.run_id == given("run_id")),
    "run_id",
    "now",
    key=("run_id",),
)


def due_runs(tx: Tx, *, now: int, limit: int, resend_after: float) -> Sequence[str]:
    rows = tx.rows(DUE_RUNS, (now, now - micros(resend_after), limit))
    found = [run_id for run_id, *_ in sorted(rows, key=_urgency)]
    tx.put(MARK_SENT, [(run_id, now) for run_id in found])
    return found


def _urgency(row: tuple[str, int, int | None]) -> tuple[bool, int]:
    """Of runs that want room, those with a near deadline look first; the others keep their order. Done here, since the
    database would sort all that is due before it takes the first."""
    _, wants, deadline_at = row
    urgent = bool(wants) and deadline_at is not None
    return not urgent, deadline_at if urgent and deadline_at is not None else 0


# `>= 0` rather than IS NOT NULL: SQLite looks into an index for the former only. A leased run is not due before
# its lease lapses, so that a sweeper which sleeps until then does not spin beside a worker that is at it.
NEXT_RUN = Statement(
    select(
        func.min(
            case(
                (and_(run.c.lease_owner.is_not(None), run.c.lease_until > run.c.due_at), run.c.lease_until),
                else_=run.c.due_at,
            )
        )
    ).where(run.c.due_at >= 0)
)
NEXT_EFFECT = Statement(select(func.min(effect.c.due_at)))


def next_due(tx: Tx) -> int | None:
    times = [at for statement in (NEXT_RUN, NEXT_EFFECT) for at in tx.row(statement) if at is not None]
    return min(times, default=None)


# -- waking many -------------------------------------------------------------------------------------------

_LIVE = [str(state) for state in StageState if not state.final]
WAKE_RUN_STAGES = Statement(
    stage.update()
    .values(due_at=given_time("now"))
    .where(stage.c.run_id == given("run_id"), stage.c.state.in_([literal_column(f"'{state}'") for state in _LIVE])),
    "run_id",
    "now",
)
# Other runs' rows, inside of a decision that holds its own: so none is waited for. One that is held elsewhere is being
# looked at: by a decision that has not counted the places yet, since those take turns (`look.World`) and it is ours,
# or for a moment by something else; then it asks again by itself, as runs that lack room do (`broker.drain`).
WANTING_RUNS = Statement(
    select(run.c.run_id)
    .where(run.c.wants == 1)
    # the nearest deadline first, then who waits longest
    .order_by(run.c.deadline_at.is_(None), run.c.deadline_at, run.c.created_at, run.c.run_id)
    .limit(given("limit"))
    .with_for_update(skip_locked=True),
    "limit",
)


def _waits_for_room() -> ColumnElement[bool]:
    return and_(
        stage.c.run_id == given("run_id"),
        stage.c.state == literal_column("'READY'"),
        stage.c.due_at > given_time("now"),
        or_(stage.c.not_before.is_(None), stage.c.not_before <= given_time("now")),
    )


WAITING_STAGES = Statement(
    select(stage.c.n).where(_waits_for_room()).order_by(stage.c.due_at, stage.c.n).limit(given("limit")),
    "run_id",
    "now",
    "limit",
)
AT_SITE = Statement(
    select(attempt.c.run_id, attempt.c.n).where(attempt.c.open == 1, attempt.c.site == given("site")), "site"
)


def wake_ready(tx: Tx, places: int, *, now: int) -> None:
    """So many places came free: the oldest runs that want one look again, each takes what it finds.

    Their queued stages have no time (`due_at` null) and are found by the snapshot; those that wait with a time
    get it set to now.
    """
    runs = [run_id for (run_id,) in tx.rows(WANTING_RUNS, (places,))]
    asked = [(run_id, tx.ask(WAITING_STAGES, (run_id, now, places))) for run_id in runs]
    left, stages = places, []
    for run_id, waiting in asked:
        found = waiting()[:left] if left else ()
        stages += [(run_id, n, now) for (n,) in found]
        left -= len(found)
    hint_runs(tx, runs, now=now)
    tx.put(HINT_STAGE, stages)


def stages_at_site(tx: Tx, site: str) -> Collection[tuple[str, int]]:
    """Stages with an open attempt there."""
    return [(run_id, n) for run_id, n in asked_at_site(tx, site)()]


def asked_at_site(tx: Tx, site: str) -> Answer:
    """The same, to be answered later."""
    return tx.ask(AT_SITE, (site,))
