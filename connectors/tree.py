"""A folder held open, which no path given to it can leave: the disk's half of path safety.

Race policy. Each component is opened relative to the one before, never following a symbolic link, so
what was checked is what is used, whatever is renamed or linked in the meantime. Writing and removing follow
no link at all. Reading follows a link only when its end lies inside the folder: the end is looked up, and
then opened by the same careful steps, so that a link changed in between makes the reading fail, not stray.
Hard links and mounts are not looked through: who can make those can write to the folder anyhow.

Methods raise UnsafePath, or the OSError that the system gave.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from connectors.errors import UnsafePath
from connectors.model import FileInfo
from connectors.paths import clean, file_path, split

BLOCK = 1 << 20
"""Bytes read at a time where a whole file goes through our hands."""

_ZEROS = memoryview(bytes(BLOCK))
_SECTOR = 512
"""Bytes that one of `st_blocks` stands for."""

Heard = Callable[[int], None]
"""Is told of so many more bytes."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that a payload left behind must not hang
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = (".cf-", ".tmp")


def unheard(_: int) -> None:
    """Nobody listens."""


class _Linked(Exception):
    """A component of the path is a symbolic link."""


class Tree:
    """`path`, open. Close it, or use it in a `with`. Raises OSError when the folder is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def below(self, path: str, *, create: bool = False) -> Tree:
        """The tree of a folder in here. `create` makes what is missing of it, mode 0700."""
        inner = object.__new__(Tree)
        inner.fd = self._open_folder(clean(path), create=create)
        inner.path = self.path / clean(path)
        return inner

    def open(self, path: str) -> int:
        """A descriptor to read a regular file; the caller closes it. Other kinds: FileNotFoundError."""
        path = file_path(path)
        try:
            return self._open_plain(path)
        except _Linked:
            pass
        try:
            return self._open_plain(self._resolve(path))
        except _Linked as error:
            raise UnsafePath(f"{path}: a link in it changed while it was being opened") from error

    def read(self, path: str, *, offset: int = 0, limit: int) -> bytes:
        """At most `limit` bytes of a regular file; a negative offset counts from its end. Fails as `open` does."""
        fd = self.open(path)
        try:
            return read_at(fd, offset=offset, limit=limit)
        finally:
            os.close(fd)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Create or replace a file whole, by rename; folders on the way are made."""
        folder, name = split(file_path(path))
        with self.folder(folder, create=True) as at:
            temporary = temporary_name()
            try:
                _write_new(temporary, content, mode=mode, dir_fd=at)
                os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=at)
                raise

    def remove(self, path: str) -> None:
        """Remove a file or a link itself; absent is fine, a folder is an IsADirectoryError."""
        folder, name = split(file_path(path))
        with suppress(FileNotFoundError), self.folder(folder) as at:
            os.unlink(name, dir_fd=at)

    def sweep(self, path: str) -> None:
        """Remove a folder and those in it, as far as they are empty; links are not followed, absent is fine."""
        folder, name = split(file_path(path.rstrip("/")))
        with suppress(FileNotFoundError), self.folder(folder) as at:
            _sweep(at, name)

    def list(self, path: str, *, recursive: bool = False) -> list[FileInfo]:
        """What is in a folder, sorted by path; an absent one is empty.

        Left out: names that `paths.clean` refuses, special files, links that lead to folders or out of here,
        and files just being written.
        """
        found: list[FileInfo] = []
        waiting = [clean(path)]
        while waiting:
            here = waiting.pop()
            with suppress(FileNotFoundError, NotADirectoryError), self.folder(here) as at:
                entries = list(self._entries(at, here))
                found += entries
                waiting += [entry.path for entry in entries if entry.is_dir and recursive]
        return sorted(found, key=lambda info: info.path)

    def digest(self, path: str, *, heard: Heard = unheard) -> tuple[int, str]:
        """Size and SHA-256 of a file. `heard`: see `digest_of`."""
        fd = self.open(path)
        try:
            return digest_of(fd, heard=heard)
        finally:
            os.close(fd)

    @contextmanager
    def folder(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of a folder in here, for the time of the `with`."""
        fd = self._open_folder(path, create=create)
        try:
            yield fd
        finally:
            os.close(fd)

    # -- careful steps ---------------------------------------------------------------------------------

    def _open_folder(self, path: str, *, create: bool) -> int:
        try:
            return self._descend(path, create=create)
        except _Linked as error:
            raise UnsafePath(f"{path}: a folder on the way is a symbolic link, which is not followed") from error

    def _descend(self, path: str, *, create: bool) -> int:
        here = os.dup(self.fd)
        for part in path.split("/") if path else ():
            try:
                there = _step(here, part, create=create)
            finally:
                os.close(here)
            here = there
        return here

    def _open_plain(self, path: str) -> int:
        folder, name = split(path)
        at = self._descend(folder, create=False)
        try:
            fd = os.open(name, _READ, dir_fd=at)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _Linked from error
            raise
        finally:
            os.close(at)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)

    def _resolve(self, path: str) -> str:
        """Where a path with links in it ends, relative to here. Raises UnsafePath when that is elsewhere."""
        root = os.path.realpath(self.path)
        end = os.path.realpath(os.path.join(root, path))
        if os.path.commonpath([root, end]) != root or end == root:
            raise UnsafePath(f"{path}: a link in it leads out of the root")
        return os.path.relpath(end, root)

    def _entries(self, at: int, folder: str) -> Iterator[FileInfo]:
        with os.scandir(at) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                info = self._info(entry, path)
                if info is not None:
                    yield info

    def _info(self, entry: os.DirEntry[str], path: str) -> FileInfo | None:
        if is_temporary(entry.name):
            return None
        try:
            clean(path)
            facts = self._facts_behind(path) if entry.is_symlink() else entry.stat(follow_symlinks=False)
        except (UnsafePath, OSError):  # a name nobody can ask for, or gone since it was listed
            return None
        is_dir = stat.S_ISDIR(facts.st_mode)
        if not is_dir and not stat.S_ISREG(facts.st_mode):
            return None
        size = 0 if is_dir else facts.st_size
        return FileInfo(path=path, size=size, is_dir=is_dir, modified_at=facts.st_mtime_ns // 1000)

    def _facts_behind(self, path: str) -> os.stat_result:
        fd = self.open(path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)


def digest_of(fd: int, *, heard: Heard = unheard) -> tuple[int, str]:
    """Size and SHA-256 of what is left to read from a descriptor. `heard` is told of the bytes of each block; what it
    raises ends the reading."""
    seen = hashlib.sha256()
    size = 0
    for block, _ in blocks(fd):
        heard(len(block))
        seen.update(block)
        size += len(block)
    return size, seen.hexdigest()


def blocks(fd: int) -> Iterator[tuple[bytes | memoryview, bool]]:
    """What is left to read from a descriptor, block by block, and is it of a hole: zeros that no disk keeps, and that
    are not read from any. Files without holes, and file systems that tell of none, cost nothing for it. Where the
    descriptor stands afterwards is not said."""
    at, facts = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd)
    sparse = facts.st_blocks * _SECTOR < facts.st_size
    while True:
        data = _next(fd, at, os.SEEK_DATA) if sparse else at
        while at < data:
            size = min(BLOCK, data - at)
            at += size
            yield _ZEROS[:size], True
        end = _next(fd, at, os.SEEK_HOLE) if sparse else at + BLOCK
        while at < end:
            block = os.pread(fd, min(BLOCK, end - at), at)
            at += len(block)
            if not block:
                return
            yield block, False
        if sparse and at >= os.fstat(fd).st_size:
            return


def _next(fd: int, at: int, kind: int) -> int:
    """Where the next data, or the next hole, begins; there is a hole at the end of every file, and on a file system
    that knows of none, no other."""
    try:
        return os.lseek(fd, at, kind)
    except OSError as error:
        if error.errno == errno.EINVAL and kind == os.SEEK_DATA:
            return at
        if error.errno not in {errno.ENXIO, errno.EINVAL}:
            raise
        return os.fstat(fd).st_size


def write_sparse(fd: int, content: bytes | memoryview) -> None:
    """As `write_all`, but whole blocks of zeros are left out as holes. Whoever ends with one sets the length."""
    rest = memoryview(content)
    while rest:
        block, rest = rest[:BLOCK], rest[BLOCK:]
        if not block[0] and bytes(block) == bytes(len(block)):
            os.lseek(fd, len(block), os.SEEK_CUR)
        else:
            write_all(fd, block)


def read_at(fd: int, *, offset: int, limit: int) -> bytes:
    """At most `limit` bytes from `offset`; a negative offset counts from the end."""
    start = offset if offset >= 0 else max(0, os.fstat(fd).st_size + offset)
    parts: list[bytes] = []
    while limit > 0 and (block := os.pread(fd, min(limit, BLOCK), start)):
        parts.append(block)
        start += len(block)
        limit -= len(block)
    return b"".join(parts)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """All of it, in as many writes as the system wants."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def temporary_name() -> str:
    """A fresh name that listings leave out."""
    return secrets.token_hex(8).join(_TEMPORARY)


def is_temporary(name: str) -> bool:
    """Is it such a name?"""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def _write_new(name: str, content: bytes, *, mode: int, dir_fd: int) -> None:
    fd = os.open(name, _NEW, 0o600, dir_fd=dir_fd)
    try:
        if mode != 0o600:
            os.fchmod(fd, mode & 0o777)  # by hand: the process's umask has no say in it
        write_all(fd, content)
    finally:
        os.close(fd)


def _sweep(at: int, name: str) -> None:
    with suppress(NotADirectoryError, FileNotFoundError):
        here = os.open(name, _FOLDER, dir_fd=at)
        try:
            with os.scandir(here) as entries:
                inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            for one in inner:
                _sweep(here, one)
        finally:
            os.close(here)
    with suppress(OSError):  # not empty, not a folder, or not there
        os.rmdir(name, dir_fd=at)


def _step(here: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=here)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        # Linux says ENOTDIR for a link, other systems ELOOP
        if error.errno in {errno.ENOTDIR, errno.ELOOP} and _is_link(here, part):
            raise _Linked from error
        raise
    with suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=here)
    return _step(here, part, create=False)


def _is_link(here: int, part: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
