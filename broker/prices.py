"""What the stages of a document would cost if they were submitted now, and whether anybody could pay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from broker.accounts import ending
from broker.clock import Clock
from broker.engine.books import Books, Price
from broker.facts import World, is_copy, rules_of, site_setup
from broker.rows import run_row, stage_row
from broker.sites import Sites
from broker.spec import CompiledRun, CompiledStage
from broker.store.base import StageRow, Store
from broker.tariffs import PROJECT, USER
from broker.views import View
from policies.budget import MICRO, told
from policies.model import Decision, Reason
from policies.placement import Candidate

NO_RUN = ""


class Prices:
    """For one person, as things stand now."""

    def __init__(self, store: Store, sites: Sites, clock: Clock, *, person: str) -> None:
        self._sites, self._now = sites, clock()
        self._charged = [name for name, config in sites.configs.items() if config.tariff is not None]
        self._purse = purse = store.money.purse(
            NO_RUN,
            projects=[name for kind, name in sites.caps if kind == PROJECT],
            users=[name for kind, name in sites.caps if kind == USER],
        )
        world = World(
            installation=store.installation(),
            sites={name: site_setup(config) for name, config in sites.configs.items()},
            caps=sites.caps,
        )
        self._books = Books(world, purse, run_row(NO_RUN, name="", digest="", stages=0, by=person, now=self._now))

    def unpaid(
        self, stage: CompiledStage, candidates: Sequence[Candidate], static: Mapping[str, Reason | None]
    ) -> Mapping[str, Reason]:
        """Sites where nobody can pay for that stage alone, and why."""
        return self._books.refusals(_row(stage), candidates, static, now=self._now) if self._charged else {}

    def at(self, stage: CompiledStage, site: str) -> Price | None:
        """What it would cost there; None: nothing is charged there."""
        return self._books.price(_row(stage), site) if site else None

    def of_row(self, row: StageRow, site: str) -> Price | None:
        """What a stage that is stored would cost there at the most; None: nothing is charged there."""
        return self._books.price(row, site) if site else None

    def told(self, stage: CompiledStage, decision: Decision) -> tuple[Decision, View]:
        """The placement with what it would cost, in words and figures."""
        price = self.at(stage, decision.site)
        if price is None:
            return decision, {}
        charge = {"unit": price.rate.unit, "estimated": price.units / MICRO, "account": price.account or None}
        return self._books.told(_row(stage), decision), {"charge": charge}

    def warnings(self, compiled: CompiledRun, possible: Sequence[str]) -> list[str]:
        """Sentences on what the document's budgets mean at these sites, which are those that it may go to, and on
        allocations there that end."""
        return [*self._ending(possible), *self._uncounted(compiled, possible), *self._beyond(compiled, possible)]

    def _ending(self, possible: Sequence[str]) -> Sequence[str]:
        held = self._purse.held
        found = (
            ending(row, held.get((row.site, row.account, row.pool), 0), self._now)
            for row in self._purse.allocations
            if row.site in possible
        )
        return [f"{one.site}: {one.text}; `crossfade budget show`" for one in found if one is not None]

    def _uncounted(self, compiled: CompiledRun, possible: Sequence[str]) -> Sequence[str]:
        bounded = any('"budget":' in stage.rules or '"own_budget":' in stage.rules for stage in compiled.stages)
        free = [name for name in possible if name not in self._charged]
        if not bounded or not free:
            return ()
        return [f"`budget` bounds nothing at {', '.join(free)}: no `charge` is said of it in the site document"]

    def _beyond(self, compiled: CompiledRun, possible: Sequence[str]) -> Sequence[str]:
        """Is the budget less than what all stages ask for, at the cheapest site of each?"""
        rules = [rules_of(stage.rules) for stage in compiled.stages if not is_copy(stage.body)]
        cap = next((rule.budget.cap for rule in rules if rule.budget is not None), None)
        if cap is None:
            return ()
        least: defaultdict[str, int] = defaultdict(int)
        for stage in compiled.stages:
            found = [price.need for name in possible if (price := self.at(stage, name)) is not None]
            if not is_copy(stage.body) and len(found) == len(possible):
                for kind in ("node_hours", "usd"):
                    least[kind] += min((getattr(need, kind) for need in found), default=0)
        bounds = {"node_hours": cap.node_hours, "usd": cap.usd}
        return [
            f"the stages ask for {told(least[kind], kind)} at the least, `budget` has {told(most, kind)}: "
            "what it cannot pay for waits, unless others end early"
            for kind, most in bounds.items()
            if most is not None and least[kind] > most
        ]


def _row(stage: CompiledStage) -> StageRow:
    """As it would be stored."""
    return stage_row(NO_RUN, -1, stage.path, stage.rules, stage.body, stage.digest, 0, 0)
