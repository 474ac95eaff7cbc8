"""What a stage asks for, as one site would be asked for it: ranks laid out over its nodes, and the lane it goes to.

The same answer for the same words: placement asks whether a stage fits, and the job is written from what it found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from connectors.model import LaneLimits, Resources
from policies.model import Ranks, Reason, Rules, SiteFacts

NORMAL = "normal"
"""The lane of a stage that names none; every site has it."""
_NO_LIMITS = LaneLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A stage at a site."""

    resources: Resources
    """Per node, ranks laid out; a `walltime` of `max` is the longest that is known."""
    lane: str
    notes: tuple[Reason, ...] = ()
    """Why it is this lane, where the stage wished for one."""


def fit(rules: Rules, site: SiteFacts) -> Fit | Reason:
    """The stage's figures and lane there, or why it can never have them."""
    asked = laid_out(rules, site)
    if isinstance(asked, Reason):
        return asked
    short = _shortage(asked, site)
    if short is not None:
        return short
    chosen = _lane(rules.lane or (NORMAL,), asked, site)
    if isinstance(chosen, Reason):
        return chosen
    lane, passed = chosen
    limits = [limit for limit in (_limits(site, lane).longest(asked.nodes), site.max_walltime) if limit is not None]
    walltime = asked.walltime if asked.walltime is not None else min(limits, default=None)
    notes = (*passed, Reason("lane", "for", f"in its lane {lane}", site.name)) if rules.lane else ()
    return Fit(resources=replace(asked, walltime=walltime), lane=lane, notes=notes)


# -- ranks to nodes ----------------------------------------------------------------------------------------------


def laid_out(rules: Rules, site: SiteFacts) -> Resources | Reason:
    """The resources per node. Ranks fill nodes up to what a node has, and are spread evenly over those."""
    asked, ranks = rules.resources, rules.ranks
    if ranks is None:
        return asked
    most = _ranks_on_a_node(ranks, site)
    if isinstance(most, Reason):
        return most
    nodes = ranks.nodes or math.ceil(ranks.count / most)
    each = math.ceil(ranks.count / nodes)
    if each > most:
        fact = f"asks for {ranks.count} ranks on {nodes} nodes, a node of {site.name} takes {most}"
        return _refused("resources.ranks", fact, site)
    return replace(
        asked,
        nodes=min(nodes, ranks.count),
        cores=each * ranks.cores,
        gpus=each * ranks.gpus,
        memory=each * ranks.memory,
        ranks=ranks.count,
        ranks_per_node=each,
    )


def _ranks_on_a_node(ranks: Ranks, site: SiteFacts) -> int | Reason:
    """How many fit on one node; of what is not known of a node there is enough."""
    most, told = ranks.count, False
    for what, each, there, known in (
        ("cores", ranks.cores, site.cores, site.cores > 0),
        ("gpus", ranks.gpus, site.gpus, True),  # 0 means none, not unknown
        ("memory", ranks.memory, site.memory, site.memory > 0),
    ):
        if not each or not known:
            continue
        if each > there:
            return _refused(f"resources.{what}_per_rank", shortage(f"{what} for each rank", each, there, site), site)
        most, told = min(most, there // each), True
    if ranks.count > 1 and not told and site.nodes != 1 and not ranks.nodes:
        fact = f"asks for {ranks.count} ranks, and how many cores a node of {site.name} has is not known"
        return _refused("resources.ranks", fact, site)
    return most


# -- what the machine has ----------------------------------------------------------------------------------------


def _shortage(asked: Resources, site: SiteFacts) -> Reason | None:
    for what, wanted, there in _asked_and_there(asked, site):
        if there is not None and wanted > there:
            return _refused(f"resources.{what}", shortage(what, wanted, there, site), site)
    return None


def _asked_and_there(asked: Resources, site: SiteFacts) -> Iterable[tuple[str, float, float | None]]:
    """What is asked for, and the most that there is; None: not known, not checked."""
    yield "nodes", asked.nodes, site.nodes or None
    yield "cores", asked.cores, site.cores or None
    yield "gpus", asked.gpus, site.gpus  # 0 means none, not unknown
    yield "memory", asked.memory, site.memory or None
    if asked.walltime is not None:
        yield "walltime", asked.walltime, site.max_walltime


def shortage(what: str, asked: float, there: float, site: SiteFacts) -> str:
    """In words, with units."""
    if what.startswith("memory"):
        return f"asks for {asked / 1e9:.4g} GB of {what}, {site.name} has {there / 1e9:.4g} GB"
    if what == "walltime":
        return f"asks for {asked:.0f} s of walltime, {site.name} allows {there:.0f} s"
    if not there:
        return f"asks for {what}, {site.name} has none"
    return f"asks for {asked:.0f} {what}, {site.name} has {there:.0f}"


# -- lanes -------------------------------------------------------------------------------------------------------


def _lane(wanted: Iterable[str], asked: Resources, site: SiteFacts) -> tuple[str, tuple[Reason, ...]] | Reason:
    """The first lane of the wish that the site has and that takes such a job, with those passed over."""
    passed: list[Reason] = []
    for lane in wanted:
        against = _against(lane, asked, site)
        if not against:
            return lane, tuple(passed)
        passed.append(Reason("lane", "against", against, site.name))
    return _refused("lane", "; ".join(reason.fact for reason in passed), site)


def _against(lane: str, asked: Resources, site: SiteFacts) -> str:
    """Why such a job cannot go to this lane; empty: it can."""
    if lane != NORMAL and lane not in site.lanes:
        return f"{site.name} has no lane {lane}"
    limits, where = _limits(site, lane), f"the lane {lane} of {site.name}"
    if asked.nodes < limits.min_nodes:
        return f"asks for {asked.nodes} nodes, {where} begins at {limits.min_nodes}"
    if limits.max_nodes is not None and asked.nodes > limits.max_nodes:
        return f"asks for {asked.nodes} nodes, {where} ends at {limits.max_nodes}"
    if asked.walltime is None:
        return ""
    if limits.min_walltime is not None and asked.walltime < limits.min_walltime:
        return f"asks for {asked.walltime:.0f} s of walltime, {where} begins at {limits.min_walltime:.0f} s"
    longest = limits.longest(asked.nodes)
    if longest is not None and asked.walltime > longest:
        return f"asks for {asked.walltime:.0f} s of walltime on {asked.nodes} nodes, {where} allows {longest:.0f} s"
    return ""


def _limits(site: SiteFacts, lane: str) -> LaneLimits:
    return site.lanes.get(lane, _NO_LIMITS)


def _refused(rule: str, fact: str, site: SiteFacts) -> Reason:
    return Reason(rule, "refused", fact, site.name)
