"""The mover between folders that this machine sees."""

from connectors.copy.mover import CopyMover, Root

__all__ = ["CopyMover", "Root"]
