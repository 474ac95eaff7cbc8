"""How many jobs a site may be given: token buckets, in this process or shared by all workers over Redis.

A bucket saves the site's patience, nothing else: should Redis be gone, each worker goes on by a bucket of its own, at
a quarter of the rate, so that four of them together keep within it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

BURST_SECONDS = 10.0
"""A bucket holds what flows in within this time, at least one."""
ALONE = 0.25
"""Part of the rate that a worker takes for itself while there is no shared bucket."""
DARK_FOR = 5.0
"""Seconds for which Redis is not asked again after it failed."""


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


# One step of Redis, by its own clock, so that workers' clocks need not agree. Answers how many, and the wait in ms.
_SCRIPT = """
local rate, most, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local tokens = tonumber(redis.call('HGET', KEYS[1], 'tokens') or most)
local at = tonumber(redis.call('HGET', KEYS[1], 'at') or now)
tokens = math.min(most, tokens + math.max(0, now - at) * rate)
local count = math.min(wanted, math.floor(tokens))
tokens = tokens - count
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1], math.ceil(2000 * most / rate))
return {count, math.ceil(math.max(0, (1 - tokens) / rate) * 1000)}
"""


@dataclass(slots=True)
class SharedLimits:
    """Buckets in Redis; `prefix` is put before every key."""

    client: Redis
    rates: Mapping[str, float]
    prefix: str
    elapsed: Callable[[], float] = time.monotonic
    _own: OwnLimits = field(init=False)
    _dark_until: float = 0.0

    def __post_init__(self) -> None:
        self._own = OwnLimits({site: rate * ALONE for site, rate in self.rates.items()}, elapsed=self.elapsed)

    def take(self, site: str, wanted: int) -> Granted:
        rate = self.rates.get(site, 0.0) / 60
        if rate <= 0:
            return Granted(wanted)
        if self.elapsed() < self._dark_until:
            return self._own.take(site, wanted)
        try:
            script = self.client.register_script(_SCRIPT)
            count, wait = script(keys=[f"{self.prefix}bucket:{site}"], args=[rate, burst(rate), wanted])
        except RedisError as error:
            log.warning("no shared bucket (%s): this worker keeps to a part of each rate", type(error).__name__)
            self._dark_until = self.elapsed() + DARK_FOR
            return self._own.take(site, wanted)
        return Granted(int(count), int(wait) / 1000)
