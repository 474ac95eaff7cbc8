"""The four sites on this machine's disk, and how one of them is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGSTOP, Signals

from broker.store.base import AttemptRow
from connectors.local.ending import carriers
from connectors.local.process import Process, send

SITES = ("nersc", "alcf", "olcf", "cloud")
SLOTS = 2
POLL = 0.1
PROBES, SILENCE = 3, 1.0
"""Looks without an answer, and seconds, after which a site counts as unreachable. At a real site: a minute or so."""
_KILLING_LASTS = 5.0
"""Seconds at most until none is left."""
_STEP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What was taken away with a site."""

    site: str
    processes: int
    at: int
    """Microseconds UTC."""


class Ground:
    """Where the sites lie."""

    def __init__(self, home: Path) -> None:
        self.document = home / "sites.yaml"
        self._up, self._gone = home / "sites", home / "gone"

    def lay_out(self) -> None:
        """Write the site document. The folders are made by the connectors."""
        sites = {
            name: {
                "profile": "local",
                "root": str(self._up / name),
                "slots": SLOTS,
                "poll": POLL,
                "unreachable": {"probes": PROBES, "seconds": SILENCE},
            }
            for name in SITES
        }
        self._up.mkdir(mode=0o700)
        self._gone.mkdir(mode=0o700)
        # JSON is YAML; paths and numbers need no thought about quoting
        text = json.dumps({"crossfade": 1, "sites": sites}, indent=2, ensure_ascii=False)
        self.document.write_text(f"{text}\n", encoding="utf-8")

    def take_away(self, site: str, keys: Collection[str], *, now: int) -> Lost:
        """The site fails as in a power cut. `keys`: of all jobs that were ever submitted there.

        The folder goes before the processes end. Were they killed while it is there, the wrapper of a payload might
        write down how that ended, and the broker would read of a failed job at a healthy site.
        """
        _signal(keys, SIGSTOP)
        (self._up / site).rename(self._gone / site)
        return Lost(site=site, processes=kill_all(keys), at=now)

    def folder(self, attempt: AttemptRow) -> Path:
        """Where that attempt's files are now, also those that no broker can reach any more."""
        lost = self._gone / attempt.site
        return (lost if lost.exists() else self._up / attempt.site) / attempt.directory

    def lines(self, attempt: AttemptRow, name: str) -> int:
        """How many lines that file of the attempt has; 0: there is none yet."""
        try:
            return (self.folder(attempt) / name).read_bytes().count(b"\n")
        except OSError:  # not begun, or its site is being taken away under us
            return 0


def kill_all(keys: Collection[str]) -> int:
    """SIGKILL to every process of these jobs until none is left; how many there were."""
    killed: set[tuple[int, int]] = set()
    deadline = time.monotonic() + _KILLING_LASTS
    # again after a pause: one may have been born of another while we looked
    while (found := _signal(keys, SIGKILL)) and time.monotonic() < deadline:
        killed.update((process.pid, process.started) for process in found)
        time.sleep(_STEP)
    return len(killed)


def _signal(keys: Collection[str], number: Signals) -> list[Process]:
    """Signal every process of these jobs; who they were."""
    found = [process for group in carriers(keys).values() for process in group]
    for process in found:
        send(process, number)
    return found
