"""Transfers that movers of our own processes carry: rows like those of a service's transfers, kept true by who carries.

A service answers whoever asks; what a process carries is known to that process alone. So the row names it, and it looks
after its own with every sweep: how far they are, their ends, and what is to be ended. Who asks for one whose process is
no more takes it over under the same key, and the mover goes on with what has arrived. What nobody asks for any more is
closed, by whoever looks next: where nothing is carried that is once a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

from broker.clock import Clock, micros
from broker.store.base import Store
from broker.traffic.beginning import Beginner, by_itself, transfer_of
from broker.traffic.routes import Routes
from broker.traffic.rows import BEGUN, CANCELING, MovementRow, TrafficSeen, TransferRow
from broker.traffic.settling import Settler
from broker.traffic.turn import answered
from connectors.errors import SiteError
from connectors.model import Refused, TransferStatus
from policies.traffic import Way

LOOK_EVERY = 60.0
"""Seconds between two looks for what a process has left that is no more, while nothing is carried here."""
HERE = "this process"


def nobody_else(_: str) -> bool:
    """Does the process of that name live? Where one process serves at a time, all others are no more."""
    return False


class Direct:
    """What this process carries. Thread-safe."""

    def __init__(
        self,
        routes: Routes,
        store: Store,
        clock: Clock,
        beginner: Beginner,
        *,
        owner: str = HERE,
        lives: Callable[[str], bool] = nobody_else,
    ) -> None:
        """`owner`: the name of this process in rows; `lives`: is the process of that name still at work?"""
        self._routes, self._traffic, self._clock = routes, store.traffic, clock
        self._owner, self._lives = owner, lives
        self._beginner, self._settler = beginner, Settler()
        # two threads that see one end would teach its link twice
        self._lock = threading.Lock()
        self._carried: dict[str, str] = {}
        """Transfers, and the mover that has each."""
        self._look_at = 0
        self._closed = False

    def submit(self, asked: Sequence[tuple[MovementRow, Way]]) -> None:
        """Write each down, then begin it. What had failed, or was canceled, begins again."""
        now = self._clock()
        given = [(by_itself(row, way, now=now, native_id=self._owner), row) for row, way in asked]
        self._traffic.carry(given)
        self.look([row.key for row, _ in given])

    def look(self, keys: Collection[str]) -> None:
        """Somebody asks for these transfers: begin those that nobody carries, and write down how they stand."""
        with self._lock:
            self._settle([row for row in self._open() if row.key in keys and self._takes(row)])

    def tend(self) -> Collection[str]:
        """With every sweep: what became of what is carried here, and what of it is to end. The runs concerned."""
        now = self._clock()
        if not self._routes.rows or (not self._carried and now < self._look_at):
            return ()
        self._look_at = now + micros(LOOK_EVERY)
        with self._lock:
            rows = self._unwanted_ending(self._open())
            self._let_go({row.key for row in rows})
            return self._settle([row for row in rows if row.native_id == self._owner or self._left_to_end(row)])

    def close(self) -> None:
        """What the movers break off from now on is nobody's failure: the next process goes on with it."""
        with self._lock:
            self._closed = True

    # -- behind ----------------------------------------------------------------------------------------------

    def _open(self) -> Sequence[TransferRow]:
        if self._closed:
            return ()
        return [row for row in self._traffic.open_transfers() if row.mover in self._routes.direct]

    def _takes(self, row: TransferRow) -> bool:
        """Is it this process that carries it, or does from now on?"""
        if row.native_id == self._owner:
            return True
        if row.native_id and self._lives(row.native_id):
            return False
        return self._traffic.hold(row.key, by=self._owner, was=row.native_id)

    def _left_to_end(self, row: TransferRow) -> bool:
        return row.state == CANCELING and self._takes(row)

    def _unwanted_ending(self, rows: Sequence[TransferRow]) -> Sequence[TransferRow]:
        """The same, those to be ended whose asker is over: nobody will look for them."""
        unwanted = {one.transfer for one in self._traffic.unwanted()} if rows else set()
        for row in rows:
            if row.key in unwanted and row.state != CANCELING:
                self._traffic.ask_to_cancel(row.key, reason="")
        return [row._replace(state=CANCELING) if row.key in unwanted else row for row in rows]

    def _let_go(self, still_open: Collection[str]) -> None:
        """What others have closed, who took this process for dead, goes on no longer."""
        for key in self._carried.keys() - still_open:
            self._routes.movers[self._carried.pop(key)].cancel([key])

    def _settle(self, rows: Sequence[TransferRow]) -> Collection[str]:
        """Ask the movers how these stand, all of them carried by this process, and write it down."""
        seen = TrafficSeen()
        for row in rows:
            with suppress(SiteError):  # no answer: it is asked again at the next look
                self._judge(row._replace(native_id=self._owner), seen)
                self._carried[row.key] = row.mover
        runs = self._traffic.record(seen, now=self._clock())
        for row in seen.transfers:
            if not row.open:
                self._carried.pop(row.key, None)
        return runs

    def _judge(self, row: TransferRow, seen: TrafficSeen) -> None:
        mover = self._routes.movers[row.mover]
        if row.state == CANCELING:
            ended = mover.cancel([row.key])[row.key]
            self._told(row, mover.status([row.key])[row.key], seen, ended=ended)
            return
        # an end that the mover remembers of an earlier try is not this one's
        known = row.state != BEGUN and row.key in self._carried
        if known and self._told(row, mover.status([row.key])[row.key], seen):
            return
        if against := self._beginner.against(row):
            carried = partial(self._traffic.carried_by, row.key)
            self._settler.refused(row, carried, against, now=self._clock(), seen=seen)
            return
        answer = mover.submit([transfer_of(row, self._traffic.carried_by(row.key))])[row.key]
        refused = isinstance(answer, Refused)
        self._told(row, answered(row.key, answer) if refused else mover.status([row.key])[row.key], seen)

    def _told(self, row: TransferRow, status: TransferStatus, seen: TrafficSeen, *, ended: bool = False) -> bool:
        """False: the mover does not know it."""
        now, known = self._clock(), self._beginner.known
        carried = partial(self._traffic.carried_by, row.key)
        return self._settler.judge(row, carried, status, ended=ended, now=now, known=known, seen=seen)
