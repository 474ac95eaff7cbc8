"""A recorded workflow of every version runs to its end; an ill-formed one is refused with the place of its fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wfformat_kit import DIAMOND, VERSIONS, diamond

ROOT = Path(__file__).parents[2]


def crossfade(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The command in a home below that folder; ended after a minute."""
    env = {**os.environ, "CROSSFADE_HOME": str(folder / "home")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    env.pop("CROSSFADE_SITES", None)
    command = [sys.executable, "-m", "broker.cli", *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_stage_of_every_version_runs_once_and_its_data_arrives(tmp_path, version):
    (tmp_path / "small.json").write_text(json.dumps(diamond(version)))
    ended = crossfade(tmp_path, "run", "small.json", "--bodies", "bytes", "-o", "json")
    assert ended.returncode == 0, ended.stderr
    run = json.loads(ended.stdout)
    assert run["state"] == "SUCCEEDED"
    assert [stage["name"] for stage in run["stages"]] == [node.id for node in DIAMOND]
    assert all([attempt["state"] for attempt in stage["attempts"]] == ["SUCCEEDED"] for stage in run["stages"])
    assert "Left out because no task writes them: 1 file, 1.0 GB in all" in ended.stderr


def test_a_fault_is_told_with_line_and_column_and_nothing_is_stored(tmp_path):
    data = diamond("1.3")
    data["workflow"]["tasks"][3]["parents"] = ["nobody"]
    text = json.dumps(data, indent=1)
    (tmp_path / "bad.json").write_text(text)
    ended = crossfade(tmp_path, "submit", "bad.json")
    line = text[: text.index('"nobody"')].count("\n") + 1
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"bad.json:{line}:6 workflow.tasks[3].parents[0]: no task has the name or the id")
    assert "Traceback" not in ended.stderr
    assert json.loads(crossfade(tmp_path, "history", "-o", "json").stdout) == []


def test_a_version_that_is_not_read_is_refused_by_its_name(tmp_path):
    (tmp_path / "new.json").write_text(json.dumps(diamond("1.6") | {"schemaVersion": "2.0"}))
    ended = crossfade(tmp_path, "validate", "new.json")
    assert ended.returncode == 2
    assert "schemaVersion: this is WfFormat '2.0', which is not read; convert it to one of 1.3, 1.4" in ended.stderr
