"""The batch model under real time: a job that starts is a real process, files are a real folder."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from connectors.errors import SiteUnreachable
from connectors.registry import Clock
from sandbox.facilities.batch import BatchFacility, order_of
from sandbox.facilities.environment import environment, login, output_path
from sandbox.facilities.folder import FolderFiles
from sandbox.facilities.processes import Exit, Launch, Processes, end_left, stop_all
from sandbox.facilities.shape import FacilityShape
from sandbox.facility import FacilityFiles, FaultScript, Order
from sandbox.job import Execution, Job

_LONGEST_WAIT = 60.0


def wall_clock() -> int:
    """µs since the epoch."""
    return time.time_ns() // 1_000


class LiveFacility(BatchFacility):
    """A context manager: works between `__enter__` and `__exit__`, which ends all its processes."""

    def __init__(
        self, shape: FacilityShape, folder: Path, *, clock: Clock = wall_clock, faults: FaultScript | None = None
    ) -> None:
        """`folder`: made if it is absent. Users' files lie in `files` below it, which is also the home."""
        super().__init__(shape, clock=clock, faults=faults)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._place = folder.resolve()
        self._folder = FolderFiles(folder / "files", knock=self._knock_at_files)
        self.files: FacilityFiles = self._folder
        self._spool = folder.resolve() / "spool"
        self._spool.mkdir(exist_ok=True, mode=0o700)
        self._ends: queue.SimpleQueue[Exit | None] = queue.SimpleQueue()
        self._processes = Processes(self._ends, folder.resolve())
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"facility-{shape.name}", daemon=True)
        self.model.executed_by(self)

    @property
    def home(self) -> str:
        return self._folder.root

    def __enter__(self) -> LiveFacility:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._ends.put(None)
        self._heart.join()
        with self.model.lock:  # no other job can be started meanwhile
            self._processes.close()
        self._folder.close()

    def freeze(self) -> None:
        """Every process of its jobs stops where it is."""
        stop_all(self._place)

    def vanish(self) -> int:
        """Its processes are killed, and its files go with it, to a folder beside; how many processes there were."""
        self._closed.set()
        self._ends.put(None)
        self._heart.join()
        with self.model.lock:
            count = end_left(self._place)
            self._processes.close()
            Path(self._folder.root).rename(self.lost)
        return count

    @property
    def lost(self) -> Path:
        """Where its files lie once it has vanished."""
        return self._place / "lost"

    # -- time ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Let happen what is due, and book what has ended, as soon as it has."""
        while not self._closed.is_set():
            with self.model.lock:
                self.model.advance(self.now())
                at = self.model.next_event_at()
                wait = _LONGEST_WAIT if at is None else min(_LONGEST_WAIT, max(0.0, (at - self.now()) / 1e6))
            try:
                end = self._ends.get(timeout=wait) if wait > 0 else self._ends.get_nowait()
            except queue.Empty:
                continue
            if end is not None:
                self._book(*end)

    def _book(self, execution: object, code: int) -> None:
        assert isinstance(execution, Execution)  # noqa: S101 - nothing else is ever started
        with self.model.lock:
            number = -code if code < 0 else None
            self.model.exited(execution, self.now(), code=max(0, code), signal=number)

    def _changed(self) -> None:
        self._ends.put(None)

    def _taken(self, job: Job) -> None:  # noqa: ARG002
        self._changed()

    def cancel(self, native_id: str, *, signal: str = "") -> bool:
        done = super().cancel(native_id, signal=signal)
        self._changed()
        return done

    def hold(self, native_id: str, *, held: bool) -> bool:
        done = super().hold(native_id, held=held)
        self._changed()
        return done

    # -- executions ------------------------------------------------------------------------------------------

    def start(self, execution: Execution, now: int) -> None:  # noqa: ARG002
        """Of the executor's port: the job's script begins."""
        order, job = order_of(execution.job), execution.job
        native_id, host = job.native_id, execution.host
        stdout = output_path(order, order.stdout, self.shape, native_id=native_id, host=host)
        stderr = output_path(order, order.stderr, self.shape, native_id=native_id, host=host) if order.stderr else ""
        try:
            argv = self._argv(order, f"{job.number}.{job.restarts}")
        except OSError:  # no room for the script: a real node would say as much
            self._ends.put((execution, 127))
            return
        launch = Launch(
            argv=argv,
            directory=order.directory if Path(order.directory).is_dir() else self.home,
            env=environment(order, self.shape, native_id=native_id, restarts=job.restarts, host=host, home=self.home),
            stdin=str(order.extra.get("stdin") or "/dev/null"),
            stdout=stdout,
            stderr=stderr,
            append=job.restarts > 0 or order.extra.get("open_mode") == "append",
        )
        self._processes.start(execution, launch)

    def signal(self, execution: Execution, name: str, *, shell_only: bool = False) -> None:
        """Of the executor's port."""
        self._processes.signal(execution, _number(name), shell_only=shell_only)

    def kill(self, execution: Execution) -> None:
        """Of the executor's port."""
        self._processes.kill(execution)

    def _argv(self, order: Order, name: str) -> list[str]:
        if order.argv:
            return list(order.argv)
        script = self._spool / f"{name}.sh"
        script.write_bytes(order.script.encode("utf-8", "surrogateescape"))
        script.chmod(0o700)
        words = order.script.split("\n", 1)[0].removeprefix("#!").split(None, 1) if order.script[:2] == "#!" else []
        return [*words, str(script)] if words else ["/bin/sh", str(script)]

    def _send(self, job: Job, signal: str) -> bool:
        if job.execution is None or not job.execution.alive:
            return False
        self.signal(job.execution, signal)
        return True

    def _completed(self, order: Order) -> Order:
        order = super()._completed(order)
        return order if order.directory else replace(order, directory=self.home)

    # -- a login node ----------------------------------------------------------------------------------------

    def run(self, command: str, *, timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        """Raises SiteUnreachable where the front end is down, or the command takes longer than `timeout` seconds."""
        self._knock_at_files()
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.home,
                env=login(self.shape, self.home),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SiteUnreachable(f"{self.name}: the command took longer than {timeout:g} s", site=self.name) from error
        return done.returncode, done.stdout, done.stderr


def _number(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return signal.Signals[f"SIG{name.removeprefix('SIG')}"].value
    except KeyError:
        return 0
