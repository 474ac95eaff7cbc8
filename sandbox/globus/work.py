"""The work of a task, in pieces: each is a generator that does a little and says how long that takes.

No clock and no lock in here. Whoever drives a piece looks before each step whether it still may, and goes on after
the seconds that the step has told of.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from connectors.paths import split
from connectors.tree import temporary_name, write_all
from sandbox.globus.collections import Collection, Entry, entries_in, entry_at
from sandbox.globus.orders import Item, Kind, Order
from sandbox.globus.troubles import Trouble, told

BLOCK = 4 << 20
"""Bytes of a step."""
LARGEST_FOLDER = 5_000_000
"""Entries."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe of that name must not hang it
_OVER = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class What(StrEnum):
    """The kinds of pieces."""

    LOOK = "look"
    """At an item: what is it?"""
    FOLDER = "folder"
    FILE = "file"
    LINK = "link"
    EXTRA = "extra"
    """Remove at the destination what the source does not have."""
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a task that succeeds or fails by itself. Paths are those of the API."""

    what: What
    source: str
    destination: str = ""
    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file that has come over."""

    source: str
    destination: str
    size: int
    checksum: str | None
    algorithm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one step has brought."""

    seconds: float = 0.0
    """How long it takes."""
    bytes: int = 0
    checksummed: int = 0
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    found: Sequence[Piece] = ()
    """More to do."""
    copied: Copied | None = None
    skipped: bool = False
    """The file is at the destination already."""


Mishaps = Callable[[str, str], Mapping[str, Any] | None]
"""Is this fault (by its name in scripts) to befall what is done with this path? Its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What pieces need to know."""

    order: Order
    source: Collection
    destination: Collection
    mishaps: Mishaps
    latency: float = 0.0
    """Seconds that each file costs."""
    rate: float = 0.0
    """Bytes per second of the link; 0: as quick as it goes."""
    block: int = BLOCK

    def reach(self) -> None:
        """Raises Trouble where one of the sides does not answer."""
        for collection, side in ((self.source, "source"), (self.destination, "destination")):
            try:
                collection.reach()
            except Trouble as trouble:
                trouble.side = side
                raise

    @property
    def speed(self) -> float:
        """Bytes per second, now; 0: as quick as it goes."""
        return min((rate for rate in (self.rate, self.source.rate, self.destination.rate) if rate > 0), default=0.0)

    @property
    def portion(self) -> int:
        """Bytes of the next step: what comes in a second, at most a block."""
        return min(self.block, max(1, int(self.speed))) if self.speed else self.block

    def seconds(self, count: int) -> float:
        """That so many bytes take."""
        return count / self.speed if self.speed else 0.0


def first_pieces(order: Order) -> list[Piece]:
    """What a task begins with."""
    what = What.LOOK if order.kind is Kind.TRANSFER else What.DELETE
    return [Piece(what=what, source=item.source, destination=item.destination, item=item) for item in order.items]


def work(job: Job, piece: Piece) -> Iterator[Done]:
    """Do it, step by step. Raises Trouble."""
    match piece.what:
        case What.LOOK:
            return _look(job, piece)
        case What.FOLDER:
            return _folder(job, piece)
        case What.FILE:
            return _file(job, piece)
        case What.LINK:
            return _link(job, piece)
        case What.EXTRA:
            return _delete(job, piece, at=job.destination, path=piece.destination)
        case What.DELETE:
            return _delete(job, piece, at=job.source, path=piece.source)


# -- what is there -------------------------------------------------------------------------------------------


def _look(job: Job, piece: Piece) -> Iterator[Done]:
    entry = _source_entry(job, piece.source)
    _not_into_itself(job, piece)
    if piece.item.link:
        if entry.link_target is None:
            raise Trouble("INVALID_SYMLINK", "not a symbolic link", side="source")
        yield Done(found=[replace(piece, what=What.LINK)], symlinks=1)
        return
    if entry.type == "invalid_symlink":
        raise Trouble("INVALID_SYMLINK", "it leads nowhere, or out of the collection", side="source")
    if entry.is_dir:
        if piece.item.recursive is False:
            raise Trouble("IS_A_DIRECTORY", "Is a directory", side="source")
        yield Done(found=[replace(piece, what=What.FOLDER)], directories=1)
        return
    if piece.item.recursive:
        raise Trouble("NOT_A_DIRECTORY", "Not a directory", side="source")
    if piece.destination.endswith("/"):
        raise Trouble("IS_A_DIRECTORY", "the destination of a file is named as a directory", side="destination")
    yield Done(found=[replace(piece, what=What.FILE)], files=1)


def _not_into_itself(job: Job, piece: Piece) -> None:
    """Of two names of one folder, too."""
    source = os.path.realpath(job.source.folder / job.source.inside(piece.source))
    target = os.path.realpath(job.destination.folder / job.destination.inside(piece.destination))
    if source == target or target.startswith(source + os.sep):
        raise Trouble("INVALID_PATH_NAME", "source and destination are the same", side="destination")


def _source_entry(job: Job, path: str) -> Entry:
    with _sided("source"), job.source.tree() as tree, told("source"):
        return entry_at(tree, job.source.inside(path))


def _folder(job: Job, piece: Piece) -> Iterator[Done]:
    with _sided("source"), job.source.tree() as tree, told("source"):
        entries = entries_in(tree, job.source.inside(piece.source), most=LARGEST_FOLDER)
    if entries is None:
        raise Trouble("LIMIT_EXCEEDED", "too many files in one folder", side="source")
    with _sided("destination"), job.destination.tree() as tree, told("destination"):
        target = job.destination.writable(piece.destination)
        with tree.folder(target, create=True):
            pass
    taken = [entry for entry in entries if job.order.takes(entry.name, is_dir=entry.is_dir)]
    found = [below for entry in taken if (below := _below(job, piece, entry)) is not None]
    extra = _extra(job, piece, {entry.name for entry in taken}) if job.order.delete_destination_extra else []
    yield Done(
        seconds=job.latency,
        found=[*found, *extra],
        files=sum(one.what is What.FILE for one in found),
        directories=sum(one.what is What.FOLDER for one in found),
        symlinks=sum(one.what is What.LINK for one in found),
    )


def _below(job: Job, piece: Piece, entry: Entry) -> Piece | None:
    """What is to be done with an entry of a folder; None: nothing."""
    source, destination = (f"{path.rstrip('/')}/{entry.name}" for path in (piece.source, piece.destination))
    item = Item(source=source, destination=destination)
    if entry.link_target is not None and job.order.recursive_symlinks != "copy":
        kept = job.order.recursive_symlinks == "keep"
        return Piece(what=What.LINK, source=source, destination=destination, item=item) if kept else None
    if entry.link_target is not None and entry.is_dir:
        return None  # a folder behind a link could hold the link
    if entry.type not in ("dir", "file", "invalid_symlink"):
        return None
    what = What.FOLDER if entry.is_dir else What.FILE
    return Piece(what=what, source=source, destination=destination, item=item)


def _extra(job: Job, piece: Piece, names: set[str]) -> list[Piece]:
    with _sided("destination"), job.destination.tree() as tree, told("destination"):
        there = entries_in(tree, job.destination.inside(piece.destination), most=LARGEST_FOLDER) or []
    paths = [f"{piece.destination.rstrip('/')}/{entry.name}" for entry in there if entry.name not in names]
    return [Piece(what=What.EXTRA, source="", destination=path, item=Item(source=path)) for path in paths]


# -- one file ------------------------------------------------------------------------------------------------


def _file(job: Job, piece: Piece) -> Iterator[Done]:
    if (stall := job.mishaps("stall", piece.source)) is not None:
        yield Done(seconds=float(stall.get("seconds", 1e9)))
    if (wrong := job.mishaps("task_trouble", piece.source)) is not None:
        side = str(wrong.get("side", "source"))
        raise Trouble(str(wrong.get("code", "ENDPOINT_ERROR")), str(wrong.get("text", "a fault script")), side=side)
    yield Done(seconds=job.latency)
    with ExitStack() as stack:
        with _sided("source"):
            tree = stack.enter_context(job.source.tree())
            with told("source"):
                source = tree.open(job.source.inside(piece.source).rstrip("/"))
        stack.callback(os.close, source)
        before = os.fstat(source)
        there = _there(job, piece)
        if there is not None and job.order.sync_level is not None:
            same = yield from _same(job, piece, source, there)
            if same:
                yield Done(skipped=True)
                return
        yield from _over(job, piece, source, before)


def _there(job: Job, piece: Piece) -> Entry | None:
    with _sided("destination"), job.destination.tree() as tree, told("destination"):
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
    with _sided("destination"), job.destination.tree() as tree, told("destination"):
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
        with _sided("destination"):
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
            stack.callback(_forget, written, at)
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
    yield Done(copied=copied)


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


def _forget(name: str, at: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)


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


# -- links and deletions -------------------------------------------------------------------------------------


def _link(job: Job, piece: Piece) -> Iterator[Done]:
    entry = _source_entry(job, piece.source)
    path = job.destination.writable(piece.destination)
    folder, name = split(path)
    target = entry.link_target or ""
    ends = os.path.normpath(os.path.join("/", "x", folder, target))  # `x`: so that going above the top shows
    if not target or target.startswith("/") or not f"{ends}/".startswith("/x/"):
        raise Trouble("INVALID_SYMLINK", "it leads out of the collection", side="source")
    with (
        _sided("destination"),
        job.destination.tree() as tree,
        told("destination"),
        tree.folder(folder, create=True) as at,
    ):
        temporary = temporary_name()
        os.symlink(target, temporary, dir_fd=at)
        try:
            os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        finally:
            _forget(temporary, at)
    yield Done(seconds=job.latency)


def _delete(job: Job, piece: Piece, *, at: Collection, path: str) -> Iterator[Done]:
    with at.tree() as tree, told():
        inner = at.writable(path)
        folder, name = split(inner)
        if job.order.interpret_globs and piece.item.recursive is None and any(sign in name for sign in "*?["):
            entries = entries_in(tree, folder, most=LARGEST_FOLDER) or []
            paths = [f"/{folder}/{one.name}" for one in entries if fnmatchcase(one.name, name)]
            # `recursive` says that a name is meant as it is: it may hold such signs itself
            yield Done(found=[replace(piece, source=one, item=Item(source=one, recursive=True)) for one in paths])
            return
        if not name:
            raise Trouble("PERMISSION_DENIED", "the top of a collection stays")
        try:
            entry = entry_at(tree, inner)
        except FileNotFoundError:
            if job.order.ignore_missing or piece.what is What.EXTRA:
                yield Done(seconds=job.latency)
                return
            raise
        is_folder = entry.is_dir and entry.link_target is None
        if is_folder and not job.order.recursive and piece.what is What.DELETE:
            raise Trouble("IS_A_DIRECTORY", "Is a directory")
        with tree.folder(folder) as here:
            freed, files, folders = _weight(name, here) if is_folder else (entry.size, 1, 0)
            if is_folder:
                shutil.rmtree(name, dir_fd=here)
            else:
                os.unlink(name, dir_fd=here)
    at.book(-freed)
    yield Done(seconds=job.latency, files=files, directories=folders)


def _weight(name: str, at: int) -> tuple[int, int, int]:
    """Bytes, files and folders of a folder."""
    size = files = folders = 0
    for _, _, names, fd in os.fwalk(name, dir_fd=at):
        folders += 1
        files += len(names)
        for one in names:
            with suppress(OSError):
                size += os.stat(one, dir_fd=fd, follow_symlinks=False).st_size
    return size, files, folders


@contextmanager
def _sided(side: str) -> Iterator[None]:
    """Whatever goes wrong in it goes wrong on that side."""
    try:
        yield
    except Trouble as trouble:
        trouble.side = trouble.side or side
        raise
