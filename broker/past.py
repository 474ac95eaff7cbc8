"""How long jobs waited at the sites and how long stages ran there: read from the rows now and then.

As with health, each process that works reads for itself, from the same rows; what is lost is soon read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.clock import Clock, micros
from broker.engine.forecasting import loads_in
from broker.facts import World, raised, rules_at, site_facts, site_setup
from broker.states import AttemptState
from broker.store.base import Store
from broker.store.past import PastRow
from connectors.registry import SiteConfig
from policies.fit import NORMAL, Fit, fit
from policies.history import History, Load
from policies.waits import NEWEST, NO_QUEUE, WINDOW, Job, Queue
from policies.waits import learn as learn_queue
from policies.work import Ran, Stage
from policies.work import learn as learn_works

READ_EVERY = 15.0
"""Seconds between two readings in one process."""
LATE = 120.0
"""Seconds by which a row may be written after rows that are newer: another process, another clock."""
_Key = tuple[str, int, int]


def read(store: Store, configs: Mapping[str, SiteConfig], *, now: int) -> History:
    """The history of all sites, read whole: for whoever asks once."""
    keeper = _Memory(store, configs)
    history = History()
    keeper.renew(history, now=now)
    return history


class PastKeeper:
    """Keeps a world's history up."""

    def __init__(self, *, store: Store, world: World, clock: Clock) -> None:
        configs = {name: setup.config for name, setup in world.sites.items()}
        self._memory, self._history, self._clock = _Memory(store, configs), world.history, clock
        self._next_at = 0

    def tend(self) -> None:
        """Read what is new, if it is time."""
        now = self._clock()
        if now >= self._next_at:
            self._next_at = now + micros(READ_EVERY)
            self._memory.renew(self._history, now=now)


class _Memory:
    """The newest attempts of each site that have ended. What is known already is not read again."""

    def __init__(self, store: Store, configs: Mapping[str, SiteConfig]) -> None:
        self._store, self._configs = store, configs
        self._ended: dict[str, dict[_Key, PastRow]] = {name: {} for name in configs}

    def renew(self, history: History, *, now: int) -> None:
        """Bring it up to date, and leave alone what has not changed."""
        changed = False
        queues = dict(history.queues)
        for name, config in self._configs.items():
            news = self._read(name, now - micros(WINDOW))
            changed = changed or news
            there = self._store.present(name, limit=NEWEST)
            if news or there or name not in queues:
                queues[name] = queue_of(config, (*self._ended[name].values(), *there), now=now)
        history.queues = queues
        if changed:
            rows = [row for kept in self._ended.values() for row in kept.values()]
            history.works = learn_works(runs_of(rows))
            history.loads = loads_of(rows)

    def _read(self, name: str, since: int) -> bool:
        """Was anything new?"""
        known = self._ended[name]
        newest = max((row.ended_at or 0 for row in known.values()), default=0)
        rows = self._store.past(name, since=max(since, newest - micros(LATE)), limit=NEWEST)
        fresh = {row[:3]: row for row in rows if known.get(row[:3]) != row}
        kept = sorted({**known, **fresh}.items(), key=lambda item: item[1].ended_at or 0)
        kept = [item for item in kept[-NEWEST:] if (item[1].ended_at or 0) > since]
        self._ended[name] = dict(kept)
        return bool(fresh) or len(kept) < len(known)


# -- rows to what the policies learn from ----------------------------------------------------------------------------


def queue_of(config: SiteConfig, rows: Iterable[PastRow], *, now: int) -> Queue:
    """A site's queue. Processes of this machine wait for nobody but us."""
    if config.connector == "local":
        return Queue(prior=NO_QUEUE)
    sized: dict[tuple[str, int], tuple[str, int]] = {}  # many stages have the same rules
    jobs = []
    for row in rows:
        if row.submitted_at is None:
            continue
        asked = row.rules, row.memory_raises
        if asked not in sized:
            sized[asked] = lane_and_nodes(config, *asked)
        jobs.append(Job(*sized[asked], row.submitted_at, row.started_at, row.ended_at))
    return learn_queue(jobs, now=now)


def lane_and_nodes(config: SiteConfig, rules: str, raises: int) -> tuple[str, int]:
    """The lane and size that a stage's job has there, as the site document stands now."""
    asked = raised(rules_at(rules, config.name, config.profile), raises)
    found = fit(asked, site_facts(site_setup(config), None, load=0, share=config.slots, now=0))
    return (found.lane, found.resources.nodes) if isinstance(found, Fit) else (NORMAL, asked.resources.nodes)


def runs_of(rows: Iterable[PastRow]) -> Iterable[Ran]:
    """Attempts that did the whole of a stage's work."""
    for row in rows:
        whole = row.state == AttemptState.SUCCEEDED and not row.restore
        if whole and row.started_at is not None and row.ended_at is not None:
            seconds = max(0.0, (row.ended_at - row.started_at) / 1e6)
            yield Ran((row.app, row.path), row.digest, row.site, seconds, row.ended_at)


def loads_of(rows: Iterable[PastRow]) -> Mapping[Stage, tuple[Load, ...]]:
    """What the newest run of each stage brought in, and from where."""
    found: dict[Stage, tuple[Load, ...]] = {}
    for row in sorted(rows, key=lambda row: row.created_at):
        told = loads_in(row.staged)
        if told is not None and not row.restore:  # a checkpoint is no input
            found[row.app, row.path] = told
    return found
