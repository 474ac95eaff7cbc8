"""Processes that serve an installation for real and kill themselves at a named call; others go on from the rows.

`Workshop` makes the installation: documents, sites and processes. Run as a program this file is such a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from facility_kit import RemoteSite
from simulation.seams import Call, Seam, StoreSeam

from broker.audit import audit_run
from broker.config import read_settings
from broker.core import Broker, Parts, worker_is_dead, worker_name
from broker.embedded import Embedded
from broker.service import Request, Service, open_service
from broker.serving import connect
from broker.store.base import Store

HERE = Path(__file__).resolve().parent
PATIENCE = 90.0
"""Seconds for what must come."""
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")


class Blow:
    """SIGKILL from within, at the `nth` time that a call is reached."""

    POINTS = ("claimed", "key committed", "answered", "published")

    def __init__(self, point: str, nth: int) -> None:
        self.point, self._left = point, nth
        self.decided = 0
        """How many decisions it has committed."""
        self._publishes = False

    def before(self, call: Call) -> None:
        if (call.of, call.verb) == ("decision", "apply"):
            self._publishes = self._publishes or bool(call.args[0].products)
        if call.of.startswith("site:") and call.verb == "submit":
            self._reached("key committed")

    def after(self, call: Call) -> None:
        if (call.of, call.verb) == ("store", "acquire"):
            self._reached("claimed")
        elif (call.of, call.verb) == ("decision", "commit"):
            self.decided += 1
            if self._publishes:
                self._reached("published")
            self._publishes = False
        elif call.of.startswith("site:") and call.verb == "submit":
            self._reached("answered")

    def _reached(self, point: str) -> None:
        if point == self.point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def all_over(store: Store) -> bool:
    """Is there a run, has every one ended, and is everything put away?"""
    runs = store.runs()
    return bool(runs) and all(row.state in FINAL and not row.open_attempts for row in runs)


def serve(folder: Path, *, point: str, nth: int, ports: Mapping[str, int]) -> None:
    """Serve until every run is over, or until the blow. `ports`: sites that are facilities behind HTTP."""
    settings = read_settings(os.environ)
    with ExitStack() as stack:
        service = open_service(settings)
        stack.callback(service.store.close)
        connected = connect(settings, service.sites, service.store)
        stack.callback(connected.close)
        service.store.break_leases(worker_is_dead)
        blow = Blow(point, nth)
        sites: dict[str, Any] = dict(connected.sites)
        for name, port in ports.items():
            sites[name] = RemoteSite(name=name, root=folder / name, port=port)
            stack.callback(sites[name].close)
        parts = Parts(
            store=StoreSeam(service.store, "store", blow),  # type: ignore[arg-type]
            configs=connected.configs,
            sites={name: Seam(site, f"site:{name}", blow) for name, site in sites.items()},  # type: ignore[misc]
            mover=connected.mover,
            clock=service.clock,
            owner=worker_name(),
            among_others=settings.postgres is not None,
        )
        stack.enter_context(Embedded(Broker(parts)))
        note_decided(folder, 0)
        while not all_over(service.store):
            time.sleep(0.05)
        note_decided(folder, blow.decided)


def note_decided(folder: Path, count: int) -> None:
    """For who reads at any moment: whole, or not yet there."""
    half = folder / f"half-{os.getpid()}"
    half.write_text(str(count))
    half.rename(folder / f"decided-{os.getpid()}")


class Workshop:
    """One installation with sites on this machine, and processes that serve it."""

    def __init__(self, folder: Path, *, sites: tuple[str, ...] = ("here",), database: str = "", **site: Any) -> None:
        self.folder, self.started = folder, folder / "started"
        self.processes: list[subprocess.Popen[bytes]] = []
        entry = {"profile": "local", "poll": 0.1, "settle": 0.3, **site}
        document = folder / "sites.yaml"
        told = {name: {**entry, "root": str(folder / name)} for name in sites}
        document.write_text(json.dumps({"crossfade": 1, "sites": told}))
        self.env = {
            **os.environ,
            "CROSSFADE_HOME": str(folder / "home"),
            "CROSSFADE_SITES": str(document),
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            **({"CROSSFADE_DATABASE": database, "CROSSFADE_REDIS": "redis://127.0.0.1:1"} if database else {}),
        }
        self.service: Service = open_service(read_settings(self.env))
        self.store = self.service.store
        connect(read_settings(self.env), self.service.sites, self.store).close()

    def submit(self, stages: Mapping[str, Mapping[str, Any]], *, name: str = "flow", **more: Any) -> str:
        """Store a run; each payload first appends its stage's name to `started`."""
        noted = {n: {**body, "run": f"echo {n} >>'{self.started}'\n{body['run']}"} for n, body in stages.items()}
        path = self.folder / "flow.yaml"
        path.write_text(json.dumps({"crossfade": 1, "name": name, **more, "stages": noted}))
        return self.service.submit(Request(document=path, params={})).run_id

    def process(
        self, point: str = "", *, nth: int = 1, ports: Mapping[str, int] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process that serves; with a `point`, it kills itself there."""
        words = [str(self.folder), point, str(nth), json.dumps(ports or {})]
        return self._start([str(HERE / "kill_kit.py"), *words])

    def crossfade(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command line."""
        return self._start(["-m", "broker.cli", *words])

    def _start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            made = subprocess.Popen([sys.executable, *words], env=self.env, stdout=log, stderr=log)
        self.processes.append(made)
        return made

    def killed(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it has been killed; anything else fails the test."""
        assert process.wait(PATIENCE) == -signal.SIGKILL, self.told()

    def goes_on(self, **more: Any) -> None:
        """Another process serves until all is over."""
        assert self.process(**more).wait(PATIENCE) == 0, self.told()

    def wait(self, true: Any, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"not in time: {what}\n{self.told()}"
            time.sleep(0.02)

    def told(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def starts(self) -> Counter[str]:
        """How often each payload began."""
        return Counter(self.started.read_text().split()) if self.started.exists() else Counter()

    def decided(self) -> list[int]:
        """How many decisions each process that serves, or has come to its end, had committed then."""
        return [int(path.read_text()) for path in self.folder.glob("decided-*")]

    def states(self, run: str) -> list[tuple[str, str]]:
        return [(row.site, row.state) for row in self.store.attempts(run)]

    def assert_whole(self, run: str) -> None:
        """The run succeeded, every payload began once, every stage has one product, and the audit finds nothing."""
        row = self.store.run(run)
        assert row is not None
        stages = self.store.stages(run)
        assert row.state == "SUCCEEDED", self.told()
        assert self.starts() == {stage.path: 1 for stage in stages}
        assert sorted(product.n for product in self.store.products(run)) == [stage.n for stage in stages]
        assert [str(found) for found in audit_run(self.store, run)] == []

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.store.close()
        for left in psutil.process_iter(["pid"]):  # payloads outlive the broker by design; not the test
            try:
                if left.pid != os.getpid() and str(self.folder) in " ".join(left.cmdline()):
                    left.kill()
            except psutil.Error:
                continue


@contextmanager
def workshop(folder: Path, **options: Any) -> Iterator[Workshop]:
    """A workshop that is put away at the end, whatever happened."""
    made = Workshop(folder, **options)
    try:
        yield made
    finally:
        made.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), point=sys.argv[2], nth=int(sys.argv[3]), ports=json.loads(sys.argv[4]))
