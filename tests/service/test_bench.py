"""The service's benchmark and its peers do what they say, on small graphs; nothing is timed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import postgres_kit
import pytest
import tool_kit
from postgres_kit import Server
from redis_kit import RedisServer

from broker.cli.bench.crew import Events
from broker.cli.bench.machine import tree_seconds

ROOT = Path(__file__).parents[2]


def bench(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker.cli", "bench", "--n", "20", "--runs", "1", "--json", *words]
    environ = {**os.environ, "CROSSFADE_HOME": str(home)}
    return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_a_service_is_measured_and_every_run_is_audited(tmp_path: Path, postgres: Server, redis: RedisServer) -> None:
    database = postgres.url(postgres.empty())
    words = ("--service", "--database", database, "--redis", redis.url, "--submissions", "2")
    done = bench(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["throughput"]["n"] == 20
    assert found["throughput"]["valid"]
    assert found["first"]["submissions"] == 2


def test_a_database_in_use_is_not_measured(tmp_path: Path, postgres: Server, redis: RedisServer) -> None:
    database = postgres.url(postgres.empty())
    environ = {**os.environ, "CROSSFADE_HOME": str(tmp_path / "home"), "CROSSFADE_SITES": str(tmp_path / "sites.yaml")}
    environ |= {"CROSSFADE_DATABASE": database, "CROSSFADE_REDIS": redis.url}
    (tmp_path / "sites.yaml").write_text("crossfade: 1\nsites: {here: {profile: simulated, root: /there}}\n")
    document = tmp_path / "theirs.yaml"
    document.write_text("crossfade: 1\nname: theirs\nstages: {a: {run: 'true'}}\n")
    command = [sys.executable, "-m", "broker.cli"]
    subprocess.run([*command, "db", "upgrade"], env=environ, check=True, timeout=60)
    subprocess.run([*command, "submit", str(document)], env=environ, check=True, timeout=60)
    done = bench(tmp_path, "--service", "--database", database, "--redis", redis.url)
    assert done.returncode == 2
    assert "none of the benchmark's" in done.stderr


def test_a_service_needs_to_know_its_servers(tmp_path: Path) -> None:
    done = bench(tmp_path, "--service")
    assert done.returncode == 2
    assert "--database" in done.stderr


@pytest.mark.parametrize("form", ["raw", "lean", "canvas"])
def test_each_peer_runs_every_stage(form: str) -> None:
    tool_kit.require_tool("redis-server")
    command = [sys.executable, str(ROOT / "benchmarks" / "peers" / "run.py")]
    words = ["--n", "20", "--runs", "1", "--forms", form, "--json"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["n"], found["valid"]) == (20, True)


@pytest.mark.slow
def test_all_are_killed_and_started_again_and_nothing_is_lost() -> None:
    tool_kit.require_tool("redis-server")
    postgres_kit.binary("postgres")
    words = ["--n", "200", "--runs", "0", "--submissions", "0", "--large", "120", "--restarts", "1", "--json"]
    command = [sys.executable, str(ROOT / "benchmarks" / "service.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["growth"]["n_large"], found["growth"]["valid"]) == (120, True)
    for (told,) in (found["restart"], found["restart of workers"]):
        assert (told["missing"], told["same_attempt_twice"], told["violations"]) == (0, 0, 0)


def test_what_the_site_saw_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"0 1 bench 5.000000 r1\n1 1 bench 6.0")
    events = Events(path)
    assert [event.number for event in events.of("r1")] == [0]
    with path.open("ab") as file:
        file.write(b"00000 r1\n7 2 bench 7.000000 r2\n")
    assert [event.at for event in events.of("r1")] == [5.0, 6.0]
    assert [(event.number, event.attempt) for event in events.of("r2")] == [(7, 2)]


def test_a_tree_of_processes_uses_what_its_children_use() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    before = tree_seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", burn], check=True, timeout=60)
    assert tree_seconds([os.getpid()]) - before >= 0.25
