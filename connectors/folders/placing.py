"""Putting in place what waits in a folder of the same disk: by rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from connectors.folders.failure import Side
from connectors.folders.plan import Plan
from connectors.model import TransferItem
from connectors.paths import clean, split
from connectors.tree import Tree

# what a rename says of a folder that is there already, and not empty
_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


def publish(items: Sequence[TransferItem], plan: Plan, *, waiting: Tree, there: Tree, side: Side) -> None:
    """All that waits, each item under its name, and on the disk before this returns. Raises TransferFailure; what was
    placed by then stays, and the same key places the rest."""
    touched: set[str] = set()
    for number, item in enumerate(items):
        target = clean(item.destination)
        with side.blamed(target):
            if item.source.endswith("/"):
                touched |= _place_folder(plan, number, waiting, there, target)
            else:
                touched.add(_place(str(number), waiting, there, target))
    for folder in touched:
        with side.blamed(folder), there.folder(folder) as at:
            os.fsync(at)


def _place(staged: str, waiting: Tree, there: Tree, target: str) -> str:
    """Rename into place, replacing a file; answers the folder."""
    folder, name = split(target)
    inner_folder, inner_name = split(staged)
    with there.folder(folder, create=True) as at, waiting.folder(inner_folder) as from_:
        os.rename(inner_name, name, src_dir_fd=from_, dst_dir_fd=at)
    return folder


def _place_folder(plan: Plan, number: int, waiting: Tree, there: Tree, target: str) -> set[str]:
    """In one step where there is nothing yet, else file by file into what is there; answers the folders."""
    try:
        return {_place(str(number), waiting, there, target)}
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
    top = str(number)
    for folder in plan.folders:
        if folder.split("/", 1)[0] == top:
            there.below(target + folder[len(top) :], create=True).close()
    return {
        _place(piece.staged, waiting, there, f"{target}/{piece.inner}") for piece in plan.pieces if piece.item == number
    }
