"""Having an attempt's newest checkpoint checked, and waiting for that where the attempt has just ended. Pure.

A job that is told to stop saves itself last of all: what it saves is seen together with its end, and would be worth
nothing if the stage went on at once from the one before.
"""

from __future__ import annotations

from broker.engine.look import Look
from broker.engine.start import effect
from broker.engine.words import compact
from broker.facts import checkpoint_facts
from broker.store.base import AttemptRow, CheckpointRow, StageRow

LONGEST = 900_000_000
"""Microseconds that a stage waits for a check at the most."""


def check_newest(look: Look, stage: StageRow, row: AttemptRow, *, last: bool = False) -> None:
    """Have the newest checkpoint that this attempt left at its site compared with its manifest. One is checked at a
    time; `last`: none comes after it, so that it is not kept waiting."""
    rows = look.checkpoints.get(stage.n, ())
    here = [c for c in rows if c.attempt == row.number and c.site == row.site]
    if not here or not look.answers(row.site):
        return
    newest = max(here, key=age)
    if newest.state != "seen" or (not last and any(c.state == "checking" for c in here)):
        return
    look.mark(newest, "checking")
    suffix = f":{newest.generation}:{newest.seq}"
    payload = compact({"generation": newest.generation, "seq": newest.seq, "path": newest.path})
    look.changes.effects.append(effect(look.world, row, "check", now=look.now, payload=payload, suffix=suffix))


def waits_for_check(look: Look, stage: StageRow) -> StageRow | None:
    """The stage, while a checkpoint is being checked that is newer than all it could go on from; None: there is none.
    It waits no longer than doing that work again would take."""
    rows = look.checkpoints.get(stage.n, ())
    asked = [c for c in rows if c.state == "checking" and look.answers(c.site)]
    newest = max(asked, key=age, default=None)
    if newest is None:
        return None
    good = max((fact.seq for fact in checkpoint_facts(rows)), default=None)
    if good is not None and good >= newest.seq:
        return None
    saved = [c.created_at for c in rows if c.seq == good]
    at_stake = newest.created_at - min(saved) if saved else LONGEST
    until = (stage.ready_at or look.now) + min(LONGEST, at_stake)
    if until <= look.now:
        return None
    return stage._replace(due_at=until, reason=f"checkpoint {newest.seq} is being checked at {newest.site}")


def age(copy: CheckpointRow) -> tuple[int, int]:
    """Greater is newer."""
    return copy.seq, copy.generation
