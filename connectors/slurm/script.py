"""The head of a Slurm job script, and the script: what a site's engineer would write, line by line.

Every value is checked before it becomes part of a line: a newline would be a directive of somebody else's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from shlex import quote

from connectors.errors import RequestRefused
from connectors.model import JobSpec
from connectors.names import KEY, comment_of
from connectors.paths import clean, file_path

LOG = ".crossfade/wrapper.log"
"""Where the job's own output goes, below its directory."""

_WORD = re.compile(r"[a-z][a-z0-9-]{0,40}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/@:,=+&|*()\[\]%^~#-]{0,500}")
_OURS = frozenset(
    {
        "job-name", "comment", "chdir", "output", "error", "nodes", "time", "requeue", "no-requeue", "open-mode",
        "signal", "dependency", "parsable", "wrap", "export", "array", "input", "wait", "hold", "begin",
        "kill-on-invalid-dep",
    }
)  # fmt: skip
"""Words that are the broker's to set: a stage that set them would not be found, or not end, as it should."""


def job_script(spec: JobSpec, *, root: str, owner: str, singleton: bool = True, umask: str = "") -> str:
    """The script that `sbatch` is given. `root`: the site's root, absolute; `owner`: whose installation.

    `singleton`: a second copy under this name waits until the first has ended, should one be accepted by mistake.
    Raises RequestRefused for a value that no directive can hold, UnsafePath.
    """
    folder = f"{root.rstrip('/')}/{clean(spec.directory)}"
    head = "".join(f"#SBATCH {line}\n" for line in directives(spec, folder=folder, owner=owner, singleton=singleton))
    mask = f"umask {_checked_umask(umask)}\n" if umask else ""
    return f"#!/bin/sh\n{head}\n{mask}cd {quote(folder)} || exit 1\nexec /bin/sh {quote(file_path(spec.entry))}\n"


def directives(spec: JobSpec, *, folder: str, owner: str, singleton: bool = True) -> Iterator[str]:
    """The options, one a line, ours first."""
    if not KEY.fullmatch(spec.key):
        raise RequestRefused(f"{spec.key[:80]!r} is not a submit key")
    needs = spec.resources
    yield f"--job-name={spec.key}"
    yield f'--comment="{comment_of(spec, owner)}"'
    yield f"--chdir={_path(folder)}"
    yield f"--output={_path(folder)}/{LOG}"
    yield "--open-mode=append"
    yield f"--nodes={needs.nodes}"
    if needs.ranks_per_node:
        yield f"--ntasks-per-node={needs.ranks_per_node}"
    if needs.cores > 1:
        per_task = needs.cores // max(1, needs.ranks_per_node)
        yield f"--cpus-per-task={max(1, per_task)}"
    if needs.gpus:
        yield f"--gpus-per-node={needs.gpus}"
    if needs.memory:
        yield f"--mem={math.ceil(needs.memory / (1 << 20))}M"
    if needs.exclusive and "exclusive" not in spec.submit:
        yield "--exclusive"
    if needs.walltime is not None:
        yield f"--time={clock_time(needs.walltime)}"
    yield "--requeue" if spec.requeue else "--no-requeue"
    if singleton:
        yield "--dependency=singleton"
    if spec.warn_before:
        yield f"--signal=B:USR1@{spec.warn_before}"
    yield from words(spec.submit)


def words(submit: Mapping[str, str]) -> Iterator[str]:
    """Scheduler words of the document as options. Raises RequestRefused."""
    for name, value in submit.items():
        word = {"queue": "partition"}.get(name, name).replace("_", "-")
        if not _WORD.fullmatch(word) or word in _OURS:
            raise RequestRefused(
                f"submit: {name[:80]!r} is not a word for this scheduler, or the broker sets it itself"
            )
        if value.lower() in {"", "true"}:
            yield f"--{word}"
        elif value.lower() == "false":
            continue
        elif not _VALUE.fullmatch(value):
            raise RequestRefused(f"submit: {name}: {value[:80]!r} holds characters that no option of the scheduler has")
        else:
            yield f"--{word}={value}" if re.fullmatch(r"[\w./@:,=+%-]+", value) else f'--{word}="{value}"'


def clock_time(seconds: float) -> str:
    """Slurm's D-HH:MM:SS, rounded up to a whole second."""
    whole = max(1, math.ceil(seconds))
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _path(path: str) -> str:
    """A path in a directive: sbatch expands % patterns, and splits at blanks."""
    if not re.fullmatch(r"/[\w./@+=,:-]*", path):
        raise RequestRefused(f"the root {path[:200]!r} holds characters that a job script's head cannot")
    return path


def _checked_umask(umask: str) -> str:
    if not re.fullmatch(r"[0-7]{3,4}", umask):
        raise RequestRefused(f"umask {umask!r} is not three or four octal digits")
    return umask
