"""Opening a backup: is it whole, is it ours, do its chains hold? Nothing in it is believed before."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from broker.clock import wall_clock
from broker.errors import BrokerError, NotFound
from broker.store import migrate
from broker.store.audit import verify_chain
from broker.store.base import EventRow, WrongSchema
from broker.store.connect import Database

MOST_TOLD = 5


class DamagedBackup(BrokerError):
    """The file is not whole, is none of ours, or its history was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A backup in the shape that this version works with, open for reading."""

    connection: sqlite3.Connection
    digest: str
    """SHA-256 of the file as it is on disk."""
    shape: str
    """That the file has."""
    installation: str
    incarnation: int
    broken: Sequence[tuple[str, str]]
    """(stream, how its chain breaks)"""


@contextmanager
def open_backup(file: Path, *, despite_chains: bool = False) -> Iterator[Opened]:
    """Open a backup and look at all of it; an older one is brought up to date in a copy.

    A file that is not whole is always refused: what is missing from it cannot be told. Chains of events that do not
    hold are refused unless `despite_chains`: their rows are all there, and may be the only ones that are left.
    Raises NotFound, DamagedBackup and WrongSchema.
    """
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    with ExitStack() as stack:
        try:
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            connection = stack.enter_context(closing(_connect(file)))
            shape, installation, incarnation = judged(connection, file)
            if shape > migrate.HEAD:  # also one that we could work with: what it has more would be lost
                raise WrongSchema(f"{file} has shape {shape}, this version knows {migrate.HEAD}; install the newer one")
            broken = broken_chains(connection)
            if broken and not despite_chains:
                raise DamagedBackup(_words(file, broken), help="another backup; or --force-damaged, which tells of it")
            if shape != migrate.HEAD:
                connection = stack.enter_context(closing(_connect(_upgraded(connection, stack))))
        except sqlite3.DatabaseError as error:
            raise DamagedBackup(f"{file} is damaged or no backup of ours: {error}", help=_MEND) from error
        except OSError as error:
            raise NotFound(f"cannot read {file}: {error.strerror}") from error
        yield Opened(
            connection=connection,
            digest=digest,
            shape=shape,
            installation=installation,
            incarnation=incarnation,
            broken=broken,
        )


_MEND = "take another backup; `sqlite3 FILE .recover` makes a new file of what can still be read"


def judged(connection: sqlite3.Connection, file: Path) -> tuple[str, str, int]:
    """Its shape, whose it is, and the incarnation. Raises DamagedBackup."""
    found = [str(word) for (word,) in connection.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        raise DamagedBackup(f"{file} is damaged: {found[0]}", help=_MEND)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"alembic_version", "installation", "run", "event", "stream"} <= tables:
        raise DamagedBackup(
            f"{file} is no backup of ours: it lacks our tables", help="name one of `crossfade db backup`"
        )
    (shape,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    row = connection.execute("SELECT id, incarnation FROM installation").fetchone()
    installation, incarnation = row or ("", 0)
    lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    if lost is not None:
        raise DamagedBackup(f"{file} is damaged: a row of {lost[0]} has lost the row of {lost[2]} above it", help=_MEND)
    return str(shape), str(installation), int(incarnation)


def counted(connection: sqlite3.Connection) -> Mapping[str, int]:
    """Rows of each of our tables."""
    wanted = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version' ORDER BY name"
    names = [name for (name,) in connection.execute(wanted) if not name.startswith("sqlite_")]
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608


def broken_chains(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Streams of events that do not hold, and how."""
    broken = []
    for name, tip in connection.execute("SELECT stream, tip FROM stream ORDER BY stream"):
        rows = connection.execute(_EVENTS, (name,))
        link = verify_chain(map(EventRow._make, rows), tip)
        if link is not None:
            broken.append((str(name), link.why))
    lost = connection.execute(
        "SELECT DISTINCT stream FROM event WHERE stream NOT IN (SELECT stream FROM stream) ORDER BY stream"
    )
    return broken + [(str(name), "its tip is missing") for (name,) in lost]


_EVENTS = f"SELECT {', '.join(EventRow._fields)} FROM event WHERE stream = ? ORDER BY seq"  # noqa: S608 - our own names


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def _upgraded(connection: sqlite3.Connection, stack: ExitStack) -> Path:
    """A copy in the newest shape, in a folder of its own that goes with the stack."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crossfade-restore-"))
    copy = Path(folder, "copy.db")
    with closing(sqlite3.connect(copy)) as writing:
        connection.backup(writing)
    database = Database(URL.create("sqlite", database=str(copy)), clock=wall_clock)
    try:
        migrate.make_ready(database)
    finally:
        database.close()
    return copy


def _words(file: Path, broken: Sequence[tuple[str, str]]) -> str:
    told = "; ".join(f"{name}: {why}" for name, why in broken[:MOST_TOLD])
    return f"{file} is whole, but the history of {len(broken)} streams was changed: {told}"
