"""Where a simulated mover reads and writes: simulated disks, memory, and real folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from connectors.errors import NotThere, SiteUnreachable, UnsafePath
from connectors.paths import clean, file_path
from sandbox.blob import Blob
from sandbox.disk import Disk

if TYPE_CHECKING:
    from sandbox.connector import SimulatedSite


class Place(Protocol):
    """Files of one name. Every verb may raise SiteUnreachable, and UnsafePath."""

    name: str

    def get(self, path: str) -> Blob | None: ...

    def below(self, folder: str) -> Sequence[tuple[str, Blob]]:
        """Path (relative to the folder) and content of every file below it."""
        ...

    def put(self, path: str, blob: Blob, now: int) -> None: ...

    def publish(self, moves: Sequence[tuple[str, str]]) -> None:
        """Rename files (from, to), all of them or none."""
        ...

    def drop(self, folder: str) -> None:
        """Remove a folder with all below it."""
        ...


class _OnDisk:
    """Files in a `Disk`."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk

    def get(self, path: str) -> Blob | None:
        return self.disk.get(path)

    def below(self, folder: str) -> Sequence[tuple[str, Blob]]:
        start = len(clean(folder)) + 1 if clean(folder) else 0
        return [(path[start:], blob) for path, blob in self.disk.files_below(folder)]

    def put(self, path: str, blob: Blob, now: int) -> None:
        self.disk.put(path, Blob(blob.head, blob.size, now))

    def publish(self, moves: Sequence[tuple[str, str]]) -> None:
        before = [(destination, self.disk.get(destination)) for _, destination in moves]
        try:
            for source, destination in moves:
                blob = self.disk.get(source)
                if blob is None:
                    raise NotThere(f"{self.name}: {source} is gone", site=self.name)
                self.disk.put(destination, blob)
        except (NotThere, UnsafePath):
            for path, old in before:
                self._put_back(path, old)
            raise
        for source, _ in moves:
            self.disk.remove(source)

    def _put_back(self, path: str, old: Blob | None) -> None:
        if old is None:
            self.disk.remove(path)
        else:
            self.disk.put(path, old)

    def drop(self, folder: str) -> None:
        self.disk.remove_folder(folder)


class MemoryPlace(_OnDisk):
    """A place that is always there."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Disk())


class SitePlace(_OnDisk):
    """The disk of a simulated site, through its data transfer node: dark when that is."""

    def __init__(self, site: SimulatedSite) -> None:
        super().__init__(site.name, site.model.disk)
        self.site = site

    def get(self, path: str) -> Blob | None:
        with self.site.reached():
            return super().get(path)

    def below(self, folder: str) -> Sequence[tuple[str, Blob]]:
        with self.site.reached():
            return super().below(folder)

    def put(self, path: str, blob: Blob, now: int) -> None:
        with self.site.reached():
            super().put(path, blob, now)

    def publish(self, moves: Sequence[tuple[str, str]]) -> None:
        with self.site.reached():
            super().publish(moves)

    def drop(self, folder: str) -> None:
        with self.site.reached():
            super().drop(folder)


class FolderPlace:
    """A real folder. Contents become real bytes here, zeros included."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def get(self, path: str) -> Blob | None:
        target = self._at(file_path(path))
        if not target.is_file():
            return None
        content = target.read_bytes()
        return Blob(content, len(content))

    def below(self, folder: str) -> Sequence[tuple[str, Blob]]:
        top = self._at(clean(folder))
        found = []
        for path in sorted(top.rglob("*")) if top.is_dir() else []:
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                found.append((path.relative_to(top).as_posix(), Blob(content, len(content))))
        return found

    def put(self, path: str, blob: Blob, now: int) -> None:  # noqa: ARG002 - a real folder has its own times
        target = self._at(file_path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{hashlib.sha256(target.name.encode()).hexdigest()[:16]}.part")
        part.write_bytes(blob.whole())
        part.replace(target)

    def publish(self, moves: Sequence[tuple[str, str]]) -> None:
        for source, destination in moves:
            target = self._at(file_path(destination))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._at(file_path(source)).replace(target)

    def drop(self, folder: str) -> None:
        top = self._at(clean(folder))
        for path in sorted(top.rglob("*"), reverse=True) if top.is_dir() else []:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        if top.is_dir():
            top.rmdir()

    def _at(self, path: str) -> Path:
        """The real path. Raises UnsafePath where a symbolic link leads out."""
        if not self._root.is_dir():
            raise SiteUnreachable(f"{self.name}: the folder is not there", site=self.name)
        target = self._root / path
        if not target.resolve().is_relative_to(self._root.resolve()):
            raise UnsafePath(f"{self.name}: {path} leads out of the folder through a symbolic link", site=self.name)
        return target
