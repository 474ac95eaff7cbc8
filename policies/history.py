"""What is known of sites from what went on there: queues, work, and what stages brought in. Kept up by whoever reads
the rows; what decides only looks things up in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.waits import UNKNOWN, Queue
from policies.work import NOTHING_KNOWN, Stage, Works


@dataclass(frozen=True, slots=True)
class Load:
    """What a stage brought in from one side."""

    side: str
    files: int
    bytes: int


@dataclass(slots=True)
class History:
    """Replaced part by part, never changed in part."""

    queues: Mapping[str, Queue] = field(default_factory=dict)
    works: Works = NOTHING_KNOWN
    loads: Mapping[Stage, tuple[Load, ...]] = field(default_factory=dict)
    """What the newest run of each stage brought in."""

    def queue(self, site: str) -> Queue:
        return self.queues.get(site, UNKNOWN)


__all__ = ["History", "Load"]
