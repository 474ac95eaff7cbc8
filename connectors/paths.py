"""Relative paths that cannot lead out of their root, as text.

What is checked here is the spelling. That no symbolic link on the disk leads out is `connectors.tree`'s part.
"""

from __future__ import annotations

import re
from functools import lru_cache

from connectors.errors import UnsafePath

LONGEST_PATH = 1024
"""Bytes. Far below what Linux allows (4096), because a root of unknown length goes in front."""
LONGEST_NAME = 255
"""Bytes, of one component."""

RESERVED = frozenset({"jobs", "incoming", ".crossfade-site"})
"""At the top of a site's root: kept by the connectors themselves, no place for anybody's files."""

# control characters (NUL and newline among them), Unicode's line ends, and the other system's separator
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\]")


@lru_cache(maxsize=1 << 15)  # a path is asked about at every step of its way: a transfer's planning is mostly this
def clean(path: str) -> str:
    """The path without empty and `.` components; the root itself is "". Raises UnsafePath.

    `..` is refused, not resolved: what `a/../b` means depends on what `a` is.
    """
    found = _FORBIDDEN.search(path)
    if found:
        raise UnsafePath(f"path {path!r} holds the character {found.group()!r}; use plain names and `/`")
    if path.startswith("/"):
        raise UnsafePath(f"path {path!r} is absolute; write it relative to the site's root")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise UnsafePath(f"path {path!r} holds `..`; write where the file is without going up")
    _check_lengths(path, parts)
    return "/".join(parts)


def file_path(path: str) -> str:
    """As `clean`, for the path of a file: the root itself and a trailing `/` are refused too."""
    cleaned = clean(path)
    if not cleaned or path.endswith("/"):
        raise UnsafePath(f"path {path!r} names a folder; name a file")
    return cleaned


def join(*paths: str) -> str:
    """Relative paths, one below the other. Raises UnsafePath."""
    return clean("/".join(cleaned for path in paths if (cleaned := clean(path))))


def split(path: str) -> tuple[str, str]:
    """Folder and name of a cleaned path."""
    folder, _, name = path.rpartition("/")
    return folder, name


def _check_lengths(path: str, parts: list[str]) -> None:
    if len(path) <= LONGEST_NAME and path.isascii():  # nearly all; cleaning is done often
        return
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise UnsafePath(f"path {path!r} is not text that UTF-8 can hold") from error
    if any(size > LONGEST_NAME for size in sizes) or sum(sizes) + len(sizes) > LONGEST_PATH:
        raise UnsafePath(
            f"path {path[:60]!r}... is too long (a name may have {LONGEST_NAME} bytes, all of it {LONGEST_PATH})"
        )
