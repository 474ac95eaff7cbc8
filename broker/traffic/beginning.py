"""Beginning what is wanted: rows to the planner's facts, its batches to transfers that are written down."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.clock import Clock, micros
from broker.store.base import Store
from broker.traffic.routes import FOR_EVER, Conditions, Routes, by_catalogue, failed_before, spoiled
from broker.traffic.rows import BEGUN, FAILED, OVER, MovementRow, ReplicaRow, TrafficSeen, TransferRow
from connectors.errors import Fault
from connectors.model import Origin, Transfer
from policies.links import Learned
from policies.model import Reason
from policies.traffic import WINDOW, Batch, Link, Plan, UnderWay, Wanted, Way, plan

MOST = 5_000
"""Movements that one turn looks at; the rest are looked at by the next."""
ASK_AGAIN = 5.0
"""Seconds until a movement is planned again for which every way is closed for now."""
Against = Callable[[Collection[MovementRow]], Mapping[str, Reason]]
"""Those of the movements that may not be begun now, by key, and why."""
PASSING = frozenset({"mover_down", "failed_before"})
"""Rules whose refusals may fall away by themselves."""


def nothing_against(_: Collection[MovementRow]) -> Mapping[str, Reason]:
    """Of a desk that knows no rules."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What was begun: transfers that the services are to be asked for."""

    batches: Sequence[tuple[TransferRow, Transfer]] = ()
    runs: frozenset[str] = frozenset()
    until: int | None = None
    """When the next batch has waited long enough for company."""


class Beginner:
    """Plans what is wanted by now."""

    def __init__(
        self,
        routes: Routes,
        store: Store,
        clock: Clock,
        *,
        dark: Callable[[], Collection[str]],
        window: int = WINDOW,
        horizons: Mapping[str, float] = FOR_EVER,
        against: Against = nothing_against,
    ) -> None:
        self._against = against
        self._routes, self._traffic, self._clock, self._dark = routes, store.traffic, clock, dark
        self._window, self._horizons = window, horizons
        self._digests: dict[str, frozenset[str]] = {}
        """Of what each open transfer carries; a transfer's files never change."""

    def links(self) -> Mapping[Link, Learned]:
        return {
            (row.source, row.destination, row.mover): Learned.from_json(row.learned) for row in self._traffic.links()
        }

    def known(self, row: TransferRow) -> Learned | None:
        """What its link has taught by now."""
        return self.links().get((row.source, row.destination, row.mover))

    def begin(self, only: Collection[str] | None = None) -> Begun:
        """Plan what is wanted; of these movements `only`, where somebody plans for himself."""
        now = self._clock()
        wished = self._traffic.wanted(now=now, limit=MOST)
        rows = {row.key: row for row in wished if only is None or row.key in only}
        refused = self._refuse(rows, now)
        if not rows:
            return Begun(runs=frozenset(refused))
        given = {key: row.origins() for key, row in rows.items()}  # read once: they may be very many
        known = self._traffic.replicas(_digests(given.values()))
        at = Conditions(now=now, links=self.links(), movers=self._traffic.movers(), dark=frozenset(self._dark()))
        origins = {
            key: (*given[key], *by_catalogue(given[key], known, now=now, horizons=self._horizons)) for key in rows
        }
        wanted = [self._wanted(row, origins[row.key], known, at) for row in rows.values()]
        planned = plan(wanted, self._under_way(), slots=self._routes.slots, now=now, window=self._window)
        batches = [made for batch in planned.batches if (made := self._write(batch, rows, origins))]
        runs = self._tell(planned, rows, origins, now)
        return Begun(batches=batches, runs=frozenset(runs).union(refused), until=planned.until)

    def against(self, row: TransferRow) -> Mapping[str, Reason]:
        """Those of an open transfer's movements that the mover may not be asked for now."""
        return self._against([one for one in self._traffic.carried_by(row.key) if one.state not in OVER])

    def _refuse(self, rows: dict[str, MovementRow], now: int) -> Collection[str]:
        """Take out, and end, what may not be moved now: it was wanted when it was allowed. The runs concerned."""
        against = self._against(rows.values())
        if not against:
            return ()
        seen = TrafficSeen()
        for key, reason in against.items():
            refuse(rows.pop(key), reason, now, seen)
        return self._traffic.record(seen, now=now)

    def _wanted(
        self, row: MovementRow, origins: Sequence[Origin], known: Mapping[str, Sequence[ReplicaRow]], at: Conditions
    ) -> Wanted:
        ways = failed_before(self._routes.ways(single(row, origins[0]), origins, at), row, at.now)
        return Wanted(
            key=row.key,
            destination=row.destination,
            ways=_unspoiled(ways, origins, known),
            urgent=bool(row.urgent),
            private=bool(row.private),
            files=row.files,
            tries=row.tries,
            asked_at=row.created_at,
            digests=_digests_of(origins[0]),
        )

    def _under_way(self) -> Sequence[UnderWay]:
        open_ = self._traffic.open_transfers()
        self._digests = {row.key: self._digests.get(row.key) or self._carried(row.key) for row in open_}
        return [
            UnderWay(
                mover=row.mover,
                destination=row.destination,
                urgent=bool(row.urgent),
                digests=self._digests[row.key],
            )
            for row in open_
        ]

    def _carried(self, transfer: str) -> frozenset[str]:
        return frozenset().union(*(_digests_of(one.origins()[0]) for one in self._traffic.carried_by(transfer)))

    def _write(
        self, batch: Batch, rows: Mapping[str, MovementRow], origins: Mapping[str, Sequence[Origin]]
    ) -> tuple[TransferRow, Transfer] | None:
        """The transfer, written down with its movements, and as it is asked for; None: somebody was quicker."""
        apart = _apart({key: origins[key][0] for key in batch.keys})
        members = [_with_origin(rows[key], batch.source, origins[key]) for key in apart]
        row = begun(_key(members), members, mover=batch.mover, source=batch.source, now=self._clock())
        taken = self._traffic.begin(row, [(one.key, one.others) for one in members])
        if not taken:
            return None
        written = row._replace(movements=len(taken))
        lie = {key: next(origin for origin in origins[key] if origin.site == batch.source) for key in taken}
        return written, _transfer(written, [one for one in members if one.key in lie], lie)

    def _tell(
        self,
        planned: Plan,
        rows: Mapping[str, MovementRow],
        origins: Mapping[str, Sequence[Origin]],
        now: int,
    ) -> Collection[str]:
        """What becomes of those that no service takes: given back to the asker's process, put off, or failed."""
        seen = TrafficSeen()
        given = [(way, _with_origin(rows[key], way.source, origins[key])) for key, way in planned.direct.items()]
        self._traffic.carry([(by_itself(row, way, now=now), row) for way, row in given])
        seen.wake += [row.about for _, row in given]
        for key, why in planned.waits.items():
            if rows[key].reason != why.fact:
                seen.movements.append(rows[key]._replace(reason=why.fact))
        for key, reasons in planned.impossible.items():
            seen.movements.append(_closed(rows[key], reasons, now))
            if not _passing(reasons):
                seen.wake.append(rows[key].about)
        seen.wake = [about for about in seen.wake if about]
        return self._traffic.record(seen, now=now)


def begun(
    key: str, members: Sequence[MovementRow], *, mover: str, source: str, now: int, native_id: str = ""
) -> TransferRow:
    """A transfer of these movements as it is written down before anybody is asked for it."""
    return TransferRow(
        key=key,
        mover=mover,
        source=source,
        destination=members[0].destination,
        label=_label(members),
        urgent=int(any(one.urgent for one in members)),
        state=BEGUN,
        native_id=native_id,
        movements=len(members),
        files=sum(one.files for one in members),
        bytes=sum(one.bytes for one in members),
        moved=0,
        files_moved=0,
        faults=0,
        detail="",
        reason="",
        fault="",
        side="",
        help="",
        created_at=now,
        began_at=None,
        progress_at=None,
        ended_at=None,
        open=1,
    )


def by_itself(one: MovementRow, way: Way, *, now: int, native_id: str = "") -> TransferRow:
    """The transfer of one movement by a mover of the asker's own process. `native_id`: the process that has it."""
    key = _named(f"{one.key} {way.mover} {way.source}")  # the same at every try: what has arrived is gone on with
    return begun(key, [one], mover=way.mover, source=way.source, now=now, native_id=native_id)


def transfer_of(row: TransferRow, members: Sequence[MovementRow]) -> Transfer:
    """A transfer with the files of all its movements, the same every time that it is asked for."""
    return _transfer(row, members, {one.key: origin_of(one, row.source) for one in members})


def _transfer(row: TransferRow, members: Sequence[MovementRow], lie: Mapping[str, Origin]) -> Transfer:
    """`lie`: where the files of each are taken from."""
    ordered = sorted(members, key=lambda one: one.key)
    deadlines = [one.deadline for one in ordered if one.deadline is not None]
    return Transfer(
        key=row.key,
        source_site=row.source,
        destination_site=row.destination,
        items=tuple(item for one in ordered for item in lie[one.key].items),
        label=row.label,
        private=all(one.private for one in ordered),
        urgent=bool(row.urgent),
        deadline=min(deadlines) if len(deadlines) == len(ordered) else None,
    )


def single(row: MovementRow, origin: Origin) -> Transfer:
    """One movement as a transfer of its own."""
    return Transfer(
        key=row.key,
        source_site=origin.site,
        destination_site=row.destination,
        items=origin.items,
        label=row.label,
        private=bool(row.private),
        urgent=bool(row.urgent),
        deadline=row.deadline,
    )


def origin_of(row: MovementRow, side: str) -> Origin:
    """Its files, as they lie at that side; the asked one where it does not lie there."""
    origins = row.origins()
    return next((origin for origin in origins if origin.site == side), origins[0])


def _apart(asked: Mapping[str, Origin]) -> Sequence[str]:
    """Those of which no two would write to one name: a service fails the whole transfer for that. The others follow."""
    taken: set[str] = set()
    apart = []
    for key, origin in asked.items():
        names = {item.destination for item in origin.items}
        if taken.isdisjoint(names):
            taken |= names
            apart.append(key)
    return apart


def _with_origin(row: MovementRow, side: str, origins: Sequence[Origin]) -> MovementRow:
    """The row, told where its files lie at a side that only the catalogue knew."""
    if side == row.source or any(known == side for known, _ in json.loads(row.others)):
        return row
    origin = next(one for one in origins if one.site == side)
    items = [[item.source, item.destination, item.size, item.sha256, item.mode] for item in origin.items]
    return row._replace(others=json.dumps([*json.loads(row.others), [side, items]], separators=(",", ":")))


def _unspoiled(
    ways: Sequence[Way], origins: Sequence[Origin], known: Mapping[str, Sequence[ReplicaRow]]
) -> Sequence[Way]:
    """Without copies that were found damaged, as long as there is another way."""
    bad = {origin.site: why for origin in origins if (why := spoiled(origin, known))}
    if not bad or all(way.refusal or way.source in bad for way in ways):
        return ways
    return [way if way.refusal or way.source not in bad else _refused(way, bad[way.source]) for way in ways]


def _refused(way: Way, why: str) -> Way:
    return Way(mover=way.mover, source=way.source, rank=way.rank, refusal=why, rule="replica")


def refuse(row: MovementRow, reason: Reason, now: int, seen: TrafficSeen) -> None:
    """Add to `seen` the end of a movement that a rule is against."""
    words = f"{reason.rule}: {reason.fact}"[:500]
    ended = row._replace(state=FAILED, due_at=None, ended_at=now, reason=words, help="")
    seen.movements.append(ended._replace(fault=Fault.POLICY.value, side=reason.site))
    if row.about:
        seen.wake.append(row.about)


def _closed(row: MovementRow, reasons: Sequence[Reason], now: int) -> MovementRow:
    words = "; ".join(dict.fromkeys(reason.fact for reason in reasons))[:500] or "there is no way"
    if _passing(reasons):
        return row._replace(reason=words, due_at=now + micros(ASK_AGAIN))
    return row._replace(state=FAILED, due_at=None, ended_at=now, reason=words, fault=Fault.STAGING.value)


def _passing(reasons: Sequence[Reason]) -> bool:
    return any(reason.rule in PASSING for reason in reasons)


def _digests(given: Iterable[Sequence[Origin]]) -> set[str]:
    return {item.sha256 for origins in given for item in origins[0].items if item.sha256}


def _digests_of(origin: Origin) -> frozenset[str]:
    """Of all its files; empty: not all are known."""
    found = [item.sha256 for item in origin.items]
    return frozenset(digest for digest in found if digest) if all(found) else frozenset()


def _key(members: Sequence[MovementRow]) -> str:
    """Of the transfer that takes these along: the same when a plan is made twice, another one at every new try."""
    return _named("\n".join(f"{one.key} {one.transfer} {one.tries}" for one in sorted(members)))


def _named(text: str) -> str:
    return "cft" + base64.b32encode(hashlib.sha256(text.encode()).digest())[:20].decode().lower()


def _label(members: Sequence[MovementRow]) -> str:
    first = min(members).label
    return first if len(members) == 1 else f"{first} and {len(members) - 1} more"
