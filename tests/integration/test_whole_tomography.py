"""The users' tomography document, whole: copies, conditions, secrets, containers, checkpoints, deliveries, keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rehearsal_kit import Served, eventually
from tomo_kit import DOCUMENT, IMAGE, RAW, SCAN, STILL_REFUSED, TOKEN, Tomo, tomography, without

from broker.spec import DocumentError, load_workflow
from policies.model import Decision

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not DOCUMENT.is_file(), reason="the users' documents are not beside this repository"),
]
STAGES = ("raw_to_data", "raw_to_cfs", "catalogue", "recon", "recon/deliver", "multires", "multires/deliver")
SLABS = [hashlib.sha256(RAW[n * 4096 : (n + 1) * 4096]).hexdigest() for n in range(6)]


def document(**changes: Any) -> str:
    """As the users wrote it, without what is still refused."""
    data = without(DOCUMENT.read_text(), *STILL_REFUSED)
    data["policy"]["failover"] |= changes
    return yaml.safe_dump(data, sort_keys=False)


def states(running: Served, run: str) -> dict[str, str]:
    return {stage.path: stage.state for stage in running.store.stages(run)}


def slabs(tomo: Tomo) -> list[str]:
    return [path.read_text() for path in sorted(tomo.rec(tomo.cfs).glob("slice_*.txt"))]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tomo, Served, str]]:
    with tomography(tmp_path_factory.mktemp("tomo"), document()) as (tomo, running):
        run = tomo.submit(running)
        running.ended(run, seconds=240)
        yield tomo, running, run


def test_only_what_is_said_here_is_taken_out_of_it() -> None:
    with pytest.raises(DocumentError) as caught:
        load_workflow(DOCUMENT, base=DOCUMENT.parent)
    assert {problem.where for problem in caught.value.problems} == set(STILL_REFUSED)


def test_every_stage_is_done_and_the_rows_are_sound(done: tuple[Tomo, Served, str]) -> None:
    _, running, run = done
    assert states(running, run) == dict.fromkeys(STAGES, "SUCCEEDED")
    assert running.violations(run) == []


def test_the_reconstruction_ran_in_its_container_at_nersc_and_read_the_scan(done: tuple[Tomo, Served, str]) -> None:
    tomo, _, _ = done
    first, inside, how = tomo.about()
    assert (first, inside) == (0, "podman")
    (start,) = tomo.containers("nersc")
    assert (start["runtime"], start["image"]) == ("podman-hpc", IMAGE)
    assert start["command"] == ["python", "scripts/reconstruct.py", "raw.h5", "--out", "rec/"]
    # what is read in place is in the container because the broker has named it
    assert (str(tomo.cfs) in start["mounts"]) is (how == "link")
    assert slabs(tomo) == SLABS


def test_everything_lies_where_the_document_wants_it(done: tuple[Tomo, Served, str]) -> None:
    tomo, _, _ = done
    for place in (tomo.data, tomo.cfs):
        assert (place / "raw" / "beamtime-7" / f"{SCAN}.h5").read_bytes() == RAW
        assert len(list(tomo.rec(place).glob("slice_*.txt"))) == 6
        zarr = tomo.rec(place).with_name(f"rec{SCAN}.zarr")
        assert [path.name for path in sorted(zarr.iterdir())] == ["slice_000.txt", "slice_002.txt", "slice_004.txt"]


def test_the_catalogue_was_told_at_the_beamline_with_the_secret(done: tuple[Tomo, Served, str]) -> None:
    tomo, running, run = done
    proof = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert tomo.catalogue.read_text() == f"als_832 beamtime-7 {SCAN} {proof}\n"
    assert {row.site for row in running.attempts(run) if row.n == 2} == {"beamline"}
    written = [path for path in tomo.folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert written == [tomo.folder / "token"]


def test_its_bound_its_deadline_and_its_budget_are_honoured(done: tuple[Tomo, Served, str]) -> None:
    _, running, run = done
    row = running.run(run)
    assert (row.at_once, row.in_line) == (8, 0)
    assert row.deadline_at == row.created_at + 3_600_000_000


def test_what_is_kept_for_a_while_is_planned(done: tuple[Tomo, Served, str]) -> None:
    _, running, run = done
    planned = sorted((row.side, row.path.partition("/")[0]) for row in running.store.retention() if row.run_id == run)
    assert planned == [
        *(("data832:", "raw"), ("data832:", "scratch"), ("data832:", "scratch")),
        *(("nersc", "runs"), ("nersc", "runs"), ("spot832:", "raw")),
    ]


def test_the_same_scan_again_is_the_same_run(done: tuple[Tomo, Served, str]) -> None:
    tomo, running, run = done
    assert tomo.submit(running) == run


def test_under_export_control_it_goes_nowhere_without_clearance_and_with_it_not_to_cfs(tmp_path: Path) -> None:
    """The raw scan is not copied to cfs, and recon takes the other replica; the catalogue, which only waited for that
    copy's turn, is told."""
    with tomography(tmp_path, document(), cleared=True) as (tomo, running):
        run = tomo.submit(running, export_control="true")
        assert running.ended(run, seconds=240) == ["SUCCEEDED"]
        assert states(running, run) == {**dict.fromkeys(STAGES, "SUCCEEDED"), "raw_to_cfs": "SKIPPED"}
        assert not (tomo.cfs / "raw").exists()
        assert tomo.about() == (0, "podman", "file")
        (row,) = running.store.decisions(run, 1)
        (reason,) = Decision.from_json(row.detail).reasons
        assert reason.fact == "when not params.export_control is false (export_control is true)"
        assert {row.site for row in running.attempts(run)} <= {"", "nersc", "beamline"}
        assert running.violations(run) == []


def test_with_its_site_lost_the_reconstruction_goes_on_elsewhere_from_its_checkpoint(tmp_path: Path) -> None:
    """Nersc takes nothing, alcf is lost for good in the middle, olcf finishes. All as written but for `failover.after`,
    for which a test has no five minutes."""
    with tomography(tmp_path, document(after="4s")) as (tomo, running):
        running.service.drain_site("nersc", reason="its compute nodes are away")
        tomo.pace.write_text("3")
        run = tomo.submit(running)

        def shipped() -> bool:
            return any(row.site == "olcf" and row.state == "verified" for row in running.store.checkpoints(run))

        eventually(shipped, seconds=120)
        tomo.sandbox.lose("alcf")
        tomo.pace.write_text("0.05")
        assert running.ended(run, seconds=240) == ["SUCCEEDED"]
        first, inside, _ = tomo.about()
        assert first >= 1
        assert inside == "microct@sha256:cc098a2cfb6b1632ea872a202c66cb7566908da066fd8f8c123b92fa95c2a43c"
        assert slabs(tomo) == SLABS
        places = [row.site for row in running.attempts(run) if running.store.stages(run)[row.n].path == "recon"]
        assert places == ["alcf", "olcf"]
        assert [start["runtime"] for start in tomo.containers("olcf")] == ["apptainer"]
        assert running.violations(run) == []
