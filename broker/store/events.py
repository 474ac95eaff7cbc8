"""What is told: an event of a stream, before it has its place in the chain."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something to be told in a stream's chain. With `decision`, a decision row of the same seq is written."""

    kind: str
    stage: str = ""
    n: int = -1
    attempt: int = 0
    data: str = "{}"
    actor: str = "engine"
    decision: tuple[str, str, str] | None = None
    """(kind, outcome, detail as JSON)"""
