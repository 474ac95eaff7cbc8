"""What one look saw."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.store.base import Sightings

Facts = dict[str, dict[str, str | int]]
"""What was learned of attempts, by submit key: column and value."""


@dataclass(slots=True)
class Looked:
    """What one look saw, and which spool files may go once that is recorded."""

    sightings: Sightings = field(default_factory=Sightings)
    used: list[str] = field(default_factory=list)
