"""WfFormat field by field, as tables of checks: one for each form of document.

1.5 and 1.6 are at least as strict as the published schema (github.com/wfcommons/WfFormat). Stricter where a wrong value
would do harm: task ids keep to the characters that references to them may have, and figures that we use are never
negative. 1.6 is 1.5 with `metrics`, and `:` and `/` in task ids.

1.3 and 1.4 share one table, with the types of their schemas. It demands only what the graph needs and knows the names
of both: recorded workflows of these versions lack fields that are required there, and mix the names.
"""

from __future__ import annotations

from broker.formats.shape import LARGEST, Check, identifier, listing, number, record, text, whole

_FILE_ID = identifier("-_./:#")
_LONGEST_RUNTIME = 1e9
"""Seconds, some 30 years. A bound, so that times can be added and multiplied without care."""

_RUNTIME = number(least=0, most=_LONGEST_RUNTIME)
_CORES = number(least=1, most=1e6)
_LOAD = number(least=0, most=1e8)
_COMMAND = record(required={}, optional={"program": text(), "arguments": listing(text())})
_SYSTEM = text(choices=frozenset({"linux", "macos", "windows"}))
_AUTHOR = {"name": text(), "email": text(), "institution": text(), "country": text()}
_RUNTIME_SYSTEM = {"name": text(), "version": text(), "url": text()}


def _only(fields: dict[str, Check], *required: str) -> Check:
    """An object with those fields, of which some must be there."""
    return record(
        required={name: fields[name] for name in required},
        optional={name: check for name, check in fields.items() if name not in required},
    )


# -- 1.5 and 1.6 -------------------------------------------------------------------------------------------

_EXECUTED = {
    "runtimeInSeconds": _RUNTIME,
    "executedAt": text(),
    "command": _COMMAND,
    "coreCount": _CORES,
    "avgCPU": _LOAD,
    "memoryInBytes": number(least=0),
    "readBytes": number(),
    "writtenBytes": number(),
    "energyInKWh": number(),
    "avgPowerInW": number(),
    "priority": number(),
    "machines": listing(text()),
}
_MACHINE = {
    "nodeName": text(),
    "system": _SYSTEM,
    "architecture": text(),
    "release": text(),
    "memoryInBytes": whole(least=1),
    "cpu": record(required={}, optional={"coreCount": whole(least=1), "speedInMHz": whole(least=1), "vendor": text()}),
}
_COUNTS = ("numberOfTasks", "numberOfFiles", "sumOfFileSizesInBytes", "numberOfLevels", "minimumWidth", "maximumWidth")
_METRICS = record(required={}, optional={name: whole(least=0) for name in _COUNTS})
_EXECUTION_METRICS = record(
    required={},
    optional={
        "sumTaskRuntimesInSeconds": number(least=0),
        "totalNumBytesRead": whole(least=0),
        "totalNumBytesWritten": whole(least=0),
    },
)


def _split(task_id: Check, metrics: dict[str, Check], execution_metrics: dict[str, Check]) -> Check:
    ids = listing(task_id)
    files = listing(_FILE_ID)
    task = {"name": text(), "id": task_id, "parents": ids, "children": ids, "inputFiles": files, "outputFiles": files}
    file = {"id": _FILE_ID, "sizeInBytes": whole(least=0)}
    specification = {
        "tasks": listing(_only(task, "name", "id", "parents", "children"), least=1),
        "files": listing(_only(file, "id", "sizeInBytes")),
    }
    execution = {
        "makespanInSeconds": number(),
        "executedAt": text(),  # free text on purpose: Pegasus writes 20200401T035043+0000
        "tasks": listing(_only({"id": task_id, **_EXECUTED}, "id", "runtimeInSeconds"), least=1),
        "machines": listing(_only(_MACHINE, "nodeName"), least=1),
    }
    workflow = {
        "specification": _only(specification | metrics, "tasks"),
        "execution": _only(execution | execution_metrics, "makespanInSeconds", "executedAt", "tasks"),
    }
    document = {
        "name": text(),
        "schemaVersion": text(),
        "workflow": _only(workflow, "specification"),
        "description": text(),
        "createdAt": text(),
        "runtimeSystem": _only(_RUNTIME_SYSTEM, "name", "version"),
        "author": _only(_AUTHOR, "name", "email"),
    }
    return _only(document, "name", "schemaVersion", "workflow")


SHAPE_15 = _split(identifier("-_.#"), {}, {})
SHAPE_16 = _split(identifier("-_.#:/"), {"metrics": _METRICS}, {"metrics": _EXECUTION_METRICS})

# -- 1.3 and 1.4 -------------------------------------------------------------------------------------------

_NAME = identifier("-_.#:/ ()[]+,=@")
"""It becomes the stage's WF_TASK_ID. The schemas allow any text; no recorded workflow has more than these."""
_FLAT_FILE = {
    "name": text(),
    "link": text(choices=frozenset({"input", "output"})),
    "path": text(least=0),  # in no schema, and in all documents of Nextflow
    "size": whole(least=0),
    "sizeInBytes": whole(least=0),
}
_FLAT_TASK = {
    "name": _NAME,
    "id": _NAME,
    "category": text(),
    "type": text(choices=frozenset({"compute", "transfer", "auxiliary"})),
    "command": _COMMAND,
    "parents": listing(text()),
    "children": listing(text()),
    "files": listing(_only(_FLAT_FILE, "name", "link")),
    "runtime": _RUNTIME,
    "runtimeInSeconds": _RUNTIME,
    "cores": _CORES,
    "coreCount": _CORES,
    "avgCPU": _LOAD,
    "memory": number(least=0, most=LARGEST // 1000),
    "memoryInBytes": number(least=0),
    "bytesRead": number(),
    "readBytes": number(),
    "bytesWritten": number(),
    "writtenBytes": number(),
    "energy": number(),
    "avgPower": number(),
    "priority": number(),
    "machine": text(),
}
_FLAT_MACHINE = {
    "nodeName": text(),
    "system": _SYSTEM,
    "architecture": text(),
    "release": text(),
    "memory": whole(least=1),
    "memoryInBytes": whole(least=1),
    "cpu": record(required={}, optional={"count": whole(least=1), "speed": whole(least=1), "vendor": text()}),
}
_FLAT_WORKFLOW = {
    "tasks": listing(_only(_FLAT_TASK, "name"), least=1),
    "machines": listing(_only(_FLAT_MACHINE), least=1),
    "makespan": number(),
    "makespanInSeconds": number(),
    "executedAt": text(),
}
SHAPE_FLAT = _only(
    {
        "name": text(),
        "schemaVersion": text(),
        "workflow": _only(_FLAT_WORKFLOW, "tasks"),
        "description": text(),
        "createdAt": text(),
        "wms": _only(_RUNTIME_SYSTEM),
        "author": _only(_AUTHOR),
    },
    "name",
    "schemaVersion",
    "workflow",
)
