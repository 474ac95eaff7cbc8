"""Where movements are asked for: the port `Mover` over all movers there are.

What can be copied on the spot, or must pass through this process anyhow, is carried at once and leaves no row. What a
service carries is kept as a row first: so that many go together, that the service's places are shared out, that a crash
loses nothing and every process sees the same. `Turn` takes it from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from broker.clock import Clock
from broker.store.base import Store
from broker.traffic.routes import FOR_EVER, Routes, taken_from
from broker.traffic.rows import (
    ACTIVE,
    BEGUN,
    CANCELED,
    CANCELING,
    DIRECT,
    FAILED,
    HELD,
    OVER,
    SUCCEEDED,
    WANTED,
    MovementRow,
    TrafficSeen,
    movement_of,
)
from broker.traffic.turn import QUICK, Turn
from connectors.base import ClosableMover
from connectors.errors import Fault
from connectors.model import Accepted, Origin, Refused, SubmitAnswer, Transfer, TransferState, TransferStatus
from policies.traffic import Way, best, refusals

_STATES = {
    **dict.fromkeys((WANTED, ACTIVE, DIRECT, BEGUN, CANCELING), TransferState.ACTIVE),
    HELD: TransferState.HELD,
    SUCCEEDED: TransferState.SUCCEEDED,
    FAILED: TransferState.FAILED,
    CANCELED: TransferState.FAILED,
}


class Desk:
    """The port `connectors.base.Mover`. Thread-safe."""

    def __init__(
        self,
        movers: Mapping[str, ClosableMover],
        store: Store,
        clock: Clock,
        *,
        quick: float = QUICK,
        horizons: Mapping[str, float] = FOR_EVER,
    ) -> None:
        """`movers`: by name, in the order in which they are preferred. `quick`: seconds between two looks at their
        services while something changes. `horizons`: for how many seconds a side keeps files, where it purges them."""
        self.routes = Routes(movers)
        self._store, self._clock = store, clock
        self.turn = Turn(self.routes, store, clock, dark=self._dark, quick=quick, horizons=horizons)

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin, or keep as wanted. A key that failed, or was canceled, begins again."""
        answers: dict[str, SubmitAnswer] = {}
        at_once: dict[str, list[Transfer]] = {}
        rows: list[MovementRow] = []
        for transfer in transfers:
            twice = _twice(transfer)
            if twice:
                reason = f"two files would become {transfer.destination_site}'s {twice}"
                answers[transfer.key] = Refused(reason=reason, fault=Fault.APPLICATION.value)
                continue
            way, against = self._way(transfer)
            if way is None:
                answers[transfer.key] = Refused(reason=against, fault=Fault.STAGING.value)
            elif way.mover in self.routes.slots:
                rows.append(self._row(transfer))
                answers[transfer.key] = Accepted(native_id=transfer.key)
            else:
                at_once.setdefault(way.mover, []).append(self._by(way, transfer))
        if rows:
            self._store.traffic.want(rows)
            self.turn.hasten()
        for mover, batch in at_once.items():
            answers.update(self.routes.movers[mover].submit(batch))
        return answers

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        rows = self._store.traffic.movements(keys) if self.routes.slots else {}
        told = {key: _told(row) for key, row in rows.items() if row.state != DIRECT}
        told |= self._carried_here({key: row for key, row in rows.items() if row.state == DIRECT})
        return {**told, **self._asked([key for key in keys if key not in told])}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """A movement that goes together with others ends with them: until then something may be written."""
        rows = self._store.traffic.movements(keys) if self.routes.slots else {}
        answers = {key: self.turn.cancel(row, keys) for key, row in rows.items() if row.state != DIRECT}
        left = [key for key in keys if key not in answers]
        said = [
            mover.cancel(left) for name, mover in self.routes.movers.items() if name not in self.routes.slots and left
        ]
        return answers | {key: all(each[key] for each in said) for key in left}

    def close(self) -> None:
        for mover in self.routes.movers.values():
            mover.close()

    # -- behind ----------------------------------------------------------------------------------------------

    def _dark(self) -> Collection[str]:
        return {row.site for row in self._store.sites() if row.cannot_ask_since is not None}

    def _way(self, transfer: Transfer) -> tuple[Way | None, str]:
        """The best way as far as what never changes tells; else what speaks against each."""
        ways = self.routes.ways(transfer, _origins(transfer))
        way = best(ways)
        return way, "; ".join(dict.fromkeys(reason.fact for reason in refusals(ways))) if way is None else ""

    @staticmethod
    def _by(way: Way, transfer: Transfer) -> Transfer:
        return taken_from(transfer, next(origin for origin in _origins(transfer) if origin.site == way.source))

    def _row(self, transfer: Transfer) -> MovementRow:
        effect = self._store.effect(transfer.about) if transfer.about else None
        run_id, n, attempt = (effect.run_id, effect.n, effect.attempt) if effect else ("", 0, 0)
        return movement_of(transfer, run_id=run_id, n=n, attempt=attempt, now=self._clock())

    def _asked(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        """Of those who carry in this process. What one of them failed at, another one may carry by now."""
        left = list(keys)
        found = {key: TransferStatus(key=key, state=TransferState.UNKNOWN) for key in keys}
        for name, mover in self.routes.movers.items():
            if left and name not in self.routes.slots:
                told = mover.status(left)
                found |= {key: status for key, status in told.items() if status.state is not TransferState.UNKNOWN}
                left = [key for key in left if found[key].state in (TransferState.UNKNOWN, TransferState.FAILED)]
        return found

    def _carried_here(self, rows: Mapping[str, MovementRow]) -> dict[str, TransferStatus]:
        """What the plan has given to a mover of the asker's own process: begun here, unless it is under way."""
        told: dict[str, TransferStatus] = {}
        for key, row in rows.items():
            mover = self.routes.movers[row.mover]
            status = mover.status([key])[key]
            if status.state is TransferState.UNKNOWN:
                answer = mover.submit([self.turn.transfer_of(row)])[key]
                status = (
                    TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
                    if isinstance(answer, Refused)
                    else mover.status([key])[key]
                )
            if status.state in (TransferState.SUCCEEDED, TransferState.FAILED):
                self._over(row, status)
            told[key] = status
        return told

    def _over(self, row: MovementRow, status: TransferStatus) -> None:
        now = self._clock()
        ended = row._replace(
            state=SUCCEEDED if status.state is TransferState.SUCCEEDED else FAILED,
            due_at=None,
            ended_at=now,
            moved=status.bytes_moved,
            reason=status.reason,
            fault=status.fault,
            side=status.site,
        )
        self._store.traffic.record(TrafficSeen(movements=[ended]), now=now)


def _origins(transfer: Transfer) -> Sequence[Origin]:
    """Where its files may be taken from, the asked one first."""
    return (Origin(site=transfer.source_site, items=transfer.items), *transfer.others)


def _twice(transfer: Transfer) -> str:
    """A destination that two of its files have; empty: none."""
    names = [item.destination for item in transfer.items]
    if len(set(names)) == len(names):
        return ""
    return next(name for name, count in Counter(names).items() if count > 1)


def _told(row: MovementRow) -> TransferStatus:
    return TransferStatus(
        key=row.key,
        state=_STATES[row.state],
        bytes_moved=row.moved,
        reason=row.reason,
        fault=row.fault,
        site=row.side,
        help=row.help,
        native_id=row.transfer,
        calls_back=bool(row.about) and row.state not in OVER,
    )
