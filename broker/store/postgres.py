"""PostgreSQL: how to reach it, a pool of connections, and its errors in the port's words.

Isolation is READ COMMITTED: whoever changes rows of a run holds the run's own row from before its first look at them
(see `broker.store.recording`), so that what was read stays true; each statement sees what was committed before it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL

from broker.store.base import StoreBusy, StoreError, StoreFull, StoreGone
from broker.store.pipeline import DIALECT, Connection, Line, NoAnswer, Transaction
from broker.store.transaction import Clash, Duplicate, Tally, Tx

OLDEST = 150_000
"""PostgreSQL 15."""
POOL_SIZE = 16
"""Connections of one process at most. A thread needs one at a time, and only while it is in a transaction."""
STATEMENT_SECONDS = 60.0
IDLE_SECONDS = 15.0
"""A transaction whose process stands still is ended by the server then: nobody waits for its locks any longer."""


class Pool:
    """Connections, the one used last first. Thread-safe."""

    def __init__(self, connect: Callable[[], Line], *, size: int, seconds: float) -> None:
        self._connect, self._seconds, self._size = connect, seconds, size
        self._room = threading.BoundedSemaphore(size)
        self._free: deque[Line] = deque()

    @contextmanager
    def taken(self) -> Iterator[Line]:
        """A connection that is in no transaction; closed afterwards if it is in one still, or broken."""
        if not self._room.acquire(timeout=self._seconds):
            raise StoreBusy(f"all {self._size} connections to the database have been in use for {self._seconds:g} s")
        try:
            line = self._take()
            try:
                yield line
            finally:
                self._give(line)
        finally:
            self._room.release()

    def clear(self) -> None:
        """Close those that nobody uses: what one of them has met, the others would meet, too."""
        while True:
            try:
                self._free.pop().connection.close()
            except IndexError:
                return

    def _take(self) -> Line:
        try:
            return self._free.pop()
        except IndexError:
            return self._connect()

    def _give(self, line: Line) -> None:
        if line.idle:
            self._free.append(line)
        else:
            line.connection.close()


class Server:
    """A database of a PostgreSQL server, and transactions there. Thread-safe."""

    dialect: Dialect = DIALECT

    def __init__(self, url: URL, *, tally: Tally, busy_seconds: float, tries: int) -> None:
        self._tally = tally
        size, self._prepares, self._arguments = _arguments(url, lock_seconds=busy_seconds / tries)
        self._pool = Pool(self._connect, size=size, seconds=busy_seconds)
        self._inside = threading.local()

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """One that may write: committed at its end, on an exception rolled back."""
        if getattr(self._inside, "writing", False):
            raise RuntimeError("this thread is inside a transaction of the store already; leave it first")
        self._inside.writing = True
        try:
            with self._transaction(b"ISOLATION LEVEL READ COMMITTED") as tx:
                yield tx
        finally:
            self._inside.writing = False

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """One that sees one state of all tables."""
        with self._transaction(b"ISOLATION LEVEL REPEATABLE READ, READ ONLY") as tx:
            yield tx

    @contextmanager
    def asking(self) -> Iterator[Tx]:
        """For a single statement: it is a transaction by itself."""
        with self._line() as line:
            yield Transaction(line, self._tally)

    @contextmanager
    def _transaction(self, how: bytes) -> Iterator[Tx]:
        with self._line() as line:
            tx = Transaction(line, self._tally)
            try:
                tx.begin(how)
                yield tx
                tx.commit()
            except errors.DivisionByZero as error:
                raise tx.refusal() from error
            if tx.wrote:
                self._tally.add_commit()

    @contextmanager
    def _line(self) -> Iterator[Line]:
        try:
            with self._pool.taken() as line:
                try:
                    yield line
                except BaseException:
                    line.undo()
                    raise
        except psycopg.Error as error:
            said = translated(error)
            if isinstance(said, StoreGone):
                self._pool.clear()
            raise said from error

    def _connect(self) -> Line:
        connection = Connection.connect(**self._arguments)
        version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
        if version >= OLDEST and encoding == "UTF8":
            return Line(connection, prepares=self._prepares)
        connection.close()
        if version < OLDEST:
            raise StoreError(f"the database's server is PostgreSQL {version // 10_000}; 15 or newer is needed")
        raise StoreError(f"the database is encoded in {encoding}; make one in UTF8")

    def close(self) -> None:
        self._pool.clear()


def address(url: URL) -> URL:
    """As SQLAlchemy wants it for its own connections (the steps of `migrate`): without what only we understand."""
    return url.set(drivername="postgresql+psycopg").difference_update_query(("pool_size", "pgbouncer"))


def _arguments(url: URL, *, lock_seconds: float) -> tuple[int, bool, dict[str, Any]]:
    """How many connections, whether they prepare statements, and how to make one.

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
        # a client whose machine died holds its locks until the server finds out
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "synchronous_commit": "on",  # a commit that was answered is on disk: a lost row may be a job submitted twice
        # every statement of ours looks rows up by an index; a plan made while tables are small must not be another
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_seqscan": "off",
        "plan_cache_mode": "force_generic_plan",  # the others would be made five times, and thrown away
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
    }
    if not pooler:
        arguments["options"] = f"{options} {given.get('options', '')}".strip()
    return size, not pooler, arguments


_TURNED_AWAY = ("57P01", "57P02", "57P03", "57P05", "25006", "53300")
"""Shutting down, crashed, starting up, idle too long, a standby, too many connections: the server is not for us now."""

_NOT_NOW = (
    "starting up",
    "shutting down",
    "in recovery",
    "too many clients",
    "connection slots",
    "accepting connections",
)
"""A refused connection tells no state, only a sentence."""


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
    if state.startswith("28") or (not state and "FATAL" in str(error) and not any(word in said for word in _NOT_NOW)):
        return StoreError(f"the database's server does not let us in ({said}); check user, password and database")
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
