"""What a stage may expect where it is and where it would go, for who weighs whether it leaves. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from broker.engine.look import Look
from broker.engine.placing import find_site
from broker.store.base import AttemptRow, StageRow
from policies.leaving import Prospect
from policies.model import SiteFacts
from policies.work import Expected


def best_first(look: Look, stage: StageRow, elsewhere: Sequence[SiteFacts]) -> tuple[list[SiteFacts], float, float]:
    """The sites that could take it, the one first that it would be placed at; when it would be done there and how much
    of that is work, seconds, -1 where nobody can tell."""
    found = find_site(look, stage)
    there = next((c for c in found.candidates if c.site.name == found.decision.site), None)
    if there is None:
        return list(elsewhere), -1.0, -1.0
    ordered = sorted(elsewhere, key=lambda site: site.name != there.site.name)
    forecast = there.forecast
    if forecast is None or not (forecast.work.samples and forecast.wait.samples):
        return ordered, -1.0, -1.0
    return ordered, forecast.expected, forecast.work.mean


def left_there(look: Look, stage: StageRow, row: AttemptRow) -> float:
    """Seconds of work left in the copy at its dark site, if it lives and has run since it was last seen; -1: nobody
    can tell. What it began with (a checkpoint) counts as done."""
    works, speeds = look.world.history.works, {name: s.config.speed for name, s in look.world.sites.items()}
    walltime = look.rules_there(stage, row.site).resources.walltime
    told: Expected = works.expect((look.run_row.name, stage.path), row.site, walltime=walltime, speeds=speeds)
    if not told.term.samples or row.started_at is None:
        return -1.0
    saved = json.loads(row.restore).get("done") if row.restore else None
    done = (look.now - row.started_at) / 1e6 + (saved if isinstance(saved, int | float) else 0.0)
    return max(0.0, told.term.mean - done)


def prospect(
    look: Look, stage: StageRow, row: AttemptRow, elsewhere: Sequence[SiteFacts]
) -> tuple[list[SiteFacts], Prospect | None]:
    """The sites that could take it, the best first; and what is known of staying and leaving, None: too little."""
    ordered, done_in, work = best_first(look, stage, elsewhere)
    left = left_there(look, stage, row)
    if done_in < 0 or left < 0:
        return ordered, None
    return ordered, Prospect(left=left, elsewhere=done_in, rerun=work, site=ordered[0].name)
