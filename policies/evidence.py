"""What the rows of evidence on one capability of one site tell, in the order in which things happened. Pure.

A row is one measured or published fact and never a judgement; `policies.health` judges. What a site publishes of
itself stands apart from what was measured here: a green feed can then clear nothing that was measured.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log10, sqrt
from operator import itemgetter

from connectors.errors import Fault

Fact = tuple[str, int, str, bool, int, str, str, str, str, int | None]
"""A row of evidence: site, when (µs UTC), capability, is it well, how long it took (µs), in words, its source (below;
empty in rows of older versions), a word (what a feed calls it; REFUSED; of a job's end whose fault it was, as
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


@dataclass(slots=True)
class Course:
    """How one capability fared, from the oldest row to the newest."""

    good: int = 0
    bad: int = 0
    last_good: Fact | None = None
    first_bad: Fact | None = None
    """Of the failures in a row that the measurements end with; None: they end well."""
    last_bad: Fact | None = None
    """The newest failure of all."""
    run: int = 0
    """Failures in a row at the end."""
    out: bool = False
    """Was there an outage that is not over?"""
    back: int = 0
    """Good ones in a row since it."""
    back_at: int = 0
    """The first of them."""
    real: bool = False
    """Is one of them real use?"""
    falls: list[int] = field(default_factory=list)
    """When each row of two failures or more ended."""
    measured: Sequence[Fact] = ()
    """All that was measured, oldest first."""
    gaps: int = 0
    mean: float = 0.0
    spread: float = 0.0
    """Gaps between good looks: how many, µs, standard deviation in µs."""
    refusal: Fact | None = None
    """The newest answer that was a refusal, if nothing went well since."""
    feed: Fact | None = None
    """The newest published word."""
    windows: list[Fact] = field(default_factory=list)
    """Maintenance, as the newest reading of the feed tells it."""

    def over(self, budgets: Budgets, now: int) -> bool:
        """Has what came back after an outage held out?"""
        return self.real and self.back >= budgets.returns and now - self.back_at >= budgets.hold * 1e6

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
        if self.gaps < _LEAST_GAPS or self.last_good is None:
            return None
        y = (now - self.last_good[1] - self.mean) / max(self.spread, _SPREAD * self.mean, 1.0)
        exponent = y * (1.5976 + 0.070566 * y * y)
        if exponent > _PHI_MOST * 2.3:
            return _PHI_MOST
        if exponent < -_PHI_MOST:
            return 0.0
        tail = 1 / (1 + exp(exponent))
        return max(0.0, -log10(tail))


def in_order(facts: Iterable[Fact], *, since: int, until: int) -> Sequence[Fact]:
    """Those of that time, oldest first. One site has at most one row for a capability and an instant."""
    ordered = sorted(facts, key=_AT)
    return ordered[bisect_left(ordered, since, key=_AT) : bisect_right(ordered, until, key=_AT)]


def course(capability: str, ordered: Sequence[Fact], budgets: Budgets) -> Course:
    """What these rows tell, all of one site and capability, oldest first."""
    told = Course()
    real, returns, hold = REAL.get(capability), budgets.returns, budgets.hold * 1e6
    probes, seconds = budgets.probes, budgets.seconds * 1e6
    # a bad file is no bad site, and «not now» is an answer: what is not its own fault is no failure of the site
    told.measured = [f for f in ordered if f[6] != FEED and (f[3] or f[7] in _ITS_OWN)]
    beats: list[int] = []
    bad, run, back, back_at, out, proved = 0, 0, 0, 0, False, False
    first = last_good = last_bad = None
    for fact in told.measured:
        at = fact[1]
        if fact[3]:
            source = fact[6]
            if run:
                # nothing went well until now: that is how long the outage lasted, however quickly it was counted
                out = out or (first is not None and run >= probes and at - first[1] >= seconds)
                if run >= _FALL and last_bad is not None:
                    told.falls.append(last_bad[1])
                run, first = 0, None
            last_good = fact
            if source in _BEATS:
                beats.append(at)
            if out:
                back_at = at if not back else back_at
                back += 1
                proved = proved or real is None or source in real
                out = not (proved and back >= returns and at - back_at >= hold)
        else:
            bad += 1
            run += 1
            first, last_bad = first or fact, fact
            back, proved = 0, False
            out = out or (run >= probes and at - first[1] >= seconds)
    if run >= _FALL and last_bad is not None:
        told.falls.append(last_bad[1])
    told.good, told.bad, told.run, told.out = len(told.measured) - bad, bad, run, out
    told.first_bad, told.last_good, told.last_bad = first, last_good, last_bad
    told.back, told.back_at, told.real = back, back_at, proved
    told.refusal = next((f for f in reversed(ordered) if f[7] == REFUSED or f is last_good), None)
    told.refusal = None if told.refusal is last_good else told.refusal
    _rhythm(told, beats)
    if len(ordered) > len(told.measured):
        _publish(told, [fact for fact in ordered if fact[6] == FEED])
    return told


def _rhythm(told: Course, beats: Sequence[int]) -> None:
    gaps = [b - a for a, b in pairwise(beats) if b - a <= _LONGEST_GAP]
    if gaps:
        told.gaps, told.mean = len(gaps), sum(gaps) / len(gaps)
        told.spread = sqrt(max(0.0, sum(gap * gap for gap in gaps) / len(gaps) - told.mean**2))


def _publish(told: Course, published: Sequence[Fact]) -> None:
    """A window that the newest reading does not name any more was taken back."""
    if not published:
        return
    newest = published[-1][1]
    told.windows = [fact for fact in published if fact[7] == MAINTENANCE and newest - fact[1] <= _MINUTE]
    told.feed = next((fact for fact in reversed(published) if fact[7] != MAINTENANCE), None)
