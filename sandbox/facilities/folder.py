"""A facility's file system as a real folder, which no path can leave."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import NotThere, UnsafePath
from connectors.model import FileInfo
from connectors.paths import clean, split
from connectors.tree import Tree, read_at


class FolderFiles:
    """`FacilityFiles` over a folder, made if it is absent. Close it."""

    def __init__(self, folder: Path, *, knock: Callable[[], object]) -> None:
        """`knock` is called before each verb; it raises SiteUnreachable where the file system does not answer."""
        self._knock = knock
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = str(folder.resolve())
        self._tree = Tree(folder)

    def close(self) -> None:
        self._tree.close()

    def inside(self, path: str) -> str:
        """The path below the root. Raises UnsafePath for one that lies elsewhere, SiteUnreachable."""
        self._knock()
        if path != self.root and not path.startswith(self.root + "/"):
            raise UnsafePath(f"{path[:200]}: permission denied")
        return clean(path[len(self.root) + 1 :])

    def read(self, path: str, *, offset: int = 0, limit: int | None = None) -> bytes:
        with _told(path):
            fd = self._tree.open(self.inside(path))
            try:
                return read_at(fd, offset=offset, limit=os.fstat(fd).st_size if limit is None else limit)
            finally:
                os.close(fd)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        with _told(path):
            self._tree.write(self.inside(path), content, mode=mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        inside = self.inside(path)
        if not self.stat(path).is_dir:
            raise NotThere(f"{path}: not a folder")
        skip = len(inside) + 1 if inside else 0
        with _told(path):
            found = self._tree.list(inside, recursive=recursive)
        return [
            FileInfo(path=item.path[skip:], size=item.size, is_dir=item.is_dir, modified_at=item.modified_at)
            for item in found
        ]

    def stat(self, path: str) -> FileInfo:
        inside = self.inside(path)
        folder, name = split(inside)
        with _told(path), self._tree.folder(folder) as at:
            facts = os.stat(name, dir_fd=at, follow_symlinks=False) if name else os.fstat(at)
        is_dir = stat.S_ISDIR(facts.st_mode)
        size = 0 if is_dir else facts.st_size
        return FileInfo(path=path, size=size, is_dir=is_dir, modified_at=facts.st_mtime_ns // 1000)

    def mkdir(self, path: str) -> None:
        with _told(path), self._tree.folder(self.inside(path), create=True):
            pass

    def remove(self, path: str, *, recursive: bool = False) -> None:
        folder, name = split(self.inside(path))
        if not name:
            raise UnsafePath(f"{path}: the root itself stays")
        is_dir = self.stat(path).is_dir
        if is_dir and not recursive:
            raise UnsafePath(f"{path}: is a folder")
        with _told(path), self._tree.folder(folder) as at:
            if is_dir:
                shutil.rmtree(name, dir_fd=at)
            else:
                os.unlink(name, dir_fd=at)

    def rename(self, source: str, target: str) -> None:
        old_folder, old = split(self.inside(source))
        new_folder, new = split(self.inside(target))
        with _told(source), self._tree.folder(old_folder) as here, self._tree.folder(new_folder, create=True) as there:
            os.replace(old, new, src_dir_fd=here, dst_dir_fd=there)

    def digest(self, path: str) -> tuple[int, str]:
        with _told(path):
            return self._tree.digest(self.inside(path))


@contextmanager
def _told(path: str) -> Iterator[None]:
    """The system's errors as the port's."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotThere(f"{path}: No such file or directory") from error
    except OSError as error:
        raise UnsafePath(f"{path}: {error.strerror or error}") from error
