"""Chance, from one seeded generator; and loaded for one throw, where a test or a drill wants it so."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields

from sandbox.faults import Odds


class Dice:
    """Answers whether one of the `Odds` befalls now. A chance of zero draws nothing, and so changes no story."""

    def __init__(self, odds: Odds, rng: random.Random) -> None:
        self.lies = tuple(odds.lies)
        self.rng = rng
        self._chances: dict[str, float] = {
            item.name: getattr(odds, item.name) for item in fields(odds) if item.name != "lies"
        }
        self._ordained: Counter[str] = Counter()

    def ordain(self, name: str, times: int = 1) -> None:
        """Let the next throws for `name` fall so. Raises KeyError for a name that `Odds` does not have."""
        if name not in self._chances:
            raise KeyError(f"no odds of {name!r}; there are: {', '.join(self._chances)}")
        self._ordained[name] += times

    def falls(self, name: str) -> bool:
        if self._ordained and self._ordained[name] > 0:
            self._ordained[name] -= 1
            return True
        chance = self._chances[name]
        return chance > 0 and self.rng.random() < chance
