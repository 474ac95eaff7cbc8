"""Taking in what was seen of a stage's attempts. Pure."""

from __future__ import annotations

import json
from dataclasses import replace

from broker.engine.attempt import Progress, advance
from broker.engine.look import Look
from broker.engine.start import effect
from broker.engine.words import compact
from broker.facts import NOWHERE
from broker.states import ENDS_WITH_ATTEMPT, AttemptState, StageState
from broker.store.base import AttemptRow, StageRow


def advance_all(look: Look, stage: StageRow) -> dict[int, Progress]:
    """Take in what was seen of every open attempt; once in a look, a refused command may have done it before."""
    if stage.n in look.seen:
        return look.seen[stage.n]
    result: dict[int, Progress] = {}
    for row in look.snapshot.attempts.get(stage.n, ()):
        progress = advance(row, site=look.site(row.site), now=look.now)
        progress = outrun(stage, row, progress)
        keep(look, stage, row, progress)
        result[row.number] = progress
    look.seen[stage.n] = result
    return result


def outrun(stage: StageRow, old: AttemptRow, progress: Progress) -> Progress:
    """An attempt that was ended because another one won is superseded, not canceled."""
    if old.open and progress.row.state == AttemptState.CANCELED and stage.state == StageState.SUCCEEDED:
        return replace(progress, row=progress.row._replace(state=AttemptState.SUPERSEDED.value))
    return progress


def keep(look: Look, stage: StageRow, old: AttemptRow, progress: Progress) -> None:
    new = progress.row
    if new is old or new == old:
        return
    look.changes.attempts.append(new)
    if new.state != old.state:
        data = {"site": new.site, "from": old.state, "to": new.state, "reason": new.reason}
        look.tell(stage, new.state.lower(), attempt=new.number, data=data)
    if (new.unreachable_since is None) != (old.unreachable_since is None) and new.open:
        kind = "unreachable" if new.unreachable_since is not None else "reachable"
        look.tell(stage, kind, attempt=new.number, data={"site": new.site, "since": new.unreachable_since})
    if progress.effect:
        payload = vouched(new) if progress.effect == "verify" else "{}"
        look.changes.effects.append(effect(look.world, new, progress.effect, now=look.now, payload=payload))
    if old.open and not new.open:
        closed(look, new)


def closed(look: Look, row: AttemptRow) -> None:
    """An attempt is over: its place is free, and what was still wanted for it is not any more."""
    if row.site != NOWHERE:
        look.changes.wake_ready += 1
        look.load[row.site] -= 1
        look.own[row.site] -= 1
        look.sites.pop(row.site, None)
    look.changes.dropped_effects.extend(f"{kind}:{row.submit_key}" for kind in ENDS_WITH_ATTEMPT)


def vouched(row: AttemptRow) -> str:
    """What the exit record vouches for: whose outputs, and the digest of their manifest."""
    record = json.loads(row.exit)
    return compact({"generation": record["generation"], "digest": record["digest"]})
