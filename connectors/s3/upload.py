"""From a folder here into a bucket: hashed, sent in parts while it is hashed again, completed only when all is right.

An upload in parts shows nothing until it is completed. So all of a transfer is sent first, under its final keys, and
then completed, one after the other, and the receipt comes last; what nobody reads before it is told may appear at once.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from connectors.errands import Canceled, Errand, TransferFailure, about, blamed, reading
from connectors.errors import BadReply, Fault, RequestRefused, SiteError, SiteUnreachable
from connectors.files.bucket import BucketFiles
from connectors.files.parts import Parts, Upload, part_size, too_large
from connectors.folders.failure import Side
from connectors.folders.plan import Piece, make_plan
from connectors.paths import clean
from connectors.tree import BLOCK, Tree, digest_of

AT_ONCE = 4
"""Parts under way at a time; so many are in memory."""


@dataclass(slots=True)
class Sending:
    """One object on its way."""

    piece: Piece
    target: str
    size: int
    sha256: str
    mode: int
    upload: Upload | None = None
    etags: list[str] = field(default_factory=list)
    done: bool = False


class Uploader:
    """Carries one errand into a bucket."""

    def __init__(self, errand: Errand, *, source: Side, bucket: BucketFiles, site: str, least: int) -> None:
        """`least`: bytes of a part."""
        self._errand, self._source, self._bucket, self._site = errand, source, bucket, site
        self._parts, self._least = Parts(bucket, site=site), least

    def carry(self) -> int:
        """Bytes that are there now, verified. Raises TransferFailure or Canceled: then nothing can be seen, unless it
        is private, or putting in place itself failed half-way."""
        transfer = self._errand.transfer
        begun: list[Sending] = []
        try:
            with self._source.blamed(str(self._source.root)):
                here = Tree(self._source.root)
            with here, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="s3") as pool:
                plan = make_plan(here, transfer.items, self._source)
                straight = transfer.private or len(plan.pieces) == 1
                for piece in plan.pieces:
                    self._go_on()
                    with about(transfer.items[piece.item]):
                        self._begin(piece, here, pool, begun)
                    if straight:
                        self._show(begun[-1])
            self._go_on()
            for sending in begun:
                self._show(sending)
            self._verify(begun)
        finally:
            self._abort(begun)
        return sum(sending.size for sending in begun)

    def _go_on(self) -> None:
        if self._errand.stop.is_set():
            raise Canceled

    # -- one object ----------------------------------------------------------------------------------------

    def _begin(self, piece: Piece, here: Tree, pool: ThreadPoolExecutor, begun: list[Sending]) -> None:
        """Sent whole, and not shown. What is in `begun` is given up by whoever fails."""
        with self._source.blamed(piece.source):
            fd = here.open(piece.source)
        try:
            begun.append(sending := self._looked_at(piece, fd))
            self._send(sending, fd, pool)
        finally:
            os.close(fd)

    def _looked_at(self, piece: Piece, fd: int) -> Sending:
        facts, item = os.fstat(fd), self._errand.transfer.items[piece.item]
        if piece.size is not None and facts.st_size != piece.size:
            reason = f"corrupt: {piece.source} has {facts.st_size} bytes, not {piece.size}"
            raise self._source.failure(reason, Fault.STAGING)
        if refusal := too_large(piece.source, facts.st_size):
            raise TransferFailure(refusal, fault=Fault.QUOTA, site=self._site)
        what, errand = f"hashing {piece.source}", self._errand
        with (
            self._source.blamed(piece.source),
            reading(what, facts.st_size, stop=errand.stop, tell=errand.tell) as heard,
        ):
            size, sha256 = digest_of(fd, heard=heard)
        if piece.sha256 is not None and sha256 != piece.sha256:
            reason = f"corrupt: {piece.source} has SHA-256 {sha256}, not {piece.sha256}"
            raise self._source.failure(reason, Fault.STAGING)
        target = clean(item.destination) + (f"/{piece.inner}" if piece.inner else "")
        mode = facts.st_mode if piece.mode is None else piece.mode
        return Sending(piece=piece, target=target, size=size, sha256=sha256, mode=mode & 0o777)

    def _send(self, sending: Sending, fd: int, pool: ThreadPoolExecutor) -> None:
        """All parts, several at once. An empty object has none, and is made when it is shown."""
        if not sending.size:
            return
        with blamed(self._site):
            length = part_size(sending.size, least=self._least)
            sending.upload = upload = self._parts.begin(sending.target, sha256=sending.sha256, mode=sending.mode)
        seen, size, flying = hashlib.sha256(), 0, deque[tuple[Future[str], int]]()
        os.lseek(fd, 0, os.SEEK_SET)
        for number, part in enumerate(self._blocks(sending.piece, fd, length), 1):
            seen.update(part)
            size += len(part)
            if size > sending.size:
                break  # it is still written to
            flying.append((pool.submit(self._parts.put, upload, number, part), len(part)))
            if len(flying) >= AT_ONCE:
                self._land(sending, flying)
        while flying:
            self._land(sending, flying)
        if (size, seen.hexdigest()) != (sending.size, sending.sha256):
            reason = f"corrupt: {sending.piece.source} was changed while it was being copied"
            raise self._source.failure(reason, Fault.STAGING)

    def _land(self, sending: Sending, flying: deque[tuple[Future[str], int]]) -> None:
        future, size = flying.popleft()
        with blamed(self._site):
            sending.etags.append(future.result())
        self._errand.add(size)

    def _blocks(self, piece: Piece, fd: int, length: int) -> Iterator[bytes]:
        while True:
            self._go_on()
            parts, left = [], length
            while left:
                with self._source.blamed(piece.source):
                    block = os.read(fd, min(left, BLOCK))
                if not block:
                    break
                parts.append(block)
                left -= len(block)
            if not parts:
                return
            yield b"".join(parts)

    # -- putting in place ----------------------------------------------------------------------------------

    def _show(self, sending: Sending) -> None:
        if sending.done:
            return
        with blamed(self._site):
            if sending.upload is None:
                self._bucket.write(sending.target, b"", mode=sending.mode)
            else:
                self._complete(sending, sending.upload)
        sending.done = True

    def _complete(self, sending: Sending, upload: Upload) -> None:
        """Whose answer was lost may be complete: then it is there, and the same."""
        try:
            self._parts.complete(upload, sending.etags)
        except (SiteUnreachable, BadReply, RequestRefused):
            if not _same(self._bucket.digests([sending.target]), sending):
                raise

    def _verify(self, begun: Sequence[Sending]) -> None:
        with blamed(self._site):
            found = self._bucket.digests([sending.target for sending in begun])
        for sending in begun:
            if not _same(found, sending):
                with suppress(SiteError):
                    self._bucket.remove([sending.target])
                reason = f"corrupt: {sending.piece.source} did not arrive intact"
                with about(self._errand.transfer.items[sending.piece.item]):
                    raise TransferFailure(reason, fault=Fault.STAGING, site=self._site)

    def _abort(self, begun: Sequence[Sending]) -> None:
        for sending in begun:
            if sending.upload is not None and not sending.done:
                with suppress(SiteError):  # what stays is swept later
                    self._parts.abort(sending.upload)


def _same(found: object, sending: Sending) -> bool:
    return isinstance(found, dict) and found.get(sending.target) == (sending.size, sending.sha256)
