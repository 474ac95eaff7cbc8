"""The tomography example by itself, without a broker: a resumed reconstruction is the undisturbed one, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("skimage", reason="the example needs scikit-image: install crossfade[examples]")
import numpy as np

EXAMPLE = Path(__file__).parents[2] / "examples" / "tomography"
SLICES, EVERY, KILLED_AFTER = 10, 3, 9
"""Checkpoints after 3 and 6 slices; killed while the one after 9 is handed over, so that it does not count."""

KEEPS_COPIES = """\
#!/bin/sh -eu
[ "$1" = --seq ]
if [ "$2" -eq 9 ]; then exec sleep 60; fi
mkdir -p "$KEPT/$2/$(dirname "$3")"
cp "$3" "$KEPT/$2/$3"
"""
"""Stands in for crossfade's command: copies the file, its folders kept, into a folder named for the number.

At the third call it hangs, so that the test has all the time it needs to kill at that very place.
"""


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE")}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | more


def script(name, *words):
    return [sys.executable, str(EXAMPLE / name), *map(str, words)]


def reconstruct(folder, projections, **more):
    folder.mkdir(exist_ok=True)
    command = script("reconstruct.py", projections, "--checkpoint-every", EVERY)
    return subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False)


def computed(folder):
    return [int(line.split()[1]) for line in (folder / "slices.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    command = script("phantom.py", "--slices", SLICES, "--size", 48)
    subprocess.run(command, cwd=folder, env=environment(PYTHONWARNINGS="error"), check=True, timeout=60)
    return folder


def look(scan, volume, folder):
    command = script("picture.py", scan / "phantom.npy", scan / "projections.npz", volume)
    subprocess.run(command, cwd=folder, env=environment(), check=True, timeout=60)


@pytest.fixture(scope="module")
def undisturbed(scan):
    folder = scan / "undisturbed"
    assert reconstruct(folder, scan / "projections.npz").returncode == 0
    look(scan, folder / "volume.npy", folder)
    return folder


@pytest.fixture(scope="module")
def kept(scan):
    """What crossfade would hold of a reconstruction killed in its third checkpoint: number of slices -> checkpoint."""
    folder, commands = scan / "killed", scan / "bin"
    folder.mkdir()
    commands.mkdir()
    (commands / "crossfade-checkpoint").write_text(KEEPS_COPIES)
    (commands / "crossfade-checkpoint").chmod(0o755)
    command = script("reconstruct.py", scan / "projections.npz", "--checkpoint-every", EVERY)
    env = environment(PATH=f"{commands}{os.pathsep}{os.environ['PATH']}", KEPT=str(folder / "kept"))
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if line == f"slice {KILLED_AFTER} of {SLICES}\n":
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert computed(folder) == list(range(1, KILLED_AFTER + 1))
    assert not (folder / "volume.npy").exists()
    return folder / "kept"


def test_checkpoints_are_handed_over_every_few_slices_under_the_number_of_slices(kept):
    assert sorted(int(path.name) for path in kept.iterdir()) == [3, 6]
    with np.load(kept / "6" / "ckpt" / "slices.npz") as saved:
        assert len(saved["slices"]) == 6


@pytest.mark.parametrize("number", [3, 6])
def test_a_resumed_reconstruction_is_the_same_bit_for_bit_and_repeats_no_finished_slice(
    scan, undisturbed, kept, number, tmp_path
):
    ended = reconstruct(tmp_path, scan / "projections.npz", CROSSFADE_RESTORE_DIR=str(kept / str(number)))
    assert ended.returncode == 0, ended.stderr
    assert computed(tmp_path) == list(range(number + 1, SLICES + 1))
    look(scan, tmp_path / "volume.npy", tmp_path)
    for product in ("volume.npy", "digest.txt", "picture.png"):
        assert (tmp_path / product).read_bytes() == (undisturbed / product).read_bytes()


def test_an_undisturbed_reconstruction_computes_every_slice_once_and_needs_no_crossfade(undisturbed):
    assert computed(undisturbed) == list(range(1, SLICES + 1))


def test_a_plain_use_goes_on_from_its_own_folder(scan, undisturbed, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(undisturbed / "ckpt" / "slices.npz", tmp_path / "ckpt")
    ended = reconstruct(tmp_path, scan / "projections.npz", CROSSFADE_RESTORE_DIR=".")
    assert ended.returncode == 0
    assert computed(tmp_path) == [SLICES]


def test_the_reconstruction_resembles_what_was_scanned(scan, undisturbed):
    truth, volume = np.load(scan / "phantom.npy"), np.load(undisturbed / "volume.npy")
    assert volume.shape == truth.shape == (SLICES, 48, 48)
    assert np.sqrt(np.mean((volume - truth) ** 2)) < 0.2 * truth.std()


def torn(path):
    path.write_bytes(path.read_bytes()[:5000])


def of_another_scan(path):
    with np.load(path) as saved:
        slices = saved["slices"]
    np.savez(path, slices=slices, scan=np.array("0" * 64))


@pytest.mark.parametrize("damage", [torn, of_another_scan, Path.unlink])
def test_a_checkpoint_that_is_torn_foreign_or_missing_ends_the_program_before_any_slice(scan, kept, damage, tmp_path):
    shutil.copytree(kept / "6", tmp_path / "restore")
    damage(tmp_path / "restore" / "ckpt" / "slices.npz")
    ended = reconstruct(tmp_path / "work", scan / "projections.npz", CROSSFADE_RESTORE_DIR=str(tmp_path / "restore"))
    assert ended.returncode == 1
    assert "cannot go on from" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "work" / "slices.log").exists()


@pytest.mark.parametrize(("answer", "last", "code"), [(1, SLICES, 0), (74, EVERY, 74)])
def test_a_checkpoint_that_is_not_taken_ends_the_program_only_if_a_newer_copy_has_taken_over(
    scan, tmp_path, answer, last, code
):
    (tmp_path / "crossfade-checkpoint").write_text(f"#!/bin/sh\nexit {answer}\n")
    (tmp_path / "crossfade-checkpoint").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = reconstruct(tmp_path / "work", scan / "projections.npz", PATH=path)
    assert ended.returncode == code
    assert ended.stderr.count("was not taken; going on without it") == (3 if code == 0 else 0)
    assert computed(tmp_path / "work") == list(range(1, last + 1))


def test_another_volume_has_another_digest(scan, undisturbed, tmp_path):
    volume = np.load(undisturbed / "volume.npy")
    volume[0, 24, 24] = np.nextafter(volume[0, 24, 24], np.float32(9))  # the last bit of one voxel
    np.save(tmp_path / "volume.npy", volume)
    look(scan, tmp_path / "volume.npy", tmp_path)
    assert (tmp_path / "digest.txt").read_bytes() != (undisturbed / "digest.txt").read_bytes()


def test_the_workflow_ships_every_script_that_its_stages_run():
    document = yaml.safe_load((EXAMPLE / "workflow.yaml").read_text())
    for stage in document["stages"].values():
        for name in stage["files"]:
            assert (EXAMPLE / name).is_file()
            assert f" {name} " in stage["run"]
