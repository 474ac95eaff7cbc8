"""Statements over one connection to PostgreSQL, sent ahead of their answers (libpq's pipeline mode).

A statement is *sent* when it is known, and waited for when its answer is wanted; what a transaction writes goes out
together with its COMMIT. An error in something sent earlier is therefore raised by whatever waits next.

Below psycopg's cursors, on its libpq: a cursor wakes the server up for each statement (40 µs, and two switches of
context), looks for another type of a number by its size (each mixture of sizes is another prepared statement), and
forgets what was prepared when a transaction is rolled back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, generators, pq
from psycopg.adapt import Transformer
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from broker.store.base import StoreError
from broker.store.statement import LARGEST_LIST, Lookup, Row, Statement, padded
from broker.store.transaction import Answer, Tally, Tx

RV = TypeVar("RV")

PATIENCE = 75.0
"""Seconds after which a server that says nothing at all is given up: longer than any statement may take."""
PREPARED = 512
"""Statements that a connection keeps prepared; all that we have fit in."""
PLACES = 0x63_72_6F_73_73
"""Number of the lock under which free places are counted: it says "cross"."""

DIALECT: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
"""Writes $1, $2, ...: what the server itself wants."""

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


class Sent:
    """A statement under way, and what came of it."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: pq.abc.PGresult | None = None
        """None: not answered yet, or not carried out because of an error."""

    @property
    def count(self) -> int:
        """Rows that it wrote."""
        return 0 if self.result is None else self.result.command_tuples or 0


class Line:
    """A connection in pipeline mode. Not thread-safe."""

    def __init__(self, connection: Connection, *, prepares: bool) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._loader = Transformer(connection)
        self._waiting: deque[Sent] = deque()
        self._prepared: dict[str, bytes] = {}
        self._preparing: list[tuple[str, Sent]] = []
        self._names = 0
        self._room = PREPARED if prepares else 0
        self._pgconn.enter_pipeline_mode()

    @property
    def idle(self) -> bool:
        """Is it in no transaction, with nothing under way?"""
        return not self._waiting and self._pgconn.transaction_status == pq.TransactionStatus.IDLE

    def send(self, sql: str, given: Sequence[Any] = ()) -> Sent:
        """Send it soon; at once when its answer is waited for."""
        values, formats = _encoded(given)
        name = self._prepared.get(sql) or self._prepare(sql)
        if name is None:
            self._pgconn.send_query_params(sql.encode(), values, param_formats=formats)
        else:
            self._pgconn.send_query_prepared(name, values, param_formats=formats)
        return self._expected()

    def command(self, sql: bytes) -> Sent:
        """As `send`, for what has no parameters and is not prepared."""
        self._pgconn.send_query_params(sql, None)
        return self._expected()

    def finish(self) -> None:
        """Send all, and wait for all answers. Raises the first error.

        A synchronization, not a flush, in the middle of a transaction, too: only then does the server know that it
        waits for us, and ends a transaction whose process stands still.
        """
        self._pgconn.pipeline_sync()
        self._expected()
        failed = self.connection.wait(self._receive())
        if failed is not None:
            raise errors.error_from_result(failed)

    def rows(self, sent: Sent) -> list[Any]:
        """What a select found."""
        assert sent.result is not None  # noqa: S101  (it was waited for)
        self._loader.set_pgresult(sent.result)
        return self._loader.load_rows(0, sent.result.ntuples, tuple)

    def undo(self) -> None:
        """Roll back whatever is under way; closed where that cannot be, which does the same."""
        try:
            self._pgconn.pipeline_sync()  # out of a pipeline that broke off
            self._expected()
            self.command(b"ROLLBACK")
            self._pgconn.pipeline_sync()
            self._expected()
            self.connection.wait(self._receive())
        except psycopg.Error:
            self.connection.close()

    def _prepare(self, sql: str) -> bytes | None:
        """A name for it from now on; None: enough have one."""
        if len(self._prepared) >= self._room:
            return None
        self._names += 1
        name = self._prepared[sql] = b"cf%d" % self._names
        self._pgconn.send_prepare(name, sql.encode())
        self._preparing.append((sql, self._expected()))
        return name

    def _expected(self) -> Sent:
        sent = Sent()
        self._waiting.append(sent)
        return sent

    def _receive(self) -> Generator[Any, Any, pq.abc.PGresult | None]:
        """Answers to all that was sent; the first that is an error."""
        failed = None
        yield from generators.send(self._pgconn)
        while self._waiting:
            results = yield from generators.fetch_many(self._pgconn)
            if not results:
                raise psycopg.OperationalError("the connection was lost")
            sent, result = self._waiting.popleft(), results[-1]
            if result.status == pq.ExecStatus.FATAL_ERROR:
                failed = failed or result
            elif result.status != pq.ExecStatus.PIPELINE_ABORTED:
                sent.result = result
        for sql, sent in self._preparing:
            if sent.result is None:
                del self._prepared[sql]
        self._preparing.clear()
        return failed


def _encoded(given: Sequence[Any]) -> tuple[list[bytes | None], list[int] | None]:
    """Parameters as text without a type (the statement says it), bytes as they are."""
    values: list[bytes | None] = []
    formats: list[int] | None = None
    for place, value in enumerate(given):
        if isinstance(value, str):
            # the one sign that the server cannot keep, and halves of signs, come from foreign output
            text = value.replace("\x00", "\ufffd") if "\x00" in value else value
            values.append(text.encode("utf-8", "replace"))
        elif isinstance(value, int):
            values.append(b"%d" % value)
        elif isinstance(value, bytes):
            formats = formats or [pq.Format.TEXT] * len(given)
            formats[place] = pq.Format.BINARY
            values.append(value)
        else:
            values.append(None)
    return values, formats


class Transaction(Tx):
    """One transaction; without `begin` of one statement."""

    __slots__ = ("_checks", "_line")

    holds_rows = True

    def __init__(self, line: Line, tally: Tally) -> None:
        super().__init__(tally)
        self._line = line
        self._checks: list[tuple[Sent, Exception]] = []

    # -- ask -----------------------------------------------------------------------------------------------------

    def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
        return self.ask(statement, given)()

    def row(self, statement: Statement, given: Row = ()) -> Any:
        return next(iter(self.ask(statement, given)()), None)

    def rows_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Sequence[Any]:
        return self.ask_of(lookup, given, values)()

    def ask(self, statement: Statement, given: Row = ()) -> Answer:
        text = statement.text(DIALECT)
        sent = self._send(text.sql, text.parameters(given))
        return lambda: self._answer(sent)

    def ask_of(self, lookup: Lookup, given: Row, values: Iterable[Any]) -> Answer:
        wanted = values if isinstance(values, list) else list(values)
        asked = []
        for start in range(0, len(wanted), LARGEST_LIST):
            part = padded(wanted[start : start + LARGEST_LIST])
            text = lookup.text(DIALECT, len(part))
            asked.append(self._send(text.sql, text.parameters(given + part)))
        return lambda: [row for sent in asked for row in self._answer(sent)]

    def hold_places(self) -> None:
        self._line.command(b"SELECT pg_advisory_xact_lock(%d)" % PLACES)

    # -- write ---------------------------------------------------------------------------------------------------

    def run(self, statement: Statement, given: Row = ()) -> int:
        return self.many(statement, [given])

    def many(self, statement: Statement, rows: Iterable[Row]) -> int:
        sent = self._send_all(statement, rows)
        if sent:
            self._settle()
        return sum(one.count for one in sent)

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
        sent = self._send(_COUNTED.format(bulk.sql, len(parameters) + 1), [*parameters, len(given)])
        self._checks.append((sent, refused))

    def refusal(self) -> Exception:
        """What to raise when a count was wrong."""
        return next(refused for sent, refused in self._checks if sent.result is None)

    # -- begin and end -------------------------------------------------------------------------------------------

    def begin(self, how: bytes) -> None:
        self._line.command(b"BEGIN " + how)

    def commit(self) -> None:
        """Send all that is still to be sent, and COMMIT; return when the server says that it is on disk."""
        sent = self._line.command(b"COMMIT")
        self._tally.add_trip()
        self._line.finish()
        if sent.result is None or sent.result.command_status != b"COMMIT":
            raise StoreError("the database did not commit; nothing was kept")

    # -- inner ---------------------------------------------------------------------------------------------------

    def _send_all(self, statement: Statement, rows: Iterable[Row]) -> list[Sent]:
        given = rows if isinstance(rows, list) else list(rows)
        if not given:
            return []
        self.wrote = True
        text = statement.text(DIALECT)
        bulk = statement.bulk(DIALECT, given) if len(given) > 1 else None
        if bulk is not None:
            return [self._send(bulk.sql, bulk.parameters(given))]
        return [self._send(text.sql, row) for row in text.parameter_rows(given)]

    def _send(self, sql: str, given: Sequence[Any]) -> Sent:
        self._tally.add_statement()
        return self._line.send(sql, given)

    def _answer(self, sent: Sent) -> Sequence[Any]:
        if sent.result is None:
            self._settle()
        return self._line.rows(sent)

    def _settle(self) -> None:
        self._tally.add_trip()
        self._line.finish()
