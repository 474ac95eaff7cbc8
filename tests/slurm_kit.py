"""Real Slurm clusters for tests: several of them on one machine, independent, below a folder, ended with the test.

Each has a munge key, ports and a state of its own; the daemons run in the foreground as our children, so that they can
be killed, frozen and started again by their process. Needs root and Debian's slurmctld, slurmd and munge.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest
import tool_kit

READY_WITHIN = 30.0
"""Seconds a cluster may take until its nodes are idle, on a machine that does much else."""
REQUEUE_WAIT = 6
"""Seconds that a requeued job waits before it may start again (a minute or two on real machines)."""
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "sinfo", "scancel")
_SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian keeps daemons off a user's PATH


class SlurmCluster:
    """One cluster: a controller, `nodes` nodes on this machine, partitions regular, preempt and realtime.

    A context manager that leaves no process behind. `environment` is what clients need to find it.
    """

    def __init__(self, folder: Path, name: str, *, nodes: int = 2, cpus: int = 32) -> None:
        if os.geteuid() != 0:
            pytest.skip("slurmd runs jobs as other users: it needs root")
        self._programs = {program: _program(program) for program in _PROGRAMS}
        self.name, self.home = name, folder / name
        self.nodes = [f"{name}{number}" for number in range(1, nodes + 1)]
        self._cpus = cpus
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.conf = self.home / "slurm.conf"
        self._configure()

    def __enter__(self) -> SlurmCluster:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    # -- using it ------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment for a client's process."""
        return {**os.environ, "PATH": _SYSTEM_PATH, "SLURM_CONF": str(self.conf)}

    def run(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """What a client's command prints; AssertionError where it fails, unless not `check`."""
        ended = subprocess.run(
            argv, env=self.environment, input=stdin or "", capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or ended.returncode == 0, f"{argv}: {ended.returncode}: {ended.stderr}"
        return ended.stdout

    def jobs(self) -> list[dict[str, Any]]:
        """All that the controller remembers, ended ones too."""
        found: list[dict[str, Any]] = json.loads(self.run("squeue", "--json", "-t", "all"))["jobs"]
        return found

    def job(self, name: str) -> dict[str, Any]:
        """The one job of that name."""
        (found,) = (job for job in self.jobs() if job["name"] == name)
        return found

    def token(self, seconds: int = 600) -> str:
        """A JWT of root's, for slurmrestd. Needs slurm-wlm-jwt-plugin."""
        return self.run("scontrol", "token", f"lifespan={seconds}").strip().removeprefix("SLURM_JWT=")

    def start_rest(self) -> str:
        """Start slurmrestd, with tokens, as a user of no rights; answers its address."""
        port = free_ports(1)[0]
        # without its accounting half, which ends it where there is no slurmdbd
        plugins = ["-a", "rest_auth/jwt", "-s", "openapi/v0.0.36,openapi/v0.0.37,openapi/v0.0.38"]
        argv = [_program("slurmrestd"), *plugins, "-u", "nobody", "-g", "nogroup", f"127.0.0.1:{port}"]
        self._spawn("slurmrestd", argv, {"SLURM_JWT": "daemon"})
        wait_until(lambda: _listens(port), within=READY_WITHIN, what=f"slurmrestd answers ({self.home}/log)")
        return f"http://127.0.0.1:{port}"

    # -- its life ------------------------------------------------------------------------------------------

    def start(self) -> SlurmCluster:
        """Start what does not run, and wait until every node can take jobs."""
        self.start_munge()
        self.start_controller(wait=False)
        for node in self.nodes:
            self.start_node(node)
        self.wait_ready()
        return self

    def start_munge(self) -> None:
        socket_path = self.home / "run" / "munge.sock"
        if not self.runs("munged"):
            argv = [
                self._programs["munged"], "--foreground", "--force", "--num-threads=1",
                f"--key-file={self.home}/munge.key", f"--socket={socket_path}", f"--pid-file={self.home}/run/munge.pid",
                f"--log-file={self.home}/log/munge.log", f"--seed-file={self.home}/munge.seed",
            ]  # fmt: skip
            self._spawn("munged", argv)
            wait_until(socket_path.exists, within=READY_WITHIN, what="munged listens")

    def start_controller(self, *, wait: bool = True) -> None:
        if not self.runs("slurmctld"):
            self._spawn("slurmctld", [self._programs["slurmctld"], "-D", "-f", str(self.conf)])
        if wait:
            self.wait_ready()

    def start_node(self, node: str) -> None:
        if not self.runs(node):
            self._spawn(node, [self._programs["slurmd"], "-D", "-f", str(self.conf), "-N", node])

    def wait_ready(self) -> None:
        """Until the controller answers and every node that we have started is idle or at work."""
        wait_until(self._ready, within=READY_WITHIN, what=f"cluster {self.name} is ready ({self.home}/log)")

    def kill_controller(self) -> None:
        """kill -9: it saves nothing any more."""
        self.kill("slurmctld")

    def kill(self, daemon: str) -> None:
        """kill -9 of `slurmctld`, `munged`, `slurmrestd`, or of a node by its name. Its jobs' processes go on."""
        process = self._processes.pop(daemon)
        process.kill()
        process.wait(30)

    def freeze(self, daemon: str = "slurmctld") -> None:
        """SIGSTOP: it takes connections, and does not answer."""
        self._processes[daemon].send_signal(signal.SIGSTOP)

    def thaw(self, daemon: str = "slurmctld") -> None:
        self._processes[daemon].send_signal(signal.SIGCONT)

    def runs(self, daemon: str) -> bool:
        process = self._processes.get(daemon)
        return process is not None and process.poll() is None

    def wait_saved(self) -> None:
        """Until the controller has written down all it knows now: a job accepted before is not lost by kill -9."""
        self.run("scontrol", "reconfigure")
        state, asked = self.home / "state" / "job_state", time.time()
        wait_until(
            lambda: state.exists() and state.stat().st_mtime > asked, within=READY_WITHIN, what="the state is saved"
        )

    def cancel_all(self) -> None:
        """End all jobs, and wait until none is there any more."""
        self.run("scancel", "--quiet", "--user=root", check=False)
        wait_until(lambda: not self.run("squeue", "-h").strip(), within=READY_WITHIN, what="no job is left")

    def end(self) -> None:
        """End the daemons and whatever of the jobs is left. No cure for a test that leaves jobs: nobody asks why."""
        for process in reversed(self._processes.values()):
            process.kill()  # nothing of theirs is to be kept
        for process in self._processes.values():
            process.wait(30)
        self._processes.clear()
        mine = [process for process in psutil.process_iter() if self._is_mine(process)]
        for process in mine:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(mine, 10)

    # -- behind --------------------------------------------------------------------------------------------

    def _is_mine(self, process: psutil.Process) -> bool:
        """slurmstepd, which writes over its environment, by its folder; the jobs by their environment."""
        try:
            if process.name() == "slurmstepd":
                return process.cwd() == str(self.home)
            return process.pid != os.getpid() and process.environ().get("SLURM_CONF") == str(self.conf)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _ready(self) -> bool:
        try:
            up = "is UP" in self.run("scontrol", "ping", check=False)
            states = self.run("sinfo", "-h", "-N", "-o", "%N %t", check=False).split("\n") if up else []
        except subprocess.TimeoutExpired:
            return False
        told = dict(line.split() for line in states if line.strip())
        wanted = [node for node in self.nodes if self.runs(node)]
        return up and all(told.get(node) in {"idle", "mix", "alloc"} for node in wanted)

    def _spawn(self, daemon: str, argv: Sequence[str], more: dict[str, str] | None = None) -> None:
        with (self.home / "log" / f"{daemon}.out").open("ab") as out:
            self._processes[daemon] = subprocess.Popen(
                argv,
                env={**self.environment, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                start_new_session=True,
            )

    def _configure(self) -> None:
        for sub in ("state", "log", "run", *(f"spool/{node}" for node in self.nodes)):
            (self.home / sub).mkdir(parents=True)
        _open_way(self.home)
        (self.home / "state").chmod(0o700)
        for secret, size in (("munge.key", 1024), ("jwt.key", 32)):
            (self.home / secret).touch(0o600)
            (self.home / secret).write_bytes(os.urandom(size))
        controller, *ports = free_ports(1 + len(self.nodes))
        host = socket.gethostname().split(".")[0]
        nodes = "".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={self._cpus} RealMemory=8000 State=UNKNOWN\n"
            for node, port in zip(self.nodes, ports, strict=True)
        )
        jwt = f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={self.home}/jwt.key\n" if _has_jwt() else ""
        self.conf.write_text(
            _CONF.format(name=self.name, home=self.home, host=host, port=controller) + jwt + nodes + _PARTITIONS
        )


# kill -9 of daemons and short waits are what tests want of it: hence the small times. cred_expire: see REQUEUE_WAIT
_CONF = f"""\
ClusterName={{name}}
SlurmctldHost={{host}}(127.0.0.1)
SlurmctldPort={{port}}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={{home}}/run/munge.sock,cred_expire={REQUEUE_WAIT - 1}
CredType=cred/munge
StateSaveLocation={{home}}/state
SlurmdSpoolDir={{home}}/spool/%n
SlurmctldPidFile={{home}}/run/slurmctld.pid
SlurmdPidFile={{home}}/run/slurmd.%n.pid
SlurmctldLogFile={{home}}/log/slurmctld.log
SlurmdLogFile={{home}}/log/slurmd.%n.log
PlugStackConfig=/dev/null
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
AccountingStoreFlags=job_comment
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
KillWait=1
MinJobAge=86400
SlurmctldTimeout=30
SlurmdTimeout=10
MessageTimeout=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
"""
_PARTITIONS = """\
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE State=UP
PartitionName=regular Default=YES PriorityTier=10
PartitionName=short PriorityTier=10 MaxTime=10
PartitionName=preempt PriorityTier=1 GraceTime=1
PartitionName=realtime PriorityTier=100 PreemptMode=OFF
"""


def wait_until(predicate: Callable[[], object], *, within: float, what: str = "it comes true") -> None:
    """Wait, really; AssertionError after so many seconds."""
    deadline = time.monotonic() + within
    while not predicate():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, below those that the system gives to clients: a daemon may come back to its own."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _program(name: str) -> str:
    return shutil.which(name, path=_SYSTEM_PATH) or tool_kit.require_tool(name)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _has_jwt() -> bool:
    return any(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so"))


def _open_way(folder: Path) -> None:
    """Others may pass, as slurmrestd's user has to; pytest's own folders are closed to them."""
    for part in (folder, *folder.parents):
        if part == Path("/"):
            return
        if part.stat().st_uid == os.geteuid():
            part.chmod(part.stat().st_mode | 0o055 if part == folder else part.stat().st_mode | 0o011)
