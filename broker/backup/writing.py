"""Taking a backup: one consistent state, written beside its place and named only when it is whole and on disk."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, column, select, table
from sqlalchemy.engine import URL

from broker.backup.reading import counted, judged
from broker.clock import wall_clock
from broker.errors import NotFound, Unwritable, UsageError
from broker.store import migrate
from broker.store.base import StoreError
from broker.store.connect import Database, translated
from broker.store.sql import BACKUP_MARK

PAGES = 4096
"""Of SQLite, copied at a time: Ctrl-C waits no longer than for one such step."""
ROWS = 1000
"""Rows of a server's tables in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """A backup that was written."""

    file: Path
    digest: str
    """SHA-256 of the file, as hex."""
    bytes: int
    shape: str
    installation: str
    incarnation: int
    counts: Mapping[str, int]
    """Rows by table."""


def back_up_file(source: Path, file: Path) -> BackedUp:
    """Back up a SQLite database, also while it is being written to and whatever its shape.

    Raises NotFound, UsageError (the file is there already) and Unwritable; none leaves a file behind.
    """
    if not source.exists():
        raise NotFound(f"there is no database at {source}")

    def write(place: Path) -> None:
        reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        with closing(reading), closing(sqlite3.connect(place)) as writing:
            # held until the end: what others commit meanwhile neither gets in nor makes it begin again
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reading.backup(writing, pages=PAGES)

    return _written(file, write)


def back_up_server(source: Database, file: Path) -> BackedUp:
    """Back up a database on a server: all tables as of one moment, row by row, with little memory.

    Raises as `back_up_file`.
    """

    def write(place: Path) -> None:
        shape = migrate.current(source.engine)
        if shape is None:
            raise NotFound(f"there are no tables of ours in {source.url!r}")
        _make_shape(place, shape)
        options = {
            "isolation_level": "REPEATABLE READ",
            "postgresql_readonly": True,
            "stream_results": True,
            "yield_per": ROWS,
        }
        try:
            with source.engine.connect().execution_options(**options) as reading:
                _copy_all(reading, place)
        except source.driver_errors as error:
            raise translated(getattr(error, "orig", None) or error, source.url) from error

    return _written(file, write)


def _make_shape(place: Path, shape: str) -> None:
    """Empty tables, as the source has them: a backup does not upgrade."""
    made = Database(URL.create("sqlite", database=str(place)), clock=wall_clock)
    try:
        if shape == migrate.HEAD:
            migrate.make_ready(made)
        else:
            migrate.upgrade(made.engine, to=shape)
    finally:
        made.close()


def _copy_all(reading: Connection, place: Path) -> None:
    with closing(sqlite3.connect(place, isolation_level=None)) as writing:
        for pragma in ("journal_mode = DELETE", "synchronous = OFF", "foreign_keys = OFF"):
            writing.execute(f"PRAGMA {pragma}").close()
        writing.execute("BEGIN")
        for name in _tables(writing):
            names = [str(row[1]) for row in writing.execute(f'PRAGMA table_info("{name}")')]
            marks = ", ".join("?" * len(names))
            columns = ", ".join(f'"{each}"' for each in names)
            found: CursorResult[Any] = reading.execute(select(*map(column, names)).select_from(table(name)))
            insert = f'INSERT INTO "{name}" ({columns}) VALUES ({marks})'  # noqa: S608 - our own names
            while rows := found.fetchmany(ROWS):
                writing.executemany(insert, map(tuple, rows))
        writing.execute("COMMIT")


def _tables(connection: sqlite3.Connection) -> Sequence[str]:
    """All but Alembic's own, whose one row was made with the tables."""
    wanted = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('alembic_version') ORDER BY name"
    return [name for (name,) in connection.execute(wanted) if not name.startswith("sqlite_")]


# -- whole, or not at all ----------------------------------------------------------------------------------------


def _written(file: Path, write: Callable[[Path], None]) -> BackedUp:
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} is there already", help="name another file")
    try:
        with _beside(file) as place:
            write(place)
            backed_up = _judged(place, file)
            _sync(place)
            _name(place, file)
            _sync(file.absolute().parent)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already", help="name another file") from error
    except (sqlite3.Error, OSError, StoreError) as error:
        raise Unwritable(f"cannot back up to {file}: {error}", help="check its folder and the disk") from error
    return backed_up


def _name(place: Path, file: Path) -> None:
    """Under its own name, which nobody else may have taken meanwhile."""
    try:
        os.link(place, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        place.rename(file)


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A new file for its owner alone, in the same folder; gone at the end, with what SQLite puts beside it."""
    place = file.with_name(f".{file.name}.{os.getpid()}.part")
    os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield place
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            place.with_name(place.name + end).unlink(missing_ok=True)


def _judged(place: Path, file: Path) -> BackedUp:
    """What was written, looked at again from the disk."""
    with closing(sqlite3.connect(place, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").close()  # one file, that can be read from anywhere
        connection.execute(f"PRAGMA application_id = {BACKUP_MARK}").close()
    with closing(sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        shape, installation, incarnation = judged(connection, place)
        counts = counted(connection)
    with place.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return BackedUp(
        file=file,
        digest=digest,
        bytes=place.stat().st_size,
        shape=shape,
        installation=installation,
        incarnation=incarnation,
        counts=counts,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
