"""Putting in place what waits in a folder of the same disk: by rename."""

from __future__ import annotations

import errno
import os

from connectors.folders.plan import Plan
from connectors.paths import split
from connectors.tree import Tree

# what a rename says of a folder that is there already, and not empty
_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


def place(staged: str, waiting: Tree, there: Tree, target: str) -> str:
    """Rename into place, replacing a file; answers the folder."""
    folder, name = split(target)
    inner_folder, inner_name = split(staged)
    with there.folder(folder, create=True) as at, waiting.folder(inner_folder) as from_:
        os.rename(inner_name, name, src_dir_fd=from_, dst_dir_fd=at)
    return folder


def place_folder(plan: Plan, number: int, waiting: Tree, there: Tree, target: str) -> set[str]:
    """In one step where there is nothing yet, else file by file into what is there; answers the folders."""
    try:
        return {place(str(number), waiting, there, target)}
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
    top = str(number)
    for folder in plan.folders:
        if folder.split("/", 1)[0] == top:
            there.below(target + folder[len(top) :], create=True).close()
    return {
        place(piece.staged, waiting, there, f"{target}/{piece.inner}") for piece in plan.pieces if piece.item == number
    }
