"""After a restore: what became of the hours that the backup does not know?

A site is in quarantine until it has listed its jobs completely, twice, a settle time apart. A job under a key that no
attempt has was submitted in the lost hours. Keys are a function of what they stand for, so those of stages that are
still to run are worked out anew and known again: such an attempt is taken up by its stage when that would start
another one, and is not started twice. All other jobs belong to runs or stages that nobody knows any more: they are
canceled by key until they are surely dead, or left to a person where the restore was told so.

Reaping goes on after the quarantine: what waits to be taken up, and is not needed any more, is ended too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from broker.clock import Clock
from broker.facts import World
from broker.ids import submit_key
from broker.states import StageState
from broker.store.base import AttemptRow, AttemptSeen, EvidenceRow, NewEvent, OpenStage, Sightings, Store, StrayRow
from broker.watch.looked import Facts, Looked
from broker.watch.records import search_records
from connectors.base import Site
from connectors.errors import SiteError
from connectors.model import JobStatus
from policies.evidence import LOOK

OURS = re.compile(r"cf[a-z2-7]{13}")
"""What a submit key looks like; a job under another name is none of ours."""
AHEAD = 8
"""How many further attempts of a stage the lost hours may have seen."""
_NOT_THERE = ("PLANNED", "STAGING_IN")
"""States of attempts that have no folder at the site yet."""
MARGIN = 3_600_000_000
"""Microseconds before the newest event of the backup from which on jobs are listed: clocks differ."""


class Reconciler:
    """Ends quarantines. One per process; two of them do each other no harm."""

    def __init__(self, *, store: Store, world: World, sites: Mapping[str, Site], clock: Clock) -> None:
        self._store, self._world, self._sites, self._clock = store, world, sites, clock
        self._first: dict[str, int] = {}
        """When the first complete listing of each site in quarantine was taken."""

    def reconcile(self, name: str) -> bool:
        """Go on with a site, which has just been looked at. Is it still in quarantine?"""
        if not self._world.installation.incarnation:
            return False
        row = next((row for row in self._store.sites() if row.site == name), None)
        quarantined = row is not None and row.quarantined != 0
        if row is not None and row.cannot_ask_since is not None:
            return quarantined
        try:
            if quarantined:
                quarantined = not self._listed(name)
            elif strays := self._store.strays(name):
                self._reap(name, strays)
        except SiteError:
            return quarantined  # the watcher tells of silence; here it means: not yet
        return quarantined

    # -- listing -------------------------------------------------------------------------------------------------

    def _listed(self, name: str) -> bool:
        """List the site's jobs, sort out those that nobody knows, and end the quarantine when all is clear."""
        since, keep = self._lost_hours(name)
        listing = self._sites[name].list_mine(since)
        now = self._clock()
        items = {item.key: item for item in listing.items if OURS.fullmatch(item.key)}
        unknown = self._store.unknown_keys(list(items))
        if unknown:
            self._store.add_strays(self._sorted(name, [items[key] for key in unknown], keep=keep, now=now), now=now)
        self._reap(name, self._store.strays(name))
        if not listing.complete:
            return False
        first = self._first.setdefault(name, now)
        settle = round(self._world.sites[name].config.settle * 1e6)
        unclear = [stray for stray in self._store.strays(name) if stray.fate == "cancel"]
        if now - first < settle or unclear:
            return False
        self._first.pop(name)
        self._read_again(name, [row for row in self._store.open_attempts(name) if row.state not in _NOT_THERE])
        self._end(name, listed=len(items), now=now)
        return True

    def _read_again(self, name: str, rows: Iterable[AttemptRow]) -> None:
        """Checkpoints that were committed in the lost hours are not in the spool any more: look in the folders."""
        site, looked = self._sites[name], Looked()
        for row in rows:
            facts: Facts = {}
            search_records(site, row, facts, looked)
            started = facts.get(row.submit_key, {}).get("started")
            if started and not row.started:
                seen = AttemptSeen(run_id=row.run_id, n=row.n, number=row.number, facts={"started": started})
                looked.sightings.attempts.append(seen)
        if not looked.sightings.empty():
            self._store.record(looked.sightings, now=self._clock())

    def _end(self, name: str, *, listed: int, now: int) -> None:
        found = [stray for stray in self._store.strays() if stray.site == name]
        counts = {fate: sum(stray.fate == fate for stray in found) for fate in ("adopt", "cancel", "keep")}
        data = json.dumps({"listed": listed, "strays": counts})
        if self._store.lift_quarantine(name, NewEvent(kind="reconciled", data=data, actor="reconcile"), now=now):
            words = f"reconciled after a restore: {listed} jobs listed, {len(found)} of them unknown"
            seen = EvidenceRow(name, now, "status", ok=True, latency_us=0, detail=words, source=LOOK)
            self._store.record(Sightings(evidence=[seen]), now=now)

    def _lost_hours(self, name: str) -> tuple[int, bool]:
        """From when on jobs are to be listed, and whether those that nobody knows are left to a person."""
        restored = _newest(self._store, "operators", "restored")
        since = restored.get("newest_event", 0)
        own = _newest(self._store, f"site:{name}", "quarantined").get("since", since)
        return max(0, min(int(str(since)), int(str(own))) - MARGIN), restored.get("strays") == "keep"

    # -- who is who ----------------------------------------------------------------------------------------------

    def _sorted(self, name: str, items: Iterable[JobStatus], *, keep: bool, now: int) -> list[StrayRow]:
        jobs = {item.key: item for item in items}
        known = self._known_again(set(jobs))
        rows = []
        for key, job in sorted(jobs.items()):
            stage, number, incarnation = known.get(key, (None, 0, 0))
            fate = "adopt" if stage is not None else "keep" if keep else "cancel"
            over = job.state.final and fate == "cancel"
            outcome = "left to a person" if fate == "keep" else "over when it was found" if over else ""
            rows.append(
                StrayRow(
                    key=key,
                    site=name,
                    native_id=job.native_id,
                    state=job.state.value,
                    run_id=stage.run_id if stage else "",
                    n=stage.n if stage else 0,
                    number=number,
                    incarnation=incarnation,
                    fate=fate,
                    found_at=now,
                    done_at=now if outcome else None,
                    outcome=outcome,
                )
            )
        return rows

    def _known_again(self, keys: set[str]) -> Mapping[str, tuple[OpenStage, int, int]]:
        """The stages that would give these keys to their next attempts: (stage, number, incarnation)."""
        home = self._world.installation
        left, found = set(keys), {}
        for stage in self._store.open_stages():
            for ahead, incarnation in product(range(1, AHEAD + 1), range(home.incarnation + 1)):
                number = stage.attempt + ahead
                key = submit_key(home.id, incarnation, stage.run_id, stage.path, number, stage.digest)
                if key in left:
                    left.discard(key)
                    found[key] = (stage, number, incarnation)
            if not left:
                break
        return found

    # -- reaping -------------------------------------------------------------------------------------------------

    def _reap(self, name: str, strays: Sequence[StrayRow]) -> None:
        """End what nobody needs; note what was taken up, and what is surely dead."""
        outcomes: list[tuple[str, str]] = []
        unwanted: list[str] = []
        taken_up: list[AttemptRow] = []
        for stray in strays:
            attempt = self._store.attempt_by_key(stray.key)
            if attempt is not None:
                taken_up.append(attempt)
                outcomes.append((stray.key, "taken up"))
            elif stray.fate == "cancel" or not self._may_be_wanted(stray):
                unwanted.append(stray.key)
        self._read_again(name, taken_up)
        if unwanted:
            ended = self._sites[name].cancel(unwanted)
            outcomes += [(key, "canceled, surely dead") for key in unwanted if ended.get(key)]
        if outcomes:
            self._store.finish_strays(outcomes, now=self._clock())

    def _may_be_wanted(self, stray: StrayRow) -> bool:
        """Will its stage start another attempt, if need be?"""
        stage = self._store.stages_at(stray.run_id, [stray.n]).get(stray.n)
        return stage is not None and not StageState(stage.state).final


def _newest(store: Store, stream: str, kind: str) -> Mapping[str, object]:
    """What the newest event of that kind says; empty: there is none."""
    found: Mapping[str, object] = {}
    after, page = 0, 1000
    while events := store.events(stream, after=after, limit=page):
        for event in events:
            if event.kind == kind:
                found = json.loads(event.data)
        after = events[-1].seq
    return found
