"""A real slurmrestd over a real cluster of `slurm_kit`: with tokens over TCP, or on a socket of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import tool_kit
from olcf_kit import Wire
from slurm_kit import SlurmCluster, free_ports, wait_until

from connectors.model import JobSpec, Resources, SmallFile
from connectors.olcf import RestSite, make
from connectors.registry import SiteConfig

READY_WITHIN = 20.0
SCRIPT = """\
echo begun >> begun.log
{wait}
exit {exit_code}
"""


class RestDaemon:
    """One slurmrestd; a context manager. It asks the cluster's controller for each answer."""

    def __init__(self, cluster: SlurmCluster, *, unix: bool = False) -> None:
        self._program = shutil.which("slurmrestd", path=cluster.environment["PATH"]) or tool_kit.require_tool(
            "slurmrestd"
        )
        self.cluster = cluster
        name = f"rest-{os.getpid()}-{time.monotonic_ns()}"
        self._log = cluster.home / "log" / f"{name}.out"
        # without its accounting half, which ends it where there is no slurmdbd
        plugins = "openapi/v0.0.36,openapi/v0.0.37,openapi/v0.0.38"
        if unix:
            self._socket = cluster.home / "run" / f"{name[-12:]}.sock"
            self.address = f"unix:{self._socket}"
            self._more: dict[str, str] = {}
            self._argv = ["-a", "rest_auth/local", "-s", plugins, self.address]
        else:
            self._port = free_ports(1)[0]
            self.address = f"http://127.0.0.1:{self._port}"
            self._more = {"SLURM_JWT": "daemon"}
            self._argv = ["-a", "rest_auth/jwt", "-s", plugins, f"127.0.0.1:{self._port}"]
        self.unix = unix
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RestDaemon:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [self._program, *self._argv],
                # as root, which it minds: another user may not be let into the tests' folders
                env={**self.cluster.environment, "SLURMRESTD_SECURITY": "disable_user_check", **self._more},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.cluster.home,
            )
        try:
            wait_until(self._listens, within=READY_WITHIN, what=f"slurmrestd listens ({self._log})")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        if self.unix:
            return self._socket.exists()
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


class RealRig:
    """The connector over a real slurmrestd, its files through a folder of this machine."""

    def __init__(self, daemon: RestDaemon, folder: Path, *, version: str = "v0.0.38") -> None:
        self.daemon, self.cluster, self.version = daemon, daemon.cluster, version
        self.folder = folder
        self.root = folder / "root"
        self.token_file = folder / "token"
        self.put_token(self.cluster.token(200_000) if not daemon.unix else "none-needed")
        self._wires: list[Wire] = []
        self.wire = self._new_wire()
        self.connect().prepare()

    def put_token(self, value: str) -> None:
        self.token_file.write_text(value + "\n")
        self.token_file.chmod(0o600)

    def _new_wire(self) -> Wire:
        path = self.daemon.address.removeprefix("unix:") if self.daemon.unix else None
        self._wires.append(Wire(httpx.HTTPTransport(uds=path)))
        return self._wires[-1]

    def connect(self, **options: Any) -> RestSite:
        auth: Mapping[str, Any] = {"auth": "none"} if self.daemon.unix else {"user": "root"}
        config = SiteConfig(
            name="campus",
            connector="slurmrest",
            root=str(self.root),
            installation="here",
            credentials={} if self.daemon.unix else {"token": f"file:{self.token_file}"},
            options={
                "url": self.daemon.address,
                "version": self.version,
                "mount": str(self.root),
                **auth,
                **options,
            },
        )
        return make(config, lambda: time.time_ns() // 1000, transport=self.wire)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1", **more: Any) -> JobSpec:
        script = SCRIPT.format(wait=f"sleep {seconds}" if seconds else ":", exit_code=exit_code)
        given: dict[str, Any] = {
            "key": key,
            "digest": digest,
            "directory": f"runs/{key}",
            "entry": "job.sh",
            "files": (
                SmallFile(path="job.sh", content=script.encode()),
                SmallFile(path=".crossfade/made", content=b""),  # Slurm opens the log itself
            ),
            "resources": Resources(walltime=600.0),
        }
        return JobSpec(**(given | more))

    def executions(self, key: str) -> int:
        log = self.root / "runs" / key / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        wait_until(predicate, within=within)

    def darken(self) -> None:
        """Cut the wire, and take the mount away."""
        self.wire.cut = True
        self.root.rename(self.folder / "away")

    def brighten(self) -> None:
        self.wire.cut = False
        (self.folder / "away").rename(self.root)

    def lose_next_reply(self, site: object) -> bool:
        self.wire.losing = 1
        return True

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
