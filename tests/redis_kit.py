"""A real Redis for tests: in a folder of its own, on a free port of the loopback, and ended with the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import redis
import tool_kit
from redis.backoff import NoBackoff
from redis.retry import Retry
from tls_kit import make_certificates

from connectors.local.process import KEY_VARIABLE

READY_WITHIN = 20.0
"""Seconds a server may take to answer PING, on a machine that does much else."""
KIT_USER, KIT_PASSWORD = "kit", "the-tests-own"  # this one may do everything, where there are users at all
COMMANDS = tuple(
    """
    ping multi exec watch evalsha script|load lpush rpush brpop llen sadd hset hget hdel zadd zrem zrange set get del
    publish subscribe unsubscribe time pexpire
    """.split()  # noqa: SIM905 (a column of forty strings is no easier to read)
)
"""What kombu 5.7 asks of Redis 7 for direct queues (the worker ends at the first that is refused), and in the last
line what news and shared limits need besides."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as an operator would make one: these commands, and keys and channels below a prefix only."""

    name: str = "crossfade"
    password: str = "p@ss/w:rd #1%"  # all that has to be escaped in an address
    prefix: str = "crossfade:"
    commands: tuple[str, ...] = COMMANDS

    def rule(self) -> str:
        allowed = " ".join(f"+{name}" for name in self.commands)
        return f'user {self.name} on ">{self.password}" ~{self.prefix}* resetchannels &{self.prefix}* -@all {allowed}'


class RedisServer:
    """One redis-server. `start` returns when it answers; a context manager that leaves no process behind.

    `address` is the one to hand to Celery, with name and password; the kit's own `command` may do everything.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: Literal["no", "everysec", "always"] = "no",
        maxmemory: str | None = None,
        maxmemory_policy: str = "noeviction",
        account: Account | None = None,
        tls: bool = False,
        unix: bool = False,
        replicaof: RedisServer | None = None,
    ) -> None:
        self.folder, self.account, self.tls, self.unix = folder, account, tls, unix
        self._program = tool_kit.require_tool("redis-server")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._certificates = make_certificates(folder) if tls else None
        self._options: dict[str, str] = {
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": '""',
            "daemonize": "no",
            "set-proc-title": "no",  # it would write over its environment, by which it is found when left behind
            "repl-diskless-sync-delay": "0",  # a replica gets its copy at once
            "appendonly": "no" if appendonly == "no" else "yes",
            "appendfsync": "everysec" if appendonly == "no" else appendonly,
        }
        if maxmemory is not None:
            self._options |= {"maxmemory": maxmemory, "maxmemory-policy": maxmemory_policy}
        if replicaof is not None:
            self._options["replicaof"] = f"127.0.0.1 {replicaof.port}"

    # -- where it is -------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Its address for Celery; `redis+socket:` when it listens at a path."""
        who = f"{quote(self.account.name, safe='')}:{quote(self.account.password, safe='')}@" if self.account else ""
        if self.unix:
            return f"redis+socket://{who}{self.socket_path}"
        return f"{'rediss' if self.tls else 'redis'}://{who}127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def ca_certificate(self) -> Path:
        """Whom a client has to trust to believe this server, with `tls`."""
        assert self._certificates is not None, "this server speaks no TLS"
        return self._certificates.ca

    def client(self) -> redis.Redis:
        """A client that may do everything; the caller closes it."""
        options: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if self.unix:
            options = {"unix_socket_path": str(self.socket_path)}
        if self.tls:
            options |= {"ssl": True, "ssl_ca_certs": str(self.ca_certificate)}
        if self.account:
            options |= {"username": KIT_USER, "password": KIT_PASSWORD}
        # what the server does now is the question, not after some tries
        return redis.Redis(**options, socket_timeout=10, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def command(self, *words: Any) -> Any:
        """What Redis answers to that command."""
        with self.client() as client:
            return client.execute_command(*words)

    # -- what is done to it ------------------------------------------------------------------------------------

    def start(self) -> RedisServer:
        """Start it, on the port it had before if any."""
        assert self._process is None, "it runs already"
        for _ in range(5):
            port = self.port or free_port()  # between the look and the start another may take it: then a next one
            if self._begins(port):
                return self
            if self.port:
                break
        raise RuntimeError(f"redis-server does not start: {(self.folder / 'log').read_text()[-2000:]}")

    restart = start

    def kill9(self) -> None:
        """It dies as in a power cut; what was not on disk is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """It ends as by an operator."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """It holds its connections and answers nothing; the kernel still takes new connections for it."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def flushall(self) -> None:
        self.command("FLUSHALL")

    def promote(self) -> None:
        """A replica becomes a server of its own."""
        self.command("REPLICAOF", "NO", "ONE")

    def in_sync(self) -> None:
        """Wait until this replica has all of its server."""
        deadline = time.monotonic() + READY_WITHIN
        while self.command("INFO", "replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline, "the replica does not catch up"
            time.sleep(0.05)

    def close(self) -> None:
        if self._process is not None:
            self.kill9()

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the process -------------------------------------------------------------------------------------------

    def _begins(self, port: int) -> bool:
        """Start it there; False if it ended at once, as it does when the port is taken."""
        config = self.folder / "redis.conf"
        config.write_text("".join(f"{line}\n" for line in self._lines(port)))
        config.chmod(0o600)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a server that outlives its test is found and told at the end, as a job would be
                env={"PATH": os.environ["PATH"], KEY_VARIABLE: "redis-of-tests", "LC_ALL": "C"},
                cwd=self.folder,
            )
        before, self.port = self.port, port
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                # another may hold the port and answer in its place
                if self.command("INFO", "server")["process_id"] == self._process.pid:
                    return True
            except redis.RedisError:  # not there yet, or still reading its file
                time.sleep(0.02)
        self.close()
        self._process, self.port = None, before
        return False

    def _lines(self, port: int) -> list[str]:
        lines = [f"{name} {value}" for name, value in self._options.items()]
        plain = 0 if self.tls or self.unix else port
        lines.append(f"port {plain}")
        if self.unix:
            lines += [f"unixsocket {self.socket_path}", "unixsocketperm 700"]
        if self._certificates is not None:
            paths = self._certificates
            lines += [f"tls-port {port}", f"tls-ca-cert-file {paths.ca}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {paths.certificate}", f"tls-key-file {paths.key}"]
        if self.account is not None:
            lines += ["user default off", f"user {KIT_USER} on >{KIT_PASSWORD} ~* &* +@all", self.account.rule()]
        return lines

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    def _end(self, number: signal.Signals) -> None:
        process = self._running()
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # frozen: it hears of nothing but this
            process.kill()
            process.wait(10)
        self._process = None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
