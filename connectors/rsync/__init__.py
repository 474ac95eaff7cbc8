"""The mover between this machine and sites behind ssh, by rsync: for data of any size."""

from __future__ import annotations

from connectors.registry import MoverSetup
from connectors.rsync.ends import Here, Side
from connectors.rsync.mover import RsyncMover
from connectors.ssh.reach import OverSsh

__all__ = ["Here", "RsyncMover", "make_mover"]


def make_mover(setup: MoverSetup) -> RsyncMover:
    """Between the sites and places of this machine, the broker's own store (""), and the sites that ssh leads to."""
    here = setup.on_this_machine()
    sides: dict[str, Side] = {name: Here(live_root=root) for name, root in here.items()}
    for name, site in setup.sites.items():
        if name not in here and isinstance(site, OverSsh) and (reach := site.reach()) is not None:
            sides[name] = reach
    return RsyncMover(sides, setup.clock)
