"""A site's file system, in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from connectors.errors import NotThere, UnsafePath
from connectors.model import FileInfo
from connectors.paths import clean, file_path
from sandbox.blob import Blob, blob_of

_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*|\.crossfade)(?:/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*|\.crossfade))*")
_SURELY_SHORT = 250


def _clean(path: str) -> str:
    """As `paths.clean`, with a short way for paths that are nothing but plain names."""
    if len(path) < _SURELY_SHORT and _PLAIN.fullmatch(path):
        return path
    return clean(path)


@lru_cache(maxsize=1024)
def _split(path: str) -> tuple[str, str]:
    """Folder and name of a file's path, as jobs by the thousand share it. Raises UnsafePath."""
    folder, _, name = file_path(path).rpartition("/")
    return folder, name


class Disk:
    """Folders of blobs. A folder is there when something was written below it."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, Blob | None]] = {"": {}}
        self._listed: dict[str, list[FileInfo]] = {}

    def get(self, path: str) -> Blob | None:
        folder, _, name = _clean(path).rpartition("/")
        entries = self._folders.get(folder)
        return None if entries is None else entries.get(name)

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        blob = self.get(path)
        if blob is None:
            raise NotThere(f"{path}: no such file")
        return blob.read(offset, limit)

    def write(self, path: str, content: bytes, now: int) -> None:
        self.put(path, blob_of(content, now))

    def put(self, path: str, blob: Blob) -> None:
        folder, _, name = _clean(path).rpartition("/")
        self._put(folder, name, blob)

    def fill(self, directory: str, blobs: Sequence[tuple[str, Blob]]) -> None:
        """Write several files below a folder. Raises UnsafePath before the first is written."""
        directory = _clean(directory)
        if not directory:
            raise UnsafePath("a job needs a folder of its own below the site's root")
        places = [(*_split(path), blob) for path, blob in blobs]
        for folder, name, blob in places:
            self._put(f"{directory}/{folder}" if folder else directory, name, blob)

    def _put(self, folder: str, name: str, blob: Blob) -> None:
        if not name:
            raise UnsafePath("an empty path names no file")
        entries = self._folders.get(folder)
        if entries is None:
            entries = self._make(folder)
        if entries.get(name, blob) is None:
            raise UnsafePath(f"{folder}/{name}: there is a folder of that name")
        entries[name] = blob
        self._listed.pop(folder, None)

    def remove(self, path: str) -> None:
        """Remove a file; an absent one is fine."""
        folder, _, name = _clean(path).rpartition("/")
        entries = self._folders.get(folder)
        if entries is not None and entries.get(name) is not None:
            del entries[name]
            self._listed.pop(folder, None)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all below it; an absent one is fine."""
        path = _clean(path)
        if path not in self._folders:
            return
        for folder in list(self._walk(path)):
            del self._folders[folder]
            self._listed.pop(folder, None)
        parent, _, name = path.rpartition("/")
        self._folders[parent].pop(name, None)
        self._listed.pop(parent, None)

    def listing(self, path: str, *, recursive: bool = False) -> list[FileInfo]:
        path = _clean(path)
        if path not in self._folders:
            return []
        if not recursive:
            return list(self._entries(path))
        found = [info for folder in self._walk(path) for info in self._entries(folder)]
        return sorted(found, key=_by_path)

    def files_below(self, folder: str) -> list[tuple[str, Blob]]:
        """Path and blob of every file below a folder, sorted by path."""
        found = [
            (f"{name}/{entry}" if name else entry, blob)
            for name in self._walk(_clean(folder))
            for entry, blob in self._folders[name].items()
            if blob is not None
        ]
        return sorted(found, key=lambda item: item[0])

    def wipe(self) -> None:
        self._folders = {"": {}}
        self._listed.clear()

    def _make(self, folder: str) -> dict[str, Blob | None]:
        parent, _, name = folder.rpartition("/")
        above = self._folders.get(parent)
        if above is None:
            above = self._make(parent)
        if above.get(name) is not None:
            raise UnsafePath(f"{folder}: there is a file of that name")
        above[name] = None
        self._listed.pop(parent, None)
        made = self._folders[folder] = {}
        return made

    def _walk(self, folder: str) -> Iterator[str]:
        entries = self._folders.get(folder)
        if entries is None:
            return
        yield folder
        for name, blob in list(entries.items()):
            if blob is None:
                yield from self._walk(f"{folder}/{name}" if folder else name)

    def _entries(self, folder: str) -> list[FileInfo]:
        listed = self._listed.get(folder)
        if listed is None:
            prefix = f"{folder}/" if folder else ""
            listed = self._listed[folder] = [
                FileInfo(path=prefix + name, size=0, is_dir=True)
                if blob is None
                else FileInfo(path=prefix + name, size=blob.size, modified_at=blob.modified_at)
                for name, blob in sorted(self._folders[folder].items())
            ]
        return listed


def _by_path(info: FileInfo) -> str:
    return info.path
