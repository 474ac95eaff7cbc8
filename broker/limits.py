"""How many jobs a site may be given: token buckets of this process. `broker.rates` has those that workers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

BURST_SECONDS = 10.0
"""A bucket holds what flows in within this time, at least one."""


@dataclass(frozen=True, slots=True)
class Granted:
    """How many may go now, and in how many seconds one more may."""

    count: int
    wait: float = 0.0


class Limits(Protocol):
    """Asked before jobs are given to a site."""

    def take(self, site: str, wanted: int) -> Granted: ...


class NoLimits:
    """Sites that may be given any number."""

    def take(self, site: str, wanted: int) -> Granted:  # noqa: ARG002 - the port's words
        return Granted(wanted)


NO_LIMITS = NoLimits()


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class OwnLimits:
    """Buckets of this process. `rates`: jobs per minute, by site; 0 or not named: no limit."""

    def __init__(self, rates: Mapping[str, float], *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._rates = {site: rate / 60 for site, rate in rates.items() if rate > 0}
        self._elapsed, self._guard = elapsed, threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def take(self, site: str, wanted: int) -> Granted:
        rate = self._rates.get(site)
        if rate is None:
            return Granted(wanted)
        with self._guard:
            now, most = self._elapsed(), burst(rate)
            bucket = self._buckets.setdefault(site, _Bucket(most, now))
            bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * rate)
            bucket.at = now
            count = min(wanted, int(bucket.tokens))
            bucket.tokens -= count
            return Granted(count, max(0.0, (1 - bucket.tokens) / rate))


def burst(rate: float) -> float:
    """What a bucket holds at that rate per second."""
    return max(1.0, rate * BURST_SECONDS)
