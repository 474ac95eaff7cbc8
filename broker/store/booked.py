"""Rows of charges, caps and allocations, as the port gives them. Amounts are millionths of a unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from broker.store.events import NewEvent


class ChargeRow(NamedTuple):
    """What one attempt is expected to cost, and has cost."""

    run_id: str
    n: int
    attempt: int
    site: str
    account: str
    pool: str
    person: str
    lane: str
    reservation: str
    unit: str
    rate: int
    usd: int
    nodes: int
    estimated: int
    actual: int
    wasted: int
    cause: str
    source: str
    doubles: int
    cut: int
    cut_wasted: int
    booked_at: int
    settled_at: int | None
    told: int | None
    told_at: int | None


class CapRow(NamedTuple):
    """What a run, a project or a person may spend, as somebody has set it."""

    kind: str
    name: str
    node_hours: int | None
    usd: int | None
    by: str
    reason: str
    at: int


class AllocationRow(NamedTuple):
    """What a site said that an account has left."""

    site: str
    account: str
    pool: str
    unit: str
    granted: int
    used: int
    ends_at: int | None
    read_at: int
    detail: str
    warned: str


class SumRow(NamedTuple):
    """Charges that differ in amounts only, summed."""

    n: int
    """Of the stage; -1: of all."""
    site: str
    account: str
    pool: str
    person: str
    reservation: str
    unit: str
    usd: int
    nodes: int
    cause: str
    """Of settled ones."""
    attempts: int
    open: int
    """How many of them are not settled."""
    held: int
    """Estimated, of those that are not settled."""
    estimated: int
    actual: int
    wasted: int
    doubled: int
    """What counts against `budget.resilience`."""
    told: int
    told_ours: int
    """What sites' accountings say, and what we had booked for the same attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a decision about money looks at."""

    own: Sequence[SumRow] = ()
    """Of the run."""
    shared: Mapping[tuple[str, str], Sequence[SumRow]] = field(default_factory=dict)
    """Of projects and users, by kind and name."""
    caps: Sequence[CapRow] = ()
    allocations: Sequence[AllocationRow] = ()
    held: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """By site, account and pool of an allocation: what was booked since it was read, in its unit."""


class MoneyStore(Protocol):
    """The part of the store that keeps account. Every method is one transaction."""

    def charges(self, run_id: str, n: int | None = None) -> Sequence[ChargeRow]:
        """Of a run or of one of its stages, by stage and attempt."""
        ...

    def sums(self, run_id: str = "") -> Sequence[SumRow]:
        """All that was booked, of a run or of all runs, summed by whatever two rows may differ in."""
        ...

    def purse(self, run_id: str, *, projects: Collection[str], users: Collection[str]) -> Purse:
        """As a decision for that run would see it."""
        ...

    def unreconciled(self, site: str, *, until: int, limit: int) -> Sequence[ChargeRow]:
        """Settled at or before `until`, of jobs that did run, and not compared with the site's own accounting yet; the
        oldest first."""
        ...

    def reconcile(self, told: Sequence[ChargeRow]) -> None:
        """Write what the site's accounting says (`told`, `told_at`); once written it stays."""
        ...

    def caps(self) -> Sequence[CapRow]:
        """What people have set, by kind and name."""
        ...

    def set_cap(self, row: CapRow) -> None:
        """Set or replace it, or remove it where it bounds nothing; told in the run's or the operators' stream, and what
        waits becomes due."""
        ...

    def allocations(self, site: str = "") -> Sequence[AllocationRow]:
        """What sites have said of what is left, of one or of all."""
        ...

    def keep_allocations(self, site: str, rows: Sequence[AllocationRow], *, told: Sequence[NewEvent], now: int) -> None:
        """Replace what is known of a site, and tell of it in the site's stream; what waits becomes due where more is
        left than before."""
        ...
