"""A JobSpec: which fields there are, what may stand in them, and the order that it makes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.faces.iri.problems import Problem
from sandbox.faces.iri.profiles import IriProfile
from sandbox.facility import Order

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _object(value: Any) -> bool:
    return isinstance(value, dict)


RESOURCES: Mapping[str, Check] = {
    "node_count": _count,
    "process_count": _count,
    "processes_per_node": _count,
    "cpu_cores_per_process": _count,
    "gpu_cores_per_process": _count,
    "exclusive_node_use": _flag,
    "memory": _count,
}
ATTRIBUTES: Mapping[str, Check] = {
    "duration": _count,
    "queue_name": _text,
    "account": _text,
    "reservation_id": _text,
    "custom_attributes": _words,
}
FIELDS: Mapping[str, Check] = {
    "executable": _text,
    "arguments": _texts,
    "directory": _text,
    "name": _text,
    "inherit_environment": _flag,
    "environment": _words,
    "stdin_path": _text,
    "stdout_path": _text,
    "stderr_path": _text,
    "resources": _object,
    "attributes": _object,
    "pre_launch": _text,
    "post_launch": _text,
    "launcher": _text,
    "container": _object,
}
_DEFAULTS = {"inherit_environment": True, "exclusive_node_use": True}
"""Saying what holds anyhow is refused by nobody."""


def check(spec: Mapping[str, Any], profile: IriProfile) -> None:
    """Raises Problem: 422 for what no site takes, 501 for what this one does not, 400 for what it misses."""
    free = {"attributes": _object} if profile.version == "v2" else {}  # v2 lets every object have some of its own
    wrong = [
        *_wrong(spec, FIELDS, ""),
        *_wrong(_part(spec, "resources"), {**RESOURCES, **free}, "resources."),
        *_wrong(_part(spec, "attributes"), {**ATTRIBUTES, **free}, "attributes."),
    ]
    if wrong:
        raise Problem(422, "the job specification is not valid", invalid=wrong)
    given = {**spec, **_part(spec, "resources"), **_part(spec, "attributes")}
    for name in sorted(profile.refuses):
        if given.get(name) is not None and given[name] != _DEFAULTS.get(name) and given[name] not in ({}, []):
            raise Problem(501, f"{name} is not supported")
    if not spec.get("executable"):
        raise Problem(400, "executable is mandatory" if "container" not in spec else "container is not supported")
    if profile.needs_output:
        for name in ("stdout_path", "stderr_path"):
            if not spec.get(name):
                raise Problem(400, f"{name} is required", invalid=[(name, "required")])
    if profile.needs_filesystems and not _part(_part(spec, "attributes"), "custom_attributes").get("filesystems"):
        raise Problem(400, "GraphQL error: qsub: Resource: filesystems is required to be set.")


def _wrong(part: Mapping[str, Any], known: Mapping[str, Check], at: str) -> list[tuple[str, str]]:
    found = []
    for name, value in part.items():
        if name not in known:
            found.append((f"{at}{name}", "extra fields not permitted"))
        elif value is not None and not known[name](value):
            found.append((f"{at}{name}", "not a valid value"))
    return found


def _part(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, dict) else {}


def order_of(spec: Mapping[str, Any], *, user: str) -> Order:
    """The order, once `check` has passed."""
    resources, attributes = _part(spec, "resources"), _part(spec, "attributes")
    custom = _part(attributes, "custom_attributes")
    nodes = int(resources.get("node_count") or 1)
    per_node = int(resources.get("processes_per_node") or max(1, int(resources.get("process_count") or 1) // nodes))
    return Order(
        name=str(spec.get("name") or ""),
        argv=_argv(spec),
        directory=str(spec.get("directory") or ""),
        user=user,
        queue=str(attributes.get("queue_name") or ""),
        qos=custom.get("qos", ""),
        account=str(attributes.get("account") or ""),
        reservation=str(attributes.get("reservation_id") or ""),
        nodes=nodes,
        cores=per_node * int(resources.get("cpu_cores_per_process") or 1),
        gpus=per_node * int(resources.get("gpu_cores_per_process") or 0),
        memory=int(resources.get("memory") or 0),
        walltime=float(attributes["duration"]) if attributes.get("duration") else None,
        env=_part(spec, "environment"),
        stdout=str(spec.get("stdout_path") or ""),
        stderr=str(spec.get("stderr_path") or ""),
        extra={"job_spec": dict(spec)},
    )


def _argv(spec: Mapping[str, Any]) -> list[str]:
    argv = [str(spec["executable"]), *(spec.get("arguments") or [])]
    wrapped = [spec.get(name) for name in ("pre_launch", "post_launch", "launcher", "stdin_path")]
    if not any(wrapped):
        return argv
    before, after, launcher, stdin = (str(word) if word else "" for word in wrapped)
    line = f"{launcher} {shlex.join(argv)}".strip() + (f" <{shlex.quote(stdin)}" if stdin else "")
    return ["/bin/sh", "-c", "\n".join(part for part in (before, line, "code=$?", after, "exit $code") if part)]
