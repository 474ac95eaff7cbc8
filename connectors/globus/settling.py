"""What became of a transfer whose task Globus has forgotten: its destination is looked at, and compared to the source.

Globus forgets tasks after a while, and never one that is under way. A name and a size say that a file was written whole
as far as can be seen; where a digest was promised, the file is read to see it, or does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from connectors.errors import NotThere
from connectors.globus.plan import Piece, Plan
from connectors.globus.verifying import Checked
from connectors.globus_api.ends import End
from connectors.globus_api.storage import Storage

Digests = Callable[[End, Sequence[str]], Mapping[str, tuple[int, str]]]
"""Size and SHA-256 of files of a side, by their relative paths; those that cannot be read are left out."""
MOST = 10_000
"""Files of folders that are compared."""


class Settling:
    """Looks at both sides of one attempt."""

    def __init__(self, plan: Plan, *, source: Storage, destination: Storage, digests: Digests) -> None:
        self._plan, self._source, self._destination, self._digests = plan, source, destination, digests
        self._left = MOST

    def check(self) -> Checked:
        """Raises SiteError."""
        problems: list[str] = []
        size = files = 0
        for piece in self._plan.pieces:
            found = self._folder(piece) if piece.folder else self._file(piece)
            if isinstance(found, str):
                problems.append(found)
            else:
                files, size = files + found[0], size + found[1]
        return Checked(problems=problems, bytes=size, files=files)

    def _file(self, piece: Piece) -> str | tuple[int, int]:
        item = piece.item
        there = self._destination.look(piece.landing)
        if there is None or there.is_dir:
            return f"{item.source} did not arrive"
        wanted = item.size
        if wanted is None:
            origin = self._source.look(piece.source)
            wanted = origin.size if origin is not None else None
        if there.size != wanted:
            return f"{item.source} arrived with {there.size} bytes"
        if item.sha256 is not None and self._digest(piece) != item.sha256:
            return f"nobody can say whether {item.source} arrived intact"
        return 1, there.size

    def _digest(self, piece: Piece) -> str:
        end = self._plan.destination
        path = piece.landing.removeprefix(f"{end.top}/")
        found = self._digests(end, [path])
        return found[path][1] if path in found else ""

    def _folder(self, piece: Piece) -> str | tuple[int, int]:
        there, origin = self._sizes(self._destination, piece.landing), self._sizes(self._source, piece.source)
        if there is None or origin is None or self._left < 0:
            return f"{piece.item.source} cannot be compared"
        if there != origin:
            return f"{piece.item.source} did not arrive whole"
        return len(there), sum(there.values())

    def _sizes(self, storage: Storage, folder: str) -> Mapping[str, int] | None:
        found: dict[str, int] = {}
        todo = [""]
        while todo and self._left >= 0:
            inner = todo.pop()
            try:
                entries = storage.list(f"{folder}/{inner}")
            except NotThere:
                return None
            self._left -= len(entries)
            for entry in entries:
                if entry.is_dir:
                    todo.append(f"{inner}{entry.name}/")
                else:
                    found[f"{inner}{entry.name}"] = entry.size
        return found
