"""Small texts by key, for movers: what must be known again after a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from broker.clock import Clock
from broker.store.connect import Database, Tx
from broker.store.schema import note
from broker.store.statement import Lookup, Statement, given, upsert

_COLUMNS = ("key", "text", "at")
FIND = Lookup(lambda keys: select(note.c.key, note.c.text).where(note.c.key.in_(keys)))


def _new(dialect: str) -> Any:
    return upsert(dialect, note).values({name: given(name) for name in _COLUMNS})


PUT_FIRST = Statement(lambda dialect: _new(dialect).on_conflict_do_nothing(index_elements=[note.c.key]), *_COLUMNS)
PUT = Statement(
    lambda dialect: _new(dialect).on_conflict_do_update(
        index_elements=[note.c.key], set_={"text": given("text"), "at": given("at")}
    ),
    *_COLUMNS,
)
DROP = Statement(note.delete().where(note.c.key == given("key")), "key", key=("key",))


class StoredNotes:
    """`connectors.base.Notes` on the store's database. Every method is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        return self._database.read(lambda tx: _found(tx, keys)) if keys else {}

    def put_first(self, key: str, text: str) -> str:
        def work(tx: Tx) -> str:
            tx.run(PUT_FIRST, (key, text, self._clock()))
            return _found(tx, [key])[key]

        return self._database.do(work)

    def put(self, key: str, text: str) -> None:
        self._database.do(lambda tx: tx.run(PUT, (key, text, self._clock())))

    def drop(self, keys: Sequence[str]) -> None:
        if keys:
            self._database.do(lambda tx: tx.put(DROP, [(key,) for key in keys]))


def _found(tx: Tx, keys: Sequence[str]) -> dict[str, str]:
    return {str(key): str(text) for key, text in tx.rows_of(FIND, (), list(keys))}
