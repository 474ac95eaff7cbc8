"""A start's time. Looks are made on a beat, as a watcher's are; the clock jumps over those that can see nothing.

What is jumped over, and why nothing is lost by that:

* a look at a site where nothing has happened since the last one, no outage began or ended, and no silence is still
  being counted: it would write down that nothing is new;
* a look that counts a silence at a site where nothing of the run is: it is dark from the first one on, and for how long
  it has been concerns only what is there;
* a look that would see a new checkpoint, when the next one will be seen before anything else happens anywhere: copies
  are made of the newest one, and only what there is when a site fades counts;
* a wake-up of a run that only waits for a site to answer, or whose last wake-up changed nothing but the time of the
  next: it asks the same question of the same facts. The first of that rhythm after something has happened is made.

`every_look` jumps over nothing, and must bring the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge

from broker.clock import micros
from broker.facts import rules_of
from broker.simulate.uptime import Uptime
from broker.simulate.world import ORIGIN, PROBES, FadingSite, World, at
from policies.placement import WAIT_FOR_ANSWER

ENDS = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})
LONGEST_BEAT = 10_000_000
"""Microseconds: a wait of more than that is no rhythm, and is made as it is asked for."""
A_MOMENT = 0.001
"""Seconds; a spell of service that is shorter is none."""
IN_CIRCLES = 1000
"""Wake-ups at one moment after which something is wrong."""


@dataclass(slots=True)
class _Watch:
    """What the clockwork knows of one site."""

    site: FadingSite
    trace: Uptime
    seen: tuple[int, ...] = ()
    """Its books at the last look."""
    unseen: bool = True
    """Has anything happened there since?"""
    probes: int = 0
    silent_since: int = 0
    ours: bool = True
    """Was anything of the run there when a silence was last seen?"""

    def counts(self, detection: int, now: int) -> bool:
        """Is its silence still being counted?"""
        return not self.site.up and self.ours and (self.probes < PROBES or now < self.silent_since + detection)


@dataclass(slots=True)
class Clockwork:
    """Takes one world from its start to the end of its run, or to the limit."""

    world: World
    every_look: bool = False
    looks: int = 0
    wakes: int = 0
    _watches: list[_Watch] = field(init=False)
    _beat: int = field(init=False)
    _due: int | None = field(init=False)
    _rhythm: int | None = None
    """Of a run that only waits: microseconds between two wake-ups that change nothing."""
    _soon: bool = False
    """Did the last wake-up leave one that is due within the longest beat?"""

    def __post_init__(self) -> None:
        traces = self.world.traces
        self._watches = [_Watch(self.world.sites[trace.site], trace) for trace in traces]
        self._beat = micros(self.world.poll)
        self._due = self.world.start

    def run(self) -> str:
        """Go on until the run is over or the limit is reached; the run's state then."""
        world, clock = self.world, self.world.clock
        changes = self._changes()
        change = next(changes, None)
        for watch in self._watches:
            if watch.trace.end_of_spell(world.start / 1e6 - ORIGIN) is None:
                self._fades(watch, world.start)
        self._turn(world.start)
        while (state := self._state()) not in ENDS:
            then = self._next(None if change is None else change[0])
            if then >= world.limit:
                clock.advance_to(world.limit)
                return state
            while change is not None and change[0] <= then:
                self._happens(*change)
                change = next(changes, None)
            clock.advance_to(then)
            self._turn(then)
        return state

    # -- what happens to the sites -------------------------------------------------------------------------

    def _changes(self) -> Iterator[tuple[int, int, bool]]:
        """(when, which site, up) of all outages' beginnings and ends, in order."""
        since, until = (moment / 1e6 - ORIGIN for moment in (self.world.start, self.world.limit))
        return merge(*(_of_site(i, watch.trace, since, until) for i, watch in enumerate(self._watches)))

    def _happens(self, when: int, which: int, up: bool) -> None:
        watch = self._watches[which]
        watch.site.model.advance(when)
        watch.unseen = True
        if up:
            watch.site.up = True
        else:
            self._fades(watch, when)

    def _fades(self, watch: _Watch, when: int) -> None:
        # a moment later: times of a trace that are no whole seconds do not come back from the clock as they were
        spell = watch.trace.next_spell(when / 1e6 - ORIGIN + A_MOMENT)
        watch.site.fade(when, None if spell is None else at(spell[0]))
        watch.probes, watch.ours = 0, True

    # -- what comes next -----------------------------------------------------------------------------------

    def _next(self, change: int | None) -> int:
        """The next moment at which something is to be done; the limit if nothing is before."""
        now = self.world.clock()
        if self.every_look:
            return min(self._on_beat(now + 1), self._due or self.world.limit)
        changes = self.world.limit if change is None else min(self.world.limit, self._on_beat(change))
        boundary = changes
        if any(watch.counts(micros(self.world.setting.detection), now) for watch in self._watches):
            boundary = min(boundary, self._on_beat(now + 1))
        if self._due is not None and self._rhythm is None:
            return min(self._event(min(boundary, self._due)), boundary, self._due)
        event = self._event(boundary)
        if self._due is None or self._rhythm is None:
            return min(event, boundary)
        changes = min(changes, event) if event < boundary else changes
        self._due = self._in_rhythm(changes, self._due, self._rhythm)
        return min(event, boundary, self._due)

    def _event(self, boundary: int) -> int:
        """When what the sites do by themselves is to be looked at; the boundary if not before."""
        active = [watch for watch in self._watches if watch.site.up and watch.site.model.next_event_at() is not None]
        if len(active) == 1:
            return self._last_checkpoint(active[0], boundary)
        times = [self._on_beat(watch.site.model.next_event_at() or boundary) for watch in active]
        return min([boundary, *times])

    def _last_checkpoint(self, watch: _Watch, boundary: int) -> int:
        """Let checkpoints come, up to the last one that will be looked at before the boundary, or to anything else
        that happens there. Nobody calls the site before that look, so that it may be ahead of the clock till then."""
        model, look = watch.site.model, boundary
        while (event := model.next_event_at()) is not None and self._on_beat(event) < boundary:
            model.advance(event)
            watch.unseen, look = True, self._on_beat(event)
            if _books(watch.site) != watch.seen:
                break
        return look

    def _in_rhythm(self, wanted: int, due: int, rhythm: int) -> int:
        """When a run that only waits is woken: at the first beat of its rhythm, from `due` on, that is not before
        something has changed. One more look that counts a silence changes nothing, but the one that ends the count."""
        heeded = min([wanted, *self._thresholds()])
        return due if heeded <= due else due + -(-(heeded - due) // rhythm) * rhythm

    def _thresholds(self) -> Iterator[int]:
        """When time alone may change an answer: a silence that becomes long enough."""
        now, store, setting = self.world.clock(), self.world.store, self.world.setting
        (stage,) = store.stages(self.world.run_id)
        counted = max(setting.detection, (PROBES - 1) * self.world.poll)
        waits = (counted, max(counted, rules_of(stage.rules).failover.after))
        heeded = {watch.site.name for watch in self._watches if watch.ours}
        silences = [since for row in store.sites() if (since := row.cannot_ask_since) and row.site in heeded]
        return (moment for since in silences for wait in waits if (moment := since + micros(wait)) > now)

    def _on_beat(self, moment: int) -> int:
        """The first look at that moment or after."""
        return -(-moment // self._beat) * self._beat

    # -- looking, and going on ------------------------------------------------------------------------------

    def _turn(self, now: int) -> None:
        """Look where something is to be seen, and wake the run if that or its time wants it."""
        woken = False
        for watch in self._watches:
            if now % self._beat == 0 and self._to_be_looked_at(watch, now):
                woken |= self._look(watch, now)
        if woken or (self._due is not None and self._due <= now):
            self._wake(now, woken=woken)

    def _to_be_looked_at(self, watch: _Watch, now: int) -> bool:
        if self.every_look or watch.unseen or watch.counts(micros(self.world.setting.detection), now):
            return True
        event = watch.site.model.next_event_at() if watch.site.up else None
        return event is not None and event <= now

    def _look(self, watch: _Watch, now: int) -> bool:
        """Look at a site; does that concern the run?"""
        self.looks += 1
        runs = self.world.broker.look(watch.site.name)
        watch.unseen, watch.seen = False, _books(watch.site)
        if not watch.site.up:
            watch.silent_since = now if not watch.probes else watch.silent_since
            watch.probes += 1
            watch.ours = bool(self.world.store.open_attempts(watch.site.name))
        return self.world.run_id in runs

    def _wake(self, now: int, *, woken: bool) -> None:
        """Let the broker go on with the run until it is quiet, and see whether it only waits from then on."""
        before = self._standing() if self._soon and not woken else None
        for _ in range(IN_CIRCLES):
            self.wakes += 1
            drained = self.world.broker.go_on(self.world.run_id)
            self._due = self.world.store.next_due()
            if not (drained is not None and drained.busy) and (self._due is None or self._due > now):
                break
        else:
            raise RuntimeError("the run turns in a circle")
        wait = None if self._due is None else self._due - now
        self._rhythm, self._soon = None, wait is not None and wait <= LONGEST_BEAT and not self.every_look
        if self._soon and (self._waits_for_answer(now, wait) or before == self._standing()):
            self._rhythm = wait

    def _waits_for_answer(self, now: int, wait: int | None) -> bool:
        """Has the run nothing to do but to ask again whether a site answers? It is quiet, so that the next wake-up
        would find what this one left."""
        store, run_id = self.world.store, self.world.run_id
        timed = any(row.not_before is not None and row.not_before > now for row in store.stages(run_id))
        return wait == WAIT_FOR_ANSWER and not timed and not self._pending()

    def _standing(self) -> tuple[object, ...]:
        """All of the run that a wake-up may change, but the time of the next one."""
        store, run_id = self.world.store, self.world.run_id
        stages = tuple((row.state, row.attempt, row.not_before) for row in store.stages(run_id))
        return store.tip(run_id), self._pending(), stages

    def _pending(self) -> tuple[tuple[str, int], ...]:
        return tuple((row.key, row.tries) for row in self.world.store.pending_effects(self.world.run_id))

    def _state(self) -> str:
        row = self.world.store.run(self.world.run_id)
        return row.state if row is not None else "CANCELED"


def _of_site(which: int, trace: Uptime, since: float, until: float) -> Iterator[tuple[int, int, bool]]:
    return ((at(when), which, up) for when, up in trace.changes(since, until))


def _books(site: FadingSite) -> tuple[int, ...]:
    """What changes when anything but a checkpoint happens at a site."""
    journal = site.model.journal
    return journal.accepted_total, journal.started_total, journal.completed_total, site.model.running_units
