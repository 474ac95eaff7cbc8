"""Where a stage's product is: every side that is known to hold files of it, how many, and how sure that is."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.clock import micros
from broker.store.base import ProductRow
from broker.traffic.rows import ReplicaRow
from broker.views import View, when

PUBLISHED = "published"
_ORDER = (PUBLISHED, "available", "suspect", "bad", "lost")
"""The worst of its files' says how a copy stands."""
_GOOD = frozenset({PUBLISHED, "available"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What whereabouts are worked out from."""

    replicas: Mapping[str, Sequence[ReplicaRow]]
    """By digest."""
    purges: Mapping[str, float]
    """Seconds for which a side keeps files, where it purges them."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file at one side."""

    name: str
    path: str
    size: int
    state: str
    verified_at: int | None
    reason: str


def digests_of(product: ProductRow) -> frozenset[str]:
    """SHA-256 of all its files."""
    return frozenset(digest for _, _, digest in _files(product))


def whereabouts(product: ProductRow, known: Known, *, stage: str) -> View:
    """A product and its copies: where it was published first, then the sides that hold most of it."""
    names = _files(product)
    sides: dict[str, dict[str, _File]] = defaultdict(dict)
    for name, size, digest in names:
        path = f"{product.path}/{name}"
        sides[product.site][name] = _File(name, path, size, PUBLISHED, product.published_at, "")
        for copy in known.replicas.get(digest, ()):
            own = (copy.side, copy.path) == (product.site, path)
            if own and copy.state == "available":
                continue  # a transfer from there has compared it once more
            found = _File(name, copy.path, size, copy.state, copy.verified_at, copy.reason)
            before = None if own else sides[copy.side].get(name)
            sides[copy.side][name] = found if before is None else min(before, found, key=_standing)
    order = sorted(sides, key=lambda side: (side != product.site, -len(sides[side]), side))
    return {
        "stage": stage,
        "files": len(names),
        "bytes": sum(size for _, size, _ in names),
        "published_at": when(product.published_at),
        "copies": [
            _copy(side, list(sides[side].values()), of=len(names), purge=known.purges.get(side)) for side in order
        ],
    }


def _files(product: ProductRow) -> list[tuple[str, int, str]]:
    return [(path, size, digest) for path, size, digest in json.loads(product.manifest)["files"]]


def _standing(file: _File) -> tuple[int, int]:
    """Of two copies at one side the better one counts."""
    return _ORDER.index(file.state), -(file.verified_at or 0)


def _copy(side: str, files: Sequence[_File], *, of: int, purge: float | None) -> View:
    worst = max(files, key=_standing)
    times = [file.verified_at for file in files if file.verified_at is not None]
    oldest = min(times, default=None)
    return {
        "at": side or "(broker)",
        "files": len(files),
        "whole": len(files) == of and all(file.state in _GOOD for file in files),
        "state": worst.state,
        "verified_at": when(oldest),
        "purged_from": when(oldest + micros(purge)) if oldest is not None and purge else None,
        "reason": worst.reason or None,
        "since": None,
        "transfer": None,
        "percent": None,
        "paths": [{"file": file.name, "path": file.path, "bytes": file.size, "state": file.state} for file in files],
    }
