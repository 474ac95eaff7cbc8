"""Looking at a site: what became of its jobs, what lies in its spool, and whether it answers at all.

One look makes a fixed number of calls however many jobs there are: one status call, one listing of the spool, one
read of what is new there. The order matters: a job that the status call shows as ended has written its exit record
before, so the spool is read after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.clock import Clock
from broker.facts import SiteSetup
from broker.store.base import (
    AttemptRow,
    AttemptSeen,
    CheckpointRow,
    LogTail,
    NewEvent,
    Sightings,
    SiteRow,
    Store,
)
from connectors.base import Site
from connectors.errors import BadReply, CredentialError, SiteError, SiteUnreachable
from connectors.harness import (
    CheckpointRecord,
    ExitRecord,
    RecordError,
    StartRecord,
    TornRecord,
    parse_record,
    parse_spool_name,
)
from connectors.harness.records import MAX_RECORD_BYTES
from connectors.model import JobState, JobStatus

SPOOL = "spool"
LOG_BYTES = 64 * 1024
LOG_EVERY = 5_000_000
"""Microseconds between two reads of a running job's logs."""
SEEN_EVERY = 10_000_000
"""Microseconds between two notes that a site answered and nothing had changed."""
BESIDE_DRAINS = 0.25
"""Seconds between two looks at a site with poll 0, which is looked at in every drain anyhow."""
SLOWEST_FACTOR = 8
"""A site where nothing changes is looked at ever more rarely, down to its poll interval times this."""
IDLE_EVERY = 15_000_000
"""Microseconds between two looks at a site where nothing of ours is."""
RECORDS_AT_ONCE = 1000
GATED_EXIT = 73


@dataclass(slots=True)
class _Pace:
    """When a site is looked at next, kept in this process: a lost pace costs one look."""

    next_at: int = 0
    looked_at: int = 0
    interval: float = 0.0
    logs_at: int = 0
    noted_at: int = 0
    told_silent: bool = False
    """Were the stages there woken since both budgets were spent?"""


@dataclass(slots=True)
class Looked:
    """What one look saw, and which spool files may go once that is recorded."""

    sightings: Sightings = field(default_factory=Sightings)
    used: list[str] = field(default_factory=list)


class Watcher:
    """Looks at sites. One per process; safe to run twice, at the price of a second look."""

    def __init__(
        self, *, store: Store, setups: Mapping[str, SiteSetup], sites: Mapping[str, Site], clock: Clock
    ) -> None:
        self._store, self._setups, self._sites, self._clock = store, setups, sites, clock
        self._paces = {name: _Pace(interval=setup.config.poll) for name, setup in setups.items()}
        self._foreign: dict[str, set[str]] = {name: set() for name in setups}

    # -- pace --------------------------------------------------------------------------------------------------

    def next_look(self, name: str) -> int:
        """When that site wants to be looked at."""
        return self._paces[name].next_at

    def idle_look_due(self, name: str) -> bool:
        """Has a site where nothing of ours is not been looked at for long? Placement must know that it answers."""
        return self._clock() - self._paces[name].looked_at >= IDLE_EVERY

    def put_off(self, name: str) -> None:
        """Nothing of ours is there: no look is due before the next poll, unless hastened."""
        config = self._setups[name].config
        self._paces[name].next_at = self._clock() + round((config.poll or BESIDE_DRAINS) * 1e6)

    def hasten(self, name: str) -> None:
        """Something was just done there: look soon."""
        pace, config = self._paces[name], self._setups[name].config
        pace.interval = config.poll
        pace.next_at = min(pace.next_at, self._clock() + round((config.poll or BESIDE_DRAINS) * 1e6))

    def _after_look(self, name: str, *, changed: bool) -> None:
        pace, config = self._paces[name], self._setups[name].config
        fastest = config.poll or BESIDE_DRAINS
        pace.looked_at = self._clock()
        pace.interval = fastest if changed else min(fastest * SLOWEST_FACTOR, max(pace.interval, fastest) * 1.25)
        pace.next_at = self._clock() + round(pace.interval * 1e6)

    # -- looking -----------------------------------------------------------------------------------------------

    def look(self, name: str) -> Looked:
        """Look at one site. Never raises for what the site does: silence is something seen, too."""
        looked = Looked()
        site, rows = self._sites[name], self._store.open_attempts(name)
        standing = next((row for row in self._store.sites() if row.site == name), None)
        now = self._clock()
        try:
            self._look(site, rows, looked)
        except (SiteUnreachable, BadReply) as error:
            looked = Looked()
            self._silent(name, standing, error, now, looked.sightings)
        except SiteError as error:  # it answered: with «not you», «not now» or «not so», which is no outage
            looked = Looked()
            capability = "credentials" if isinstance(error, CredentialError) else "status"
            looked.sightings.evidence.append((name, now, capability, False, 0, str(error)[:300]))
        else:
            self._answered(name, standing, now, looked.sightings)
        self._after_look(name, changed=not looked.sightings.empty())
        return looked

    def forget(self, name: str, looked: Looked) -> None:
        """The sightings are recorded: the spool files behind them may go."""
        if looked.used:
            try:
                self._sites[name].remove(looked.used)
            except SiteError:
                return  # the site has just gone dark; they are read again when it is back, which is harmless

    def _look(self, site: Site, rows: Sequence[AttemptRow], looked: Looked) -> None:
        asked = [row for row in rows if row.answer or row.state not in ("PLANNED", "STAGING_IN")]
        statuses: dict[str, JobStatus] = {}
        complete = False
        if asked:
            listing = site.status([row.submit_key for row in asked])
            statuses, complete = _by_key(listing.items), listing.complete
        by_key = {row.submit_key: row for row in rows}
        facts: dict[str, dict[str, str | int]] = {}
        self._spool(site, by_key, facts, looked)
        now = self._clock()
        for row in asked:
            self._job(site, row, statuses.get(row.submit_key), complete, now, facts)
        for key, found in facts.items():
            row = by_key[key]
            looked.sightings.attempts.append(
                AttemptSeen(run_id=row.run_id, n=row.n, number=row.number, facts={**found, "seen_at": now})
            )
        self._logs(site, rows, facts, now, looked)

    def _job(
        self,
        site: Site,
        row: AttemptRow,
        status: JobStatus | None,
        complete: bool,
        now: int,
        facts: dict[str, dict[str, str | int]],
    ) -> None:
        """The site's own word on a job, if it is a new one."""
        if status is None and not (complete and row.answer):
            return
        if status is not None and status.state is JobState.UNKNOWN:
            return
        fact = _job_fact(status)
        before = json.loads(row.job) if row.job else {}
        since = before["since"] if before.get("state") == fact["state"] else now
        # said again a settle time later: a listing that lags, or a record on its way, would have arrived by now
        fact["confirmed"] = since + round(self._setups[site.name].config.settle * 1e6) <= now
        fact["confirmed"] &= complete and JobState(fact["state"]).final
        if all(before.get(name) == value for name, value in fact.items()):
            return
        text = json.dumps({**fact, "since": since}, separators=(",", ":"))
        found = facts.setdefault(row.submit_key, {})
        found["job"] = text
        if status is not None and status.native_id != row.native_id:
            found["native_id"] = status.native_id
        if JobState(fact["state"]).final and "exit" not in found and not row.exit:
            self._search_exit(site, row, found)

    # -- the spool ---------------------------------------------------------------------------------------------

    def _spool(
        self, site: Site, by_key: Mapping[str, AttemptRow], facts: dict[str, dict[str, str | int]], looked: Looked
    ) -> None:
        """Read what is new in the site's spool."""
        foreign = self._foreign[site.name]
        names: list[str] = []
        for info in site.list(SPOOL):
            if info.path not in foreign and not info.is_dir:
                names.append(info.path)
                if len(names) == RECORDS_AT_ONCE:
                    break
        if not names:
            return
        for path, data in site.read_many(names, limit=MAX_RECORD_BYTES).items():
            key = self._key_of(path)
            row = by_key.get(key)
            if row is None:
                self._not_open(path, key, foreign, looked)
                continue
            try:
                record = parse_record(data)
            except TornRecord:
                continue  # half-written or half-read: it is whole at a later look, or goes with its attempt
            except RecordError:
                foreign.add(path)
                continue
            if record.key != key:
                foreign.add(path)
                continue
            self._take(row, record, facts, looked)
            looked.used.append(path)

    @staticmethod
    def _key_of(path: str) -> str:
        try:
            return parse_spool_name(path.rsplit("/", 1)[-1])[0]
        except RecordError:
            return ""

    def _not_open(self, path: str, key: str, foreign: set[str], looked: Looked) -> None:
        """A record of no open attempt: of one that is over (it may go), or nobody's that we know (it stays)."""
        if key and self._store.attempt_by_key(key) is not None:
            looked.used.append(path)
        else:
            foreign.add(path)

    @staticmethod
    def _take(
        row: AttemptRow,
        record: StartRecord | CheckpointRecord | ExitRecord,
        facts: dict[str, dict[str, str | int]],
        looked: Looked,
    ) -> None:
        found = facts.setdefault(row.submit_key, {})
        if isinstance(record, StartRecord):
            _newest(found, row.started, "started", _start_fact(record))
        elif isinstance(record, ExitRecord):
            _newest(found, row.exit, "exit", _exit_fact(record))
        else:
            looked.sightings.checkpoints.append(
                CheckpointRow(
                    run_id=row.run_id,
                    n=row.n,
                    attempt=row.number,
                    generation=record.generation,
                    seq=record.seq,
                    site=row.site,
                    state="seen",
                    path=f"{row.directory}/{record.path}",
                    manifest="",
                    bytes=record.bytes,
                    created_at=record.at,
                    verified_at=None,
                    reason="",
                )
            )
        if not found:
            del facts[row.submit_key]

    @staticmethod
    def _search_exit(site: Site, row: AttemptRow, found: dict[str, str | int]) -> None:
        """The site says that the job is over, and the spool holds no exit record: look where it was first written.
        The record decides, not the site's accounting, which may have been purged."""
        folders = [info.path for info in site.list(f"{row.directory}/.crossfade") if info.is_dir]
        numbered = [(int(path.rsplit("/g", 1)[1]), path) for path in folders if path.rsplit("/g", 1)[-1].isdigit()]
        for _, folder in sorted(numbered, reverse=True)[:1]:
            names = [info.path for info in site.list(folder) if info.path.endswith(".exit")]
            for data in site.read_many(names, limit=MAX_RECORD_BYTES).values():
                try:
                    record = parse_record(data)
                except RecordError:
                    continue
                if isinstance(record, ExitRecord) and record.key == row.submit_key:
                    _newest(found, row.exit, "exit", _exit_fact(record))

    # -- logs --------------------------------------------------------------------------------------------------

    def _logs(
        self,
        site: Site,
        rows: Sequence[AttemptRow],
        facts: Mapping[str, Mapping[str, str | int]],
        now: int,
        looked: Looked,
    ) -> None:
        """Keep the last 64 KiB of each log: of what has just ended, and now and then of what runs."""
        pace = self._paces[site.name]
        regular = now >= pace.logs_at
        if regular:
            pace.logs_at = now + LOG_EVERY
        for row in rows:
            found = facts.get(row.submit_key, {})
            started = str(found.get("started", row.started))
            if started and ("exit" in found or (regular and row.state == "RUNNING")):
                self._log(site, row, json.loads(started)["generation"], now, looked)

    def _log(self, site: Site, row: AttemptRow, generation: int, now: int, looked: Looked) -> None:
        for name in ("stdout", "stderr"):
            path = f"{row.directory}/.crossfade/g{generation}/{name}"
            try:
                tail = site.read(path, offset=-LOG_BYTES, limit=LOG_BYTES)
            except SiteError:
                continue
            if tail:
                looked.sightings.logs.append(LogTail(row.run_id, row.n, row.number, name, tail, len(tail), now))

    # -- answering and silence ---------------------------------------------------------------------------------

    def _answered(self, name: str, standing: SiteRow | None, now: int, sightings: Sightings) -> None:
        """Note that the site answered: at once when it had been silent, else only now and then."""
        pace = self._paces[name]
        back = standing is not None and standing.cannot_ask_since is not None
        if not back and now < pace.noted_at:
            return
        pace.noted_at = now + SEEN_EVERY
        row = standing or _no_row(name)
        sightings.sites.append(row._replace(last_ok_at=now, cannot_ask_since=None, probes=0, detail=""))
        if back and standing is not None and standing.cannot_ask_since is not None:
            sightings.wake_sites.append(name)
            sightings.evidence.append((name, now, "status", True, 0, "answers again"))
            data = {"silent_for": (now - standing.cannot_ask_since) / 1e6}
            sightings.events.append((f"site:{name}", NewEvent(kind="answers", data=json.dumps(data), actor="watch")))

    def _silent(self, name: str, standing: SiteRow | None, error: SiteError, now: int, sightings: Sightings) -> None:
        """Note that the site did not answer. Unreachable is what the policies make of it, not this."""
        row = standing or _no_row(name)
        first = row.cannot_ask_since is None
        since = now if row.cannot_ask_since is None else row.cannot_ask_since
        probes, config = row.probes + 1, self._setups[name].config
        sightings.sites.append(row._replace(cannot_ask_since=since, probes=probes, detail=str(error)[:300]))
        sightings.evidence.append((name, now, "status", False, 0, str(error)[:300]))
        spent = probes >= config.unreachable_probes and now - since >= round(config.unreachable_seconds * 1e6)
        pace = self._paces[name]
        if first or (spent and not pace.told_silent):
            sightings.wake_sites.append(name)
        pace.told_silent = spent
        if first:
            data = {"detail": str(error)[:300]}
            sightings.events.append((f"site:{name}", NewEvent(kind="silent", data=json.dumps(data), actor="watch")))


def _no_row(name: str) -> SiteRow:
    return SiteRow(name, "up", "", "", None, None, None, None, 0, "", 0)


def _by_key(items: Sequence[JobStatus]) -> dict[str, JobStatus]:
    """One status per key. Several jobs may carry a key; the one that the start gate turned away leads nowhere."""
    best: dict[str, JobStatus] = {}
    for item in items:
        other = best.get(item.key)
        if other is None or _rank(item) > _rank(other):
            best[item.key] = item
    return best


def _rank(item: JobStatus) -> tuple[bool, bool, int]:
    return item.exit_code != GATED_EXIT, not item.state.final, item.started_at or 0


def _job_fact(status: JobStatus | None) -> dict[str, Any]:
    if status is None:
        return {"state": JobState.LOST.value, "restarts": 0, "exit_code": None, "native_state": "", "native_reason": ""}
    fact: dict[str, Any] = {
        "state": status.state.value,
        "restarts": status.restarts,
        "exit_code": status.exit_code,
        "native_state": status.native_state,
        "native_reason": status.native_reason,
    }
    if status.stuck_reason:
        fact["stuck"] = status.stuck_reason
    if status.started_at is not None:
        fact["started_at"] = status.started_at
    return fact


def _start_fact(record: StartRecord) -> tuple[int, str]:
    data = {"generation": record.generation, "at": record.started_at, "owner": record.owner}
    return record.generation, json.dumps(data, separators=(",", ":"))


def _exit_fact(record: ExitRecord) -> tuple[int, str]:
    data = {
        "generation": record.generation,
        "kind": record.kind,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "outputs": record.outputs_count,
        "digest": record.outputs_digest,
        "missing": list(record.missing),
    }
    return record.generation, json.dumps(data, separators=(",", ":"))


def _newest(found: dict[str, str | int], known: str, column: str, fact: tuple[int, str]) -> None:
    """Keep a record unless one of a newer generation is there."""
    generation, text = fact
    for other in (known, str(found.get(column, ""))):
        if other and json.loads(other)["generation"] > generation:
            return
    if text != known:
        found[column] = text
