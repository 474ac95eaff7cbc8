"""What was spent, by whom, where and for what; what is left; and bounds that people set over the documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.charged import (
    allocation_view,
    bound,
    bound_of,
    by_unit,
    capped,
    charge_line,
    charge_view,
    grouped,
    millionths,
)
from broker.clock import Clock
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.facts import rules_of
from broker.service import Service
from broker.sites import Sites
from broker.states import RunState
from broker.store.base import CapRow, RunRow, Store, SumRow
from broker.tariffs import PROJECT, RUN, USER
from broker.views import View, when
from policies.budget import HOUR, MICRO, Amount, shared_out, worth
from policies.model import BudgetRule, Cap

BY = ("project", "site", "user", "run")
"""What charges can be grouped by."""
MOST_RUNS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A bound that somebody wants. None: none of that kind."""

    node_hours: float | None
    usd: float | None
    reason: str
    project: str = ""
    user: str = ""


class Budgets:
    """The use cases, for one person."""

    def __init__(self, store: Store, sites: Sites, clock: Clock, *, person: str) -> None:
        self._store, self._sites, self._clock, self._person = store, sites, clock, person

    @classmethod
    def of(cls, service: Service) -> Budgets:
        return cls(service.store, service.sites, service.clock, person=service.person)

    # -- showing -----------------------------------------------------------------------------------------------

    def show(self, run: RunRow | None = None, *, by: str = "project") -> View:
        """All that was booked, of one run by site, or of all runs by project, site, user or run; the bounds and what is
        left of them; and what the sites say of their allocations."""
        if run is not None:
            sums = self._store.money.sums(run.run_id)
            return self._view(grouped(sums, lambda row: row.site), "site", self._of_run(run, sums), run=run.run_id)
        if by == "run":
            groups = {
                one.run_id: found
                for one in self._store.runs(limit=MOST_RUNS)
                if (found := self._store.money.sums(one.run_id))
            }
            return self._view(groups, by, self._shared(self._store.money.sums()))
        sums = self._store.money.sums()
        keys: Mapping[str, Callable[[SumRow], str]] = {
            "project": lambda row: row.account or "(none)",
            "site": lambda row: row.site,
            "user": lambda row: row.person,
        }
        return self._view(grouped(sums, keys[by]), by, self._shared(sums))

    def _view(self, groups: Mapping[str, Sequence[SumRow]], by: str, bounds: Sequence[View], *, run: str = "") -> View:
        charges = [charge_line(by, name, unit, rows) for name, unit, rows in by_unit(groups)]
        return {
            "run": run or None,
            "by": by,
            "charges": charges,
            "bounds": bounds,
            "allocations": [] if run else self.allocations(),
            "reservations": [] if run else self._reservations(),
        }

    def _of_run(self, run: RunRow, sums: Sequence[SumRow]) -> list[View]:
        """What bounds a run: its document, and what was set over it."""
        said = {row.name: row for row in self._store.money.caps() if row.kind == RUN}.get(run.run_id)
        rule = next((rules_of(text).budget for text in {s.rules for s in self._store.stages(run.run_id)}), None)
        rule = rule or BudgetRule()
        found = [bound(RUN, run.run_id, capped(rule.cap, said), sums, said)]
        for place, cap in rule.per_site.items():
            there = [row for row in sums if place in self._names(row.site)]
            found.append(bound("site", place, cap, there, None))
        if rule.resilience is not None:
            whole = capped(rule.cap, said)
            part = Cap(
                node_hours=None if whole.node_hours is None else round(whole.node_hours * rule.resilience),
                usd=None if whole.usd is None else round(whole.usd * rule.resilience),
            )
            used = sum((worth(r.doubled, usd=r.usd, nodes=r.nodes) for r in sums), Amount())
            found.append(bound_of("resilience", f"{rule.resilience:.0%}", part, used, Amount(), None))
        return [one for one in found if one["cap_node_hours"] is not None or one["cap_usd"] is not None]

    def _shared(self, sums: Sequence[SumRow]) -> list[View]:
        """What bounds projects and people."""
        said = {(row.kind, row.name): row for row in self._store.money.caps() if row.kind != RUN}
        found = []
        for kind, name in sorted({*self._sites.caps, *said}):
            mine = [row for row in sums if name == (row.account if kind == PROJECT else row.person)]
            row = said.get((kind, name))
            found.append(bound(kind, name, capped(self._sites.caps.get((kind, name), Cap()), row), mine, row))
        return found

    def _names(self, site: str) -> tuple[str, ...]:
        config = self._sites.configs.get(site)
        return (site,) if config is None else (site, config.facility or site, config.profile)

    def allocations(self) -> list[View]:
        """As the sites told them last, with their age."""
        now = self._clock()
        return [allocation_view(row, now) for row in self._store.money.allocations()]

    def _reservations(self) -> list[View]:
        """Each reserved block, shared out to the projects that ran in it."""
        found = []
        used: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for row in self._store.money.sums():
            if row.reservation:
                users = used[row.site, row.reservation]
                users[row.account] = users.get(row.account, 0) + row.actual + row.held
        for name, config in self._sites.configs.items():
            for label, one in config.tariff.reservations.items() if config.tariff else ():
                assert config.tariff is not None  # noqa: S101
                block = round(one.nodes * (one.end - one.start) / HOUR * config.tariff.factor * MICRO)
                mine = used.get((name, label), {})
                found.append(
                    {
                        "site": name,
                        "reservation": label,
                        "unit": config.tariff.unit,
                        "block": block / MICRO,
                        "used": sum(mine.values()) / MICRO,
                        "shares": {who: share / MICRO for who, share in shared_out(block, mine).items()},
                        "ends_at": when(one.end),
                    }
                )
        return found

    def of_attempt(self, run_id: str, n: int, number: int) -> View | None:
        """One attempt's charge; None: none was booked."""
        rows = self._store.money.charges(run_id, n)
        return next((charge_view(row) for row in rows if row.attempt == number), None)

    # -- setting -----------------------------------------------------------------------------------------------

    def wanted(self, run: RunRow | None, wish: Wish) -> CapRow:
        """The bound that `put` would set. Raises UsageError, RefusedByPolicy."""
        named = [bool(wish.project), bool(wish.user), run is not None]
        if sum(named) != 1:
            raise UsageError("say whose bound it is: one of RUN, --project and --user")
        if not wish.reason.strip():
            raise UsageError("a bound needs a reason", help='--reason "..."')
        if run is not None and RunState(run.state).final:
            raise RefusedByPolicy(f"run {run.run_id} is {run.state}: it spends nothing any more")
        kind, name = (
            (RUN, run.run_id) if run is not None else (PROJECT, wish.project) if wish.project else (USER, wish.user)
        )
        return CapRow(
            kind=kind,
            name=name,
            node_hours=millionths(wish.node_hours),
            usd=millionths(wish.usd),
            by=self._person,
            reason=wish.reason,
            at=self._clock(),
        )

    def put(self, row: CapRow) -> None:
        """Set the bound, or remove it where it bounds nothing. Raises NotFound where there is nothing to remove."""
        if row.node_hours is None and row.usd is None and not self._is_set(row):
            raise NotFound(f"nothing is set for {row.kind} {row.name}", help="see `crossfade budget show`")
        self._store.money.set_cap(row)

    def _is_set(self, row: CapRow) -> bool:
        return any((one.kind, one.name) == (row.kind, row.name) for one in self._store.money.caps())

    def before(self, row: CapRow, run: RunRow | None) -> Cap:
        """What holds now."""
        said = next((one for one in self._store.money.caps() if (one.kind, one.name) == (row.kind, row.name)), None)
        if run is None:
            return capped(self._sites.caps.get((row.kind, row.name), Cap()), said)
        rule = next((rules_of(text).budget for text in {s.rules for s in self._store.stages(run.run_id)}), None)
        return capped(rule.cap if rule else Cap(), said)
