"""The command connector over a real Slurm, on this machine or through an ssh server of our own; and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import tool_kit
from slurm_kit import SlurmCluster, free_ports, wait_until

from connectors.base import Site
from connectors.command import CommandOptions, CommandSite, LocalTransport
from connectors.errors import SiteUnreachable
from connectors.model import JobSpec, SmallFile
from connectors.registry import SiteConfig
from connectors.ssh.transport import Transport

SCRIPT = """\
echo begun >> begun.log
{wait}
exit {exit_code}
"""


def now() -> int:
    return time.time_ns() // 1000


class Wire:
    """A transport that counts its calls, and can lose the reply to one: what was asked has happened then."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.scripts: list[str] = []
        self.lose = ""
        """A word of the script whose reply is lost, once."""
        self.refuse_after: int | None = None
        """So many submissions get through, then the site is away before it is asked."""

    def run(self, script: str, stdin: bytes, *, deadline: float, stop: threading.Event | None = None) -> bytes:
        self.scripts.append(script)
        if self.refuse_after is not None and "sbatch --parsable" in script:
            if self.refuse_after == 0:
                error = SiteUnreachable("no connection")
                error.effect_possible = False
                raise error
            self.refuse_after -= 1
        told = self.inner.run(script, stdin, deadline=deadline, stop=stop)
        if self.lose and self.lose in script:
            self.lose = ""
            raise SiteUnreachable("the connection broke before an answer came")
        return told

    def told(self) -> str:
        return self.inner.told()

    def login(self) -> Sequence[str]:
        return self.inner.login()

    def close(self) -> None:
        self.inner.close()


class CommandRig:
    """What the contract kit needs, over a cluster that others may use, too. `options`: more of them."""

    submit_word = "sbatch"

    def __init__(self, cluster: SlurmCluster, folder: Path, **options: Any) -> None:
        self.cluster, self.folder, self.options = cluster, folder, options
        self.root = folder / "site"
        self.marker = self.root / ".crossfade-site"
        self.owner = f"t{os.urandom(4).hex()}"
        self.wires: list[Wire] = []
        self.connect().prepare()

    def settings(self) -> Mapping[str, object]:
        """The site's options. The cluster is told by its configuration's path, as on a machine that has two."""
        return {"environment": {"SLURM_CONF": str(self.conf)}, "path": ["/usr/sbin"], **self.options}

    @property
    def conf(self) -> Path:
        """A file of our own: taken away, Slurm's commands find no cluster."""
        mine = self.folder / "slurm.conf"
        if not mine.exists() and not mine.with_suffix(".away").exists():
            shutil.copy(self.cluster.conf, mine)
        return mine

    def transport(self, options: CommandOptions) -> Transport:
        return LocalTransport(site="there")

    def connect(self, **more: Any) -> CommandSite:
        options = CommandOptions.read("there", {**self.settings(), **more})
        wire = Wire(self.transport(options))
        self.wires.append(wire)
        config = SiteConfig(name="there", connector="command", root=str(self.root), installation=self.owner)
        return CommandSite(config=config, options=options, transport=wire, clock=now)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1", **more: Any) -> JobSpec:
        script = SCRIPT.format(wait=f"sleep {seconds}" if seconds else ":", exit_code=exit_code)
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry="job.sh",
            files=(SmallFile(path="job.sh", content=script.encode()),),
            **more,
        )

    def executions(self, key: str) -> int:
        log = self.root / "runs" / key / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        wait_until(predicate, within=within)

    def darken(self) -> None:
        self.marker.rename(self.marker.with_suffix(".away"))  # the jobs keep their folders
        self.conf.rename(self.conf.with_suffix(".away"))
        # Slurm's commands look for a minute for a file that is not there; for a broken one not at all
        self.conf.write_text("ClusterName=\n")

    def brighten(self) -> None:
        self.conf.with_suffix(".away").rename(self.conf)
        self.marker.with_suffix(".away").rename(self.marker)

    def lose_next_reply(self, site: Site) -> bool:
        self.wires[-1].lose = self.submit_word
        return True

    def end(self) -> None:
        """No job of a test outlives it, no connection either."""
        if not self.marker.exists():
            self.brighten()
        site = self.connect()
        keys = [item.key for item in site.list_mine(0).items if not item.state.final]
        wait_until(lambda: all(site.cancel(keys).values()), within=30, what="all jobs are canceled")
        for wire in self.wires:
            wire.close()


class SshServer:
    """An sshd of our own on a free port of the loopback, for this user with a key of the test's. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self._program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or tool_kit.require_tool("sshd")
        keygen = tool_kit.require_tool("ssh-keygen")
        tool_kit.require_tool("ssh")
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
        host_key = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n")
        self.config = folder / "config"
        self.config.write_text(
            f"Host there\n  HostName 127.0.0.1\n  Port {self.port}\n  User root\n  IdentityFile {folder}/user\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n"
        )
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin yes\nKbdInteractiveAuthentication no\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SshServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        log = self.folder / "sshd.log"
        self._process = subprocess.Popen(
            [self._program, "-D", "-f", self.folder / "sshd_config", "-E", log], stdin=subprocess.DEVNULL
        )
        wait_until(lambda: log.exists() and b"listening on" in log.read_bytes(), within=20, what="sshd listens")

    def runs(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        """No new connections; those that are there go on, as with a real one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
            (self.folder / "sshd.log").unlink()
