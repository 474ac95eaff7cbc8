"""The way to the database, SQLite's or PostgreSQL's: transactions, and what is done when two of them clash.

Statements run on the driver's own cursor (see `statement`); SQLAlchemy's connections serve the steps of `migrate`.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from sqlalchemy import Engine, NullPool, create_engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from broker.clock import Clock
from broker.store import sqlite
from broker.store.base import Counts, StoreError, StoreGone
from broker.store.transaction import Behind, Clash, Duplicate, Tally, Tx

__all__ = ["BUSY_SECONDS", "Clash", "Database", "Duplicate", "Tx", "translated"]

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long a writer waits for the others."""
TRIES = 4
"""How often a transaction of our own is run when it clashes with another one."""
PAUSE = 0.01
"""Seconds between two tries, at most; twice as long each time."""


class Database:
    """An engine and its transactions. Thread-safe."""

    def __init__(self, url: str | URL, *, clock: Clock, busy_seconds: float = BUSY_SECONDS) -> None:
        """Raises StoreError for an address that is none of ours."""
        self.url = _read(url)
        self.counts = Counts()
        tally = Tally(self.counts)
        self._closed = False
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.in_memory = self.sqlite and self.url.database in (None, "", ":memory:")
        """Is it gone with this object, and nobody else's?"""
        if self.sqlite:
            self.engine = sqlite.make_engine(self.url, clock=clock, busy_seconds=busy_seconds)
            self._behind: Behind = sqlite.File(self.url, engine=self.engine, tally=tally, busy_seconds=busy_seconds)
            self.driver_errors: tuple[type[Exception], ...] = (sqlite3.Error, DBAPIError)
        else:
            import psycopg  # noqa: PLC0415  (half of the time that opening a file would take)

            from broker.store import postgres  # noqa: PLC0415

            self.engine = _steps_engine(postgres.address(self.url))
            self._behind = postgres.Server(self.url, tally=tally, busy_seconds=busy_seconds, tries=TRIES)
            self.driver_errors = (psycopg.Error, DBAPIError)
        self.dialect = self._behind.dialect
        """Of our own statements; the engine's differs in how parameters are marked."""

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """A transaction that may write, kept whole or, on an exception, not at all."""
        self._must_be_open()
        with self._behind.writing() as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """A transaction that sees one state of all tables and never waits for a writer."""
        self._must_be_open()
        with self._behind.reading() as tx:
            yield tx

    @contextmanager
    def asking(self) -> Iterator[Tx]:
        """A transaction of one statement, which changes nothing."""
        self._must_be_open()
        with self._behind.asking() as tx:
            yield tx

    def do(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction that is wholly `work`, again (at most TRIES times) when it clashes with another one, and
        once more when the server went away.

        A server that goes away during a commit leaves unknown whether it was kept. So `work` must be such that doing
        it twice is doing it once; each method of the store that is not so by nature says how.
        """
        gone = 0
        for number in range(TRIES):
            try:
                with self.writing() as tx:
                    return work(tx)
            except StoreGone:
                gone += 1
                if gone == 2 or number == TRIES - 1:
                    raise
            except (Clash, Duplicate):
                if number == TRIES - 1:
                    raise
            _pause(number)
        raise AssertionError("unreachable")

    def read(self, work: Callable[[Tx], T]) -> T:
        """The same for a transaction that changes nothing."""
        return _twice(self.reading, work)

    def ask(self, work: Callable[[Tx], T]) -> T:
        """The same for one of a single statement that changes nothing."""
        return _twice(self.asking, work)

    def close(self) -> None:
        """Close all connections. What is used afterwards raises StoreError."""
        self._closed = True
        self._behind.close()
        self.engine.dispose()

    def _must_be_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")


def _pause(number: int) -> None:
    time.sleep(random.uniform(0, PAUSE * 2**number))  # noqa: S311  (jitter, no secret)


def _twice(transaction: Callable[[], AbstractContextManager[Tx]], work: Callable[[Tx], T]) -> T:
    """A connection may have died unseen in the pool: a second one tells whether the server did."""
    try:
        with transaction() as tx:
            return work(tx)
    except StoreGone:
        with transaction() as tx:
            return work(tx)


def translated(error: BaseException, url: URL) -> StoreError:
    """A driver's error in the port's words."""
    if isinstance(error, sqlite3.Error):
        return sqlite.translated(error, url.database or ":memory:")
    import psycopg  # noqa: PLC0415  (see above)

    from broker.store import postgres  # noqa: PLC0415

    return postgres.translated(error if isinstance(error, psycopg.Error) else psycopg.Error(str(error)))


def _read(url: str | URL) -> URL:
    try:
        read = make_url(url)
    except ArgumentError:
        # from None: what could not be read may hold a password
        raise StoreError("the store's address cannot be read; write postgresql://USER@HOST/DATABASE") from None
    if read.drivername == "sqlite" or read.drivername in ("postgresql", "postgresql+psycopg"):
        return read
    raise StoreError(f"the store is kept by sqlite:// or postgresql://, not by {read.drivername}://")


def _steps_engine(url: URL) -> Engine:
    return create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
