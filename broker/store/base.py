"""The port of the store: what the broker asks of its truth.

Three kinds of transaction, never one around an outside call:

* **decide** (`Store.deciding`): under a run's lease; reads a snapshot, writes what the engine decided,
  again and again until the engine is quiet, then commits once.
* **record** (`Store.record`): what was seen outside, and how effects ended; needs no lease, only gains facts.
* **accept** (`create_run`, `add_command`, site modes): what people ask for.

Rows are named tuples with the columns of `schema` in order. Texts that hold JSON stay text here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broker.alerts.rows import AlertRow, AlertStore, Over
from broker.deadlines import Asked, DeadlineRow
from broker.operating.rows import NoticeRow as NoticeRow  # noqa: PLC0414 - said on, as the next ones are
from broker.store.booked import AllocationRow as AllocationRow  # noqa: PLC0414 - said on: rows are taken from here
from broker.store.booked import CapRow as CapRow  # noqa: PLC0414
from broker.store.booked import ChargeRow as ChargeRow  # noqa: PLC0414
from broker.store.booked import MoneyStore as MoneyStore  # noqa: PLC0414
from broker.store.booked import Purse as Purse  # noqa: PLC0414
from broker.store.booked import SumRow as SumRow  # noqa: PLC0414
from broker.store.events import EvidenceRow as EvidenceRow  # noqa: PLC0414 - said on: rows are taken from here
from broker.store.events import NewEvent as NewEvent  # noqa: PLC0414
from connectors.base import Notes
from policies.brake import Carried
from policies.failback import Journey

if TYPE_CHECKING:
    from broker.operating.rows import NoticeStore
    from broker.store.past import PastRow
    from broker.traffic.rows import TrafficStore


class RunRow(NamedTuple):
    run_id: str
    name: str
    client_key: str | None
    request_digest: str
    state: str
    reason: str
    ver: int
    document_digest: str
    source: str
    created_by: str
    created_at: int
    ended_at: int | None
    due_at: int | None
    wake_sent_at: int | None
    stages: int
    unsettled: int
    failed: int
    open_attempts: int
    held: int
    commands: int
    wants: int
    cancel_requested_at: int | None
    lease_owner: str | None
    lease_token: int
    lease_until: int | None
    notify: str = ""
    deadlines: int = 0
    deadline_at: int | None = None
    event_at: int | None = None
    at_once: int = 0
    in_line: int = 0


class StageRow(NamedTuple):
    run_id: str
    n: int
    path: str
    state: str
    reason: str
    ver: int
    epoch: int
    unmet: int
    doomed: int
    due_at: int | None
    rules: str
    body: str
    digest: str
    attempt: int
    site_retries: int
    app_retries: int
    failovers: int
    continuations: int
    memory_raises: int
    stalled: int
    not_before: int | None
    avoid: str
    want: str
    ready_at: int | None
    ended_at: int | None
    begun: int = 0

    @property
    def newest(self) -> int:
        """The highest number that any of its attempts has; 0: it has none."""
        return max(self.attempt, self.begun)


class AttemptRow(NamedTuple):
    run_id: str
    n: int
    number: int
    epoch: int
    site: str
    state: str
    ver: int
    why: str
    reason: str
    failure: str
    submit_key: str
    digest: str
    directory: str
    restore: str
    orphan: int
    open: int
    created_at: int
    submitted_at: int | None
    started_at: int | None
    ended_at: int | None
    stop_before: int | None
    unreachable_since: int | None
    cancel_requested_at: int | None
    native_id: str
    staged: str
    answer: str
    job: str
    started: str
    exit: str
    verified: str
    dead: str
    seen_at: int | None
    asked_at: int | None = None


class CheckpointRow(NamedTuple):
    run_id: str
    n: int
    attempt: int
    generation: int
    seq: int
    site: str
    state: str
    path: str
    manifest: str
    bytes: int
    created_at: int
    verified_at: int | None
    reason: str


class EffectRow(NamedTuple):
    key: str
    run_id: str
    n: int
    attempt: int
    kind: str
    site: str
    payload: str
    state: str
    created_at: int
    due_at: int | None
    tries: int
    note: str
    claim: str
    claim_until: int | None
    done_at: int | None
    outcome: str


class ProductRow(NamedTuple):
    run_id: str
    n: int
    attempt: int
    epoch: int
    site: str
    path: str
    manifest: str
    manifest_digest: str
    adopted: int
    published_at: int


class DecisionRow(NamedTuple):
    run_id: str
    seq: int
    n: int
    attempt: int
    at: int
    kind: str
    outcome: str
    detail: str


class EventRow(NamedTuple):
    stream: str
    seq: int
    at: int
    actor: str
    kind: str
    stage: str
    attempt: int
    data: str
    hash: str


class CommandRow(NamedTuple):
    id: str
    run_id: str
    stage: str
    kind: str
    args: str
    actor: str
    reason: str
    at: int
    done_at: int | None
    outcome: str


class SiteRow(NamedTuple):
    site: str
    mode: str
    mode_by: str
    mode_reason: str
    mode_at: int | None
    next_poll_at: int | None
    last_ok_at: int | None
    cannot_ask_since: int | None
    probes: int
    detail: str
    ver: int
    quarantined: int
    override: str = ""
    override_by: str = ""
    override_reason: str = ""
    override_until: int | None = None
    mode_to: str = ""
    mode_then: str = ""
    clear_at: int | None = None


class WorkerRow(NamedTuple):
    name: str
    kind: str
    host: str
    queues: str
    started_at: int
    seen_at: int
    progress_at: int | None
    detail: str


class StrayRow(NamedTuple):
    """A job of the hours that a restored backup does not know (`broker.reconcile`)."""

    key: str
    site: str
    native_id: str
    state: str
    run_id: str
    n: int
    number: int
    incarnation: int
    fate: str
    found_at: int
    done_at: int | None
    outcome: str


class RetentionRow(NamedTuple):
    """What a declared `keep` removes, and when."""

    key: str
    run_id: str
    n: int
    attempt: int
    side: str
    """A place (`NAME:`) or a site."""
    path: str
    """A trailing / means a folder."""
    files: str
    """JSON [[path below `path`, size, sha256], ...] as they were brought; empty: not known."""
    unless: str
    """JSON {all, any}: lists of [side, path] that must hold the same; {attempt: true}: an attempt's whole folder."""
    due_at: int | None
    """While it is being removed: when that claim lapses; null: removed."""
    state: str
    """waiting, removing, removed, refused."""
    reason: str
    created_at: int
    done_at: int | None


class WaiverRow(NamedTuple):
    """A rule of where data may be that does not hold at one side for one run."""

    id: str
    run_id: str
    side: str
    """A place (`NAME:`) or a site."""
    rule: str
    reason: str
    asked_by: str
    asked_at: int
    ends_at: int
    confirmed_by: str
    confirmed_at: int | None
    confirm_reason: str
    withdrawn_by: str
    withdrawn_at: int | None
    withdraw_reason: str


class EndedAttempt(NamedTuple):
    """An attempt of a run that is over."""

    run_id: str
    run_state: str
    run_ended_at: int
    n: int
    number: int
    submit_key: str
    directory: str


class OpenStage(NamedTuple):
    """What the key of a stage's next attempt is made of."""

    run_id: str
    n: int
    path: str
    attempt: int
    digest: str


class LogTail(NamedTuple):
    run_id: str
    n: int
    attempt: int
    name: str
    tail: bytes
    size: int
    read_at: int


class Line(NamedTuple):
    """Where a run stands among those of its name, of which only so many go on at once."""

    ahead: int
    """Runs that come before it."""
    go_on: int
    taken: bool
    """Its turn has come just now."""


class DepRow(NamedTuple):
    run_id: str
    parent: int
    child: int
    inputs: int


class Installation(NamedTuple):
    id: str
    incarnation: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide for a run until it is taken over. `token` fences every write made under it."""

    run_id: str
    token: int
    owner: str


class StoreError(Exception):
    """Something is wrong with the store."""


class LeaseLost(StoreError):
    """Somebody else decides for this run now; nothing of this transaction was kept."""


class StaleRow(StoreError):
    """A row is not as the decision saw it; nothing of this transaction was kept."""


class StoreBusy(StoreError):
    """Locked by another writer for too long. Nothing was kept; try again."""


class StoreGone(StoreBusy):
    """The database's server went away, does not answer, or is starting. Whether a commit that was under way just then
    was kept is unknown: what is done again must be such that twice is once."""


class StoreFull(StoreError):
    """No space left where the database lives. Nothing was kept."""


class WrongSchema(StoreError):
    """The database was made by another version; the message says which and what to do."""


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one decision writes, all or nothing.

    Changed stages and attempts are whole rows whose `ver` is the one that was read: the store writes their decided
    columns (`broker.store.rows` lists them; not what was fixed at birth, nor what is seen) and adds 1 to `ver`; a row
    that has another `ver` by now raises StaleRow. `unmet` and `doomed` of stages and the counters of the run are kept
    by the store (from `settled`, `reopened` and the attempts' `open`).
    """

    run: RunRow | None = None
    """Only state, reason, ended_at, held, wants, cancel_requested_at and in_line are written."""
    stages: list[StageRow] = field(default_factory=list)
    new_attempts: list[AttemptRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    effects: list[EffectRow] = field(default_factory=list)
    dropped_effects: list[str] = field(default_factory=list)
    """Keys; an effect that is pending and unclaimed becomes dropped, any other stays."""
    products: list[ProductRow] = field(default_factory=list)
    settled: list[tuple[int, str]] = field(default_factory=list)
    """(stage, how): `ok`: each child's `unmet` falls by one; `failed`: each child's `doomed` grows by one;
    `waived` (an optional stage failed): as `ok` for children that only need its turn (`inputs` 0), as `failed`
    for those that take its files. A child becomes due when that leaves it no unmet need, or a doomed one;
    the others have nothing to decide yet."""
    failed: int = 0
    """Change of the run's count of required stages that failed, were skipped or canceled."""
    checkpoint_states: list[CheckpointRow] = field(default_factory=list)
    """Written: state, reason."""
    retention: list[RetentionRow] = field(default_factory=list)
    """What is to be removed one day."""
    new_charges: list[ChargeRow] = field(default_factory=list)
    """What attempts that begin are expected to cost."""
    charges: list[ChargeRow] = field(default_factory=list)
    """What they have cost, or that a copy was left behind. One that is settled already stays as it is."""
    evidence: list[EvidenceRow] = field(default_factory=list)
    """How jobs ended, for who judges sites. Written with something else, never for its own sake."""
    commands_done: list[tuple[str, str]] = field(default_factory=list)
    """(id, outcome)"""
    new_stages: list[StageRow] = field(default_factory=list)
    new_deps: list[DepRow] = field(default_factory=list)
    """Stages that a stage adds while the run goes on; `unmet` counts only parents that are not final."""
    reopened: list[tuple[int, str]] = field(default_factory=list)
    """(stage, how it had settled): a person retries it. The run's `unsettled` grows, what `settled` had done to its
    children is taken back, and they become due."""
    wake_all: bool = False
    """Every stage of the run that is not final becomes due now (cancel, release)."""
    wake_ready: int = 0
    """That many places came free: so many READY stages of any run whose `due_at` lies ahead (they wait for room)
    and whose `not_before` is past or null, oldest first, get `due_at` now; their runs too."""
    events: list[NewEvent] = field(default_factory=list)
    alerts: list[AlertRow] = field(default_factory=list)
    """Who is told of this. Each is written once, however often it is decided."""
    alerts_over: list[Over] = field(default_factory=list)
    """What former notices tell of has passed."""
    new_deadlines: list[DeadlineRow] = field(default_factory=list)
    deadlines: list[DeadlineRow] = field(default_factory=list)
    """Written: state, episodes, due_at."""
    hasten_deadlines: bool = False
    """All of the run's deadlines that are not over are to be looked at again at once."""
    wake_stages: list[int] = field(default_factory=list)
    """Stages of the run that become due now."""

    def empty(self) -> bool:
        """Is there nothing to write?"""
        return self.run is None and not any(
            (
                self.alerts,
                self.alerts_over,
                self.new_deadlines,
                self.deadlines,
                self.wake_stages,
                self.stages,
                self.new_attempts,
                self.attempts,
                self.effects,
                self.dropped_effects,
                self.products,
                self.settled,
                self.checkpoint_states,
                self.retention,
                self.new_charges,
                self.charges,
                self.commands_done,
                self.new_stages,
                self.reopened,
                self.events,
                self.wake_ready,
                self.wake_all,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the engine looks at: a run, those of its stages that are due, and the world as last seen."""

    run: RunRow
    stages: Sequence[StageRow]
    """Two parts. First those due at or before `now` (any state, also final ones: an orphan may want a look),
    oldest first, at most the limit. Then, if `room(load)` is above 0, READY stages with `due_at` null (the queue
    for a place), by `n`, at most that many and at most the limit (index on run_id, state, n)."""
    attempts: Mapping[int, Sequence[AttemptRow]]
    """By stage: every open attempt and the current one, by number."""
    sites: Mapping[str, SiteRow]
    load: Mapping[str, int]
    """Open attempts per site, of all runs."""
    own_load: Mapping[str, int]
    """Open attempts per site, of this run."""
    rivals: int
    """How many other runs have `wants` = 1: READY stages for which there was no room."""
    commands: Sequence[CommandRow]
    """Not yet carried out, oldest first; only of this run."""
    more: bool
    """Were there more due stages than the limit?"""
    waiting: bool
    """Are more stages in the queue for a place than are shown?"""
    journey: Journey | None = None
    """Where the run began and where it was carried last; None: it was not carried."""
    notices: Sequence[NoticeRow] = ()
    """What operators have said that holds, or will: freezes, maintenance."""


class DecisionTx(Protocol):
    """One decision transaction; commits when its context ends without an exception."""

    def snapshot(self, *, now: int, limit: int, room: Callable[[Mapping[str, int]], int]) -> Snapshot:
        """`room` says, from the load per site, how many places are free."""
        ...

    def checkpoints(self, stages: Collection[int]) -> Mapping[int, Sequence[CheckpointRow]]:
        """All known checkpoints of these stages, by attempt, generation, seq."""
        ...

    def stage_rows(self, paths: Collection[str]) -> Mapping[str, StageRow]:
        """Whole rows by path, due or not (for commands)."""
        ...

    def products(self, stages: Collection[int]) -> Mapping[int, ProductRow]: ...

    def parents(self, stages: Collection[int]) -> Mapping[int, Sequence[DepRow]]: ...

    def effects(self, keys: Collection[str]) -> Sequence[EffectRow]:
        """Those of these effects that there are, whatever became of them."""
        ...

    def strays(self, stages: Collection[int]) -> Mapping[int, StrayRow]:
        """For each of these stages the earliest attempt of the hours that a restored backup does not know, found
        at its site and not taken up yet."""
        ...

    def waivers(self) -> Sequence[WaiverRow]:
        """All of the run, whether they hold or not, by id."""
        ...

    def purse(self, *, by_stage: bool, projects: Collection[str], users: Collection[str]) -> Purse:
        """What is spent and held so far, with what this transaction has written; and who may spend how much. Besides
        the caps that are stored, sums of these projects and users."""
        ...

    def charges(self, stages: Collection[int]) -> Sequence[ChargeRow]:
        """All of these stages."""
        ...

    def deadlines(self, *, now: int) -> Asked:
        """Those of the run that are to be looked at now, with the work that they wait for."""
        ...

    def carried(self, *, since: int) -> Sequence[Carried]:
        """Stages of all runs that were carried elsewhere since then, in order of time."""
        ...

    def line(self, *, now: int) -> Line | None:
        """Let a run that is in line take its turn, if that has come. None: it is in no line, which is known without
        asking. Ask before the snapshot, which shows the run as it is afterwards."""
        ...

    def apply(self, changes: Changes, *, now: int) -> None:
        """Raises LeaseLost or StaleRow; then the whole transaction is lost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectDone:
    """An effect was performed. Ignored when the claim is no longer ours."""

    key: str
    claim: str
    outcome: str
    tries: int | None = None
    """Which claim it was, if the same worker may have claimed it twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectAgain:
    """An effect is to be tried again at `due_at`; `note` is kept for the next try."""

    key: str
    claim: str
    due_at: int
    note: str
    tries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSeen:
    """Facts about an attempt: column name (a *seen* column) to value."""

    run_id: str
    n: int
    number: int
    facts: Mapping[str, str | int]
    effect: str = ""
    """The key of the effect that brought them, if one did. Ignored together with its end: the answer of a worker that
    stood still for too long may be one to an earlier question."""


class CopySeen(NamedTuple):
    """A file that is not as it was when it was brought."""

    side: str
    path: str
    """Relative to the side's root."""
    state: str
    """lost, or bad."""
    reason: str


@dataclass(slots=True, kw_only=True)
class Sightings:
    """What was seen outside, written in one transaction that needs no lease.

    Every attempt, checkpoint and effect in it makes its stage and run due now (`hint=False`: not).
    """

    effects_done: list[EffectDone] = field(default_factory=list)
    effects_again: list[EffectAgain] = field(default_factory=list)
    attempts: list[AttemptSeen] = field(default_factory=list)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    """Inserted; where the row exists, `state` only moves on (seen < checking < verified < shipped < gone < suspect <
    bad), and manifest, bytes, verified_at and reason follow it."""
    copies: list[CopySeen] = field(default_factory=list)
    """What the catalogue of files knows of them follows; of others it need not know. Gives no hint."""
    wake_effects: list[str] = field(default_factory=list)
    """Keys of effects that something has happened to which they wait for: due now, unless somebody is at them."""
    logs: list[LogTail] = field(default_factory=list)
    """Replaced; give no hint."""
    sites: list[SiteRow] = field(default_factory=list)
    """Written: last_ok_at, cannot_ask_since, probes, detail."""
    wake_sites: list[str] = field(default_factory=list)
    """All stages with an open attempt at these sites become due: the site's standing changed."""
    evidence: list[EvidenceRow] = field(default_factory=list)
    events: list[tuple[str, NewEvent]] = field(default_factory=list)
    """(stream, event), for streams other than runs: `site:NAME`, `operators`."""

    def extend(self, other: Sightings) -> None:
        """Take over what another look saw."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))

    def empty(self) -> bool:
        """Is there nothing to write?"""
        return not any(
            (
                self.effects_done,
                self.effects_again,
                self.attempts,
                self.checkpoints,
                self.copies,
                self.wake_effects,
                self.logs,
                self.sites,
                self.wake_sites,
                self.evidence,
                self.events,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to store: its row, its document, its stages in order, and who needs whom."""

    run: RunRow
    document: str
    """JSON: the normalised document, parameters filled in."""
    stages: Sequence[StageRow]
    deps: Sequence[DepRow]
    events: Sequence[NewEvent] = ()
    deadlines: Sequence[DeadlineRow] = ()


class KeyTaken(StoreError):
    """The client key belongs to a run that asked for something else."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"this key belongs to run {run_id}, which asked for something else")
        self.run_id = run_id


@dataclass(slots=True)
class Counts:
    """How much the store was used, for benchmarks and for the test that counts."""

    commits: int = 0
    statements: int = 0
    trips: int = 0
    """How often a server was waited for; 0 where there is none."""


class Store(Protocol):
    """The truth. Thread-safe; every method is one transaction unless it says otherwise."""

    counts: Counts

    @property
    def notes(self) -> Notes:
        """What movers must know again after a crash."""
        ...

    @property
    def traffic(self) -> TrafficStore:
        """What is on its way."""
        ...

    @property
    def money(self) -> MoneyStore:
        """What attempts cost, who may spend how much, and what sites say is left."""
        ...

    @property
    def alerts(self) -> AlertStore:
        """Who is told of what."""
        ...

    @property
    def notices(self) -> NoticeStore:
        """What operators have said, with an end."""
        ...

    def now(self) -> int:
        """The time that leases go by: the database's own, microseconds UTC (SQLite: the clock given)."""
        ...

    def installation(self) -> Installation:
        """This installation's identity, made at first use."""
        ...

    def close(self) -> None: ...

    # -- accept --------------------------------------------------------------------------------------------

    def create_run(self, new: NewRun, *, again: bool = False) -> tuple[str, bool]:
        """Store the run whole; (run id, was it new?). A client key that a run not canceled and not failed
        holds gives that run back if its request digest is the same, else raises KeyTaken; `again` (or a failed
        or canceled holder) takes the key over."""
        ...

    def add_command(self, command: CommandRow) -> None:
        """Keep what a person asked for; make the run, and the stage that it names, due."""
        ...

    def set_site_mode(self, site: str, *, mode: str, by: str, reason: str, to: str = "", then: str = "") -> None:
        """Drain, evacuate, close or resume; told in the site's stream; stages waiting for room or placed there become
        due. `to`: of an evacuation, where to; `then`: of a closed site, what becomes of its stages."""
        ...

    def site_is_clear(self, site: str, told: NewEvent, *, since: int, now: int) -> bool:
        """A site that was closed at `since` holds nothing of ours any more; `told` in its stream. False: it was known
        before, or the site is not closed, or was closed anew."""
        ...

    def override_site(self, site: str, *, state: str, by: str, reason: str, until: int | None) -> None:
        """What an operator says of a site until then (empty: nothing any more); told in the site's stream, and what
        waits there or for it becomes due."""
        ...

    def ensure_sites(self, names: Iterable[str]) -> Collection[str]:
        """Make a row for each site that has none; the names that were new."""
        ...

    # -- workers -------------------------------------------------------------------------------------------

    def heartbeat(self, row: WorkerRow) -> None:
        """A process says that it lives: its row is written or replaced. `progress_at` never goes back, and null
        leaves it as it is: the heartbeat and the message that proves progress are written by different threads."""
        ...

    def workers(self) -> Sequence[WorkerRow]:
        """All rows, also of processes long gone, by kind and name."""
        ...

    def forget_workers(self, seen_before: int) -> int:
        """Remove the rows last written before that time; how many."""
        ...

    # -- after a restore -----------------------------------------------------------------------------------

    def unknown_keys(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys that belong to no attempt and to no stray."""
        ...

    def open_stages(self) -> Iterator[OpenStage]:
        """All stages that are not over, of all runs that are not. Many transactions; memory for one run."""
        ...

    def add_strays(self, rows: Sequence[StrayRow], *, now: int) -> None:
        """Keep jobs found under unknown keys, told in their sites' streams; those known are left as they are."""
        ...

    def strays(self, open_at: str = "") -> Sequence[StrayRow]:
        """Those still to be dealt with at a site; no name: all that were ever found."""
        ...

    def finish_strays(self, outcomes: Sequence[tuple[str, str]], *, now: int) -> None:
        """(key, what became of it): they are dealt with."""
        ...

    def lift_quarantine(self, site: str, told: NewEvent, *, now: int) -> bool:
        """Let a site have new jobs again; `told` in its stream; what waited becomes due. False: it was in none."""
        ...

    # -- lease and decide ----------------------------------------------------------------------------------

    def acquire(self, run_id: str, *, owner: str, ttl: float) -> Lease | None:
        """Take the run's lease if it is free, lapsed or already `owner`'s; seconds. The token always grows."""
        ...

    def release(self, lease: Lease, *, due_at: int | None) -> bool:
        """Give the lease back, and set when the run is to be looked at next: the least of `due_at` and what its
        stages' and effects' hints say by now. False: it was no longer ours (nothing written)."""
        ...

    def break_leases(self, is_dead: Callable[[str], bool]) -> int:
        """Free all leases and effect claims whose owner is dead; how many."""
        ...

    def deciding(self, lease: Lease, *, ttl: float) -> AbstractContextManager[DecisionTx]:
        """A decision transaction; renews the lease by `ttl` seconds. Raises LeaseLost at entry or exit."""
        ...

    # -- act and observe -----------------------------------------------------------------------------------

    def claim_effects(
        self,
        *,
        claim: str,
        ttl: float,
        now: int,
        limit: int,
        run_id: str | None = None,
        site: str | None = None,
    ) -> Sequence[EffectRow]:
        """Take due, unclaimed (or claim-lapsed) pending effects, oldest first; `tries` counts this one.
        No commit is made where there are none."""
        ...

    def record(self, sightings: Sightings, *, now: int) -> Collection[str]:
        """Write what was seen; the ids of runs that are concerned."""
        ...

    def open_attempts(self, site: str) -> Sequence[AttemptRow]:
        """All attempts not final at that site, orphans too, of all runs."""
        ...

    def effect(self, key: str) -> EffectRow | None: ...

    # -- wake ----------------------------------------------------------------------------------------------

    def due_runs(self, *, now: int, limit: int, resend_after: float) -> Sequence[str]:
        """Runs that are due (by their own, a stage's or an effect's hint), whose lease is free or lapsed, and for
        which no wake-up was sent in the last `resend_after` seconds; marks them as sent."""
        ...

    def next_due(self) -> int | None:
        """The earliest time at which any run or effect is due."""
        ...

    def sites_wanted(self, *, now: int) -> Sequence[str]:
        """Sites of which an effect is due that nobody has claimed."""
        ...

    def take_look(self, site: str, *, now: int, until: int) -> bool:
        """May the caller look at that site now? To one of many who ask the answer is yes, until `until`."""
        ...

    def hasten_look(self, site: str, *, at: int) -> None:
        """The next look is to be no later than `at`."""
        ...

    # -- keeping and removing ------------------------------------------------------------------------------

    def retention(self, *, limit: int = 1000) -> Sequence[RetentionRow]:
        """All that was ever to be removed, newest first."""
        ...

    def due_retention(self, *, now: int, limit: int) -> Sequence[RetentionRow]:
        """Those whose time has come, the longest due first."""
        ...

    def retention_around(self, row: RetentionRow) -> Sequence[RetentionRow]:
        """Other rows, not dealt with yet, for the same files at the same side, for some of them, or for more."""
        ...

    def enrol_retention(self, rows: Sequence[RetentionRow]) -> None:
        """Add rows; those whose key is known are left as they are."""
        ...

    def change_retention(
        self,
        old: RetentionRow,
        new: RetentionRow,
        *,
        now: int,
        alone: bool = False,
        told: tuple[str, NewEvent] | None = None,
    ) -> bool:
        """Write state, reason, files, due_at and done_at, if the row is still as `old` in state and due_at; and tell
        of it in that stream. `alone`: only while nobody else removes anything. False: nothing was written."""
        ...

    def ended_attempts(self, site: str, *, after: tuple[int, str], until: int, limit: int) -> Sequence[EndedAttempt]:
        """Attempts at that site of runs that are over, by (end, run id), from behind `after` on."""
        ...

    # -- waivers -------------------------------------------------------------------------------------------

    def ask_waiver(self, row: WaiverRow) -> bool:
        """Keep what is asked for, and tell of it in the run's stream. False: there is one for the same run, side and
        rule that is neither withdrawn nor at its end at `asked_at`; nothing was written."""
        ...

    def confirm_waiver(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        """Let it hold from now on; told in the run's stream, and what waits of the run becomes due. False: nothing was
        written, since it was asked for by the same person, confirmed or withdrawn before, or is at its end."""
        ...

    def withdraw_waiver(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        """Let it hold no longer; told in the run's stream. False: it was withdrawn before, or there is none."""
        ...

    def waiver(self, ident: str) -> WaiverRow | None: ...

    def waivers(self, run_id: str = "", *, limit: int = 1000) -> Sequence[WaiverRow]:
        """Of a run or of all, those asked for last first."""
        ...

    # -- deadlines -----------------------------------------------------------------------------------------

    def deadlines(self, run_id: str) -> Sequence[DeadlineRow]:
        """All of a run, by stage."""
        ...

    # -- read ----------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> RunRow | None: ...
    def document(self, run_id: str) -> str | None:
        """The document as it was stored (`RunRow` holds its digest only)."""
        ...

    def runs(self, *, unfinished: bool = False, limit: int = 100, prefix: str = "") -> Sequence[RunRow]:
        """Newest first; `prefix` matches the start of the id or the whole name."""
        ...

    def lines(self, names: Collection[str]) -> Mapping[str, int]:
        """By run, the place that it has in the line of its workflow, from 1; of these workflows."""
        ...

    def stages(self, run_id: str) -> Sequence[StageRow]: ...
    def stages_at(self, run_id: str, numbers: Collection[int]) -> Mapping[int, StageRow]: ...
    def deps(self, run_id: str) -> Sequence[DepRow]: ...
    def attempts(self, run_id: str, n: int | None = None) -> Sequence[AttemptRow]: ...
    def attempt_by_key(self, submit_key: str) -> AttemptRow | None: ...
    def decisions(self, run_id: str, n: int | None = None) -> Sequence[DecisionRow]: ...
    def events(self, stream: str, *, after: int = 0, limit: int = 100_000) -> Sequence[EventRow]: ...
    def streams(self) -> Sequence[tuple[str, int, str]]:
        """(stream, newest seq, tip)"""
        ...

    def tip(self, stream: str) -> str:
        """The newest hash of one stream; empty: it has no event."""
        ...

    def other_streams(self) -> Sequence[tuple[str, int, str]]:
        """As `streams`, those that are no run's: sites and operators, a handful."""
        ...

    def run_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """The ids of all runs, in order, a page at a time."""
        ...

    def lost_rows(self) -> Sequence[tuple[str, str]]:
        """(table, run id) of rows whose run is not there, a few of each table."""
        ...

    def effects(self, run_id: str) -> Sequence[EffectRow]: ...
    def pending_effects(self, run_id: str) -> Sequence[EffectRow]:
        """Those of them that are neither done nor given up."""
        ...

    def products(self, run_id: str) -> Sequence[ProductRow]: ...
    def products_of(self, run_id: str, paths: Collection[str]) -> Mapping[str, ProductRow]:
        """The products of these stages, by path; those without one are left out."""
        ...

    def checkpoints(self, run_id: str) -> Sequence[CheckpointRow]: ...
    def commands(self, run_id: str) -> Sequence[CommandRow]: ...
    def sites(self) -> Sequence[SiteRow]: ...
    def evidence(self, site: str, *, limit: int = 100, since: int = 0) -> Sequence[EvidenceRow]:
        """Rows from `since` on, the newest first."""
        ...

    def forget_evidence(self, before: int) -> int:
        """Remove rows that are older; how many."""
        ...

    def past(self, site: str, *, since: int, limit: int) -> Sequence[PastRow]:
        """Attempts at a site that ended after `since`, the newest first."""
        ...

    def present(self, site: str, *, limit: int) -> Sequence[PastRow]:
        """Those that are open, of the newest runs first."""
        ...

    def log_tails(self, run_id: str, n: int, attempt: int) -> Sequence[LogTail]: ...
    def logged_sizes(self, site: str) -> Mapping[tuple[str, int, int, str], int]:
        """Sizes of the logs kept of the open attempts at a site, to read only what has grown."""
        ...


def event_hash(previous: str, row: Sequence[object]) -> str:
    """The chain's link: SHA-256 over the former hash and the event's columns but the hash, as hex."""
    text = "\x1f".join((previous, *(str(value) for value in row)))
    return hashlib.sha256(text.encode()).hexdigest()
