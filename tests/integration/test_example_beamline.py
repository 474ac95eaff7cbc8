"""The beamline example, whole: folders for sites and places, real jobs, real copies, and what is kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "beamline"
PATIENCE = 120.0


class Beamline:
    """The example in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "beamline"
        shutil.copytree(EXAMPLE, self.folder)
        self.env = {**os.environ, "CROSSFADE_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        self.env.pop("CROSSFADE_SITES", None)
        subprocess.run(["sh", "prepare.sh"], cwd=self.folder, check=True, capture_output=True)

    def __call__(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "broker.cli", "--sites", "sites.yaml", *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, f"{args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self(*args, "-o", "json", code=code).stdout)

    def there(self, place: str) -> list[str]:
        top = self.folder / "places" / place
        files = (path for path in top.rglob("*") if path.is_file() and "incoming" not in path.parts)
        return sorted(path.relative_to(top).as_posix() for path in files)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Beamline:
    beamline = Beamline(tmp_path_factory.mktemp("example"))
    beamline("run", "workflow.yaml")
    return beamline


SLICES = [f"slice_{n:03d}.txt" for n in range(4)]


def test_everything_is_where_it_should_be(ran: Beamline) -> None:
    rec = [f"scratch/rec-flight-check/{name}" for name in ("columns.txt", *SLICES)]
    small = [f"scratch/small-flight-check/{name}" for name in SLICES[::2]]
    assert ran.there("data832") == ["raw/flight-check.txt", *rec]
    assert ran.there("cfs") == ["raw/flight-check.txt", *rec, *small]
    columns = ran.folder / "places/cfs/scratch/rec-flight-check/columns.txt"
    assert columns.read_text() == "22 26 30\n"


def test_status_shows_copies_and_deliveries_as_stages_at_no_site(ran: Beamline) -> None:
    run = ran.json("history")[0]["run"]
    view = ran.json("status", run)
    stages = {stage["name"]: stage for stage in view["stages"]}
    assert list(stages) == [
        *("raw_to_data", "raw_to_cfs", "recon", "recon/deliver", "thumbnails", "thumbnails/deliver", "catalogue"),
    ]
    assert {stage["state"] for stage in stages.values()} == {"SUCCEEDED"}
    sites = {name: stage["site"] for name, stage in stages.items()}
    assert sites["recon/deliver"] is None
    assert sites["thumbnails"] == sites["recon"] == "nersc"
    assert "recon/deliver" in ran("status", run).stdout


def test_a_delivery_is_explained_and_told_in_its_own_words(ran: Beamline) -> None:
    told = "cfs:scratch/rec-flight-check/, data832:scratch/rec-flight-check/"
    run = ran.json("history")[0]["run"]
    assert f"Copies: it only moves data, to {told}: no site is asked." in ran("explain", f"{run}/recon/deliver").stdout
    assert f"done: copied to {told}" in ran("timeline", f"{run}/recon/deliver").stdout
    (attempt,) = ran.json("attempt", "ls", f"{run}/recon/deliver")
    assert (attempt["site"], attempt["state"]) == (None, "SUCCEEDED")


def test_what_needs_the_delivery_took_it_from_the_place_it_was_delivered_to(ran: Beamline, tmp_path: Path) -> None:
    run = ran.json("history")[0]["run"]
    ran("get", f"{run}/catalogue", str(tmp_path / "got"))
    (entries,) = (tmp_path / "got").rglob("entries.txt")
    files, token = entries.read_text().split()
    assert (files, token) == ("2", str(len("not-a-real-token")))


def test_the_database_is_sound_after_it(ran: Beamline) -> None:
    assert "as they should be" in ran("db", "check").stdout


def test_what_is_to_be_removed_is_listed_and_not_due_yet(ran: Beamline) -> None:
    rows = ran.json("keep", "ls")
    assert sorted((row["side"], row["state"]) for row in rows) == [
        *(("data832:", "waiting"), ("nersc", "waiting"), ("spot832:", "waiting")),
    ]
    assert ran.json("keep", "ls", "--due") == []
    assert ran("keep", "run", "--dry-run").stdout.strip() == "nothing is due"
    assert ran("keep", "run", code=2).stderr.startswith("crossfade: nobody can be asked here")


def test_export_controlled_data_is_refused_by_the_rules_name(tmp_path: Path) -> None:
    beamline = Beamline(tmp_path)
    refused = beamline("submit", "workflow.yaml", "-p", "export_control=true", code=4)
    assert "stage raw_to_data may not bring anything to data832: data.export_control" in refused.stderr
    (beamline.folder / "sites.yaml").write_text(
        (beamline.folder / "sites.yaml")
        .read_text()
        .replace("prune: true}", "prune: true, clearance: [export_control]}")
        .replace("path: ./places/cfs", "path: ./places/cfs\n    clearance: [export_control]")
    )
    refused = beamline("plan", "workflow.yaml", "-p", "export_control=true")
    assert "the data is under export control, and nersc has no clearance for it" in refused.stdout


def test_with_clearance_it_runs_without_the_copy_that_is_not_wanted(tmp_path: Path) -> None:
    beamline = Beamline(tmp_path)
    sites = beamline.folder / "sites.yaml"
    cleared = sites.read_text().replace("prune: true}", "prune: true, clearance: [export_control]}")
    cleared = cleared.replace("path: ./places/cfs", "path: ./places/cfs\n    clearance: [export_control]")
    sites.write_text(re.sub(r"(profile: local, root)", r"clearance: [export_control], \1", cleared))
    beamline("run", "workflow.yaml", "-p", "export_control=true")
    run = beamline.json("history")[0]["run"]
    stages = {stage["name"]: stage for stage in beamline.json("status", run)["stages"]}
    assert stages["raw_to_cfs"]["state"] == "SKIPPED"
    assert stages["raw_to_cfs"]["reason"] == "when not params.export_control is false (export_control is true)"
    assert {stage["state"] for name, stage in stages.items() if name != "raw_to_cfs"} == {"SUCCEEDED"}
    assert not (beamline.folder / "places/cfs/raw").exists()
    assert "Skipped: when not params.export_control is false" in beamline("explain", f"{run}/raw_to_cfs").stdout


def test_a_place_that_nobody_knows_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    beamline = Beamline(tmp_path)
    document = beamline.folder / "workflow.yaml"
    document.write_text(document.read_text().replace('to: "cfs:raw', 'to: "cfd:raw'))
    refused = beamline("validate", "workflow.yaml", code=2)
    assert "stages.raw_to_cfs.copy[0].to: there is no place 'cfd'; did you mean `cfs`?" in refused.stderr


def test_where_a_site_mounts_the_place_its_file_is_read_in_place_as_soon_as_it_is_there(tmp_path: Path) -> None:
    beamline = Beamline(tmp_path)
    sites = beamline.folder / "sites.yaml"
    mounted = f"path: ./places/cfs\n    mounted: {{nersc: {beamline.folder}/places/cfs}}"
    sites.write_text(sites.read_text().replace("path: ./places/cfs", mounted))
    beamline("run", "workflow.yaml")
    (link,) = (beamline.folder / "sites" / "nersc").glob("runs/*/recon/a1/raw.txt")
    assert link.is_symlink()
    assert os.readlink(link) == f"{beamline.folder}/places/cfs/raw/flight-check.txt"
    assert (beamline.folder / "places/cfs/scratch/rec-flight-check/columns.txt").read_text() == "22 26 30\n"


def test_due_entries_are_removed_from_the_command_line(tmp_path: Path) -> None:
    beamline = Beamline(tmp_path)
    document = beamline.folder / "workflow.yaml"
    document.write_text(document.read_text().replace("spot832: 7d", "spot832: 0s"))
    beamline("run", "workflow.yaml")
    (due,) = beamline.json("keep", "run", "--dry-run")
    assert (due["side"], due["outcome"], due["files"]) == ("spot832:", "remove", 1)
    assert beamline.there("spot832") == ["raw/flight-check.txt"]
    (removed,) = beamline.json("keep", "run", "--yes")
    assert (removed["outcome"], removed["reason"]) == (
        "remove",
        "data832 holds the same, by digest; spot832:raw/flight-check.txt is due",
    )
    assert beamline.there("spot832") == []
    assert "removed" in beamline("keep", "ls").stdout
