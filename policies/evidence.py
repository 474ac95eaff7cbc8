"""What the rows of evidence on one capability of one site tell, in the order in which things happened. Pure.

A row is one measured or published fact and never a judgement; `policies.health` judges. What a site publishes of
itself stands apart from what was measured here: a green feed can then clear nothing that was measured.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from math import exp, log10, sqrt
from operator import itemgetter

from connectors.errors import Fault

Fact = tuple[str, int, str, bool, int, str, str, str, str, int | None]
"""A row of evidence: site, when (µs UTC), capability, is it well, how long it took (µs), in words, its source (below;
empty in rows of older versions), a word (what a feed calls it; REFUSED, OURS; of a job's end whose fault it was, as
`connectors.errors.Fault`), whom a job was for (`policies.blackhole`), until when."""

LOOK, PROBE, CALL, JOB, TRANSFER, CANARY = "look", "probe", "call", "job", "transfer", "canary"
"""Measured: a look at our jobs, a question without side effects, a submission, how a job or transfer ended, a job of
seconds whose end was awaited."""
FEED = "feed"
"""Published by the site about itself."""
DEGRADED, MAINTENANCE = "degraded", "maintenance"
"""Words of feeds: it works, but not well; a window that was announced (well: it begins at `until`) or is open (not
well: it ends at `until`)."""
REAL = {"submit": frozenset({CALL, CANARY}), "compute": frozenset({JOB, CANARY})}
"""Capabilities that a harmless question does not prove, and what does. Of the others every measurement counts."""

OURS = "ours"
"""It gave no answer together with others (`policies.doubt`): more likely our own fault."""
_ITS_OWN = ("", Fault.SITE.value)
"""Words of failures that are the site's."""
REFUSED = "refused"
"""It answered: not now, or not so. That is a rate's or a request's fault, and no outage."""
_MINUTE = 60_000_000
_AT = itemgetter(1)
_BEATS = frozenset({LOOK, PROBE, ""})
"""Sources that come regularly, so that their gaps mean something."""
_LONGEST_GAP = 600_000_000
"""µs: a longer gap between two good looks is one in which nobody looked."""
_LEAST_GAPS = 8
_EXCUSED = 120_000_000
"""µs around a moment of self-doubt in which no failure counts: as far apart as the same cut is seen."""
_SPREAD = 0.25
"""Least standard deviation of the gaps, as a part of their mean: an even rhythm would make any delay implausible."""
_PHI_MOST = 99.0
"""Phi is capped there; the logarithm of a chance too small for a float."""
_FALL = 2
"""Failures in a row that make a fall. A single miss among good looks is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """When a row of failures counts as an outage, and what ends one."""

    probes: int = 5
    """Failures in a row, and"""
    seconds: float = 60.0
    """from the first of them on: both must be spent (SkyPilot's lesson: five probes come quickly)."""
    returns: int = 3
    """Good ones in a row since, and"""
    hold: float = 300.0
    """seconds since the first of those, before an outage is over (reliability.md: 5 to 15 min)."""


@dataclass(slots=True, kw_only=True)
class Course:
    """How one capability fared, from the oldest row to the newest."""

    budgets: Budgets
    measured: Sequence[Fact]
    """What was measured of it, oldest first."""
    last_good: Fact | None
    run: int = 0
    """Failures in a row that the measurements end with."""
    first_bad: Fact | None = None
    """The first of those; None: they end well."""
    last_bad: Fact | None = None
    """The newest failure of all."""
    out: bool = False
    """Was there an outage that is not over?"""
    back: int = 0
    """Good ones in a row since it."""
    back_at: int = 0
    """When the first of them was."""
    real: bool = False
    """Is one of them real use?"""
    falls: list[int] = field(default_factory=list)
    """When each row of two failures or more ended."""
    refusal: Fact | None = None
    """The newest answer that was a refusal, if nothing went well since."""
    feed: Fact | None = None
    """The newest published word."""
    windows: Sequence[Fact] = ()
    """Maintenance, as the newest reading of the feed tells it."""

    def good(self, most: int) -> int:
        """Good measurements; counted so far only."""
        return sum(1 for _ in islice((fact for fact in reversed(self.measured) if fact[3]), most))

    def over(self, now: int) -> bool:
        """Has what came back after an outage held out?"""
        held = now - self.back_at >= self.budgets.hold * 1e6
        return self.real and self.back >= self.budgets.returns and held

    def minutes(self, since: int) -> tuple[int, int]:
        """Minutes from then on in which something went well, and in which something failed: each counts once each way,
        however often somebody asked in it."""
        good: set[int] = set()
        bad: set[int] = set()
        for fact in reversed(self.measured):
            if fact[1] < since:
                break
            (good if fact[3] else bad).add(fact[1] // _MINUTE)
        return len(good), len(bad)

    def phi(self, now: int) -> float | None:
        """How implausible it is, as a power of ten, that nothing good was seen for so long; None: too few gaps to tell.

        Hayashibara et al., The phi accrual failure detector (2004); the normal tail as Akka approximates it.
        """
        beats = [fact[1] for fact in self.measured if fact[3] and fact[6] in _BEATS]
        gaps = [b - a for a, b in pairwise(beats) if b - a <= _LONGEST_GAP]
        if len(gaps) < _LEAST_GAPS or self.last_good is None:
            return None
        mean = sum(gaps) / len(gaps)
        spread = sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
        y = (now - self.last_good[1] - mean) / max(spread, _SPREAD * mean, 1.0)
        exponent = y * (1.5976 + 0.070566 * y * y)
        if exponent > _PHI_MOST * 2.3:
            return _PHI_MOST
        if exponent < -_PHI_MOST:
            return 0.0
        return max(0.0, log10(1 + exp(exponent)))

    def failed(self, fact: Fact) -> None:
        """Take in a failure."""
        self.run += 1
        self.first_bad, self.last_bad = self.first_bad or fact, fact
        self.back, self.real = 0, False
        self._spent(fact[1])

    def went_well(self, fact: Fact, real: frozenset[str] | None) -> None:
        """Take in what went well after a failure or an outage. `real`: the sources that prove it; None: any."""
        at = fact[1]
        self._spent(at)  # nothing went well until now: so long did it last, however quickly it was counted
        self.fell()
        self.run, self.first_bad = 0, None
        if self.out:
            self.back_at = at if not self.back else self.back_at
            self.back += 1
            self.real = self.real or real is None or fact[6] in real
            self.out = not self.over(at)

    def _spent(self, at: int) -> None:
        """An outage begins when both budgets are spent."""
        budgets, first = self.budgets, self.first_bad
        if not self.out and first is not None and self.run >= budgets.probes and at - first[1] >= budgets.seconds * 1e6:
            self.out = True

    def fell(self) -> None:
        """The failures in a row are over."""
        if self.run >= _FALL and self.last_bad is not None:
            self.falls.append(self.last_bad[1])

    def published(self, told: Sequence[Fact]) -> None:
        """Take in what the site says. A window that the newest reading does not name any more was taken back."""
        newest = told[-1][1]
        self.windows = [fact for fact in told if fact[7] == MAINTENANCE and newest - fact[1] <= _MINUTE]
        self.feed = next((fact for fact in reversed(told) if fact[7] != MAINTENANCE), None)


def in_order(facts: Iterable[Fact], *, since: int, until: int) -> Sequence[Fact]:
    """Those of that time, oldest first. One site has at most one row for a capability and an instant."""
    ordered = sorted(facts, key=_AT)
    return ordered[bisect_left(ordered, since, key=_AT) : bisect_right(ordered, until, key=_AT)]


def excused(ordered: Sequence[Fact], ours: Sequence[int]) -> Sequence[Fact]:
    """Without the failures close to times at which the fault was ours; both oldest first."""

    def near(at: int) -> bool:
        place = bisect_left(ours, at)
        return any(abs(at - time) <= _EXCUSED for time in ours[max(0, place - 1) : place + 1])

    return [fact for fact in ordered if fact[3] or fact[6] == FEED or not near(fact[1])]


def course(capability: str, ordered: Sequence[Fact], budgets: Budgets) -> Course:
    """What these rows tell, all of one site and capability, oldest first."""
    # a bad file is no bad site, and «not now» is an answer: what is not its own fault is no failure of the site
    measured = [fact for fact in ordered if fact[6] != FEED and (fact[3] or fact[7] in _ITS_OWN)]
    last_good = next((fact for fact in reversed(measured) if fact[3]), None)
    told, real = Course(budgets=budgets, measured=measured, last_good=last_good), REAL.get(capability)
    for fact in measured:
        if not fact[3]:
            told.failed(fact)
        elif told.run or told.out:
            told.went_well(fact, real)
    told.fell()
    if len(ordered) > len(measured):
        others = [fact for fact in ordered if fact[6] == FEED or fact[7]]
        since = last_good[1] if last_good else 0
        refusals = [fact for fact in others if fact[7] == REFUSED and not fact[3] and fact[1] > since]
        told.refusal = refusals[-1] if refusals else None
        if published := [fact for fact in others if fact[6] == FEED]:
            told.published(published)
    return told
