"""Apptainer at ALCF and OLCF: `apptainer exec [OPTIONS] IMAGE COMMAND`.

It brings the user's variables, home, /tmp and the folder where it is called; other file systems have to be bound.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sandbox.containers.inside import Container, Mount, always, passed_on
from sandbox.containers.reading import Line, RefusedLine, Syntax, is_reference, read_line

CODE = 255
_VALUES = (
    "bind mount pwd cwd env env-file home workdir overlay no-mount hostname dns network network-args security add-caps "
    "drop-caps scratch fusemount apply-cgroups memory cpus pem-path"
)
_FLAGS = (
    "nv nvccli rocm cleanenv contain containall no-home writable writable-tmpfs fakeroot ipc pid net uts userns "
    "no-init no-privs compat no-eval no-umask disable-cache no-https"
)
SYNTAX = Syntax(
    values={f"--{name}": name for name in _VALUES.split()}
    | {"-B": "bind", "-H": "home", "-W": "workdir", "-S": "scratch", "-o": "overlay"},
    flags={f"--{name}": name for name in _FLAGS.split()}
    | {
        "-e": "cleanenv",
        "-c": "contain",
        "-C": "containall",
        "-i": "ipc",
        "-p": "pid",
        "-n": "net",
        "-w": "writable",
        "-f": "fakeroot",
        "-u": "userns",
    },
    unknown='Error for command "exec": unknown flag: {}',
    lacks='Error for command "exec": flag needs an argument: {}',
    code=1,
)
_REGISTRIES = ("docker://", "oras://", "library://", "shub://")
_OPTIONS = frozenset({"ro", "rw"})
_ALWAYS = ("/tmp", "/var/tmp", "/proc", "/sys", "/dev")  # noqa: S108 - what it binds by itself


def container(words: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> Container:
    """What a command line asks for. Raises RefusedLine."""
    if words[:1] != ["exec"]:
        raise RefusedLine(f'Error for command "apptainer": unknown command "{" ".join(words[:1])}"', 1)
    line = read_line(words[1:], SYNTAX)
    if len(line.rest) < 2:
        raise RefusedLine(f'Error for command "exec": requires at least 2 arg(s), only received {len(line.rest)}', 1)
    image, *command = line.rest
    _check_image(image, cwd)
    named = [word for given in line.all("env") for word in given.split(",")]
    clean = line.flags & {"cleanenv", "containall"}
    own = {**always(env), **passed_on(named, env)} if clean else {**env, **passed_on(named, env)}
    return Container(
        runtime="apptainer",
        image=image,
        command=command,
        workdir=(line.last("cwd") or line.last("pwd") or cwd).rstrip("/") or "/",
        mounts=[*_usual(line, cwd, env), *(_mount(bind) for given in line.all("bind") for bind in given.split(","))],
        env=own | {"APPTAINER_CONTAINER": image, "APPTAINER_NAME": os.path.basename(image)},
    )


def _usual(line: Line, cwd: str, env: Mapping[str, str]) -> list[Mount]:
    """What it brings without being asked. A rehearsal lies below one of these folders as a whole, or below its user's
    home, where no machine has its file systems: such a folder counts for nothing."""
    if line.flags & {"contain", "containall"}:
        return []
    home = () if "no-home" in line.flags else (env.get("HOME", ""),)
    own = [Mount(source=path, to=path) for path in (*_ALWAYS, *home) if path and os.path.isdir(path)]
    return [*(mount for mount in own if not mount.holds(cwd)), Mount(source=cwd, to=cwd)]


def _check_image(image: str, cwd: str) -> None:
    for scheme in _REGISTRIES:
        if image.startswith(scheme):
            if not is_reference(image.removeprefix(scheme)):
                raise RefusedLine(f"FATAL:   Unable to handle {image} uri: could not parse reference", CODE)
            return
    if "://" in image:
        raise RefusedLine(f"FATAL:   Unsupported image type: {image}", CODE)
    if not os.path.exists(os.path.join(cwd, image)):
        path = os.path.join(cwd, image)
        raise RefusedLine(
            f"FATAL:   could not open image {path}: failed to retrieve path for {path}: no such file", CODE
        )


def _mount(bind: str) -> Mount:
    source, *rest = bind.split(":")
    to = rest[0] if rest and rest[0] else source
    odd = [word for word in rest[1:] if word not in _OPTIONS]
    if odd or not source:
        raise RefusedLine(
            f"FATAL:   while parsing bind path {bind!r}: {odd[:1] or 'no source'} is not a bind option", CODE
        )
    if not os.path.exists(source):
        told = f"mount hook function failure: mount {source}->{to} error: while mounting {source}"
        raise RefusedLine(f"FATAL:   container creation failed: {told}: mount source {source} doesn't exist", CODE)
    if not to.startswith("/"):
        raise RefusedLine(f"FATAL:   destination must be an absolute path: {to}", CODE)
    return Mount(source=os.path.abspath(source), to=to.rstrip("/") or "/")
