"""Writing down what was seen outside: facts of attempts, checkpoints, effects' ends, logs, sites, evidence.

On a server with row locks, everywhere in the store: whoever writes to rows of runs (stages, attempts, checkpoints,
effects, commands) holds the rows of these runs first, all of them at once and in the order of their ids; then, if at
all, a site's row; then streams. So transactions wait for each other, and never in a ring. What is read after the runs
are held stays true until the commit, although the isolation is READ COMMITTED: nobody else may write there. There are
two exceptions, and neither of them waits for anything: effects are claimed without their run (rows that are held are
skipped), and a decision hints at other runs that it can have at once (`wake.wake_ready`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, case, delete, exists, func, literal_column, null, or_, select

from broker.clock import micros
from broker.states import ENDS_WITH_ATTEMPT
from broker.store import chain, wake
from broker.store.base import (
    AttemptSeen,
    CopySeen,
    EffectAgain,
    EffectDone,
    EffectRow,
    EvidenceRow,
    NewEvent,
    Sightings,
    SiteRow,
)
from broker.store.connect import Tx
from broker.store.rows import SEEN_IN_ATTEMPTS, further
from broker.store.schema import attempt, checkpoint, effect, evidence, log_tail, replica, site
from broker.store.statement import Lookup, Statement, given, given_for, given_time, lease_now, upsert

# -- effects -----------------------------------------------------------------------------------------------

RUNS_OF_EFFECTS = Lookup(lambda keys: select(effect.c.run_id).where(effect.c.key.in_(keys)).distinct())
# held: between this and the commit nobody claims one whose claim has just lapsed
EFFECTS = Lookup(
    lambda keys: (
        select(effect.c.key, effect.c.run_id, effect.c.n, effect.c.state, effect.c.claim, effect.c.tries)
        .where(effect.c.key.in_(keys))
        .order_by(effect.c.key)
        .with_for_update()
    )
)
_MINE = and_(effect.c.key == given("key"), effect.c.claim == given("claim"), effect.c.state == "pending")
EFFECT_DONE = Statement(
    effect.update()
    .values(state="done", due_at=null(), done_at=given("now"), outcome=given("outcome"), claim="", claim_until=null())
    .where(_MINE),
    "key",
    "claim",
    "outcome",
    "now",
    key=("key",),
)
# a decision that closes an attempt drops what nobody is at; what was being performed meanwhile is dropped here
_UNWANTED = and_(
    effect.c.kind.in_([literal_column(f"'{kind}'") for kind in ENDS_WITH_ATTEMPT]),
    exists().where(
        attempt.c.run_id == effect.c.run_id,
        attempt.c.n == effect.c.n,
        attempt.c.number == effect.c.attempt,
        attempt.c.open == literal_column("0"),
    ),
)
EFFECT_AGAIN = Statement(
    effect.update()
    .values(
        state=case((_UNWANTED, literal_column("'dropped'")), else_=literal_column("'pending'")),
        due_at=case((_UNWANTED, null()), else_=given_time("due_at")),
        done_at=case((_UNWANTED, given_time("now")), else_=null()),
        note=given("note"),
        claim="",
        claim_until=null(),
    )
    .where(_MINE),
    "key",
    "claim",
    "due_at",
    "note",
    "now",
    key=("key",),
)


# one that somebody is at finds out by itself
WAKE_EFFECT = Statement(
    effect.update()
    .values(due_at=given_time("now"))
    .where(effect.c.key == given("key"), effect.c.state == literal_column("'pending'"), effect.c.claim == ""),
    "key",
    "now",
    key=("key",),
)


def _due_effects(*, of_run: bool, at_site: bool) -> Statement:
    wanted = [
        effect.c.due_at <= given_time("now"),
        effect.c.state == "pending",
        or_(effect.c.claim == "", effect.c.claim_until <= lease_now()),
    ]
    if of_run:
        wanted.append(effect.c.run_id == given("run_id"))
    if at_site:
        wanted.append(effect.c.site == given("site"))
    found = select(effect, lease_now()).where(*wanted).order_by(effect.c.due_at, effect.c.key).limit(given("limit"))
    return Statement(found.with_for_update(skip_locked=True), "now", "limit", "run_id", "site")


DUE_EFFECTS = {
    (of_run, at_site): _due_effects(of_run=of_run, at_site=at_site)
    for of_run in (False, True)
    for at_site in (False, True)
}
CLAIM = Statement(
    effect.update()
    .values(claim=given("claim"), claim_until=given("until"), due_at=given("until"), tries=given("tries"))
    .where(effect.c.key == given("key")),
    "key",
    "claim",
    "until",
    "tries",
    key=("key",),
)


STANDING = Lookup(lambda keys: select(effect).where(effect.c.key.in_(keys)))


def claim_effects(
    tx: Tx,
    *,
    claim: str,
    ttl: float,
    now: int,
    limit: int,
    run_id: str | None,
    site_name: str | None,
    before: Sequence[EffectRow] = (),
) -> Sequence[EffectRow]:
    """`before`: claimed by a transaction of which it is unknown whether it was kept. If it was, these are it."""
    standing = map(EffectRow._make, tx.rows_of(STANDING, (), [row.key for row in before]))
    if kept := set(standing) & set(before):
        return [row for row in before if row in kept]
    statement = DUE_EFFECTS[run_id is not None, site_name is not None]
    claimed = []
    for *values, time in tx.rows(statement, (now, limit, run_id, site_name)):
        row, until = EffectRow._make(values), time + micros(ttl)
        claimed.append(row._replace(claim=claim, claim_until=until, due_at=until, tries=row.tries + 1))
    tx.put(CLAIM, [(row.key, row.claim, row.claim_until, row.tries) for row in claimed])
    return claimed


# -- attempts ----------------------------------------------------------------------------------------------


def _seen(columns: Collection[str]) -> Statement:
    """Facts with the time of the look (`seen_at`) replace older ones; a look older than the newest one only fills
    what is still empty. Facts without it (the answer to an effect) are always written."""
    newer = or_(attempt.c.seen_at.is_(None), attempt.c.seen_at <= given_time("seen_at"))
    values: dict[str, ColumnElement[Any]] = {}
    for name in columns:
        column = attempt.c[name]
        if "seen_at" not in columns:
            values[name] = given(name)
        elif name == "seen_at":
            values[name] = case((newer, given_time(name)), else_=column)
        else:
            values[name] = case((or_(newer, column == ""), given_for(column)), else_=column)
    row = and_(*(column == given(column.name) for column in attempt.primary_key))
    key = ("run_id", "n", "number")
    return Statement(attempt.update().values(values).where(row), *key, *columns, key=key)


_SEEN: dict[tuple[str, ...], Statement] = {}


def _record_attempts(tx: Tx, seen: Iterable[AttemptSeen]) -> None:
    groups: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for one in seen:
        columns = tuple(sorted(one.facts))
        row = (one.run_id, one.n, one.number, *(one.facts[name] for name in columns))
        groups.setdefault(columns, []).append(row)
    for columns, rows in sorted(groups.items()):
        if columns:
            # what two looks saw alike is written once
            tx.put(_statement_for(columns), sorted(dict.fromkeys(rows), key=lambda row: row[:3]))


def _statement_for(columns: tuple[str, ...]) -> Statement:
    found = _SEEN.get(columns)
    if found is None:
        if foreign := set(columns) - SEEN_IN_ATTEMPTS:
            raise ValueError(f"an attempt's {min(foreign)} is decided, not seen")
        found = _SEEN[columns] = _seen(columns)
    return found


# -- checkpoints, logs, sites, evidence ------------------------------------------------------------------------


def _upsert(table: Table, moved: Collection[str], *, unless_behind: str = "") -> Statement:
    """Insert whole rows; where one is there, replace the `moved` columns (evidence, checkpoints: not backwards)."""
    names = tuple(column.name for column in table.columns)

    def build(dialect: str) -> Any:
        new = upsert(dialect, table)
        held = None
        if unless_behind == "state":
            held = further(new.excluded.state, new.excluded.reason, table.c.state, table.c.reason)
        elif unless_behind == "ok":
            held = new.excluded.ok < table.c.ok
        to = {name: new.excluded[name] for name in moved}
        if "verified_at" in to:  # what was verified once was so then, whatever became of it
            to["verified_at"] = func.coalesce(table.c.verified_at, to["verified_at"])
        return new.values({name: given(name) for name in names}).on_conflict_do_update(
            index_elements=list(table.primary_key), set_=to, where=held
        )

    return Statement(build, *names)


SAVE_CHECKPOINT = _upsert(checkpoint, ("state", "manifest", "bytes", "verified_at", "reason"), unless_behind="state")
SAVE_LOG = _upsert(log_tail, ("tail", "size", "read_at"))
# with a clock that stands still, two looks may share an instant: the failure is the one to keep
SAVE_EVIDENCE = _upsert(
    evidence, ("ok", "latency_us", "detail", "source", "word", "subject", "until"), unless_behind="ok"
)
_LONGEST = 2**31 - 1
"""µs: what the column holds on a server. Nobody judges by more than half an hour."""
_SITE_SEEN = ("last_ok_at", "cannot_ask_since", "probes", "detail")
SAVE_SITE = Statement(
    site.update()
    .values({**{name: given(name) for name in _SITE_SEEN}, "ver": site.c.ver + literal_column("1")})
    .where(site.c.site == given("site"), site.c.ver == given("ver")),
    *SiteRow._fields,
)


COPY_SEEN = Statement(
    replica.update()
    .values(state=given("state"), reason=given("reason"))
    .where(replica.c.side == given("side"), replica.c.path == given("path")),
    *CopySeen._fields,
)


def record(tx: Tx, seen: Sightings, *, now: int) -> Collection[str]:
    """Write what was seen, make stages and runs due; the ids of the runs."""
    ends: list[EffectDone | EffectAgain] = [*seen.effects_done, *seen.effects_again]
    stages = _stages_concerned(tx, seen)
    asked = dict.fromkeys([*(one.key for one in ends), *seen.wake_effects])
    effects = {key: rest for key, *rest in tx.rows_of(EFFECTS, (), list(asked))}
    ours = {one.key for one in ends if one.key in effects and _is_ours(one, *effects[one.key][2:])}
    stages |= {(run_id, n) for run_id, n, *_ in effects.values()}
    wake.hint(tx, stages, now=now, held=True)
    _record_attempts(tx, [one for one in seen.attempts if not one.effect or one.effect in ours])
    tx.put(SAVE_CHECKPOINT, sorted(seen.checkpoints, key=lambda row: row[:6]))
    done = [(one.key, one.claim, one.outcome, now) for one in seen.effects_done if one.key in ours]
    again = [(one.key, one.claim, one.due_at, one.note, now) for one in seen.effects_again if one.key in ours]
    tx.put(EFFECT_DONE, sorted(done))
    tx.put(EFFECT_AGAIN, sorted(again))
    tx.put(WAKE_EFFECT, [(key, now) for key in sorted(set(seen.wake_effects))])
    tx.put(SAVE_LOG, seen.logs)
    overtaken = {f"site:{row.site}" for row in sorted(seen.sites) if not tx.run(SAVE_SITE, row)}
    tx.put(COPY_SEEN, sorted(set(seen.copies)))
    save_evidence(tx, seen.evidence)
    for stream, events in _by_stream(seen.events).items():
        if stream not in overtaken:  # else another look has told of that site since this one began
            chain.append(tx, stream, events, at=now)
    return {run_id for run_id, _ in stages}


FORGET_EVIDENCE = Statement(delete(evidence).where(evidence.c.at < given_time("before")), "before")


def forget_evidence(tx: Tx, before: int) -> int:
    return tx.run(FORGET_EVIDENCE, (before,))


def save_evidence(tx: Tx, rows: Iterable[EvidenceRow]) -> None:
    """Add rows of evidence."""
    tx.put(SAVE_EVIDENCE, [(*one[:3], int(one.ok), min(one.latency_us, _LONGEST), *one[5:]) for one in rows])


def _is_ours(one: EffectDone | EffectAgain, state: str, claim: str, tries: int) -> bool:
    """Is the claim under which this was done still the one that stands?"""
    return state == "pending" and claim == one.claim and one.tries in (None, tries)


def _stages_concerned(tx: Tx, seen: Sightings) -> set[tuple[str, int]]:
    """Those of the attempts, checkpoints and sites that were seen. Their runs, and those of the effects, are held."""
    at_sites = [wake.asked_at_site(tx, name) for name in seen.wake_sites]
    stages = {(one.run_id, one.n) for one in seen.attempts}
    stages.update((row.run_id, row.n) for row in seen.checkpoints)
    if tx.holds_rows:
        ended, tried = seen.effects_done, seen.effects_again
        keys = [*(one.key for one in ended), *(one.key for one in tried), *seen.wake_effects]
        of_effects = tx.ask_of(RUNS_OF_EFFECTS, (), keys)
        stages.update((run_id, n) for answer in at_sites for run_id, n in answer())
        wake.hold(tx, {run_id for run_id, _ in stages} | {run_id for (run_id,) in of_effects()})
    else:
        stages.update((run_id, n) for answer in at_sites for run_id, n in answer())
    return stages


def _by_stream(events: Iterable[tuple[str, NewEvent]]) -> Mapping[str, list[NewEvent]]:
    streams: dict[str, list[NewEvent]] = {}
    for stream, event in events:
        streams.setdefault(stream, []).append(event)
    return dict(sorted(streams.items()))
