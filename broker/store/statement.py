"""Statements: built once with SQLAlchemy Core, compiled once per dialect, run with plain tuples.

Core's own execution was measured first: 18 µs for a cached select and 3 to 8 µs for each row of an executemany,
most of it spent on naming parameters. A driver's cursor with a compiled text takes 7 µs and under 1 µs.
So Core writes the SQL, and `broker.store.connect.Tx` hands it to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Column,
    Dialect,
    Executable,
    Insert,
    Integer,
    Table,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse

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


class Bulk(NamedTuple):
    """One statement for many rows, which come column by column: each parameter is a list."""

    sql: str
    places: Sequence[int]
    """Of each parameter: which column of the rows it is; beyond them, which constant."""
    constants: Row

    def parameters(self, rows: Sequence[Row]) -> list[Any]:
        columns = list(zip(*rows, strict=True))
        width = len(columns)
        return [array_text(columns[place]) if place < width else self.constants[place - width] for place in self.places]


class Statement:
    """One statement. `names` are its parameters in the order in which callers give them.

    A parameter may be used several times, or not at all: a whole row can be given where only some columns are
    written.

    `key`: of an UPDATE, the parameters that name the one row which it concerns. Then it can be said once for many
    rows where no key comes twice.
    """

    def __init__(
        self, build: Executable | Callable[[str], Executable], *names: str, key: Sequence[str] | None = None
    ) -> None:
        self._build = build
        self._names = names
        self._texts: dict[str, Text] = {}
        self._key = None if key is None else _arranger([names.index(name) for name in key])
        self._bulks: dict[str, Bulk] = {}

    def text(self, dialect: Dialect) -> Text:
        """For that dialect; compiled at first use."""
        found = self._texts.get(dialect.name)
        if found is None:
            found = self._texts[dialect.name] = _compile(self._built(dialect), dialect, self._names)
        return found

    def bulk(self, dialect: Dialect, rows: Sequence[Row]) -> Bulk | None:
        """The same for all these rows at once, on a dialect that has arrays; None where that would not be the same."""
        if self._key is None or len(set(map(self._key, rows))) < len(rows):
            return None
        found = self._bulks.get(dialect.name)
        if found is None:
            found = self._bulks[dialect.name] = _compile_bulk(self._built(dialect), dialect, self._names)
        return found

    def _built(self, dialect: Dialect) -> Executable:
        build = self._build
        return build(dialect.name) if callable(build) else build


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


def given_for(like: Column[Any]) -> BindParameter[Any]:
    """A parameter of that column's name and type, where no comparison or assignment tells the type."""
    return bindparam(_PREFIX + like.name, type_=like.type)


def given_count(name: str) -> BindParameter[int]:
    """A number where no column beside it tells its type."""
    return bindparam(_PREFIX + name, type_=Integer)


def upsert(dialect: str, table: Table) -> Any:
    """An insert that may say what to do on a conflict. The one place that knows who spells it how.

    `Any`, since the two classes share no base that has the method.
    """
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](table)


def insert_row(table: Table) -> Statement:
    """Plain insert of whole rows, in the order of the table's columns."""
    names = tuple(each.name for each in table.columns)
    key = [each.name for each in table.primary_key]
    return Statement(table.insert().values({name: given(name) for name in names}), *names, key=key)


def array_text(values: Iterable[object]) -> str:
    """A list of texts or whole numbers as PostgreSQL reads one. Ten times as fast as the driver's own way."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "NULL" if value is None else str(value)


def _compile(statement: Executable, dialect: Dialect, names: Sequence[str]) -> Text:
    compiled = _compiled(statement, dialect)
    places, constants = _placed(compiled, names)
    if places == list(range(len(names))):
        return Text(str(compiled), None, ())
    return Text(str(compiled), _arranger(places), constants)


def _compile_bulk(statement: Executable, dialect: Dialect, names: Sequence[str]) -> Bulk:
    """INSERT ... SELECT, or UPDATE ... FROM, a table that is unnested from lists."""
    plain = _compiled(statement, dialect)
    types = {name: plain.binds[name].type for name in plain.binds if name.startswith(_PREFIX)}
    lists = [bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()]
    rows = func.unnest(*lists).table_valued(*(column(name, type_) for name, type_ in types.items()))
    rows = rows.render_derived(name="rows")
    if isinstance(statement, Insert):
        into = [each.name for each in statement.table.columns]
        whole: Any = statement.table.insert().from_select(into, select(*(rows.c[_PREFIX + name] for name in into)))
    else:
        whole = replacement_traverse(
            statement,  # type: ignore[call-overload]  # every Executable here is a ClauseElement
            {},
            lambda part, **_: rows.c[part.key] if isinstance(part, BindParameter) and part.key in types else None,
        )
    compiled = _compiled(whole, dialect)
    return Bulk(str(compiled), *_placed(compiled, names))


def _compiled(statement: Executable, dialect: Dialect) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every Executable here is a ClauseElement
    assert isinstance(compiled, SQLCompiler)  # noqa: S101  (tells the checker what Core promises for DML and selects)
    return compiled


def _placed(compiled: SQLCompiler, names: Sequence[str]) -> tuple[list[int], Row]:
    """Where each parameter of the text is found among what callers give, and the literals that come after it."""
    order = compiled.positiontup or []
    known = [f"{_PREFIX}{name}" for name in names]
    constants = {name: compiled.params[name] for name in order if name not in known}
    if forgotten := [name for name in constants if name.startswith(_PREFIX)]:
        raise ValueError(f"{forgotten} are in the statement, but not among the names that callers give: {compiled}")
    places = {name: place for place, name in enumerate((*known, *constants))}
    return [places[name] for name in order], tuple(constants.values())


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
