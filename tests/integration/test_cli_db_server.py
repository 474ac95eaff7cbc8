"""`db check|backup|restore` of a service, whose truth is PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from postgres_kit import PASSWORD, Server

from broker.cli.app import app
from broker.clock import wall_clock
from broker.store.base import WorkerRow
from broker.store.sql import SqlStore

HELLO = Path(__file__).parents[2] / "examples" / "hello" / "workflow.yaml"


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str, code: int = 0) -> Any:
    return json.loads(xf(*args, "-o", "json", code=code).stdout)


@pytest.fixture(autouse=True)
def url(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    made = postgres.url(postgres.empty())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CROSSFADE_DATABASE", made)
    monkeypatch.setenv("CROSSFADE_REDIS", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    return made


def beating(url: str, *, ago: float) -> None:
    store = SqlStore(url, clock=wall_clock)
    store.heartbeat(WorkerRow("7@afar:b:1", "worker", "afar", "[]", 1, store.now() - round(ago * 1e6), None, "{}"))
    store.close()


def test_a_service_is_backed_up_restored_and_checked(url: str) -> None:
    run = answer("submit", str(HELLO))["run"]
    made = answer("db", "backup", "b.db")
    assert made["counts"]["run"] == 1
    answer("submit", str(HELLO))
    assert "holds runs" in xf("db", "restore", "b.db", code=2).stderr
    assert answer("db", "restore", "b.db", "--replace", "-y")["incarnation"] == 1
    assert [line["run"] for line in answer("history")] == [run]
    assert answer("db", "check")["runs"] == 1


def test_it_is_not_restored_while_a_worker_beats(url: str) -> None:
    answer("submit", str(HELLO))
    xf("db", "backup", "b.db")
    beating(url, ago=30)
    assert "7@afar:b:1 serves" in xf("db", "restore", "b.db", "--replace", "-y", code=4).stderr
    beating(url, ago=90)
    xf("db", "restore", "b.db", "--replace", "-y")


def test_a_home_moves_to_a_server_by_backup_and_restore(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("CROSSFADE_DATABASE")
    monkeypatch.delenv("CROSSFADE_REDIS")
    run = answer("submit", str(HELLO))["run"]
    xf("db", "backup", "b.db")
    monkeypatch.setenv("CROSSFADE_DATABASE", url)
    monkeypatch.setenv("CROSSFADE_REDIS", "redis://127.0.0.1:1/0")
    xf("db", "restore", "b.db")
    assert [line["run"] for line in answer("history")] == [run]


def test_the_password_of_the_server_is_seen_nowhere(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    xf("submit", str(HELLO))
    xf("db", "backup", "b.db")
    host = url.rpartition("@")[2]
    monkeypatch.setenv("CROSSFADE_DATABASE", f"postgresql://locked:wrong-{PASSWORD}@{host}")
    for args in (["db", "backup", "c.db"], ["db", "restore", "b.db", "--replace", "-y"], ["db", "upgrade"]):
        done = CliRunner().invoke(app, args)
        assert done.exit_code != 0
        assert PASSWORD not in done.output
        assert PASSWORD not in repr(done.exception)
