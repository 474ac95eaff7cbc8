"""Runs on real Slurm clusters: one is lost for good and its run ends elsewhere, once; a preempted job goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from slurm_kit import SlurmCluster, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0

SITES = """
crossfade: 1
sites:
"""
SITE = """
  {name}:
    profile: slurm
    root: {folder}/sites/{name}
    slots: 4
    cores: 2
    nodes: 2
    poll: 300ms
    settle: 5s
    heartbeat: 1s
    fence: 4s
    unreachable: {{probes: 2, seconds: 2}}
    limits: {{submits_per_minute: 0}}
    options: {{environment: {{SLURM_CONF: {conf}}}, path: [/usr/sbin, /sbin]}}
"""
# the cluster that lost its controller goes on with its job: only the other one is ever let go
WORKFLOW = """
crossfade: 1
name: two
policy: {{failover: {{after: 2s, max: 2, old_copy: leave}}}}
stages:
  first:
    run: echo one > one.txt
    outputs: [{{path: one.txt, required: true}}]
  long:
    inputs: [{{name: one.txt, from: first}}]
    run: |
      echo $SLURM_JOB_ID >> {folder}/ran-$SLURM_CLUSTER_NAME
      while [ ! -e {folder}/go-$SLURM_CLUSTER_NAME ]; do sleep 0.2; done
      {{ cat one.txt; echo $SLURM_CLUSTER_NAME; }} > two.txt
    outputs: [{{path: two.txt, required: true}}]
  last:
    inputs: [{{name: two.txt, from: long}}]
    run: cat two.txt > three.txt
    outputs: [{{path: three.txt, required: true}}]
"""


PREEMPTED = """
crossfade: 1
name: cheap
stages:
  count:
    checkpoint: {{keep: 2}}
    run: |
      i=0
      [ -z "${{CROSSFADE_RESTORE_DIR:-}}" ] || i=$(cat "$CROSSFADE_RESTORE_DIR/state")
      while [ "$i" -lt {steps} ]; do
        i=$((i + 1))
        echo "$SLURM_JOB_ID $i" >> {folder}/steps
        echo "$i" > state
        crossfade-checkpoint --seq "$i" state
        while [ "$i" = 5 ] && [ ! -e {folder}/go ]; do sleep 0.1; done
      done
      cp state total.txt
    outputs: [{{path: total.txt, required: true}}]
"""


def crossfade(folder: Path, *words: str, log: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    env = {**os.environ, "CROSSFADE_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "broker.cli", *words],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip


def told(folder: Path, *words: str) -> Any:
    with crossfade(folder, *words, "-o", "json") as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out.decode()
    return json.loads(out)


@pytest.mark.fault("F43")
def test_a_run_survives_the_loss_of_one_controller_and_ends_once(make_slurm: Any, tmp_path: Path) -> None:
    clusters: dict[str, SlurmCluster] = {name: make_slurm(name, cpus=2) for name in ("east", "west")}
    entries = "".join(SITE.format(name=n, folder=tmp_path, conf=c.conf) for n, c in clusters.items())
    (tmp_path / "sites.yaml").write_text(SITES + entries)
    (tmp_path / "w.yaml").write_text(WORKFLOW.format(folder=tmp_path))
    log = tmp_path / "log"
    with log.open("wb") as out, crossfade(tmp_path, "run", "w.yaml", log=out) as running:
        try:
            ran = {name: tmp_path / f"ran-{name}" for name in clusters}
            wait_until(lambda: any(it.exists() for it in ran.values()), within=PATIENCE, what=f"it runs, see {log}")
            lost = next(name for name, it in ran.items() if it.exists())
            other = next(name for name in clusters if name != lost)
            clusters[lost].kill_controller()  # and nobody brings it back
            wait_until(ran[other].exists, within=PATIENCE, what=f"it runs at {other}, see {log}")
            (tmp_path / f"go-{other}").touch()
            begun = time.monotonic()
            running.wait(PATIENCE)
        finally:
            running.kill()
    assert running.returncode == 0, log.read_text()
    assert time.monotonic() - begun < PATIENCE
    view = told(tmp_path, "status", "two")
    stages = {stage["name"]: stage for stage in view["stages"]}
    assert view["state"] == "SUCCEEDED"
    assert [(it["site"], it["state"]) for it in stages["long"]["attempts"]][-1] == (other, "SUCCEEDED")
    assert stages["long"]["attempts"][0]["site"] == lost
    assert stages["last"]["site"] == other
    # one result, made by one execution; each site began what it was given once
    assert sum(it["state"] == "SUCCEEDED" for it in stages["long"]["attempts"]) == 1
    assert {name: len(it.read_text().splitlines()) for name, it in ran.items()} == {lost: 1, other: 1}
    with crossfade(tmp_path, "get", "two", "products") as fetched:
        assert fetched.wait(PATIENCE) == 0
    assert (tmp_path / "products" / "last" / "three.txt").read_text() == f"one\n{other}\n"
    assert told(tmp_path, "db", "check")["violations"] == []


@pytest.mark.fault("F38")
def test_a_preempted_job_goes_on_from_its_newest_checkpoint(make_slurm: Any, tmp_path: Path) -> None:
    cluster: SlurmCluster = make_slurm("cheap", nodes=1, cpus=1)
    lanes = "    lanes: {normal: {partition: preempt}}\n"
    entry = SITE.format(name="cheap", folder=tmp_path, conf=cluster.conf) + lanes
    (tmp_path / "sites.yaml").write_text(SITES + entry.replace("cores: 2", "cores: 1").replace("nodes: 2", "nodes: 1"))
    (tmp_path / "w.yaml").write_text(PREEMPTED.format(folder=tmp_path, steps=8))
    steps, log = tmp_path / "steps", tmp_path / "log"

    def done() -> list[list[str]]:
        return [line.split() for line in steps.read_text().splitlines()] if steps.exists() else []

    with log.open("wb") as out, crossfade(tmp_path, "run", "w.yaml", log=out) as running:
        try:
            wait_until(lambda: len(done()) == 5, within=PATIENCE, what=f"five steps are done, see {log}")
            cluster.run("sbatch", "-p", "realtime", "--job-name=urgent", "--output=/dev/null", stdin="#!/bin/sh\n:\n")
            wait_until(
                lambda: cluster.job("urgent")["job_state"] == "COMPLETED", within=PATIENCE, what="the urgent one"
            )
            (tmp_path / "go").touch()
            running.wait(PATIENCE)
        finally:
            running.kill()
    assert running.returncode == 0, log.read_text()
    # Slurm asks with TERM, and puts the job back in its queue; the broker need not wait for that
    assert [step for _, step in done()] == [str(i) for i in range(1, 9)]
    (stage,) = told(tmp_path, "status", "cheap")["stages"]
    ends = [(attempt["state"], attempt["from_checkpoint"]) for attempt in stage["attempts"]]
    assert ends == [("PREEMPTED", None), ("SUCCEEDED", 5)]
    # the one in the queue finds the attempt ended, and does nothing
    cluster.run("scontrol", "update", f"jobid={done()[0][0]}", "starttime=now", check=False)
    wait_until(lambda: not cluster.run("squeue", "-h").strip(), within=PATIENCE, what="the queue is empty")
    assert len(done()) == 8
