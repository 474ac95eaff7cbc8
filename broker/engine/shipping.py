"""Having checkpoints checked, and a copy of the newest good one sent ahead before the site dies. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from broker.engine.look import Look
from broker.engine.start import effect
from broker.engine.words import last_fact
from broker.facts import (
    USABLE_CHECKPOINTS,
)
from broker.states import AttemptState, StageState
from broker.store.base import AttemptRow, CheckpointRow, StageRow
from policies import placement
from policies.checkpoint import ship_to
from policies.model import Rules, SiteFacts

_S, _A = StageState, AttemptState


def tend_checkpoints(look: Look, stage: StageRow, row: AttemptRow, rules: Rules) -> None:
    """Have the newest checkpoint checked, and a copy of the newest good one sent ahead."""
    mine = [c for c in look.checkpoints.get(stage.n, ()) if c.attempt == row.number]
    here = [c for c in mine if c.site == row.site]
    if not here or rules.checkpoint is None or not look.answers(row.site):
        return
    newest = max(here, key=lambda c: (c.seq, c.generation))
    if newest.state == "seen" and not any(c.state == "checking" for c in here):
        look.mark(newest, "checking")
        suffix = f":{newest.generation}:{newest.seq}"
        payload = json.dumps({"generation": newest.generation, "seq": newest.seq, "path": newest.path})
        look.changes.effects.append(effect(look.world, row, "check", now=look.now, payload=payload, suffix=suffix))
    ship(look, stage, row, rules, mine)


def ship(look: Look, stage: StageRow, row: AttemptRow, rules: Rules, mine: Sequence[CheckpointRow]) -> None:
    good = [c for c in mine if c.site == row.site and c.state in USABLE_CHECKPOINTS]
    best = max(good, key=lambda c: (c.seq, c.generation), default=None)
    if best is None or best.state == "shipped" or rules.checkpoint is None:
        return
    arrived = {(c.generation, c.seq) for c in mine if c.site != row.site}
    if any(c.state == "shipped" and not c.reason and (c.generation, c.seq) not in arrived for c in good):
        return  # one copy at a time: the next one takes the newest there is by then
    site = look.site(row.site)
    if site is None:
        return
    decision = ship_to(rules.checkpoint, at=site, others=takers(look, stage, row.site), seq=best.seq)
    look.mark(best, "shipped", "" if decision.outcome == "ship" else f"kept here: {last_fact(decision)}")
    if decision.outcome == "ship":
        suffix = f":{best.generation}:{best.seq}:{decision.site}"
        payload = json.dumps({"generation": best.generation, "seq": best.seq, "path": best.path, "from": best.site})
        look.changes.effects.append(
            effect(look.world, row, "ship", now=look.now, payload=payload, suffix=suffix, site=decision.site)
        )
    data = {"seq": best.seq, "to": decision.site}
    look.tell(stage, "ship", attempt=row.number, data=data, decision=decision)


def takers(look: Look, stage: StageRow, away_from: str) -> list[SiteFacts]:
    """The sites that could take the stage over, best first, full or not."""
    candidates, static = look.candidates(stage)
    able = [c for c in candidates if c.site.name != away_from and static[c.site.name] is None]
    return [c.site for c in sorted(able, key=placement.preference)]
