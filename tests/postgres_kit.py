"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on loopback, gone with the tests.

It may be killed, frozen and started again like the machine that it stands for. Databases are copied from a template,
which takes a twentieth of a second. `virtual` ones go by a clock that the test moves.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
import psycopg
import tool_kit

from broker.clock import VirtualClock
from broker.store.sql import SqlStore

PATIENCE = 60.0
"""Seconds that a start or an end may take."""

_PREFIX = "cf-pg-"

PASSWORD = "canary-4711"
"""Of the user `locked`; must not be seen anywhere."""


def binary(name: str) -> str:
    """A program of PostgreSQL. Debian keeps them off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return shutil.which(name, path=path) or tool_kit.require_tool(name)


@dataclass
class Server:
    """One cluster. `durable`: commits reach the disk; a kill of all processes loses nothing even without."""

    durable: bool = False
    folder: Path = field(init=False)
    port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._postgres = binary("postgres")
        _remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        atexit.register(self.remove)
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:  # it refuses to run as root
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        command = [
            binary("initdb"),
            "-D",
            self._data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        made = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        hba = self.folder / "data" / "pg_hba.conf"
        hba.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + hba.read_text())

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self, **options: object) -> None:
        """Start it, on the same port as before; back when it takes connections. `options` as in its configuration."""
        self._options = tuple(f"{name}={value}" for name, value in options.items()) or self._options
        fixed = hasattr(self, "port")
        for _ in range(5):
            if not fixed:
                self.port = _free_port()
            self._launch()
            if self._answers():
                return
            self.kill9()
        raise AssertionError(f"PostgreSQL does not start:\n{self.log()[-2000:]}")

    def _launch(self) -> None:
        on = "on" if self.durable else "off"
        options = [
            "listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}",
            f"fsync={on}", f"full_page_writes={on}", "synchronous_commit=on", "max_connections=60",
            "shared_buffers=32MB", "autovacuum=off", "log_min_messages=warning", "log_min_error_statement=panic",
            *self._options,
        ]  # fmt: skip
        command = [self._postgres, "-D", self._data, *(word for option in options for word in ("-c", option))]
        if setpriv := shutil.which("setpriv"):  # ends with the tests, however they end
            command = [setpriv, "--pdeathsig", "QUIT", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _answers(self) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return True
            time.sleep(0.01)
        return False

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        """An orderly end: connections are cut, everything is written."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self, **options: object) -> None:
        self.stop()
        self.start(**options)

    def kill9(self) -> None:
        """All of it at once, as when the power fails; back when nothing of it is left."""
        if self._process is None:
            return
        processes = self._processes(signal.SIGSTOP)  # it cannot make new ones meanwhile
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(map(_lives, processes)) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._process = None

    def freeze(self) -> None:
        """It stands still; connections stay open and get no answer."""
        self._processes(signal.SIGSTOP)

    def thaw(self) -> None:
        self._processes(signal.SIGCONT)

    def _processes(self, number: signal.Signals) -> list[psutil.Process]:
        """The server and its children, each sent that signal; the server first."""
        if self._process is None or self._process.poll() is not None:
            return []
        leader = psutil.Process(self._process.pid)
        leader.send_signal(number)
        children = leader.children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)
        return [leader, *children]

    def remove(self) -> None:
        """End it and leave nothing."""
        atexit.unregister(self.remove)
        self.kill9()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- databases -----------------------------------------------------------------------------------------------

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"

    def url(self, database: str, *, user: str = "postgres", password: str = "") -> str:
        """As the store wants it."""
        return f"postgresql://{user}{':' if password else ''}{password}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement, committed at once; its rows."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> str:
        """The name of a new database with nothing in it."""
        name = f"empty{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def database(self) -> str:
        """The name of a new database with the tables in it."""
        name = f"made{next(self._numbers)}"
        self._need_template()
        self.run(f"CREATE DATABASE {name} TEMPLATE shaped")
        return name

    def _need_template(self) -> None:
        if self.run("SELECT 1 FROM pg_database WHERE datname = 'shaped'"):
            return
        self.run("CREATE DATABASE shaped")
        SqlStore(self.url("shaped"), clock=VirtualClock()).close()
        for statement in _VIRTUAL:
            self.run(statement, "shaped")


# Names are looked up in pg_catalog first, unless the path puts it later: for the user `virtual`, the server's clock is
# a row that the test moves.
_VIRTUAL = (
    "CREATE ROLE virtual SUPERUSER LOGIN",
    "ALTER ROLE virtual SET search_path = public, moved, pg_catalog",
    f"CREATE ROLE locked SUPERUSER LOGIN PASSWORD '{PASSWORD}'",
    "CREATE SCHEMA moved",
    "CREATE TABLE moved.clock (at BIGINT)",
    "INSERT INTO moved.clock VALUES (0)",
    """CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT TIMESTAMPTZ 'epoch' + at * INTERVAL '1 microsecond' FROM moved.clock $$""",
)


_MOVE = "UPDATE moved.clock SET at = %s"


class MovedClock(VirtualClock):
    """A virtual clock that takes databases along."""

    def __init__(self, start: int = VirtualClock()()) -> None:
        super().__init__(start)
        self._moved: dict[str, psycopg.Connection] = {}

    def moves(self, server: Server, database: str) -> str:
        """From now on that database goes by this clock; its URL."""
        dsn = server.dsn(database)
        self._moved[dsn] = psycopg.connect(dsn, autocommit=True)
        self._tell()
        return server.url(database, user="virtual")

    def advance(self, by_seconds: float) -> None:
        super().advance(by_seconds)
        self._tell()

    def advance_to(self, at: int) -> None:
        super().advance_to(at)
        self._tell()

    def _tell(self) -> None:
        for dsn, connection in self._moved.items():
            try:
                connection.execute(_MOVE, (self(),))
            except psycopg.OperationalError:  # the server was started anew
                connection.close()
                self._moved[dsn] = psycopg.connect(dsn, autocommit=True)
                self._moved[dsn].execute(_MOVE, (self(),))

    def close(self) -> None:
        while self._moved:
            self._moved.popitem()[1].close()


def serving(*, durable: bool = False) -> Iterator[Server]:
    """For fixtures: a server that runs until the fixture ends."""
    server = Server(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _remove_leftovers() -> None:
    """Folders of tests that were killed. Their servers have ended with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(process: psutil.Process) -> bool:
    """Not so a zombie, which whoever adopted it may not look after for a while."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
