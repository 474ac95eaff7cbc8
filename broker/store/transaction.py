"""A transaction under way, as the rooms of the store see one, whatever database is behind it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from sqlalchemy import Dialect

from broker.store.base import Counts, StoreBusy, StoreError
from broker.store.statement import Lookup, Row, Statement

Answer = Callable[[], Sequence[Any]]
"""What was asked is answered when this is called, at the latest."""


class Clash(StoreBusy):
    """Two transactions got in each other's way; the same one run again may well succeed."""


class Duplicate(StoreError):
    """A row with that key is there already. Run again, a transaction that looks first will see it."""


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

    def add_trip(self) -> None:
        with self._lock:
            self._counts.trips += 1


class Behind(Protocol):
    """A database behind `broker.store.connect.Database`."""

    dialect: Dialect

    def writing(self) -> AbstractContextManager[Tx]: ...
    def reading(self) -> AbstractContextManager[Tx]: ...
    def asking(self) -> AbstractContextManager[Tx]: ...
    def close(self) -> None: ...


class Tx(ABC):
    """Runs statements, and knows whether any of them wrote.

    Between `ask` and its answer, and between `put` and the next question or the end, a server is not waited for.
    """

    __slots__ = ("_tally", "wrote")

    holds_rows: ClassVar[bool]
    """Do others write at the same time, so that rows must be held? SQLite's one writer holds everything."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.wrote = False

    @abstractmethod
    def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
        """What a select finds."""

    @abstractmethod
    def row(self, statement: Statement, given: Row = ()) -> Any:
        """The first row, or None."""

    @abstractmethod
    def rows_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Sequence[Any]:
        """What a select finds for a list of values, in slices of at most LARGEST_LIST; nothing for an empty list."""

    @abstractmethod
    def ask(self, statement: Statement, given: Row = ()) -> Answer:
        """What a select finds, wanted later: at any moment from now until the answer is called for."""

    @abstractmethod
    def ask_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Answer:
        """As `rows_of`, wanted later."""

    @abstractmethod
    def hold_places(self) -> None:
        """Until the end, nobody else counts what runs at the sites: places seen free are free."""

    @abstractmethod
    def run(self, statement: Statement, given: Row = ()) -> int:
        """Write; how many rows were concerned."""

    @abstractmethod
    def many(self, statement: Statement, rows: Iterable[Row]) -> int:
        """Write once for each row, in one go; how many rows were concerned in all. No row, no statement."""

    @abstractmethod
    def put(self, statement: Statement, rows: Iterable[Row]) -> None:
        """As `many`, where nobody asks how many."""

    @abstractmethod
    def put_each(self, statement: Statement, rows: Iterable[Row], refused: Exception) -> None:
        """As `put`; if any of the rows is not there to be written, that is raised, now or later, and nothing kept.
        The statement has a key."""
