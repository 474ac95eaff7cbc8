"""Redis dies, forgets, freezes, fills up, lags and is cut off: work goes on, later at most, and nothing is doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_kit import CHAIN, begun, hints_flow, meanwhile, says, stopwatch, went_well
from postgres_kit import Server
from proxy_kit import Proxy
from redis_kit import RedisServer
from service_kit import House, house

from broker.celery_app import REDIS
from broker.client import Client
from broker.config import read_settings
from broker.store.schema import metadata

DARK = "work goes on by sweeps"
SIGNS_OF_LIFE = {"worker", "site"}
"""Tables that change while nothing happens: who was there when, when to look next."""


@pytest.mark.fault("F10")
def test_redis_that_is_killed_and_comes_back_empty_costs_nothing(home: House, redis: RedisServer) -> None:
    workers = [home.start("worker"), home.start("worker")]
    runs = [home.submit(CHAIN) for _ in range(4)]
    begun(home)
    redis.kill9()
    runs.append(home.submit(CHAIN))
    says(workers[0], DARK)
    redis.restart()
    runs.append(home.submit(CHAIN))
    went_well(home, *runs)
    hints_flow(home)
    assert [worker.codes for worker in workers] == [[], []]


@pytest.mark.fault("F10")
def test_without_any_redis_work_goes_on_by_sweeps(home: House, redis: RedisServer) -> None:
    redis.kill9()
    worker = home.start("worker")
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))
    assert DARK in worker.told()
    assert [json.loads(row.detail)["redis"] for row in home.store.workers()] == ["dark"]
    doctor = subprocess.run(
        [sys.executable, "-m", "broker.cli", "doctor"], env=home.env, capture_output=True, check=False
    )
    assert doctor.returncode == 1
    assert b"redis" in doctor.stderr
    assert worker.codes == []


@pytest.mark.fault("F11")
def test_a_redis_that_is_emptied_ten_times_a_second_costs_time_alone(home: House, redis: RedisServer) -> None:
    home.start("worker")
    home.start("worker")
    runs = [home.submit(CHAIN) for _ in range(4)]
    begun(home)
    with meanwhile(redis.flushall, every=0.1):
        runs.append(home.submit(CHAIN))
        went_well(home, *runs)
    hints_flow(home)


@pytest.mark.fault("F11")
def test_emptying_redis_changes_no_row(tmp_path: Path, postgres: Server, redis: RedisServer) -> None:
    database = postgres.database()

    def rows() -> dict[str, list[tuple[object, ...]]]:
        return {name: sorted(postgres.run(f"SELECT * FROM {name}", database), key=repr) for name in tables}

    tables = {table.name for table in metadata.sorted_tables} - SIGNS_OF_LIFE

    with house(tmp_path / "house", database=postgres.url(database), redis=redis.url) as home:
        home.start("worker")
        went_well(home, home.submit(CHAIN))
        home.quiet()
        before = rows()
        for _ in range(3):
            redis.flushall()
            hints_flow(home)
        assert rows() == before


@pytest.mark.fault("F12")
def test_while_redis_is_frozen_requests_are_answered_at_once_and_work_goes_on(home: House, redis: RedisServer) -> None:
    serve, worker = home.start("serve"), home.start("worker")
    says(serve, "listening at")
    hints_flow(home)
    redis.freeze()
    try:
        took = stopwatch()
        with Client.of_home(read_settings(home.env)) as client:
            runs = [client.submit(home.document(CHAIN), key=f"night-{n}").run for n in range(8)]
        assert took() < 8 * REDIS["socket_timeout"] / 2  # none of them waited for a hint to be sent
        went_well(home, *runs)
    finally:
        redis.thaw()
    assert DARK in worker.told()
    hints_flow(home)
    assert worker.codes == serve.codes == []


@pytest.mark.slow
@pytest.mark.fault("F12")
def test_a_minute_of_frozen_redis_ends_no_process_and_loses_nothing(home: House, redis: RedisServer) -> None:
    processes = [home.start("worker"), home.start("worker"), home.start("beat")]
    hints_flow(home)
    redis.freeze()
    frozen, runs = stopwatch(), []
    try:
        while frozen() < 60:
            runs.append(home.submit(CHAIN))
            assert home.ended(runs[-1]) == "SUCCEEDED"
    finally:
        redis.thaw()
    went_well(home, *runs)
    hints_flow(home)
    assert [process.codes for process in processes] == [[], [], []]


@pytest.mark.fault("F13")
def test_a_redis_without_memory_costs_time_alone(home: House, redis: RedisServer) -> None:
    worker = home.start("worker")
    hints_flow(home)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))
    says(worker, DARK)
    redis.command("CONFIG", "SET", "maxmemory", "0")
    hints_flow(home)
    assert worker.codes == []


@pytest.mark.fault("F13")
def test_a_redis_that_may_only_be_read_costs_time_alone(
    home: House, redis: RedisServer, make_redis: Callable[..., RedisServer]
) -> None:
    other = make_redis()
    worker = home.start("worker")
    hints_flow(home)
    redis.command("REPLICAOF", "127.0.0.1", other.port)
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))
    says(worker, DARK)
    redis.promote()
    hints_flow(home)
    assert worker.codes == []


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", redis.port) as made:
        yield made


@pytest.fixture
def behind(tmp_path: Path, postgres: Server, proxy: Proxy) -> Iterator[House]:
    """A house that reaches Redis through the proxy alone."""
    url = f"redis://127.0.0.1:{proxy.port}/0"
    with house(tmp_path / "house", database=postgres.url(postgres.database()), redis=url) as made:
        yield made


@pytest.mark.fault("F14")
def test_a_failover_to_a_replica_that_lags_doubles_nothing(
    behind: House, proxy: Proxy, redis: RedisServer, make_redis: Callable[..., RedisServer]
) -> None:
    """The replica holds hints that have been taken in long ago, and lacks the newest."""
    replica = make_redis(replicaof=redis)
    runs = [behind.submit(CHAIN) for _ in range(3)]
    behind.start("worker")
    begun(behind)
    replica.in_sync()
    replica.promote()  # from here on it misses what happens
    begun(behind, payloads=5)
    redis.kill9()
    proxy.target = ("127.0.0.1", replica.port)
    proxy.cut()
    runs.append(behind.submit(CHAIN))
    went_well(behind, *runs)
    hints_flow(behind)


@pytest.mark.fault("F15")
def test_connections_to_redis_that_swallow_everything_are_given_up_and_made_anew(behind: House, proxy: Proxy) -> None:
    workers = [behind.start("worker"), behind.start("worker")]
    hints_flow(behind)
    proxy.black_hole()
    runs = [behind.submit(CHAIN), behind.submit(CHAIN)]
    went_well(behind, *runs)
    says(workers[0], DARK)
    proxy.heal()
    hints_flow(behind)
    assert [worker.codes for worker in workers] == [[], []]


@pytest.mark.fault("F15")
def test_replies_of_redis_that_get_lost_double_nothing(behind: House, proxy: Proxy) -> None:
    behind.start("worker")
    hints_flow(behind)
    proxy.drop_replies()
    runs = [behind.submit(CHAIN), behind.submit(CHAIN)]
    begun(behind)
    proxy.heal()
    went_well(behind, *runs)
    hints_flow(behind)
