"""The mover between any two sites, through this machine, over their own file calls: for small data."""

from __future__ import annotations

from connectors.registry import MoverSetup
from connectors.relay.blobs import BlobFiles
from connectors.relay.mover import RelayMover
from connectors.relay.plan import Limits
from connectors.relay.side import Source

__all__ = ["Limits", "RelayMover", "make_mover"]


def make_mover(setup: MoverSetup) -> RelayMover:
    """A relay between these sites, and from the broker's own store (""), within the sites' own limits."""
    sources: dict[str, Source] = {"": BlobFiles(setup.blobs), **setup.sites}
    usual = Limits()
    limits = {
        name: Limits(file=config.relay_file or usual.file, transfer=config.relay_transfer or usual.transfer)
        for name, config in setup.configs.items()
    }
    return RelayMover(sources, setup.sites, setup.clock, limits=limits)
