"""What an operator's freeze keeps the engine from. Pure."""

from __future__ import annotations

from broker.engine.look import Look
from broker.operating.rows import FREEZE_MOVES, FREEZE_SUBMITS
from broker.operating.standing import frozen, told
from broker.store.base import StageRow
from policies.model import Decision, Reason

MOVES_RULE, SUBMITS_RULE = "freeze.moves", "freeze.submits"


def stays(look: Look, site: str, decision: Decision) -> Decision:
    """A move away from a site, decided; it stays, while an operator's freeze on moves holds there."""
    row = frozen(look.snapshot.notices, FREEZE_MOVES, site, now=look.now)
    if row is None:
        return decision
    reason = Reason(MOVES_RULE, "stay", told(row), site)
    return Decision(decision.kind, "stay", (*decision.reasons, reason), until=row.ends_at, facts=decision.facts)


def nothing_starts(look: Look, stage: StageRow) -> StageRow | None:
    """The stage as it waits while nothing is submitted anywhere; None: there is no such freeze. One of some sites only
    is among their facts, as all else is that keeps them from taking work."""
    row = frozen(look.snapshot.notices, FREEZE_SUBMITS, "", now=look.now)
    if row is None:
        return None
    words = told(row)
    if stage.reason != words:
        decision = Decision("placement", "wait", (Reason(SUBMITS_RULE, "wait", words),), until=row.ends_at)
        look.tell(stage, "waits", data={"reason": words}, decision=decision)
    look.waits_for = words
    return stage._replace(reason=words, due_at=row.ends_at)
