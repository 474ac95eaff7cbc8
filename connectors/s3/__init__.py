"""The mover between this machine and buckets of S3-compatible stores: for data of any size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from connectors.base import OnThisMachine
from connectors.files.bucket import BucketFiles
from connectors.files.held import HoldsFiles
from connectors.registry import MoverSetup
from connectors.s3.mover import Here, S3Mover

__all__ = ["Here", "S3Mover", "make_mover"]


def make_mover(setup: MoverSetup) -> S3Mover:
    """Between the sites and places of this machine, the broker's own store (""), and the sites whose files are in
    buckets."""
    sides: dict[str, Here | BucketFiles] = {"": Here(live_root=lambda: setup.blobs)}
    for place in setup.places.values():
        if not place.collection and not place.url:
            sides[place.side] = Here(live_root=partial(Path, place.path))
    for name, site in setup.sites.items():
        if isinstance(site, OnThisMachine):
            sides[name] = Here(live_root=site.live_root)
        elif isinstance(site, HoldsFiles) and isinstance(site.files, BucketFiles):
            sides[name] = site.files
    return S3Mover(sides, setup.clock)
