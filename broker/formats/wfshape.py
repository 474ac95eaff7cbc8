"""WfFormat 1.5 field by field, as a table of checks.

At least as strict as the published schema (github.com/wfcommons/WfFormat). Stricter where a wrong value would do harm:
task ids keep to the characters that references to them may have, and figures that we use are never negative.
"""

from __future__ import annotations

from broker.formats.shape import Check, identifier, listing, number, record, text, whole

SPECIFICATION = "/workflow/specification"
EXECUTION = "/workflow/execution"

_TASK_ID = identifier("-_.#")
_FILE_ID = identifier("-_./:#")

_LONGEST_RUNTIME = 1e9
"""Seconds, some 30 years. A bound, so that times can be added and multiplied without care."""

_TASK = record(
    required={"name": text(), "id": _TASK_ID, "parents": listing(_TASK_ID), "children": listing(_TASK_ID)},
    optional={"inputFiles": listing(_FILE_ID), "outputFiles": listing(_FILE_ID)},
)
_FILE = record(required={"id": _FILE_ID, "sizeInBytes": whole(least=0)}, optional={})

_EXECUTED_TASK = record(
    required={"id": _TASK_ID, "runtimeInSeconds": number(least=0, most=_LONGEST_RUNTIME)},
    optional={
        "executedAt": text(),
        "command": record(required={}, optional={"program": text(), "arguments": listing(text())}),
        "coreCount": number(least=1, most=1e6),
        "avgCPU": number(least=0, most=1e8),
        "memoryInBytes": number(least=0),
        "readBytes": number(),
        "writtenBytes": number(),
        "energyInKWh": number(),
        "avgPowerInW": number(),
        "priority": number(),
        "machines": listing(text()),
    },
)
_MACHINE = record(
    required={"nodeName": text()},
    optional={
        "system": text(choices=frozenset({"linux", "macos", "windows"})),
        "architecture": text(),
        "release": text(),
        "memoryInBytes": whole(least=1),
        "cpu": record(
            required={},
            optional={"coreCount": whole(least=1), "speedInMHz": whole(least=1), "vendor": text()},
        ),
    },
)
_WORKFLOW = record(
    required={
        "specification": record(
            required={"tasks": listing(_TASK, least=1)},
            optional={"files": listing(_FILE)},
        )
    },
    optional={
        "execution": record(
            required={
                "makespanInSeconds": number(),
                "executedAt": text(),  # free text on purpose: Pegasus writes 20200401T035043+0000
                "tasks": listing(_EXECUTED_TASK, least=1),
            },
            optional={"machines": listing(_MACHINE, least=1)},
        )
    },
)

DOCUMENT: Check = record(
    required={"name": text(), "schemaVersion": text(), "workflow": _WORKFLOW},
    optional={
        "description": text(),
        "createdAt": text(),
        "runtimeSystem": record(required={"name": text(), "version": text()}, optional={"url": text()}),
        "author": record(
            required={"name": text(), "email": text()},
            optional={"institution": text(), "country": text()},
        ),
    },
)
