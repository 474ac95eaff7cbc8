"""How a service reaches its Redis, by whom it is believed there, and that its passwords stay where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from fault_kit import CHAIN, begun, hints_flow, says, went_well
from postgres_kit import PASSWORD, Server
from redis_kit import Account, RedisServer
from service_kit import House, house

from broker.store.schema import metadata

MakeRedis = Callable[..., RedisServer]
MakeHome = Callable[..., AbstractContextManager[House]]
CANARY = "canary-0815"
REFUSALS = {
    "CROSSFADE_REDIS_PASSWORD_FILE": "no hint can be sent",
    "CROSSFADE_DATABASE_PASSWORD_FILE": "does not let us in",
}
"""What a worker says that has another password."""


@pytest.fixture
def home_at(tmp_path: Path, postgres: Server) -> MakeHome:
    return lambda redis, **environ: house(
        tmp_path / "house", database=postgres.url(postgres.database()), redis=redis, environ=environ
    )


def test_an_account_that_may_do_what_is_needed_and_no_more_is_enough(make_redis: MakeRedis, home_at: MakeHome) -> None:
    redis = make_redis(account=Account())
    with home_at(redis.url) as home:
        processes = [home.start(verb) for verb in ("worker", "serve", "beat")]
        went_well(home, home.submit(CHAIN))
        hints_flow(home)
        assert redis.command("ACL", "LOG") == []
        assert [process.codes for process in processes] == [[], [], []]


def test_work_goes_on_over_tls(make_redis: MakeRedis, home_at: MakeHome) -> None:
    redis = make_redis(tls=True)
    with home_at(redis.url, CROSSFADE_REDIS_CA_FILE=str(redis.ca_certificate)) as home:
        worker = home.start("worker")
        went_well(home, home.submit(CHAIN))
        hints_flow(home)
        assert "no hint can be sent" not in worker.told()


def test_a_server_that_nobody_known_vouches_for_is_told_nothing(make_redis: MakeRedis, home_at: MakeHome) -> None:
    redis = make_redis(tls=True)
    with home_at(redis.url) as home:
        worker = home.start("worker")
        went_well(home, home.submit(CHAIN))
        says(worker, "no hint can be sent")
        assert redis.command("KEYS", "*") == []


def test_work_goes_on_over_a_unix_socket(make_redis: MakeRedis, home_at: MakeHome) -> None:
    redis = make_redis(unix=True)
    with home_at(redis.url) as home:
        worker = home.start("worker")
        went_well(home, home.submit(CHAIN))
        hints_flow(home)
        assert "no hint can be sent" not in worker.told()


@pytest.mark.fault("F10")
@pytest.mark.fault("F17")
def test_no_password_is_seen_anywhere_whatever_happens(tmp_path: Path, postgres: Server, make_redis: MakeRedis) -> None:
    redis = make_redis(account=Account(password=f"{CANARY}@/: #%"))
    database = postgres.database()
    for what in ("TABLES", "SEQUENCES"):
        postgres.run(f"GRANT ALL ON ALL {what} IN SCHEMA public TO locked", database)
    environ = {
        "CROSSFADE_DATABASE_PASSWORD_FILE": secret(tmp_path / "database", PASSWORD),
        "CROSSFADE_REDIS_PASSWORD_FILE": secret(tmp_path / "redis", redis.account.password if redis.account else ""),
    }
    url = f"redis://crossfade@127.0.0.1:{redis.port}/0"
    with house(tmp_path / "house", database=postgres.url(database, user="locked"), redis=url, environ=environ) as home:
        processes = [home.start(verb) for verb in ("worker", "serve", "beat")]
        hints_flow(home)
        runs = [home.submit(CHAIN)]
        begun(home)
        seen = "".join(" ".join(psutil.Process(process.pid).cmdline()) for process in processes)
        redis.command("LPUSH", "crossfade:runs", "{no json")
        redis.kill9()
        postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + database + "'")
        runs.append(home.submit(CHAIN))
        says(processes[0], "no hint can be sent")
        seen += asked(home, "doctor")
        redis.restart()
        went_well(home, *runs)
        hints_flow(home)
        refused = [
            home.start("worker", kept=False, env={name: secret(tmp_path / name, f"{CANARY}-wrong")})
            for name in REFUSALS
        ]
        for worker, told in zip(refused, REFUSALS.values(), strict=True):
            says(worker, told)
        seen += asked(home, "health")
        seen += "".join(process.told() for process in home.processes.values())
        seen += json.dumps(
            [postgres.run(f"SELECT * FROM {table.name}", database) for table in metadata.sorted_tables], default=str
        )
    assert len(seen) > 10_000
    assert CANARY not in seen
    assert PASSWORD not in seen


def secret(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def asked(home: House, *args: str) -> str:
    """What a command says, all of it."""
    done = subprocess.run(
        [sys.executable, "-m", "broker.cli", *args],
        env=home.env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
