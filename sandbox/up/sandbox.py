"""The four facilities together, and Globus beside them: put up, told of in a site document, and taken down again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType

from connectors.registry import Clock
from sandbox.facilities import LiveFacility
from sandbox.facilities.live import wall_clock
from sandbox.script import FaultScript
from sandbox.up import globus
from sandbox.up.ground import Entry, Ground, Told

FACILITIES = ("nersc", "alcf", "olcf", "cloud")
PutUp = Callable[[Ground], tuple[LiveFacility, Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Where and how."""

    state: Path
    """Files, processes' output and credentials of the facilities lie below; absolute. Made with mode 0700."""
    slots: int = 2
    """Jobs that run at once at each facility."""
    cores: int = 2
    """Of each node, as the site document says; a number, nothing of this machine."""
    port: int = 0
    """The first of the ports on loopback; 0: free ones."""
    facilities: Collection[str] = FACILITIES
    poll: float = 0.3
    """Seconds between two looks, in the site document."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where jobs look for programs."""


class Sandbox:
    """A context manager. In it, the facilities answer; on leaving, all their processes and sockets are gone."""

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        script: FaultScript | None = None,
        clock: Clock = wall_clock,
        told: Told | None = None,
    ) -> None:
        self.settings = settings
        self.facilities: dict[str, LiveFacility] = {}
        self.globus: globus.GlobusStage | None = None
        """In it: Globus' service, its login, and what they have counted."""
        self._script = script or FaultScript((), clock)
        self._clock = clock
        self._told = told
        self._entries: dict[str, Entry] = {}
        self._addresses: Mapping[str, str] = {}
        self._lines: Mapping[str, ExitStack] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Sandbox:
        self.settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as stack:
            ground = Ground(
                state=self.settings.state,
                stack=stack,
                script=self._script,
                clock=self._clock,
                slots=self.settings.slots,
                cores=self.settings.cores,
                port=self.settings.port,
                told=self._told,
                path=self.settings.path,
                poll=self.settings.poll,
            )
            for name in FACILITIES:
                if name in self.settings.facilities:
                    put_up: PutUp = import_module(f"sandbox.up.{name}").put_up
                    self.facilities[name], self._entries[name] = put_up(ground)
            self.globus = globus.put_up(ground, self.facilities)
            for name, facility in self.facilities.items():
                self._entries[name] |= globus.entry_of(name, facility)
            self._addresses, self._lines = ground.addresses, ground.lines
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def lose(self, name: str) -> int:
        """That facility goes as in a power cut: nobody answers at its addresses, its processes are killed, its files
        lie where nobody finds them. Globus stays, and finds its collection dead. How many processes there were."""
        facility = self.facilities[name]
        facility.freeze()  # none of them is to write down how another one ended
        self._lines[name].close()
        return facility.vanish()

    @property
    def addresses(self) -> Mapping[str, str]:
        """Of each face, by facility and name."""
        return self._addresses

    def document(self) -> Mapping[str, object]:
        """A site document in which all of them stand, ready to be used."""
        document: dict[str, object] = {"crossfade": 1, "sites": self._entries}
        if self.globus is not None:
            document |= {"places": self.globus.places, "globus": self.globus.client}
        return document

    def text(self) -> str:
        """The document, to be written: JSON, which is YAML, and no thought about quoting."""
        return json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n"

    def accepted(self) -> Mapping[str, Mapping[str, int]]:
        """Submissions that each facility has accepted, by job name."""
        return {name: facility.accepted() for name, facility in self.facilities.items()}
