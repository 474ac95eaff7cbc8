"""How long a stage's work takes at a site: from how long the same stage took before, there or elsewhere. Pure.

The same stage is the stage of that name in workflows of that name. Where it never ran at a site, how long it took
elsewhere counts, by how much slower or quicker that site is: by stages with the very same body that ran at both, else
by what the site document says (`speed`), else they are as quick as each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil
from statistics import median
from typing import NamedTuple

from policies.forecast import Term
from policies.intervals import span

NEWEST = 50
"""Runs of one stage at one site that count."""
PRIOR = Term(600.0, 3600.0, "no history and no walltime: a guess")
_FEW = 5
"""Runs below which the longest is no 90th percentile yet."""
_SPREAD = 1.25
"""By how much the 90th percentile is taken to lie above the median, or the longest, of few runs."""

Stage = tuple[str, str]
"""Names: of the workflow, and of the stage in it."""


class Ran(NamedTuple):
    """One run of a stage from its beginning to its end, without a checkpoint to start from."""

    stage: Stage
    digest: str
    """Of what ran."""
    site: str
    seconds: float
    at: int
    """When it ended."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The whole work of a stage at a site."""

    term: Term
    speed: float = 1.0
    """Seconds that a second of the work takes there, as what it is known from counts them."""


@dataclass(frozen=True, slots=True)
class Works:
    """What is known of all stages at all sites."""

    stages: Mapping[Stage, Mapping[str, Term]] = field(default_factory=dict)
    """Durations by stage, and by site."""
    slower: Mapping[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    """By (there, here): seconds there for a second here, and the kinds of work that both have done."""

    def expect(
        self,
        stage: Stage,
        site: str,
        *,
        walltime: float | None,
        speeds: Mapping[str, float],
        longest: float | None = None,
    ) -> Expected:
        """The work of a stage at a site. `walltime`: what the document asks for; `speeds`: what the site document
        says of the sites; `longest`: what the site allows at most."""
        known = self.stages.get(stage)
        if not known:
            return _without_history(walltime, speeds.get(site, 1.0), longest)
        here = known.get(site)
        if here is not None:
            return Expected(here)
        nearest = max(known, key=lambda name: (known[name].samples, name))
        slower, why = self.slowness(site, nearest, speeds)
        told = known[nearest]
        source = f"{told.source}, {why}" if why else told.source
        return Expected(Term(told.p50 * slower, told.p90 * slower, source, told.samples), slower)

    def slowness(self, there: str, here: str, speeds: Mapping[str, float]) -> tuple[float, str]:
        """Seconds there for a second here, and from what that is known; empty: nothing is known of it."""
        learned = self.slower.get((there, here))
        if learned is not None:
            ratio, kinds = learned
            stages = "1 stage" if kinds == 1 else f"{kinds} stages"
            return ratio, f"x {ratio:.2g} by {stages} that ran at both"
        ratio = speeds.get(here, 1.0) / speeds.get(there, 1.0)
        return ratio, f"x {ratio:.2g} by `speed` of the site document" if ratio != 1 else ""


NOTHING_KNOWN = Works()


def learn(runs: Iterable[Ran]) -> Works:
    """From runs in any order."""
    by_stage: dict[Stage, dict[str, list[Ran]]] = defaultdict(lambda: defaultdict(list))
    by_digest: dict[str, dict[str, list[Ran]]] = defaultdict(lambda: defaultdict(list))
    for ran in sorted(runs, key=lambda ran: ran.at):
        by_stage[ran.stage][ran.site].append(ran)
        by_digest[ran.digest][ran.site].append(ran)
    stages = {
        stage: {site: _duration(kept[-NEWEST:], stage, site) for site, kept in there.items()}
        for stage, there in by_stage.items()
    }
    return Works(stages, _compared(by_digest))


def _compared(by_digest: Mapping[str, Mapping[str, Sequence[Ran]]]) -> Mapping[tuple[str, str], tuple[float, int]]:
    """Each two sites, by the work that both have done: the median over kinds of work."""
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for there in by_digest.values():
        took = {site: median(ran.seconds for ran in kept[-NEWEST:]) for site, kept in there.items()}
        for one, other in combinations(sorted(took), 2):
            if took[one] > 0 and took[other] > 0:
                ratios[one, other].append(took[one] / took[other])
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for (one, other), seen in ratios.items():
        ratio = median(seen)
        found[one, other], found[other, one] = (ratio, len(seen)), (1 / ratio, len(seen))
    return found


def _duration(runs: Sequence[Ran], stage: Stage, site: str) -> Term:
    took = sorted(ran.seconds for ran in runs)
    p50 = median(took)
    p90 = took[ceil(0.9 * len(took)) - 1]
    if len(took) < _FEW:
        p90 = max(p90, _SPREAD * p50)
    count = len(took)
    return Term(p50, p90, f"{count} {'run' if count == 1 else 'runs'} of {stage[1]} at {site}", count)


def _without_history(walltime: float | None, speed: float, longest: float | None) -> Expected:
    """A walltime is what the work takes at most: nothing better is known."""
    slower = 1 / speed
    told = f", x {slower:.2g} by `speed` of the site document" if speed != 1 else ""
    if walltime is not None:
        took = walltime * slower
        return Expected(Term(took, took, f"its walltime of {span(walltime)}{told}"), slower)
    most = float("inf") if longest is None else longest
    guess = PRIOR.times(slower)
    return Expected(Term(min(guess.p50, most), min(guess.p90, most), f"{PRIOR.source}{told}"), slower)


__all__ = ["NOTHING_KNOWN", "PRIOR", "Expected", "Ran", "Stage", "Works", "learn"]
