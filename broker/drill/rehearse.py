"""A drill whole: every play of it, what each cost, and whether that is what was allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from broker.drill.casting import Cast
from broker.drill.document import ROLES, Bounds, DrillDocument, Incident, plays_of
from broker.drill.measure import Figures, measure
from broker.drill.play import play
from broker.drill.verdict import Verdict, verdict

Told = Callable[[int, int], None]
"""Called with (how many plays are over, of how many)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One play."""

    at: str
    """When the fault began that this play differs in; empty: there is one play only."""
    figures: Figures
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A drill that was run."""

    name: str
    title: str
    seed: int
    cast: Cast
    outcomes: Sequence[Outcome]

    @property
    def ok(self) -> bool:
        return all(outcome.verdict.ok for outcome in self.outcomes)


def rehearse(
    drill: DrillDocument, made: Cast, *, name: str, seed: int = 1, others: bool = False, told: Told | None = None
) -> Rehearsal:
    """`others`: another workflow or other sites than the drill's own play, of which its counts say nothing. The same
    arguments bring the same answer."""
    stages = {stage.path for stage in made.run.stages}
    bounds = of_others(drill.bounds) if others else drill.bounds
    plays = plays_of(drill)
    outcomes = []
    for number, incidents in enumerate(plays, 1):
        fitted = [fitting(incident, drill, made, stages) for incident in incidents]
        outcomes.append(_played(drill, made, fitted, bounds, _label(plays, incidents), seed))
        if told is not None:
            told(number, len(plays))
    return Rehearsal(name=name, title=drill.title, seed=seed, cast=made, outcomes=tuple(outcomes))


def _played(
    drill: DrillDocument, made: Cast, incidents: Sequence[Incident], bounds: Bounds, at: str, seed: int
) -> Outcome:
    played = play(drill, made, incidents, seed=seed)
    with closing(played.ground):
        figures = measure(played, drill.carrying)
        return Outcome(at=at, figures=figures, verdict=verdict(played, figures, bounds))


def _label(plays: Sequence[Sequence[Incident]], incidents: Sequence[Incident]) -> str:
    if len(plays) == 1:
        return ""
    first = plays[0] if incidents is not plays[0] else plays[1]
    return next(str(a.at[0]) for a, b in zip(incidents, first, strict=True) if a.at != b.at)


def of_others(bounds: Bounds) -> Bounds:
    """What is asked of any workflow: that it ends well, how soon it works again, what is done twice, who is told."""
    kept = bounds.model_fields_set & {"state", "recovery", "lost", "alerts"}
    return Bounds().model_copy(update={name: getattr(bounds, name) for name in kept})


def fitting(incident: Incident, drill: DrillDocument, made: Cast, stages: set[str]) -> Incident:
    """The incident for those who play: the drill's sites stand for these, in the order of their documents, and a stage
    that is not there for whichever is at work."""
    names, there = list(drill.sites), list(made.sites.configs)
    changes: dict[str, object] = {}
    if incident.site in names and incident.site not in ROLES and incident.site not in there:
        changes["site"] = there[names.index(incident.site) % len(there)]
    if incident.stage is not None and incident.stage not in stages:
        changes["stage"] = None
    return incident.model_copy(update=changes) if changes else incident
