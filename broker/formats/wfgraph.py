"""The tasks of a WfFormat document, joined, checked against each other, as frozen values."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.wfshape import EXECUTION, SPECIFICATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What one task used when it was recorded. Seconds, cores, bytes; 0 bytes of memory: not recorded."""

    runtime: float = 0.0
    cores: int = 1
    memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Ids are foreign text: they name nothing on a disk."""

    id: str
    parents: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    recorded: Recorded | None
    """None: the execution part does not speak of this task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGraph:
    """A lawful graph: ids unique, edges known on both ends and free of cycles, at most one producer per file."""

    tasks: tuple[Task, ...]
    sizes: Mapping[str, int]
    """Bytes of each file that some task reads or writes, in order of first mention."""
    producers: Mapping[str, str]
    """File id -> id of the task that writes it; a file that is missing here comes from outside."""
    unsized: int
    """How many of those files had no recorded size (0 stands in `sizes`)."""
    repeats: int
    """How many references were written twice in one list, and are read once."""

    @property
    def external(self) -> tuple[str, ...]:
        """Files that tasks read and nobody writes."""
        return tuple(name for name in self.sizes if name not in self.producers)


def read_graph(data: dict[str, Any], *, max_tasks: int) -> TaskGraph:
    """The graph of a document whose shape was already checked. Raises ImportFault.

    Nothing is assumed of the order of tasks: neither that parents come first nor that both parts list them alike.
    """
    entries: list[dict[str, Any]] = data["workflow"]["specification"]["tasks"]
    if len(entries) > max_tasks:
        cure = "raise max_tasks if you trust the document"
        raise ImportFault(f"{SPECIFICATION}/tasks", f"{len(entries)} tasks are over the limit of {max_tasks}", cure)
    places = _unique_ids(entries, f"{SPECIFICATION}/tasks")
    _check_references(entries, places)
    recorded = _read_execution(data["workflow"].get("execution"), places)
    tasks = tuple(_task(entry, recorded.get(entry["id"])) for entry in entries)
    producers = _producers(tasks)
    _check_file_edges(tasks, producers)
    _check_cycles(tasks)
    mentioned = dict.fromkeys(name for task in tasks for name in (*task.inputs, *task.outputs))
    known = _read_sizes(data["workflow"]["specification"].get("files", []))
    return TaskGraph(
        tasks=tasks,
        sizes={name: known.get(name, 0) for name in mentioned},
        producers=producers,
        unsized=sum(name not in known for name in mentioned),
        repeats=sum(_repeats(entry) for entry in entries),
    )


def _unique_ids(entries: Iterable[dict[str, Any]], place: str) -> dict[str, int]:
    """Id -> position."""
    positions: dict[str, int] = {}
    for position, entry in enumerate(entries):
        first = positions.setdefault(entry["id"], position)
        if first != position:
            problem = f"the id {shown(entry['id'])} was used before, at {place}/{first}"
            raise ImportFault(f"{place}/{position}/id", problem, "give each one an id of its own")
    return positions


def _check_references(entries: list[dict[str, Any]], places: Mapping[str, int]) -> None:
    """Every parent and child is there, and each edge is told at both of its ends."""
    told = {field: [frozenset(entry[field]) for entry in entries] for field in ("parents", "children")}
    for field, other in (("parents", "children"), ("children", "parents")):
        for position, entry in enumerate(entries):
            for index, name in enumerate(entry[field]):
                place = f"{SPECIFICATION}/tasks/{position}/{field}/{index}"
                if name not in places:
                    raise ImportFault(place, f"no task has the id {shown(name)}", "correct the id or add the task")
                if entry["id"] not in told[other][places[name]]:
                    cure = f"add {shown(entry['id'])} to the {other} of {shown(name)}, or take the edge out here"
                    raise ImportFault(place, f"{shown(name)} does not tell of this edge in its {other}", cure)


def _task(entry: dict[str, Any], recorded: Recorded | None) -> Task:
    return Task(
        id=entry["id"],
        parents=_once(entry["parents"]),
        inputs=_once(entry.get("inputFiles", [])),
        outputs=_once(entry.get("outputFiles", [])),
        recorded=recorded,
    )


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _repeats(entry: dict[str, Any]) -> int:
    lists = [entry.get(field, []) for field in ("parents", "inputFiles", "outputFiles")]
    return sum(len(names) - len(set(names)) for names in lists)


def _read_execution(execution: dict[str, Any] | None, places: Mapping[str, int]) -> dict[str, Recorded]:
    """Joined by id: the two parts need not list tasks in the same order, nor all of them."""
    if execution is None:
        return {}
    positions = _unique_ids(execution["tasks"], f"{EXECUTION}/tasks")
    for name, position in positions.items():
        if name not in places:
            problem = f"the specification has no task with the id {shown(name)}"
            raise ImportFault(f"{EXECUTION}/tasks/{position}/id", problem, "correct the id or take the entry out")
    return {entry["id"]: _recorded(entry) for entry in execution["tasks"]}


def _recorded(entry: dict[str, Any]) -> Recorded:
    # avgCPU is percent of one core; most systems that write it leave coreCount out
    cores = entry.get("coreCount", entry.get("avgCPU", 0) / 100)
    return Recorded(
        runtime=float(entry["runtimeInSeconds"]),
        cores=max(1, math.ceil(cores)),
        memory=math.ceil(entry.get("memoryInBytes", 0)),
    )


def _read_sizes(files: list[dict[str, Any]]) -> dict[str, int]:
    _unique_ids(files, f"{SPECIFICATION}/files")
    return {entry["id"]: int(entry["sizeInBytes"]) for entry in files}


def _producers(tasks: Iterable[Task]) -> dict[str, str]:
    producers: dict[str, str] = {}
    for position, task in enumerate(tasks):
        for name in task.outputs:
            first = producers.setdefault(name, task.id)
            if first != task.id:
                problem = f"the file {shown(name)} is also written by {shown(first)}"
                cure = "let one task write it, or give the second file an id of its own"
                raise ImportFault(f"{SPECIFICATION}/tasks/{position}/outputFiles", problem, cure)
    return producers


def _check_file_edges(tasks: Iterable[Task], producers: Mapping[str, str]) -> None:
    """Who reads a file must be a child of who writes it; else the order of the two would be left to luck."""
    for position, task in enumerate(tasks):
        parents = frozenset(task.parents)
        for name in task.inputs:
            producer = producers.get(name)
            if producer is None or producer in parents:
                continue
            place = f"{SPECIFICATION}/tasks/{position}/inputFiles"
            if producer == task.id:
                cure = "give the file that it writes an id of its own"
                raise ImportFault(place, f"the task reads {shown(name)}, which it writes itself", cure)
            problem = f"{shown(name)} is written by {shown(producer)}, which is not among the task's parents"
            raise ImportFault(place, problem, f"add {shown(producer)} to its parents, and it to the other's children")


def _check_cycles(tasks: Iterable[Task]) -> None:
    try:
        graphlib.TopologicalSorter({task.id: task.parents for task in tasks}).prepare()
    except graphlib.CycleError as found:
        names: list[str] = found.args[1]
        circle = " -> ".join(shown(name) for name in names[:6]) + (" -> ..." if len(names) > 6 else "")
        problem = f"{len(names) - 1} tasks wait for each other in a circle: {circle}"
        raise ImportFault(f"{SPECIFICATION}/tasks", problem, "take one of these edges out") from None
