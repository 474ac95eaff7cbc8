"""Everything at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_kit import CHAIN, begun, hints_flow, says, went_well
from postgres_kit import Server
from redis_kit import RedisServer
from service_kit import House, house, until

from broker.client import Client
from broker.config import read_settings


@pytest.fixture
def own_home(tmp_path: Path, own_postgres: Server, redis: RedisServer) -> Iterator[House]:
    with house(tmp_path / "h", database=own_postgres.url(own_postgres.database()), redis=redis.url) as made:
        yield made


@pytest.mark.fault("F47")
def test_a_power_cut_loses_no_run_that_was_answered_and_doubles_nothing(
    own_home: House, own_postgres: Server, redis: RedisServer
) -> None:
    """Workers, serve, beat, Redis and PostgreSQL die together; the jobs are elsewhere and go on."""
    home = own_home
    processes = [home.start(verb) for verb in ("serve", "worker", "worker", "beat")]
    says(processes[0], "listening at")
    documents = [home.document(CHAIN) for _ in range(3)]

    def submitted() -> list[str]:
        with Client.of_home(read_settings(home.env)) as client:
            return [client.submit(document, key=document.stem).run for document in documents]

    runs = submitted()
    begun(home, payloads=3)
    for process in processes:
        process.kill9()
    redis.kill9()
    own_postgres.kill9()
    until(lambda: all(process.codes for process in processes), "all have ended")
    own_postgres.start()
    redis.restart()
    until(lambda: processes[0].told().count("listening at") == 2, "somebody answers again")
    assert submitted() == runs
    went_well(home, *runs)
    hints_flow(home)
