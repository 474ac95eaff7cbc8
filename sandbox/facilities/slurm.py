"""A facility whose scheduler is a real Slurm, asked by its own commands; files are a real folder."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from connectors.errors import SiteUnreachable
from connectors.model import JobState
from connectors.registry import Clock
from connectors.slurm import job_of
from sandbox.facilities.environment import login
from sandbox.facilities.folder import FolderFiles
from sandbox.facilities.live import wall_clock
from sandbox.facilities.outages import OutageBook
from sandbox.facilities.shape import FacilityShape
from sandbox.facility import FacilityFiles, FaultScript, JobView, NoFaults, Order, OrderRefused, Outage

_SILENT = ("Unable to contact", "Socket timed out", "Connection refused", "Connection timed out", "Zero Bytes")
_KINDS = {
    "partition": "queue",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "time limit": "time",
    "node": "nodes",
    "batch script": "script",
}


class SlurmFacility:
    """The port over sbatch, squeue, scancel and scontrol. Thread-safe. A context manager, for its files' sake."""

    def __init__(
        self,
        name: str,
        folder: Path,
        environment: Mapping[str, str],
        *,
        clock: Clock = wall_clock,
        faults: FaultScript | None = None,
        patience: float = 20.0,
    ) -> None:
        """`folder`: made if it is absent; users' files lie in `files` below it. `environment`: in which Slurm's
        commands find their cluster (PATH, SLURM_CONF). `patience`: seconds for one of them."""
        self.name = name
        self.faults: FaultScript = faults or NoFaults()
        self.book = OutageBook()
        self._clock = clock
        self._patience = patience
        self._lock = threading.RLock()
        self._folder = FolderFiles(folder / "files", knock=lambda: None)
        self.files: FacilityFiles = self._folder
        wanted = {key: environment[key] for key in ("PATH", "SLURM_CONF") if key in environment}
        self._env = {**login(FacilityShape(name=name), self.files.root), **wanted}
        self._orders: dict[str, Order] = {}
        self._seen: dict[tuple[str, int], JobView] = {}
        """The accounting: by id and time of submission, for ids come twice."""
        self._accepted: Counter[str] = Counter()

    def __enter__(self) -> SlurmFacility:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.close()

    def now(self) -> int:
        return self._clock()

    # -- jobs ------------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> str:
        if (params := self.faults.take("refuse", job=order.name)) is not None:
            raise OrderRefused(str(params.get("kind", "limit")), str(params.get("text", "the scheduler refuses")))
        script = order.script or f"#!/bin/sh\nexec {shlex.join(order.argv)}\n"
        code, out, err = self._slurm(
            ["sbatch", "--parsable", *self._words(order)], stdin=script, env={**self._env, **order.env}
        )
        if code:
            text = err.strip()
            raise OrderRefused(next((kind for word, kind in _KINDS.items() if word in text.lower()), "limit"), text)
        native_id = out.strip().partition(";")[0]
        with self._lock:
            self._orders[native_id] = order
            self._accepted[order.name] += 1
        return native_id

    def _words(self, order: Order) -> Iterator[str]:
        """What the order says; the script's own head counts where it says nothing."""
        for word, value in {
            "job-name": order.name,
            "comment": order.comment,
            "chdir": order.directory or self.files.root,
            "partition": order.queue,
            "qos": order.qos,
            "account": order.account,
            "reservation": order.reservation,
            "output": order.stdout,
            "error": order.stderr,
            "open-mode": str(order.extra.get("open_mode", "")),
        }.items():
            if value:
                yield f"--{word}={value}"
        yield f"--nodes={order.nodes}"
        if order.cores > 1:
            yield f"--cpus-per-task={order.cores}"
        if order.memory:
            yield f"--mem={-(-order.memory // (1 << 20))}M"
        if order.walltime is not None:
            yield f"--time={max(1, -(-int(order.walltime) // 60))}"
        yield "--requeue" if order.requeue else "--no-requeue"
        if order.singleton:
            yield "--dependency=singleton"
        if order.hold:
            yield "--hold"
        if order.warn_before:
            yield f"--signal=B:USR1@{order.warn_before}"

    def jobs(self, *, ended_too: bool = True) -> Sequence[JobView]:
        views = self._look()
        return [view for view in views if ended_too or not view.state.final]

    def _look(self) -> list[JobView]:
        code, out, err = self._slurm(["squeue", "--json", "--states=all"])
        if code:
            raise SiteUnreachable(f"{self.name}: {err.strip()}", site=self.name)
        told = json.loads(out)
        if told.get("errors"):  # squeue ends with 0 all the same
            raise SiteUnreachable(f"{self.name}: {str(told['errors'])[:300]}", site=self.name)
        views = [view for record in told["jobs"] if (view := self._view(record)) is not None]
        views.sort(key=lambda view: (view.submitted_at, int(view.native_id)))
        with self._lock:
            self._seen |= {(view.native_id, view.submitted_at): view for view in views}
        return views

    def accounting(self) -> Sequence[JobView]:
        self._look()
        with self._lock:
            return sorted(self._seen.values(), key=lambda view: (view.submitted_at, int(view.native_id)))

    def job(self, native_id: str) -> JobView | None:
        return next((view for view in self.jobs() if view.native_id == native_id), None)

    def _view(self, record: Mapping[str, Any]) -> JobView | None:
        job = job_of(record)
        if job is None:
            return None
        with self._lock:
            order = self._orders.get(job.native_id) or _order(record)
        return JobView(
            native_id=job.native_id,
            order=order,
            state=job.state,
            word=job.word,
            reason=job.reason,
            restarts=job.restarts,
            exit_code=job.exit_code if job.state.final else None,
            signal=job.signal if job.state.final else None,
            submitted_at=job.submitted_at or 0,
            started_at=job.started_at,
            ended_at=job.ended_at,
            nodes=[node for node in str(record.get("nodes") or "").split(",") if node],
        )

    def cancel(self, native_id: str, *, signal: str = "") -> bool:
        view = self.job(native_id)
        if view is None or view.state.final:
            return False
        if not signal and self.faults.take("ignore_cancel", job=view.order.name) is not None:
            return True
        words = [f"--signal={signal}", "--full"] if signal else []
        code, _, _ = self._slurm(["scancel", *words, native_id])
        return code == 0

    def hold(self, native_id: str, *, held: bool) -> bool:
        code, _, _ = self._slurm(["scontrol", "hold" if held else "release", native_id])
        return code == 0

    def queued(self) -> Mapping[str, int]:
        return Counter(view.order.queue for view in self.jobs(ended_too=False) if view.state is JobState.QUEUED)

    def accepted(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._accepted)

    def use_of(self, account: str) -> tuple[float, float]:  # noqa: ARG002 - there is no accounting behind it
        return 0.0, 0.0

    # -- the rest ----------------------------------------------------------------------------------------------

    def run(self, command: str, *, timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.files.root,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SiteUnreachable(f"{self.name}: the command took longer than {timeout:g} s", site=self.name) from error
        return done.returncode, done.stdout, done.stderr

    def outages(self) -> Sequence[Outage]:
        return self.book.told(self.now())

    def up(self, capability: str = "status") -> bool:
        if capability == "files":
            return True
        try:
            return self._slurm(["scontrol", "ping"])[1].count("is UP") > 0
        except SiteUnreachable:
            return False

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """Only for other callers of this object: a real cluster goes on."""
        with self._lock:
            yield

    def _slurm(
        self, argv: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                env=dict(env or self._env),
                capture_output=True,
                text=True,
                timeout=self._patience,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise SiteUnreachable(f"{self.name}: {argv[0]}: {error}", site=self.name) from error
        if done.returncode and any(word in done.stderr for word in _SILENT):
            raise SiteUnreachable(f"{self.name}: {done.stderr.strip()}", site=self.name)
        return done.returncode, done.stdout, done.stderr


def _order(record: Mapping[str, Any]) -> Order:
    """What a job that somebody else submitted was asked for, as far as Slurm tells."""

    def text(name: str) -> str:
        value = record.get(name)
        return value if isinstance(value, str) else ""

    return Order(
        name=text("name"),
        comment=text("comment"),
        directory=text("current_working_directory"),
        queue=text("partition"),
        qos=text("qos"),
        account=text("account"),
        stdout=text("standard_output"),
        stderr=text("standard_error"),
        user=text("user_name") or "user",
    )
