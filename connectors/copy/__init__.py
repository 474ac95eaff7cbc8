"""The mover between folders that this machine sees."""

from __future__ import annotations

from connectors.copy.mover import CopyMover, Root
from connectors.registry import MoverSetup

__all__ = ["CopyMover", "Root", "make_mover"]


def make_mover(setup: MoverSetup) -> CopyMover:
    """A copy mover between those of the sites and places that are on this machine, and the broker's own store ("")."""
    return CopyMover(setup.on_this_machine(), setup.clock)
