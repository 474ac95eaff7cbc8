"""PostgreSQL: connections, a pool of them, and transactions that cost few trips to the server.

Statements are *sent* as soon as they are known, and waited for only when an answer is wanted (libpq's pipeline mode):
what a transaction writes goes out together with its COMMIT. An error in something sent earlier is therefore raised by
whatever waits next, and nothing of the transaction is kept.

Isolation is READ COMMITTED: whoever changes rows of a run holds the run's own row from before its first look at them
(see `broker.store.recording`), so that what was read stays true; each statement sees what was committed before it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors, pq
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL

from broker.store.base import StoreBusy, StoreError, StoreFull, StoreGone
from broker.store.statement import LARGEST_LIST, Lookup, Row, Statement, padded
from broker.store.transaction import Answer, Clash, Duplicate, Tally, Tx

RV = TypeVar("RV")

OLDEST = 150_000
"""PostgreSQL 15."""
POOL_SIZE = 16
"""Connections of one process at most. A thread needs one at a time, and only while it is in a transaction."""
STATEMENT_SECONDS = 60.0
IDLE_SECONDS = 15.0
"""A transaction whose process stands still is ended by the server then: nobody waits for its locks any longer."""
PATIENCE = 75.0
"""Seconds after which a server that says nothing at all is given up: longer than any statement may take."""
PLACES = 0x63_72_6F_73_73
"""Number of the lock under which free places are counted: it says "cross"."""
PREPARED = 512
"""Statements that a connection keeps prepared; all that we have fit in."""

DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
"""Writes $1, $2, ...: what the server itself wants, so that the driver need not rewrite the text."""


_COUNTED = "WITH done AS ({} RETURNING 1) SELECT 1 / (count(*) = ${}::bigint)::int FROM done"
"""Fails (division by zero) unless so many rows were written."""


class NoAnswer(psycopg.OperationalError):
    """The server said nothing for too long."""


class Connection(psycopg.Connection[Any]):
    """One that does not wait for ever: a server that stands still does not close its connections."""

    patience = PATIENCE

    def wait(self, gen: Generator[Any, Any, RV], *args: Any, **options: Any) -> RV:
        return super().wait(_limited(gen, self.patience), *args, **options)


def _limited(gen: Generator[Any, Any, RV], patience: float) -> Generator[Any, Any, RV]:
    """The same, ended by NoAnswer when nothing has come for `patience` seconds."""
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > patience:
                raise NoAnswer(f"no answer for {patience:g} s")
            wanted = gen.send(ready)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class Transaction(Tx):
    """One transaction, its statements sent ahead."""

    holds_rows = True

    def __init__(self, connection: Connection, tally: Tally) -> None:
        super().__init__(tally)
        self._connection = connection
        self._checks: list[tuple[psycopg.RawCursor[Any], Exception]] = []

    def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
        return self.ask(statement, given)()

    def row(self, statement: Statement, given: Row = ()) -> Any:
        found = self.ask(statement, given)()
        return found[0] if found else None

    def ask(self, statement: Statement, given: Row = ()) -> Answer:
        text = statement.text(DIALECT)
        cursor = self._send(text.sql, text.parameters(given))
        return lambda: self._fetched(cursor)

    def rows_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Sequence[Any]:
        return self.ask_of(lookup, given, values)()

    def ask_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Answer:
        wanted = values if isinstance(values, list) else list(values)
        cursors = []
        for start in range(0, len(wanted), LARGEST_LIST):
            part = padded(wanted[start : start + LARGEST_LIST])
            text = lookup.text(DIALECT, len(part))
            cursors.append(self._send(text.sql, text.parameters(given + part)))
        return lambda: [row for cursor in cursors for row in self._fetched(cursor)]

    def hold_places(self) -> None:
        self._command(f"SELECT pg_advisory_xact_lock({PLACES})")

    def run(self, statement: Statement, given: Row = ()) -> int:
        self.wrote = True
        text = statement.text(DIALECT)
        cursor = self._send(text.sql, text.parameters(given))
        self._settle()
        return cursor.rowcount

    def many(self, statement: Statement, rows: Iterable[Row]) -> int:
        cursor = self._send_all(statement, rows)
        if cursor is None:
            return 0
        self._settle()
        return cursor.rowcount

    def put(self, statement: Statement, rows: Iterable[Row]) -> None:
        self._send_all(statement, rows)

    def put_each(self, statement: Statement, rows: Iterable[Row], refused: Exception) -> None:
        """The server counts, and fails where rows are missing: COMMIT can be sent along, and is not carried out."""
        given = rows if isinstance(rows, list) else list(rows)
        if not given:
            return
        self.wrote = True
        bulk = statement.bulk(DIALECT, given)
        if bulk is None:
            raise refused  # the same row twice: the second finds another version than it expects
        parameters = bulk.parameters(given)
        cursor = self._send(_COUNTED.format(bulk.sql, len(parameters) + 1), [*parameters, len(given)])
        self._checks.append((cursor, refused))

    def refusal(self) -> Exception:
        """What to raise when a count was wrong."""
        return next(refused for cursor, refused in self._checks if cursor.pgresult is None)

    def begin(self, how: str) -> None:
        self._command(f"BEGIN {how}")

    def commit(self) -> None:
        """Send all that is still to be sent, and COMMIT; return when the server says that it is on disk."""
        cursor = self._command("COMMIT")
        self._settle()
        if cursor.statusmessage != "COMMIT":
            raise StoreError(f"the database answered a commit with {cursor.statusmessage}; nothing was kept")

    # -- inner -------------------------------------------------------------------------------------------------

    def _send_all(self, statement: Statement, rows: Iterable[Row]) -> psycopg.RawCursor[Any] | None:
        given = rows if isinstance(rows, list) else list(rows)
        if not given:
            return None
        self.wrote = True
        text = statement.text(DIALECT)
        if len(given) == 1:
            return self._send(text.sql, text.parameters(given[0]))
        bulk = statement.bulk(DIALECT, given)
        if bulk is not None:
            return self._send(bulk.sql, bulk.parameters(given))
        self._tally.add_statement()
        cursor = psycopg.RawCursor(self._connection)
        cursor.executemany(text.sql, [_parameters(row) for row in text.parameter_rows(given)])
        return cursor

    def _send(self, sql: str, given: Sequence[Any]) -> psycopg.RawCursor[Any]:
        self._tally.add_statement()
        cursor = psycopg.RawCursor(self._connection)
        cursor.execute(sql, _parameters(given))
        return cursor

    def _command(self, sql: str) -> psycopg.RawCursor[Any]:
        cursor = psycopg.RawCursor(self._connection)
        cursor.execute(sql, prepare=False)
        return cursor

    def _fetched(self, cursor: psycopg.RawCursor[Any]) -> Sequence[Any]:
        if cursor.pgresult is None:
            self._tally.add_trip()
        return cursor.fetchall()

    def _settle(self) -> None:
        """Wait for the answers to all that was sent."""
        self._tally.add_trip()
        pipeline = self._connection._pipeline  # noqa: SLF001  (`pipeline()` inside itself hands out the same one)
        if pipeline is not None:
            pipeline.sync()


def _parameters(row: Sequence[Any]) -> list[Any]:
    """Whole numbers as text without a type: the driver would name a type by their size, and each mixture of types
    makes another prepared statement. Texts without the one sign that the server cannot keep."""
    return [
        str(value) if type(value) is int else value.replace("\x00", "\ufffd") if type(value) is str else value
        for value in row
    ]


class Pool:
    """Connections, the one used last first. Thread-safe."""

    def __init__(self, connect: Callable[[], Connection], *, size: int, seconds: float) -> None:
        self._connect, self._seconds, self._size = connect, seconds, size
        self._room = threading.BoundedSemaphore(size)
        self._free: deque[Connection] = deque()

    @contextmanager
    def taken(self) -> Iterator[Connection]:
        """A connection that is in no transaction; closed afterwards if it is in one still, or broken."""
        if not self._room.acquire(timeout=self._seconds):
            raise StoreBusy(f"all {self._size} connections to the database have been in use for {self._seconds:g} s")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give(connection)
        finally:
            self._room.release()

    def clear(self) -> None:
        """Close those that nobody uses: what one of them has met, the others would meet, too."""
        while True:
            try:
                self._free.pop().close()
            except IndexError:
                return

    def _take(self) -> Connection:
        try:
            return self._free.pop()
        except IndexError:
            return self._connect()

    def _give(self, connection: Connection) -> None:
        if connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self._free.append(connection)
        else:
            connection.close()


class Server:
    """A database of a PostgreSQL server, and transactions there. Thread-safe."""

    dialect: Dialect = DIALECT

    def __init__(self, url: URL, *, tally: Tally, busy_seconds: float, tries: int) -> None:
        self._tally = tally
        size, self._arguments = _arguments(url, lock_seconds=busy_seconds / tries)
        self._pool = Pool(self._connect, size=size, seconds=busy_seconds)
        self._inside = threading.local()

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """One that may write: committed at its end, even if it wrote nothing (a rollback makes the driver forget
        its prepared statements); on an exception rolled back."""
        if getattr(self._inside, "writing", False):
            raise RuntimeError("this thread is inside a transaction of the store already; leave it first")
        self._inside.writing = True
        try:
            with self._transaction("ISOLATION LEVEL READ COMMITTED") as tx:
                yield tx
        finally:
            self._inside.writing = False

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """One that sees one state of all tables."""
        with self._transaction("ISOLATION LEVEL REPEATABLE READ, READ ONLY") as tx:
            yield tx

    @contextmanager
    def asking(self) -> Iterator[Tx]:
        """For a single statement: it is a transaction by itself."""
        with self._connected() as connection:
            yield Transaction(connection, self._tally)

    @contextmanager
    def _transaction(self, how: str) -> Iterator[Transaction]:
        with self._connected() as connection:
            try:
                with connection.pipeline():
                    tx = Transaction(connection, self._tally)
                    tx.begin(how)
                    yield tx
                    tx.commit()
                    if tx.wrote:
                        self._tally.add_commit()
            except errors.DivisionByZero as error:
                _undo(connection)
                raise tx.refusal() from error
            except BaseException:
                _undo(connection)
                raise

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._pool.taken() as connection:
                yield connection
        except psycopg.Error as error:
            said = translated(error)
            if isinstance(said, StoreGone):
                self._pool.clear()
            raise said from error

    def _connect(self) -> Connection:
        connection = Connection.connect(**self._arguments)
        connection.prepared_max = PREPARED
        version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
        if version >= OLDEST and encoding == "UTF8":
            return connection
        connection.close()
        if version < OLDEST:
            raise StoreError(f"the database's server is PostgreSQL {version // 10_000}; 15 or newer is needed")
        raise StoreError(f"the database is encoded in {encoding}; make one in UTF8")

    def close(self) -> None:
        self._pool.clear()


def _undo(connection: Connection) -> None:
    """Roll back. A connection that cannot is closed, which does the same."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def address(url: URL) -> URL:
    """As SQLAlchemy wants it for its own connections (the steps of `migrate`): without what only we understand."""
    return url.set(drivername="postgresql+psycopg").difference_update_query(("pool_size", "pgbouncer"))


def _arguments(url: URL, *, lock_seconds: float) -> tuple[int, dict[str, Any]]:
    """How many connections, and how to make one.

    The URL's query may hold whatever libpq knows (sslmode, target_session_attrs, options, ...), `pool_size`, and
    `pgbouncer=true`: no prepared statements and no settings at the start of a session, both of which a pooler may
    refuse; set the time limits for the role then.
    """
    pooler = str(url.query.get("pgbouncer", "")).lower() in ("1", "true", "yes", "on")
    size = int(str(url.query.get("pool_size", POOL_SIZE)))
    _, given = PGDialect_psycopg().create_connect_args(address(url))  # type: ignore[no-untyped-call]
    settings = {
        "lock_timeout": f"{max(1, round(lock_seconds * 1000))}",
        "statement_timeout": f"{round(STATEMENT_SECONDS * 1000)}",
        "idle_in_transaction_session_timeout": f"{round(IDLE_SECONDS * 1000)}",
        "synchronous_commit": "on",  # a commit that was answered is on disk: a lost row may be a job submitted twice
        # every statement of ours looks rows up by an index; a plan made while tables are small must not be another
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_seqscan": "off",
        "jit": "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments = {
        "application_name": "crossfade",
        "connect_timeout": 5,
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        # a standby takes no writes: of several hosts, the one that does
        "target_session_attrs": "read-write",
        **given,
        "autocommit": True,  # BEGIN is said by us, together with what follows
        "prepare_threshold": None if pooler else 2,
    }
    if not pooler:
        arguments["options"] = f"{options} {given.get('options', '')}".strip()
    return size, arguments


_TURNED_AWAY = ("57P01", "57P02", "57P03", "57P05", "25006", "53300")
"""Shutting down, crashed, starting up, idle too long, a standby, too many connections: the server is not for us now."""


def translated(error: psycopg.Error) -> StoreError:
    """A driver's error in the port's words. What the server says names no password, and a primary message no values."""
    state = error.sqlstate or ""
    said = (error.diag.message_primary or str(error)).strip().splitlines()[0] if str(error) else type(error).__name__
    if state in ("40001", "40P01", "55P03"):  # serialization failure, deadlock, lock not available
        return Clash(f"the database gave up for the benefit of another transaction ({said}); try again")
    if state == "57014":
        return StoreBusy(f"the database took too long ({said}); try again")
    if state.startswith("23"):
        return Duplicate(said)
    if state.startswith("53100"):
        return StoreFull(f"no space left where the database lives ({said}); make room, then try again")
    if state.startswith("28"):
        return StoreError(f"the database's server does not let us in ({said}); check user and password")
    if state.startswith("3D"):
        return StoreError(f"{said}; make it, or name another one")
    if state in _TURNED_AWAY or state.startswith("08") or isinstance(error, NoAnswer) or _broken(error, state):
        return StoreGone(
            f"the database's server does not answer ({said}); whether a write just then was kept is unknown"
        )
    return StoreError(f"the database failed: {said}")


def _broken(error: psycopg.Error, state: str) -> bool:
    """Without a state of the server's, an operational error is about the connection."""
    return not state and isinstance(error, errors.OperationalError | errors.InterfaceError)
