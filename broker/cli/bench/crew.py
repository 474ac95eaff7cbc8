"""The processes of a service under measurement: a world's host, workers, a server; started, killed, started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.api.places import reachable
from broker.client import Client
from broker.config import DATABASE, REDIS, Settings, read_settings
from broker.errors import RunFailed

START_SECONDS = 60.0
SLOTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One execution that the site saw begin."""

    number: int
    attempt: int
    at: float
    """Seconds since the epoch."""


class Events:
    """Reads what the world's host appends, as it comes."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._rest = path, 0, b""
        self._runs: dict[str, list[Event]] = defaultdict(list)

    def of(self, run_id: str) -> Sequence[Event]:
        """What has begun of that run so far, in order."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            number, attempt, _site, at, run = line.decode("ascii").split(" ")
            self._runs[run].append(Event(number=int(number), attempt=int(attempt), at=float(at)))
        return self._runs[run_id]


class Crew:
    """One site, and the processes that serve it. A context manager that leaves no process behind."""

    def __init__(self, folder: Path, *, database: str, redis: str, workers: int = 2) -> None:
        self.folder, self._workers = folder, workers
        self._door = Path(tempfile.mkdtemp(prefix="cf-world-"))  # short, as a socket's path must be
        self._world = self._door / "world"
        sites = folder / "sites.yaml"
        entry = {"profile": "simulated", "root": "/simulated", "slots": SLOTS, "poll": 0}
        entry |= {"options": {"world": str(self._world)}}
        sites.write_text(json.dumps({"crossfade": 1, "sites": {"bench": entry}}))
        told = {"CROSSFADE_HOME": str(folder / "home"), "CROSSFADE_SITES": str(sites), DATABASE: database, REDIS: redis}
        self._environ = {**os.environ, **told}
        self.settings: Settings = read_settings(self._environ)
        self._host: subprocess.Popen[bytes] | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.events = Events(folder / "events")

    # -- processes -----------------------------------------------------------------------------------------------

    @property
    def pids(self) -> list[int]:
        """Of workers and server."""
        return [process.pid for process in self._processes.values()]

    @property
    def host_pid(self) -> int:
        assert self._host is not None, "there is no world yet"  # noqa: S101
        return self._host.pid

    def __enter__(self) -> Crew:
        self._host = self._begun(
            "host", "-m", "sandbox.host", str(self._world), "--events", str(self.folder / "events")
        )
        try:
            self._until("the world's host", self._world.exists)
        except RunFailed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(signal.SIGTERM)
        if self._host is not None:
            self._host.terminate()
            self._host.wait(START_SECONDS)
        shutil.rmtree(self._door, ignore_errors=True)

    def migrate(self) -> None:
        """Make or mend the tables."""
        self._run("db", "upgrade")

    def start(self) -> None:
        """Start those of workers and server that do not run; does not wait."""
        for name in [*(f"worker{number}" for number in range(self._workers)), "serve"]:
            if name not in self._processes:
                self._processes[name] = self._broker(name, name.rstrip("0123456789"))

    def wait_ready(self) -> dict[str, float]:
        """Until the server listens and every worker has told that it works; when each did (seconds since the epoch)."""
        ready: dict[str, float] = {}

        def all_ready() -> bool:
            for name in self._processes.keys() - ready.keys():
                if self.listens() if name == "serve" else b"working for" in self._log(name).read_bytes():
                    ready[name] = time.time()
            return len(ready) == len(self._processes)

        self._until("the service", all_ready)
        return ready

    def kill9(self, *, but: Sequence[str] = ()) -> None:
        """End workers and server as a power cut would."""
        self._end(signal.SIGKILL, but=but)

    def listens(self) -> bool:
        """Does anybody listen at the server's socket?"""
        with reachable(self.settings.socket) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(path) == 0

    def client(self) -> Client:
        """A client of the server; the caller closes it."""
        return Client.of_home(self.settings)

    # -- inner ---------------------------------------------------------------------------------------------------

    def _end(self, number: signal.Signals, *, but: Sequence[str] = ()) -> None:
        ending = {name: process for name, process in self._processes.items() if name not in but}
        for process in ending.values():
            process.send_signal(number)
        for name, process in ending.items():
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            del self._processes[name]

    def _broker(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        self._log(name).unlink(missing_ok=True)
        return self._begun(name, "-m", "broker.cli", *words)

    def _begun(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return subprocess.Popen([sys.executable, *words], env=self._environ, stdout=log, stderr=log)

    def _run(self, *words: str) -> None:
        command = [sys.executable, "-m", "broker.cli", *words]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RunFailed(f"crossfade {' '.join(words)} failed: {done.stderr.strip()[-1000:]}")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _until(self, what: str, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not there():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes.values()):
                logs = "\n".join(path.read_text()[-1000:] for path in sorted(self.folder.glob("*.log")))
                raise RunFailed(f"{what} does not get ready: {logs}")
            time.sleep(0.005)


def server_pids(settings: Settings) -> list[int]:
    """The processes of PostgreSQL and Redis, as far as they are on this machine: what they use counts, too."""
    import psycopg  # noqa: PLC0415
    import redis  # noqa: PLC0415

    found = []
    if settings.postgres is not None:
        with psycopg.connect(settings.postgres.url.replace("+psycopg", "", 1)) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            found += [_parent(int(row[0]))] if row is not None else []
    with redis.Redis.from_url(settings.transport().url) as client:
        info: Any = client.info("server")
    found.append(int(info["process_id"]))
    return [pid for pid in found if Path(f"/proc/{pid}").exists()]


def _parent(pid: int) -> int:
    """Whose child that process is; 0 when it is none of this machine."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0
