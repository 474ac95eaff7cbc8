"""A Redis and a PostgreSQL for one benchmark: own folder, free port of the loopback, durable, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import psycopg
import redis

PATIENCE = 30.0
"""Seconds that a start or an end may take."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server:
    """A program that is started, killed and started again at one port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._user: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def launch(self) -> None:
        """Start it and do not wait."""
        setpriv = shutil.which("setpriv")  # ends with the benchmark, however that ends
        command = [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *self.command()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            if self.answers():
                return
            time.sleep(0.01)
        raise SystemExit(f"{type(self).__name__} does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill9(self) -> None:
        """All of it at once, as when the power fails (what the kernel has, the disk will get)."""
        if self._process is None:
            return
        leader = psutil.Process(self._process.pid)
        leader.suspend()  # it cannot make new ones meanwhile
        for process in [*leader.children(recursive=True), leader]:
            process.kill()
        self._process.wait(PATIENCE)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill9()
            self._process = None

    def __enter__(self) -> _Server:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class Redis(_Server):
    """`appendonly yes`, `appendfsync everysec`."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        return [_found("redis-server"), *options, "--appendonly", "yes", "--appendfsync", "everysec"]

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class PostgreSQL(_Server):
    """With `fsync` and `synchronous_commit` on, as it comes; one database, `bench`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if os.geteuid() == 0:  # it refuses to run as root
            self._user = "postgres"
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        made = [_found("initdb"), "-D", str(folder / "data"), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]
        subprocess.run(made, user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        return f"postgresql://bench@127.0.0.1:{self.port}/bench"

    def start(self) -> None:
        super().start()
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'bench'").fetchone():
                connection.execute("CREATE DATABASE bench")

    def command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        words = [word for option in options for word in ("-c", option)]
        return [_found("postgres"), "-D", str(self.folder / "data"), *words]

    def answers(self) -> bool:
        try:
            psycopg.connect(self._dsn("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=bench dbname={database}"


def _found(program: str) -> str:
    """Debian keeps PostgreSQL's programs off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(program, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))
    if found is None:
        raise SystemExit(f"{program} is not installed")
    return found
