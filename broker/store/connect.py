"""The way to the database: engine, pragmas, transactions, and errors in the port's words.

SQLAlchemy makes the engine and keeps the pool; statements run on the driver's own cursor (see `statement`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool, StaticPool

from broker.clock import Clock
from broker.store.base import Counts, StoreBusy, StoreError, StoreFull
from broker.store.statement import LARGEST_LIST, Lookup, Row, Statement, Text, padded

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long a writer waits for the others."""

TRIES = 4
"""How often a transaction of our own is run when it clashes with another one."""


class Clash(StoreBusy):
    """Two transactions got in each other's way; the same one run again may well succeed."""


class Duplicate(StoreError):
    """A row with that key is there already. Run again, a transaction that looks first will see it."""


class Tx:
    """A transaction under way: runs statements, and knows whether any of them wrote."""

    __slots__ = ("_counts", "_cursor", "_dialect", "wrote")

    def __init__(self, cursor: DBAPICursor, dialect: Dialect, counts: Tally) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._counts = counts
        self.wrote = False

    def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
        """What a select finds."""
        text = statement.text(self._dialect)
        self._execute(text, given)
        return self._cursor.fetchall()

    def row(self, statement: Statement, given: Row = ()) -> Any:
        """The first row, or None."""
        text = statement.text(self._dialect)
        self._execute(text, given)
        return self._cursor.fetchone()

    def rows_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Sequence[Any]:
        """What a select finds for a list of values, in slices of at most LARGEST_LIST; nothing for an empty list."""
        wanted = values if isinstance(values, list) else list(values)
        found: list[Any] = []
        for start in range(0, len(wanted), LARGEST_LIST):
            part = padded(wanted[start : start + LARGEST_LIST])
            self._execute(lookup.text(self._dialect, len(part)), given + part)
            found += self._cursor.fetchall()
        return found

    def run(self, statement: Statement, given: Row = ()) -> int:
        """Write; how many rows were concerned."""
        self.wrote = True
        self._execute(statement.text(self._dialect), given)
        return self._cursor.rowcount

    def many(self, statement: Statement, rows: Sequence[Row] | Iterable[Row]) -> int:
        """Write once for each row, in one go; how many rows were concerned in all. No row, no statement."""
        text = statement.text(self._dialect)
        given = text.parameter_rows(rows)
        if not given:
            return 0
        self.wrote = True
        self._counts.add_statement()
        self._cursor.executemany(text.sql, given)
        return self._cursor.rowcount

    def _execute(self, text: Text, given: Row) -> None:
        self._counts.add_statement()
        self._cursor.execute(text.sql, text.parameters(given))


class Tally:
    """Counts that several threads may raise."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._lock = threading.Lock()

    def add_statement(self) -> None:
        with self._lock:
            self._counts.statements += 1

    def add_commit(self) -> None:
        with self._lock:
            self._counts.commits += 1


class Turn:
    """Whose turn it is among the threads of this process.

    SQLite lets one connection write at a time, and the ones that wait sleep up to 100 ms between looks. Threads of
    one process queue here instead, and go on at once.
    """

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self._holder = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        me = threading.get_ident()
        if self._holder == me:
            raise RuntimeError("this thread is inside a transaction of the store already; leave it first")
        if not self._lock.acquire(timeout=self._seconds):
            raise StoreBusy(f"another thread has been writing to the store for over {self._seconds:g} s; try again")
        self._holder = me
        try:
            yield
        finally:
            self._holder = 0
            self._lock.release()


class Database:
    """An engine and its transactions. Thread-safe."""

    def __init__(self, url: str | URL, *, clock: Clock, busy_seconds: float = BUSY_SECONDS) -> None:
        self.url = make_url(url)
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.counts = Counts()
        self._tally = Tally(self.counts)
        self._turn = Turn(busy_seconds)
        self._closed = False
        self.engine = _engine(self.url, clock=clock, busy_seconds=busy_seconds)
        self.dialect = self.engine.dialect
        self.sqlite = self.dialect.name == "sqlite"
        self._shared = isinstance(self.engine.pool, StaticPool)
        self._driver_error: type[Exception] = self.dialect.loaded_dbapi.Error
        self.driver_errors = (self._driver_error, DBAPIError)

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """A transaction that may write. Committed at the end if it did, else, or on an exception, rolled back."""
        if not self.sqlite:
            with self._transaction("") as tx:
                yield tx
            return
        with self._turn.taken(), self._transaction("BEGIN IMMEDIATE") as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """A transaction that sees one state of all tables and never waits for a writer."""
        if not self._shared:
            with self._transaction("BEGIN" if self.sqlite else "") as tx:
                yield tx
            return
        with self._turn.taken(), self._transaction("BEGIN") as tx:
            yield tx

    def do(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction that is wholly `work`, again (at most TRIES times) when it clashes with another."""
        for left in range(TRIES - 1, -1, -1):
            try:
                with self.writing() as tx:
                    return work(tx)
            except (Clash, Duplicate):
                if not left:
                    raise
        raise AssertionError("unreachable")

    def read(self, work: Callable[[Tx], T]) -> T:
        with self.reading() as tx:
            return work(tx)

    def close(self) -> None:
        """Close all connections. What is used afterwards raises StoreError."""
        self._closed = True
        self.engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Tx]:
        if self._closed:
            raise StoreError("the store is closed")
        try:
            connection = self.engine.raw_connection()
        except self._driver_error as error:
            raise translated(error, self.url) from error
        except PoolTimeout as error:
            raise StoreBusy("all connections to the store are in use; try again") from error
        try:
            cursor = connection.cursor()
            if begin:
                cursor.execute(begin)
            tx = Tx(cursor, self.dialect, self._tally)
            yield tx
            if tx.wrote:
                connection.commit()
                self._tally.add_commit()
        except self._driver_error as error:
            raise translated(error, self.url) from error
        finally:
            connection.close()  # back to the pool, which rolls back what was not committed


def _engine(url: URL, *, clock: Clock, busy_seconds: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        # marks by position on every dialect, so that rows are given as they are
        return create_engine(url, paramstyle="format", pool_pre_ping=True, pool_timeout=busy_seconds)
    memory = url.database in (None, "", ":memory:")
    options: dict[str, Any] = (
        {"poolclass": StaticPool}
        if memory
        else {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 24, "pool_timeout": busy_seconds}
    )
    arguments = {"check_same_thread": False, "timeout": busy_seconds, "cached_statements": 512}
    engine = create_engine(url, connect_args=arguments, **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        connection.create_function("crossfade_now", 0, clock)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # only migrations use SQLAlchemy's own transactions
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit that was answered is on disk: a lost row may be a job submitted twice
    "foreign_keys = ON",
    "cache_size = -16000",  # KiB per connection
    "temp_store = MEMORY",
)


def translated(error: BaseException, url: URL) -> StoreError:
    """A driver's error in the port's words."""
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(error, url.database or ":memory:")
    state: str = getattr(error, "sqlstate", None) or ""
    if state in {"40001", "40P01", "55P03"}:  # serialization failure, deadlock, lock not available
        return Clash(f"the database gave up for the benefit of another transaction; try again ({error})")
    if state.startswith("23"):
        return Duplicate(str(error))
    if state.startswith("53100"):
        return StoreFull(f"no space left where the database lives ({error})")
    return StoreError(f"the database failed: {error}")


def _from_sqlite(error: sqlite3.Error, path: str) -> StoreError:
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    if isinstance(error, sqlite3.IntegrityError):
        return Duplicate(str(error))
    if code in (sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_BUSY_RECOVERY):
        return Clash(f"{path} is being written to by another process; try again")
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"{path} is locked by another process; end it, or try again later")
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return StoreFull(f"cannot write to {path}: {error}; make room on its disk, then try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreError(f"cannot open {path} for writing: {error}; check who owns it and its folder")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreError(f"{path} is damaged or no database of ours: {error}; restore a backup")
    return StoreError(f"the database failed: {error}")
