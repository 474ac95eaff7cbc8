"""The storm brake in a look at a run: whose turn it is to be carried elsewhere, and where there is a slot. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.engine.look import Look
from broker.facts import rules_of
from broker.states import StageState
from broker.store.base import StageRow
from policies.brake import SHARES, next_slot, spurt_of, turn
from policies.leaving import lane_of
from policies.model import Decision, Reason, Rules, SiteFacts


def in_turn(look: Look, stages: Sequence[StageRow]) -> Sequence[StageRow]:
    """The stages in the order in which they are looked at: while a site is silent, those that may leave it last, the
    most urgent first, and of one lane those first that most work hangs on."""
    dark = {name for name, row in look.snapshot.sites.items() if row.cannot_ask_since is not None}
    if not dark:
        return stages
    return sorted(stages, key=lambda stage: _rank(look, stage, dark))


_LANES = {lane: rank for rank, lane in enumerate(SHARES)}


def _rank(look: Look, stage: StageRow, dark: set[str]) -> tuple[int, float]:
    current = next((row for row in look.snapshot.attempts.get(stage.n, ()) if row.number == stage.attempt), None)
    if stage.state != StageState.ACTIVE or current is None or current.site not in dark:
        return -1, 0.0
    rules = rules_of(stage.rules)
    spent = look.now - (current.started_at or look.now)
    return _LANES[lane_of(rules)], -spent * max(1, rules.resources.nodes)


def braked(
    look: Look, stage: StageRow, rules: Rules, elsewhere: Sequence[SiteFacts], decision: Decision, *, away: str
) -> tuple[Decision, frozenset[str]]:
    """The decision to move `away` from its site, or to stay until its turn comes; and the sites that may be given
    nothing more just now."""
    lane, most = lane_of(rules), look.world.failovers_per_minute
    slot = next_slot([one.at for one in look.carried], cap=most, lane=lane, now=look.now)
    slots = {site.name: _slot_at(look, site, lane) for site in elsewhere}
    first = min(slots, key=lambda name: slots[name])
    at = max(slot, slots[first])
    if at <= look.now:
        return decision, frozenset(name for name, free in slots.items() if free > look.now)
    each = [site.failovers_per_minute for site in elsewhere]
    caps = [cap for cap in (most, sum(each) if all(each) else 0) if cap]
    fact = f"the storm brake: no more than {min(caps)} stages a minute are carried from {away}, its turn comes"
    spurt = min(spurt_of(cap, lane) for cap in caps)
    until = turn(at, rank=look.braked[lane], spurt=spurt, identity=f"{stage.run_id}/{stage.path}")
    look.braked[lane] += 1
    reason = Reason("brake", "stay", fact, first)
    stay = Decision("failover", "stay", (*decision.reasons, reason), until=until, facts=decision.facts)
    return stay, frozenset()


def _slot_at(look: Look, site: SiteFacts, lane: str) -> int:
    there = [one.at for one in look.carried if one.site == site.name]
    return next_slot(there, cap=site.failovers_per_minute, lane=lane, now=look.now)
