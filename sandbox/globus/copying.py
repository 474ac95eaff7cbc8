"""One file on its way: compared, poured over, verified, and put into its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress

from connectors.paths import split
from connectors.tree import temporary_name, write_all
from sandbox.globus.collections import Collection, Entry, entry_at
from sandbox.globus.pieces import Copied, Done, Job, Piece, forget, sided
from sandbox.globus.troubles import Trouble, told

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe of that name must not hang it
_OVER = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy(job: Job, piece: Piece) -> Iterator[Done]:
    if (stall := job.mishaps("stall", piece.source)) is not None:
        yield Done(seconds=float(stall.get("seconds", 1e9)))
    if (wrong := job.mishaps("task_trouble", piece.source)) is not None:
        side = str(wrong.get("side", "source"))
        raise Trouble(str(wrong.get("code", "ENDPOINT_ERROR")), str(wrong.get("text", "a fault script")), side=side)
    yield Done(seconds=job.latency)
    with ExitStack() as stack:
        with sided("source"):
            tree = stack.enter_context(job.source.tree())
            with told("source"):
                source = tree.open(job.source.inside(piece.source).rstrip("/"))
        stack.callback(os.close, source)
        before = os.fstat(source)
        there = _there(job, piece)
        if there is not None and job.order.sync_level is not None:
            same = yield from _same(job, piece, source, there)
            if same:
                yield Done(skipped=True, end=True)
                return
        yield from _over(job, piece, source, before)


def _there(job: Job, piece: Piece) -> Entry | None:
    with sided("destination"), job.destination.tree() as tree, told("destination"):
        try:
            return entry_at(tree, job.destination.writable(piece.destination))
        except (FileNotFoundError, NotADirectoryError):
            return None


def _same(job: Job, piece: Piece, source: int, there: Entry) -> Generator[Done, None, bool]:
    """Says at its end whether the sync level is content with what is there."""
    facts, level = os.fstat(source), job.order.sync_level or 0
    if level >= 1 and (there.type != "file" or there.size != facts.st_size):
        return False
    if level == 2:
        return int(there.modified_at) >= int(facts.st_mtime)
    if level < 3:
        return True
    with sided("destination"), job.destination.tree() as tree, told("destination"):
        other = tree.open(job.destination.inside(piece.destination))
    try:
        name = piece.item.algorithm or "MD5"
        mine = yield from _digest(job, source, name)
        its = yield from _digest(job, other, name)
    finally:
        os.close(other)
    os.lseek(source, 0, os.SEEK_SET)
    return mine == its


def _digest(job: Job, fd: int, algorithm: str) -> Generator[Done, None, str]:
    """Returns the checksum of what is left to read."""
    seen = hashlib.new(algorithm, usedforsecurity=False)
    while block := os.read(fd, job.block):
        seen.update(block)
        yield Done(checksummed=len(block))
    return seen.hexdigest()


def _over(job: Job, piece: Piece, source: int, before: os.stat_result) -> Iterator[Done]:
    folder, name = split(job.destination.writable(piece.destination))
    if not name:
        raise Trouble("IS_A_DIRECTORY", "Is a directory", side="destination")
    algorithm = piece.item.algorithm or "MD5"
    partial, replaced = job.destination.visible_partial, 0
    with ExitStack() as stack:
        with sided("destination"):
            tree = stack.enter_context(job.destination.tree())
        with told("destination"):
            at = stack.enter_context(tree.folder(folder, create=True))
            with suppress(FileNotFoundError):
                replaced = os.stat(name, dir_fd=at, follow_symlinks=False).st_size
            written = name if partial else temporary_name()
            mode = before.st_mode & 0o777 | 0o600
            out = os.open(written, _OVER if partial else _NEW, mode, dir_fd=at)
        stack.callback(os.close, out)
        given = _Given(job.destination)
        if not partial:
            stack.callback(forget, written, at)
        stack.callback(given.back)
        mine = yield from _pour(job, piece, source, out, given, algorithm)
        facts = os.fstat(source)
        if (facts.st_size, facts.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise Trouble("FILE_SIZE_CHANGED", "the source has changed while it was read", side="source")
        told_sum = yield from _verified(job, piece, (written, at), mine, algorithm)
        with told("destination"):
            if job.order.preserve_timestamp:
                os.utime(out, ns=(before.st_atime_ns, before.st_mtime_ns))
            if not partial:
                os.replace(written, name, src_dir_fd=at, dst_dir_fd=at)
        given.keep(replaced=replaced)
    copied = Copied(
        source=piece.source,
        destination=piece.destination,
        size=before.st_size,
        checksum=told_sum,
        algorithm=algorithm if told_sum else None,
    )
    yield Done(copied=copied, end=True)


class _Given:
    """Room that a file takes, and gives back unless it is kept."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._count = 0

    def take(self, count: int) -> None:
        self._collection.book(count)
        self._count += count

    def keep(self, *, replaced: int) -> None:
        self._count = 0
        self._collection.book(-replaced)

    def back(self) -> None:
        self._collection.book(-self._count)


def _pour(job: Job, piece: Piece, source: int, out: int, given: _Given, algorithm: str) -> Generator[Done, None, str]:
    """Returns the checksum of what was read."""
    spoilt = job.mishaps("corrupt", piece.source) is not None
    changed = job.mishaps("source_changes", piece.source) is not None
    seen = hashlib.new(algorithm, usedforsecurity=False)
    while True:
        with told("source"):
            block = os.read(source, job.portion)
        if not block:
            return seen.hexdigest()
        seen.update(block)
        if spoilt:
            block, spoilt = bytes([block[0] ^ 1]) + block[1:], False
        given.take(len(block))
        with told("destination"):
            write_all(out, block)
        yield Done(bytes=len(block), seconds=job.seconds(len(block)))
        if changed:
            raise Trouble("FILE_SIZE_CHANGED", "the source has changed while it was read", side="source")


def _verified(
    job: Job, piece: Piece, written: tuple[str, int], mine: str, algorithm: str
) -> Generator[Done, None, str | None]:
    """Returns the checksum that was found at the destination; None: nobody has looked."""
    verify = (job.order.verify_checksum or job.destination.force_verify) and not job.destination.disable_verify
    wanted = piece.item.checksum.lower()
    if not verify and not wanted:
        return None
    with told("destination"):
        back = os.open(written[0], _READ, dir_fd=written[1])
    try:
        its = yield from _digest(job, back, algorithm)
    finally:
        os.close(back)
    if verify and its != mine:
        raise Trouble("VERIFY_CHECKSUM", "the destination has another checksum than the source", side="destination")
    if wanted and its != wanted:
        raise Trouble("EXTERNAL_CHECKSUM_MISMATCH", f"{piece.source}: not the checksum that was given")
    return its
