"""WfFormat 1.5 and 1.6: what to run (`specification`) and how it once ran (`execution`) stand apart, joined by id."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.wftask import Recorded, Task, Told, once, refuse_too_many, repeated, unique_ids

SPECIFICATION = "/workflow/specification"
EXECUTION = "/workflow/execution"

_LISTS = ("parents", "inputFiles", "outputFiles")


def read_split(data: dict[str, Any], *, max_tasks: int) -> Told:
    """What a document of lawful shape tells. Raises ImportFault."""
    specification = data["workflow"]["specification"]
    entries: list[dict[str, Any]] = specification["tasks"]
    refuse_too_many(entries, f"{SPECIFICATION}/tasks", max_tasks)
    places = unique_ids(entries, f"{SPECIFICATION}/tasks")
    _check_references(entries, places)
    recorded = _read_execution(data["workflow"].get("execution"), places)
    files: list[dict[str, Any]] = specification.get("files", [])
    unique_ids(files, f"{SPECIFICATION}/files")
    return Told(
        tasks=tuple(_task(entry, recorded.get(entry["id"])) for entry in entries),
        sizes={entry["id"]: int(entry["sizeInBytes"]) for entry in files},
        place=f"{SPECIFICATION}/tasks",
        inputs_field="inputFiles",
        outputs_field="outputFiles",
        repeats=repeated(entry.get(field, []) for entry in entries for field in _LISTS),
    )


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
        parents=once(entry["parents"]),
        inputs=once(entry.get("inputFiles", [])),
        outputs=once(entry.get("outputFiles", [])),
        recorded=recorded,
    )


def _read_execution(execution: dict[str, Any] | None, places: Mapping[str, int]) -> dict[str, Recorded]:
    """The two parts need not list tasks in the same order, nor all of them."""
    if execution is None:
        return {}
    positions = unique_ids(execution["tasks"], f"{EXECUTION}/tasks")
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
