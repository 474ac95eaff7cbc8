"""A folder of a copy's own, `incoming/<key>/<random>`, locked as long as its process lives."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from connectors.folders.receipts import INCOMING
from connectors.tree import Tree

_TRIES = 5


@contextmanager
def staging(tree: Tree, key: str) -> Iterator[Tree]:
    """A fresh folder, removed afterwards; what dead processes left under the key is removed first."""
    own = _fresh(tree, key)
    try:
        yield own
    finally:
        _remove(tree, key, own.path.name)
        own.close()


def _fresh(tree: Tree, key: str) -> Tree:
    """Another process that sweeps may take a new folder for a dead one's before it is locked: then again."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            _sweep(tree, key)
            own = tree.below(f"{INCOMING}/{key}/{secrets.token_hex(8)}", create=True)
            if _lock(own.fd) and os.fstat(own.fd).st_nlink > 0:
                return own
            own.close()
    raise FileNotFoundError(2, "other processes keep removing it", f"{INCOMING}/{key}")


def _sweep(tree: Tree, key: str) -> None:
    for info in tree.list(f"{INCOMING}/{key}"):
        if not info.is_dir:
            continue
        with suppress(FileNotFoundError), tree.below(info.path) as left:
            if _lock(left.fd):
                _remove(tree, key, left.path.name)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(tree: Tree, key: str, name: str) -> None:
    """What cannot be removed now is swept when the key is asked for again."""
    with suppress(OSError), tree.folder(f"{INCOMING}/{key}") as at:
        shutil.rmtree(name, dir_fd=at)
    with suppress(OSError), tree.folder(INCOMING) as at:
        os.rmdir(key, dir_fd=at)
