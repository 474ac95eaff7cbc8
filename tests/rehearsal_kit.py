"""A broker served in this process over a sandbox: real sockets, real protocols, real processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.audit import audit_run
from broker.clock import wall_clock
from broker.config import Settings
from broker.embedded import Embedded
from broker.service import Request, Service
from broker.serving import serving
from broker.sites import load_sites
from broker.store.base import AttemptRow, RunRow
from broker.store.sql import SqlStore
from sandbox.script import FaultScript
from sandbox.up import Sandbox, SandboxSettings

FINAL = ("SUCCEEDED", "FAILED", "CANCELED")
SITES = ("nersc", "alcf", "olcf", "cloud")


class Served:
    """An installation that is served while its context lasts."""

    def __init__(self, service: Service, embedded: Embedded, sandbox: Sandbox, folder: Path) -> None:
        self.service, self.embedded, self.sandbox, self.folder = service, embedded, sandbox, folder
        self.store = service.store

    def count_file(self, name: str) -> Path:
        """Where the payload of that workflow counts its executions."""
        return self.folder / f"{name}.count"

    def submit(self, name: str, site: str, **more: Any) -> str:
        """A workflow of one stage for this site, which counts itself; the run's id. `more`: keys of the document."""
        stage = {
            "run": f"echo ran >> {self.count_file(name)}; echo x > out.txt",
            "outputs": [{"path": "out.txt", "required": True}],
            "policy": {"sites": {"allow": [site]}},
        }
        return self.submit_stages(name, {"only": stage}, **more)

    def submit_stages(self, name: str, stages: Mapping[str, Any], **more: Any) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"crossfade": 1, "name": name, "stages": stages, **more}))
        run = self.service.submit(Request(document=path, params={})).run_id
        self.embedded.wake(run)
        return run

    def run(self, run_id: str) -> RunRow:
        row = self.store.run(run_id)
        assert row is not None
        return row

    def ended(self, *runs: str, seconds: float = 90.0) -> list[str]:
        """Wait until they are over; their states."""
        eventually(lambda: all(self.run(run).state in FINAL for run in runs), seconds=seconds)
        return [self.run(run).state for run in runs]

    def attempts(self, run_id: str) -> Sequence[AttemptRow]:
        return self.store.attempts(run_id)

    def accepted(self, site: str, key: str) -> int:
        """How many submissions of that key the facility has taken."""
        return sum(count for name, count in self.sandbox.accepted()[site].items() if key in name)

    def executions(self, name: str) -> int:
        """How often the payload has begun."""
        path = self.count_file(name)
        return len(path.read_text().splitlines()) if path.exists() else 0

    def violations(self, run_id: str) -> list[Any]:
        return list(audit_run(self.store, run_id))


def eventually(holds: Callable[[], object], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def put_up(folder: Path, script: FaultScript | None = None, *, facilities: Sequence[str] = SITES) -> Iterator[Sandbox]:
    """A sandbox whose state lies in `folder`."""
    settings = SandboxSettings(state=folder / "state", facilities=facilities, poll=0.2, path=os.environ["PATH"])
    with Sandbox(settings, script=script) as sandbox:
        yield sandbox


@contextmanager
def served(
    folder: Path,
    sandbox: Sandbox,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    *,
    whole: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Iterator[Served]:
    """Serve it, its home in `folder`. `change`: of the site document's entries; `whole`: of all of it."""
    document = json.loads(sandbox.text())
    change(document["sites"])
    whole(document)
    path = folder / "sites.yaml"
    path.write_text(json.dumps(document))
    settings = Settings(home=folder / "home", sites=path, user="tester")
    settings.home.mkdir(exist_ok=True, mode=0o700)
    store = SqlStore.open(settings.database, clock=wall_clock)
    try:
        sites = load_sites(path, home=settings.home, cwd=folder, env={})
        with serving(settings, sites, store) as embedded:
            yield Served(Service(settings=settings, store=store, sites=sites), embedded, sandbox, folder)
    finally:
        store.close()
