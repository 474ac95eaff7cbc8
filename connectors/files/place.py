"""The files of a place that is a folder of this machine."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import NotThere, QuotaError, RequestRefused, SiteUnreachable
from connectors.model import FileInfo, SmallFile
from connectors.registry import PlaceSetup
from connectors.tree import Tree

_ABSENT = (FileNotFoundError, NotADirectoryError)


class FolderPlace:
    """The port SiteFiles, and `Sweepable`, below one folder, which no path leads out of. A folder that is not there is
    a place that cannot be reached: never an empty one, and never made."""

    def __init__(self, side: str, root: Path) -> None:
        self._side, self._root = side, root

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        with self._open() as tree:
            try:
                return tree.read(path, offset=offset, limit=limit)
            except _ABSENT as error:
                raise NotThere(f"{self._side}{path}: {error.strerror}", site=self._side) from error

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        with self._open() as tree:
            for path in paths:
                try:
                    found[path] = tree.read(path, limit=limit)
                except _ABSENT:
                    continue
        return found

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self.write_many([SmallFile(path=path, content=content, mode=mode)])

    def write_many(self, files: Sequence[SmallFile]) -> None:
        with self._open() as tree:
            for file in files:
                try:
                    tree.write(file.path, file.content, mode=file.mode)
                except (IsADirectoryError, NotADirectoryError) as error:
                    raise RequestRefused(f"{self._side}{file.path}: {error.strerror}", site=self._side) from error

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        with self._open() as tree:
            return tree.list(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        with self._open() as tree:
            for path in paths:
                try:
                    found[path] = tree.digest(path)
                except _ABSENT:
                    continue
        return found

    def remove(self, paths: Sequence[str]) -> None:
        with self._open() as tree:
            for path in paths:
                try:
                    tree.remove(path)
                except IsADirectoryError as error:
                    raise RequestRefused(f"{path} is a folder; only files are removed", site=self._side) from error
                except NotADirectoryError:  # a file where the folder would be: nothing of that name is there
                    continue

    def sweep(self, path: str) -> None:
        with self._open() as tree:
            tree.sweep(path)

    @contextmanager
    def _open(self) -> Iterator[Tree]:
        try:
            tree = Tree(self._root)
        except OSError as error:
            raise SiteUnreachable(f"{self._side} {self._root}: {error.strerror}", site=self._side) from error
        with tree:
            try:
                yield tree
            except OSError as error:
                what = f"{self._side} {error.filename or self._root}: {error.strerror}"
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise RequestRefused(what, site=self._side) from error
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise QuotaError(what, site=self._side) from error
                raise SiteUnreachable(what, site=self._side) from error


def make_place(setup: PlaceSetup) -> FolderPlace:
    """From an entry of the site document."""
    return FolderPlace(setup.config.side, Path(setup.config.path))
