"""The broker's own store of documents' files, as a relay reads from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.errors import NotThere, SiteError, SiteUnreachable
from connectors.model import FileInfo
from connectors.tree import Tree


class BlobFiles:
    """Reading below a folder of this machine that has no marker, because it is no site's."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        try:
            with self._open() as tree:
                return tree.read(path, offset=offset, limit=limit)
        except OSError as error:
            raise _translated(path, error) from error

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
                    raise _translated(path, error) from error
        return found

    def _open(self) -> Tree:
        try:
            return Tree(self._root)
        except OSError as error:
            raise SiteUnreachable(f"the broker's own files in {self._root}: {error.strerror}") from error


def _translated(path: str, error: OSError) -> SiteError:
    absent = isinstance(error, FileNotFoundError | NotADirectoryError)
    return (NotThere if absent else SiteUnreachable)(f"the broker's own file {path}: {error.strerror}")
