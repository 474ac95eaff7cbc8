"""What a transfer's standing means for its movements, for the catalogue and for what is known of its link."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from broker.clock import micros
from broker.store.events import EvidenceRow
from broker.traffic.beginning import origin_of, refuse
from broker.traffic.rows import (
    ACTIVE,
    CANCELED,
    CANCELING,
    FAILED,
    HELD,
    OVER,
    SUCCEEDED,
    WANTED,
    LinkRow,
    MovementRow,
    ReplicaRow,
    TrafficSeen,
    TransferRow,
)
from connectors.errands import MISSING
from connectors.errors import Fault
from connectors.model import TransferItem, TransferState, TransferStatus
from policies.evidence import TRANSFER
from policies.links import PRIOR, Learned, Sample
from policies.model import Reason

GO_AROUND = 60.0
"""Seconds for which a way that failed by a side's fault is not tried again where there is another one."""
QUEUED = "queued"

Carried = Callable[[], Sequence[MovementRow]]
Known = Callable[[TransferRow], Learned | None]


class Settler:
    """Turns what a mover says into rows. Keeps nothing."""

    def judge(
        self,
        row: TransferRow,
        carried: Carried,
        status: TransferStatus,
        *,
        ended: bool,
        now: int,
        known: Known,
        seen: TrafficSeen,
    ) -> bool:
        """Add to `seen` what follows for an open transfer. `ended`: of one that is to end, does the mover say that
        nothing more will be written? False: the mover does not know it, and is to be asked for it again."""
        if row.state == CANCELING and not ended:
            return True
        if row.state == CANCELING and status.state is not TransferState.SUCCEEDED:
            self.canceled(row, carried, now=now, seen=seen)
        elif status.state is TransferState.UNKNOWN:
            return False
        else:
            self.settle(row, carried, status, now=now, known=known, seen=seen)
        return True

    def settle(
        self, row: TransferRow, carried: Carried, status: TransferStatus, *, now: int, known: Known, seen: TrafficSeen
    ) -> None:
        """Add to `seen` what follows from a status."""
        if status.state is TransferState.UNKNOWN:
            return
        if status.state in (TransferState.ACTIVE, TransferState.HELD):
            _goes_on(row, carried, status, now, seen)
            return
        members = [one for one in carried() if one.state not in OVER]
        if status.state is TransferState.SUCCEEDED:
            _arrived(row, members, status, now, known, seen)
        else:
            _failed(row, members, status, now, seen)

    def refused(
        self, row: TransferRow, carried: Carried, against: Mapping[str, Reason], *, now: int, seen: TrafficSeen
    ) -> None:
        """Nobody has been asked for it yet, and some of its movements, by key, may not be moved any more. They end; the
        others are put on another transfer."""
        words = "; ".join(sorted({f"{reason.rule}: {reason.fact}" for reason in against.values()}))[:500]
        closed = row._replace(state=FAILED, open=0, ended_at=now, detail="", help="")
        seen.transfers.append(closed._replace(reason=words, fault=Fault.POLICY.value, side=row.destination))
        for one in carried():
            if one.key in against:
                refuse(one, against[one.key], now, seen)
            elif one.state not in OVER:
                seen.movements.append(_again(one, now))

    def canceled(self, row: TransferRow, carried: Carried, *, now: int, seen: TrafficSeen) -> None:
        """The service has ended it because it was asked to. A person gave a reason; without one nobody wanted it."""
        reason = row.reason or "canceled"
        seen.transfers.append(row._replace(state=CANCELED, open=0, ended_at=now, detail="", help=""))
        for one in carried():
            if one.state not in OVER:
                state = FAILED if row.reason else CANCELED
                _end(one._replace(state=state, reason=reason), now, seen)


def _goes_on(row: TransferRow, carried: Carried, status: TransferStatus, now: int, seen: TrafficSeen) -> None:
    held = status.state is TransferState.HELD
    moved = (status.bytes_moved, status.files_moved) != (row.moved, row.files_moved)
    began = row.began_at if row.began_at is not None or held or status.detail.lower() == QUEUED else now
    after = row._replace(
        state=HELD if held else ACTIVE,
        native_id=status.native_id or row.native_id,
        moved=status.bytes_moved,
        files_moved=status.files_moved,
        faults=status.faults,
        detail=status.detail[:300],
        reason=status.reason[:300] if held else "",
        help=status.help if held else "",
        began_at=began,
        progress_at=now if moved or row.progress_at is None else row.progress_at,
    )
    if after != row:
        seen.transfers.append(after)
    if held != (row.state == HELD) or (held and status.help != row.help):
        for one in carried():
            if one.state not in OVER:
                reason, help_ = (status.reason[:300], status.help) if held else ("", "")
                seen.movements.append(one._replace(state=HELD if held else ACTIVE, reason=reason, help=help_))
                _wake(one, seen)


def _arrived(
    row: TransferRow,
    members: Sequence[MovementRow],
    status: TransferStatus,
    now: int,
    known: Known,
    seen: TrafficSeen,
) -> None:
    seconds = max(0.0, (now - row.created_at) / 1e6)
    moved = status.bytes_moved or row.moved
    seen.transfers.append(
        row._replace(
            state=SUCCEEDED,
            open=0,
            native_id=status.native_id or row.native_id,
            moved=moved,
            files_moved=status.files_moved or row.files_moved,
            faults=status.faults,
            detail="",
            reason="",
            help="",
            ended_at=now,
        )
    )
    for one in members:
        _end(one._replace(state=SUCCEEDED, moved=one.bytes if len(members) > 1 else moved, reason=""), now, seen)
        for item in origin_of(one, row.source).items:
            seen.replicas += _copies(row, item, one.run_id, now)
    sample = Sample(bytes=moved, files=status.files_moved or row.files, seconds=seconds)
    _learned(row, sample, now, known, seen)
    for side in filter(None, {row.source, row.destination}):  # of the broker's own store nobody asks how it is
        took, words = round(seconds * 1e6), f"{moved} bytes by {row.mover}"
        seen.evidence.append(
            EvidenceRow(side, now, "transfer", ok=True, latency_us=took, detail=words, source=TRANSFER)
        )


def _learned(row: TransferRow, sample: Sample, now: int, known: Known, seen: TrafficSeen) -> None:
    """One more sample, on top of those of the same link that were seen together with it."""
    link = (row.source, row.destination, row.mover)
    just_now = next((one for one in seen.links if one[:3] == link), None)
    before = known(row) if just_now is None else Learned.from_json(just_now.learned)
    learned = (before or PRIOR).with_sample(sample)
    seen.links[:] = [one for one in seen.links if one is not just_now]
    seen.links.append(LinkRow(*link, learned.json, learned.samples, now))


def _copies(row: TransferRow, item: TransferItem, run_id: str, now: int) -> Sequence[ReplicaRow]:
    """Both ends hold what the mover has compared."""
    if not item.sha256 or item.source.endswith("/"):
        return ()
    ends = ((row.source, item.source), (row.destination, item.destination))
    return [ReplicaRow(item.sha256, side, path, item.size or 0, "available", 0, now, "", run_id) for side, path in ends]


def _failed(
    row: TransferRow, members: Sequence[MovementRow], status: TransferStatus, now: int, seen: TrafficSeen
) -> None:
    closed = row._replace(state=FAILED, open=0, ended_at=now, faults=status.faults, detail="", help="")
    seen.transfers.append(
        closed._replace(reason=status.reason[:500], fault=status.fault, side=status.site, moved=status.bytes_moved)
    )
    if status.site:
        words = status.reason[:300]
        seen.evidence.append(
            EvidenceRow(status.site, now, "transfer", ok=False, latency_us=0, detail=words, source=TRANSFER)
        )
    guilty = _guilty(row, members, status)
    for one in members:
        if status.fault == Fault.SITE.value:
            _by_a_side(row, one, status, now, seen)
        elif guilty is None:  # it went with others, and nobody can tell whose files were at fault
            seen.movements.append(_again(one._replace(tries=one.tries + 1), now))
        elif one.key not in guilty:
            seen.movements.append(_again(one, now))
        else:
            _at_fault(row, one, status, now, seen)


def _guilty(row: TransferRow, members: Sequence[MovementRow], status: TransferStatus) -> set[str] | None:
    """Whose files were at fault; None: not known."""
    if status.fault != Fault.STAGING.value or len(members) == 1:
        return {one.key for one in members}
    bad = set(status.bad_items)
    found = {one.key for one in members if any(item.source in bad for item in origin_of(one, row.source).items)}
    return found or None


def _by_a_side(row: TransferRow, one: MovementRow, status: TransferStatus, now: int, seen: TrafficSeen) -> None:
    """A side is away. Where the files lie elsewhere too, another way is tried; else the asker is told, and waits."""
    if len(one.origins()) > 1 and status.site != one.destination:
        seen.movements.append(_again(_refused(one, row, status.reason, until=now + micros(GO_AROUND)), now))
    else:
        _end(_with_fault(one._replace(state=FAILED), status), now, seen)


def _at_fault(row: TransferRow, one: MovementRow, status: TransferStatus, now: int, seen: TrafficSeen) -> None:
    """A copy is doubted after its first damaged arrival, and bad after the second; what is missing is so at once."""
    corrupt = status.fault == Fault.STAGING.value and "corrupt" in status.reason
    doubted = corrupt and one.tries == 0
    if corrupt and status.site != row.destination:  # there it was spoiled on arrival: the copy may be as good as ever
        seen.replicas += _not_good(row, one, status, state="suspect" if doubted else "bad")
    elif is_missing(status) and status.site == row.source:
        seen.replicas += _not_good(row, one, status, state="lost")
    marked = one._replace(tries=one.tries + 1)
    if doubted:
        seen.movements.append(_again(marked, now))
    elif len(one.origins()) > 1 and status.fault == Fault.STAGING.value and _others_left(marked, row):
        seen.movements.append(_again(_refused(marked, row, status.reason, until=None), now))
    else:
        _end(_with_fault(marked._replace(state=FAILED), status), now, seen)


def _not_good(row: TransferRow, one: MovementRow, status: TransferStatus, *, state: str) -> Sequence[ReplicaRow]:
    items = origin_of(one, row.source).items
    return copies_of(row.source, items, status, state=state, failures=one.tries + 1, run_id=one.run_id)


def copies_of(
    side: str, items: Sequence[TransferItem], status: TransferStatus, *, state: str, failures: int, run_id: str
) -> Sequence[ReplicaRow]:
    """The copies at a side, of which a failure tells that they are not what they should be: those that the mover
    names; where it names none, of damaged ones all, of missing ones the only one."""
    bad = set(status.bad_items)
    known = [item for item in items if item.sha256 and not item.source.endswith("/")]
    if not bad and state == "lost" and len(items) > 1:
        return ()
    return [
        ReplicaRow(
            str(item.sha256), side, item.source, item.size or 0, state, failures, None, status.reason[:200], run_id
        )
        for item in known
        if not bad or item.source in bad
    ]


def is_missing(status: TransferStatus) -> bool:
    """Did it fail because a file is not where it should be taken from?"""
    return status.fault == Fault.STAGING.value and status.reason.startswith(MISSING)


def _others_left(one: MovementRow, row: TransferRow) -> bool:
    tried = {side for _, side, _, _ in json.loads(one.refused)} | {row.source}
    return any(origin.site not in tried for origin in one.origins())


def _refused(one: MovementRow, row: TransferRow, why: str, *, until: int | None) -> MovementRow:
    tried = [*json.loads(one.refused), [row.mover, row.source, why[:200], until]]
    return one._replace(refused=json.dumps(tried, separators=(",", ":")))


def _again(one: MovementRow, now: int) -> MovementRow:
    return one._replace(state=WANTED, due_at=now, help="", reason="")


def _with_fault(one: MovementRow, status: TransferStatus) -> MovementRow:
    return one._replace(reason=status.reason[:500], fault=status.fault, side=status.site)


def _end(one: MovementRow, now: int, seen: TrafficSeen) -> None:
    seen.movements.append(one._replace(due_at=None, ended_at=now, help=""))
    _wake(one, seen)


def _wake(one: MovementRow, seen: TrafficSeen) -> None:
    if one.about:
        seen.wake.append(one.about)
