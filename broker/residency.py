"""Where data may be, asked at the moment at which it would be moved: what held when its stage was placed may hold no
longer, because the site document was changed, or a waiver was withdrawn or is at its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from broker.clock import Clock
from broker.facts import World, rules_of, side_facts, waived_now
from broker.store.base import Store
from broker.traffic.rows import MovementRow
from connectors.registry import PlaceConfig, SiteConfig
from policies.model import DataRule, Reason
from policies.residency import allowed

MOST_KNOWN = 50_000
"""Stages whose rule is kept in memory."""


class Residency:
    """The data policy over rows. Thread-safe. Waivers are read only where a rule is against something."""

    def __init__(
        self, *, store: Store, sites: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig], clock: Clock
    ) -> None:
        self._store, self._sites, self._places, self._clock = store, sites, places, clock
        self._rules: dict[tuple[str, int], DataRule | None] = {}

    @classmethod
    def of(cls, store: Store, world: World, clock: Clock) -> Residency:
        """Over the sites and places that the engine knows."""
        sites = {name: setup.config for name, setup in world.sites.items()}
        return cls(store=store, sites=sites, places=world.places, clock=clock)

    def against(self, rule: DataRule | None, run_id: str, side: str) -> Reason | None:
        """Why data of that run under this rule may not be brought to that side now; None: it may."""
        facts = side_facts(side, sites=self._sites, places=self._places)
        if allowed(rule, side, facts) is None:
            return None
        return allowed(rule, side, facts, waived_now(self._store.waivers(run_id), now=self._clock()))

    def refused(self, rows: Collection[MovementRow]) -> Mapping[str, Reason]:
        """Those of the movements that may not be begun now, by key."""
        self._learn({(row.run_id, row.n) for row in rows if row.run_id})
        found: dict[str, Reason] = {}
        for row in rows:
            rule = self._rules.get((row.run_id, row.n))
            against = self.against(rule, row.run_id, row.destination) if rule is not None else None
            if against is not None:
                found[row.key] = against
        return found

    def _learn(self, stages: Collection[tuple[str, int]]) -> None:
        """The rule of each of these stages, which never changes."""
        if len(self._rules) > MOST_KNOWN:
            self._rules = {}
        wanted: dict[str, list[int]] = {}
        for run_id, n in stages:
            if (run_id, n) not in self._rules:
                wanted.setdefault(run_id, []).append(n)
        for run_id, numbers in wanted.items():
            rows = self._store.stages_at(run_id, numbers)
            self._rules |= {(run_id, n): rules_of(rows[n].rules).data if n in rows else None for n in numbers}
