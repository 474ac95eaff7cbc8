"""A process that is started while a server is down says what to do, and ends or goes on as the manual says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from postgres_kit import PASSWORD, Server
from redis_kit import RedisServer, free_port
from service_kit import House, until

from broker.clock import wall_clock
from broker.heart import FRESH


def ends(home: House, *words: str, **env: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "broker.cli", *words]
    done = subprocess.run(argv, env={**home.env, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    assert PASSWORD not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("verb", ["worker", "beat", "serve"])
def test_without_postgresql_a_process_says_so_and_ends_for_its_supervisor_to_start_it_again(
    home: House, verb: str
) -> None:
    where = f"postgresql://u@127.0.0.1:{free_port()}/d"
    code, said = ends(home, verb, CROSSFADE_DATABASE=where)
    assert code == 1
    assert said.startswith(f"crossfade: cannot use {where}: the database's server does not answer")
    assert "help: check CROSSFADE_DATABASE, and whether the server runs" in said


def test_a_wrong_password_is_told_without_it(home: House, tmp_path: Path, postgres: Server) -> None:
    file = tmp_path / "password"
    file.write_text(f"not-{PASSWORD[:4]}\n")
    file.chmod(0o600)
    postgres.database()
    where = f"postgresql://locked@127.0.0.1:{postgres.port}/postgres"
    code, said = ends(home, "worker", CROSSFADE_DATABASE=where, CROSSFADE_DATABASE_PASSWORD_FILE=str(file))
    assert code == 1
    assert "password authentication failed" in said
    assert "check user, password and database" in said
    assert f"not-{PASSWORD[:4]}" not in said


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"CROSSFADE_DATABASE_PASSWORD_FILE": "/nothing/there"}, "cannot read /nothing/there"),
        ({"CROSSFADE_DATABASE": "postgresql://h/d?pool_size=lots"}, "pool_size is no number of connections"),
        ({"CROSSFADE_REDIS": "redis://h/abc"}, "CROSSFADE_REDIS ends with no number of a database"),
        ({"CROSSFADE_REDIS": "rediss://h/0", "CROSSFADE_REDIS_CA_FILE": "/no/ca"}, "cannot read /no/ca"),
        ({"CROSSFADE_REDIS_CA_FILE": os.devnull}, "begins with redis"),
        ({"CROSSFADE_REDIS": ""}, "CROSSFADE_REDIS is not"),
    ],
)
def test_what_is_wrong_with_a_setting_is_told_with_its_cure(home: House, env: dict[str, str], words: str) -> None:
    code, said = ends(home, "worker", **env)
    assert code == 2
    assert words in said
    assert "help: " in said


def test_a_home_that_cannot_be_made_is_told_as_such(home: House) -> None:
    code, said = ends(home, "worker", CROSSFADE_HOME="/proc/nothing")
    assert code == 1
    assert said.startswith("crossfade: cannot use /proc/nothing: ")


def test_without_redis_a_worker_works_and_counts_as_getting_on(home: House, redis: RedisServer) -> None:
    redis.kill9()
    worker = home.start("worker")
    assert home.ended(home.submit({"a": {}})) == "SUCCEEDED"
    home.gets_on("worker")
    long_ago = wall_clock()
    until(lambda: any((row.progress_at or 0) > long_ago for row in home.store.workers()), "it gives signs of work")
    assert worker.codes == []
    assert FRESH < 60  # what the runbook says of it


def test_without_redis_a_beat_tells_once_and_ticks_when_it_is_back(home: House, redis: RedisServer) -> None:
    beat = home.start("beat", "--every", "0.3")
    home.gets_on("beat")
    redis.kill9()
    until(lambda: "no tick can be sent" in beat.told(), "it tells")
    redis.restart()
    until(lambda: "ticks can be sent again" in beat.told(), "it ticks again")
    assert "Traceback" not in beat.told()
    assert beat.told().count("no tick can be sent") == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("CONFIG", "SET", "maxmemory", "1kb"), "OutOfMemoryError"),
        (("REPLICAOF", "127.0.0.1", "1"), "ReadOnlyError"),
    ],
)
def test_doctor_finds_a_redis_that_lets_it_in_and_takes_nothing(
    home: House, redis: RedisServer, how: tuple[str, ...], words: str
) -> None:
    argv = [sys.executable, "-m", "broker.cli", "doctor"]
    redis.command(*how)
    done = subprocess.run(argv, env=home.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr
