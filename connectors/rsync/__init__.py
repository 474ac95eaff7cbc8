"""The mover between this machine and sites behind ssh, by rsync: for data of any size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from connectors.base import OnThisMachine
from connectors.registry import MoverSetup
from connectors.rsync.ends import Here, Side
from connectors.rsync.mover import RsyncMover
from connectors.ssh.reach import OverSsh

__all__ = ["Here", "RsyncMover", "make_mover"]


def make_mover(setup: MoverSetup) -> RsyncMover:
    """Between the sites and places of this machine, the broker's own store (""), and the sites that ssh leads to."""
    sides: dict[str, Side] = {"": Here(live_root=lambda: setup.blobs)}
    for place in setup.places.values():
        if not place.collection and not place.url:
            sides[place.side] = Here(live_root=partial(Path, place.path))
    for name, site in setup.sites.items():
        if isinstance(site, OnThisMachine):
            sides[name] = Here(live_root=site.live_root)
        elif isinstance(site, OverSsh) and (reach := site.reach()) is not None:
            sides[name] = reach
    return RsyncMover(sides, setup.clock)
