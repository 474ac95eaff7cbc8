"""What stages would cost at each site, and who can pay: the money of one look at a run. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.facts import NOWHERE, SiteSetup, World, raised, rules_at, site_facts
from broker.spec import body_for
from broker.store.base import AttemptRow, Purse, RunRow, StageRow, SumRow
from broker.tariffs import PROJECT, RUN, USER
from connectors.registry import SiteConfig
from policies import budget
from policies.budget import Account, Allocation, Amount, Rate
from policies.fit import Fit, fit
from policies.model import BudgetRule, Cap, Decision, Reason, Rules, SiteFacts
from policies.placement import Candidate

HEDGE = "hedge"
"""Why an attempt was begun: beside others, on purpose."""
_PAYS = ("account", "project")
"""Scheduler words that name who pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one attempt of a stage costs at a site, if it takes all of its time."""

    rate: Rate
    lane: str
    account: str
    pool: str
    reservation: str
    units: int
    """Millionths of the site's unit."""
    need: Amount
    factor: float
    """Of machine and lane together."""
    nodes: int
    walltime: float | None

    def words(self) -> str:
        """As `explain` prints it."""
        hours = "1 h is assumed" if self.walltime is None else f"{self.walltime / 3600:.3g} h"
        money = f", {budget.told(self.need.usd, 'usd')}" if self.need.usd and self.rate.unit != "usd" else ""
        count = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        told = budget.told(self.units, self.rate.unit)
        return f"{told}{money} at the most ({count}, {hours}, factor {self.factor:g})"


def price_at(rules: Rules, body: str, site: SiteFacts, config: SiteConfig) -> Price | None:
    """None: nothing is charged there, or the stage cannot be there. `body`: the stage's, as it is stored."""
    tariff = site.tariff
    found = fit(rules, site) if tariff is not None else None
    if tariff is None or not isinstance(found, Fit):
        return None
    rate = budget.rate(tariff, found, site)
    units = budget.estimated(rate, found.resources.walltime)
    limits = site.lanes.get(found.lane)
    words = _words(config, found.lane, body)
    return Price(
        rate=rate,
        lane=found.lane,
        account=next((words[word] for word in reversed(words) if word in _PAYS), config.account),
        pool="gpu" if found.resources.gpus else "cpu",
        reservation=words.get("reservation", ""),
        units=units,
        need=budget.worth(units, usd=rate.usd, nodes=rate.nodes),
        factor=tariff.factor * (limits.charge if limits else 1.0),
        nodes=found.resources.nodes,
        walltime=found.resources.walltime,
    )


def _words(config: SiteConfig, lane: str, body: str) -> dict[str, str]:
    """What the scheduler is told that says who pays, the last word last (`broker.jobs` puts all of them together)."""
    own: Mapping[str, str] = {}
    if names_payer(body):
        own = body_for(json.loads(body), config.name, config.profile)["submit"]
    words: dict[str, str] = {}
    for more in (config.submit, {"account": config.account} if config.account else {}, config.lanes.get(lane, {}), own):
        for word in (*_PAYS, "reservation"):
            if word in more:
                words.pop(word, None)
                words[word] = more[word]
    return words


class Books:
    """What is spent and held, with what this look has placed already."""

    def __init__(self, world: World, purse: Purse, run: RunRow) -> None:
        self._world, self._run = world, run
        self._allocations = purse.allocations
        self._caps = {(row.kind, row.name): Cap(node_hours=row.node_hours, usd=row.usd) for row in purse.caps}
        self._spent = Amount()
        self._by_site: defaultdict[str, Amount] = defaultdict(Amount)
        self._by_stage: defaultdict[tuple[int, str], Amount] = defaultdict(Amount)
        self._shared: defaultdict[tuple[str, str], Amount] = defaultdict(Amount)
        self._held = defaultdict(int, purse.held)
        self._doubled = Amount()
        self._prices: dict[tuple[str, str, int, str], Price | None] = {}
        self._sites: dict[str, SiteFacts] = {}
        for row in purse.own:
            self._book(row.n, row.site, _spent(row))
            self._doubled += budget.worth(row.doubled, usd=row.usd, nodes=row.nodes)
        for key, rows in purse.shared.items():
            self._shared[key] = sum(map(_spent, rows), Amount())

    def _book(self, n: int, site: str, amount: Amount) -> None:
        """`n`: of the stage; -1: of all, where stages are not told apart."""
        self._spent += amount
        self._by_site[site] += amount
        self._by_stage[n, site] += amount

    # -- before a stage is placed ------------------------------------------------------------------------------

    def refusals(
        self, stage: StageRow, candidates: Iterable[Candidate], static: Mapping[str, Reason | None], *, now: int
    ) -> dict[str, Reason]:
        """Sites where nobody can pay for the stage, and why."""
        found: dict[str, Reason] = {}
        for candidate in candidates:
            site = candidate.site
            price = self.price(stage, site.name) if static.get(site.name) is None else None
            against = self._against(stage, candidate, price, now) if price is not None else None
            if against is not None:
                found[site.name] = against
        return found

    def _against(self, stage: StageRow, candidate: Candidate, price: Price, now: int) -> Reason | None:
        accounts = list(self._accounts(stage.n, candidate.rules, candidate.site, price.account))
        against = budget.cannot_pay(price.need, accounts, candidate.site)
        if against is not None:
            return against
        return budget.not_allocated(price.units, self._allocated(price, candidate.site.name), candidate.site, now=now)

    def _accounts(self, n: int, rules: Rules, site: SiteFacts, account: str) -> Iterator[Account]:
        """Every bound that holds for an attempt there, the run's own first."""
        run_cap = self._cap_of_run(rules.budget)
        if run_cap != Cap():
            yield Account(rule="budget", who="the run's budget", cap=run_cap, used=self._spent)
        yield from self._per_site(rules.budget, site, self._by_site, "budget.per_site")
        if rules.own_budget is not None:
            own = {where: amount for (of, where), amount in self._by_stage.items() if of == n}
            used = sum(own.values(), Amount())
            yield Account(rule="budget.stage", who="the stage's budget", cap=rules.own_budget.cap, used=used)
            yield from self._per_site(rules.own_budget, site, own, "budget.stage")
        for kind, name in ((PROJECT, account), (USER, self._run.created_by)):
            cap = self._world.caps.get((kind, name), Cap()).over(self._caps.get((kind, name), Cap()))
            if cap != Cap():
                yield Account(rule=f"cap.{kind}", who=f"{kind} {name}", cap=cap, used=self._shared[kind, name])

    def _per_site(
        self, rule: BudgetRule | None, site: SiteFacts, spent: Mapping[str, Amount], name: str
    ) -> Iterator[Account]:
        for place, cap in rule.per_site.items() if rule is not None else ():
            if place in (site.name, site.facility, site.profile):
                there = (amount for where, amount in spent.items() if place in self._names(where))
                yield Account(rule=name, who=f"the budget at {place}", cap=cap, used=sum(there, Amount()))

    def _names(self, site: str) -> tuple[str, ...]:
        setup = self._world.sites.get(site)
        return (site, setup.config.facility or site, setup.config.profile) if setup is not None else (site,)

    def _allocated(self, price: Price, site: str) -> Sequence[Allocation]:
        return [
            Allocation(
                account=row.account,
                unit=row.unit,
                left=row.granted - row.used,
                held=self._held[row.site, row.account, row.pool],
                ends_at=row.ends_at,
            )
            for row in self._allocations
            if (row.site, row.account, row.unit) == (site, price.account, price.rate.unit)
            and row.pool in ("", price.pool)
        ]

    def _cap_of_run(self, rule: BudgetRule | None) -> Cap:
        """The document's, with what a person has set over it."""
        said = rule.cap if rule is not None else Cap()
        return said.over(self._caps.get((RUN, self._run.run_id), Cap()))

    # -- when it is placed -------------------------------------------------------------------------------------

    def price(self, stage: StageRow, site: str) -> Price | None:
        """Of the stage's next attempt there."""
        setup = self._world.sites.get(site) if site != NOWHERE else None
        if setup is None or setup.config.tariff is None:
            return None
        key = (stage.rules, stage.body if names_payer(stage.body) else "", stage.memory_raises, site)
        if key not in self._prices:
            rules = raised(rules_at(stage.rules, site, setup.config.profile), stage.memory_raises)
            self._prices[key] = price_at(rules, stage.body, self._facts(setup), setup.config)
        return self._prices[key]

    def _facts(self, setup: SiteSetup) -> SiteFacts:
        """As far as prices go, which is what documents tell of it."""
        name = setup.config.name
        if name not in self._sites:
            self._sites[name] = site_facts(setup, None, load=0, share=0, now=0)
        return self._sites[name]

    def told(self, stage: StageRow, decision: Decision) -> Decision:
        """The placement, with what it will cost."""
        price = self.price(stage, decision.site)
        if price is None:
            return decision
        return replace(decision, reasons=(*decision.reasons, Reason("charge", "for", price.words(), decision.site)))

    def took(self, stage: StageRow, row: AttemptRow) -> None:
        """An attempt was begun: what it may cost is held."""
        price = self.price(stage, row.site)
        if price is None:
            return
        self._book(stage.n, row.site, price.need)
        self._shared[PROJECT, price.account] += price.need
        self._shared[USER, self._run.created_by] += price.need
        for pool in ("", price.pool):
            self._held[row.site, price.account, pool] += price.units

    # -- before a copy is left behind --------------------------------------------------------------------------

    def may_double(self, stage: StageRow, row: AttemptRow, rules: Rules) -> Reason | None:
        """Why no copy may be left to run beside another one; None: it may, and what it may cost is counted then."""
        price = self.price(stage, row.site)
        if price is None:
            return None
        for rule, cap in (
            (rules.budget, self._cap_of_run(rules.budget)),
            (rules.own_budget, rules.own_budget.cap if rules.own_budget else Cap()),
        ):
            against = budget.may_double(rule, cap=cap, spent=self._doubled, more=price.need)
            if against is not None:
                return against
        self._doubled += price.need
        return None


def names_payer(body: str) -> bool:
    """May a stage's stored body say who pays? Cheap, and never wrong about a no."""
    return any(f'"{word}"' in body for word in (*_PAYS, "reservation"))


def _spent(row: SumRow) -> Amount:
    """Settled and held."""
    return budget.worth(row.actual + row.held, usd=row.usd, nodes=row.nodes)
