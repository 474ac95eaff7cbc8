"""The port SiteFiles over a folder that this machine sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.errors import RequestRefused, UnsafePath
from connectors.files.root import Root
from connectors.model import FileInfo, SmallFile
from connectors.paths import RESERVED, clean


class FolderFiles:
    """Reads and writes as `connectors.tree` allows. The job records and the marker are not for writing."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        with self._root.open() as tree:
            return tree.read(path, offset=offset, limit=limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        with self._root.open() as tree:
            for path in paths:
                try:
                    found[path] = tree.read(path, limit=limit)
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return found

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        writable(path)
        with self._root.open() as tree:
            tree.write(path, content, mode=mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            writable(file.path)
        with self._root.open() as tree:
            for file in files:
                tree.write(file.path, file.content, mode=file.mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        with self._root.open() as tree:
            return tree.list(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        with self._root.open() as tree:
            for path in paths:
                try:
                    found[path] = tree.digest(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return found

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            writable(path)
        with self._root.open() as tree:
            for path in paths:
                try:
                    tree.remove(path)
                except IsADirectoryError as error:
                    raise RequestRefused(f"{path} is a folder; only files are removed") from error
                except NotADirectoryError:  # a file where the folder would be: nothing of that name is there
                    continue

    def sweep(self, path: str) -> None:
        """Take emptied folders away (`connectors.base.Sweepable`)."""
        writable(path)
        with self._root.open() as tree:
            tree.sweep(path)


def writable(path: str) -> str:
    """The cleaned path, unless it belongs to the connector itself. Raises UnsafePath."""
    cleaned = clean(path)
    if cleaned.split("/", 1)[0] in RESERVED:
        raise UnsafePath(f"path {path!r} belongs to the site's own records; choose another")
    return cleaned
