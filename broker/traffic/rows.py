"""The rows of traffic, and what the broker asks of their store.

A *movement* is a set of files that somebody wants brought from one side to another. A *transfer* is one job of a mover
that carries one or more movements of one link. Rows have the columns of `broker.store.schema`, in order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from broker.store.events import EvidenceRow, NewEvent
from connectors.model import Origin, Transfer, TransferItem

WANTED, ACTIVE, HELD = "wanted", "active", "held"
SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
BEGUN, CANCELING = "begun", "canceling"
OVER = frozenset({SUCCEEDED, FAILED, CANCELED})


class MovementRow(NamedTuple):
    key: str
    run_id: str
    n: int
    attempt: int
    source: str
    destination: str
    items: str
    others: str
    label: str
    about: str
    private: int
    urgent: int
    deadline: int | None
    files: int
    bytes: int
    state: str
    mover: str
    taken_from: str
    transfer: str
    refused: str
    tries: int
    due_at: int | None
    created_at: int
    began_at: int | None
    ended_at: int | None
    moved: int
    reason: str
    fault: str
    side: str
    help: str

    def origins(self) -> Sequence[Origin]:
        """Where its files may be taken from, the asked one first."""
        first = Origin(site=self.source, items=items_from(self.items))
        return (first, *(Origin(site=side, items=_items(rows)) for side, rows in json.loads(self.others)))


class TransferRow(NamedTuple):
    key: str
    mover: str
    source: str
    destination: str
    label: str
    urgent: int
    state: str
    native_id: str
    """What the service calls it; where a process of ours carries it, that process, and empty until one does."""
    movements: int
    files: int
    bytes: int
    moved: int
    files_moved: int
    faults: int
    detail: str
    reason: str
    fault: str
    side: str
    help: str
    created_at: int
    began_at: int | None
    progress_at: int | None
    ended_at: int | None
    open: int


class ReplicaRow(NamedTuple):
    sha256: str
    side: str
    path: str
    size: int
    state: str
    """available; suspect or bad: it arrived damaged once, or more often; lost: it was not there. A copy that was
    verified since is available again."""
    failures: int
    verified_at: int | None
    reason: str
    run_id: str


class LinkRow(NamedTuple):
    source: str
    destination: str
    mover: str
    learned: str
    samples: int
    updated_at: int


class MoverRow(NamedTuple):
    name: str
    next_at: int | None
    last_ok_at: int | None
    cannot_ask_since: int | None
    probes: int
    detail: str
    help: str


@dataclass(slots=True, kw_only=True)
class TrafficSeen:
    """What a turn saw or settled, written in one transaction."""

    transfers: list[TransferRow] = field(default_factory=list)
    """Written where the row is still open."""
    movements: list[MovementRow] = field(default_factory=list)
    """Written where the row is not over."""
    replicas: list[ReplicaRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)
    movers: list[MoverRow] = field(default_factory=list)
    wake: list[str] = field(default_factory=list)
    """Keys of effects that wait for a movement of these."""
    events: list[tuple[str, NewEvent]] = field(default_factory=list)
    evidence: list[EvidenceRow] = field(default_factory=list)

    def empty(self) -> bool:
        return not any(
            (
                *(self.transfers, self.movements, self.replicas, self.links, self.movers),
                *(self.wake, self.events, self.evidence),
            )
        )


class TrafficStore(Protocol):
    """The rows of traffic. Thread-safe; every method is one transaction."""

    def want(self, rows: Sequence[MovementRow]) -> None:
        """Keep what is new; what had failed or was canceled is wanted again, under what is asked now. What is wanted,
        on its way or has arrived stays as it is."""
        ...

    def movements(self, keys: Collection[str]) -> Mapping[str, MovementRow]: ...

    def wanted(self, *, now: int, limit: int) -> Sequence[MovementRow]:
        """Those that may be begun now: urgent ones first, then the oldest."""
        ...

    def unwanted(self) -> Sequence[MovementRow]:
        """Not over, although nobody waits for them any more: the effect that they are about is over."""
        ...

    def begin(self, row: TransferRow, members: Sequence[tuple[str, str]]) -> Sequence[str]:
        """Write a transfer down, with those of these movements (key, `others` by now) that are wanted still; their
        keys. None: nothing was written."""
        ...

    def carry(self, given: Sequence[tuple[TransferRow, MovementRow]]) -> None:
        """Want each of these movements, as `want` does, and write down its transfer, or open it again, where the
        movement is wanted by then. What is on its way, or has arrived, stays as it is."""
        ...

    def hold(self, key: str, *, by: str, was: str) -> bool:
        """The open transfer is carried by the process `by` from now on. False: it is not `was` that has it."""
        ...

    def open_transfers(self) -> Sequence[TransferRow]: ...

    def carried_by(self, transfer: str) -> Sequence[MovementRow]:
        """Its movements, by key."""
        ...

    def record(self, seen: TrafficSeen, *, now: int) -> Collection[str]:
        """The ids of the runs that are concerned."""
        ...

    def transfers(self, *, run_id: str = "", open_only: bool = False, limit: int = 100) -> Sequence[TransferRow]:
        """Newest first."""
        ...

    def movements_of(self, run_id: str) -> Sequence[MovementRow]:
        """Of a run, in the order in which they were asked for."""
        ...

    def transfer(self, key: str) -> TransferRow | None: ...

    def ask_to_cancel(self, key: str, *, reason: str) -> bool:
        """False: it is over, or there is none."""
        ...

    def replicas(self, digests: Collection[str]) -> Mapping[str, Sequence[ReplicaRow]]:
        """All that were ever known, lost ones too, by digest."""
        ...

    def links(self) -> Sequence[LinkRow]: ...

    def movers(self) -> Mapping[str, MoverRow]: ...

    def take_turn(self, name: str, *, now: int, until: int) -> bool:
        """May the caller ask that mover now? To one of many the answer is yes, until `until`."""
        ...

    def hasten_turn(self, name: str, *, at: int) -> None:
        """The next turn is to be no later than `at`."""
        ...


def movement_of(transfer: Transfer, *, run_id: str, n: int, attempt: int, now: int) -> MovementRow:
    """What is asked for, as a row that is wanted from now on."""
    return MovementRow(
        key=transfer.key,
        run_id=run_id,
        n=n,
        attempt=attempt,
        source=transfer.source_site,
        destination=transfer.destination_site,
        items=items_json(transfer.items),
        others=json.dumps([[one.site, _plain(one.items)] for one in transfer.others], separators=(",", ":")),
        label=transfer.label,
        about=transfer.about,
        private=int(transfer.private),
        urgent=int(transfer.urgent),
        deadline=transfer.deadline,
        files=len(transfer.items),
        bytes=sum(item.size or 0 for item in transfer.items),
        state=WANTED,
        mover="",
        taken_from="",
        transfer="",
        refused="[]",
        tries=0,
        due_at=now,
        created_at=now,
        began_at=None,
        ended_at=None,
        moved=0,
        reason="",
        fault="",
        side="",
        help="",
    )


def items_json(items: Sequence[TransferItem]) -> str:
    return json.dumps(_plain(items), separators=(",", ":"))


def items_from(text: str) -> Sequence[TransferItem]:
    return _items(json.loads(text))


def _plain(items: Sequence[TransferItem]) -> list[list[object]]:
    return [[item.source, item.destination, item.size, item.sha256, item.mode] for item in items]


def _items(rows: Sequence[Sequence[object]]) -> Sequence[TransferItem]:
    return tuple(
        TransferItem(source=source, destination=destination, size=size, sha256=sha256, mode=mode)  # type: ignore[arg-type]  # as _plain wrote them
        for source, destination, size, sha256, mode in rows
    )
