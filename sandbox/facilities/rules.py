"""What a scheduler says to an order before it takes it, and what it takes but never runs."""

from __future__ import annotations

import re

from sandbox.facilities.shape import FacilityShape
from sandbox.facility import Order, OrderRefused

_REFUSED = {
    "queue": "Batch job submission failed: Invalid partition name specified",
    "account": "Batch job submission failed: Invalid account or account/partition combination specified",
    "qos": "Batch job submission failed: Invalid qos specification",
    "reservation": "Batch job submission failed: Requested reservation is invalid",
    "time": "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
    "nodes": "Batch job submission failed: Requested node configuration is not available",
    "script": "This does not look like a batch script.  The first line must start with #! followed by the path to an "
    "interpreter.  For instance: #!/bin/sh",
}
_PBS = {
    "queue": "qsub: Unknown queue",
    "account": "qsub: No active allocation found for project",
    "time": "qsub: Job violates queue and/or server resource limits",
    "nodes": "qsub: Job violates queue and/or server resource limits",
    "reservation": "qsub: Unknown queue",
}
_NAME = re.compile(r"[^\x00-\x1f\x7f]{0,1024}")


def refuse(shape: FacilityShape, kind: str) -> OrderRefused:
    """A refusal of that kind, in the scheduler's words."""
    if shape.dialect == "pbs" and kind in _PBS:
        return OrderRefused(kind, _PBS[kind])
    text = _REFUSED.get(kind, "Batch job submission failed: Unspecified error")
    return OrderRefused(kind, text if kind == "script" else f"sbatch: error: {text}")


def check(order: Order, shape: FacilityShape) -> None:
    """Raises OrderRefused for what is plainly wrong."""
    if not order.script and not order.argv:
        raise refuse(shape, "script")
    if order.script and not order.script.startswith("#!") and shape.dialect == "slurm":
        raise refuse(shape, "script")
    if not _NAME.fullmatch(order.name) or not _NAME.fullmatch(order.comment):
        raise refuse(shape, "script")
    if order.queue and order.queue not in shape.queues:
        raise refuse(shape, "queue")
    if shape.accounts and order.account not in shape.accounts:
        raise refuse(shape, "account")
    if shape.qos and order.qos and order.qos not in shape.qos:
        raise refuse(shape, "qos")
    if order.reservation and order.reservation not in {item.name for item in shape.reservations}:
        raise refuse(shape, "reservation")
    if order.nodes < 1 or order.cores < 0 or (order.walltime is not None and order.walltime <= 0):
        raise refuse(shape, "nodes" if order.nodes < 1 or order.cores < 0 else "time")
    broken = never_runs(order, shape)
    if broken and shape.enforce_limits:
        raise refuse(shape, "time" if broken == "PartitionTimeLimit" else "nodes")


def never_runs(order: Order, shape: FacilityShape) -> str:
    """The reason for which this order would wait for ever; empty: none."""
    queue = shape.queues[order.queue or shape.default_queue]
    if order.walltime is not None and queue.max_walltime is not None and order.walltime > queue.max_walltime:
        return "PartitionTimeLimit"
    if order.nodes > shape.nodes or (order.nodes == 1 and order.cores > shape.cores_per_node):
        return "PartitionConfig"
    return "PartitionNodeLimit" if queue.max_nodes and order.nodes > queue.max_nodes else ""


def priority_of(order: Order, shape: FacilityShape) -> int:
    lanes = shape.site().lanes
    queue = shape.queues[order.queue or shape.default_queue]
    return shape.qos.get(order.qos, lanes.get(order.qos, 0)) or queue.priority or lanes.get(order.queue, 0)
