"""Which task each key became: a small file per key at the site.

The service's tasks carry no name of ours. So each key has a task group of its own, whose UUID follows from the key, and
what came of it is noted at the site: one read then tells the tasks of a thousand keys. A note without a task is an
intent; the group says whether it was accepted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from connectors.base import SiteFiles
from connectors.model import SmallFile

FOLDER = "compute"
_SPACE = uuid.UUID("6f0f4a58-3f0e-5d0a-9b64-c1d9a6f0c3e1")
"""Names of ours among UUIDs; any constant would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One key's entry. `at`: µs, when it was meant."""

    key: str
    owner: str
    digest: str
    directory: str
    at: int
    task: str = ""
    canceled: bool = False


class Ledger:
    """The notes of one site."""

    def __init__(self, files: SiteFiles) -> None:
        self._files = files

    def read(self, keys: Iterable[str]) -> Mapping[str, Note]:
        """By one call. What is damaged counts as not there."""
        paths = {f"{FOLDER}/{key}": key for key in keys}
        found = self._files.read_many(list(paths)) if paths else {}
        notes = {paths[path]: _note(paths[path], content) for path, content in found.items()}
        return {key: note for key, note in notes.items() if note is not None}

    def keys(self) -> Sequence[str]:
        """All there are."""
        return [info.path.rpartition("/")[2] for info in self._files.list(FOLDER) if not info.is_dir]

    def write(self, notes: Sequence[Note]) -> None:
        """In as few calls as the site allows."""
        if notes:
            self._files.write_many([SmallFile(path=f"{FOLDER}/{n.key}", content=_text(n)) for n in notes])


def group_of(endpoint: str, owner: str, key: str) -> str:
    """The task group that this key has, always the same."""
    return str(uuid.uuid5(_SPACE, f"{endpoint}\n{owner}\n{key}"))


def _text(note: Note) -> bytes:
    return json.dumps(asdict(note), sort_keys=True).encode()


def _note(key: str, content: bytes) -> Note | None:
    try:
        found = json.loads(content)
        note = Note(
            key=key,
            owner=str(found["owner"]),
            digest=str(found["digest"]),
            directory=str(found["directory"]),
            at=int(found["at"]),
            task=str(found["task"]),
            canceled=found.get("canceled") is True,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return note
