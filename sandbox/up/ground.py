"""What facilities and Globus are put up on: a state folder, ports, faults, and whatever must be ended again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from connectors.registry import Clock
from sandbox.containers.placing import put_up
from sandbox.faces.http import Face, Request
from sandbox.facilities import FacilityShape, LiveFacility, arm
from sandbox.facility import FaultScript as FacesFaults
from sandbox.script import FaultScript
from sandbox.serving import FaceServer

Told = Callable[[str, str, Request, int], object]
"""Called with facility, face, request and status of every answer; 0: none was given."""
Entry = dict[str, object]
"""A site in the site document."""


@dataclass(kw_only=True)
class Ground:
    """Everything made here ends with `stack`."""

    state: Path
    stack: ExitStack
    script: FaultScript
    clock: Clock
    slots: int
    cores: int = 2
    """Of each node."""
    port: int = 0
    """The first of the ports; 0: free ones."""
    told: Told | None = None
    poll: float = 0.3
    """Seconds between two looks of the broker."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    addresses: dict[str, str] = field(default_factory=dict)
    """Of each face: `nersc superfacility` to `http://127.0.0.1:8701`."""
    lines: dict[str, ExitStack] = field(default_factory=dict)
    """Of each facility: closed, nobody answers at its addresses any more."""

    def facility(
        self, shape: FacilityShape, *, runtimes: Sequence[str] = (), modules: Sequence[str] = ()
    ) -> LiveFacility:
        """Its files and processes lie below the state folder. `runtimes`: of containers; `modules`: that
        `module load` knows there, beside a `conda`."""
        commands = put_up(self.state / shape.name, runtimes=runtimes, modules=modules)
        shape = replace(shape, path=f"{commands}:{shape.path}")
        made = LiveFacility(shape, self.state / shape.name, clock=self.clock)
        # a login shell there (`bash -l`) reads this machine's /etc/profile first, which has a PATH of its own
        Path(made.home, ".profile").write_text(f"PATH={quote(shape.path)}\nexport PATH\n")
        arm(made, self.script)
        return self.stack.enter_context(made)

    def credential(self, name: str, text: str) -> str:
        """Keep a fresh test credential in a file that nobody else may read; the reference to it."""
        folder = self.state / "credentials"
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / name
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text if text.endswith("\n") else f"{text}\n")
        return f"file:{path}"

    def serve(self, facility: LiveFacility, face: Face, name: str) -> str:
        """Put one of its faces on a port; its address."""
        return self.serve_for(facility.name, facility.faults, face, name)

    def serve_for(self, owner: str, faults: FacesFaults, face: Face, name: str) -> str:
        """Put a face on a port; its address. `owner`: a facility, or whoever else stands behind it."""
        port = self.port + len(self.addresses) if self.port else 0
        told = self.told

        def tell(request: Request, status: int) -> None:
            if told is not None:
                told(owner, name, request, status)

        server = FaceServer(face, faults, name=name, port=port, on_request=tell)
        if owner not in self.lines:
            self.lines[owner] = self.stack.enter_context(ExitStack())
        self.lines[owner].enter_context(server)
        self.addresses[f"{owner} {name}"] = server.address
        return server.address

    def entry(self, facility: LiveFacility, profile: str, **more: object) -> Entry:
        """The machine's own profile, with the size of a rehearsal, and quick looks."""
        shape = facility.shape
        return {
            "profile": profile,
            "root": f"{facility.files.root}/crossfade",
            "slots": self.slots,
            "poll": self.poll,
            "unreachable": {"probes": 3, "seconds": 2.0},
            "settle": 3.0,
            "heartbeat": 1,
            "fence": 3,
            "limits": {"queued": 4 * self.slots, "submits_per_minute": 0},
            "nodes": shape.nodes,
            "cores": self.cores,
            "gpus": 0,
            "memory": 0,
            "max_walltime": "24h",
            "launcher": "env",
            **more,
        }
