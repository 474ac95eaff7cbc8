"""Shifter at NERSC: `shifter --image=docker:NAME [OPTIONS] COMMAND`. It brings variables and global file systems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sandbox.containers.inside import Container, Mount, always, passed_on
from sandbox.containers.reading import RefusedLine, Syntax, is_reference, read_line

CODE = 1
SYNTAX = Syntax(
    values={f"--{name}": name for name in ("image", "volume", "workdir", "env", "module", "entrypoint", "user")}
    | {"-i": "image", "-V": "volume", "-w": "workdir", "-e": "env", "-m": "module"},
    flags={f"--{name}": name for name in ("clearenv", "verbose")} | {"-v": "verbose"},
    unknown="shifter: unrecognized option '{}'",
    lacks="shifter: option '{}' requires an argument",
    code=CODE,
)
_KINDS = ("docker:", "custom:", "id:")
_NOT_OVER = ("/etc", "/var", "/opt", "/proc", "/sys", "/dev")
"""Where nothing may be bound in it."""


def container(words: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> Container:
    """What a command line asks for. Raises RefusedLine."""
    line = read_line(words, SYNTAX)
    image = line.last("image") or env.get("SHIFTER_IMAGE", "")
    kind = next((kind for kind in _KINDS if image.startswith(kind)), "docker:")
    name = image.removeprefix(kind)
    if not image:
        raise RefusedLine("shifter: no image was specified", CODE)
    if not is_reference(name) and kind == "docker:":
        raise RefusedLine(f"shifter: failed to lookup image {image}: invalid image name", CODE)
    if not line.rest:
        raise RefusedLine("stand-in: an image's own command is not known here: name one", CODE)
    own = always(env) if "clearenv" in line.flags else dict(env)
    volumes = [_mount(one) for given in line.all("volume") for one in given.split(";")]
    # all global file systems are in it: here, everything
    return Container(
        runtime="shifter",
        image=name,
        command=line.rest,
        workdir=(line.last("workdir") or cwd).rstrip("/") or "/",
        mounts=[Mount(source="/", to="/"), *volumes],
        env=own | passed_on(line.all("env"), env) | {"SHIFTER_RUNTIME": "1", "SHIFTER_IMAGEREQUEST": name},
    )


def _mount(volume: str) -> Mount:
    source, _, to = volume.partition(":")
    if not source.startswith("/") or not to.startswith("/"):
        raise RefusedLine(f"shifter: invalid volume map: {volume}", CODE)
    if to.startswith(_NOT_OVER):
        raise RefusedLine(f"shifter: not allowed to mount over {to}", CODE)
    if not os.path.isdir(source):
        raise RefusedLine(f"shifter: failed to setup user-requested mounts: {source} is not a directory", CODE)
    return Mount(source=source.rstrip("/"), to=to.rstrip("/"))
