"""The users' tomography workflow, whole, in the sandbox: their document, and small bodies for its three scripts."""

from __future__ import annotations

import copy
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rehearsal_kit import Served, served

from broker.service import Request
from broker.spec import parse_document
from sandbox.containers.placing import started
from sandbox.up import Sandbox, SandboxSettings
from sandbox.up.globus import collection_id

DOCUMENT = Path(__file__).parents[2] / "shared" / "design" / "examples" / "tomo-832.yaml"
STILL_REFUSED = ("triggers",)
"""All that is taken out of it: what is refused by name."""
SCAN = "20260202_101500_shale"
PARAMS = {"folder": "beamtime-7", "scan": SCAN}
RAW = b"".join(bytes([n]) * 4096 for n in range(6))
"""Six slabs."""
TOKEN = "canary-of-the-catalogue-0815"
IMAGE = "ghcr.io/example/microct@sha256:cc098a2cfb6b1632ea872a202c66cb7566908da066fd8f8c123b92fa95c2a43c"

RECONSTRUCT = """
import hashlib, os, pathlib, re, sys, time

raw, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
ckpt = pathlib.Path("ckpt"); ckpt.mkdir(exist_ok=True); out.mkdir(exist_ok=True)
data, done, first = raw.read_bytes(), [], 0
restored = os.environ.get("CROSSFADE_RESTORE_DIR")
if restored:
    newest = max(pathlib.Path(restored).rglob("slab_*.h5"), key=lambda path: int(re.findall(r"\\d+", path.name)[0]))
    done = newest.read_text().split()
    first = len(done)
pause = float(os.environ.get("SLAB_SECONDS", "0.1"))
pace = pathlib.Path(PACE)
for n in range(first, len(data) // 4096):
    time.sleep(float(pace.read_text()) if pace.exists() else pause)
    done.append(hashlib.sha256(data[n * 4096 : (n + 1) * 4096]).hexdigest())
    part = ckpt / "part"
    part.write_text(" ".join(done)); part.replace(ckpt / f"slab_{n + 1}.h5")
for n, digest in enumerate(done):
    (out / f"slice_{n:03d}.txt").write_text(digest)
inside = os.environ.get("container") or os.environ.get("APPTAINER_NAME") or "none"
(out / "about.txt").write_text(f"{first} {inside} {'link' if raw.is_symlink() else 'file'}")
"""
TO_ZARR = """
import pathlib, sys

out = pathlib.Path("rec.zarr"); out.mkdir()
for path in sorted(pathlib.Path(sys.argv[1]).glob("slice_*.txt"))[::2]:
    (out / path.name).write_text(path.read_text())
"""
INGEST = """#!/bin/sh
set -eu
printf '%s %s %s %s\\n' "$@" "$(printf %s "$CATALOGUE_TOKEN" | sha256sum | cut -d' ' -f1)" >>{catalogue}
"""


def without(text: str, *keys: str) -> dict[str, Any]:
    """The document as plain data, without those of its keys."""
    data: dict[str, Any] = copy.deepcopy(dict(parse_document(text, name="tomo").data))
    for key in keys:
        node, (*above, last) = data, key.split(".")
        for step in above:
            node = node[step]
        del node[last]
    return data


class Tomo:
    """The workflow in a folder, its places, and what it left there."""

    def __init__(self, folder: Path, sandbox: Sandbox, text: str) -> None:
        self.folder, self.sandbox = folder, sandbox
        state = folder / "state"
        self.spot, self.data = state / "beamline" / "spot", state / "beamline" / "data"
        self.cfs = Path(sandbox.facilities["nersc"].files.root) / "cfs"
        self.catalogue, self.pace = folder / "catalogue.txt", folder / "pace"
        for place in (self.spot, self.data, self.cfs):
            place.mkdir(parents=True)
        (folder / "scripts").mkdir()
        reconstruct = textwrap.dedent(RECONSTRUCT).replace("PACE", repr(str(self.pace)))
        (folder / "scripts" / "reconstruct.py").write_text(reconstruct)
        (folder / "scripts" / "tiff_to_zarr.py").write_text(TO_ZARR)
        ingest = folder / "scripts" / "ingest.sh"
        ingest.write_text(INGEST.replace("{catalogue}", str(self.catalogue)))
        ingest.chmod(0o755)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN)
        (folder / "tomo-832.yaml").write_text(text)
        raw = self.spot / "raw" / "beamtime-7" / f"{SCAN}.h5"
        raw.parent.mkdir(parents=True)
        raw.write_bytes(RAW)

    def sites(self, document: dict[str, Any], *, cleared: bool) -> None:
        """The users' places on the sandbox's collections, and their beamline as a site of this machine."""
        more = {"clearance": ["export_control"]} if cleared else {}
        spot, nersc = collection_id("beamline"), collection_id("nersc")
        document["places"] = {
            "spot832": {"collection": spot, "path": "/spot", "prune": True, **more},
            "data832": {"collection": spot, "path": "/data", "prune": True, **more},
            "cfs": {"collection": nersc, "path": "/cfs", "mounted": {"nersc": str(self.cfs)}, **more},
        }
        document["notify"] = {
            "commands": {"page-beamline": ["/bin/true"]},
            # nobody listens there: what cannot be told holds nothing up
            "mail": {"relay": "127.0.0.1:9", "from": "crossfade@example.org", "tls": "none"},
        }
        sites = document["sites"]
        sites["beamline"] = {
            "profile": "local",
            "root": str(self.folder / "at-the-beamline"),
            "secrets": {"catalogue": f"file:{self.folder}/token"},
            **more,
        }
        sites["nersc"] |= more
        sites["alcf"]["vars"] = {"tomopy_env": "/eagle/IRI-ALS-832/env/tomopy"}

    def submit(self, running: Served, **params: str) -> str:
        """The document as it stands; the run's id."""
        request = Request(document=self.folder / "tomo-832.yaml", params={**PARAMS, **params})
        run = running.service.submit(request).run_id
        running.embedded.wake(run)
        return run

    def rec(self, place: Path) -> Path:
        return place / "scratch" / "beamtime-7" / f"rec{SCAN}"

    def about(self) -> tuple[int, str, str]:
        """Slab that the reconstruction began with, in which container, and whether it read the scan in place."""
        first, inside, how = (self.rec(self.cfs) / "about.txt").read_text().split()
        return int(first), inside, how

    def containers(self, site: str) -> list[dict[str, Any]]:
        return started(self.folder / "state" / site)


@contextmanager
def tomography(folder: Path, text: str, *, cleared: bool = False) -> Iterator[tuple[Tomo, Served]]:
    """The workflow `text` in a sandbox of nodes as large as it asks for, served."""
    settings = SandboxSettings(
        state=folder / "state", facilities=("nersc", "alcf", "olcf"), poll=0.2, path=os.environ["PATH"], cores=64
    )
    with Sandbox(settings) as sandbox:
        tomo = Tomo(folder, sandbox, text)
        with served(folder, sandbox, whole=lambda document: tomo.sites(document, cleared=cleared)) as running:
            yield tomo, running
