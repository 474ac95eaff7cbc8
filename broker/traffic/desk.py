"""Where movements are asked for: the port `Mover` over all movers there are.

What can be copied on the spot is, and leaves no row. All else is kept as a row first, so that a crash loses nothing and
every process sees the same. What a service carries `Turn` takes from there: many go together, and the service's places
are shared out. What this process carries over a network itself is begun at once, and `Direct` looks after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from broker.clock import Clock, micros
from broker.store.base import Store
from broker.traffic.beginning import Against, Beginner, nothing_against
from broker.traffic.direct import HERE, Direct, nobody_else
from broker.traffic.routes import FOR_EVER, Routes, taken_from
from broker.traffic.rows import (
    ACTIVE,
    BEGUN,
    CANCELED,
    CANCELING,
    FAILED,
    HELD,
    OVER,
    SUCCEEDED,
    WANTED,
    MovementRow,
    movement_of,
)
from broker.traffic.turn import QUICK, Turn
from connectors.base import ClosableMover
from connectors.errors import Fault
from connectors.model import Accepted, Origin, Refused, SubmitAnswer, Transfer, TransferState, TransferStatus
from policies.traffic import WINDOW, Way, best, refusals

_STATES = {
    **dict.fromkeys((WANTED, ACTIVE, BEGUN, CANCELING), TransferState.ACTIVE),
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
        owner: str = HERE,
        lives: Callable[[str], bool] = nobody_else,
        against: Against = nothing_against,
    ) -> None:
        """`movers`: by name, in the order in which they are preferred. `quick`: seconds between two looks at their
        services while something changes. `horizons`: for how many seconds a side keeps files, where it purges them.
        `owner`: this process, as rows name it; `lives`: is another one, of that name, still at work?
        `against`: what speaks against movements at the moment at which they would be begun."""
        self.routes = Routes(movers)
        self._store, self._clock = store, clock
        # who looks often has no large batches to wait for
        window = min(WINDOW, micros(quick) // 2)
        self._beginner = Beginner(
            self.routes, store, clock, dark=self._dark, window=window, horizons=horizons, against=against
        )
        self.turn = Turn(self.routes, store, clock, self._beginner, quick=quick)
        self.direct = Direct(self.routes, store, clock, self._beginner, owner=owner, lives=lives)

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin, or keep as wanted. A key that failed, or was canceled, begins again."""
        answers: dict[str, SubmitAnswer] = {}
        at_once: dict[str, list[Transfer]] = {}
        rows: list[MovementRow] = []
        here: list[tuple[MovementRow, Way]] = []
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
            elif way.mover in self.routes.crossing:
                here.append((self._row(transfer), way))
                answers[transfer.key] = Accepted(native_id=transfer.key)
            else:
                at_once.setdefault(way.mover, []).append(self._by(way, transfer))
        if rows:
            self._store.traffic.want(rows)
            self.turn.hasten()
        if here:
            self.direct.submit(here)
        for mover, batch in at_once.items():
            answers.update(self.routes.movers[mover].submit(batch))
        return answers

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        rows = self._looked_at(self._rows(keys))
        told = {key: self._told(row) for key, row in rows.items()}
        return {**told, **self._asked([key for key in keys if key not in told])}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """A movement that goes together with others ends with them: until then something may be written."""
        answers = {key: self.turn.cancel(row, keys) for key, row in self._rows(keys).items()}
        asked = self._looked_at(self._rows([key for key, ended in answers.items() if not ended]))
        answers |= {key: row.state in OVER for key, row in asked.items()}
        left = [key for key in keys if key not in answers]
        said = [self.routes.movers[name].cancel(left) for name in self._rowless() if left]
        return answers | {key: all(each[key] for each in said) for key in left}

    def close(self) -> None:
        self.direct.close()
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

    def _rows(self, keys: Collection[str]) -> Mapping[str, MovementRow]:
        return self._store.traffic.movements(keys) if self.routes.rows else {}

    def _rowless(self) -> Sequence[str]:
        return [name for name in self.routes.movers if name in self.routes.direct - self.routes.crossing]

    def _looked_at(self, rows: Mapping[str, MovementRow]) -> Mapping[str, MovementRow]:
        """The rows as they are once it is seen to them: what has no turn to wait for is planned by who asks, and what
        processes carry is begun, or settled."""
        wanted = [key for key, row in rows.items() if row.state == WANTED and not self.routes.slots]
        if wanted:
            self._beginner.begin(only=wanted)
            rows = self._rows(rows)
        carried = {row.transfer for row in rows.values() if self._is_direct(row) and row.state not in (WANTED, *OVER)}
        if not carried:
            return rows
        self.direct.look(carried)
        return self._rows(rows)

    def _is_direct(self, row: MovementRow) -> bool:
        return row.mover in self.routes.direct

    def _told(self, row: MovementRow) -> TransferStatus:
        waits = row.state not in OVER and bool(self.routes.slots) and (row.state == WANTED or not self._is_direct(row))
        return TransferStatus(
            key=row.key,
            state=_STATES[row.state],
            bytes_moved=row.moved,
            reason=row.reason,
            fault=row.fault,
            site=row.side,
            help=row.help,
            native_id=row.transfer,
            calls_back=bool(row.about) and waits,
        )

    def _asked(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        """Of those who leave no rows. What one of them failed at, another one may carry by now."""
        left = list(keys)
        found = {key: TransferStatus(key=key, state=TransferState.UNKNOWN) for key in keys}
        for name in self._rowless():
            if left:
                told = self.routes.movers[name].status(left)
                found |= {key: status for key, status in told.items() if status.state is not TransferState.UNKNOWN}
                left = [key for key in left if found[key].state in (TransferState.UNKNOWN, TransferState.FAILED)]
        return found


def _origins(transfer: Transfer) -> Sequence[Origin]:
    """Where its files may be taken from, the asked one first."""
    return (Origin(site=transfer.source_site, items=transfer.items), *transfer.others)


def _twice(transfer: Transfer) -> str:
    """A destination that two of its files have; empty: none."""
    names = [item.destination for item in transfer.items]
    if len(set(names)) == len(names):
        return ""
    return next(name for name, count in Counter(names).items() if count > 1)
