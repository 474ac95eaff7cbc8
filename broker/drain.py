"""Draining a run: decide, act, observe, again, until it is quiet or its time is up.

One wake-up drains its run; no message is sent per step. Decisions that follow from one another are made in one
transaction; outside calls happen between transactions, never inside one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from threading import Lock

from broker.clock import Clock
from broker.deadlines import NONE_DUE
from broker.effects import Hands, JobCache
from broker.effects.outcome import again
from broker.engine import decide
from broker.engine.booking import concerned, settle_charges
from broker.engine.standby import may_have_orders, order_keys
from broker.facts import NOWHERE, World, rules_of
from broker.jobs import Job
from broker.lying import inputs_of
from broker.store.base import (
    Changes,
    CheckpointRow,
    DecisionTx,
    EffectRow,
    Lease,
    LeaseLost,
    Line,
    Purse,
    Sightings,
    Snapshot,
    StaleRow,
    Store,
    StoreError,
    StrayRow,
)
from broker.tariffs import PROJECT, USER
from broker.watch import Watcher
from policies.brake import MINUTE

LIMIT = 256
"""Stages looked at in one round."""
ROUNDS = 8
"""Rounds of decisions in one transaction: what one round releases, the next one places."""
LEASE_SECONDS = 60.0
ASK_FOR_ROOM = 500_000
"""Microseconds until a run that lacks room asks again, if nothing wakes it before."""
ASK_WHEN_FIRST, ASK_FOR_TURN = 5_000_000, 60_000_000
"""The same of a run that is first in line, and of one that is not, until each asks whether its turn has come: whoever
ends wakes the next one, but a run of an older document knows of no line."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain ended."""

    busy: bool
    """Its time was up before the run was quiet: wake it again."""
    due_at: int | None = None
    """When it wants to be looked at, if nothing is seen before."""
    acts: frozenset[str] = frozenset()
    """Sites where something is wanted now that others are to do."""


class Drainer:
    """Drains runs. Thread-safe; a run is drained by one worker at a time, its lease sees to that."""

    def __init__(
        self,
        *,
        store: Store,
        world: World,
        hands: Hands,
        watcher: Watcher,
        clock: Clock,
        owner: str,
        elapsed: Callable[[], float],
        hasten: Callable[[str], None],
        acts_beside: bool = False,
    ) -> None:
        """`acts_beside`: what is wanted of sites whose calls take time is left to those who act there for all runs."""
        self._store, self._world, self._hands, self._watcher = store, world, hands, watcher
        self._clock, self._owner, self._elapsed = clock, owner, elapsed
        self._hasten = hasten
        self._guard, self._draining = Lock(), set[str]()
        self._again: set[str] = set()
        """Runs that were woken while they were drained here: what woke them may have come too late to be seen."""
        self._instant = {name for name, setup in world.sites.items() if setup.inline and setup.config.poll == 0}
        self._charged = {name for name, setup in world.sites.items() if setup.config.tariff is not None}
        inline = [NOWHERE, *sorted(name for name, setup in world.sites.items() if setup.inline)]
        self._inline = inline if acts_beside else None
        """Where drains act; None: everywhere."""

    def drain(self, run_id: str, *, budget: float = 0.2) -> Drained | None:
        """Go on with a run for about `budget` seconds. None: another worker has it."""
        with self._guard:
            if run_id in self._draining:  # a lease does not tell two threads of one worker apart
                self._again.add(run_id)
                return None
            self._draining.add(run_id)
        drained: Drained | None = None
        try:
            drained = self._drain(run_id, budget)
        finally:
            with self._guard:
                self._draining.discard(run_id)
                woken = run_id in self._again
                self._again.discard(run_id)
        return replace(drained, busy=True) if woken and drained is not None else drained

    def _drain(self, run_id: str, budget: float) -> Drained | None:
        lease = self._store.acquire(run_id, owner=self._owner, ttl=LEASE_SECONDS)
        if lease is None:
            return None
        drained = self._busy()  # also when the store fails: stages that wait for a place have no time of their own
        try:
            drained = self._until_quiet(lease, deadline=self._elapsed() + budget)
        except (LeaseLost, StaleRow):
            # somebody else went on with it; nothing of ours was kept. The sweeper wakes it, not the caller at once:
            # a fault of ours that makes every decision stale must not turn in a circle
            drained = Drained(busy=False, due_at=drained.due_at)
        finally:
            self._store.release(lease, due_at=drained.due_at)
        return drained

    def _until_quiet(self, lease: Lease, *, deadline: float) -> Drained:
        jobs = JobCache(self._store)
        effects: Sequence[EffectRow] = self._unfinished(lease.run_id)
        acts: set[str] = set()
        while True:
            try:
                decided = self._decide(lease, jobs)
            except StoreError:
                self._give_back(effects)
                raise
            effects = [*effects, *decided.effects]
            acts |= decided.left
            seen = self._act_and_observe(effects, jobs, decided.sites)
            effects = ()
            if not (seen or decided.more):
                return Drained(busy=False, due_at=decided.asks_again(self._clock()), acts=frozenset(acts))
            if self._elapsed() >= deadline:
                return replace(self._busy(), acts=frozenset(acts))

    def _busy(self) -> Drained:
        """To be gone on with at once, by whoever sweeps, should the caller not live to do it."""
        return Drained(busy=True, due_at=self._clock())

    def _unfinished(self, run_id: str) -> Sequence[EffectRow]:
        """Effects of this run that are due: tried in vain before, or left by a worker that died."""
        sites: Sequence[str | None] = [None] if self._inline is None else self._inline
        now = self._clock()
        claimed = [
            self._store.claim_effects(
                claim=self._owner, ttl=LEASE_SECONDS, now=now, limit=LIMIT, run_id=run_id, site=site
            )
            for site in sites
        ]
        return [effect for effects in claimed for effect in effects]

    def _give_back(self, effects: Sequence[EffectRow]) -> None:
        """Nothing was done about these: let others do it, and not only when the claim lapses. As well as it goes."""
        if effects:
            back = [again(effect, self._clock(), reason="the decision before it failed") for effect in effects]
            with suppress(StoreError):
                self._store.record(Sightings(effects_again=back), now=self._clock())

    # -- decide ------------------------------------------------------------------------------------------------

    def _decide(self, lease: Lease, jobs: JobCache) -> Decided:
        effects: list[EffectRow] = []
        sites: set[str] = set()
        left: set[str] = set()
        with self._store.deciding(lease, ttl=LEASE_SECONDS) as tx:
            for _ in range(ROUNDS):
                line = tx.line(now=self._clock())
                changes, more, wants = self._round(tx, line)
                if changes.empty():
                    break
                tx.apply(changes, now=self._clock())
                self._remember(changes, jobs)
                effects.extend(effect for effect in changes.effects if effect.claim == self._owner)
                sites.update(attempt.site for attempt in changes.new_attempts if attempt.site != NOWHERE)
                if self._inline is not None:
                    left.update(effect.site for effect in changes.effects if not effect.claim)
                more = more or _leads_on(changes)
                if not more:
                    break
        return Decided(effects, sites, left, more and not changes.empty(), wants, line)

    def _round(self, tx: DecisionTx, line: Line | None) -> tuple[Changes, bool, bool]:
        """What to write; whether more stages are due than were looked at; whether some wait for room."""
        now = self._clock()
        snapshot = tx.snapshot(now=now, limit=LIMIT, room=self._room)
        checkpointed = [stage.n for stage in snapshot.stages if rules_of(stage.rules).checkpoint is not None]
        checkpoints: Mapping[int, Sequence[CheckpointRow]] = tx.checkpoints(checkpointed) if checkpointed else {}
        standby = self._standby(tx, checkpoints)
        strays: Mapping[int, StrayRow] = {}
        if self._world.installation.incarnation:  # only a restored backup has lost hours
            strays = tx.strays([stage.n for stage in snapshot.stages])
        near = self._near(tx, snapshot)
        lying = inputs_of(tx, snapshot) if len(self._world.sites) > 1 else {}
        ruled = any(rules_of(stage.rules).data is not None for stage in snapshot.stages)
        changes = decide(
            self._world,
            snapshot,
            now=now,
            checkpoints=checkpoints,
            strays=strays,
            near=near,
            lying=lying,
            standby=standby,
            waivers=tx.waivers() if ruled else (),
            purse=self._purse(tx, snapshot) if self._charged and snapshot.stages else None,
            deadlines=tx.deadlines(now=now) if snapshot.run.deadlines else NONE_DUE,
            carried=tx.carried(since=now - MINUTE) if _may_leave(snapshot) else (),
            line=line,
        )
        if self._charged:
            ended = concerned(snapshot, changes, self._charged)
            charges = tx.charges(sorted({n for n, _ in ended})) if ended else ()
            changes.charges += settle_charges(snapshot, changes, charges, checkpoints=checkpoints, now=now)
        return changes, snapshot.more, bool((changes.run or snapshot.run).wants)

    @staticmethod
    def _standby(
        tx: DecisionTx, checkpoints: Mapping[int, Sequence[CheckpointRow]]
    ) -> Mapping[int, Sequence[EffectRow]]:
        """What was ordered to be sent ahead, by stage. Asked only where a checkpoint was sent: else there is none."""
        sent = [(rows[0].run_id, n) for n, rows in checkpoints.items() if may_have_orders(rows)]
        found: dict[int, list[EffectRow]] = {n: [] for _, n in sent}
        if sent:
            for row in tx.effects([key for of in sent for key in order_keys(*of)]):
                found[row.n].append(row)
        return found

    def _purse(self, tx: DecisionTx, snapshot: Snapshot) -> Purse:
        """What was spent, and may be: asked once in a transaction, unless something is booked in it."""
        caps = self._world.caps
        return tx.purse(
            by_stage=any(rules_of(stage.rules).own_budget is not None for stage in snapshot.stages),
            projects=[name for kind, name in caps if kind == PROJECT],
            users=[name for kind, name in caps if kind == USER and name == snapshot.run.created_by],
        )

    @staticmethod
    def _near(tx: DecisionTx, snapshot: Snapshot) -> Mapping[int, str]:
        """Where the files are that stages want to be near, by the number of the stage that made them."""
        wanted = {near for stage in snapshot.stages if (near := rules_of(stage.rules).near) is not None}
        return {n: product.site for n, product in tx.products(sorted(wanted)).items()} if wanted else {}

    def _room(self, load: Mapping[str, int]) -> int:
        """How many more stages could start, over all sites."""
        return sum(max(0, setup.config.slots - load.get(name, 0)) for name, setup in self._world.sites.items())

    @staticmethod
    def _remember(changes: Changes, jobs: JobCache) -> None:
        """The rows behind the effects just written need not be read again."""
        stages = {stage.n: stage for stage in chain(changes.stages)}
        for attempt in changes.new_attempts:
            stage = stages.get(attempt.n)
            if stage is not None:
                jobs.jobs[(attempt.run_id, attempt.n, attempt.number)] = Job(stage=stage, attempt=attempt)
        for attempt in changes.attempts:  # what was seen of it since may say how it is to be started
            key = (attempt.run_id, attempt.n, attempt.number)
            if key in jobs.jobs and attempt.staged:
                jobs.jobs[key] = replace(jobs.jobs[key], attempt=attempt)

    # -- act and observe ---------------------------------------------------------------------------------------

    def _act_and_observe(self, effects: Sequence[EffectRow], jobs: JobCache, placed_at: set[str]) -> bool:
        """Perform effects, look at sites that answer at once, and record both in one transaction. Was anything new?"""
        sightings = self._hands.perform(effects, jobs) if effects else Sightings()
        looks = [
            (name, self._watcher.look(name)) for name in sorted(self._instant & placed_at) or sorted(self._instant)
        ]
        for _, looked in looks:
            sightings.extend(looked.sightings)
        if not sightings.empty():
            self._store.record(sightings, now=self._clock())
        for name, looked in looks:
            self._watcher.forget(name, looked)
        for name in {effect.site for effect in effects if effect.site in self._world.sites}:
            self._hasten(name)
        return bool(sightings.effects_done or sightings.attempts or sightings.checkpoints)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision transaction led to: effects that are ours to perform, and where something was started."""

    effects: Sequence[EffectRow]
    sites: set[str]
    left: set[str]
    """Sites where something is wanted that this worker leaves to others."""
    more: bool
    wants: bool
    """Stages are left for which there was no room."""
    line: Line | None
    """Where the run stands among those of its name; None: in no line."""

    def asks_again(self, now: int) -> int | None:
        """When it looks again by itself whether there is room, or its turn has come: both may be up to other runs,
        which know nothing of this one."""
        if self.wants:
            return now + ASK_FOR_ROOM
        if self.line is None or self.line.taken:
            return None
        return now + (ASK_FOR_TURN if self.line.ahead else ASK_WHEN_FIRST)


def _may_leave(snapshot: Snapshot) -> bool:
    """Is a stage at a site that gives no answer, so that it may be carried elsewhere?"""
    dark = {name for name, row in snapshot.sites.items() if row.cannot_ask_since is not None}
    return bool(dark) and any(row.open and row.site in dark for rows in snapshot.attempts.values() for row in rows)


def _leads_on(changes: Changes) -> bool:
    """May what was just decided let something else be decided at once?"""
    wakes = changes.wake_all or changes.wake_ready or changes.wake_stages or changes.hasten_deadlines
    return bool(changes.settled or changes.reopened or wakes)
