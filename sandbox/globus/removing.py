"""Paths that go away: files, links, whole folders, and what a pattern names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase

from connectors.paths import split
from sandbox.globus.collections import Collection, entries_in, entry_at
from sandbox.globus.orders import Item
from sandbox.globus.pieces import LARGEST_FOLDER, Done, Job, Piece, What
from sandbox.globus.troubles import Trouble, told


def remove(job: Job, piece: Piece, *, at: Collection, path: str) -> Iterator[Done]:
    yield Done(seconds=job.latency)
    with at.tree() as tree, told():
        inner = at.writable(path)
        folder, name = split(inner)
        if job.order.interpret_globs and piece.item.recursive is None and any(sign in name for sign in "*?["):
            entries = entries_in(tree, folder, most=LARGEST_FOLDER) or []
            paths = [f"/{folder}/{one.name}" for one in entries if fnmatchcase(one.name, name)]
            # `recursive` says that a name is meant as it is: it may hold such signs itself
            yield Done(
                found=[replace(piece, source=one, item=Item(source=one, recursive=True)) for one in paths], end=True
            )
            return
        if not name:
            raise Trouble("PERMISSION_DENIED", "the top of a collection stays")
        try:
            entry = entry_at(tree, inner)
        except FileNotFoundError:
            if job.order.ignore_missing or piece.what is What.EXTRA:
                yield Done(end=True)
                return
            raise
        is_folder = entry.is_dir and entry.link_target is None
        if is_folder and not job.order.recursive and piece.what is What.DELETE:
            raise Trouble("IS_A_DIRECTORY", "Is a directory")
        with tree.folder(folder) as here:
            freed, files, folders = _weight(name, here) if is_folder else (entry.size, 1, 0)
            if is_folder:
                shutil.rmtree(name, dir_fd=here)
            else:
                os.unlink(name, dir_fd=here)
    at.book(-freed)
    yield Done(files=files, directories=folders, end=True)


def _weight(name: str, at: int) -> tuple[int, int, int]:
    """Bytes, files and folders of a folder."""
    size = files = folders = 0
    for _, _, names, fd in os.fwalk(name, dir_fd=at):
        folders += 1
        files += len(names)
        for one in names:
            with suppress(OSError):
                size += os.stat(one, dir_fd=fd, follow_symlinks=False).st_size
    return size, files, folders
