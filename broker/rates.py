"""Token buckets that all workers share, over Redis.

A bucket saves the site's patience, nothing else: should Redis be gone, each worker goes on by a bucket of its own, at
a quarter of the rate, so that four of them together keep within it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import RedisError

from broker.limits import Granted, OwnLimits, burst

log = logging.getLogger(__name__)

ALONE = 0.25
"""Part of the rate that a worker takes for itself while there is no shared bucket."""
DARK_FOR = 5.0
"""Seconds for which Redis is not asked again after it failed."""

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
