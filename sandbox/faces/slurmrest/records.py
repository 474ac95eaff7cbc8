"""A job's record, complete, in every version's form; and the accounting's record of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.faces.slurmrest.form import Form
from sandbox.facility import JobView

_UID = 1000
_SINCE = {
    "stdin_expanded": 43, "stdout_expanded": 43, "stderr_expanded": 43, "licenses_allocated": 43, "segment_size": 43,
    "submit_line": 44, "step_id": 44, "priority_by_partition": 42,
}  # fmt: skip
_UNTIL = {"show_flags": 41, "oversubscribe": 41, "exclusive": 41, "minimum_switches": 41}
_NOT_PLAIN = frozenset(
    {
        "allocating_node", "cron", "container_id", "extra", "failed_node", "hold", "job_size_str", "mail_type",
        "mail_user", "maximum_switch_wait_time", "memory_per_node_set", "network", "preemptable_time",
        "required_switches", "selinux_context", "tasks_per_tres", "job_resources", "power", "scheduled_nodes",
        "exclusive", "oversubscribe", "minimum_switches",
    }
)  # fmt: skip


def job_record(view: JobView, form: Form) -> Mapping[str, Any]:
    """As GET /jobs tells of it."""
    found = {**_who(view, form), **_when(view, form), **_what(view, form), **_rest(form)}
    kept = {
        name: value
        for name, value in found.items()
        if _SINCE.get(name, 0) <= form.number <= _UNTIL.get(name, 999) and not (form.plain and name in _NOT_PLAIN)
    }
    if form.plain:
        kept |= dict.fromkeys(("core_spec", "thread_spec", "nice", "profile"))
        kept["show_flags"] = ["SHOW_ALL", "SHOW_DETAIL", "SHOW_LOCAL"]
    return kept


def _who(view: JobView, form: Form) -> dict[str, Any]:
    order = view.order
    number = int(view.native_id)
    return {
        "job_id": number,
        "step_id": {"sluid": "", "job_id": form.count(number), "step_het_component": form.count(None), "step_id": ""},
        "name": order.name,
        "comment": order.comment,
        "account": order.account,
        "partition": order.queue,
        "qos": order.qos,
        "resv_name": order.reservation,
        "user_id": _UID,
        "user_name": order.user,
        "group_id": _UID,
        "group_name": order.user,
        "cluster": form.cluster,
        "admin_comment": "",
        "system_comment": "",
        "association_id": 0,
        "wckey": "",
        "mcs_label": "",
    }


def _when(view: JobView, form: Form) -> dict[str, Any]:
    """A job under way tells as its end when its time is up."""
    order = view.order
    minutes = None if order.walltime is None else max(1, -(-int(order.walltime) // 60))
    end = view.ended_at
    if end is None and view.started_at is not None and minutes is not None:
        end = view.started_at + minutes * 60_000_000
    start = view.started_at if view.started_at is not None else view.start_expected_at
    return {
        "job_state": form.state(view.state, view.word),
        "state_reason": view.reason or "None",
        "state_description": "",
        "exit_code": form.exit(view.exit_code, view.signal, ended=view.ended_at is not None),
        "derived_exit_code": form.exit(0, None, ended=view.ended_at is not None),
        "restart_cnt": view.restarts,
        "submit_time": form.time(view.submitted_at),
        "eligible_time": form.time(view.submitted_at),
        "accrue_time": form.time(view.submitted_at),
        "last_sched_evaluation": form.time(view.submitted_at),
        "start_time": form.time(start),
        "end_time": form.time(end),
        "time_limit": form.count(minutes, infinite=minutes is None),
        "time_minimum": form.count(0 if form.plain else None),
        "deadline": form.time(None),
        "suspend_time": form.time(None),
        "resize_time": form.time(None),
        "preempt_time": form.time(None),
        "preemptable_time": form.time(None),
        "pre_sus_time": form.time(None),
    }


def _what(view: JobView, form: Form) -> dict[str, Any]:
    order = view.order
    cores = max(1, order.nodes * order.cores)
    memory = order.memory >> 20
    asked = f"cpu={cores},mem={memory}M,node={order.nodes},billing={cores}"
    nodes = ",".join(view.nodes)
    return {
        "nodes": nodes,
        "batch_host": view.nodes[0] if view.nodes else "",
        "scheduled_nodes": "",
        "failed_node": view.nodes[0] if view.nodes and view.word == "NODE_FAIL" else "",
        "node_count": form.count(order.nodes),
        "max_nodes": form.count(order.nodes),
        "cpus": form.count(cores),
        "max_cpus": form.count(0),
        "tasks": form.count(int(order.extra.get("tasks", order.nodes))),
        "tasks_per_node": form.count(0),
        "cpus_per_task": form.count(None),
        "memory_per_node": form.count(memory or None),
        "memory_per_cpu": form.count(None),
        "tres_per_node": f"gres/gpu:{order.gpus}" if order.gpus else "",
        "tres_req_str": asked,
        "tres_alloc_str": asked if view.started_at is not None else "",
        "current_working_directory": order.directory,
        "standard_output": order.stdout,
        "standard_error": order.stderr or order.stdout,
        "standard_input": "/dev/null",
        "stdout_expanded": order.stdout,
        "stderr_expanded": order.stderr or order.stdout,
        "stdin_expanded": "/dev/null",
        "submit_line": "",
        "dependency": "singleton" if order.singleton else "",
        "requeue": order.requeue,
        "hold": order.hold,
        "batch_flag": True,
        "command": "",
        "priority": form.count(1),
        "shared": None if form.plain else [],
        "job_resources": {
            "select_type": ["CPU", "MEMORY"],
            "nodes": {
                "count": order.nodes,
                "select_type": ["AVAILABLE"],
                "list": nodes,
                "whole": False,
                "allocation": [],
            },
            "cpus": cores,
            "threads_per_core": form.count(None),
        },
    }  # fmt: skip


_TEXTS = (
    "allocating_node", "array_task_string", "batch_features", "burst_buffer", "burst_buffer_state",
    "cluster_features", "container", "container_id", "cron", "excluded_nodes", "extra", "features", "federation_origin",
    "federation_siblings_active", "federation_siblings_viable", "het_job_id_set", "licenses", "licenses_allocated",
    "mail_user", "memory_per_tres", "network", "cpus_per_tres", "prefer", "required_nodes", "selinux_context",
    "tres_bind", "tres_freq", "tres_per_job", "tres_per_socket", "tres_per_task",
)  # fmt: skip
_UNSET = (
    "array_task_id", "cores_per_socket", "cpu_frequency_minimum", "cpu_frequency_maximum", "cpu_frequency_governor",
    "tasks_per_core", "tasks_per_tres", "tasks_per_socket", "sockets_per_node", "threads_per_core", "billable_tres",
)  # fmt: skip
_ZEROES = (
    "array_job_id", "array_max_tasks", "het_job_id", "het_job_offset", "tasks_per_board", "minimum_tmp_disk_per_node",
    "delay_boot",
)  # fmt: skip
_NUMBERS = ("core_spec", "thread_spec", "sockets_per_board", "maximum_switch_wait_time", "required_switches",
            "minimum_switches", "segment_size", "nice")  # fmt: skip
_LISTS = (
    "flags",
    "gres_detail",
    "job_size_str",
    "mail_type",
    "profile",
    "priority_by_partition",
    "show_flags",
    "exclusive",
)


def _rest(form: Form) -> dict[str, Any]:
    """What no job here ever has."""
    return {
        **dict.fromkeys(_TEXTS, ""),
        **{name: form.count(None) for name in _UNSET},
        **{name: form.count(0) for name in _ZEROES},
        **dict.fromkeys(_NUMBERS, 0),
        **{name: [] for name in _LISTS},
        "minimum_cpus_per_node": form.count(1),
        "contiguous": False,
        "reboot": False,
        "oversubscribe": False,
        "power": {"flags": []},
    }


def accounting_record(view: JobView, form: Form) -> Mapping[str, Any]:
    """As the accounting tells of it."""
    order = view.order
    started, ended = (view.started_at or 0) // 1_000_000, (view.ended_at or 0) // 1_000_000
    limit = None if order.walltime is None else max(1, -(-int(order.walltime) // 60))
    exit_code: object = form.exit(view.exit_code, view.signal, ended=view.ended_at is not None)
    if form.plain:
        # 22.05 tells words in capitals here, and a signal as an object
        signal = {"signal_id": view.signal, "name": ""} if view.signal else None
        exit_code = {"status": "SIGNALED" if signal else "SUCCESS" if not view.exit_code else "ERROR",
                     "return_code": view.exit_code or 0, **({"signal": signal} if signal else {})}  # fmt: skip
    return {
        "account": order.account,
        "comment": {"administrator": "", "job": order.comment, "system": ""},
        "allocation_nodes": order.nodes if view.started_at else 0,
        "association": {"account": order.account, "cluster": form.cluster, "partition": "", "user": order.user},
        "cluster": form.cluster,
        "constraints": "",
        "container": "",
        "derived_exit_code": exit_code,
        "exit_code": exit_code,
        "failed_node": "",
        "flags": [],
        "group": order.user,
        "job_id": int(view.native_id),
        "name": order.name,
        "nodes": ",".join(view.nodes) or "None assigned",
        "partition": order.queue,
        "qos": order.qos,
        "restart_cnt": view.restarts,
        "reservation": {"id": 0, "name": order.reservation},
        "state": {
            "current": view.word if form.plain else [view.word],
            "reason": view.reason or "None",
        },
        "steps": [],
        **({} if form.plain else _accounted(view, form)),
        "time": {
            "elapsed": max(0, (ended or started) - started),
            "eligible": view.submitted_at // 1_000_000,
            "end": ended,
            "start": started,
            "submission": view.submitted_at // 1_000_000,
            "suspended": 0,
            "limit": form.count(limit, infinite=limit is None),
        },
        "user": order.user,
    }


_ACCOUNTED_TEXTS = (
    "block", "extra", "kill_request_user", "licenses", "script", "stderr", "stderr_expanded", "stdin", "stdin_expanded",
    "stdout_expanded", "submit_line", "used_gres",
)  # fmt: skip


def _accounted(view: JobView, form: Form) -> Mapping[str, Any]:
    """What newer accountings tell besides."""
    order = view.order
    limits = {"max": {"running": {"tasks": 0}}}
    return {
        **dict.fromkeys(_ACCOUNTED_TEXTS, ""),
        "stdout": order.stdout,
        "array": {"job_id": 0, "limits": limits, "task_id": form.count(None), "task": ""},
        "het": {"job_id": 0, "job_offset": form.count(None)},
        "hold": order.hold,
        "mcs": {"label": ""},
        "priority": form.count(1),
        "qosreq": "",
        "required": {
            "CPUs": max(1, order.nodes * order.cores),
            "memory_per_cpu": form.count(None),
            "memory_per_node": form.count((order.memory >> 20) or None),
        },
        "segment_size": 0,
        "tres": {"allocated": [], "requested": []},
        "wckey": {"wckey": "", "flags": []},
        "working_directory": order.directory,
    }
