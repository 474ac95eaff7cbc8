"""A turn: ask a service what became of its transfers, settle what has ended, and begin what is wanted.

A turn makes one status call however many transfers there are. Between any two of its steps the process may die: a
transfer is written down before the service hears of it, and asked for again, under its own key, until the service
answers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from broker.clock import Clock, micros
from broker.store.base import EvidenceRow, Store
from broker.traffic.beginning import Beginner, Begun, transfer_of
from broker.traffic.routes import Routes
from broker.traffic.rows import (
    ACTIVE,
    BEGUN,
    CANCELED,
    CANCELING,
    OVER,
    MovementRow,
    MoverRow,
    TrafficSeen,
    TransferRow,
)
from broker.traffic.settling import Settler
from connectors.base import HealthSource, Scheduled
from connectors.errors import CredentialError, SiteError, SiteUnreachable
from connectors.model import Accepted, Doubtful, Refused, SubmitAnswer, Ticket, Transfer, TransferState, TransferStatus
from policies.evidence import CALL
from policies.links import Learned
from policies.traffic import Link

QUICK, SLOWER = 1.0, 12
"""Seconds between two turns while something changes; while nothing does they double, up to so many times that."""
LINKS_EVERY = 10.0
"""Seconds between two readings of what links have taught."""
TURN_SECONDS = 120.0
"""How long a turn may take before another process takes its place."""


class Turn:
    """The turns of all services. Thread-safe: a service's turn is taken by one thread at a time."""

    def __init__(
        self,
        routes: Routes,
        store: Store,
        clock: Clock,
        beginner: Beginner,
        *,
        quick: float = QUICK,
    ) -> None:
        """`quick`: seconds between two turns while something changes."""
        self._routes, self._store, self._traffic, self._clock = routes, store, store.traffic, clock
        self._quick, self._pauses = quick, dict.fromkeys(routes.slots, quick)
        self._settler, self._beginner = Settler(), beginner
        self._links: Mapping[Link, Learned] = {}
        self._links_at: int | None = None

    # -- when ------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Is it time for a turn, and is there anything to do?"""
        if not self._routes.slots:
            return False
        now, rows = self._clock(), self._traffic.movers()
        if all((row := rows.get(name)) and row.next_at and row.next_at > now for name in self._routes.slots):
            return False
        traffic = self._traffic
        open_ = any(row.mover in self._routes.slots for row in traffic.open_transfers())
        return bool(open_ or traffic.wanted(now=now, limit=1) or traffic.unwanted())

    def learned(self) -> Mapping[Link, Learned]:
        """What the ways have taught, whichever process was told, some seconds old at the most."""
        now = self._clock()
        if self._routes.rows and (self._links_at is None or now - self._links_at > micros(LINKS_EVERY)):
            self._links, self._links_at = self._beginner.links(), now
        return self._links

    def hasten(self) -> None:
        """Something was just asked for."""
        for name in self._routes.slots:
            self._pauses[name] = self._quick
            self._traffic.hasten_turn(name, at=self._clock())

    # -- the turn --------------------------------------------------------------------------------------------

    def take(self) -> Collection[str]:
        """Ask, settle, begin; the runs that are concerned."""
        runs: set[str] = set()
        for name in self._routes.slots:
            now = self._clock()
            if not self._traffic.take_turn(name, now=now, until=now + micros(TURN_SECONDS)):
                continue
            changed, until = False, None
            try:
                found = self._ask(name)
                found |= self._drop_unwanted()
                begun = self._begin()
                runs |= found | begun.runs
                changed, until = bool(found or begun.batches), begun.until
            finally:
                self._rest(name, changed=changed, until=until)
        return runs

    def _rest(self, name: str, *, changed: bool, until: int | None) -> None:
        self._pauses[name] = pause = self._quick if changed else min(SLOWER * self._quick, 2 * self._pauses[name])
        at = self._clock() + micros(pause)
        self._traffic.hasten_turn(name, at=at if until is None else min(at, until))

    def cancel(self, row: MovementRow, together: Collection[str]) -> bool:
        """End a movement. True: nothing is written for it any more. One that goes with others, of which not all are
        in `together`, ends when they do."""
        now = self._clock()
        if row.state in OVER:
            return True
        if not row.transfer or row.state not in (ACTIVE, BEGUN, "held"):
            ended = row._replace(state=CANCELED, due_at=None, ended_at=now, reason="canceled")
            self._traffic.record(TrafficSeen(movements=[ended]), now=now)
            return True
        company = {other.key for other in self._traffic.carried_by(row.transfer)}
        if company <= set(together):
            self._traffic.ask_to_cancel(row.transfer, reason="")
            self.hasten()
        return False

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self, name: str) -> set[str]:
        mover, rows = self._routes.movers[name], [row for row in self._traffic.open_transfers() if row.mover == name]
        if not rows:
            return self._knock(name)
        ending = [row.key for row in rows if row.state == CANCELING]
        try:
            ended = mover.cancel(ending) if ending else {}
            told = mover.status([row.key for row in rows])
        except SiteError as error:
            return self._unanswered(name, error)
        seen = self._answered(name)
        unknown = []
        for row in rows:
            known = self._settler.judge(
                row,
                self._carried(row),
                told[row.key],
                ended=bool(ended.get(row.key)),
                now=self._clock(),
                known=self._known,
                seen=seen,
            )
            if not known and (against := self._beginner.against(row)):
                self._settler.refused(row, self._carried(row), against, now=self._clock(), seen=seen)
            elif not known:
                unknown.append(row)
        runs = set(self._traffic.record(seen, now=self._clock()))
        self._forget(name, seen)
        self._send(name, [(row, transfer_of(row, self._traffic.carried_by(row.key))) for row in unknown])
        return runs

    def _forget(self, name: str, seen: TrafficSeen) -> None:
        """The rows know the end of these now. What stays of a forgotten note is small, and harms nobody."""
        mover, ended = self._routes.movers[name], [row.key for row in seen.transfers if not row.open]
        if isinstance(mover, Scheduled) and ended:
            with suppress(SiteError):
                mover.forget(ended)

    def _knock(self, name: str) -> set[str]:
        """Nothing is under way, and something may be begun: does the service answer at all? What was asked for just
        when it fell silent may be carried or not, and nobody else may carry it meanwhile."""
        mover = self._routes.movers[name]
        if not isinstance(mover, HealthSource):
            return set()
        failed = next((told for told in mover.probe() if not told.ok), None)
        if failed is None:
            return set(self._traffic.record(self._answered(name), now=self._clock()))
        refused = failed.capability == "credentials"
        error = CredentialError(failed.detail) if refused else SiteUnreachable(failed.detail)
        return self._unanswered(name, error)

    def _carried(self, row: TransferRow) -> Callable[[], Sequence[MovementRow]]:
        return lambda: self._traffic.carried_by(row.key)

    def _known(self, row: TransferRow) -> Learned | None:
        return self._beginner.known(row)

    def _send(self, name: str, asked: Sequence[tuple[TransferRow, Transfer]]) -> None:
        """Ask the service for these transfers: new ones, and those of which it said that it does not know them."""
        if not asked:
            return
        try:
            answers: Mapping[str, SubmitAnswer] = self._routes.movers[name].submit([transfer for _, transfer in asked])
        except SiteError as error:
            self._unanswered(name, error)
            return
        seen = self._answered(name)
        for row, _ in asked:
            status = answered(row.key, answers.get(row.key, Doubtful(reason="the service's answer left it out")))
            self._settler.settle(row, self._carried(row), status, now=self._clock(), known=self._known, seen=seen)
        self._traffic.record(seen, now=self._clock())

    def _answered(self, name: str) -> TrafficSeen:
        before = self._traffic.movers().get(name)
        seen = TrafficSeen()
        if before is None or before.cannot_ask_since is not None or before.last_ok_at is None or before.help:
            now = self._clock()
            seen.movers.append(MoverRow(name, None, now, None, 0, "", ""))
        return seen

    def _unanswered(self, name: str, error: SiteError) -> set[str]:
        """The service itself gives no answer, or asks for a person. What is under way stays as it is known."""
        now, before = self._clock(), self._traffic.movers().get(name)
        since = now if before is None or before.cannot_ask_since is None else before.cannot_ask_since
        probes = 1 if before is None else before.probes + 1
        last_ok = before.last_ok_at if before else None
        asks = "" if error.transient else error.help
        row = MoverRow(name, None, last_ok, since, probes, str(error)[:300], asks)
        capability = "credentials" if asks else "transfer"
        evidence = [EvidenceRow(name, now, capability, ok=False, latency_us=0, detail=str(error)[:300], source=CALL)]
        return set(self._traffic.record(TrafficSeen(movers=[row], evidence=evidence), now=now))

    # -- ending and beginning --------------------------------------------------------------------------------

    def _drop_unwanted(self) -> set[str]:
        """Movements whose asker is over: nobody will look for them."""
        rows = self._traffic.unwanted()
        keys = [row.key for row in rows]
        for row in rows:
            self.cancel(row, keys)
        return set()

    def _begin(self) -> Begun:
        begun = self._beginner.begin()
        for name in self._routes.slots:
            self._send(name, [(row, transfer) for row, transfer in begun.batches if row.mover == name])
        return begun


def answered(key: str, answer: SubmitAnswer) -> TransferStatus:
    """What an answer to a submission says of the transfer."""
    if isinstance(answer, Refused):
        return TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
    if isinstance(answer, Accepted | Ticket):
        native = answer.native_id if isinstance(answer, Accepted) else answer.ticket
        return TransferStatus(key=key, state=TransferState.ACTIVE, native_id=native)
    return TransferStatus(key=key, state=TransferState.UNKNOWN)
