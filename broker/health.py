"""How the sites are judged to be: the rows that it is judged from, for the engine and for whoever asks.

Each process that works judges for itself, from the same rows, every few seconds; a lost judgement is soon made again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from broker.clock import Clock, micros
from broker.facts import Judged, World, budgets_of, drained_words, override_of
from broker.operating.rows import FREEZE_SUBMITS
from broker.operating.standing import frozen_words, windows
from broker.states import AttemptState
from broker.store.base import AttemptRow, EvidenceRow, RunRow, Sightings, SiteRow, Store
from connectors.base import HealthSource
from connectors.registry import SiteConfig
from connectors.secrets import scrub
from policies.blackhole import NO_HOLES, Holes, Subject, holes
from policies.doubt import Dark, companions, words
from policies.evidence import FEED, JOB, PROBE
from policies.health import WINDOW, Health, judge, machine_down, seen_to_work
from policies.model import Failure
from policies.verdicts import Standing, State

JUDGED_EVERY = 5.0
"""Seconds between two judgements in one process."""
ROWS = 500
"""Newest rows of evidence that a site is judged by: 20 sites of them cost 10 ms (benchmarks/health.py)."""
LATE = 120.0
"""Seconds by which a row may be written after rows that are newer: another process, or a feed that is older itself."""
KEPT = 30 * 86_400.0
"""Seconds for which evidence is kept: a new policy may be tried on a month of it."""
FORGET_EVERY = 3600.0
"""Seconds between two removals of what is older."""
_ON_TRIAL = frozenset({AttemptState.PLANNED, AttemptState.STAGING_IN, AttemptState.SUBMITTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One site, judged whole."""

    health: Health
    holes: Holes
    asked_at: int | None
    """When it was last asked how it is; None: never, as far as its rows tell."""

    def asked_again(self, now: int, since: int) -> int:
        """When it is to be asked the next time. `since`: from when on that counts, if it never was."""
        return max(now, self.health.asked_again(self.asked_at if self.asked_at is not None else since))


def judge_all(store: Store, configs: Mapping[str, SiteConfig], *, now: int) -> Mapping[str, Told]:
    """Every site, judged from its newest rows and from what operators say of it."""
    since = now - micros(WINDOW)
    facts = {name: store.evidence(name, limit=ROWS, since=since) for name in configs}
    return _judge(store, configs, facts, now=now, by_people=True)


def _judge(
    store: Store,
    configs: Mapping[str, SiteConfig],
    facts: Mapping[str, Collection[EvidenceRow]],
    *,
    now: int,
    by_people: bool,
) -> Mapping[str, Told]:
    """`by_people`: with what operators say. The engine takes that from the sites' rows, which are never late."""
    rows = {row.site: row for row in store.sites()}
    notices = store.notices.open(now=now) if by_people else ()
    doubts = _doubts(configs, rows, store, now)
    swallowed = holes(facts, now=now)
    told: dict[str, Told] = {}
    for name, config in configs.items():
        hole = swallowed.get(name, NO_HOLES)
        standing = _standing(config, rows.get(name), hole, now=now, by_people=by_people)
        words = frozen_words(notices, FREEZE_SUBMITS, name, now=now)
        standing = replace(standing, doubt=doubts.get(name, ""), frozen=words, windows=windows(notices, name))
        asked_at = max((row.at for row in facts[name] if row.source in (PROBE, FEED)), default=None)
        told[name] = Told(health=judge(standing, facts[name], now=now), holes=hole, asked_at=asked_at)
    return told


def _standing(config: SiteConfig, row: SiteRow | None, found: Holes, *, now: int, by_people: bool) -> Standing:
    asked = by_people and row is not None
    return Standing(
        site=config.name,
        budgets=budgets_of(config),
        silent_since=row.cannot_ask_since if row else None,
        probes=row.probes if row else 0,
        detail=row.detail if row else "",
        drained=drained_words(row) if asked else "",
        quarantined=bool(row and asked and row.quarantined),
        override=override_of(row, now) if row and asked else None,
        hole=found.site,
    )


class _Memory:
    """The newest rows of evidence of each site. What is known already is not read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, dict[tuple[int, str], EvidenceRow]] = {}

    def read(self, name: str, since: int) -> Collection[EvidenceRow]:
        """Rows from `since` on, `ROWS` of them at the most."""
        known = self._rows.get(name, {})
        newest = max(known, default=(0, ""))[0]
        for row in self._store.evidence(name, limit=ROWS, since=max(since, newest - micros(LATE))):
            known[row.at, row.capability] = row
        kept = [key for key in sorted(known) if key[0] >= since][-ROWS:]
        self._rows[name] = known if len(kept) == len(known) else {key: known[key] for key in kept}
        return self._rows[name].values()


class HealthKeeper:
    """Keeps a world's judgements up."""

    def __init__(self, *, store: Store, world: World, clock: Clock) -> None:
        self._store, self._world, self._clock = store, world, clock
        self._memory = _Memory(store)
        self._next_at = self._forget_at = 0
        self._windows: set[str] = set()
        self._since = clock()
        self._ask_at: dict[str, int] = {}

    def tend(self) -> None:
        """Judge anew, if it is time."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + micros(JUDGED_EVERY)
        configs = {name: setup.config for name, setup in self._world.sites.items()}
        facts = {name: self._memory.read(name, now - micros(WINDOW)) for name in configs}
        told = _judge(self._store, configs, facts, now=now, by_people=False)
        self._world.health.update({name: self._judged(one) for name, one in told.items()})
        self._ask_at = {name: one.asked_again(now, self._since) for name, one in told.items()}
        self._announce({name: at for name, one in told.items() if (at := one.health.window_at) is not None})
        dark = witnesses(self._store)
        self._world.witnesses.clear()
        self._world.witnesses.update(dark)
        if now >= self._forget_at:
            self._forget_at = now + micros(FORGET_EVERY)
            self._store.forget_evidence(now - micros(KEPT))

    def ask(self, name: str, site: HealthSource) -> None:
        """Ask a site how it is, if it is time: what it publishes, and what no look and no job of ours has tried."""
        now = self._clock()
        if self._ask_at.get(name, now + 1) > now:
            return
        self._ask_at.pop(name, None)  # until it is judged anew
        rows = [
            EvidenceRow(
                site=name,
                at=min(one.at, now) + i,  # a row for each, also of those that were measured in one instant
                capability=one.capability,
                ok=one.ok,
                latency_us=round(one.latency * 1e6),
                detail=scrub(one.detail)[:300],
                source=one.source,
                word=one.word,
                until=one.until,
            )
            for i, one in enumerate(site.probe())
        ]
        self._store.record(Sightings(evidence=rows), now=now)

    def _announce(self, windows: Mapping[str, int]) -> None:
        """What this has announced before, and is not announced any more, was taken back."""
        for name in self._windows - windows.keys():
            self._world.windows.pop(name, None)
        self._world.windows.update(windows)
        self._windows = set(windows)

    def _judged(self, told: Told) -> Judged:
        worst = told.health.placing()
        most = None
        if worst.state is State.PROBING:
            there = self._store.open_attempts(told.health.site)
            tried = any(AttemptState(row.state) in _ON_TRIAL and not row.orphan for row in there)
            most = len(there) + (0 if tried else 1)
        down, heard = machine_down(told.health), seen_to_work(told.health)
        return Judged(judgement=worst, holes=told.holes, compute_down=down, heard_at=heard, most=most)


# -- self-doubt ----------------------------------------------------------------------------------------------


def witnesses(store: Store) -> Mapping[str, int]:
    """Services of movers that give no answer, and since when. They depend on no site of ours."""
    movers = store.traffic.movers().values()
    return {row.name: row.cannot_ask_since for row in movers if row.cannot_ask_since is not None}


def in_doubt(world: World, rows: Mapping[str, SiteRow], now: int) -> Mapping[str, str]:
    """Sites that fell silent together with others, each with the words for it."""
    configs = {name: setup.config for name, setup in world.sites.items()}
    return _in_words(dark_together(configs, rows, dict(world.witnesses), now))


def _doubts(
    configs: Mapping[str, SiteConfig], rows: Mapping[str, SiteRow], store: Store, now: int
) -> Mapping[str, str]:
    if all(row.cannot_ask_since is None for row in rows.values()):
        return {}
    return _in_words(dark_together(configs, rows, witnesses(store), now))


def _in_words(found: Mapping[str, tuple[Dark, tuple[Dark, ...]]]) -> Mapping[str, str]:
    return {name: words(dark, together) for name, (dark, together) in found.items()}


def dark_together(
    configs: Mapping[str, SiteConfig], rows: Mapping[str, SiteRow], seen: Mapping[str, int], now: int
) -> Mapping[str, tuple[Dark, tuple[Dark, ...]]]:
    """Sites that fell silent together with others, and with whom. `seen`: the witnesses that are dark."""
    dark = {
        name: Dark(
            name=name,
            owner=configs[name].facility or name,
            provider=configs[name].provider,
            since=row.cannot_ask_since,
            excused=(override := override_of(row, now)) is not None and override.state is State.DOWN,
        )
        for name, row in rows.items()
        if row.cannot_ask_since is not None and name in configs
    }
    if not dark:
        return {}
    others = [*dark.values(), *(Dark(name=name, owner=f"{name}:", since=since) for name, since in seen.items())]
    found = {name: (one, companions(one, others)) for name, one in dark.items()}
    return {name: (one, together) for name, (one, together) in found.items() if together}


# -- how jobs ended ------------------------------------------------------------------------------------------


def job_ended(run: RunRow, row: AttemptRow, failure: Failure | None, *, now: int) -> EvidenceRow:
    """How a job ended, as evidence on its site: that it did, how long it had run, whose fault it was."""
    begun = row.started_at or row.submitted_at or now
    return EvidenceRow(
        site=row.site,
        at=now,
        capability="compute",
        ok=failure is None,
        latency_us=max(0, (row.ended_at or now) - begun),
        detail=failure.detail[:300] if failure else "",
        source=JOB,
        word=failure.fault.value if failure else "",
        subject=Subject(run.name, run.created_by, run.run_id).text,
    )
