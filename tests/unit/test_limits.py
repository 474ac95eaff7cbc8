"""No site is given more jobs than it may be, whoever asks and whatever becomes of Redis."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site
from redis import Redis
from redis_kit import RedisServer

from broker.limits import NO_LIMITS, OwnLimits
from broker.rates import ALONE, SharedLimits


class Watch:
    """A stopwatch that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_what_flows_in_and_a_little_at_first() -> None:
    watch = Watch()
    limits = OwnLimits({"nersc": 60.0}, elapsed=watch)
    assert limits.take("nersc", 100).count == 10
    assert limits.take("nersc", 1).count == 0
    watch.now += 3
    assert limits.take("nersc", 100).count == 3
    watch.now += 3600
    assert limits.take("nersc", 100).count == 10  # it holds no more than ten seconds' worth


def test_whoever_gets_none_is_told_when_to_come_again() -> None:
    watch = Watch()
    limits = OwnLimits({"nersc": 6.0}, elapsed=watch)
    assert limits.take("nersc", 5).count == 1
    refused = limits.take("nersc", 1)
    assert (refused.count, refused.wait) == (0, pytest.approx(10.0))
    watch.now += refused.wait
    assert limits.take("nersc", 1).count == 1


def test_a_site_without_a_rate_takes_any_number() -> None:
    assert OwnLimits({"nersc": 0.0}).take("nersc", 1000).count == 1000
    assert OwnLimits({}).take("alcf", 1000).count == 1000
    assert NO_LIMITS.take("alcf", 1000).count == 1000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def client(redis: RedisServer) -> Iterator[Redis]:
    with redis.client() as made:
        yield made


def shared(client: Redis, rate: float) -> SharedLimits:
    return SharedLimits(client, {"nersc": rate}, "crossfade:")


def test_two_workers_share_one_bucket(client: Redis) -> None:
    one, other = shared(client, 1.0), shared(client, 1.0)  # one a minute: none flows in while this test runs
    assert one.take("nersc", 7).count == 1
    refused = other.take("nersc", 7)
    assert refused.count == 0
    assert 0 < refused.wait <= 60.0


def test_a_bucket_that_nobody_asks_for_goes_away(client: Redis) -> None:
    shared(client, 60.0).take("nersc", 1)
    assert 0 < int(client.execute_command("PTTL", "crossfade:bucket:nersc")) <= 20_000


@pytest.mark.fault("F10")
def test_without_redis_a_worker_keeps_to_a_part_of_the_rate(redis: RedisServer, client: Redis) -> None:
    limits = shared(client, 60.0)
    redis.kill9()
    assert limits.take("nersc", 100).count == int(10 * ALONE)


def test_what_a_site_may_not_be_given_now_is_submitted_later_and_once() -> None:
    lab = Lab(site("nersc", slots=50, submits_per_minute=6.0))
    run = lab.submit(*(Stage(f"s{n}", sim="seconds=1") for n in range(5)))
    assert lab.finish(run, limit=600.0) == "SUCCEEDED"
    accepted = sorted(item.at for item in lab.sites["nersc"].model.journal.accepted)
    assert len(accepted) == 5
    gaps = [(b - a) / 1e6 for a, b in pairwise(accepted)]
    assert min(gaps) >= 9.9
