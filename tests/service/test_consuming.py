"""Celery's worker beside a Redis that holds what no queue should."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis_kit import RedisServer
from service_kit import until

from broker.addresses import Address
from broker.celery_app import make_app
from broker.consuming import Consumer
from broker.tasks import RUNS, Wakeups, register


class Taker:
    """Notes what was taken in."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.came = threading.Event()

    def runs_woken(self, run_ids: Sequence[str]) -> None:
        self.runs += run_ids

    def site_woken(self, site: str) -> None: ...
    def site_acts(self, site: str) -> None: ...
    def movers_turn(self) -> None: ...
    def sweep(self) -> None: ...
    def came_back(self, sent: str) -> None:
        self.came.set()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def consuming(redis: RedisServer) -> Iterator[tuple[Taker, Wakeups, Consumer]]:
    app, taker = make_app(Address(redis.url)), Taker()
    wakeups = register(app, taker)
    consumer = Consumer(app, [RUNS])
    consumer.start()
    yield taker, wakeups, consumer
    consumer.stop()


@pytest.mark.fault("F17")
def test_a_key_that_holds_no_queue_is_taken_away_and_hints_flow_again(
    redis: RedisServer, consuming: tuple[Taker, Wakeups, Consumer]
) -> None:
    taker, wakeups, _ = consuming
    redis.command("DEL", "crossfade:runs")
    redis.command("SET", "crossfade:runs", "no list")
    until(lambda: redis.command("TYPE", "crossfade:runs") != "string", "the key goes")
    wakeups.look_at_runs(["a"])
    until(lambda: taker.runs == ["a"], "the hint is taken in")


@pytest.mark.fault("F17")
def test_what_is_no_message_at_all_is_dropped_and_ends_no_worker(
    redis: RedisServer, consuming: tuple[Taker, Wakeups, Consumer]
) -> None:
    taker, wakeups, consumer = consuming
    redis.command("LPUSH", "crossfade:runs", "{no json")
    wakeups.look_at_runs(["b"])
    until(lambda: taker.runs == ["b"], "the hint is taken in")
    assert consumer.restarts == 0
