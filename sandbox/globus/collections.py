"""Collections over real folders: what is known of them, how they fare, and what lies on them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG

from connectors.errors import UnsafePath
from connectors.paths import clean, split
from connectors.tree import Tree, is_temporary
from sandbox.globus.troubles import DEAD, Trouble, told

MAPPED = "GCSv5_mapped_collection"
GUEST = "GCSv5_guest_collection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, a folder or a link, as a listing tells of it."""

    name: str
    type: str
    """dir, file, invalid_symlink, chr, blk, pipe or other."""
    size: int
    modified_at: float
    """Seconds."""
    mode: int
    link_target: str | None = None
    link_size: int | None = None
    link_modified_at: float | None = None

    @property
    def is_dir(self) -> bool:
        return self.type == "dir"


@dataclass(slots=True, kw_only=True)
class Collection:
    """A folder under a UUID. What stands below `up` may be changed at any time: it is the weather."""

    id: str
    display_name: str
    folder: Path
    entity_type: str = MAPPED
    high_assurance: bool = False
    https: bool = True
    default_directory: str = "/"
    rename_supported: bool = True
    force_verify: bool = False
    disable_verify: bool = False
    visible_partial: bool = False
    """Files grow under their own names, and a broken one is left as it is; otherwise they come by rename."""
    up: Callable[[], bool] = lambda: True
    down: str = ""
    """A code such as CONNECT_FAILED: nobody gets through."""
    paused: str = ""
    """A message: nothing of it is worked at."""
    readonly: bool = False
    denied: Sequence[str] = ()
    """Paths at and below which nobody may do anything."""
    room: int | None = None
    """Bytes that may still be written; None: as many as the disk has."""
    rate: float = 0.0
    """Bytes per second; 0: as quick as it goes."""
    login_expired: bool = False
    """Its tasks become INACTIVE."""
    login_hidden: bool = False
    """An expired session is told as a failed login: a 502 with the reason inside its text."""
    session: Mapping[str, object] = field(default_factory=dict)
    """authorization_parameters that a login must have met."""
    need_data_access: bool | None = None
    """None: as its type has it."""

    @property
    def needs_data_access(self) -> bool:
        """Must a token have the consent of this collection's own scope?"""
        if self.need_data_access is not None:
            return self.need_data_access
        return self.entity_type == MAPPED and not self.high_assurance

    def scope(self, name: str) -> str:
        """Its scope `data_access` or `https`."""
        return f"https://auth.globus.org/scopes/{self.id}/{name}"

    def reach(self) -> None:
        """Raises Trouble where nobody gets through to it."""
        if self.down:
            raise Trouble(self.down, f"{self.display_name} does not answer")
        if not self.up() or not self.folder.is_dir():
            raise Trouble(DEAD, f"{self.display_name} does not answer")

    def inside(self, path: str) -> str:
        """A path of the API as one below the folder. Raises Trouble."""
        if path == "~" or path.startswith(("~/", "/~/")) or path == "/~":
            path = f"{self.default_directory}/{path.removeprefix('/').removeprefix('~')}"
        with told():
            inner = clean(path.lstrip("/"))
        if any(inner == gone or inner.startswith(f"{gone}/") for gone in (one.strip("/") for one in self.denied)):
            raise Trouble("PERMISSION_DENIED", "Permission denied")
        return inner

    def writable(self, path: str) -> str:
        """As `inside`, to be written or removed."""
        inner = self.inside(path)
        if self.readonly:
            raise Trouble("PERMISSION_DENIED", "Read-only file system")
        return inner

    @contextmanager
    def tree(self) -> Iterator[Tree]:
        """Its folder, held open. Raises Trouble."""
        self.reach()
        try:
            made = Tree(self.folder)
        except OSError as error:
            raise Trouble(DEAD, f"{self.display_name} does not answer") from error
        with made:
            yield made

    def book(self, count: int) -> None:
        """So many bytes come (or go, where it is less than 0). Raises Trouble where there is no room."""
        if self.room is None:
            return
        if count > self.room:
            raise Trouble("QUOTA_EXCEEDED", "Disk quota exceeded", side="destination")
        self.room -= count


def entry_at(tree: Tree, path: str) -> Entry:
    """What lies at that path; links are looked through as far as they stay inside. Raises OSError, UnsafePath."""
    folder, name = split(path)
    with tree.folder(folder) as at:
        facts = os.stat(name, dir_fd=at, follow_symlinks=False) if name else os.fstat(at)
        target = os.readlink(name, dir_fd=at) if S_ISLNK(facts.st_mode) else None
    return _entry(tree, path, name or "/", facts, target)


def entries_in(tree: Tree, path: str, *, most: int) -> list[Entry] | None:
    """What lies in a folder, by name; None: more than that. Raises OSError, UnsafePath."""
    found: list[Entry] = []
    with tree.folder(path) as at, os.scandir(at) as entries:
        for number, entry in enumerate(entries):
            if number >= most:
                return None
            if is_temporary(entry.name):
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
                target = os.readlink(entry.name, dir_fd=at) if S_ISLNK(facts.st_mode) else None
            except FileNotFoundError:  # gone since it was listed
                continue
            found.append(_entry(tree, f"{path}/{entry.name}".lstrip("/"), entry.name, facts, target))
    return sorted(found, key=lambda one: one.name)


def _entry(tree: Tree, path: str, name: str, facts: os.stat_result, target: str | None) -> Entry:
    if target is None:
        return Entry(
            name=name,
            type=_type(facts.st_mode),
            size=facts.st_size,
            modified_at=facts.st_mtime,
            mode=stat.S_IMODE(facts.st_mode),
        )
    behind = _behind(tree, path)
    return Entry(
        name=name,
        type="invalid_symlink" if behind is None else _type(behind.st_mode),
        size=facts.st_size if behind is None else behind.st_size,
        modified_at=facts.st_mtime if behind is None else behind.st_mtime,
        mode=stat.S_IMODE((behind or facts).st_mode),
        link_target=target,
        link_size=facts.st_size,
        link_modified_at=facts.st_mtime,
    )


def _behind(tree: Tree, path: str) -> os.stat_result | None:
    """What a link leads to, if that lies inside."""
    root = os.path.realpath(tree.path)
    end = os.path.realpath(os.path.join(root, path))
    if end != root and not end.startswith(root + os.sep):
        return None
    try:
        folder, name = split(clean(os.path.relpath(end, root)))
        with tree.folder(folder) as at:
            return os.stat(name, dir_fd=at, follow_symlinks=False) if name else os.fstat(at)
    except (OSError, UnsafePath):
        return None


def _type(mode: int) -> str:
    kinds = ((S_ISDIR, "dir"), (S_ISREG, "file"), (S_ISCHR, "chr"), (S_ISBLK, "blk"), (S_ISFIFO, "pipe"))
    return next((word for test, word in kinds if test(mode)), "other")
