"""The mover between any two sides, through this machine, over their own file calls: for small data."""

from __future__ import annotations

from connectors.base import SiteFiles
from connectors.registry import MoverSetup, PlaceSetup, make_place
from connectors.relay.blobs import BlobFiles
from connectors.relay.mover import RelayMover
from connectors.relay.plan import Limits
from connectors.relay.side import Source

__all__ = ["Limits", "RelayMover", "make_mover"]


def make_mover(setup: MoverSetup) -> RelayMover:
    """A relay between these sites and places, and from the broker's own store (""), within the sites' own limits."""
    destinations: dict[str, SiteFiles] = dict(setup.sites)
    sources: dict[str, Source] = {"": BlobFiles(setup.blobs), **setup.sites}
    for place in setup.places.values():
        files = make_place(PlaceSetup(config=place, clock=setup.clock, globus=setup.globus))
        if isinstance(files, Source):
            sources[place.side] = files
        if isinstance(files, SiteFiles):
            destinations[place.side] = files
    usual = Limits()
    limits = {
        name: Limits(file=config.relay_file or usual.file, transfer=config.relay_transfer or usual.transfer)
        for name, config in setup.configs.items()
    }
    return RelayMover(sources, destinations, setup.clock, limits=limits)
