"""The work of a task, in pieces: each is a generator that does a little and says how long that takes.

No clock and no lock in here. Whoever drives a piece looks before each step whether it still may, and goes on after
the seconds that the step has told of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from connectors.paths import split
from connectors.tree import temporary_name
from sandbox.globus.collections import Entry, entries_in
from sandbox.globus.copying import copy
from sandbox.globus.orders import Item
from sandbox.globus.pieces import LARGEST_FOLDER, Done, Job, Piece, What, forget, sided, source_entry
from sandbox.globus.removing import remove
from sandbox.globus.troubles import Trouble, told


def work(job: Job, piece: Piece) -> Iterator[Done]:
    """Do it, step by step. Raises Trouble."""
    match piece.what:
        case What.LOOK:
            return _look(job, piece)
        case What.FOLDER:
            return _folder(job, piece)
        case What.FILE:
            return copy(job, piece)
        case What.LINK:
            return _link(job, piece)
        case What.EXTRA:
            return remove(job, piece, at=job.destination, path=piece.destination)
        case What.DELETE:
            return remove(job, piece, at=job.source, path=piece.source)


def _look(job: Job, piece: Piece) -> Iterator[Done]:
    entry = source_entry(job, piece.source)
    _not_into_itself(job, piece)
    if piece.item.link:
        if entry.link_target is None:
            raise Trouble("INVALID_SYMLINK", "not a symbolic link", side="source")
        yield Done(found=[replace(piece, what=What.LINK)], symlinks=1, end=True)
        return
    if entry.type == "invalid_symlink":
        raise Trouble("INVALID_SYMLINK", "it leads nowhere, or out of the collection", side="source")
    if entry.is_dir:
        if piece.item.recursive is False:
            raise Trouble("IS_A_DIRECTORY", "Is a directory", side="source")
        yield Done(found=[replace(piece, what=What.FOLDER)], directories=1, end=True)
        return
    if piece.item.recursive:
        raise Trouble("NOT_A_DIRECTORY", "Not a directory", side="source")
    if piece.destination.endswith("/"):
        raise Trouble("IS_A_DIRECTORY", "the destination of a file is named as a directory", side="destination")
    yield Done(found=[replace(piece, what=What.FILE)], files=1, end=True)


def _not_into_itself(job: Job, piece: Piece) -> None:
    """Of two names of one folder, too."""
    source = os.path.realpath(job.source.folder / job.source.inside(piece.source))
    target = os.path.realpath(job.destination.folder / job.destination.inside(piece.destination))
    if source == target or target.startswith(source + os.sep):
        raise Trouble("INVALID_PATH_NAME", "source and destination are the same", side="destination")


def _folder(job: Job, piece: Piece) -> Iterator[Done]:
    yield Done(seconds=job.latency)
    with sided("source"), job.source.tree() as tree, told("source"):
        entries = entries_in(tree, job.source.inside(piece.source), most=LARGEST_FOLDER)
    if entries is None:
        raise Trouble("LIMIT_EXCEEDED", "too many files in one folder", side="source")
    with sided("destination"), job.destination.tree() as tree, told("destination"):
        target = job.destination.writable(piece.destination)
        with tree.folder(target, create=True):
            pass
    taken = [entry for entry in entries if job.order.takes(entry.name, is_dir=entry.is_dir)]
    found = [below for entry in taken if (below := _below(job, piece, entry)) is not None]
    extra = _extra(job, piece, {entry.name for entry in taken}) if job.order.delete_destination_extra else []
    yield Done(
        end=True,
        found=[*found, *extra],
        files=sum(one.what is What.FILE for one in found),
        directories=sum(one.what is What.FOLDER for one in found),
        symlinks=sum(one.what is What.LINK for one in found),
    )


def _below(job: Job, piece: Piece, entry: Entry) -> Piece | None:
    """What is to be done with an entry of a folder; None: nothing."""
    source, destination = (f"{path.rstrip('/')}/{entry.name}" for path in (piece.source, piece.destination))
    item = Item(source=source, destination=destination)
    if entry.link_target is not None and job.order.recursive_symlinks != "copy":
        kept = job.order.recursive_symlinks == "keep"
        return Piece(what=What.LINK, source=source, destination=destination, item=item) if kept else None
    if entry.link_target is not None and entry.is_dir:
        return None  # a folder behind a link could hold the link
    if entry.type not in ("dir", "file", "invalid_symlink"):
        return None
    what = What.FOLDER if entry.is_dir else What.FILE
    return Piece(what=what, source=source, destination=destination, item=item)


def _extra(job: Job, piece: Piece, names: set[str]) -> list[Piece]:
    with sided("destination"), job.destination.tree() as tree, told("destination"):
        there = entries_in(tree, job.destination.inside(piece.destination), most=LARGEST_FOLDER) or []
    paths = [f"{piece.destination.rstrip('/')}/{entry.name}" for entry in there if entry.name not in names]
    return [Piece(what=What.EXTRA, source="", destination=path, item=Item(source=path)) for path in paths]


def _link(job: Job, piece: Piece) -> Iterator[Done]:
    yield Done(seconds=job.latency)
    entry = source_entry(job, piece.source)
    path = job.destination.writable(piece.destination)
    folder, name = split(path)
    target = entry.link_target or ""
    ends = os.path.normpath(os.path.join("/", "x", folder, target))  # `x`: so that going above the top shows
    if not target or target.startswith("/") or not f"{ends}/".startswith("/x/"):
        raise Trouble("INVALID_SYMLINK", "it leads out of the collection", side="source")
    with (
        sided("destination"),
        job.destination.tree() as tree,
        told("destination"),
        tree.folder(folder, create=True) as at,
    ):
        temporary = temporary_name()
        os.symlink(target, temporary, dir_fd=at)
        try:
            os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        finally:
            forget(temporary, at)
    yield Done(end=True)
