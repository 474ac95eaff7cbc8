"""One transfer from beginning to end: look, fetch, deliver, verify, put in place, leave a receipt."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from connectors.base import SiteFiles
from connectors.errands import (
    LARGEST_RECEIPT,
    RELAYED,
    Canceled,
    Receipt,
    TransferFailure,
    about,
    receipt_from,
    receipt_path,
    transfer_digest,
)
from connectors.errors import Fault, NotThere, SiteError
from connectors.model import SmallFile, Transfer
from connectors.relay.plan import Limits, Piece, in_batches, make_plan
from connectors.relay.side import Side, Source

INCOMING = f"{RELAYED}/incoming"
BLOCK = 1 << 20
"""Bytes read in one call."""
SMALL = 1 << 16
"""Bytes of a file that is read together with others."""
TOGETHER = 4 << 20
"""Bytes written in one call, unless one file has more."""


class Carrier:
    """Carries one transfer. `stop`, once set, ends it with Canceled, but no more once files are being put in place."""

    def __init__(
        self, transfer: Transfer, *, source: Source, destination: SiteFiles, limits: Limits, stop: threading.Event
    ) -> None:
        self._transfer, self._source, self._destination = transfer, source, destination
        self._limits, self._stop = limits, stop
        self._from, self._to = Side(transfer.source_site), Side(transfer.destination_site)
        self._mark = secrets.token_hex(4)
        """Two processes that carry the same transfer do not touch each other's files."""

    def carry(self, *, progress: Callable[[int], None], at: Callable[[], int]) -> None:
        """Everything, in order. Raises TransferFailure or Canceled, and then nothing was put in place, unless that
        itself failed half-way: the same key then does it all again."""
        receipt = self._receipt()
        if receipt is not None:
            progress(receipt.moved)
            return
        pieces = make_plan(self._transfer, self._source, self._from, self._limits)
        with tempfile.TemporaryDirectory(prefix="crossfade-relay-") as folder:
            try:
                self._fetch(pieces, Path(folder), progress)
                self._deliver(pieces, Path(folder))
            except OSError as error:
                raise TransferFailure(f"this machine: {error}", fault=Fault.SITE, site="") from error
        moved = sum(piece.size for piece in pieces)
        done = Receipt(digest=transfer_digest(self._transfer), moved=moved, at=at())
        with self._to.blamed():
            self._destination.write(receipt_path(self._transfer.key), done.content())

    def _receipt(self) -> Receipt | None:
        with self._to.blamed():
            try:
                found = receipt_from(self._destination.read(receipt_path(self._transfer.key), limit=LARGEST_RECEIPT))
            except NotThere:
                return None
        if found is not None and found.digest != transfer_digest(self._transfer):
            raise self._to.failure(f"key {self._transfer.key} belongs to another transfer")
        return found

    # -- fetching --------------------------------------------------------------------------------------

    def _fetch(self, pieces: Sequence[Piece], folder: Path, progress: Callable[[int], None]) -> None:
        """Each file into `folder` by its number, with the content that its site said it has."""
        for batch in in_batches([(n, piece) for n, piece in enumerate(pieces) if 0 < piece.size <= SMALL]):
            self._go_on()
            with self._from.blamed():
                contents = self._source.read_many([piece.source for _, piece in batch], limit=SMALL)
            for n, piece in batch:
                self._keep(piece, contents.get(piece.source, b""), folder / str(n), progress)
        for n, piece in enumerate(pieces):
            if not piece.size:
                (folder / str(n)).touch()
            elif piece.size > SMALL:
                self._read(piece, folder / str(n), progress)

    def _keep(self, piece: Piece, content: bytes, path: Path, progress: Callable[[int], None]) -> None:
        if (len(content), hashlib.sha256(content).hexdigest()) != (piece.size, piece.sha256):
            raise self._changed(piece)
        path.write_bytes(content)
        progress(len(content))

    def _read(self, piece: Piece, path: Path, progress: Callable[[int], None]) -> None:
        seen, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            while size < piece.size:
                self._go_on()
                with self._from.blamed():
                    block = self._source.read(piece.source, offset=size, limit=min(BLOCK, piece.size - size))
                if not block:
                    break
                file.write(block)
                seen.update(block)
                size += len(block)
                progress(len(block))
        if (size, seen.hexdigest()) != (piece.size, piece.sha256):
            raise self._changed(piece)

    def _changed(self, piece: Piece) -> TransferFailure:
        reason = f"corrupt: {piece.source} was changed while it was being read, or damaged on its way"
        return TransferFailure(
            reason, fault=Fault.STAGING, site=self._transfer.source_site, bad_items=(piece.item.source,)
        )

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Canceled

    # -- delivering ------------------------------------------------------------------------------------

    def _deliver(self, pieces: Sequence[Piece], folder: Path) -> None:
        """First under incoming names: what the site does not take, or spoils, is never seen by anybody. A site has no
        call to rename with, so that the same content is then written once more, each file whole or not at all."""
        incoming = [f"{INCOMING}/{self._transfer.key}.{self._mark}.{n}" for n in range(len(pieces))]
        try:
            for batch in _loads(pieces, incoming, folder, modes=False):
                self._go_on()
                self._write(batch)
            self._verify(pieces, incoming)
            self._go_on()
            targets = [piece.target for piece in pieces]
            for batch in _loads(pieces, targets, folder, modes=True):
                self._write(batch)
            self._verify_in_place(pieces, targets)
        finally:
            with suppress(SiteError):  # what stays is swept later
                self._destination.remove(incoming)

    def _write(self, batch: Sequence[SmallFile]) -> None:
        with self._to.blamed():
            self._destination.write_many(batch)

    def _verify_in_place(self, pieces: Sequence[Piece], targets: Sequence[str]) -> None:
        try:
            self._verify(pieces, targets)
        except TransferFailure:
            with suppress(SiteError):
                self._destination.remove(targets)
            raise

    def _verify(self, pieces: Sequence[Piece], paths: Sequence[str]) -> None:
        with self._to.blamed():
            found: dict[str, tuple[int, str]] = {}
            for batch in in_batches(paths):
                found |= self._destination.digests(batch)
        for piece, path in zip(pieces, paths, strict=True):
            if found.get(path) != (piece.size, piece.sha256):
                with about(piece.item):
                    raise self._to.failure(f"corrupt: {piece.source} did not arrive intact")


def _loads(
    pieces: Sequence[Piece], paths: Sequence[str], folder: Path, *, modes: bool
) -> Iterator[Sequence[SmallFile]]:
    """The files as they are written together: so many at a time that memory holds them."""
    load: list[SmallFile] = []
    size = 0
    for n, (piece, path) in enumerate(zip(pieces, paths, strict=True)):
        if load and (size + piece.size > TOGETHER or len(load) >= 256):
            yield load
            load, size = [], 0
        mode = piece.mode if modes else 0o600
        load.append(SmallFile(path=path, content=(folder / str(n)).read_bytes(), mode=mode))
        size += piece.size
    if load:
        yield load
