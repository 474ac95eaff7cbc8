"""Which files a transfer means, as its source tells, and what both ends say of them afterwards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from connectors.errands import about
from connectors.errors import Fault, UnsafePath
from connectors.model import TransferItem
from connectors.paths import clean, file_path
from connectors.rsync import scripts
from connectors.rsync.ends import End
from connectors.tree import is_temporary

MOST_FILES = 200_000
"""Of one transfer."""
TOGETHER = 512
"""Files that are hashed by one call, unless they are large."""
LOAD = 16 << 30
"""Bytes that are hashed by one call, unless one file has more."""
SLOWEST = 4 << 20
"""Bytes a second that a disk reads at the very least."""
_HASHED = re.compile(rb"([0-9a-f]{64})  \./(.+)")
_FACTS = re.compile(rb"(\d{1,19})/(-?\d{1,19})/\./(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file to bring. `item`: the number of its item; `inner`: its path within a folder, "" for a file."""

    item: int
    source: str
    inner: str
    size: int
    written: int
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`folders`: number of the item and path within it, parents first; empty ones travel too."""

    pieces: Sequence[Piece]
    folders: Sequence[tuple[int, str]]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def stage(self) -> str:
        """The folder in which it arrives: another one for another look at the source."""
        told = "\n".join(f"{p.item}/{p.size}/{p.written}/{p.source}" for p in self.pieces)
        return f"in-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as one end has it."""

    sha256: str
    size: int
    written: int


def make_plan(items: Sequence[TransferItem], source: End) -> Plan:
    """Look at the source. Raises TransferFailure."""
    paths = [f"{clean(item.source)}/" if item.source.endswith("/") else clean(item.source) for item in items]
    records = source.ask(scripts.LOOK, paths, about=paths, seconds=600.0)
    pieces: list[Piece] = []
    folders: list[tuple[int, str]] = []
    told = set[int]()
    for record in records:
        if record.kind == "m":
            path = record.about(paths)
            with about(items[record.number(0) - 1]):
                raise source.failure(f"source missing: {path} (no such file or folder)")
        if record.kind not in {"s", "l"}:
            continue
        with source.blamed():
            number = record.number(0) - 1
            path = record.about(paths)
        told.add(number)
        if record.kind == "s":
            with source.blamed():
                size, written = record.number(1), record.number(2)
            pieces.append(Piece(item=number, source=path, inner="", size=size, written=written))
            _expect_size(items[number], size, source)
            continue
        folders.append((number, ""))
        for inner, is_folder, size, written in _entries(record.body, path, source):
            if is_folder:
                folders.append((number, inner))
            else:
                pieces.append(Piece(item=number, source=f"{path}{inner}", inner=inner, size=size, written=written))
        if len(pieces) + len(folders) > MOST_FILES:
            raise source.failure(f"more than {MOST_FILES} files in one transfer")
    if len(told) != len(items):
        raise source.failure("the source did not tell of every file that was asked for")
    return Plan(pieces=pieces, folders=sorted(folders))


def _expect_size(item: TransferItem, size: int, source: End) -> None:
    if item.size is not None and size != item.size:
        with about(item):
            raise source.failure(f"corrupt: {item.source} has {size} bytes, not {item.size}")


def _entries(listing: bytes, folder: str, source: End) -> Iterator[tuple[str, bool, int, int]]:
    """Path within the folder, is it a folder, size, seconds."""
    for line in listing.split(b"\n"):
        kind, _, rest = line.partition(b"/")
        if not kind or rest.endswith(b"/."):
            continue
        found = _FACTS.fullmatch(rest)
        if found is None:
            raise source.failure(f"the listing of {folder} makes no sense")
        with source.blamed():
            inner = _path(found[3])
        if not any(is_temporary(part) for part in inner.split("/")):
            yield inner, kind == b"directory", int(found[1]), int(found[2])


def _path(told: bytes) -> str:
    """Raises UnsafePath."""
    try:
        return file_path(told.decode())
    except UnicodeDecodeError as error:
        raise UnsafePath(f"path {told!r} is not text that UTF-8 can hold") from error


def digests(end: End, pieces: Sequence[Piece], *, below: str = "", heard: Callable[[int], None]) -> dict[str, Seen]:
    """What the end says of these files, below its root or a folder in it; by their source's path. One call for many.
    `heard` is told of the bytes of each."""
    found: dict[str, Seen] = {}
    sizes = {piece.source: piece.size for piece in pieces}
    for load in _loads(sizes):
        seconds = 300.0 + sum(sizes[path] for path in load) / SLOWEST
        bodies = [
            r.body for r in end.ask(scripts.DIGESTS, [below, *load], about=load, seconds=seconds) if r.kind == "l"
        ]
        if len(bodies) != 2:
            raise end.failure("the shell there did not tell of the files' contents", Fault.SITE)
        hashed, facts = (dict(_told(body, form)) for body, form in zip(bodies, (_HASHED, _FACTS), strict=True))
        for path in load:
            if path in hashed and path in facts:
                (sha256,), (size, written) = hashed[path], facts[path]
                found[path] = Seen(sha256=sha256, size=int(size), written=int(written))
        heard(sum(sizes[path] for path in load))
    return found


def _told(body: bytes, form: re.Pattern[bytes]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in body.split(b"\n"):
        if match := form.fullmatch(line):
            *facts, path = match.groups()
            yield path.decode("utf-8", "replace"), tuple(fact.decode() for fact in facts)


def _loads(sizes: dict[str, int]) -> Iterator[list[str]]:
    load: list[str] = []
    weight = 0
    for path, size in sizes.items():
        if load and (len(load) >= TOGETHER or weight + size > LOAD):
            yield load
            load, weight = [], 0
        load.append(path)
        weight += size
    if load:
        yield load
