"""What a payload would find in a container: which folders, and which variables. The payload itself runs here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

MOST_ENTRIES = 20_000
"""Of the working directory, looked through for links."""
KEPT = ("CROSSFADE_SANDBOX_",)
"""Variables by which the rehearsal knows its own processes: never taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder of this machine that is in the container, under the path `to`."""

    source: str
    to: str

    def holds(self, path: str) -> bool:
        return path == self.to or path.startswith(f"{self.to.rstrip('/')}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One start, as it was asked for."""

    runtime: str
    image: str
    command: Sequence[str]
    workdir: str
    mounts: Sequence[Mount] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def lacks(self) -> str:
        """What the payload would miss in there, in words; empty: nothing that can be seen."""
        if not any(mount.holds(self.workdir) for mount in self.mounts):
            return f"the working directory {self.workdir} is not in the container"
        moved = [mount for mount in self.mounts if mount.source != mount.to]
        if moved:
            return f"{moved[0].source} under another path ({moved[0].to}) cannot be rehearsed: nothing is isolated here"
        for path, target in _links(self.workdir):
            if not any(mount.holds(target) for mount in self.mounts):
                return f"{path} leads to {target}, which is not in the container"
        return ""


def _links(folder: str) -> list[tuple[str, str]]:
    """The symbolic links below that lead out of it, and where to."""
    found: list[tuple[str, str]] = []
    seen = 0
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen += 1
            path = os.path.join(top, name)
            if os.path.islink(path):
                # one step, not to the end: how this machine's own folders are linked is no matter of the container
                target = os.path.normpath(os.path.join(top, os.readlink(path)))
                if not target.startswith(f"{folder}/"):
                    found.append((os.path.relpath(path, folder), target))
        if ".crossfade" in folders:
            folders.remove(".crossfade")
        if seen > MOST_ENTRIES:
            break
    return found


def passed_on(wanted: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """The variables that `--env` names: NAME=VALUE, NAME (as it is here) or PREFIX*."""
    found: dict[str, str] = {}
    for word in wanted:
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value
        elif name.endswith("*"):
            found |= {key: one for key, one in env.items() if fnmatchcase(key, name)}
        elif name in env:
            found[name] = env[name]
    return found


def always(env: Mapping[str, str]) -> dict[str, str]:
    """What the rehearsal itself needs in there, and where programs are: there is no image that would bring any."""
    own = {name: value for name, value in env.items() if name.startswith(KEPT)}
    return own | {"PATH": env.get("PATH", os.defpath)}
