"""The mover between any two sites, through this machine, over their own file calls: for small data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.base import Site
from connectors.registry import Clock, SiteConfig
from connectors.relay.blobs import BlobFiles
from connectors.relay.mover import RelayMover
from connectors.relay.plan import Limits
from connectors.relay.side import Source

__all__ = ["Limits", "RelayMover", "make_mover"]


def make_mover(sites: Mapping[str, Site], configs: Mapping[str, SiteConfig], blobs: Path, clock: Clock) -> RelayMover:
    """A relay between these sites, and from the broker's own store (""), within the sites' own limits."""
    sources: dict[str, Source] = {"": BlobFiles(blobs), **sites}
    usual = Limits()
    limits = {
        name: Limits(file=config.relay_file or usual.file, transfer=config.relay_transfer or usual.transfer)
        for name, config in configs.items()
    }
    return RelayMover(sources, sites, clock, limits=limits)
