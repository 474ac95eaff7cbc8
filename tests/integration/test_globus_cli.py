"""Globus' own command line, unmodified and in an environment of its own, against the stand-in on a socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from globus_cli_kit import environment, require_globus_cli
from globus_kit import CLIENT, Globus, id_of, on_a_socket, variables

pytestmark = pytest.mark.long  # an installation, and programs that start slowly


class CommandLine:
    """The program, and the stand-in that it speaks to."""

    def __init__(self, program: Path, globus: Globus, env: dict[str, str]) -> None:
        self.program, self.globus, self.env = program, globus, env

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *words], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def need_data_access() -> bool:
    return False


@pytest.fixture
def cli(tmp_path: Path, need_data_access: bool) -> Iterator[CommandLine]:
    program = require_globus_cli()
    with on_a_socket(tmp_path / "files", need_data_access=need_data_access) as (globus, server):
        env = environment(tmp_path, CLIENT.id, CLIENT.secret, variables(server))
        yield CommandLine(program, globus, env)


def test_a_folder_is_transferred_waited_for_shown_and_listed(cli: CommandLine) -> None:
    a, b = id_of("a"), id_of("b")
    for name in ("one", "two"):
        cli.globus.put("a", f"d/{name}", b"12345")
    submitted = cli.json("transfer", "--recursive", "--label", "by hand", f"{a}:/d", f"{b}:/e")
    task_id = submitted["task_id"]
    assert submitted["code"] == "Accepted"
    waited = cli.run("task", "wait", task_id, "--timeout", "30", "--polling-interval", "1")
    assert waited.returncode == 0, waited.stderr
    shown = cli.run("task", "show", task_id)
    for line in ("Label:                        by hand", "Status:                       SUCCEEDED"):
        assert line in shown.stdout
    [listed] = cli.json("task", "list", "--filter-label", "by*", "--filter-status", "SUCCEEDED")["DATA"]
    assert listed["task_id"] == task_id
    assert cli.json("task", "list", "--filter-not-label", "by*")["DATA"] == []
    events = cli.json("task", "event-list", task_id)
    assert [event["code"] for event in events["DATA"]] == ["SUCCEEDED", "STARTED"]
    assert sorted(cli.run("ls", f"{b}:/e").stdout.split()) == ["one", "two"]
    names = cli.run("ls", "--recursive", f"{b}:/").stdout.split()
    assert sorted(names) == ["e/", "e/one", "e/two"]
    assert cli.run("task", "show", "--successful-transfers", task_id).stdout.count("/d/") == 2


def test_files_are_made_renamed_looked_at_and_deleted(cli: CommandLine) -> None:
    a = id_of("a")
    cli.globus.put("a", "one", b"12345")
    assert cli.run("mkdir", f"{a}:/d").returncode == 0
    assert cli.run("rename", a, "/one", "/d/two").returncode == 0
    assert cli.json("stat", f"{a}:/d/two")["size"] == 5
    deleted = cli.json("delete", "--recursive", f"{a}:/d")
    assert cli.run("task", "wait", deleted["task_id"], "--timeout", "30").returncode == 0
    assert cli.globus.names("a") == []


def test_tasks_are_updated_and_canceled(cli: CommandLine) -> None:
    cli.globus.put("a", "one", b"x" * 1000)
    cli.globus.collections["b"].rate = 1.0
    submitted = cli.json("transfer", f"{id_of('a')}:/one", f"{id_of('b')}:/one")
    task_id = submitted["task_id"]
    assert cli.run("task", "update", task_id, "--label", "slow one").returncode == 0
    assert "slow one" in cli.run("task", "show", task_id).stdout
    assert cli.json("task", "pause-info", task_id)["pause_rules"] == []
    canceled = cli.run("task", "cancel", task_id)
    assert "cancelled successfully" in canceled.stdout, canceled.stderr
    assert cli.json("task", "show", task_id)["status"] == "FAILED"


def test_collections_are_found_and_shown(cli: CommandLine) -> None:
    found = cli.json("endpoint", "search", "b")["DATA"]
    assert [one["display_name"] for one in found] == ["b"]
    # the program knows by its type that this is no endpoint, and which of its verbs would show it
    assert "Globus Connect Server v5 Mapped Collection" in cli.run("endpoint", "show", id_of("b")).stderr
    assert CLIENT.id in cli.run("whoami").stdout


@pytest.mark.parametrize("need_data_access", [True])
def test_a_missing_consent_is_explained_with_the_command_that_gives_it(cli: CommandLine) -> None:
    done = cli.run("ls", f"{id_of('a')}:/")
    assert done.returncode == 4
    assert "globus session consent" in done.stdout
    assert f"https://auth.globus.org/scopes/{id_of('a')}/data_access" in done.stdout


def test_errors_are_told_with_their_code(cli: CommandLine) -> None:
    done = cli.run("ls", f"{id_of('a')}:/absent")
    assert done.returncode != 0
    assert "ClientError.NotFound" in done.stderr
    cli.globus.collections["a"].down = "CONNECT_FAILED"
    assert "ConnectFailed" in cli.run("ls", f"{id_of('a')}:/").stderr
    assert "ClientError.NotFound" in cli.run("task", "show", CLIENT.id).stderr
