"""An upper bound on a wait, from waits that are known: the binomial method of QBETS (Nurmi, Brevik, Wolski 2007).

Of n past waits taken as draws from one distribution, the k-th smallest is at least its q-quantile with probability
P(Bin(n, q) < k). So the smallest k for which that is at least the confidence gives a bound on the quantile, whatever
the distribution is. Only the newest waits are looked at: queues change, and old waits tell of another queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, lgamma, log

NEWEST = 400
"""Waits that a bound is made of."""


def upper_bound(waits: Sequence[float], *, quantile: float = 0.95, confidence: float = 0.95) -> float | None:
    """What the next wait exceeds with a probability of at most 1 - `quantile`; None: too few waits to say that.

    `waits`: seconds, the newest last.
    """
    newest = waits[-NEWEST:]
    rank = _rank(len(newest), quantile, confidence)
    return None if rank is None else sorted(newest)[rank - 1]


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
