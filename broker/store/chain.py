"""Appending to the streams of events: one hash chain per stream, its tip kept in `stream`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from broker.store.base import DecisionRow, EventRow, NewEvent, event_hash
from broker.store.connect import Tx
from broker.store.schema import decision, event, stream
from broker.store.statement import Statement, given, insert_row, upsert

TIP = Statement(
    select(stream.c.seq, stream.c.tip).where(stream.c.stream == given("stream")).with_for_update(), "stream"
)
INSERT_EVENT = insert_row(event)
INSERT_DECISION = insert_row(decision)


def _move_tip(dialect: str) -> object:
    new = upsert(dialect, stream)
    values = {"stream": given("stream"), "seq": given("seq"), "tip": given("tip")}
    moved = {"seq": new.excluded.seq, "tip": new.excluded.tip}
    return new.values(values).on_conflict_do_update(index_elements=[stream.c.stream], set_=moved)


MOVE_TIP = Statement(_move_tip, "stream", "seq", "tip")  # type: ignore[arg-type]  # `upsert` answers Any


class Chain:
    """One stream inside one transaction. Links are made in memory; `flush` writes them all at once."""

    def __init__(self, tx: Tx, name: str) -> None:
        self._tx = tx
        self._name = name
        self._asked = tx.ask(TIP, (name,))
        self._seq: int | None = None
        self._tip = ""
        self._events: list[EventRow] = []
        self._decisions: list[DecisionRow] = []

    def append(self, events: Iterable[NewEvent], *, at: int) -> None:
        """Link the events; those that tell of a decision get its row too, under the same number."""
        for new in events:
            seq = self._next()
            row = (self._name, seq, at, new.actor, new.kind, new.stage, new.attempt, new.data)
            self._tip = event_hash(self._tip, row)
            self._events.append(EventRow(*row, self._tip))
            if new.decision is not None:
                self._decisions.append(DecisionRow(self._name, seq, new.n, new.attempt, at, *new.decision))

    def flush(self) -> None:
        """Write what was linked since the last time."""
        if not self._events:
            return
        self._tx.put(INSERT_EVENT, self._events)
        self._tx.put(INSERT_DECISION, self._decisions)
        self._tx.put(MOVE_TIP, [(self._name, self._seq, self._tip)])
        self._events, self._decisions = [], []

    def _next(self) -> int:
        if self._seq is None:
            self._seq, self._tip = next(iter(self._asked()), (0, ""))
        self._seq += 1
        return self._seq


def append(tx: Tx, name: str, events: Sequence[NewEvent], *, at: int) -> None:
    """Append to one stream and write it down."""
    if events:
        chain = Chain(tx, name)
        chain.append(events, at=at)
        chain.flush()
