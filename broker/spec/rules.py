"""A stage's rules as they are stored: every default written out, `at` with what differs only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from broker.spec.budget import Budget
from broker.spec.policy import Lane, Policy
from broker.spec.stage import Ask, AtSite, Resources, Stage
from broker.spec.structure import asked_by

Json = dict[str, Any]
Keys = Mapping[str, Any]


def stage_rules(policy: Policy, stage: Stage) -> Json:
    """What the policies and the engine go by. The stage's policy replaces the run's, value by value."""
    own = stage.policy
    lane = own.lane if "lane" in own.model_fields_set else policy.lane
    data = _with_data(policy, own)
    failover = _whole(policy.failover) | _set(own.failover)
    return (
        _with_lane(lane)
        | data
        | _with_budgets(policy, own)
        | _with_deadline(own)
        | {
            "sites": _whole(policy.sites) | _set(own.sites),
            "failover": _failover(failover),
            "duplicates": stage.duplicates,
            "resources": _resources_of(stage.resources),
            "checkpoint": stage.checkpoint and _checkpoint(_whole(stage.checkpoint), own_ask=None),
            "continue": stage.continue_ and _whole(stage.continue_),
            "retry": _whole(stage.retry),
            "required": stage.required,
            "at": {site: rules for site, at in stage.at.items() if (rules := _rules_at(stage, at, failover))},
        }
    )


def deadline_of(policy: Policy) -> Json | None:
    """The deadline that stands in this very policy: of the run, or of a stage."""
    found = policy.deadline
    return None if found is None else {"within": found.within, "from": found.from_, "on_miss": found.on_miss}


def moving_rules(policy: Policy, stage: Stage) -> Json:
    """Of a stage that only moves data, or of what delivers `stage`: where data may be, and how often it is tried."""
    whole = stage_rules(policy, stage)
    bare = stage_rules(Policy(), _BARE)
    return {
        **bare,
        **{key: whole[key] for key in ("data",) if key in whole},
        "retry": {**bare["retry"], "site_fault": whole["retry"]["site_fault"]},
        "required": whole["required"],
    }


def _rules_at(stage: Stage, at: AtSite, failover: Keys) -> Json:
    """The keys that this site changes. A map that the stage itself lacks is whole, having nothing to merge with.
    `failover`: the stage's own."""
    rules: Json = {}
    if "failover" in at.policy.model_fields_set:
        rules["failover"] = _failover(_set(at.policy.failover), usual={key: failover[key] for key in _USUAL})
    if "lane" in at.policy.model_fields_set:
        rules["lane"] = at.policy.lane
    if "duplicates" in at.model_fields_set:
        rules["duplicates"] = at.duplicates
    if "resources" in at.model_fields_set:
        rules["resources"] = _resources_at(stage.resources, at.resources)
    if "checkpoint" in at.model_fields_set:
        chosen = _set if stage.checkpoint is not None else _whole
        own_ask = stage.checkpoint.ask if stage.checkpoint else None
        rules["checkpoint"] = at.checkpoint and _checkpoint(chosen(at.checkpoint), own_ask=own_ask)
    if "continue_" in at.model_fields_set:
        chosen = _set if stage.continue_ is not None else _whole
        rules["continue"] = at.continue_ and chosen(at.continue_)
    if "retry" in at.model_fields_set:
        rules["retry"] = _set(at.retry)
    return rules


# -- maps of a model -----------------------------------------------------------------------------------------


def _whole(part: BaseModel) -> Json:
    """Every key with its value or default."""
    return dict(vars(part))


def _set(part: BaseModel) -> Json:
    """Only the keys that were written."""
    return {name: getattr(part, name) for name in part.model_fields_set}


# -- what is stored of them, and in which form ---------------------------------------------------------------


_USUAL = {"failback": "next_stage"}


def _failover(keys: Keys, *, usual: Keys = _USUAL) -> Json:
    """`usual`: of words that came later, the values that need not be told, so that a document without them has the
    digest that it has always had."""
    kept = {key: keys[key] for key in ("act", "after", "max", "old_copy") if key in keys}
    return kept | {key: keys[key] for key in usual if keys.get(key, usual[key]) != usual[key]}


def _with_lane(lane: list[Lane]) -> Json:
    """Left out where there is none: a document without has the digest that it has always had."""
    return {"lane": lane} if lane else {}


def _with_deadline(own: Policy) -> Json:
    """The stage's own; the run's is no stage's. Left out where there is none, as `lane` is."""
    deadline = deadline_of(own)
    return {} if deadline is None else {"deadline": deadline}


def _with_data(policy: Policy, own: Policy) -> Json:
    """Left out where nothing is said of it, as `lane` is."""
    if "data" not in policy.model_fields_set and "data" not in own.model_fields_set:
        return {}
    data = _whole(policy.data) | _set(own.data)
    return {"data": data} if data["export_control"] or data["stay"] else {}


def _with_budgets(policy: Policy, own: Policy) -> Json:
    """The run's, which all of its stages share, and the stage's own; left out where nothing is said, as `lane` is."""
    given = {"budget": policy.budget, "own_budget": own.budget}
    return {name: _budget(budget) for name, budget in given.items() if budget is not None}


def _budget(budget: Budget) -> Json:
    return {
        "node_hours": budget.node_hours,
        "usd": budget.usd,
        "per_site": {name: _whole(bound) for name, bound in budget.per_site.items()},
        "resilience": budget.resilience,
    }


_PER_NODE = frozenset({"cores", "gpus", "memory"})
BY_RANK = frozenset({"ranks", "cores_per_rank", "gpus_per_rank", "memory_per_rank"})


def _resources_of(resources: Resources) -> Json:
    whole = _kept(_whole(resources))
    ranks = _set(resources).keys() & BY_RANK
    if resources.ranks is not None and "nodes" not in resources.model_fields_set:
        whole["nodes"] = 0  # as many as the ranks fill
    return whole | {key: getattr(resources, key) for key in ranks}


def _resources_at(own: Resources, there: Resources) -> Json:
    """What a site changes. Ranks and figures per node are two ways to ask: the site's takes the stage's place."""
    given = _set(there)
    kept = _kept(given) | {key: given[key] for key in given.keys() & BY_RANK}
    if there.ranks is not None and "nodes" not in own.model_fields_set | there.model_fields_set:
        kept["nodes"] = 0
    if own.ranks is not None and given.keys() & _PER_NODE:
        kept["ranks"] = 0
        kept.setdefault("nodes", own.nodes)
    return kept


def _kept(keys: Keys) -> Json:
    kept = {key: keys[key] for key in ("nodes", "cores", "gpus", "memory", "walltime") if key in keys}
    if kept.get("walltime") == "max":
        kept["walltime"] = None
    return kept


def _checkpoint(keys: Keys, *, own_ask: Ask | None) -> Json:
    """`own_ask`: of the stage itself, which these keys are to be merged with."""
    kept = {key: value for key, value in keys.items() if key != "portable"}
    ask: Ask | None = kept.get("ask")
    if ask is not None:
        kept["ask"] = {name: value for kind, text in asked_by(ask) for name, value in (("kind", kind), ("value", text))}
        if own_ask is None or "before_end" in ask.model_fields_set:
            kept["ask"]["before_end"] = ask.before_end
    return kept


_BARE = Stage()
