"""Who could take a stage just now. Pure."""

from __future__ import annotations

from broker.engine.look import Look
from broker.store.base import StageRow
from policies import placement
from policies.model import SiteFacts


def takers_now(look: Look, stage: StageRow, away_from: str) -> list[SiteFacts]:
    """The sites that could take the stage now, in document order of their facts."""
    candidates, static = look.candidates(stage)
    if placement.held_back(c for c in candidates if static[c.site.name] is None) is not None:
        return []
    unpaid = look.books.refusals(stage, candidates, static, now=look.now) if look.books else {}
    return [
        c.site
        for c in candidates
        if c.site.name != away_from
        and static[c.site.name] is None
        and c.site.name not in unpaid
        and placement.passing_refusal(c.site) is None
        and c.site.share > 0
    ]
