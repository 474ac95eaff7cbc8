"""WfFormat (wfcommons.org), the field's exchange format for recorded workflows, into our workflow document.

The graph is kept stage by stage and edge by edge; what a stage does is chosen by `bodies`, for the programs that were
recorded are not here to be run. What had to be changed or assumed is told in notes, so that nothing happens silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.names import lawful_names
from broker.formats.wfbodies import BODIES, Bodies, LocalFile, Part, local_files, noop, sleep, write_bytes
from broker.formats.wfgraph import TaskGraph, checked_graph
from broker.formats.wftask import Recorded, Task
from broker.formats.wfversions import read_told

MAX_TASKS = 100_000
MAX_BYTES = 16 * 2**30
"""Bytes that the stages of one workflow would write: room for the real ones, none for a disk filled by a slip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedWorkflow:
    """A foreign workflow in our own language."""

    document: dict[str, object]
    """A workflow document, yet to be validated like any other."""
    notes: tuple[str, ...]
    """Sentences on what was changed, assumed or left out."""
    stages: Mapping[str, str]
    """Task id -> stage name."""
    files: Mapping[str, str]
    """File id -> name in the attempt's directory. Empty unless the bodies are `bytes`."""


def looks_like_wfformat(data: object) -> bool:
    """Is this WfFormat of any version? Says nothing of whether it can be read."""
    return isinstance(data, dict) and "crossfade" not in data and {"schemaVersion", "workflow"} <= data.keys()


def import_wfformat(
    data: dict[str, Any],
    *,
    name: str,
    bodies: Bodies,
    scale: float = 1.0,
    keep_resources: bool = False,
    max_tasks: int = MAX_TASKS,
    max_bytes: int = MAX_BYTES,
) -> ImportedWorkflow:
    """Reads a parsed WfFormat document, 1.3 to 1.6.

    `scale` multiplies the runtimes of `sleep` and the sizes of `bytes`.

    `name` becomes the workflow's, made lawful. Raises ImportFault, with the place, for whatever is wrong in `data`,
    `bodies` or `scale`, and for more than `max_tasks` tasks or `max_bytes` bytes to write. Never runs anything.
    """
    _check_options(bodies, scale)
    told = read_told(data, max_tasks=max_tasks)
    graph = checked_graph(told)
    stages = lawful_names(task.id for task in graph.tasks)
    files = local_files(graph.sizes, scale) if bodies == "bytes" else {}
    _check_bytes(graph, files, max_bytes, told.place)

    def body(task: Task) -> Part:
        if bodies == "bytes":
            return write_bytes(task, files=files, producers=graph.producers, stages=stages)
        return sleep(task, scale) if bodies == "sleep" else noop()

    return ImportedWorkflow(
        document={
            "crossfade": 1,
            "name": next(iter(lawful_names([name or "workflow"]).values())),
            "stages": {stages[task.id]: _stage(task, stages, keep_resources) | body(task) for task in graph.tasks},
        },
        notes=(*told.notes, *_notes(graph, stages, files, bodies, scale, keep_resources)),
        stages=stages,
        files={foreign: file.name for foreign, file in files.items()},
    )


def _stage(task: Task, stages: Mapping[str, str], keep_resources: bool) -> Part:
    part: Part = {"env": {"WF_TASK_ID": task.id}, "resources": _resources(task, keep_resources)}
    if task.parents:
        part["needs"] = [stages[parent] for parent in task.parents]
    return part


def _resources(task: Task, keep: bool) -> Part:
    """One core unless asked otherwise: no body needs more, and a laptop could not serve what a cluster recorded."""
    recorded = task.recorded if keep and task.recorded else Recorded()
    return {"cores": recorded.cores} | ({"memory": f"{recorded.memory}B"} if recorded.memory else {})


# -- what is refused at the door ---------------------------------------------------------------------------


def _check_options(bodies: str, scale: float) -> None:
    if bodies not in BODIES:
        raise ImportFault("bodies", f"the bodies {shown(bodies)} are not known", f"choose one of {', '.join(BODIES)}")
    if not (math.isfinite(scale) and 0 <= scale <= 1e6):
        raise ImportFault("scale", f"the scale {scale} is out of bounds", "choose a number from 0 to 1000000")


def _check_bytes(graph: TaskGraph, files: Mapping[str, LocalFile], most: int, place: str) -> None:
    total = sum(files[name].size for name in graph.producers) if files else 0
    if total > most:
        problem = f"the stages would write {_bytes(total)}, over the limit of {_bytes(most)}"
        cure = "choose a smaller scale"
        raise ImportFault(place, problem, cure)


# -- what is told ------------------------------------------------------------------------------------------


def _notes(
    graph: TaskGraph,
    stages: Mapping[str, str],
    files: Mapping[str, LocalFile],
    bodies: Bodies,
    scale: float,
    keep_resources: bool,
) -> Iterator[str]:
    yield from _note_bodies(graph, files, bodies, scale)
    yield from _note_names(stages)
    yield from _note_external(graph)
    yield from _note_resources(graph, keep_resources)
    unrecorded = sum(task.recorded is None for task in graph.tasks)
    if unrecorded:
        yield f"{_tasks(unrecorded)} without a recorded execution: a runtime of 0 s and 1 core were assumed."
    untimed = sum(task.recorded is not None and task.recorded.runtime is None for task in graph.tasks)
    if untimed:
        yield f"{_tasks(untimed)} without a recorded runtime: 0 s were assumed."
    if graph.unsized:
        yield f"{_files(graph.unsized)} without a recorded size: 0 bytes were assumed."
    if graph.repeats:
        yield f"{graph.repeats} references stood twice in one list and were read once."


def _note_bodies(graph: TaskGraph, files: Mapping[str, LocalFile], bodies: Bodies, scale: float) -> Iterator[str]:
    yield "The recorded commands are never run."
    if bodies == "sleep":
        total = sum(task.runtime for task in graph.tasks) * scale
        yield f"The stages sleep {total:.0f} s in all (scale {scale:g})."
    if bodies == "bytes":
        written = sum(files[name].size for name in graph.producers)
        copied = sum(files[name].size for task in graph.tasks for name in task.inputs if name in graph.producers)
        yield (
            f"The stages write {_files(len(graph.producers))}, {_bytes(written)} in all, and read {_bytes(copied)} "
            f"of each other's (scale {scale:g}); files have counted names."
        )


def _note_names(stages: Mapping[str, str]) -> Iterator[str]:
    renamed = [f"{shown(old)} is {new}" for old, new in stages.items() if old != new]
    if renamed:
        listed = ", ".join(renamed[:5]) + (f" and {len(renamed) - 5} more" if len(renamed) > 5 else "")
        yield f"{_tasks(len(renamed))} renamed: {listed}. WF_TASK_ID holds the id in each stage's environment."


def _note_external(graph: TaskGraph) -> Iterator[str]:
    """The data that the placement of a real run would be drawn to."""
    external = graph.external
    if external:
        largest = max(external, key=lambda name: graph.sizes[name])
        yield (
            f"Left out because no task writes them: {_files(len(external))}, "
            f"{_bytes(sum(graph.sizes[name] for name in external))} in all, "
            f"the largest {shown(largest)} of {_bytes(graph.sizes[largest])}."
        )


def _note_resources(graph: TaskGraph, kept: bool) -> Iterator[str]:
    recorded = [task.recorded for task in graph.tasks if task.recorded]
    cores = max((each.cores for each in recorded), default=1)
    memory = max((each.memory for each in recorded), default=0)
    if not kept and (cores > 1 or memory):
        said = f"{cores} {'core' if cores == 1 else 'cores'}" + (f" and {_bytes(memory)} of memory" if memory else "")
        yield f"Up to {said} were recorded per task; every stage asks for 1 core, since its body needs no more."


def _tasks(count: int) -> str:
    return f"{count} task" + ("s" if count != 1 else "")


def _files(count: int) -> str:
    return f"{count} file" + ("s" if count != 1 else "")


def _bytes(count: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
