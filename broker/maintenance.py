"""Backup and restore of this installation's database, whichever it is; and nobody serves meanwhile."""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL

from broker.backup import BackedUp, Opened, Restored, back_up_file, back_up_server, open_backup, restore
from broker.clock import Clock, wall_clock
from broker.config import Settings
from broker.core import worker_is_dead
from broker.errors import RefusedByPolicy, Unwritable, UsageError
from broker.serve_lock import AlreadyServed, only_server
from broker.store import migrate
from broker.store.base import StoreError
from broker.store.connect import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A restore that somebody wants."""

    file: Path
    replace: bool = False
    keep_strays: bool = False
    despite_chains: bool = False


def take_backup(settings: Settings, file: Path, *, clock: Clock = wall_clock) -> BackedUp:
    """Back up this installation's database, in the shape that it has. Raises NotFound, UsageError, Unwritable."""
    if settings.postgres is None:
        return back_up_file(settings.database, file)
    database = _server(settings, clock)
    try:
        return back_up_server(database, file)
    finally:
        database.close()


def put_back(
    settings: Settings, plan: Plan, *, agree: Callable[[str], bool], clock: Clock = wall_clock
) -> Restored | None:
    """Restore into this installation's database. `agree` gets a sentence on what will be done; None: it said no.

    Raises NotFound, DamagedBackup, RefusedByPolicy (somebody serves), UsageError (not empty), Unwritable.
    """
    by = settings.user or getpass.getuser()
    try:
        with open_backup(plan.file, despite_chains=plan.despite_chains) as backup, _alone(settings):
            if not agree(_words(settings, plan, backup)):
                return None
            with _target(settings, plan, clock) as database:
                return restore(
                    backup,
                    database,
                    by=by,
                    now=clock(),
                    replace=plan.replace,
                    keep_strays=plan.keep_strays,
                    is_dead=worker_is_dead,
                )
    except StoreError as error:
        raise Unwritable(f"nothing was restored: {error}", help="check the database and its disk; try again") from error


def _words(settings: Settings, plan: Plan, backup: Opened) -> str:
    what = f"{plan.file} (installation {backup.installation}, incarnation {backup.incarnation})"
    how = "in place of what is there" if plan.replace else "which must hold no run"
    strays = "left to a person" if plan.keep_strays else "canceled"
    target = settings.postgres or settings.database
    return f"restoring {what} into {target}, {how}; jobs that it does not know will be {strays}"


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Nobody begins to serve meanwhile. On a server the heartbeats tell, under a lock on all tables."""
    if settings.postgres is not None:
        yield
        return
    try:
        with only_server(settings):
            yield
    except AlreadyServed as error:
        raise RefusedByPolicy(str(error), help="stop it, then restore") from error


@contextmanager
def _target(settings: Settings, plan: Plan, clock: Clock) -> Iterator[Database]:
    """The database, made or brought up to date; a file that is damaged is set aside where it is to be replaced."""
    if settings.postgres is not None:
        database = _server(settings, clock)
    else:
        if _is_damaged(settings.database):
            if not plan.replace:
                raise UsageError(f"{settings.database} is damaged", help="--replace sets it aside")
            _set_aside(settings.database, clock())
        os.close(os.open(settings.database, os.O_RDWR | os.O_CREAT, 0o600))
        database = Database(URL.create("sqlite", database=str(settings.database)), clock=clock)
    try:
        migrate.make_ready(database)
        yield database
    finally:
        database.close()


def _server(settings: Settings, clock: Clock) -> Database:
    assert settings.postgres is not None  # noqa: S101 - callers look
    return Database(settings.postgres.url, clock=clock)


def _is_damaged(path: Path) -> bool:
    """Is there something that is no whole SQLite database?"""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [word for (word,) in connection.execute("PRAGMA quick_check(1)")] != ["ok"]
    except sqlite3.DatabaseError:
        return True


def _set_aside(path: Path, now: int) -> None:
    """Under another name in the same folder, with what SQLite keeps beside it: `.recover` may want it."""
    stamp = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    for end in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(path.with_name(f"{path.name}.damaged-{stamp}{end}"))
