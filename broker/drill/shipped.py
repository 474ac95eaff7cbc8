"""The drills that come with crossfade."""

from __future__ import annotations

from pathlib import Path

from sandbox.drills import FOLDER


def shipped() -> dict[str, Path]:
    """Name to file."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"), key=lambda path: path.stem)}
