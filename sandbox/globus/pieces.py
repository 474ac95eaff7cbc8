"""The pieces of a task, what a step of one brings, and what whoever does them needs to know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.globus.collections import Collection, Entry, entry_at
from sandbox.globus.orders import Item, Kind, Order
from sandbox.globus.troubles import Trouble, told

BLOCK = 4 << 20
"""Bytes of a step."""
LARGEST_FOLDER = 5_000_000
"""Entries."""


class What(StrEnum):
    """The kinds of pieces."""

    LOOK = "look"
    """At an item: what is it?"""
    FOLDER = "folder"
    FILE = "file"
    LINK = "link"
    EXTRA = "extra"
    """Remove at the destination what the source does not have."""
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a task that succeeds or fails by itself. Paths are those of the API."""

    what: What
    source: str
    destination: str = ""
    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file that has come over."""

    source: str
    destination: str
    size: int
    checksum: str | None
    algorithm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one step has brought."""

    seconds: float = 0.0
    """How long it takes."""
    bytes: int = 0
    checksummed: int = 0
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    found: Sequence[Piece] = ()
    """More to do."""
    copied: Copied | None = None
    skipped: bool = False
    """The file is at the destination already."""
    end: bool = False
    """The piece is done with it. Said with the result itself: whatever happened in between would do it twice."""


Mishaps = Callable[[str, str], Mapping[str, Any] | None]
"""Is this fault (by its name in scripts) to befall what is done with this path? Its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What pieces need to know."""

    order: Order
    source: Collection
    destination: Collection
    mishaps: Mishaps
    latency: float = 0.0
    """Seconds that each file costs."""
    rate: float = 0.0
    """Bytes per second of the link; 0: as quick as it goes."""
    block: int = BLOCK

    def reach(self) -> None:
        """Raises Trouble where one of the sides does not answer."""
        for collection, side in ((self.source, "source"), (self.destination, "destination")):
            try:
                collection.reach()
            except Trouble as trouble:
                trouble.side = side
                raise

    @property
    def speed(self) -> float:
        """Bytes per second, now; 0: as quick as it goes."""
        return min((rate for rate in (self.rate, self.source.rate, self.destination.rate) if rate > 0), default=0.0)

    @property
    def portion(self) -> int:
        """Bytes of the next step: what comes in a second, at most a block."""
        return min(self.block, max(1, int(self.speed))) if self.speed else self.block

    def seconds(self, count: int) -> float:
        """That so many bytes take."""
        return count / self.speed if self.speed else 0.0


def first_pieces(order: Order) -> list[Piece]:
    """What a task begins with."""
    what = What.LOOK if order.kind is Kind.TRANSFER else What.DELETE
    return [Piece(what=what, source=item.source, destination=item.destination, item=item) for item in order.items]


def source_entry(job: Job, path: str) -> Entry:
    with sided("source"), job.source.tree() as tree, told("source"):
        return entry_at(tree, job.source.inside(path))


def forget(name: str, at: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)


@contextmanager
def sided(side: str) -> Iterator[None]:
    """Whatever goes wrong in it goes wrong on that side."""
    try:
        yield
    except Trouble as trouble:
        trouble.side = trouble.side or side
        raise
