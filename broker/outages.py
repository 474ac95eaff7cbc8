"""What the sites' former outages lasted, from their own events: `answers` tells how long each was silent before."""

from __future__ import annotations

import json
from collections import deque

from broker.clock import Clock, micros
from broker.facts import World
from broker.store.base import Store
from policies.outages import KEPT

READ_EVERY = 60.0
"""Seconds between two readings in one process."""
AT_ONCE = 1000
"""Events read at a time."""


class OutageKeeper:
    """Keeps a world's outages up. What was read is not read again; what is kept is bounded."""

    def __init__(self, *, store: Store, world: World, clock: Clock) -> None:
        self._store, self._world, self._clock = store, world, clock
        self._next_at = 0
        self._read: dict[str, int] = dict.fromkeys(world.sites, 0)
        """By site, the number of the last event that was read."""
        self._lasted: dict[str, deque[float]] = {name: deque(maxlen=KEPT) for name in world.sites}

    def tend(self) -> None:
        """Read on, if it is time."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + micros(READ_EVERY)
        for name in self._read:
            if self._read_on(name):
                self._world.outages[name] = tuple(self._lasted[name])

    def _read_on(self, name: str) -> bool:
        """Was there an outage that is new?"""
        found = False
        while events := self._store.events(f"site:{name}", after=self._read[name], limit=AT_ONCE):
            self._read[name] = events[-1].seq
            for event in events:
                lasted = json.loads(event.data).get("silent_for") if event.kind == "answers" else None
                if isinstance(lasted, (int, float)) and lasted > 0:
                    self._lasted[name].append(float(lasted))
                    found = True
            if len(events) < AT_ONCE:
                break
        return found
