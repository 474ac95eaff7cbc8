"""Whether a run goes home to the site that it left. Only for what starts anew: a running stage never goes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from policies.model import Reason, Rules, SiteFacts


class Journey(NamedTuple):
    """Of a run of which a stage was carried elsewhere."""

    home: str
    """The site that its first such stage had left."""
    at: str
    """Where its newest such stage went."""


class _Candidate(Protocol):
    @property
    def site(self) -> SiteFacts: ...
    @property
    def rules(self) -> Rules: ...


C = TypeVar("C", bound=_Candidate)


def kept_from_home(candidates: Sequence[C], journey: Journey | None, reasons: list[Reason]) -> Sequence[C]:
    """Without the run's home, where the document wants that (`failback: never`), or while the home has only just come
    back; with it all the same, where nothing else is left."""
    home = next((c for c in candidates if journey is not None and c.site.name == journey.home), None)
    others = [c for c in candidates if c is not home]
    if journey is None or home is None or not others:
        return candidates
    if home.rules.failover.failback == "never":
        fact = f"failback: never, and the run was carried from {journey.home} to {journey.at}"
    elif home.site.returning:
        fact = f"{journey.home}, which the run left, has to hold before it goes home: {home.site.returning}"
    else:
        return candidates
    reasons.append(Reason("failback", "refused", fact, journey.home))
    return others


def liking(candidate: _Candidate, journey: Journey | None) -> int:
    """0: the run would rather be there than at others, which are 1. `never`: where it is now, whatever the document
    prefers; `next_stage`: at home, unless the document prefers sites of its own."""
    if journey is None:
        return 1
    rules = candidate.rules
    if rules.failover.failback == "never":
        return int(candidate.site.name != journey.at)
    return 1 if rules.sites.prefer else int(candidate.site.name != journey.home)


def why_there(candidate: _Candidate, journey: Journey | None) -> Sequence[Reason]:
    """Why the journey speaks for the site that was chosen."""
    if journey is None or liking(candidate, journey):
        return ()
    name = candidate.site.name
    if candidate.rules.failover.failback == "never":
        return (Reason("failback", "for", f"failback: never, and the run is at {name} now", name),)
    return (Reason("failback", "for", f"home again: the run began at {name}, which is well", name),)
