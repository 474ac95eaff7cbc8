"""podman-hpc at NERSC: `podman-hpc run [OPTIONS] IMAGE COMMAND`. Podman's options, and podman-hpc's own modules.

Nothing of the machine is in the container but what is named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sandbox.containers.inside import Container, Mount, always, passed_on
from sandbox.containers.reading import Line, RefusedLine, Syntax, is_reference, read_line

CODE = 125
"""Podman's own failures; 126 and 127 are the command's: it cannot be run, it is not there."""
_VALUES = (
    "volume workdir env network shm-size entrypoint user userns ipc pid mount annotation env-file name hostname tmpfs "
    "group-add security-opt ulimit memory cpus device label add-host pull"
)
_SHORT = {"-v": "volume", "-w": "workdir", "-e": "env", "-u": "user", "-h": "hostname", "-m": "memory", "-l": "label"}
_FLAGS = (
    "rm interactive tty read-only privileged init gpu mpi cuda-mpi openmpi-pmi2 openmpi-pmix cvmfs nccl nccl-plugin"
)
SYNTAX = Syntax(
    values={f"--{name}": name for name in _VALUES.split()} | _SHORT,
    flags={f"--{name}": name for name in _FLAGS.split()} | {"-i": "interactive", "-t": "tty", "-it": "tty"},
    unknown="Error: unknown flag: {}\nSee 'podman run --help'",
    lacks="Error: flag needs an argument: {}\nSee 'podman run --help'",
    code=CODE,
)
_OPTIONS = frozenset(
    ("ro", "rw", "z", "Z", "U", "O", "exec", "noexec", "dev", "nodev", "suid", "nosuid", "shared", "slave", "private")
)
"""Behind a volume's second colon."""


def container(words: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> Container:  # noqa: ARG001 - as the others
    """What a command line asks for. Raises RefusedLine."""
    if words[:1] != ["run"]:
        raise RefusedLine(f"Error: unrecognized command `podman {' '.join(words[:1])}`", CODE)
    line = read_line(words[1:], SYNTAX)
    if not line.rest:
        raise RefusedLine("Error: requires at least 1 arg(s), only received 0", CODE)
    image, *command = line.rest
    if not is_reference(image.removeprefix("docker://")):
        raise RefusedLine(f"Error: parsing reference {image!r}: invalid reference format", CODE)
    if not command:
        raise RefusedLine("stand-in: an image's own command is not known here: name one", CODE)
    inside = always(env) | passed_on(line.all("env"), env)
    return Container(
        runtime="podman-hpc",
        image=image,
        command=command,
        workdir=_workdir(line),
        mounts=[_mount(volume) for volume in line.all("volume")],
        env=inside | {"container": "podman", "HOME": "/root", "HOSTNAME": line.last("hostname") or "container"},
    )


def _workdir(line: Line) -> str:
    given = line.last("workdir")
    if given and not given.startswith("/"):
        raise RefusedLine(f"Error: the working directory {given!r} is invalid, it needs to be an absolute path", CODE)
    return given.rstrip("/") or "/"


def _mount(volume: str) -> Mount:
    source, *rest = volume.split(":")
    if not rest or len(rest) > 2 or not source:
        raise RefusedLine(f"Error: {volume}: incorrect volume format, should be [host-dir:]ctr-dir[:option]", CODE)
    if not rest[0].startswith("/"):
        raise RefusedLine(f"Error: invalid container path {rest[0]!r}, must be an absolute path", CODE)
    odd = [word for word in (rest[1].split(",") if len(rest) > 1 else ()) if word not in _OPTIONS]
    if odd:
        raise RefusedLine(f"Error: invalid mount option {odd[0]!r}", CODE)
    if not source.startswith(("/", ".")):
        raise RefusedLine(f"stand-in: {source} would be a named volume: those are not known here", CODE)
    if not os.path.exists(source):
        raise RefusedLine(f"Error: statfs {source}: no such file or directory", CODE)
    return Mount(source=os.path.abspath(source), to=rest[0].rstrip("/") or "/")
