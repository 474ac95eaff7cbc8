"""The processes of a service under measurement: a world's host, workers, a server; started, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.client import Client, Unavailable
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

    def __init__(self, folder: Path, *, database: str, redis: str, workers: int, threads: int) -> None:
        """`folder`: its own, and short, for sockets are in it."""
        self.folder, self._workers, self._threads = folder, workers, threads
        self._world = folder / "world" / "door"
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
        self._until("the world's host", self._world.exists)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(signal.SIGTERM)
        if self._host is not None:
            self._host.terminate()
            self._host.wait(START_SECONDS)

    def migrate(self) -> None:
        """Make or mend the tables."""
        self._run("db", "upgrade")

    def start(self) -> None:
        """Start workers and server; does not wait."""
        for number in range(self._workers):
            name = f"worker{number}"
            self._processes[name] = self._broker(name, "worker", "--threads", str(self._threads))
        self._processes["serve"] = self._broker("serve", "serve")

    def wait_ready(self) -> None:
        """Until the server answers and every worker has told that it works."""
        self._until("the server", self._answers)
        for name in self._processes:
            if name != "serve":
                self._until(name, lambda name=name: b"working for" in self._log(name).read_bytes())  # type: ignore[misc]

    def kill9(self) -> None:
        """End workers and server as a power cut would."""
        self._end(signal.SIGKILL)

    def client(self) -> Client:
        """A client of the server; the caller closes it."""
        return Client.of_home(self.settings)

    # -- inner ---------------------------------------------------------------------------------------------------

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return client.healthy()
        except (Unavailable, RunFailed, OSError):
            return False
        except Exception:  # noqa: BLE001 - no token yet, no socket yet: the server is on its way
            return False

    def _end(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            process.send_signal(number)
        for process in self._processes.values():
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

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


def server_pids(database: str, redis_url: str) -> Mapping[str, int]:
    """The processes behind these addresses, as far as they are on this machine: what they use counts, too."""
    import psycopg  # noqa: PLC0415
    import redis  # noqa: PLC0415

    with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
        row = connection.execute("SELECT pg_backend_pid(), inet_server_addr()").fetchone()
    found: dict[str, int] = {}
    if row is not None:
        stat = Path(f"/proc/{row[0]}/stat")
        if stat.exists():
            found["postgres"] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    with redis.Redis.from_url(redis_url) as client:
        info = client.info("server")
    if Path(f"/proc/{info['process_id']}").exists():
        found["redis"] = int(info["process_id"])
    return found
