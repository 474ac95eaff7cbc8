"""The mover between this machine and buckets of S3-compatible stores: for data of any size."""

from __future__ import annotations

from connectors.files.bucket import BucketFiles
from connectors.files.held import HoldsFiles
from connectors.registry import MoverSetup
from connectors.s3.mover import Here, S3Mover

__all__ = ["Here", "S3Mover", "make_mover"]


def make_mover(setup: MoverSetup) -> S3Mover:
    """Between the sites and places of this machine, the broker's own store (""), and the sites whose files are in
    buckets."""
    here = setup.on_this_machine()
    sides: dict[str, Here | BucketFiles] = {name: Here(live_root=root) for name, root in here.items()}
    for name, site in setup.sites.items():
        if name not in here and isinstance(site, HoldsFiles) and isinstance(site.files, BucketFiles):
            sides[name] = site.files
    return S3Mover(sides, setup.clock)
