"""When a site is looked at next: soon after something was done there, ever more rarely while nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.clock import Clock
from broker.facts import SiteSetup

BESIDE_DRAINS = 0.25
"""Seconds between two looks at a site with poll 0, which is looked at in every drain anyhow."""
SLOWEST_FACTOR = 8
"""A site where nothing changes is looked at ever more rarely, down to its poll interval times this."""
IDLE_EVERY = 15_000_000
"""Microseconds between two looks at a site where nothing of ours is."""


@dataclass(slots=True)
class _OfSite:
    next_at: int = 0
    looked_at: int = 0
    interval: float = 0.0


class Pace:
    """The pace of every site, kept in this process: a lost pace costs one look."""

    def __init__(self, setups: Mapping[str, SiteSetup], clock: Clock) -> None:
        self._clock = clock
        self._polls = {name: setup.config.poll for name, setup in setups.items()}
        self._sites = {name: _OfSite(interval=poll) for name, poll in self._polls.items()}

    def next_look(self, name: str) -> int:
        """When that site wants to be looked at."""
        return self._sites[name].next_at

    def idle_look_due(self, name: str) -> bool:
        """Has a site where nothing of ours is not been looked at for long? Placement must know that it answers."""
        return self._clock() - self._sites[name].looked_at >= IDLE_EVERY

    def put_off(self, name: str) -> None:
        """Nothing of ours is there: no look is due before the next poll, unless hastened."""
        self._sites[name].next_at = self._clock() + round(self._fastest(name) * 1e6)

    def hasten(self, name: str) -> None:
        """Something was just done there: look soon."""
        site = self._sites[name]
        site.interval = self._polls[name]
        site.next_at = min(site.next_at, self._clock() + round(self._fastest(name) * 1e6))

    def looked(self, name: str, *, changed: bool) -> None:
        """A look was made; did it see anything new?"""
        site, fastest = self._sites[name], self._fastest(name)
        site.looked_at = self._clock()
        site.interval = fastest if changed else min(fastest * SLOWEST_FACTOR, max(site.interval, fastest) * 1.25)
        site.next_at = self._clock() + round(site.interval * 1e6)

    def _fastest(self, name: str) -> float:
        return self._polls[name] or BESIDE_DRAINS
