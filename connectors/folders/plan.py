"""Which files a transfer means: its items, folders spelled out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from connectors.errands import about
from connectors.errors import Fault
from connectors.folders.failure import Side
from connectors.model import TransferItem
from connectors.paths import clean
from connectors.tree import Tree, is_temporary

MOST_FILES = 200_000
"""Of one transfer."""
_OVERHEAD = 4096
"""Bytes that a file counts for on top of its size when it is judged whether a transfer is small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file to bring: `item` is the number of its item, `inner` its path within a folder, "" for a file."""

    item: int
    inner: str
    source: str
    size: int | None = None
    sha256: str | None = None
    mode: int | None = None

    @property
    def staged(self) -> str:
        """Where it waits to be published, below the transfer's own folder."""
        return f"{self.item}/{self.inner}" if self.inner else str(self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`folders` are staged paths, parents first; empty ones travel too."""

    pieces: Sequence[Piece]
    folders: Sequence[str]


def make_plan(tree: Tree, items: Sequence[TransferItem], side: Side) -> Plan:
    """Look at the source. Raises TransferFailure."""
    pieces: list[Piece] = []
    folders: list[str] = []
    for number, item in enumerate(items):
        if not item.source.endswith("/"):
            pieces.append(_file(number, item))
            continue
        folders.append(str(number))
        for inner, is_dir in _walk(tree, item, side):
            if is_dir:
                folders.append(f"{number}/{inner}")
            else:
                source = f"{clean(item.source)}/{inner}"
                pieces.append(Piece(item=number, inner=inner, source=source, mode=item.mode))
            if len(pieces) + len(folders) > MOST_FILES:
                raise side.failure(f"more than {MOST_FILES} files in one transfer", Fault.STAGING)
    return Plan(pieces=pieces, folders=folders)


def weigh(tree: Tree, items: Sequence[TransferItem], *, most: int) -> int:
    """About how much there is to do, in bytes; stops counting beyond `most`. Raises OSError, UnsafePath."""
    total = 0
    folders: list[str] = []
    for item in items:
        if item.source.endswith("/"):
            folders.append(clean(item.source))
        else:
            total += _OVERHEAD + _size(tree, item.source)
    while folders and total <= most:
        for info in tree.list(folders.pop()):
            total += _OVERHEAD + info.size
            if info.is_dir:
                folders.append(info.path)
    return total


def _file(number: int, item: TransferItem) -> Piece:
    return Piece(item=number, inner="", source=clean(item.source), size=item.size, sha256=item.sha256, mode=item.mode)


def _size(tree: Tree, path: str) -> int:
    fd = tree.open(path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _walk(tree: Tree, item: TransferItem, side: Side) -> Iterator[tuple[str, bool]]:
    """Path within the item's folder, and is it a folder; parents first. Nothing is left out in silence."""
    with about(item):
        yield from _entries(tree, clean(item.source), side)


def _entries(tree: Tree, top: str, side: Side) -> Iterator[tuple[str, bool]]:
    waiting = [""]
    while waiting:
        here = waiting.pop()
        with side.blamed(f"{top}/{here}"), tree.folder(f"{top}/{here}".rstrip("/")) as at, os.scandir(at) as entries:
            found = sorted((entry.name, _kind(entry)) for entry in entries if not is_temporary(entry.name))
        for name, kind in found:
            inner = f"{here}/{name}" if here else name
            with side.blamed(inner):
                clean(inner)
            if kind == "other":
                raise side.failure(f"{top}/{inner} is neither a file nor a folder", Fault.STAGING)
            if kind == "folder":
                waiting.append(inner)
            yield inner, kind == "folder"


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    # a link is opened later like a file, which follows it only within the root
    return "file" if entry.is_symlink() or entry.is_file(follow_symlinks=False) else "other"
