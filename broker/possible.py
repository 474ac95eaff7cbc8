"""What sites and places could ever do with a document, as far as documents tell: asked before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.engine.words import what_helps
from broker.errors import RefusedByPolicy
from broker.facts import (
    body_refusal,
    is_copy,
    may_lack,
    rules_at,
    rules_of,
    side_facts,
    site_facts,
    site_setup,
)
from broker.sites import Sites
from broker.spec import CompiledRun, CompiledStage, body_for
from connectors.registry import SiteConfig
from policies.model import Reason
from policies.placement import static_refusal
from policies.residency import WAIVABLE, allowed

HOLD = "store it held (`crossfade submit --hold`), have the rule waived (`crossfade waiver ask`), and release it"


@dataclass(frozen=True, slots=True)
class Possible:
    """What was found of a document that may be stored."""

    sites: Sequence[str] = ()
    """Those that at least one stage may go to, now or by failover."""
    forbidden: Mapping[str, Sequence[Reason]] = field(default_factory=dict)
    """Stages that may go nowhere unless a rule of where their data may be is waived, and what is against each side."""

    def warnings(self, run_id: str) -> list[str]:
        """Sentences on what must be waived, each with the command that asks for it."""
        return [
            f"stage {path} is held: {'; '.join(f'{one.rule}: {one.fact}' for one in reasons)}; "
            f"what helps: {what_helps(run_id, *reasons)}"
            for path, reasons in self.forbidden.items()
        ]


def check(compiled: CompiledRun, sites: Sites, *, hold: bool = False) -> Possible:
    """Refuse what no site known could ever run, and what brings data to where it may not be. `hold`: what two persons
    may still waive is not refused. Raises RefusedByPolicy."""
    forbidden: dict[str, Sequence[Reason]] = dict(_forbidden_copies(compiled, sites, hold=hold))
    placed = [stage for stage in compiled.stages if not is_copy(stage.body) and not rules_of(stage.rules).skip]
    alike = {(stage.rules, stage.body if may_lack(stage.body) else ""): stage.path for stage in reversed(placed)}
    found: set[str] = set()
    for (rules, body), path in alike.items():
        refusals = static_refusals(sites, rules, body)
        found.update(name for name, reason in refusals.items() if reason is None)
        if refusals and all(reason is not None for reason in refusals.values()):
            reasons = _waivable(sites, rules, body, refusals)
            if not (hold and reasons):
                raise _no_site(path, refusals, waivable=bool(reasons))
            forbidden[path] = reasons
    return Possible([name for name in sites.configs if name in found], forbidden)


def refuse_places(compiled: CompiledRun, sites: Sites) -> None:
    """Refuse what brings data to a place that nobody knows, or where the document does not want it. Raises
    RefusedByPolicy."""
    _forbidden_copies(compiled, sites, hold=False)


def static_refusals(sites: Sites, rules: str, body: str, *, unruled: bool = False) -> dict[str, Reason | None]:
    """Lasting refusals by site. `body`: empty where there is nothing in it that a site could lack; `unruled`: as if
    there were no rule of where data may be."""
    parsed = json.loads(body) if body else None

    def refusal(name: str, config: SiteConfig) -> Reason | None:
        site = site_facts(site_setup(config), None, load=0, share=config.slots, now=0)
        there = rules_at(rules, name, config.profile)
        found = static_refusal(replace(there, data=None) if unruled else there, site)
        if found is None and parsed is not None:
            found = body_refusal(body_for(parsed, name, config.profile), config)
        return found

    return {name: refusal(name, config) for name, config in sites.configs.items()}


def _waivable(sites: Sites, rules: str, body: str, refusals: Mapping[str, Reason | None]) -> Sequence[Reason]:
    """What is against sites that could take the stage but for its data."""
    if rules_of(rules).data is None:
        return ()
    without = static_refusals(sites, rules, body, unruled=True)
    return [
        reason
        for name, reason in refusals.items()
        if reason is not None and reason.rule in WAIVABLE and without[name] is None
    ]


def _no_site(path: str, refusals: Mapping[str, Reason | None], *, waivable: bool) -> RefusedByPolicy:
    told = [f"{one.rule}: {one.fact}" if one.rule in WAIVABLE else one.fact for one in refusals.values() if one]
    cure = f"; or {HOLD}" if waivable else ""
    return RefusedByPolicy(
        f"no site can take stage {path}: {'; '.join(told)}",
        help=f"see `crossfade site ls`, or change the document{cure}",
    )


def _forbidden_copies(compiled: CompiledRun, sites: Sites, *, hold: bool) -> Mapping[str, Sequence[Reason]]:
    """Copies to where the document does not want their data, by stage, where that may be waived and `hold` is on."""
    forbidden: dict[str, Sequence[Reason]] = {}
    for stage in compiled.stages:
        if '"copy":' not in stage.body and '"places":' not in stage.body:
            continue
        targets, own = _known_targets(stage, sites), rules_of(stage.rules)
        if own.skip:  # nothing of it is ever brought anywhere
            continue
        rule = own.data
        facts = {side: side_facts(side, sites=sites.configs, places=sites.places) for side in targets}
        found = ((side, allowed(rule, side, facts[side])) for side in targets)
        against = [(side, reason) for side, reason in found if reason is not None]
        if against and not (hold and all(reason.rule in WAIVABLE for _, reason in against)):
            side, reason = against[0]
            raise RefusedByPolicy(
                f"stage {stage.path} may not bring anything to {side} {reason.rule}: {reason.fact}",
                help=f"change `policy.data`, or what the site document says of the place; or {HOLD}",
            )
        if against:
            forbidden[stage.path] = [reason for _, reason in against]
    return forbidden


def _known_targets(stage: CompiledStage, sites: Sites) -> Sequence[str]:
    """The places to which it brings data. Raises RefusedByPolicy where it names one that nobody knows."""
    body = json.loads(stage.body)
    inputs = [side for given in body.get("inputs", ()) for side, _ in given.get("places", ())]
    sources = [side for entry in body.get("copy", ()) if isinstance(entry["from"], list) for side, _ in entry["from"]]
    targets = list(dict.fromkeys(entry["to"][0] for entry in body.get("copy", ())))
    for side in (*inputs, *sources, *targets):
        if side.rstrip(":") not in sites.places:
            known = ", ".join(sorted(sites.places)) or "none"
            raise RefusedByPolicy(
                f"stage {stage.path} names the place {side.rstrip(':')}, which is not in the site document",
                help=f"places are: {known}; name it under `places` of the site document",
            )
    return targets
