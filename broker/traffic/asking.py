"""What people may ask of traffic: what is on its way, why it waits; to cancel or to hasten it."""

from __future__ import annotations

import json

from broker.clock import Clock
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.store.base import NewEvent, Store
from broker.traffic.rows import OVER, SUCCEEDED, WANTED, MovementRow, TrafficSeen, TransferRow
from broker.views import when

View = dict[str, object]
STREAM = "movers"
"""Where what people did to transfers is told."""
LISTED = 200


class Traffic:
    """The use cases, over one installation's rows. Whoever serves carries out what is asked for."""

    def __init__(self, store: Store, clock: Clock, *, actor: str) -> None:
        self._traffic, self._clock, self._actor = store.traffic, clock, actor

    def transfers(self, run_id: str = "", *, open_only: bool = False) -> list[View]:
        """Newest first; and before them what waits to be put on one."""
        now = self._clock()
        rows = self._traffic.transfers(run_id=run_id, open_only=open_only, limit=LISTED)
        return [transfer_view(row, now=now) for row in rows]

    def waiting(self, run_id: str = "") -> list[View]:
        """Movements on no transfer yet, and why."""
        rows = self._traffic.movements_of(run_id) if run_id else self._traffic.wanted(now=_FAR, limit=LISTED)
        return [movement_view(row) for row in rows if row.state not in OVER and not _carried(row)]

    def movers(self) -> list[View]:
        """How the services behind them stand."""
        return [
            {
                "mover": row.name,
                "answers": row.cannot_ask_since is None,
                "cannot_ask_since": when(row.cannot_ask_since),
                "probes": row.probes,
                "last_ok_at": when(row.last_ok_at),
                "next_turn_at": when(row.next_at),
                "detail": row.detail or None,
                "help": row.help or None,
            }
            for row in self._traffic.movers().values()
        ]

    def show(self, key: str) -> View:
        """One transfer, with its movements. Raises NotFound, UsageError."""
        row = self._found(key)
        carried = self._traffic.carried_by(row.key)
        return {**transfer_view(row, now=self._clock()), "carries": [movement_view(one) for one in carried]}

    def cancel(self, key: str, *, reason: str) -> View:
        """Raises NotFound, UsageError, RefusedByPolicy."""
        row = self._found(key)
        words = f"canceled by {self._actor}" + (f": {reason}" if reason else "")
        if not self._traffic.ask_to_cancel(row.key, reason=words):
            raise RefusedByPolicy(f"transfer {row.key} is over: {row.state}", help="crossfade transfer ls")
        self._hasten(row, "transfer_cancel", reason)
        return self.show(row.key)

    def retry(self, key: str, *, reason: str) -> View:
        """Look at it now, and try again what waits: ways that had failed are open again. A failed transfer's files are
        asked for anew by whoever needs them still. Raises NotFound, UsageError."""
        row, now = self._found(key), self._clock()
        carried = self._traffic.carried_by(row.key)
        anew = [one._replace(due_at=now, refused="[]", reason="") for one in carried if one.state == WANTED]
        # those who wait for a while to ask again for what has failed do it now
        askers = [one.about for one in carried if one.about and one.state != SUCCEEDED]
        self._traffic.record(TrafficSeen(movements=anew, wake=askers), now=now)
        self._hasten(row, "transfer_retry", reason)
        return self.show(row.key)

    def _hasten(self, row: TransferRow, kind: str, reason: str) -> None:
        now = self._clock()
        told = NewEvent(kind=kind, data=json.dumps({"transfer": row.key, "reason": reason}), actor=self._actor)
        self._traffic.record(TrafficSeen(events=[(STREAM, told)]), now=now)
        self._traffic.hasten_turn(row.mover, at=now)

    def _found(self, key: str) -> TransferRow:
        rows = [row for row in self._traffic.transfers(limit=_ALL) if row.key.startswith(key) or row.native_id == key]
        if not key or not rows:
            raise NotFound(f"there is no transfer {key!r}", help="crossfade transfer ls")
        if len(rows) > 1:
            raise UsageError(f"{key!r} is the start of {len(rows)} transfers", help="give more of it")
        return rows[0]


_ALL = 100_000
_FAR = 1 << 62


def transfer_view(row: TransferRow, *, now: int) -> View:
    """As it is listed. Times of day in UTC; `seconds` since it was begun, or that it took."""
    return {
        "transfer": row.key,
        "mover": row.mover,
        "from": side(row.source),
        "to": side(row.destination),
        "state": row.state,
        "movements": row.movements,
        "files": row.files,
        "bytes": row.bytes or None,
        "moved": row.moved,
        "files_moved": row.files_moved,
        "faults": row.faults,
        "seconds": round(((row.ended_at or now) - row.created_at) / 1e6, 1),
        "still_for": None if row.ended_at or row.progress_at is None else round((now - row.progress_at) / 1e6, 1),
        "urgent": bool(row.urgent),
        "native_id": row.native_id or None,
        "label": row.label,
        "detail": row.reason or row.detail or None,
        "help": row.help or None,
        "fault": row.fault or None,
        "at_fault": row.side or None,
        "created_at": when(row.created_at),
        "ended_at": when(row.ended_at),
    }


def movement_view(row: MovementRow) -> View:
    """As it is listed."""
    return {
        "movement": row.key,
        "for": row.label,
        "from": side(row.taken_from or row.source),
        "to": side(row.destination),
        "state": row.state,
        "files": row.files,
        "bytes": row.bytes or None,
        "mover": row.mover or None,
        "transfer": row.transfer or None,
        "reason": row.reason or None,
        "help": row.help or None,
        "fault": row.fault or None,
        "asked_at": when(row.created_at),
        "ended_at": when(row.ended_at),
    }


def side(name: str) -> str:
    """A side as people read it."""
    return name or "(broker)"


def _carried(row: MovementRow) -> bool:
    return bool(row.transfer) and row.state != WANTED
