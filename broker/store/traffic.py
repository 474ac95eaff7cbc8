"""Movements, transfers, links and replicas on SQL: the rows that `broker.traffic` goes by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, literal_column, null, or_, select, true

from broker.clock import Clock
from broker.store import recording
from broker.store.base import Sightings
from broker.store.connect import Database, Tx
from broker.store.schema import effect, link, movement, mover, replica, transfer
from broker.store.statement import Lookup, Statement, given, given_count, given_time, insert_row, upsert
from broker.traffic.rows import (
    CANCELING,
    OVER,
    WANTED,
    LinkRow,
    MovementRow,
    MoverRow,
    ReplicaRow,
    TrafficSeen,
    TransferRow,
)


def _word(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'")


_OVER: list[ColumnElement[str]] = [_word(state) for state in sorted(OVER)]
_ASKED = (
    "source",
    "destination",
    "items",
    "others",
    "label",
    "about",
    "private",
    "urgent",
    "deadline",
    "files",
    "bytes",
)
"""What comes with the asking; the rest says what became of it."""


def _want(dialect: str) -> Any:
    """Kept as it is, unless it had ended without: then it is wanted anew, its tries counting on."""
    new = upsert(dialect, movement)
    anew = {
        name: new.excluded[name] for name in (*_ASKED, "state", "due_at", "refused", "reason", "fault", "side", "help")
    }
    again = [_word(state) for state in sorted(OVER - {"succeeded"})]
    return new.values({name: given(name) for name in MovementRow._fields}).on_conflict_do_update(
        index_elements=[movement.c.key], set_={**anew, "ended_at": null()}, where=movement.c.state.in_(again)
    )


WANT = Statement(_want, *MovementRow._fields)
MOVEMENTS = Lookup(lambda keys: select(movement).where(movement.c.key.in_(keys)))
WANTED_NOW = Statement(
    select(movement)
    .where(movement.c.state == _word(WANTED), movement.c.due_at <= given_time("now"))
    .order_by(movement.c.urgent.desc(), movement.c.created_at, movement.c.key)
    .limit(given("limit")),
    "now",
    "limit",
)
UNWANTED = Statement(
    select(movement)
    .where(
        movement.c.due_at.is_not(None),
        movement.c.about != _word(""),
        ~exists().where(effect.c.key == movement.c.about, effect.c.state == _word("pending")),
    )
    .order_by(movement.c.key)
)
INSERT_TRANSFER = insert_row(transfer)


def _open_transfer(dialect: str) -> Any:
    """One that had ended is begun again under its key: what has arrived of it is gone on with."""
    new = upsert(dialect, transfer)
    anew = {name: new.excluded[name] for name in TransferRow._fields if name != "key"}
    return new.values({name: given(name) for name in TransferRow._fields}).on_conflict_do_update(
        index_elements=[transfer.c.key], set_=anew, where=transfer.c.open == literal_column("0")
    )


OPEN_TRANSFER = Statement(_open_transfer, *TransferRow._fields)
HOLD = Statement(
    transfer.update()
    .values(native_id=given("by"))
    .where(
        transfer.c.key == given("key"), transfer.c.open == literal_column("1"), transfer.c.native_id == given("was")
    ),
    "key",
    "by",
    "was",
)
PUT_ON = Statement(
    movement.update()
    .values(
        state=_word("active"),
        others=given("others"),
        transfer=given("transfer"),
        mover=given("mover"),
        taken_from=given("taken_from"),
        began_at=given_time("now"),
    )
    .where(movement.c.key == given("key"), movement.c.state == _word(WANTED)),
    "key",
    "others",
    "transfer",
    "mover",
    "taken_from",
    "now",
)
OPEN_TRANSFERS = Statement(
    select(transfer).where(transfer.c.open == literal_column("1")).order_by(transfer.c.created_at, transfer.c.key)
)
CARRIED_BY = Statement(
    select(movement).where(movement.c.transfer == given("transfer")).order_by(movement.c.key), "transfer"
)
TRANSFER = Statement(select(transfer).where(transfer.c.key == given("key")), "key")
OF_RUN = Statement(
    select(movement).where(movement.c.run_id == given("run_id")).order_by(movement.c.created_at, movement.c.key),
    "run_id",
)
CANCEL = Statement(
    transfer.update()
    .values(state=_word(CANCELING), reason=given("reason"))
    .where(transfer.c.key == given("key"), transfer.c.open == literal_column("1")),
    "key",
    "reason",
)
REPLICAS = Lookup(
    lambda digests: (
        select(replica).where(replica.c.sha256.in_(digests)).order_by(replica.c.sha256, replica.c.side, replica.c.path)
    )
)
LINKS = Statement(select(link).order_by(link.c.source, link.c.destination, link.c.mover))
MOVERS = Statement(select(mover).order_by(mover.c.name))


def _listed(*, of_run: bool, open_only: bool) -> Statement:
    wanted: list[ColumnElement[bool]] = []
    if of_run:
        wanted.append(exists().where(movement.c.transfer == transfer.c.key, movement.c.run_id == given("run_id")))
    if open_only:
        wanted.append(transfer.c.open == literal_column("1"))
    newest = (transfer.c.created_at.desc(), transfer.c.key)
    return Statement(
        select(transfer).where(and_(true(), *wanted)).order_by(*newest).limit(given("limit")), "run_id", "limit"
    )


LISTED = {
    (of_run, open_only): _listed(of_run=of_run, open_only=open_only)
    for of_run in (False, True)
    for open_only in (False, True)
}


def _update(table: Table, fields: Sequence[str], where: ColumnElement[bool]) -> Statement:
    """A row written whole, while it is still going on."""
    values = {name: given(name) for name in fields if name != "key"}
    return Statement(table.update().values(values).where(table.c.key == given("key"), where), *fields)


# somebody may have asked for its end since the row was read: only the end takes that away
_NOT_TAKEN_BACK = or_(transfer.c.state != _word(CANCELING), transfer.c.open > given("open"))
SAVE_TRANSFER = _update(transfer, TransferRow._fields, and_(transfer.c.open == literal_column("1"), _NOT_TAKEN_BACK))
SAVE_MOVEMENT = _update(movement, MovementRow._fields, movement.c.state.not_in(_OVER))


def _upsert(table: Table, fields: Sequence[str], keys: Sequence[str]) -> Statement:
    def build(dialect: str) -> Any:
        new = upsert(dialect, table)
        moved = {name: new.excluded[name] for name in fields if name not in keys}
        return new.values({name: given(name) for name in fields}).on_conflict_do_update(
            index_elements=list(keys), set_=moved
        )

    return Statement(build, *fields)


SAVE_REPLICA = _upsert(replica, ReplicaRow._fields, ("sha256", "side", "path"))
SAVE_LINK = _upsert(link, LinkRow._fields, ("source", "destination", "mover"))
_MOVER_SEEN = [name for name in MoverRow._fields if name != "next_at"]
SAVE_MOVER = Statement(
    mover.update()
    .values({name: given(name) for name in _MOVER_SEEN if name != "name"})
    .where(mover.c.name == given("name")),
    *MoverRow._fields,
)


def _new_mover(dialect: str) -> Any:
    zero, nothing = given_count("probes"), given("detail")
    new = upsert(dialect, mover).values(name=given("name"), probes=zero, detail=nothing, help=nothing)
    return new.on_conflict_do_nothing(index_elements=[mover.c.name])


NEW_MOVER = Statement(_new_mover, "name", "probes", "detail")
TAKE_TURN = Statement(
    mover.update()
    .values(next_at=given_time("until"))
    .where(mover.c.name == given("name"), or_(mover.c.next_at.is_(None), mover.c.next_at <= given_time("now"))),
    "name",
    "now",
    "until",
)
HASTEN_TURN = Statement(
    mover.update()
    .values(next_at=given_time("at"))
    .where(mover.c.name == given("name"), mover.c.next_at > given_time("at")),
    "name",
    "at",
)


class StoredTraffic:
    """`broker.traffic.rows.TrafficStore` on the store's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    # -- what is wanted ------------------------------------------------------------------------------------------

    def want(self, rows: Sequence[MovementRow]) -> None:
        if rows:
            self._database.do(lambda tx: tx.put(WANT, sorted(rows)))

    def movements(self, keys: Collection[str]) -> Mapping[str, MovementRow]:
        if not keys:
            return {}
        found = self._database.read(lambda tx: tx.rows_of(MOVEMENTS, (), list(keys)))
        return {row[0]: MovementRow._make(row) for row in found}

    def wanted(self, *, now: int, limit: int) -> Sequence[MovementRow]:
        return self._movements(WANTED_NOW, now, limit)

    def unwanted(self) -> Sequence[MovementRow]:
        return self._movements(UNWANTED)

    def movements_of(self, run_id: str) -> Sequence[MovementRow]:
        return self._movements(OF_RUN, run_id)

    def carried_by(self, transfer: str) -> Sequence[MovementRow]:
        return self._movements(CARRIED_BY, transfer)

    # -- transfers -----------------------------------------------------------------------------------------------

    def begin(self, row: TransferRow, members: Sequence[tuple[str, str]]) -> Sequence[str]:
        def work(tx: Tx) -> Sequence[str]:
            found = tx.row(TRANSFER, (row.key,))
            if found is not None:  # by a try whose commit nobody could tell of
                return [str(kept[0]) for kept in tx.rows(CARRIED_BY, (row.key,))]
            now = self._clock()
            taken = [
                key for key, others in members if tx.run(PUT_ON, (key, others, row.key, row.mover, row.source, now))
            ]
            if taken:
                tx.run(INSERT_TRANSFER, row._replace(movements=len(taken)))
            return taken

        return self._database.do(work)

    def carry(self, given: Sequence[tuple[TransferRow, MovementRow]]) -> None:
        def work(tx: Tx) -> None:
            now = self._clock()
            for row, one in sorted(given, key=lambda pair: pair[1].key):
                tx.run(WANT, one)
                if tx.run(PUT_ON, (one.key, one.others, row.key, row.mover, row.source, now)):
                    tx.run(OPEN_TRANSFER, row)

        if given:
            self._database.do(work)

    def hold(self, key: str, *, by: str, was: str) -> bool:
        return self._database.do(lambda tx: tx.run(HOLD, (key, by, was))) == 1

    def open_transfers(self) -> Sequence[TransferRow]:
        return self._transfers(OPEN_TRANSFERS)

    def transfers(self, *, run_id: str = "", open_only: bool = False, limit: int = 100) -> Sequence[TransferRow]:
        return self._transfers(LISTED[bool(run_id), open_only], run_id, limit)

    def transfer(self, key: str) -> TransferRow | None:
        found = self._transfers(TRANSFER, key)
        return found[0] if found else None

    def ask_to_cancel(self, key: str, *, reason: str) -> bool:
        return self._database.do(lambda tx: tx.run(CANCEL, (key, reason))) == 1

    def record(self, seen: TrafficSeen, *, now: int) -> Collection[str]:
        def work(tx: Tx) -> Collection[str]:
            # first, and so in the order in which everybody takes rows: runs, then the rest
            told = Sightings(events=seen.events, evidence=seen.evidence, wake_effects=sorted(seen.wake))
            runs = recording.record(tx, told, now=now)
            tx.put(SAVE_TRANSFER, sorted(seen.transfers))
            tx.put(SAVE_MOVEMENT, sorted(seen.movements))
            tx.put(SAVE_REPLICA, sorted(dict.fromkeys(seen.replicas)))
            tx.put(SAVE_LINK, sorted(seen.links))
            tx.put(SAVE_MOVER, sorted(seen.movers))
            return runs

        return () if seen.empty() else self._database.do(work)

    # -- what is known -------------------------------------------------------------------------------------------

    def replicas(self, digests: Collection[str]) -> Mapping[str, Sequence[ReplicaRow]]:
        if not digests:
            return {}
        found: dict[str, list[ReplicaRow]] = {}
        for row in self._database.read(lambda tx: tx.rows_of(REPLICAS, (), sorted(digests))):
            kept = ReplicaRow._make(row)
            found.setdefault(kept.sha256, []).append(kept)
        return found

    def links(self) -> Sequence[LinkRow]:
        return [LinkRow._make(row) for row in self._database.ask(lambda tx: tx.rows(LINKS, ()))]

    def movers(self) -> Mapping[str, MoverRow]:
        rows = self._database.ask(lambda tx: tx.rows(MOVERS, ()))
        return {row[0]: MoverRow._make(row) for row in rows}

    def take_turn(self, name: str, *, now: int, until: int) -> bool:
        def work(tx: Tx) -> bool:
            if tx.run(TAKE_TURN, (name, now, until)) == 1:
                return True
            return tx.run(NEW_MOVER, (name, 0, "")) == 1 and tx.run(TAKE_TURN, (name, now, until)) == 1

        return self._database.do(work)

    def hasten_turn(self, name: str, *, at: int) -> None:
        self._database.do(lambda tx: tx.run(HASTEN_TURN, (name, at)))

    def _movements(self, statement: Statement, *values: object) -> Sequence[MovementRow]:
        return [MovementRow._make(row) for row in self._database.ask(lambda tx: tx.rows(statement, values))]

    def _transfers(self, statement: Statement, *values: object) -> Sequence[TransferRow]:
        return [TransferRow._make(row) for row in self._database.ask(lambda tx: tx.rows(statement, values))]
