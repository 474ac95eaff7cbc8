"""A virtual facility's file system, in memory, and a mirror of it on a real disk for shell commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from connectors.errors import NotThere, UnsafePath
from connectors.model import FileInfo
from connectors.paths import clean
from sandbox.blob import Blob
from sandbox.disk import Disk

_REQUEST = "/.crossfade/request"


class DiskFiles:
    """`FacilityFiles` over a simulated site's disk."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        *,
        knock: Callable[[], int],
        on_request: Callable[[str, bytes, int], object],
        before_read: Callable[[str, int], object],
    ) -> None:
        """`knock` gives the time, or raises SiteUnreachable. `on_request(folder, content, now)`: somebody wrote a
        request for the harness there. `before_read(path, now)`: somebody is about to read a heartbeat."""
        self.root = root
        self._disk = disk
        self._knock = knock
        self._on_request = on_request
        self._before_read = before_read
        self._made = {""}
        """Folders that are there though nothing is in them."""

    def inside(self, path: str) -> str:
        """The path below the root. Raises UnsafePath for one that lies elsewhere."""
        if path != self.root and not path.startswith(self.root + "/"):
            raise UnsafePath(f"{path[:200]}: permission denied")
        return clean(path[len(self.root) + 1 :])

    def read(self, path: str, *, offset: int = 0, limit: int | None = None) -> bytes:
        blob = self._blob(path)
        return blob.read(offset, blob.size if limit is None else limit)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:  # noqa: ARG002 - there are no users here
        self.put(self.inside(path), content, self._knock())

    def put(self, inside: str, content: bytes, now: int) -> None:
        self._disk.put(inside, Blob(content, len(content), now))
        if inside.endswith(_REQUEST):
            self._on_request(inside.removesuffix(_REQUEST), content, now)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        inside = self.inside(path)
        self._knock()
        found = self._disk.listing(inside, recursive=recursive)
        if not found and not self._is_folder(inside):
            raise NotThere(f"{path}: No such file or directory")
        skip = len(inside) + 1 if inside else 0
        return [replace(item, path=item.path[skip:]) for item in found]

    def stat(self, path: str) -> FileInfo:
        inside = self.inside(path)
        self._knock()
        if self._is_folder(inside):
            return FileInfo(path=path, size=0, is_dir=True)
        blob = self._blob(path)
        return FileInfo(path=path, size=blob.size, modified_at=blob.modified_at)

    def mkdir(self, path: str) -> None:
        inside = self.inside(path)
        self._knock()
        if inside and self._disk.get(inside) is not None:
            raise UnsafePath(f"{path}: File exists")
        while inside:
            self._made.add(inside)
            inside = inside.rpartition("/")[0]

    def remove(self, path: str, *, recursive: bool = False) -> None:
        inside = self.inside(path)
        is_dir = self.stat(path).is_dir
        if not inside or (is_dir and not recursive):
            raise UnsafePath(f"{path}: is a folder")
        if is_dir:
            self._disk.remove_folder(inside)
            self._made = {item for item in self._made if item != inside and not item.startswith(inside + "/")}
        else:
            self._disk.remove(inside)

    def rename(self, source: str, target: str) -> None:
        old, new = self.inside(source), self.inside(target)
        if self.stat(source).is_dir:
            for path, blob in self._disk.files_below(old):
                self._disk.put(new + path[len(old) :], blob)
            self.mkdir(target)
        else:
            self._disk.put(new, self._blob(source))
        self.remove(source, recursive=True)

    def digest(self, path: str) -> tuple[int, str]:
        blob = self._blob(path)
        return blob.size, blob.sha256

    def _blob(self, path: str) -> Blob:
        inside = self.inside(path)
        now = self._knock()
        if inside.endswith("/heartbeat"):
            self._before_read(inside, now)
        blob = self._disk.get(inside) if inside else None
        if blob is None:
            raise NotThere(f"{path}: No such file or directory")
        return blob

    def _is_folder(self, inside: str) -> bool:
        return inside in self._made or bool(self._disk.listing(inside))


class Mirror:
    """The disk as a real folder, for as long as a command runs there."""

    def __init__(self, folder: Path, disk: Disk, files: DiskFiles) -> None:
        self._folder, self._disk, self._files = folder, disk, files
        self._seen: dict[str, tuple[Blob, tuple[int, int]]] = {}
        """What lies there: of which blob, and with which time and size."""

    def lay_out(self) -> None:
        """Bring the folder up to what the disk holds."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = dict(self._disk.files_below(""))
        for path in self._seen.keys() - there.keys():
            (self._folder / path).unlink(missing_ok=True)
            del self._seen[path]
        for path, blob in there.items():
            known = self._seen.get(path)
            if known is None or known[0] is not blob:
                self._seen[path] = (blob, _lay(self._folder / path, blob))

    def take_in(self, now: int) -> None:
        """Bring the disk up to what the command has left."""
        there = {path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*")}
        for inside, path in there.items():
            if path.is_dir() and not path.is_symlink():
                self._files.mkdir(f"{self._files.root}/{inside}")
            elif path.is_file() and not path.is_symlink():
                stamp = _stamp(path)
                if inside not in self._seen or self._seen[inside][1] != stamp:
                    self._files.put(inside, path.read_bytes(), now)
                    blob = self._disk.get(inside)
                    assert blob is not None  # noqa: S101 - it was put there a line ago
                    self._seen[inside] = (blob, stamp)
        for inside in self._seen.keys() - there.keys():
            self._disk.remove(inside)
            del self._seen[inside]


def _lay(path: Path, blob: Blob) -> tuple[int, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(blob.head[: blob.size])
        file.truncate(blob.size)
    os.utime(path, ns=(blob.modified_at * 1000, blob.modified_at * 1000))
    return _stamp(path)


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size
