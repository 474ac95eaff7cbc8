"""The mover between folders that this machine sees."""

from __future__ import annotations

from pathlib import Path

from connectors.base import OnThisMachine
from connectors.copy.mover import CopyMover, Root
from connectors.registry import MoverSetup

__all__ = ["CopyMover", "Root", "make_mover"]


def make_mover(setup: MoverSetup) -> CopyMover:
    """A copy mover between those of the sites and places that are on this machine, and the broker's own store ("")."""
    roots: dict[str, Root] = {"": setup.blobs}
    roots.update({name: site.live_root for name, site in setup.sites.items() if isinstance(site, OnThisMachine)})
    roots.update({p.side: Path(p.path) for p in setup.places.values() if not p.collection and not p.url})
    return CopyMover(roots, setup.clock)
