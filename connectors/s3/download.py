"""From a bucket into a folder here: by ranges of one and the same version, hashed on the way and again on the disk.

Half an object stays in `incoming/<key>/<stage>/`; asked again, it is gone on with from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from connectors.errands import Canceled, Errand, TransferFailure, about, blamed, reading
from connectors.errors import BadReply, Fault, NotThere
from connectors.files.bucket import BucketFiles
from connectors.folders.failure import Side
from connectors.folders.placing import publish
from connectors.folders.plan import MOST_FILES, Piece, Plan
from connectors.paths import clean, split
from connectors.tree import Tree, blocks, digest_of, write_sparse

AT_ONCE = 4
"""Ranges under way at a time; so many are in memory."""
INCOMING = "incoming"
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"[0-7]{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An object as the store tells of it. `sha256` "": whoever put it there has not told."""

    piece: Piece
    size: int
    etag: str
    sha256: str
    mode: int


class Downloader:
    """Carries one errand out of a bucket."""

    def __init__(self, errand: Errand, *, bucket: BucketFiles, site: str, destination: Side, least: int) -> None:
        """`least`: bytes of a range."""
        self._errand, self._bucket, self._site, self._destination = errand, bucket, site, destination
        self._least = least

    def carry(self) -> int:
        """Bytes that are in place now, verified. Raises TransferFailure or Canceled, and then nothing is in place,
        unless putting in place itself failed half-way: the same key then goes on."""
        wanted = self._look()
        self._go_on()
        with self._destination.blamed(str(self._destination.root)):
            there = Tree(self._destination.root)
        with there, self._stage(there, wanted) as waiting, ThreadPoolExecutor(AT_ONCE) as pool:
            for one in wanted:
                with about(self._errand.transfer.items[one.piece.item]):
                    self._bring(one, waiting, pool)
            self._go_on()
            self._place(wanted, waiting, there)
        return sum(one.size for one in wanted)

    def _go_on(self) -> None:
        if self._errand.stop.is_set():
            raise Canceled

    # -- looking -------------------------------------------------------------------------------------------

    def _look(self) -> Sequence[Wanted]:
        with blamed(self._site):
            pieces = list(self._pieces())
            return list(self._bucket.each(self._looked_at, pieces))

    def _pieces(self) -> Iterator[Piece]:
        for number, item in enumerate(self._errand.transfer.items):
            path = clean(item.source)
            if not item.source.endswith("/"):
                yield Piece(item=number, inner="", source=path, size=item.size, sha256=item.sha256, mode=item.mode)
                continue
            below = [info for info in self._bucket.list(path, recursive=True) if not info.is_dir]
            if not below:
                with about(item), blamed(self._site):
                    raise NotThere(f"source missing or empty: {path}/", site=self._site)
            if len(below) > MOST_FILES:
                raise TransferFailure(f"more than {MOST_FILES} files", fault=Fault.STAGING, site=self._site)
            for info in below:
                inner = clean(info.path).removeprefix(f"{path}/")
                yield Piece(item=number, inner=inner, source=info.path, mode=item.mode)

    def _looked_at(self, piece: Piece) -> Wanted:
        with about(self._errand.transfer.items[piece.item]), blamed(self._site):
            return self._told(piece)

    def _told(self, piece: Piece) -> Wanted:
        self._go_on()
        reply = self._bucket.head(piece.source)
        if reply is None:
            raise NotThere(f"source missing: {piece.source}", site=self._site)
        size, sha256 = self._bucket.length(reply), reply.headers.get("x-amz-meta-sha256", "")
        sha256 = sha256 if _SHA256.fullmatch(sha256) else ""
        if piece.size is not None and size != piece.size:
            raise self._corrupt(f"{piece.source} has {size} bytes, not {piece.size}")
        if piece.sha256 is not None and sha256 and sha256 != piece.sha256:
            raise self._corrupt(f"{piece.source} has SHA-256 {sha256}, not {piece.sha256}")
        told = reply.headers.get("x-amz-meta-mode", "")
        mode = piece.mode if piece.mode is not None else int(told, 8) if _MODE.fullmatch(told) else 0o600
        return Wanted(
            piece=piece, size=size, etag=reply.headers["etag"], sha256=piece.sha256 or sha256, mode=mode & 0o777
        )

    def _corrupt(self, what: str) -> TransferFailure:
        return TransferFailure(f"corrupt: {what}", fault=Fault.STAGING, site=self._site)

    # -- bringing ------------------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, there: Tree, wanted: Sequence[Wanted]) -> Iterator[Tree]:
        """A folder for what arrives, locked; another one for another look at the source. It goes when all is done."""
        key = self._errand.transfer.key
        told = "\n".join(f"{one.piece.staged}/{one.etag}/{one.size}/{one.piece.source}" for one in wanted)
        name = f"in-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        with self._destination.blamed(INCOMING):
            above = there.below(f"{INCOMING}/{key}", create=True)
        with above, self._destination.blamed(INCOMING):
            try:
                fcntl.flock(above.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._destination.failure("another process brings the same files", Fault.SITE) from error
            for info in above.list(""):
                if info.is_dir and info.path != name:
                    shutil.rmtree(info.path, dir_fd=above.fd)
            with above.below(name, create=True) as waiting:
                try:
                    yield waiting
                except Canceled:
                    if self._errand.unwanted:
                        shutil.rmtree(name, ignore_errors=True, dir_fd=above.fd)
                    raise
            shutil.rmtree(name, dir_fd=above.fd)
        with suppress(OSError), there.folder(INCOMING) as at:
            os.rmdir(key, dir_fd=at)

    def _bring(self, one: Wanted, waiting: Tree, pool: ThreadPoolExecutor) -> None:
        staged = one.piece.staged
        folder, name = split(staged)
        with self._destination.blamed(staged), waiting.folder(folder, create=True) as at:
            fd = os.open(name, _FILE, 0o600, dir_fd=at)
        try:
            sha256 = self._fill(one, fd, pool)
            if one.sha256 and sha256 != one.sha256:
                with self._destination.blamed(staged):
                    os.ftruncate(fd, 0)  # nothing of it is gone on with
                raise self._corrupt(f"{one.piece.source} has SHA-256 {sha256}, not {one.sha256}")
            with self._destination.blamed(staged):
                os.fsync(fd)
                os.lseek(fd, 0, os.SEEK_SET)
                what, errand = f"comparing {one.piece.source}", self._errand
                with reading(what, one.size, stop=errand.stop, tell=errand.tell) as heard:
                    arrived = digest_of(fd, heard=heard)
                os.fchmod(fd, one.mode)
        finally:
            os.close(fd)
        if arrived != (one.size, sha256):
            raise self._destination.failure(f"corrupt: {one.piece.source} did not arrive intact", Fault.STAGING)

    def _fill(self, one: Wanted, fd: int, pool: ThreadPoolExecutor) -> str:
        """What the file lacks, in order, several ranges at once; the SHA-256 of it all."""
        seen, at = hashlib.sha256(), 0
        with self._destination.blamed(one.piece.staged):
            if os.fstat(fd).st_size > one.size or not one.sha256:
                os.ftruncate(fd, 0)  # half a file is gone on with only where the whole can be proven
            for block, _ in blocks(fd):
                self._go_on()
                seen.update(block)
                at += len(block)
            os.lseek(fd, at, os.SEEK_SET)
        self._errand.add(at)
        flying: deque[Future[bytes]] = deque()
        asked = at
        while asked < one.size or flying:
            self._go_on()
            while asked < one.size and len(flying) < AT_ONCE:
                length = min(self._least, one.size - asked)
                flying.append(pool.submit(self._range, one, asked, length))
                asked += length
            with blamed(self._site):
                part = flying.popleft().result()
            with self._destination.blamed(one.piece.staged):
                write_sparse(fd, part)
            seen.update(part)
            self._errand.add(len(part))
        with self._destination.blamed(one.piece.staged):
            os.ftruncate(fd, one.size)
        return seen.hexdigest()

    def _range(self, one: Wanted, at: int, length: int) -> bytes:
        headers = {"range": f"bytes={at}-{at + length - 1}", "if-match": one.etag}
        reply = self._bucket.ask("GET", one.piece.source, headers=headers, accept=(404, 412, 416), deadline=600.0)
        if reply.status in {404, 412, 416}:
            raise self._corrupt(f"{one.piece.source} was changed while it was being read")
        if reply.status != 206 or len(reply.content) != length:
            raise BadReply(f"{self._site}: a part of {one.piece.source} was asked for, and something else came")
        return reply.content

    # -- putting in place ----------------------------------------------------------------------------------

    def _place(self, wanted: Sequence[Wanted], waiting: Tree, there: Tree) -> None:
        pieces = [one.piece for one in wanted]
        folders = {split(piece.staged)[0] for piece in pieces if piece.inner}
        above = {"/".join(folder.split("/")[:n]) for folder in folders for n in range(1, folder.count("/") + 2)}
        plan = Plan(pieces=pieces, folders=sorted(above))
        publish(self._errand.transfer.items, plan, waiting=waiting, there=there, side=self._destination)
