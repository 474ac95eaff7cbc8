"""One transfer from beginning to end: look, copy, verify, publish, leave a receipt."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

from connectors.copy.staging import staging
from connectors.errands import Canceled, Receipt, TransferFailure, about, reading, transfer_digest
from connectors.errors import Fault
from connectors.folders.failure import Side
from connectors.folders.placing import publish
from connectors.folders.plan import Piece, Plan, make_plan
from connectors.folders.receipts import Receipts
from connectors.model import Transfer
from connectors.paths import split
from connectors.tree import Tree, blocks, write_all

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Progress = Callable[[int], None]
"""Is told of bytes as they arrive."""


def untold(_: str) -> None:
    """Nobody listens."""


class Courier:
    """Carries one transfer. `stop`, once set, ends it at the next block with Canceled."""

    def __init__(
        self,
        transfer: Transfer,
        *,
        source: Side,
        destination: Side,
        stop: threading.Event,
        tell: Callable[[str], None] = untold,
    ) -> None:
        """`tell`: is told what it is at, where that takes long."""
        self._transfer = transfer
        self._source = source
        self._destination = destination
        self._stop, self._tell = stop, tell

    def carry(self, *, progress: Progress, at: Callable[[], int]) -> None:
        """Everything, in order. Raises TransferFailure or Canceled, and then nothing was published, unless the
        publishing itself failed half-way: the same key then does it all again."""
        moved = 0

        def count(size: int) -> None:
            nonlocal moved
            moved += size
            progress(size)

        with ExitStack() as stack:
            with self._source.blamed(str(self._source.root)):
                here = stack.enter_context(Tree(self._source.root))
            with self._destination.blamed(str(self._destination.root)):
                there = stack.enter_context(Tree(self._destination.root))
                waiting = stack.enter_context(staging(there, self._transfer.key))
            plan = make_plan(here, self._transfer.items, self._source)
            self._collect(plan, here, waiting, count)
            self._still_the_same(there)
            self._publish(plan, waiting, there)
            self._leave_receipt(there, moved=moved, at=at())

    # -- bringing --------------------------------------------------------------------------------------

    def _collect(self, plan: Plan, here: Tree, waiting: Tree, progress: Progress) -> None:
        for folder in plan.folders:
            with self._destination.blamed(folder):
                waiting.below(folder, create=True).close()
        for piece in plan.pieces:
            with about(self._transfer.items[piece.item]):
                self._bring(piece, here, waiting, progress)

    def _bring(self, piece: Piece, here: Tree, waiting: Tree, progress: Progress) -> None:
        with self._source.blamed(piece.source):
            inner = here.open(piece.source)
        try:
            before = os.fstat(inner)
            self._expect_size(piece, before.st_size)
            size, sha256 = self._copy(piece, inner, waiting, progress)
            after = os.fstat(inner)
        finally:
            os.close(inner)
        if (size, after.st_size, after.st_mtime_ns) != (before.st_size, before.st_size, before.st_mtime_ns):
            raise self._changed(piece)
        if piece.sha256 is not None and sha256 != piece.sha256:
            reason = f"corrupt: {piece.source} has SHA-256 {sha256}, not {piece.sha256}"
            raise self._source.failure(reason, Fault.STAGING)
        what = f"comparing {piece.source}"
        with self._destination.blamed(piece.staged), reading(what, size, stop=self._stop, tell=self._tell) as heard:
            arrived = waiting.digest(piece.staged, heard=heard)
        if arrived != (size, sha256):
            reason = f"corrupt: {piece.source} did not arrive intact"
            raise self._destination.failure(reason, Fault.STAGING)

    def _expect_size(self, piece: Piece, size: int) -> None:
        if piece.size is not None and size != piece.size:
            reason = f"corrupt: {piece.source} has {size} bytes, not {piece.size}"
            raise self._source.failure(reason, Fault.STAGING)

    def _changed(self, piece: Piece) -> TransferFailure:
        reason = f"corrupt: {piece.source} was changed while it was being copied"
        return self._source.failure(reason, Fault.STAGING)

    def _copy(self, piece: Piece, inner: int, waiting: Tree, progress: Progress) -> tuple[int, str]:
        folder, name = split(piece.staged)
        facts = os.fstat(inner)
        mode = facts.st_mode if piece.mode is None else piece.mode
        with self._destination.blamed(piece.staged), waiting.folder(folder) as at:
            outer = os.open(name, _NEW, 0o600, dir_fd=at)
        try:
            seen = self._pour(piece, inner, outer, progress, most=facts.st_size)
            with self._destination.blamed(piece.staged):
                os.fchmod(outer, mode & 0o777)
                os.fsync(outer)
        finally:
            os.close(outer)
        return seen

    def _pour(self, piece: Piece, inner: int, outer: int, progress: Progress, *, most: int) -> tuple[int, str]:
        """Block by block; a hole stays a hole."""
        seen = hashlib.sha256()
        size, found = 0, blocks(inner)
        while True:
            if self._stop.is_set():
                raise Canceled
            with self._source.blamed(piece.source):
                block, hole = next(found, (b"", False))
            if not block:
                break
            if size + len(block) > most:  # a log that is still written to is not chased to its end
                raise self._changed(piece)
            with self._destination.blamed(piece.staged):
                if hole:
                    os.lseek(outer, len(block), os.SEEK_CUR)
                else:
                    write_all(outer, block)
            seen.update(block)
            size += len(block)
            progress(len(block))
        with self._destination.blamed(piece.staged):
            os.ftruncate(outer, size)
        return size, seen.hexdigest()

    # -- publishing ------------------------------------------------------------------------------------

    def _publish(self, plan: Plan, waiting: Tree, there: Tree) -> None:
        if self._stop.is_set():
            raise Canceled
        publish(self._transfer.items, plan, waiting=waiting, there=there, side=self._destination)

    def _leave_receipt(self, there: Tree, *, moved: int, at: int) -> None:
        self._still_the_same(there)
        receipt = Receipt(digest=transfer_digest(self._transfer), moved=moved, at=at)
        with self._destination.blamed("the receipt"):
            Receipts(there).put(self._transfer.key, receipt)

    def _still_the_same(self, there: Tree) -> None:
        """A root renamed away under our hands stays writable through its descriptor, but nobody will find it."""
        side = self._destination
        try:
            same = os.path.samestat(os.fstat(there.fd), os.stat(side.root))
        except OSError:
            same = False
        if not same:
            raise side.failure(f"the root {side.root} is gone", Fault.SITE)
