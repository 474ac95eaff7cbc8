"""Finding a site for a stage that is ready, and beginning an attempt there. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.engine.checking import waits_for_check
from broker.engine.copying import brought_to
from broker.engine.freezing import nothing_starts
from broker.engine.look import Look
from broker.engine.orphans import leave, unsubmitted
from broker.engine.standby import sent_to
from broker.engine.start import Start, start, start_copy
from broker.engine.start import take_up as start_found
from broker.engine.words import what_helps, what_pays
from broker.facts import (
    NOWHERE,
    asked_every,
    checkpoint_facts,
    is_copy,
    rules_of,
    side_facts,
)
from broker.states import AttemptState, StageState, move
from broker.store.base import AttemptRow, StageRow, StrayRow
from policies import placement
from policies.brake import Carried
from policies.checkpoint import choose
from policies.failover import MARGIN_FOR_CLOCKS
from policies.model import CheckpointFacts, Decision, Reason
from policies.residency import allowed

_S, _A = StageState, AttemptState
NOWHERE_TO_GO = {"impossible": "no site can take it", "forbidden": "it may bring nothing there"}
"""Outcomes after which a stage waits for a person, and how its reason begins then."""


def place(look: Look, stage: StageRow, *, why: str, shut: Collection[str] = ()) -> StageRow:
    """Find a site for a stage that is READY, and begin an attempt there; at none, if it only moves data. `shut`: sites
    that are not asked this time."""
    if is_copy(stage.body):
        return begin_copy(look, stage, why=why)
    if stage.attempt and rules_of(stage.rules).duplicates == "never" and (copies := may_live(look, stage)):
        return waits_for_death(look, stage, copies)
    if (waits := nothing_starts(look, stage) or waits_for_check(look, stage)) is not None:
        return waits
    stray = look.strays.get(stage.n)
    if stray is not None and stray.site in look.world.sites and stage.want in ("", stray.site):
        return take_up(look, stage, stray, why=why, walltime=look.rules_there(stage, stray.site).resources.walltime)
    found = find_site(look, stage, shut=shut)
    decision, candidates, known = found.decision, found.candidates, found.checkpoints
    rows = look.checkpoints.get(stage.n, ())
    if decision.outcome != "place":
        return not_placed(look, stage, decision)
    best, choice = choose(known, target=decision.site, dark=look.dark(), started_before=stage.attempt > 0)
    there = next(c for c in candidates if c.site.name == decision.site)
    walltime, saved = there.rules.resources.walltime, there.forecast.saved if there.forecast else 0.0
    leave_behind(look, stage)
    ahead = sent_to(look, stage, decision.site)
    begun = start(
        look.world,
        stage,
        site=decision.site,
        why=why,
        restore=best,
        done=saved,
        walltime=walltime,
        now=look.now,
        ahead=ahead,
    )
    if look.books:
        decision = look.books.told(stage, decision)
    row = begin(look, stage, begun, decision)
    if stage.attempt or rows:
        origin: dict[str, object] = {"seq": best.seq if best else None, "from": best.site if best else None}
        look.tell(stage, "restore", attempt=row.number, data=origin, decision=choice)
    return with_attempt(stage, row)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a stage would go if it were placed now."""

    decision: Decision
    candidates: Sequence[placement.Candidate]
    checkpoints: Sequence[CheckpointFacts]


def find_site(look: Look, stage: StageRow, *, shut: Collection[str] = ()) -> Found:
    """Where the stage would go now; nothing is begun. `shut`: sites that are not asked."""
    candidates, static = look.candidates(stage)
    candidates = [candidate for candidate in candidates if candidate.site.name not in shut]
    known = checkpoint_facts(look.checkpoints.get(stage.n, ()))
    avoid = json.loads(stage.avoid) if stage.avoid else ()
    near = rules_of(stage.rules).near
    candidates = look.forecast(stage, candidates, static, checkpoints=known)
    decision = placement.place(
        candidates,
        now=look.now,
        want=stage.want,
        avoid=avoid,
        checkpoints=known,
        near=look.near.get(near, "") if near is not None else "",
        static=static,
        waived=look.waived,
        unpaid=look.books.refusals(stage, candidates, static, now=look.now) if look.books else None,
        journey=look.snapshot.journey,
        numbers=look.world.numbers.placement,
    )
    return Found(decision, candidates, known)


def begin_copy(look: Look, stage: StageRow, *, why: str) -> StageRow:
    """Begin to move data: no site has to have room, or to answer, for that."""
    body = json.loads(stage.body)
    against = forbidden_places(look, stage, body)
    if against:
        return not_placed(look, stage, placement.no_place(against))
    to = brought_to(body)
    row = begin(look, stage, start_copy(look.world, stage, why=why, now=look.now), placement.copies(to=to), to=to[:5])
    return with_attempt(stage, row)


def forbidden_places(look: Look, stage: StageRow, body: Mapping[str, Any]) -> list[Reason]:
    """Why its data may not be brought to one of the places; empty: it may, to all of them."""
    rule = rules_of(stage.rules).data
    if rule is None:
        return []
    sites = {name: setup.config for name, setup in look.world.sites.items()}
    sides = dict.fromkeys(entry["to"][0] for entry in body["copy"])
    facts = {side: side_facts(side, sites=sites, places=look.world.places) for side in sides}
    found = (allowed(rule, side, facts[side], look.waived) for side in sides)
    return [against for against in found if against is not None]


def take_up(look: Look, stage: StageRow, stray: StrayRow, *, why: str, walltime: float | None) -> StageRow:
    """Go on with an attempt that was begun in the hours that a restored backup does not know."""
    leave_behind(look, stage)
    begun = start_found(look.world, stage, stray, why=why, walltime=walltime, now=look.now)
    return with_attempt(stage, begin(look, stage, begun, placement.taken_up(site=stray.site, key=stray.key)))


def begin(look: Look, stage: StageRow, begun: Start, decision: Decision, *, to: Sequence[str] = ()) -> AttemptRow:
    """Write a new attempt down, with its first effect and the decision that placed it. `to`: of a copy."""
    row = begun.attempt
    look.changes.new_attempts.append(row)
    look.changes.effects.append(begun.effect)
    look.took(row.site)
    if look.books:
        look.books.took(stage, row)
    if row.why == "failover":
        look.carried.append(Carried(look.now, row.site))
    data: dict[str, object] = {"site": row.site, "key": row.submit_key, "why": row.why, "state": row.state}
    if to:
        data["to"] = list(to)
    look.tell(stage, "placed", attempt=row.number, data=data, decision=decision)
    if row.site != NOWHERE:
        config = look.world.sites[row.site].config
        interval = asked_every(look.rules_there(stage, row.site), config, row.restore)
        if interval is not None:
            every = interval.facts["every"]
            look.tell(stage, "interval", attempt=row.number, data={"every": every}, decision=interval)
    return row


def with_attempt(stage: StageRow, row: AttemptRow) -> StageRow:
    """The stage, active with that attempt."""
    return stage._replace(
        state=move(_S.READY, _S.ACTIVE).value,
        attempt=row.number,
        epoch=row.epoch,
        due_at=None,
        not_before=None,
        want="",
        reason="",
    )


def leave_behind(look: Look, stage: StageRow) -> None:
    """Attempts that are still open when another one is wanted are orphans from then on."""
    for row in look.open_attempts(stage):
        if not row.orphan:
            leave(look, stage, row, reason=row.reason or "left behind")


def may_live(look: Look, stage: StageRow) -> list[AttemptRow]:
    """Copies of the stage that may run, now or later."""
    return [
        row
        for row in look.open_attempts(stage)
        if not unsubmitted(look, row) and (row.stop_before is None or look.now <= row.stop_before + MARGIN_FOR_CLOCKS)
    ]


def waits_for_death(look: Look, stage: StageRow, copies: Sequence[AttemptRow]) -> StageRow:
    """`duplicates: never`, whoever wants the new copy: not before the old ones are surely dead."""
    leave_behind(look, stage)
    words = f"duplicates: never, and the copy at {copies[0].site} is not surely dead"
    if stage.reason != words:
        look.tell(stage, "waits", attempt=copies[0].number, data={"reason": words})
    dead_at = min((row.stop_before for row in copies if row.stop_before is not None), default=None)
    return stage._replace(reason=words, due_at=None if dead_at is None else dead_at + MARGIN_FOR_CLOCKS + 1)


def not_placed(look: Look, stage: StageRow, decision: Decision) -> StageRow:
    """No site now: wait for room or an answer, or for a person."""
    against = [reason for reason in decision.reasons if reason.verdict in ("wait", "refused")]
    if decision.outcome in NOWHERE_TO_GO and len(against) > 1:
        against = [reason for reason in against if reason.rule != "candidates"]  # it says what the others come to
    words = "; ".join(map(told, against))[:500]
    if decision.facts.get("for") == "money":
        words += f"; what helps: {what_pays(stage.run_id, against)}"
    if decision.outcome in NOWHERE_TO_GO:
        helps = what_helps(stage.run_id, *decision.reasons)
        words += f"; what helps: {helps}" if helps else ""
        look.tell(stage, "stuck", data={"reason": words}, decision=decision)
        look.waits_for = words
        reason = f"{NOWHERE_TO_GO[decision.outcome]}: {words}"
        return stage._replace(state=move(_S.READY, _S.AWAITING_DECISION).value, reason=reason, due_at=None)
    if decision.facts.get("for") == "room":
        look.wants = True
        # with room nowhere it keeps its turn in the queue; with room elsewhere it lets the others pass
        return stage._replace(due_at=decision.until if look.room_somewhere() else None)
    look.waits_for = words
    if stage.reason != words:  # the same wait is told once, not every time it is looked at
        look.tell(stage, "waits", data={"reason": words}, decision=decision)
    return stage._replace(reason=words, due_at=decision.until)


def told(reason: Reason) -> str:
    """The fact; of what is said of data, with the rule's name."""
    return f"{reason.rule}: {reason.fact}" if reason.rule.startswith("data") else reason.fact


def found_no_site(stage: StageRow) -> bool:
    """Does it wait for a person because no site, or no place, could take it?"""
    return stage.reason.startswith(tuple(NOWHERE_TO_GO.values()))


def waived_for(look: Look, stage: StageRow) -> bool:
    """Is there a way for the stage by now that a waiver has opened?"""
    if not look.waived:
        return False
    if is_copy(stage.body):
        return not forbidden_places(look, stage, json.loads(stage.body))
    _, static = look.candidates(stage)
    return any(refusal is None for refusal in static.values())
