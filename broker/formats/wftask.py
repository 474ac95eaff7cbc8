"""What a WfFormat document tells, in one shape for all its versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.formats.fault import ImportFault, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What one task used when it was recorded. Seconds, cores, bytes; 0 bytes of memory: not recorded."""

    runtime: float | None = None
    """None: other things were recorded, the time was not."""
    cores: int = 1
    memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Ids are foreign text: they name nothing on a disk."""

    id: str
    """Unique, by which the edges and the stage's environment name it."""
    parents: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    recorded: Recorded | None
    """None: the document does not tell of this task's execution."""

    @property
    def runtime(self) -> float:
        """Seconds; 0 where none was recorded."""
        return (self.recorded.runtime or 0.0) if self.recorded else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All that was read of a document: ids are unique and every parent is there. Files and order are yet unchecked."""

    tasks: tuple[Task, ...]
    sizes: Mapping[str, int]
    """Bytes of the files whose size is told, read or not."""
    place: str
    """Where the tasks stand: `/workflow/tasks`."""
    inputs_field: str
    """The field of a task that lists the files it reads."""
    outputs_field: str
    repeats: int
    """How many references were written twice in one list, and are read once."""
    notes: tuple[str, ...] = ()
    """Sentences on what this version left open and how it was read."""


def once(names: Iterable[str]) -> tuple[str, ...]:
    """The names without repetitions, in order."""
    return tuple(dict.fromkeys(names))


def repeated(lists: Iterable[list[str]]) -> int:
    """How many entries of these lists stand there once more."""
    return sum(len(names) - len(set(names)) for names in lists)


def unique_ids(entries: Iterable[dict[str, Any]], place: str) -> dict[str, int]:
    """Id -> position. Raises ImportFault for the second of two."""
    positions: dict[str, int] = {}
    for position, entry in enumerate(entries):
        first = positions.setdefault(entry["id"], position)
        if first != position:
            problem = f"the id {shown(entry['id'])} was used before, at {place}/{first}"
            raise ImportFault(f"{place}/{position}/id", problem, "give each one an id of its own")
    return positions


def refuse_too_many(entries: list[dict[str, Any]], place: str, most: int) -> None:
    if len(entries) > most:
        cure = "take a part of the workflow"
        raise ImportFault(place, f"{len(entries)} tasks are over the limit of {most}", cure)
