"""SQLite: one file, one writer at a time, transactions on the driver's own cursor."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool, StaticPool

from broker.clock import Clock
from broker.store.base import StoreBusy, StoreError, StoreFull
from broker.store.statement import LARGEST_LIST, Lookup, Row, Statement, Text, padded
from broker.store.transaction import Answer, Clash, Duplicate, Tally, Tx

DIALECT: Dialect = sqlite.dialect(paramstyle="qmark")


class SqliteTransaction(Tx):
    """On SQLite's own cursor: every statement is run at once."""

    __slots__ = ("_cursor",)

    holds_rows = False

    def __init__(self, cursor: DBAPICursor, tally: Tally) -> None:
        super().__init__(tally)
        self._cursor = cursor

    def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
        self._execute(statement.text(DIALECT), given)
        return self._cursor.fetchall()

    def row(self, statement: Statement, given: Row = ()) -> Any:
        self._execute(statement.text(DIALECT), given)
        return self._cursor.fetchone()

    def rows_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Sequence[Any]:
        wanted = values if isinstance(values, list) else list(values)
        found: list[Any] = []
        for start in range(0, len(wanted), LARGEST_LIST):
            part = padded(wanted[start : start + LARGEST_LIST])
            self._execute(lookup.text(DIALECT, len(part)), given + part)
            found += self._cursor.fetchall()
        return found

    def ask(self, statement: Statement, given: Row = ()) -> Answer:
        return lambda: self.rows(statement, given)

    def ask_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Answer:
        return lambda: self.rows_of(lookup, given, values)

    def hold_places(self) -> None:
        """It does: nobody else writes."""

    def run(self, statement: Statement, given: Row = ()) -> int:
        self.wrote = True
        self._execute(statement.text(DIALECT), given)
        return self._cursor.rowcount

    def many(self, statement: Statement, rows: Iterable[Row]) -> int:
        text = statement.text(DIALECT)
        given = text.parameter_rows(rows)
        if not given:
            return 0
        self.wrote = True
        self._tally.add_statement()
        self._cursor.executemany(text.sql, given)
        return self._cursor.rowcount

    def put(self, statement: Statement, rows: Iterable[Row]) -> None:
        self.many(statement, rows)

    def put_each(self, statement: Statement, rows: Iterable[Row], refused: Exception) -> None:
        wanted = rows if isinstance(rows, list) else list(rows)
        if self.many(statement, wanted) != len(wanted):
            raise refused

    def _execute(self, text: Text, given: Row) -> None:
        self._tally.add_statement()
        self._cursor.execute(text.sql, text.parameters(given))


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


class File:
    """A database of SQLite, and transactions there. Thread-safe."""

    dialect = DIALECT

    def __init__(self, url: URL, *, engine: Engine, tally: Tally, busy_seconds: float) -> None:
        self._path = url.database or ":memory:"
        self._engine, self._tally = engine, tally
        self._turn = Turn(busy_seconds)
        self._shared = isinstance(engine.pool, StaticPool)
        self._held: PoolProxiedConnection | None = None
        """In memory there is one connection, and whose turn it is has it: the pool is asked for it once."""

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """One that may write. Committed at the end if it did, else, or on an exception, rolled back."""
        with self._turn.taken(), self._transaction("BEGIN IMMEDIATE") as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """One that sees one state of all tables, and never waits for a writer."""
        turn: AbstractContextManager[None] = self._turn.taken() if self._shared else nullcontext()
        with turn, self._transaction("BEGIN") as tx:
            yield tx

    @contextmanager
    def asking(self) -> Iterator[Tx]:
        """One that sees what a single statement sees. In memory nobody else writes meanwhile: nothing is to begin."""
        if not self._shared:
            with self._transaction("BEGIN") as tx:
                yield tx
            return
        with self._turn.taken():
            try:
                yield SqliteTransaction(self._connection().cursor(), self._tally)
            except sqlite3.Error as error:
                raise translated(error, self._path) from error

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Tx]:
        connection = self._connection()
        try:
            cursor = connection.cursor()
            cursor.execute(begin)
            tx = SqliteTransaction(cursor, self._tally)
            yield tx
            if tx.wrote:
                connection.commit()
                self._tally.add_commit()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        finally:
            if self._shared:
                connection.rollback()  # what was not committed
            else:
                connection.close()  # back to the pool, which does the same

    def _connection(self) -> PoolProxiedConnection:
        if self._held is not None:
            return self._held
        try:
            connection = self._engine.raw_connection()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        except PoolTimeout as error:
            raise StoreBusy("all connections to the store are in use; try again") from error
        if self._shared:
            self._held = connection
        return connection

    def close(self) -> None:
        """Give back the connection that is held; the engine closes all of them."""
        if self._held is not None:
            self._held.close()
            self._held = None


def make_engine(url: URL, *, clock: Clock, busy_seconds: float) -> Engine:
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
        _write_ahead(connection, time.monotonic() + busy_seconds)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        connection.create_function("crossfade_now", 0, clock)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # only migrations use SQLAlchemy's own transactions
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection, deadline: float) -> None:
    """Keep a write-ahead log. A new file takes that up once, and whoever opens it in the same moment is turned away
    at once: for this step alone SQLite does not wait by itself."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


_PRAGMAS = (
    "synchronous = FULL",  # a commit that was answered is on disk: a lost row may be a job submitted twice
    "foreign_keys = ON",
    "cache_size = -16000",  # KiB per connection
    "temp_store = MEMORY",
)


def translated(error: sqlite3.Error, path: str) -> StoreError:
    """A driver's error in the port's words."""
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
