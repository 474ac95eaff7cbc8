"""The mover between folders that this machine sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.base import OnThisMachine, Site
from connectors.copy.mover import CopyMover, Root
from connectors.registry import Clock, SiteConfig

__all__ = ["CopyMover", "Root", "make_mover"]


def make_mover(
    sites: Mapping[str, Site],
    configs: Mapping[str, SiteConfig],  # noqa: ARG001 - a disk takes what it takes
    blobs: Path,
    clock: Clock,
) -> CopyMover:
    """A copy mover between those of the sites that are on this machine, and the broker's own store ("")."""
    roots: dict[str, Root] = {"": blobs}
    roots.update({name: site.live_root for name, site in sites.items() if isinstance(site, OnThisMachine)})
    return CopyMover(roots, clock)
