"""Stages at a site that an operator has closed: they are ended there, and then a person says what follows, or they go
on elsewhere. Pure.

The site's row says that it is closed, and each look at a stage there asks for its end anew: a look that is lost, a
worker that dies or a site that is dark for a while delay it, and no more.
"""

from __future__ import annotations

from broker.engine.look import Look
from broker.engine.orphans import ask_to_end
from broker.states import StageState, move
from broker.store.base import AttemptRow, StageRow
from policies.model import Decision, Reason

_S = StageState


def end_here(look: Look, stage: StageRow, row: AttemptRow, why: str) -> StageRow:
    """Its site is closed: it is ended there; what follows is asked when that is confirmed."""
    asked = ask_to_end(look, stage, row._replace(reason=why))
    if row.cancel_requested_at is None and (asked.cancel_requested_at is not None or not asked.open):
        look.rewrite(asked)
        decision = Decision("closed", "end", (Reason("closed", "end", why, row.site),))
        look.tell(stage, "ends_here", attempt=row.number, data={"site": row.site, "reason": why}, decision=decision)
    return stage._replace(due_at=None if asked.open else look.now, reason=why)


def waits_for_word(look: Look, stage: StageRow, row: AttemptRow) -> StageRow | None:
    """It was ended because its site was closed, by somebody who wanted a person to say what follows; None: it was
    not."""
    site = look.snapshot.sites.get(row.site)
    if site is None or site.mode != "closed" or site.mode_then != "wait" or stage.want:
        return None
    run = stage.run_id
    words = f"{row.reason}; what helps: crossfade retry {run}/{stage.path} (elsewhere), move it, or cancel it"
    decision = Decision("closed", "ask", (Reason("closed", "ask", words, row.site),))
    look.tell(stage, "asks", attempt=row.number, data={"reason": row.reason}, decision=decision)
    look.waits_for = words
    return stage._replace(state=move(_S.ACTIVE, _S.AWAITING_DECISION).value, reason=words, due_at=None)


def asked_for(look: Look, site: str, decision: Decision) -> Decision:
    """A move away from a silent site, decided; it stays where a person who closed the site is to say what follows."""
    row = look.snapshot.sites.get(site)
    if decision.outcome != "move" or row is None or (row.mode, row.mode_then) != ("closed", "wait"):
        return decision
    reason = Reason("closed", "stay", f"{row.mode_by} closed {site}, and a person says what follows", site)
    return Decision(decision.kind, "stay", (*decision.reasons, reason))
