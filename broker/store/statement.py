"""Statements: built once with SQLAlchemy Core, compiled once per dialect, run with plain tuples.

Core's own execution was measured first: 18 µs for a cached select and 3 to 8 µs for each row of an executemany,
most of it spent on naming parameters. A driver's cursor with a compiled text takes 7 µs and under 1 µs.
So Core writes the SQL, and `broker.store.connect.Tx` hands it to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, BindParameter, Dialect, Executable, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

Row = tuple[Any, ...]
Upsert = postgresql.Insert | sqlite.Insert
"""Both have `on_conflict_do_update`, `on_conflict_do_nothing` and `excluded`, with the same meaning."""

LARGEST_LIST = 512
"""Values in one IN-list; longer ones are cut. Lists are padded to a power of two, so that few texts arise."""

_PREFIX = "given_"
"""Keeps parameters apart from the names that Core gives to literals, and from the columns that it sets in an UPDATE."""


class Text(NamedTuple):
    """A statement as a driver wants it."""

    sql: str
    arrange: Callable[[Row], Row] | None
    """From the order that the caller knows to the order of the marks; None: they agree."""
    constants: Row
    """Literals of the statement, appended to what the caller gives before it is arranged."""

    def parameters(self, row: Row) -> Row:
        return self.arrange(row + self.constants) if self.arrange else row

    def parameter_rows(self, rows: Iterable[Row]) -> Sequence[Row]:
        if self.arrange is None:
            return rows if isinstance(rows, list) else list(rows)
        if self.constants:
            return [self.arrange(row + self.constants) for row in rows]
        return list(map(self.arrange, rows))


class Statement:
    """One statement. `names` are its parameters in the order in which callers give them.

    A parameter may be used several times, or not at all: a whole row can be given where only some columns are
    written.
    """

    def __init__(self, build: Executable | Callable[[str], Executable], *names: str) -> None:
        self._build = build
        self._names = names
        self._texts: dict[str, Text] = {}

    def text(self, dialect: Dialect) -> Text:
        """For that dialect; compiled at first use."""
        found = self._texts.get(dialect.name)
        if found is None:
            build = self._build
            statement = build(dialect.name) if callable(build) else build
            found = self._texts[dialect.name] = _compile(statement, dialect, self._names)
        return found


class Lookup:
    """A select with a list of values, which come after the other parameters."""

    def __init__(self, build: Callable[[Sequence[BindParameter[Any]]], Executable], *names: str) -> None:
        self._build = build
        self._names = names
        self._texts: dict[tuple[str, int], Text] = {}

    def text(self, dialect: Dialect, size: int) -> Text:
        found = self._texts.get((dialect.name, size))
        if found is None:
            marks: list[BindParameter[Any]] = [given(f"value{place}") for place in range(size)]
            names = (*self._names, *(f"value{place}" for place in range(size)))
            found = self._texts[dialect.name, size] = _compile(self._build(marks), dialect, names)
        return found


def padded(values: list[Any]) -> Row:
    """The values, the last one repeated up to a power of two."""
    size = 1 << (len(values) - 1).bit_length()
    return (*values, *[values[-1]] * (size - len(values)))


def given(name: str) -> BindParameter[Any]:
    """A parameter."""
    return bindparam(_PREFIX + name)


def given_time(name: str) -> BindParameter[int | None]:
    """A time where no column beside it tells its type."""
    return bindparam(_PREFIX + name, type_=BigInteger)


def upsert(dialect: str, table: Table) -> Any:
    """An insert that may say what to do on a conflict. The one place that knows who spells it how.

    `Any`, since the two classes share no base that has the method.
    """
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](table)


def insert_row(table: Table) -> Statement:
    """Plain insert of whole rows, in the order of the table's columns."""
    names = tuple(column.name for column in table.columns)
    return Statement(table.insert().values({name: given(name) for name in names}), *names)


def _compile(statement: Executable, dialect: Dialect, names: Sequence[str]) -> Text:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every Executable here is a ClauseElement
    assert isinstance(compiled, SQLCompiler)  # noqa: S101  (tells the checker what Core promises for DML and selects)
    order = compiled.positiontup or []
    known = [f"{_PREFIX}{name}" for name in names]
    constants = {name: compiled.params[name] for name in order if name not in known}
    if forgotten := [name for name in constants if name.startswith(_PREFIX)]:
        raise ValueError(f"{forgotten} are in the statement, but not among the names that callers give: {statement}")
    places = {name: place for place, name in enumerate((*known, *constants))}
    wanted = [places[name] for name in order]
    if wanted == list(range(len(names))):
        return Text(str(compiled), None, ())
    return Text(str(compiled), _arranger(wanted), tuple(constants.values()))


def _arranger(wanted: Sequence[int]) -> Callable[[Row], Row]:
    if len(wanted) == 1:
        (only,) = wanted
        return lambda row: (row[only],)
    return itemgetter(*wanted) if wanted else lambda _row: ()


class lease_now(FunctionElement[int]):  # noqa: N801  (named like the SQL function it stands for)
    """The time that leases go by, microseconds UTC: the database's own, so that brokers' clocks need not agree.

    SQLite has one machine and so one clock: the one that was given to the store.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(lease_now, "sqlite")
def _given_clock(*_: object, **_options: object) -> str:
    return "crossfade_now()"


@compiles(lease_now, "postgresql")
def _database_clock(*_: object, **_options: object) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
