"""The mover between this machine and buckets: large objects in parts, ranges and streams, nothing seen half done.

Into a bucket the receipt is `relay/<key>.done`, out of one `incoming/<key>.done`, as the other movers leave them. A
mover that was restarted answers UNKNOWN; asked again under the same key it finds that there is nothing left to do, or
goes on. Uploads that a dead process has begun are given up after a week; a rule of the bucket's own may be quicker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from connectors.errands import (
    LARGEST_RECEIPT,
    RELAYED,
    Errand,
    Errands,
    Receipt,
    TransferFailure,
    blamed,
    receipt_from,
    receipt_path,
    transfer_digest,
)
from connectors.errors import Fault, NotThere, SiteError
from connectors.files.bucket import BucketFiles
from connectors.files.parts import LEAST, Parts, too_large
from connectors.folders.failure import Side, destination_side, source_side
from connectors.folders.receipts import Receipts
from connectors.model import SubmitAnswer, Transfer, TransferStatus
from connectors.paths import RESERVED
from connectors.registry import Clock
from connectors.s3.download import Downloader
from connectors.s3.upload import Uploader
from connectors.tree import Tree

STALE = 7 * 86_400 * 1_000_000
"""µs after which an upload has been left behind by a process that died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A side on this machine."""

    live_root: Callable[[], Path]
    """Raises SiteUnreachable while it is away."""


class S3Mover:
    """The port `connectors.base.Mover` between `sides`, by the names that transfers call them: one end is here, the
    other one a bucket. `submit` and `status` ask nobody."""

    crosses_network = True

    def __init__(
        self, sides: Mapping[str, Here | BucketFiles], clock: Clock, *, threads: int = 2, part: int = LEAST
    ) -> None:
        """`part`: bytes of one part or range."""
        self._sides, self._clock, self._part = sides, clock, part
        self._errands = Errands(
            self._carry, name="s3", unfit=self.refuses, reserved={*RESERVED, RELAYED}, threads=threads
        )
        self._lock = threading.Lock()
        self._swept: set[str] = set()

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. A key that failed, or was canceled, begins again."""
        return self._errands.submit(transfers)

    def refuses(self, transfer: Transfer) -> str:
        """Whatever does not go between this machine and a bucket, or is known to be too large for one."""
        names = (transfer.source_site, transfer.destination_site)
        for name in names:
            if name not in self._sides:
                return f"{name or 'the broker'} is neither on this machine nor a bucket"
        buckets = [name for name in names if isinstance(self._sides[name], BucketFiles)]
        if len(buckets) == 2:
            return "both ends are elsewhere"
        if not buckets:
            return "both ends are on this machine: that is copied"
        if names[1] not in buckets:
            return ""
        return next((why for item in transfer.items if (why := too_large(item.source, item.size or 0))), "")

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        return self._errands.status(keys)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """True: nothing more will appear, and what was begun at the store is given up."""
        return self._errands.cancel(keys)

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        self._errands.close()

    # -- behind ----------------------------------------------------------------------------------------

    def _carry(self, errand: Errand) -> None:
        transfer = errand.transfer
        source, destination = self._sides[transfer.source_site], self._sides[transfer.destination_site]
        receipt = self._receipt(transfer, destination)
        if receipt is None:
            if isinstance(destination, BucketFiles):
                assert isinstance(source, Here)  # noqa: S101 - both ends elsewhere is refused
                moved = self._up(errand, source, destination)
            else:
                assert isinstance(source, BucketFiles)  # noqa: S101
                moved = self._down(errand, source, destination)
            receipt = Receipt(digest=transfer_digest(transfer), moved=moved, at=self._clock())
            self._leave(transfer, destination, receipt)
        errand.moved = receipt.moved

    def _up(self, errand: Errand, source: Here, bucket: BucketFiles) -> int:
        transfer = errand.transfer
        self._sweep(transfer.destination_site, bucket)
        side = source_side(transfer.source_site, self._root(transfer.source_site, source))
        return Uploader(errand, source=side, bucket=bucket, site=transfer.destination_site, least=self._part).carry()

    def _down(self, errand: Errand, bucket: BucketFiles, destination: Here) -> int:
        transfer = errand.transfer
        side = self._there(transfer, destination)
        return Downloader(errand, bucket=bucket, site=transfer.source_site, destination=side, least=self._part).carry()

    def _root(self, name: str, side: Here) -> Path:
        with blamed(name):
            return side.live_root()

    def _there(self, transfer: Transfer, side: Here) -> Side:
        return destination_side(transfer.destination_site, self._root(transfer.destination_site, side))

    # -- receipts --------------------------------------------------------------------------------------

    def _receipt(self, transfer: Transfer, destination: Here | BucketFiles) -> Receipt | None:
        name = transfer.destination_site
        if isinstance(destination, BucketFiles):
            with blamed(name):
                try:
                    content = destination.read(receipt_path(transfer.key), limit=LARGEST_RECEIPT)
                except NotThere:
                    return None
            found = receipt_from(content)
        else:
            side = self._there(transfer, destination)
            with side.blamed("the receipt"), Tree(side.root) as tree:
                found = Receipts(tree).get(transfer.key)
        if found is not None and found.digest != transfer_digest(transfer):
            reason = f"key {transfer.key} belongs to another transfer"
            raise TransferFailure(reason, fault=Fault.STAGING, site=name)
        return found

    def _leave(self, transfer: Transfer, destination: Here | BucketFiles, receipt: Receipt) -> None:
        if isinstance(destination, BucketFiles):
            with blamed(transfer.destination_site):
                destination.write(receipt_path(transfer.key), receipt.content())
            return
        side = self._there(transfer, destination)
        with side.blamed("the receipt"), Tree(side.root) as tree:
            Receipts(tree).put(transfer.key, receipt)

    def _sweep(self, name: str, bucket: BucketFiles) -> None:
        """Once in a mover's life: give up what dead processes have begun. A store that does not list is left alone."""
        with self._lock:
            if name in self._swept:
                return
            self._swept.add(name)
        parts, before = Parts(bucket, site=name), self._clock() - STALE
        with suppress(SiteError):
            for upload in [upload for upload in parts.pending() if 0 < upload.begun < before]:
                parts.abort(upload)
