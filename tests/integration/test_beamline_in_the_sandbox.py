"""A tomography beamline in the sandbox: raw data copied, reconstructed where mounted, delivered, kept for a while.

What design documents ask of such a workflow, apart from its triggers, notices and containers.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.up import Sandbox, SandboxSettings
from sandbox.up.globus import collection_id

pytestmark = pytest.mark.long

WORKFLOW = """
crossfade: 1
name: tomo
contact: staff@example.org
params:
  folder: {required: true, pattern: '[A-Za-z0-9._-]+'}
  scan: {required: true, pattern: '[0-9]{8}_[0-9]{6}_[a-z]+'}
  export_control: {type: bool, default: false}
key: "${{ params.folder }}/${{ params.scan }}"
policy:
  sites: {allow: [nersc, alcf], prefer: [nersc]}
  data: {export_control: "${{ params.export_control }}"}
stages:
  raw_to_data:
    copy:
      - from: "spot832:raw/${{ params.folder }}/${{ params.scan }}.h5"
        to: "data832:raw/${{ params.folder }}/${{ params.scan }}.h5"
        keep: {spot832: 7d, if_verified_at: [data832]}
  raw_to_cfs:
    needs: [raw_to_data]
    copy:
      - from: "data832:raw/${{ params.folder }}/${{ params.scan }}.h5"
        to: "cfs:raw/${{ params.folder }}/${{ params.scan }}.h5"
        keep: {data832: 30d, if_verified_at: [cfs]}
  recon:
    needs: [raw_to_cfs]
    inputs:
      - name: raw.h5
        from:
          - "cfs:raw/${{ params.folder }}/${{ params.scan }}.h5"
          - "data832:raw/${{ params.folder }}/${{ params.scan }}.h5"
    run: |
      mkdir rec
      sha256sum < raw.h5 > rec/sum
      wc -c < raw.h5 > rec/size
      test -L raw.h5 && touch rec/read_in_place || touch rec/brought
    outputs:
      - path: rec/
        required: true
        deliver: later
        to:
          - "cfs:scratch/${{ params.folder }}/rec${{ params.scan }}/"
          - "data832:scratch/${{ params.folder }}/rec${{ params.scan }}/"
        keep: {data832: 14d, attempt: 1d, if_verified_at: [cfs]}
  multires:
    near: recon
    inputs: [{name: rec/, from: recon}]
    run: mkdir rec.zarr; cat rec/sum > rec.zarr/0; cat rec/size > rec.zarr/1
    outputs:
      - {path: rec.zarr/, required: true, to: ["cfs:scratch/${{ params.folder }}/rec${{ params.scan }}.zarr/"]}
"""
SCAN = "20260202_101500_wood"
RAW = bytes(range(256)) * 4000


class Beamline:
    """The sandbox with places on its collections, and a command line in it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        state = folder / "state"
        self.spot, self.data = state / "beamline" / "spot", state / "beamline" / "data"
        self.cfs = Path(sandbox.facilities["nersc"].files.root) / "cfs"
        for place in (self.spot, self.data, self.cfs):
            place.mkdir(parents=True)
        document: dict[str, Any] = json.loads(sandbox.text())
        document["places"] = {
            "spot832": {"collection": collection_id("beamline"), "path": "/spot", "prune": True},
            "data832": {"collection": collection_id("beamline"), "path": "/data", "prune": True},
            "cfs": {"collection": collection_id("nersc"), "path": "/cfs", "mounted": {"nersc": str(self.cfs)}},
        }
        (folder / "sites.yaml").write_text(json.dumps(document))
        (folder / "wf.yaml").write_text(WORKFLOW)
        raw = self.spot / "raw" / "fresh" / f"{SCAN}.h5"
        raw.parent.mkdir(parents=True)
        raw.write_bytes(RAW)

    def crossfade(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "broker.cli", "--sites", str(self.folder / "sites.yaml"), *words],
            env={**os.environ, "CROSSFADE_HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == code, done.stderr
        return done

    def run(self, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        given = ("-p", "folder=fresh", "-p", f"scan={SCAN}", *more)
        return self.crossfade("run", "wf.yaml", *given, "-o", "json", code=code)


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beamline]:
    folder = tmp_path_factory.mktemp("beamline")
    settings = SandboxSettings(state=folder / "state", path=os.environ["PATH"], facilities=("nersc", "alcf"))
    with Sandbox(settings) as sandbox:
        yield Beamline(folder, sandbox)


@pytest.fixture(scope="module")
def done(beamline: Beamline) -> Any:
    return json.loads(beamline.run().stdout)


def test_the_whole_workflow_runs_and_its_deliveries_are_part_of_it(done: Any) -> None:
    assert done["state"] == "SUCCEEDED"
    assert {stage["name"]: stage["state"] for stage in done["stages"]} == dict.fromkeys(
        ("raw_to_data", "raw_to_cfs", "recon", "recon/deliver", "multires", "multires/deliver"), "SUCCEEDED"
    )


def test_raw_data_arrive_under_their_names_and_whole(beamline: Beamline, done: Any) -> None:
    for place in (beamline.data, beamline.cfs):
        assert (place / "raw" / "fresh" / f"{SCAN}.h5").read_bytes() == RAW


def test_where_the_place_is_mounted_the_file_is_read_in_place(beamline: Beamline, done: Any) -> None:
    delivered = beamline.cfs / "scratch" / "fresh" / f"rec{SCAN}"
    assert (delivered / "read_in_place").exists()
    assert (delivered / "sum").read_text().split()[0] == hashlib.sha256(RAW).hexdigest()


def test_results_are_delivered_to_every_place_that_was_named(beamline: Beamline, done: Any) -> None:
    for place in (beamline.cfs, beamline.data):
        assert (place / "scratch" / "fresh" / f"rec{SCAN}" / "size").read_text().strip() == str(len(RAW))
    assert (beamline.cfs / "scratch" / "fresh" / f"rec{SCAN}.zarr" / "0").exists()


def test_where_everything_is_can_be_asked(beamline: Beamline, done: Any) -> None:
    told = {view["stage"]: view for view in json.loads(beamline.crossfade("where", "-o", "json").stdout)}
    recon = {copy["at"]: (copy["files"], copy["whole"]) for copy in told["recon"]["copies"]}
    assert recon == {"nersc": (3, True), "cfs:": (3, True), "data832:": (3, True)}


def test_what_is_kept_for_a_while_waits_with_its_date_and_is_not_due_today(beamline: Beamline, done: Any) -> None:
    told = json.loads(beamline.crossfade("keep", "ls", "-o", "json").stdout)
    sides = sorted({entry["side"] for entry in told})
    assert sides == ["data832:", "nersc", "spot832:"]
    assert "nothing is due" in beamline.crossfade("keep", "run", "--dry-run").stdout
    assert (beamline.spot / "raw" / "fresh" / f"{SCAN}.h5").exists()


def test_nothing_is_left_of_what_was_on_its_way(beamline: Beamline, done: Any) -> None:
    left = [path for place in (beamline.cfs, beamline.data, beamline.spot) for path in place.rglob("*incoming*/*/*")]
    assert left == []
    assert json.loads(beamline.crossfade("transfer", "ls", "--open", "-o", "json").stdout)["transfers"] == []


def test_the_same_scan_again_is_the_same_run(beamline: Beamline, done: Any) -> None:
    assert json.loads(beamline.run().stdout)["run"] == done["run"]


def test_export_controlled_data_go_to_no_place_without_clearance(beamline: Beamline) -> None:
    refused = beamline.run("-p", "export_control=true", "--again", code=4)
    assert "export_control" in refused.stderr
