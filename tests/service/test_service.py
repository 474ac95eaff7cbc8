"""The service form as it is run: workers, serve and beat as processes, PostgreSQL and Redis behind them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_kit import Server
from redis_kit import RedisServer
from service_kit import House, house, until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, postgres: Server, redis: RedisServer) -> Iterator[House]:
    with house(tmp_path / "house", database=postgres.url(postgres.database()), redis=redis.url) as made:
        yield made


def test_two_workers_a_beat_and_a_serve_carry_a_run_to_its_end(home: House) -> None:
    for verb in ("worker", "worker", "beat", "serve"):
        home.start(verb)
    run = home.submit({"a": {"run": "echo 1 > x", "outputs": [{"path": "x"}]}, "b": {"needs": ["a"]}})
    assert home.ended(run) == "SUCCEEDED"
    assert set(home.starts().values()) == {1}
    assert home.wrong() == []


def test_a_worker_shows_that_work_gets_through_to_it(home: House) -> None:
    home.start("worker")
    home.gets_on("worker")


def test_a_worker_that_is_told_to_stop_takes_its_queue_with_it(home: House, redis: RedisServer) -> None:
    worker = home.start("worker", kept=False)
    home.gets_on("worker")
    worker.send(signal.SIGTERM)
    until(lambda: worker.running is not None and worker.running.poll() is not None, "it ends")
    assert worker.running is not None
    assert worker.running.returncode == 0
    assert [key for key in redis.command("KEYS", "*") if "worker." in key] == []
