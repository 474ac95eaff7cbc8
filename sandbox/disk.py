"""A site's file system, in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

from connectors.errors import NotThere, UnsafePath
from connectors.model import FileInfo, SmallFile
from connectors.paths import clean, file_path
from sandbox.blob import Blob, blob_of

_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*|\.crossfade)(?:/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*|\.crossfade))*")
_SURELY_SHORT = 250
_NO_JOBS_IN = "spool"
"""Listed at every poll; looking through all jobs' folders each time would be quadratic."""


def _clean(path: str) -> str:
    """As `paths.clean`, with a short way for paths that are nothing but plain names."""
    if len(path) < _SURELY_SHORT and _PLAIN.fullmatch(path):
        return path
    return clean(path)


@lru_cache(maxsize=1024)
def _check_layout(paths: tuple[str, ...]) -> None:
    """Can these files lie in one folder? Jobs by the thousand share one answer. Raises UnsafePath."""
    cleaned = [file_path(path) for path in paths]
    folders = {path[:at] for path in cleaned for at, letter in enumerate(path) if letter == "/"}
    for path in cleaned:
        if path in folders:
            raise UnsafePath(f"{path}: a file and a folder of one name")


Later = list[tuple[str, bytes, int, int]]
"""Path below the folder, head, size and time of files that nobody has looked at yet."""


class Disk:
    """Folders of blobs. A folder is there when something was written below it.

    The control files of a job are mostly never read again, and jobs come by the ten thousand: `fill` only notes them,
    and whoever looks into such a folder finds them there. Folders of jobs do not lie within one another.
    """

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, Blob | None]] = {"": {}}
        self._listed: dict[str, list[FileInfo]] = {}
        self._later: dict[str, Later] = {}
        self._looked_into: set[str] = set()
        """Folders of jobs that nothing is noted for any more, nor for anything below them."""

    def get(self, path: str) -> Blob | None:
        path = _clean(path)
        if self._later:
            self._unfold(path)
        folder, _, name = path.rpartition("/")
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
        path = _clean(path)
        if self._later:
            self._unfold(path)
        folder, _, name = path.rpartition("/")
        self._put(folder, name, blob)

    def put_in(self, folder: str, name: str, content: bytes, now: int) -> None:
        """Write a file whose folder and name are known to be plain, in a folder that no job has."""
        self._put(folder, name, Blob(content, len(content), now))

    def fill(self, directory: str, files: Sequence[SmallFile], now: int) -> None:
        """Write a job's files into its folder. Raises UnsafePath before the first is written."""
        directory = _clean(directory)
        if not directory:
            raise UnsafePath("a job needs a folder of its own below the site's root")
        if directory.split("/", 1)[0] == _NO_JOBS_IN:
            raise UnsafePath(f"{directory}: the folder {_NO_JOBS_IN} is not for jobs")
        _check_layout(tuple([item.path for item in files]))
        if directory in self._folders or self._unfold(directory):
            for item in files:
                self.put(f"{directory}/{file_path(item.path)}", Blob(item.content, len(item.content), now))
            return
        self._check_free(directory)
        self._later[directory] = [(item.path, item.content, len(item.content), now) for item in files]

    def add(self, directory: str, path: str, head: bytes, now: int, *, size: int | None = None) -> None:
        """Write what a job leaves in its folder, as lazily as `fill`. Where no such file can be, it is lost."""
        size = len(head) if size is None else size
        later = self._later.get(directory)
        if later is None:
            self._put_or_lose(f"{directory}/{path}", Blob(head, size, now))
        else:
            later.append((path, head, size, now))

    def _put_or_lose(self, path: str, blob: Blob) -> None:
        # a payload that writes where a folder is gets an error of its own; the site goes on
        with suppress(UnsafePath):
            self.put(path, blob)

    def _check_free(self, directory: str) -> None:
        """Is there no file where the folder, or one above it, would be?"""
        while directory not in self._folders:
            above, _, name = directory.rpartition("/")
            entries = self._folders.get(above)
            if entries is not None and entries.get(name) is not None:
                raise UnsafePath(f"{directory}: there is a file of that name")
            directory = above

    def _unfold(self, path: str) -> bool:
        """Write what was noted for the job's folder that `path` lies in; does it lie in one?"""
        while path:
            if path in self._looked_into:
                return True
            later = self._later.pop(path, None)
            if later is not None:
                self._looked_into.add(path)
                for name, head, size, at in later:
                    self._put_or_lose(f"{path}/{name}", Blob(head, size, at))
                return True
            path = path.rpartition("/")[0]
        return False

    def _unfold_below(self, folder: str) -> None:
        if not self._unfold(folder):
            below = f"{folder}/" if folder else ""
            for path in [path for path in self._later if path.startswith(below)]:
                self._unfold(path)

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
        path = _clean(path)
        if self._later:
            self._unfold(path)
        folder, _, name = path.rpartition("/")
        entries = self._folders.get(folder)
        if entries is not None and entries.get(name) is not None:
            del entries[name]
            self._listed.pop(folder, None)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all below it; an absent one is fine."""
        path = _clean(path)
        if self._later:
            self._unfold_below(path)
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
        if self._later and path != _NO_JOBS_IN:
            self._unfold_below(path)
        if path not in self._folders:
            return []
        if not recursive:
            return list(self._entries(path))
        found = [info for folder in self._walk(path) for info in self._entries(folder)]
        return sorted(found, key=_by_path)

    def files_below(self, folder: str) -> list[tuple[str, Blob]]:
        """Path and blob of every file below a folder, sorted by path."""
        folder = _clean(folder)
        if self._later:
            self._unfold_below(folder)
        found = [
            (f"{name}/{entry}" if name else entry, blob)
            for name in self._walk(folder)
            for entry, blob in self._folders[name].items()
            if blob is not None
        ]
        return sorted(found, key=lambda item: item[0])

    def wipe(self) -> None:
        self._folders = {"": {}}
        self._listed.clear()
        self._later.clear()
        self._looked_into.clear()

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
