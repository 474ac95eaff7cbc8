"""The head of a PBS job script, and the script. Every value is checked before it becomes part of a line.

PBS has no comment of the user's own: whose job it is stands in a variable, CROSSFADE_LABEL, which qstat tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from shlex import quote

from connectors.errors import RequestRefused
from connectors.model import JobSpec
from connectors.names import NOBODY, short_digest
from connectors.paths import clean, file_path

LABEL = "CROSSFADE_LABEL"
LONGEST_NAME = 15
"""Characters of a job's name that every PBS keeps; submit keys have as many."""
_KEY = re.compile(r"[a-z][a-z0-9]{0,14}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,40}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:,=+&|!<>-]{0,500}")
_OWNER = re.compile(r"[A-Za-z0-9-]{1,32}")
_OPTIONS = {"account": "-A", "project": "-P", "queue": "-q", "partition": "-q", "reservation": "-q", "priority": "-p"}
_OURS = frozenset({"name", "walltime", "output", "error", "join", "rerunable", "variable_list", "array", "interactive"})
"""Words that are the broker's to set."""


def label_text(spec: JobSpec, owner: str) -> str:
    """Whose job it is and what it would run: as `connectors.names.comment_of`, without a blank."""
    if not _OWNER.fullmatch(owner or NOBODY):
        raise RequestRefused(f"{owner[:80]!r} is no name of an installation")
    return f"crossfade.{owner or NOBODY}.{spec.key}.{short_digest(spec.digest)}"


def job_script(spec: JobSpec, *, root: str, owner: str, umask: str = "") -> str:
    """The script that `qsub` is given. Raises RequestRefused, UnsafePath."""
    if umask and not re.fullmatch(r"[0-7]{3,4}", umask):
        raise RequestRefused(f"umask {umask!r} is not three or four octal digits")
    folder = f"{root.rstrip('/')}/{clean(spec.directory)}"
    head = "".join(f"#PBS {line}\n" for line in directives(spec, folder=folder, owner=owner))
    mask = f"umask {umask}\n" if umask else ""
    run = f"exec /bin/sh {quote(file_path(spec.entry))} >>.crossfade/wrapper.log 2>&1"
    return f"#!/bin/sh\n{head}\n{mask}cd {quote(folder)} || exit 1\n{run}\n"


def directives(spec: JobSpec, *, folder: str, owner: str) -> Iterator[str]:
    """The options, one a line."""
    if not _KEY.fullmatch(spec.key):
        raise RequestRefused(f"{spec.key[:80]!r} is not a submit key that PBS keeps whole ({LONGEST_NAME} characters)")
    if not re.fullmatch(r"/[\w./@+=-]*", folder):
        raise RequestRefused(f"the root {folder[:200]!r} holds characters that a job script's head cannot")
    needs, words = spec.resources, {name.replace("-", "_"): value for name, value in spec.submit.items()}
    yield f"-N {spec.key}"
    yield f"-v {LABEL}={label_text(spec, owner)}"
    yield "-j oe"
    yield f"-o {folder}/.crossfade/scheduler.log"
    yield f"-r {'y' if spec.requeue else 'n'}"
    own = words.pop("select", "")
    yield f"-l select={_checked('select', own) if own else _chunk(spec)}"
    if needs.walltime is not None:
        seconds = max(1, math.ceil(needs.walltime))
        yield f"-l walltime={seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    exclusive = words.pop("exclusive", None) is not None or needs.exclusive
    if exclusive and "place" not in words:
        yield "-l place=scatter:excl"
    elif needs.nodes > 1 and "place" not in words:
        yield "-l place=scatter"
    yield from _options(words)


def _chunk(spec: JobSpec) -> str:
    needs = spec.resources
    parts = [str(needs.nodes), f"ncpus={max(1, needs.cores)}"]
    if needs.ranks_per_node:
        parts.append(f"mpiprocs={needs.ranks_per_node}")
    if needs.gpus:
        parts.append(f"ngpus={needs.gpus}")
    if needs.memory:
        parts.append(f"mem={math.ceil(needs.memory / (1 << 20))}mb")
    return ":".join(parts)


def _options(submit: Mapping[str, str]) -> Iterator[str]:
    """Scheduler words of the document; what is no option of qsub is a resource."""
    for word, value in submit.items():
        if not _WORD.fullmatch(word) or word in _OURS:
            raise RequestRefused(
                f"submit: {word[:80]!r} is not a word for this scheduler, or the broker sets it itself"
            )
        checked = _checked(word, value or "true")
        yield f"{_OPTIONS[word]} {checked}" if word in _OPTIONS else f"-l {word}={checked}"


def _checked(word: str, value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise RequestRefused(f"submit: {word}: {value[:80]!r} holds characters that no option of the scheduler has")
    return value
