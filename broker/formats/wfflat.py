"""WfFormat 1.3 and 1.4: one list of tasks, each with its edges, files and figures, all of them by name.

What differs from the later versions, and how it is read (as found in recorded workflows of these versions):

* Edges name tasks by `name`, although the schema says id. One end may tell of an edge and the other not. Nextflow gave
  one name to all tasks of a process, so a name may mean several.
* A task that tells of no parents at all has for parents those who write what it reads.
* 1.4 put units into names (`runtimeInSeconds` for `runtime`). Documents mix the two; the one with the unit wins.
* `size` was always bytes, whatever the schema of 1.3 says; `memory` was kB.
* Ids are made as the format's own migration to 1.5 makes them: the name, and the id behind it unless it is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.wfedges import Edges, linked_by_files
from broker.formats.wfgraph import producers_of
from broker.formats.wftask import Recorded, Task, Told, once, refuse_too_many, repeated

TASKS = "/workflow/tasks"

_Entry = dict[str, Any]
_Figure = tuple[tuple[str, int], ...]
"""Names of one figure, the surest first, each with the factor that makes our unit of its own."""

_RUNTIME: _Figure = (("runtimeInSeconds", 1), ("runtime", 1))
_CORES: _Figure = (("coreCount", 1), ("cores", 1))
_MEMORY: _Figure = (("memoryInBytes", 1), ("memory", 1000))
_SIZE: _Figure = (("sizeInBytes", 1), ("size", 1))


def read_flat(data: _Entry, *, max_tasks: int) -> Told:
    """What a document of lawful shape tells. Raises ImportFault."""
    entries: list[_Entry] = data["workflow"]["tasks"]
    refuse_too_many(entries, TASKS, max_tasks)
    unlinked = [_task(entry, own) for entry, own in zip(entries, _ids(entries), strict=True)]
    edges = Edges(entries, unlinked, place=TASKS)
    tasks = [replace(task, parents=parents) for task, parents in zip(unlinked, edges.parents(), strict=True)]
    linked, read_off = linked_by_files(tasks, producers_of(tasks))
    sizes, differing = _sizes(entries)
    return Told(
        tasks=tuple(linked),
        sizes=sizes,
        place=TASKS,
        inputs_field="files",
        outputs_field="files",
        repeats=repeated(names for entry in entries for names in (entry.get("parents", []), *_files(entry))),
        notes=tuple(_notes(edges.shared, read_off, differing)),
    )


def _notes(shared: int, read_off: int, differing: int) -> Iterator[str]:
    if shared:
        yield (
            f"{shared} references name several tasks at once: each was read as those of them that share a file "
            "with the task, or as all where none does."
        )
    if read_off:
        yield f"{read_off} edges were read off the files, for tasks that tell of no parents."
    if differing:
        yield f"{differing} files are told with differing sizes: the first was taken."


def _ids(entries: list[_Entry]) -> list[str]:
    """A unique id for each task. Raises ImportFault where two would have the same."""
    ids = [_joined(entry["name"], entry.get("id")) for entry in entries]
    first: dict[str, int] = {}
    for position, own in enumerate(ids):
        before = first.setdefault(own, position)
        if before != position:
            problem = f"the task has the name and the id of {TASKS}/{before}: {shown(own)}"
            raise ImportFault(f"{TASKS}/{position}", problem, "give each one an id of its own")
    return ids


def _joined(name: str, own: str | None) -> str:
    return name if own is None or name == own or name.endswith(f"_{own}") else f"{name}_{own}"


def _task(entry: _Entry, own: str) -> Task:
    inputs, outputs = _files(entry)
    return Task(id=own, parents=(), inputs=once(inputs), outputs=once(outputs), recorded=_recorded(entry))


def _files(entry: _Entry) -> tuple[list[str], list[str]]:
    """Ids of the files that a task reads, and of those that it writes."""
    by_link: dict[str, list[str]] = {"input": [], "output": []}
    for file in entry.get("files", []):
        by_link[file["link"]].append(_file_id(file))
    return by_link["input"], by_link["output"]


def _file_id(file: _Entry) -> str:
    """Nextflow's files have a folder besides, and one name in many folders."""
    return str(file.get("path", "")) + str(file["name"])


def _sizes(entries: list[_Entry]) -> tuple[dict[str, int], int]:
    """Every mention of a file repeats its size. -> sizes, and how many files are told with differing ones."""
    sizes: dict[str, int] = {}
    differing = set()
    for entry in entries:
        for file in entry.get("files", []):
            size = _figure(file, _SIZE)
            if size is not None and sizes.setdefault(_file_id(file), int(size)) != size:
                differing.add(_file_id(file))
    return sizes, len(differing)


def _recorded(entry: _Entry) -> Recorded | None:
    """None: not one figure was recorded."""
    runtime, memory, cores = (_figure(entry, names) for names in (_RUNTIME, _MEMORY, _CORES))
    load = entry.get("avgCPU")
    if runtime is memory is cores is load is None:
        return None
    counted = cores if cores is not None else (load or 0) / 100  # avgCPU is percent of one core
    return Recorded(
        runtime=None if runtime is None else float(runtime),
        cores=max(1, math.ceil(counted)),
        memory=math.ceil(memory or 0),
    )


def _figure(entry: _Entry, names: _Figure) -> float | None:
    return next((entry[name] * unit for name, unit in names if name in entry), None)
