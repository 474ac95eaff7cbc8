"""The command itself: `RECORD RUNTIME WORD...` becomes the payload, or says why the real one would not start it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from sandbox.containers import apptainer, podman, shifter
from sandbox.containers.inside import Container
from sandbox.containers.reading import RefusedLine

Reader = Callable[..., Container]
READERS: Mapping[str, Reader] = {
    "podman-hpc": podman.container,
    "apptainer": apptainer.container,
    "shifter": shifter.container,
}
NOT_THERE, NOT_INSIDE = 127, 126


def main(argv: Sequence[str]) -> int:
    """Never returns where the payload starts: this process becomes it, so that signals reach it."""
    record, runtime, *words = argv
    try:
        found = READERS[runtime](words, cwd=os.getcwd(), env=dict(os.environ))
    except RefusedLine as refused:
        return said(refused.told, refused.code)
    lacks = found.lacks()
    if lacks:
        return said(f"stand-in for {runtime}: {lacks}", NOT_INSIDE)
    program = shutil.which(found.command[0], path=found.env.get("PATH"))
    if program is None:
        return said(f"{runtime}: {found.command[0]}: not found in the container", NOT_THERE)
    write_down(record, found)
    os.chdir(found.workdir)
    os.execve(program, list(found.command), dict(found.env))  # noqa: S606 - what a container's runtime is for
    raise AssertionError("unreachable")


def said(words: str, code: int) -> int:
    """The exit code, after a line on stderr."""
    sys.stderr.write(f"{words}\n")
    return code


def write_down(record: str, found: Container) -> None:
    """One line for each start, for whoever asks what ran in which image."""
    told = {"runtime": found.runtime, "image": found.image, "command": list(found.command), "workdir": found.workdir}
    told["mounts"] = [mount.source for mount in found.mounts]
    told["variables"] = sorted(name for name in found.env if not name.startswith("CROSSFADE_"))
    line = json.dumps(told, separators=(",", ":")) + "\n"
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
