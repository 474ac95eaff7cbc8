"""The drills that come with crossfade, as files: `crossfade drill ls`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
