"""After a restore: sites in quarantine, and jobs found there under keys that no attempt has."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, literal_column, or_, select

from broker.states import RunState, StageState
from broker.store import chain, wake
from broker.store.base import NewEvent, OpenStage, StrayRow
from broker.store.connect import Database, Tx
from broker.store.schema import attempt, effect, run, site, stage, stray
from broker.store.statement import Lookup, Statement, given, given_time, upsert

PAGE = 200
"""Runs read at a time."""
WANTING = 10_000
"""More runs than that do not wait for a site at once; the others ask again by themselves."""


def _insert(dialect: str) -> Any:
    new = upsert(dialect, stray).values({name: given(name) for name in StrayRow._fields})
    return new.on_conflict_do_nothing(index_elements=[stray.c.key])


INSERT_STRAY = Statement(_insert, *StrayRow._fields)
ATTEMPT_KEYS = Lookup(lambda keys: select(attempt.c.submit_key).where(attempt.c.submit_key.in_(keys)))
STRAY_KEYS = Lookup(lambda keys: select(stray.c.key).where(stray.c.key.in_(keys)))
STRAYS = Statement(select(stray).order_by(stray.c.site, stray.c.found_at, stray.c.key))
OPEN_STRAYS = Statement(
    select(stray).where(stray.c.site == given("site"), stray.c.done_at.is_(None)).order_by(stray.c.key), "site"
)
FINISH_STRAY = Statement(
    stray.update()
    .values(done_at=given("now"), outcome=given("outcome"))
    .where(stray.c.key == given("key"), stray.c.done_at.is_(None)),
    "key",
    "outcome",
    "now",
)
STRAYS_OF = Lookup(
    lambda numbers: (
        select(stray)
        .where(
            stray.c.run_id == given("run_id"),
            stray.c.n.in_(numbers),
            stray.c.fate == literal_column("'adopt'"),
            stray.c.done_at.is_(None),
            ~exists().where(attempt.c.submit_key == stray.c.key),
        )
        .order_by(stray.c.n, stray.c.number, stray.c.key)
    ),
    "run_id",
)
LIFT = Statement(
    site.update()
    .values(quarantined=0, ver=site.c.ver + literal_column("1"))
    .where(site.c.site == given("site"), site.c.quarantined != 0),
    "site",
)
HELD_EFFECTS = Statement(
    select(effect.c.run_id, effect.c.n).where(
        effect.c.site == given("site"), effect.c.state == literal_column("'pending'"), effect.c.due_at >= 0
    ),
    "site",
)
WAITING = Statement(
    select(stage.c.run_id, stage.c.n).where(
        stage.c.state == literal_column("'READY'"),
        stage.c.due_at > given_time("now"),
        or_(stage.c.not_before.is_(None), stage.c.not_before <= given_time("now")),
    ),
    "now",
)
EFFECTS_DUE = Statement(
    effect.update()
    .values(due_at=given_time("now"))
    .where(
        effect.c.site == given("site"),
        effect.c.state == literal_column("'pending'"),
        effect.c.claim == literal_column("''"),
        effect.c.due_at > given_time("now"),
    ),
    "site",
    "now",
)


def unknown_keys(tx: Tx, keys: Collection[str]) -> set[str]:
    """Those that belong to no attempt, and are not among the strays already."""
    wanted = sorted(set(keys))
    known = {key for (key,) in tx.rows_of(ATTEMPT_KEYS, (), wanted)}
    known.update(key for (key,) in tx.rows_of(STRAY_KEYS, (), wanted))
    return set(wanted) - known


def add(tx: Tx, rows: Sequence[StrayRow], *, now: int) -> None:
    """Keep what was found; told once in the site's stream, however many find it."""
    known = {key for (key,) in tx.rows_of(STRAY_KEYS, (), [row.key for row in rows])}
    new = sorted(row for row in rows if row.key not in known)
    tx.many(INSERT_STRAY, new)
    for name in sorted({row.site for row in new}):
        chain.append(tx, f"site:{name}", [_told(row) for row in new if row.site == name], at=now)


def _told(row: StrayRow) -> NewEvent:
    data: dict[str, object] = {"key": row.key, "native_id": row.native_id, "state": row.state, "fate": row.fate}
    if row.run_id:
        data |= {"run": row.run_id, "stage": row.n, "number": row.number}
    return NewEvent(kind="stray", actor="reconcile", data=json.dumps(data, separators=(",", ":")))


def strays(tx: Tx, open_at: str) -> Sequence[StrayRow]:
    """Those still to be dealt with at a site; empty name: all that were ever found, anywhere."""
    rows = tx.rows(OPEN_STRAYS, (open_at,)) if open_at else tx.rows(STRAYS)
    return [StrayRow._make(row) for row in rows]


def finish(tx: Tx, outcomes: Sequence[tuple[str, str]], *, now: int) -> None:
    """(key, what became of it)"""
    tx.many(FINISH_STRAY, [(key, outcome, now) for key, outcome in sorted(outcomes)])


def adoptable(tx: Tx, run_id: str, stages: Collection[int]) -> Mapping[int, StrayRow]:
    """For each of these stages the earliest attempt of the lost hours that nobody has taken up."""
    found: dict[int, StrayRow] = {}
    for row in map(StrayRow._make, tx.rows_of(STRAYS_OF, (run_id,), sorted(stages))):
        found.setdefault(row.n, row)
    return found


def lift(tx: Tx, name: str, told: NewEvent, *, now: int) -> bool:
    """End a site's quarantine, tell of it, and wake what waited; False: it was in none."""
    held = [(run_id, n) for run_id, n in tx.rows(HELD_EFFECTS, (name,))]
    waiting = [(run_id, n) for run_id, n in tx.rows(WAITING, (now,))]
    wake.hint(tx, [*held, *waiting, *wake.stages_at_site(tx, name)], now=now)
    wake.wake_ready(tx, WANTING, now=now)
    tx.run(EFFECTS_DUE, (name, now))
    if not tx.run(LIFT, (name,)):
        return False
    chain.append(tx, f"site:{name}", [told], at=now)
    return True


# -- stages that may have begun another attempt in the lost hours ----------------------------------------------


_OVER: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in RunState if state.final]
_SETTLED: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in StageState if state.final]
UNFINISHED_RUNS = Statement(
    select(run.c.run_id)
    .where(and_(run.c.run_id > given("after"), run.c.state.not_in(_OVER)))
    .order_by(run.c.run_id)
    .limit(given("limit")),
    "after",
    "limit",
)
_NEWEST = case((stage.c.begun > stage.c.attempt, stage.c.begun), else_=stage.c.attempt)
OPEN_STAGES = Statement(
    select(stage.c.run_id, stage.c.n, stage.c.path, _NEWEST, stage.c.digest)
    .where(stage.c.run_id == given("run_id"), stage.c.state.not_in(_SETTLED))
    .order_by(stage.c.n),
    "run_id",
)


def open_stages(database: Database) -> Iterator[OpenStage]:
    """All stages that are not over, of all runs that are not; a few runs in memory at a time."""
    after = ""
    while True:
        with database.reading() as tx:
            runs = [run_id for (run_id,) in tx.rows(UNFINISHED_RUNS, (after, PAGE))]
        if not runs:
            return
        for run_id in runs:
            with database.reading() as tx:
                rows = tx.rows(OPEN_STAGES, (run_id,))
            yield from map(OpenStage._make, rows)
        after = runs[-1]
