"""Has everything arrived as it was promised? Compared with what Globus tells of each file that it carried. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import UnsafePath
from connectors.globus.plan import Piece, Plan
from connectors.globus.task import Task
from connectors.paths import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One file that Globus carried and whose checksum it compared."""

    destination: str
    size: int
    checksum: str = ""
    algorithm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of it. No problems: everything is there."""

    problems: Sequence[str] = ()
    bad: Sequence[str] = ()
    """Sources of the items at fault."""
    bytes: int = 0
    files: int = 0

    @property
    def right(self) -> bool:
        return not self.problems


def arrived_from(raw: Mapping[str, Any]) -> Arrived | None:
    """From an entry of successful_transfers; None: it makes no sense."""
    path, size = raw.get("destination_path"), raw.get("size")
    if not isinstance(path, str) or not isinstance(size, int) or isinstance(size, bool):
        return None
    return Arrived(
        destination=path,
        size=size,
        checksum=str(raw.get("checksum") or "").lower(),
        algorithm=str(raw.get("checksum_algorithm") or "").upper().replace("-", ""),
    )


def check(plan: Plan, task: Task, rows: Iterable[Arrived]) -> Checked:
    """Skipped files are not among the rows, and do not count as arrived: nobody has compared them with the promise."""
    files = {piece.landing: n for n, piece in enumerate(plan.pieces) if not piece.folder}
    folders = {piece.landing: n for n, piece in enumerate(plan.pieces) if piece.folder}
    found: dict[int, Arrived] = {}
    inner: dict[int, dict[str, int]] = {n: {} for n in folders.values()}
    strange = 0
    for row in rows:
        path = "/" + row.destination.strip("/")
        if path in files:
            found[files[path]] = row
            continue
        at = _folder_of(path, folders)
        below = _below(path, plan.pieces[at].landing) if at is not None else None
        if at is None or below is None:
            strange += 1
        else:
            inner[at][below] = row.size
    problems: list[str] = []
    bad: list[str] = []
    for n, piece in enumerate(plan.pieces):
        wrong = "" if piece.folder else _wrong(piece, found.get(n))
        if wrong:
            problems.append(wrong)
            bad.append(piece.item.source)
    count = len(found) + sum(map(len, inner.values()))
    if not problems:
        problems += _of_counts(task, count, strange)
    return Checked(
        problems=problems,
        bad=bad,
        bytes=sum(row.size for row in found.values()) + sum(sum(sizes.values()) for sizes in inner.values()),
        files=count,
    )


def _wrong(piece: Piece, row: Arrived | None) -> str:
    item = piece.item
    if row is None:
        return f"{item.source} did not arrive"
    if item.size is not None and row.size != item.size:
        return f"corrupt: {item.source} has {row.size} bytes, not {item.size}"
    if item.sha256 is not None and row.algorithm == "SHA256" and row.checksum != item.sha256:
        return f"corrupt: {item.source} has SHA-256 {row.checksum[:64]}, not {item.sha256}"
    return ""


def _of_counts(task: Task, count: int, strange: int) -> Sequence[str]:
    if strange:
        return [f"Globus tells of {strange} files that were not asked for"]
    if task.files_skipped:
        return [f"Globus skipped {task.files_skipped} files, which nobody has verified"]
    if task.files > count:
        return [f"only {count} of {task.files} files arrived"]
    return []


def _folder_of(path: str, folders: Mapping[str, int]) -> int | None:
    above = path.rpartition("/")[0]
    while above:
        if above in folders:
            return folders[above]
        above = above.rpartition("/")[0]
    return None


def _below(path: str, folder: str) -> str | None:
    """The path within the folder; what Globus tells is not trusted to be a plain one."""
    below = path.removeprefix(f"{folder}/")
    try:
        return below if clean(below) == below and below else None
    except UnsafePath:
        return None
