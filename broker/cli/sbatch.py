"""A Slurm batch script as a stage: what its #SBATCH lines ask for, and its body."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

_SHORT = {
    "A": "account",
    "C": "constraint",
    "c": "cpus-per-task",
    "G": "gpus",
    "J": "job-name",
    "N": "nodes",
    "n": "ntasks",
    "p": "partition",
    "q": "qos",
    "t": "time",
}
_SUBMIT_WORDS = ("account", "qos", "constraint", "partition", "reservation", "licenses")
_HARMLESS = frozenset({"job-name", "output", "error", "mail-type", "mail-user", "open-mode", "export", "chdir"})
"""What the harness does itself, or what has no meaning here."""
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(?P<number>\d+)(?P<unit>[KMGT]?)B?", re.IGNORECASE)


@dataclass(slots=True)
class BatchScript:
    """What a script said."""

    name: str = "job"
    resources: dict[str, Any] = field(default_factory=dict)
    submit: dict[str, str] = field(default_factory=dict)
    body: str = ""
    not_taken: list[str] = field(default_factory=list)
    """Its #SBATCH lines that mean nothing here; the person decides what becomes of them."""


def read_sbatch(text: str) -> BatchScript:
    """Read a script. Directives count only before the first command, as for sbatch itself."""
    script = BatchScript()
    given: dict[str, str] = {}
    lines = text.splitlines()
    body_at = 1 if lines and lines[0].startswith("#!") else 0
    for i, line in enumerate(lines):
        if line.startswith("#SBATCH"):
            _directive(line, given, script)
        elif line.strip() and not line.lstrip().startswith("#"):
            break
        body_at = i + 1
    kept = [line for line in lines[:body_at] if line.startswith("#") and not line.startswith(("#SBATCH", "#!"))]
    script.body = "\n".join([*kept, *lines[body_at:]]).strip("\n") + "\n"
    _take(given, script)
    return script


def _directive(line: str, given: dict[str, str], script: BatchScript) -> None:
    try:
        words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
    except ValueError:
        script.not_taken.append(line)
        return
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            name, value = _SHORT.get(word[1:2], word), word[2:]
            equals = value
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        given[name] = value


def _take(given: dict[str, str], script: BatchScript) -> None:
    script.name = _safe_name(given.get("job-name", "job"))
    resources = script.resources
    resources["nodes"] = _count(given.pop("nodes", "1").split("-")[0]) or 1
    cores = (_count(given.pop("cpus-per-task", "1")) or 1) * _tasks_per_node(given, resources["nodes"])
    resources["cores"] = cores
    gpus = given.pop("gpus-per-node", "") or given.pop("gres", "").removeprefix("gpu:")
    if per_node := _count(gpus.rsplit(":", 1)[-1]):
        resources["gpus"] = per_node
    elif total := _count(given.pop("gpus", "").rsplit(":", 1)[-1]):
        resources["gpus"] = -(-total // resources["nodes"])
    if memory := _memory(given.pop("mem", "")):
        resources["memory"] = memory
    if walltime := _walltime(given.pop("time", "")):
        resources["walltime"] = walltime
    for word in _SUBMIT_WORDS:
        if word in given:
            script.submit[word] = given.pop(word)
    script.not_taken += [
        f"--{name}={value}" if value else f"--{name}" for name, value in given.items() if name not in _HARMLESS
    ]


def _tasks_per_node(given: dict[str, str], nodes: int) -> int:
    per_node = _count(given.pop("ntasks-per-node", ""))
    total = _count(given.pop("ntasks", ""))
    return per_node or (-(-total // nodes) if total else 1)


def _count(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _memory(text: str) -> str:
    """Slurm counts in MiB where no unit is given; ours have a unit always."""
    found = _MEMORY.fullmatch(text)
    if not found or not int(found["number"]):
        return ""
    return f"{found['number']}{found['unit'].upper() or 'M'}iB"


def _walltime(text: str) -> str:
    """`minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]` as seconds."""
    found = _TIME.fullmatch(text)
    if not found:
        return ""
    parts = [int(part) for part in found["rest"].split(":")]
    if found["days"]:
        hours, minutes, seconds = (*parts, 0, 0, 0)[:3]
        total = int(found["days"]) * 86_400 + hours * 3600 + minutes * 60 + seconds
    elif len(parts) == 3:
        total = parts[0] * 3600 + parts[1] * 60 + parts[2]
    else:
        total = parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)
    return f"{total}s"


def _safe_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "job"
