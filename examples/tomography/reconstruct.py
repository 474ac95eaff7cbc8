"""Reconstructs the volume from its projections, slice by slice, and can go on from where another run of it stopped.

Every few slices a checkpoint is committed: all slices so far, as exact floats, so that a resumed volume is the same
bit for bit. With CROSSFADE_RESTORE_DIR set the work goes on from the checkpoint in that folder. Each slice that is
really computed leaves one line in slices.log.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from skimage.transform import iradon

CHECKPOINT = Path("ckpt/slices.npz")
SUPERSEDED = 74
"""Exit code of crossfade-checkpoint: a newer copy of this job has taken over, so this one is to end."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("projections", type=Path)
    words.add_argument("--checkpoint-every", type=int, default=4, help="slices")
    words.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each slice")
    asked = words.parse_args()

    with np.load(asked.projections) as scan:
        sinograms, angles = scan["sinograms"], scan["angles"]
    scan_digest = hashlib.sha256(sinograms.tobytes() + angles.tobytes()).hexdigest()
    total = len(sinograms)
    done = restored(os.environ.get("CROSSFADE_RESTORE_DIR"), scan_digest)
    if done:
        print(f"going on after slice {len(done)} of {total}", flush=True)

    for sinogram in sinograms[len(done) :]:
        done.append(iradon(sinogram, angles, filter_name="ramp", circle=True).astype(np.float32))
        tell(f"slice {len(done)} of {total}")
        time.sleep(asked.pace)
        if len(done) % asked.checkpoint_every == 0 and len(done) < total:
            commit(done, scan_digest)
    replace(Path("volume.npy"), lambda file: np.save(file, np.stack(done)))


def tell(line: str) -> None:
    with open("slices.log", "a", encoding="utf-8") as log:
        log.write(f"{line}\n")
    print(line, flush=True)


def restored(folder: str | None, scan_digest: str) -> list[np.ndarray]:
    """The slices of the checkpoint in that folder; none without a folder. One that does not fit ends the program."""
    if not folder:
        return []
    path = Path(folder, CHECKPOINT)
    try:
        with np.load(path) as saved:
            slices, of = saved["slices"], str(saved["scan"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as fault:
        raise SystemExit(f"cannot go on from {path}: {fault}") from fault
    if of != scan_digest:
        raise SystemExit(f"cannot go on from {path}: it belongs to other projections")
    return list(slices)


def commit(done: list[np.ndarray], scan_digest: str) -> None:
    """Writes the checkpoint and, where crossfade runs this, hands it over under the number of slices in it."""
    CHECKPOINT.parent.mkdir(exist_ok=True)
    replace(CHECKPOINT, lambda file: np.savez(file, slices=np.stack(done), scan=np.array(scan_digest)))
    command = shutil.which("crossfade-checkpoint")
    if command is None:
        return
    handed = subprocess.run([command, "--seq", str(len(done)), str(CHECKPOINT)], check=False)
    if handed.returncode == SUPERSEDED:
        raise SystemExit(SUPERSEDED)
    if handed.returncode != 0:  # costs time if the site dies, and nothing else: no reason to end healthy work
        print(f"the checkpoint after slice {len(done)} was not taken; going on without it", file=sys.stderr)


def replace(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes beside the file, then renames: whoever looks finds the old file or the new one, never half of one."""
    beside = path.with_name(f"{path.name}.part")
    with open(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


if __name__ == "__main__":
    main()
