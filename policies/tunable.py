"""Numbers that an installation may set for itself, each with its default and its bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def tunable(default: Any, *, least: float, most: float) -> Any:
    """A field of a frozen value: its default, and between which bounds (both included) a policy file may set it."""
    return field(default=default, metadata={"least": least, "most": most})
