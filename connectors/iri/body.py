"""A job of ours as the body of `POST /compute/job`: the same shell script everywhere, and the fields that a site takes.

Environment, working directory and output are arranged inside the script, not by fields of the API: sites refuse some of
these and were seen to ignore others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from shlex import quote
from typing import Any

from connectors.errors import RequestRefused
from connectors.iri.marks import marking
from connectors.iri.quirks import Quirks
from connectors.model import JobSpec, Resources
from connectors.names import KEY, comment_of
from connectors.paths import clean, file_path

SHELL = "/bin/bash"
LOG = ".crossfade/wrapper.log"
ERRORS = ".crossfade/wrapper.err"
"""What the scheduler itself has to say. The job's own errors go to the log."""
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/@:,=+&|*()\[\]%^~#-]{0,500}")
_ATTRIBUTES = {"queue": "queue_name", "partition": "queue_name", "account": "account", "reservation": "reservation_id"}
_OURS = frozenset({"name", "job-name", "comment", "walltime", "time", "duration", "nodes", "output", "error"})


def script_of(spec: JobSpec, quirks: Quirks, *, root: str, owner: str, umask: str = "") -> str:
    """What the shell is given. Its first line is our label. Raises RequestRefused, UnsafePath."""
    if not KEY.fullmatch(spec.key):
        raise RequestRefused(f"{spec.key[:80]!r} is not a submit key")
    if umask and not re.fullmatch(r"[0-7]{3,4}", umask):
        raise RequestRefused(f"umask {umask!r} is not three or four octal digits")
    folder = folder_of(spec, root)
    return "".join(
        f"{line}\n"
        for line in (
            f"# {comment_of(spec, owner)}",
            *([f"umask {umask}"] if umask else []),
            *marking(spec, owner=owner, root=root, variable=quirks.job_id_variable),
            f"cd {quote(folder)} || exit 1",
            f"exec >>{LOG} 2>&1",
            f"exec /bin/sh {quote(file_path(spec.entry))}",
        )
    )


def folder_of(spec: JobSpec, root: str) -> str:
    """The job's folder, absolute."""
    return f"{root.rstrip('/')}/{clean(spec.directory)}"


def body_of(
    spec: JobSpec, quirks: Quirks, *, root: str, owner: str, account: str = "", umask: str = ""
) -> dict[str, Any]:
    """The request's body. Raises RequestRefused for what no field can hold, UnsafePath."""
    folder = folder_of(spec, root)
    return {
        "executable": SHELL,
        "arguments": ["-lc", script_of(spec, quirks, root=root, owner=owner, umask=umask)],
        "directory": folder,
        "name": spec.key,
        "stdout_path": f"{folder}/{LOG}",
        "stderr_path": f"{folder}/{ERRORS}",
        "resources": _resources(spec.resources, quirks),
        "attributes": _attributes(spec, quirks, account),
    }


def _resources(needs: Resources, quirks: Quirks) -> dict[str, Any]:
    per_node = max(1, needs.ranks_per_node)
    wanted: dict[str, Any] = {
        "node_count": needs.nodes,
        "processes_per_node": needs.ranks_per_node or None,
        "cpu_cores_per_process": needs.cores // per_node if needs.cores > 1 else None,
        "gpu_cores_per_process": needs.gpus // per_node or None,
        "memory": needs.memory or None,
        "exclusive_node_use": True if needs.exclusive else None,
    }
    return {name: value for name, value in wanted.items() if value is not None and quirks.takes(name)}


def _attributes(spec: JobSpec, quirks: Quirks, account: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    custom = dict(quirks.custom_attributes)
    if spec.resources.walltime is not None:
        found["duration"] = max(1, math.ceil(spec.resources.walltime))
    if account:
        found["account"] = account
    for word, value in spec.submit.items():
        _check(word, value)
        name = _ATTRIBUTES.get(word)
        if name == "reservation_id" and not quirks.takes(name):
            name = "queue_name"  # where a reservation is a queue of its own
        if name is None:
            custom[word] = value or "true"
        else:
            found[name] = value
    if custom:
        found["custom_attributes"] = custom
    return found


def _check(word: str, value: str) -> None:
    if not _WORD.fullmatch(word) or word in _OURS:
        raise RequestRefused(f"submit: {word[:80]!r} is not a word for this site, or the broker sets it itself")
    if value and not _VALUE.fullmatch(value):
        raise RequestRefused(f"submit: {word}: {value[:80]!r} holds characters that no attribute has")


def label_text(job_spec: object) -> object:
    """The label's line of a specification that a site tells back; None: it is none of ours."""
    arguments = job_spec.get("arguments") if isinstance(job_spec, Mapping) else None
    if not isinstance(arguments, list) or len(arguments) != 2 or not isinstance(arguments[1], str):
        return None
    return arguments[1].partition("\n")[0].removeprefix("#").strip()
