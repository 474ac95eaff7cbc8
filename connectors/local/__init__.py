"""Processes on this machine: the embedded default."""

from __future__ import annotations

from pathlib import Path

from connectors.local.options import LocalOptions
from connectors.local.site import LocalSite
from connectors.registry import Clock, SiteConfig

__all__ = ["LocalSite", "make"]


def make(config: SiteConfig, clock: Clock) -> LocalSite:
    """The local site of this entry. Creates nothing on the disk (`prepare` does). Raises ValueError."""
    root = Path(config.root)
    if not root.is_absolute():
        raise ValueError(f"site {config.name}: `root` is {config.root!r}; give an absolute path")
    options = LocalOptions.read(config.name, config.options)
    return LocalSite(name=config.name, root=root, options=options, clock=clock, secrets=config.secrets)
