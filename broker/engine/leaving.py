"""Stages that leave a site which answers: it is evacuated, or about to be away. Pure.

What an operator wants of a site is in its row, and each look at a stage there asks for it anew: a look that is lost, a
worker that dies or a site that is dark for a while delay it, and no more.
"""

from __future__ import annotations

import json

from broker.engine.checking import age
from broker.engine.freezing import stays
from broker.engine.look import Look
from broker.engine.orphans import ask_to_end
from broker.engine.shipping import estimate
from broker.engine.start import effect
from broker.engine.takers import takers_now
from broker.engine.words import last_fact
from broker.facts import USABLE_CHECKPOINTS
from broker.operating.standing import stamp
from broker.states import AttemptState
from broker.store.base import AttemptRow, StageRow
from policies import departing
from policies.model import Decision, Reason, Rules, SiteFacts

_A = AttemptState
EVACUATING = "evacuating"
ENDING = (_A.VERIFYING, _A.STAGING_OUT)


def departs(look: Look, stage: StageRow, row: AttemptRow, rules: Rules) -> StageRow | None:
    """The stage after it was asked whether it is to leave; None: nothing wants it to."""
    site = look.site(row.site)
    going = None if site is None else _departure(look, site)
    if site is None or going is None or row.cancel_requested_at is not None or row.state in ENDING:
        return None
    elsewhere = takers_now(look, stage, row.site)
    elsewhere.sort(key=lambda one: one.name != _wished(look, row.site))
    work = _work(look, stage, row, rules, elsewhere[0].name if elsewhere else "")
    decision = departing.leave(going, work, at=site, elsewhere=elsewhere, now=look.now)
    if decision.outcome == "leave":
        decision = stays(look, site.name, decision)
        if decision.outcome == "leave" and look.run_row.held:
            held = Reason("held", "stay", "the run is held: nothing new starts, elsewhere neither")
            decision = Decision("leaving", "stay", (*decision.reasons, held))
    return _done(look, stage, row, decision)


def _done(look: Look, stage: StageRow, row: AttemptRow, decision: Decision) -> StageRow:
    if decision.outcome == "ask":
        look.changes.effects.append(effect(look.world, row, "ask", now=look.now))
        look.rewrite(row._replace(asked_at=look.now))
        look.tell(stage, "asked", attempt=row.number, data={"site": row.site}, decision=decision)
        return stage._replace(due_at=look.now + departing.LOOK_AGAIN, reason=last_fact(decision))
    if decision.outcome == "leave":
        data = {"from": row.site, "to": decision.site, "reason": decision.reasons[0].fact}
        look.tell(stage, "leaves", attempt=row.number, data=data, decision=decision)
        asked = look.rewrite(ask_to_end(look, stage, row._replace(reason=decision.reasons[0].fact)))
        wanted = _wished(look, row.site) or stage.want
        wanting = stage._replace(want=wanted, reason=f"leaves {row.site}: {decision.reasons[0].fact}")
        return wanting._replace(due_at=None if asked.open else look.now)
    # while it is far off, or nothing is to be done, only `explain` tells
    words = "" if decision.reasons[-1].rule == "early" else f"stays: {last_fact(decision)}"
    if words and stage.reason != words:
        look.tell(stage, "stays", attempt=row.number, decision=decision)
    return stage._replace(due_at=decision.until, reason=words)


def _departure(look: Look, site: SiteFacts) -> departing.Departure | None:
    row = look.snapshot.sites.get(site.name)
    if row is not None and row.mode == EVACUATING:
        words = f"{row.mode_by} evacuates {site.name}" + (f": {row.mode_reason}" if row.mode_reason else "")
        return departing.Departure(rule="evacuate", words=words, by=look.now)
    if site.window_at is not None:
        words = f"maintenance of {site.name} begins at {stamp(site.window_at)}"
        return departing.Departure(rule="window", words=words, by=site.window_at, back=site.window_until)
    return None


def _wished(look: Look, site: str) -> str:
    """Where an operator wants the work of that site to go; empty: wherever it is best."""
    row = look.snapshot.sites.get(site)
    return row.mode_to if row is not None and row.mode == EVACUATING else ""


def _work(look: Look, stage: StageRow, row: AttemptRow, rules: Rules, target: str) -> departing.Work:
    mine = [c for c in look.checkpoints.get(stage.n, ()) if c.attempt == row.number and c.site == row.site]
    good = [c for c in mine if c.state in USABLE_CHECKPOINTS]
    best = max(good, key=age, default=None)
    newest = max(mine, key=age, default=None)
    running = row.state == _A.RUNNING
    began = json.loads(row.started).get("at") if row.started else row.started_at
    limit = rules.resources.walltime
    return departing.Work(
        running=running,
        began=began,
        ends_by=None if began is None or limit is None else began + round(limit * 1e6),
        asks=rules.checkpoint is not None and rules.checkpoint.asked,
        asked_at=row.asked_at,
        good_at=None if best is None else best.verified_at or best.created_at,
        saving=newest is not None and newest.state in ("seen", "checking"),
        copy=0.0 if best is None or not target else estimate(look, best, target).p50,
    )
