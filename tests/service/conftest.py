"""A house over the shared PostgreSQL and a Redis of its own, and by what its tests are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_kit import Server
from redis_kit import RedisServer
from service_kit import House, house


@pytest.fixture
def redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
def home(tmp_path: Path, postgres: Server, redis: RedisServer) -> Iterator[House]:
    with house(tmp_path / "house", database=postgres.url(postgres.database()), redis=redis.url) as made:
        yield made
