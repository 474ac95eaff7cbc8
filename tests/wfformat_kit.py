"""One graph, written as each version of WfFormat would write it. Documents of our own making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSIONS = ("1.3", "1.4", "1.5", "1.6")
FLAT = ("1.3", "1.4")
ENDS = ("parents", "children", "both")

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A task as no version writes it. Memory is whole kB, for 1.3 writes no less."""

    id: str
    parents: Sequence[str] = ()
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    runtime: float | None = 1.5
    cores: float | None = None
    load: float | None = None
    memory: int | None = None

    @property
    def recorded(self) -> dict[str, float]:
        """Figures that all versions call the same."""
        return {"avgCPU": self.load} if self.load is not None else {}


def written(version: str, nodes: Sequence[Node], sizes: Mapping[str, int], *, ends: str = "both") -> Document:
    """The document. `ends`: where a version that may choose (1.3, 1.4) tells of the edges."""
    workflow = _flat(version, nodes, sizes, ends) if version in FLAT else _split(version, nodes, sizes)
    system = {"name": "Someone", "version": "1", "url": "https://example.org"}
    return {
        "name": "small",
        "schemaVersion": version,
        "createdAt": "2020-04-01T20:22:32Z",
        "author": {"name": "A", "email": "a@example.org"},
        "wms" if version in FLAT else "runtimeSystem": system,
        "workflow": workflow,
    }


def _flat(version: str, nodes: Sequence[Node], sizes: Mapping[str, int], ends: str) -> Document:
    old = version == "1.3"
    tasks = []
    for node in nodes:
        files = [("input", name) for name in node.reads] + [("output", name) for name in node.writes]
        size = "size" if old else "sizeInBytes"
        task: Document = {
            "name": node.id,
            "type": "compute",
            "files": [{"link": link, "name": name, size: sizes[name]} for link, name in files],
            "machine": "node1",
            "command": {"program": "work", "arguments": ["--all"]},
            **node.recorded,
        }
        if node.runtime is not None:
            task["runtime" if old else "runtimeInSeconds"] = node.runtime
        if node.cores is not None:
            task["cores"] = node.cores
        if node.memory is not None:
            task["memory" if old else "memoryInBytes"] = node.memory // 1000 if old else node.memory
        if ends in ("parents", "both"):
            task["parents"] = list(node.parents)
        if ends in ("children", "both"):
            task["children"] = _children(nodes, node)
        tasks.append(task)
    machine = {
        "nodeName": "node1",
        "cpu": {"count": 48, "speed": 1200},
        "memory" if old else "memoryInBytes": 131795984,
    }
    return {
        "makespan" if old else "makespanInSeconds": 10,
        "executedAt": "20200401T035043+0000",
        "machines": [machine],
        "tasks": tasks,
    }


def _split(version: str, nodes: Sequence[Node], sizes: Mapping[str, int]) -> Document:
    tasks = [
        {
            "name": node.id,
            "id": node.id,
            "parents": list(node.parents),
            "children": _children(nodes, node),
            "inputFiles": list(node.reads),
            "outputFiles": list(node.writes),
        }
        for node in nodes
    ]
    executed = []
    for node in nodes:
        entry = {"id": node.id, "runtimeInSeconds": node.runtime or 0, "machines": ["node1"], **node.recorded}
        if node.cores is not None:
            entry["coreCount"] = node.cores
        if node.memory is not None:
            entry["memoryInBytes"] = node.memory
        executed.append(entry)
    files = [{"id": name, "sizeInBytes": size} for name, size in sizes.items()]
    specification: Document = {"tasks": tasks, "files": files}
    execution: Document = {
        "makespanInSeconds": 10,
        "executedAt": "20200401T035043+0000",
        "tasks": executed,
        "machines": [
            {"nodeName": "node1", "cpu": {"coreCount": 48, "speedInMHz": 1200}, "memoryInBytes": 131795984000}
        ],
    }
    if version == "1.6":
        specification["metrics"] = {"numberOfTasks": len(nodes), "sumOfFileSizesInBytes": sum(sizes.values())}
        execution["metrics"] = {"sumTaskRuntimesInSeconds": sum(node.runtime or 0 for node in nodes)}
    return {"specification": specification, "execution": execution}


def _children(nodes: Sequence[Node], parent: Node) -> list[str]:
    return [node.id for node in nodes if parent.id in node.parents]


DIAMOND = (
    Node(id="split_ID01", reads=("raw",), writes=("left", "right"), runtime=0.5, cores=2, memory=3_000_000),
    Node(id="work_ID02", parents=("split_ID01",), reads=("left",), writes=("l2",), load=160.9),
    Node(id="work_ID03", parents=("split_ID01",), reads=("right",), writes=("r2",), runtime=0),
    Node(id="merge_ID04", parents=("work_ID02", "work_ID03"), reads=("l2", "r2"), writes=("out",)),
)
SIZES = {"raw": 10**9, "left": 100, "right": 7, "l2": 0, "r2": 100_000, "out": 12}


def diamond(version: str, *, ends: str = "both") -> Document:
    """Four tasks with files, figures, and an input from outside."""
    return written(version, DIAMOND, SIZES, ends=ends)
