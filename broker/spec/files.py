"""The files that a document brings along: found below its folder, walked within limits, digested."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.spec.errors import KeyPath, Wrong, quoted
from broker.spec.workflow import Workflow

MOST_FILES = 10_000
"""In one document."""
MOST_BYTES = 4 << 30
"""In one document, together: what is larger belongs into an output of a stage."""

Fault = tuple[KeyPath, Wrong]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """One file; `path` is relative to what was asked for, and empty if that was the file itself."""

    path: str
    sha256: str
    size: int
    mode: int
    source: Path


class FileFinder:
    """Looks below one document's folder; remembers digests, and counts against the limits.

    With no folder it opens nothing: a document that came over a network must not fetch what lies here.
    """

    def __init__(self, base: Path | None) -> None:
        self._base = None if base is None else Path(os.path.realpath(base))
        self._digested: dict[Path, tuple[str, int, int]] = {}
        self._bytes = 0

    def find(self, path: str) -> list[FoundFile]:
        """The file, or all files below the folder, by path. Raises Wrong."""
        if self._base is None:
            message = f"{quoted(path)} is a file, and this document came without any"
            cure = "write its content into `run`, or submit on the machine where it lies: crossfade submit FILE"
            raise Wrong(message, cure, kind="file")
        try:
            start = self._resolved(path, self._base)
            return [self._file(relative, source) for relative, source in self._files(path, start, self._base)]
        except (OSError, ValueError, RuntimeError) as error:  # ValueError: a path that no file can have
            if isinstance(error, Wrong):
                raise
            reason = getattr(error, "strerror", None) or "it cannot be reached"
            raise Wrong(f"{quoted(path)}: {reason}", "check its name and permissions", kind="file") from error

    @staticmethod
    def _resolved(path: str, base: Path) -> Path:
        """Where the path leads. A relative one must stay below the document's folder, links followed."""
        given = Path(path)
        real = Path(os.path.realpath(given if given.is_absolute() else base / given))
        if not given.is_absolute() and not real.is_relative_to(base):
            raise Wrong(f"{quoted(path)} leads out of the document's folder", "copy it there", kind="file")
        if not real.exists():
            where = "beside the document" if not given.is_absolute() else "there"
            raise Wrong(f"{quoted(path)} is not {where}", "check its name", kind="file")
        if path.endswith("/") and not real.is_dir():
            raise Wrong(f"{quoted(path)} is a file", "leave the / at its end out", kind="file")
        return real

    def _files(self, path: str, start: Path, base: Path) -> Iterator[tuple[str, Path]]:
        if not start.is_dir():
            yield "", start
            return
        for folder, subfolders, names in os.walk(start, onerror=_raise):
            subfolders.sort()
            linked = next((name for name in subfolders if Path(folder, name).is_symlink()), None)
            if linked is not None:
                message = f"{quoted(linked)} in {quoted(path)} is a link to a folder"
                raise Wrong(message, "put the folder itself there", kind="file")
            for name in sorted(names):
                inner = Path(folder, name)
                relative = inner.relative_to(start).as_posix()
                yield relative, self._linked(f"{path.rstrip('/')}/{relative}", inner, start, base)

    @staticmethod
    def _linked(path: str, inner: Path, start: Path, base: Path) -> Path:
        """A file in a folder, links followed no further than the document's folder (or the folder asked for)."""
        real = Path(os.path.realpath(inner))
        if not (real.is_relative_to(start) or real.is_relative_to(base)):
            raise Wrong(f"{quoted(path)} leads out of the document's folder", "copy it there", kind="file")
        return real

    def _file(self, relative: str, source: Path) -> FoundFile:
        if source not in self._digested:
            if len(self._digested) >= MOST_FILES:
                raise Wrong(f"the document brings more than {MOST_FILES} files", "pack them", kind="file")
            self._digested[source] = self._digest(source)
        sha256, size, mode = self._digested[source]
        if not relative.isprintable() or "\\" in relative:
            raise Wrong(f"{quoted(relative)} is no name that every site can hold", "rename it", kind="file")
        return FoundFile(path=relative, sha256=sha256, size=size, mode=mode, source=source)

    def _digest(self, source: Path) -> tuple[str, int, int]:
        """SHA-256, size and mode of a plain file; NONBLOCK so that a pipe cannot hold us up."""
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Wrong(f"{quoted(source.name)} is not a plain file", "bring plain files only", kind="file")
            digest, size = hashlib.sha256(), 0
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                self._bytes += len(chunk)
                if self._bytes > MOST_BYTES:
                    message = f"the document brings more than {MOST_BYTES >> 30} GiB"
                    raise Wrong(message, "let a stage fetch large data", kind="file")
        # by the owner's bit alone: a document must not have another digest under another umask
        return digest.hexdigest(), size, 0o755 if status.st_mode & stat.S_IXUSR else 0o644


def missing_files(workflow: Workflow, base: Path) -> list[Fault]:
    """Files of the document that are not there, as far as their names are known without params."""
    faults: list[Fault] = []
    seen: dict[str, bool] = {}
    for path, name in _named_files(workflow):
        if name not in seen:
            seen[name] = "${{" in name or os.path.lexists(Path(base, name))
        if not seen[name]:
            faults.append((path, Wrong(f"{quoted(name)} is not beside the document", "check its name", kind="file")))
    return faults


def _named_files(workflow: Workflow) -> Iterator[tuple[KeyPath, str]]:
    for name, stage in workflow.stages.items():
        for i, file in enumerate(stage.files):
            yield ("stages", name, "files", i), file
        for site, at in stage.at.items():
            for i, file in enumerate(at.files):
                yield ("stages", name, "at", site, "files", i), file


def _raise(error: OSError) -> None:
    raise error
