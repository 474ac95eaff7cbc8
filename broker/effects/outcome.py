"""How performing an effect ended, as rows to record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.jobs import Job
from broker.store.base import AttemptSeen, CheckpointRow, EffectAgain, EffectDone, EffectRow, EvidenceRow, Sightings

FIRST_PAUSE = 0.1
SLOWEST = 10.0
"""Seconds between two tries of one effect: doubling from the first to the slowest."""


@dataclass(slots=True)
class Result:
    """What a batch of effects led to."""

    done: list[EffectDone] = field(default_factory=list)
    again: list[EffectAgain] = field(default_factory=list)
    seen: list[AttemptSeen] = field(default_factory=list)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    evidence: list[EvidenceRow] = field(default_factory=list)

    def add_to(self, sightings: Sightings) -> None:
        """Append to what is to be recorded."""
        sightings.effects_done.extend(self.done)
        sightings.effects_again.extend(self.again)
        sightings.attempts.extend(self.seen)
        sightings.checkpoints.extend(self.checkpoints)
        sightings.evidence.extend(self.evidence)

    def finish(self, effect: EffectRow, job: Job, **facts: str | int) -> None:
        """The effect is done, and this was learned of its attempt."""
        self.done.append(done(effect, {}))
        self.seen.append(seen(effect, job, **facts))


def done(effect: EffectRow, outcome: Mapping[str, object]) -> EffectDone:
    """The effect needs no further try."""
    return EffectDone(
        key=effect.key, claim=effect.claim, outcome=compact(outcome) if outcome else "{}", tries=effect.tries
    )


def again(
    effect: EffectRow,
    now: int,
    *,
    reason: str,
    note: Mapping[str, object] | None = None,
    pause: float | None = None,
    slowest: float = SLOWEST,
) -> EffectAgain:
    """Try again after a pause that doubles with every try, `slowest` seconds at the most."""
    wait = pause if pause is not None else min(slowest, FIRST_PAUSE * 2 ** min(effect.tries - 1, 20))
    if note is None:  # what was known before a try that died is not known any more
        note = {} if died_since(effect) else note_of(effect)
    text = compact({**note, "last": reason, "try": effect.tries})
    return EffectAgain(
        key=effect.key, claim=effect.claim, due_at=now + round(wait * 1e6), note=text, tries=effect.tries
    )


def note_of(effect: EffectRow) -> dict[str, object]:
    """What was kept between tries."""
    note: dict[str, object] = json.loads(effect.note) if effect.note else {}
    return note


def died_since(effect: EffectRow) -> bool:
    """Did a try end without a word, after those that the note tells of? It may have done anything."""
    return note_of(effect).get("try") != effect.tries - 1


def seen(effect: EffectRow, job: Job, **facts: str | int) -> AttemptSeen:
    """Facts about the attempt of a job, learned by performing an effect."""
    a = job.attempt
    return AttemptSeen(run_id=a.run_id, n=a.n, number=a.number, facts=facts, effect=effect.key)


def compact(data: Mapping[str, object]) -> str:
    """JSON as it is kept in rows."""
    return json.dumps(data, separators=(",", ":"))
