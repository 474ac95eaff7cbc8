"""The edges of a WfFormat 1.3 or 1.4 document: told at either end, by a name that several tasks may have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.wftask import Task, once

MOST_EDGES = 1_000_000
"""That shared names may stand for: a name that a thousand tasks have, told by each of them, is a million edges."""


class Edges:
    """What the references in these entries mean. `tasks` are theirs, in the same order, with ids and files."""

    def __init__(self, entries: list[dict[str, Any]], tasks: list[Task], *, place: str) -> None:
        self._entries, self._tasks, self._place = entries, tasks, place
        self.shared = 0
        """References that named several tasks; complete when `parents` has run."""
        self._edges = 0
        self._named: dict[str, list[int]] = defaultdict(list)
        self._numbered: dict[str, list[int]] = defaultdict(list)
        self._writers: dict[str, int] = {}
        self._readers: dict[tuple[str, str], list[int]] = defaultdict(list)  # by file and by the readers' name
        for position, (entry, task) in enumerate(zip(entries, tasks, strict=True)):
            self._named[entry["name"]].append(position)
            for own in {entry.get("id", task.id), task.id} - {entry["name"]}:
                self._numbered[own].append(position)
            for file in task.outputs:
                self._writers.setdefault(file, position)
            for file in task.inputs:
                self._readers[file, entry["name"]].append(position)

    def parents(self) -> list[tuple[str, ...]]:
        """Each task's parents: those that it tells of, then those that tell of it. Raises ImportFault."""
        found: list[dict[str, None]] = [{} for _ in self._tasks]
        for position, entry in enumerate(self._entries):
            for index, name in enumerate(entry.get("parents", [])):
                for parent in self._meant(name, position, "parents", index):
                    found[position].setdefault(self._tasks[parent].id)
        for position, entry in enumerate(self._entries):
            for index, name in enumerate(entry.get("children", [])):
                for child in self._meant(name, position, "children", index):
                    found[child].setdefault(self._tasks[position].id)
        return [tuple(parents) for parents in found]

    def _meant(self, name: str, position: int, field: str, index: int) -> Iterable[int]:
        """The tasks that a reference means: one, unless several have that name."""
        place = f"{self._place}/{position}/{field}/{index}"
        named, numbered = self._named.get(name, []), self._numbered.get(name, [])
        if not named and not numbered:
            raise ImportFault(place, f"no task has the name or the id {shown(name)}", "correct it or add the task")
        if named and numbered:
            problem = f"{shown(name)} is the name of one task and the id of another"
            raise ImportFault(place, problem, "give each task a name and an id that no other has")
        if len(numbered) > 1:
            problem = f"{len(numbered)} tasks have the id {shown(name)}"
            raise ImportFault(place, problem, "give each one an id of its own")
        if len(named) <= 1:
            return named or numbered
        self.shared += 1
        meant = self._sharing_files(name, position, field) or [each for each in named if each != position]
        self._edges += len(meant)
        if self._edges > MOST_EDGES:
            problem = f"names that several tasks have stand for more than {MOST_EDGES} edges"
            raise ImportFault(place, problem, "refer to tasks by ids")
        return meant

    def _sharing_files(self, name: str, position: int, field: str) -> list[int]:
        """The tasks of that name that write what this task reads (its parents), or read what it writes."""
        own = self._tasks[position]
        if field == "parents":
            found = (self._writers[file] for file in own.inputs if file in self._writers)
            among = (writer for writer in found if self._entries[writer]["name"] == name)
        else:
            among = (reader for file in own.outputs for reader in self._readers.get((file, name), ()))
        return sorted({each for each in among if each != position})


def linked_by_files(tasks: list[Task], producers: Mapping[str, str]) -> tuple[list[Task], int]:
    """Tasks without any parent get those who write what they read. -> the tasks, how many edges that made."""
    linked = []
    for task in tasks:
        writers = once(producers[name] for name in task.inputs if producers.get(name, task.id) != task.id)
        linked.append(task if task.parents else replace(task, parents=writers))
    return linked, sum(len(new.parents) - len(old.parents) for new, old in zip(linked, tasks, strict=True))
