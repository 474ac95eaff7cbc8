"""Having checkpoints checked, copies of good ones sent ahead before the site dies, and old copies removed. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from broker.engine import standby
from broker.engine.checking import age, check_newest
from broker.engine.forecasting import over_link
from broker.engine.look import Look
from broker.engine.start import effect
from broker.engine.words import compact, last_fact
from broker.facts import USABLE_CHECKPOINTS, checkpoint_facts, is_urgent
from broker.states import AttemptState, StageState
from broker.store.base import AttemptRow, CheckpointRow, StageRow
from policies import placement, shipping
from policies.links import LinkEstimate
from policies.model import CheckpointFacts, Decision, Reason, Rules, SiteFacts

_S, _A = StageState, AttemptState
COPIES = "checkpoints/"
"""The folder of a site that copies are brought to."""
_WAITS = "waits: "


def tend_checkpoints(look: Look, stage: StageRow, row: AttemptRow, rules: Rules) -> int | None:
    """Have the newest checkpoint checked, a copy of the newest good one sent ahead, and old copies removed; when to
    look again."""
    rows = look.checkpoints.get(stage.n, ())
    mine = [c for c in rows if c.attempt == row.number]
    here = [c for c in mine if c.site == row.site]
    if rules.checkpoint is None or not rows:
        return None
    prune(look, stage, row, rules.checkpoint.keep, checkpoint_facts(rows))
    if not here or not look.answers(row.site):
        return None
    check_newest(look, stage, row)
    return ship(look, stage, row, rules, mine)


def ship(look: Look, stage: StageRow, row: AttemptRow, rules: Rules, mine: Sequence[CheckpointRow]) -> int | None:
    """Judge the newest good checkpoint, unless a copy is under way: the next one takes the newest there is by then."""
    good = [c for c in mine if c.site == row.site and c.state in USABLE_CHECKPOINTS]
    best = max(good, key=age, default=None)
    site = look.site(row.site)
    if best is None or best.state == "shipped" or rules.checkpoint is None or site is None or under_way(mine, row.site):
        return None
    moment = shipping.Moment(
        now=look.now,
        urgent=is_urgent(rules),
        seconds_left=_seconds_left(look, row, rules),
        goes_on=rules.continuation is not None,
        elapsed=_elapsed(look, row),
    )
    decision = shipping.ship(
        rules.checkpoint,
        at=site,
        newest=shipping.Newest(
            seq=best.seq, bytes=best.bytes, good_at=best.verified_at or best.created_at, every=_every(mine, row.site)
        ),
        elsewhere=elsewhere(look, stage, site),
        targets=targets(look, stage, best, mine),
        moment=moment,
    )
    inputs = None
    if decision.outcome == "ship":
        inputs = standby.judge(look, stage, row, rules.checkpoint, at=site, to=decision.site, moment=moment)
    _write_down(look, stage, row, best, good, _with_inputs(decision, inputs))
    if inputs is not None and inputs.outcome == "send":
        standby.order(look, stage, row, inputs)
    return decision.until


def _with_inputs(decision: Decision, inputs: Decision | None) -> Decision:
    """Why the inputs stay where they are is told with the copy that leaves; that they are sent is told by itself."""
    if inputs is None or inputs.outcome == "send":
        return decision
    stay = Reason("inputs", "against", f"no inputs are sent ahead: {last_fact(inputs)}", decision.site)
    return replace(decision, reasons=(*decision.reasons[:-1], stay, decision.reasons[-1]))


def _write_down(
    look: Look, stage: StageRow, row: AttemptRow, best: CheckpointRow, good: Sequence[CheckpointRow], decision: Decision
) -> None:
    """A copy that leaves is told each time; that one waits, or stays, once for each cause."""
    fact = last_fact(decision)
    if decision.outcome == "ship":
        look.mark(best, "shipped")
        suffix = f":{best.generation}:{best.seq}:{decision.site}"
        payload = compact({"generation": best.generation, "seq": best.seq, "path": best.path, "from": best.site})
        look.changes.effects.append(
            effect(look.world, row, "ship", now=look.now, payload=payload, suffix=suffix, site=decision.site)
        )
        told = False
    elif decision.outcome == "wait":
        cause = f"{_WAITS}{decision.reasons[-1].rule}"
        left = max((age(c) for c in good if c.state == "shipped"), default=(0, 0))
        told = any(c.reason.startswith(cause) for c in good if c.state == "verified" and age(c) > left)
        if not best.reason:
            look.mark(best, "verified", f"{cause}: {fact}"[:300])
    else:
        told = any(c.reason == f"kept here: {fact}" for c in good)
        look.mark(best, "shipped", f"kept here: {fact}")
    if not told:
        data = {"seq": best.seq, "to": decision.site}
        look.tell(stage, "ship", attempt=row.number, data=data, decision=decision)


def under_way(mine: Sequence[CheckpointRow], site: str) -> bool:
    """Was a copy ordered that is not known to have arrived, or to have failed?"""
    arrived = {(c.generation, c.seq) for c in mine if c.site != site}
    here = (c for c in mine if c.site == site and c.state == "shipped")
    return any(not c.reason and (c.generation, c.seq) not in arrived for c in here)


def elsewhere(look: Look, stage: StageRow, at: SiteFacts) -> shipping.Elsewhere | None:
    """The newest checkpoint readable at another facility, of whichever attempt. A site that missed a look or two
    is not lost with its copies: that takes the silence that counts as unreachable."""
    rows = look.checkpoints.get(stage.n, ())
    best: CheckpointFacts | None = None
    for copy in checkpoint_facts(rows):
        site = look.site(copy.site)
        away = site is not None and not site.silent and site.facility != at.facility
        if away and (best is None or copy.seq > best.seq):
            best = copy
    if best is None:
        return None
    same = [r for r in rows if (r.attempt, r.generation, r.seq) == (best.attempt, best.generation, best.seq)]
    times = [r.verified_at for r in same if r.verified_at is not None]
    good_at = min(times, default=best.at)
    return shipping.Elsewhere(seq=best.seq, site=best.site, good_at=good_at, arrived_at=best.at)


def targets(look: Look, stage: StageRow, best: CheckpointRow, mine: Sequence[CheckpointRow]) -> list[shipping.Target]:
    """The sites that might take the stage over, best first, full or not; those where it failed before, last."""
    candidates, static = look.candidates(stage)
    avoid = set(json.loads(stage.avoid)) if stage.avoid else set()
    ordered = max((c for c in mine if c.state == "shipped"), key=age, default=None)
    return [
        shipping.Target(
            site=c.site,
            link=estimate(look, best, c.site.name),
            refused=static[c.site.name],
            failed=ordered is not None and ordered.reason.startswith(f"no copy at {c.site.name}:"),
        )
        for c in sorted(candidates, key=lambda c: (c.site.name in avoid, placement.preference(c)))
        if c.site.name != best.site
    ]


def estimate(look: Look, copy: CheckpointRow, to: str) -> LinkEstimate:
    """How long that checkpoint would take from where it is, by the quickest mover that is known to go there."""
    files = len(json.loads(copy.manifest)["files"]) if copy.manifest else 1
    return over_link(look.world, copy.site, to, bytes=copy.bytes, files=files + 1)


def _seconds_left(look: Look, row: AttemptRow, rules: Rules) -> float | None:
    """Until the job's time limit, counted from its newest start: by its site's clock, which may be slow, but not so
    slow that it started before it was submitted."""
    setup = look.world.sites.get(row.site)
    limit = rules.resources.walltime
    if limit is None and setup is not None:
        limit = setup.config.max_walltime
    if limit is None or _started(row) is None:
        return None
    return limit - _elapsed(look, row)


def _elapsed(look: Look, row: AttemptRow) -> float:
    """Seconds since its newest start; 0: it has not started."""
    started = _started(row)
    return 0.0 if started is None else (look.now - max(started, row.submitted_at or 0)) / 1e6


def _started(row: AttemptRow) -> int | None:
    started: int | None = json.loads(row.started).get("at") if row.started else row.started_at
    return started


def _every(mine: Sequence[CheckpointRow], site: str) -> float | None:
    """Seconds between two checkpoints of this attempt so far, by the clock of their site."""
    times = sorted(c.created_at for c in mine if c.site == site)
    gaps = [(after - before) / 1e6 for before, after in pairwise(times)]
    return median(gaps) if gaps else None


# -- old copies ----------------------------------------------------------------------------------------------------


def prune(look: Look, stage: StageRow, row: AttemptRow, keep: int, known: Sequence[CheckpointFacts]) -> None:
    """Have all but the newest copies at each site removed. One that is to go is used for nothing from now on."""
    by_site: dict[str, list[CheckpointFacts]] = defaultdict(list)
    for copy in known:
        if copy.path.startswith(COPIES) and look.answers(copy.site):
            by_site[copy.site].append(copy)
    crowded = {site: copies for site, copies in by_site.items() if len(copies) > keep}
    if not crowded:
        return
    restoring = {_origin(attempt) for attempt in look.open_attempts(stage) if attempt.restore}
    for site, copies in crowded.items():
        old, decision = shipping.prune(copies, site=site, known=known, keep=keep, restoring=restoring)
        if old:
            _remove(look, stage, row, site, old, decision)


def _remove(
    look: Look, stage: StageRow, row: AttemptRow, site: str, old: Sequence[CheckpointFacts], decision: Decision
) -> None:
    marked = {(copy.attempt, copy.generation, copy.seq): copy for copy in old}
    for known in look.checkpoints.get(stage.n, ()):
        if known.site == site and (known.attempt, known.generation, known.seq) in marked:
            look.mark(known, "gone", f"removed: {last_fact(decision)}"[:300])
    for (attempt, generation, seq), copy in marked.items():
        suffix = f":{attempt}:{generation}:{seq}:{site}"
        payload = compact({"path": copy.path})
        look.changes.effects.append(
            effect(look.world, row, "prune", now=look.now, payload=payload, suffix=suffix, site=site)
        )
    data = {"site": site, "seqs": [copy.seq for copy in old]}
    look.tell(stage, "prune", attempt=row.number, data=data, decision=decision)


def _origin(attempt: AttemptRow) -> tuple[int, int, int, str]:
    data = json.loads(attempt.restore)
    return data["attempt"], data["generation"], data["seq"], data["site"]
