"""What lies where: listings and digests of the sides that an entry speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from connectors.base import PlaceFiles
from connectors.errors import SiteError
from policies.retention import Copy, Files

MOST_FILES = 200_000
"""Below one entry."""
AT_ONCE = 64
"""Files whose digests are asked for in one call."""
CANNOT = "cannot verify there yet"


class TooMany(SiteError):
    """More files lie there than one entry may have."""

    help = "remove them by hand"


@dataclass(frozen=True, slots=True)
class Sides:
    """The files of places and sites, by side. `alive` is called between two calls, for whoever holds a claim."""

    files: Mapping[str, PlaceFiles]
    alive: Callable[[], None] = lambda: None

    def listed(self, side: str, path: str) -> dict[str, int]:
        """All files there with their sizes, by their paths from the side's root. Raises SiteError, LookupError."""
        files = self.files[side]
        self.alive()
        if not path.endswith("/"):
            return {name: size for name, (size, _) in files.digests([path]).items()}
        listing = files.list(path.rstrip("/"), recursive=True)
        found = {info.path: info.size for info in listing if not info.is_dir}
        if len(found) > MOST_FILES:
            raise TooMany(f"more than {MOST_FILES} files lie below {side}{path}", site=side)
        return found

    def digests(self, side: str, paths: Sequence[str]) -> dict[str, tuple[int, str]]:
        """As the port, in several calls."""
        found: dict[str, tuple[int, str]] = {}
        for start in range(0, len(paths), AT_ONCE):
            self.alive()
            found.update(self.files[side].digests(paths[start : start + AT_ONCE]))
        return found

    def held(self, side: str, path: str, wanted: Sequence[str]) -> Copy:
        """What that side holds of these files, which are named by their paths below `path` (empty: the file itself).
        A side that cannot be looked at is a copy that nobody counts on."""
        if side not in self.files:
            return Copy(side=side, files=None, why=CANNOT)
        names = {below(path, inner): inner for inner in wanted}
        try:
            found = self.digests(side, list(names))
        except SiteError as error:
            return Copy(side=side, files=None, why=str(error))
        return Copy(side=side, files={names[name]: content for name, content in found.items() if name in names})


def below(path: str, inner: str) -> str:
    """The path of a file of an entry: the entry itself, or one in its folder."""
    return f"{path.rstrip('/')}/{inner}" if inner else path.rstrip("/")


def inner_of(path: str, name: str) -> str:
    """The inverse of `below`."""
    return name[len(path.rstrip("/")) + 1 :]


def files_of(rows: Sequence[Sequence[object]]) -> Files:
    """From JSON: [[path, size, sha256], ...]."""
    return {str(path): (int(str(size)), str(digest)) for path, size, digest in rows}
