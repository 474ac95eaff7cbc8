"""Folders of this machine that are no site's: the broker's own store of documents' files, and places."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.errors import NotThere, QuotaError, RequestRefused, SiteError, SiteUnreachable
from connectors.model import FileInfo, SmallFile
from connectors.tree import Tree, read_at


class BlobFiles:
    """Reading below a folder of this machine that has no marker, because it is no site's."""

    def __init__(self, root: Path, *, called: str = "the broker's own files") -> None:
        self._root, self._called = root, called

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        try:
            with self._open() as tree:
                return _read(tree, path, offset=offset, limit=limit)
        except OSError as error:
            raise self._translated(path, error) from error

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                found[path] = self.read(path, limit=limit)
            except NotThere:
                continue
        return found

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        with self._open() as tree:
            return tree.list(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        with self._open() as tree:
            for path in paths:
                try:
                    found[path] = tree.digest(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise self._translated(path, error) from error
        return found

    def _open(self) -> Tree:
        try:
            return Tree(self._root)
        except OSError as error:
            raise SiteUnreachable(f"{self._called} in {self._root}: {error.strerror}") from error

    def _translated(self, path: str, error: OSError) -> SiteError:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        return (NotThere if absent else SiteUnreachable)(f"{self._called}: {path}: {error.strerror}")


class FolderOfPlace(BlobFiles):
    """The port SiteFiles in a place that is a folder of this machine. It is never made: one that is away is dark."""

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self.write_many([SmallFile(path=path, content=content, mode=mode)])

    def write_many(self, files: Sequence[SmallFile]) -> None:
        with self._open() as tree:
            for file in files:
                try:
                    tree.write(file.path, file.content, mode=file.mode)
                except OSError as error:
                    raise self._refused(file.path, error) from error

    def remove(self, paths: Sequence[str]) -> None:
        with self._open() as tree:
            for path in paths:
                try:
                    tree.remove(path)
                except OSError as error:
                    raise self._refused(path, error) from error

    def _refused(self, path: str, error: OSError) -> SiteError:
        what = f"{self._called}: {path}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return QuotaError(what)
        lasting = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
        return RequestRefused(what) if lasting else SiteUnreachable(what)


def _read(tree: Tree, path: str, *, offset: int, limit: int) -> bytes:
    fd = tree.open(path)
    try:
        return read_at(fd, offset=offset, limit=limit)
    finally:
        os.close(fd)
