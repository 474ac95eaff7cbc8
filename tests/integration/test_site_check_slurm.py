"""`crossfade site check` at a real Slurm, by its commands: what is asked, what is submitted, what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from slurm_kit import SlurmCluster

from broker.cli.app import app

SITES = """\
crossfade: 1
sites:
  cluster:
    profile: slurm
    root: {root}
    poll: 200ms
    cores: 32
    lanes: {{normal: {{partition: regular}}}}
    options: {{scheduler: slurm, path: [/usr/sbin], environment: {{SLURM_CONF: {conf}}}, accounting: "off"}}
  here: {{profile: local, root: here}}
"""
WORKFLOW = """\
crossfade: 1
name: two-places
stages:
  first:
    run: cat given.txt >made.txt; echo from here >>made.txt
    files: [given.txt]
    outputs: [{path: made.txt}]
    policy: {sites: {allow: [here]}}
  second:
    run: cat given.txt made.txt >both.txt
    files: [given.txt]
    inputs: [{name: made.txt, from: first}]
    outputs: [{path: both.txt}]
    resources: {walltime: 5m}
    policy: {sites: {allow: [cluster]}}
  third:
    run: wc -l <both.txt >count.txt
    inputs: [{name: both.txt, from: second}]
    outputs: [{path: count.txt}]
    policy: {sites: {allow: [here]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_cluster: SlurmCluster) -> Path:
    (tmp_path / "sites.yaml").write_text(SITES.format(root=tmp_path / "root", conf=slurm_cluster.conf))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    return tmp_path


def answer(*args: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*args, "-o", "json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_real_slurm_is_checked_without_a_job_and_says_how_it_was_proven(
    folder: Path, slurm_cluster: SlurmCluster
) -> None:
    before = len(slurm_cluster.jobs())
    view = answer("site", "check", "cluster")
    steps = {check["step"]: check["ok"] for check in view["checks"]}
    assert view["ok"]
    assert (steps["credentials"], steps["status"], steps["files"], steps["claim"]) == (True, True, True, None)
    assert "real Slurm" in view["proven"]
    assert len(slurm_cluster.jobs()) == before


def test_canaries_race_for_the_claim_on_the_clusters_own_disk_and_one_wins(folder: Path) -> None:
    view = answer("site", "check", "cluster", "--canary", "--timeout", "60s")
    steps = {check["step"]: (check["ok"], check["detail"]) for check in view["checks"]}
    assert view["ok"], view
    assert steps["canary"][0]
    assert steps["claim"][0]
    assert "jobs raced" in steps["claim"][1]
    root = folder / "root"
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    assert [path for path in files if "check" in str(path)] == []


def test_small_data_is_relayed_to_a_site_elsewhere_and_back(folder: Path) -> None:
    (folder / "given.txt").write_text("given\n")
    (folder / "w.yaml").write_text(WORKFLOW)
    view = answer("run", "w.yaml", "--timeout", "90s")
    assert [(stage["state"], stage["site"]) for stage in view["stages"]] == [
        ("SUCCEEDED", "here"),
        ("SUCCEEDED", "cluster"),
        ("SUCCEEDED", "here"),
    ]
    (count,) = folder.glob("here/runs/*/third/a1/count.txt")
    assert count.read_text().strip() == "3"
    assert list(folder.glob("root/relay/*.done"))
    assert list(folder.glob("root/relay/incoming/*")) == []
