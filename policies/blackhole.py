"""Black holes: a site that ends every job fast and badly takes in all there is, as it always has room. Pure.

Three sizes: everything sent to a site fails there; one application does, where others do not; or one person's jobs do.
A bad input is no bad site: what counts are different runs, and an application that fails elsewhere too accuses itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from policies.evidence import JOB, Fact
from policies.health import WINDOW
from policies.verdicts import Hole

FAST = 60.0
"""Seconds: a job that ends badly within them has hardly begun."""
IN_A_ROW = 5
"""Different runs in a row that must have ended so (a breaker's five, as for calls)."""
TRIED_AGAIN = 1800.0
"""Seconds after which one more may be sent there."""


class Subject(NamedTuple):
    """Whom a job was for: written into its row of evidence."""

    application: str
    """The workflow's name."""
    person: str
    run: str

    @property
    def text(self) -> str:
        return "\t".join(part.replace("\t", " ") for part in self)

    @classmethod
    def of(cls, text: str) -> Subject | None:
        parts = text.split("\t")
        return cls._make(parts) if len(parts) == 3 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holes:
    """What is swallowed at one site."""

    site: Hole | None = None
    """Everything is."""
    applications: Mapping[str, Hole] = field(default_factory=dict)
    persons: Mapping[str, Hole] = field(default_factory=dict)

    def takes(self, application: str, person: str, now: int) -> str:
        """Why this person's job of this application would be lost there now; empty: it would not."""
        for hole in (self.applications.get(application), self.persons.get(person)):
            if hole is not None and now < hole.tries_at:
                return hole.words
        return ""


NO_HOLES = Holes()
_Ends = Sequence[tuple[Fact, Subject]]


@dataclass(slots=True)
class _Tail:
    """Jobs that ended fast and badly, from the newest back to the last one that did not."""

    ends: list[tuple[Fact, Subject]] = field(default_factory=list)
    open: bool = True

    def take(self, row: Fact, subject: Subject) -> None:
        if self.open and _is_swallowed(row):
            self.ends.append((row, subject))
        else:
            self.open = False


def holes(facts: Mapping[str, Iterable[Fact]], *, now: int) -> Mapping[str, Holes]:
    """What is swallowed where, from the rows of evidence by site. Sites where nothing is are left out."""
    since = now - round(WINDOW * 1e6)
    jobs = {site: [row for row in rows if row[6] == JOB and since <= row[1] <= now] for site, rows in facts.items()}
    suspects = [site for site, rows in jobs.items() if sum(map(_is_swallowed, rows)) >= IN_A_ROW]
    if not suspects:
        return {}
    ends = {site: _ends(rows) for site, rows in jobs.items()}
    everywhere = _elsewhere_too(ends)
    found = {
        site: _holes(site, [(row, whom) for row, whom in ends[site] if row[3] or whom[0] not in everywhere])
        for site in suspects
    }
    return {site: here for site, here in found.items() if here != NO_HOLES}


def _is_swallowed(row: Fact) -> bool:
    return not row[3] and row[4] <= FAST * 1e6


def _ends(jobs: Iterable[Fact]) -> _Ends:
    """How jobs ended at one site, the newest first."""
    newest_first = sorted(jobs, key=itemgetter(1), reverse=True)
    return [(row, subject) for row in newest_first if (subject := Subject.of(row[8])) is not None]


def _elsewhere_too(ends: Mapping[str, _Ends]) -> frozenset[str]:
    """Applications whose newest jobs failed at more than one site: they are at fault themselves."""
    counts: dict[str, int] = defaultdict(int)
    for told in ends.values():
        newest: set[str] = set()
        for row, whom in told:
            if whom[0] not in newest:
                newest.add(whom[0])
                counts[whom[0]] += not row[3]
    return frozenset(name for name, count in counts.items() if count > 1)


def _holes(site: str, told: _Ends) -> Holes:
    whole = _Tail()
    applications: dict[str, _Tail] = defaultdict(_Tail)
    persons: dict[str, _Tail] = defaultdict(_Tail)
    for row, whom in told:
        whole.take(row, whom)
        applications[whom[0]].take(row, whom)
        persons[whom[1]].take(row, whom)
    # one application's or one person's failures are not yet everybody's
    several = _count(whole.ends, 0) > 1 and _count(whole.ends, 1) >= min(2, len(persons))
    return Holes(
        site=_hole(f"whatever was sent to {site} failed there", whole.ends) if several else None,
        applications=_found(applications, lambda name: f"{name} failed at {site}"),
        persons=_found(
            {name: tail for name, tail in persons.items() if _count(tail.ends, 0) > 1},
            lambda name: f"the jobs of {name} failed at {site}",
        ),
    )


def _found(tails: Mapping[str, _Tail], words: Callable[[str], str]) -> Mapping[str, Hole]:
    return {name: hole for name, tail in tails.items() if (hole := _hole(words(name), tail.ends)) is not None}


def _hole(words: str, ends: _Ends) -> Hole | None:
    runs = _count(ends, 2)
    if runs < IN_A_ROW:
        return None
    newest = ends[0][0]
    fact = f"{words} within {FAST:g} s, {runs} runs in a row: {newest[5] or 'no reason given'}"
    return Hole(words=fact, newest=newest[1], tries_at=newest[1] + round(TRIED_AGAIN * 1e6))


def _count(ends: _Ends, part: int) -> int:
    """Different applications (0), persons (1) or runs (2) among these."""
    return len({whom[part] for _, whom in ends})
