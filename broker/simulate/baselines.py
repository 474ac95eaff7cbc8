"""What people do without a broker, replayed over traces: rules of a few lines each, no engine.

Every rule sees an outage `detection` seconds after it began, or when the site is back, if that is sooner; going on at
another site takes `move`; starting again at the same site costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.simulate.outcome import Outcome
from broker.simulate.setting import Setting
from broker.simulate.uptime import Uptime
from broker.simulate.waste import Waste

Rule = Callable[[Sequence[Uptime], Setting, float], Outcome]


class Place(NamedTuple):
    """Where and when a copy begins to work."""

    site: int
    at: float


@dataclass(slots=True)
class _Walk:
    """One copy on its way: what it has used up so far."""

    setting: Setting
    saves: bool
    """Does it write checkpoints, and go on from them?"""
    until: float
    mark: int = 0
    worked: float = 0.0
    """Seconds, whether they came to anything or not."""
    failures: int = 0
    moves: int = 0

    @property
    def whole(self) -> float:
        return self.setting.whole if self.saves else self.setting.stage

    def work(self, site: Uptime, at: float) -> tuple[bool, float]:
        """Work there from `at` on, where the site is up: is it done, and when did it stop?"""
        rest = self.setting.rest(self.mark) if self.saves else self.setting.stage
        ends = site.end_of_spell(at) or at
        stop = min(ends, self.until)
        if at + rest <= stop:
            self.worked += rest
            return True, at + rest
        self.worked += stop - at
        if self.saves:
            self.mark = min(self.setting.marks, self.mark + int((stop - at) // self.setting.lap))
        self.failures += ends < self.until
        return False, stop

    def lost(self, *, done: bool) -> float:
        """Seconds that are not in the result, or in the newest checkpoint."""
        return max(0.0, self.worked - (self.whole if done else self.mark * self.setting.lap))

    def outcome(self, start: float, end: float | None) -> Outcome:
        lost = self.lost(done=end is not None)
        return Outcome(
            span=None if end is None else end - start,
            lost=lost,
            spent=self.worked,
            waste=Waste(outage=lost),
            failures=self.failures,
            moves=self.moves,
            products=int(end is not None),
        )


def same_naive(sites: Sequence[Uptime], setting: Setting, start: float) -> Outcome:
    """It stays where it was first started, and begins anew after each outage."""
    return _alone(sites, setting, start, saves=False, moves=False)


def elsewhere_naive(sites: Sequence[Uptime], setting: Setting, start: float) -> Outcome:
    """After each outage it begins anew at the next site that is up."""
    return _alone(sites, setting, start, saves=False, moves=True)


def checkpoint_same(sites: Sequence[Uptime], setting: Setting, start: float) -> Outcome:
    """It stays, and goes on from its newest checkpoint when the site is back."""
    return _alone(sites, setting, start, saves=True, moves=False)


def checkpoint_move(sites: Sequence[Uptime], setting: Setting, start: float) -> Outcome:
    """After each outage it goes on from its newest checkpoint at the next site that is up."""
    return _alone(sites, setting, start, saves=True, moves=True)


def race(sites: Sequence[Uptime], setting: Setting, start: float) -> Outcome:
    """A copy with checkpoints at every site from the beginning; the first that is done wins, and ends the others."""
    alone = [_stay(sites, i, setting, start, until=start + setting.limit) for i in range(len(sites))]
    first = min((end for _, end in alone if end is not None), default=None)
    if first is not None:
        alone = [_stay(sites, i, setting, start, until=first) for i in range(len(sites))]
    walks = [walk for walk, _ in alone]
    best = max(range(len(walks)), key=lambda i: (alone[i][1] is not None and alone[i][1] == first, walks[i].mark))
    own = walks[best].lost(done=first is not None)
    others = sum(walk.worked for i, walk in enumerate(walks) if i != best)
    return Outcome(
        span=None if first is None else first - start,
        lost=own + others,
        spent=sum(walk.worked for walk in walks),
        waste=Waste(outage=own, copies=others),
        failures=sum(walk.failures for walk in walks),
        products=int(first is not None),
    )


BASELINES: Mapping[str, Rule] = {
    "same-naive": same_naive,
    "elsewhere-naive": elsewhere_naive,
    "checkpoint-same": checkpoint_same,
    "checkpoint-move": checkpoint_move,
    "race": race,
}


def _alone(sites: Sequence[Uptime], setting: Setting, start: float, *, saves: bool, moves: bool) -> Outcome:
    until = start + setting.limit
    walk = _Walk(setting, saves, until)
    place = _first(sites, start)
    if place is None:
        return walk.outcome(start, None)
    if not moves:
        walk, end = _stay(sites, place.site, setting, start, until=until, saves=saves)
        return walk.outcome(start, end)
    while place is not None and place.at < until:
        done, at = walk.work(sites[place.site], place.at)
        if done:
            return walk.outcome(start, at)
        former, place = place.site, _next(sites, place.site, at, setting)
        walk.moves += place is not None and place.at < until and place.site != former
    return walk.outcome(start, None)


def _stay(
    sites: Sequence[Uptime], site: int, setting: Setting, start: float, *, until: float, saves: bool = True
) -> tuple[_Walk, float | None]:
    """A copy that never leaves: what it used up, and when it was done."""
    walk, at = _Walk(setting, saves, until), start
    while (spell := sites[site].next_spell(at)) is not None and spell[0] < until:
        done, at = walk.work(sites[site], spell[0])
        if done:
            return walk, at
    return walk, None


def _first(sites: Sequence[Uptime], at: float) -> Place | None:
    """The first site, in their order, that is up, or the one that is so next."""
    times = [Place(i, spell[0]) for i, site in enumerate(sites) if (spell := site.next_spell(at)) is not None]
    return min(times, key=lambda place: (place.at, place.site), default=None)


def _next(sites: Sequence[Uptime], left: int, at: float, setting: Setting) -> Place | None:
    """Where it goes on after an outage at `left` that began at `at`; when it works there, if nothing comes between."""
    back = sites[left].next_spell(at)
    if back is not None and back[0] <= at + setting.detection:
        return Place(left, back[0])
    known = at + setting.detection
    order = [*range(left + 1, len(sites)), *range(left + 1)]
    found = [(spell[0], n, i) for n, i in enumerate(order) if (spell := sites[i].next_spell(known)) is not None]
    if not found:
        return None
    seen, _, site = min(found)
    if site == left:
        return Place(site, seen)
    ready = sites[site].next_spell(seen + setting.move)  # dark again by then: the job waits in its queue
    return None if ready is None else Place(site, ready[0])
