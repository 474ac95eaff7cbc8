"""How long a job waits in a site's queue, from waits that are known: one judgement, for broker and simulator. Pure.

* **What may be expected**: the median of the last few jobs, and a 90th percentile of many. Jobs that still wait count
  as what they are: waits of at least so long (the product-limit estimate of Kaplan and Meier 1958). A queue from which
  nobody comes forward is found out that way before its first job starts.
* **What it will be at most**: the binomial method of QBETS (Nurmi, Brevik and Wolski 2007). Of n past waits taken as
  draws from one distribution, the k-th smallest is at least its q-quantile with probability P(Bin(n, q) < k). So the
  smallest k for which that is at least the confidence gives a bound, whatever the distribution is. Only the newest
  waits are looked at; and when so many in a row exceed the bound as is no chance, the queue has changed, and no more of
  them count than a bound needs.

A queue that is hardly known is taken for a short one: it will be tried. Each wait that is seen takes some of that away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, exp, lgamma, log
from statistics import median
from typing import NamedTuple

from policies.forecast import LONGEST, Term
from policies.intervals import span

NEWEST = 400
"""Waits that a bound, or a percentile, is made of."""
LAST = 10
"""Waits whose median is what may be expected: few, to follow a queue that fills; several, to be no job's luck."""
WINDOW = 14 * 86_400.0
"""Seconds for which a wait counts: queues change, and older waits tell of another queue."""
ENOUGH = 10
"""Waits without which a guess is mixed in."""
GUESSED = (15.0, 60.0, 1800.0)
"""Waits that a queue never seen is taken to have had, in seconds."""
PRIOR = Term(60.0, 1800.0, "no history: a guess")
"""Of a queue never seen. As soon as it is seen to be longer it loses this credit."""
NO_QUEUE = Term(0.0, 0.0, "no queue there")
_NO_CHANCE = 1.25e-4
"""Of so many waits in a row above a bound: three for the 95th percentile, as in QBETS' predecessor (Brevik 2006)."""
_SIZES = ((1, "1 node"), (8, "2 to 8 nodes"), (64, "9 to 64 nodes"))
_LARGER = "more than 64 nodes"


class Job(NamedTuple):
    """One job of ours, as far as its wait goes. Times in µs UTC."""

    lane: str
    nodes: int
    submitted_at: int
    started_at: int | None
    ended_at: int | None = None
    """When it was given up, if it never started. None for both: it still waits."""


# -- quantiles -----------------------------------------------------------------------------------------------------


def expected(waits: Sequence[float], waiting: Sequence[float] = ()) -> float:
    """What may be expected, in seconds: the median of the newest `LAST` waits; 0 where there are none.

    `waits`: seconds, the newest last. `waiting`: seconds that jobs have waited which still do.
    """
    newest = waits[-LAST:]
    if not waiting:
        return median(newest) if newest else 0.0
    return _quantile(newest, waiting, 0.5)


def tail(waits: Sequence[float], waiting: Sequence[float] = (), *, quantile: float = 0.9) -> float:
    """What the next wait exceeds with a probability of about 1 - `quantile`, by the newest `NEWEST`; 0: none known."""
    return _quantile(waits[-NEWEST:], waiting, quantile)


def upper_bound(
    waits: Sequence[float], waiting: Sequence[float] = (), *, quantile: float = 0.95, confidence: float = 0.95
) -> float | None:
    """What the next wait exceeds with a probability of at most 1 - `quantile`; None: too few waits to say that, or too
    many that have not ended. `waits`: seconds, the newest last; `waiting`: of jobs that still wait."""
    newest = waits[-NEWEST:]
    if _has_changed(newest, quantile, confidence):
        newest = newest[-_fewest(quantile, confidence) :]
    count = len(newest) + len(waiting)
    rank = _rank(count, quantile, confidence)
    if rank is None:
        return None
    if not waiting:
        return sorted(newest)[rank - 1]
    return _reached(newest, waiting, rank / count)


def _quantile(waits: Sequence[float], waiting: Sequence[float], part: float) -> float:
    """Where too few have come forward to say, those that wait longest are taken to have waited half of it."""
    if not waiting:
        return sorted(waits)[max(0, ceil(part * len(waits)) - 1)] if waits else 0.0
    found = _reached(waits, waiting, part)
    if found is not None:
        return found
    return max(max(waits, default=0.0), 2 * max(waiting, default=0.0))


def _reached(waits: Sequence[float], waiting: Sequence[float], part: float) -> float | None:
    """The wait by which that part has started (product-limit estimate); None: it is not known yet."""
    events: list[tuple[float, int]] = sorted([*((wait, 0) for wait in waits), *((wait, 1) for wait in waiting)])
    at_risk, still = len(events), 1.0
    for wait, kind in events:  # those that start after so long come before those that still wait
        if not kind:
            still *= 1 - 1 / at_risk
            if 1 - still >= part - 1e-9:
                return wait
        at_risk -= 1
    return None


def _has_changed(newest: Sequence[float], quantile: float, confidence: float) -> bool:
    """Have so many in a row exceeded the bound as is no chance?"""
    run = ceil(log(_NO_CHANCE) / log(1 - quantile) - 1e-3)
    earlier = newest[:-run]
    rank = _rank(len(earlier), quantile, confidence)
    if rank is None or len(newest) <= _fewest(quantile, confidence):
        return False
    bound = sorted(earlier)[rank - 1]
    return min(newest[-run:]) > bound


@lru_cache(maxsize=64)
def _fewest(quantile: float, confidence: float) -> int:
    """Waits without which there is no bound."""
    return next(count for count in range(1, NEWEST + 1) if _rank(count, quantile, confidence) is not None)


@lru_cache(maxsize=4096)
def _rank(count: int, quantile: float, confidence: float) -> int | None:
    """Which of so many waits, from 1 on in order of size, bounds the quantile; None: none does."""
    below = 0.0
    for k in range(count):
        below += _chance(count, k, quantile)
        if below >= confidence:
            return k + 1
    return None


def _chance(count: int, k: int, quantile: float) -> float:
    """P(Bin(count, quantile) = k), by logarithms: factorials of hundreds do not fit."""
    ways = lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1)
    return exp(ways + k * log(quantile) + (count - k) * log(1 - quantile))


# -- a site's queue ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """What is known of one site's queue, by lane and by size of the job."""

    sizes: Mapping[tuple[str, int], Term] = field(default_factory=dict)
    """Where enough is known of jobs of that size."""
    lanes: Mapping[str, Term] = field(default_factory=dict)
    prior: Term = PRIOR
    """Of a lane that was never used."""

    def expect(self, lane: str, nodes: int) -> Term:
        """How long a job of so many nodes will wait in that lane."""
        found = self.sizes.get((lane, size_of(nodes)))
        return found if found is not None else self.lanes.get(lane, self.prior)


UNKNOWN = Queue()


def size_of(nodes: int) -> int:
    """Which of the classes of size that is: schedulers treat jobs of one node and of a hundred as two kinds."""
    return next((i for i, (most, _) in enumerate(_SIZES) if nodes <= most), len(_SIZES))


def learn(jobs: Iterable[Job], *, now: int) -> Queue:
    """A site's queue, from jobs of ours there in any order."""
    since = now - round(WINDOW * 1e6)
    lanes: dict[str, list[Job]] = defaultdict(list)
    sizes: dict[tuple[str, int], list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=_told_at):
        if job.submitted_at >= since:
            lanes[job.lane].append(job)
            sizes[job.lane, size_of(job.nodes)].append(job)
    return Queue(
        sizes={
            key: _term(kept, f"{_size_words(key[1])} in the lane {key[0]}", now)
            for key, kept in sizes.items()
            if len(kept) >= ENOUGH
        },
        lanes={lane: _term(kept, f"the lane {lane}", now) for lane, kept in lanes.items()},
    )


def _told_at(job: Job) -> tuple[int, int]:
    """When its wait was known; what still waits comes last."""
    over = job.started_at if job.started_at is not None else job.ended_at
    return (1 << 62 if over is None else over), job.submitted_at


def _term(jobs: Sequence[Job], whose: str, now: int) -> Term:
    waits = [_seconds(job, job.started_at) for job in jobs if job.started_at is not None]
    waiting = [_seconds(job, now) for job in jobs if job.started_at is None and job.ended_at is None]
    given_up = [_seconds(job, job.ended_at) for job in jobs if job.started_at is None and job.ended_at is not None]
    held = [*waiting, *given_up[-LAST:]]
    known = len(waits) + len(held)
    guess = GUESSED if known < ENOUGH else ()
    p50 = expected([*guess, *waits[-LAST:]] if guess else waits, held)
    p90 = tail([*guess, *waits], held)
    return Term(p50, max(p50, p90), _words(waits, held, whose, guessed=bool(guess)), known)


def _seconds(job: Job, until: int | None) -> float:
    return min(LONGEST, max(0.0, ((until or job.submitted_at) - job.submitted_at) / 1e6))


def _words(waits: Sequence[float], held: Sequence[float], whose: str, *, guessed: bool) -> str:
    count = len(waits) + len(held)
    words = f"{count} {'job' if count == 1 else 'jobs'} of {whose} in {span(WINDOW)}"
    if held:
        words += f", {len(held)} not started"
    bound = upper_bound(waits, held)
    if bound is not None:
        words += f", 95 of 100 within {span(bound)}"
    return f"{words}, and a guess" if guessed else words


def _size_words(size: int) -> str:
    return _SIZES[size][1] if size < len(_SIZES) else _LARGER


__all__ = [
    "ENOUGH",
    "LAST",
    "NEWEST",
    "NO_QUEUE",
    "PRIOR",
    "UNKNOWN",
    "WINDOW",
    "Job",
    "Queue",
    "expected",
    "learn",
    "size_of",
    "tail",
    "upper_bound",
]
