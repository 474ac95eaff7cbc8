"""Where each stage of a document would start if it were submitted now: asked before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from broker import views
from broker.engine.copying import brought_to
from broker.engine.forecasting import Forecasts, Known, over_link
from broker.facts import Judged, World, asked_every, brings_files, is_copy, may_lack, rules_at, rules_of, site_facts
from broker.facts import site_setup as setup_of
from broker.health import judge_all
from broker.past import read
from broker.possible import static_refusals
from broker.prices import Prices
from broker.sites import Sites
from broker.spec import CompiledRun, CompiledStage
from broker.store.base import StageRow, Store
from policies.budget import MICRO
from policies.forecast import Forecast, Term
from policies.links import Learned
from policies.model import Decision, Reason, SiteFacts
from policies.placement import Candidate, copies, passing_refusal, place, skipped, window_refusal

View = dict[str, object]


class Planner:
    """One look at the sites and their history, for all stages of a document."""

    def __init__(self, store: Store, sites: Sites, *, now: int, prices: Prices) -> None:
        self._sites, self._now, self._prices = sites, now, prices
        configs = sites.configs
        self._world = World(
            installation=store.installation(),
            sites={name: setup_of(config) for name, config in configs.items()},
            links={row[:3]: Learned.from_json(row.learned) for row in store.traffic.links()},
            places=sites.places,
            history=read(store, configs, now=now),
        )
        self._forecasts = Forecasts(self._world)
        self.facts = self._as_they_are(store)
        """The sites as they stand."""

    def plan(self, compiled: CompiledRun) -> list[View]:
        """A view for each stage, in document order."""
        return [self._stage(compiled, stage) for stage in compiled.stages]

    def _stage(self, compiled: CompiledRun, stage: CompiledStage) -> View:
        against = rules_of(stage.rules).skip
        if against:
            return {"stage": stage.path, **views.decision_view(skipped(against))}
        if is_copy(stage.body):
            decision = copies(to=brought_to(json.loads(stage.body)))
            return {"stage": stage.path, **views.decision_view(decision)}
        static = static_refusals(self._sites, stage.rules, stage.body if may_lack(stage.body) else "")
        candidates = self._candidates(compiled.name, stage, static)
        unpaid = self._prices.unpaid(stage, candidates, static)
        decision = place(candidates, now=self._now, static=static, unpaid=unpaid)
        told = [
            self._candidate(c, decision, static[c.site.name], unpaid.get(c.site.name)) | self._charge(stage, c)
            for c in candidates
        ]
        priced, charge = self._prices.told(stage, decision)
        view = {"stage": stage.path, **views.decision_view(priced), "candidates": told, **charge}
        return view | self._asked(stage, decision)

    def elsewhere(self, app: str, stage: StageRow, *, away: str) -> tuple[Decision, float | None]:
        """Where a stage that there is already would start now, were it not for one site; and in how many seconds it
        would be done there, as far as is known."""
        static = static_refusals(self._sites, stage.rules, stage.body if may_lack(stage.body) else "")
        candidates = [c for c in self._candidates(app, stage, static) if c.site.name != away]
        decision = place(candidates, now=self._now, static=static)
        told = next((c.forecast for c in candidates if c.site.name == decision.site), None)
        return decision, told.finish_p50 if told is not None else None

    def charge(self, stage: StageRow, site: str) -> View | None:
        """What it would be charged there at the most; None: nothing is."""
        price = self._prices.of_row(stage, site)
        return None if price is None else {"unit": price.rate.unit, "estimated": price.units / MICRO}

    def copy_seconds(self, source: str, to: str, size: int) -> float:
        """How long a checkpoint of so many bytes would be on its way."""
        return over_link(self._world, source, to, bytes=size, files=2).p50

    def _candidates(
        self, app: str, stage: CompiledStage | StageRow, static: Mapping[str, Reason | None]
    ) -> Sequence[Candidate]:
        plain = [
            Candidate(site=self.facts[name], rules=rules_at(stage.rules, name, config.profile))
            for name, config in self._sites.configs.items()
        ]
        known = Known(app=app, path=stage.path, brings=brings_files(stage.body))
        return self._forecasts.with_them(plain, alike=(0, stage.rules), known=known, static=static)

    def _charge(self, stage: CompiledStage, candidate: Candidate) -> View:
        """What it would be charged there at the most, where anything is."""
        price = self._prices.at(stage, candidate.site.name)
        return {"charge": price.units / MICRO, "unit": price.rate.unit} if price is not None else {}

    def _candidate(self, candidate: Candidate, decision: Decision, never: Reason | None, unpaid: Reason | None) -> View:
        """One line of the table."""
        site = candidate.site
        against = never or passing_refusal(site) or unpaid or window_refusal(candidate, self._now)
        full = "" if site.share > 0 else f"{site.load} of {site.slots} places are taken"
        view: View = {
            "site": site.name,
            "fits": never is None,
            "open": against is None and not full,
            "rule": against.rule if against else "room" if full else None,
            "why": against.fact if against else full or site.unwell or None,
            "chosen": decision.site == site.name,
        }
        return view | (figures(candidate.forecast) if candidate.forecast else {})

    def _asked(self, stage: CompiledStage, placed: Decision) -> View:
        """How often the stage would be asked for a checkpoint, where the document leaves that to us."""
        config = self._sites.configs.get(placed.site)
        found = asked_every(rules_at(stage.rules, config.name, config.profile), config, "") if config else None
        return {"checkpoints": views.decision_view(found)} if found else {}

    def _as_they_are(self, store: Store) -> Mapping[str, SiteFacts]:
        rows = {row.site: row for row in store.sites()}
        notices = store.notices.open(now=self._now)
        told = judge_all(store, self._sites.configs, now=self._now)
        found = {}
        for name, config in self._sites.configs.items():
            load = len(store.open_attempts(name))
            found[name] = site_facts(
                setup_of(config),
                rows.get(name),
                load=load,
                share=max(0, config.slots - load),
                now=self._now,
                window=told[name].health.window_at,
                judged=Judged(judgement=told[name].health.placing(), holes=told[name].holes),
                notices=notices,
            )
        return found


def figures(told: Forecast) -> View:
    """A forecast as programs read it: seconds, each term with its source."""
    return {
        "lane": told.lane,
        **{name.replace("-", "_"): _term(term) for name, term in told.terms},
        "speed": round(told.speed, 4),
        "finish": {"p50": round(told.finish_p50, 1), "p90": round(told.finish_p90, 1)},
        "expected": round(told.expected, 1),
        "risk": round(told.risk, 6),
        "charge": told.charge,
        "unit": told.unit or None,
    }


def _term(term: Term) -> View:
    return {"p50": round(term.p50, 1), "p90": round(term.p90, 1), "samples": term.samples, "source": term.source}
