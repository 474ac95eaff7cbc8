"""What a job finds in its environment, and where its output goes, as Slurm and PBS arrange it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sandbox.facilities.shape import FacilityShape
from sandbox.facility import Order


def login(shape: FacilityShape, home: str) -> dict[str, str]:
    """The clean environment of a login shell there."""
    return {
        "PATH": shape.path,
        "HOME": home,
        "USER": shape.user,
        "LOGNAME": shape.user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    }


def environment(
    order: Order, shape: FacilityShape, *, native_id: str, restarts: int, host: str, home: str
) -> dict[str, str]:
    """All of it, the order's own words first to yield."""
    own = _pbs if shape.dialect == "pbs" else _slurm
    words = own(order, shape, native_id=native_id, restarts=restarts, host=host)
    return {
        **login(shape, home),
        **{key: value for key, value in order.env.items() if "\0" not in key + value},
        **words,
    }


def _slurm(order: Order, shape: FacilityShape, *, native_id: str, restarts: int, host: str) -> Mapping[str, str]:
    words = {
        "SLURM_JOB_ID": native_id,
        "SLURM_JOBID": native_id,
        "SLURM_JOB_NAME": order.name,
        "SLURM_JOB_USER": order.user,
        "SLURM_JOB_ACCOUNT": order.account,
        "SLURM_JOB_PARTITION": order.queue,
        "SLURM_JOB_QOS": order.qos,
        "SLURM_JOB_NUM_NODES": str(order.nodes),
        "SLURM_NNODES": str(order.nodes),
        "SLURM_JOB_NODELIST": host,
        "SLURMD_NODENAME": host,
        "SLURM_CLUSTER_NAME": shape.name,
        "SLURM_SUBMIT_DIR": order.directory,
        "SLURM_CPUS_ON_NODE": str(max(1, order.cores)),
        "SLURM_PROCID": "0",
    }
    if restarts:
        words["SLURM_RESTART_COUNT"] = str(restarts)
    return words


def _pbs(order: Order, shape: FacilityShape, *, native_id: str, restarts: int, host: str) -> Mapping[str, str]:  # noqa: ARG001
    return {
        "PBS_JOBID": f"{native_id}.{shape.name}-pbs",
        "PBS_JOBNAME": order.name,
        "PBS_QUEUE": order.queue,
        "PBS_O_WORKDIR": order.directory,
        "PBS_O_LOGNAME": order.user,
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "NCPUS": str(max(1, order.cores)),
    }


def output_path(order: Order, pattern: str, shape: FacilityShape, *, native_id: str, host: str) -> str:
    """Where output goes: Slurm's % patterns put in, the scheduler's own name where none is given."""
    if not pattern:
        name = f"{order.name or 'STDIN'}.o{native_id}" if shape.dialect == "pbs" else f"slurm-{native_id}.out"
        return f"{order.directory}/{name.replace('/', '_')}"
    values = {"j": native_id, "J": native_id, "A": native_id, "x": order.name, "u": order.user, "N": host, "%": "%"}
    path = re.sub(r"%(.)", lambda found: values.get(found[1], found[0]), pattern)
    return path if path.startswith("/") else f"{order.directory}/{path}"
