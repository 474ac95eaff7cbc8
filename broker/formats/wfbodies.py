"""What an imported task does: nothing, sleep as long as it once ran, or write files as large as its own.

The recorded command is never run: it is foreign text, with Nextflow a whole shell script. Everything that reaches the
shell here is a number or a name that was made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from broker.formats.wftask import Task

Bodies = Literal["noop", "sleep", "bytes"]
BODIES: tuple[Bodies, ...] = ("noop", "sleep", "bytes")

Part = dict[str, object]
"""Some keys of a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file as the stages see it. `size` is bytes, already scaled.

    Its content is its own name in the first line, then zeros: fast to write, the same every time, and a file that
    arrived in the place of another of the same size is noticed.
    """

    name: str
    size: int

    @property
    def header(self) -> str:
        return f"{self.name}\n"


def local_files(sizes: Mapping[str, int], scale: float) -> dict[str, LocalFile]:
    """Foreign file id -> local file. Counted, because ids may hold `/`, `:` and `..` and must never meet a folder."""
    return {
        name: LocalFile(name=f"f{count:06d}", size=round(size * scale))
        for count, (name, size) in enumerate(sizes.items(), 1)
    }


def noop() -> Part:
    return {"run": ":"}


def sleep(task: Task, scale: float) -> Part:
    """A recorded runtime of 0 is 0; a task that was not recorded sleeps 0 as well."""
    return {"run": f"sleep {seconds(task.runtime * scale)}"}


def seconds(value: float) -> str:
    """For `sleep`: to the millisecond, never in exponents."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def write_bytes(
    task: Task, *, files: Mapping[str, LocalFile], producers: Mapping[str, str], stages: Mapping[str, str]
) -> Part:
    """Checks every input that a stage made, then writes every output. Inputs from outside are left out."""
    read = [(files[name], stages[producers[name]]) for name in task.inputs if name in producers]
    written = [files[name] for name in task.outputs]
    part: Part = {"run": _script([file for file, _ in read], written)}
    if read:
        part["inputs"] = [{"name": file.name, "from": stage} for file, stage in read]
    if written:
        part["outputs"] = [{"path": file.name, "required": True} for file in written]
    return part


_HAVE = """\
have() {
  size=$(wc -c < "$1")
  if [ "$size" -ne "$2" ]; then echo "input $1 has $size bytes, not $2" >&2; exit 1; fi
  if [ "$2" -le "${#1}" ]; then return 0; fi
  IFS= read -r first < "$1"
  if [ "$first" != "$1" ]; then echo "input $1 holds another file's content" >&2; exit 1; fi
}
"""
_MAKE = """\
make() { { printf '%s\\n' "$1"; head -c "$2" /dev/zero; } > "$1"; }
"""


def _script(read: list[LocalFile], written: list[LocalFile]) -> str:
    lines = [f"have {file.name} {file.size}" for file in read] + [_writes(file) for file in written]
    helpers = (_HAVE if read else "") + (_MAKE if any(line.startswith("make ") for line in lines) else "")
    return helpers + "\n".join(lines or [":"]) + "\n"


def _writes(file: LocalFile) -> str:
    if file.size < len(file.header):
        return f"printf %s '{file.header[: file.size]}' > {file.name}"
    return f"make {file.name} {file.size - len(file.header)}"
