"""Restoring a backup: all rows in one transaction, and with them everything that makes going on safe.

What happened since the backup was taken is not in it, and has happened all the same: jobs were submitted, stages have
ended. So the installation gets a new incarnation, under which every new submission has another key; nobody holds
anything any more; and every site is in quarantine until `broker.reconcile` knows its jobs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Table, case, cast, func, literal_column, null, or_, select, text

from broker.backup.reading import Opened
from broker.errors import RefusedByPolicy, UsageError
from broker.ids import random_bits
from broker.states import RunState
from broker.store import accepting, chain, waiving
from broker.store.base import Installation, NewEvent
from broker.store.connect import Database, Tx
from broker.store.schema import effect, event, installation, metadata, run, site, stage, waiver, worker
from broker.store.statement import Statement, given, given_time, insert_row, lease_now

ROWS = 1000
"""Rows in memory at a time."""
SIGN_OF_LIFE = 60_000_000
"""Microseconds for which a heartbeat says that somebody serves."""
LOCK_SECONDS = 10
"""How long to wait for others to leave the tables of a server."""
MOST_TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore led to."""

    digest: str
    installation: str
    old_incarnation: int
    incarnation: int
    counts: Mapping[str, int]
    """Rows by table."""
    due: int
    """Runs that are to be looked at now."""
    sites: Sequence[str]
    """In quarantine."""
    broken: Sequence[tuple[str, str]]


_TABLES = [table for table in metadata.sorted_tables if table is not worker]
_INSERT = {table.name: insert_row(table) for table in _TABLES}
_CLEAR = {table.name: Statement(table.delete()) for table in reversed(metadata.sorted_tables)}
_LOCK = Statement(text(f"LOCK TABLE {', '.join(sorted(metadata.tables))} IN ACCESS EXCLUSIVE MODE"))
_LOCK_TIMEOUT = Statement(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
ANY_RUN = Statement(select(run.c.run_id).limit(literal_column("1")))
ALIVE = Statement(
    select(worker.c.name).where(worker.c.seen_at > lease_now() - given_time("life")).order_by(worker.c.name), "life"
)

_OVER: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in RunState if state.final]
INCARNATION = Statement(installation.update().values(incarnation=given("incarnation")), "incarnation")
FREE_EFFECTS = Statement(
    effect.update()
    .values(claim="", claim_until=null(), due_at=given_time("now"))
    .where(effect.c.state == literal_column("'pending'")),
    "now",
)
# what was known of a submission when the backup was taken ("certainly nothing happened") may be wrong by now
DOUBT = Statement(
    effect.update()
    .values(note="")
    .where(effect.c.state == literal_column("'pending'"), effect.c.kind == literal_column("'submit'"))
)


def _least_hint() -> ColumnElement[int]:
    """The least of now and of the hints of the run's stages and effects."""
    now = cast(given_time("now"), BigInteger)
    of_stages = select(func.min(stage.c.due_at)).where(stage.c.run_id == run.c.run_id).scalar_subquery()
    of_effects = select(func.min(effect.c.due_at)).where(effect.c.run_id == run.c.run_id).scalar_subquery()
    first, second = func.coalesce(of_stages, now), func.coalesce(of_effects, now)
    return case(((first <= second) & (first <= now), first), (second <= now, second), else_=now)


FREE_RUNS = Statement(run.update().values(lease_owner=null(), lease_until=null(), wake_sent_at=null()))
RUNS_DUE = Statement(
    run.update().values(due_at=_least_hint()).where(or_(run.c.state.not_in(_OVER), run.c.open_attempts > 0)), "now"
)
# how the sites stood when the backup was taken tells nothing of today
QUARANTINE = Statement(
    site.update().values(
        quarantined=1,
        next_poll_at=null(),
        last_ok_at=null(),
        cannot_ask_since=null(),
        probes=0,
        detail="",
        ver=site.c.ver + literal_column("1"),
    )
)
WAIVERS = Statement(
    select(waiver.c.id)
    .where(waiver.c.withdrawn_at.is_(None), waiver.c.ends_at > given_time("now"))
    .order_by(waiver.c.run_id, waiver.c.id),
    "now",
)
SITES = Statement(select(site.c.site, site.c.quarantined).order_by(site.c.site))
NEWEST_EVENT = Statement(select(func.max(event.c.at)))
QUARANTINES = Statement(
    select(event.c.data)
    .where(event.c.stream == given("stream"), event.c.kind == literal_column("'quarantined'"))
    .order_by(event.c.seq.desc())
    .limit(literal_column("1")),
    "stream",
)


def restore(
    backup: Opened,
    database: Database,
    *,
    by: str,
    now: int,
    replace: bool = False,
    keep_strays: bool = False,
    is_dead: Callable[[str], bool] = lambda _: False,
) -> Restored:
    """Fill a database, which must have the newest shape, from a backup. All in one transaction.

    `replace`: what is there goes; else it must hold no run. `keep_strays`: jobs at the sites that nobody knows are
    left to a person, because another installation may share the place with this one; else they will be canceled.
    `is_dead`: is the process of that name certainly gone, though it gave a sign of life just now?
    Raises RefusedByPolicy (somebody serves), UsageError (not empty) and StoreError; then nothing was changed.
    """
    with database.writing() as tx:
        if not database.sqlite:
            tx.run(_LOCK_TIMEOUT)
            tx.run(_LOCK)
            _refuse_served(tx, is_dead)  # the file's own lock says so elsewhere
        if not replace and tx.row(ANY_RUN) is not None:
            raise UsageError("the database holds runs", help="--replace throws them away; take a backup of them before")
        former = accepting.known_installation(tx)
        for statement in _CLEAR.values():
            tx.run(statement)
        counts = {table.name: _copy(backup.connection, tx, table) for table in _TABLES}
        home = _new_incarnation(tx, former, now=now)
        waivers = _withdraw_waivers(tx, by=by, now=now)
        due = _free(tx, now=now)
        sites = _quarantine(tx, backup, by=by, incarnation=home.incarnation, now=now)
        data = {
            "file": backup.digest,
            "installation": home.id,
            "from": backup.incarnation,
            "to": home.incarnation,
            "newest_event": sites.newest_event,
            "replaced": former is not None and bool(replace),
            "strays": "keep" if keep_strays else "cancel",
            "waivers": waivers,
            "broken": [list(one) for one in backup.broken[:MOST_TOLD]],
        }
        chain.append(tx, "operators", [NewEvent(kind="restored", actor=by, data=json.dumps(data))], at=now)
    return Restored(
        digest=backup.digest,
        installation=home.id,
        old_incarnation=backup.incarnation,
        incarnation=home.incarnation,
        counts=counts,
        due=due,
        sites=sites.names,
        broken=backup.broken,
    )


def _refuse_served(tx: Tx, is_dead: Callable[[str], bool]) -> None:
    alive = [name for (name,) in tx.rows(ALIVE, (SIGN_OF_LIFE,)) if not is_dead(name)]
    if alive:
        raise RefusedByPolicy(
            f"{alive[0]} serves this database", help="stop everybody who serves; a sign of life counts for a minute"
        )


def _new_incarnation(tx: Tx, former: Installation | None, *, now: int) -> Installation:
    """Higher than any that is known: restored twice from one backup, keys must not come again.

    A backup from before the first submission knows no installation: it is the one that was there, or a new one.
    """
    home = accepting.known_installation(tx)
    if home is None and former is not None:
        home = former
        tx.run(accepting.INSERT_INSTALLATION, home)
    home = home or accepting.make_installation(tx, random_bits, now=now)
    known = former.incarnation if former is not None and former.id == home.id else 0
    home = home._replace(incarnation=max(home.incarnation, known) + 1)
    tx.run(INCARNATION, (home.incarnation,))
    return home


def _copy(connection: sqlite3.Connection, tx: Tx, table: Table) -> int:
    count = 0
    for rows in _rows(connection, table):
        tx.many(_INSERT[table.name], rows)
        count += len(rows)
    return count


def _rows(connection: sqlite3.Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    with closing(connection.execute(f'SELECT {names} FROM "{table.name}"')) as found:  # noqa: S608 - our own names
        while rows := found.fetchmany(ROWS):
            yield rows


def _withdraw_waivers(tx: Tx, *, by: str, now: int) -> int:
    """Whether one was withdrawn in the hours that are lost nobody knows: two persons agree to it once more, or it does
    not hold. How many there were."""
    found = [ident for (ident,) in tx.rows(WAIVERS, (now,))]
    for ident in found:
        waiving.withdraw(tx, ident, by=by, reason="a backup was restored", now=now)
    return len(found)


def _free(tx: Tx, *, now: int) -> int:
    """Nobody holds anything, and every run is looked at; how many there are to look at."""
    tx.run(FREE_EFFECTS, (now,))
    tx.run(DOUBT)
    tx.run(FREE_RUNS)
    return tx.run(RUNS_DUE, (now,))


@dataclass(frozen=True, slots=True)
class _Quarantined:
    names: Sequence[str]
    newest_event: int


def _quarantine(tx: Tx, backup: Opened, *, by: str, incarnation: int, now: int) -> _Quarantined:
    """Every site; each knows from when on its jobs must be looked for."""
    (newest,) = tx.row(NEWEST_EVENT)
    since = now if newest is None else int(newest)
    names = []
    for name, before in tx.rows(SITES):
        stream = f"site:{name}"
        former = tx.row(QUARANTINES, (stream,)) if before else None
        # never reconciled since an earlier restore: those hours are still open, too
        own = min(since, int(json.loads(former[0])["since"])) if former is not None else since
        data = json.dumps({"since": own, "incarnation": incarnation, "file": backup.digest})
        chain.append(tx, stream, [NewEvent(kind="quarantined", actor=by, data=data)], at=now)
        names.append(str(name))
    tx.run(QUARANTINE)
    return _Quarantined(names, since)
