"""The file verbs of a site that has an object for them: handed on, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from connectors.base import SiteFiles
from connectors.model import FileInfo, SmallFile

F = TypeVar("F", bound=SiteFiles)


class HoldsFiles(Generic[F]):
    """The port SiteFiles, by `self.files`, which whoever inherits this sets."""

    files: F
    """The way to them."""

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        return self.files.read(path, offset=offset, limit=limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        return self.files.read_many(paths, limit=limit)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self.files.write(path, content, mode=mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        if files:
            self.files.write_many(files)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        return self.files.list(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return self.files.digests(paths)

    def remove(self, paths: Sequence[str]) -> None:
        self.files.remove(paths)
