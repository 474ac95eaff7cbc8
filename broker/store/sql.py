"""The store on SQL: SQLite for one machine, PostgreSQL for a service. The rooms behind it:

`connect` (engine, transactions, errors), `statement` (SQL, built once), `accepting`, `deciding` (with `look` and
`children`), `recording`, `wake` (hints and leases), `pace`, `workers`, `stray` (after a restore), `retention`,
`waiving`, `notices`, `alerting`, `dating` (deadlines), `past`, `booking` (charges), `reading`, `chain` (events),
`migrate`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import URL

from broker.clock import Clock
from broker.deadlines import DeadlineRow
from broker.ids import RandomBits, random_bits
from broker.store import (
    accepting,
    dating,
    migrate,
    pace,
    past,
    recording,
    retention,
    stray,
    waiving,
    wake,
    whole,
    workers,
)
from broker.store.alerting import StoredAlerts
from broker.store.base import (
    CommandRow,
    Counts,
    DecisionTx,
    EffectRow,
    EndedAttempt,
    Installation,
    Lease,
    NewEvent,
    NewRun,
    OpenStage,
    RetentionRow,
    Sightings,
    StoreError,
    StrayRow,
    WaiverRow,
    WorkerRow,
)
from broker.store.booking import StoredMoney
from broker.store.connect import BUSY_SECONDS, Database, Tx
from broker.store.deciding import deciding
from broker.store.notes import StoredNotes
from broker.store.notices import StoredNotices
from broker.store.past import PastRow
from broker.store.reading import Reading
from broker.store.statement import Statement, lease_now
from broker.store.traffic import StoredTraffic

NOW = Statement(select(lease_now()))
BACKUP_MARK = 0x43464255
"""SQLite's application_id of a backup: a file that somebody copies into place is known for what it is."""
_MARK_AT = 68
"""Byte of a SQLite file where the mark is."""


class SqlStore(Reading):
    """Implements `broker.store.base.Store`. Thread-safe.

    Every method may do its transaction twice, when a server goes away during the first one's commit and nobody can
    tell whether it was kept (`Database.do`). That is harmless, because

    * `create_run`, `add_command`, `installation`, `ensure_sites` look by key first, or insert only what is not there;
    * `acquire` takes the lease again, under a greater token; the first one is known to nobody;
    * `release`, `break_leases`, `forget_workers` find nothing left to do (and say so: their answer counts for little);
    * `heartbeat` and `set_site_mode` write the same again (the latter may tell of it twice);
    * `claim_effects` and `due_runs` remember what the first one found, and look whether that stands;
    * `record` ends effects only under the claim and number under which they were performed, writes facts that may be
      written again, and tells of a site only if its row is as it was seen;
    * `enrol_retention` adds only what is not there; `change_retention` finds a row that is not as it was, and says no:
      whoever thinks that he lost it lets the claim lapse;
    * alerts are written by a name that tells which they are, and given back only under the claim they were taken by;
    * `ask_waiver`, `confirm_waiver` and `withdraw_waiver`, as `add` and `end` of notices, know what they have written
      themselves;
    * a decision is never done twice here: it raises, nobody knows what it led to, and whoever decides next sees it.
    """

    counts: Counts

    def __init__(
        self,
        url: str | URL,
        *,
        clock: Clock,
        bits: RandomBits = random_bits,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        """Connects, and makes or brings up to date the tables. Raises WrongSchema for a newer database.

        `url` as SQLAlchemy writes it; `sqlite://` keeps all in memory. `clock` is what leases go by on SQLite;
        elsewhere the database's own time is. `bits` names a new installation.
        """
        super().__init__(Database(url, clock=clock, busy_seconds=busy_seconds))
        self.counts = self._database.counts
        self._clock = clock
        self._bits = bits
        self._installation: Installation | None = None
        self.notes = StoredNotes(self._database, clock)
        """What movers keep."""
        self.traffic = StoredTraffic(self._database, clock)
        """What is on its way."""
        self.money = StoredMoney(self._database)
        """What attempts cost."""
        self.alerts = StoredAlerts(self._database)
        """Who is told of what."""
        self.notices = StoredNotices(self._database)
        """What operators have said, with an end."""
        try:
            migrate.make_ready(self._database)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls, path: str | Path, *, clock: Clock, bits: RandomBits = random_bits, busy_seconds: float = BUSY_SECONDS
    ) -> SqlStore:
        """The SQLite store in that file, on a local disk; made if it is not there, readable by its owner alone.

        Raises StoreError where the folder or the file cannot be made.
        """
        path = Path(path).absolute()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its side files the same mode
        except OSError as error:
            raise StoreError(f"cannot make the store {path}: {error.strerror}; choose another place for it") from error
        if _is_backup(path):
            raise StoreError(
                f"{path} is a backup, and not to be worked with: what was done after it was taken would be done again; "
                "`crossfade db restore` makes a database of it"
            )
        url = URL.create("sqlite", database=str(path))
        return cls(url, clock=clock, bits=bits, busy_seconds=busy_seconds)

    def close(self) -> None:
        self._database.close()

    def now(self) -> int:
        return self._clock() if self._database.sqlite else int(self._row(NOW)[0])

    def installation(self) -> Installation:
        if self._installation is None:
            found = self._database.read(accepting.known_installation)
            self._installation = found or self._database.do(
                lambda tx: accepting.make_installation(tx, self._bits, now=self._clock())
            )
        return self._installation

    # -- accept --------------------------------------------------------------------------------------------------

    def create_run(self, new: NewRun, *, again: bool = False) -> tuple[str, bool]:
        tries = 0

        def work(tx: Tx) -> tuple[str, bool]:
            nonlocal tries
            tries += 1
            run_id, is_new = accepting.create_run(tx, new, again=again)
            # there already at a second try, under an id that nobody else makes: the first one was kept
            return run_id, is_new or (tries > 1 and run_id == new.run.run_id)

        return self._database.do(work)

    def add_command(self, command: CommandRow) -> None:
        self._database.do(lambda tx: accepting.add_command(tx, command))

    def set_site_mode(self, site: str, *, mode: str, by: str, reason: str, to: str = "", then: str = "") -> None:
        now = self.now()
        self._database.do(
            lambda tx: accepting.set_site_mode(tx, site, mode=mode, by=by, reason=reason, to=to, then=then, now=now)
        )

    def site_is_clear(self, site: str, told: NewEvent, *, since: int, now: int) -> bool:
        return self._database.do(lambda tx: accepting.site_is_clear(tx, site, told, since=since, now=now))

    def override_site(self, site: str, *, state: str, by: str, reason: str, until: int | None) -> None:
        now = self.now()
        self._database.do(
            lambda tx: accepting.override_site(tx, site, state=state, by=by, reason=reason, until=until, now=now)
        )

    def forget_evidence(self, before: int) -> int:
        return self._database.do(lambda tx: recording.forget_evidence(tx, before))

    def ensure_sites(self, names: Iterable[str]) -> Collection[str]:
        wanted = list(names)
        new = self._database.read(lambda tx: accepting.unknown_sites(tx, wanted))
        if new:
            self._database.do(lambda tx: accepting.make_sites(tx, new))
        return new

    # -- workers -------------------------------------------------------------------------------------------------

    def heartbeat(self, row: WorkerRow) -> None:
        self._database.do(lambda tx: workers.heartbeat(tx, row))

    def workers(self) -> Sequence[WorkerRow]:
        return self._database.read(workers.workers)

    def forget_workers(self, seen_before: int) -> int:
        return self._database.do(lambda tx: workers.forget(tx, seen_before))

    # -- after a restore -----------------------------------------------------------------------------------------

    def unknown_keys(self, keys: Collection[str]) -> Collection[str]:
        return self._database.read(lambda tx: stray.unknown_keys(tx, keys))

    def open_stages(self) -> Iterator[OpenStage]:
        return stray.open_stages(self._database)

    def add_strays(self, rows: Sequence[StrayRow], *, now: int) -> None:
        self._database.do(lambda tx: stray.add(tx, rows, now=now))

    def strays(self, open_at: str = "") -> Sequence[StrayRow]:
        return self._database.read(lambda tx: stray.strays(tx, open_at))

    def finish_strays(self, outcomes: Sequence[tuple[str, str]], *, now: int) -> None:
        self._database.do(lambda tx: stray.finish(tx, outcomes, now=now))

    def lift_quarantine(self, site: str, told: NewEvent, *, now: int) -> bool:
        return self._database.do(lambda tx: stray.lift(tx, site, told, now=now))

    def lost_rows(self) -> Sequence[tuple[str, str]]:
        return self._database.read(whole.lost_rows)

    # -- lease and decide ----------------------------------------------------------------------------------------

    def acquire(self, run_id: str, *, owner: str, ttl: float) -> Lease | None:
        return self._database.do(lambda tx: wake.acquire(tx, run_id, owner=owner, ttl=ttl))

    def release(self, lease: Lease, *, due_at: int | None) -> bool:
        return self._database.do(lambda tx: wake.release(tx, lease, due_at=due_at))

    def break_leases(self, is_dead: Callable[[str], bool]) -> int:
        now = self.now()
        return self._database.do(lambda tx: wake.break_leases(tx, is_dead, now=now))

    def deciding(self, lease: Lease, *, ttl: float) -> AbstractContextManager[DecisionTx]:
        return deciding(self._database, lease, ttl=ttl)

    # -- act and observe -----------------------------------------------------------------------------------------

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
        claimed: Sequence[EffectRow] = ()

        def work(tx: Tx) -> Sequence[EffectRow]:
            nonlocal claimed
            claimed = recording.claim_effects(
                tx, claim=claim, ttl=ttl, now=now, limit=limit, run_id=run_id, site_name=site, before=claimed
            )
            return claimed

        return self._database.do(work)

    def record(self, sightings: Sightings, *, now: int) -> Collection[str]:
        if sightings.empty():
            return ()
        return self._database.do(lambda tx: recording.record(tx, sightings, now=now))

    # -- keeping and removing ------------------------------------------------------------------------------------

    def retention(self, *, limit: int = 1000) -> Sequence[RetentionRow]:
        return self._database.read(lambda tx: retention.rows(tx, limit=limit))

    def due_retention(self, *, now: int, limit: int) -> Sequence[RetentionRow]:
        return self._database.read(lambda tx: retention.due(tx, now=now, limit=limit))

    def retention_around(self, row: RetentionRow) -> Sequence[RetentionRow]:
        return self._database.read(lambda tx: retention.around(tx, row))

    def enrol_retention(self, rows: Sequence[RetentionRow]) -> None:
        if rows:
            self._database.do(lambda tx: retention.enrol(tx, rows))

    def change_retention(
        self,
        old: RetentionRow,
        new: RetentionRow,
        *,
        now: int,
        alone: bool = False,
        told: tuple[str, NewEvent] | None = None,
    ) -> bool:
        return self._database.do(lambda tx: retention.change(tx, old, new, alone=alone, told=told, now=now))

    def ended_attempts(self, site: str, *, after: tuple[int, str], until: int, limit: int) -> Sequence[EndedAttempt]:
        return self._database.read(lambda tx: retention.ended(tx, site, after=after, until=until, limit=limit))

    # -- waivers -------------------------------------------------------------------------------------------------

    def ask_waiver(self, row: WaiverRow) -> bool:
        return self._database.do(lambda tx: waiving.ask(tx, row))

    def confirm_waiver(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        return self._database.do(lambda tx: waiving.confirm(tx, ident, by=by, reason=reason, now=now))

    def withdraw_waiver(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        return self._database.do(lambda tx: waiving.withdraw(tx, ident, by=by, reason=reason, now=now))

    def waiver(self, ident: str) -> WaiverRow | None:
        return self._database.read(lambda tx: waiving.one(tx, ident))

    def waivers(self, run_id: str = "", *, limit: int = 1000) -> Sequence[WaiverRow]:
        return self._database.read(lambda tx: waiving.newest(tx, run_id, limit=limit))

    # -- deadlines -----------------------------------------------------------------------------------------------

    def deadlines(self, run_id: str) -> Sequence[DeadlineRow]:
        return self._database.read(lambda tx: dating.of_run(tx, run_id))

    # -- the past ------------------------------------------------------------------------------------------------

    def past(self, site: str, *, since: int, limit: int) -> Sequence[PastRow]:
        return self._database.read(lambda tx: past.past(tx, site, since=since, limit=limit))

    def present(self, site: str, *, limit: int) -> Sequence[PastRow]:
        return self._database.read(lambda tx: past.present(tx, site, limit=limit))

    # -- wake ----------------------------------------------------------------------------------------------------

    def due_runs(self, *, now: int, limit: int, resend_after: float) -> Sequence[str]:
        found: Sequence[str] = ()

        def work(tx: Tx) -> Sequence[str]:
            nonlocal found  # by a try that may have been kept, and marked them as told
            found = [*found, *wake.due_runs(tx, now=now, limit=limit, resend_after=resend_after)]
            return list(dict.fromkeys(found))

        return self._database.do(work)

    def next_due(self) -> int | None:
        return self._database.read(wake.next_due)

    def sites_wanted(self, *, now: int) -> Sequence[str]:
        return self._database.read(lambda tx: pace.sites_wanted(tx, now=now))

    def take_look(self, site: str, *, now: int, until: int) -> bool:
        return self._database.do(lambda tx: pace.take_look(tx, site, now=now, until=until))

    def hasten_look(self, site: str, *, at: int) -> None:
        self._database.do(lambda tx: pace.hasten_look(tx, site, at=at))


def _is_backup(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_MARK_AT)
        return file.read(4) == BACKUP_MARK.to_bytes(4, "big")
