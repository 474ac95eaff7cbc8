"""Giving verified files their names: renames on the destination's collection, each safe to repeat.

A folder that is not there yet comes with one rename, whole. One that is there already is joined file by file. A file
that is there is moved into the incoming folder first, where the storage does not replace it by itself: for that moment
its name is nobody's.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable

from connectors.errors import NotThere
from connectors.globus.errand import Errand
from connectors.globus.plan import Piece, is_incoming
from connectors.globus_api.faults import AlreadyThere
from connectors.globus_api.storage import Storage

BUDGET = 20.0
"""Seconds that one look at a transfer may spend on renames; what is left is done at the next."""


class NotYet(Exception):
    """There is more to rename than one look has time for."""


class Lost(Exception):
    """What was verified is neither at its incoming name nor at its own."""


class Publishing:
    """Renames one attempt's files."""

    def __init__(self, errand: Errand, storage: Storage, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._errand, self._storage = errand, storage
        self._elapsed, self._end = elapsed, elapsed() + BUDGET
        self._folders = {errand.plan.incoming}
        """Those that are known to be there."""

    def publish(self) -> None:
        """All that is left. Raises NotYet, Lost, SiteError; repeating goes on from there."""
        for n, piece in enumerate(self._errand.plan.pieces):
            if n in self._errand.renamed:
                continue
            self._in_time()
            self._place(piece, n)
            self._errand.renamed.add(n)
            self._errand.step("renamed")

    def _in_time(self) -> None:
        if self._elapsed() > self._end:
            raise NotYet

    def _place(self, piece: Piece, n: int) -> None:
        try:
            self._rename(piece.landing, piece.final)
        except AlreadyThere:
            if piece.folder:
                self._join(piece.landing, piece.final)
            else:
                self._replace(piece, n)

    def _rename(self, old: str, new: str) -> None:
        """Having made the new one's folder. Raises AlreadyThere, Lost."""
        self._make_folder(posixpath.dirname(new))
        try:
            self._storage.rename(old, new)
        except NotThere:
            if self._storage.look(old) is not None:
                raise
            if self._storage.look(new) is None:
                raise Lost(new) from None
            # it was renamed before, or just now by another process

    def _make_folder(self, folder: str) -> None:
        if folder.strip("/") and folder not in self._folders:
            self._storage.make_folders(folder)
            self._folders.add(folder)

    def _replace(self, piece: Piece, n: int) -> None:
        there = self._storage.look(piece.final)
        if there is not None and there.is_dir:
            raise Lost(f"{piece.final} is a folder, and stays one")
        aside = f"{self._errand.plan.incoming}/replaced-{n}"
        if self._storage.look(piece.landing) is None:
            return
        self._rename(piece.final, aside)
        self._errand.step("moved aside")
        self._rename(piece.landing, piece.final)

    def _join(self, old: str, new: str) -> None:
        """Each file by itself, into a folder that is there already."""
        for entry in self._storage.list(old):
            self._in_time()
            inner, target = f"{old}/{entry.name}", f"{new}/{entry.name}"
            try:
                self._rename(inner, target)
            except AlreadyThere:
                if entry.is_dir:
                    self._join(inner, target)
                    continue
                self._aside(target, inner)
                self._rename(inner, target)
            self._errand.step("renamed")

    def _aside(self, target: str, inner: str) -> None:
        mark = inner.removeprefix(f"{self._errand.plan.incoming}/").replace("/", ",")
        self._rename(target, f"{self._errand.plan.incoming}/replaced-{mark[-200:]}")
        self._errand.step("moved aside")


def sweep(storage: Storage, incoming: str, key: str) -> None:
    """Begin to delete an attempt's folder, and nothing else ever. Raises SiteError."""
    if not is_incoming(incoming):
        raise ValueError(f"{incoming!r} is no folder of ours")
    storage.delete([incoming], label=f"crossfade clean {key}"[:128], recursive=True)
