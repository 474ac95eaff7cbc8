"""A job as the body of a submission. slurmrestd does not read the script's head: everything stands in the fields.

Two forms: plain (up to Slurm 22.05: numbers as they are, the environment a mapping) and wrapped (numbers as
{"set": true, "infinite": false, "number": 3}, the environment a list). A word that the API has no field for is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from connectors.errors import RequestRefused
from connectors.model import JobSpec
from connectors.names import comment_of
from connectors.olcf.options import RestOptions
from connectors.paths import clean
from connectors.registry import SiteConfig
from connectors.slurm import job_script
from connectors.slurm.script import LOG, words

_MOST_DELAY = 65_535


def body_of(spec: JobSpec, config: SiteConfig, options: RestOptions) -> Mapping[str, Any]:
    """What is posted. Raises RequestRefused, UnsafePath."""
    script = script_of(spec, config)
    job = description(spec, config, options)
    return {"script": script, "jobs": [job]} if options.many else {"script": script, "job": job}


def script_of(spec: JobSpec, config: SiteConfig) -> str:
    """The job script; its head says again what the fields say, for whoever reads it. Raises as `body_of`."""
    return job_script(spec, root=config.root, owner=config.installation, umask=config.umask)


def description(spec: JobSpec, config: SiteConfig, options: RestOptions) -> dict[str, Any]:
    """The fields, in the form of this version."""
    folder = f"{config.root.rstrip('/')}/{clean(spec.directory)}"
    job: dict[str, Any] = {
        "name": spec.key,
        "comment": comment_of(spec, config.installation),
        "current_working_directory": folder,
        "standard_output": f"{folder}/{LOG}",
        "requeue": spec.requeue,
        # a second copy under this name waits until the first has ended, should one be accepted by mistake
        "dependency": "singleton",
        **(_plain(spec, options) if options.plain else _wrapped(spec, options)),
    }
    for word, value in _submit_words(spec):
        name, read = _field(word, options)
        job[name] = read(word, value, options)
    return job


def _tasks(spec: JobSpec) -> int:
    needs = spec.resources
    return needs.ranks or needs.nodes * max(1, needs.ranks_per_node)


def _counts(spec: JobSpec) -> dict[str, Any]:
    needs = spec.resources
    counts: dict[str, Any] = {"tasks": _tasks(spec)}
    if needs.ranks_per_node:
        counts["tasks_per_node"] = needs.ranks_per_node
    if needs.cores > 1:
        counts["cpus_per_task"] = max(1, needs.cores // max(1, needs.ranks_per_node))
    return counts


def _plain(spec: JobSpec, options: RestOptions) -> dict[str, Any]:
    needs = spec.resources
    job = _counts(spec) | {
        "environment": dict(options.environment),
        "nodes": [needs.nodes, needs.nodes],
        "open_mode": "append",
    }
    if needs.walltime is not None:
        job["time_limit"] = _minutes(needs.walltime)
    if needs.memory:
        job["memory_per_node"] = _megabytes(needs.memory)
    if needs.gpus:
        job["gpus_per_node"] = str(needs.gpus)
    if needs.exclusive:
        job["exclusive"] = "exclusive"
    # no warning here: these versions send it to a job's steps alone, where it would end what does not wait for it
    return job


def _wrapped(spec: JobSpec, options: RestOptions) -> dict[str, Any]:
    needs = spec.resources
    job = _counts(spec) | {
        "environment": [f"{name}={value}" for name, value in options.environment.items()],
        "minimum_nodes": needs.nodes,
        "maximum_nodes": needs.nodes,
        "open_mode": ["APPEND"],
    }
    if needs.walltime is not None:
        job["time_limit"] = _number(_minutes(needs.walltime))
    if needs.memory:
        job["memory_per_node"] = _number(_megabytes(needs.memory))
    if needs.gpus:
        job["tres_per_node"] = f"gres/gpu:{needs.gpus}"
    if needs.exclusive:
        job["shared"] = ["none"]
    if spec.warn_before:
        job["kill_warning_signal"] = "USR1"
        job["kill_warning_delay"] = _number(min(spec.warn_before, _MOST_DELAY))
        job["kill_warning_flags"] = ["BATCH_JOB"]
    return job


def _number(value: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value}


def _minutes(seconds: float) -> int:
    return max(1, math.ceil(seconds / 60))


def _megabytes(size: int) -> int:
    return max(1, math.ceil(size / (1 << 20)))


# -- scheduler words -------------------------------------------------------------------------------------------

_Reader = Callable[[str, str, RestOptions], Any]


def _submit_words(spec: JobSpec) -> list[tuple[str, str]]:
    """The stage's and the lane's words, checked as those of a script's head are."""
    found = []
    for option in words(spec.submit):
        word, _, value = option.removeprefix("--").partition("=")
        found.append((word, value[1:-1] if value.startswith('"') else value))
    return found


def _field(word: str, options: RestOptions) -> tuple[str, _Reader]:
    known = _FIELDS.get(word)
    name = (known[1] if options.plain else known[0]) if known else ""
    if known is None or not name:
        raise RequestRefused(f"submit: {word!r} has no field in version {options.version} of the REST API")
    return name, known[2]


def _as_text(word: str, value: str, _: RestOptions) -> Any:
    if not value:
        raise RequestRefused(f"submit: {word} needs a value")
    return value


def _as_count(word: str, value: str, _: RestOptions) -> Any:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise RequestRefused(f"submit: {word} is {value[:80]!r}; give a whole number")
    return int(value)


def _as_flag(word: str, value: str, _: RestOptions) -> Any:
    if value:
        raise RequestRefused(f"submit: {word} takes no value here, not {value[:80]!r}")
    return True


def _as_minutes(word: str, value: str, options: RestOptions) -> Any:
    """Slurm's own forms: minutes, minutes:seconds, h:m:s, days-h[:m[:s]]."""
    days, dash, rest = value.rpartition("-")
    parts = rest.split(":")
    if (
        not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (*parts, days or "0"))
        or len(parts) > 3
    ):
        raise RequestRefused(f"submit: {word} is {value[:80]!r}; give minutes or days-hours:minutes:seconds")
    numbers = [int(part) for part in parts]
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:
        hours, minutes, seconds = 0, numbers[0], (numbers[1] if len(numbers) > 1 else 0)
    total = int(days or 0) * 1440 + hours * 60 + minutes + (1 if seconds else 0)
    return total if options.plain else _number(total)


def _as_memory(word: str, value: str, options: RestOptions) -> Any:
    number, unit = (value[:-1], value[-1].upper()) if value[-1:].isalpha() else (value, "M")
    if not number.isascii() or not number.isdecimal() or unit not in _UNITS or len(number) > 12:
        raise RequestRefused(f"submit: {word} is {value[:80]!r}; give a size such as 64G")
    megabytes = max(1, math.ceil(int(number) * _UNITS[unit]))
    return megabytes if options.plain else _number(megabytes)


def _as_list(word: str, value: str, options: RestOptions) -> Any:
    text: str = _as_text(word, value, options)
    return text.split(",")


def _as_exclusive(word: str, value: str, options: RestOptions) -> Any:
    if value not in {"", "user", "mcs"}:
        raise RequestRefused(f"submit: {word} is {value[:80]!r}; give nothing, user or mcs")
    return (value or "exclusive") if options.plain else [value or "none"]


def _as_gpus(word: str, value: str, options: RestOptions) -> Any:
    text: str = _as_text(word, value, options)
    return text if options.plain else ",".join(f"gres/gpu:{part}" for part in text.split(","))


def _as_gres(word: str, value: str, options: RestOptions) -> Any:
    text: str = _as_text(word, value, options)
    return text if options.plain else ",".join(f"gres/{part.removeprefix('gres/')}" for part in text.split(","))


_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
_FIELDS: Mapping[str, tuple[str, str, _Reader]] = {
    # word: field, field up to 22.05 (empty: there is none), how its value is read
    "partition": ("partition", "partition", _as_text),
    "qos": ("qos", "qos", _as_text),
    "account": ("account", "account", _as_text),
    "reservation": ("reservation", "reservation", _as_text),
    "constraint": ("constraints", "constraints", _as_text),
    "licenses": ("licenses", "licenses", _as_text),
    "wckey": ("wckey", "wckey", _as_text),
    "prefer": ("prefer", "prefer", _as_text),
    "network": ("network", "", _as_text),
    "nice": ("nice", "nice", _as_count),
    "ntasks": ("tasks", "tasks", _as_count),
    "ntasks-per-node": ("tasks_per_node", "tasks_per_node", _as_count),
    "ntasks-per-core": ("tasks_per_core", "tasks_per_core", _as_count),
    "ntasks-per-socket": ("tasks_per_socket", "tasks_per_socket", _as_count),
    "cpus-per-task": ("cpus_per_task", "cpus_per_task", _as_count),
    "threads-per-core": ("threads_per_core", "threads_per_core", _as_count),
    "core-spec": ("core_specification", "core_specification", _as_count),
    "thread-spec": ("thread_specification", "thread_specification", _as_count),
    "mincpus": ("minimum_cpus_per_node", "minimum_cpus_per_node", _as_count),
    "time-min": ("time_minimum", "time_minimum", _as_minutes),
    "mem": ("memory_per_node", "memory_per_node", _as_memory),
    "mem-per-cpu": ("memory_per_cpu", "memory_per_cpu", _as_memory),
    "exclusive": ("shared", "exclusive", _as_exclusive),
    "gpus-per-node": ("tres_per_node", "gpus_per_node", _as_gpus),
    "gpus-per-task": ("tres_per_task", "gpus_per_task", _as_gpus),
    "gpus": ("tres_per_job", "gpus", _as_gpus),
    "gres": ("tres_per_node", "gres", _as_gres),
    "exclude": ("excluded_nodes", "", _as_list),
    "nodelist": ("required_nodes", "", _as_list),
    "mail-user": ("mail_user", "mail_user", _as_text),
    "mail-type": ("mail_type", "", _as_list),
    "contiguous": ("contiguous", "", _as_flag),
    "overcommit": ("overcommit", "", _as_flag),
}
