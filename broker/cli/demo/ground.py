"""The four facilities of the demonstration: a sandbox in this process, and how one of them is lost."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from broker.store.base import AttemptRow
from sandbox.faces.http import Request
from sandbox.up import Sandbox, SandboxSettings

SLOTS = 2
POLL = 0.15
"""Seconds between two looks. At a real facility: half a minute."""
PROTOCOLS = {
    "superfacility": "Superfacility API v1.2",
    "iri": "IRI Facility API v1",
    "s3m": "S3M, Slurm REST",
    "kubernetes": "Kubernetes",
    "s3": "S3",
    "activity": "status feed",
    "globus": "Transfer API v0.10 and Auth",
}
_ROOT = "crossfade"
"""The broker's folder below a facility's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What was taken away with a site."""

    site: str
    processes: int
    at: int
    """Microseconds UTC."""


class Ground:
    """Where it is played. A context manager: in it the facilities answer, and on leaving nothing of them is left."""

    def __init__(self, home: Path) -> None:
        self.document = home / "sites.yaml"
        path = os.environ.get("PATH", os.defpath)
        settings = SandboxSettings(state=home / "facilities", slots=SLOTS, poll=POLL, path=path)
        self._sandbox = Sandbox(settings, told=self._told)
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._lost: set[str] = set()

    def __enter__(self) -> Ground:
        self._sandbox.__enter__()
        self.document.write_text(self._sandbox.text(), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.__exit__(kind, error, trace)

    def introduction(self) -> list[str]:
        """A line for each face: who speaks what, and where."""
        lines = []
        for face, address in self._sandbox.addresses.items():
            site, _, protocol = face.partition(" ")
            lines.append(f"{site} speaks {PROTOCOLS.get(protocol, protocol)} at {address}")
        return lines

    def connectors(self) -> Mapping[str, str]:
        """Which connector reaches each site."""
        from broker.sites import load_sites  # noqa: PLC0415 - slow to import

        home = self.document.parent
        sites = load_sites(self.document, home=home, cwd=home, env={})
        return {name: config.connector for name, config in sites.configs.items()}

    def submissions(self) -> Mapping[str, int]:
        """How many submissions the facilities have accepted, per job name."""
        counts: Counter[str] = Counter()
        for accepted in self._sandbox.accepted().values():
            counts.update(accepted)
        return dict(counts)

    def requests(self) -> Mapping[str, int]:
        """How many requests each face has answered."""
        with self._lock:
            return dict(sorted(self._asked.items()))

    def lose(self, site: str, *, now: int) -> Lost:
        """The facility fails as in a power cut."""
        processes = self._sandbox.lose(site)
        self._lost.add(site)
        return Lost(site=site, processes=processes, at=now)

    def lines(self, attempt: AttemptRow, name: str) -> int:
        """How many lines that file of the attempt has, also where nobody can reach it any more; 0: there is none yet,
        or its site has no folder."""
        facility = self._sandbox.facilities[attempt.site]
        files = facility.lost if attempt.site in self._lost else Path(facility.files.root)
        try:
            return (files / _ROOT / attempt.directory / name).read_bytes().count(b"\n")
        except OSError:  # not begun, or its site is being taken away under us
            return 0

    def _told(self, facility: str, face: str, request: Request, status: int) -> None:
        del request
        if status:
            with self._lock:
                self._asked[f"{facility} {face}"] += 1
