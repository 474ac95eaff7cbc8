"""How a task is doing, from what it says of itself and from how it was before. Pure.

Globus does not fail a task whose endpoint is away: it goes on trying for a day and longer. Whether that has lasted
long enough is judged here. A queued task is not stalled, and a paused one waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from connectors.globus.causes import Cause, cause_of
from connectors.globus.task import Task

MANY_FAULTS = 3
"""New ones since the last progress, with a word that blames a side: no need to wait for all of the patience."""
SOON = 0.25
"""Part of the patience that must have passed without progress even then."""


class Verdict(Enum):
    """What to do about a task."""

    GOING = "going"
    ARRIVED = "arrived"
    """SUCCEEDED: verify, then publish."""
    ENDED = "ended"
    """FAILED, or a word that is not known and not open: find out why."""
    HELD = "held"
    """It goes no further until a person acts."""
    STALLED = "stalled"
    """A side gives no answer: give it up."""
    HOPELESS = "hopeless"
    """Globus tries again what will not become better: the file is not there, the disk is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was seen of a task so far. Times in µs."""

    mark: tuple[int, ...] = ()
    moved_at: int = 0
    """When it was last seen to have got on, or to wait in the queue."""
    faults: int = 0
    """How many it had then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Verdict
    history: History
    cause: Cause | None = None
    reason: str = ""


def judge(task: Task, history: History | None, now: int, *, patience: float) -> Judgement:
    """`history`: None where the task is looked at for the first time; the patience begins then."""
    if history is None or task.mark != history.mark or task.queued:
        history = History(mark=task.mark, moved_at=now, faults=task.faults)
    if task.faults < history.faults:
        history = replace(history, faults=task.faults)
    cause = cause_of(task.nice_status)

    def so(verdict: Verdict, reason: str = "") -> Judgement:
        return Judgement(verdict=verdict, history=history, cause=cause, reason=reason)

    if task.status == "SUCCEEDED":
        return so(Verdict.ARRIVED)
    if not task.open:
        return so(Verdict.ENDED)
    if task.paused:
        return so(Verdict.HELD, "paused by a collection's administrators")
    if task.status == "INACTIVE" or cause is Cause.AUTH:
        return so(Verdict.HELD, f"Globus lacks access ({task.nice_status or task.status})")
    if task.queued:
        return so(Verdict.GOING, "queued at Globus")
    quiet = (now - history.moved_at) / 1e6
    said = f"no progress for {quiet:.0f} s, {task.faults} faults ({task.nice_status or 'no reason is told'})"
    many = task.faults - history.faults >= MANY_FAULTS and quiet >= SOON * patience
    if cause in _LASTING and (many or quiet >= SOON * patience):
        return so(Verdict.HOPELESS, said)
    if quiet >= patience or (many and cause is Cause.SITE):
        return so(Verdict.STALLED, said)
    return so(Verdict.GOING, task.nice_status if cause is not None else "")


_LASTING = frozenset({Cause.DATA, Cause.CAPACITY, Cause.PERMISSION})
