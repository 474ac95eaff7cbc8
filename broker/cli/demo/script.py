"""What is played: the document and its params, and where."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STAGE = "recon"
"""The stage that loses its site."""
LAST = "picture"
"""The stage whose product is looked at."""
LOG = "slices.log"
"""A line for each slice that an attempt really computed, in the attempt's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One demonstration, as asked for."""

    document: Path
    slices: int
    size: int
    checkpoint_every: int
    pace: float
    """Seconds to wait after each slice."""
    home: Path
    """An empty folder for state and sites."""
    keep: bool
    """Does it stay there for a person to look at?"""
    out: Path

    @property
    def params(self) -> Mapping[str, str]:
        """The document's. The jobs run under the interpreter that runs us: it has what the payload imports."""
        return {
            "slices": str(self.slices),
            "size": str(self.size),
            "checkpoint_every": str(self.checkpoint_every),
            "pace": f"{self.pace:g}",
            "python": sys.executable,
        }

    @property
    def half(self) -> int:
        """Slices."""
        return self.slices // 2

    @property
    def fresh(self) -> int:
        """A checkpoint is when fewer slices than an interval were done since: one more may be done until all stops."""
        return max(1, self.checkpoint_every - 1)

    @property
    def latest(self) -> int:
        """So many slices and the site is taken away, whatever was shipped by then: the end must not come first."""
        return max(self.half, min(self.slices - 2, self.slices * 3 // 4))
