"""The tasks of a WfFormat document of any version, checked against each other."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.formats.fault import ImportFault, shown
from broker.formats.wftask import Task, Told


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


def checked_graph(told: Told) -> TaskGraph:
    """The graph of what was told. Raises ImportFault.

    Nothing is assumed of the order of tasks: parents need not come first.
    """
    producers = _producers(told)
    _check_file_edges(told, producers)
    _check_cycles(told)
    mentioned = dict.fromkeys(name for task in told.tasks for name in (*task.inputs, *task.outputs))
    return TaskGraph(
        tasks=told.tasks,
        sizes={name: told.sizes.get(name, 0) for name in mentioned},
        producers=producers,
        unsized=sum(name not in told.sizes for name in mentioned),
        repeats=told.repeats,
    )


def producers_of(tasks: Iterable[Task]) -> dict[str, str]:
    """File id -> id of the first task that writes it."""
    producers: dict[str, str] = {}
    for task in tasks:
        for name in task.outputs:
            producers.setdefault(name, task.id)
    return producers


def _producers(told: Told) -> dict[str, str]:
    producers = producers_of(told.tasks)
    for position, task in enumerate(told.tasks):
        for name in task.outputs:
            if producers[name] != task.id:
                problem = f"the file {shown(name)} is also written by {shown(producers[name])}"
                cure = "let one task write it, or give the second file an id of its own"
                raise ImportFault(f"{told.place}/{position}/{told.outputs_field}", problem, cure)
    return producers


def _check_file_edges(told: Told, producers: Mapping[str, str]) -> None:
    """Who reads a file must be a child of who writes it; else the order of the two would be left to luck."""
    for position, task in enumerate(told.tasks):
        parents = frozenset(task.parents)
        for name in task.inputs:
            producer = producers.get(name)
            if producer is None or producer in parents:
                continue
            place = f"{told.place}/{position}/{told.inputs_field}"
            if producer == task.id:
                cure = "give the file that it writes an id of its own"
                raise ImportFault(place, f"the task reads {shown(name)}, which it writes itself", cure)
            problem = f"{shown(name)} is written by {shown(producer)}, which is not among the task's parents"
            raise ImportFault(place, problem, f"add {shown(producer)} to its parents, and it to the other's children")


def _check_cycles(told: Told) -> None:
    try:
        graphlib.TopologicalSorter({task.id: task.parents for task in told.tasks}).prepare()
    except graphlib.CycleError as found:
        names: list[str] = found.args[1]
        circle = " -> ".join(shown(name) for name in names[:6]) + (" -> ..." if len(names) > 6 else "")
        problem = f"{len(names) - 1} tasks wait for each other in a circle: {circle}"
        raise ImportFault(told.place, problem, "take one of these edges out") from None
