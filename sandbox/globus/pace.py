"""How quick the service is, and how much one identity may have of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.globus.pieces import BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How quick it is, and how patient. Seconds; bytes per second."""

    latency: float = 0.0
    """Of each file."""
    rate: float = 0.0
    """Of each link; 0: as quick as it goes."""
    rates: Mapping[tuple[str, str], float] | None = None
    """Of single links, by the ids of source and destination."""
    first_rest: float = 2.0
    """After the first fault; twice as long after each further one."""
    longest_rest: float = 300.0
    block: int = BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one identity may have."""

    slots: int = 3
    """Tasks of each kind that are worked at."""
    pending: int = 100
    items: int = 500_000
    """Of one submission."""
    listing: int = 100_000
    """Entries of a folder that is listed."""
