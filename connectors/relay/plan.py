"""Which files a transfer means, and whether they are small enough to go through this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from connectors.errands import about
from connectors.model import FileInfo, Transfer, TransferItem
from connectors.paths import clean, split
from connectors.relay.side import Side, Source

T = TypeVar("T")

TOGETHER = 256
"""Files that a site is asked of in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a relay carries; sizes in bytes. A file is in memory whole while it is written."""

    file: int = 32_000_000
    transfer: int = 256_000_000
    files: int = 10_000

    @classmethod
    def least(cls, several: Sequence[Limits]) -> Limits:
        """The narrowest of each."""
        return cls(
            file=min(one.file for one in several),
            transfer=min(one.transfer for one in several),
            files=min(one.files for one in several),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file to bring, as its site says that it is."""

    source: str
    target: str
    size: int
    sha256: str
    item: TransferItem
    """That it is, or lies in."""

    @property
    def mode(self) -> int:
        return 0o600 if self.item.mode is None else self.item.mode & 0o777


class _Scales:
    """Counts what is to be carried. Raises TransferFailure as soon as it is too much."""

    def __init__(self, side: Side, limits: Limits) -> None:
        self._side, self._limits = side, limits
        self._size = self._files = 0

    def add(self, path: str, size: int) -> None:
        most = self._limits
        self._size, self._files = self._size + size, self._files + 1
        if size > most.file:
            self._refuse(f"{path} has {size} bytes, and files up to {most.file}")
        if self._size > most.transfer:
            self._refuse(f"it has {self._size} bytes and more, and {most.transfer} in one transfer")
        if self._files > most.files:
            self._refuse(f"it has more than {most.files} files, and so many in one transfer")

    def _refuse(self, what: str) -> None:
        raise self._side.failure(f"needs Globus: {what} may go through this machine")


def make_plan(transfer: Transfer, source: Source, side: Side, limits: Limits) -> Sequence[Piece]:
    """Look at the source. Sizes are looked at before anything is hashed. Raises TransferFailure."""
    with side.blamed():
        wanted = list(_wanted(transfer.items, source, side, limits))
        found: dict[str, tuple[int, str]] = {}
        for paths in in_batches([path for path, _, _ in wanted]):
            found |= source.digests(paths)
    pieces: list[Piece] = []
    scales = _Scales(side, limits)
    for path, target, item in wanted:
        if path not in found:
            with about(item):
                raise side.failure(f"source missing: {path}")
        size, sha256 = found[path]
        scales.add(path, size)
        with about(item):
            _keep_promise(path, item, size, sha256, side)
        pieces.append(Piece(source=path, target=target, size=size, sha256=sha256, item=item))
    return pieces


def in_batches(these: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many of them at a time as go into one call."""
    for first in range(0, len(these), TOGETHER):
        yield these[first : first + TOGETHER]


def _wanted(
    items: Sequence[TransferItem], source: Source, side: Side, limits: Limits
) -> Iterator[tuple[str, str, TransferItem]]:
    """Source and target of each file; folders spelled out. None that is known to be too large."""
    singles = [item for item in items if not item.source.endswith("/")]
    listed: dict[str, FileInfo] = {}
    for folder in sorted({split(clean(item.source))[0] for item in singles if item.size is None}):
        listed |= {info.path: info for info in source.list(folder)}
    scales = _Scales(side, limits)
    for item in items:
        path, target = clean(item.source), clean(item.destination)
        if item.source.endswith("/"):
            below = [info for info in source.list(path, recursive=True) if not info.is_dir]
            if not below:
                with about(item):
                    raise side.failure(f"source missing or empty: {path}/")
            for info in below:
                scales.add(info.path, info.size)
                yield info.path, f"{target}/{_inner(info, path, side)}", item
        else:
            size = listed[path].size if path in listed else 0
            scales.add(path, size if item.size is None else item.size)
            yield path, target, item


def _inner(info: FileInfo, folder: str, side: Side) -> str:
    """A file's path within the folder that was listed; what a site lists is not trusted to lie there."""
    inner = clean(info.path).removeprefix(f"{folder}/")
    if clean(info.path) != f"{folder}/{inner}":
        raise side.failure(f"a listing of {folder} names {info.path!r}")
    return inner


def _keep_promise(path: str, item: TransferItem, size: int, sha256: str, side: Side) -> None:
    if item.source.endswith("/"):
        return
    if item.size is not None and size != item.size:
        raise side.failure(f"corrupt: {path} has {size} bytes, not {item.size}")
    if item.sha256 is not None and sha256 != item.sha256:
        raise side.failure(f"corrupt: {path} has SHA-256 {sha256}, not {item.sha256}")
