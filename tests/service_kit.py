"""A whole service for tests: real processes over real servers, and a supervisor that starts again what ends.

`House` makes sites, documents and processes; the test hurts them and asks what became of the runs. Every payload
appends a line to one file, so that what was started twice is seen without asking the broker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from broker.audit import audit_run
from broker.clock import wall_clock
from broker.config import read_settings
from broker.service import Request, Service
from broker.store.base import Store, StoreBusy
from broker.store.sql import SqlStore

PATIENCE = 90.0
"""Seconds for what must come; a test that waits longer fails."""
RESTART_AFTER = 0.3
"""Seconds between the end of a process and its next start, as a supervisor's."""
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")


def until(true: Callable[[], object], what: str, *, patience: float = PATIENCE, pause: float = 0.05) -> None:
    """Wait for something; a store that does not answer just now is asked again."""
    end = time.monotonic() + patience
    while True:
        try:
            if true():
                return
        except StoreBusy:
            pass
        assert time.monotonic() < end, f"not within {patience:g} s: {what}"
        time.sleep(pause)


@dataclass
class Process:
    """One process of the service. With `kept`, it is started again whenever it ends."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    kept: bool = True
    starts: int = 0
    codes: list[int] = field(default_factory=list)
    """How it ended, each time."""
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(self.argv, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.starts += 1

    @property
    def pid(self) -> int:
        assert self.running is not None, f"{self.name} has not been started"
        return self.running.pid

    def send(self, number: signal.Signals) -> None:
        """To this process alone; its payloads are not concerned."""
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(number)

    def kill9(self) -> None:
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def told(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


class House:
    """One installation of the service form."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str,
        redis: str,
        sites: Mapping[str, Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        given = sites or {"here": {"profile": "local", "root": str(folder / "here"), "poll": 0.3, "settle": 1}}
        document = folder / "sites.yaml"
        document.write_text(json.dumps({"crossfade": 1, "sites": given}))
        self.env = {
            **os.environ,
            "CROSSFADE_HOME": str(folder / "home"),
            "CROSSFADE_DATABASE": database,
            "CROSSFADE_REDIS": redis,
            "CROSSFADE_SITES": str(document),
            "PYTHONUNBUFFERED": "1",
            **(environ or {}),
        }
        self.started = folder / "started"
        self.processes: dict[str, Process] = {}
        self._over, self._guard = threading.Event(), threading.Lock()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._service: Service | None = None
        self._numbers = 0

    # -- processes ---------------------------------------------------------------------------------------------

    def start(
        self, verb: str, *args: str, kept: bool = True, env: Mapping[str, str] | None = None, first: str = ""
    ) -> Process:
        """Start `crossfade VERB ...`, to be started again when it ends unless `kept` is False.

        `first`: Python that the process runs before: what a test makes worse, or quicker, in it.
        """
        program = ["-c", f"{first}\nfrom broker.cli import main\nmain()\n"] if first else ["-m", "broker.cli"]
        return self.start_as(verb, [sys.executable, *program, verb, *args], {**self.env, **(env or {})}, kept=kept)

    def start_as(self, kind: str, argv: Sequence[str], env: Mapping[str, str], *, kept: bool = True) -> Process:
        """Start any program as a process of that kind."""
        self._numbers += 1
        name = f"{kind}{self._numbers}"
        process = Process(name, argv, env, self.folder / f"{name}.log", kept=kept)
        process.start()
        with self._guard:
            self.processes[name] = process
        if not self._supervisor.is_alive() and not self._over.is_set():
            self._supervisor.start()
        return process

    def of_kind(self, verb: str) -> list[Process]:
        return [process for process in self.processes.values() if process.name.startswith(verb)]

    def _supervise(self) -> None:
        due: dict[str, float] = {}
        while not self._over.wait(0.05):
            with self._guard:
                for name, process in self.processes.items():
                    code = process.running.poll() if process.running is not None else 0
                    if code is None or not process.kept:
                        continue
                    if name not in due:
                        process.codes.append(code)
                        due[name] = time.monotonic() + RESTART_AFTER
                    elif time.monotonic() >= due[name]:
                        del due[name]
                        process.start()

    def close(self) -> None:
        """End every process, and every payload that is left."""
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join(10)
        for process in self.processes.values():
            process.thaw()
            process.send(signal.SIGTERM)
        end = time.monotonic() + 15
        for process in self.processes.values():
            if process.running is not None:
                try:
                    process.running.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.running.kill()
                    process.running.wait()
        if self._service is not None:
            self._service.store.close()

    # -- runs --------------------------------------------------------------------------------------------------

    @property
    def service(self) -> Service:
        if self._service is None:
            settings = read_settings(self.env)
            assert settings.postgres is not None
            from broker.sites import load_sites

            sites = load_sites(settings.sites, home=settings.home, cwd=self.folder, env=self.env)
            settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            store = SqlStore(settings.postgres.url, clock=wall_clock)
            self._service = Service(settings=settings, store=store, sites=sites)
        return self._service

    @property
    def store(self) -> Store:
        return self.service.store

    def submit(self, stages: Mapping[str, Mapping[str, Any]], *, key: str | None = None, **more: Any) -> str:
        """Store a run; each stage's line runs after one that notes its start in `started`."""
        path = self.document(stages, **more)
        return self.service.submit(Request(document=path, params={}, key=key)).run_id

    def document(self, stages: Mapping[str, Mapping[str, Any]], **more: Any) -> Path:
        """A document of these stages, each of which notes its start."""
        self._numbers += 1
        name = f"w{self._numbers}"
        noted = {
            stage: {**body, "run": f"echo {name}/{stage} >> '{self.started}'\n{body.get('run', ':')}"}
            for stage, body in stages.items()
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"crossfade": 1, "name": name, **more, "stages": noted}))
        return path

    def state(self, run_id: str) -> str:
        row = self.store.run(run_id)
        assert row is not None, f"run {run_id} is lost"
        return row.state

    def ended(self, run_id: str, *, patience: float = PATIENCE) -> str:
        """Wait for the run's end; how it ended."""
        try:
            until(lambda: self.state(run_id) in FINAL, f"{run_id} ends", patience=patience, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None
        return self.state(run_id)

    def quiet(self, *, patience: float = PATIENCE) -> None:
        """Wait until nothing of ours is open anywhere."""
        names = list(self.service.sites.configs)
        until(lambda: not any(self.store.open_attempts(name) for name in names), "all is put away", patience=patience)

    def starts(self) -> Counter[str]:
        """How often each payload was started, by `document/stage`."""
        return Counter(self.started.read_text().split()) if self.started.exists() else Counter()

    def wrong(self) -> list[str]:
        """Everything that the audit finds in any run."""
        return [str(found) for row in self.store.runs(limit=100_000) for found in audit_run(self.store, row.run_id)]

    def told(self) -> str:
        """The end of every process' log, for a failure's message."""
        return "\n".join(f"-- {p.name} {p.codes}\n{p.told()[-1500:]}" for p in self.processes.values())

    def gets_on(self, verb: str, *, since: int = 0) -> None:
        """Wait until work gets through, after `since` (microseconds), to every process of that kind which runs now."""
        from broker.heart import is_fresh

        def all_fresh() -> bool:
            pids = {process.pid for process in self.of_kind(verb)}
            rows = [row for row in self.store.workers() if row.kind == verb and is_fresh(row, wall_clock())]
            return pids <= {int(row.name.split("@", 1)[0]) for row in rows if (row.progress_at or 0) > since}

        until(all_fresh, f"every {verb} gets on")


@contextmanager
def house(folder: Path, **options: Any) -> Iterator[House]:
    """A house that is put away at the end, whatever happened."""
    made = House(folder, **options)
    try:
        yield made
    finally:
        made.close()
        _end_payloads(folder)


def _end_payloads(folder: Path) -> None:
    """Payloads outlive the broker by design; not the test."""
    for process in psutil.process_iter(["pid"]):
        try:
            if process.pid != os.getpid() and str(folder) in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue
