"""A submission's body as an order. As slurmrestd does it, the script's head is not read: only fields count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.faces.slurmrest.form import Form, RestError
from sandbox.facility import Order

_PLAIN = frozenset(
    {
        "account", "account_gather_frequency", "argv", "array", "batch_features", "begin_time", "burst_buffer",
        "cluster_constraint", "comment", "constraints", "container", "core_specification", "cores_per_socket",
        "cpu_binding", "cpu_binding_hint", "cpu_frequency", "cpus_per_gpu", "cpus_per_task",
        "current_working_directory", "deadline", "delay_boot", "dependency", "distribution", "environment", "exclusive",
        "get_user_environment", "gpu_binding", "gpu_frequency", "gpus", "gpus_per_node", "gpus_per_socket",
        "gpus_per_task", "gres", "gres_flags", "hold", "kill_on_invalid_dependency", "licenses", "mail_type",
        "mail_user", "mcs_label", "memory_binding", "memory_per_cpu", "memory_per_gpu", "memory_per_node",
        "minimum_cpus_per_node", "minimum_nodes", "name", "nice", "no_kill", "nodes", "open_mode", "oversubscribe",
        "partition", "prefer", "priority", "qos", "requeue", "reservation", "signal", "sockets_per_node", "spread_job",
        "standard_error", "standard_input", "standard_output", "tasks", "tasks_per_core", "tasks_per_node",
        "tasks_per_socket", "thread_specification", "threads_per_core", "time_limit", "time_minimum", "wait_all_nodes",
        "wckey",
    }
)  # fmt: skip
"""The fields of Slurm 22.05, by its own description of itself; it refuses any other."""
_PARSING = 9001
_NO_ENVIRONMENT = 2127


def order_of(body: object, form: Form, *, user: str, home: str) -> Order:
    """Raises RestError."""
    if not isinstance(body, Mapping):
        raise RestError(400, _PARSING, "Failure during parsing")
    one, many = body.get("job"), body.get("jobs")
    if (one is None) == (many is None):
        raise RestError(400, _PARSING, "Failure during parsing", description="give either job or jobs")
    if many is not None:
        if not isinstance(many, Sequence) or isinstance(many, str) or len(many) != 1:
            raise RestError(400, _PARSING, "Failure during parsing", description="jobs of several components: not here")
        one = many[0]
    if not isinstance(one, Mapping):
        raise RestError(400, _PARSING, "Failure during parsing", description="a job is an object")
    script = body.get("script") or one.get("script") or ""
    if not isinstance(script, str) or not script:
        raise RestError(400, 2009, "Job script not specified")
    for name in one:
        if form.plain and name not in _PLAIN:
            raise RestError(
                400, _PARSING, "Failure during parsing", description=f'Unknown key "{name}"', source="hsearch_r"
            )
    return _Reader(one, form).order(script, user=user, home=home)


class _Reader:
    """Reads fields with the types that this version wants."""

    def __init__(self, job: Mapping[str, Any], form: Form) -> None:
        self._job = job
        self._form = form

    def order(self, script: str, *, user: str, home: str) -> Order:
        warn, delay = self.text("kill_warning_signal"), self.count("kill_warning_delay")
        nodes = self._nodes()
        per_node = self.count("tasks_per_node") or -(-(self.count("tasks") or nodes) // nodes)
        minutes = self.count("time_limit")
        return Order(
            name=self.text("name"),
            comment=self.text("comment"),
            script=script,
            directory=self.text("current_working_directory") or home,
            user=user,
            queue=self.text("partition"),
            qos=self.text("qos"),
            account=self.text("account"),
            reservation=self.text("reservation"),
            nodes=nodes,
            cores=max(1, per_node) * (self.count("cpus_per_task") or 1),
            gpus=self._gpus(),
            memory=(self.count("memory_per_node") or 0) << 20,
            walltime=None if minutes is None else minutes * 60.0,
            requeue=self.flag("requeue", default=True),
            singleton="singleton" in self.text("dependency"),
            hold=self.flag("hold", default=False),
            warn_before=(delay or 60) if warn else 0,
            env=self._environment(),
            stdout=self.text("standard_output"),
            stderr=self.text("standard_error"),
            extra={"tasks": self.count("tasks") or per_node * nodes, "open_mode": self._open_mode()},
        )

    def text(self, name: str) -> str:
        value = self._job.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._unfit(name, "Unable to read string")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._job.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._unfit(name, "Unable to read a boolean")
        return value

    def count(self, name: str) -> int | None:
        """A number, which newer versions also take wrapped; None: not set."""
        value = self._job.get(name)
        if isinstance(value, Mapping) and not self._form.plain:
            if not value.get("set") or value.get("infinite"):
                return None
            value = value.get("number")
        if value is None:
            return None
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._unfit(name, "Unable to read string")
        return value

    def _nodes(self) -> int:
        value = self._job.get("nodes")
        if isinstance(value, list) and value and isinstance(value[0], int) and self._form.plain:
            return max(1, value[0])
        if isinstance(value, (str, int)) and str(value).partition("-")[0].isdecimal():
            return max(1, int(str(value).partition("-")[0]))
        if value is not None:
            raise self._unfit("nodes", "Invalid node count")
        return max(1, self.count("minimum_nodes") or 1)

    def _gpus(self) -> int:
        told = self.text("gpus_per_node") if self._form.plain else self.text("tres_per_node")
        last = told.rpartition(":")[2]
        return int(last) if last.isdecimal() and ("gpu" in told or self._form.plain) else 0

    def _open_mode(self) -> str:
        value = self._job.get("open_mode")
        words = value if isinstance(value, list) else [value]
        return str(words[0]).lower() if words and words[0] else ""

    def _environment(self) -> Mapping[str, str]:
        value = self._job.get("environment")
        if not value:
            raise RestError(400, _NO_ENVIRONMENT, "environment must be set")
        if self._form.plain:
            if not isinstance(value, Mapping):
                raise self._unfit("environment", "environment must be a dictionary")
            return {str(name): str(text) for name, text in value.items()}
        if not isinstance(value, list) or not all(isinstance(one, str) and "=" in one for one in value):
            raise self._unfit("environment", "environment must be a list of NAME=VALUE")
        return dict(one.split("=", 1) for one in value)

    def _unfit(self, name: str, text: str) -> RestError:
        return RestError(
            400, -1, text, description=f'Unable to process key "{name}"', source="slurm_process_option_data"
        )
