"""A workflow ready to be stored: params filled, defaults applied, files digested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
"""Of the stored documents, rules and bodies; part of every digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStage:
    """One stage. `rules` and `body` are canonical compact JSON; stages with equal rules share one text."""

    path: str
    needs: list[int]
    """Positions of its parents among the stages, each once, ascending."""
    input_needs: frozenset[int]
    """Those parents whose files it takes."""
    rules: str
    body: str
    digest: str
    """SHA-256, hex, of rules and body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRun:
    """A workflow with its params. Nothing in it needs the document's folder any more but `blobs`."""

    name: str
    key: str | None
    """The client key: a run that is alive or done under it is this run."""
    contact: str
    document: Mapping[str, Any]
    """Normalised: durations in seconds, sizes in bytes, params filled in; itself a valid workflow document."""
    digest: str
    """SHA-256, hex, of the document and of all stages, with the contents of their files."""
    warnings: list[str]
    blobs: Mapping[str, Path]
    """SHA-256 to the absolute path of a file to keep with the run."""
    stages: Sequence[CompiledStage]
    notify: Sequence[tuple[str, Sequence[str]]] = ()
    """Who is told of what: addresses, and the kinds that each is told."""
    deadline: Mapping[str, Any] | None = None
    """Of the run as a whole: within (seconds), from, on_miss."""
    at_once: int = 0
    """Runs of this name that may go on at a time; 0: any number."""
