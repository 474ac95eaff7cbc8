"""Which versions of WfFormat are read, and how each of them is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.formats.fault import ImportFault, shown
from broker.formats.shape import Check, record, text
from broker.formats.wfflat import read_flat
from broker.formats.wfshape import SHAPE_15, SHAPE_16, SHAPE_FLAT
from broker.formats.wfsplit import read_split
from broker.formats.wftask import Told


@dataclass(frozen=True, slots=True)
class Version:
    """One version: what its documents look like, and who reads one of that look."""

    shape: Check
    read: Callable[..., Told]


VERSIONS = {
    "1.3": Version(SHAPE_FLAT, read_flat),
    "1.4": Version(SHAPE_FLAT, read_flat),
    "1.5": Version(SHAPE_15, read_split),
    "1.6": Version(SHAPE_16, read_split),
}
"""By `schemaVersion`."""

_VERSIONED = record(required={"schemaVersion": text(least=0)}, optional={})


def read_told(data: dict[str, Any], *, max_tasks: int) -> Told:
    """What a document of any of these versions tells. Raises ImportFault."""
    _VERSIONED(data, "")  # before anything else: in another version every field would seem wrong
    version = VERSIONS.get(data["schemaVersion"])
    if version is None:
        known = ", ".join(VERSIONS)
        problem = f"this is WfFormat {shown(data['schemaVersion'])}, which is not read"
        raise ImportFault("/schemaVersion", problem, f"convert it to one of {known}")
    version.shape(data, "")
    return version.read(data, max_tasks=max_tasks)
