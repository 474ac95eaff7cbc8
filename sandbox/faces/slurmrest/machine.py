"""The machine itself: partitions, nodes, reservations, the controllers, and what the scheduler counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectors.model import JobState
from sandbox.faces.slurmrest.form import Form
from sandbox.facility import JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """`max_seconds` None: no limit."""

    name: str
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """A reservation; times are µs."""

    name: str
    start: int
    end: int
    nodes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What jobs run on; the first partition is the default. `memory`: bytes per node."""

    name: str = "sandbox"
    nodes: int = 1
    cores: int = 1
    memory: int = 8 << 30
    partitions: Sequence[Partition] = (Partition(name="batch"),)
    reservations: Sequence[Booking] = ()


class Shape(Protocol):
    """As much of `sandbox.facilities.shape.FacilityShape` as there is to tell."""

    @property
    def nodes(self) -> int: ...
    @property
    def cores_per_node(self) -> int: ...
    @property
    def queues(self) -> Mapping[str, Any]: ...
    @property
    def reservations(self) -> tuple[Any, ...]: ...


def machine_of(shape: Shape, name: str) -> Machine:
    """A facility's, under the name that clients call it by."""
    return Machine(
        name=name,
        nodes=shape.nodes,
        cores=shape.cores_per_node,
        partitions=tuple(Partition(name=queue, max_seconds=one.max_walltime) for queue, one in shape.queues.items()),
        reservations=tuple(
            Booking(name=one.name, start=one.start, end=one.end, nodes=max(1, one.units // shape.cores_per_node))
            for one in shape.reservations
        ),
    )  # fmt: skip


def pings(form: Form, *, up: bool) -> Sequence[Mapping[str, Any]]:
    if form.plain:
        return [
            {"hostname": "controller", "ping": "UP" if up else "DOWN", "status": 0 if up else -1, "mode": "primary"}
        ]
    return [
        {
            "hostname": "controller",
            "pinged": "UP" if up else "DOWN",
            "responding": up,
            "latency": 300,
            "mode": "primary",
            "primary": True,
        }
    ]


def node_name(index: int) -> str:
    return f"node{index:03d}"


def nodes(machine: Machine, jobs: Sequence[JobView], form: Form, now: int) -> Sequence[Mapping[str, Any]]:
    busy: Counter[str] = Counter()
    for view in jobs:
        if view.state is JobState.RUNNING:
            busy.update(dict.fromkeys(view.nodes, view.order.cores))
    return [_node(machine, node_name(index), busy, form, now) for index in range(1, machine.nodes + 1)]


def _node(machine: Machine, name: str, busy: Mapping[str, int], form: Form, now: int) -> Mapping[str, Any]:
    used = min(machine.cores, busy.get(name, 0))
    word = "IDLE" if name not in busy else "ALLOCATED" if used >= machine.cores else "MIXED"
    memory = machine.memory >> 20
    record: dict[str, Any] = {
        "name": name,
        "address": name,
        "hostname": name,
        "architecture": "x86_64",
        "operating_system": "Linux",
        "boards": 1,
        "sockets": 1,
        "cores": machine.cores,
        "threads": 1,
        "cpus": machine.cores,
        "cpu_load": used * 100,
        "cpu_binding": 0,
        "alloc_cpus": used,
        "real_memory": memory,
        "alloc_memory": 0,
        "boot_time": form.time(now - 86_400_000_000),
        "slurmd_start_time": form.time(now - 86_400_000_000),
        "last_busy": form.time(now),
        "reason_changed_at": form.time(None),
        "port": 6818,
        "partitions": [partition.name for partition in machine.partitions],
        "owner": "",
        "comment": "",
        "extra": "",
        "reason": "",
        "reason_set_by_user": "",
        "mcs_label": "",
        "burstbuffer_network_address": "",
        "gres": "",
        "gres_drained": "N/A",
        "gres_used": "",
        "temporary_disk": 0,
        "weight": 1,
        "tres": f"cpu={machine.cores},mem={memory}M,billing={machine.cores}",
        "tres_used": f"cpu={used}" if used else "",
        "tres_weighted": float(used),
    }
    if form.plain:
        return record | {
            "state": word.lower(),
            "state_flags": [],
            "next_state_after_reboot": "invalid",
            "next_state_after_reboot_flags": [],
            "features": "",
            "active_features": "",
            "free_memory": memory,
            "idle_cpus": machine.cores - used,
            "slurmd_version": "22.05.8",
        }
    energy = {
        "average_watts": 0,
        "base_consumed_energy": 0,
        "consumed_energy": 0,
        "current_watts": form.count(0),
        "previous_consumed_energy": 0,
        "last_collected": 0,
    }
    if form.number >= 43:
        record |= {"cert_flags": [], "tls_cert_last_renewal": form.time(None), "topology": ""}
    return record | {
        "energy": energy,
        "gpu_spec": "",
        "res_cores_per_gpu": 0,
        "state": [word],
        "next_state_after_reboot": ["INVALID"],
        "features": [],
        "active_features": [],
        "cluster_name": machine.name,
        "free_mem": form.count(memory),
        "effective_cpus": machine.cores,
        "specialized_cores": 0,
        "specialized_cpus": "",
        "specialized_memory": 0,
        "alloc_idle_cpus": machine.cores - used,
        "reservation": "",
        "resume_after": form.count(None),
        "instance_id": "",
        "instance_type": "",
        "external_sensors": {},
        "power": {},
        "version": "25.05.2",
    }


def partitions(machine: Machine, form: Form) -> Sequence[Mapping[str, Any]]:
    return [_partition(machine, one, form, default=not index) for index, one in enumerate(machine.partitions)]


def _partition(machine: Machine, one: Partition, form: Form, *, default: bool) -> Mapping[str, Any]:
    minutes = None if one.max_seconds is None else int(one.max_seconds // 60)
    listed = f"{node_name(1)[:-3]}[001-{machine.nodes:03d}]"
    cpus = machine.nodes * machine.cores
    tres = f"cpu={cpus},mem={machine.nodes * (machine.memory >> 20)}M,node={machine.nodes},billing={cpus}"
    if form.plain:
        texts = ("allowed_allocation_nodes", "allowed_accounts", "allowed_groups", "allowed_qos", "alternative",
                 "billing_weights", "denied_accounts", "denied_qos", "qos")  # fmt: skip
        unset = ("default_memory_per_cpu", "default_memory_per_node", "default_time_limit", "maximum_memory_per_cpu",
                 "maximum_memory_per_node", "over_time_limit")  # fmt: skip
        return {
            **dict.fromkeys(texts, ""),
            **dict.fromkeys(unset),
            "flags": ["default"] if default else [],
            "preemption_mode": ["disabled"],
            "preemption_grace_time": 0,
            "maximum_cpus_per_node": -1,
            "maximum_nodes_per_job": -1,
            "max_time_limit": -1 if minutes is None else minutes,
            "min nodes per job": 0,
            "name": one.name,
            "nodes": listed,
            "priority_job_factor": 1,
            "priority_tier": 1,
            "state": "UP",
            "total_cpus": cpus,
            "total_nodes": machine.nodes,
            "tres": tres,
        }
    unlimited = form.count(None, infinite=True)
    return {
        "name": one.name,
        "cluster": machine.name,
        "select_type": ["CPU", "MEMORY"],
        **({"topology": ""} if form.number >= 43 else {}),
        "nodes": {"allowed_allocation": "", "configured": listed, "total": machine.nodes},
        "accounts": {"allowed": "", "deny": ""},
        "groups": {"allowed": ""},
        "qos": {"allowed": "", "deny": "", "assigned": ""},
        "alternate": "",
        "tres": {"billing_weights": "", "configured": tres},
        "cpus": {"task_binding": 0, "total": cpus},
        "defaults": {
            "memory_per_cpu": 0,
            "partition_memory_per_cpu": form.count(None),
            "partition_memory_per_node": form.count(None),
            "time": form.count(None),
            "job": "",
        },
        "grace_time": 0,
        "maximums": {
            "cpus_per_node": unlimited,
            "cpus_per_socket": unlimited,
            "memory_per_cpu": 0,
            "partition_memory_per_cpu": form.count(None),
            "partition_memory_per_node": form.count(None),
            "nodes": unlimited,
            "shares": 1,
            "oversubscribe": {"jobs": 1, "flags": []},
            "time": form.count(minutes, infinite=minutes is None),
            "over_time_limit": form.count(None),
        },
        "minimums": {"nodes": 0},
        "node_sets": "",
        "priority": {"job_factor": 1, "tier": 1},
        "timeouts": {"resume": form.count(None), "suspend": form.count(None)},
        "partition": {"state": ["UP"]},
        "suspend_time": form.count(None),
    }


def reservations(machine: Machine, form: Form) -> Sequence[Mapping[str, Any]]:
    texts = ("accounts", "burst_buffer", "features", "groups", "licenses", "partition", "users")
    return [
        {
            **dict.fromkeys(texts, ""),
            "name": one.name,
            "start_time": form.time(one.start),
            "end_time": form.time(one.end),
            "node_count": one.nodes,
            "node_list": node_name(1),
            "core_count": one.nodes * machine.cores,
            "flags": ["SPEC_NODES"],
            "max_start_delay": 0,
            "tres": f"cpu={one.nodes * machine.cores}",
            "watts": form.count(4_294_967_294 if form.plain else None),
            **({"core_spec_cnt": 0} if form.plain else {"core_specializations": []}),
            **({} if form.plain else {"purge_completed": {"time": form.count(None)}}),
        }
        for one in machine.reservations
    ]  # fmt: skip
