"""Transfers that this broker asked for, listed and waited for by Globus' own command line in the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from globus_cli_kit import environment, require_globus_cli

from sandbox.up import Sandbox, SandboxSettings

pytestmark = pytest.mark.long

WORKFLOW = """
crossfade: 1
name: across
stages:
  make:
    policy: {sites: {allow: [nersc]}}
    run: |
      head -c 300000 /dev/zero > large.bin
      echo hello > small.txt
    outputs: [{path: large.bin}, {path: small.txt}]
  use:
    policy: {sites: {allow: [alcf]}}
    inputs: [{name: large.bin, from: make}, {name: small.txt, from: make}]
    run: cat small.txt > seen.txt; wc -c < large.bin >> seen.txt
    outputs: [{path: seen.txt}]
"""


def crossfade(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "broker.cli", "--sites", str(home / "sites.yaml"), *words],
        env={**os.environ, "CROSSFADE_HOME": str(home / "home")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_globus_own_command_line_lists_and_waits_for_what_the_broker_moves(tmp_path: Path) -> None:
    program = require_globus_cli()
    settings = SandboxSettings(state=tmp_path / "state", path=os.environ["PATH"], facilities=("nersc", "alcf"))
    with Sandbox(settings) as sandbox:
        (tmp_path / "sites.yaml").write_text(sandbox.text())
        (tmp_path / "wf.yaml").write_text(WORKFLOW)
        run = json.loads(crossfade(tmp_path, "run", "wf.yaml", "-o", "json"))
        assert run["state"] == "SUCCEEDED"
        (ours,) = json.loads(crossfade(tmp_path, "transfer", "ls", "-o", "json"))["transfers"]
        client = {
            name: (tmp_path / "state" / "credentials" / f"globus.{name}").read_text().strip()
            for name in ("client", "secret")
        }
        address = sandbox.addresses["globus globus"]
        urls = {"GLOBUS_SDK_SERVICE_URL_TRANSFER": address, "GLOBUS_SDK_SERVICE_URL_AUTH": address}
        env = environment(tmp_path, client["client"], client["secret"], urls)

        def globus(*words: str) -> Any:
            done = subprocess.run(
                [str(program), *words, "--format", "json"],
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            return json.loads(done.stdout)

        listed = globus("task", "list", "--filter-type", "TRANSFER")["DATA"]
        assert [task["task_id"] for task in listed] == [ours["native_id"]]
        assert ours["transfer"] in listed[0]["label"]
        assert f"{run['run']}/use@1" in listed[0]["label"]
        assert globus("task", "wait", ours["native_id"], "--timeout", "30")["status"] == "SUCCEEDED"
        arrived = globus("task", "show", "--successful-transfers", ours["native_id"])["DATA"]
        assert sorted(Path(item["destination_path"]).name for item in arrived) == ["large.bin", "small.txt"]
        assert sandbox.globus is not None
        assert sandbox.globus.service.counted["transfers"] == 1
